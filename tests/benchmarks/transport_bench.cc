// What CurlTransport costs beside bare libcurl, and how fast a stop is.
//
// Both send the same small request to the same server on loopback, with kept
// connections, in turns: short rounds of one and the other, so that whatever
// else the machine does meets both. The figure is the median of the rounds'
// ratios. Usage: transport_bench [rounds, 31]

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/http.h"
#include "keyrotator/transport/curl.h"
#include "keyrotator/transport/httplib.h"
#include "tests/support/raw_server.h"

namespace keyrotator {
namespace {

using testing::RawConnection;
using testing::RawServer;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kBody =
    R"({"model":"m","messages":[{"role":"user","content":"hello"}]})";
constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
    "x-request-id: 0123456789\r\nContent-Length: 27\r\n\r\n"
    R"({"choices":[{"index": 0} ]})";

struct Collect : ResponseSink {
  void OnHead(int status_now, Headers headers_now) override {
    status = status_now;
    headers = std::move(headers_now);
  }
  bool OnBody(std::string_view bytes) override {
    body += bytes;
    return true;
  }
  int status = 0;
  Headers headers;
  std::string body;
};

HttpRequest Request(const std::string& origin) {
  HttpRequest request;
  request.url = origin + "/v1/chat/completions";
  request.headers = {{"Authorization", "Bearer sk-0123456789"},
                     {"Content-Type", "application/json"}};
  request.body = kBody;
  return request;
}

// What a careful program writes by hand: one easy handle a thread, options that
// stay are set once.
class BareCurl {
 public:
  explicit BareCurl(const std::string& origin)
      : url_(origin + "/v1/chat/completions"), easy_(curl_easy_init()) {
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

  bool Send() {
    std::string head;
    std::string body;
    curl_slist* fields =
        curl_slist_append(nullptr, "Authorization: Bearer sk-0123456789");
    fields = curl_slist_append(fields, "Content-Type: application/json");
    fields = curl_slist_append(fields, "Expect:");
    curl_easy_setopt(easy_, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(easy_, CURLOPT_POSTFIELDS, kBody.data());
    curl_easy_setopt(easy_, CURLOPT_POSTFIELDSIZE,
                     static_cast<long>(kBody.size()));
    curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(easy_, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(easy_, CURLOPT_HEADERDATA, &head);
    const bool good = curl_easy_perform(easy_) == CURLE_OK && body.size() == 27;
    curl_slist_free_all(fields);
    return good;
  }

 private:
  static std::size_t Append(char* data, std::size_t, std::size_t size,
                            void* to) {
    static_cast<std::string*>(to)->append(data, size);
    return size;
  }

  const std::string url_;
  CURL* const easy_;
};

// Requests a second by so many threads, each sending so many.
template <class Send>
double Rate(std::size_t threads, int requests, Send send) {
  const auto start = Clock::now();
  std::vector<std::jthread> running;
  for (std::size_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      for (int i = 0; i < requests; ++i) {
        if (!send(thread)) {
          std::fputs("a request failed\n", stderr);
          std::exit(1);
        }
      }
    });
  }
  running.clear();  // joins
  const std::chrono::duration<double> took = Clock::now() - start;
  return static_cast<double>(threads) * requests / took.count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class Transport>
void CompareRates(const char* name, Transport& transport,
                  const std::string& origin, std::size_t threads, int rounds) {
  std::vector<std::unique_ptr<BareCurl>> bare;
  for (std::size_t i = 0; i < threads; ++i) {
    bare.push_back(std::make_unique<BareCurl>(origin));
  }
  const HttpRequest request = Request(origin);
  const auto send_bare = [&](std::size_t thread) {
    return bare[thread]->Send();
  };
  const auto send_ours = [&](std::size_t) {
    Collect answer;
    return !transport.Send(request, answer, {}) && answer.body.size() == 27;
  };
  const int requests = static_cast<int>(2'000 / threads);
  Rate(threads, requests, send_bare);  // connects
  Rate(threads, requests, send_ours);
  std::vector<double> bare_rates, our_rates, ratios;
  for (int round = 0; round < rounds; ++round) {
    // Who goes first changes: the second of two finds a warmer cache.
    if (round % 2 == 0) {
      bare_rates.push_back(Rate(threads, requests, send_bare));
      our_rates.push_back(Rate(threads, requests, send_ours));
    } else {
      our_rates.push_back(Rate(threads, requests, send_ours));
      bare_rates.push_back(Rate(threads, requests, send_bare));
    }
    ratios.push_back(our_rates.back() / bare_rates.back());
  }
  const double ours = Median(our_rates);
  const double theirs = Median(bare_rates);
  std::printf(
      "%zu thread%s: bare libcurl %.0f/s, %s %.0f/s, ratio %.3f, %+.2f us a "
      "request\n",
      threads, threads == 1 ? "" : "s", theirs, name, ours, Median(ratios),
      static_cast<double>(threads) * 1e6 * (1 / ours - 1 / theirs));
}

// From request_stop, which the server calls when it has the request and never
// answers, to the return of Send.
template <class Transport>
void StopLatency(const char* name, int rounds) {
  std::vector<double> waits;
  for (int round = 0; round < rounds; ++round) {
    std::stop_source source;
    Clock::time_point stopped;
    Transport transport;
    Clock::time_point returned;
    {
      RawServer server([&](RawConnection& peer) {
        peer.ReadRequest();
        stopped = Clock::now();
        source.request_stop();
        peer.WaitUntilPeerLeaves();
      });
      Collect answer;
      static_cast<void>(
          transport.Send(Request(server.origin()), answer, source.get_token()));
      returned = Clock::now();
    }
    waits.push_back(
        std::chrono::duration<double, std::micro>(returned - stopped).count());
  }
  std::printf("stop, %s: median %.0f us, longest %.0f us of %d\n", name,
              Median(waits), *std::max_element(waits.begin(), waits.end()),
              rounds);
}

int Main(int rounds) {
  {
    CurlTransport curl({.proxy = ""});
    HttplibTransport httplib;
    // The client's ends close first: the scripts end with them.
    RawServer server([](RawConnection& peer) {
      while (!peer.ReadRequest().empty() && peer.Write(kAnswer)) {
      }
    });
    for (const std::size_t threads : {1U, 8U}) {
      CompareRates("CurlTransport", curl, server.origin(), threads, rounds);
      CompareRates("HttplibTransport", httplib, server.origin(), threads,
                   rounds);
    }
    curl = CurlTransport();
    httplib = HttplibTransport();
  }
  StopLatency<CurlTransport>("CurlTransport", 200);
  StopLatency<HttplibTransport>("HttplibTransport", 200);
  return 0;
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  return keyrotator::Main(argc > 1 ? std::atoi(argv[1]) : 31);
}
