// What the tests of the rotator share.

#ifndef KEYROTATOR_TESTS_SUPPORT_ROTATOR_H_
#define KEYROTATOR_TESTS_SUPPORT_ROTATOR_H_

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "keyrotator/keyrotator.h"
#include "keyrotator/testing/manual_clock.h"

namespace keyrotator::testing {

// The name of the key that a pick finds, or "none"; the lease ends at once.
template <class Rotator>
std::string PickName(Rotator& rotator, const PickHint& hint = {}) {
  const std::optional<Lease> lease = rotator.Pick(hint);
  return lease ? std::string(lease->name()) : "none";
}

// The names that `count` picks find, one after the other: "A B A".
template <class Rotator>
std::string PickNames(Rotator& rotator, int count, const PickHint& hint = {}) {
  std::string names;
  for (int i = 0; i < count; ++i)
    names.append(i == 0 ? "" : " ").append(PickName(rotator, hint));
  return names;
}

template <class Rotator>
std::map<std::string, int> CountPicks(Rotator& rotator, int count,
                                      const PickHint& hint = {}) {
  std::map<std::string, int> counts;
  for (int i = 0; i < count; ++i) ++counts[PickName(rotator, hint)];
  return counts;
}

template <class Rotator>
KeyStatus Row(const Rotator& rotator, std::string_view name) {
  for (KeyStatus& row : rotator.Snapshot()) {
    if (row.name == name) return std::move(row);
  }
  throw std::out_of_range("no such key: " + std::string(name));
}

// Keys whose values and names are the letters of `names`.
inline ApiKeys Letters(std::string_view names) {
  std::vector<ApiKey> keys;
  for (const char c : names)
    keys.emplace_back(std::string("secret-") + c,
                      KeyOptions{.name = std::string(1, c)});
  return keys;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_ROTATOR_H_
