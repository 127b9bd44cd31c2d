#include "keyrotator/pool/timers.h"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::pool_timers_test {
namespace {

TEST_CASE("timers come out in the order of their times", "[timers]") {
  Timers timers;
  std::vector<Timer> owned(3);
  timers.Set(owned[0], 30);
  timers.Set(owned[1], 10);
  timers.Set(owned[2], 20);
  CHECK(&timers.front() == &owned[1]);
  timers.Set(owned[1], 40);
  CHECK(timers.next() == 20);
  timers.Set(owned[0], 5);
  CHECK(timers.next() == 5);
  timers.Cancel(owned[0]);
  timers.Cancel(owned[0]);
  CHECK(timers.next() == 20);
  timers.Set(owned[2], kNever);
  timers.Cancel(owned[1]);
  CHECK(timers.empty());
  CHECK(timers.next() == kNever);
}

TEST_CASE("any sequence of sets and cancels leaves the earliest timer in front",
          "[timers]") {
  std::mt19937 random(1);
  Timers timers;
  std::vector<Timer> owned(50);
  for (int i = 0; i < 20'000; ++i) {
    Timer& timer = owned[random() % owned.size()];
    if (random() % 3 == 0) {
      timers.Cancel(timer);
    } else {
      timers.Set(timer, static_cast<Nanos>(random() % 1000));
    }
    Nanos earliest = kNever;
    for (const Timer& other : owned) {
      if (other.set()) earliest = std::min(earliest, other.at);
    }
    REQUIRE(timers.next() == earliest);
  }
}

}  // namespace
}  // namespace keyrotator::internal::pool_timers_test
