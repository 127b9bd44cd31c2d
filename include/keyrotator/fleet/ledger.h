// File: fleet/ledger.h
//
// FleetLedger: what a fleet knows of the provider's buckets, and how what is left
// of them is shared out: whole requests, granted ahead. The rules are in Redis's
// script, too (redis/ledger_script.h), and a test holds the two together; this
// one serves processes that share memory, tests and simulations.
//
// No process has a name, and a dead one needs no clean-up: what a process was
// granted, and wants, comes back with its next message and is taken off again. It
// counts for two slots of time at most if it never does.
//
// Example:
//   keyrotator::FleetLedger ledger;
//   keyrotator::FleetReply reply = ledger.Handle({.period = 200'000'000}, 0);

#ifndef KEYROTATOR_FLEET_LEDGER_H_
#define KEYROTATOR_FLEET_LEDGER_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/fleet/marks.h"
#include "keyrotator/fleet/permits.h"
#include "keyrotator/fleet/slots.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/pool/learned_pace.h"

namespace keyrotator {

// Not thread-safe.
class FleetLedger {
  using Nanos = internal::Nanos;
  using Slots = internal::FleetSlots;

 public:
  // Linear in the facts and in what is granted.
  FleetReply Handle(const FleetAsk& ask, Nanos now) {
    now_ = std::max(now_, now);
    if (generation_ == 0) {
      generation_ =
          static_cast<std::uint64_t>(std::max<Nanos>(1, now_ / kMillisecond));
      marks_ = FleetMarks(Born());
    }
    slot_ = now_ / FleetAsk::kLease;
    period_ = ask.period;
    longest_.Turn(slot_);
    longest_.Raise(ask.period);
    // Nobody was heard, but somebody was there: what flowed back meanwhile they
    // have used.
    if (ask.alone && last_ > 0 && now_ - last_ > 2 * longest_.Most()) {
      skipped_ += now_ - last_ - ask.period;
      Gather(now_);
    }
    last_ = now_;
    // It was in the fleet of a ledger that was lost, and there may be others.
    if (ask.version > 0 &&
        (ask.version < Born() || ask.version > marks_.version()))
      Gather(static_cast<Nanos>(generation_) * kMillisecond);

    processes_.Turn(slot_);
    processes_.Take(ask.slot, 1);
    if (!ask.leaves) processes_.Put(1);
    FleetReply reply;
    reply.slot = slot_;
    reply.processes = std::max(1.0, processes_.Sum());
    reply.gathers = now_ < gathered_;
    for (const FleetNews& news : ask.news) marks_.Hear(news, ask.who, now_);
    marks_.Tell(ask.version, now_, reply);
    for (const FleetCap& cap : ask.caps) {
      reply.permits.push_back(
          reply.gathers
              ? permits_.Keep(cap, ask.leaves, slot_)
              : permits_.Share(cap, reply.processes, ask.leaves, slot_));
      reply.plenty = reply.plenty || permits_.has_plenty();
    }
    for (const FleetScopeAsk& told : ask.scopes) {
      std::array<Slots, 2>& wants = wants_[told.scope];
      for (std::size_t i = 0; i < 2; ++i) {
        wants[i].Turn(slot_);
        wants[i].Take(told.slot, told.last_want[i]);
        if (!ask.leaves) wants[i].Put(told.want[i]);
      }
      std::vector<Account*> accounts;
      FleetScopeReply& said = reply.scopes.emplace_back();
      for (const FleetFact& fact : told.facts) {
        Account& account = Find(told.scope, fact.group);
        accounts.push_back(&account);
        said.answers.push_back(Hear(account, fact, reply.gathers));
      }
      if (ask.leaves || reply.gathers) continue;
      const FleetAmounts all{wants[0].Sum() * told.part,
                             wants[1].Sum() * told.part};
      Share(told, all, reply.processes * told.part, accounts, said,
            reply.plenty);
    }
    return reply;
  }

 private:
  // Requests or tokens of a bucket.
  struct Dimension {
    double limit = 0;  // 0: not known
    double rate = 0;
    double level = 0;
    double reserve = 0;
    double total = 0;  // spent, ever
    Slots out;         // granted

    // A small bucket is full a little later than it is believed to be.
    double Most() const {
      return limit + std::min(rate * kLate, std::max(0.0, 1 + reserve - limit));
    }
    double Free() const { return level - out.Sum() - reserve; }
  };

  // The longest period that was told in this slot and the last.
  struct Longest {
    std::int64_t slot = -1;
    std::array<Nanos, 2> periods{};

