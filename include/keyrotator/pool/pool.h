// File: pool/pool.h
//
// Pool: the parts of a pool of keys, and the only door through which it changes
// which keys are usable: Changed. reports.h and key_table.h say what a report
// or a pick changes; they change a gate, a count or a standing, and call it.

#ifndef KEYROTATOR_POOL_POOL_H_
#define KEYROTATOR_POOL_POOL_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pool/access.h"
#include "keyrotator/pool/event_log.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/ready_lists.h"
#include "keyrotator/pool/roster.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"
#include "keyrotator/pool/timers.h"
#include "keyrotator/pool/waiters.h"
#include "keyrotator/rotator_options.h"

namespace keyrotator::internal {

// Returns `options`, or throws std::invalid_argument that names the wrong one.
inline RotatorOptions CheckOptions(RotatorOptions options) {
  const auto require = [](bool good, const char* what) {
    if (!good)
      throw std::invalid_argument(std::string("RotatorOptions: ") + what);
  };
  require(options.cooldown.count() > 0, "cooldown must be longer than 0");
  require(options.max_cooldown.count() > 0,
          "max_cooldown must be longer than 0");
  require(std::isfinite(options.cooldown_multiplier) &&
              options.cooldown_multiplier >= 1,
          "cooldown_multiplier must be a number of at least 1");
  require(options.max_guess_pause.count() >= 0,
          "max_guess_pause must not be less than 0");
  require(
      !options.retry_failed_after || options.retry_failed_after->count() > 0,
      "retry_failed_after must be longer than 0, or empty for never");
  require(options.max_scopes > 0, "max_scopes must be at least 1");
  return options;
}

struct Pool {
  explicit Pool(RotatorOptions wanted)
      : options(CheckOptions(std::move(wanted))),
        ready(roster.keys()),
        events(options.on_event != nullptr) {}

  const RotatorOptions options;
  Nanos now = kLongAgo;       // never goes back
  std::uint64_t tickets = 0;  // leases so far
  bool is_metered = false;    // a bucket or a pace depends on the time
  bool has_output = false;    // see KeyTable
  bool is_in_fleet = false;
  bool is_news_urgent = false;  // the fleet should hear of it at once

  Roster roster;
  ReadyLists ready;
  Timers timers;
  Waiters waiters;
  EventLog events;

  // --- The door: each brings the lists, the timers and the queues up to date
  // with a change of its argument. ---

  // A key: its gate, its group's gate, its cap, or its count at a cap.
  void Changed(Slot& slot) {
    if (!slot.is_pooled()) return;
    timers.Set(slot.timer, slot.gate.is_shut() ? slot.gate.until() : kNever);
    const bool usable = slot.IsUsable();
    slot.pick_is_simple = usable && slot.gate.is_open() &&
                          slot.group->gate.is_open() && slot.max_in_flight == 0;
    if (usable == slot.usable) return;
    ready.Put(slot, usable);
    if (!usable) return;
    for (Scope* scope : waiters.scopes()) Offer(*scope, *slot.group);
  }
  void Changed(Group& group) {
    timers.Set(group.timer, group.gate.is_shut() ? group.gate.until() : kNever);
    for (Slot* member : group.members) Changed(*member);
  }
  void Changed(Standing& standing) {
    timers.Set(standing.timer, standing.Update(now));
    Scope& scope = standing.scope();
    if (standing.IsFull() != standing.full) {
      standing.full = !standing.full;
      scope.full += standing.full ? 1 : static_cast<std::size_t>(-1);
      if (!standing.full && !scope.queue.empty()) waiters.Wake(scope);
    }
    const bool usable = standing.IsUsable();
    if (usable == standing.listed) return;
    ready.Put(standing, usable);
    if (usable) Offer(scope, standing.group());
  }

  void Changed(Access& access) {
    timers.Set(access.timer,
               access.gate.is_shut() ? access.gate.until() : kNever);
    const bool usable = access.gate.is_usable();
    if (usable == access.listed) return;
    ready.Put(access, usable);
    if (usable) Offer(access.scope, *access.slot.group);
  }

  // A group has become usable in a scope: a caller that waits may have it, and
  // others once that turns out well.
  void Offer(Scope& scope, Group& group) {
    if (scope.queue.empty()) return;
    Standing& standing = scope.Get(group);
    if (standing.Restart(tickets + 1)) scope.restarted.push_back(group.number);
    Changed(standing);
    waiters.Wake(scope);
  }

  // The fleet is to hear that of a key; and for how long the whole group rests.
  void TellFleet(Slot& slot, FleetNews::Kind kind) {
    if (!is_in_fleet) return;
    slot.fleet.news = kind;
    is_news_urgent = true;
  }
  void TellFleetOfRest(Group& group) {
    if (!is_in_fleet) return;
    group.rest_is_news = true;
    is_news_urgent = true;
  }

  // From now on the bucket or the pace says how many requests may go out.
  void Meter(Standing& standing) {
    is_metered = standing.scope().is_metered = true;
  }

  // --- Time ---

  // Does what is due.
  void Expire() {
    while (timers.AreDue(now)) Fire(timers.front());
  }

 private:
  void Fire(Timer& timer) {
    timers.Cancel(timer);
    std::visit(
        [&](auto owner) {
          if constexpr (!std::is_same_v<decltype(owner), std::monostate>)
            TimeIsUp(*owner);
        },
        timer.owner);
  }
  void TimeIsUp(Slot& slot) {
    slot.gate.Expire(true);
    Changed(slot);
    events.Add(KeyEvent::Kind::kReturned, &slot);
  }
  void TimeIsUp(Group& group) {
    group.gate.Expire(NeedsTrial(group.gate));
    Changed(group);
    events.Add(KeyEvent::Kind::kReturned, roster.MarkedOf(group.gate, group));
  }
  void TimeIsUp(Standing& standing) {
    Gate& gate = standing.gate;
    const bool returned = gate.is_shut();
    gate.Expire(NeedsTrial(gate));
    Changed(standing);
    if (!returned) return;
    events.Add(KeyEvent::Kind::kReturned,
               roster.MarkedOf(gate, standing.group()), standing.scope().name);
  }
  void TimeIsUp(Access& access) {
    access.gate.Expire(true);
    Changed(access);
    events.Add(KeyEvent::Kind::kReturned, &access.slot, access.scope.name);
  }
  void TimeIsUp(Scope& scope) { waiters.Wake(scope); }

  bool NeedsTrial(const Gate& gate) const {
    return gate.is_guess() && options.trial_after_guess;
  }
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_POOL_H_
