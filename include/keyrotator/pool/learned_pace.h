// File: pool/learned_pace.h
//
// LearnedPace: how fast a provider lets requests through that says nothing of
// what is left, learned from its refusals alone. It reads no clock; `now` is a
// parameter.
//
// Whatever the provider counts with, between two refusals it admits what it
// refills, so `admitted / time` is its rate, known to one part in the number
// admitted. Leases then go out at that rate, a little slower at first and
// faster the longer nothing is refused, until the next refusal gives the next
// sample. What is not used is saved up: the provider's bucket fills, too.
//
// Many refusals in a row with nothing served between them say nothing of the
// pace: what is spent is more than a bucket, such as a day's quota. The pace is
// kept for when that returns, and until then the pauses grow ever longer.

#ifndef KEYROTATOR_POOL_LEARNED_PACE_H_
#define KEYROTATOR_POOL_LEARNED_PACE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "keyrotator/clock.h"

namespace keyrotator::internal {

class LearnedPace {
 public:
  // Whether anything was ever refused: before, nothing is held back.
  bool known() const { return rate_ > 0; }

  bool Fits(Nanos now) const { return !known() || CreditAt(now) >= kOne; }

  // When a lease may go out, if none does before.
  Nanos WhenFits(Nanos now) const {
    if (Fits(now)) return now;
    const double wait = std::ceil((1 - CreditAt(now)) / Speed());
    return SaturatingAdd(std::max(now, credit_time_),
                         wait < static_cast<double>(kMaxGap)
                             ? static_cast<Nanos>(wait)
                             : kMaxGap);
  }

  // A lease goes out.
  void Take(Nanos now) {
    if (!known()) return;
    SetCredit(CreditAt(now) - 1, now);
    ++leased_;
  }

  // A lease that was taken since the last refusal served its request.
  void Succeed(Nanos now) {
    if (!known()) return;
    SetCredit(CreditAt(now), now);  // until now the speed was another
    ++served_;
    if (searching_ && now > opened_) {
      rate_ = std::max(rate_, 2 * static_cast<double>(served_) /
                                  static_cast<double>(now - opened_));
    }
  }

  // A lease that was taken since the last refusal was refused. `hint` is how
  // long the provider said, 0 if it did not; `guess` how long to wait then the
  // first time, and `longest` how long at most where nothing at all is served; a
  // minute, if that is longer. Returns for how long nothing should go out;
  // HoldUntil is to say for how long nothing does.
  Nanos Refuse(Nanos hint, Nanos guess, Nanos now, Nanos longest = 0) {
    const bool was_spent = is_spent();
    in_vain_ = hint > 0 || served_ > 0 ? 0 : in_vain_ + 1;
    if (in_vain_ <= 1) vain_since_ = now;
    if (!known()) {
      searching_ = true;
      SetRate(1 /
              static_cast<double>(std::max<Nanos>(hint > 0 ? hint : guess, 1)));
    } else {
      Sample(now, was_spent);
      searching_ = sampled_ < kEnough;
    }
    const bool first = refused_ == kLongAgo;
    refused_ = now;
    leased_ = 0;
    served_ = 0;
    if (first) return pause_ = hint > 0 ? hint : guess;
    // A refusal with seconds to go, in which several requests would have been
    // let through: a window that opens as a whole. How fast it may be used has
    // to be found anew.
    if (hint > kLongHint && static_cast<double>(hint) * rate_ > kWindow)
      searching_ = true;
    Nanos in_vain = 0;
    if (is_spent())
      in_vain =
          std::min(SaturatingAdd(pause_, pause_), std::max(longest, kMaxGap));
    return pause_ = std::max({hint, Pause(), in_vain});
  }

  // Nothing goes out before `until`; then one, and from there at the pace.
  void HoldUntil(Nanos until) {
    opened_ = std::max(opened_, until);
    SetCredit(1, opened_);
  }

