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
// sample. What is not used is saved up: the provider's bucket fills, too. Until
// there are samples enough the rate is searched for, at a speed that doubles
// again and again, or taken over from others that agree on one (peers.h).
//
// Many refusals in a row with nothing served between them say nothing of the
// pace: what is spent is more than a bucket, such as a day's quota. The pace is
// kept for when that returns, and until then the pauses grow ever longer.

#ifndef KEYROTATOR_POOL_LEARNED_PACE_H_
#define KEYROTATOR_POOL_LEARNED_PACE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>

#include "keyrotator/clock.h"

namespace keyrotator::internal {

// Which lease since the last refusal one is, from 1 on, and when it went out.
struct PacePlace {
  std::uint64_t number = 0;
  Nanos time = 0;
};

class LearnedPace {
 public:
  // Whether anything was ever refused: before, nothing is held back.
  bool known() const { return rate_ > 0; }
  // The rate per nanosecond, once it is known well enough to tell others; else 0.
  double found() const {
    return searching_ == Search::kNone && sampled_ >= kTaught ? rate_ : 0;
  }

  // Whether a lease may go out, and leave so much credit. Nothing is left while
  // the rate is searched for.
  bool Fits(Nanos now, double spare = 0) const {
    return !known() || CreditAt(now) >= kOne + Left(spare);
  }

  // When it may, if none does before.
  Nanos WhenFits(Nanos now, double spare = 0) const {
    if (Fits(now, spare)) return now;
    const double wait = std::ceil(WaitFor(1 + Left(spare) - credit_));
    return SaturatingAdd(credit_time_, wait < static_cast<double>(kNever)
                                           ? static_cast<Nanos>(wait)
                                           : kNever);
  }

  // A lease goes out.
  PacePlace Take(Nanos now) {
    if (!known()) return {};
    Flow(now);
    --credit_;
    return {++leased_, now};
  }
  // Several are to go out; or less than 0 of them, if some did not.
  void TakeLot(double count, Nanos now) {
    if (!known()) return;
    Flow(now);
    credit_ -= count;
    leased_ = static_cast<std::uint64_t>(
        std::max(0.0, static_cast<double>(leased_) + count));
  }

  // A lease that was taken since the last refusal served its request; or
  // several did.
  void Succeed(Nanos now, std::uint64_t count = 1) {
    if (!known() || count == 0) return;
    Flow(now);  // until now the speed was another
    served_ += count;
    if (searching_ == Search::kWindow && now > opened_) {
      rate_ = std::max(rate_, 2 * static_cast<double>(served_) /
                                  static_cast<double>(now - opened_));
    }
  }

  // A lease that was taken since the last refusal was refused. `hint` is how
  // long the provider said, 0 if it did not; `guess` how long to wait then the
  // first time, and `longest` how long at most where nothing at all is served; a
  // minute, if that is longer. Returns for how long nothing should go out;
  // HoldUntil is to say for how long nothing does. `lease` is the place of the one
  // that was refused, and `peers` the rate that others agree on, if they do.
  Nanos Refuse(Nanos hint, Nanos guess, Nanos now, Nanos longest = 0,
               const PacePlace& lease = {}, std::optional<double> peers = {}) {
    const bool was_spent = is_spent();
    in_vain_ = hint > 0 || served_ > 0 ? 0 : in_vain_ + 1;
    if (in_vain_ <= 1) vain_since_ = now;
    const Search search = hint > kLongHint ? Search::kWindow : Search::kRate;
    if (peers && sampled_ < kTaught) {
      SetRate(*peers);
      sampled_ = kTaught;
      sampled_time_ = sampled_ / rate_;
      if (pause_ == 0) pause_ = static_cast<Nanos>(1 / rate_);
      searching_ = Search::kNone;
    } else if (!known()) {
      searching_ = search;
      SetRate(1 /
              static_cast<double>(std::max<Nanos>(hint > 0 ? hint : guess, 1)));
    } else {
      const bool found = Sample(lease, now, was_spent);
      searching_ = found && sampled_ >= kEnough ? Search::kNone : search;
    }
    const bool first = refused_ == kLongAgo && !peers;
    has_peers_ = peers && std::abs(std::log(*peers / rate_)) < kAgree;
    refused_ = now;
    refused_lease_ = lease.number > 0 ? lease.time : now;
    leased_ = 0;
    served_ = 0;
    if (first) return pause_ = hint > 0 ? hint : guess;
    // A refusal with seconds to go, in which several requests would have been
    // let through: a window that opens as a whole. How fast it may be used has
    // to be found anew.
    if (hint > kLongHint && static_cast<double>(hint) * rate_ > kWindow)
      searching_ = Search::kWindow;
    Nanos in_vain = 0;
    if (is_spent())
      in_vain =
          std::min(SaturatingAdd(pause_, pause_), std::max(longest, kMaxGap));
    return pause_ = std::max({hint, Pause(), in_vain});
  }

