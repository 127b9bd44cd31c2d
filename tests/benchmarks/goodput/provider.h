// File: provider.h
//
// A simulated provider: the buckets that its limits are, and the answers that
// it gives, headers and all, as each kind of provider words and rounds them.
// What it is asked must come in the order of time.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_PROVIDER_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_PROVIDER_H_

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/http/message.h"
#include "keyrotator/internal/hash.h"

namespace keyrotator::goodput {

using internal::Nanos;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

constexpr double ToSeconds(Nanos time) {
  return static_cast<double>(time) / kSecond;
}
constexpr Nanos FromSeconds(double seconds) {
  return static_cast<Nanos>(seconds * kSecond);
}

// Random numbers that are the same on every machine, which the distributions
// of <random> are not.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(internal::Mix(seed)) {}

  std::uint64_t Next() { return internal::Mix(state_ += 0x9e3779b97f4a7c15u); }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  std::size_t Below(std::size_t size) { return Next() % size; }
  double Exponential(double mean) { return -mean * std::log1p(-Uniform()); }
  double LogNormal(double median, double sigma) {
    const double radius = std::sqrt(-2 * std::log1p(-Uniform()));
    const double normal = radius * std::cos(6.283185307179586 * Uniform());
    return median * std::exp(sigma * normal);
  }

 private:
  std::uint64_t state_;
};

// How a provider words what it has to say of its limits.
enum class Style {
  kOpenAI,      // limit, remaining, reset (to full) and retry-after-ms
  kAnthropic,   // the same with dates in whole seconds, tokens in thousands
  kAzure,       // remaining alone; retry-after-ms
  kGemini,      // nothing but the wait, in the body of a refusal
  kRetryAfter,  // Retry-After alone, in whole seconds
  kNothing,
};

constexpr const char* ToString(Style style) {
  switch (style) {
    case Style::kOpenAI:
      return "OpenAI";
    case Style::kAnthropic:
      return "Anthropic";
    case Style::kAzure:
      return "Azure";
    case Style::kGemini:
      return "Gemini";
    case Style::kRetryAfter:
      return "Retry-After";
    case Style::kNothing:
      return "nothing";
  }
  return "?";
}

// What one organisation may use of one model. 0 tokens: not limited.
struct Quota {
  double requests = 60;
  double tokens = 0;
  // In which an empty bucket fills, or a fixed window ends.
  double seconds = 60;
  // Requests in a day, beside that. 0: not limited.
  double per_day = 0;
};
inline constexpr double kDaySeconds = 86'400;

// The keys, and who limits them.
struct Pool {
  std::string name;
  std::vector<Quota> organisations;
  // The organisation of each key.
  std::vector<std::size_t> keys;
  // The part of each organisation's quota that each model has, and of the
  // traffic that it gets.
  std::vector<double> models = {1};
  // Of the keys; empty: all the same.
  std::vector<double> weights = {};
};

// When the provider fails, whatever its limits, in seconds from the start.
struct Trouble {
  double begin = 0;
  double end = 0;
  // The part of the requests that fail, and the keys for which they do: those
  // before that one.
  double share = 1;
  std::size_t keys = std::numeric_limits<std::size_t>::max();
  // The connection breaks; else the answer is 503.
  bool lost = false;
};

struct ProviderOptions {
  Style style = Style::kOpenAI;
  // All that a window allows is back when the next begins; else it flows back.
  bool fixed_windows = false;
  // A refused request takes one request out, too.
  bool refused_count = false;
  // The part of each limit that a client takes of whom nobody knows here. It is
  // always served first.
  double unseen = 0;
  // Keys that answer 429 to all in every second span of that length.
  std::size_t flapping_keys = 0;
  double flapping_seconds = 30;
  Trouble trouble = {};
};

// A client of the same keys of whom nobody knows here.
class UnseenClient {
 public:
  UnseenClient(const Quota& quota, double part, std::uint64_t seed, Nanos start)
      : dice_(seed),
        gap_(quota.seconds / (quota.requests * part)),
        next_(start) {
    Advance();
  }
  Nanos next() const { return next_; }
  void Advance() { next_ += FromSeconds(dice_.Exponential(gap_)) + 1; }

 private:
  Dice dice_;
  double gap_;  // s
  Nanos next_;
};

