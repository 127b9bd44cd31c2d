// File: key_rotator.h
//
// KeyRotator: a pool of API keys. It hands out a key for each request and is
// told what came of it: a key that was revoked stays out, one that was limited
// comes back when it may, and the others go on.
//
// Example:
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
//   if (auto key = rotator.Pick()) {  // std::optional<keyrotator::Lease>
//     int status = Post(url, "Bearer " + std::string(key->Reveal()));
//     if (status == 401) rotator.MarkFailed(*key);
//     if (status == 429) rotator.MarkRateLimited(*key);  // or (*key, 20s)
//   }
//
// What plugs in: the policy that chooses (selection.h), the clock (clock.h),
// the mutex.

#ifndef KEYROTATOR_KEY_ROTATOR_H_
#define KEYROTATOR_KEY_ROTATOR_H_

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <iosfwd>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/key_status.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/key_table.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/report.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/selection.h"

namespace keyrotator {

// A key, lent for one request. It counts as in flight until the lease is
// destroyed, which says nothing of how the request went. It may outlive the
// rotator and the key's place in it. Move-only; one thread at a time.
class Lease {
 public:
  Lease(Lease&& other) noexcept : grant_(std::exchange(other.grant_, {})) {}
  Lease& operator=(Lease&& other) noexcept {
    if (this == &other) return *this;
    const Lease ended(std::move(*this));
    grant_ = std::exchange(other.grant_, {});
    return *this;
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    if (grant_.slot == nullptr || internal::EndUnwatchedLease(grant_)) return;
    // Keeps what holds the lock alive: the slot may be what kept it.
    const std::shared_ptr<internal::LeaseHost> host = grant_.slot->host;
    host->EndLease(grant_);
  }

  // The secret, for the request's header and nothing else.
  std::string_view Reveal() const { return grant_.slot->secret; }
  KeyId id() const { return grant_.slot->id; }
  std::string_view name() const { return grant_.slot->name; }
  // Empty for a key that shares its limits with no other.
  std::string_view group() const { return grant_.slot->group_name; }
  // As it was picked for.
  std::string_view scope() const { return grant_.scope->name; }

  // For the rotator.
  explicit Lease(const internal::Grant& grant) : grant_(grant) {}

 private:
  template <class Policy, class Clock, class Mutex>
  friend class KeyRotator;

  mutable internal::Grant grant_;  // a report settles what the end would
};

// Prints the key's name, never a byte of the secret.
template <class Traits>
std::basic_ostream<char, Traits>& operator<<(
    std::basic_ostream<char, Traits>& out, const Lease& lease) {
  return out << lease.name();
}

// Which key a report is about: a lease, an id (of a KeyStatus or KeyEvent), or
// the key's value. What is reported by lease concerns the lease's scope and may
// be found stale; by the others it concerns the whole key and is fresh.
class KeyRef {
 public:
  KeyRef(const Lease& lease) : lease_(&lease) {}
  KeyRef(KeyId id) : id_(id) {}
  KeyRef(std::string_view value) : value_(value) {}
  KeyRef(const std::string& value) : value_(value) {}
  KeyRef(const char* value) : value_(value == nullptr ? "" : value) {}

 private:
  template <class Policy, class Clock, class Mutex>
  friend class KeyRotator;

