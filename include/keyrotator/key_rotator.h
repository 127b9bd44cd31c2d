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
// What plugs in: the policy that chooses (selection.h) and the clock (clock.h).

#ifndef KEYROTATOR_KEY_ROTATOR_H_
#define KEYROTATOR_KEY_ROTATOR_H_

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
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
#include "keyrotator/lease.h"
#include "keyrotator/limits.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/shared_table.h"
#include "keyrotator/report.h"
#include "keyrotator/retry_budget.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/selection.h"

namespace keyrotator {

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

}  // namespace internal

template <class Policy = RoundRobin, class Clock = std::chrono::steady_clock>
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

 public:
  using TimePoint = typename Clock::time_point;

  // The state of the keys for one request.
  struct Outlook : KeyCounts {
    // When a key is usable: now, if one is; empty, if time alone brings none.
    std::optional<TimePoint> next;
  };

  // Empty keys are ignored, an equal one counts once; no keys at all are
  // allowed. Throws std::invalid_argument for a key with a byte that no
  // header may hold, a weight that is not finite and above 0, a name that
  // another key has, and for options out of range. The message names the key by
  // its position (from 1) and name, never by its value.
  explicit KeyRotator(const ApiKeys& keys, RotatorOptions options = {},
                      Policy policy = Policy(), Clock clock = Clock())
      : retries_(options.retry_budget),
        table_{std::make_shared<SharedTable>(
            std::move(options), std::move(policy), std::move(clock))} {
    Join(keys, Table::Joining::kFirst);
  }

  // Leases may be out, but nobody may be inside a call.
  ~KeyRotator() = default;
  KeyRotator(const KeyRotator&) = delete;
  KeyRotator& operator=(const KeyRotator&) = delete;

  // All of these are thread-safe.

  // A lease on the policy's choice among the keys that are usable for `hint`,
  // or empty. With Queue::kInLine also empty while others wait in its scope.
  // O(1) with RoundRobin, Random and FirstAvailable, however many keys there
  // are and cool, but for hint.exclude and a hint.cost that does not fit
  // (linear), and what came due since the last call (logarithmic each). It
  // allocates nothing in steady state and never waits.
  std::optional<Lease> Pick() {
    static constexpr PickHint kAny;
    return Pick(kAny);
  }
  std::optional<Lease> Pick(const PickHint& hint,
                            Queue queue = Queue::kOvertake) {
    std::optional<Lease> lease(std::in_place, internal::Grant{});
    if (!table_->Pick(hint, queue, lease->grant())) lease.reset();
    return lease;
  }

  // Waits for the first key that is usable for `hint`: for one to return, for a
  // lease to end where a key is at its cap or on trial, for a key to be added.
  // First come, first served within a scope; a key that returns is given to one
  // waiting caller, and to others as its leases turn out well (slow start).
  // Empty if the deadline passes or a stop is requested before; a key that is
  // usable now is given even then. With a deadline that has passed it is a Pick
  // that does not overtake.
  template <class Duration>
  std::optional<Lease> PickUntil(
      std::chrono::time_point<typename TimePoint::clock, Duration> deadline,
      const PickHint& hint = {}, const std::stop_token& stop = {}) {
    return PickUntilNanos(internal::ToNanos(deadline.time_since_epoch()), hint,
                          stop);
  }

  // The same, from now on for `time`, any std::chrono::duration.
  std::optional<Lease> PickFor(Span time, const PickHint& hint = {},
                               const std::stop_token& stop = {}) {
    return PickUntilNanos(internal::SaturatingAdd(table_->Now(), time.count()),
                          hint, stop);
  }

  // A place in the queue, without a thread. Destroying it leaves the queue.
  class Waiting;

  // Waits as PickUntil does, but without a thread, for an event loop:
  // `on_lease` is called once, with the lease, by whichever call makes a key
  // usable (a report, the end of a lease, a Snapshot, Poll), after the lock was
  // released; if a key is usable now, as a rule before this returns. Time
  // passes in calls alone: see Poll. Empty if it would have to wait and no more
  // callers may (RotatorOptions::max_waiters). What `hint` refers to is
  // copied. Calls are made one after the other, never one within another; once
  // its place in the queue is given up `on_lease` is not called, unless another
  // thread is about to. It must not throw.
  std::optional<Waiting> WhenUsable(const PickHint& hint,
                                    std::function<void(Lease)> on_lease) {
    std::shared_ptr<internal::LoopWaiter> waiter = table_->WhenUsable(
        hint, [on_lease = std::move(on_lease)](const internal::Grant& grant,
                                               bool is_wanted) {
          Lease lease(grant);
          if (is_wanted) on_lease(std::move(lease));
        });
    if (waiter == nullptr) return std::nullopt;
    return Waiting(table_.shared, std::move(waiter));
  }

  // Does what is due, as every call does, and says when to call it again at the
  // latest for WhenUsable to be on time; empty while nothing is due. A
  // report may move that time forward: ask again after it. Logarithmic in what
  // is due.
  std::optional<TimePoint> Poll() {
    const internal::Nanos next = table_->Poll();
    if (next == internal::kNever) return std::nullopt;
    return TimeAt(next);
  }

  // The reports. Each returns whether the key is in this pool; if it is not (it
  // was removed, is unknown, or the lease is another rotator's), nothing
  // changes.

  // What came of a request: one of the following three marks, and what the
  // provider said is left, at once. The latter counts only if `key` is a lease.
  bool Settle(const KeyRef& key, const Report& report) {
    return Tell(key, [&](Table& table, internal::Slot& slot,
                         internal::Grant* grant, internal::Nanos now) {
      table.Settle(slot, grant, report, now);
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

  // The key was refused for want of permission (403), and another key served the
  // same request, so it was the key: it rests in the scope of that name (no other
  // key does, whatever its group) for `cooldown`, twice as long each time that
  // follows, up to a day; then one request tries it. Restore lifts it. > 0.
  bool MarkNoAccess(const KeyRef& key, std::string_view scope,
                    Span cooldown = std::chrono::minutes(10)) {
    return Tell(key, [&](Table& table, internal::Slot& slot, internal::Grant*,
                         internal::Nanos now) {
      table.DenyAccess(slot, scope,
                       std::max<internal::Nanos>(cooldown.count(), 1), now);
    });
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

  // Lifts a failure and what MarkNoAccess did, not a cooldown.
  bool Restore(const KeyRef& key) {
    return Tell(key, [](Table& table, internal::Slot& slot, internal::Grant*,
                        internal::Nanos now) { table.Restore(slot, now); });
  }

  // The budget of retries (RotatorOptions::retry_budget) that all who use this
  // rotator share. Failover asks it by itself; who sends without one says what
  // goes out, and asks when that failed. O(1), without the lock of the rest.

  // Something is sent.
  void CountSend() {
    if (retries_.is_bounded()) retries_.Sent(table_->Now());
  }
  // A send failed, and not because of its key: an overload, a passing failure, a
  // lost connection. Whether it may be sent again; false if that is not wanted.
  bool MayRetry(bool wanted = true) {
    return retries_.is_bounded() ? retries_.Failed(table_->Now(), wanted)
                                 : wanted;
  }
  // How many retries were wanted and refused so far.
  std::uint64_t RefusedRetries() const { return retries_.refused(); }

  // Looking. Linear in the number of keys.

  Outlook Availability(const PickHint& hint = {}) const {
    const internal::Outlook outlook =
        table_->Call([&](Table& table, internal::Nanos now) {
          return table.Look(hint, now);
        });
    Outlook result{outlook.counts, std::nullopt};
    if (outlook.counts.available > 0) {
      result.next = table_->clock().now();
    } else if (outlook.next != internal::kNever) {
      result.next = TimeAt(outlook.next);
    }
    return result;
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
    return table_->Call(
        [](Table& table, internal::Nanos) { return table.size(); });
  }
  // A row a key, in the order in which they were given. Like every call it does
  // what is due, so RotatorOptions::on_event may be called.
  std::vector<KeyStatus> Snapshot() const {
    return table_->Call(
        [](Table& table, internal::Nanos now) { return table.Snapshot(now); });
  }

  // `text` with every secret of the pool, and of removed keys that are still
  // lent, replaced by its key's name: as it is, escaped in JSON or a URL, and, if
  // it has 12 bytes or more, in base64, alone or amid a text as "user:KEY" (up to
  // a character at each end, which its neighbours decide, too). What was encoded
  // twice is not found, but for base64 that is escaped. Linear in the text; it
  // holds no lock meanwhile.
  std::string Redact(std::string_view text) const {
    return table_->Redact(text);
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
    return Tell(key, [](Table& table, internal::Slot& slot, internal::Grant*,
                        internal::Nanos now) { table.Remove(slot, now); });
  }

  Clock& clock() const { return table_->clock(); }

  // For Fleet (fleet/fleet.h), which may outlive the rotator.
  std::shared_ptr<internal::FleetMember> fleet_member() const {
    return table_.shared;
  }

 private:
  using SharedTable = internal::SharedTable<Policy, Clock>;
  using Table = typename SharedTable::Table;

  // Keys and table hold each other: this breaks the circle.
  struct TableOwner {
    std::shared_ptr<SharedTable> shared;
    ~TableOwner() { shared->Close(); }
    SharedTable* operator->() const { return shared.get(); }
  };

  static TimePoint TimeAt(internal::Nanos time) {
    return TimePoint(internal::FromNanos<typename Clock::duration>(time));
  }

  std::optional<Lease> PickUntilNanos(internal::Nanos deadline,
                                      const PickHint& hint,
                                      const std::stop_token& stop) {
    std::optional<Lease> lease(std::in_place, internal::Grant{});
    if (!table_->PickUntil(deadline, hint, stop, lease->grant())) lease.reset();
    return lease;
  }

  std::vector<KeyId> Join(const ApiKeys& keys,
                          typename Table::Joining joining) {
    return table_->Call([&](Table& table, internal::Nanos now) {
      return table.Join(keys, joining, table_.shared, now);
    });
  }

  // Calls `function(table, slot, grant, now)` for the key that `key` is about,
  // with a null grant if it is not about a lease. False if the key is not here.
  template <class Function>
  bool Tell(const KeyRef& key, Function function) {
    if (key.lease() != nullptr) {
      internal::Grant& grant = key.lease()->grant();
      return table_->CallForLent(
          grant, [&](Table& table, internal::Slot& slot, internal::Nanos now) {
            function(table, slot, &grant, now);
          });
    }
    const auto call = [&](Table& table, internal::Slot& slot,
                          internal::Nanos now) {
      function(table, slot, nullptr, now);
    };
    return key.id() ? table_->CallForNamed(*key.id(), call)
                    : table_->CallForNamed(key.value(), call);
  }

  internal::RetryLedger retries_;
  TableOwner table_;
};

template <class Policy, class Clock>
class KeyRotator<Policy, Clock>::Waiting {
 public:
  Waiting(Waiting&&) noexcept = default;
  Waiting& operator=(Waiting&& other) noexcept {
    if (this == &other) return *this;
    const Waiting left(std::move(*this));
    table_ = std::move(other.table_);
    waiter_ = std::move(other.waiter_);
    return *this;
  }
  ~Waiting() {
    if (waiter_ != nullptr) table_->Leave(*waiter_);
  }

 private:
  friend class KeyRotator;
  Waiting(std::shared_ptr<SharedTable> table,
          std::shared_ptr<internal::LoopWaiter> waiter)
      : table_(std::move(table)), waiter_(std::move(waiter)) {}

  std::shared_ptr<SharedTable> table_;
  std::shared_ptr<internal::LoopWaiter> waiter_;
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

#endif  // KEYROTATOR_KEY_ROTATOR_H_
