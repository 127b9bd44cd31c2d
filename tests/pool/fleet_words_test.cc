#include "keyrotator/pool/fleet_words.h"

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet/fleet.h"
#include "keyrotator/fleet/memory_exchange.h"
#include "keyrotator/fleet_status.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/fleet_wire.h"

namespace keyrotator::pool_fleet_words_test {
namespace {

using namespace std::chrono_literals;
using testing::FleetWire;
using testing::ManualClock;
using testing::NewLedger;
using testing::WireExchange;
using Rotator = KeyRotator<FirstAvailable, ManualClock>;

struct Process {
  Process(ManualClock clock, std::shared_ptr<FleetWire> the_wire, double number,
          const RotatorOptions& options, const ApiKeys& keys)
      : wire(std::move(the_wire)),
        rotator(keys, Listening(options), {}, clock) {
    fleet.emplace(rotator, WireExchange(wire),
                  FleetOptions{.has_thread = false,
                               .random = [number] { return number / 10; }});
  }
  RotatorOptions Listening(RotatorOptions options) {
    options.on_event = [this](const KeyEvent& event) {
      events.push_back(event.kind);
    };
    return options;
  }

  std::size_t Count(KeyEvent::Kind kind) const {
    std::size_t count = 0;
    for (const KeyEvent::Kind event : events) count += event == kind ? 1 : 0;
    return count;
  }
  KeyState StateOf(std::string_view name) {
    for (const KeyStatus& key : rotator.Snapshot()) {
      if (key.name == name) return key.state;
    }
    FAIL("no key " << name);
    return {};
  }
  // A request with the first key that there is is refused as invalid, or served.
  void Fail() { Settle({.kind = Report::Kind::kFailed}); }
  void Serve() { Settle({.kind = Report::Kind::kServed}); }
  void Settle(const Report& report) {
    auto lease = rotator.Pick();
    REQUIRE(lease);
    rotator.Settle(*lease, report);
  }

  std::shared_ptr<FleetWire> wire;
  std::vector<KeyEvent::Kind> events;
  Rotator rotator;
  std::optional<Fleet> fleet;
};

// Three processes on the keys a and b, of which a is picked first.
struct Bench {
  explicit Bench(const RotatorOptions& wanted = {}) : options(wanted) {
    for (int i = 0; i < 3; ++i) Begin();
    Run(1s);
  }

  Process& Begin() {
    return processes.emplace_back(
        clock, std::make_shared<FleetWire>(FleetWire{.ledger = ledger}),
        static_cast<double>(processes.size() + 1), options,
        ApiKeys{ApiKey("sk-a", {.name = "a"}), ApiKey("sk-b", {.name = "b"})});
  }
  void Run(std::chrono::nanoseconds span) {
    const auto end = clock.now() + span;
    while (clock.now() < end) {
      clock.Advance(25ms);
      for (Process& process : processes) {
        if (process.fleet) process.fleet->Poll();
      }
    }
  }
  // The states of the key a.
  std::vector<KeyState> States() {
    std::vector<KeyState> states;
    for (Process& process : processes) states.push_back(process.StateOf("a"));
    return states;
  }
  Process& operator[](std::size_t i) { return processes[i]; }

