// error: KeyRotator: the policy must be copy-constructible.*std::shared_ptr

#include <cstddef>
#include <memory>
#include <utility>

#include "keyrotator/keyrotator.h"

struct OwningPolicy {
  std::unique_ptr<int> state;

  std::size_t operator()(const keyrotator::AvailableKeys& keys,
                         const keyrotator::PickHint&) {
    return keys.turn();
  }
};

bool Use(OwningPolicy policy) {
  keyrotator::KeyRotator rotator({"sk-a"}, {}, std::move(policy));
  return rotator.Pick().has_value();
}