    void Turn(std::int64_t now) {
      if (now == slot) return;
      periods = {0, now == slot + 1 ? periods[0] : 0};
      slot = now;
    }
    void Raise(Nanos period) { periods[0] = std::max(periods[0], period); }
    Nanos Most() const { return std::max(periods[0], periods[1]); }
  };

  struct Account {
    std::array<Dimension, 2> dimensions;
    Nanos at = 0;  // when the levels were right
    Nanos skipped = 0;
    std::uint64_t epoch = 0;
    Nanos gate = 0;
    internal::LearnedPace pace;

    bool is_limited() const {
      return dimensions[0].limit > 0 || dimensions[1].limit > 0;
    }
    // A bucket of one or two cannot be shared out in advance: who needs the next
    // is not known.
    bool is_small() const {
      return dimensions[0].limit > 0 && dimensions[0].limit < kSmall;
    }
    bool known() const { return (is_limited() || pace.known()) && !is_small(); }
  };

  static constexpr Nanos kMillisecond = 1'000'000;
  // Epochs and versions of a ledger that lives on: fewer in a millisecond.
  static constexpr std::uint64_t kGeneration = 1024;
  static constexpr double kReserve = 0.3;
  static constexpr double kReserveFade = 0.98;
  static constexpr double kSmall = 3;
  static constexpr double kLate = 100'000'000;
  // Granted at most in a scope by one message.
  static constexpr double kMost = 256;
  // With that part of its limit left, of which nothing is out, a key is granted
  // to all who ask.
  static constexpr double kRoom = 0.25;
  static constexpr double kNone = -1e9;
  // The difference of two times in doubles.
  static constexpr double kSlack = 1e-9;
  // For the headroom of a pace, which has no limit.
  static constexpr double kUsualLimit = 60;

  Account& Find(const std::string& scope, const std::string& group) {
    const auto [place, is_new] = accounts_.try_emplace({scope, group});
    Account& account = place->second;
    if (is_new) {
      account.epoch = Born();
      account.at = now_;
      account.skipped = skipped_;
    }
    if (const Nanos span = skipped_ - account.skipped; span > 0) {
      account.at = std::min(now_, account.at + span);
      account.pace.Skip(span);
      account.skipped = skipped_;
    }
    for (Dimension& dimension : account.dimensions) {
      dimension.out.Turn(slot_);
      if (dimension.limit > 0)
        dimension.level = std::min(
            dimension.Most(),
            dimension.level +
                dimension.rate *
                    static_cast<double>(std::max<Nanos>(0, now_ - account.at)));
    }
    account.at = now_;
    return account;
  }

  // The fleet was scattered. The first of it was back at `since`, or may have been;
  // the others go on alone until they notice, so that for a lease nothing is granted.
  void Gather(Nanos since) {
    gathered_ = std::max(gathered_, since + FleetAsk::kLease);
  }
  // The first epoch and version. Those of a ledger that was lost are others.
  std::uint64_t Born() const { return generation_ * kGeneration; }

  FleetAnswer Hear(Account& account, const FleetFact& fact, bool gathers) {
    FleetAnswer answer;
    const bool is_current = fact.epoch == account.epoch;
    // Of others it knows only if it was heard of lately, by this ledger.
    const bool is_following = fact.epoch >= Born() &&
                              fact.epoch <= account.epoch &&
                              fact.slot >= slot_ - 1 && fact.seen[0] > 0;
    const bool was_limited = account.is_limited();
    for (std::size_t i = 0; i < 2; ++i) {
      Dimension& dimension = account.dimensions[i];
      if (is_current) dimension.out.Take(fact.slot, fact.held[i]);
      if (is_following)
        answer.foreign[i] = std::max(0.0, dimension.total - fact.seen[i]);
      dimension.total += fact.spent[i];
      dimension.level -= fact.spent[i];
    }
    if (is_current) {
      account.pace.TakeLot(fact.spent[0] - fact.held[0], now_);
      account.pace.Succeed(now_, static_cast<std::uint64_t>(fact.served));
    }
    if (fact.reported) {
      for (std::size_t i = 0; i < 2; ++i)
        Report(account.dimensions[i], (*fact.reported)[i], answer.foreign[i],
               is_following || !was_limited, i == 0 ? kReserve : 0);
    }
    if (fact.seed_rate > 0 && !account.known() && !gathers)
      account.pace.Seed(fact.seed_rate, now_);
    if (fact.refused) Refuse(account, fact, is_current, gathers);
    answer.known = account.known() && !gathers;
    answer.epoch = account.epoch;
    answer.gate = std::max<Nanos>(0, account.gate - now_);
    answer.pace = account.is_limited() ? 0 : account.pace.rate();
    for (std::size_t i = 0; i < 2; ++i) {
      const Dimension& dimension = account.dimensions[i];
      answer.total[i] = dimension.total;
      answer.limits[i] = {.limit = dimension.limit,
                          .rate = dimension.rate,
                          .level = dimension.level};
    }
    return answer;
  }