  const Lease* lease_ = nullptr;
  std::optional<KeyId> id_;
  std::string_view value_;
};

namespace internal {

template <class Policy>
inline constexpr bool kIsCallable =
    std::is_invocable_v<Policy&, const AvailableKeys&, const PickHint&>;

// Also where the policy cannot be called, so that one mistake is told once.
template <class Policy>
constexpr bool ReturnsPosition() {
  if constexpr (kIsCallable<Policy>) {
    using Position =
        std::invoke_result_t<Policy&, const AvailableKeys&, const PickHint&>;
    return std::integral<Position> && !std::same_as<Position, bool>;
  }
  return true;
}

template <class T>
concept IsMutex = requires(T& mutex) {
  mutex.lock();
  mutex.unlock();
};

}  // namespace internal

template <class Policy = RoundRobin, class Clock = std::chrono::steady_clock,
          class Mutex = std::mutex>
class KeyRotator {
  static_assert(internal::kIsCallable<Policy>,
                "KeyRotator: the policy must be callable as std::size_t (const "
                "keyrotator::AvailableKeys&, const "
                "keyrotator::PickHint&); write for instance "
                "[](const keyrotator::AvailableKeys& keys, const "
                "keyrotator::PickHint&) { return keys.turn(); }");
  static_assert(internal::ReturnsPosition<Policy>(),
                "KeyRotator: the policy must return the position of the chosen "
                "key among the available ones, a "
                "std::size_t; return keys.size() for none of them");
  static_assert(std::is_copy_constructible_v<Policy>,
                "KeyRotator: the policy must be copy-constructible, since "
                "every scope starts with a copy; keep what "
                "cannot be copied behind a std::shared_ptr");
  static_assert(internal::IsClock<Clock>,
                "KeyRotator: the clock must have the types time_point and "
                "duration and a member time_point now(), as "
                "std::chrono::steady_clock has");

  static_assert(
      internal::IsMutex<Mutex>,
      "KeyRotator: the mutex must have lock() and unlock(), as std::mutex has");

 public:
  using TimePoint = typename Clock::time_point;

  // How the keys stand for one request.
  struct Outlook : KeyCounts {
    // When a key is usable: now, if one is; empty, if time alone brings none.
    std::optional<TimePoint> next;
  };

  // Empty keys are ignored, an equal one counts once; no keys at all are
  // allowed. Throws std::invalid_argument for a key with a byte that cannot
  // stand in a header, a weight that is not finite and above 0, a name that
  // another key has, and for options out of range. The message names the key by
  // its position (from 1) and name, never by its value.
  explicit KeyRotator(const ApiKeys& keys, RotatorOptions options = {},
                      Policy policy = Policy(), Clock clock = Clock())
      : core_{std::make_shared<Core>(std::move(options), std::move(policy),
                                     std::move(clock))} {
    core_->table.Join(keys, Table::Joining::kFirst, core_.shared, core_->Now());
  }

  // Leases may be out, but nobody may be inside a call.
  ~KeyRotator() = default;
  KeyRotator(const KeyRotator&) = delete;
  KeyRotator& operator=(const KeyRotator&) = delete;

  // All of these are thread-safe.

  // A lease on the policy's choice among the keys that are usable for `hint`,
  // or none. O(1) with RoundRobin, Random and FirstAvailable, however many keys
  // there are and cool, but for hint.exclude and a hint.cost that does not fit
  // (linear), and what came due since the last call (logarithmic each). It
  // allocates nothing in steady state and never waits.
  std::optional<Lease> Pick() {
    static constexpr PickHint kAny;
    return Pick(kAny);
  }
  std::optional<Lease> Pick(const PickHint& hint) {
    Core& core = *core_;
    std::optional<Lease> lease(std::in_place, internal::Grant{});
    internal::Nanos now = core.NowIfNeeded();
    std::unique_lock lock(core.mutex);
    if (now == internal::kLongAgo)
      now = core.NowIfNeeded();  // since a moment ago
    const bool found = core.table.Pick(hint, now, lease->grant_);
    if (core.table.stirred) core.Finish(lock);
    if (!found) lease.reset();
    return lease;
  }

  // Waits for the first key that is usable for `hint`: for one to return, for a
  // lease to end where a key is at its cap or on trial, for a key to be added.
  // First come, first served within a scope; a key that returns is given to one
  // of those who wait, and to others as its leases turn out well. None if the
  // time is over or a stop requested before; a key that is usable is given even
  // then. A deadline that has passed makes it a Pick that does not overtake.
  template <class Duration>
  std::optional<Lease> PickUntil(
      std::chrono::time_point<typename TimePoint::clock, Duration> deadline,
      const PickHint& hint = {}, std::stop_token stop = {}) {
    return PickUntilNanos(internal::ToNanos(deadline.time_since_epoch()), hint,
                          std::move(stop));
  }

  // The same, from now on for `time`, any std::chrono::duration.
  std::optional<Lease> PickFor(Span time, const PickHint& hint = {},
                               std::stop_token stop = {}) {
    return PickUntilNanos(internal::SaturatingAdd(core_->Now(), time.count()),
                          hint, std::move(stop));
  }