// One limit of requests and tokens.
class Bucket {
 public:
  // `mean_cost` is what the unseen clients' requests cost; `day_end` when the
  // day ends for which there is a limit.
  Bucket(const Quota& quota, bool fixed, double mean_cost, Nanos window_end,
         Nanos day_end, std::vector<UnseenClient> unseen, Nanos start)
      : limit_{quota.requests, quota.tokens},
        level_{limit_},
        span_(FromSeconds(quota.seconds)),
        fixed_(fixed),
        mean_cost_(mean_cost),
        unseen_(std::move(unseen)),
        time_(start),
        window_end_(window_end),
        per_day_(quota.per_day),
        day_left_(quota.per_day),
        day_end_(day_end) {}

  void Advance(Nanos now) {
    while (!unseen_.empty()) {
      UnseenClient& first = *std::min_element(
          unseen_.begin(), unseen_.end(),
          [](const auto& a, const auto& b) { return a.next() < b.next(); });
      if (first.next() > now) break;
      Flow(first.next());
      Take(mean_cost_);
      first.Advance();
    }
    Flow(now);
  }

  // As one bucket. Of limits that flow back alone.
  static Bucket Pooled(const std::vector<Bucket>& buckets) {
    Bucket pooled = buckets[0];
    for (std::size_t i = 1; i < buckets.size(); ++i) {
      for (std::size_t j = 0; j < 2; ++j) {
        pooled.limit_[j] += buckets[i].limit_[j];
        pooled.level_[j] += buckets[i].level_[j];
      }
      pooled.unseen_.insert(pooled.unseen_.end(), buckets[i].unseen_.begin(),
                            buckets[i].unseen_.end());
    }
    return pooled;
  }

  bool Fits(double tokens) const {
    return !IsDaySpent() && level_[0] >= 1 - kTolerance &&
           (limit_[1] <= 0 || level_[1] >= tokens - kTolerance);
  }
  void Take(double tokens) {
    level_[0] -= 1;
    day_left_ -= 1;
    if (limit_[1] > 0) level_[1] -= tokens;
  }
  // What a refused request costs where it counts.
  void Punish() {
    level_[0] = std::min(level_[0], std::max(0.0, level_[0] - 1));
  }

  // When that fits, if nobody takes any of it before.
  Nanos WhenFits(double tokens) const {
    if (Fits(tokens)) return time_;
    if (IsDaySpent()) return day_end_;
    if (fixed_) return window_end_;
    double wait = (1 - level_[0]) / limit_[0];
    if (limit_[1] > 0) wait = std::max(wait, (tokens - level_[1]) / limit_[1]);
    return time_ +
           static_cast<Nanos>(std::ceil(wait * static_cast<double>(span_)));
  }
  // When dimension i is full again.
  Nanos WhenFull(std::size_t i) const {
    if (fixed_) return window_end_;
    return time_ + static_cast<Nanos>(std::ceil((1 - level_[i] / limit_[i]) *
                                                static_cast<double>(span_)));
  }

  double limit(std::size_t i) const { return limit_[i]; }
  double left(std::size_t i) const { return std::max(0.0, level_[i]); }
  // When what is left of it is lost.
  Nanos window_end() const { return per_day_ > 0 ? day_end_ : window_end_; }

 private:
  static constexpr double kTolerance = 1e-9;

  bool IsDaySpent() const { return per_day_ > 0 && day_left_ < 1; }

  void Flow(Nanos now) {
    for (; per_day_ > 0 && day_end_ <= now;
         day_end_ += FromSeconds(kDaySeconds))
      day_left_ = per_day_;
    if (fixed_) {
      for (; window_end_ <= now; window_end_ += span_) level_ = limit_;
    } else {
      const double part =
          static_cast<double>(now - time_) / static_cast<double>(span_);
      for (std::size_t i = 0; i < 2; ++i)
        level_[i] = std::min(limit_[i], level_[i] + limit_[i] * part);
    }
    time_ = now;
  }

  // Requests, then tokens. Below 0 where the unseen client was served first.
  std::array<double, 2> limit_;
  std::array<double, 2> level_;
  Nanos span_;
  bool fixed_;
  double mean_cost_;
  std::vector<UnseenClient> unseen_;
  Nanos time_;
  Nanos window_end_;
  double per_day_;
  double day_left_;
  Nanos day_end_;
};

