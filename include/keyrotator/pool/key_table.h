// File: pool/key_table.h
//
// KeyTable: a pool of keys as the rotator calls it. No mutex, no clock, no I/O:
// `now` is a parameter, and the rotator holds its lock around each call.
//
// - A key is usable in a scope while three gates let it through (its own, its
//   group's, and its group's in that scope), it is below its cap, and what was
//   reported of the group's limits there leaves something.
// - Each call that changes something runs in a frame, During: what is due comes
//   before it, and callers that it lets have a key are served after it.
// - A key that becomes usable where callers wait goes to the first that can use
//   it, and to others only as its leases end well, so that a queue does not fall
//   upon a key that has just returned.
//
// It is a template only for the policy, which Scopes calls.

#ifndef KEYROTATOR_POOL_KEY_TABLE_H_
#define KEYROTATOR_POOL_KEY_TABLE_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/fleet_desk.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/outlook.h"
#include "keyrotator/pool/picks.h"
#include "keyrotator/pool/pool.h"
#include "keyrotator/pool/redactor.h"
#include "keyrotator/pool/reports.h"
#include "keyrotator/pool/roster.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/scopes.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"
#include "keyrotator/pool/waiters.h"
#include "keyrotator/report.h"
#include "keyrotator/rotator_options.h"

namespace keyrotator::internal {

template <class Policy>
class KeyTable {
 public:
  enum class Joining { kFirst, kAdd, kReplace };

  // Throws std::invalid_argument if an option is out of range.
  KeyTable(RotatorOptions options, Policy policy)
      : pool_(std::move(options)),
        scopes_(std::move(policy), pool_.options.max_scopes, pool_.now) {}

  // Gives up the keys. Leases that are out keep theirs.
  void Close() {
    closed_ = true;
    // The end of a lease, and a place in the queue that is given up, still look
    // at what is due.
    pool_.timers.Clear();
    pool_.roster.Close();
  }

  const RotatorOptions& options() const { return pool_.options; }
  std::size_t size() const { return pool_.roster.keys().size(); }
  Slot* Find(KeyId id) const { return pool_.roster.Find(id); }
  Slot* Find(std::string_view secret) const {
    return pool_.roster.Find(secret);
  }

  // Whether something depends on the time: else `now` is not looked at.
  bool needs_now() const { return !pool_.timers.empty() || pool_.is_metered; }
  // When something is due.
  Nanos next_due() const { return pool_.timers.next(); }

  // Whether there may be events or callers to serve, or needs_now or next_due
  // have changed, since the caller reset it. Most picks change none of it.
  bool& has_output() { return pool_.has_output; }
  std::vector<KeyEvent> TakeEvents() { return pool_.events.Take(); }
  // Callers that were granted a lease; for the caller to take out.
  std::vector<Waiter*> granted;

  // Does what is due. A time before the last one counts as that: threads read
  // the clock before they have the lock.
  void Advance(Nanos now) {
    During(now, [] {});
  }

  // --- Picking ---

  // Grants a lease on the policy's choice. False if there is no key for it.
  bool Pick(const PickHint& hint, Queue queue, Nanos now, Grant& grant) {
    pool_.now = std::max(pool_.now, now);
    if (pool_.timers.AreDue(pool_.now)) Advance(now);
    Scope& scope = scopes_.Of(hint.scope);
    if (hint.priority == Priority::kInteractive)
      scope.interactive_at = pool_.now;
    if (queue == Queue::kInLine && scope.HasQueueFor(hint.priority))
      return false;
    const bool held_back =
        (queue == Queue::kInLine && hint.initial_window > 0) ||
        !scope.queue.empty();
    const bool found = TryPick(scope, hint, held_back, grant);
    if (pool_.is_in_fleet) fleet_.Count(pool_, scope, hint, found);
    if (found == scope.is_dry) NoteDrought(pool_, scope, hint, !found);
    return found;
  }

  void EndLease(Grant& grant, Nanos now) {
    Uncount(grant);
    if (closed_) {
      pool_.roster.Release(*grant.slot);
      return;
    }
    During(now, [&] {
      EndTrials(pool_, grant, true);
      if (pool_.roster.Release(*grant.slot)) pool_.Changed(*grant.slot);
    });
  }

  // --- Waiting ---

  // Queues `waiter`, which is granted at once if that can be. False, and it is
  // not queued, if as many callers wait as may.
  bool Enter(Waiter& waiter, Nanos now) {
    const std::size_t most = options().max_waiters;
    bool entered = false;
    During(now, [&] {
      if (most > 0 && pool_.waiters.size() >= most) return;
      pool_.waiters.Enter(waiter, scopes_.Of(waiter.hint.scope));
      pool_.waiters.Wake(*waiter.scope);
      entered = true;
    });
    return entered;
  }

  void Leave(Waiter& waiter) {
    if (closed_) return;
    Dequeue(pool_, waiter);
    pool_.waiters.Wake(*waiter.scope);  // it may have held up others
    Serve();
  }

