#include "keyrotator/pool/shadow_bucket.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::pool_shadow_bucket_test {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kStart = 1000 * kSecond;

RateLimits Requests(double limit, double remaining, double reset_seconds) {
  return {.requests = {.limit = limit,
                       .remaining = remaining,
                       .reset = std::chrono::duration<double>(reset_seconds)}};
}

double Left(const ShadowBucket& bucket, Nanos now) {
  return *bucket.Believed(now).requests.remaining;
}

TEST_CASE("a bucket that nothing is known of lets everything through",
          "[shadow_bucket]") {
  ShadowBucket bucket;
  CHECK_FALSE(bucket.known());
  CHECK(bucket.Fits(1e9, kStart));
  CHECK(bucket.WhenFits(1e9, kStart) == kStart);
  CHECK(bucket.Headroom(kStart) == 1);
  CHECK_FALSE(bucket.Believed(kStart).requests.limit);
}

TEST_CASE("the rate follows from the time to a full bucket",
          "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(60, 30, 30), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(30));
  CHECK(Left(bucket, kStart + 10 * kSecond) == Approx(40));
  CHECK(Left(bucket, kStart + 1000 * kSecond) == Approx(60));
  CHECK(bucket.Headroom(kStart) == Approx(0.5));
}

TEST_CASE(
    "a report counts from its lease, and what was leased after that is taken "
    "off",
    "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(60, 59, 1), false, kStart);
  const ShadowBucket::Note reporting = bucket.Take(0, kStart + kSecond);
  bucket.Take(0, kStart + kSecond);
  bucket.Take(0, kStart + kSecond);
  bucket.Report(reporting, 0, Requests(60, 20, 40), false, kStart + kSecond);
  CHECK(Left(bucket, kStart + kSecond) == Approx(18));
}

TEST_CASE("of a crowd that went out together nobody knows who came first",
          "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(60, 30, 30), false, kStart);
  std::vector<ShadowBucket::Note> crowd;
  for (int i = 0; i < 20; ++i) crowd.push_back(bucket.Take(0, kStart));
  REQUIRE(Left(bucket, kStart) == Approx(10));
  // The last to go out came first, and the first last.
  bucket.Report(crowd.back(), 0, Requests(60, 29, 31), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(10));
  bucket.Report(crowd.front(), 0, Requests(60, 10, 50), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(10));
  // More is gone than all of them took: somebody else had it.
  bucket.Report(crowd.back(), 0, Requests(60, 5, 55), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(5));
}

TEST_CASE(
    "what flows back while the bucket is full is lost, as far as is known",
    "[shadow_bucket]") {
  // 5 requests, 20 a second: in a slow answer's time many times as many.
  const auto told = [](double left) {
    RateLimits limits;
    limits.requests = {.limit = 5,
                       .remaining = left,
                       .reset = std::chrono::nanoseconds(
                           static_cast<Nanos>((5 - left) * 0.05 * kSecond))};
    return limits;
  };
  ShadowBucket bucket;
  bucket.Report({}, 0, told(4), false, kStart);
  const ShadowBucket::Note slow = bucket.Take(0, kStart);
  Nanos now = kStart;
  for (int i = 0; i < 16; ++i) {
    now += kSecond / 20;
    bucket.Take(0, now);
  }
  const double own = Left(bucket, now);
  CHECK(own > 2);
  bucket.Report(slow, 0, told(3), false, now);
  CHECK(Left(bucket, now) == Approx(own));
}

TEST_CASE(
    "a lease from before the first report leaves room for the others in flight",
    "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 7, Requests(60, 20, 40), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(13));
}

TEST_CASE(
    "a request fits when it and the reserve are there, at the latest when the "
    "bucket is full",
    "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(60, 0, 60), false, kStart);
  CHECK_FALSE(bucket.Fits(0, kStart + kSecond));
  const Nanos when = bucket.WhenFits(0, kStart);
  CHECK(static_cast<double>(when - kStart) / kSecond == Approx(1.3));
  CHECK(bucket.Fits(0, when));

  ShadowBucket of_one;
  of_one.Report({}, 0, Requests(1, 0, 1), false, kStart);
  CHECK(of_one.Fits(0, of_one.WhenFits(0, kStart)));
  CHECK(of_one.WhenFits(0, kStart) <= kStart + kSecond);
}

TEST_CASE(
    "a bucket that was drained without further reports refills to its limit",
    "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(10, 9, 1), false, kStart);
  for (int i = 0; i < 100; ++i) bucket.Take(0, kStart);
  CHECK_FALSE(bucket.Fits(0, kStart));
  const Nanos when = bucket.WhenFits(0, kStart);
  CHECK(bucket.Fits(0, when));
  CHECK(Left(bucket, when + 1000 * kSecond) == Approx(10));
}

TEST_CASE("tokens and requests both have to fit", "[shadow_bucket]") {
  ShadowBucket bucket;
  RateLimits limits = Requests(60, 59, 1);
  limits.tokens = {
      .limit = 1000, .remaining = 100, .reset = std::chrono::seconds(90)};
  bucket.Report({}, 0, limits, false, kStart);
  CHECK(bucket.Fits(100, kStart));
  CHECK_FALSE(bucket.Fits(101, kStart));
  CHECK(static_cast<double>(bucket.WhenFits(200, kStart) - kStart) / kSecond ==
        Approx(10).epsilon(0.01));
  // More than the limit goes once the bucket is full: the provider may refuse
  // it, but it is not for this side to hold it back for ever.
  CHECK(bucket.Fits(5000, bucket.WhenFits(5000, kStart)));
  CHECK(bucket.Headroom(kStart) == Approx(0.1));
}

