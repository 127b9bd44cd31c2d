// File: fleet/slots.h
//
// FleetSlots: a sum over processes of what each declared last. No process has a
// name, and one that died needs no clean-up: each takes off what it declared
// before, and what nobody takes off counts for two slots of time at most.
//
// Example:
//   keyrotator::internal::FleetSlots wants;
//   wants.Turn(7);
//   wants.Put(3);
//   wants.Take(7, 3);  // by the same process, with its next message

#ifndef KEYROTATOR_FLEET_SLOTS_H_
#define KEYROTATOR_FLEET_SLOTS_H_

#include <algorithm>
#include <array>
#include <cstdint>

namespace keyrotator::internal {

class FleetSlots {
 public:
  void Turn(std::int64_t slot) {
    if (slot == now_) return;
    sums_ = {0, slot == now_ + 1 ? sums_[0] : 0};
    now_ = slot;
  }
  void Take(std::int64_t slot, double x) {
    if (slot != now_ && slot != now_ - 1) return;
    double& sum = sums_[slot == now_ ? 0 : 1];
    sum = std::max(0.0, sum - x);
  }
  void Put(double x) { sums_[0] += x; }
  double Sum() const { return sums_[0] + sums_[1]; }
  void Clear() { sums_ = {}; }

 private:
  std::int64_t now_ = -9;
  std::array<double, 2> sums_{};
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_FLEET_SLOTS_H_
