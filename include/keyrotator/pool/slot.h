// File: pool/slot.h
//
// Slot: one key in the pool. Leases point to it, so it lives until the key is
// removed and its last lease has ended, even if the rotator is gone by then.
// Group: the keys that share a limit.

#ifndef KEYROTATOR_POOL_SLOT_H_
#define KEYROTATOR_POOL_SLOT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/pool/gate.h"

namespace keyrotator::internal {

struct Grant;
struct Slot;

// Where a lease ends when its end concerns more than its key's count: what
// holds the table and its lock.
class LeaseHost {
 public:
  virtual ~LeaseHost() = default;
  virtual void EndLease(Grant& grant) noexcept = 0;
};

struct Group {
  std::uint32_t number = 0;  // indexes what a scope keeps per group; used again
                             // once the group is gone
  std::string name;          // empty: the group of one key without a group
  std::vector<Slot*> members;
  Gate gate;    // key-wide cooldowns
  Timer timer;  // when `gate` opens
};

struct Slot {
  // Who keeps this slot alive: kLease for each lease that is out, and kPooled.
  // With kWatched a lease ends under the lock, since its end may make the key
  // usable again or free a slot that the table keeps an eye on.
  static constexpr std::uint64_t kPooled = 1;
  static constexpr std::uint64_t kWatched = 2;
  static constexpr std::uint64_t kLease = 4;
  std::atomic<std::uint64_t> holds{kPooled};

  // What each pick looks at, beside it. Under the rotator's lock, like all that
  // may change.
  std::uint64_t picks = 0;
  std::uint32_t index = 0;  // among the keys, in the order given
  bool usable = false;      // wherever nothing cools
  bool plain = false;       // usable, and a pick does not change that
  std::shared_ptr<Group> group;

  // These never change: a lease reads them without a lock.
  KeyId id;
  std::string secret;
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

  std::size_t in_flight() const {
    return static_cast<std::size_t>(holds.load(std::memory_order_relaxed) /
                                    kLease);
  }
  bool pooled() const {
    return (holds.load(std::memory_order_relaxed) & kPooled) != 0;
  }
  bool AtCap() const {
    return max_in_flight > 0 && in_flight() >= max_in_flight;
  }
};

// FNV-1a, then a finalizer that spreads it over all bits: the same on every
// machine, so that sessions find the same keys from every process (std::hash
// may differ).
constexpr std::uint64_t Mix(std::uint64_t x) {
  // The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable
  // pseudorandom number generators, 2014).
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr std::uint64_t HashText(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return Mix(hash);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SLOT_H_
