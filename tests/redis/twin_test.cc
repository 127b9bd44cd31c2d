// The ledger in Redis and the one in memory: the same random messages, the same
// replies.
//
// KEYROTATOR_TWIN_SEED repeats a failure (the message has the seed),
// KEYROTATOR_TWIN_MESSAGES sets of how many scopes is told in all.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/fleet/ledger.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/redis/ledger_script.h"
#include "keyrotator/redis/ledger_wire.h"
#include "keyrotator/redis/redis_connection.h"
#include "tests/support/catch.h"
#include "tests/support/redis_server.h"
#include "tests/support/skip_without_redis.h"

namespace keyrotator::redis_twin_test {
namespace {

using internal::RedisConnection;
using testing::RedisServer;

constexpr std::size_t kScopes = 2;
constexpr std::size_t kGroups = 4;
constexpr double kTolerance = 1e-3;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

bool IsNear(double a, double b) {
  return std::abs(a - b) <= kTolerance * std::max(1.0, std::abs(a));
}

FleetAmounts GrantedIn(const FleetScopeReply& scope) {
  FleetAmounts all{};
  for (const FleetAnswer& answer : scope.answers) {
    for (const FleetGrant& grant : answer.grants) {
      all[0] += 1;
      all[1] += grant.cost;
    }
  }
  return all;
}

using Marks = std::optional<std::vector<FleetMark>>;

std::string TextOf(Marks marks) {
  if (!marks) return "none";
  std::sort(marks->begin(), marks->end(),
            [](const FleetMark& a, const FleetMark& b) { return a.id < b.id; });
  std::string text;
  for (const FleetMark& mark : *marks) {
    text += fmt::format("{} {} {} {} {:.3f} {:.3f} {}, ", mark.id, mark.words,
                        mark.failed, mark.restored,
                        static_cast<double>(mark.failed_for) / 1e6,
                        static_cast<double>(mark.rests) / 1e6, mark.is_guess);
  }
  return text;
}

std::string DifferenceOfMarks(const Marks& mine, const Marks& redis) {
  const std::string a = TextOf(mine);
  const std::string b = TextOf(redis);
  return a == b ? std::string() : fmt::format("marks {} | {}; ", a, b);
}

// What differs; empty if nothing does. Spans in milliseconds, rates per second.
// `in_all`: of grants it only counts how many there are in a scope and what they
// cost together. Two groups with the same room, but for the last digit of it, may
// get them the other way round.
std::string Difference(const FleetReply& mine, const FleetReply& redis,
                       bool in_all = false) {
  std::string text;
  const auto compare = [&](std::string_view what, double a, double b) {
    if (!IsNear(a, b)) text += fmt::format("{} {} {}; ", what, a, b);
  };
  compare("slot", static_cast<double>(mine.slot),
          static_cast<double>(redis.slot));
  compare("processes", mine.processes, redis.processes);
  compare("plenty", mine.plenty, redis.plenty);
  compare("gathers", mine.gathers, redis.gathers);
  if (mine.version != redis.version || mine.born != redis.born)
    text += fmt::format("version {} {}; ", mine.version, redis.version);
  text += DifferenceOfMarks(mine.marks, redis.marks);
  for (std::size_t i = 0; i < mine.permits.size(); ++i) {
    compare("permits", mine.permits[i].count, redis.permits[i].count);
    compare("held", mine.permits[i].held, redis.permits[i].held);
    compare("permits' carry", mine.permits[i].carry, redis.permits[i].carry);
  }
  for (std::size_t s = 0; s < mine.scopes.size(); ++s) {
    compare("carry", mine.scopes[s].carry, redis.scopes[s].carry);
    const FleetAmounts a_all = GrantedIn(mine.scopes[s]);
    const FleetAmounts b_all = GrantedIn(redis.scopes[s]);
    compare("all grants", a_all[0], b_all[0]);
    compare("all costs", a_all[1], b_all[1]);
    for (std::size_t g = 0; g < mine.scopes[s].answers.size(); ++g) {
      const FleetAnswer& a = mine.scopes[s].answers[g];
      const FleetAnswer& b = redis.scopes[s].answers[g];
      compare("known", a.known, b.known);
      if (a.epoch != b.epoch)
        text += fmt::format("epoch {} {}; ", a.epoch, b.epoch);
      compare("gate", static_cast<double>(a.gate) / 1e6,
              static_cast<double>(b.gate) / 1e6);
      compare("pace", a.pace * 1e9, b.pace * 1e9);
      for (std::size_t i = 0; i < 2; ++i) {
        compare("total", a.total[i], b.total[i]);
        compare("foreign", a.foreign[i], b.foreign[i]);
        compare("limit", a.limits[i].limit, b.limits[i].limit);
        compare("rate", a.limits[i].rate * 1e9, b.limits[i].rate * 1e9);
        compare("level", a.limits[i].level, b.limits[i].level);
      }
      if (in_all) continue;
      compare("grants", static_cast<double>(a.grants.size()),
              static_cast<double>(b.grants.size()));
      for (std::size_t i = 0; i < std::min(a.grants.size(), b.grants.size());
           ++i) {
        compare("in", static_cast<double>(a.grants[i].in) / 1e6,
                static_cast<double>(b.grants[i].in) / 1e6);
        compare("cost", a.grants[i].cost, b.grants[i].cost);
      }
    }
  }
  return text;
}

// A pool's processes, which send what such processes may send, and odd things.
class Round {
 public:
  Round(RedisServer& server, std::uint64_t seed)
      : server_(server),
        dice_(seed),
        key_(fmt::format("kr:{{twin{}}}:1", seed)),
        has_limits_(seed % 3 != 0),
        has_tokens_(seed % 3 == 1),
        limit_(seed % 5 == 4 ? 1 : 60),
        asks_(1 + Below(6)) {
    for (FleetAsk& ask : asks_) {
      ask.who = static_cast<double>(1 + Below(1'000'000));
      ask.period = 200'000'000;
      for (const char* key : {"key-0", "key-1"}) {
        ask.caps.push_back(
            {.id = key, .cap = std::floor(1 + static_cast<double>(seed))});
      }
      ask.scopes.resize(kScopes);
      for (std::size_t s = 0; s < kScopes; ++s) {
        ask.scopes[s].scope = fmt::format("scope-{}", s);
        ask.scopes[s].facts.resize(kGroups);
        for (std::size_t g = 0; g < kGroups; ++g)
          ask.scopes[s].facts[g].group = fmt::format("group-{}", g);
      }
    }
  }

