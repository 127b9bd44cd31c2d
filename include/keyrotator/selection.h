// File: selection.h
//
// Which of the usable keys a request gets: what a selection policy sees, and
// the policies that are built in.
//
// A policy is a callable `std::size_t (const AvailableKeys&, const PickHint&)`
// that returns the position of its choice among the keys that are usable now,
// so a lambda is a policy.
//
// Example: the last key that is usable.
//   auto last = [](const keyrotator::AvailableKeys& keys,
//                  const keyrotator::PickHint&) { return keys.size() - 1; };
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"}, {}, last);
//
// It is called under the rotator's lock with at least one key; it must not call
// the rotator, block or throw. A position out of range means "none of these".
// Every scope has a copy of its own. What it keeps per key it keeps in
// AvailableKey::note(), for positions change as keys come and go.

#ifndef KEYROTATOR_SELECTION_H_
#define KEYROTATOR_SELECTION_H_

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <utility>

#include "keyrotator/api_key.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator {

// What a request wants of its key. The views must outlive the call they are
// given to.
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

namespace internal {

// What a scope knows of its keys beyond the slots: the state of the selection
// and the limits.
class ScopeView {
 public:
  virtual double& Note(std::uint32_t index) = 0;
  virtual RateLimits Limits(const Slot& slot) const = 0;
  virtual double Headroom(const Slot& slot) const = 0;

 protected:
  ~ScopeView() = default;
};

}  // namespace internal

// One usable key, as a policy sees it. Valid during the call of the policy.
class AvailableKey {
 public:
  AvailableKey(const internal::Slot& slot, internal::ScopeView& scope)
      : slot_(&slot), scope_(&scope) {}

  KeyId id() const { return slot_->id; }
  std::string_view name() const { return slot_->name; }
  std::string_view group() const { return slot_->group_name; }
  double weight() const { return slot_->weight; }
  std::size_t in_flight() const { return slot_->in_flight(); }
  // How often the key was picked, in all scopes.
  std::uint64_t picks() const { return slot_->picks; }
  // What is left now of the limits reported in this scope; empty where nothing
  // was.
  RateLimits limits() const { return scope_->Limits(*slot_); }
  // The share that is left of them, the smallest over requests and tokens: 0 to
  // 1; 1 where nothing was reported.
  double headroom() const { return scope_->Headroom(*slot_); }
  // A number that the policy may keep for this key in this scope; 0 at first.
  double& note() const { return scope_->Note(slot_->index); }

  // What stands for the key and for its group (the key, in a group of one) in
  // every process: hashes of their names.
  std::uint64_t name_hash() const { return slot_->name_hash; }
  std::uint64_t group_hash() const { return slot_->group_hash; }

 private:
  const internal::Slot* slot_;
  internal::ScopeView* scope_;
};

// The usable keys in the order in which they were given: a random-access view.
// Valid during the call of the policy.
class AvailableKeys {
 public:
  class Iterator;

  AvailableKeys(const internal::Slot* const* slots,
                std::span<const std::uint32_t> usable, std::size_t turn,
                internal::ScopeView& scope)
      : slots_(slots), usable_(usable), turn_(turn), scope_(&scope) {}

  std::size_t size() const { return usable_.size(); }
  AvailableKey operator[](std::size_t position) const {
    return {*slots_[usable_[position]], *scope_};
  }
  Iterator begin() const;
  Iterator end() const;

  // The position of the key whose turn it is: the first behind the one picked
  // last.
  std::size_t turn() const { return turn_; }

 private:
  const internal::Slot* const* slots_;
  std::span<const std::uint32_t> usable_;
  std::size_t turn_;
  internal::ScopeView* scope_;
};

class AvailableKeys::Iterator {
 public:
  using iterator_concept = std::random_access_iterator_tag;
  using iterator_category =
      std::input_iterator_tag;  // it returns values, not references
  using value_type = AvailableKey;
  using difference_type = std::ptrdiff_t;
  using pointer = void;
  using reference = AvailableKey;

  Iterator() = default;
  Iterator(const AvailableKeys* keys, difference_type position)
      : keys_(keys), position_(position) {}

  AvailableKey operator*() const {
    return (*keys_)[static_cast<std::size_t>(position_)];
  }
  AvailableKey operator[](difference_type n) const { return *(*this + n); }
  Iterator& operator+=(difference_type n) { return position_ += n, *this; }
  Iterator& operator-=(difference_type n) { return position_ -= n, *this; }
  Iterator& operator++() { return *this += 1; }
  Iterator& operator--() { return *this -= 1; }
  Iterator operator++(int) { return std::exchange(*this, *this + 1); }
  Iterator operator--(int) { return std::exchange(*this, *this - 1); }
  friend Iterator operator+(Iterator it, difference_type n) { return it += n; }
  friend Iterator operator+(difference_type n, Iterator it) { return it += n; }
  friend Iterator operator-(Iterator it, difference_type n) { return it -= n; }
  friend difference_type operator-(Iterator a, Iterator b) {
    return a.position_ - b.position_;
  }
  friend bool operator==(Iterator a, Iterator b) {
    return a.position_ == b.position_;
  }
  friend auto operator<=>(Iterator a, Iterator b) {
    return a.position_ <=> b.position_;
  }

 private:
  const AvailableKeys* keys_ = nullptr;
  difference_type position_ = 0;
};

inline AvailableKeys::Iterator AvailableKeys::begin() const {
  return {this, 0};
}
inline AvailableKeys::Iterator AvailableKeys::end() const {
  return {this, static_cast<std::ptrdiff_t>(size())};
}

// In turn. Exact: between two picks of a key that stayed available every other
// key that stayed available is picked once. The choice where all keys are
// alike. O(1).
struct RoundRobin {
  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    return keys.turn();
  }
};

// The first usable key in the order in which they were given: fills one key
// before it starts the next, for a cheap key first and a dear one in reserve.
// O(1).
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
    for (std::size_t i = 0; i < keys.size(); ++i) {
      keys[i].note() += keys[i].weight() / largest / sum;
      if (keys[i].note() > keys[best].note()) best = i;
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
// requests whose lengths differ much. Of equals the one whose turn it is. Looks
// at no more than 64 keys, from whose turn it is on.
struct LeastInFlight {
  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    return internal::BestFromTurn(keys, [](const AvailableKey& key) {
      return -(static_cast<double>(key.in_flight()) + 1) / key.weight();
    });
  }
};

// The key with the largest share of its reported limits left: for keys whose
// limits differ. Of equals the one whose turn it is. Looks at no more than 64
// keys, from whose turn it is on.
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
