// File: pool/shadow_bucket.h
//
// ShadowBucket: the provider's token bucket, run on this side from what the
// provider says of it, so that a key is left alone before it answers 429 and
// not after. It reads no clock; `now` is a parameter.
//
// A report speaks of the moment at which its request was admitted, and arrives
// late. So each lease notes how much had been leased when it went out, and what
// was leased after the reporting lease is taken off what the report says.

#ifndef KEYROTATOR_POOL_SHADOW_BUCKET_H_
#define KEYROTATOR_POOL_SHADOW_BUCKET_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "keyrotator/clock.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/shared_limit.h"

namespace keyrotator::internal {

class ShadowBucket {
 public:
  // What a lease remembers of the bucket; `known` is false for one that is
  // older than the bucket. The arrays hold requests, then tokens.
  struct Note {
    bool known = false;
    bool alone = false;               // none went out just before it
    std::array<float, 2> cost{};      // of this lease
    std::array<float, 2> believed{};  // what was left before it
    std::array<double, 2> leased{};   // in all, with it
    Nanos time = 0;
  };

  // Whether anything was ever reported.
  bool known() const {
    return dimensions_[0].limit > 0 || dimensions_[1].limit > 0;
  }

  // Whether it tells when something is left again.
  bool rated() const {
    return dimensions_[0].rate > 0 || dimensions_[1].rate > 0;
  }

  // Takes a request of `tokens` out.
  Note Take(double tokens, Nanos now) {
    if (!std::isfinite(tokens) || tokens < 0) tokens = 0;
    Note note;
    note.known = true;
    note.cost = {1, static_cast<float>(tokens)};
    note.time = now;
    note.alone = NoteBurst(note.cost, now);
    for (std::size_t i = 0; i < 2; ++i) {
      Dimension& dimension = dimensions_[i];
      dimension.leased += note.cost[i];
      dimension.shared.Take(note.cost[i], now);
      note.leased[i] = dimension.leased;
      const double level = dimension.LevelAt(now);
      note.believed[i] = static_cast<float>(level);
      dimension.SetLevel(level - note.cost[i], now);
    }
    return note;
  }

  // Takes the provider's word. `others_in_flight` replaces what was leased
  // since, where the lease is older than this bucket. `refused`: the answer was
  // a 429.
  void Report(const Note& lease, double others_in_flight,
              const RateLimits& said, bool refused, Nanos now) {
    Learn(0, said.requests, lease, others_in_flight, refused, now);
    Learn(1, said.tokens, lease, 0, refused, now);
  }

  // Others took so much.
  void TakeForeign(const FleetAmounts& amounts, Nanos now) {
    for (std::size_t i = 0; i < 2; ++i) {
      Dimension& dimension = dimensions_[i];
      if (dimension.limit <= 0 || amounts[i] <= 0) continue;
      dimension.leased += amounts[i];
      dimension.SetLevel(dimension.LevelAt(now) - amounts[i], now);
    }
  }
  // What others know of it, where nothing is known here.
  void Seed(const std::array<FleetLimit, 2>& limits, Nanos now) {
    for (std::size_t i = 0; i < 2; ++i) {
      if (limits[i].limit <= 0) continue;
      Dimension& dimension = dimensions_[i];
      dimension.limit = limits[i].limit;
      dimension.rate = limits[i].rate;
      dimension.reserve = i == 0 ? kReserve : 0;
      dimension.SetLevel(limits[i].level, now);
    }
  }
  // What is known here, for others; a dimension without a rate is left out.
  std::array<FleetLimit, 2> Limits(Nanos now) const {
    std::array<FleetLimit, 2> limits;
    for (std::size_t i = 0; i < 2; ++i) {
      const Dimension& dimension = dimensions_[i];
      if (dimension.limit > 0 && dimension.rate > 0)
        limits[i] = {dimension.limit, dimension.rate, dimension.LevelAt(now),
                     dimension.reserve};
    }
    return limits;
  }

  // Whether a request of `tokens` would be admitted, as far as is known, and
  // leave that part of the limit, and one request at least if it is more than 0.
  // One whose cost is not known still takes some tokens.
  bool Fits(double tokens, Nanos now, double spare = 0) const {
    return dimensions_[0].Has(Requests(spare), now) &&
           dimensions_[1].Has(Tokens(tokens, spare), now) &&
           dimensions_[0].shared.Fits(1, now) &&
           dimensions_[1].shared.Fits(std::fmax(tokens, 1), now);
  }

  // When it would be, if nothing else is leased until then.
  Nanos WhenFits(double tokens, Nanos now, double spare = 0) const {
    return std::max(
        {dimensions_[0].WhenAt(Requests(spare), now),
         dimensions_[1].WhenAt(Tokens(tokens, spare), now),
         dimensions_[0].shared.WhenFits(1, now),
         dimensions_[1].shared.WhenFits(std::fmax(tokens, 1), now)});
  }