  static void Report(Dimension& dimension, const FleetLimit& said,
                     double foreign, bool counts, double least_reserve) {
    if (said.limit <= 0 || said.rate <= 0) return;
    const bool is_first = dimension.limit <= 0;
    dimension.limit = said.limit;
    dimension.rate = said.rate;
    dimension.reserve = std::max(
        {least_reserve, dimension.reserve * kReserveFade, said.reserve});
    dimension.reserve =
        std::min({dimension.reserve, dimension.limit / 2,
                  std::max(0.0, dimension.Most() * (1 - kSlack) - 1)});
    // Of what is beyond the limit nobody else knows.
    const double level = std::min(said.level - foreign, dimension.limit);
    if (is_first || (counts && level < dimension.limit - 1e-6))
      dimension.level = level;
  }

  void Refuse(Account& account, const FleetFact& fact, bool is_current,
              bool gathers) {
    if (fact.refusal.hint > 0)
      account.gate = std::max(account.gate,
                              internal::SaturatingAdd(now_, fact.refusal.hint));
    if (!is_current || account.is_limited()) return;
    // Somebody may know a pace.
    if (gathers && !account.pace.known()) return;
    const Nanos pause = account.pace.RefuseInLots(
        fact.refusal.hint, fact.refusal.guess, now_, fact.refusal.longest);
    account.gate = std::max(account.gate, internal::SaturatingAdd(now_, pause));
    account.pace.HoldUntil(account.gate);
    ++account.epoch;
    for (Dimension& dimension : account.dimensions) dimension.out.Clear();
  }

  // What may be granted of one account.
  struct Offer {
    FleetAmounts free{kNone, kNone};
    FleetAmounts rate{};
    FleetAmounts limit{};
    Nanos opens = 0;  // from now

    bool Has(double cost) const {
      return free[0] >= 1 && free[1] >= Cost(cost);
    }
    // No more than the bucket holds.
    double Cost(double cost) const { return std::min(cost, limit[1]); }
    double Headroom() const {
      return std::min(free[0] / limit[0], free[1] / limit[1]);
    }
    // When it has so much.
    Nanos Due(double cost) const {
      double due = 0;
      const FleetAmounts missing{1 - free[0], Cost(cost) - free[1]};
      for (std::size_t i = 0; i < 2; ++i) {
        if (missing[i] > 0) due = std::max(due, missing[i] / rate[i]);
      }
      return due < 1e15 ? std::max(opens, static_cast<Nanos>(due))
                        : internal::kNever;
    }
  };

  // What comes in a period, per nanosecond.
  double FlowOf(const internal::LearnedPace& pace) const {
    if (!pace.known()) return 0;
    return (pace.Credit(now_ + period_) - pace.Credit(now_)) /
           static_cast<double>(period_);
  }

  Offer OfferOf(const Account& account) const {
    constexpr double kUnlimited = 1e300;
    Offer offer;
    offer.opens = std::max<Nanos>(0, account.gate - now_);
    if (!account.known() || offer.opens > period_) return offer;
    for (std::size_t i = 0; i < 2; ++i) {
      const Dimension& dimension = account.dimensions[i];
      offer.limit[i] = kUnlimited;
      offer.free[i] = kUnlimited;
      if (dimension.limit > 0) {
        offer.free[i] = dimension.Free() + kSlack;
        offer.rate[i] = dimension.rate;
        offer.limit[i] = dimension.limit;
      }
    }
    if (!account.is_limited()) {
      offer.free[0] = account.pace.Credit(now_) + kSlack;
      offer.rate[0] = FlowOf(account.pace);
      offer.limit[0] = kUsualLimit;
    }
    return offer;
  }

