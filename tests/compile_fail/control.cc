// What the other files of this folder do wrong, done right.

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "keyrotator/keyrotator.h"

namespace {

struct SharedCount {
  std::shared_ptr<int> count = std::make_shared<int>(0);

  std::size_t operator()(const keyrotator::AvailableKeys& keys,
                         const keyrotator::PickHint&) {
    ++*count;
    return keys.turn();
  }
};

struct TickClock {
  using duration = std::chrono::milliseconds;
  using time_point = std::chrono::time_point<TickClock, duration>;
  time_point now() const { return {}; }
};

}  // namespace

std::string PickWithLambda() {
  const keyrotator::ApiKey key("sk-a", {.name = "prod-1"});
  keyrotator::KeyRotator rotator(
      {key}, {},
      [](const keyrotator::AvailableKeys& keys, const keyrotator::PickHint&) {
        return keys.turn();
      });
  auto found = rotator.Pick();
  if (!found) return fmt::format("{}", key);
  const keyrotator::Lease lease = *std::move(found);
  return fmt::format("{}", lease);
}

bool PickWithOwnPolicyAndClock() {
  keyrotator::KeyRotator<SharedCount, TickClock> rotator({"sk-a"});
  auto& same_rotator = rotator;
  return same_rotator.Pick().has_value();
}
