// File: bare_curl.h
//
// What a careful program writes by hand with libcurl, to measure against, and
// how to measure: rates of one and the other in turns.

#ifndef KEYROTATOR_TESTS_SUPPORT_BARE_CURL_H_
#define KEYROTATOR_TESTS_SUPPORT_BARE_CURL_H_

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace keyrotator::testing {

// One easy handle, to be used by one thread at a time; options that stay are
// set once.
class BareCurl {
 public:
  // The body must outlive it.
  BareCurl(std::string url, std::string_view body)
      : url_(std::move(url)), body_(body), easy_(curl_easy_init()) {
    curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy_, CURLOPT_PROXY, "");
    curl_easy_setopt(easy_, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy_, CURLOPT_USERAGENT, "keyrotator");
    curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, &Append);
    curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, &Append);
  }
  BareCurl(const BareCurl&) = delete;
  BareCurl& operator=(const BareCurl&) = delete;
  ~BareCurl() { curl_easy_cleanup(easy_); }

  // Posts the body; whether the answer was a 200. Keeps its body.
  bool Send() {
    answer_.clear();
    head_.clear();
    curl_slist* fields =
        curl_slist_append(nullptr, "Authorization: Bearer sk-0123456789");
    fields = curl_slist_append(fields, "Content-Type: application/json");
    fields = curl_slist_append(fields, "Accept: application/json");
    fields = curl_slist_append(fields, "Expect:");
    curl_easy_setopt(easy_, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(easy_, CURLOPT_POSTFIELDS, body_.data());
    curl_easy_setopt(easy_, CURLOPT_POSTFIELDSIZE,
                     static_cast<long>(body_.size()));
    curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(easy_, CURLOPT_WRITEDATA, &answer_);
    curl_easy_setopt(easy_, CURLOPT_HEADERDATA, &head_);
    const bool sent = curl_easy_perform(easy_) == CURLE_OK;
    curl_slist_free_all(fields);
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    return sent && status == 200;
  }

  const std::string& answer() const { return answer_; }

 private:
  static std::size_t Append(char* data, std::size_t, std::size_t size,
                            void* to) {
    static_cast<std::string*>(to)->append(data, size);
    return size;
  }

  const std::string url_;
  const std::string_view body_;
  CURL* const easy_;
  std::string head_;
  std::string answer_;
};

// How fast requests go: how many a second, and how much time of a processor the
// threads that send take for each. On a busy machine the second is steadier.
struct Speed {
  double per_second = 0;
  double cpu_us = 0;
};

inline double ThreadCpuMicroseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 +
         static_cast<double>(time.tv_nsec) / 1e3;
}

// The speed of so many threads, each sending so many by `send(thread)`. A
// request that fails ends the program: the speed of failures means nothing.
template <class Send>
Speed Measure(std::size_t threads, int requests, Send send) {
  std::vector<double> cpu_us(threads);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::jthread> running;
  for (std::size_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      for (int i = 0; i < requests; ++i) {
        if (send(thread)) continue;
        std::fputs("a request failed\n", stderr);
        std::exit(1);
      }
      cpu_us[thread] = ThreadCpuMicroseconds();
    });
  }
  running.clear();  // joins
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - start;
  const double all = static_cast<double>(threads) * requests;
  return {all / took.count(),
          std::accumulate(cpu_us.begin(), cpu_us.end(), 0.0) / all};
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Two ways to send: the medians of each, and of the ratios of their rates.
struct Comparison {
  Speed base;
  Speed other;
  double ratio = 0;
};

// In rounds of one and the other, so that whatever else the machine does meets
// both; who goes first changes, for the second finds a warmer cache.
template <class Base, class Other>
Comparison Compare(std::size_t threads, int requests, int rounds, Base base,
                   Other other) {
  Measure(threads, requests, base);  // connects
  Measure(threads, requests, other);
  std::vector<double> base_rates, other_rates, base_cpu, other_cpu, ratios;
  for (int round = 0; round < rounds; ++round) {
    Speed first, second;
    if (round % 2 == 0) first = Measure(threads, requests, base);
    second = Measure(threads, requests, other);
    if (round % 2 != 0) first = Measure(threads, requests, base);
    base_rates.push_back(first.per_second);
    other_rates.push_back(second.per_second);
    base_cpu.push_back(first.cpu_us);
    other_cpu.push_back(second.cpu_us);
    ratios.push_back(second.per_second / first.per_second);
  }
  return {{Median(base_rates), Median(base_cpu)},
          {Median(other_rates), Median(other_cpu)},
          Median(ratios)};
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_BARE_CURL_H_