  // The same, where leases and answers are counted in lots: of those that went
  // out no more were let through than the answers so far speak for.
  Nanos RefuseInLots(Nanos hint, Nanos guess, Nanos now, Nanos longest) {
    return Refuse(hint, guess, now, longest,
                  {std::min(leased_, 3 * served_ + 6), now});
  }

  // What others found, for what it is worth here: another refusal weighs more.
  void Seed(double rate, Nanos now) {
    if (known()) return;
    SetRate(rate);
    sampled_ = kEnough;
    sampled_time_ = sampled_ / rate_;
    pause_ = static_cast<Nanos>(kGap / rate_);
    refused_ = refused_lease_ = opened_ = credit_time_ = now;
  }

  // Nobody counted for so long: that time does not count.
  void Skip(Nanos span) {
    if (!known()) return;
    for (Nanos* time :
         {&refused_, &refused_lease_, &vain_since_, &opened_, &credit_time_})
      *time = SaturatingAdd(*time, span);
  }

  double Credit(Nanos now) const { return CreditAt(now); }
  // Per nanosecond; 0: not known.
  double rate() const { return rate_; }

  // Nothing goes out before `until`; then one, and from there at the pace.
  void HoldUntil(Nanos until) {
    opened_ = std::max(opened_, until);
    credit_ = 1;
    credit_time_ = std::max(credit_time_, opened_);
    doublings_ = kAhead;
  }

 private:
  // What is searched for: how fast a bucket refills, by going faster and faster;
  // how fast a window may be used up, by what is served.
  enum class Search : std::uint8_t { kNone, kRate, kWindow };

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
  // In which the pace doubles while the rate is searched for.
  static constexpr double kDoubling = 200'000'000;
  // How many doublings it begins with, so that the second lease is not late.
  static constexpr double kAhead = 1;
  // What the search saves up at most: it must not add up while nobody asks.
  static constexpr double kMostSaved = 2;
  // A sample that much above what was thought is not the last.
  static constexpr double kFaster = 1.5;
  // Samples of so many requests teach others, and of fewer are given up for what
  // they teach.
  static constexpr double kTaught = 6;
  // Who agrees with its peers, to a fifth, probes so much more seldom: they probe
  // for it.
  static constexpr double kAgree = 0.2;
  static constexpr double kSeldom = 3;
  // The difference of two times in doubles.
  static constexpr double kOne = 1 - 1e-9;

