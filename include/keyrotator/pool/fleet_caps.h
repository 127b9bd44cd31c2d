// File: pool/fleet_caps.h
//
// FleetCaps: what a pool tells its fleet of the keys that may have only so many
// requests in flight (KeyOptions::max_in_flight), and how many of these it is told
// to have here.

#ifndef KEYROTATOR_POOL_FLEET_CAPS_H_
#define KEYROTATOR_POOL_FLEET_CAPS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/pool/fleet_terms.h"
#include "keyrotator/pool/pool.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

class FleetCaps {
 public:
  // Of keys without news at most `most` are told, in turn. `waiting`: callers that
  // found no key.
  void Ask(Pool& pool, const FleetTerms& terms, std::size_t waiting,
           std::size_t most, FleetAsk& ask) {
    std::vector<Slot*> capped;
    std::size_t full = 0;
    for (Slot* slot : pool.roster.keys()) {
      if (slot->max_in_flight == 0) continue;
      capped.push_back(slot);
      if (slot->IsAtCap()) ++full;
    }
    for (std::size_t i = 0; i < capped.size(); ++i) {
      Slot& slot = *capped[(turn_ + i) % capped.size()];
      FleetCap& told = slot.fleet.told;
      const std::size_t in_flight = slot.in_flight();
      const std::size_t peak =
          std::max(std::exchange(slot.fleet.peak, std::size_t{0}), in_flight);
      const std::size_t wanted =
          slot.IsAtCap() ? (waiting + full - 1) / full : 0;
      const bool has_news =
          peak + wanted > 0 || told.held > 0 || told.last_want > 0;
      if (!has_news && i >= most) continue;
      terms.Name(slot);
      told.id = slot.fleet.id;
      told.cap = static_cast<double>(slot.max_in_flight);
      told.in_flight = static_cast<double>(in_flight);
      told.want = std::min(told.cap, static_cast<double>(peak + wanted));
      ask.caps.push_back(told);
    }
    if (!capped.empty()) turn_ = (turn_ + most) % capped.size();
  }

  void Hear(Pool& pool, const FleetAsk& ask, const FleetReply& reply,
            Nanos asked) {
    heard_ = asked;
    // While the fleet gathers, not all are counted.
    processes_ = std::max(reply.gathers ? processes_ : 1.0, reply.processes);
    if (reply.permits.size() != ask.caps.size()) return;
    std::unordered_map<std::string_view, std::size_t> places;
    for (std::size_t i = 0; i < ask.caps.size(); ++i)
      places.emplace(ask.caps[i].id, i);
    for (Slot* slot : pool.roster.keys()) {
      const auto place = places.find(slot->fleet.id);
      if (slot->max_in_flight == 0 || place == places.end()) continue;
      const FleetPermits& said = reply.permits[place->second];
      slot->fleet.told.last_want = ask.caps[place->second].want;
      slot->fleet.told.slot = reply.slot;
      slot->fleet.told.held = said.held;
      slot->fleet.told.carry = said.carry;
      const auto count = static_cast<std::size_t>(said.count);
      std::size_t permits = processes_ <= 1 ? kAll : count;
      if (reply.gathers) permits = std::min(permits, slot->fleet.permits);
      Set(pool, *slot, permits);
    }
  }

  // Nobody says how many there are: each has its part, and at least one.
  void Miss(Pool& pool) const {
    if (pool.now < SaturatingAdd(heard_, FleetAsk::kLease)) return;
    for (Slot* slot : pool.roster.keys()) {
      if (slot->max_in_flight == 0 || slot->fleet.permits == kAll) continue;
      const double part = std::floor(
          std::max(1.0, static_cast<double>(slot->max_in_flight) / processes_));
      Set(pool, *slot, static_cast<std::size_t>(part));
      // That is what it has, and in no slot of a ledger.
      slot->fleet.told.held = part;
      slot->fleet.told.slot = -1;
    }
  }

 private:
  static constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

  static void Set(Pool& pool, Slot& slot, std::size_t permits) {
    if (std::exchange(slot.fleet.permits, permits) != permits)
      pool.Changed(slot);
  }

  std::size_t turn_ = 0;
  Nanos heard_ = kLongAgo;
  double processes_ = 1;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_FLEET_CAPS_H_
