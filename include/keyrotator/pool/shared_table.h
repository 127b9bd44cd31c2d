// File: pool/shared_table.h
//
// SharedTable: a KeyTable under a lock, with a clock, and the ways to wait: in
// a thread, or to be called. Leases are handed out and events are sent once the
// lock is released.

#ifndef KEYROTATOR_POOL_SHARED_TABLE_H_
#define KEYROTATOR_POOL_SHARED_TABLE_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/fleet_desk.h"
#include "keyrotator/pool/fleet_member.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/key_table.h"
#include "keyrotator/pool/redactor.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/waiters.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/wait.h"

namespace keyrotator::internal {

// A caller that waits in a thread.
struct ThreadWaiter : Waiter {
  using Waiter::Waiter;
  std::condition_variable_any wake;
  bool is_nudged = false;

  void Nudge() {
    is_nudged = true;
    wake.notify_one();
  }
};

// A caller that waits without one, with what its hint refers to.
struct LoopWaiter : Waiter, std::enable_shared_from_this<LoopWaiter> {
  // `call` takes over the lease; false: only to end it, it is not wanted.
  using Call = std::function<void(const Grant&, bool is_wanted)>;

  LoopWaiter(const PickHint& wanted, Call call_on_grant)
      : Waiter(wanted),
        scope_name(wanted.scope),
        affinity(wanted.affinity),
        exclude(wanted.exclude.begin(), wanted.exclude.end()),
        call(std::move(call_on_grant)) {
    hint.scope = scope_name;
    hint.affinity = affinity;
    hint.exclude = exclude;
    is_in_loop = true;
  }
  std::string scope_name;
  std::string affinity;
  std::vector<KeyId> exclude;
  const Call call;
  bool has_left = false;  // guarded by the table's lock
};

// Thread-safe. Leases share it with the rotator, which they may outlive.
template <class Policy, class Clock>
class SharedTable final : public LeaseHost, public FleetMember {
 public:
  using Table = KeyTable<Policy>;

  SharedTable(RotatorOptions options, Policy policy, Clock the_clock)
      : table_(std::move(options), std::move(policy)),
        clock_(std::move(the_clock)) {}

  Clock& clock() { return clock_; }
  Nanos Now() override { return NanosNow(clock_); }

  // Gives up the keys. Leases that are out keep theirs.
  void Close() {
    const std::lock_guard lock(mutex_);
    table_.Close();
  }

  // Calls `function(table, now)` under the lock. `now` means nothing if nothing
  // in the table depends on the time.
  template <class Function>
  auto Call(Function function) {
    std::unique_lock lock(mutex_);
    auto result = function(table_, table_.needs_now() ? Now() : kLongAgo);
    Finish(lock);
    return result;
  }

  // Calls `function(table, slot, now)` for the key that was lent with `grant`.
  // False if it is no longer in the table, or never was.
  template <class Function>
  bool CallForLent(const Grant& grant, Function function) {
    return CallWith(
        [&](Table&) {
          const bool is_here = grant.slot != nullptr &&
                               grant.slot->host.get() == this &&
                               grant.slot->is_pooled();
          return is_here ? grant.slot : nullptr;
        },
        function);
  }
  // The same for the key with this id or value.
  template <class Name, class Function>
  bool CallForNamed(const Name& name, Function function) {
    return CallWith([&](Table& table) { return table.Find(name); }, function);
  }

  bool Pick(const PickHint& hint, Queue queue, Grant& grant) {
    // Slow start goes by the time from its first lease on.
    Nanos now = hint.initial_window > 0 ? Now() : NowIfNeeded();
    std::unique_lock lock(mutex_);
    if (now == kLongAgo) now = NowIfNeeded();  // since a moment ago
    const bool found = table_.Pick(hint, queue, now, grant);
    if (table_.has_output()) Finish(lock);
    return found;
  }

