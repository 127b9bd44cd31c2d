// File: pool/shared_limit.h
//
// SharedLimit: whether others use a limit, too, and how fast to go beside them.
// Of a limit that refills, the reports of what is left fall by what is leased
// here. Where they fall faster, somebody takes the rest: another process with
// the same keys, say. Then what flows back is not one's own, and who takes it
// for that is refused. It reads no clock; `now` is a parameter.
//
// So leases go out at a pace, and at once only what the last report left beyond
// what is kept for the others. Who finds less than that slows down by a part of
// its pace; after each report all speed up by the same step. That ends at equal
// shares, and at a bucket that is never quite empty, without anybody who knows
// how many there are. What is kept is not lost but once: a limit refills below
// its top as fast as at its bottom.

#ifndef KEYROTATOR_POOL_SHARED_LIMIT_H_
#define KEYROTATOR_POOL_SHARED_LIMIT_H_

#include <algorithm>
#include <cmath>

#include "keyrotator/clock.h"

namespace keyrotator::internal {

class SharedLimit {
 public:
  // What an answer said of the limit, in its units: requests or tokens.
  struct Report {
    double limit = 0;
    double rate = 0;  // at which it refills, per nanosecond
    double left = 0;
    bool refused = false;
    // The lease of its request: what it cost, what was leased in all with it, and
    // when it went out.
    double cost = 0;
    double leased = 0;
    Nanos time = 0;
  };

  // Whether others take a good part of what it refills.
  bool is_shared() const { return pace_ > 0; }

  // Whether `cost` may go out, as far as the others are concerned.
  bool Fits(double cost, Nanos now) const {
    return !is_shared() || now >= free_at_ || LeftAt(now, cost) >= cost + keep_;
  }
  // When it may, if none does before.
  Nanos WhenFits(double cost, Nanos now) const {
    return Fits(cost, now) ? now : free_at_;
  }

  // A lease goes out.
  void Take(double cost, Nanos now) {
    left_ -= cost;
    // One that goes out beside the pace does not hold the next back.
    if (is_shared() && now >= free_at_)
      free_at_ = SaturatingAdd(now, Span(std::min(cost, limit_) / pace_));
  }

  // Takes the word of an answer; they come in the order of their leases. `leased`
  // is what has been leased in all.
  void Learn(const Report& said, double leased, Nanos now) {
    if (!(said.limit > 0) || !(said.rate > 0)) return;
    if (reported_) Count(said);
    reported_ = true;
    limit_ = said.limit;
    reported_leased_ = said.leased;
    reported_left_ = said.left;
    reported_time_ = said.time;
    left_ = said.left - (leased - said.leased);
    keep_ = std::max(said.cost, kKept * said.limit);
    SetPace(PaceAfter(said), said.cost, now);
  }

 private:
  // A limit that holds fewer requests is left as it is: where something is kept
  // for others, it is full too often, and then nothing flows back. With five,
  // 0.92 was served, not 0.998.
  static constexpr double kFewest = 8;
  // The others matter if they take so much of what it refills, and so many
  // requests more: that is what rounding and the order of arrivals look like.
  static constexpr double kShare = 0.1;
  static constexpr double kFew = 2;
  // They must have been watched for that part of the time in which it fills.
  static constexpr double kWatched = 0.5;
  // What was seen fades with the time in which the limit fills, or by that much a
  // report, if that is slower.
  static constexpr double kFade = 0.9;
  // The part of the limit that is kept for others, and one request at least.
  static constexpr double kKept = 0.04;
  // The pace, as a part of the rate: the first, what each report adds, and the
  // part of it that one that finds nothing takes away.
  static constexpr double kFirst = 0.2;
  static constexpr double kStep = 0.0015;
  static constexpr double kBack = 0.25;

  // What others have taken since the last report, at least: what the bucket would
  // hold without them is not counted beyond its limit.
  void Count(const Report& said) {
    const double fill = said.limit / said.rate;
    const double span =
        std::min(fill, static_cast<double>(std::max<Nanos>(
                           SaturatingSubtract(said.time, reported_time_), 0)));
    const double before = said.left + (said.refused ? 0 : said.cost);
    const double own = said.leased - said.cost - reported_leased_;
    const double alone =
        std::min(said.limit, reported_left_ + said.rate * span) - own;
    const double keep = std::max(kFade, fill / (fill + span));
    others_ = std::max(0.0, others_ * keep + alone - before);
    watched_ = watched_ * keep + span;
  }

  // 0: the limit is not shared.
  double PaceAfter(const Report& said) const {
    if (watched_ * said.rate < kWatched * said.limit ||
        others_ < kShare * said.rate * watched_ + kFew * said.cost)
      return 0;
    // A single request that costs much is no reason to forget them.
    if (!is_shared() && said.limit < kFewest * said.cost) return 0;
    double pace = is_shared() ? pace_ : kFirst * said.rate;
    if (said.left < keep_) pace *= 1 - kBack * (1 - said.left / keep_);
    return std::min(pace + kStep * said.rate, said.rate);
  }

  // The rest of a wait is as long as it would be at the new pace.
  void SetPace(double pace, double cost, Nanos now) {
    if (pace <= 0) {
      free_at_ = kLongAgo;
    } else if (is_shared() && free_at_ > now) {
      const auto rest = static_cast<double>(SaturatingSubtract(free_at_, now));
      free_at_ = SaturatingAdd(now, Span(rest * (pace_ / pace)));
    } else if (!is_shared()) {
      free_at_ = SaturatingAdd(now, Span(cost / pace));
    }
    pace_ = pace;
  }

  // What the last report left, less what went out here since and what the others
  // may have taken beyond what flowed back: as much as chance brings.
  double LeftAt(Nanos now, double cost) const {
    const auto age = static_cast<double>(
        std::max<Nanos>(SaturatingSubtract(now, reported_time_), 0));
    return left_ - std::sqrt(others_ / watched_ * age * std::max(cost, 1.0));
  }

  static Nanos Span(double nanos) {
    return nanos < static_cast<double>(kNever) ? static_cast<Nanos>(nanos)
                                               : kNever;
  }

  bool reported_ = false;
  double limit_ = 0;
  double reported_left_ = 0;
  double reported_leased_ = 0;
  Nanos reported_time_ = 0;
  // What others have taken, and in what time; both fade.
  double others_ = 0;
  double watched_ = 0;

  double left_ = 0;  // by the last report, less what went out since
  double keep_ = 0;
  double pace_ = 0;  // per nanosecond; 0: not shared
  Nanos free_at_ = kLongAgo;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SHARED_LIMIT_H_
