// File: pick_hint.h
//
// PickHint: what a request wants of its key. All of it is optional.
//
// Example:
//   auto key = rotator.Pick({.scope = "gpt-4o", .cost = 1200});

#ifndef KEYROTATOR_PICK_HINT_H_
#define KEYROTATOR_PICK_HINT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "keyrotator/api_key.h"

namespace keyrotator {

// Who goes first among the callers of a scope that wait for a key.
enum class Priority : std::uint8_t {
  kInteractive,  // before any batch
  // After all that are interactive. While there are such (in the last minute) it
  // also leaves a part of each key's limit to them, so that they need not wait:
  // a twentieth, and one request at least. Alone it gets everything.
  kBatch,
};

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
  Priority priority = Priority::kInteractive;
  // Slow start, for a request that can wait: how many leases of a key (of a
  // group, in this scope) may be out at first where nothing is known of its
  // limits. What the provider says of them ends it; until then each request that
  // turns out well makes room for two, and so does a second without a refusal.
  // 0: any number. A Pick that overtakes is not held back.
  std::size_t initial_window = 0;
};

// Whether a pick may overtake the callers that wait in its scope.
enum class Queue {
  kOvertake,  // it takes what is usable
  kInLine,    // it finds no key while others wait that go first
};

}  // namespace keyrotator

#endif  // KEYROTATOR_PICK_HINT_H_