  // A place in the queue, without a thread. Destroying it leaves the queue.
  class Waiting;

  // Waits as PickUntil does, but without a thread, for an event loop:
  // `on_lease` is called once, with the lease, by whichever call makes a key
  // usable (a report, the end of a lease, a Snapshot, Poll), after the lock was
  // released; if a key is usable now, as a rule before this returns. Time
  // passes in calls alone: see Poll. None if it would have to wait and as many
  // callers do as may (RotatorOptions::max_waiters). What `hint` refers to is
  // copied. Calls are made one after the other, never one within another; once
  // its place in the queue is given up `on_lease` is not called, unless another
  // thread is about to. It must not throw.
  std::optional<Waiting> WhenUsable(const PickHint& hint,
                                    std::function<void(Lease)> on_lease) {
    Core& core = *core_;
    auto waiter = std::make_shared<LoopWaiter>(hint, std::move(on_lease));
    const internal::Nanos now = core.Now();
    std::unique_lock lock(core.mutex);
    waiter->granted = core.table.PickInTurn(hint, now, waiter->grant);
    if (waiter->granted) core.table.granted.push_back(waiter.get());
    const bool in = waiter->granted || core.table.Enqueue(*waiter, now);
    core.Finish(lock);
    if (!in) return std::nullopt;
    return Waiting(core_.shared, std::move(waiter));
  }

  // Does what is due, as every call does, and says when to call it again at the
  // latest for those who wait by WhenUsable; none while nothing is due. A
  // report may move that time forward: ask again after it. Logarithmic in what
  // is due.
  std::optional<TimePoint> Poll() {
    Core& core = *core_;
    const internal::Nanos now = core.Now();
    std::unique_lock lock(core.mutex);
    core.table.Advance(now);
    core.Finish(lock);
    lock.lock();
    const internal::Nanos next = core.table.next_due();
    if (next == internal::kNever) return std::nullopt;
    return core.TimeAt(next);
  }

  // The reports. Each returns whether the key is in this pool; if it is not (it
  // was removed, is unknown, or the lease is another rotator's), nothing
  // changes.

  // What came of a request: one of the following three marks, and what the
  // provider said is left, at once. The latter counts only if `key` is a lease.
  bool Settle(const KeyRef& key, const Report& report) {
    return Tell(key, [&](Core& core, Slot& slot, internal::Grant* grant,
                         internal::Nanos now) {
      core.table.Settle(slot, grant, report, now);
    });
  }

  // The key was refused (401): it is out, in every scope, until Restore, or
  // until RotatorOptions::retry_failed_after is over.
  bool MarkFailed(const KeyRef& key) {
    return Settle(key, {.kind = Report::Kind::kFailed});
  }

  // The key was limited (429): it cools for `retry_after`, as the provider said
  // (Retry-After), at most for RotatorOptions::max_cooldown, and its group with
  // it. Zero or less: it did not say, and RotatorOptions::cooldown is the
  // guess. A cooldown never becomes shorter.
  bool MarkRateLimited(const KeyRef& key,
                       Span retry_after = std::chrono::nanoseconds(0),
                       Reach reach = Reach::kScope) {
    return Settle(key, {.kind = Report::Kind::kRateLimited,
                        .retry_after = retry_after,
                        .reach = reach});
  }

  // The key served a request. Ends a trial and an escalation; where nothing is
  // wrong with a key it need not be called, but waiting callers are served
  // sooner if it is.
  bool MarkSucceeded(const KeyRef& key) {
    return Settle(key, {.kind = Report::Kind::kServed});
  }

  // What the provider said is left, in the answer to that lease's request. From
  // then on the key is left alone while nothing is, as far as can be told: the
  // provider's buckets are run along. A report from an older lease than the
  // last is ignored.
  bool ReportLimits(const Lease& lease, const RateLimits& limits) {
    return Settle(lease, {.limits = limits});
  }

  // Lifts a failure, not a cooldown.
  bool Restore(const KeyRef& key) {
    return Tell(
        key, [](Core& core, Slot& slot, internal::Grant*, internal::Nanos now) {
          core.table.Restore(slot, now);
        });
  }

  // Looking. Linear in the number of keys.

