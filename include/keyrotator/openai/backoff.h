// File: openai/backoff.h
//
// How long a request waits before it is sent again to a provider that is
// failing: doubled each time, and shortened by chance, so that clients that
// failed together do not come back together.
//
// Example:
//   keyrotator::RetryOptions options;
//   auto third = keyrotator::internal::Backoff(options, 2);  // 2 s

#ifndef KEYROTATOR_OPENAI_BACKOFF_H_
#define KEYROTATOR_OPENAI_BACKOFF_H_

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>

#include "keyrotator/clock.h"
#include "keyrotator/retry_options.h"

namespace keyrotator::internal {

// The n-th wait, from 0: initial_backoff times 2^n, at most max_backoff. Of
// that a quarter of `random`, a number from 0 to 1, is taken off.
inline Nanos Backoff(const RetryOptions& options, int n, double random = 0) {
  const double wait = static_cast<double>(options.initial_backoff.count()) *
                      std::exp2(std::min(n, 62));
  const double longest = static_cast<double>(options.max_backoff.count());
  return ToNanos(std::chrono::duration<double, std::nano>(
      std::min(wait, longest) * (1 - 0.25 * random)));
}

// A number from 0 up to 1: from the options' source, or one of the thread.
inline double Random(const RetryOptions& options) {
  if (options.random) return options.random();
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::generate_canonical<double, 32>(generator);
}

// How long to wait before the n-th retry, from 0. A provider's hint replaces
// the backoff.
inline Nanos RetryWait(const RetryOptions& options, int n,
                       const std::optional<std::chrono::milliseconds>& hint) {
  return hint ? ToNanos(*hint) : Backoff(options, n, Random(options));
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_BACKOFF_H_
