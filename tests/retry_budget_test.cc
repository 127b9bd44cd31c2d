#include "keyrotator/retry_budget.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"

namespace keyrotator::retry_budget_test {
namespace {

using namespace std::chrono_literals;
using internal::Nanos;
using internal::RetryLedger;

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kStart = 3600 * kSecond;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

// The same, plain and slow: all that happened is kept, and counted anew.
class Reference {
 public:
  explicit Reference(RetryBudget budget) : budget_(budget) {}

  void Sent(Nanos now) { happened_.push_back({SecondOf(now), 1, 0}); }
  bool Failed(Nanos now, bool wants_retry) {
    const std::int64_t second = SecondOf(now);
    happened_.push_back({second, -1, 0});
    double unfailed = 0;
    double retries = 0;
    for (const Happened& each : happened_) {
      if (each.second <= second - 10) continue;
      unfailed += each.unfailed;
      retries += each.retries;
    }
    if (!wants_retry ||
        retries + 1 >
            budget_.per_second * 10 + budget_.ratio * std::max(unfailed, 0.0))
      return false;
    happened_.push_back({second, 0, 1});
    return true;
  }

 private:
  struct Happened {
    std::int64_t second;
    int unfailed;
    int retries;
  };

  static std::int64_t SecondOf(Nanos now) { return now / kSecond; }

