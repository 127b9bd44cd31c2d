#include "keyrotator/fleet/permits.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "keyrotator/fleet_messages.h"
#include "tests/support/catch.h"

namespace keyrotator::fleet_permits_test {
namespace {

// A process with requests that do not end by themselves.
struct Process {
  FleetCap told{.id = "k", .cap = 8};
  double permits = 0;

  // Wants so many in flight, and has as many as it may.
  void Ask(FleetPermitLedger& ledger, double processes, double want,
           std::int64_t slot, bool leaves = false) {
    told.in_flight = std::max(told.in_flight, std::min(want, permits));
    told.want = want;
    const FleetPermits said = ledger.Share(told, processes, leaves, slot);
    told.last_want = leaves ? 0 : want;
    told.slot = slot;
    told.held = said.held;
    told.carry = said.carry;
    permits = said.count;
    told.in_flight = std::max(told.in_flight, std::min(want, permits));
  }
};

template <std::size_t n>
double InFlight(const std::array<Process, n>& processes) {
  double sum = 0;
  for (const Process& process : processes) sum += process.told.in_flight;
  return sum;
}

TEST_CASE("who wants alone may have all, and a few of what is idle",
          "[fleet]") {
  FleetPermitLedger ledger;
  Process one;
  one.Ask(ledger, 1, 20, 0);
  CHECK(one.permits == 8);
  CHECK_FALSE(ledger.has_plenty());
  FleetPermitLedger other;
  Process two;
  two.Ask(other, 2, 0, 0);
  CHECK(two.permits == 2);
  CHECK(other.has_plenty());
}

TEST_CASE("no more are in flight than may be, and none is taken back",
          "[fleet]") {
  FleetPermitLedger ledger;
  std::array<Process, 4> processes;
  for (int round = 0; round < 50; ++round) {
    for (Process& process : processes) {
      process.Ask(ledger, 4, 5, round / 10);
      CHECK(InFlight(processes) <= 8);
    }
  }
  // Nobody's request has ended: as the first had them, so it is.
  CHECK(processes[0].told.in_flight == 5);
  CHECK(InFlight(processes) == 8);
}

TEST_CASE("as requests end, each process gets its fair part", "[fleet]") {
  FleetPermitLedger ledger;
  std::array<Process, 4> processes;
  std::array<double, 4> had{};
  for (int round = 0; round < 400; ++round) {
    for (std::size_t i = 0; i < 4; ++i) {
      // A request in each ends between two messages.
      processes[i].told.in_flight =
          std::max(0.0, processes[i].told.in_flight - 1);
      processes[i].Ask(ledger, 4, 6, round / 10);
      CHECK(InFlight(processes) <= 8);
      if (round >= 100) had[i] += processes[i].told.in_flight / 300;
    }
  }
  for (const double mean : had) {
    CHECK(mean > 1.5);
    CHECK(mean < 2.5);
  }
}

TEST_CASE("with more processes than permits each has its turn", "[fleet]") {
  FleetPermitLedger ledger;
  std::array<Process, 20> processes;
  std::array<double, 20> had{};
  for (int round = 0; round < 2000; ++round) {
    for (std::size_t i = 0; i < processes.size(); ++i) {
      processes[i].told.in_flight = 0;  // its requests take less than a period
      processes[i].Ask(ledger, 20, 1, round / 10);
      CHECK(InFlight(processes) <= 8);
      had[i] += processes[i].told.in_flight / 2000;
    }
  }
  for (const double mean : had) {
    CHECK(mean > 0.2);
    CHECK(mean < 0.6);
  }
}

TEST_CASE("what a process had that is gone comes back by itself", "[fleet]") {
  FleetPermitLedger ledger;
  Process gone;
  Process other;
  gone.Ask(ledger, 2, 8, 5);
  CHECK(gone.permits == 8);
  other.Ask(ledger, 2, 8, 6);
  CHECK(other.permits == 0);
  other.Ask(ledger, 2, 8, 7);
  CHECK(other.permits == 8);
}

TEST_CASE("while the fleet gathers each keeps what it had", "[fleet]") {
  FleetPermitLedger ledger;
  FleetCap one{.id = "k", .cap = 8, .want = 8, .held = 3, .carry = 0.5};
  FleetCap two{.id = "k", .cap = 8, .in_flight = 5, .want = 8};
  FleetPermits said = ledger.Keep(one, false, 9);
  CHECK(said.count == 3);
  CHECK(said.carry == 0.5);
  CHECK_FALSE(ledger.has_plenty());
  said = ledger.Keep(two, false, 9);
  CHECK(said.count == 0);
  CHECK(said.held == 5);
  // All of it is counted once the permits are shared again.
  CHECK(ledger.Share({.id = "k", .cap = 8, .want = 8}, 3, false, 9).count == 0);
  CHECK(ledger.Keep(two, true, 9).held == 0);
}

TEST_CASE("who leaves gives back what it had", "[fleet]") {
  FleetPermitLedger ledger;
  Process leaves;
  Process other;
  leaves.Ask(ledger, 2, 8, 5);
  leaves.Ask(ledger, 2, 0, 5, true);
  other.Ask(ledger, 1, 8, 5);
  CHECK(other.permits == 8);
}

}  // namespace
}  // namespace keyrotator::fleet_permits_test