  // The rate from one refusal to the next, unless it was met with so much saved
  // up that it was not the pace that met it. Of a key that was spent a pace that
  // is known is kept; else it is found from what its return lets through.
  // False if it is so much faster than was thought that the search goes on: in
  // the pause before, the bucket was full for a part of the time.
  bool Sample(const PacePlace& lease, Nanos now, bool was_spent) {
    const auto served = static_cast<double>(served_);
    Nanos since = refused_lease_;
    if (was_spent && sampled_ >= kEnough) return true;
    if (was_spent && served >= kEnough) {
      sampled_ = sampled_time_ = 0;
      since = opened_;
    }
    if (sampled_time_ > 0 && CreditAt(now) > 4 + served / 10) return true;
    // Those that went out before it were let through.
    const double admitted =
        lease.number > 0 ? static_cast<double>(lease.number - 1) : 0;
    const Nanos until = lease.number > 0 ? lease.time : now;
    auto time = static_cast<double>(std::max<Nanos>(until - since, 1));
    if (searching_ == Search::kRate && admitted >= 1) {
      // Fewer than should have come in the pause: the bucket holds no more.
      const auto open =
          static_cast<double>(std::max<Nanos>(until - opened_, 1));
      time = std::min(time, open + (admitted + 0.5) / rate_);
    }
    const bool is_faster = searching_ == Search::kRate && admitted >= kEnough &&
                           admitted > kFaster * rate_ * time;
    const double fade = is_faster ? 0 : std::pow(kFade, admitted / kFadeOver);
    sampled_ = sampled_ * fade + admitted;
    sampled_time_ = sampled_time_ * fade + time;
    // Half a request more: zero admitted is a rate, too.
    SetRate((sampled_ + 0.5) / sampled_time_);
    return !is_faster;
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
    if (searching_ != Search::kNone) return rate_;
    const auto n = static_cast<double>(served_);
    const double seldom = has_peers_ ? kSeldom : 1;
    const double probing = n / (kQuickly * seldom);
    return rate_ *
           (1 - kBelow + n / (kSlowly * seldom) + probing * probing * probing);
  }

  // While the rate is searched for, the speed doubles in each kDoubling that is
  // made use of; what is not is lost.
  double CreditAt(Nanos now) const {
    const auto span = static_cast<double>(
        std::max<Nanos>(SaturatingSubtract(now, credit_time_), 0));
    if (searching_ != Search::kRate) return credit_ + Speed() * span;
    const double grown = std::exp2(std::min(span / kDoubling, 60.0)) - 1;
    // Nor is less saved up than without the search.
    return std::min(std::max(kMostSaved, credit_ + rate_ * span),
                    credit_ + Searched() * grown);
  }
  double Left(double spare) const {
    return searching_ == Search::kRate ? 0 : spare;
  }
  // How long it takes until so much has come.
  double WaitFor(double credit) const {
    if (searching_ != Search::kRate) return credit / Speed();
    return kDoubling * std::log2(1 + credit / Searched());
  }
  // What comes in the next doubling.
  double Searched() const {
    return rate_ * kDoubling / std::numbers::ln2 * std::exp2(doublings_);
  }
  void Flow(Nanos now) {
    const double credit = CreditAt(now);
    if (searching_ == Search::kRate && credit < kMostSaved &&
        now > credit_time_)
      doublings_ += static_cast<double>(now - credit_time_) / kDoubling;
    credit_ = credit;
    credit_time_ = std::max(credit_time_, now);
  }

  double rate_ = 0;  // per nanosecond
  Search searching_ = Search::kNone;
  double sampled_ = 0;
  double sampled_time_ = 0;
  Nanos refused_ = kLongAgo;   // the last time
  Nanos refused_lease_ = 0;    // when that lease went out
  Nanos pause_ = 0;            // after it
  Nanos opened_ = kLongAgo;    // when leases went out again after it
  std::uint64_t leased_ = 0;   // since
  std::uint64_t served_ = 0;   // of these
  std::uint32_t in_vain_ = 0;  // refusals in a row, see kInVain
  Nanos vain_since_ = 0;       // the first of them
  double credit_ = 0;
  Nanos credit_time_ = kLongAgo;
  double doublings_ = 0;
  bool has_peers_ = false;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_LEARNED_PACE_H_
