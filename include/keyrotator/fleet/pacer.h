// File: fleet/pacer.h
//
// FleetPacer: when a process asks its fleet's ledger, and of how much. It reads no
// clock; `now` is a parameter.
//
// Example:
//   keyrotator::internal::FleetPacer pacer(200'000'000, 0, 0.5);
//   pacer.Sent(pacer.Due(false, false));
//   pacer.Missed(100'000'000, 0.5);

#ifndef KEYROTATOR_FLEET_PACER_H_
#define KEYROTATOR_FLEET_PACER_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"

namespace keyrotator::internal {

class FleetPacer {
 public:
  // The first message goes out within a period from `now`; `chance`, from 0 to 1,
  // spreads the processes out.
  FleetPacer(Nanos period, Nanos now, double chance)
      : period_(period), due_(SaturatingAdd(now, Part(period, chance))) {}

  // When the next message goes out. `urgent`: there is something to tell;
  // `thirsty`: a caller found no key.
  Nanos Due(bool urgent, bool thirsty) const {
    const bool hurries = failures_ == 0 && (urgent || (thirsty && plenty_));
    if (!hurries || sent_ == kLongAgo) return due_;
    return std::min(due_, SaturatingAdd(sent_, period_ / 8));
  }

  void Sent(Nanos now) { sent_ = now; }

  // The reply to `ask` came. The messages of all the fleet's processes are to take
  // a tenth of the engine's time; where messages would become too rare, a seventh,
  // and then each tells of less.
  void Heard(const FleetAsk& ask, const FleetReply& reply, double chance) {
    failures_ = 0;
    plenty_ = reply.plenty;
    std::size_t facts = 0;
    for (const FleetScopeAsk& scope : ask.scopes) facts += scope.facts.size();
    const double of_all = kFactTime * std::max(reply.processes, 1.0);
    const double load = 10 * of_all * static_cast<double>(facts);
    const auto longest = static_cast<double>(std::max(kLongest, period_));
    current_ = static_cast<Nanos>(
        std::clamp(load, static_cast<double>(period_), longest));
    const auto scopes =
        static_cast<double>(std::max<std::size_t>(ask.scopes.size(), 1));
    groups_ = static_cast<std::size_t>(
        std::max(kFewest, longest / 7 / of_all / scopes));
    due_ = SaturatingAdd(sent_, Part(current_, 0.9 + 0.2 * chance));
  }
  // None came.
  void Missed(Nanos now, double chance) {
    failures_ = std::min(failures_ + 1, kMostFailures);
    due_ =
        SaturatingAdd(now, Part(kFirstPause << (failures_ - 1), 0.5 + chance));
  }

  Nanos period() const { return current_; }
  // Of how many groups a message tells in a scope at most, but for those with
  // news.
  std::size_t groups() const { return groups_; }

 private:
  static constexpr Nanos kSecond = 1'000'000'000;
  static constexpr double kFactTime = 20'000;
  static constexpr double kFewest = 8;
  static constexpr Nanos kLongest = kSecond;
  static constexpr Nanos kFirstPause = kSecond / 4;
  // With which the pause is 0.5 to 1.5 s: so all are back within the lease for which
  // the ledger waits for them, unless it takes long to find out that none answers.
  static constexpr int kMostFailures = 3;

  static Nanos Part(Nanos span, double part) {
    return static_cast<Nanos>(static_cast<double>(span) * part);
  }

  const Nanos period_;
  Nanos current_ = period_;
  Nanos due_;
  Nanos sent_ = kLongAgo;
  std::size_t groups_ = std::numeric_limits<std::size_t>::max();
  int failures_ = 0;
  bool plenty_ = false;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_FLEET_PACER_H_
