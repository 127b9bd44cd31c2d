#include "keyrotator/pool/slow_start.h"

#include <cstdint>

#include "keyrotator/internal/time.h"
#include "tests/support/catch.h"

namespace keyrotator::internal::pool_slow_start_test {
namespace {

constexpr Nanos kSecond = 1'000'000'000;

// Takes as many leases as there is room for.
int Fill(SlowStart& start, Nanos now) {
  int taken = 0;
  for (; start.HasRoom() && taken < 1000; ++taken) start.Take(now);
  return taken;
}

TEST_CASE("as many leases go out at first as the window holds",
          "[slow_start]") {
  SlowStart start;
  start.Begin(4);
  CHECK(Fill(start, 0) == 4);
}

TEST_CASE("before it has begun any number goes out", "[slow_start]") {
  SlowStart start;
  start.Begin(0);
  CHECK(Fill(start, 0) == 1000);
}

TEST_CASE("each lease that ends well makes room for two", "[slow_start]") {
  SlowStart start;
  start.Begin(4);
  CHECK(Fill(start, 0) == 4);
  for (int i = 0; i < 100; ++i) {
    start.End(1, true);
    CHECK(Fill(start, 0) == 2);
  }
}

TEST_CASE("a lease that does not end well makes room for one", "[slow_start]") {
  SlowStart start;
  start.Begin(4);
  Fill(start, 0);
  start.End(1, false);
  CHECK(Fill(start, 0) == 1);
}

TEST_CASE("a window that is not used does not grow", "[slow_start]") {
  SlowStart start;
  start.Begin(4);
  for (int i = 0; i < 100; ++i) {
    start.Take(0);
    start.End(1, true);
  }
  CHECK(Fill(start, 0) == 4);
}

TEST_CASE("what is not refused within a second has turned out well",
          "[slow_start]") {
  SlowStart start;
  start.Begin(4);
  Fill(start, 0);
  int out = 4;
  Nanos now = 0;
  while (out < 8) {
    const Nanos due = start.Update(now);
    REQUIRE(due != kNever);
    REQUIRE(due > now);
    now = due;
    CHECK(start.Update(now) == kNever);
    out += Fill(start, now);
  }
  // A second and a little: each step is a second's part of the window.
  CHECK(now > kSecond / 2);
  CHECK(now < kSecond);
}

TEST_CASE("a restart forgets what went out before", "[slow_start]") {
  SlowStart start;
  start.Begin(4);
  Fill(start, 0);
  CHECK(start.Restart(5));
  CHECK(Fill(start, 0) == 1);
  start.End(4, true);  // from before
  CHECK_FALSE(start.HasRoom());
  start.End(5, true);
  CHECK(Fill(start, 0) == 2);
  CHECK(start.EndRestart());
  CHECK(Fill(start, 0) == 2);  // of four
}

TEST_CASE("a restart alone does not grow with time", "[slow_start]") {
  SlowStart start;
  start.Restart(1);
  Fill(start, 0);
  CHECK(start.Update(0) == kNever);
  CHECK(start.EndRestart());
  CHECK(Fill(start, 0) == 1000);
}

}  // namespace
}  // namespace keyrotator::internal::pool_slow_start_test
