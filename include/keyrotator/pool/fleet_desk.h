// File: pool/fleet_desk.h
//
// FleetDesk: where a pool deals with its fleet. It gathers what is to be told
// (Ask), and takes what the ledger said (Hear) to the standings that it concerns.
// Neither happens in a pick: a pick spends what was granted.

#ifndef KEYROTATOR_POOL_FLEET_DESK_H_
#define KEYROTATOR_POOL_FLEET_DESK_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/fleet_caps.h"
#include "keyrotator/pool/fleet_share.h"
#include "keyrotator/pool/fleet_terms.h"
#include "keyrotator/pool/fleet_words.h"
#include "keyrotator/pool/pool.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/standing.h"
#include "keyrotator/pool/waiters.h"

namespace keyrotator::internal {

class FleetDesk {
 public:
  // Whether a caller found no key since the last message.
  bool is_thirsty() const { return thirsty_; }

  void Join(Pool& pool, FleetTerms terms) {
    terms_ = std::move(terms);
    words_ = FleetWords(terms_.random());
    pool.is_in_fleet = true;
    FleetWords::TellAll(pool);
  }
  // What was granted is void, and it is as if there had been no fleet.
  void Leave(Pool& pool, const std::vector<Scope*>& scopes) {
    *this = FleetDesk();
    pool.is_in_fleet = false;
    FleetWords::Forget(pool);
    for (Scope* scope : scopes) {
      for (const auto& standing : scope->standings) {
        if (standing == nullptr || standing->share() == nullptr) continue;
        standing->LeaveFleet(pool.now);
        pool.Changed(*standing);
      }
      scope->fleet = {};
    }
  }

  // --- What happens in the pool ---

  // A request came; `found`: it has a key.
  void Count(Pool& pool, Scope& scope, const PickHint& hint, bool found) {
    scope.fleet.arrived[0] += 1;
    scope.fleet.arrived[1] += KnownCost(hint.cost);
    if (!found && !std::exchange(thirsty_, true)) pool.has_output = true;
  }

  // --- The messages ---

  // As FleetMember::AskFleet.
  FleetAsk Ask(Pool& pool, Nanos period, std::size_t most_groups,
               const std::vector<Scope*>& scopes) {
    const std::size_t waiting =
        std::max<std::size_t>(pool.waiters.size(), thirsty_ ? 1 : 0);
    pool.is_news_urgent = thirsty_ = false;
    sent_.clear();
    FleetAsk ask;
    ask.period = period;
    ask.slot = slot_;
    ask.alone = is_lost_ && had_others_;
    asked_ = pool.now;
    words_.Ask(pool, terms_, ask);
    caps_.Ask(pool, terms_, waiting, most_groups, ask);
    for (Scope* scope : scopes) {
      const std::vector<Group*> groups = GroupsFor(pool, *scope, most_groups);
      if (groups.empty()) continue;
      Sent& sent = sent_.emplace_back();
      sent.scope = scope->name;
      AskFor(pool, *scope, ask.scopes.emplace_back(), groups, sent);
    }
    return ask;
  }

  // There was no reply.
  template <class FindScope>
  void Miss(Pool& pool, FindScope find, const std::vector<Scope*>& scopes,
            const FleetAsk& ask) {
    if (!std::exchange(is_lost_, true))
      pool.events.Add(KeyEvent::Kind::kFleetLost, nullptr);
    FleetWords::Miss(pool, ask);
    caps_.Miss(pool);
    ForEachFact(find, ask,
                [](Standing& standing, const FleetFact& fact, auto&&...) {
                  standing.share()->Untell(fact);
                });
    for (Scope* scope : scopes) {
      for (const auto& standing : scope->standings) {
        if (standing == nullptr || standing->share() == nullptr) continue;
        if (standing->share()->Miss(pool.now)) pool.Changed(*standing);
      }
      pool.waiters.Wake(*scope);
    }
  }

  // `reply` speaks from the moment at which it was made on: from `asked` where
  // that is the safe side, else from now.
  template <class FindScope, class Restore>
  void Hear(Pool& pool, FindScope find, const std::vector<Scope*>& scopes,
            const FleetAsk& ask, const FleetReply& reply, Restore restore) {
    if (reply.scopes.size() != ask.scopes.size())
      return Miss(pool, find, scopes, ask);
    if (std::exchange(is_lost_, false))
      pool.events.Add(KeyEvent::Kind::kFleetBack, nullptr);
    if (!reply.gathers) had_others_ = reply.processes > 1;
    slot_ = reply.slot;
    words_.Hear(pool, terms_, reply, restore);
    caps_.Hear(pool, ask, reply, asked_);
    for (Scope* scope : scopes) {
      for (const auto& standing : scope->standings) {
        if (standing == nullptr || standing->share() == nullptr) continue;
        // Of others nothing is granted while the fleet gathers: they go on alone.
        if (!reply.gathers) standing->share()->Extend(asked_, pool.now);
      }
    }
    ForEachFact(
        find, ask,
        [&](Standing& standing, const FleetFact& fact, std::size_t i,
            std::size_t j) {
          if (j >= reply.scopes[i].answers.size()) return;
          const FleetAnswer& said = reply.scopes[i].answers[j];
          const bool was_forgotten = standing.share()->is_forgotten();
          const bool was_solo = standing.share()->is_solo();
          standing.HearFleet(fact, said, reply, asked_, ask.period,
                             terms_.random(), pool.now);
          if (!was_forgotten && standing.share()->is_forgotten())
            pool.is_news_urgent = true;
          if (standing.is_metered()) pool.Meter(standing);
          // By itself it knows better, but for what was before.
          if (said.gate > 0 && !(was_solo && standing.share()->is_solo()))
            Shut(pool, standing, SaturatingAdd(pool.now, said.gate));
          pool.Changed(standing);
        });
    for (std::size_t i = 0; i < sent_.size(); ++i) {
      Scope* const scope = find(sent_[i].scope);
      if (scope == nullptr) continue;
      scope->fleet.carry = reply.scopes[i].carry;
      scope->fleet.slot = reply.slot;
      pool.waiters.Wake(*scope);
    }
  }

