// File: testing/fake_backend.h
//
// FakeBackend: a provider without a network. It says what a provider with such
// keys, limits and faults answers to a request at a time, and counts what it
// was asked. It has no socket and no clock: FakeProvider puts it behind a port,
// FakeTransport behind a function call, and you behind whatever you test. It
// knows the endpoints of fake_endpoints.h; any other path is a 404.
//
// Example:
//   using namespace keyrotator::testing;
//   FakeBackend backend({.keys = {{"sk-a", {.limit = {.requests = 1}}}}});
//   const keyrotator::HttpRequest request{
//       .url = "/v1/chat/completions",
//       .headers = {{"Authorization", "Bearer sk-a"}},
//       .body = R"({"model": "gpt-4o"})"};
//   assert(backend.Answer(request, std::chrono::seconds(0)).status == 200);
//   assert(backend.Answer(request, std::chrono::seconds(1)).status == 429);
//   assert(backend.Answer(request, std::chrono::seconds(60)).status == 200);

#ifndef KEYROTATOR_TESTING_FAKE_BACKEND_H_
#define KEYROTATOR_TESTING_FAKE_BACKEND_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/testing/fake_answer.h"
#include "keyrotator/testing/fake_bodies.h"
#include "keyrotator/testing/fake_limits.h"
#include "keyrotator/testing/fake_options.h"

namespace keyrotator::testing {

// Thread-safe.
class FakeBackend {
 public:
  // The log holds the last requests; it forgets older ones.
  static constexpr std::size_t kMaxLog = 4096;

  explicit FakeBackend(FakeProviderOptions options)
      : options_(std::move(options)) {}

  // The answer to a request that arrives at `now`, by which the limits refill;
  // a time before the last one counts as that. Of the request it reads method,
  // url (absolute, or the path alone), headers and body. `wall` is the time
  // that is printed where a provider dates a refill.
  FakeAnswer Answer(const HttpRequest& request, std::chrono::nanoseconds now,
                    std::chrono::system_clock::time_point wall =
                        std::chrono::system_clock::now()) {
    const std::string path = PathOf(request.url);
    const std::string key = KeyOf(request.headers);
    const Question question = fake_internal::ReadQuestion(
        request.method, path, request.body,
        request.headers.Find("Content-Type").value_or(""));

    const std::lock_guard lock(mutex_);
    FakeAnswer answer;
    FakeCounts count{.requests = 1};
    if (const auto fault = TakeFault(key)) {
      count.faults = 1;
      answer = fake_internal::Spoilt(options_, question, *fault);
    } else {
      answer = Judge(question, key, {now, wall}, count);
    }
    if (answer.delay.count() == 0) answer.delay = options_.latency;
    Note(count,
         {path, key, question.model, question.stream, answer.status, now});
    return answer;
  }

  // From now on the key is in that state; it joins if it is not known.
  void SetState(const std::string& key, FakeKeyState state) {
    const std::lock_guard lock(mutex_);
    options_.keys[key].state = state;
  }

  // The next requests that it is meant for meet the fault. Faults are used in
  // the order in which they were given.
  void Inject(Fault fault) {
    const std::lock_guard lock(mutex_);
    if (fault.times > 0) faults_.push_back(std::move(fault));
  }
  void ClearFaults() {
    const std::lock_guard lock(mutex_);
    faults_.clear();
  }

  // What arrived with that key, known or not; zeros if nothing did.
  FakeCounts Counts(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto it = counts_.find(key);
    return it == counts_.end() ? FakeCounts{} : it->second;
  }
  // What arrived in all.
  FakeCounts Counts() const {
    const std::lock_guard lock(mutex_);
    return total_;
  }

  // The last requests, at most kMaxLog, the oldest first.
  std::vector<FakeRequest> Log() const {
    const std::lock_guard lock(mutex_);
    return {log_.begin(), log_.end()};
  }

 private:
  using Bucket = fake_internal::FakeBucket;
  using Buckets = fake_internal::FakeBuckets;
  using Question = fake_internal::FakeQuestion;

  struct Times {
    std::chrono::nanoseconds now;
    std::chrono::system_clock::time_point wall;
  };

  static std::string PathOf(std::string_view url) {
    if (const std::size_t scheme = url.find("://"); scheme != url.npos) {
      url.remove_prefix(scheme + 3);
      url.remove_prefix(std::min(url.find('/'), url.size()));
    }
    return std::string(url.substr(0, url.find_first_of("?#")));
  }

  static std::string KeyOf(const Headers& headers) {
    const auto value = [&](std::string_view name) {
      return headers.Find(name).value_or("");
    };
    constexpr std::string_view kBearer = "Bearer ";
    const std::string_view bearer = value("Authorization");
    if (bearer.starts_with(kBearer))
      return std::string(bearer.substr(kBearer.size()));
    const std::string_view azure = value("api-key");
    return std::string(azure.empty() ? value("x-api-key") : azure);
  }

  // Below, whatever is not static is called with mutex_ held.

