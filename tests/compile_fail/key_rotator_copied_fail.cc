// error: (deleted function|deleted constructor).*keyrotator::KeyRotator<
// Two copies would each hand out the same keys, and know nothing of the other.

#include "keyrotator/keyrotator.h"

bool Use() {
  keyrotator::KeyRotator rotator({"sk-a"});
  keyrotator::KeyRotator copy = rotator;
  return copy.Pick().has_value();
}
