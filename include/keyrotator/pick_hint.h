// File: pick_hint.h
//
// PickHint: what a request wants of its key. All of it is optional.
//
// Example:
//   auto key = rotator.Pick({.scope = "gpt-4o", .cost = 1200});

#ifndef KEYROTATOR_PICK_HINT_H_
#define KEYROTATOR_PICK_HINT_H_

#include <optional>
#include <span>
#include <string_view>

#include "keyrotator/api_key.h"

namespace keyrotator {

// The views must outlive the call they are given to.
struct PickHint {
  // What the provider limits apart, as a rule the model. A rate limit that is
  // reported on the lease concerns this scope alone. Empty: no scope; then it
  // concerns the whole key.
  std::string_view scope = {};
  // For Affinity: what should stay on one key, as a rule the session.
  std::string_view affinity = {};
  // Keys that this request must not get.
  std::span<const KeyId> exclude = {};
  // The key to take if it is usable, out of turn.
  std::optional<KeyId> prefer = {};
  // The tokens that the request is expected to take out of a reported token
  // limit. Negative or not finite: not known.
  double cost = 0;
};

// Whether a pick may overtake the callers that wait in its scope.
enum class Queue {
  kOvertake,  // it takes what is usable
  kInLine,    // it finds no key while others wait
};

}  // namespace keyrotator

#endif  // KEYROTATOR_PICK_HINT_H_
