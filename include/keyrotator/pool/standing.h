// File: pool/standing.h
//
// Standing: whether a group of keys may be used in one scope. It has all that
// can hold the group back there: the gate (a cooldown), the provider's bucket
// or the learned pace (not enough left), and slow start (nobody has said how
// many may be out). It reads no clock; `now` is a parameter.

#ifndef KEYROTATOR_POOL_STANDING_H_
#define KEYROTATOR_POOL_STANDING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "keyrotator/internal/time.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/fleet_share.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/learned_pace.h"
#include "keyrotator/pool/peers.h"
#include "keyrotator/pool/shadow_bucket.h"
#include "keyrotator/pool/slow_start.h"
#include "keyrotator/pool/timers.h"

namespace keyrotator::internal {

class Standing {
 public:
  Standing(Scope& scope, Group& group) : scope_(scope), group_(group) {
    timer.owner = this;
  }
  Standing(const Standing&) = delete;
  Standing& operator=(const Standing&) = delete;

  Gate gate;
  Timer timer;         // when Update is due
  bool listed = true;  // IsUsable(), as the lists of usable keys have it
  bool full = false;   // IsFull(), as the scope counts it

  Scope& scope() const { return scope_; }
  Group& group() const { return group_; }
  const ShadowBucket& bucket() const { return bucket_; }
  bool is_low() const { return low_; }

  // What the fleet granted; null without one.
  FleetShare* share() const { return share_.get(); }
  // A new one tells what is known here.
  FleetShare& GetShare(Nanos now) {
    if (share_ == nullptr) {
      share_ = std::make_unique<FleetShare>(pace_.rate());
      if (bucket_.rated()) share_->Report(bucket_.Limits(now), now);
    }
    return *share_;
  }
  // Whether that says how many requests may go out.
  bool IsShared(Nanos now) const {
    return share_ != nullptr && share_->is_on() &&
           (bucket_.rated() || !share_->IsLeft(now));
  }

  // Whether the bucket, the pace or the fleet says how many requests may go out.
  bool is_metered() const {
    return bucket_.known() || pace_.known() ||
           (share_ != nullptr && share_->is_on());
  }
  // Whether a request of `tokens` may go out, as far as these know; one that
  // `yields` leaves something to others.
  bool Fits(double tokens, Nanos now, bool yields = false) const {
    if (IsShared(now)) {
      return share_->Fits(tokens, now) &&
             (!share_->IsAlone(now) || !bucket_.rated() ||
              bucket_.Fits(tokens, now));
    }
    return bucket_.Fits(tokens, now, yields ? kSpare : 0) &&
           (bucket_.rated() || pace_.Fits(now, yields ? kSpareCredit : 0));
  }
  // When it may, if no other does before.
  Nanos WhenFits(double tokens, Nanos now, bool yields = false) const {
    if (IsShared(now)) {
      const Nanos when = share_->WhenFits(tokens, now);
      if (!bucket_.rated()) return std::min(when, share_->leaves());
      return share_->IsAlone(now)
                 ? std::max(when, bucket_.WhenFits(tokens, now))
                 : when;
    }
    const Nanos when = bucket_.WhenFits(tokens, now, yields ? kSpare : 0);
    return bucket_.rated()
               ? when
               : std::max(when, pace_.WhenFits(now, yields ? kSpareCredit : 0));
  }

  bool IsUsable() const { return gate.is_usable() && !low_; }
  // Whether slow start holds callers that wait back until leases have ended. It
  // does not where a bucket or a pace says how many may go out.
  bool IsFull() const { return !is_metered() && !slow_start_.HasRoom(); }

  // Works out whether enough is left for any request. Returns when to do so
  // again, or when the gate is to open; kNever if time changes nothing.
  Nanos Update(Nanos now) {
    low_ = is_metered() && !Fits(0, now);
    if (gate.is_shut()) return gate.until();
    if (low_) return WhenFits(0, now);
    return is_metered() ? kNever : slow_start_.Update(now);
  }

  // A lease goes out; `held_back`: slow start counts it, from `window` on.
  void Take(double cost, Grant& grant, bool held_back, std::size_t window,
            Nanos now) {
    if (gate.TryTake()) grant.trials |= Grant::kScopeTrial;
    if (held_back && !is_metered()) {
      slow_start_.Begin(window);
      slow_start_.Take(now);
      grant.trials |= Grant::kSlowStart;
    }
    if (bucket_.known()) grant.note = bucket_.Take(cost, now);
    if (share_ != nullptr) {
      share_->Take(cost, now);
      grant.fleet_epoch = share_->epoch();
      if (IsShared(now)) return;
    }
    grant.place = pace_.Take(now);
  }

