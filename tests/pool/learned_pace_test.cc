#include "keyrotator/pool/learned_pace.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "keyrotator/clock.h"
#include "tests/support/catch.h"

namespace keyrotator::internal::pool_learned_pace_test {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kMillisecond = 1'000'000;

// What the pace runs against: a bucket that refills evenly.
struct Bucket {
  double size;
  double per_second;
  double level = size;
  Nanos time = 0;

  bool Admit(Nanos now) {
    level =
        std::min(size, level + per_second * static_cast<double>(now - time) /
                                   static_cast<double>(kSecond));
    time = now;
    if (level < 1) return false;
    level -= 1;
    return true;
  }
};

struct Count {
  int served = 0;
  int refused = 0;
};

constexpr Nanos kQuarter = 900 * kSecond;

// As many requests as the pace lets out, answered at once.
Count Run(LearnedPace& pace, Bucket& bucket, Nanos hint, Nanos from, Nanos to,
          Nanos longest = 0, std::optional<double> peers = {}) {
  Count count;
  Nanos shut_until = from;
  for (Nanos now = from; now < to; now += 5 * kMillisecond) {
    while (now >= shut_until && pace.Fits(now)) {
      const PacePlace lease = pace.Take(now);
      if (bucket.Admit(now)) {
        ++count.served;
        pace.Succeed(now);
      } else {
        ++count.refused;
        shut_until =
            now + pace.Refuse(hint, kSecond, now, longest, lease, peers);
        pace.HoldUntil(shut_until);
      }
    }
  }
  return count;
}

TEST_CASE("a pace holds nothing back before the first refusal",
          "[learned_pace]") {
  LearnedPace pace;
  for (int i = 0; i < 1000; ++i) {
    CHECK(pace.Fits(0));
    pace.Take(0);
    pace.Succeed(0);
  }
  CHECK_FALSE(pace.known());
}

TEST_CASE("the pace finds the rate of a bucket that says nothing of it",
          "[learned_pace]") {
  for (const double rate : {0.2, 1.0, 10.0}) {
    CAPTURE(rate);
    LearnedPace pace;
    Bucket bucket{.size = 60, .per_second = rate};
    const Nanos hour = 3600 * kSecond;
    Run(pace, bucket, 0, 0, hour);  // to find it
    const Count count = Run(pace, bucket, 0, hour, 2 * hour);
    CHECK(count.served > 0.98 * rate * 3600);
    CHECK(count.refused < 0.02 * count.served);
  }
}

TEST_CASE("nothing goes out before the provider's hint is over, then one",
          "[learned_pace]") {
  LearnedPace pace;
  CHECK(pace.Refuse(3 * kSecond, kSecond, 0) == 3 * kSecond);
  pace.HoldUntil(3 * kSecond);
  CHECK(pace.Fits(3 * kSecond));
  pace.Take(3 * kSecond);
  CHECK_FALSE(pace.Fits(3 * kSecond));
  CHECK(pace.WhenFits(3 * kSecond) == 6 * kSecond);
  CHECK(pace.Fits(pace.WhenFits(3 * kSecond)));
}

TEST_CASE("without a hint the first pause is the guess", "[learned_pace]") {
  LearnedPace pace;
  CHECK(pace.Refuse(0, kSecond, 0) == kSecond);
}

TEST_CASE("refusals and nothing else make the pauses longer, up to a minute",
          "[learned_pace]") {
  LearnedPace pace;
  Nanos now = 0;
  Nanos before = 0;
  for (int i = 0; i < 20; ++i) {
    pace.Take(now);
    const Nanos pause = pace.Refuse(0, kSecond, now);
    CHECK(pause >= before);
    before = pause;
    now += pause;
    pace.HoldUntil(now);
  }
  CHECK(before == 60 * kSecond);
}

TEST_CASE("at the time that is told a lease fits, at the slowest pace too",
          "[learned_pace]") {
  LearnedPace pace;
  pace.Refuse(kQuarter, kSecond, 0);
  const Nanos opened = kQuarter;
  pace.HoldUntil(opened);
  // Refused again at once: one in a minute, and a little slower.
  const PacePlace first = pace.Take(opened);
  pace.HoldUntil(opened + pace.Refuse(0, kSecond, opened, 0, first, 1e-12));
  const Nanos again = pace.WhenFits(opened);
  pace.Take(again);
  pace.Succeed(again + kMillisecond);
  for (const double spare : {0.0, 2.0}) {
    CAPTURE(spare);
    const Nanos when = pace.WhenFits(again + kMillisecond, spare);
    CHECK(when > again + 60 * kSecond);
    CHECK(pace.Fits(when, spare));
  }
}

TEST_CASE("a key that is spent for a day is asked about a hundred times in it",
          "[learned_pace]") {
  LearnedPace pace;
  const Nanos day = 86'400 * kSecond;
  const auto spend = [&](Nanos from) {
    Bucket spent{.size = 0, .per_second = 0};
    return Run(pace, spent, 0, from, from + day, kQuarter);
  };
  SECTION("when nothing was ever served") {
    const Count count = spend(0);
    CHECK(count.refused > 90);
    CHECK(count.refused < 120);
  }
  SECTION("when its pace is known, which it keeps") {
    Bucket bucket{.size = 60, .per_second = 1};
    const Nanos hour = 3600 * kSecond;
    Run(pace, bucket, 0, 0, hour, kQuarter);
    CHECK(spend(hour).refused < 144);
    // It is asked a quarter of an hour after its return at the latest.
    const Nanos back = hour + day;
    bucket.level = 60;
    bucket.time = back;
    const Count count =
        Run(pace, bucket, 0, back, back + kQuarter + hour, kQuarter);
    CHECK(count.served > 0.95 * 3600);
    CHECK(count.refused < 0.02 * count.served);
  }
}

TEST_CASE("without a longer pause a spent key is asked once a minute",
          "[learned_pace]") {
  LearnedPace pace;
  Bucket bucket{.size = 60, .per_second = 1};
  const Nanos hour = 3600 * kSecond;
  Run(pace, bucket, 0, 0, hour);
  Bucket spent{.size = 0, .per_second = 0};
  CHECK(Run(pace, spent, 0, hour, 25 * hour).refused < 1500);
}

TEST_CASE(
    "refusals in vain make the pauses longer than a minute, but no more "
    "once something is served",
    "[learned_pace]") {
  LearnedPace pace;
  Nanos now = 0;
  const auto refuse = [&](Nanos hint = 0) {
    pace.Take(now);
    const Nanos pause = pace.Refuse(hint, kSecond, now, kQuarter);
    now += pause;
    pace.HoldUntil(now);
    return pause / kSecond;
  };
  for (const Nanos expected :
       {1, 2, 4, 8, 16, 32, 60, 60, 120, 240, 480, 900, 900})
    CHECK(refuse() == expected);
  SECTION("served") {
    pace.Take(now);
    pace.Succeed(now + kSecond);
    now += kSecond;
    CHECK(refuse() <= 60);
    for (int i = 0; i < 6; ++i) CHECK(refuse() <= 60);
  }
  SECTION("told for how long") {
    CHECK(refuse(5) <= 60);
    CHECK(refuse() <= 60);
  }
}

TEST_CASE(
    "a provider that lets one through in one or five minutes is searched as "
    "before",
    "[learned_pace]") {
  for (const double minutes : {1.0, 2.0, 5.0}) {
    CAPTURE(minutes);
    const Nanos day = 86'400 * kSecond;
    const auto run = [&](Nanos longest) {
      LearnedPace pace;
      Bucket bucket{.size = 1, .per_second = 1 / (60 * minutes)};
      return Run(pace, bucket, 0, 0, day, longest);
    };
    CHECK(run(kQuarter).served == run(0).served);
    CHECK(run(kQuarter).refused <= run(0).refused);
  }
}

TEST_CASE(
    "a lease of which nobody tells costs a minute, however long a hint was",
    "[learned_pace]") {
  LearnedPace pace;
  const Nanos day = 86'400 * kSecond;
  pace.Refuse(10 * day, kSecond, 0);
  pace.HoldUntil(day);
  REQUIRE(pace.Fits(day));
  pace.Take(day);
  const Nanos next = pace.WhenFits(day);
  CHECK(next <= day + 60 * kSecond);
  CHECK(pace.Fits(next));
}

TEST_CASE("what a quiet time saves up may go out at once", "[learned_pace]") {
  LearnedPace pace;
  pace.Refuse(kSecond, kSecond, 0);
  pace.HoldUntil(kSecond);
  int out = 0;
  const Nanos later = 31 * kSecond;
  while (pace.Fits(later)) {
    pace.Take(later);
    ++out;
  }
  CHECK(out == 31);
}

TEST_CASE("a fast bucket's rate is found in seconds, in few refusals",
          "[learned_pace]") {
  LearnedPace pace;
  Bucket bucket{.size = 5, .per_second = 20};
  const Count search = Run(pace, bucket, 0, 0, 6 * kSecond);
  CHECK(search.refused <= 5);
  // From then on as much as it lets through.
  const Count count = Run(pace, bucket, 0, 6 * kSecond, 66 * kSecond);
  CHECK(count.served > 0.95 * 20 * 60);
}

TEST_CASE("a search that nobody makes use of does not add up",
          "[learned_pace]") {
  LearnedPace pace;
  pace.Refuse(0, kSecond, 0);
  pace.HoldUntil(kSecond);
  // A second later a hundred times as much could have come.
  const Nanos later = 2 * kSecond;
  int out = 0;
  for (; pace.Fits(later) && out < 100; ++out) pace.Take(later);
  CHECK(out == 2);
}

TEST_CASE("who is told the rate by its peers does not search for it",
          "[learned_pace]") {
  LearnedPace pace;
  Bucket bucket{.size = 60, .per_second = 0.5};
  bucket.level = 0;
  // One in two seconds, by the word of others; a pause of two requests' time.
  const double rate = 0.5 / static_cast<double>(kSecond);
  const Nanos pause = pace.Refuse(0, kSecond, 0, 0, {}, rate);
  CHECK(static_cast<double>(pause) / kSecond == Approx(4));
  CHECK(pace.found() == Approx(rate));
  pace.HoldUntil(pause);
  const Count count = Run(pace, bucket, 0, pause, pause + 100 * kSecond);
  CHECK(count.served >= 49);
  CHECK(count.refused <= 1);
}

TEST_CASE("who knows its rate does not change it for its peers'",
          "[learned_pace]") {
  LearnedPace pace;
  Bucket bucket{.size = 60, .per_second = 1};
  const Nanos hour = 3600 * kSecond;
  Run(pace, bucket, 0, 0, hour);
  const double rate = pace.found();
  REQUIRE(rate > 0);
  pace.Refuse(0, kSecond, hour, 0, pace.Take(hour), 10 * rate);
  CHECK(pace.found() < 2 * rate);
}

TEST_CASE("who agrees with its peers meets the limit more seldom",
          "[learned_pace]") {
  const auto refusals = [](std::optional<double> peers) {
    LearnedPace pace;
    Bucket bucket{.size = 60, .per_second = 1};
    return Run(pace, bucket, 0, 0, 3600 * kSecond, 0, peers).refused;
  };
  const int alone = refusals({});
  CHECK(alone > 40);
  CHECK(refusals(1 / static_cast<double>(kSecond)) < alone / 2 + 5);
}

TEST_CASE(
    "what is left to others is there later, also while the rate is searched",
    "[learned_pace]") {
  LearnedPace pace;
  pace.Refuse(0, kSecond, 0);
  pace.HoldUntil(kSecond);
  for (Nanos now = kSecond; now < 3 * kSecond; now += 100 * kMillisecond) {
    while (pace.Fits(now, 5)) pace.Take(now);
    const Nanos when = pace.WhenFits(now, 5);
    CHECK(when > now);
    CHECK(pace.Fits(when, 5));
  }
}

TEST_CASE("a bucket met empty after a quiet time does not slow the pace",
          "[learned_pace]") {
  LearnedPace pace;
  Bucket bucket{.size = 30, .per_second = 1};
  Run(pace, bucket, 0, 0, 1800 * kSecond);
  // In ten minutes more is saved up here than the bucket holds.
  const Nanos later = 2400 * kSecond;
  bucket.level = 30;
  bucket.time = later;
  const Count count = Run(pace, bucket, 0, later, later + 600 * kSecond);
  CHECK(count.served > 0.97 * (30 + 600));
}

TEST_CASE(
    "a window that opens as a whole may be used up faster than on average",
    "[learned_pace]") {
  LearnedPace pace;
  pace.Refuse(kSecond, kSecond, 0);  // one a second
  pace.HoldUntil(kSecond);
  pace.Take(kSecond);
  pace.Succeed(2 * kSecond);
  pace.Take(2 * kSecond);
  const Nanos opens =
      3 * kSecond + pace.Refuse(30 * kSecond, kSecond, 3 * kSecond);
  CHECK(opens == 33 * kSecond);
  pace.HoldUntil(opens);
  int served = 0;
  int out = 0;
  for (Nanos now = opens; now < opens + 10 * kSecond; now += kSecond / 2) {
    for (; served < out; ++served) pace.Succeed(now);  // of half a second ago
    for (; pace.Fits(now) && out < 1000; ++out) pace.Take(now);
  }
  CHECK(served > 60);
}

}  // namespace
}  // namespace keyrotator::internal::pool_learned_pace_test
