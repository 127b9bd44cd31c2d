#include "keyrotator/testing/manual_clock.h"

#include <atomic>
#include <chrono>
#include <stop_token>
#include <thread>

#include "keyrotator/wait.h"
#include "tests/support/catch.h"

namespace keyrotator::testing_manual_clock_test {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

TEST_CASE("a manual clock moves when told, and copies are the same clock",
          "[manual_clock]") {
  ManualClock clock;
  const ManualClock copy = clock;
  const auto start = clock.now();
  clock.Advance(seconds(5));
  CHECK(copy.now() == start + seconds(5));
  clock.AdvanceTo(start + seconds(7));
  CHECK(copy.now() == start + seconds(7));
}

TEST_CASE("a manual clock never goes back and stands at the end of time",
          "[manual_clock]") {
  ManualClock clock;
  const auto start = clock.now();
  clock.Advance(seconds(-5));
  clock.AdvanceTo(start - seconds(1));
  CHECK(clock.now() == start);
  clock.Advance(hours::max());
  clock.Advance(hours::max());
  CHECK(clock.now() == ManualClock::time_point::max());
}

TEST_CASE("who watches is told of each advance until it looks away",
          "[manual_clock]") {
  ManualClock clock;
  int told = 0;
  {
    const auto watch = clock.OnAdvance([&] { ++told; });
    clock.Advance(seconds(1));
    CHECK(told == 1);
  }
  clock.Advance(seconds(1));
  CHECK(told == 1);
}

TEST_CASE("a clock that advances when waited for jumps to the time",
          "[manual_clock]") {
  ManualClock clock;
  clock.AdvanceWhenWaiting();
  const auto until = clock.now() + hours(5);
  CHECK(SleepUntil(clock, until));
  CHECK(clock.now() == until);
}

TEST_CASE("Advance wakes who sleeps, once the time has come",
          "[manual_clock]") {
  ManualClock clock;
  const auto until = clock.now() + seconds(10);
  std::atomic<bool> slept{false};
  std::atomic<bool> done{false};
  std::jthread sleeper([&] {
    slept = SleepUntil(clock, until);
    done = true;
  });
  clock.Advance(seconds(9));
  CHECK_FALSE(done);
  clock.Advance(seconds(1));
  sleeper.join();
  CHECK(slept);
}

TEST_CASE("a stop wakes who sleeps", "[manual_clock][S17]") {
  ManualClock clock;
  std::atomic<bool> slept{true};
  std::stop_source stop;
  std::jthread sleeper([&] {
    slept = SleepUntil(clock, clock.now() + hours(1), stop.get_token());
  });
  stop.request_stop();
  sleeper.join();
  CHECK_FALSE(slept);
}

}  // namespace
}  // namespace keyrotator::testing_manual_clock_test
