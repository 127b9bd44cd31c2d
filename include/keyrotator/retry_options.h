// File: retry_options.h
//
// RetryOptions: when a request is sent again, and how long keys that refused it
// rest. They are not in openai/failover.h, so that a configuration can hold
// them without it.
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

// How often a request is sent again, and after what wait. Going on to another
// key is not a retry and is not counted.
struct RetryOptions {
  // Retries after an answer that was not the key's fault: overload, a passing
  // failure, a lost connection. >= 0. While much fails there are fewer: see
  // RotatorOptions::retry_budget.
  int max_retries = 2;
  // The wait before a retry doubles from the first of these up to the second,
  // and is shortened by a random part of up to a quarter, as in the official
  // SDKs. A provider's hint replaces it.
  Span initial_backoff = std::chrono::milliseconds(500);
  Span max_backoff = std::chrono::seconds(8);
  // From the start of the request: no send starts after it and no wait reaches
  // it. A transfer that has begun may last longer.
  Span deadline = std::chrono::seconds(60);
  // False: a request is sent again only if the server cannot have acted on it:
  // if no connection was made, or after 401, 402, 403, 429, 503 and 529. A
  // request that was acted on twice may be paid for twice.
  bool retry_ambiguous = true;
  // How long a key rests whose limit came without a hint: short at first, since
  // a minute would make a pool of one key give up where a second was enough. If
  // nothing is served with it for long, as when its quota for the day is spent
  // and the provider does not say so, it is asked every max_guess_pause in the
  // end: about a hundred times a day, and it is back so long after its reset.
  Cooldown guess{.initial = std::chrono::seconds(1),
                 .multiplier = 2,
                 .max = std::chrono::seconds(60),
                 .learn_pace = true,
                 .max_guess_pause = std::chrono::minutes(15)};
  // See PickHint; 0: there is no slow start. The first answer tells what a key's
  // limits are, as a rule: the fewer requests go out before it, the fewer are
  // refused, and the longer a batch takes to begin.
  std::size_t initial_window = 4;
  // How long a key rests that has used up its quota, where the error itself does
  // not say until when. Its Retry-After is ignored: providers send seconds where
  // it takes a payment.
  Span quota_cooldown = std::chrono::hours(1);
  // How long a key rests in a model that it had no permission for while another
  // key served the same request; see KeyRotator::MarkNoAccess. > 0.
  Span permission_cooldown = std::chrono::minutes(10);
  // Returns numbers in [0, 1) for the jitter. Default: a generator per thread.
  std::function<double()> random = {};
  // For hints that are dates. Default: std::chrono::system_clock.
  std::function<std::chrono::system_clock::time_point()> wall_clock = {};
};

}  // namespace keyrotator

#endif  // KEYROTATOR_RETRY_OPTIONS_H_