// The buckets of a pool, by organisation and model: one set for the provider,
// the same for the oracle.
inline std::vector<Bucket> MakeBuckets(const Pool& pool,
                                       const ProviderOptions& options,
                                       double mean_cost, std::uint64_t seed,
                                       Nanos start) {
  std::vector<Bucket> buckets;
  // A provider's days end at its midnight.
  const Nanos day_end =
      start + FromSeconds(Dice(seed ^ 0x646179u).Uniform() * kDaySeconds);
  for (std::size_t i = 0; i < pool.organisations.size(); ++i) {
    for (std::size_t model = 0; model < pool.models.size(); ++model) {
      Quota quota = pool.organisations[i];
      quota.requests *= pool.models[model];
      quota.tokens *= pool.models[model];
      quota.per_day *= pool.models[model];
      Dice dice(seed ^ (0x6275636b6574u + buckets.size() * 0x10001));
      // Nobody knows when a provider's windows begin.
      const Nanos window_end =
          start + FromSeconds(dice.Uniform() * quota.seconds);
      std::vector<UnseenClient> unseen;
      if (options.unseen > 0)
        unseen.emplace_back(quota, options.unseen, dice.Next(), start);
      buckets.emplace_back(quota, options.fixed_windows, mean_cost, window_end,
                           day_end, std::move(unseen), start);
    }
  }
  return buckets;
}

inline std::chrono::system_clock::time_point WallTime(Nanos now) {
  using std::chrono::sys_days, std::chrono::year, std::chrono::month;
  constexpr sys_days kDay = year(2026) / month(3) / 2;
  return std::chrono::time_point_cast<std::chrono::system_clock::duration>(
      std::chrono::sys_time<std::chrono::nanoseconds>(kDay) +
      std::chrono::nanoseconds(now));
}

