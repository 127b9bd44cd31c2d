// File: pool/available_keys.h
//
// AvailableKeys: the usable keys as a selection policy sees them, in the order
// in which they were given. A view: nothing is copied for a pick.

#ifndef KEYROTATOR_POOL_AVAILABLE_KEYS_H_
#define KEYROTATOR_POOL_AVAILABLE_KEYS_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>
#include <utility>

#include "keyrotator/api_key.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"

namespace keyrotator {

// One usable key, as a policy sees it. Valid during the call of the policy.
class AvailableKey {
 public:
  // For the pool.
  AvailableKey(const internal::Slot& slot, internal::Scope& scope)
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
  RateLimits limits() const {
    const internal::Standing* standing = scope_->Find(*slot_->group);
    return standing == nullptr ? RateLimits{}
                               : standing->bucket().Believed(scope_->now);
  }
  // The share that is left of them, the smallest over requests and tokens: 0 to
  // 1; 1 where nothing was reported.
  double headroom() const {
    const internal::Standing* standing = scope_->Find(*slot_->group);
    return standing == nullptr ? 1 : standing->bucket().Headroom(scope_->now);
  }
  // A number that the policy may keep for this key in this scope; 0 at first.
  double& note() const { return scope_->Note(slot_->index); }

  // Hashes of the names of the key and its group (in a group of one, the key):
  // the same in every process.
  std::uint64_t name_hash() const { return slot_->name_hash; }
  std::uint64_t group_hash() const { return slot_->group_hash; }

 private:
  const internal::Slot* slot_;
  internal::Scope* scope_;
};

// The usable keys in the order in which they were given: a random-access view.
// Valid during the call of the policy.
class AvailableKeys {
 public:
  class Iterator;

  // For the pool.
  AvailableKeys(const internal::Slot* const* slots,
                std::span<const std::uint32_t> usable, std::size_t turn,
                internal::Scope& scope)
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
  internal::Scope* scope_;
};

class AvailableKeys::Iterator {
 public:
  using iterator_concept = std::random_access_iterator_tag;
  // It returns values, not references.
  using iterator_category = std::input_iterator_tag;
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

}  // namespace keyrotator

#endif  // KEYROTATOR_POOL_AVAILABLE_KEYS_H_