  Outlook Availability(const PickHint& hint = {}) const {
    return Read([&](Core& core, internal::Nanos now) {
      const internal::Outlook outlook = core.table.Look(hint, now);
      Outlook result{outlook.counts, std::nullopt};
      if (outlook.next != internal::kNever) {
        result.next = outlook.counts.available > 0 ? core.clock.now()
                                                   : core.TimeAt(outlook.next);
      }
      return result;
    });
  }
  // How many keys are usable.
  std::size_t Available(const PickHint& hint = {}) const {
    return Availability(hint).available;
  }
  // When one is: now, later, or, if time alone brings none, never.
  std::optional<TimePoint> NextAvailable(const PickHint& hint = {}) const {
    return Availability(hint).next;
  }
  // How many keys there are, usable or not.
  std::size_t Size() const {
    return Read([](Core& core, internal::Nanos) { return core.table.size(); });
  }
  // A row a key, in the order in which they were given.
  std::vector<KeyStatus> Snapshot() const {
    return Read([](Core& core, internal::Nanos now) {
      return core.table.Snapshot(now);
    });
  }

  // `text` with every secret of the pool replaced by its key's name, in the
  // JSON-escaped form, too, and with those of removed keys that are still lent.
  std::string Redact(std::string_view text) const {
    return Read(
        [&](Core& core, internal::Nanos) { return core.table.Redact(text); });
  }

  // Changing the keys. Linear in their number. Leases that are out stay valid.

  // Adds a key. Its id, or none if it is empty or already there. Throws as the
  // constructor does, and then changes nothing.
  std::optional<KeyId> Add(ApiKey key) {
    const std::vector<KeyId> ids = Join({std::move(key)}, Table::Joining::kAdd);
    return ids.empty() ? std::nullopt : std::optional<KeyId>(ids.front());
  }

  // Makes the pool consist of exactly these keys. Those whose value stays keep
  // their state, name and group, and take the new weight, cap and place.
  // Throws as the constructor does, and then changes nothing.
  void Replace(const ApiKeys& keys) { Join(keys, Table::Joining::kReplace); }

  // No pick that starts after it gets the key. Its reports change nothing more.
  bool Remove(const KeyRef& key) {
    return Tell(key, [](Core& core, Slot& slot, internal::Grant*,
                        internal::Nanos now) { core.table.Remove(slot, now); });
  }

  Clock& clock() const { return core_->clock; }

 private:
  using Table = internal::KeyTable<Policy>;
  using Slot = internal::Slot;

  // Waits in a thread.
  struct Waiter : internal::Request {
    using internal::Request::Request;
    std::condition_variable_any wake;
    bool nudged = false;
  };

  // Waits without one, with what its hint refers to.
  struct LoopWaiter : internal::Request,
                      std::enable_shared_from_this<LoopWaiter> {
    LoopWaiter(const PickHint& wanted, std::function<void(Lease)> call)
        : Request(wanted),
          scope_name(wanted.scope),
          affinity(wanted.affinity),
          exclude(wanted.exclude.begin(), wanted.exclude.end()),
          on_lease(std::move(call)) {
      this->hint.scope = scope_name;
      this->hint.affinity = affinity;
      this->hint.exclude = exclude;
      this->in_loop = true;
    }
    std::string scope_name;
    std::string affinity;
    std::vector<KeyId> exclude;
    std::function<void(Lease)> on_lease;
    bool left = false;  // under the rotator's mutex: not to be called any more
  };

  // One of them who is to be called.
  struct Call {
    std::shared_ptr<LoopWaiter> waiter;
    Lease lease;
  };

  // What leases share with the rotator, as they may outlive it.
  struct Core final : internal::LeaseHost {
    Core(RotatorOptions options, Policy policy, Clock the_clock)
        : table(std::move(options), std::move(policy)),
          clock(std::move(the_clock)) {}

    Mutex mutex;
    Table table;  // under mutex
    Waiter* timekeeper =
        nullptr;  // under mutex: who wakes when something is due
    internal::Nanos wakes_at = internal::kNever;  // under mutex: when that is
    std::deque<Call> calls;                       // under mutex
    bool delivering = false;  // under mutex: somebody makes the calls
    std::atomic<bool> needs_now{false};
    [[no_unique_address]] Clock clock;