  // The share of the limit that is left, the smallest over the dimensions: 0 to
  // 1, and 1 where nothing is known.
  double Headroom(Nanos now) const {
    double headroom = 1;
    for (const Dimension& dimension : dimensions_) {
      if (dimension.limit > 0)
        headroom = std::min(headroom, dimension.LevelAt(now) / dimension.limit);
    }
    return std::max(headroom, 0.0);
  }

  // What is believed to be left, in the terms of a report.
  RateLimits Believed(Nanos now) const {
    return {dimensions_[0].Believed(now), dimensions_[1].Believed(now)};
  }

 private:
  // Requests that are kept in hand, since headers are rounded and late. The
  // surprises that reports bring raise it; it fades by kFade a report.
  static constexpr double kReserve = 0.3;
  static constexpr double kFade = 0.998;
  // What a report says is left may be off by less than that without being a
  // surprise; one that is more will be followed by others of its kind.
  static constexpr double kSurprise = 0.4;
  static constexpr double kAfterSurprise = 0.6;
  // Where times are rounded to seconds the refill rate is from the report that saw
  // the most used, where rounding weighs least. What that saw fades, so that a new
  // rate is learned.
  static constexpr double kUsedFade = 0.99;
  static constexpr Nanos kSecond = 1'000'000'000;
  // Below it the difference of two levels means nothing.
  static constexpr double kTolerance = 1e-9;

  // Leases that went out within kJitter: nobody knows in which order their
  // requests were admitted.
  static constexpr Nanos kJitter = 50'000'000;
  static constexpr std::size_t kCrowd = 6;  // fewer make no difference
  struct Burst {
    Nanos start = kLongAgo;
    std::size_t size = 0;
    std::array<double, 2> begin{};  // what had been leased before it
    std::array<double, 2> end{};    // and with it
  };

  // Requests or tokens.
  struct Dimension {
    double limit = 0;  // 0: not known
    double rate = 0;   // per nanosecond; 0: not known
    double rate_used = 0;
    double reserve = 0;
    double level = 0;
    Nanos level_time = 0;
    double leased = 0;  // in all
    SharedLimit shared;

    double LevelAt(Nanos now) const {
      if (limit <= 0) return std::numeric_limits<double>::infinity();
      return now <= level_time ? level : Refilled(level, level_time, now);
    }
    double Refilled(double from, Nanos since, Nanos now) const {
      return std::min(limit,
                      from + rate * static_cast<double>(std::max<Nanos>(
                                        SaturatingSubtract(now, since), 0)));
    }
    void SetLevel(double to, Nanos now) {
      if (limit <= 0) return;
      level = std::min(to, limit);
      level_time = std::max(level_time, now);
    }

    // A limit without a known rate holds nothing back: nobody could tell when
    // it has refilled.
    double Needed(double cost) const {
      if (limit <= 0 || rate <= 0)
        return -std::numeric_limits<double>::infinity();
      return std::min(cost + reserve, limit * (1 - kTolerance));
    }

    bool Has(double wanted, Nanos now) const {
      return LevelAt(now) >= wanted * (1 - kTolerance);
    }

    Nanos WhenAt(double wanted, Nanos now) const {
      if (Has(wanted, now)) return now;
      const double missing = wanted - LevelAt(now);
      const double wait = rate > 0 ? std::ceil(missing / rate)
                                   : std::numeric_limits<double>::infinity();
      if (!(wait < static_cast<double>(kNever))) return kNever;
      return SaturatingAdd(std::max(now, level_time), static_cast<Nanos>(wait));
    }

    RateLimit Believed(Nanos now) const {
      if (limit <= 0) return {};
      const Nanos full = WhenAt(limit, now);
      RateLimit believed{.limit = limit,
                         .remaining = std::max(LevelAt(now), 0.0)};
      if (full != kNever)
        believed.reset =
            std::chrono::nanoseconds(SaturatingSubtract(full, now));
      return believed;
    }
  };

  // What has to be left for one request.
  double Requests(double spare) const {
    const Dimension& requests = dimensions_[0];
    return requests.Needed(spare > 0 ? 1 + std::max(1.0, spare * requests.limit)
                                     : 1);
  }
  double Tokens(double tokens, double spare) const {
    return dimensions_[1].Needed(std::fmax(tokens, 1) +
                                 spare * dimensions_[1].limit);
  }

