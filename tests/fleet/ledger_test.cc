#include "keyrotator/fleet/ledger.h"

#include <cstddef>
#include <string>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "tests/support/catch.h"

namespace keyrotator::fleet_ledger_test {
namespace {

using internal::Nanos;

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kStart = 1000 * kSecond;

// A process with some keys, which tells what a process tells.
struct Process {
  explicit Process(std::vector<std::string> groups) {
    ask.period = kSecond / 5;
    FleetScopeAsk& scope = ask.scopes.emplace_back();
    scope.scope = "gpt-4o";
    for (std::string& group : groups)
      scope.facts.emplace_back().group = std::move(group);
  }

  FleetFact& fact(std::size_t i = 0) { return ask.scopes[0].facts[i]; }
  FleetAnswer& answer(std::size_t i = 0) { return reply.scopes[0].answers[i]; }
  void Want(double requests, double tokens = 0) {
    ask.scopes[0].want = {requests, tokens};
  }
  // The provider said: of so many, so many are left, and one comes a second.
  void Report(double limit, double level, std::size_t i = 0) {
    fact(i).reported = {{{limit, 1e-9, level, 0}, {}}};
  }
  void ReportTokens(double limit, double level, std::size_t i = 0) {
    fact(i).reported = {{{}, {limit, 1e-9, level, 0}}};
  }

  // A message, and what a process keeps of the reply.
  double Talk(FleetLedger& ledger, Nanos now) {
    reply = ledger.Handle(ask, now);
    double granted = 0;
    ask.slot = reply.slot;
    ask.version = reply.version;
    FleetScopeAsk& scope = ask.scopes[0];
    scope.last_want = scope.want;
    scope.slot = reply.slot;
    scope.carry = reply.scopes[0].carry;
    for (std::size_t i = 0; i < reply.scopes[0].answers.size(); ++i) {
      const FleetAnswer& said = answer(i);
      FleetFact& next = fact(i);
      const std::string group = next.group;
      next = {};
      next.group = group;
      next.epoch = said.epoch;
      next.slot = reply.slot;
      next.seen = said.total;
      for (const FleetGrant& grant : said.grants) {
        next.held[0] += 1;
        next.held[1] += grant.cost;
        granted += 1;
      }
    }
    return granted;
  }