  Waiter* AnyThread() const { return pool_.waiters.AnyThread(); }

  // --- Reports ---

  // What came of the lease that holds `grant`; without one the report is about
  // the whole key, and fresh.
  void Settle(Slot& slot, Grant* grant, const Report& report, Nanos now) {
    During(now, [&] { internal::Settle(pool_, slot, grant, report); });
  }

  void Restore(Slot& slot, Nanos now) {
    During(now, [&] {
      LiftMarks(slot);
      pool_.TellFleet(slot, FleetNews::Kind::kRestored);
    });
  }

  // The key has no access to the scope of that name.
  void DenyAccess(Slot& slot, std::string_view scope, Nanos cooldown,
                  Nanos now) {
    During(now,
           [&] { AccessDenied(pool_, scopes_.Of(scope), slot, cooldown); });
  }

  // --- The fleet ---

  // False: it is in one already.
  bool JoinFleet(FleetTerms terms) {
    if (pool_.is_in_fleet) return false;
    fleet_.Join(pool_, std::move(terms));
    return true;
  }
  void LeaveFleet() {
    if (closed_) return;
    During(pool_.now, [&] { fleet_.Leave(pool_, scopes_.All()); });
  }
  // What is to be told now, and then either what came back or that nothing did.
  FleetAsk AskFleet(Nanos period, std::size_t groups, Nanos now) {
    FleetAsk ask;
    if (closed_) return ask;
    During(now,
           [&] { ask = fleet_.Ask(pool_, period, groups, scopes_.All()); });
    return ask;
  }
  void HearFleet(const FleetAsk& ask, const FleetReply& reply, Nanos now) {
    if (closed_) return;
    During(now, [&] {
      fleet_.Hear(pool_, Finder(), scopes_.All(), ask, reply,
                  [this](Slot& slot) { LiftMarks(slot); });
    });
  }
  void MissFleet(const FleetAsk& ask, Nanos now) {
    if (closed_) return;
    During(now, [&] { fleet_.Miss(pool_, Finder(), scopes_.All(), ask); });
  }
  // Whether there is something to tell at once; and whether a caller found no
  // key since the last message.
  bool is_fleet_urgent() const { return pool_.is_news_urgent; }
  bool is_fleet_thirsty() const { return fleet_.is_thirsty(); }

  // --- The keys ---

  // Adds those of `keys` that are new, or makes the pool consist of exactly
  // them; those that stay keep their state, name and group. Returns the ids of
  // the new ones. Throws std::invalid_argument, and changes nothing, if one of
  // them cannot be a key or has the name of another.
  std::vector<KeyId> Join(const ApiKeys& keys, Joining joining,
                          const std::shared_ptr<LeaseHost>& host, Nanos now) {
    const bool replace = joining == Joining::kReplace;
    const std::vector<const ApiKey*> wanted = pool_.roster.Check(keys, replace);
    std::vector<KeyId> ids;
    During(now, [&] {
      const Roster::Change change = pool_.roster.Join(wanted, replace, host);
      Rearrange(change);
      pool_.roster.NameNew(change.joined);
      for (Slot* slot : pool_.roster.keys()) pool_.Changed(*slot);
      for (const Slot* slot : change.joined) {
        ids.push_back(slot->id);
        if (joining != Joining::kFirst)
          pool_.events.Add(KeyEvent::Kind::kAdded, slot);
      }
    });
    return ids;
  }

  void Remove(Slot& slot, Nanos now) {
    During(now, [&] { Rearrange(pool_.roster.Remove(slot)); });
  }

  std::shared_ptr<const Redactor> redactor() { return pool_.roster.redactor(); }

  // --- Looking ---

  Outlook Look(const PickHint& hint, Nanos now) {
    Advance(now);
    return LookAt(pool_.roster.keys(), scopes_.Find(hint.scope), hint,
                  pool_.now);
  }

  std::vector<KeyStatus> Snapshot(Nanos now) {
    Advance(now);
    const std::vector<const Scope*> scopes = scopes_.Sorted();
    std::vector<KeyStatus> rows;
    rows.reserve(size());
    for (const Slot* slot : pool_.roster.keys())
      rows.push_back(Describe(*slot, scopes, pool_.now));
    return rows;
  }

 private:
  // The frame of every change.
  template <class Change>
  void During(Nanos now, Change change) {
    pool_.has_output = true;
    pool_.now = std::max(pool_.now, now);
    pool_.Expire();
    Serve();
    change();
    Serve();
  }

  // Whatever failed of the key, it is usable again.
  void LiftMarks(Slot& slot) {
    const bool was_shut = slot.gate.Open();
    pool_.Changed(slot);
    if (was_shut) pool_.events.Add(KeyEvent::Kind::kReturned, &slot);
    scopes_.ForEach([&](Scope& scope) {
      Access* const access = scope.FindAccess(slot);
      if (access == nullptr || !access->gate.Open()) return;
      pool_.Changed(*access);
      pool_.events.Add(KeyEvent::Kind::kReturned, &slot, scope.name);
    });
  }

