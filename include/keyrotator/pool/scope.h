// File: pool/scope.h
//
// Scope: what a pool keeps of one thing that providers limit apart, as a rule a
// model: whose turn it is, the standing of each group, and the callers that
// wait for a key.

#ifndef KEYROTATOR_POOL_SCOPE_H_
#define KEYROTATOR_POOL_SCOPE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/access.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/peers.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"
#include "keyrotator/pool/timers.h"

namespace keyrotator::internal {

struct Waiter;

// What a fleet has to know of a scope, or said of it.
struct FleetScope {
  std::string id;           // its name there; empty: not named yet
  FleetAmounts arrived{};   // requests and their tokens, since the last message
  FleetAmounts arrivals{};  // the same, smoothed, a message
  FleetAmounts want{};      // as it was told last
  // As FleetScopeAsk has them.
  double carry = 0;
  std::int64_t slot = -1;
  double part = 1;
  std::size_t turn = 0;  // the group that is told of first
};

struct Scope {
  // `table_now` is the table's time, which outlives the scope.
  Scope(std::string scope_name, const Nanos& table_now)
      : name(std::move(scope_name)), now(table_now) {
    cost_timer.owner = this;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  const std::string name;
  const Nanos& now;
  // The scope of requests that name none: a limit there is one of the whole
  // key.
  bool is_unnamed() const { return name.empty(); }

  std::uint64_t last_used = 0;              // counts the uses of all scopes
  std::atomic<std::uint64_t> in_flight{0};  // leases of a scope with a name

  // The turn: the index behind that of the key picked last, and its position
  // in the list if nothing changed.
  std::uint32_t turn = 0;
  std::size_t turn_position = 0;
  std::vector<double> notes;  // what the policy keeps, by index
  bool is_dry = false;        // the last pick found no key

  // The usable keys, where they are not those that all scopes share; see
  // ReadyLists.
  bool is_listed_apart = false;
  std::vector<std::uint32_t> usable;
  std::uint64_t epoch = 0;
  std::uint64_t replayed = 0;

  // By group number; null where there is nothing to remember.
  std::vector<std::unique_ptr<Standing>> standings;
  bool is_metered = false;  // a bucket or a pace is known
  Peers peers;
  // The keys that have no access here; as a rule there are none.
  std::vector<std::unique_ptr<Access>> accesses;
  std::size_t held_back = 0;  // how many of these and of those are not usable
  std::size_t full = 0;  // how many of those slow start has no room for more in

  // The callers that wait, in the order in which they came, but those that are
  // interactive before the others.
  std::list<Waiter*> queue;
  std::list<Waiter*>::iterator batch = queue.end();  // the first that is not
  Nanos interactive_at = kLongAgo;                   // the last request that is
  // Whether a batch leaves something to requests that are interactive: it does
  // for a while after the last one.
  bool Yields(Priority priority) const {
    constexpr Nanos kWhile = 60'000'000'000;
    return priority == Priority::kBatch &&
           SaturatingSubtract(now, interactive_at) < kWhile;
  }
  // Whether callers wait that go before one who comes now.
  bool HasQueueFor(Priority priority) const {
    return priority == Priority::kBatch
               ? !queue.empty()
               : !queue.empty() && queue.begin() != batch;
  }
  // Numbers of the groups that started with one lease since callers wait.
  std::vector<std::uint32_t> restarted;
  FleetScope fleet;
  Timer cost_timer;  // when the first may be served whose cost is in the way

  Standing* Find(const Group& group) const {
    return group.number < standings.size() ? standings[group.number].get()
                                           : nullptr;
  }
  Standing& Get(Group& group) {
    if (group.number >= standings.size()) standings.resize(group.number + 1);
    std::unique_ptr<Standing>& standing = standings[group.number];
    if (standing == nullptr)
      standing = std::make_unique<Standing>(*this, group);
    return *standing;
  }

  // Null if the key never was without access here. Linear in their number.
  Access* FindAccess(const Slot& slot) const {
    for (const std::unique_ptr<Access>& access : accesses) {
      if (&access->slot == &slot) return access.get();
    }
    return nullptr;
  }
  Access& GetAccess(Slot& slot) {
    if (Access* const access = FindAccess(slot); access != nullptr)
      return *access;
    return *accesses.emplace_back(std::make_unique<Access>(*this, slot));
  }

  // Whether the key may be used here, as the lists have it.
  bool Lists(const Slot& slot) const {
    const Standing* const standing = Find(*slot.group);
    const Access* const access = FindAccess(slot);
    return slot.usable && (standing == nullptr || standing->listed) &&
           (access == nullptr || access->listed);
  }
  // Whether slow start holds callers that wait back from it.
  bool IsFull(const Slot& slot) const {
    if (full == 0) return false;
    const Standing* const standing = Find(*slot.group);
    return standing != nullptr && standing->full;
  }
  // Whether enough is left for a request that costs more than the least, or that
  // yields; for one that does neither a usable key has enough.
  bool Fits(const Slot& slot, const PickHint& hint) const {
    const bool yields = Yields(hint.priority);
    if ((hint.cost <= 1 && !yields) || !is_metered) return true;
    const Standing* const standing = Find(*slot.group);
    return standing == nullptr || standing->Fits(hint.cost, now, yields);
  }

  double& Note(std::uint32_t index) {
    if (index >= notes.size()) [[unlikely]]
      notes.resize(index + 1);
    return notes[index];
  }

  // The keys have new indices: `moved_to` holds them by the old ones, kGone for
  // those that left. The turn goes to the next key that stays.
  static constexpr std::uint32_t kGone = static_cast<std::uint32_t>(-1);
  void Renumber(const std::vector<std::uint32_t>& moved_to, std::size_t count) {
    std::vector<double> moved(notes.empty() ? 0 : count);
    for (std::size_t i = 0; i < notes.size(); ++i) {
      if (moved_to[i] != kGone) moved[moved_to[i]] = notes[i];
    }
    notes = std::move(moved);
    std::size_t next = turn;
    while (next < moved_to.size() && moved_to[next] == kGone) ++next;
    turn = next < moved_to.size() ? moved_to[next]
                                  : static_cast<std::uint32_t>(count);
  }
};

// The lease has ended, as far as its scope counts. The first thing that its end
// does: the scope lives no longer than the slots of its table.
inline void Uncount(Grant& grant) {
  if (grant.is_counted)
    grant.scope->in_flight.fetch_sub(1, std::memory_order_acq_rel);
  grant.is_counted = false;
}

// Ends a lease if its end concerns its key's count alone, without a lock. False
// if it must end under the lock, by LeaseHost::EndLease.
inline bool EndUnwatchedLease(Grant& grant) {
  if (grant.trials != 0) return false;
  Uncount(grant);
  Slot* const slot = grant.slot;
  std::uint64_t holds = slot->holds.load(std::memory_order_relaxed);
  do {
    if ((holds & Slot::kWatched) != 0) return false;
  } while (!slot->holds.compare_exchange_weak(holds, holds - Slot::kLease,
                                              std::memory_order_acq_rel,
                                              std::memory_order_relaxed));
  if (holds == Slot::kLease) delete slot;
  return true;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SCOPE_H_
