// File: pool/roster.h
//
// Roster: the keys that are in the pool, by index, id, value, name and group,
// and those that were removed while a lease on them is out. It knows nothing of
// which are usable.

#ifndef KEYROTATOR_POOL_ROSTER_H_
#define KEYROTATOR_POOL_ROSTER_H_

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/internal/hash.h"
#include "keyrotator/internal/header_text.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/redactor.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

// Throws std::invalid_argument if `key`, the position-th of those given (from
// 1), cannot be sent in a header or weighed. The message has its position and
// name, no byte of its value.
inline void CheckKey(const ApiKey& key, std::size_t position) {
  const auto refuse = [&](const std::string& why) {
    const std::string& name = key.options().name;
    throw std::invalid_argument(
        fmt::format("API key {}{}: {}", position,
                    name.empty() ? "" : fmt::format(" (\"{}\")", name), why));
  };
  const std::string& value = key.Reveal();
  if (const std::size_t at = FindUnprintable(value); at != value.npos) {
    refuse(fmt::format(
        "byte {} of its value is {}, which cannot stand in a header", at + 1,
        static_cast<unsigned char>(value[at]) >= 0x80 ? "not ASCII"
                                                      : "a control character"));
  }
  if (!std::isfinite(key.options().weight) || key.options().weight <= 0) {
    refuse(fmt::format("its weight is {}; it must be a finite number above 0",
                       key.options().weight));
  }
}

class Roster {
 public:
  // The effect of a change of the keys. Those that left are no longer among
  // keys(); Retire takes them out of the rest.
  struct Change {
    std::vector<Slot*> joined;
    std::vector<Slot*> left;
    // The new index by the old one, or Scope::kGone. Empty: no index changed.
    std::vector<std::uint32_t> moved_to;
  };

  Roster() = default;
  Roster(const Roster&) = delete;
  Roster& operator=(const Roster&) = delete;
  ~Roster() { Close(); }

  // Gives up the keys. Leases that are out keep theirs.
  void Close() {
    for (std::vector<Slot*>* slots : {&keys_, &retired_}) {
      for (Slot* slot : *slots) {
        if (slot->holds.fetch_and(~(Slot::kPooled | Slot::kWatched),
                                  std::memory_order_acq_rel) < Slot::kLease)
          delete slot;
      }
      slots->clear();
    }
  }

  // In the order given; a slot's index is its position here.
  const std::vector<Slot*>& keys() const { return keys_; }

  Slot* Find(KeyId id) const {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
  }
  Slot* Find(std::string_view secret) const {
    const auto found = by_secret_.find(Trim(secret));
    return found == by_secret_.end() ? nullptr : found->second;
  }
  // The key whose mark shut the gate, or if that left, another of its group.
  const Slot* MarkedOf(const Gate& gate, const Group& group) const {
    const Slot* const slot = Find(gate.marked());
    return slot != nullptr ? slot : group.members.front();
  }

  // The keys that are to join or, with `replace`, to be all there are: without
  // empty ones and repeated ones. Throws std::invalid_argument, and
  // changes nothing, if one of them cannot be a key or has the name of another.
  std::vector<const ApiKey*> Check(const ApiKeys& keys, bool replace) const {
    std::vector<const ApiKey*> wanted;
    std::vector<std::size_t> positions;
    Index values;  // seen so far
    Index names;   // taken
    std::size_t position = 0;
    for (const ApiKey& key : keys) {
      ++position;
      if (key.empty()) continue;
      CheckKey(key, position);
      Slot* const slot = Find(key.Reveal());
      if (!values.emplace(key.Reveal(), slot).second) continue;
      wanted.push_back(&key);
      positions.push_back(position);
      if (slot != nullptr && replace) names.emplace(slot->name, slot);
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const std::string& name = wanted[i]->options().name;
      if (name.empty() || Find(wanted[i]->Reveal()) != nullptr) continue;
      if (!names.emplace(name, nullptr).second ||
          (!replace && by_name_.contains(name))) {
        throw std::invalid_argument(
            fmt::format("API key {} (\"{}\"): another key has that name",
                        positions[i], name));
      }
    }
    return wanted;
  }

  // Lets the keys that Check returned join. The new ones have no name until
  // NameNew, after those that leave have given up theirs.
  Change Join(const std::vector<const ApiKey*>& wanted, bool replace,
              const std::shared_ptr<LeaseHost>& host) {
    Change change;
    std::vector<Slot*> order = replace ? std::vector<Slot*>() : keys_;
    for (const ApiKey* key : wanted) {
      Slot* slot = Find(key->Reveal());
      if (slot == nullptr) {
        slot = change.joined.emplace_back(MakeSlot(*key, host));
        order.push_back(slot);
      } else if (replace) {
        order.push_back(slot);
      } else {
        continue;
      }
      slot->weight = key->options().weight;
      slot->SetCap(key->options().max_in_flight);
    }
    Arrange(std::move(order), change);
    return change;
  }

  Change Remove(Slot& slot) {
    Change change;
    std::vector<Slot*> order = keys_;
    order.erase(order.begin() + slot.index);
    Arrange(std::move(order), change);
    return change;
  }

