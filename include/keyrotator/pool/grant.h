// File: pool/grant.h
//
// Grant: what a lease holds, and what its end has to settle.

#ifndef KEYROTATOR_POOL_GRANT_H_
#define KEYROTATOR_POOL_GRANT_H_

#include <atomic>
#include <cstdint>

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

  Slot* slot = nullptr;
  Scope* scope = nullptr;
  // Leases are counted, since the times at which they were taken may tie.
  std::uint64_t ticket = 0;
  std::uint8_t trials = 0;
  bool refused = false;  // reported as rate limited
  bool served = false;   // reported as succeeded
  // Where it is counted until it ends, or null: a scope's leases in flight.
  std::atomic<std::uint64_t>* in_flight = nullptr;
  ShadowBucket::Note note;

  // The scope does not count it any more. First of all that a lease's end does:
  // the scope lives no longer than the slots of its table.
  void Uncount() {
    if (in_flight != nullptr)
      in_flight->fetch_sub(1, std::memory_order_acq_rel);
    in_flight = nullptr;
  }
};

// Ends a lease if its end concerns its key's count alone, without a lock. False
// if it must end under the lock, by LeaseHost::EndLease.
inline bool EndUnwatchedLease(Grant& grant) {
  if (grant.trials != 0) return false;
  grant.Uncount();
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

#endif  // KEYROTATOR_POOL_GRANT_H_
