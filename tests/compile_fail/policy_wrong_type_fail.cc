// error: KeyRotator: the policy must return the position of the chosen key

#include "keyrotator/keyrotator.h"

// Returns the key itself instead of its position.
bool Use() {
  keyrotator::KeyRotator rotator(
      {"sk-a"}, {},
      [](const keyrotator::AvailableKeys& keys, const keyrotator::PickHint&) {
        return keys[0];
      });
  return rotator.Pick().has_value();
}