  // Chosen names first, so that none is taken by a name that is made up.
  void NameNew(const std::vector<Slot*>& joined) {
    for (Slot* slot : joined) {
      if (!slot->name.empty()) by_name_.emplace(slot->name, slot);
    }
    for (Slot* slot : joined) {
      ++joined_count_;
      if (slot->name.empty()) {
        last_made_up_ = std::max(last_made_up_ + 1, joined_count_);
        while (by_name_.contains(fmt::format("key-{}", last_made_up_)))
          ++last_made_up_;
        slot->name = fmt::format("key-{}", last_made_up_);
        by_name_.emplace(slot->name, slot);
      }
      slot->name_hash = HashText(slot->name);
      slot->group_hash = slot->group_name.empty() ? slot->name_hash
                                                  : HashText(slot->group_name);
    }
  }

  // Takes a key that left out of its group. True if the group is empty now:
  // then Dissolve is to follow.
  static bool LeaveGroup(Slot& slot) {
    std::erase(slot.group->members, &slot);
    return slot.group->members.empty();
  }
  // The group's number may be used by another from now on.
  void Dissolve(const Group& group) {
    free_numbers_.push_back(group.number);
    if (!group.name.empty()) groups_.erase(group.name);
  }
  // The last step for a key that left: it lives on while a lease is out.
  void Retire(Slot& slot) {
    by_id_.erase(slot.id);
    by_secret_.erase(slot.secret);
    by_name_.erase(slot.name);
    std::uint64_t holds = slot.holds.load(std::memory_order_relaxed);
    while (!slot.holds.compare_exchange_weak(
        holds, (holds | Slot::kWatched) & ~Slot::kPooled,
        std::memory_order_acq_rel, std::memory_order_relaxed)) {
    }
    if (holds >= Slot::kLease) {
      retired_.push_back(&slot);
    } else {
      delete &slot;
    }
  }

  // A lease of the key has ended. False if the slot is gone with it.
  bool Release(Slot& slot) {
    const std::uint64_t left =
        slot.holds.fetch_sub(Slot::kLease, std::memory_order_acq_rel) -
        Slot::kLease;
    if (left >= Slot::kLease || (left & Slot::kPooled) != 0) return true;
    std::erase(retired_, &slot);
    redactor_.reset();
    delete &slot;
    return false;
  }

  // Of the keys that are here or still lent. It may be used without the lock.
  std::shared_ptr<const Redactor> redactor() {
    if (redactor_ == nullptr) {
      std::vector<Secret> secrets;
      for (const std::vector<Slot*>* slots : {&keys_, &retired_}) {
        for (const Slot* slot : *slots)
          secrets.push_back({slot->secret, slot->name});
      }
      redactor_ = std::make_shared<const Redactor>(std::move(secrets));
    }
    return redactor_;
  }

 private:
  // By a text that the slot or group itself holds.
  using Index = std::unordered_map<std::string_view, Slot*>;

  Slot* MakeSlot(const ApiKey& key, const std::shared_ptr<LeaseHost>& host) {
    static std::atomic<std::uint64_t> ids{0};
    auto slot = std::make_unique<Slot>();
    slot->id = KeyId{++ids};
    slot->secret = key.Reveal();
    slot->name = key.options().name;
    slot->group_name = key.options().group;
    slot->host = host;
    slot->timer.owner = slot.get();
    slot->group = GroupOf(slot->group_name);
    slot->group->members.push_back(slot.get());
    by_id_.emplace(slot->id, slot.get());
    by_secret_.emplace(slot->secret, slot.get());
    return slot.release();
  }

  std::shared_ptr<Group> GroupOf(const std::string& name) {
    if (!name.empty()) {
      if (const auto found = groups_.find(name); found != groups_.end())
        return found->second;
    }
    auto group = std::make_shared<Group>();
    group->name = name;
    group->timer.owner = group.get();
    if (free_numbers_.empty()) {
      group->number = group_count_++;
    } else {
      group->number = free_numbers_.back();
      free_numbers_.pop_back();
    }
    if (!name.empty()) groups_.emplace(group->name, group);
    return group;
  }

  // Makes `order` the keys and gives them their indices.
  void Arrange(std::vector<Slot*> order, Change& change) {
    redactor_.reset();
    const bool appended = order.size() >= keys_.size() &&
                          std::equal(keys_.begin(), keys_.end(), order.begin());
    if (!appended) {
      change.moved_to.assign(keys_.size(), Scope::kGone);
      for (std::uint32_t i = 0; i < order.size(); ++i) {
        const std::uint32_t old = order[i]->index;
        if (old < keys_.size() && keys_[old] == order[i])
          change.moved_to[old] = i;
      }
      for (Slot* slot : keys_) {
        if (change.moved_to[slot->index] == Scope::kGone)
          change.left.push_back(slot);
      }
    }
    const std::size_t first_changed = appended ? keys_.size() : 0;
    keys_ = std::move(order);
    for (std::size_t i = first_changed; i < keys_.size(); ++i)
      keys_[i]->index = static_cast<std::uint32_t>(i);
  }

  std::vector<Slot*> keys_;
  // Removed, with leases out.
  std::vector<Slot*> retired_;
  std::unordered_map<KeyId, Slot*> by_id_;
  Index by_secret_;
  Index by_name_;
  std::uint64_t joined_count_ = 0;
  std::uint64_t last_made_up_ = 0;

  // Those with a name.
  std::unordered_map<std::string_view, std::shared_ptr<Group>> groups_;
  std::uint32_t group_count_ = 0;
  std::vector<std::uint32_t> free_numbers_;

  std::shared_ptr<const Redactor> redactor_;  // null: to be made anew
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_ROSTER_H_
