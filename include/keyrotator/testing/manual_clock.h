// File: testing/manual_clock.h
//
// ManualClock: a clock that moves when a test says so. No test has to sleep.
//
// Example:
//   keyrotator::testing::ManualClock clock;
//   keyrotator::KeyRotator rotator({"sk-a"}, {}, keyrotator::RoundRobin{}, clock);
//   rotator.MarkRateLimited("sk-a", 20s);
//   clock.Advance(20s);  // wakes the callers of PickUntil and SleepUntil
//   assert(rotator.Pick());
//
// With AdvanceWhenWaiting() the clock jumps to what someone would wait for, so
// that code that blocks is tested in one thread.

#ifndef KEYROTATOR_TESTING_MANUAL_CLOCK_H_
#define KEYROTATOR_TESTING_MANUAL_CLOCK_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "keyrotator/clock.h"

namespace keyrotator {
namespace testing {

// A handle: copies are the same clock. Thread-safe.
class ManualClock {
 public:
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<ManualClock, duration>;
  static constexpr bool is_steady = true;

  // Starts at `start`, one hour after the epoch unless told otherwise: a time
  // of 0 would hide mistakes.
  explicit ManualClock(duration start = std::chrono::hours(1))
      : state_(std::make_shared<State>(start.count())) {}

  time_point now() const {
    return time_point(duration(state_->now.load(std::memory_order_acquire)));
  }

  // Moves the time on, by 0 or more; at the end of time it stands still. When
  // it returns, all watchers were called; threads that wait wake soon.
  void Advance(Span by) {
    MoveTo(internal::SaturatingAdd(state_->now.load(), by.count()));
  }

  // Moves the time on to `time`, if that is later.
  void AdvanceTo(time_point time) { MoveTo(time.time_since_epoch().count()); }

  // From now on the clock jumps to whatever time someone would wait for.
  void AdvanceWhenWaiting(bool on = true) { state_->jumps.store(on); }

  // For waiting threads (see clock.h). `wake` must not call this clock but for
  // now(). The handle must not be destroyed under a lock that `wake` takes.
  [[nodiscard]] std::shared_ptr<void> OnAdvance(
      std::function<void()> wake) const {
    const std::lock_guard lock(state_->mutex);
    const std::uint64_t number = ++state_->last_number;
    state_->wakes.emplace(number, std::move(wake));
    return std::shared_ptr<void>(nullptr, [state = state_, number](void*) {
      const std::lock_guard forget_lock(state->mutex);
      state->wakes.erase(number);
    });
  }
  bool AdvanceForWaiter(time_point time) const {
    if (!state_->jumps.load()) return false;
    MoveTo(time.time_since_epoch().count());
    return true;
  }

 private:
  struct State {
    explicit State(rep start) : now(start) {}
    std::atomic<rep> now;
    std::atomic<bool> jumps{false};
    std::mutex mutex;
    std::uint64_t last_number = 0;                         // under mutex
    std::map<std::uint64_t, std::function<void()>> wakes;  // under mutex
  };

  void MoveTo(rep time) const {
    const std::lock_guard lock(state_->mutex);
    if (time > state_->now.load())
      state_->now.store(time, std::memory_order_release);
    for (const auto& [number, wake] : state_->wakes) wake();
  }

  std::shared_ptr<State> state_;
};

}  // namespace testing

using testing::ManualClock;

}  // namespace keyrotator

#endif  // KEYROTATOR_TESTING_MANUAL_CLOCK_H_