  // The first difference, or nothing.
  std::string Step() {
    mood_ = has_limits_ ? Mood::kUsual : static_cast<Mood>(steps_++ / 60 % 3);
    const double most = Chance(0.02) ? 7e6 : mood_ == Mood::kDry ? 5e6 : 120e3;
    now_us_ += 125 + static_cast<std::int64_t>(Dice() * most);
    if (Chance(0.002)) Restart();
    if (Chance(0.002)) server_.SayOn(admin_, {"SCRIPT", "FLUSH"});
    const std::size_t who = Below(asks_.size());
    FleetAsk& ask = asks_[who];
    Fill(ask);
    const FleetReply expected = mine_.Handle(ask, now_us_ * 1000);
    std::string problem;
    const auto got = Ask(ask, problem);
    if (!got) return problem;
    problem = Difference(expected, *got);
    if (!problem.empty() && Difference(expected, *got, true).empty()) {
      ++ties_;
      Restart();
    } else if (!problem.empty()) {
      return fmt::format("process {} of {}: {}", who, asks_.size(), problem);
    }
    for (const FleetPermits& permits : expected.permits)
      permits_ += permits.count;
    if (expected.marks) marks_ += expected.marks->size();
    for (const FleetScopeReply& scope : expected.scopes)
      granted_ += static_cast<std::size_t>(GrantedIn(scope)[0]);
    Take(ask, expected);
    return {};
  }

  std::size_t granted() const { return granted_; }
  std::size_t ties() const { return ties_; }
  std::size_t marks() const { return marks_; }
  double permits() const { return permits_; }

 private:
  // Or evicted.
  void Restart() {
    server_.SayOn(admin_, {"DEL", key_});
    mine_ = {};
  }
  double Dice() { return std::uniform_real_distribution<>(0, 1)(dice_); }
  bool Chance(double chance) { return Dice() < chance; }
  std::size_t Below(std::size_t n) {
    return static_cast<std::size_t>(Dice() * static_cast<double>(n));
  }

