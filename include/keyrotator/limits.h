// File: limits.h
//
// What a provider says is left of its limits: how many requests and tokens, of
// how many, and when that resets. The numbers come from response headers (see
// openai/retry_after.h) or from the application itself.
//
// Example:
//   rotator.ReportLimits(
//       lease, {.requests = {.limit = 60, .remaining = 59, .reset = 1s}});

#ifndef KEYROTATOR_LIMITS_H_
#define KEYROTATOR_LIMITS_H_

#include <optional>

#include "keyrotator/clock.h"

namespace keyrotator {

// One dimension of a limit. What is not known is empty; numbers that are
// negative or not finite count as not known.
struct RateLimit {
  // The most that can be left: the size of the bucket.
  std::optional<double> limit = {};
  // What was left when the provider answered.
  std::optional<double> remaining = {};
  // The time from then until `remaining` is `limit` again (OpenAI: "until the
  // rate limit resets to its initial state").
  std::optional<Span> reset = {};
};

struct RateLimits {
  RateLimit requests = {};
  RateLimit tokens = {};
};

}  // namespace keyrotator

#endif  // KEYROTATOR_LIMITS_H_
