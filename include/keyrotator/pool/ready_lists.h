// File: pool/ready_lists.h
//
// ReadyLists: which keys are usable, as sorted lists of their indices, so that
// a pick reads a position and searches nothing. One list serves every scope in
// which no group is held back. A scope where one is has its own, which replays
// a log of the changes of the shared one when it is next used: a change of a
// key costs the same however many scopes there are.

#ifndef KEYROTATOR_POOL_READY_LISTS_H_
#define KEYROTATOR_POOL_READY_LISTS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "keyrotator/pool/access.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"

namespace keyrotator::internal {

class ReadyLists {
 public:
  using Indices = std::span<const std::uint32_t>;

  // `keys` are the pool's, by index; they outlive the lists.
  explicit ReadyLists(const std::vector<Slot*>& keys) : keys_(keys) {}

  // The keys that are usable in the scope. Valid until something changes.
  Indices In(Scope& scope) {
    return scope.is_listed_apart ? Apart(scope) : Indices(shared_);
  }

  // Those of `usable` that `keep` lets through. Valid until the next call.
  template <class Predicate>
  Indices Filter(Indices usable, Predicate keep) {
    // In place, if it is filtered a second time.
    if (usable.data() != scratch_.data())
      scratch_.assign(usable.begin(), usable.end());
    std::erase_if(scratch_,
                  [&](std::uint32_t index) { return !keep(*keys_[index]); });
    return scratch_;
  }

  // A key has become usable, or no longer is, wherever nothing cools.
  void Put(Slot& slot, bool usable) {
    slot.usable = usable;
    Put(shared_, slot.index, usable);
    log_[logged_++ % log_.size()] = slot.index;
  }

  // By its standing, a group has become usable in its scope, or no longer is.
  void Put(Standing& standing, bool usable) {
    standing.listed = usable;
    if (!HoldBack(standing.scope(), !usable)) return;
    for (const Slot* member : standing.group().members)
      Relist(standing.scope(), *member);
  }
  // The same for a key that has no access there, or has it again.
  void Put(Access& access, bool usable) {
    access.listed = usable;
    if (HoldBack(access.scope, !usable)) Relist(access.scope, access.slot);
  }

  // Room for `count` keys, so that no pick allocates.
  void Reserve(std::size_t count) {
    shared_.reserve(count);
    scratch_.reserve(count);
  }

  // The keys have new indices.
  void Renumber() {
    ++epoch_;
    shared_.clear();
    for (const Slot* slot : keys_) {
      if (slot->usable) shared_.push_back(slot->index);
    }
  }

 private:
  // Long enough that a scope in use seldom has to rebuild its list.
  static constexpr std::size_t kLogged = 1024;

  static void Put(std::vector<std::uint32_t>& list, std::uint32_t index,
                  bool usable) {
    const auto place = std::lower_bound(list.begin(), list.end(), index);
    const bool present = place != list.end() && *place == index;
    if (usable && !present) list.insert(place, index);
    if (!usable && present) list.erase(place);
  }

  // One more is held back in the scope, or one less. True if its list is one of
  // its own that has to follow.
  bool HoldBack(Scope& scope, bool more) const {
    if (more) {
      ++scope.held_back;
      if (!std::exchange(scope.is_listed_apart, true))
        scope.epoch = epoch_ - 1;  // to be rebuilt
    } else {
      --scope.held_back;
    }
    return scope.is_listed_apart && scope.epoch == epoch_;
  }
  static void Relist(Scope& scope, const Slot& slot) {
    Put(scope.usable, slot.index, scope.Lists(slot));
  }

  Indices Apart(Scope& scope) {
    if (scope.epoch != epoch_ || logged_ - scope.replayed > kLogged) {
      scope.epoch = epoch_;
      scope.is_listed_apart = scope.held_back > 0;
      scope.usable.clear();
      if (!scope.is_listed_apart) return shared_;
      scope.usable.reserve(keys_.size());
      std::copy_if(
          shared_.begin(), shared_.end(), std::back_inserter(scope.usable),
          [&](std::uint32_t index) { return scope.Lists(*keys_[index]); });
    } else {
      for (std::uint64_t i = scope.replayed; i < logged_; ++i) {
        const std::uint32_t index = log_[i % kLogged];
        Put(scope.usable, index, scope.Lists(*keys_[index]));
      }
    }
    scope.replayed = logged_;
    return scope.usable;
  }

  const std::vector<Slot*>& keys_;
  std::vector<std::uint32_t> shared_;
  std::uint64_t epoch_ = 1;  // of the numbering of the keys
  // The indices whose place in `shared_` changed last.
  std::array<std::uint32_t, kLogged> log_{};
  std::uint64_t logged_ = 0;
  std::vector<std::uint32_t> scratch_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_READY_LISTS_H_
