// File: fleet/permits.h
//
// FleetPermitLedger: how many requests each process may have in flight on a key
// that may have only so many. What is in flight is never taken back; as it ends, it
// goes to who wants it, each by a fair part.
//
// Example:
//   keyrotator::FleetPermitLedger ledger;
//   const double processes = 2;
//   ledger.Share({.id = "k", .cap = 8, .want = 3}, processes, false, 0);  // 3

#ifndef KEYROTATOR_FLEET_PERMITS_H_
#define KEYROTATOR_FLEET_PERMITS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "keyrotator/fleet/slots.h"
#include "keyrotator/fleet_messages.h"

namespace keyrotator {

// Not thread-safe.
class FleetPermitLedger {
 public:
  // `leaves`: the process wants nothing any more. `slot`: the ledger's time.
  FleetPermits Share(const FleetCap& told, double processes, bool leaves,
                     std::int64_t slot) {
    auto& [wants, held] = keys_[told.id];
    wants.Turn(slot);
    held.Turn(slot);
    wants.Take(told.slot, told.last_want);
    held.Take(told.slot, told.held);
    has_plenty_ = false;
    if (leaves) return {};
    wants.Put(told.want);
    const double all = wants.Sum();
    const double free = std::max(0.0, told.cap - held.Sum());
    const double fair =
        (all > 0 ? told.cap * std::min(1.0, told.want / all) : 0) + told.carry;
    const double idle = std::floor(free / 2 / std::max(1.0, processes));
    FleetPermits permits;
    permits.count = std::floor(std::min(
        free,
        std::max(idle, std::min(std::ceil(told.want), std::floor(fair)))));
    permits.held = std::max(permits.count, told.in_flight);
    permits.carry =
        told.want > 0
            ? std::clamp(fair - std::min(permits.count, std::floor(fair)), 0.0,
                         1.0)
            : 0;
    held.Put(permits.held);
    has_plenty_ = told.cap >= held.Sum() + 1;
    return permits;
  }

  // While some may not be back yet of which nothing is known, each keeps what it
  // had.
  FleetPermits Keep(const FleetCap& told, bool leaves, std::int64_t slot) {
    auto& [wants, held] = keys_[told.id];
    wants.Turn(slot);
    held.Turn(slot);
    wants.Take(told.slot, told.last_want);
    held.Take(told.slot, told.held);
    has_plenty_ = false;
    if (leaves) return {};
    wants.Put(told.want);
    const double kept = std::min(told.held, told.cap);
    const FleetPermits permits{.count = kept,
                               .held = std::max(kept, told.in_flight),
                               .carry = told.carry};
    held.Put(permits.held);
    return permits;
  }

  // Whether Share left something.
  bool has_plenty() const { return has_plenty_; }

 private:
  struct Key {
    internal::FleetSlots wants;
    internal::FleetSlots held;
  };
  std::map<std::string, Key> keys_;
  bool has_plenty_ = false;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_FLEET_PERMITS_H_
