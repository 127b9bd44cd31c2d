#include "keyrotator/fleet/fleet.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/fleet/memory_exchange.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/fleet_status.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/eventually.h"
#include "tests/support/fleet_wire.h"

namespace keyrotator::fleet_fleet_test {
namespace {

using namespace std::chrono_literals;
using testing::Eventually;
using testing::FleetWire;
using testing::ManualClock;
using testing::NewLedger;
using testing::WireExchange;
using Rotator = KeyRotator<MostHeadroom, ManualClock>;

struct Process {
  Process(ManualClock clock, std::shared_ptr<FleetWire> the_wire,
          ApiKeys keys = {"sk-secret-a", "sk-secret-b"})
      : wire(std::move(the_wire)),
        rotator(keys,
                {.on_event =
                     [this](const KeyEvent& event) {
                       events.push_back(event.kind);
                     }},
                MostHeadroom(), clock) {
    FleetOptions options;
    options.has_thread = false;
    options.random = [] { return 0.5; };
    fleet.emplace(rotator, WireExchange(wire), options);
  }

  // Requests that get a key, up to `most`; each answer tells what is left of it.
  std::size_t Pick(std::size_t most) {
    std::size_t count = 0;
    while (count < most && rotator.Pick({.scope = "gpt-4o"})) ++count;
    return count;
  }
  std::size_t Count(KeyEvent::Kind kind) const {
    std::size_t count = 0;
    for (const KeyEvent::Kind event : events) count += event == kind ? 1 : 0;
    return count;
  }

  std::shared_ptr<FleetWire> wire;
  std::vector<KeyEvent::Kind> events;
  Rotator rotator;
  std::optional<Fleet> fleet;
};

// Two processes on the same keys.
struct Bench {
  ManualClock clock;
  std::shared_ptr<SharedLedger> ledger = NewLedger(clock);
  std::shared_ptr<FleetWire> wire_a =
      std::make_shared<FleetWire>(FleetWire{.ledger = ledger});
  std::shared_ptr<FleetWire> wire_b =
      std::make_shared<FleetWire>(FleetWire{.ledger = ledger});
  Process a{clock, wire_a};
  Process b{clock, wire_b};

