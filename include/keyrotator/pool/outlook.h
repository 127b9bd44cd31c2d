// File: pool/outlook.h
//
// The state of keys, without changing anything: of one key for one request
// (Judge), of all of them (LookAt), and as a row of a snapshot (Describe).

#ifndef KEYROTATOR_POOL_OUTLOOK_H_
#define KEYROTATOR_POOL_OUTLOOK_H_

#include <algorithm>
#include <vector>

#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/access.h"
#include "keyrotator/pool/event_log.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"

namespace keyrotator::internal {

// The state of one key for one request.
struct KeyOutlook {
  KeyState state = KeyState::kAvailable;
  Nanos returns = kNever;  // if time alone brings it back
};

// How a pool looks to one request.
struct Outlook {
  KeyCounts counts;
  Nanos next = kNever;  // when a key is usable, if time alone brings one
};

// For a request of `cost` tokens in `scope`, null for a scope that is not
// known.
inline KeyOutlook Judge(const Slot& slot, const Scope* scope, double cost,
                        Nanos now) {
  Nanos returns = now;
  bool failed = false;
  bool cooling = false;
  bool busy = slot.IsAtCap();
  const auto pass = [&](const Gate& gate, bool& shut) {
    if (gate.state() == Gate::State::kTrialTaken) busy = true;
    if (!gate.is_shut()) return;
    shut = true;
    returns = std::max(returns, gate.until());
  };
  pass(slot.gate, failed);
  pass(slot.group->gate, cooling);
  if (const Access* const access =
          scope == nullptr ? nullptr : scope->FindAccess(slot);
      access != nullptr)
    pass(access->gate, cooling);
  const Standing* const standing =
      scope == nullptr ? nullptr : scope->Find(*slot.group);
  if (standing != nullptr) {
    pass(standing->gate, cooling);
    if (standing->is_metered() &&
        (standing->is_low() || !standing->Fits(cost, now))) {
      cooling = true;
      returns = std::max({returns, standing->WhenFits(cost, now),
                          standing->is_low() ? standing->timer.at : now});
    }
    if (standing->full && !scope->queue.empty()) busy = true;
  }
  const KeyState state = failed    ? KeyState::kFailed
                         : cooling ? KeyState::kCooling
                         : busy    ? KeyState::kBusy
                                   : KeyState::kAvailable;
  // A key that cools is not back before its time, in use or not.
  return {state, state == KeyState::kBusy ? kNever : returns};
}

inline Outlook LookAt(const std::vector<Slot*>& keys, const Scope* scope,
                      const PickHint& hint, Nanos now) {
  Outlook outlook;
  for (const Slot* slot : keys) {
    if (Excludes(hint, *slot)) continue;
    const KeyOutlook key = Judge(*slot, scope, hint.cost, now);
    switch (key.state) {
      case KeyState::kAvailable:
        ++outlook.counts.available;
        break;
      case KeyState::kBusy:
        ++outlook.counts.busy;
        break;
      case KeyState::kCooling:
        ++outlook.counts.cooling;
        break;
      case KeyState::kFailed:
        ++outlook.counts.failed;
        break;
    }
    outlook.next = std::min(outlook.next, key.returns);
  }
  return outlook;
}

// `scopes` are those of the pool by name, the one without a name first.
inline KeyStatus Describe(const Slot& slot,
                          const std::vector<const Scope*>& scopes, Nanos now) {
  KeyStatus row;
  row.id = slot.id;
  row.name = slot.name;
  row.group = slot.group_name;
  row.weight = slot.weight;
  row.max_in_flight = slot.max_in_flight;
  const KeyOutlook whole = Judge(slot, scopes.front(), 0, now);
  row.state = whole.state;
  row.returns_in = SpanUntil(whole.returns, now);
  row.in_flight = slot.in_flight();
  row.picks = slot.picks;
  row.successes = slot.successes;
  row.rate_limits = slot.rate_limits;
  row.failures = slot.failures;
  for (const Scope* scope : scopes) {
    const Standing* const standing = scope->Find(*slot.group);
    const Access* const access = scope->FindAccess(slot);
    const bool has_access = access == nullptr || !access->gate.is_shut();
    if (has_access && (standing == nullptr ||
                       (standing->listed && !standing->bucket().known())))
      continue;
    const KeyOutlook here = Judge(slot, scope, 0, now);
    ScopeStatus& there = row.scopes.emplace_back();
    there.scope = scope->name;
    there.state = here.state;
    there.returns_in = SpanUntil(here.returns, now);
    if (standing != nullptr) there.limits = standing->bucket().Believed(now);
    there.has_access = has_access;
  }
  return row;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_OUTLOOK_H_
