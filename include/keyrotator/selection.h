// File: selection.h
//
// Which of the usable keys a request gets: the selection policies.
//
// A policy is a callable `std::size_t (const AvailableKeys&, const PickHint&)`
// that returns the position of its choice among the keys that are usable now,
// so a lambda is a policy. It is called under the rotator's lock with at least
// one key; it must not call the rotator, block or throw. A position out of
// range means "none of these". Every scope has a copy of its own. What it keeps
// per key it keeps in AvailableKey::note(), for positions change as keys come
// and go.
//
// Example:
//   auto last = [](const keyrotator::AvailableKeys& keys,
//                  const keyrotator::PickHint&) { return keys.size() - 1; };
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"}, {}, last);

#ifndef KEYROTATOR_SELECTION_H_
#define KEYROTATOR_SELECTION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>

#include "keyrotator/internal/hash.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/available_keys.h"

namespace keyrotator {

// In turn. Exact: between two picks of a key that stayed available every other
// key that stayed available is picked once. The choice where all keys are
// alike. O(1).
struct RoundRobin {
  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    return keys.turn();
  }
};

// The first usable key in the order in which they were given: fills one key
// before it starts the next, for a cheap key first and an expensive one in
// reserve. O(1).
struct FirstAvailable {
  std::size_t operator()(const AvailableKeys&, const PickHint&) const {
    return 0;
  }
};

// Any key with the same probability. For many processes that share keys and
// know nothing of each other: they do not walk in step, as they might in turn.
// O(1).
class Random {
 public:
  // Seeded by the system.
  Random() : Random(Seed()) {}
  // The same seed gives the same picks.
  explicit Random(std::uint64_t seed) : state_(seed) {}
  // A copy walks a way of its own, so that scopes do not walk in step.
  Random(const Random& other)
      : state_(internal::Mix(other.state_ ^ internal::Mix(++other.copies_))) {}
  Random& operator=(const Random&) = delete;

  std::size_t operator()(const AvailableKeys& keys, const PickHint&) {
    return std::uniform_int_distribution<std::size_t>(0,
                                                      keys.size() - 1)(*this);
  }

  // A uniform random bit generator (SplitMix64: one word of state, where
  // std::mt19937_64 has 312 in each scope).
  using result_type = std::uint64_t;
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() {
    return std::numeric_limits<result_type>::max();
  }
  result_type operator()() {
    return internal::Mix(state_ += 0x9e3779b97f4a7c15u);
  }

 private:
  static std::uint64_t Seed() {
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
  }

  std::uint64_t state_;
  mutable std::uint64_t copies_ = 0;
};

// In proportion to the weights, evenly spread ("smooth": A A B A, not A A A B).
// Each key saves up its share of every pick that it is available for and pays
// one pick when it is chosen, so the proportion holds over the time in which a
// key is available, and coming and going starves nobody. Linear.
struct WeightedRoundRobin {
  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    // Scaled by the largest weight, so that no sum of weights overflows.
    double largest = 0;
    for (const AvailableKey key : keys)
      largest = std::max(largest, key.weight());
    double sum = 0;
    for (const AvailableKey key : keys) sum += key.weight() / largest;
    std::size_t best = 0;
    double best_note = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const AvailableKey key = keys[i];
      const double note = key.note() += key.weight() / largest / sum;
      if (i == 0 || note > best_note) {
        best = i;
        best_note = note;
      }
    }
    keys[best].note() -= 1;
    return best;
  }
};

namespace internal {

// How many keys the policies look at that compare keys by a state which changes
// with every request. Enough to find a good one (two random ones already do:
// Mitzenmacher, The power of two choices, 2001), few enough for 65,536 keys.
inline constexpr std::size_t kMostCompared = 64;

// The position of the key with the largest score, among kMostCompared from
// whose turn it is on; the earliest of equals.
template <class Score>
std::size_t BestFromTurn(const AvailableKeys& keys, Score score) {
  std::size_t best = keys.turn();
  double best_score = score(keys[best]);
  std::size_t position = best;
  for (std::size_t i = 1; i < std::min(keys.size(), kMostCompared); ++i) {
    if (++position == keys.size()) position = 0;
    const double here = score(keys[position]);
    if (here > best_score) {
      best = position;
      best_score = here;
    }
  }
  return best;
}

}  // namespace internal

// The key with the fewest leases out, in proportion to the weights: for
// requests whose lengths differ much. A tie goes to the one whose turn it is.
// Looks at no more than 64 keys, beginning with that one.
struct LeastInFlight {
  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    return internal::BestFromTurn(keys, [](const AvailableKey& key) {
      return -(static_cast<double>(key.in_flight()) + 1) / key.weight();
    });
  }
};

// The key with the largest share of its reported limits left: for keys whose
// limits differ. A tie goes to the one whose turn it is. Looks at no more than
// 64 keys, beginning with that one.
struct MostHeadroom {
  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    return internal::BestFromTurn(
        keys, [](const AvailableKey& key) { return key.headroom(); });
  }
};

// Keeps what has the same PickHint::affinity on the same key, so that the
// provider's prompt cache stays warm: the largest hash of affinity and group,
// then of affinity and key (rendezvous hashing; Thaler, Ravishankar: A
// name-based mapping scheme for rendezvous, 1996). Only the sessions of a key
// that is lost move, and they come back with it. Without an affinity the
// fallback decides. Linear.
template <class Fallback = RoundRobin>
class Affinity {
 public:
  explicit Affinity(Fallback fallback = Fallback())
      : fallback_(std::move(fallback)) {}

  std::size_t operator()(const AvailableKeys& keys, const PickHint& hint) {
    if (hint.affinity.empty()) return fallback_(keys, hint);
    const std::uint64_t affinity = internal::HashText(hint.affinity);
    std::size_t best = 0;
    std::pair<std::uint64_t, std::uint64_t> best_score;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::pair score(internal::Mix(affinity ^ keys[i].group_hash()),
                            internal::Mix(affinity ^ keys[i].name_hash()));
      if (i == 0 || score > best_score) {
        best = i;
        best_score = score;
      }
    }
    return best;
  }

 private:
  Fallback fallback_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_SELECTION_H_