  // `held_back`: by slow start.
  bool TryPick(Scope& scope, const PickHint& hint, bool held_back,
               Grant& grant) {
    Slot* const slot = Select(scope, hint, held_back);
    if (slot == nullptr) return false;
    Lend(pool_, scope, *slot, hint, held_back, grant);
    return true;
  }

  // The key that the request gets, or null.
  Slot* Select(Scope& scope, const PickHint& hint, bool held_back) {
    std::span<const std::uint32_t> usable = pool_.ready.In(scope);
    if (usable.empty()) return nullptr;
    if (held_back && scope.full > 0) {
      usable = pool_.ready.Filter(
          usable, [&](const Slot& slot) { return !scope.IsFull(slot); });
    }
    if (!hint.exclude.empty()) {
      usable = pool_.ready.Filter(
          usable, [&](const Slot& slot) { return !Excludes(hint, slot); });
    }
    if (hint.prefer) {
      Slot* const slot = Find(*hint.prefer);
      if (slot != nullptr && scope.Lists(*slot) && !Excludes(hint, *slot) &&
          scope.Fits(*slot, hint) && !(held_back && scope.IsFull(*slot)))
        return slot;
    }
    const std::vector<Slot*>& keys = pool_.roster.keys();
    std::size_t choice = scopes_.Choose(scope, keys, usable, hint);
    if (choice < usable.size() && !scope.Fits(*keys[usable[choice]], hint)) {
      usable = pool_.ready.Filter(
          usable, [&](const Slot& slot) { return scope.Fits(slot, hint); });
      choice = scopes_.Choose(scope, keys, usable, hint);
    }
    if (choice >= usable.size()) return nullptr;
    scope.turn = usable[choice] + 1;
    scope.turn_position = choice + 1;
    return keys[usable[choice]];
  }

  void Serve() {
    while (Scope* const scope = pool_.waiters.Next()) {
      for (auto it = scope->queue.begin(); it != scope->queue.end();) {
        Waiter& waiter = **it++;
        if (pool_.ready.In(*scope).empty()) break;
        if (TryPick(*scope, waiter.hint, true, waiter.grant)) {
          waiter.is_granted = true;
          granted.push_back(&waiter);
          scope->is_dry = false;
          Dequeue(pool_, waiter);
        } else if (IsFull(*scope)) {
          break;
        } else if (const Nanos when =
                       WhenAffordable(pool_, *scope, waiter.hint);
                   when != kNever) {
          // First come, first served: no cheaper request overtakes it for ever.
          pool_.timers.Set(scope->cost_timer, when);
          break;
        }
      }
    }
  }

  // Whether slow start holds back from every key.
  bool IsFull(Scope& scope) {
    const auto usable = pool_.ready.In(scope);
    return scope.full > 0 &&
           std::all_of(usable.begin(), usable.end(), [&](std::uint32_t index) {
             return scope.IsFull(*pool_.roster.keys()[index]);
           });
  }

  auto Finder() {
    return [this](std::string_view name) { return scopes_.Find(name); };
  }

  // The keys have changed: what is kept by their indices moves along.
  void Rearrange(const Roster::Change& change) {
    if (!change.moved_to.empty()) {
      scopes_.ForEach(
          [&](Scope& scope) { scope.Renumber(change.moved_to, size()); });
      pool_.ready.Renumber();
    }
    pool_.ready.Reserve(size());
    for (Slot* slot : change.left) Retire(*slot);
  }

  // Takes a key that left the roster out of everything else.
  void Retire(Slot& slot) {
    pool_.events.Add(KeyEvent::Kind::kRemoved, &slot);
    pool_.timers.Cancel(slot.timer);
    scopes_.ForEach([&](Scope& scope) { ForgetAccess(scope, slot); });
    if (Roster::LeaveGroup(slot)) {
      Group& group = *slot.group;
      pool_.timers.Cancel(group.timer);
      scopes_.ForEach([&](Scope& scope) { Forget(scope, group); });
      pool_.roster.Dissolve(group);
    }
    pool_.roster.Retire(slot);
  }

  void ForgetAccess(Scope& scope, const Slot& slot) {
    Access* const access = scope.FindAccess(slot);
    if (access == nullptr) return;
    pool_.timers.Cancel(access->timer);
    if (!access->listed) --scope.held_back;
    std::erase_if(scope.accesses,
                  [&](const auto& other) { return other.get() == access; });
  }

  void Forget(Scope& scope, const Group& group) {
    Standing* const standing = scope.Find(group);
    if (standing == nullptr) return;
    pool_.timers.Cancel(standing->timer);
    if (!standing->listed) --scope.held_back;
    if (standing->full) --scope.full;
    std::erase(scope.restarted, group.number);
    scope.standings[group.number].reset();
  }

  Pool pool_;
  Scopes<Policy> scopes_;
  FleetDesk fleet_;
  bool closed_ = false;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_KEY_TABLE_H_
