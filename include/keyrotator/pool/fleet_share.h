// File: pool/fleet_share.h
//
// FleetShare: what one process may send of a group's limit in a scope, as the
// ledger of its fleet granted it: whole requests, each from a time on, until the
// lease on them is over. Where the ledger does not answer, or does not know the
// group, and what was granted is used up, the process is alone: it goes on with its
// part of the rate; and where the ledger does not answer, after a while as if there
// were no fleet. It reads no clock; `now` is a parameter.

#ifndef KEYROTATOR_POOL_FLEET_SHARE_H_
#define KEYROTATOR_POOL_FLEET_SHARE_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"

namespace keyrotator::internal {

// What is not a number above 0 is not known, and counts as no tokens.
inline double KnownCost(double cost) {
  return std::isfinite(cost) ? std::max(cost, 0.0) : 0;
}

class FleetShare {
 public:
  // `pace` was learned here before, per nanosecond; 0: none was.
  explicit FleetShare(double pace = 0) : pace_(pace) {}

  // Whether the ledger says how much may go out, and not what is known here.
  bool is_on() const { return on_; }
  // Whether nobody else is in the fleet, so that what is known here is all.
  bool is_solo() const { return solo_; }
  // Whether nothing that it granted is left, and no more comes now.
  bool IsAlone(Nanos now) const { return now >= AloneFrom(); }
  // The same, and the fleet does not answer. What is spent then is not told.
  bool IsLost(Nanos now) const { return now >= LostFrom(); }
  // When it is as if there were no fleet, if nothing is heard until then.
  Nanos leaves() const { return SaturatingAdd(expires_, kWhile); }
  bool IsLeft(Nanos now) const { return now >= leaves(); }

  // Whether a request of `cost` tokens may go out.
  bool Fits(double cost, Nanos now) const {
    if (IsAlone(now)) return CreditAt(now) >= 1 - kSlack;
    if (next_ >= grants_.size() || grants_[next_] > now) return false;
    // Once the fleet does not answer no more tokens come for what is granted.
    return missed_ <= now ||
           purse_ >= std::min(KnownCost(cost), token_limit_) * (1 - kSlack);
  }
  // When it may, if nothing else changes; never kNever, since there will be news.
  Nanos WhenFits(double cost, Nanos now) const {
    if (Fits(cost, now)) return now;
    if (!IsAlone(now)) {
      Nanos when = std::min(AloneFrom(), SaturatingAdd(now, period_));
      if (next_ < grants_.size() && grants_[next_] > now)
        when = std::min(when, grants_[next_]);
      return std::max(when, now + 1);
    }
    const double wait = share_ > 0
                            ? std::min((1 - CreditAt(now)) / share_, kLongest)
                            : kLongest;
    const Nanos since = std::max({now, credit_time_, AloneFrom()});
    return SaturatingAdd(since, static_cast<Nanos>(wait) + 1);
  }

  // A lease goes out.
  void Take(double cost, Nanos now) {
    if (on_ && IsAlone(now)) {
      credit_ = std::max(0.0, CreditAt(now) - 1);
      credit_time_ = now;
      Drop();
      if (IsLost(now)) return;
    } else {
      if (next_ < grants_.size()) ++next_;
      purse_ = std::max(0.0, purse_ - KnownCost(cost));
      credit_time_ = std::max(credit_time_, now);
    }
    ++spent_[0];
    spent_[1] += KnownCost(cost);
  }
  // A lease of this epoch served its request.
  void Serve(Nanos now) {
    if (on_ && IsAlone(now)) share_ *= kFaster;
    if (!on_ || !IsLost(now)) ++served_;
  }
  // A lease of `epoch` was refused. What was granted is void, and the ledger is
  // to be told.
  void Refuse(std::uint64_t epoch, const FleetRefusal& refusal, Nanos now) {
    if (on_ && IsAlone(now)) {
      share_ *= kSlower;
      Drop();
      credit_ = 0;
      credit_time_ = SaturatingAdd(
          now, refusal.hint > 0 ? refusal.hint
                                : std::min(refusal.guess, kLongestGuess));
      return;
    }
    if (epoch != epoch_) return;
    refused_ = true;
    refusal_ = refusal;
    Drop();
  }
  // The provider said what is left.
  void Report(const std::array<FleetLimit, 2>& limits, Nanos now) {
    reported_ = true;
    for (std::size_t i = 0; i < 2; ++i) last_level_[i] = limits[i].level;
    // Alone: where much is left, others seem to leave theirs.
    const FleetLimit& said = limits[0];
    if (on_ && IsAlone(now) &&
        said.level > 0.1 * said.limit + 2 + 2 * said.reserve) {
      credit_ = CreditAt(now) + 1;
      credit_time_ = now;
      Drop();
    }
  }