  // True for the first of a burst.
  bool NoteBurst(const std::array<float, 2>& cost, Nanos now) {
    Burst* burst = &bursts_[burst_];
    if (SaturatingSubtract(now, burst->start) > kJitter) {
      if (burst->size >= kCrowd) burst_ = (burst_ + 1) % bursts_.size();
      burst = &bursts_[burst_];
      *burst = {.start = now,
                .size = 0,
                .begin = {dimensions_[0].leased, dimensions_[1].leased},
                .end = {dimensions_[0].leased, dimensions_[1].leased}};
    }
    ++burst->size;
    for (std::size_t i = 0; i < 2; ++i) burst->end[i] += cost[i];
    return burst->size == 1;
  }
  // The crowd in which that lease went out, or null.
  const Burst* BurstOf(const Note& lease) const {
    for (const Burst& burst : bursts_) {
      if (burst.size >= kCrowd && burst.begin[0] < lease.leased[0] &&
          lease.leased[0] <= burst.end[0])
        return &burst;
    }
    return nullptr;
  }

  void Learn(std::size_t i, const RateLimit& said, const Note& lease,
             double others_in_flight, bool refused, Nanos now) {
    const auto valid = [](const std::optional<double>& x) {
      return x && std::isfinite(*x) && *x >= 0;
    };
    if (!valid(said.limit) || !valid(said.remaining) || *said.limit == 0)
      return;
    Dimension& dimension = dimensions_[i];
    const bool first = dimension.limit <= 0;
    const double own = first ? -1 : dimension.LevelAt(now);
    const double left = std::min(*said.remaining, *said.limit);
    if (*said.limit != dimension.limit) {
      dimension.limit = *said.limit;
      dimension.rate_used = 0;
    }

    const double used = dimension.limit - left;
    const double reset =
        said.reset ? static_cast<double>(said.reset->count()) : 0;
    // `left` is rounded down; how long it takes to refill tells the rest,
    // unless that is rounded, too.
    const bool fine = said.reset && said.reset->count() % kSecond != 0;
    dimension.rate_used *= kUsedFade;
    if (fine && reset > 0 && used > 0) {
      // Between `used` - 1 and `used` are used: each report is a bound on either
      // side.
      const double most = used / reset;
      const double least = (used - 1) / reset;
      dimension.rate =
          dimension.rate > 0 ? std::clamp(dimension.rate, least, most) : most;
      dimension.rate_used = used;
    } else if (reset > 0 && used > 0 && used >= dimension.rate_used) {
      dimension.rate = used / reset;
      dimension.rate_used = used;
    }

    const double exact =
        fine ? std::clamp(dimension.limit - dimension.rate * reset, left,
                          left + 1)
             : left;

    if (lease.known) {
      dimension.shared.Learn({.limit = dimension.limit,
                              .rate = dimension.rate,
                              .left = exact,
                              .refused = refused,
                              .cost = lease.cost[i],
                              .leased = lease.leased[i],
                              .time = lease.time},
                             dimension.leased, now);
    }

    const Burst* const burst =
        first || !lease.known || refused ? nullptr : BurstOf(lease);
    dimension.reserve =
        std::max(i == 0 ? kReserve : 0, dimension.reserve * kFade);
    // Only near the edge: elsewhere a surprise costs nothing.
    const double believed = lease.believed[i];
    if (lease.known && burst == nullptr && (lease.alone || refused) &&
        (believed < dimension.limit / 10 ||
         believed < 2 * dimension.reserve + lease.cost[i])) {
      const double expected = believed - (refused ? 0 : lease.cost[i]);
      if (expected - exact > kSurprise)
        dimension.reserve =
            std::max(dimension.reserve, expected - exact + kAfterSurprise);
    }
    dimension.reserve = std::min(dimension.reserve, dimension.limit / 2);

    // What is left now, at least and at most, by this report: what was leased
    // since is gone, and what flowed back since may have found the bucket full.
    double since = dimension.leased - (lease.known ? lease.leased[i] : 0);
    // Some of those in flight the provider has counted.
    if (first) since = std::min(others_in_flight, left);
    const Nanos admitted = lease.known ? lease.time : now;
    double least = dimension.Refilled(exact, admitted, now) - since;
    double most = std::min(
        dimension.limit,
        exact + dimension.rate * static_cast<double>(now - admitted) - since);
    if (first) return dimension.SetLevel(least, now);
    // Others that went out before this bucket was known may not be counted.
    if (!lease.known) return dimension.SetLevel(std::min(own, least), now);
    if (burst != nullptr) {
      least -= lease.leased[i] - lease.cost[i] - burst->begin[i];
      most += burst->end[i] - lease.leased[i];
    }
    // Headers are rounded down: an own count between what they say and one more
    // is the better one.
    if (!fine && i == 0 && own >= least && own < most + 1) return;
    dimension.SetLevel(std::clamp(own, least, std::max(least, most)), now);
  }

  std::array<Dimension, 2> dimensions_;
  std::array<Burst, 4> bursts_;
  std::size_t burst_ = 0;  // the one under way
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SHADOW_BUCKET_H_
