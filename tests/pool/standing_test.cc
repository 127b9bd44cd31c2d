#include "keyrotator/pool/standing.h"

#include <chrono>
#include <cstdint>

#include "keyrotator/pool/scope.h"
#include "tests/support/catch.h"

namespace keyrotator::internal {
namespace {

constexpr Nanos kSecond = 1'000'000'000;

// One group in one scope.
struct Bench {
  Nanos now = 0;
  Scope scope{"gpt-4o", now};
  Group group;
  Standing standing{scope, group};

  Grant Take(double cost = 0) {
    Grant grant;
    grant.ticket = ++tickets;
    standing.Take(cost, grant, now);
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

TEST_CASE("slow start lets out one lease, then two for each that ends well",
          "[standing]") {
  Bench bench;
  CHECK(bench.standing.Start());
  CHECK_FALSE(bench.standing.Start());  // it is under way

  const Grant first = bench.Take();
  CHECK(first.trials == Grant::kSlowStart);
  CHECK(bench.standing.is_held_back());
  CHECK_FALSE(bench.standing.IsUsable());

  CHECK(bench.standing.EndTrials(first.trials, first.ticket, true));
  const Grant second = bench.Take();
  CHECK_FALSE(bench.standing.is_held_back());
  bench.Take();
  CHECK(bench.standing.is_held_back());

  // One that does not end well makes room for one.
  bench.standing.EndTrials(second.trials, second.ticket, false);
  bench.Take();
  CHECK(bench.standing.is_held_back());

  CHECK(bench.standing.EndStart());
  CHECK(bench.standing.IsUsable());
  CHECK_FALSE(bench.standing.EndStart());
}

TEST_CASE("there is no slow start where a bucket says how many may go out",
          "[standing]") {
  Bench bench;
  REQUIRE(bench.Report(bench.Take(), 5));
  CHECK_FALSE(bench.standing.Start());
  CHECK_FALSE(bench.standing.is_held_back());
}

TEST_CASE("the pace counts only where the bucket does not tell", "[standing]") {
  Bench bench;
  CHECK(bench.standing.is_paced());
  CHECK(bench.standing.Refuse(0, kSecond, bench.now, 0) == kSecond);
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
}  // namespace keyrotator::internal
