#include "keyrotator/fleet/pacer.h"

#include "tests/support/catch.h"

namespace keyrotator::internal::fleet_pacer_test {
namespace {

constexpr Nanos kMs = 1'000'000;
constexpr Nanos kPeriod = 200 * kMs;

FleetReply Heard(double processes, bool plenty = false) {
  FleetReply reply;
  reply.processes = processes;
  reply.plenty = plenty;
  return reply;
}

// Of so many groups in each of so many scopes.
FleetAsk Asked(std::size_t facts, std::size_t scopes = 1) {
  FleetAsk ask;
  ask.scopes.resize(scopes);
  for (FleetScopeAsk& scope : ask.scopes) scope.facts.resize(facts);
  return ask;
}

TEST_CASE("the first message goes out within a period, not all at once",
          "[pacer]") {
  CHECK(FleetPacer(kPeriod, 5, 0).Due(false, false) == 5);
  CHECK(FleetPacer(kPeriod, 5, 0.5).Due(true, true) == 5 + kPeriod / 2);
}

TEST_CASE("messages are a period apart, give or take a tenth", "[pacer]") {
  FleetPacer pacer(kPeriod, 0, 0);
  pacer.Sent(1000 * kMs);
  pacer.Heard(Asked(8), Heard(1), 0);
  CHECK(pacer.Due(false, false) == 1180 * kMs);
  pacer.Heard(Asked(8), Heard(1), 1);
  CHECK(pacer.Due(false, false) == 1220 * kMs);
}

TEST_CASE("what is urgent goes out sooner, but not at once again and again",
          "[pacer]") {
  FleetPacer pacer(kPeriod, 0, 0);
  pacer.Sent(1000 * kMs);
  pacer.Heard(Asked(8), Heard(1), 0.5);
  CHECK(pacer.Due(true, false) == 1025 * kMs);
  CHECK(pacer.Due(false, true) == 1200 * kMs);  // nothing more can be had
  pacer.Heard(Asked(8), Heard(1, true), 0.5);
  CHECK(pacer.Due(false, true) == 1025 * kMs);
}

TEST_CASE("the more processes and keys, the longer the period, to a second",
          "[pacer]") {
  FleetPacer pacer(kPeriod, 0, 0);
  pacer.Sent(0);
  pacer.Heard(Asked(32), Heard(100), 0.5);
  CHECK(pacer.period() == 640 * kMs);
  pacer.Heard(Asked(32), Heard(1000), 0.5);
  CHECK(pacer.period() == 1000 * kMs);
  pacer.Heard(Asked(1), Heard(1), 0.5);
  CHECK(pacer.period() == kPeriod);
}

TEST_CASE("where messages would be too rare each tells of less", "[pacer]") {
  FleetPacer pacer(kPeriod, 0, 0);
  CHECK(pacer.groups() > 1000);
  pacer.Sent(0);
  pacer.Heard(Asked(32), Heard(32), 0.5);
  CHECK(pacer.groups() == 223);
  pacer.Heard(Asked(32, 3), Heard(200), 0.5);
  CHECK(pacer.groups() == 11);
  pacer.Heard(Asked(32, 3), Heard(10'000), 0.5);
  CHECK(pacer.groups() == 8);
}

TEST_CASE("without a reply the pauses double up to a second, until one comes",
          "[pacer]") {
  FleetPacer pacer(kPeriod, 0, 0);
  pacer.Sent(0);
  for (const Nanos pause : {250, 500, 1000, 1000}) {
    pacer.Missed(0, 0.5);
    CHECK(pacer.Due(false, false) == pause * kMs);
    CHECK(pacer.Due(true, true) == pause * kMs);  // no hurry towards nobody
  }
  pacer.Missed(0, 0);
  CHECK(pacer.Due(false, false) == 500 * kMs);
  pacer.Heard(Asked(1), Heard(1), 0.5);
  pacer.Missed(0, 0.5);
  CHECK(pacer.Due(false, false) == 250 * kMs);
}

}  // namespace
}  // namespace keyrotator::internal::fleet_pacer_test
