// File: internal/time.h
//
// Nanos: a time or a span as the library computes with it, whatever the clock.
// Sums saturate instead of overflowing, so "never" is a time like any other.

#ifndef KEYROTATOR_INTERNAL_TIME_H_
#define KEYROTATOR_INTERNAL_TIME_H_

#include <chrono>
#include <cstdint>
#include <limits>

namespace keyrotator::internal {

// In nanoseconds.
using Nanos = std::int64_t;
inline constexpr Nanos kNever = std::numeric_limits<Nanos>::max();
inline constexpr Nanos kLongAgo = std::numeric_limits<Nanos>::min();

// Any duration as nanoseconds: what is out of range saturates, not-a-number is
// 0.
template <class Rep, class Period>
constexpr Nanos ToNanos(std::chrono::duration<Rep, Period> span) {
  // long double is wide enough for the comparison; the value itself is
  // converted exactly.
  const long double nanos = static_cast<long double>(span.count()) *
                            Period::num / Period::den * std::nano::den;
  if (!(nanos == nanos)) return 0;
  if (nanos >= static_cast<long double>(kNever)) return kNever;
  if (nanos <= static_cast<long double>(kLongAgo)) return kLongAgo;
  if constexpr (std::chrono::treat_as_floating_point_v<Rep>) {
    return static_cast<Nanos>(nanos);
  } else {
    return std::chrono::duration_cast<std::chrono::duration<Nanos, std::nano>>(
               span)
        .count();
  }
}

// The way back, rounded up (a key never returns early) and saturating.
template <class Duration>
constexpr Duration FromNanos(Nanos nanos) {
  using Nanoseconds = std::chrono::duration<Nanos, std::nano>;
  if (nanos == kNever) return Duration::max();
  if (ToNanos(Duration::max()) <= nanos) return Duration::max();
  if (ToNanos(Duration::min()) >= nanos) return Duration::min();
  if constexpr (std::chrono::treat_as_floating_point_v<
                    typename Duration::rep>) {
    return std::chrono::duration_cast<Duration>(Nanoseconds(nanos));
  } else {
    return std::chrono::ceil<Duration>(Nanoseconds(nanos));
  }
}

constexpr Nanos SaturatingAdd(Nanos a, Nanos b) {
  if (b > 0 && a > kNever - b) return kNever;
  if (b < 0 && a < kLongAgo - b) return kLongAgo;
  return a + b;
}

constexpr Nanos SaturatingSubtract(Nanos a, Nanos b) {
  if (b < 0 && a > kNever + b) return kNever;
  if (b > 0 && a < kLongAgo + b) return kLongAgo;
  return a - b;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_TIME_H_
