// File: pool/grant.h
//
// Grant: what a lease holds, and what its end has to settle.

#ifndef KEYROTATOR_POOL_GRANT_H_
#define KEYROTATOR_POOL_GRANT_H_

#include <cstdint>

#include "keyrotator/pool/learned_pace.h"
#include "keyrotator/pool/shadow_bucket.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

struct Grant {
  // What the lease's end settles, unless a report on it did before: that it was
  // the trial of a gate, or one of a slow start.
  static constexpr std::uint8_t kKeyTrial = 1;
  static constexpr std::uint8_t kGroupTrial = 2;
  static constexpr std::uint8_t kScopeTrial = 4;
  static constexpr std::uint8_t kSlowStart = 8;
  static constexpr std::uint8_t kAccessTrial = 16;

  Slot* slot = nullptr;
  Scope* scope = nullptr;
  // Leases are counted, since the times at which they were taken may tie.
  std::uint64_t ticket = 0;
  std::uint8_t trials = 0;
  bool refused = false;     // reported as rate limited
  bool served = false;      // reported as succeeded
  bool is_counted = false;  // in Scope::in_flight
  ShadowBucket::Note note;
  PacePlace place;
  std::uint64_t fleet_epoch = 0;  // FleetShare::epoch when it was taken
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_GRANT_H_
