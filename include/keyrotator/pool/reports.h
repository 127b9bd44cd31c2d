// File: pool/reports.h
//
// What a report changes: a request was served, refused, limited, and what the
// provider says is left. Each is said to the gates, buckets and paces that it
// concerns, and the pool is told that they changed.

#ifndef KEYROTATOR_POOL_REPORTS_H_
#define KEYROTATOR_POOL_REPORTS_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "keyrotator/cooldown.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/access.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/pool.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"
#include "keyrotator/report.h"

namespace keyrotator::internal {

// Settles what the lease was let out to try.
inline void EndTrials(Pool& pool, Grant& grant, bool good) {
  const std::uint8_t trials = std::exchange(grant.trials, std::uint8_t{0});
  Group& group = *grant.slot->group;
  if (trials == 0 || group.members.empty()) return;
  if ((trials & Grant::kKeyTrial) != 0)
    grant.slot->gate.EndTrial(grant.ticket, good);
  if ((trials & Grant::kGroupTrial) != 0)
    group.gate.EndTrial(grant.ticket, good);
  pool.Changed(group);
  if (Access* const access = grant.scope->FindAccess(*grant.slot);
      access != nullptr && (trials & Grant::kAccessTrial) != 0) {
    access->gate.EndTrial(grant.ticket, good);
    pool.Changed(*access);
  }
  Standing* const standing = grant.scope->Find(group);
  if (standing == nullptr) return;
  standing->EndTrials(trials, grant.ticket, good);
  pool.Changed(*standing);
}

inline void Served(Pool& pool, Slot& slot, Grant* grant) {
  ++slot.successes;
  Group& group = *slot.group;
  if (grant != nullptr) EndTrials(pool, *grant, true);
  const auto prove = [&](Gate& gate) {
    if (grant == nullptr || gate.IsFresh(grant->ticket)) gate.Prove();
  };
  if (slot.fleet.is_marked &&
      (grant == nullptr || slot.gate.IsFresh(grant->ticket)))
    pool.TellFleet(slot, FleetNews::Kind::kServed);
  prove(slot.gate);
  prove(group.gate);
  pool.Changed(group);
  if (Access* const access =
          grant == nullptr ? nullptr : grant->scope->FindAccess(slot);
      access != nullptr) {
    prove(access->gate);
    pool.Changed(*access);
  }
  Standing* const standing =
      grant == nullptr ? nullptr : grant->scope->Find(group);
  if (standing == nullptr) return;
  prove(standing->gate);
  // The gate that a rate limit there shuts.
  const Gate& limited =
      grant->scope->is_unnamed() ? group.gate : standing->gate;
  // A request is one success, however often it is told.
  if (!std::exchange(grant->served, true) && limited.IsFresh(grant->ticket))
    standing->Serve(*grant, pool.now);
  pool.Changed(*standing);
}

inline void Failed(Pool& pool, Slot& slot, Grant* grant) {
  ++slot.failures;
  if (grant != nullptr) EndTrials(pool, *grant, false);
  if (slot.gate.is_shut()) return;
  const std::optional<Span>& retry_after = pool.options.retry_failed_after;
  const Nanos until =
      retry_after ? SaturatingAdd(pool.now, retry_after->count()) : kNever;
  slot.gate.Shut(until, pool.tickets + 1, slot.id);
  pool.TellFleet(slot, FleetNews::Kind::kFailed);
  pool.Changed(slot);
  pool.events.Add(KeyEvent::Kind::kFailed, &slot, {}, until, pool.now);
}

// For how long a key rests that was limited without a hint, after `windows` of
// that kind in a row.
inline Nanos GuessSpan(const Cooldown& guess, std::uint32_t windows) {
  const auto grown = [&](std::uint32_t times, Span most) {
    const double span = static_cast<double>(guess.initial.count()) *
                        std::pow(guess.multiplier, times);
    return span < static_cast<double>(most.count()) ? static_cast<Nanos>(span)
                                                    : most.count();
  };
  const Nanos span = grown(windows, guess.max);
  // The first of those beyond `max` come a few windows late.
  constexpr std::uint32_t kAtMax = 3;
  if (guess.max_guess_pause <= guess.max || windows < kAtMax) return span;
  return std::max(span, grown(windows - kAtMax, guess.max_guess_pause));
}

inline Cooldown DefaultGuess(const RotatorOptions& options) {
  return {.initial = options.cooldown,
          .multiplier = options.cooldown_multiplier,
          .max = options.max_cooldown,
          .learn_pace = options.learn_pace,
          .max_guess_pause = options.max_guess_pause};
}

// A fresh lease was refused; `paced`: there are no limits to go by. Whether the
// fleet knows better how long to wait.
inline bool TellFleet(Pool& pool, const Grant& grant,
                      const FleetRefusal& refusal, bool paced) {
  Standing* const standing = grant.scope->Find(*grant.slot->group);
  if (standing == nullptr || standing->share() == nullptr) return false;
  pool.is_news_urgent = true;
  return standing->RefuseShared(grant, refusal, pool.now) && paced;
}

inline void RateLimited(Pool& pool, Slot& slot, Grant* grant,
                        const Report& report) {
  ++slot.rate_limits;
  Group& group = *slot.group;
  const Cooldown guess =
      report.guess ? *report.guess : DefaultGuess(pool.options);
  const bool in_scope = grant != nullptr && report.reach == Reach::kScope;
  // Where its gate is; null for the whole key.
  Scope* const scope =
      in_scope && !grant->scope->is_unnamed() ? grant->scope : nullptr;
  Gate& gate = scope == nullptr ? group.gate : scope->Get(group).gate;
  const bool fresh = grant == nullptr || gate.IsFresh(grant->ticket);
  // Whose pace the refusal teaches; null where the provider says more than that.
  Standing* paced = nullptr;
  if (in_scope && guess.learn_pace && grant->scope->Get(group).is_paced()) {
    paced = grant->scope->Find(group);
    pool.Meter(*paced);
  }
  if (grant != nullptr) {
    EndTrials(pool, *grant, false);
    grant->refused = true;
  }

  const bool begins = !gate.is_shut();
  const Nanos hint = std::max<Nanos>(report.retry_after.count(), 0);
  // Whether how long to wait is a guess, after which one tries it alone.
  bool is_guess = hint == 0 && paced == nullptr;
  Nanos span = hint > 0 ? hint : GuessSpan(guess, gate.windows());
  if (in_scope && fresh) {
    const FleetRefusal refusal{.hint = hint,
                               .guess = GuessSpan(guess, 0),
                               .longest = guess.max_guess_pause.count()};
    if (TellFleet(pool, *grant, refusal, paced != nullptr)) {
      // The ledger will say how long.
      paced = nullptr;
      if (hint == 0) return pool.Changed(grant->scope->Get(group));
    }
  }
  // Inside a window, or from before the last one, only the provider's word is
  // news.
  if (hint == 0 && !(fresh && begins)) return;
  if (paced != nullptr && fresh && begins)
    span = paced->Refuse(*grant, hint, span, pool.now,
                         guess.max_guess_pause.count(), grant->scope->peers);
  const Nanos until = SaturatingAdd(
      pool.now, std::min(span, pool.options.max_cooldown.count()));
  if (begins) {
    gate.Shut(until, pool.tickets + 1, slot.id);
    // A pace lets out one at a time anyway.
    gate.SetGuess(is_guess);
    if (fresh) gate.Escalate();
  } else if (!gate.Lengthen(until)) {
    return;
  }

  if (!in_scope) pool.TellFleetOfRest(group);
  if (paced != nullptr) {
    paced->HoldUntil(until);
    pool.Changed(*paced);
  }
  if (scope == nullptr) {
    pool.Changed(group);
  } else {
    pool.Changed(scope->Get(group));
  }
  pool.events.Add(KeyEvent::Kind::kCooled, &slot,
                  scope == nullptr ? std::string_view() : scope->name, until,
                  pool.now);
}

// The key was refused in the scope for want of permission, and another key served
// the same request: it rests there for `cooldown`, each time twice as long as the
// last, up to a day, and is then tried by one request.
inline void AccessDenied(Pool& pool, Scope& scope, Slot& slot, Nanos cooldown) {
  constexpr Nanos kDay = Nanos{24} * 3600 * 1'000'000'000;
  Access& access = scope.GetAccess(slot);
  if (access.gate.is_shut()) return;
  const Cooldown doubling{
      .initial = std::chrono::nanoseconds(cooldown),
      .multiplier = 2,
      .max = std::chrono::nanoseconds(std::max(cooldown, kDay))};
  const Nanos until =
      SaturatingAdd(pool.now, GuessSpan(doubling, access.gate.windows()));
  access.gate.Shut(until, pool.tickets + 1, slot.id);
  access.gate.Escalate();
  pool.Changed(access);
  pool.events.Add(KeyEvent::Kind::kNoAccess, &slot, scope.name, until,
                  pool.now);
}

// How many leases of the group are out in the scope beside one, at most.
inline double OthersInFlight(const Scope& scope, const Group& group) {
  std::size_t count = 0;
  for (const Slot* member : group.members) count += member->in_flight();
  if (!scope.is_unnamed())
    count = std::min<std::size_t>(
        count, scope.in_flight.load(std::memory_order_relaxed));
  return count > 0 ? static_cast<double>(count - 1) : 0;
}

inline void LearnLimits(Pool& pool, const Grant& grant,
                        const RateLimits& limits) {
  Scope& scope = *grant.scope;
  Group& group = *grant.slot->group;
  Standing& standing = scope.Get(group);
  const bool was_rated = standing.bucket().rated();
  if (!standing.Learn(grant, limits, OthersInFlight(scope, group), pool.now) ||
      !standing.bucket().known())
    return;
  if (standing.share() != nullptr && !was_rated) pool.is_news_urgent = true;
  pool.Meter(standing);
  pool.Changed(standing);
  pool.waiters.Wake(scope);
}

// What came of the lease that holds `grant`. Without a grant the report is about
// the whole key, and fresh.
inline void Settle(Pool& pool, Slot& slot, Grant* grant, const Report& report) {
  switch (report.kind) {
    case Report::Kind::kNothing:
      break;
    case Report::Kind::kServed:
      Served(pool, slot, grant);
      break;
    case Report::Kind::kFailed:
      Failed(pool, slot, grant);
      break;
    case Report::Kind::kRateLimited:
      RateLimited(pool, slot, grant, report);
      break;
  }
  if (report.limits && grant != nullptr)
    LearnLimits(pool, *grant, *report.limits);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_REPORTS_H_