  FleetAsk ask;
  FleetReply reply;
};

TEST_CASE("of what nobody told of nothing is granted", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Want(5);
  CHECK(one.Talk(ledger, kStart) == 0);
  CHECK_FALSE(one.answer().known);
  CHECK(one.reply.processes == 1);
}

TEST_CASE("what one process was granted no other is", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.Report(10, 10);
  one.Want(6);
  const double first = one.Talk(ledger, kStart);
  CHECK(first == 6);
  two.Want(100);
  const double second = two.Talk(ledger, kStart + 1);
  CHECK(second >= 1);
  CHECK(first + second <= 10);
  CHECK(two.answer().limits[0].limit == 10);
}

TEST_CASE("what was not spent comes back with the next message", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Report(10, 10);
  one.Want(9);
  CHECK(one.Talk(ledger, kStart) == 9);
  one.fact().spent = {2, 0};
  one.Want(0);
  one.Talk(ledger, kStart + 1);
  // Of what is left a part stays there for it, wanted or not.
  one.Want(0);
  one.Talk(ledger, kStart + 2);
  Process two({"a"});
  two.Want(100);
  CHECK(two.Talk(ledger, kStart + 3) >= 3);
  CHECK(two.answer().total[0] == 2);
  CHECK(two.answer().limits[0].level == Approx(8).margin(0.01));
}

TEST_CASE("of every key of which much is left each process has one",
          "[ledger]") {
  // 32 processes, and so few idle requests for each that not every key has one.
  FleetLedger ledger;
  std::vector<Process> all(32, Process({"a", "b", "c", "d", "e"}));
  for (Process& process : all) {
    process.Want(0.04);
    process.Talk(ledger, kStart);
  }
  for (std::size_t i = 0; i < 5; ++i) all[0].Report(60, i == 4 ? 5 : 50, i);
  for (Process& process : all) {
    process.Talk(ledger, kStart + 1);
    for (std::size_t i = 0; i < 4; ++i)
      CHECK_FALSE(process.answer(i).grants.empty());
    CHECK(process.answer(4).grants.empty());
  }
}

TEST_CASE("a key of which a quarter is left is kept for who wants it",
          "[ledger]") {
  FleetLedger ledger;
  std::vector<Process> all(100, Process({"a"}));
  all[0].Report(60, 60);
  double granted = 0;
  for (Process& process : all) {
    process.Want(0.01);
    granted += process.Talk(ledger, kStart);
  }
  CHECK(granted > 40);
  Process one({"a"});
  one.Want(10);
  CHECK(one.Talk(ledger, kStart) >= 5);
}

TEST_CASE("what a process held that died is free after two slots at most",
          "[ledger]") {
  FleetLedger ledger;
  Process dead({"a"});
  dead.Report(10, 10);
  dead.Want(9);
  CHECK(dead.Talk(ledger, kStart) == 9);
  Process two({"a"});
  two.Want(9);
  CHECK(two.Talk(ledger, kStart + 1) <= 1);
  // While that one asks on.
  Nanos now = kStart;
  double granted = 0;
  while (now < kStart + 2 * FleetAsk::kLease + kSecond) {
    now += kSecond / 5;
    two.Want(9);
    granted = two.Talk(ledger, now);
  }
  CHECK(granted == 9);
  CHECK(two.reply.processes == 1);
}

TEST_CASE("who leaves is counted no longer, and holds nothing", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.Report(10, 10);
  one.Want(9);
  one.Talk(ledger, kStart);
  two.Want(1);
  two.Talk(ledger, kStart + 1);
  CHECK(two.reply.processes == 2);
  one.ask.leaves = true;
  CHECK(one.Talk(ledger, kStart + 2) == 0);
  two.Want(9);
  CHECK(two.Talk(ledger, kStart + 3) == 9);
  CHECK(two.reply.processes == 1);
}

TEST_CASE("two who want as much get as much", "[ledger]") {
  FleetLedger ledger;
  Process one({"a", "b"});
  Process two({"a", "b"});
  for (const std::size_t i : {0U, 1U}) one.Report(100, 0.5, i);
  double first = 0;
  double second = 0;
  for (Nanos now = kStart; now < kStart + 200 * kSecond; now += kSecond / 5) {
    // In step one of them would always come first.
    const bool turn = (now / (kSecond / 5)) % 2 == 0;
    for (Process* process : {turn ? &one : &two, turn ? &two : &one}) {
      for (const std::size_t i : {0U, 1U})
        process->fact(i).spent = process->fact(i).held;
      process->Want(20);
      const double granted = process->Talk(ledger, now);
      (process == &one ? first : second) += granted;
    }
  }
  // One a second flows to each of the two keys.
  CHECK(first + second == Approx(400).margin(6));
  CHECK(first == Approx(second).epsilon(0.05));
}

TEST_CASE("a grant has its tokens, and waits for them", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.ReportTokens(1000, 900);
  one.ask.scopes[0].costs = {600, 600};
  one.Want(2, 1200);
  CHECK(one.Talk(ledger, kStart) == 1);
  CHECK(one.answer().grants[0].cost == 600);
  // What costs more than the bucket holds takes all of it.
  Process two({"b"});
  two.ReportTokens(1000, 1000);
  two.ask.scopes[0].costs = {5000};
  two.Want(1, 5000);
  CHECK(two.Talk(ledger, kStart + 1) <= 1);
}

TEST_CASE("a refusal without limits teaches a pace, and voids what was granted",
          "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.Talk(ledger, kStart);
  two.Talk(ledger, kStart);
  const std::uint64_t epoch = one.answer().epoch;
  one.fact().refused = true;
  one.fact().refusal = {.hint = 0, .guess = kSecond, .longest = 0};
  one.Want(5);
  CHECK(one.Talk(ledger, kStart + 1) == 0);
  CHECK(one.answer().known);
  CHECK(one.answer().epoch == epoch + 1);
  CHECK(one.answer().gate == kSecond);
  CHECK(one.answer().pace > 0);
  // Who has not heard of it cannot teach it once more.
  two.fact().refused = true;
  two.fact().refusal = {.hint = 0, .guess = kSecond, .longest = 0};
  two.Talk(ledger, kStart + 2);
  CHECK(two.answer().epoch == epoch + 1);
  CHECK(two.answer().gate == kSecond - 1);
}

TEST_CASE("a hint shuts the key for all, the later end counts", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Report(10, 5);
  one.fact().refused = true;
  one.fact().refusal.hint = 20 * kSecond;
  one.Want(1);
  CHECK(one.Talk(ledger, kStart) == 0);
  Process two({"a"});
  two.fact().refused = true;
  two.fact().refusal.hint = kSecond;
  two.Talk(ledger, kStart);
  CHECK(two.answer().gate == 20 * kSecond);
  two.fact().refused = true;
  two.fact().refusal.hint = internal::kNever;
  two.Talk(ledger, kStart);
  CHECK(two.answer().gate > 1000 * kSecond);
}

TEST_CASE("a bucket of one or two is not shared out ahead", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Report(2, 2);
  one.Want(2);
  CHECK(one.Talk(ledger, kStart) == 0);
  CHECK_FALSE(one.answer().known);
}

TEST_CASE("a ledger that was lost takes over what a process knew", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.ask.version = one.fact().epoch = 7;  // of the one before
  one.fact().seed_rate = 1e-9;
  one.Want(5);
  one.Talk(ledger, kStart);
  CHECK(one.answer().epoch != 7);
  // Nobody waits for a pace while the others are still on their own.
  CHECK(one.answer().pace == 0);
  one.fact().seed_rate = 1e-9;
  one.Talk(ledger, kStart + FleetAsk::kLease);
  CHECK(one.answer().known);
  CHECK(one.answer().pace == Approx(1e-9));
}

TEST_CASE("a ledger that was lost grants nothing until all are back",
          "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.ask.version = two.ask.version = 7;
  const auto talk = [&](Process& process, Nanos now) {
    process.Report(100, 50);
    process.Want(5);
    return process.Talk(ledger, now);
  };
  CHECK(talk(one, kStart) == 0);
  CHECK(one.reply.gathers);
  CHECK_FALSE(one.answer().known);
  // The limits are, so that they need not be told again.
  CHECK(one.answer().limits[0].limit == 100);
  CHECK(talk(two, kStart + kSecond) == 0);
  CHECK_FALSE(two.answer().known);
  CHECK(talk(one, kStart + FleetAsk::kLease) >= 5);
  CHECK_FALSE(one.reply.gathers);
  CHECK(one.answer().known);
  CHECK(talk(two, kStart + FleetAsk::kLease) >= 5);
}

TEST_CASE("permits are not shared anew before all are back", "[ledger]") {
  FleetLedger ledger;
  FleetAsk ask{.period = kSecond / 5, .version = 7};
  ask.caps = {
      {.id = "k", .cap = 8, .in_flight = 1, .want = 8, .slot = -1, .held = 3}};
  CHECK(ledger.Handle(ask, kStart).permits.at(0).count == 3);
  ask.version = 0;
  CHECK(ledger.Handle(ask, kStart + 3 * FleetAsk::kLease).permits[0].count ==
        8);
}

TEST_CASE("a ledger whose clock went back is another one, too", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.ask.version = one.fact().epoch = 1ULL << 50;
  one.fact().seen = {3, 0};
  CHECK(one.Talk(ledger, kStart) == 0);
  CHECK(one.reply.gathers);
  CHECK(one.answer().foreign[0] == 0);
}

TEST_CASE("a fleet that is new has nobody to wait for", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Report(100, 50);
  one.Want(5);
  CHECK(one.Talk(ledger, kStart) >= 5);
}

TEST_CASE("who knew another ledger is told of nothing that others spent",
          "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.fact().spent = {5, 0};
  one.Report(100, 50);
  one.Talk(ledger, kStart);
  two.fact().epoch = 7;
  two.fact().seen = {3, 0};
  two.fact().slot = one.reply.slot;
  two.Talk(ledger, kStart);
  CHECK(two.answer().foreign[0] == 0);
}

TEST_CASE(
    "what flowed back while nobody asked, but somebody was there, is gone",
    "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Report(100, 10);
  one.Talk(ledger, kStart);
  one.ask.alone = true;
  one.Want(5);
  const Nanos back = kStart + 60 * kSecond;
  CHECK(one.Talk(ledger, back) == 0);
  CHECK(one.answer().limits[0].level ==
        Approx(10.2));  // that of a period is not
  // Until the others are back, too, each keeps to its part.
  CHECK_FALSE(one.answer().known);
  one.ask.alone = false;
  one.Talk(ledger, back + FleetAsk::kLease);
  CHECK(one.answer().known);
  CHECK(one.answer().limits[0].level == Approx(12.2));
}

TEST_CASE("while the fleet gathers a refusal teaches no pace that others know",
          "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.ask.version = 7;
  one.Talk(ledger, kStart);
  two.Talk(ledger, kStart);
  two.fact().refused = true;
  two.fact().refusal = {.hint = 0, .guess = kSecond, .longest = 0};
  two.Talk(ledger, kStart + kSecond);
  one.fact().seed_rate = 1e-8;
  one.Talk(ledger, kStart + FleetAsk::kLease);
  CHECK(one.answer().pace == Approx(1e-8));
}

TEST_CASE("a message lost now and then scatters no fleet of other periods",
          "[ledger]") {
  FleetLedger ledger;
  Process slow({"a"});
  Process quick({"a"});
  slow.ask.period = kSecond;
  slow.Report(100, 50);
  slow.Talk(ledger, kStart);
  quick.ask.alone = true;
  for (Nanos now = kStart; now < kStart + 10 * kSecond; now += kSecond) {
    slow.Talk(ledger, now);
    CHECK(slow.answer().known);
    quick.Talk(ledger, now + kSecond * 7 / 10);
    CHECK(quick.answer().known);
  }
}

TEST_CASE("one process that was cut off holds up nobody", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  Process two({"a"});
  one.Report(100, 50);
  one.Talk(ledger, kStart);
  two.ask.alone = true;
  two.Talk(ledger, kStart + kSecond / 5);
  CHECK(two.answer().known);
}

TEST_CASE("one message is granted 256 requests at most", "[ledger]") {
  FleetLedger ledger;
  Process one({"a"});
  one.Report(100'000, 100'000);
  one.Want(5000);
  CHECK(one.Talk(ledger, kStart) == 256);
}

}  // namespace
}  // namespace keyrotator::fleet_ledger_test
