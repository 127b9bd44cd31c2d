#include "keyrotator/pool/fleet_caps.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "keyrotator/fleet/fleet.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/fleet_wire.h"

namespace keyrotator::pool_fleet_caps_test {
namespace {

using namespace std::chrono_literals;
using testing::FleetWire;
using testing::ManualClock;
using testing::NewLedger;
using testing::WireExchange;
using Rotator = KeyRotator<FirstAvailable, ManualClock>;

// Processes on one key that may have 8 requests in flight.
struct Bench {
  static constexpr std::size_t kCap = 8;

  struct Process {
    Process(const Bench& bench, double number)
        : rotator(ApiKeys{ApiKey("sk-a", {.name = "a", .max_in_flight = kCap})},
                  {}, {}, bench.clock) {
      fleet.emplace(rotator, WireExchange(bench.wire),
                    FleetOptions{.has_thread = false,
                                 .random = [number] { return number / 50; }});
    }
    // Requests that get the key, up to `most`.
    std::size_t Begin(std::size_t most) {
      std::size_t count = 0;
      for (; count < most; ++count) {
        auto lease = rotator.Pick();
        if (!lease) break;
        leases.push_back(std::move(lease));
      }
      return count;
    }

    Rotator rotator;
    std::optional<Fleet> fleet;
    std::deque<std::optional<Lease>> leases;
    std::size_t served = 0;
  };