  // What the provider says is left, in the answer to that lease's request.
  // False if it is older than what is known.
  bool Learn(const Grant& grant, const RateLimits& limits,
             double others_in_flight, Nanos now) {
    if (grant.ticket < reported_ticket_) return false;
    reported_ticket_ = grant.ticket;
    bucket_.Report(grant.note, others_in_flight, limits, grant.refused, now);
    if (share_ != nullptr && bucket_.rated())
      share_->Report(bucket_.Limits(now), now);
    return true;
  }

  // A fresh lease was refused. Whether the fleet, not the pace here, learns from
  // it.
  bool RefuseShared(const Grant& grant, const FleetRefusal& refusal,
                    Nanos now) {
    if (share_->is_on() && !IsShared(now)) return false;
    share_->Refuse(grant.fleet_epoch, refusal, now);
    return share_->is_on();
  }

  void LeaveFleet(Nanos now) {
    if (share_ != nullptr && share_->is_on() && share_->pace() > 0)
      SeedPace(share_->OwnPace(), now);
    share_ = nullptr;
  }

  // The ledger's reply to what was told of this group.
  void HearFleet(const FleetFact& told, const FleetAnswer& said,
                 const FleetReply& reply, Nanos asked, Nanos period,
                 double chance, Nanos now) {
    const bool was_on = share_->is_on();
    const bool is_known =
        share_->Hear(told, said, reply, asked, period, chance, now);
    bucket_.TakeForeign(said.foreign, now);
    if ((is_known || reply.gathers) && !bucket_.known())
      bucket_.Seed(said.limits, now);
    if (!is_known) {
      // It is not left before then.
      if (share_->is_on() && share_->pace() > 0)
        SeedPace(share_->OwnPace(), share_->leaves());
      return;
    }
    if (said.pace <= 0) return;
    if (share_->is_on()) {
      // For when the fleet is left.
      SeedPace(share_->OwnPace(), share_->leaves());
    } else if (was_on || !pace_.known()) {
      SeedPace(said.pace, now);
    }
  }

  // The pace learns from refusals only where the bucket has no rate.
  bool is_paced() const { return !bucket_.rated(); }
  // A fresh lease was refused. As LearnedPace::Refuse.
  Nanos Refuse(const Grant& grant, Nanos hint, Nanos guess, Nanos now,
               Nanos longest, Peers& peers) {
    const Nanos pause =
        pace_.Refuse(hint, guess, now, longest, grant.place, peers.Rate());
    if (pace_.found() > 0) peers.Learn(this, pace_.found());
    return pause;
  }
  // No lease goes out before `until`; then they do at the pace, if there is
  // one.
  void HoldUntil(Nanos until) {
    if (pace_.known()) pace_.HoldUntil(until);
  }
  // A fresh lease served its request.
  void Serve(const Grant& grant, Nanos now) {
    if (share_ != nullptr && grant.fleet_epoch == share_->epoch())
      share_->Serve(now);
    if (IsShared(now)) return;
    if (pace_.known()) pace_.Succeed(now);
  }

  // Callers wait, and the group is usable again of whose limits nothing is known:
  // one lease goes out at first. True if that has just begun.
  bool Restart(std::uint64_t first_ticket) {
    return !is_metered() && slow_start_.Restart(first_ticket);
  }
  // Nobody waits any more. True if that changes something.
  bool EndRestart() { return slow_start_.EndRestart(); }

  // Settles the trials of a lease that were this standing's.
  void EndTrials(std::uint8_t trials, std::uint64_t ticket, bool good) {
    if ((trials & Grant::kScopeTrial) != 0) gate.EndTrial(ticket, good);
    if ((trials & Grant::kSlowStart) != 0) slow_start_.End(ticket, good);
  }

 private:
  // What a batch leaves of a limit, and of what a pace has saved up.
  static constexpr double kSpare = 0.05;
  static constexpr double kSpareCredit = 2;

  void SeedPace(double rate, Nanos now) {
    pace_ = LearnedPace();
    pace_.Seed(rate, now);
  }

  Scope& scope_;
  Group& group_;
  std::unique_ptr<FleetShare> share_;
  ShadowBucket bucket_;
  // Used where the bucket has no rate.
  LearnedPace pace_;
  std::uint64_t reported_ticket_ = 0;
  // Not enough for one request, by the bucket or the pace.
  bool low_ = false;
  SlowStart slow_start_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_STANDING_H_