  void Run(std::chrono::nanoseconds span) {
    const auto end = clock.now() + span;
    while (clock.now() < end) {
      clock.Advance(25ms);
      for (Process* process : {&a, &b}) {
        if (process->fleet) process->fleet->Poll();
      }
    }
  }
  // The provider tells `process` of both keys: of 10 requests `left` are left, and
  // one comes each 100 s.
  void Report(Process& process, double left) {
    for (int i = 0; i < 2; ++i) {
      auto lease = process.rotator.Pick({.scope = "gpt-4o"});
      REQUIRE(lease);
      process.rotator.Settle(
          *lease,
          {.kind = Report::Kind::kServed,
           .limits = RateLimits{
               .requests = {.limit = 10.,
                            .remaining = left,
                            .reset = std::chrono::seconds(
                                static_cast<int>(100 * (10 - left)))}}});
    }
  }
  // Both know the model, and what is left of the keys.
  void Meet() {
    Report(a, 8);
    b.Pick(1);
    Run(1s);
  }
};

TEST_CASE("what two processes send together is no more than what is left",
          "[fleet]") {
  Bench bench;
  bench.Meet();
  const std::size_t first = bench.a.Pick(100);
  const std::size_t second = bench.b.Pick(100);
  CHECK(first > 0);
  CHECK(second > 0);
  CHECK(first + second <= 16);
  // What is wanted comes with the next messages.
  std::size_t all = first + second;
  for (int i = 0; i < 20; ++i) {
    bench.Run(200ms);
    all += bench.a.Pick(100) + bench.b.Pick(100);
  }
  CHECK(all >= 13);
  CHECK(all <= 16);
}

TEST_CASE("who is left alone in the fleet keeps the pace that all had learned",
          "[fleet]") {
  Bench bench;
  bench.b.Pick(1);
  for (int i = 0; i < 120; ++i) {
    for (Process* process : {&bench.a, &bench.b}) {
      auto lease = process->rotator.Pick({.scope = "gpt-4o"});
      if (!lease) continue;
      if (i % 10 == 9) {
        process->rotator.Settle(
            *lease, {.kind = Report::Kind::kRateLimited,
                     .reach = Reach::kScope,
                     .guess = Cooldown{.initial = 1s, .learn_pace = true}});
      } else {
        process->rotator.MarkSucceeded(*lease);
      }
    }
    bench.Run(500ms);
  }
  bench.b.fleet.reset();
  while (bench.a.fleet->Status().processes > 1) bench.Run(25ms);
  bench.a.Pick(100);
  bench.Run(5s);
  const std::size_t count = bench.a.Pick(100);
  CHECK(count > 0);
  CHECK(count < 30);
}

TEST_CASE("a process that is alone in its fleet picks as without one",
          "[fleet]") {
  Bench bench;
  bench.b.fleet.reset();
  bench.Run(5s);
  Bench without;
  without.a.fleet.reset();
  without.b.fleet.reset();
  for (Bench* one : {&bench, &without}) one->Report(one->a, 8);
  bench.Run(1s);
  without.Run(1s);
  const std::size_t first = without.a.Pick(100);
  CHECK(first > 10);
  CHECK(bench.a.Pick(100) == first);
  bench.Run(100s);
  without.Run(100s);
  CHECK(bench.a.Pick(100) == without.a.Pick(100));
}

TEST_CASE("a cooldown that one was told of is one for all", "[fleet]") {
  Bench bench;
  bench.Meet();
  auto lease = bench.a.rotator.Pick({.scope = "gpt-4o"});
  REQUIRE(lease);
  bench.a.rotator.MarkRateLimited(*lease, 60s);
  bench.Run(1s);
  std::size_t cooling = 0;
  for (const KeyStatus& key : bench.b.rotator.Snapshot()) {
    for (const ScopeStatus& scope : key.scopes)
      cooling += scope.returns_in.value_or(0s) > 50s ? 1 : 0;
  }
  CHECK(cooling == 1);
  CHECK(bench.b.Count(KeyEvent::Kind::kCooled) == 1);
}

TEST_CASE("without the ledger a process goes on, and says so once", "[fleet]") {
  Bench bench;
  bench.Meet();
  CHECK(bench.b.fleet->Status().is_connected);
  CHECK(bench.b.fleet->Status().processes == 2);
  bench.wire_b->loses_asks = true;
  bench.Run(60s);
  CHECK(bench.b.Count(KeyEvent::Kind::kFleetLost) == 1);
  CHECK(bench.b.Pick(1) == 1);
  FleetStatus status = bench.b.fleet->Status();
  CHECK_FALSE(status.is_connected);
  CHECK(status.since > 55s);
  CHECK(status.misses > 20);
  CHECK(status.error == "the wire is cut");
  CHECK(fmt::format("{}", status).find("alone for") == 0);

  bench.wire_b->loses_asks = false;
  bench.Run(4s);
  CHECK(bench.b.Count(KeyEvent::Kind::kFleetBack) == 1);
  CHECK(bench.b.Count(KeyEvent::Kind::kFleetLost) == 1);
  status = bench.b.fleet->Status();
  CHECK(status.is_connected);
  CHECK(status.age.value_or(1h) < 1s);
  CHECK(fmt::format("{}", status).find("connected for") == 0);
  CHECK(bench.a.Count(KeyEvent::Kind::kFleetLost) == 0);
}

TEST_CASE("who had nobody beside it was not alone: it tells all that it spent",
          "[fleet]") {
  for (const bool has_other : {true, false}) {
    CAPTURE(has_other);
    Bench bench;
    bench.Meet();
    if (!has_other) bench.b.fleet.reset();
    bench.Run(5s);
    bench.wire_a->loses_asks = bench.wire_b->loses_asks = true;
    bench.Run(5s);
    CHECK(bench.wire_a->asks.back().alone == has_other);
    bench.wire_a->loses_asks = bench.wire_b->loses_asks = false;
    bench.Run(2s);
    CHECK_FALSE(bench.wire_a->asks.back().alone);
  }
}

TEST_CASE("a ledger that is away at the start is no error", "[fleet]") {
  ManualClock clock;
  auto wire = std::make_shared<FleetWire>();
  wire->loses_asks = true;
  Process process(clock, wire);
  CHECK(process.Pick(5) == 5);
  clock.Advance(1s);
  process.fleet->Poll();
  CHECK_FALSE(process.fleet->Status().is_connected);
  CHECK_FALSE(process.fleet->Status().age);
  CHECK(process.Pick(5) == 5);
}

TEST_CASE("an exchange that throws is one that did not answer", "[fleet]") {
  Bench bench;
  bench.Meet();
  bench.wire_a->throws = true;
  bench.Run(3s);
  CHECK(bench.a.fleet->Status().error == "it broke");
  CHECK(bench.a.Count(KeyEvent::Kind::kFleetLost) == 1);
  bench.a.fleet.reset();
}

TEST_CASE("who leaves the fleet gives back what was granted", "[fleet]") {
  Bench bench;
  bench.Meet();
  bench.a.fleet.reset();
  CHECK(bench.wire_a->asks.back().leaves);
  bench.Run(1s);
  CHECK(bench.b.fleet->Status().processes == 1);
  // And goes on by what is known there.
  CHECK(bench.a.Pick(1) == 1);
}

TEST_CASE("the exchange is gone with the fleet", "[fleet]") {
  Bench bench;
  bench.Meet();
  const std::weak_ptr<FleetWire> wire = bench.wire_a;
  bench.a.fleet.reset();
  bench.a.wire.reset();
  bench.wire_a.reset();
  CHECK(wire.expired());
  CHECK(bench.a.Pick(1) == 1);
}

TEST_CASE("who joins another fleet is called there as it should be",
          "[fleet]") {
  Bench bench;
  bench.Meet();
  const std::string before =
      bench.wire_a->asks.back().scopes.at(0).facts.at(0).group;
  bench.wire_a->loses_asks = true;
  bench.Run(3s);
  bench.a.fleet.reset();
  bench.wire_a->asks.clear();
  bench.wire_a->secret = "another";
  FleetOptions options;
  options.has_thread = false;
  bench.a.fleet.emplace(bench.a.rotator, WireExchange(bench.wire_a), options);
  bench.a.Pick(1);
  bench.Run(3s);
  REQUIRE_FALSE(bench.wire_a->asks.empty());
  const FleetAsk& last = bench.wire_a->asks.back();
  REQUIRE_FALSE(last.scopes.empty());
  for (const FleetFact& fact : last.scopes[0].facts)
    CHECK(fact.group != before);
  CHECK(last.slot == -1);
  // Nobody has heard of that one, either.
  CHECK(bench.a.Count(KeyEvent::Kind::kFleetLost) == 2);
}

TEST_CASE("a rotator is in one fleet at a time", "[fleet]") {
  Bench bench;
  FleetOptions options;
  options.has_thread = false;
  CHECK_THROWS_AS(Fleet(bench.a.rotator, WireExchange(bench.wire_b), options),
                  std::invalid_argument);
  bench.Meet();
  CHECK(bench.a.fleet->Status().is_connected);
}

TEST_CASE("an exchange that cannot name a key is one that did not answer",
          "[fleet]") {
  ManualClock clock;
  auto wire = std::make_shared<FleetWire>(
      FleetWire{.ledger = std::make_shared<SharedLedger>()});
  wire->names_throw = true;
  Process process(clock, wire);
  process.Pick(1);
  clock.Advance(1s);
  process.fleet->Poll();
  CHECK(process.fleet->Status().error == "no names");
  CHECK(process.Pick(1) == 1);
  wire->names_throw = false;
  clock.Advance(5s);
  process.fleet->Poll();
  CHECK(process.fleet->Status().is_connected);
  wire->names_throw = true;
  process.fleet.reset();
}

TEST_CASE("what the ledger cannot share is no reason to hurry", "[fleet]") {
  Bench bench;
  bench.Report(bench.a, 8);
  bench.Run(1s);
  const std::size_t before = bench.wire_a->asks.size();
  // A bucket of two is not shared.
  std::size_t reports = 0;
  for (int i = 0; i < 100; ++i) {
    if (auto lease = bench.a.rotator.Pick({.scope = "small"})) {
      ++reports;
      bench.a.rotator.ReportLimits(
          *lease, {.requests = {.limit = 2., .remaining = 1., .reset = 1ms}});
    }
    bench.Run(25ms);
  }
  CHECK(reports > 50);
  // Five a second, and one for each key whose limit was new.
  CHECK(bench.wire_a->asks.size() - before <= 20);
}

TEST_CASE("a fleet may outlive its rotator", "[fleet]") {
  auto ledger = std::make_shared<SharedLedger>();
  auto rotator = std::make_unique<KeyRotator<>>(ApiKeys{"sk-a"});
  Fleet fleet(*rotator, MemoryExchange(ledger), {.has_thread = false});
  rotator.reset();
  fleet.Poll();
  CHECK(fleet.Status().misses == 0);
}

TEST_CASE("no message holds a key, nor the name of a group or a scope",
          "[fleet][S21]") {
  ManualClock clock;
  auto wire = std::make_shared<FleetWire>(
      FleetWire{.ledger = std::make_shared<SharedLedger>()});
  Process process(clock, wire,
                  {ApiKey("sk-secret-a", {.name = "prod", .group = "acme"}),
                   ApiKey("sk-secret-b")});
  process.Pick(2);
  clock.Advance(1s);
  process.fleet->Poll();
  REQUIRE_FALSE(wire->asks.empty());
  REQUIRE_FALSE(wire->asks.back().scopes.empty());
  for (const FleetScopeAsk& scope : wire->asks.back().scopes) {
    CHECK(scope.scope.find("gpt") == std::string::npos);
    CHECK(scope.facts.size() == 2);
    for (const FleetFact& fact : scope.facts) {
      CHECK(fact.group.find("secret") == std::string::npos);
      CHECK(fact.group.find("acme") == std::string::npos);
      CHECK(fact.group.find("prod") == std::string::npos);
    }
  }
}

TEST_CASE("keys that come, go and change groups do not confuse a fleet",
          "[fleet]") {
  Bench bench;
  bench.Meet();
  bench.a.rotator.Remove("sk-secret-a");
  bench.Run(1s);
  bench.a.rotator.Replace({"sk-secret-c", "sk-secret-b"});
  bench.a.Pick(3);
  bench.Run(5s);
  CHECK(bench.a.fleet->Status().is_connected);
  CHECK(bench.a.rotator.Size() == 2);
  bench.b.rotator.Replace({});
  bench.Run(5s);
  CHECK(bench.b.fleet->Status().is_connected);
}

TEST_CASE("options out of range are refused by name", "[fleet]") {
  KeyRotator rotator({"sk-a"});
  const MemoryExchange exchange(std::make_shared<SharedLedger>());
  const auto refused = [&](const FleetOptions& options) {
    try {
      const Fleet fleet(rotator, exchange, options);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refused({.period = 49ms}).find("period") != std::string::npos);
  CHECK(refused({.period = 2s}).find("period") != std::string::npos);
  CHECK(refused({.max_groups = 0}).find("max_groups") != std::string::npos);
  CHECK(refused({}).empty());
}

TEST_CASE("a thread sends the messages, and ends with the fleet", "[fleet]") {
  auto ledger = std::make_shared<SharedLedger>();
  KeyRotator one({"sk-a"});
  KeyRotator two({"sk-a"});
  Fleet fleet(one, MemoryExchange(ledger));
  {
    const Fleet other(two, MemoryExchange(ledger), {.period = 50ms});
    CHECK(Eventually([&] { return fleet.Status().processes == 2; }));
    CHECK(other.Status().is_connected);
  }
  CHECK(Eventually([&] { return fleet.Status().processes == 1; }));
}

}  // namespace
}  // namespace keyrotator::fleet_fleet_test
