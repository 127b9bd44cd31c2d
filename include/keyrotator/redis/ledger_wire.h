// File: redis/ledger_wire.h
//
// The messages to the ledger's script and back (redis/ledger_script.h), as bytes.
// What comes back is not trusted: who else can write to the Redis, or stands
// between, must not make a process send a million requests, or wait for a year.

#ifndef KEYROTATOR_REDIS_LEDGER_WIRE_H_
#define KEYROTATOR_REDIS_LEDGER_WIRE_H_

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet/marks.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/redis/ledger_script.h"

namespace keyrotator::internal {

inline constexpr double kNanosPerMs = 1e6;

// Doubles one after the other, little-endian: all digits of each, and Lua reads
// them several times as fast as text.
class DoubleWriter {
 public:
  DoubleWriter& operator<<(double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    for (int i = 0; i < 64; i += 8)
      text_.push_back(static_cast<char>((bits >> i) & 0xff));
    return *this;
  }
  DoubleWriter& operator<<(const FleetAmounts& x) {
    return *this << x[0] << x[1];
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

// ARGV: the layout; seconds to live; the time in milliseconds (negative: Redis's
// own; another is for tests), what is of the process, how many scopes, news
// and caps; of each of the news and the caps the name, what is of it; of each scope
// its name, what is of it, the costs; of each fact the group's name, what is of it.
// Spans in milliseconds, rates per millisecond.
inline std::vector<std::string> LedgerArguments(const FleetAsk& ask,
                                                std::chrono::seconds ttl,
                                                double now = -1) {
  const auto span = [](Nanos x) {
    return static_cast<double>(x) / kNanosPerMs;
  };
  const auto number = [](auto x) { return static_cast<double>(x); };
  std::vector<std::string> args{std::string(kLedgerLayout),
                                std::to_string(ttl.count())};
  DoubleWriter head;
  head << now << span(ask.period) << number(ask.slot) << number(ask.alone)
       << number(ask.leaves) << number(ask.scopes.size()) << ask.who
       << number(ask.version) << number(ask.news.size())
       << number(ask.caps.size());
  args.push_back(head.Take());
  for (const FleetNews& news : ask.news) {
    DoubleWriter told;
    told << number(static_cast<int>(news.kind)) << span(news.span)
         << number(news.is_guess);
    args.push_back(news.id);
    args.push_back(told.Take());
  }
  for (const FleetCap& cap : ask.caps) {
    DoubleWriter told;
    told << cap.cap << cap.in_flight << cap.want << cap.last_want
         << number(cap.slot) << cap.held << cap.carry;
    args.push_back(cap.id);
    args.push_back(told.Take());
  }
  for (const FleetScopeAsk& scope : ask.scopes) {
    DoubleWriter told;
    told << number(scope.facts.size()) << scope.want << scope.last_want
         << number(scope.slot) << scope.carry << scope.part;
    DoubleWriter costs;
    for (const double cost : scope.costs) costs << cost;
    args.push_back(scope.scope);
    args.push_back(told.Take());
    args.push_back(costs.Take());
    for (const FleetFact& fact : scope.facts) {
      DoubleWriter x;
      x << number(fact.epoch) << fact.spent << fact.served << fact.held
        << number(fact.slot) << fact.seen << fact.seed_rate * kNanosPerMs
        << number(fact.refused) << number(fact.reported.has_value());
      if (fact.reported) {
        for (const FleetLimit& said : *fact.reported)
          x << said.limit << said.rate * kNanosPerMs << said.level
            << said.reserve;
      }
      if (fact.refused) {
        x << span(fact.refusal.hint) << span(fact.refusal.guess)
          << span(fact.refusal.longest);
      }
      args.push_back(fact.group);
      args.push_back(x.Take());
    }
  }
  return args;
}

// Reads what the script returned: doubles, as above. All of it must be there,
// finite and in range, and answer the message.
class LedgerReplyReader {
 public:
  explicit LedgerReplyReader(std::string_view text) : rest_(text) {}

  // None, if it is no reply to `ask`; then problem() says what is wrong.
  std::optional<FleetReply> Read(const FleetAsk& ask) {
    FleetReply reply;
    reply.slot = static_cast<std::int64_t>(Whole("slot"));
    reply.processes = Within("processes", 1, 1e9);
    reply.plenty = Flag("plenty");
    reply.version = static_cast<std::uint64_t>(Whole("version"));
    reply.born = static_cast<std::uint64_t>(Whole("born"));
    reply.gathers = Flag("gathers");
    ReadMarks(reply);
    for (const FleetCap& cap : ask.caps) {
      FleetPermits& permits = reply.permits.emplace_back();
      const double most = std::max(cap.cap, cap.in_flight);
      permits.count = Whole("permits", most);
      permits.held = Whole("held", most);
      permits.carry = Within("carry", 0, 1);
    }
    for (const FleetScopeAsk& told : ask.scopes) {
      FleetScopeReply& scope = reply.scopes.emplace_back();
      scope.carry = Within("carry", 0, 1);
      double granted = 0;
      for (std::size_t i = 0; i < told.facts.size(); ++i) {
        scope.answers.push_back(ReadAnswer(granted));
        if (!problem_.empty()) return std::nullopt;
      }
    }
    if (!rest_.empty()) Complain("the reply", "does not end");
    if (!problem_.empty()) return std::nullopt;
    return reply;
  }

  // The longest that a reply to `ask` may be.
  static std::size_t MostBytes(const FleetAsk& ask) {
    std::size_t numbers =
        7 + 3 * ask.caps.size() +
        FleetMarks::kMost * (7 + FleetMarks::kMostName / sizeof(double));
    for (const FleetScopeAsk& scope : ask.scopes) {
      numbers += 1 + 3 * static_cast<std::size_t>(kMostGrants) +
                 15 * scope.facts.size();
    }
    return sizeof(double) * numbers + 32;  // and its length before it
  }

  const std::string& problem() const { return problem_; }

 private:
  static constexpr double kMostGrants = 256;      // in a scope
  static constexpr double kMostMs = 24 * 3600e3;  // of a span
  static constexpr double kMostMarkMs = 366 * kMostMs;
  static constexpr double kMostAmount = 1e18;
  // Per millisecond: more than a pace that was measured over a nanosecond.
  static constexpr double kMostRate = 1e12;
  // Up to here a double has every whole number.
  static constexpr double kMostWhole = 9007199254740992;

  void ReadMarks(FleetReply& reply) {
    const double count =
        Within("marks", -1, static_cast<double>(FleetMarks::kMost));
    if (count < 0) return;
    reply.marks.emplace();
    for (double i = 0; i < count && problem_.empty(); i += 1) {
      FleetMark mark;
      mark.id = Text("a name");
      mark.words = Whole("words", 2);
      mark.failed = static_cast<std::uint64_t>(Whole("failed"));
      mark.restored = static_cast<std::uint64_t>(Whole("restored"));
      mark.failed_for = Span("failed for", kMostMarkMs);
      mark.rests = Span("rests", kMostMarkMs);
      mark.is_guess = Flag("guess");
      reply.marks->push_back(std::move(mark));
    }
  }

  FleetAnswer ReadAnswer(double& granted) {
    FleetAnswer answer;
    answer.known = Flag("known");
    answer.epoch = static_cast<std::uint64_t>(Whole("epoch"));
    for (double& total : answer.total) total = Within("total", 0, kMostAmount);
    for (double& foreign : answer.foreign)
      foreign = Within("foreign", 0, kMostAmount);
    answer.gate = Span("gate");
    for (FleetLimit& limit : answer.limits) {
      limit.limit = Within("limit", 0, kMostAmount);
      limit.rate = Within("rate", 0, kMostRate) / kNanosPerMs;
      // Others may have spent more than there was.
      limit.level = Within("level", -kMostAmount, 2 * limit.limit + 2);
    }
    answer.pace = Within("pace", 0, kMostRate) / kNanosPerMs;
    // Those that are alike as one: how many, when, what they cost.
    const double runs = Whole("grants", kMostGrants);
    Nanos last = 0;
    for (double i = 0; i < runs && problem_.empty(); i += 1) {
      const double count = Whole("count", kMostGrants);
      granted += count;
      if (granted > kMostGrants)
        return Complain("the grants", "are too many"), answer;
      FleetGrant grant;
      grant.in = Span("grant");
      grant.cost = Within("cost", 0, kMostAmount);
      if (grant.in < last) Complain("the grants", "are not in order");
      last = grant.in;
      answer.grants.insert(answer.grants.end(), static_cast<std::size_t>(count),
                           grant);
    }
    return answer;
  }

  std::string Text(std::string_view what) {
    const auto size = static_cast<std::size_t>(
        Whole(what, static_cast<double>(FleetMarks::kMostName)));
    if (rest_.size() < size) return Complain(what, "is missing"), std::string();
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return text;
  }
  bool Flag(std::string_view what) { return Whole(what, 1) != 0; }
  double Whole(std::string_view what, double most = kMostWhole) {
    const double number = Within(what, 0, most);
    if (number == std::floor(number)) return number;
    Complain(what, "is not whole");
    return 0;
  }
  Nanos Span(std::string_view what, double most = kMostMs) {
    return static_cast<Nanos>(Within(what, 0, most) * kNanosPerMs);
  }
  // After a problem `least` or 0, whatever comes.
  double Within(std::string_view what, double least, double most) {
    const double otherwise = std::max(least, 0.0);
    if (rest_.size() < sizeof(double)) {
      Complain(what, "is missing");
      rest_ = {};
      return otherwise;
    }
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) {
      const auto byte = static_cast<unsigned char>(rest_[0]);
      bits |= std::uint64_t{byte} << (8 * i);
      rest_.remove_prefix(1);
    }
    const auto number = std::bit_cast<double>(bits);
    if (number >= least && number <= most) return number;  // not a NaN
    Complain(what, "is out of range");
    return otherwise;
  }
  // The first problem is the one to tell.
  void Complain(std::string_view what, std::string_view how) {
    if (problem_.empty()) problem_.append(what).append(" ").append(how);
  }

  std::string_view rest_;
  std::string problem_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_REDIS_LEDGER_WIRE_H_