  // Waits in the thread that calls.
  bool PickUntil(Nanos deadline, const PickHint& hint,
                 const std::stop_token& stop, Grant& grant) {
    if (Pick(hint, Queue::kInLine, grant)) return true;
    if (Now() >= deadline || stop.stop_requested()) return false;
    ThreadWaiter waiter(hint);
    // Not under the lock, for the clock calls back under a lock of its own.
    const ClockWatch<Clock> watch(clock_, [&] {
      const std::lock_guard lock(mutex_);
      waiter.Nudge();
    });
    std::unique_lock lock(mutex_);
    if (table_.Enter(waiter, Now())) {
      Wait(lock, waiter, deadline, stop);
      if (!waiter.is_granted) table_.Leave(waiter);
      if (timekeeper_ == &waiter) {
        timekeeper_ = nullptr;
        if (Waiter* const next = table_.AnyThread(); next != nullptr)
          static_cast<ThreadWaiter*>(next)->Nudge();
      }
    }
    Finish(lock);
    grant = waiter.grant;
    return waiter.is_granted;
  }

  // Waits without a thread. Null if it would have to wait and no more callers
  // may. The result must be given to Leave.
  std::shared_ptr<LoopWaiter> WhenUsable(const PickHint& hint,
                                         LoopWaiter::Call call) {
    auto waiter = std::make_shared<LoopWaiter>(hint, std::move(call));
    const Nanos now = Now();
    std::unique_lock lock(mutex_);
    waiter->is_granted = table_.Pick(hint, Queue::kInLine, now, waiter->grant);
    if (waiter->is_granted) table_.granted.push_back(waiter.get());
    const bool is_in = waiter->is_granted || table_.Enter(*waiter, now);
    Finish(lock);
    return is_in ? waiter : nullptr;
  }
  void Leave(LoopWaiter& waiter) {
    std::unique_lock lock(mutex_);
    waiter.has_left = true;
    if (!waiter.is_granted) table_.Leave(waiter);
    Finish(lock);
  }

  // Does what is due. Returns when something is due next, or kNever.
  Nanos Poll() {
    const Nanos now = Now();
    std::unique_lock lock(mutex_);
    table_.Advance(now);
    return Finish(lock);
  }

  void EndLease(Grant& grant) noexcept override {
    Nanos now = NowIfNeeded();
    std::unique_lock lock(mutex_);
    if (now == kLongAgo) now = NowIfNeeded();
    table_.EndLease(grant, now);
    Finish(lock);
  }

  // --- The fleet ---

  bool JoinFleet(FleetTerms terms, std::function<void()> wake) override {
    const std::lock_guard lock(mutex_);
    if (!table_.JoinFleet(std::move(terms))) return false;
    wake_fleet_ =
        std::make_shared<const std::function<void()>>(std::move(wake));
    return true;
  }
  void LeaveFleet() override {
    const std::lock_guard lock(mutex_);
    table_.LeaveFleet();
    wake_fleet_ = nullptr;
  }
  FleetAsk AskFleet(Nanos period, std::size_t groups) override {
    const Nanos now = Now();
    std::unique_lock lock(mutex_);
    FleetAsk ask = table_.AskFleet(period, groups, now);
    Finish(lock);
    return ask;
  }
  void HearFleet(const FleetAsk& ask, const FleetReply& reply) override {
    const Nanos now = Now();
    std::unique_lock lock(mutex_);
    table_.HearFleet(ask, reply, now);
    Finish(lock);
  }
  void MissFleet(const FleetAsk& ask) override {
    const Nanos now = Now();
    std::unique_lock lock(mutex_);
    table_.MissFleet(ask, now);
    Finish(lock);
  }
  bool IsFleetUrgent() override {
    const std::lock_guard lock(mutex_);
    return table_.is_fleet_urgent();
  }
  bool IsFleetThirsty() override {
    const std::lock_guard lock(mutex_);
    return table_.is_fleet_thirsty();
  }

  // Takes the lock for a moment only.
  std::string Redact(std::string_view text) {
    std::shared_ptr<const Redactor> redactor;
    {
      const std::lock_guard lock(mutex_);
      redactor = table_.redactor();
    }
    return (*redactor)(text);
  }

