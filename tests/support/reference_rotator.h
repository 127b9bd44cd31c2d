// File: reference_rotator.h
//
// ReferenceRotator: what a KeyRotator must do, as plainly as it can be said and
// as slowly: keys in a vector, gates in maps, everything looked up anew at each
// call. The model test drives it and the real rotator side by side. It knows
// nothing of reported limits (PickHint::cost, ReportLimits), and it does not
// choose: it says which keys are usable and whose turn it is, and is told which
// one was taken.

#ifndef KEYROTATOR_TESTS_SUPPORT_REFERENCE_ROTATOR_H_
#define KEYROTATOR_TESTS_SUPPORT_REFERENCE_ROTATOR_H_

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/key_status.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/selection.h"

namespace keyrotator::testing {

class ReferenceRotator {
 public:
  using Time = std::chrono::nanoseconds;  // since the clock's epoch
  static constexpr Time kNever = Time::max();

  // What can shut a key, or a group in a scope.
  struct Gate {
    enum class Stand { kOpen, kShut, kOnTrial, kTrialTaken };
    Stand stand = Stand::kOpen;
    Time until = kNever;      // of kShut
    bool trial_next = false;  // of kShut: whether it returns on trial
    std::uint64_t since = 0;  // leases up to this ticket are older than its
                              // last return
    std::uint64_t trial = 0;  // of kTrialTaken: the ticket
    int windows = 0;          // since a success
    KeyId marked;             // whose mark shut it
  };

  struct Group {
    int number = 0;
    std::map<std::string, Gate> gates;  // by scope; "": all scopes
  };

  struct Key {
    KeyId id;
    std::string value;
    std::string name;
    std::string group_name;
    double weight = 1;
    std::size_t cap = 0;
    int group = 0;
    std::size_t joined = 0;
    std::size_t in_flight = 0;
    std::uint64_t picks = 0;
    std::uint64_t successes = 0;
    std::uint64_t rate_limits = 0;
    std::uint64_t failures = 0;
    Gate failure;
  };

  struct Scope {
    std::uint64_t used = 0;  // when, counted in picks
    std::size_t turn = 0;    // the place behind the key picked last
    bool dry = false;        // the last pick found none
    std::map<KeyId, double> notes;
  };

  struct Lease {
    KeyId key;
    std::string scope;
    std::uint64_t ticket = 0;
    int group = 0;
    bool refused = false;  // a 429 or 401 was reported on it
  };

  // Whom a report is about, as the reference sees it.
  struct About {
    KeyId key;
    Lease* lease = nullptr;  // none: key-wide and fresh
  };

  explicit ReferenceRotator(RotatorOptions options)
      : options_(std::move(options)) {}

  // Keys, in the order in which they were given.

  const std::vector<Key>& keys() const { return keys_; }
  const Key* Find(KeyId id) const {
    const auto it = std::ranges::find_if(
        keys_, [&](const Key& key) { return key.id == id; });
    return it == keys_.end() ? nullptr : &*it;
  }
  const Key* Find(std::string_view value) const {
    const auto it = std::ranges::find_if(
        keys_, [&](const Key& key) { return key.value == value; });
    return it == keys_.end() ? nullptr : &*it;
  }

  // What the key that joins next is called if it is given no name.
  std::string NextName() const { return "key-" + std::to_string(joined_ + 1); }

  // Appends a key that is not there yet; ids are the real rotator's.
  void Join(const ApiKey& given, KeyId id, bool tell) {
    Key key;
    key.id = id;
    key.value = given.Reveal();
    key.name = given.options().name.empty() ? NextName() : given.options().name;
    key.group_name = given.options().group;
    key.weight = given.options().weight;
    key.cap = given.options().max_in_flight;
    key.group = GroupNumber(given.options().group);
    key.joined = ++joined_;
    if (tell) Tell(KeyEvent::Kind::kAdded, key, "", {});
    keys_.push_back(std::move(key));
  }

