// File: pool/scopes.h
//
// Scopes: the scopes of a pool by name, each with a copy of the policy, so that
// each is selected from for itself. The least recently used ones in which
// nothing is going on are forgotten.

#ifndef KEYROTATOR_POOL_SCOPES_H_
#define KEYROTATOR_POOL_SCOPES_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/internal/time.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/available_keys.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

template <class Policy>
class Scopes {
 public:
  // `most` are remembered; `now` is the table's time.
  Scopes(Policy policy, std::size_t most, const Nanos& now)
      : policy_(std::move(policy)),
        most_(most),
        now_(now),
        unnamed_(std::string(), now_, policy_) {}

  // The scope of that name, made if it is new.
  Scope& Of(std::string_view name) {
    if (name.empty()) return unnamed_;
    auto found = scopes_.find(name);
    if (found == scopes_.end()) {
      while (scopes_.size() >= most_ && ForgetOne()) {
      }
      auto scope =
          std::make_unique<WithPolicy>(std::string(name), now_, policy_);
      const std::string_view key = scope->name;
      found = scopes_.emplace(key, std::move(scope)).first;
    }
    found->second->last_used = ++uses_;
    return *found->second;
  }

  const Scope* Find(std::string_view name) const {
    if (name.empty()) return &unnamed_;
    const auto found = scopes_.find(name);
    return found == scopes_.end() ? nullptr : found->second.get();
  }
  Scope* Find(std::string_view name) {
    return const_cast<Scope*>(std::as_const(*this).Find(name));
  }
  std::vector<Scope*> All() {
    std::vector<Scope*> all;
    ForEach([&](Scope& scope) { all.push_back(&scope); });
    return all;
  }

  template <class Function>
  void ForEach(Function function) {
    function(static_cast<Scope&>(unnamed_));
    for (auto& [name, scope] : scopes_) function(static_cast<Scope&>(*scope));
  }

  // By name.
  std::vector<const Scope*> Sorted() const {
    std::vector<const Scope*> sorted{&unnamed_};
    for (const auto& [name, scope] : scopes_) sorted.push_back(scope.get());
    std::sort(sorted.begin(), sorted.end(),
              [](const Scope* a, const Scope* b) { return a->name < b->name; });
    return sorted;
  }

  // The position of the policy's choice in `usable`; out of range: no key.
  std::size_t Choose(Scope& scope, const std::vector<Slot*>& keys,
                     std::span<const std::uint32_t> usable,
                     const PickHint& hint) const {
    if (usable.empty()) return 0;
    // The turn is where it was, if nothing has changed around it.
    std::size_t turn = scope.turn_position;
    const bool found = turn <= usable.size() &&
                       (turn == 0 || usable[turn - 1] < scope.turn) &&
                       (turn == usable.size() || usable[turn] >= scope.turn);
    if (!found) {
      turn = static_cast<std::size_t>(
          std::lower_bound(usable.begin(), usable.end(), scope.turn) -
          usable.begin());
    }
    if (turn == usable.size()) turn = 0;
    const AvailableKeys view(keys.data(), usable, turn, scope);
    return static_cast<std::size_t>(
        static_cast<WithPolicy&>(scope).policy(view, hint));
  }

 private:
  struct WithPolicy final : Scope {
    WithPolicy(std::string scope_name, const Nanos& table_now,
               const Policy& prototype)
        : Scope(std::move(scope_name), table_now), policy(prototype) {}
    Policy policy;
  };

  // Forgets the least recently used scope that is idle. False if none is idle.
  bool ForgetOne() {
    auto oldest = scopes_.end();
    for (auto it = scopes_.begin(); it != scopes_.end(); ++it) {
      const Scope& scope = *it->second;
      const bool is_idle = scope.held_back == 0 && scope.queue.empty() &&
                           scope.in_flight.load(std::memory_order_acquire) == 0;
      if (is_idle && (oldest == scopes_.end() ||
                      scope.last_used < oldest->second->last_used))
        oldest = it;
    }
    if (oldest == scopes_.end()) return false;
    scopes_.erase(oldest);
    return true;
  }

  const Policy policy_;  // what each scope copies
  const std::size_t most_;
  const Nanos& now_;
  WithPolicy unnamed_;
  // By the name that each holds.
  std::unordered_map<std::string_view, std::unique_ptr<WithPolicy>> scopes_;
  std::uint64_t uses_ = 0;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SCOPES_H_
