// File: testing/fake_limits.h
//
// The limits of a fake provider: a token bucket for each dimension of each, and
// what the headers say of them in a provider's own form. For FakeBackend alone.
//
// Example:
//   namespace fake = keyrotator::testing::fake_internal;
//   fake::FakeBucket bucket(60, std::chrono::minutes(1),
//                           std::chrono::seconds(0));
//   bucket.Take(60);
//   bucket.Refill(std::chrono::seconds(1));
//   assert(bucket.WaitFor(1) == 0);
//   assert(bucket.WaitFor(2) == 1);  // seconds

#ifndef KEYROTATOR_TESTING_FAKE_LIMITS_H_
#define KEYROTATOR_TESTING_FAKE_LIMITS_H_

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/testing/fake_options.h"

// A namespace of its own: within keyrotator::testing, `internal` goes on to
// mean keyrotator::internal.
namespace keyrotator::testing::fake_internal {

// One dimension of a limit.
class FakeBucket {
 public:
  FakeBucket(double limit, std::chrono::nanoseconds per,
             std::chrono::nanoseconds now)
      : limit_(limit), per_(per), level_(limit), at_(now) {}

  void Refill(std::chrono::nanoseconds now) {
    if (now <= at_) return;
    level_ = std::min(limit_, level_ + limit_ * ((now - at_) / Seconds(per_)));
    at_ = now;
  }
  void Take(double cost) { level_ -= cost; }

  // Seconds until `cost` fits: 0 if it does, infinity if it never will.
  double WaitFor(double cost) const {
    if (cost > limit_) return INFINITY;
    // Sums of many refills are off by some bits.
    if (level_ + 1e-9 >= cost) return 0;
    return (cost - level_) / limit_ * Seconds(per_).count();
  }
  double limit() const { return limit_; }
  double level() const { return std::max(level_, 0.0); }
  double SecondsToFull() const {
    return (limit_ - level_) / limit_ * Seconds(per_).count();
  }

 private:
  using Seconds = std::chrono::duration<double>;

  double limit_;
  std::chrono::nanoseconds per_;
  double level_;
  std::chrono::nanoseconds at_;
};

// As Go prints a duration, to the millisecond: "12ms", "7.66s", "6m0s".
inline std::string GoDuration(double seconds) {
  auto ms = static_cast<std::int64_t>(std::ceil(seconds * 1e3 - 1e-6));
  if (ms < 1000) return std::to_string(ms) + "ms";
  std::string text;
  if (ms >= 3'600'000) text += std::to_string(ms / 3'600'000) + "h";
  if (ms >= 60'000) text += std::to_string(ms / 60'000 % 60) + "m";
  char rest[16];
  std::snprintf(rest, sizeof(rest), "%g",
                static_cast<double>(ms % 60'000) / 1e3);
  return text + rest + "s";
}

// As RFC 3339 prints a moment, to the second.
inline std::string Rfc3339(std::chrono::system_clock::time_point time) {
  const std::time_t then = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  gmtime_r(&then, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

inline std::string Whole(double number) {
  return std::to_string(static_cast<std::int64_t>(number));
}

// The buckets that one request must fit into.
class FakeBuckets {
 public:
  void Add(FakeBucket& bucket) { buckets_.push_back(&bucket); }

  // Seconds until `cost` fits into each: 0 if it does, infinity if it never
  // will.
  double WaitFor(double cost) const {
    double wait = 0;
    for (const FakeBucket* bucket : buckets_)
      wait = std::max(wait, bucket->WaitFor(cost));
    return wait;
  }
  void Take(double cost) {
    for (FakeBucket* bucket : buckets_) bucket->Take(cost);
  }
  // The one that has the least of its limit, or null.
  const FakeBucket* Tightest() const {
    const auto tightest = std::min_element(
        buckets_.begin(), buckets_.end(), [](const auto* a, const auto* b) {
          return a->level() / a->limit() < b->level() / b->limit();
        });
    return tightest == buckets_.end() ? nullptr : *tightest;
  }

 private:
  std::vector<FakeBucket*> buckets_;
};

// Says what is left of `what`, "requests" or "tokens". `wall` is the time by
// which some providers date the refill.
inline void AddLimitHeaders(Headers& headers, ProviderStyle style,
                            const std::string& what, const FakeBuckets& buckets,
                            std::chrono::system_clock::time_point wall) {
  const FakeBucket* const bucket = buckets.Tightest();
  if (bucket == nullptr) return;
  const std::string limit = Whole(bucket->limit());
  const std::string left = Whole(bucket->level() + 1e-9);
  const double reset = bucket->SecondsToFull();
  switch (style) {
    case ProviderStyle::kOpenAI:
    case ProviderStyle::kAzure:
      headers.Add("x-ratelimit-limit-" + what, limit);
      headers.Add("x-ratelimit-remaining-" + what, left);
      headers.Add("x-ratelimit-reset-" + what, style == ProviderStyle::kOpenAI
                                                   ? GoDuration(reset)
                                                   : Whole(std::ceil(reset)));
      break;
    case ProviderStyle::kAnthropic:
      headers.Add("anthropic-ratelimit-" + what + "-limit", limit);
      headers.Add("anthropic-ratelimit-" + what + "-remaining", left);
      headers.Add("anthropic-ratelimit-" + what + "-reset",
                  Rfc3339(wall + std::chrono::seconds(static_cast<std::int64_t>(
                                     std::ceil(reset)))));
      break;
    case ProviderStyle::kGemini:
    case ProviderStyle::kSilent:
      break;
  }
}

}  // namespace keyrotator::testing::fake_internal

#endif  // KEYROTATOR_TESTING_FAKE_LIMITS_H_