 private:
  template <class Find, class Function>
  bool CallWith(Find find, Function function) {
    const Nanos now = Now();
    std::unique_lock lock(mutex_);
    Slot* const slot = find(table_);
    if (slot == nullptr) return false;
    function(table_, *slot, now);
    Finish(lock);
    return true;
  }

  Nanos NowIfNeeded() {
    return needs_now_.load(std::memory_order_relaxed) ? Now() : kLongAgo;
  }

  // Until the waiter was granted a key, the deadline, or a stop.
  void Wait(std::unique_lock<std::mutex>& lock, ThreadWaiter& waiter,
            Nanos deadline, const std::stop_token& stop) {
    while (true) {
      const Nanos now = Now();
      table_.Advance(now);
      Finish(lock);
      lock.lock();
      if (waiter.is_granted || now >= deadline || stop.stop_requested()) return;
      // One waiting thread wakes when something is due; all do on a clock that
      // announces its advances, since it may have to be moved for them.
      Nanos until = deadline;
      if (timekeeper_ == nullptr) timekeeper_ = &waiter;
      if (timekeeper_ == &waiter || TellsOfAdvances<Clock>) {
        until = std::min(deadline, table_.next_due());
        if (timekeeper_ == &waiter) wakes_at_ = until;
      }
      WaitUntil(clock_, waiter.wake, lock, until, stop,
                [&] { return waiter.is_granted || waiter.is_nudged; });
      waiter.is_nudged = false;
    }
  }

  // Ends a call of the table: wakes and calls those that were granted a lease,
  // releases the lock, and reports the changes. Returns when something is due
  // next.
  Nanos Finish(std::unique_lock<std::mutex>& lock) {
    table_.has_output() = false;
    needs_now_.store(table_.needs_now(), std::memory_order_relaxed);
    if (timekeeper_ != nullptr && table_.next_due() < wakes_at_)
      timekeeper_->Nudge();
    for (Waiter* waiter : table_.granted) {
      if (waiter->is_in_loop) {
        calls_.push_back(static_cast<LoopWaiter*>(waiter)->shared_from_this());
      } else {
        static_cast<ThreadWaiter*>(waiter)->wake.notify_one();
      }
    }
    table_.granted.clear();
    // These may call the rotator, so the lock is not held.
    const std::vector<KeyEvent> events = table_.TakeEvents();
    const bool deliver = !calls_.empty();
    std::shared_ptr<const std::function<void()>> wake_fleet;
    if (wake_fleet_ != nullptr &&
        (table_.is_fleet_urgent() || table_.is_fleet_thirsty()))
      wake_fleet = wake_fleet_;
    Nanos next = table_.next_due();
    lock.unlock();
    if (wake_fleet != nullptr) (*wake_fleet)();
    for (const KeyEvent& event : events) table_.options().on_event(event);
    if (deliver) next = Deliver(lock);
    return next;
  }

  // Makes the calls of WhenUsable, one after the other: a call that ends a
  // lease grants the next, which is not called from within. Returns when
  // something is due next.
  Nanos Deliver(std::unique_lock<std::mutex>& lock) {
    lock.lock();
    if (!std::exchange(is_delivering_, true)) {
      while (!calls_.empty()) {
        for (const auto& waiter : std::exchange(calls_, {})) {
          const bool is_wanted = !waiter->has_left;
          lock.unlock();
          waiter->call(waiter->grant, is_wanted);
          lock.lock();
        }
      }
      is_delivering_ = false;
    }
    const Nanos next = table_.next_due();
    lock.unlock();
    return next;
  }

  std::mutex mutex_;
  Table table_;  // guarded by mutex_, like all that follows but the last two
  ThreadWaiter* timekeeper_ = nullptr;  // wakes when something is due
  Nanos wakes_at_ = kNever;             // when that is
  std::vector<std::shared_ptr<LoopWaiter>> calls_;  // to be made
  bool is_delivering_ = false;  // some thread makes the calls
  std::shared_ptr<const std::function<void()>> wake_fleet_;  // null: none
  std::atomic<bool> needs_now_{false};
  [[no_unique_address]] Clock clock_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SHARED_TABLE_H_