  void Remove(KeyId id) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (keys_[i].id != id) continue;
      Tell(KeyEvent::Kind::kRemoved, keys_[i], "", {});
      for (auto& [name, scope] : scopes_) {
        if (scope.turn > i) --scope.turn;
        scope.notes.erase(id);
      }
      // A group without keys is forgotten.
      const int group = keys_[i].group;
      keys_.erase(keys_.begin() + static_cast<std::ptrdiff_t>(i));
      if (std::ranges::count(keys_, group, &Key::group) == 0)
        groups_.erase(group);
      return;
    }
  }

  // `given` without what is empty or given twice; `ids` has the ids of all.
  void Replace(const std::vector<ApiKey>& given,
               const std::vector<KeyId>& ids) {
    const std::vector<Key> before = keys_;
    // First those that join, so that a group whose keys are all replaced stays
    // what it is.
    for (std::size_t i = 0; i < given.size(); ++i) {
      if (Find(given[i].Reveal()) == nullptr) Join(given[i], ids[i], true);
    }
    const auto position = [&](KeyId id) {
      return static_cast<std::size_t>(std::ranges::find(ids, id) - ids.begin());
    };
    // The turn is still that of the same key, or if it goes, of the first
    // behind it that stays.
    for (auto& [name, scope] : scopes_) {
      std::size_t turn = scope.turn;
      if (StartsWith(ids, before)) continue;  // some were appended
      while (turn < before.size() && position(before[turn].id) == ids.size())
        ++turn;
      scope.turn =
          turn < before.size() ? position(before[turn].id) : ids.size();
    }
    const std::map<std::string, Scope> scopes = scopes_;
    for (const Key& key : before) {
      if (position(key.id) == ids.size()) Remove(key.id);
    }
    for (const auto& [name, scope] : scopes) scopes_[name].turn = scope.turn;
    std::vector<Key> ordered;
    for (const ApiKey& wanted : given) {
      Key key = *Find(wanted.Reveal());
      key.weight = wanted.options().weight;
      key.cap = wanted.options().max_in_flight;
      ordered.push_back(std::move(key));
    }
    keys_ = std::move(ordered);
  }

  // Time.

  // Lets everything return that is due.
  void Advance(Time now) {
    now_ = std::max(now_, now);
    std::vector<std::pair<Gate*, std::string>> due;
    for (Key& key : keys_) {
      if (IsDue(key.failure)) due.emplace_back(&key.failure, "");
    }
    for (auto& [number, group] : groups_) {
      for (auto& [scope, gate] : group.gates) {
        if (IsDue(gate)) due.emplace_back(&gate, scope);
      }
    }
    for (auto& [gate, scope] : due) {
      gate->stand =
          gate->trial_next ? Gate::Stand::kOnTrial : Gate::Stand::kOpen;
      gate->since = tickets_;
      TellReturned(*gate, scope);
    }
  }

  // The next time at which anything returns anywhere.
  Time NextDue() const {
    Time next = kNever;
    const auto look = [&](const Gate& gate) {
      if (gate.stand == Gate::Stand::kShut) next = std::min(next, gate.until);
    };
    for (const Key& key : keys_) look(key.failure);
    for (const auto& [number, group] : groups_) {
      for (const auto& [scope, gate] : group.gates) look(gate);
    }
    return next;
  }

  // Looking.

  struct Standing {
    KeyState state = KeyState::kAvailable;
    // kAvailable: unused. Otherwise when time alone brings the key back.
    Time back = kNever;
  };

  // How a key stands in a scope; in "" of the whole key.
  Standing StandingOf(const Key& key, const std::string& scope) const {
    std::vector<const Gate*> gates = {&key.failure, GateOf(key.group, "")};
    if (!scope.empty()) gates.push_back(GateOf(key.group, scope));
    Standing standing;
    bool busy = key.cap != 0 && key.in_flight >= key.cap;
    bool cooling = false;
    Time back = Time::min();
    for (const Gate* gate : gates) {
      if (gate == nullptr) continue;
      if (gate->stand == Gate::Stand::kTrialTaken) busy = true;
      if (gate->stand == Gate::Stand::kShut) {
        back = std::max(back, gate->until);
        if (gate != &key.failure) cooling = true;
      }
    }
    if (key.failure.stand == Gate::Stand::kShut) {
      standing.state = KeyState::kFailed;
    } else if (cooling) {
      standing.state = KeyState::kCooling;
    } else if (busy) {
      standing.state = KeyState::kBusy;
    }
    const bool shut = standing.state == KeyState::kFailed ||
                      standing.state == KeyState::kCooling;
    if ((shut || !busy) && back != Time::min()) standing.back = back;
    return standing;
  }

  // The scopes in which the key itself is held back.
  std::vector<std::string> CoolingScopes(const Key& key) const {
    std::vector<std::string> names;
    const auto group = groups_.find(key.group);
    if (group == groups_.end()) return names;
    for (const auto& [name, gate] : group->second.gates) {
      if (!name.empty() && gate.stand == Gate::Stand::kShut)
        names.push_back(name);
    }
    return names;
  }

  // Positions (in keys()) of the keys a pick may have now.
  std::vector<std::size_t> Usable(const PickHint& hint) const {
    std::vector<std::size_t> usable;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const Key& key = keys_[i];
      if (!Excluded(key.id, hint) &&
          StandingOf(key, std::string(hint.scope)).state ==
              KeyState::kAvailable)
        usable.push_back(i);
    }
    return usable;
  }

  // The place in `usable` of the key whose turn it is.
  std::size_t Turn(const std::vector<std::size_t>& usable,
                   const PickHint& hint) const {
    const auto scope = scopes_.find(std::string(hint.scope));
    const std::size_t turn = scope == scopes_.end() ? 0 : scope->second.turn;
    for (std::size_t i = 0; i < usable.size(); ++i) {
      if (usable[i] >= turn) return i;
    }
    return 0;
  }

  struct Outlook {
    KeyCounts counts;
    Time next = kNever;
  };
  Outlook Look(const PickHint& hint) const {
    Outlook outlook;
    for (const Key& key : keys_) {
      if (Excluded(key.id, hint)) continue;
      const Standing standing = StandingOf(key, std::string(hint.scope));
      switch (standing.state) {
        case KeyState::kAvailable:
          ++outlook.counts.available;
          break;
        case KeyState::kBusy:
          ++outlook.counts.busy;
          break;
        case KeyState::kCooling:
          ++outlook.counts.cooling;
          break;
        case KeyState::kFailed:
          ++outlook.counts.failed;
          break;
      }
      outlook.next = std::min(outlook.next, standing.back);
    }
    if (outlook.counts.available > 0) outlook.next = now_;
    return outlook;
  }

  // Picking.

  // A number that a policy keeps for a key in a scope.
  double& Note(const PickHint& hint, KeyId id) {
    return scopes_[std::string(hint.scope)].notes[id];
  }

  // A pick begins in the scope, whether it will find a key or not.
  void Enter(const PickHint& hint) {
    const std::string name(hint.scope);
    if (!name.empty() && !scopes_.contains(name)) ForgetScopes(1);
    scopes_[name].used = ++uses_;
  }

  // The key at `position` was picked; `in_turn`: by the policy.
  Lease Take(std::size_t position, const PickHint& hint, bool in_turn) {
    Key& key = keys_[position];
    Scope& scope = scopes_[std::string(hint.scope)];
    if (in_turn) scope.turn = position + 1;
    ++key.in_flight;
    ++key.picks;
    Lease lease{.key = key.id,
                .scope = std::string(hint.scope),
                .ticket = ++tickets_,
                .group = key.group,
                .refused = false};
    for (Gate* gate : GatesOf(key, lease.scope)) {
      if (gate->stand == Gate::Stand::kOnTrial) {
        gate->stand = Gate::Stand::kTrialTaken;
        gate->trial = lease.ticket;
      }
    }
    ++leases_in_[lease.scope];
    scope.dry = false;
    return lease;
  }

  // A pick found no key.
  void TakeNone(const PickHint& hint) {
    Scope& scope = scopes_[std::string(hint.scope)];
    // That one does not want those that are left is no news.
    PickHint all = hint;
    all.exclude = {};
    if (scope.dry || (!hint.exclude.empty() && !Usable(all).empty())) return;
    scope.dry = true;
    KeyEvent event;
    event.kind = KeyEvent::Kind::kNoKeyLeft;
    event.scope = std::string(hint.scope);
    const Time next = Look(hint).next;
    if (next != kNever && next > now_) event.returns_in = next - now_;
    events.push_back(std::move(event));
  }

  void End(const Lease& lease) {
    --leases_in_[lease.scope];
    Key* key = FindMutable(lease.key);
    if (key != nullptr) --key->in_flight;
    const auto settle = [&](Gate& gate) {
      if (gate.stand != Gate::Stand::kTrialTaken || gate.trial != lease.ticket)
        return;
      gate.stand = lease.refused ? Gate::Stand::kOnTrial : Gate::Stand::kOpen;
    };
    if (key != nullptr) settle(key->failure);
    const auto group = groups_.find(lease.group);
    if (group == groups_.end()) return;
    for (auto& [scope, gate] : group->second.gates) settle(gate);
  }

  // Reports. False: the key is not in the pool.

  bool Fail(About about) {
    Key* key = FindMutable(about.key);
    if (key == nullptr) return false;
    ++key->failures;
    if (about.lease != nullptr) Refuse(*about.lease);
    Gate& gate = key->failure;
    if (gate.stand == Gate::Stand::kShut) return true;
    gate.stand = Gate::Stand::kShut;
    gate.until = options_.retry_failed_after
                     ? Add(now_, *options_.retry_failed_after)
                     : kNever;
    gate.trial_next = true;
    gate.marked = key->id;
    Tell(
        KeyEvent::Kind::kFailed, *key, "",
        gate.until == kNever ? std::nullopt : std::optional(gate.until - now_));
    return true;
  }

  // `hint` empty, zero or less: there was none.
  bool LimitRate(About about, Time hint, Cooldown guess, Reach reach) {
    Key* key = FindMutable(about.key);
    if (key == nullptr) return false;
    ++key->rate_limits;
    if (about.lease != nullptr) Refuse(*about.lease);
    const bool hinted = hint > Time::zero();
    const std::string scope = about.lease == nullptr || reach == Reach::kKey
                                  ? ""
                                  : about.lease->scope;
    Gate& gate = groups_[key->group].gates[scope];
    const bool was_shut = gate.stand == Gate::Stand::kShut;
    const bool fresh = IsFresh(about, gate);
    if (!hinted) {
      if (was_shut || !fresh) return true;
      hint = Guess(guess, gate.windows);
    }
    hint = std::min<Time>(hint, options_.max_cooldown);
    const Time until = Add(now_, hint);
    if (was_shut && until <= gate.until) return true;
    gate.stand = Gate::Stand::kShut;
    gate.until = until;
    gate.trial_next = !hinted && options_.trial_after_guess;
    if (!was_shut) {
      gate.marked = key->id;
      if (fresh) ++gate.windows;
    }
    Tell(KeyEvent::Kind::kCooled, *key, scope, until - now_);
    return true;
  }

  bool Succeed(About about) {
    Key* key = FindMutable(about.key);
    if (key == nullptr) return false;
    ++key->successes;
    for (Gate* gate :
         GatesOf(*key, about.lease == nullptr ? "" : about.lease->scope)) {
      if (!IsFresh(about, *gate)) continue;
      if (gate->stand != Gate::Stand::kShut) gate->stand = Gate::Stand::kOpen;
      gate->windows = 0;
    }
    return true;
  }

  bool Restore(KeyId id) {
    Key* key = FindMutable(id);
    if (key == nullptr) return false;
    Gate& gate = key->failure;
    if (gate.stand == Gate::Stand::kOpen) return true;
    const bool was_shut = gate.stand == Gate::Stand::kShut;
    gate.stand = Gate::Stand::kOpen;
    gate.since = tickets_;
    if (was_shut) TellReturned(gate, "");
    return true;
  }

  std::vector<KeyEvent> events;

  Time now() const { return now_; }

 private:
  static Time Add(Time a, Time b) { return a > kNever - b ? kNever : a + b; }

  static bool Excluded(KeyId id, const PickHint& hint) {
    return std::ranges::find(hint.exclude, id) != hint.exclude.end();
  }

  static Time Guess(const Cooldown& guess, int windows) {
    const auto initial = static_cast<double>(guess.initial.count());
    const auto max = static_cast<double>(guess.max.count());
    double wanted =
        std::min(initial * std::pow(guess.multiplier, windows), max);
    // Beyond `max` three windows late.
    if (windows > 2) {
      const double late = initial * std::pow(guess.multiplier, windows - 3);
      const auto most = static_cast<double>(guess.max_guess_pause.count());
      wanted = std::max(wanted, std::min(late, most));
    }
    return Time(static_cast<std::int64_t>(wanted));
  }

  bool IsDue(const Gate& gate) const {
    return gate.stand == Gate::Stand::kShut && gate.until <= now_;
  }

  static bool IsFresh(const About& about, const Gate& gate) {
    // A lease that is out while the gate is shut is older than the window.
    return about.lease == nullptr || (gate.stand != Gate::Stand::kShut &&
                                      about.lease->ticket > gate.since);
  }

  Key* FindMutable(KeyId id) { return const_cast<Key*>(Find(id)); }

  const Gate* GateOf(int group, const std::string& scope) const {
    const auto found = groups_.find(group);
    if (found == groups_.end()) return nullptr;
    const auto gate = found->second.gates.find(scope);
    return gate == found->second.gates.end() ? nullptr : &gate->second;
  }

  std::vector<Gate*> GatesOf(Key& key, const std::string& scope) {
    Group& group = groups_[key.group];
    std::vector<Gate*> gates = {&key.failure, &group.gates[""]};
    if (!scope.empty()) gates.push_back(&group.gates[scope]);
    return gates;
  }

  int GroupNumber(const std::string& name) {
    if (!name.empty()) {
      for (const Key& key : keys_) {
        if (key.group_name == name) return key.group;
      }
    }
    return ++last_group_;
  }

  // What a lease on trial brought: another may try.
  void Refuse(Lease& lease) {
    lease.refused = true;
    const auto put_back = [&](Gate& gate) {
      if (gate.stand == Gate::Stand::kTrialTaken && gate.trial == lease.ticket)
        gate.stand = Gate::Stand::kOnTrial;
    };
    if (Key* key = FindMutable(lease.key)) put_back(key->failure);
    const auto group = groups_.find(lease.group);
    if (group == groups_.end()) return;
    for (auto& [scope, gate] : group->second.gates) put_back(gate);
  }

  bool NothingCoolsIn(const std::string& scope) const {
    return std::ranges::none_of(groups_, [&](const auto& entry) {
      const auto gate = entry.second.gates.find(scope);
      return gate != entry.second.gates.end() &&
             (gate->second.stand == Gate::Stand::kShut ||
              gate->second.stand == Gate::Stand::kTrialTaken);
    });
  }

  // Makes room for `more` scopes, where that can be done.
  void ForgetScopes(std::size_t more) {
    while (scopes_.size() - 1 + more > options_.max_scopes) {
      const std::string* oldest = nullptr;
      for (const auto& [name, scope] : scopes_) {
        if (name.empty() || leases_in_[name] > 0 || !NothingCoolsIn(name))
          continue;
        if (oldest == nullptr || scope.used < scopes_[*oldest].used)
          oldest = &name;
      }
      if (oldest == nullptr) return;
      for (auto& [number, group] : groups_) group.gates.erase(*oldest);
      scopes_.erase(std::string(*oldest));
    }
  }

  static bool StartsWith(const std::vector<KeyId>& ids,
                         const std::vector<Key>& keys) {
    return ids.size() >= keys.size() &&
           std::equal(keys.begin(), keys.end(), ids.begin(),
                      [](const Key& key, KeyId id) { return key.id == id; });
  }

  void Tell(KeyEvent::Kind kind, const Key& key, const std::string& scope,
            std::optional<Time> returns_in) {
    KeyEvent event;
    event.kind = kind;
    event.id = key.id;
    event.name = key.name;
    event.group = key.group_name;
    event.scope = scope;
    event.returns_in = returns_in;
    events.push_back(std::move(event));
  }
  // Of the key whose mark shut the gate; if that left, of the one of its group
  // that joined first.
  void TellReturned(const Gate& gate, const std::string& scope) {
    const Key* named = Find(gate.marked);
    for (const Key& key : keys_) {
      if (named != nullptr && named->id == gate.marked) break;
      const auto group = groups_.find(key.group);
      const bool member =
          group != groups_.end() &&
          std::ranges::any_of(group->second.gates, [&](const auto& entry) {
            return &entry.second == &gate;
          });
      if (member && (named == nullptr || key.joined < named->joined))
        named = &key;
    }
    if (named != nullptr) Tell(KeyEvent::Kind::kReturned, *named, scope, {});
  }

  RotatorOptions options_;
  Time now_ = Time::min();
  std::vector<Key> keys_;
  std::map<int, Group> groups_;
  int last_group_ = 0;
  std::map<std::string, Scope> scopes_ = {{"", Scope()}};  // "" stays
  std::map<std::string, int> leases_in_;                   // by scope
  std::uint64_t uses_ = 0;
  std::uint64_t tickets_ = 0;
  std::size_t joined_ = 0;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_REFERENCE_ROTATOR_H_
