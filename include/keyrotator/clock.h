// File: clock.h
//
// What a clock must offer, and Span, which any duration converts to.
//
// A clock is anything with `now()`, `time_point` and `duration`: std::chrono's
// clocks as they are, or an object with a state of its own. Two members are
// optional and make waiting exact on a clock whose time does not pass by itself
// (testing/manual_clock.h has them); a clock of another kind is asked for the
// time every 20 ms while a caller waits:
//
// - `std::shared_ptr<void> OnAdvance(std::function<void()> wake)` calls `wake`
//   after each change of the time, until the handle is destroyed.
// - `bool AdvanceForWaiter(time_point t)` returns whether the time was moved to
//   `t`, since a caller would wait for it otherwise.
//
// Example: a clock of your own, at one tick each 16 ms.
//   struct GameClock {
//     using duration = std::chrono::milliseconds;
//     using time_point = std::chrono::time_point<GameClock, duration>;
//     time_point now() const { return time_point(duration(*ticks * 16)); }
//     const int* ticks = nullptr;
//   };
//   int ticks = 0;
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"}, {},
//                                  keyrotator::RoundRobin{}, GameClock{&ticks});

#ifndef KEYROTATOR_CLOCK_H_
#define KEYROTATOR_CLOCK_H_

#include <chrono>
#include <concepts>

#include "keyrotator/internal/time.h"

namespace keyrotator {

// Any std::chrono::duration in nanoseconds: what does not fit (hours::max())
// saturates instead of overflowing.
struct Span : std::chrono::nanoseconds {
  template <class Rep, class Period>
  constexpr Span(std::chrono::duration<Rep, Period> span)
      : std::chrono::nanoseconds(internal::ToNanos(span)) {}
};

namespace internal {

template <class T>
concept IsClock = requires(T& clock) {
  typename T::duration;
  typename T::time_point;
  { clock.now() } -> std::convertible_to<typename T::time_point>;
};

template <class Clock>
Nanos NanosNow(Clock& clock) {
  return ToNanos(clock.now().time_since_epoch());
}

}  // namespace internal
}  // namespace keyrotator

#endif  // KEYROTATOR_CLOCK_H_