  // What is idle first, then what is wanted, by a fair part of what is there and
  // of what comes until the next message. `all` wants, of `processes`.
  void Share(const FleetScopeAsk& told, const FleetAmounts& all,
             double processes, const std::vector<Account*>& accounts,
             FleetScopeReply& said, bool& plenty) const {
    std::vector<Offer> offers;
    FleetAmounts there{};
    FleetAmounts coming{};
    bool counts_tokens = false;
    for (const Account* account : accounts) {
      const Offer& offer = offers.emplace_back(OfferOf(*account));
      if (offer.free[0] == kNone) continue;
      counts_tokens = counts_tokens || account->dimensions[1].limit > 0;
      for (std::size_t i = 0; i < 2; ++i) {
        const double flow = offer.rate[i] * static_cast<double>(period_);
        there[i] += std::max(0.0, offer.free[i]);
        coming[i] += std::max(0.0, std::min(flow, flow + offer.free[i]));
      }
    }
    const double want = told.want[0];
    const double mean = want > 0 ? told.want[1] / want : 0;
    const auto part = [&](std::size_t i) {
      return all[i] > 0
                 ? (there[i] + coming[i]) * std::min(1.0, told.want[i] / all[i])
                 : 0.0;
    };
    double idle = there[0] / 2 / std::max(1.0, processes);
    double fair = part(0);
    if (counts_tokens && mean > 0) {
      idle = std::min(idle, there[1] / mean / 2 / std::max(1.0, processes));
      fair = std::min(fair, part(1) / mean);
    }
    fair += told.carry;
    const double target =
        std::min(kMost, std::max(std::floor(idle),
                                 std::min(std::ceil(want), std::floor(fair))));
    double given = 0;
    const auto cost_of_next = [&] {
      const auto order = static_cast<std::size_t>(given);
      return order < told.costs.size() ? told.costs[order] : mean;
    };
    const auto give = [&](std::size_t i, Nanos in, double cost) {
      const double paid = offers[i].Cost(cost);
      said.answers[i].grants.push_back({in, paid});
      offers[i].free[0] -= 1;
      offers[i].free[1] -= paid;
      given += 1;
    };
    // Which key the next request wants, for a prompt cache or by its weight, is
    // not known here: one of each that has enough left.
    for (std::size_t i = 0; i < offers.size() && given < kMost; ++i) {
      const double cost = cost_of_next();
      if (offers[i].opens == 0 && offers[i].Has(cost) &&
          offers[i].Headroom() >= kRoom)
        give(i, 0, cost);
    }
    while (given < target) {
      const double cost = cost_of_next();
      std::size_t best = offers.size();
      Nanos in = 0;
      for (std::size_t i = 0; i < offers.size(); ++i) {
        if (offers[i].opens == 0 && offers[i].Has(cost) &&
            (best == offers.size() ||
             offers[i].Headroom() > offers[best].Headroom()))
          best = i;
      }
      if (best == offers.size() && given < want) {
        in = period_ + 1;
        for (std::size_t i = 0; i < offers.size(); ++i) {
          if (offers[i].free[0] == kNone) continue;
          const Nanos due = offers[i].Due(cost);
          if (due >= in) continue;
          in = due;
          best = i;
        }
      }
      if (best == offers.size()) break;
      give(best, in, cost);
    }
    said.carry = want > 0 ? std::clamp(fair - std::min(given, std::floor(fair)),
                                       0.0, 1.0)
                          : 0;
    for (const Offer& offer : offers) plenty = plenty || offer.Has(mean);

    for (std::size_t i = 0; i < accounts.size(); ++i) {
      std::vector<FleetGrant>& grants = said.answers[i].grants;
      std::stable_sort(
          grants.begin(), grants.end(),
          [](const FleetGrant& a, const FleetGrant& b) { return a.in < b.in; });
      for (const FleetGrant& grant : grants) {
        accounts[i]->dimensions[0].out.Put(1);
        accounts[i]->dimensions[1].out.Put(grant.cost);
      }
      accounts[i]->pace.TakeLot(static_cast<double>(grants.size()), now_);
    }
  }

  Nanos now_ = 0;
  Nanos last_ = 0;
  Nanos skipped_ = 0;
  Nanos gathered_ = 0;  // when all are back
  Longest longest_;
  std::int64_t slot_ = 0;
  Nanos period_ = 0;              // of who asks
  std::uint64_t generation_ = 0;  // when it began, in milliseconds
  FleetMarks marks_;
  FleetPermitLedger permits_;
  Slots processes_;
  std::map<std::string, std::array<Slots, 2>> wants_;
  std::map<std::pair<std::string, std::string>, Account> accounts_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_FLEET_LEDGER_H_