  std::uint64_t epoch() const { return epoch_; }
  // Whether there is something to tell, or to give back.
  bool has_news() const {
    return held_[0] > 0 || spent_[0] > 0 || refused_ || reported_;
  }
  // Whether the ledger has lost what it knew, or waits for all to come back.
  bool is_forgotten() const { return forgotten_; }
  double pace() const { return pace_; }
  // The pace to begin with where the fleet is left: others may have nothing to send
  // any more, so it is more than its part.
  double OwnPace() const { return pace_ * std::max(kLeast, part_); }

  // --- The messages ---

  // All but what the provider reported: `limits` is that, where it was.
  FleetFact Tell(const std::array<FleetLimit, 2>& limits, Nanos now) {
    FleetFact fact;
    fact.epoch = epoch_;
    fact.spent = std::exchange(spent_, {});
    fact.served = std::exchange(served_, 0.0);
    fact.held = held_;
    fact.slot = slot_;
    fact.seen = seen_;
    fact.refused = std::exchange(refused_, false);
    fact.refusal = refusal_;
    mine_ += fact.spent[0];
    const bool is_rated = limits[0].rate > 0 || limits[1].rate > 0;
    // A ledger that knows nothing has to hear of the limits again. What has flowed
    // back since the report is not known to be there.
    const bool is_old = !reported_ || (on_ && IsLost(now));
    if (unknown_ && is_rated) reported_ = true;
    if ((!on_ || forgotten_) && !is_rated) fact.seed_rate = pace_;
    if (std::exchange(reported_, false) && is_rated) {
      fact.reported = limits;
      if (is_old) {
        for (std::size_t i = 0; i < 2; ++i)
          (*fact.reported)[i].level =
              std::min((*fact.reported)[i].level, last_level_[i]);
      }
    }
    return fact;
  }
  // The fleet does not answer. False if it did not before, either.
  bool Miss(Nanos now) {
    if (missed_ != kNever) return false;
    missed_ = now;
    return true;
  }
  // What was in the message is to be told again.
  void Untell(const FleetFact& fact) {
    if (fact.epoch != epoch_) return;
    mine_ -= fact.spent[0];
    for (std::size_t i = 0; i < 2; ++i) spent_[i] += fact.spent[i];
    served_ += fact.served;
    refused_ = refused_ || fact.refused;
    reported_ = reported_ || fact.reported.has_value();
  }

  // The reply to what `told` was a part of, asked at `asked`. `chance`, from 0 to
  // 1, spreads the processes out that are alone. False if the ledger knows
  // nothing of the group. A process that is by itself in its fleet goes on as
  // without one.
  bool Hear(const FleetFact& told, const FleetAnswer& said,
            const FleetReply& reply, Nanos asked, Nanos period, double chance,
            Nanos now) {
    EndLoss(now);
    seen_ = said.total;
    slot_ = reply.slot;
    const bool is_new_epoch = said.epoch != epoch_;
    all_ += told.spent[0] + said.foreign[0];
    mine_ *= kFade;
    all_ *= kFade;
    forgotten_ = on_ && !said.known;
    epoch_ = said.epoch;
    unknown_ =
        forgotten_ && said.limits[0].rate <= 0 && said.limits[1].rate <= 0;
    if (forgotten_) {
      Drop();
      held_ = {};
      expires_ = SaturatingAdd(asked, FleetAsk::kLease);
      return false;
    }
    solo_ = reply.processes <= 1;
    const bool was_on = std::exchange(on_, said.known && !solo_);
    if (on_ && !was_on) credit_ = chance;
    const auto gone = is_new_epoch ? FleetAmounts{} : spent_;
    if (is_new_epoch) {
      spent_ = {};
      served_ = 0;
    }
    held_ = {};
    for (const FleetGrant& grant : said.grants) {
      ++held_[0];
      held_[1] += grant.cost;
    }
    if (!on_) Drop();
    if (!refused_ && on_) {
      Drop();
      for (const FleetGrant& grant : said.grants) {
        grants_.push_back(SaturatingAdd(now, grant.in));
      }
      next_ = std::min(static_cast<std::size_t>(gone[0]), grants_.size());
      purse_ = std::max(0.0, held_[1] - gone[1]);
    }
    expires_ = SaturatingAdd(asked, FleetAsk::kLease);
    period_ = period;
    token_limit_ = said.limits[1].limit;
    part_ = 1 / reply.processes;
    if (all_ > 0) part_ = std::min(1.0, 0.9 * mine_ / all_ + 0.1 * part_);
    pace_ = said.pace;
    const double rate = said.pace > 0 ? said.pace : said.limits[0].rate;
    share_ = kBelow * rate * part_;
    credit_time_ = now;
    return said.known;
  }
  // The fleet was heard of, though not of this group.
  void Extend(Nanos asked, Nanos now) {
    EndLoss(now);
    if (on_) expires_ = SaturatingAdd(asked, FleetAsk::kLease);
  }

