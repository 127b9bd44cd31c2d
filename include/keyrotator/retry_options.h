// File: retry_options.h
//
// RetryOptions: when a request is sent again, and how long the keys that
// refused it rest. Apart from failover.h, so that a configuration can hold
// them.
//
// Example:
//   keyrotator::RetryOptions retry{.max_retries = 1, .deadline = 20s};

#ifndef KEYROTATOR_RETRY_OPTIONS_H_
#define KEYROTATOR_RETRY_OPTIONS_H_

#include <chrono>
#include <functional>

#include "keyrotator/clock.h"
#include "keyrotator/cooldown.h"

namespace keyrotator {

// How often and how patiently a request is sent again. Going on to another key
// is no retry and is not counted.
struct RetryOptions {
  // Sends after the first that follow an answer which was not the key's fault:
  // overload, a passing failure, a lost connection.
  int max_retries = 2;
  // The wait before them doubles from the first to the last of these, and is
  // shortened by a random share of up to a quarter (as the official SDKs do). A
  // provider's hint replaces it.
  Span initial_backoff = std::chrono::milliseconds(500);
  Span max_backoff = std::chrono::seconds(8);
  // From the start of the request: no send starts after it and no wait reaches
  // it. A transfer that has begun may last longer.
  Span deadline = std::chrono::seconds(60);
  // False: only what the server cannot have acted on is sent again: where no
  // connection was made, and answers of 401, 402, 403, 429, 503 and 529. A
  // request that was acted on twice may be paid for twice.
  bool retry_ambiguous = true;
  // A key whose limit came without a hint: short at first, since a whole minute
  // would make a pool of one key give up where a second was enough.
  Cooldown guess{.initial = std::chrono::seconds(1),
                 .multiplier = 2,
                 .max = std::chrono::seconds(60),
                 .learn_pace = true};
  // A key that has used up its quota. Its Retry-After is not believed:
  // providers send seconds where it takes a payment.
  Span quota_cooldown = std::chrono::hours(1);
  // From 0 up to 1, for the jitter; by default from a generator of the thread.
  std::function<double()> random = {};
  // For hints that are dates; by default the system's.
  std::function<std::chrono::system_clock::time_point()> wall_clock = {};
};

}  // namespace keyrotator

#endif  // KEYROTATOR_RETRY_OPTIONS_H_
