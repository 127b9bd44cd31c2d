#include "keyrotator/pool/shared_limit.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "keyrotator/clock.h"
#include "tests/support/catch.h"

namespace keyrotator::internal::pool_shared_limit_test {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kMillisecond = 1'000'000;
constexpr double kLimit = 60;
constexpr double kRate = 1e-9;  // one request a second

// The provider's: what flows back flows to everyone.
struct Bucket {
  double level = kLimit;
  Nanos time = 0;

  bool Admit(Nanos now) {
    level = std::min(kLimit, level + kRate * static_cast<double>(now - time));
    time = now;
    if (level < 1) return false;
    level -= 1;
    return true;
  }
};

// One of those who use it, whose answers come at once.
struct User {
  SharedLimit limit;
  double leased = 0;
  int served = 0;
  int refused = 0;

  // True if it was served.
  bool Ask(Bucket& bucket, Nanos now) {
    limit.Take(1, now);
    leased += 1;
    const bool good = bucket.Admit(now);
    ++(good ? served : refused);
    limit.Learn({.limit = kLimit,
                 .rate = kRate,
                 .left = bucket.level,
                 .refused = !good,
                 .cost = 1,
                 .leased = leased,
                 .time = now},
                leased, now);
    return good;
  }
};

// For two minutes others take `share` of what flows back, if it is there, and the
// user a third.
Nanos Watch(User& user, Bucket& bucket, double share, Nanos now = 0) {
  double others = 0;
  for (const Nanos end = now + 120 * kSecond; now < end; now += kSecond) {
    for (others += share; others >= 1; others -= 1) bucket.Admit(now);
    if (now % (3 * kSecond) == 0) user.Ask(bucket, now);
  }
  return now;
}

TEST_CASE("a limit that nobody else uses is not shared, however it is used",
          "[shared_limit]") {
  Bucket bucket;
  User user;
  Nanos now = 0;
  // A little, all of it at once, and what flows back after that.
  for (; now < 100 * kSecond; now += 3 * kSecond) user.Ask(bucket, now);
  for (; bucket.level >= 2; now += kMillisecond) user.Ask(bucket, now);
  for (; now < 300 * kSecond; now += 1010 * kMillisecond) user.Ask(bucket, now);
  CHECK(user.refused == 0);
  CHECK_FALSE(user.limit.is_shared());
  CHECK(user.limit.Fits(1, now));
  CHECK(user.limit.WhenFits(1, now) == now);
}

TEST_CASE("what others take is noticed, and forgotten when they have gone",
          "[shared_limit]") {
  Bucket bucket;
  User user;
  Nanos now = Watch(user, bucket, 0.9);
  CHECK(user.limit.is_shared());
  for (int i = 0; i < 5; ++i) now = Watch(user, bucket, 0, now);
  CHECK_FALSE(user.limit.is_shared());
}

TEST_CASE("a limit of a few requests leaves nothing to keep for others",
          "[shared_limit]") {
  const double limit = GENERATE(7.0, 9.0);
  CAPTURE(limit);
  SharedLimit shared;
  double leased = 0;
  for (Nanos now = 0; now < 60 * kSecond; now += kSecond) {
    shared.Take(1, now);
    leased += 1;
    shared.Learn({.limit = limit,
                  .rate = 2 * kRate,
                  .left = 1,
                  .cost = 1,
                  .leased = leased,
                  .time = now},
                 leased, now);
  }
  CHECK(shared.is_shared() == (limit > 8));
}

TEST_CASE("a few requests more or less are no others", "[shared_limit]") {
  Bucket bucket;
  User user;
  for (Nanos now = 0; now < 120 * kSecond; now += 3 * kSecond) {
    // Two that were counted nowhere, in the midst of it.
    if (now == 60 * kSecond) bucket.level -= 2;
    user.Ask(bucket, now);
    CHECK_FALSE(user.limit.is_shared());
  }
}

TEST_CASE(
    "beside others what a report leaves goes out at once, but for what is kept",
    "[shared_limit]") {
  Bucket bucket;
  User user;
  const Nanos now = Watch(user, bucket, 1.3);
  REQUIRE(user.limit.is_shared());
  bucket = {.level = 11, .time = now};
  user.Ask(bucket, now);
  int more = 0;
  for (; user.limit.Fits(1, now) && more < 20; ++more) user.limit.Take(1, now);
  // Of the ten that were left 2.4 are kept, 0.04 of 60.
  CHECK(more == 7);
}

TEST_CASE("when it is told, a lease fits, and the next one later",
          "[shared_limit]") {
  Bucket bucket;
  User user;
  Nanos now = Watch(user, bucket, 1.3);
  REQUIRE(user.limit.is_shared());
  bucket.level = 0;
  user.Ask(bucket, now);
  for (int i = 0; i < 20; ++i) {
    CAPTURE(i);
    const Nanos when = user.limit.WhenFits(1, now);
    CHECK(user.limit.Fits(1, when));
    CHECK_FALSE(user.limit.Fits(1, when - 1));
    now = when;
    user.limit.Take(1, now);
    CHECK(user.limit.WhenFits(1, now) >= now + kSecond);
  }
}

TEST_CASE("many beside each other come to like shares, and few are refused",
          "[shared_limit]") {
  const std::size_t many = GENERATE(2u, 4u, 32u);
  CAPTURE(many);
  Bucket bucket;
  std::vector<User> users(many);
  const auto run = [&](Nanos from, Nanos to) {
    for (Nanos now = from; now < to; now += 20 * kMillisecond) {
      // Each has its turn to be the first.
      const auto first = static_cast<std::size_t>(now / kMillisecond) / 20 * 7;
      for (std::size_t i = 0; i < many; ++i) {
        User& user = users[(first + i) % many];
        if (user.limit.Fits(1, now)) user.Ask(bucket, now);
      }
    }
  };
  run(0, 900 * kSecond);
  for (User& user : users) user.served = user.refused = 0;
  run(900 * kSecond, 4500 * kSecond);
  int served = 0;
  int refused = 0;
  for (const User& user : users) {
    served += user.served;
    refused += user.refused;
    CHECK(user.served > 0.4 * 3600 / static_cast<double>(many));
  }
  CHECK(served > 0.98 * 3600);
  CHECK(refused < 0.13 * served);
}

TEST_CASE("who is refused goes slower; what is found goes out at once",
          "[shared_limit]") {
  Bucket bucket;
  User user;
  Nanos now = Watch(user, bucket, 1.3);
  const auto gap = [&](double level) {
    bucket = {.level = level, .time = now};
    user.Ask(bucket, now);
    // Nothing is left to go out at once.
    while (user.limit.Fits(1, now)) user.limit.Take(1, now);
    const Nanos first = user.limit.WhenFits(1, now);
    user.limit.Take(1, first);
    const Nanos between = user.limit.WhenFits(1, first) - first;
    now = first;
    return between;
  };
  Nanos slow = gap(0);
  for (int i = 0; i < 20; ++i) {
    const Nanos slower = gap(0);
    CHECK(slower > slow);
    slow = slower;
  }
  // Not ever slower, so that it is found out what has changed.
  CHECK(slow < 200 * kSecond);
  bucket = {.level = kLimit, .time = now};
  user.Ask(bucket, now);
  int more = 0;
  while (more < 100 && user.limit.Fits(1, now) && user.Ask(bucket, now)) ++more;
  CHECK(more > 50);
}

TEST_CASE("what makes no sense, and times at the end of time, do no harm",
          "[shared_limit]") {
  Bucket bucket;
  User user;
  const Nanos now = Watch(user, bucket, 1.3);
  REQUIRE(user.limit.is_shared());
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double wrong : {0.0, -1.0, kNan}) {
    user.limit.Learn({.limit = wrong, .rate = kRate}, user.leased, now);
    user.limit.Learn({.limit = kLimit, .rate = wrong}, user.leased, now);
  }
  CHECK(user.limit.is_shared());
  // No more than the limit is paid for, so it comes to an end.
  user.limit.Take(1e300, user.limit.WhenFits(1, now));
  CHECK(user.limit.WhenFits(1, now) < kNever / 2);
  const Nanos late = kNever - 1;
  user.limit.Take(1, late);
  CHECK(user.limit.WhenFits(1, late) == kNever);
  CHECK_FALSE(user.limit.Fits(1, kLongAgo));
}

}  // namespace
}  // namespace keyrotator::internal::pool_shared_limit_test
