// error: KeyRotator: the policy must be callable as .* write for instance

#include "keyrotator/keyrotator.h"

struct Weights {
  int first = 1;
};

bool Use() {
  keyrotator::KeyRotator rotator({"sk-a"}, {}, Weights{});
  return rotator.Pick().has_value();
}
