// File: config/any_selection.h
//
// AnySelection: a selection policy that is chosen at run time, by its name in a
// configuration or as an object. It picks as the policy of selection.h does
// whose name it has, at hardly more cost.
//
// Example:
//   keyrotator::KeyRotator rotator(keys, {},
//                                  keyrotator::AnySelection("weighted"));

#ifndef KEYROTATOR_CONFIG_ANY_SELECTION_H_
#define KEYROTATOR_CONFIG_ANY_SELECTION_H_

#include <fmt/format.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "keyrotator/config/near_miss.h"
#include "keyrotator/selection.h"

namespace keyrotator {

// A policy: copy-constructible, a copy for each scope; a call is O(1) besides
// what the chosen policy does, and allocates nothing. Affinity falls back on
// RoundRobin.
class AnySelection {
 public:
  // RoundRobin.
  AnySelection() = default;

  // By its name, one of Names(), letter for letter. Throws
  // std::invalid_argument that lists them for any other.
  explicit AnySelection(std::string_view name) : policy_(Find(name)) {}

  // Any policy as it is: a built-in one, or the user's own.
  template <class Policy>
  requires(!std::same_as<Policy, AnySelection> &&
           std::is_invocable_r_v<std::size_t, Policy&, const AvailableKeys&,
                                 const PickHint&>) AnySelection(Policy policy)
      : policy_(std::move(policy)) {}

  static std::span<const std::string_view> Names() { return kNames; }

  std::size_t operator()(const AvailableKeys& keys, const PickHint& hint) {
    // Calls would cost more than these do.
    if (std::holds_alternative<RoundRobin>(policy_)) return keys.turn();
    if (std::holds_alternative<FirstAvailable>(policy_)) return 0;
    return call_(policy_, keys, hint);
  }

 private:
  // The order of the names is that of the policies.
  using Policies = std::variant<
      RoundRobin, Random, WeightedRoundRobin, LeastInFlight, MostHeadroom,
      FirstAvailable, Affinity<>,
      std::function<std::size_t(const AvailableKeys&, const PickHint&)>>;
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"round-robin", "random", "weighted", "least-in-flight", "most-headroom",
       "first-available", "affinity"});
  static_assert(kNames.size() + 1 == std::variant_size_v<Policies>);

  template <std::size_t kIndex = 0>
  static Policies Find(std::string_view name) {
    if constexpr (kIndex < kNames.size()) {
      if (name == kNames[kIndex]) return Policies(std::in_place_index<kIndex>);
      return Find<kIndex + 1>(name);
    } else {
      // The name itself is not repeated: it could be anything, a key too.
      throw std::invalid_argument(fmt::format(
          "no such key selection; there are {}{}", internal::Listed(kNames),
          internal::DidYouMean(name, kNames)));
    }
  }

  // A function for each policy: std::visit would be inlined as one long switch,
  // for which the short policies pay.
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