 private:
  // Two requests' time at the pace: what was refused too much is made good, and
  // the first after it meets no new edge.
  static constexpr double kGap = 2;
  // The longest pause, and time from one lease to the next, that is a guess.
  static constexpr Nanos kMaxGap = 60'000'000'000;
  // More refusals in a row than these, without a hint and with nothing served,
  // for longer than kMaxGap, are no search any more, and no rest of a window: to
  // find a provider's one request a minute takes seven.
  static constexpr std::uint32_t kInVain = 8;
  // What sets a window apart from a bucket, whose hint is the time for one
  // request: seconds, rounded up, and that of several requests.
  static constexpr Nanos kLongHint = 2'000'000'000;
  static constexpr double kWindow = 3;
  // Samples fade by kFade in kFadeOver requests.
  static constexpr double kFade = 0.9;
  static constexpr double kFadeOver = 20;
  // Fewer requests than that tell of no rate: the search goes on.
  static constexpr double kEnough = 3;
  // The pace after n served requests is the rate times
  // 1 - kBelow + n / kSlowly + (n / kQuickly)^3. It sets how often a refusal is
  // the price of finding out that more is let through: less than one in a
  // hundred, and the served fall off; more gain nothing.
  static constexpr double kBelow = 0.005;
  static constexpr double kSlowly = 2000;
  static constexpr double kQuickly = 150;
  // The difference of two times in doubles.
  static constexpr double kOne = 1 - 1e-9;

  // The rate from one refusal to the next, unless it was met with so much saved
  // up that it was not the pace that met it. Of a key that was spent a pace that
  // is known is kept; else it is found from what its return lets through.
  void Sample(Nanos now, bool was_spent) {
    const auto served = static_cast<double>(served_);
    Nanos since = refused_;
    if (was_spent && sampled_ >= kEnough) return;
    if (was_spent && served >= kEnough) {
      sampled_ = sampled_time_ = 0;
      since = opened_;
    }
    if (sampled_time_ > 0 && CreditAt(now) > 4 + served / 10) return;
    const double admitted =
        std::min(static_cast<double>(leased_) - 1, 2 * served + 2);
    const double fade = std::pow(kFade, admitted / kFadeOver);
    sampled_ = sampled_ * fade + std::max(admitted, 0.0);
    sampled_time_ = sampled_time_ * fade +
                    static_cast<double>(std::max<Nanos>(now - since, 1));
    // Half a request more: zero admitted is a rate, too.
    SetRate((sampled_ + 0.5) / sampled_time_);
  }

  // No lower than one in kMaxGap: what is not reported, or neither good nor
  // refused, must not shut a key for as long as a long hint was.
  void SetRate(double rate) {
    rate_ = std::max(rate, 1 / static_cast<double>(kMaxGap));
  }

  // Without a hint. Where nothing at all is admitted it doubles.
  Nanos Pause() const {
    const double longest = 2 * static_cast<double>(std::min(pause_, kMaxGap));
    return static_cast<Nanos>(
        std::min({kGap / rate_, longest, static_cast<double>(kMaxGap)}));
  }

  // Whether nothing was served for longer, when last refused, than a search or
  // the rest of a window takes.
  bool is_spent() const {
    return in_vain_ > kInVain && refused_ - vain_since_ >= kMaxGap;
  }

  // Leases per nanosecond.
  double Speed() const {
    if (searching_) return rate_;
    const auto n = static_cast<double>(served_);
    const double probing = n / kQuickly;
    return rate_ * (1 - kBelow + n / kSlowly + probing * probing * probing);
  }

  double CreditAt(Nanos now) const {
    return credit_ + Speed() * static_cast<double>(std::max<Nanos>(
                                   SaturatingSubtract(now, credit_time_), 0));
  }
  void SetCredit(double credit, Nanos now) {
    credit_ = credit;
    credit_time_ = std::max(credit_time_, now);
  }

  double rate_ = 0;  // per nanosecond
  bool searching_ = false;
  double sampled_ = 0;
  double sampled_time_ = 0;
  Nanos refused_ = kLongAgo;   // the last time
  Nanos pause_ = 0;            // after it
  Nanos opened_ = kLongAgo;    // when leases went out again after it
  std::uint64_t leased_ = 0;   // since
  std::uint64_t served_ = 0;   // of these
  std::uint32_t in_vain_ = 0;  // refusals in a row, see kInVain
  Nanos vain_since_ = 0;       // the first of them
  double credit_ = 0;
  Nanos credit_time_ = kLongAgo;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_LEARNED_PACE_H_
