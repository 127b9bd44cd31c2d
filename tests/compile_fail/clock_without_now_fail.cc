// error: KeyRotator: the clock must have .* a member time_point now\(\)

#include <chrono>

#include "keyrotator/keyrotator.h"

struct StoppedClock {
  using duration = std::chrono::milliseconds;
  using time_point = std::chrono::time_point<StoppedClock, duration>;
  time_point Now() const { return {}; }
};

bool Use() {
  keyrotator::KeyRotator rotator({"sk-a"}, {}, keyrotator::RoundRobin{},
                                 StoppedClock{});
  return rotator.Pick().has_value();
}
