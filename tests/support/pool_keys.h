// Keys for tests of the parts of a pool, without a rotator around them.

#ifndef KEYROTATOR_TESTS_SUPPORT_POOL_KEYS_H_
#define KEYROTATOR_TESTS_SUPPORT_POOL_KEYS_H_

#include <cstddef>
#include <initializer_list>
#include <string>

#include "keyrotator/api_key.h"
#include "keyrotator/pool/roster.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::testing {

// As KeyTable does it: `keys` join, or with `replace` are all there are.
inline internal::Roster::Change Join(internal::Roster& roster,
                                     const ApiKeys& keys,
                                     bool replace = false) {
  internal::Roster::Change change =
      roster.Join(roster.Check(keys, replace), replace, nullptr);
  for (internal::Slot* slot : change.left) {
    if (internal::Roster::LeaveGroup(*slot)) roster.Dissolve(*slot->group);
    roster.Retire(*slot);
  }
  roster.NameNew(change.joined);
  return change;
}

// Keys key-1, key-2, ..., each in the group that is given for it; "" is a
// group of its own.
class PoolKeys {
 public:
  explicit PoolKeys(std::initializer_list<const char*> groups) {
    for (const char* group : groups) {
      const std::string value = "sk-" + std::to_string(++count_);
      Join(roster_, {ApiKey(value, {.group = group})});
    }
  }

  internal::Slot& operator[](std::size_t index) const {
    return *roster_.keys()[index];
  }
  internal::Group& group(std::size_t index) const {
    return *roster_.keys()[index]->group;
  }
  internal::Roster& roster() { return roster_; }

 private:
  std::size_t count_ = 0;
  internal::Roster roster_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_POOL_KEYS_H_
