// File: clock.h
//
// What a clock must offer, time arithmetic that cannot overflow, and one way to
// wait that suits every clock.
//
// A clock is anything with `now()`, `time_point` and `duration`: std::chrono's
// clocks as they are, or an object with a state of its own. Two members are
// optional and make waiting exact on a clock whose time does not pass by itself
// (testing/manual_clock.h has them); a clock of another kind is asked for the
// time every 20 ms while somebody waits:
//
//   // Calls `wake` after each change of the time, until the handle that it
//   // returns is destroyed.
//   std::shared_ptr<void> OnAdvance(std::function<void()> wake);
//   // Moves the time to `t` instead of letting somebody wait for it, or
//   // returns false.
//   bool AdvanceForWaiter(time_point t);
//
// Example: a clock that counts the frames of a game.
//   struct GameClock {
//     using duration = std::chrono::milliseconds;
//     using time_point = std::chrono::time_point<GameClock, duration>;
//     time_point now() const { return time_point(duration(*frames * 16)); }
//     const int* frames;
//   };
//   static int frames = 0;
//   keyrotator::KeyRotator rotator({"sk-a"}, {}, keyrotator::RoundRobin{},
//                                  GameClock{&frames});

#ifndef KEYROTATOR_CLOCK_H_
#define KEYROTATOR_CLOCK_H_

#include <time.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace keyrotator {

// std::chrono::steady_clock read from the kernel's last tick
// (CLOCK_MONOTONIC_COARSE): about 5 ns instead of 25, and up to 4 ms late, by
// which a key then returns late. Elsewhere than on Linux it is steady_clock.
// Thread-safe.
struct CoarseClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<CoarseClock, duration>;
  static constexpr bool is_steady = true;

  static time_point now() noexcept {
#ifdef CLOCK_MONOTONIC_COARSE
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return time_point(std::chrono::seconds(time.tv_sec) +
                      std::chrono::nanoseconds(time.tv_nsec));
#else
    return time_point(std::chrono::duration_cast<duration>(
        std::chrono::steady_clock::now().time_since_epoch()));
#endif
  }
};

namespace internal {

template <class T>
concept IsClock = requires(T& clock) {
  typename T::duration;
  typename T::time_point;
  { clock.now() } -> std::convertible_to<typename T::time_point>;
};

template <class T>
concept TellsOfAdvances = requires(T& clock, std::function<void()> wake,
                                   typename T::time_point time) {
  { clock.OnAdvance(wake) } -> std::convertible_to<std::shared_ptr<void>>;
  { clock.AdvanceForWaiter(time) } -> std::convertible_to<bool>;
};

// A time or a span in nanoseconds: what the library computes with, whatever the
// clock.
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

template <class Clock>
Nanos NanosNow(Clock& clock) {
  return ToNanos(clock.now().time_since_epoch());
}

// Hears of a clock's advances for as long as it lives, where the clock tells of
// them. It must be made and destroyed without holding a lock that `wake` takes.
template <class Clock>
class ClockWatch {
 public:
  ClockWatch(Clock& clock, std::function<void()> wake) {
    if constexpr (TellsOfAdvances<Clock>)
      handle_ = clock.OnAdvance(std::move(wake));
  }

 private:
  std::shared_ptr<void> handle_;
};

// Blocks, with `lock` released, until `ready()`, the time `until`, a request to
// stop or a notification of `condition`; may return earlier, too: call it in a
// loop.
template <class Clock, class Lock, class Ready>
void WaitUntil(Clock& clock, std::condition_variable_any& condition, Lock& lock,
               Nanos until, const std::stop_token& stop, Ready ready) {
  // Far enough for every wait, near enough to be added to any system's time
  // without an overflow.
  constexpr Nanos kLongestWait = Nanos{24} * 3600 * 1'000'000'000;
  constexpr Nanos kPoll = 20'000'000;
  Nanos longest = kLongestWait;
  if constexpr (TellsOfAdvances<Clock>) {
    if (until != kNever) {
      lock.unlock();  // the clock calls back those who watch it, and they lock
      const bool moved = clock.AdvanceForWaiter(typename Clock::time_point(
          FromNanos<typename Clock::duration>(until)));
      lock.lock();
      if (moved) return;
    }
  } else {
    if (until != kNever) {
      const Nanos left = SaturatingSubtract(until, NanosNow(clock));
      if (left <= 0) return;
      longest = std::min(longest, left);
    }
    constexpr bool kPassesByItself =
        std::same_as<Clock, std::chrono::steady_clock> ||
        std::same_as<Clock, std::chrono::system_clock> ||
        std::same_as<Clock, CoarseClock>;
    if constexpr (!kPassesByItself) longest = std::min(longest, kPoll);
  }
  condition.wait_for(lock, stop, std::chrono::nanoseconds(longest), ready);
}

}  // namespace internal

// Any std::chrono::duration in nanoseconds: what does not fit (hours::max())
// saturates instead of overflowing.
struct Span : std::chrono::nanoseconds {
  template <class Rep, class Period>
  constexpr Span(std::chrono::duration<Rep, Period> span)
      : std::chrono::nanoseconds(internal::ToNanos(span)) {}
};

// Sleeps on any clock until `time`. False if it was asked to stop before.
// Thread-safe.
template <class Clock>
bool SleepUntil(Clock& clock, typename Clock::time_point time,
                std::stop_token stop = {}) {
  std::mutex mutex;
  std::condition_variable_any condition;
  const internal::ClockWatch<Clock> watch(clock, [&] {
    {
      const std::lock_guard lock(mutex);
    }  // whoever sleeps is inside the wait now, or has not yet read the clock
    condition.notify_all();
  });
  const internal::Nanos until = internal::ToNanos(time.time_since_epoch());
  std::unique_lock lock(mutex);
  while (!stop.stop_requested() && internal::NanosNow(clock) < until) {
    internal::WaitUntil(clock, condition, lock, until, stop,
                        [&] { return internal::NanosNow(clock) >= until; });
  }
  return internal::NanosNow(clock) >= until;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CLOCK_H_
