#include "keyrotator/pool/standing.h"

#include <chrono>
#include <cstdint>

#include "keyrotator/pool/scope.h"
#include "tests/support/catch.h"

namespace keyrotator::internal::pool_standing_test {
namespace {

constexpr Nanos kSecond = 1'000'000'000;

// One group in one scope.
struct Bench {
  Nanos now = 0;
  Scope scope{"gpt-4o", now};
  Group group;
  Standing standing{scope, group};

  Grant Take(bool in_line = false) {
    Grant grant;
    grant.ticket = ++tickets;
    standing.Take(0, grant, in_line, 4, now);
    return grant;
  }
  // The answer to `grant`: `remaining` of 10 requests, full in a second for
  // each that is missing.
  bool Report(const Grant& grant, double remaining) {
    RateLimits limits;
    limits.requests.limit = 10;
    limits.requests.remaining = remaining;
    limits.requests.reset =
        std::chrono::nanoseconds(static_cast<Nanos>(10 - remaining) * kSecond);
    return standing.Learn(grant, limits, 0, now);
  }

  std::uint64_t tickets = 0;
};

TEST_CASE("a group of which nothing is known is usable", "[standing]") {
  Bench bench;
  CHECK(bench.standing.IsUsable());
  CHECK_FALSE(bench.standing.is_metered());
  CHECK(bench.standing.Fits(1e6, bench.now));
  CHECK(bench.standing.Update(bench.now) == kNever);
}

TEST_CASE("a group rests when its bucket is empty, until there is one request",
          "[standing]") {
  Bench bench;
  const Grant grant = bench.Take();
  REQUIRE(bench.Report(grant, 0));
  CHECK(bench.standing.is_metered());

  const Nanos when = bench.standing.Update(bench.now);
  CHECK(bench.standing.is_low());
  CHECK_FALSE(bench.standing.IsUsable());
  CHECK(when >= kSecond);
  CHECK(when <= 2 * kSecond);

  bench.now = when;
  CHECK(bench.standing.Update(bench.now) == kNever);
  CHECK(bench.standing.IsUsable());
}

TEST_CASE("of two reports the older lease's is not heard", "[standing]") {
  Bench bench;
  const Grant older = bench.Take();
  const Grant newer = bench.Take();
  CHECK(bench.Report(newer, 8));
  CHECK_FALSE(bench.Report(older, 3));
  CHECK(bench.standing.bucket().Believed(bench.now).requests.remaining ==
        Approx(8));
}

TEST_CASE("a gate that is shut wakes the standing, whatever its bucket says",
          "[standing]") {
  Bench bench;
  REQUIRE(bench.Report(bench.Take(), 0));
  bench.standing.gate.Shut(90 * kSecond, 2, KeyId{1});
  CHECK(bench.standing.Update(bench.now) == 90 * kSecond);
  CHECK_FALSE(bench.standing.IsUsable());
}

TEST_CASE("the first lease on a gate on trial is the trial", "[standing]") {
  Bench bench;
  bench.standing.gate.Shut(kSecond, 1, KeyId{1});
  bench.standing.gate.Expire(true);
  CHECK(bench.standing.IsUsable());

  const Grant trial = bench.Take();
  CHECK(trial.trials == Grant::kScopeTrial);
  CHECK_FALSE(bench.standing.IsUsable());
  bench.standing.EndTrials(trial.trials, trial.ticket, true);
  CHECK(bench.standing.IsUsable());
  CHECK(bench.Take().trials == 0);
}

TEST_CASE("slow start counts the leases of callers that could have waited",
          "[standing]") {
  Bench bench;
  for (int i = 0; i < 10; ++i) CHECK(bench.Take().trials == 0);
  CHECK_FALSE(bench.standing.IsFull());
  for (int i = 0; i < 4; ++i) {
    CHECK_FALSE(bench.standing.IsFull());
    CHECK(bench.Take(true).trials == Grant::kSlowStart);
  }
  CHECK(bench.standing.IsFull());
  CHECK(bench.standing.IsUsable());  // for those that cannot wait
}

TEST_CASE("a group that has returned starts with one lease", "[standing]") {
  Bench bench;
  const Grant before = bench.Take(true);
  CHECK(bench.standing.Restart(bench.tickets + 1));
  CHECK_FALSE(bench.standing.IsFull());
  const Grant first = bench.Take(true);
  CHECK(bench.standing.IsFull());
  // What went out before says nothing.
  bench.standing.EndTrials(before.trials, before.ticket, true);
  CHECK(bench.standing.IsFull());
  bench.standing.EndTrials(first.trials, first.ticket, true);
  bench.Take(true);
  CHECK_FALSE(bench.standing.IsFull());
  bench.Take(true);
  CHECK(bench.standing.IsFull());
  // It becomes usable once more: there is room for one at least.
  CHECK_FALSE(bench.standing.Restart(bench.tickets + 1));
  CHECK_FALSE(bench.standing.IsFull());
  bench.Take(true);
  // Nobody waits any more.
  CHECK(bench.standing.EndRestart());
  CHECK_FALSE(bench.standing.IsFull());
  CHECK_FALSE(bench.standing.EndRestart());
}

TEST_CASE("there is no slow start where a bucket says how many may go out",
          "[standing]") {
  Bench bench;
  for (int i = 0; i < 4; ++i) bench.Take(true);
  REQUIRE(bench.standing.IsFull());
  REQUIRE(bench.Report(bench.Take(), 5));
  CHECK_FALSE(bench.standing.IsFull());
  CHECK(bench.Take(true).trials == 0);
}

TEST_CASE("who yields leaves a part of the limit to others", "[standing]") {
  Bench bench;
  REQUIRE(bench.Report(bench.Take(), 2));
  CHECK(bench.standing.Fits(0, bench.now));
  CHECK_FALSE(bench.standing.Fits(0, bench.now, true));
  const Nanos when = bench.standing.WhenFits(0, bench.now, true);
  CHECK(when > bench.now);
  CHECK(when <= kSecond);
  CHECK(bench.standing.Fits(0, when, true));
}

TEST_CASE("the pace counts only where the bucket does not tell", "[standing]") {
  Bench bench;
  CHECK(bench.standing.is_paced());
  CHECK(bench.standing.Refuse({}, 0, kSecond, bench.now, 0,
                              bench.scope.peers) == kSecond);
  bench.standing.HoldUntil(kSecond);
  CHECK(bench.standing.is_metered());
  bench.Take();
  CHECK_FALSE(bench.standing.Fits(0, bench.now));
  CHECK(bench.standing.WhenFits(0, bench.now) > kSecond);

  REQUIRE(bench.Report(bench.Take(), 9));
  CHECK_FALSE(bench.standing.is_paced());
  CHECK(bench.standing.Fits(0, bench.now));
}

}  // namespace
}  // namespace keyrotator::internal::pool_standing_test