// "2026-03-02T01:02:03Z", whole seconds, rounded up.
inline std::string Rfc3339(Nanos time) {
  const Nanos seconds = (time + kSecond - 1) / kSecond;
  return fmt::format("2026-03-{:02}T{:02}:{:02}:{:02}Z", 2 + seconds / 86'400,
                     seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
}

// "Mon, 02 Mar 2026 01:02:03 GMT", rounded down.
inline std::string HttpDate(Nanos time) {
  static constexpr std::array kDays = {"Mon", "Tue", "Wed", "Thu",
                                       "Fri", "Sat", "Sun"};
  const auto seconds = static_cast<std::size_t>(time / kSecond);
  return fmt::format("{}, {:02} Mar 2026 {:02}:{:02}:{:02} GMT",
                     kDays[seconds / 86'400 % 7], 2 + seconds / 86'400,
                     seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
}

// "12ms", "7.66s", "6m0s": rounded up to milliseconds.
inline std::string GoDuration(Nanos span) {
  const Nanos ms = (span + kMillisecond - 1) / kMillisecond;
  if (ms < 1000) return fmt::format("{}ms", ms);
  const double seconds = static_cast<double>(ms % 60'000) / 1000;
  return ms < 60'000 ? fmt::format("{}s", seconds)
                     : fmt::format("{}m{}s", ms / 60'000, seconds);
}

class Provider {
 public:
  Provider(const Pool& pool, const ProviderOptions& options, double mean_cost,
           std::uint64_t seed, Nanos start)
      : pool_(pool),
        options_(options),
        start_(start),
        dice_(seed ^ 0x74726f75626c65u),
        buckets_(MakeBuckets(pool, options, mean_cost, seed, start)) {}

  // The answer to a request that has arrived; status 0 for none.
  HttpResponse Handle(std::size_t key, std::size_t model, double tokens,
                      Nanos now) {
    if (IsInTrouble(now)) {
      ++asked_in_trouble_;
      if (key < options_.trouble.keys &&
          dice_.Uniform() < options_.trouble.share)
        return Fail();
    }
    Bucket& bucket = buckets_[pool_.keys[key] * pool_.models.size() + model];
    bucket.Advance(now);
    if (key < options_.flapping_keys &&
        static_cast<Nanos>(ToSeconds(now) / options_.flapping_seconds) % 2 == 1)
      return Refuse(bucket, now + FromSeconds(options_.flapping_seconds / 3),
                    now);
    if (!bucket.Fits(tokens)) {
      if (options_.refused_count) bucket.Punish();
      return Refuse(bucket, bucket.WhenFits(tokens), now);
    }
    bucket.Take(tokens);
    HttpResponse response{.status = 200, .headers = {}, .body = "{}"};
    response.headers.Add("content-type", "application/json");
    AddLimits(response.headers, bucket, now);
    return response;
  }

  bool IsInTrouble(Nanos now) const {
    return now >= start_ + FromSeconds(options_.trouble.begin) &&
           now < start_ + FromSeconds(options_.trouble.end);
  }
  // The requests that arrived meanwhile.
  std::size_t asked_in_trouble() const { return asked_in_trouble_; }

 private:
  HttpResponse Fail() const {
    if (options_.trouble.lost) return {};
    return {.status = 503,
            .headers = {{"content-type", "application/json"}},
            .body = R"({"error":{"message":"Service unavailable"}})"};
  }

  HttpResponse Refuse(const Bucket& bucket, Nanos when, Nanos now) const {
    const Nanos wait = std::max(when - now, kMillisecond);
    const Nanos seconds = (wait + kSecond - 1) / kSecond;
    const Nanos ms = (wait + kMillisecond - 1) / kMillisecond;
    HttpResponse response{.status = 429, .headers = {}, .body = {}};
    Headers& headers = response.headers;
    headers.Add("content-type", "application/json");
    switch (options_.style) {
      case Style::kOpenAI:
        headers.Add("retry-after-ms", fmt::format("{}", ms));
        headers.Add("retry-after", fmt::format("{}", seconds));
        response.body = fmt::format(
            R"({{"error":{{"message":"Rate limit reached. Please try again in {}.","type":"requests","param":null,"code":"rate_limit_exceeded"}}}})",
            GoDuration(wait));
        break;
      case Style::kAnthropic:
        headers.Add("retry-after", fmt::format("{}", seconds));
        response.body =
            R"({"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit."}})";
        break;
      case Style::kAzure:
        headers.Add("retry-after-ms", fmt::format("{}", ms));
        headers.Add("retry-after", fmt::format("{}", seconds));
        response.body = fmt::format(
            R"({{"error":{{"code":"429","message":"Requests have exceeded the rate limit. Please retry after {} seconds."}}}})",
            seconds);
        break;
      case Style::kGemini:
        response.body = fmt::format(
            R"([{{"error":{{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED","details":[{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{}s"}}]}}}}])",
            seconds);
        break;
      case Style::kRetryAfter:
        headers.Add("retry-after", fmt::format("{}", seconds));
        [[fallthrough]];
      case Style::kNothing:
        response.body = R"({"error":{"message":"Too many requests"}})";
        break;
    }
    AddLimits(headers, bucket, now);
    return response;
  }

  void AddLimits(Headers& headers, const Bucket& bucket, Nanos now) const {
    static constexpr std::array kWhat = {"requests", "tokens"};
    if (options_.style == Style::kAnthropic) headers.Add("date", HttpDate(now));
    for (std::size_t i = 0; i < 2; ++i) {
      if (bucket.limit(i) <= 0) continue;
      const auto add = [&](std::string name, std::string value) {
        headers.Add(std::move(name), std::move(value));
      };
      const double left = std::floor(bucket.left(i) + 1e-9);
      switch (options_.style) {
        case Style::kOpenAI:
          add(fmt::format("x-ratelimit-limit-{}", kWhat[i]),
              fmt::format("{}", bucket.limit(i)));
          add(fmt::format("x-ratelimit-remaining-{}", kWhat[i]),
              fmt::format("{}", left));
          add(fmt::format("x-ratelimit-reset-{}", kWhat[i]),
              GoDuration(bucket.WhenFull(i) - now));
          break;
        case Style::kAnthropic:
          add(fmt::format("anthropic-ratelimit-{}-limit", kWhat[i]),
              fmt::format("{}", bucket.limit(i)));
          add(fmt::format("anthropic-ratelimit-{}-remaining", kWhat[i]),
              fmt::format("{}", i == 0 ? left : std::round(left / 1e3) * 1e3));
          add(fmt::format("anthropic-ratelimit-{}-reset", kWhat[i]),
              Rfc3339(bucket.WhenFull(i)));
          break;
        case Style::kAzure:
          add(fmt::format("x-ratelimit-remaining-{}", kWhat[i]),
              fmt::format("{}", left));
          break;
        case Style::kGemini:
        case Style::kRetryAfter:
        case Style::kNothing:
          break;
      }
    }
  }

  const Pool& pool_;
  const ProviderOptions options_;
  const Nanos start_;
  Dice dice_;
  std::vector<Bucket> buckets_;
  std::size_t asked_in_trouble_ = 0;
};

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_PROVIDER_H_