  RotatorOptions options;
  ManualClock clock{1'000'000s};
  std::shared_ptr<SharedLedger> ledger = NewLedger(clock);
  std::deque<Process> processes;
};

using States = std::vector<KeyState>;
constexpr KeyState kGood = KeyState::kAvailable;
constexpr KeyState kBad = KeyState::kFailed;

TEST_CASE("one process's word has a key tried once elsewhere", "[fleet]") {
  Bench bench;
  bench[0].Fail();
  bench.Run(1s);
  CHECK(bench[0].StateOf("a") == kBad);
  CHECK(bench[0].fleet->Status().doubted_keys == 1);
  {
    auto trial = bench[1].rotator.Pick();
    REQUIRE(trial);
    CHECK(trial->name() == "a");
    // The others take another key until it is known.
    CHECK(bench[1].rotator.Pick()->name() == "b");
    bench[1].rotator.MarkSucceeded(*trial);
  }
  CHECK(bench[1].rotator.Pick()->name() == "a");
  // That it works elsewhere does not mean that it works here.
  bench.Run(10s);
  CHECK(bench[0].StateOf("a") == kBad);
  auto one = bench[1].rotator.Pick();
  CHECK(bench[1].rotator.Pick()->name() == "a");
}

TEST_CASE("the words of two take a key out of all, and of who comes later",
          "[fleet]") {
  Bench bench;
  bench[0].Fail();
  bench.Run(1s);
  bench[1].Fail();
  bench.Run(1s);
  CHECK(bench.States() == States{kBad, kBad, kBad});
  CHECK(bench[2].Count(KeyEvent::Kind::kFailed) == 1);
  CHECK(bench[2].fleet->Status().failed_keys == 1);
  CHECK(fmt::format("{}", bench[2].fleet->Status()).find(", 1 failed") !=
        std::string::npos);
  CHECK(bench[2].StateOf("b") == kGood);
  bench.Begin();
  bench.Run(1s);
  CHECK(bench[3].StateOf("a") == kBad);
}

TEST_CASE("a key that is restored anywhere is restored everywhere", "[fleet]") {
  Bench bench;
  bench[0].Fail();
  bench.Run(1s);
  bench[1].Fail();
  bench.Run(1s);
  REQUIRE(bench.States() == States{kBad, kBad, kBad});
  bench[2].rotator.Restore(bench[2].rotator.Snapshot()[0].id);
  bench.Run(1s);
  CHECK(bench.States() == States{kGood, kGood, kGood});
  CHECK(bench[0].Count(KeyEvent::Kind::kReturned) == 1);
  CHECK(bench[0].fleet->Status().failed_keys == 0);
  // And what fails then is a new word.
  bench[2].Fail();
  bench.Run(1s);
  CHECK(bench[2].StateOf("a") == kBad);
  auto trial = bench[0].rotator.Pick();
  CHECK(trial->name() == "a");
  CHECK(bench[0].rotator.Pick()->name() == "b");
}

TEST_CASE("what failed before a process joined is not lifted by an old restore",
          "[fleet]") {
  Bench bench;
  bench[0].Fail();
  bench.Run(1s);
  bench[0].rotator.Restore(bench[0].rotator.Snapshot()[0].id);
  bench.Run(1s);
  Process& late = bench.Begin();
  late.Fail();
  bench.Run(2s);
  CHECK(late.StateOf("a") == kBad);
  CHECK(late.Count(KeyEvent::Kind::kReturned) == 0);
  // A new one is.
  bench[0].rotator.Restore(bench[0].rotator.Snapshot()[0].id);
  bench.Run(1s);
  CHECK(late.StateOf("a") == kGood);
}

TEST_CASE("a key that is to be tried again is tried by one for all",
          "[fleet]") {
  Bench bench({.retry_failed_after = 60s});
  bench[0].Fail();
  bench.Run(10s);
  bench[1].Fail();
  bench.Run(1s);
  REQUIRE(bench.States() == States{kBad, kBad, kBad});
  // From the later word on.
  bench.Run(58s);
  CHECK(bench.States() == States{kBad, kBad, kBad});
  bench.Run(1100ms);
  CHECK(bench.States() == States{kBad, kGood, kBad});
  SECTION("in vain, and then later for all") {
    bench[1].Fail();
    bench.Run(55s);
    CHECK(bench.States() == States{kBad, kBad, kBad});
  }
  SECTION("well, and then it is back in all") {
    bench[1].Serve();
    bench.Run(1s);
    CHECK(bench.States() == States{kGood, kGood, kGood});
  }
  SECTION("not at all, and then by the others") {
    bench.Run(5s);
    CHECK(bench.States() == States{kGood, kGood, kGood});
  }
}

TEST_CASE("who has a key served that failed here takes its word back",
          "[fleet]") {
  Bench bench({.retry_failed_after = 60s});
  bench[0].Fail();
  bench.Run(61s);
  bench[0].Serve();
  bench.Run(1s);
  CHECK(bench[0].fleet->Status().doubted_keys == 0);
  bench[1].Fail();
  bench.Run(1s);
  CHECK(bench[2].StateOf("a") == kGood);
}

TEST_CASE("a quota that is spent is spent for all", "[fleet]") {
  Bench bench;
  {
    auto lease = bench[0].rotator.Pick();
    bench[0].rotator.Settle(*lease, {.kind = Report::Kind::kRateLimited,
                                     .retry_after = 600s,
                                     .reach = Reach::kKey});
  }
  bench.Run(1s);
  CHECK(bench.States() == States(3, KeyState::kCooling));
  CHECK(bench[1].Count(KeyEvent::Kind::kCooled) == 1);
  CHECK(bench[1].fleet->Status().cooling_groups == 1);
  CHECK(bench[1].StateOf("b") == kGood);
  // A later end wins.
  bench[1].rotator.MarkRateLimited(bench[1].rotator.Snapshot()[0].id, 1200s);
  bench.Run(700s);
  CHECK(bench.States() == States(3, KeyState::kCooling));
  bench.Run(505s);
  CHECK(bench.States() == States{kGood, kGood, kGood});
}

TEST_CASE("a rest whose end is a guess ends first where it began", "[fleet]") {
  Bench bench({.cooldown = 60s});
  bench[0].rotator.MarkRateLimited(bench[0].rotator.Snapshot()[0].id);
  bench.Run(61s);
  CHECK(bench.States() ==
        States{kGood, KeyState::kCooling, KeyState::kCooling});
  bench.Run(5s);
  CHECK(bench.States() == States{kGood, kGood, kGood});
  // One request tries it in each of them.
  auto trial = bench[2].rotator.Pick();
  CHECK(trial->name() == "a");
  CHECK(bench[2].rotator.Pick()->name() == "b");
}

TEST_CASE("what is said of another key does not end a trial", "[fleet]") {
  Bench bench({.retry_failed_after = 60s});
  bench[0].Fail();
  bench.Run(1s);
  bench[1].Fail();
  bench.Run(60500ms);
  auto trial = bench[1].rotator.Pick();
  REQUIRE(trial->name() == "a");
  bench[2].Fail();  // b
  bench.Run(1s);
  CHECK(bench[1].StateOf("a") == KeyState::kBusy);
}

TEST_CASE("what happened here while a reply was under way is newer",
          "[fleet]") {
  Bench bench;
  bench[2].wire->loses_asks = true;
  bench[0].Fail();
  bench.Run(1s);
  bench[1].Fail();
  bench.Run(1s);
  bench[2].wire->loses_asks = false;
  // The first that it hears is that the key is out.
  bench[2].wire->meanwhile = [&] {
    bench[2].rotator.Restore(bench[2].rotator.Snapshot()[0].id);
  };
  bench.Run(5s);
  CHECK(bench[2].Count(KeyEvent::Kind::kFailed) == 0);
  CHECK(bench.States() == States{kGood, kGood, kGood});
}

TEST_CASE("a word that is lost is told again", "[fleet]") {
  Bench bench;
  bench[0].wire->loses_asks = true;
  bench[0].Fail();
  bench[0].rotator.MarkRateLimited(bench[0].rotator.Snapshot()[1].id, 600s);
  bench.Run(3s);
  CHECK(bench[2].fleet->Status().doubted_keys == 0);
  bench[0].wire->loses_asks = false;
  bench.Run(5s);
  CHECK(bench[2].fleet->Status().doubted_keys == 1);
  CHECK(bench[2].StateOf("b") == KeyState::kCooling);
}

TEST_CASE("a word whose reply is lost is told again and counts once",
          "[fleet]") {
  Bench bench;
  bench[0].wire->loses_replies = true;
  bench[0].Fail();
  bench.Run(3s);
  bench[0].wire->loses_replies = false;
  bench.Run(5s);
  CHECK(bench[2].fleet->Status().doubted_keys == 1);
  CHECK(bench[2].StateOf("a") == kGood);
  CHECK(bench[0].StateOf("a") == kBad);
}

TEST_CASE("what was out stays out where the ledger has lost all", "[fleet]") {
  Bench bench;
  bench[0].Fail();
  bench.Run(1s);
  bench[1].Fail();
  bench.Run(1s);
  bench.ledger = NewLedger(bench.clock);
  for (Process& process : bench.processes) process.wire->ledger = bench.ledger;
  bench.Run(2s);
  CHECK(bench.States() == States{kBad, kBad, kBad});
  CHECK(bench[0].fleet->Status().failed_keys == 1);
  bench.Begin();
  bench.Run(1s);
  CHECK(bench[3].StateOf("a") == kBad);
}

TEST_CASE("what failed before the fleet was joined is told, and kept after it",
          "[fleet]") {
  Bench bench;
  bench[0].fleet.reset();
  bench[0].Fail();
  bench.Run(1s);
  CHECK(bench[1].fleet->Status().doubted_keys == 0);
  bench[0].fleet.emplace(
      bench[0].rotator, WireExchange(bench[0].wire),
      FleetOptions{.has_thread = false, .random = [] { return 0.9; }});
  bench.Run(1s);
  CHECK(bench[1].fleet->Status().doubted_keys == 1);
  bench[1].Fail();
  bench.Run(1s);
  bench[2].fleet.reset();
  CHECK(bench[2].StateOf("a") == kBad);
}

}  // namespace
}  // namespace keyrotator::pool_fleet_words_test