  explicit Bench(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      processes.emplace_back(*this, static_cast<double>(i + 1));
    Run(1s);
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
  // Rounds of 200 ms, in which each process sends all that it may, and half of what
  // is under way ends. Returns the most in flight at a time.
  std::size_t Work(int rounds) {
    std::size_t most = 0;
    for (int round = 0; round < rounds; ++round) {
      for (Process& process : processes) {
        while (process.leases.size() > static_cast<std::size_t>(round % 2)) {
          process.rotator.MarkSucceeded(*process.leases.front());
          process.leases.pop_front();
          ++process.served;
        }
        process.Begin(10);
        most = std::max(most, InFlight());
      }
      Run(200ms);
    }
    return most;
  }
  std::size_t InFlight() const {
    std::size_t sum = 0;
    for (const Process& process : processes) sum += process.leases.size();
    return sum;
  }

  ManualClock clock{1'000'000s};
  std::shared_ptr<FleetWire> wire =
      std::make_shared<FleetWire>(FleetWire{.ledger = NewLedger(clock)});
  std::deque<Process> processes;
};

TEST_CASE("all processes together have no more in flight than the key may",
          "[fleet]") {
  Bench bench(4);
  CHECK(bench.Work(400) == Bench::kCap);
  std::vector<std::size_t> served;
  for (const Bench::Process& process : bench.processes)
    served.push_back(process.served);
  const auto [least, greatest] =
      std::minmax_element(served.begin(), served.end());
  CHECK(*least * 2 > *greatest);
  // Half of them end in each round.
  CHECK(served[0] + served[1] + served[2] + served[3] > 400 * 8 / 3);
}

TEST_CASE("nor have they after the ledger was away, or has lost all",
          "[fleet]") {
  for (const int rounds : {1, 3, 5, 20}) {
    for (const bool is_lost : {false, true}) {
      CAPTURE(rounds, is_lost);
      Bench bench(4);
      bench.Work(20);
      // One has more to send than the others, and so more in flight.
      bench.processes[0].Begin(8);
      bench.Run(200ms);
      for (int i = 1; i < 4; ++i)
        bench.processes[static_cast<std::size_t>(i)].leases.clear();
      bench.Run(200ms);
      bench.processes[0].Begin(8);
      bench.wire->loses_asks = true;
      CHECK(bench.Work(rounds) <= Bench::kCap);
      bench.wire->loses_asks = false;
      if (is_lost) bench.wire->ledger = NewLedger(bench.clock);
      CHECK(bench.Work(40) <= Bench::kCap);
      for (Bench::Process& process : bench.processes) process.served = 0;
      bench.Work(40);
      for (Bench::Process& process : bench.processes)
        CHECK(process.served > 40);
    }
  }
}

TEST_CASE("who comes while the ledger waits for the others gets none of theirs",
          "[fleet]") {
  for (const std::size_t before : {1U, 4U}) {
    CAPTURE(before);
    Bench bench(before);
    bench.Work(20);
    for (Bench::Process& process : bench.processes) process.Begin(8);
    REQUIRE(bench.InFlight() == Bench::kCap);
    bench.wire->loses_asks = true;
    bench.Run(1s);
    bench.wire->ledger = NewLedger(bench.clock);
    bench.wire->loses_asks = false;
    bench.Run(500ms);
    Bench::Process& other = bench.processes.emplace_back(bench, 9);
    bench.Run(500ms);
    CHECK(other.Begin(8) == 0);
    bench.processes.front().leases.clear();
    bench.Run(5s);
    const bool had_one = other.Begin(1) == 1;
    bench.Run(100ms);
    CHECK((had_one || other.Begin(1) == 1));
  }
}

TEST_CASE("what ends beyond its part does not begin again while others return",
          "[fleet]") {
  Bench bench(4);
  Bench::Process& one = bench.processes.front();
  for (int i = 0; i < 10; ++i) {
    one.Begin(5 - one.leases.size());
    bench.Run(200ms);
  }
  REQUIRE(one.leases.size() == 5);
  bench.wire->loses_asks = true;
  bench.Run(6s);  // now 2 are its part, and it has more
  CHECK(bench.wire->asks.back().caps.at(0).held == 2);
  bench.wire->loses_asks = false;
  bench.wire->ledger = NewLedger(bench.clock);
  bench.Run(1600ms);
  for (int i = 0; i < 3; ++i) one.leases.pop_front();
  CHECK(one.Begin(8) == 0);
  // Nor when the ledger goes again before it has heard of all.
  bench.wire->loses_asks = true;
  bench.Run(6s);
  CHECK(one.Begin(8) == 0);
}

TEST_CASE("what one does not use another may", "[fleet]") {
  Bench bench(4);
  bench.processes[0].Begin(10);
  // It is told at once that one is wanted.
  bench.Run(50ms);
  CHECK(bench.processes[0].Begin(10) >= 1);
  for (int i = 0; i < 10; ++i) {
    bench.Run(200ms);
    bench.processes[0].Begin(10);
  }
  CHECK(bench.InFlight() == Bench::kCap);
  // None is left for others, until one ends.
  CHECK(bench.processes[1].Begin(1) == 0);
  bench.Run(1s);
  CHECK(bench.processes[1].Begin(1) == 0);
  bench.processes[0].leases.pop_front();
  bench.Run(1s);
  bench.processes[1].Begin(1);
  bench.Run(200ms);
  CHECK(bench.processes[1].Begin(1) == 1);
  CHECK(bench.processes[0].Begin(8) == 0);
}

TEST_CASE("a request that waits gets the key once its process may", "[fleet]") {
  Bench bench(2);
  bench.processes[0].Begin(8);
  for (int i = 0; i < 10; ++i) {
    bench.Run(200ms);
    bench.processes[0].Begin(8);
  }
  REQUIRE(bench.InFlight() == Bench::kCap);
  bool is_served = false;
  auto wait = bench.processes[1].rotator.WhenUsable(
      {}, [&](const Lease&) { is_served = true; });
  bench.Run(1s);
  CHECK_FALSE(is_served);
  bench.processes[0].leases.clear();
  bench.Run(1s);
  CHECK(is_served);
}

TEST_CASE("a process that is alone in its fleet has the whole cap", "[fleet]") {
  Bench bench(1);
  CHECK(bench.processes[0].Begin(10) == Bench::kCap);
}

TEST_CASE("without the ledger each has its part, and at least one", "[fleet]") {
  Bench bench(4);
  bench.wire->loses_asks = true;
  bench.Run(10s);
  CHECK(bench.processes[0].Begin(10) == 2);
  CHECK(bench.processes[1].Begin(10) == 2);
  Bench many(16);
  many.wire->loses_asks = true;
  many.Run(10s);
  CHECK(many.processes[0].Begin(10) == 1);
}

TEST_CASE("who leaves the fleet has its own cap again", "[fleet]") {
  Bench bench(4);
  bench.processes[0].Begin(1);
  bench.Run(1s);
  bench.processes[1].fleet.reset();
  CHECK(bench.processes[1].Begin(10) == Bench::kCap);
}

}  // namespace
}  // namespace keyrotator::pool_fleet_caps_test
