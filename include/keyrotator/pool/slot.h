// File: pool/slot.h
//
// Slot: one key in the pool. Leases point to it, so it lives until the key is
// removed and its last lease has ended, even if the rotator is gone by then.
// Group: the keys that share a limit.

#ifndef KEYROTATOR_POOL_SLOT_H_
#define KEYROTATOR_POOL_SLOT_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/timers.h"

namespace keyrotator::internal {

struct Grant;

// Where a lease ends when its end concerns more than its key's count: what
// holds the table and its lock.
class LeaseHost {
 public:
  virtual ~LeaseHost() = default;
  virtual void EndLease(Grant& grant) noexcept = 0;
};

// What a fleet and a pool say to each other of a key.
struct FleetWord {
  std::string id;  // the key's name there; empty: not named yet
  std::optional<FleetNews::Kind> news;  // to be told
  // The fleet has a word from here that the key failed, or took it out here.
  bool is_marked = false;
  // FleetMark's, as last heard.
  std::uint64_t failed = 0;
  std::uint64_t restored = 0;

  // Of a key with a cap: how many of its requests may be in flight here, the most
  // that were since the last message, and what that said.
  std::size_t permits = std::numeric_limits<std::size_t>::max();
  std::size_t peak = 0;
  FleetCap told;
};

struct Group {
  // Indexes what a scope keeps per group; used again once the group is gone.
  std::uint32_t number = 0;
  std::string name;      // empty: the group of one key without a group
  std::string fleet_id;  // its name in the fleet; empty: not named yet
  std::vector<Slot*> members;
  Gate gate;                  // key-wide cooldowns
  Timer timer;                // when `gate` opens
  bool rest_is_news = false;  // the fleet is to be told of `gate`
};

struct Slot {
  // Keeps this slot alive: kLease for each lease that is out, and kPooled.
  // With kWatched a lease ends under the lock, since its end may make the key
  // usable again, or free a slot that the roster still lists.
  static constexpr std::uint64_t kPooled = 1;
  static constexpr std::uint64_t kWatched = 2;
  static constexpr std::uint64_t kLease = 4;
  std::atomic<std::uint64_t> holds{kPooled};

  // Hot fields, next to `holds`. Guarded by the rotator's mutex.
  std::uint64_t picks = 0;
  std::uint32_t index = 0;      // among the keys, in the order given
  bool usable = false;          // wherever nothing cools
  bool pick_is_simple = false;  // usable, and a pick does not change that
  std::shared_ptr<Group> group;

  // These never change: a lease reads them without a lock.
  KeyId id;
  SecretText secret;
  std::string name;
  std::string group_name;
  std::uint64_t name_hash = 0;
  std::uint64_t group_hash = 0;  // name_hash for a group of one
  std::shared_ptr<LeaseHost> host;

  double weight = 1;
  std::size_t max_in_flight = 0;
  Gate gate;    // the key's own failures
  Timer timer;  // when `gate` opens
  std::uint64_t successes = 0;
  std::uint64_t rate_limits = 0;
  std::uint64_t failures = 0;
  FleetWord fleet;

  std::size_t in_flight() const {
    return static_cast<std::size_t>(holds.load(std::memory_order_relaxed) /
                                    kLease);
  }
  bool is_pooled() const {
    return (holds.load(std::memory_order_relaxed) & kPooled) != 0;
  }
  bool IsAtCap() const {
    return max_in_flight > 0 &&
           in_flight() >= std::min(max_in_flight, fleet.permits);
  }
  // Whether the key may be used wherever nothing cools.
  bool IsUsable() const {
    return gate.is_usable() && group->gate.is_usable() && !IsAtCap();
  }

  void SetCap(std::size_t cap) {
    max_in_flight = cap;
    if (cap > 0) {
      holds.fetch_or(kWatched, std::memory_order_acq_rel);
    } else {
      holds.fetch_and(~kWatched, std::memory_order_acq_rel);
    }
  }
};

inline bool Excludes(const PickHint& hint, const Slot& slot) {
  return std::find(hint.exclude.begin(), hint.exclude.end(), slot.id) !=
         hint.exclude.end();
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SLOT_H_
