// File: pool/fleet_words.h
//
// FleetWords: what a pool tells its fleet of whole keys (one failed, one is good
// again, a group rests), and what it makes of what the others say. One process's
// word puts a key on trial in the others: one request tries it. Two take it out of
// all, until one tries it again or somebody restores it, which is so for all, too.

#ifndef KEYROTATOR_POOL_FLEET_WORDS_H_
#define KEYROTATOR_POOL_FLEET_WORDS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pool/fleet_terms.h"
#include "keyrotator/pool/pool.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

class FleetWords {
 public:
  // `random`: from 0 to 1, for a number that nobody else has.
  explicit FleetWords(double random = 0)
      : who_(1 + std::floor(random * 0x1p52)) {}

  // The fleet does not know what is known here.
  static void TellAll(Pool& pool) {
    for (Slot* slot : pool.roster.keys()) {
      slot->fleet.failed = slot->fleet.restored = 0;
      if (slot->gate.is_shut()) pool.TellFleet(*slot, FleetNews::Kind::kFailed);
      if (slot->group->gate.is_shut()) pool.TellFleetOfRest(*slot->group);
    }
  }
  static void Forget(Pool& pool) {
    for (Slot* slot : pool.roster.keys()) {
      slot->fleet = {};
      slot->group->fleet_id.clear();
      slot->group->rest_is_news = false;
      pool.Changed(*slot);  // it may have been at what was left of its cap
    }
  }

  void Ask(Pool& pool, const FleetTerms& terms, FleetAsk& ask) const {
    ask.who = who_;
    ask.version = version_;
    for (Slot* slot : pool.roster.keys()) {
      if (slot->fleet.news) {
        const FleetNews::Kind kind = *std::exchange(slot->fleet.news, {});
        terms.Name(*slot);
        slot->fleet.is_marked = kind == FleetNews::Kind::kFailed;
        ask.news.push_back({.id = slot->fleet.id,
                            .kind = kind,
                            .span = LeftOf(slot->gate, pool.now)});
      }
      Group& group = *slot->group;
      if (!std::exchange(group.rest_is_news, false) || !group.gate.is_shut())
        continue;
      terms.Name(group);
      ask.news.push_back({.id = group.fleet_id,
                          .kind = FleetNews::Kind::kRested,
                          .span = LeftOf(group.gate, pool.now),
                          .is_guess = group.gate.is_guess()});
    }
  }

  // There was no reply: it is to be told again, unless something else is.
  static void Miss(Pool& pool, const FleetAsk& ask) {
    for (const FleetNews& news : ask.news) {
      for (Slot* slot : pool.roster.keys()) {
        if (news.kind == FleetNews::Kind::kRested) {
          if (slot->group->fleet_id == news.id)
            slot->group->rest_is_news = true;
        } else if (slot->fleet.id == news.id && !slot->fleet.news) {
          slot->fleet.news = news.kind;
        }
      }
    }
  }

  // `restore` is called for a key that somebody restored.
  template <class Restore>
  void Hear(Pool& pool, const FleetTerms& terms, const FleetReply& reply,
            Restore restore) {
    // What an older ledger was told is lost.
    const std::uint64_t born = std::exchange(born_, reply.born);
    if (born != 0 && born != reply.born) TellAll(pool);
    // To whom nothing was told before, a key that was restored some time ago is no
    // news: what failed here may have failed since.
    const bool is_first = std::exchange(version_, reply.version) == 0;
    if (!reply.marks || reply.marks->empty()) return;
    std::unordered_map<std::string_view, const FleetMark*> marks;
    for (const FleetMark& mark : *reply.marks) marks.emplace(mark.id, &mark);
    for (Slot* slot : pool.roster.keys()) {
      terms.Name(*slot);
      if (const auto it = marks.find(slot->fleet.id); it != marks.end())
        HearOf(pool, *slot, *it->second, is_first, terms.random(), restore);
      Group& group = *slot->group;
      if (slot != group.members.front()) continue;
      terms.Name(group);
      if (const auto it = marks.find(group.fleet_id); it != marks.end())
        HearOf(pool, group, *it->second, terms.random());
    }
  }

 private:
  // Others wait for so much longer than who said it, and not all for as long: one
  // tries first, and the others hear of it.
  static constexpr Nanos kLate = 2'000'000'000;

  // As FleetNews::span, which is 0 for ever.
  static Nanos LeftOf(const Gate& gate, Nanos now) {
    if (gate.is_shut() && gate.until() == kNever) return 0;
    return gate.is_shut() ? std::max<Nanos>(1, gate.until() - now) : 1;
  }
  static Nanos Later(Nanos time, double chance) {
    return SaturatingAdd(time,
                         kLate + static_cast<Nanos>(chance * double{kLate}));
  }

  template <class Restore>
  static void HearOf(Pool& pool, Slot& slot, const FleetMark& mark,
                     bool is_first, double chance, Restore restore) {
    FleetWord& word = slot.fleet;
    const bool is_restored = !is_first && mark.restored > word.restored;
    const bool has_failed = mark.failed > word.failed;
    word.restored = std::max(word.restored, mark.restored);
    word.failed = std::max(word.failed, mark.failed);
    // What happened here since is newer.
    if (word.news) return;
    if (is_restored) {
      word.is_marked = false;
      restore(slot);
    }
    if (mark.words >= 2) {
      TakeOut(pool, slot, mark, has_failed, chance);
    } else if (mark.words == 1 && has_failed && slot.gate.is_open()) {
      slot.gate.Shut(pool.now, pool.tickets + 1, slot.id);
      slot.gate.Expire(true);
      pool.Changed(slot);
    }
  }

  static void TakeOut(Pool& pool, Slot& slot, const FleetMark& mark,
                      bool has_failed, double chance) {
    Gate& gate = slot.gate;
    const Nanos until = mark.failed_for == 0
                            ? kNever
                            : SaturatingAdd(pool.now, mark.failed_for);
    // That it was tried in vain puts it off for all.
    if (!has_failed && mark.failed_for <= kLate) return;
    slot.fleet.is_marked = true;
    if (gate.is_shut()) {
      if (until > SaturatingAdd(gate.until(), kLate))
        gate.Lengthen(Later(until, chance));
      return pool.Changed(slot);
    }
    const Nanos end = Later(until, chance);
    gate.Shut(end, pool.tickets + 1, slot.id);
    pool.Changed(slot);
    pool.events.Add(KeyEvent::Kind::kFailed, &slot, {}, end, pool.now);
  }

  static void HearOf(Pool& pool, Group& group, const FleetMark& mark,
                     double chance) {
    Gate& gate = group.gate;
    const Nanos rests =
        std::min(mark.rests, Nanos{pool.options.max_cooldown.count()});
    const Nanos until = SaturatingAdd(pool.now, rests);
    if (rests == 0 || group.rest_is_news ||
        (gate.is_shut() && until <= SaturatingAdd(gate.until(), kLate)))
      return;
    const Nanos end = mark.is_guess ? Later(until, chance) : until;
    if (!gate.Lengthen(end))
      gate.Shut(end, pool.tickets + 1, group.members.front()->id);
    gate.SetGuess(mark.is_guess);
    pool.Changed(group);
    pool.events.Add(KeyEvent::Kind::kCooled, group.members.front(), {}, end,
                    pool.now);
  }

  double who_;
  std::uint64_t version_ = 0;
  std::uint64_t born_ = 0;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_FLEET_WORDS_H_