    internal::Nanos Now() { return internal::NanosNow(clock); }
    internal::Nanos NowIfNeeded() {
      return needs_now.load(std::memory_order_relaxed) ? Now()
                                                       : internal::kLongAgo;
    }
    TimePoint TimeAt(internal::Nanos time) {
      return TimePoint(internal::FromNanos<typename Clock::duration>(time));
    }

    // Ends a call of the table: wakes those who were served, and tells of the
    // changes without the lock, which it leaves unlocked.
    void Finish(std::unique_lock<Mutex>& lock) {
      table.stirred = false;
      needs_now.store(table.needs_now(), std::memory_order_relaxed);
      if (timekeeper != nullptr && table.next_due() < wakes_at)
        Nudge(*timekeeper);
      for (internal::Request* request : table.granted) {
        if (request->in_loop) {
          calls.push_back(
              {static_cast<LoopWaiter*>(request)->shared_from_this(),
               Lease(request->grant)});
        } else {
          static_cast<Waiter*>(request)->wake.notify_one();
        }
      }
      table.granted.clear();
      // What may call the rotator again is called without the lock.
      const std::vector<KeyEvent> events = std::exchange(table.events, {});
      const bool deliver = !calls.empty();
      lock.unlock();
      for (const KeyEvent& event : events) table.options().on_event(event);
      if (deliver) Deliver(lock);
    }

    // Calls those of WhenUsable who were granted a lease, one after the other:
    // a call that ends a lease grants the next, which is not called from
    // within.
    void Deliver(std::unique_lock<Mutex>& lock) {
      lock.lock();
      if (!std::exchange(delivering, true)) {
        while (!calls.empty()) {
          std::optional<Call> call(std::move(calls.front()));
          calls.pop_front();
          const bool left = call->waiter->left;
          lock.unlock();
          if (!left) call->waiter->on_lease(std::move(call->lease));
          call.reset();  // its lease may end here, which takes the lock
          lock.lock();
        }
        delivering = false;
      }
      lock.unlock();
    }

    static void Nudge(Waiter& waiter) {
      waiter.nudged = true;
      waiter.wake.notify_one();
    }

    void EndLease(internal::Grant& grant) noexcept override {
      internal::Nanos now = NowIfNeeded();
      std::unique_lock lock(mutex);
      if (now == internal::kLongAgo) now = NowIfNeeded();
      table.EndLease(grant, now);
      Finish(lock);
    }
  };

  // Breaks the circle of core and slots.
  struct CoreOwner {
    std::shared_ptr<Core> shared;
    ~CoreOwner() {
      const std::lock_guard lock(shared->mutex);
      shared->table.Close();
    }
    Core* operator->() const { return shared.get(); }
    Core& operator*() const { return *shared; }
  };

  template <class Function>
  auto Read(Function function) const {
    Core& core = *core_;
    std::unique_lock lock(core.mutex);
    auto result = function(
        core, core.table.needs_now() ? core.Now() : internal::kLongAgo);
    core.Finish(lock);
    return result;
  }

  std::vector<KeyId> Join(const ApiKeys& keys,
                          typename Table::Joining joining) {
    return Read([&](Core& core, internal::Nanos now) {
      return core.table.Join(keys, joining, core_.shared, now);
    });
  }

  template <class Function>
  bool Tell(const KeyRef& key, Function function) {
    Core& core = *core_;
    const internal::Nanos now = core.Now();
    std::unique_lock lock(core.mutex);
    Slot* slot = nullptr;
    internal::Grant* grant = nullptr;
    if (key.lease_ != nullptr) {
      grant = &key.lease_->grant_;
      if (grant->slot != nullptr && grant->slot->host == core_.shared &&
          grant->slot->pooled())
        slot = grant->slot;
    } else {
      slot = key.id_ ? core.table.Find(*key.id_) : core.table.Find(key.value_);
    }
    if (slot == nullptr) return false;
    function(core, *slot, grant, now);
    core.Finish(lock);
    return true;
  }