 private:
  // How long a process that is alone keeps to its part. Then others may have less
  // to send, or be gone.
  static constexpr Nanos kWhile = 10'000'000'000;
  // Alone it sends a little less than its part, and adapts that to what comes of
  // it.
  static constexpr double kBelow = 0.95;
  static constexpr double kFaster = 1.005;
  static constexpr double kSlower = 0.7;
  static constexpr Nanos kLongestGuess = 1'000'000'000;
  static constexpr double kLeast = 0.4;
  static constexpr double kBurst = 5e9;  // saved up, in nanoseconds of its part
  static constexpr double kLongest = 10e9;  // from one request to the next
  static constexpr double kFade = 0.98;     // of what was spent, a message
  // The difference of two times in doubles.
  static constexpr double kSlack = 1e-9;

  Nanos AloneFrom() const { return forgotten_ ? kLongAgo : LostFrom(); }
  Nanos LostFrom() const {
    return next_ < grants_.size() ? expires_ : std::min(expires_, missed_);
  }
  double CreditAt(Nanos now) const {
    const Nanos since = std::max(credit_time_, AloneFrom());
    // Who has not used what was granted is not one who wants more than its part.
    const double begin = next_ < grants_.size() ? 1 : credit_;
    return std::min(std::max(1.0, share_ * kBurst),
                    begin + share_ * static_cast<double>(std::max<Nanos>(
                                         SaturatingSubtract(now, since), 0)));
  }
  // The fleet answers. What was saved up while it did not is lost, but not the part
  // of a request: it keeps processes that are alone again from going in step.
  void EndLoss(Nanos now) {
    if (on_ && IsAlone(now)) {
      const double credit = CreditAt(now);
      credit_ = IsLost(now) ? std::fmod(credit, 1.0) : credit;
    }
    credit_time_ = std::max(credit_time_, now);
    missed_ = kNever;
  }
  void Drop() {
    grants_.clear();
    next_ = 0;
    purse_ = 0;
  }

  bool on_ = false;
  bool solo_ = false;
  bool forgotten_ = false;
  bool unknown_ = false;  // the limits are to be told, though they were
  std::uint64_t epoch_ = 0;
  Nanos expires_ = kLongAgo;
  Nanos missed_ = kNever;  // since when the fleet does not answer
  Nanos period_ = 0;
  // Granted: from when on each request may go out, and tokens for all.
  std::vector<Nanos> grants_;
  std::size_t next_ = 0;  // the first that is not spent
  double purse_ = 0;
  double token_limit_ = 0;  // no request needs more; 0: they do not count

  // To be told.
  FleetAmounts spent_{};
  double served_ = 0;
  bool refused_ = false;
  FleetRefusal refusal_;
  bool reported_ = false;
  FleetAmounts last_level_{};
  // As the last reply had it.
  FleetAmounts held_{};
  FleetAmounts seen_{};
  std::int64_t slot_ = -1;

  // Alone.
  double part_ = 1;   // of what the fleet spends
  double pace_;       // the fleet's
  double share_ = 0;  // of the rate, per nanosecond
  double credit_ = 0;
  Nanos credit_time_ = kLongAgo;
  double mine_ = 0;  // spent, and by all; they fade
  double all_ = 0;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_FLEET_SHARE_H_
