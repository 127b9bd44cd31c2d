// File: pool/standing.h
//
// Standing: whether a group of keys may be used in one scope. It has all that
// can hold the group back there: the gate (a cooldown), the provider's bucket
// or the learned pace (not enough left), and slow start (callers wait, and the
// group has just returned). It reads no clock; `now` is a parameter.

#ifndef KEYROTATOR_POOL_STANDING_H_
#define KEYROTATOR_POOL_STANDING_H_

#include <algorithm>
#include <cstdint>
#include <utility>

#include "keyrotator/internal/time.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/learned_pace.h"
#include "keyrotator/pool/shadow_bucket.h"
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

  Scope& scope() const { return scope_; }
  Group& group() const { return group_; }
  const ShadowBucket& bucket() const { return bucket_; }
  bool is_low() const { return low_; }

  // Whether the bucket or the pace says how many requests may go out.
  bool is_metered() const { return bucket_.known() || pace_.known(); }
  // Whether a request of `tokens` may go out, as far as these know.
  bool Fits(double tokens, Nanos now) const {
    return bucket_.Fits(tokens, now) && (bucket_.rated() || pace_.Fits(now));
  }
  // When it may, if no other does before.
  Nanos WhenFits(double tokens, Nanos now) const {
    const Nanos when = bucket_.WhenFits(tokens, now);
    return bucket_.rated() ? when : std::max(when, pace_.WhenFits(now));
  }

  // Whether slow start holds leases back until others have ended.
  bool is_held_back() const { return starting_ && credit_ == 0; }
  bool IsUsable() const { return gate.is_usable() && !low_ && !is_held_back(); }

  // Works out whether enough is left for any request. Returns when to do so
  // again, or when the gate is to open; kNever if time changes nothing.
  Nanos Update(Nanos now) {
    low_ = is_metered() && !Fits(0, now);
    if (gate.is_shut()) return gate.until();
    return low_ ? WhenFits(0, now) : kNever;
  }

  // A lease goes out.
  void Take(double cost, Grant& grant, Nanos now) {
    if (gate.TryTake()) grant.trials |= Grant::kScopeTrial;
    if (starting_) {
      --credit_;
      grant.trials |= Grant::kSlowStart;
    }
    if (bucket_.known()) grant.note = bucket_.Take(cost, now);
    pace_.Take(now);
  }

  // What the provider says is left, in the answer to that lease's request.
  // False if it is older than what is known.
  bool Learn(const Grant& grant, const RateLimits& limits,
             double others_in_flight, Nanos now) {
    if (grant.ticket < reported_ticket_) return false;
    reported_ticket_ = grant.ticket;
    bucket_.Report(grant.note, others_in_flight, limits, grant.refused, now);
    return true;
  }

  // The pace learns from refusals only where the bucket has no rate.
  bool is_paced() const { return !bucket_.rated(); }
  // A fresh lease was refused. As LearnedPace::Refuse.
  Nanos Refuse(Nanos hint, Nanos guess, Nanos now, Nanos longest) {
    return pace_.Refuse(hint, guess, now, longest);
  }
  // No lease goes out before `until`; then they do at the pace, if there is
  // one.
  void HoldUntil(Nanos until) {
    if (pace_.known()) pace_.HoldUntil(until);
  }
  // A fresh lease served its request.
  void Serve(Nanos now) {
    if (pace_.known()) pace_.Succeed(now);
  }

  // Slow start: while others wait, one lease goes out, and more as its request
  // turns out well. Not where a bucket or a pace says how many may.

  // True if it has just begun.
  bool Start() {
    if (is_metered()) return false;
    credit_ = starting_ ? std::max(credit_, 1u) : 1;
    return !std::exchange(starting_, true);
  }
  // True if it was under way.
  bool EndStart() { return std::exchange(starting_, false); }

  // Settles the trials of a lease that were this standing's. True if slow start
  // lets more go out.
  bool EndTrials(std::uint8_t trials, std::uint64_t ticket, bool good) {
    if ((trials & Grant::kScopeTrial) != 0) gate.EndTrial(ticket, good);
    // A lease that ends well makes room for two, so that a group that returned
    // is used by 1, 2, 4 ...; any other for one.
    if ((trials & Grant::kSlowStart) != 0) credit_ += good ? 2 : 1;
    return starting_;
  }

 private:
  Scope& scope_;
  Group& group_;
  ShadowBucket bucket_;
  // Used where the bucket has no rate.
  LearnedPace pace_;
  std::uint64_t reported_ticket_ = 0;
  // Not enough for one request, by the bucket or the pace.
  bool low_ = false;
  bool starting_ = false;
  // How many leases slow start lets out now.
  std::uint32_t credit_ = 0;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_STANDING_H_
