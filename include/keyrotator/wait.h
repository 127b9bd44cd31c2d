// File: wait.h
//
// One way to wait that suits every clock: SleepUntil.
//
// Example:
//   keyrotator::SleepUntil(rotator.clock(),
//                          rotator.clock().now() + std::chrono::seconds(1));

#ifndef KEYROTATOR_WAIT_H_
#define KEYROTATOR_WAIT_H_

#include <algorithm>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <utility>

#include "keyrotator/clock.h"

namespace keyrotator {
namespace internal {

template <class T>
concept TellsOfAdvances = requires(T& clock, std::function<void()> wake,
                                   typename T::time_point time) {
  { clock.OnAdvance(wake) } -> std::convertible_to<std::shared_ptr<void>>;
  { clock.AdvanceForWaiter(time) } -> std::convertible_to<bool>;
};

// Calls `wake` after each advance of a clock that announces them, for as long
// as it lives. It must be made and destroyed without holding a lock that `wake`
// takes.
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
      // The clock calls back its watchers, and they take the lock.
      lock.unlock();
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
        std::same_as<Clock, std::chrono::system_clock>;
    if constexpr (!kPassesByItself) longest = std::min(longest, kPoll);
  }
  condition.wait_for(lock, stop, std::chrono::nanoseconds(longest), ready);
}

}  // namespace internal

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

#endif  // KEYROTATOR_WAIT_H_