  void Note(const FakeCounts& count, FakeRequest request) {
    for (FakeCounts* counts : {&counts_[request.key], &total_}) {
      counts->requests += count.requests;
      counts->served += count.served;
      counts->rate_limited += count.rate_limited;
      counts->refused += count.refused;
      counts->faults += count.faults;
    }
    log_.push_back(std::move(request));
    if (log_.size() > kMaxLog) log_.pop_front();
  }

  // ---- Without a fault ----

  FakeAnswer Judge(const Question& question, const std::string& key,
                   const Times& times, FakeCounts& count) {
    const ProviderStyle style = options_.style;
    const auto refuse = [style](const fake_internal::FakeError& error) {
      return fake_internal::Refused(style, error);
    };
    count.refused = 1;  // unless it comes to be served or rate limited
    const auto it = options_.keys.find(key);
    if (it == options_.keys.end() ||
        it->second.state == FakeKeyState::kRevoked) {
      return refuse({.status = style == ProviderStyle::kGemini ? 400 : 401,
                     .code = "invalid_api_key",
                     .type = "invalid_request_error",
                     .message = "Incorrect API key provided."});
    }
    const FakeKey& owner = it->second;
    if (owner.state == FakeKeyState::kOutOfQuota) {
      if (style == ProviderStyle::kAnthropic) {
        return refuse(
            {.status = 400, .message = "Your credit balance is too low."});
      }
      return refuse({.status = 429,
                     .code = "insufficient_quota",
                     .type = "insufficient_quota",
                     .message = style == ProviderStyle::kGemini
                                    ? "Quota exceeded, limit: 0"
                                    : "You exceeded your current quota."});
    }
    if (question.api == fake_internal::FakeApi::kUnknown) {
      return refuse({.status = 404,
                     .type = "invalid_request_error",
                     .message = "Unknown request URL."});
    }
    if (!question.valid) {
      return refuse({.status = 400,
                     .type = "invalid_request_error",
                     .message = "The body is no JSON object with a model."});
    }
    if (!question.asks_model) {
      count.refused = 0;
      count.served = 1;
      return fake_internal::Served(options_, question);
    }
    if (!question.model.empty() && !owner.models.empty() &&
        owner.models.count(question.model) == 0) {
      return refuse({.status = 403,
                     .code = "model_not_found",
                     .type = "invalid_request_error",
                     .message = "This key has no access to the model."});
    }
    return Admit(question, key, owner, times, count);
  }

  // Serves what fits into all its limits.
  FakeAnswer Admit(const Question& question, const std::string& key,
                   const FakeKey& owner, const Times& times,
                   FakeCounts& count) {
    Buckets requests;
    Buckets tokens;
    const auto concern = [&](const std::string& whose, const FakeLimit& limit) {
      const auto add = [&](const char* what, double size, Buckets& buckets) {
        if (size <= 0) return;
        Bucket& bucket =
            buckets_.try_emplace(whose + what, size, limit.per, times.now)
                .first->second;
        bucket.Refill(times.now);
        buckets.Add(bucket);
      };
      add(" requests", limit.requests, requests);
      add(" tokens", limit.tokens, tokens);
    };
    const std::string payer = owner.organization.empty()
                                  ? "key " + key
                                  : "organization " + owner.organization;
    concern("key " + key, owner.limit);
    if (const auto it = options_.organizations.find(owner.organization);
        it != options_.organizations.end()) {
      concern(payer, it->second);
    }
    if (const auto it = options_.models.find(question.model);
        it != options_.models.end()) {
      concern(payer + " model " + question.model, it->second);
    }

    const double request_wait = requests.WaitFor(1);
    const double token_wait = tokens.WaitFor(question.tokens);
    const double wait = std::max(request_wait, token_wait);
    count.refused = 0;
    FakeAnswer answer;
    if (wait == 0) {
      count.served = 1;
      requests.Take(1);
      tokens.Take(question.tokens);
      answer = fake_internal::Served(options_, question);
    } else {
      count.rate_limited = 1;
      answer = fake_internal::RateLimited(options_.style, wait,
                                          token_wait > request_wait);
    }
    const auto add_headers = [&](const char* what, const Buckets& buckets) {
      fake_internal::AddLimitHeaders(answer.headers, options_.style, what,
                                     buckets, times.wall);
    };
    add_headers("requests", requests);
    add_headers("tokens", tokens);
    return answer;
  }

  std::optional<Fault> TakeFault(const std::string& key) {
    const auto it =
        std::find_if(faults_.begin(), faults_.end(), [&](const Fault& fault) {
          return fault.key.empty() || fault.key == key;
        });
    if (it == faults_.end()) return std::nullopt;
    const Fault fault = *it;
    if (--it->times == 0) faults_.erase(it);
    return fault;
  }

  mutable std::mutex mutex_;
  FakeProviderOptions options_;               // guarded by mutex_
  std::map<std::string, Bucket> buckets_;     // guarded by mutex_
  std::deque<Fault> faults_;                  // guarded by mutex_
  std::map<std::string, FakeCounts> counts_;  // guarded by mutex_
  FakeCounts total_;                          // guarded by mutex_
  std::deque<FakeRequest> log_;               // guarded by mutex_
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTING_FAKE_BACKEND_H_