TEST_CASE("surprises near the edge raise the reserve, which fades",
          "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(60, 3, 57), false, kStart);
  const ShadowBucket::Note lease = bucket.Take(0, kStart);
  // Another client took two, so as much is kept in hand, and half a request.
  bucket.Report(lease, 0, Requests(60, 0, 60), false, kStart);
  CHECK(static_cast<double>(bucket.WhenFits(0, kStart) - kStart) / kSecond ==
        Approx(3.6).epsilon(0.05));
}

TEST_CASE("the rate is one that fits all reports, though all are rounded",
          "[shadow_bucket]") {
  // A full bucket flows back in a minute; what is left is told without its
  // fraction.
  ShadowBucket bucket;
  for (const double level : {58.9, 30.01, 12.95, 0.77, 0.001, 20.5}) {
    bucket.Report({}, 0, Requests(60, std::floor(level), 60 - level), false,
                  kStart);
  }
  const auto rate = [&] {
    const RateLimit believed = bucket.Believed(kStart).requests;
    return (60 - *believed.remaining) /
           std::chrono::duration<double>(*believed.reset).count();
  };
  CHECK(rate() == Approx(1).epsilon(0.001));
  // It has doubled.
  bucket.Report({}, 0, Requests(60, 10, 25.02), false, kStart);
  CHECK(rate() == Approx(2).epsilon(0.03));
  // A bucket that is full tells nothing of it.
  bucket.Report({}, 0, Requests(60, 60, 0.001), false, kStart);
  bucket.Report({}, 0, Requests(60, 59, 0.2), false, kStart);
  bucket.Report({}, 0, Requests(60, 60, 0.3), false, kStart);
  CHECK(bucket.rated());
  bucket.Report({}, 0, Requests(60, 30, 14.99), false, kStart);
  CHECK(rate() == Approx(2).epsilon(0.03));
}

TEST_CASE("where others use a bucket, too, what flows back is not one's own",
          "[shadow_bucket]") {
  const bool tokens = GENERATE(false, true);
  const bool others = GENERATE(false, true);
  CAPTURE(tokens, others);
  constexpr double kCost = 100;
  const double unit = tokens ? kCost : 1;
  ShadowBucket bucket;
  const auto report = [&](const ShadowBucket::Note& note, double left,
                          Nanos now) {
    RateLimits said = Requests(60 * unit, left * unit, 60 - left);
    if (tokens) std::swap(said.requests, said.tokens);
    bucket.Report(note, 0, said, false, now);
  };
  report({}, 60, kStart);
  Nanos now = kStart;
  // One each five seconds. The others take all the rest, and what was there; or
  // there are none, and nothing was there either.
  for (int i = 0; i < 40; ++i) {
    now += 5 * kSecond;
    const ShadowBucket::Note note = bucket.Take(kCost, now);
    report(note, others ? std::max(60 - 1.5 * i, 1.5) : 59, now);
  }
  // What flows back would be enough: it has been, 5 times in 5 seconds.
  now += 5 * kSecond;
  bucket.Take(kCost, now);
  CHECK(bucket.Fits(kCost, now) == !others);
  const Nanos when = bucket.WhenFits(kCost, now);
  CHECK((when > now) == others);
  CHECK(bucket.Fits(kCost, when));
}

TEST_CASE("what makes no sense is no report", "[shadow_bucket]") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const RateLimits& limits :
       {RateLimits{}, Requests(kNan, 1, 1), Requests(1, kNan, 1),
        Requests(kInfinity, 1, 1), Requests(-1, -1, 0), Requests(0, 0, 0),
        Requests(60, -1, 5)}) {
    ShadowBucket bucket;
    bucket.Report({}, 0, limits, false, kStart);
    CHECK_FALSE(bucket.known());
  }
}

TEST_CASE("the time to a full bucket tells what 'remaining' rounds away",
          "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(12, 0, 60), false, kStart);  // one in 5 s
  const ShadowBucket::Note lease = bucket.Take(0, kStart);
  // 5.7 are left, of which the header says 5.
  bucket.Report(lease, 0, Requests(12, 5, 31.5), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(5.7));
}

TEST_CASE("a time in whole seconds is rounded itself and tells no more",
          "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, Requests(12, 0, 60), false, kStart);
  const ShadowBucket::Note lease = bucket.Take(0, kStart);
  bucket.Report(lease, 0, Requests(12, 5, 31), false, kStart);
  CHECK(Left(bucket, kStart) == Approx(5));
}

TEST_CASE("a limit without a rate holds nothing back", "[shadow_bucket]") {
  ShadowBucket bucket;
  bucket.Report({}, 0, {.requests = {.limit = 60, .remaining = 0}}, false,
                kStart);
  CHECK(bucket.known());
  CHECK(bucket.Fits(0, kStart));
}

TEST_CASE("times at the end of time do not overflow", "[shadow_bucket][S8]") {
  ShadowBucket bucket;
  bucket.Report({}, 0,
                {.requests = {.limit = 1e18,
                              .remaining = 0,
                              .reset = std::chrono::hours::max()}},
                false, kNever);
  bucket.Take(1e18, kNever);
  CHECK(bucket.WhenFits(0, kNever) == kNever);
  CHECK(bucket.WhenFits(0, kLongAgo) >= kLongAgo);
  CHECK(bucket.Headroom(kLongAgo) >= 0);
}

}  // namespace
}  // namespace keyrotator::internal::pool_shadow_bucket_test