  void Fill(FleetAsk& ask) {
    ask.alone = Chance(0.03);
    ask.leaves = Chance(0.02);
    for (FleetCap& cap : ask.caps) {
      cap.in_flight = std::floor(Dice() * (cap.held + 1));
      cap.last_want = cap.want;
      cap.want = Chance(0.3) ? 0 : cap.in_flight + std::floor(Dice() * 4);
    }
    ask.news.clear();
    const double more = Chance(0.003) ? 0.998 : 0.1;
    while (Chance(more)) ask.news.push_back(News());
    for (FleetScopeAsk& scope : ask.scopes) {
      scope.last_want = scope.want;
      scope.want[0] = Chance(0.3) ? 0 : std::floor(Dice() * 20) + 0.5;
      scope.want[1] = Chance(0.2) ? 0 : scope.want[0] * (100 + Dice() * 900);
      scope.part = Chance(0.8) ? 1 : 0.5;
      scope.costs.resize(Below(5));
      for (double& cost : scope.costs) cost = std::floor(Dice() * 1500);
      for (FleetFact& fact : scope.facts) {
        const bool is_quick = mood_ == Mood::kQuick;
        const bool is_dry = mood_ == Mood::kDry;
        fact.spent[0] =
            std::floor(Dice() * (fact.held[0] + (is_quick ? 40 : 2)));
        fact.spent[1] = fact.spent[0] * std::floor(Dice() * 800);
        fact.served = is_quick ? fact.spent[0]
                      : is_dry ? 0
                               : std::floor(Dice() * (fact.spent[0] + 1));
        fact.refused = Chance(is_dry ? 0.3 : 0.03);
        fact.refusal.hint = is_dry ? 0 : Hint();
        fact.refusal.guess = 1'000'000'000;
        fact.refusal.longest = Chance(0.5) ? 0 : 3'600'000'000'000;
        fact.reported.reset();
        if (has_limits_ && Chance(0.3)) fact.reported = Limits();
        fact.seed_rate = !has_limits_ && Chance(0.01) ? 1e-9 * Dice() : 0;
        if (Chance(0.02)) fact.epoch -= std::min<std::uint64_t>(fact.epoch, 1);
      }
    }
  }
  FleetNews News() {
    FleetNews news;
    news.id = fmt::format("key-{}", Below(5));
    if (Chance(0.02)) news.id = std::string(Chance(0.5) ? 256 : 257, 'x');
    if (Chance(0.3)) {
      // Keys that nobody speaks of again.
      news.id = fmt::format("key-{}", 100 + Below(3000));
    }
    news.kind = static_cast<FleetNews::Kind>(Below(4));
    const double ms = std::floor(Dice() * 60'000);
    if (Chance(0.7)) news.span = static_cast<internal::Nanos>(ms * 1e6);
    news.is_guess = Chance(0.5);
    return news;
  }
  internal::Nanos Hint() {
    if (Chance(0.4)) return 0;
    const double ms = Dice() * (Chance(0.1) ? 200'000 : 5000);
    return static_cast<internal::Nanos>(std::floor(ms) * 1e6);
  }
  std::array<FleetLimit, 2> Limits() {
    std::array<FleetLimit, 2> limits;
    limits[0] = {.limit = limit_,
                 .rate = limit_ / 60e9,
                 .level = Dice() * limit_ * 1.1,
                 .reserve = Dice()};
    if (has_tokens_) {
      limits[1] = {.limit = 30'000,
                   .rate = 30'000 / 60e9,
                   .level = Dice() * 30'000,
                   .reserve = Dice() * 100};
    }
    return limits;
  }

  std::optional<FleetReply> Ask(const FleetAsk& ask, std::string& problem) {
    const auto until = RedisConnection::Clock::now() + std::chrono::seconds(20);
    internal::RedisAddress address;
    address.path = server_.path();
    if (!connection_.is_open() && !connection_.Open(address, until)) {
      problem = connection_.error();
      return std::nullopt;
    }
    const auto message = internal::LedgerArguments(
        ask, std::chrono::hours(24), static_cast<double>(now_us_) / 1000);
    std::vector<std::string_view> args{"EVALSHA", hash_, "1", key_};
    args.insert(args.end(), message.begin(), message.end());
    const std::size_t most = internal::LedgerReplyReader::MostBytes(ask);
    internal::RedisReply reply = connection_.Command(args, until, most);
    if (reply != nullptr && reply->type == REDIS_REPLY_ERROR) {
      hash_ =
          server_.SayOn(admin_, {"SCRIPT", "LOAD", internal::kLedgerScript});
      args[1] = hash_;
      reply = connection_.Command(args, until, most);
    }
    if (reply == nullptr || reply->type != REDIS_REPLY_STRING) {
      problem =
          reply == nullptr ? connection_.error() : testing::TextOfReply(*reply);
      return std::nullopt;
    }
    internal::LedgerReplyReader reader(internal::TextOf(*reply));
    auto said = reader.Read(ask);
    if (!said) problem = reader.problem();
    return said;
  }

  // As a process keeps it for its next message.
  static void Take(FleetAsk& ask, const FleetReply& reply) {
    ask.slot = reply.slot;
    ask.version = reply.version;
    for (std::size_t i = 0; i < ask.caps.size(); ++i) {
      FleetCap& cap = ask.caps[i];
      cap.slot = reply.slot;
      cap.held = reply.permits[i].held;
      cap.carry = reply.permits[i].carry;
      if (ask.leaves) cap.want = 0;
    }
    for (std::size_t s = 0; s < kScopes; ++s) {
      FleetScopeAsk& scope = ask.scopes[s];
      scope.slot = reply.slot;
      scope.carry = reply.scopes[s].carry;
      if (ask.leaves) scope.want = {};
      for (std::size_t g = 0; g < kGroups; ++g) {
        const FleetAnswer& answer = reply.scopes[s].answers[g];
        FleetFact& fact = scope.facts[g];
        fact.held = {static_cast<double>(answer.grants.size()), 0};
        for (const FleetGrant& grant : answer.grants)
          fact.held[1] += grant.cost;
        fact.slot = reply.slot;
        fact.seen = answer.total;
        fact.epoch = answer.epoch;
      }
    }
  }

  // Of the processes: as they are; refused again and again; served by a provider
  // that has more and more.
  enum class Mood { kUsual, kDry, kQuick };

  RedisServer& server_;
  RedisConnection connection_;
  RedisConnection admin_;
  FleetLedger mine_;
  std::mt19937_64 dice_;
  const std::string key_;
  std::string hash_ = "none yet";
  const bool has_limits_;
  const bool has_tokens_;
  const double limit_;
  // A double has today's milliseconds to 244 ns, which a pace of thousands of
  // requests a second shows.
  std::int64_t now_us_ =
      has_limits_ ? 1'750'000'000'000'000 : 1'000'000'000'000;
  std::vector<FleetAsk> asks_;
  std::size_t steps_ = 0;
  Mood mood_ = Mood::kUsual;
  std::size_t granted_ = 0;
  std::size_t ties_ = 0;
  std::size_t marks_ = 0;
  double permits_ = 0;
};

TEST_CASE("the ledger in Redis says what the one in memory says", "[redis]") {
  if (testing::SkipWithoutRedis()) return;
  RedisServer server;
  constexpr std::uint64_t kRounds = 20;
  const std::uint64_t first = FromEnvironment("KEYROTATOR_TWIN_SEED", 1);
  const std::uint64_t steps =
      FromEnvironment("KEYROTATOR_TWIN_MESSAGES", 20'000) / kScopes / kRounds;
  std::size_t granted = 0;
  std::size_t ties = 0;
  std::size_t marks = 0;
  double permits = 0;
  for (std::uint64_t seed = first; seed < first + kRounds; ++seed) {
    Round round(server, seed);
    for (std::uint64_t step = 0; step < steps; ++step) {
      const std::string problem = round.Step();
      if (!problem.empty())
        FAIL("KEYROTATOR_TWIN_SEED=" << seed << ", step " << step << "\n"
                                     << problem);
    }
    granted += round.granted();
    ties += round.ties();
    marks += round.marks();
    permits += round.permits();
  }
  INFO(granted << " requests were granted, " << ties << " messages in a tie");
  CHECK(ties <= kRounds * steps / 1000);
  CHECK(granted > kRounds * steps / 10);
  CHECK(marks > kRounds * steps / 10);
  CHECK(permits > static_cast<double>(kRounds * steps));
}

}  // namespace
}  // namespace keyrotator::redis_twin_test
