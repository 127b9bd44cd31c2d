// File: pool/fleet_terms.h
//
// FleetTerms: how a pool belongs to a fleet, and what its keys and groups are called
// there.

#ifndef KEYROTATOR_POOL_FLEET_TERMS_H_
#define KEYROTATOR_POOL_FLEET_TERMS_H_

#include <functional>
#include <string>
#include <string_view>

#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

struct FleetTerms {
  // As Exchange::NameOf.
  std::function<std::string(std::string_view kind, std::string_view value)>
      name;
  // From 0 to 1, to spread the processes out.
  std::function<double()> random;

  // A key without a group has the same name everywhere, though not the same
  // made-up one.
  std::string NameOf(const Slot& key) const { return name("key", key.secret); }
  std::string NameOf(const Group& group) const {
    return group.name.empty() ? NameOf(*group.members.front())
                              : name("group", group.name);
  }

  // Once each.
  void Name(Slot& slot) const {
    if (slot.fleet.id.empty()) slot.fleet.id = NameOf(slot);
  }
  void Name(Group& group) const {
    if (group.fleet_id.empty()) group.fleet_id = NameOf(group);
  }
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_FLEET_TERMS_H_
