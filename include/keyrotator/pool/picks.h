// File: pool/picks.h
//
// What a pick changes: a lease goes out, trials are taken, buckets and paces go
// down; a caller that was served leaves the queue. Which key it is has been
// chosen before (key_table.h).

#ifndef KEYROTATOR_POOL_PICKS_H_
#define KEYROTATOR_POOL_PICKS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/access.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/outlook.h"
#include "keyrotator/pool/pool.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"
#include "keyrotator/pool/waiters.h"

namespace keyrotator::internal {

// What a pick changes beyond the counts. Out of line, so that the usual pick,
// which has nothing of it, is inlined into its caller.
[[gnu::noinline]] inline void Account(Pool& pool, Scope& scope, Slot& slot,
                                      const PickHint& hint, bool held_back,
                                      Grant& grant) {
  pool.has_output = true;
  Group& group = *slot.group;
  if (slot.max_in_flight > 0)
    slot.fleet.peak = std::max(slot.fleet.peak, slot.in_flight());
  const bool is_key_trial = slot.gate.TryTake();
  if (is_key_trial) grant.trials |= Grant::kKeyTrial;
  if (group.gate.TryTake()) {
    grant.trials |= Grant::kGroupTrial;
    pool.Changed(group);
  } else if (is_key_trial || slot.IsAtCap()) {
    pool.Changed(slot);
  }
  if (Access* const access = scope.FindAccess(slot);
      access != nullptr && access->gate.TryTake()) {
    grant.trials |= Grant::kAccessTrial;
    pool.Changed(*access);
  }
  Standing* const standing = held_back && hint.initial_window > 0
                                 ? &scope.Get(group)
                                 : scope.Find(group);
  if (standing != nullptr) {
    standing->Take(hint.cost, grant, held_back, hint.initial_window, pool.now);
    pool.Changed(*standing);
  }
}

// A lease on the key goes out; `held_back`: slow start counts it.
inline void Lend(Pool& pool, Scope& scope, Slot& slot, const PickHint& hint,
                 bool held_back, Grant& grant) {
  grant.slot = &slot;
  grant.scope = &scope;
  grant.ticket = ++pool.tickets;
  ++slot.picks;
  slot.holds.fetch_add(Slot::kLease, std::memory_order_relaxed);
  if (!scope.is_unnamed()) {
    scope.in_flight.fetch_add(1, std::memory_order_relaxed);
    grant.is_counted = true;
  }
  if (held_back || !slot.pick_is_simple || !scope.standings.empty() ||
      !scope.accesses.empty())
    Account(pool, scope, slot, hint, held_back, grant);
}

// Picks in the scope ceased, or began again, to find a key.
inline void NoteDrought(Pool& pool, Scope& scope, const PickHint& hint,
                        bool is_dry) {
  pool.has_output = true;
  // A request that excludes all that are left is no news, nor a slow start.
  if (is_dry && (!hint.exclude.empty() || scope.full > 0) &&
      !pool.ready.In(scope).empty())
    return;
  scope.is_dry = is_dry;
  if (!is_dry || !pool.events.is_wanted()) return;
  const Outlook outlook = LookAt(pool.roster.keys(), &scope, hint, pool.now);
  pool.events.Add(KeyEvent::Kind::kNoKeyLeft, nullptr, scope.name, outlook.next,
                  pool.now);
}

// When a usable key has enough for a request that none has enough for now;
// kNever if that is not what it waits for.
inline Nanos WhenAffordable(Pool& pool, Scope& scope, const PickHint& hint) {
  Nanos when = kNever;
  const bool yields = scope.Yields(hint.priority);
  if ((hint.cost <= 1 && !yields) || !scope.is_metered) return when;
  for (const std::uint32_t index : pool.ready.In(scope)) {
    const Slot& slot = *pool.roster.keys()[index];
    const Standing* const standing = scope.Find(*slot.group);
    if (standing == nullptr || Excludes(hint, slot) ||
        standing->Fits(hint.cost, pool.now, yields))
      continue;
    when = std::min(when, standing->WhenFits(hint.cost, pool.now, yields));
  }
  return when;
}

// The caller waits no longer.
inline void Dequeue(Pool& pool, Waiter& waiter) {
  if (!pool.waiters.Leave(waiter)) return;
  Scope& scope = *waiter.scope;
  pool.timers.Cancel(scope.cost_timer);
  for (const std::uint32_t number : std::exchange(scope.restarted, {})) {
    Standing* const standing = scope.standings[number].get();
    if (standing != nullptr && standing->EndRestart()) pool.Changed(*standing);
  }
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_PICKS_H_
