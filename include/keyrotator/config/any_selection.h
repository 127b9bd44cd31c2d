// File: config/any_selection.h
//
// AnySelection: a built-in selection policy that is chosen at run time, by its
// name in a configuration. It picks as the policy of that name in selection.h
// does, at hardly more cost.
//
// Example:
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"}, {},
//                                  keyrotator::AnySelection("weighted"));

#ifndef KEYROTATOR_CONFIG_ANY_SELECTION_H_
#define KEYROTATOR_CONFIG_ANY_SELECTION_H_

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <variant>

#include "keyrotator/config/near_miss.h"
#include "keyrotator/selection.h"

namespace keyrotator {

// A policy: each scope has a copy of its own. A call is O(1) besides what the
// chosen policy does, and allocates nothing. Affinity falls back on RoundRobin.
class AnySelection {
  // The order of the names below is that of the policies.
  using Policies =
      std::variant<RoundRobin, Random, WeightedRoundRobin, LeastInFlight,
                   MostHeadroom, FirstAvailable, Affinity<>>;

 public:
  // RoundRobin.
  AnySelection() = default;

  // By its name, one of Names(), letter for letter. Throws
  // std::invalid_argument that lists them for any other.
  explicit AnySelection(std::string_view name) : policy_(Find(name)) {}

  // By a built-in policy as it is, such as Random(seed).
  explicit AnySelection(Policies policy) : policy_(std::move(policy)) {}

  static std::span<const std::string_view> Names() { return kNames; }

  std::size_t operator()(const AvailableKeys& keys, const PickHint& hint) {
    // A call through a pointer would cost more than these two do.
    if (std::holds_alternative<RoundRobin>(policy_)) return keys.turn();
    if (std::holds_alternative<FirstAvailable>(policy_)) return 0;
    return call_(policy_, keys, hint);
  }

 private:
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"round-robin", "random", "weighted", "least-in-flight", "most-headroom",
       "first-available", "affinity"});
  static_assert(kNames.size() == std::variant_size_v<Policies>);

  template <std::size_t kIndex = 0>
  static Policies Find(std::string_view name) {
    if constexpr (kIndex < kNames.size()) {
      if (name == kNames[kIndex]) return Policies(std::in_place_index<kIndex>);
      return Find<kIndex + 1>(name);
    } else {
      // The name is not repeated: it could be a key in the wrong place.
      throw std::invalid_argument(fmt::format(
          "no such key selection; there are {}{}", internal::Listed(kNames),
          internal::DidYouMean(name, kNames)));
    }
  }

  // A function for each policy: std::visit would be inlined as one long switch,
  // which slows the short policies down.
  using Call = std::size_t (*)(Policies&, const AvailableKeys&,
                               const PickHint&);
  template <class Policy>
  static std::size_t CallIt(Policies& policies, const AvailableKeys& keys,
                            const PickHint& hint) {
    return (*std::get_if<Policy>(&policies))(keys, hint);
  }

  Policies policy_;
  Call call_ = std::visit(
      []<class Policy>(const Policy&) -> Call { return CallIt<Policy>; },
      policy_);
};

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_ANY_SELECTION_H_