  const RetryBudget budget_;
  std::vector<Happened> happened_;
};

TEST_CASE("a failure that stands alone is retried, also the first of all",
          "[retry_budget]") {
  RetryLedger ledger{RetryBudget{}};
  Nanos now = kStart;
  for (int request = 0; request < 20; ++request) {
    CAPTURE(request);
    for (int retry = 0; retry < 2; ++retry) {
      ledger.Sent(now);
      CHECK(ledger.Failed(now, true));
      now += kSecond;
    }
    ledger.Sent(now);
    CHECK_FALSE(ledger.Failed(now, false));  // none is left to it
    now += kSecond;
  }
  CHECK(ledger.refused() == 0);
}

TEST_CASE("in no 10 s are there more retries than the budget allows",
          "[retry_budget]") {
  const std::uint32_t seed = GENERATE(1U, 2U, 3U, 4U);
  const RetryBudget budget =
      GENERATE(RetryBudget{}, RetryBudget{.ratio = 0.1, .per_second = 0.3},
               RetryBudget{.ratio = 2, .per_second = 0}, RetryBudget{0, 2});
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) {
    return static_cast<std::uint32_t>(random() % n);
  };
  RetryLedger ledger(budget);
  Reference reference(budget);
  Nanos now = kStart;
  std::uint32_t failing = 0;  // of ten
  std::uint32_t pause = 1;
  int allowed = 0;
  int refused = 0;
  for (int step = 0; step < 3000; ++step) {
    if (step % 100 == 0) {
      failing = below(11);
      pause = 1U << below(12);
    }
    now += static_cast<Nanos>(below(pause)) * 10'000'000;
    ledger.Sent(now);
    reference.Sent(now);
    if (below(10) >= failing) continue;
    const bool wanted = below(4) > 0;
    const bool may = ledger.Failed(now, wanted);
    REQUIRE(may == reference.Failed(now, wanted));
    ++(may ? allowed : refused);
  }
  CAPTURE(allowed, refused);
  CHECK(allowed > 10);
  CHECK(refused > 10);
}

// 1,000 requests a second, of which each is sent three times if it may; from
// `begin` to `end`, in seconds, all fail. Sends for each request in that time.
double SendsInOutage(RetryLedger& ledger, int begin, int end) {
  std::int64_t sends = 0;
  for (int ms = 0; ms < end * 1000; ++ms) {
    const Nanos now = kStart + Nanos{ms} * 1'000'000;
    const bool fails = ms >= begin * 1000;
    for (int send = 0; send < 3; ++send) {
      ledger.Sent(now);
      if (fails) ++sends;
      if (!fails || !ledger.Failed(now, send < 2)) break;
    }
  }
  return static_cast<double>(sends) / ((end - begin) * 1000.0);
}

TEST_CASE("an outage of a minute adds less than a tenth", "[retry_budget]") {
  RetryLedger ledger{RetryBudget{}};
  CHECK(SendsInOutage(ledger, 20, 80) < 1.1);
  CHECK(ledger.refused() > 50'000);
  RetryLedger unbounded{RetryBudget{.ratio = kInfinite}};
  CHECK(SendsInOutage(unbounded, 20, 80) == 3);
}

TEST_CASE("while all fails for a second everything is retried",
          "[retry_budget]") {
  RetryLedger ledger{RetryBudget{}};
  CHECK(SendsInOutage(ledger, 20, 21) == 3);
}

TEST_CASE("what is served after an outage is worth retries at once",
          "[retry_budget]") {
  RetryLedger ledger{RetryBudget{}};
  SendsInOutage(ledger, 20, 80);
  const Nanos now = kStart + 80 * kSecond;
  ledger.Sent(now);
  CHECK_FALSE(ledger.Failed(now, true));
  // In the second that an answer takes.
  for (int i = 0; i < 1000; ++i) ledger.Sent(now + kSecond);
  CHECK(ledger.Failed(now + kSecond, true));
}

TEST_CASE("what failed long after it was sent takes nothing from the floor",
          "[retry_budget]") {
  RetryLedger ledger{RetryBudget{}};
  for (int i = 0; i < 100; ++i) ledger.Sent(kStart);
  const Nanos later = kStart + 600 * kSecond;
  for (int i = 0; i < 90; ++i) CHECK_FALSE(ledger.Failed(later, false));
  for (int i = 0; i < 10; ++i) CHECK(ledger.Failed(later, true));
  CHECK_FALSE(ledger.Failed(later, true));
  CHECK(ledger.refused() == 1);
}

TEST_CASE("the floor comes back once 10 s have gone", "[retry_budget]") {
  RetryLedger ledger(RetryBudget{.ratio = 0, .per_second = 0.1});
  CHECK(ledger.Failed(kStart, true));
  CHECK_FALSE(ledger.Failed(kStart + 9 * kSecond, true));
  CHECK(ledger.Failed(kStart + 10 * kSecond, true));
  CHECK_FALSE(ledger.Failed(kStart + 19 * kSecond, true));
}

TEST_CASE("a time before the last counts as of then", "[retry_budget]") {
  RetryLedger ledger(RetryBudget{.ratio = 0, .per_second = 0.1});
  CHECK(ledger.Failed(kStart, true));
  CHECK_FALSE(ledger.Failed(kStart - 3600 * kSecond, true));
  CHECK_FALSE(ledger.Failed(0, true));
  CHECK(ledger.Failed(kStart + 10 * kSecond, true));
}

TEST_CASE("any time will do, also before zero and at the ends",
          "[retry_budget]") {
  for (const Nanos now : {internal::kLongAgo, -1 * kSecond, Nanos{-1}, Nanos{0},
                          kStart, internal::kNever - 1, internal::kNever}) {
    CAPTURE(now);
    RetryLedger ledger(RetryBudget{.ratio = 0, .per_second = 0.1});
    CHECK(ledger.Failed(now, true));
    CHECK_FALSE(ledger.Failed(now, true));
  }
}

TEST_CASE("a budget of nothing allows no retry, an infinite one all",
          "[retry_budget]") {
  RetryLedger none(RetryBudget{.ratio = 0, .per_second = 0});
  none.Sent(kStart);
  CHECK(none.is_bounded());
  CHECK_FALSE(none.Failed(kStart, true));
  CHECK(none.refused() == 1);
  for (const RetryBudget& all : {RetryBudget{.ratio = kInfinite},
                                 RetryBudget{.per_second = kInfinite}}) {
    RetryLedger ledger(all);
    CHECK_FALSE(ledger.is_bounded());
    for (int i = 0; i < 1000; ++i) CHECK(ledger.Failed(kStart, true));
    CHECK_FALSE(ledger.Failed(kStart, false));
    CHECK(ledger.refused() == 0);
  }
}

TEST_CASE("a budget out of range is refused, and named", "[retry_budget]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const RetryBudget& budget :
       {RetryBudget{.ratio = -0.1}, RetryBudget{.ratio = nan},
        RetryBudget{.per_second = -1}, RetryBudget{.per_second = nan}}) {
    CHECK_THROWS_WITH(KeyRotator({"sk-a"}, {.retry_budget = budget}),
                      testing::ContainsSubstring("retry_budget"));
  }
}

TEST_CASE("who sends by hand asks the rotator", "[retry_budget]") {
  const testing::ManualClock clock;
  KeyRotator rotator({"sk-a"}, {.retry_budget = {.ratio = 1, .per_second = 0}},
                     RoundRobin{}, clock);
  CHECK_FALSE(rotator.MayRetry());
  CHECK(rotator.RefusedRetries() == 1);
  for (int i = 0; i < 4; ++i) rotator.CountSend();
  CHECK(rotator.MayRetry());             // two are left that did not fail
  CHECK_FALSE(rotator.MayRetry(false));  // one
  CHECK_FALSE(rotator.MayRetry());
  CHECK(rotator.RefusedRetries() == 2);
}

}  // namespace
}  // namespace keyrotator::retry_budget_test
