#include "keyrotator/wait.h"

#include <chrono>
#include <stop_token>

#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"

namespace keyrotator::wait_test {
namespace {

using testing::ManualClock;

static_assert(internal::TellsOfAdvances<ManualClock>);
static_assert(!internal::TellsOfAdvances<std::chrono::steady_clock>);

TEST_CASE("SleepUntil returns at once for a time that has come and for a stop",
          "[wait][S17]") {
  std::chrono::steady_clock clock;
  CHECK(SleepUntil(clock, clock.now() - std::chrono::hours(1)));
  std::stop_source stop;
  stop.request_stop();
  CHECK_FALSE(
      SleepUntil(clock, clock.now() + std::chrono::hours(1), stop.get_token()));
}

TEST_CASE("SleepUntil lasts until the time on a real clock", "[wait]") {
  std::chrono::steady_clock clock;
  const auto until = clock.now() + std::chrono::milliseconds(2);
  CHECK(SleepUntil(clock, until));
  CHECK(clock.now() >= until);
}

// A clock that does not tell of its advances: twice as fast as the real one.
struct FastClock {
  using duration = std::chrono::microseconds;
  using time_point = std::chrono::time_point<FastClock, duration>;
  static time_point now() {
    return time_point(std::chrono::duration_cast<duration>(
        2 * std::chrono::steady_clock::now().time_since_epoch()));
  }
};

TEST_CASE("SleepUntil serves a clock that it knows nothing of", "[wait]") {
  FastClock clock;
  const auto until = clock.now() + std::chrono::milliseconds(4);
  CHECK(SleepUntil(clock, until));
  CHECK(clock.now() >= until);
}

}  // namespace
}  // namespace keyrotator::wait_test
