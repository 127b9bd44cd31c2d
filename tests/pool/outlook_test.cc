#include "keyrotator/pool/outlook.h"

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/pool_keys.h"

namespace keyrotator::internal::pool_outlook_test {
namespace {

using std::chrono::seconds;

constexpr Nanos kSecond = 1'000'000'000;

// Two keys with a limit each, and one model.
struct Bench {
  testing::PoolKeys keys{"", ""};
  Nanos now = 0;
  Scope whole{"", now};
  Scope scope{"gpt-4o", now};

  KeyOutlook Of(std::size_t index, double cost = 0) const {
    return Judge(keys[index], &scope, cost, now);
  }
  KeyStatus Row(std::size_t index) const {
    return Describe(keys[index], {&whole, &scope}, now);
  }
  // As a report does it: of 10 requests `remaining` are left.
  void Report(std::size_t index, double remaining) {
    Standing& standing = scope.Get(keys.group(index));
    RateLimits limits;
    limits.requests.limit = 10;
    limits.requests.remaining = remaining;
    limits.requests.reset =
        std::chrono::nanoseconds(static_cast<Nanos>(10 - remaining) * kSecond);
    Grant grant;
    standing.Take(0, grant, false, 0, now);
    standing.Learn(grant, limits, 0, now);
    standing.timer.at = standing.Update(now);
  }
};

TEST_CASE("a key of which nothing is known is available now", "[outlook]") {
  const Bench bench;
  CHECK(bench.Of(0).state == KeyState::kAvailable);
  CHECK(bench.Of(0).returns == bench.now);
  CHECK(Judge(bench.keys[0], nullptr, 0, 5).returns == 5);
}

TEST_CASE("a key that failed returns when its gate opens", "[outlook]") {
  Bench bench;
  bench.keys[0].gate.Shut(kNever, 1, bench.keys[0].id);
  CHECK(bench.Of(0).state == KeyState::kFailed);
  CHECK(bench.Of(0).returns == kNever);
}

TEST_CASE("the later of a key's cooldowns counts", "[outlook]") {
  Bench bench;
  bench.keys.group(0).gate.Shut(10 * kSecond, 1, bench.keys[0].id);
  bench.scope.Get(bench.keys.group(0))
      .gate.Shut(20 * kSecond, 1, bench.keys[0].id);
  CHECK(bench.Of(0).state == KeyState::kCooling);
  CHECK(bench.Of(0).returns == 20 * kSecond);
  // Where the scope is not known the whole key alone counts.
  CHECK(Judge(bench.keys[0], nullptr, 0, 0).returns == 10 * kSecond);
}

TEST_CASE("a failure hides a cooldown, and a cooldown that a key is in use",
          "[outlook]") {
  Bench bench;
  Slot& slot = bench.keys[0];
  slot.SetCap(1);
  slot.holds += Slot::kLease;
  CHECK(bench.Of(0).state == KeyState::kBusy);
  CHECK(bench.Of(0).returns == kNever);  // time alone does not end a lease
  slot.group->gate.Shut(kSecond, 1, slot.id);
  CHECK(bench.Of(0).state == KeyState::kCooling);
  CHECK(bench.Of(0).returns == kSecond);
  slot.gate.Shut(2 * kSecond, 1, slot.id);
  CHECK(bench.Of(0).state == KeyState::kFailed);
  slot.holds -= Slot::kLease;
}

TEST_CASE("a key whose trial is out is busy", "[outlook]") {
  Bench bench;
  Gate& gate = bench.scope.Get(bench.keys.group(0)).gate;
  gate.Shut(kSecond, 1, bench.keys[0].id);
  gate.Expire(true);
  CHECK(bench.Of(0).state == KeyState::kAvailable);
  REQUIRE(gate.TryTake());
  CHECK(bench.Of(0).state == KeyState::kBusy);
}

TEST_CASE("a key whose limit is used up cools until it is refilled",
          "[outlook]") {
  Bench bench;
  bench.Report(0, 0);
  CHECK(bench.Of(0).state == KeyState::kCooling);
  CHECK(bench.Of(0).returns >= kSecond);
  CHECK(bench.Of(0).returns <= 2 * kSecond);
}

TEST_CASE("what a pool has for a request counts each key once", "[outlook]") {
  Bench bench;
  bench.keys.group(0).gate.Shut(10 * kSecond, 1, bench.keys[0].id);
  const std::vector<Slot*> slots{&bench.keys[0], &bench.keys[1]};

  Outlook outlook = LookAt(slots, &bench.scope, {}, 0);
  CHECK(outlook.counts.available == 1);
  CHECK(outlook.counts.cooling == 1);
  CHECK(outlook.next == 0);

  const std::vector<KeyId> excluded{bench.keys[1].id};
  outlook = LookAt(slots, &bench.scope, {.exclude = excluded}, 0);
  CHECK(outlook.counts.available == 0);
  CHECK(outlook.counts.cooling == 1);
  CHECK(outlook.next == 10 * kSecond);

  bench.keys[0].gate.Shut(kNever, 1, bench.keys[0].id);
  bench.keys[1].SetCap(1);
  bench.keys[1].holds += Slot::kLease;
  outlook = LookAt(slots, &bench.scope, {}, 0);
  CHECK(outlook.counts.available == 0);
  CHECK(outlook.counts.cooling == 0);
  CHECK(outlook.counts.failed == 1);
  CHECK(outlook.counts.busy == 1);
  bench.keys[1].holds -= Slot::kLease;
}

TEST_CASE("a row names the scopes that are held back or have limits",
          "[outlook]") {
  Bench bench;
  bench.scope.Get(bench.keys.group(0));
  CHECK(bench.Row(0).scopes.empty());

  bench.Report(1, 4);
  const KeyStatus row = bench.Row(1);
  CHECK(row.state == KeyState::kAvailable);
  CHECK(row.returns_in == std::nullopt);
  REQUIRE(row.scopes.size() == 1);
  CHECK(row.scopes[0].scope == "gpt-4o");
  CHECK(row.scopes[0].state == KeyState::kAvailable);
  CHECK(row.scopes[0].limits.requests.remaining == Approx(4));
}

TEST_CASE("a row has the key's name, counts and return", "[outlook]") {
  Bench bench;
  Slot& slot = bench.keys[0];
  slot.picks = 4;
  slot.successes = 3;
  slot.rate_limits = 2;
  slot.failures = 1;
  slot.group->gate.Shut(30 * kSecond, 1, slot.id);
  const KeyStatus row = bench.Row(0);
  CHECK(row.id == slot.id);
  CHECK(row.name == "key-1");
  CHECK(row.picks == 4);
  CHECK(row.successes == 3);
  CHECK(row.rate_limits == 2);
  CHECK(row.failures == 1);
  CHECK(row.state == KeyState::kCooling);
  CHECK(row.returns_in == seconds(30));
}

}  // namespace
}  // namespace keyrotator::internal::pool_outlook_test