  std::optional<Lease> PickUntilNanos(internal::Nanos deadline,
                                      const PickHint& hint,
                                      std::stop_token stop) {
    Core& core = *core_;
    Waiter waiter(hint);
    {
      const internal::Nanos now = core.Now();
      std::unique_lock lock(core.mutex);
      waiter.granted = core.table.PickInTurn(hint, now, waiter.grant);
      core.Finish(lock);
      if (waiter.granted) return Lease(waiter.grant);
      if (now >= deadline || stop.stop_requested()) return std::nullopt;
    }
    // Not under the lock, for the clock calls back under a lock of its own.
    const internal::ClockWatch<Clock> watch(core.clock, [&] {
      const std::lock_guard lock(core.mutex);
      Core::Nudge(waiter);
    });
    std::unique_lock lock(core.mutex);
    if (!core.table.Enqueue(waiter, core.Now())) {
      core.Finish(lock);
      return std::nullopt;
    }
    Wait(core, lock, waiter, deadline, stop);
    if (!waiter.granted) core.table.Cancel(waiter);
    if (core.timekeeper == &waiter) {
      core.timekeeper = nullptr;
      if (auto* next = static_cast<Waiter*>(core.table.AnyThread());
          next != nullptr)
        Core::Nudge(*next);
    }
    core.Finish(lock);
    if (!waiter.granted) return std::nullopt;
    return Lease(waiter.grant);
  }

  // Until the waiter was granted a key, the deadline, or a stop.
  void Wait(Core& core, std::unique_lock<Mutex>& lock, Waiter& waiter,
            internal::Nanos deadline, const std::stop_token& stop) {
    while (true) {
      const internal::Nanos now = core.Now();
      core.table.Advance(now);
      core.Finish(lock);
      lock.lock();
      if (waiter.granted || now >= deadline || stop.stop_requested()) return;
      // One of those who wait wakes when something is due; all do on a clock
      // that tells of its advances, since it may have to be moved for them.
      internal::Nanos until = deadline;
      if (core.timekeeper == nullptr) core.timekeeper = &waiter;
      if (core.timekeeper == &waiter || internal::TellsOfAdvances<Clock>) {
        until = std::min(deadline, core.table.next_due());
        if (core.timekeeper == &waiter) core.wakes_at = until;
      }
      internal::WaitUntil(core.clock, waiter.wake, lock, until, stop,
                          [&] { return waiter.granted || waiter.nudged; });
      waiter.nudged = false;
    }
  }

  CoreOwner core_;
};

template <class Policy, class Clock, class Mutex>
class KeyRotator<Policy, Clock, Mutex>::Waiting {
 public:
  Waiting(Waiting&&) noexcept = default;
  Waiting& operator=(Waiting&& other) noexcept {
    if (this == &other) return *this;
    const Waiting left(std::move(*this));
    core_ = std::move(other.core_);
    waiter_ = std::move(other.waiter_);
    return *this;
  }
  ~Waiting() {
    if (waiter_ == nullptr) return;
    std::unique_lock lock(core_->mutex);
    waiter_->left = true;
    if (!waiter_->granted) core_->table.Cancel(*waiter_);
    core_->Finish(lock);
  }

 private:
  friend class KeyRotator;
  Waiting(std::shared_ptr<Core> core, std::shared_ptr<LoopWaiter> waiter)
      : core_(std::move(core)), waiter_(std::move(waiter)) {}

  std::shared_ptr<Core> core_;
  std::shared_ptr<LoopWaiter> waiter_;
};

// KeyRotator rotator({"sk-a", "sk-b"});
KeyRotator(const ApiKeys&)->KeyRotator<>;
KeyRotator(const ApiKeys&, RotatorOptions)->KeyRotator<>;
template <class Policy>
KeyRotator(const ApiKeys&, RotatorOptions, Policy) -> KeyRotator<Policy>;
template <class Policy, class Clock>
KeyRotator(const ApiKeys&, RotatorOptions, Policy, Clock)
    -> KeyRotator<Policy, Clock>;

}  // namespace keyrotator

template <>
struct fmt::formatter<keyrotator::Lease> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const keyrotator::Lease& lease, Context& context) const {
    return fmt::formatter<std::string_view>::format(lease.name(), context);
  }
};

#endif  // KEYROTATOR_KEY_ROTATOR_H_