 private:
  struct Sent {
    std::string scope;
    std::vector<std::shared_ptr<Group>> groups;
  };

  // The groups to tell of: none, if nothing goes on in the scope; else those with
  // something to tell, and of the others some in turn.
  std::vector<Group*> GroupsFor(Pool& pool, Scope& scope, std::size_t most) {
    FleetScope& fleet = scope.fleet;
    const bool is_busy = fleet.arrived[0] > 0 || !scope.queue.empty() ||
                         fleet.arrivals[0] > kIdle;
    std::vector<Group*> all;
    for (Slot* slot : pool.roster.keys()) {
      if (slot->group->members.front() == slot)
        all.push_back(slot->group.get());
    }
    std::vector<Group*> some;
    for (std::size_t i = 0; i < all.size(); ++i) {
      Group* const group = all[(fleet.turn + i) % all.size()];
      const Standing* const standing = scope.Find(*group);
      const bool has_news = standing != nullptr &&
                            standing->share() != nullptr &&
                            standing->share()->has_news();
      if (has_news || (is_busy && i < most)) some.push_back(group);
    }
    if (some.empty()) return some;
    fleet.turn = (fleet.turn + most) % all.size();
    fleet.part =
        static_cast<double>(some.size()) / static_cast<double>(all.size());
    return some;
  }

  void AskFor(Pool& pool, Scope& scope, FleetScopeAsk& told,
              const std::vector<Group*>& groups, Sent& sent) {
    FleetScope& fleet = scope.fleet;
    if (fleet.id.empty()) {
      fleet.id = terms_.name("scope", scope.name);
      // Not all processes in step.
      scope.turn = static_cast<std::uint32_t>(
          terms_.random() * static_cast<double>(pool.roster.keys().size()));
    }
    told.scope = fleet.id;
    told.last_want = fleet.want;
    told.slot = fleet.slot;
    told.carry = fleet.carry;
    told.part = fleet.part;
    for (std::size_t i = 0; i < 2; ++i) {
      fleet.arrivals[i] = kSmooth * fleet.arrivals[i] +
                          (1 - kSmooth) * std::exchange(fleet.arrived[i], 0.0);
      fleet.want[i] = fleet.arrivals[i];
    }
    for (const Waiter* waiter : scope.queue) {
      const double cost = KnownCost(waiter->hint.cost);
      fleet.want[0] += 1;
      fleet.want[1] += cost;
      if (told.costs.size() < kCosts) told.costs.push_back(cost);
    }
    told.want = fleet.want;
    for (Group* group : groups) {
      if (group->fleet_id.empty()) group->fleet_id = terms_.NameOf(*group);
      Standing& standing = scope.Get(*group);
      FleetShare& share = standing.GetShare(pool.now);
      told.facts.push_back(
          share.Tell(standing.bucket().Limits(pool.now), pool.now));
      told.facts.back().group = group->fleet_id;
      sent.groups.push_back(group->members.front()->group);
    }
  }

  template <class FindScope, class Function>
  void ForEachFact(FindScope find, const FleetAsk& ask, Function function) {
    for (std::size_t i = 0; i < sent_.size() && i < ask.scopes.size(); ++i) {
      Scope* const scope = find(sent_[i].scope);
      if (scope == nullptr) continue;
      for (std::size_t j = 0; j < sent_[i].groups.size(); ++j) {
        Group& group = *sent_[i].groups[j];
        if (group.members.empty()) continue;
        Standing* const standing = scope->Find(group);
        if (standing != nullptr && standing->share() != nullptr)
          function(*standing, ask.scopes[i].facts[j], i, j);
      }
    }
  }

  // The fleet knows that nothing is to be sent before `until`.
  static void Shut(Pool& pool, Standing& standing, Nanos until) {
    Scope& scope = standing.scope();
    Group& group = standing.group();
    Gate& gate = scope.is_unnamed() ? group.gate : standing.gate;
    if (gate.is_shut()) {
      if (!gate.Lengthen(until)) return;
    } else {
      gate.Shut(until, pool.tickets + 1, group.members.front()->id);
    }
    if (scope.is_unnamed()) pool.Changed(group);
    pool.events.Add(KeyEvent::Kind::kCooled, group.members.front(), scope.name,
                    until, pool.now);
  }

  static constexpr double kSmooth = 0.8;
  static constexpr double kIdle = 0.01;  // requests a message
  static constexpr std::size_t kCosts = 16;

  FleetTerms terms_;
  FleetWords words_;
  FleetCaps caps_;
  bool thirsty_ = false;
  bool is_lost_ = false;
  bool had_others_ = false;  // by the last reply while the fleet did not gather
  std::int64_t slot_ = -1;
  Nanos asked_ = 0;
  std::vector<Sent> sent_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_FLEET_DESK_H_
