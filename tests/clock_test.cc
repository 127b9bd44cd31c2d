#include "keyrotator/clock.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ratio>
#include <stop_token>

#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"

namespace keyrotator::clock_test {
namespace {

using internal::FromNanos;
using internal::kLongAgo;
using internal::kNever;
using internal::SaturatingAdd;
using internal::SaturatingSubtract;
using internal::ToNanos;

static_assert(internal::IsClock<std::chrono::steady_clock>);
static_assert(internal::IsClock<std::chrono::system_clock>);
static_assert(internal::IsClock<ManualClock>);
static_assert(!internal::IsClock<int>);

TEST_CASE("any duration becomes nanoseconds, saturating", "[clock][S8]") {
  using std::chrono::duration;
  using std::chrono::hours;
  CHECK(ToNanos(std::chrono::milliseconds(-1500)) == -1'500'000'000);
  CHECK(ToNanos(duration<double>(1.5)) == 1'500'000'000);
  CHECK(ToNanos(duration<std::int64_t, std::pico>(1999)) == 1);
  CHECK(ToNanos(duration<std::int8_t, std::ratio<3600>>(127)) ==
        127 * 3'600'000'000'000);
  CHECK(ToNanos(hours::max()) == kNever);
  CHECK(ToNanos(hours::min()) == kLongAgo);
  CHECK(ToNanos(std::chrono::nanoseconds::max()) == kNever);
  CHECK(ToNanos(std::chrono::nanoseconds::max() -
                std::chrono::nanoseconds(1)) >= kNever - 1);
  CHECK(ToNanos(duration<double>(1e300)) == kNever);
  CHECK(ToNanos(duration<double>(-std::numeric_limits<double>::infinity())) ==
        kLongAgo);
  CHECK(ToNanos(duration<double>(std::nan(""))) == 0);
  CHECK(ToNanos(duration<std::uint64_t>(
            std::numeric_limits<std::uint64_t>::max())) == kNever);
}

TEST_CASE("nanoseconds become any duration, rounded up and saturating",
          "[clock]") {
  using std::chrono::seconds;
  CHECK(FromNanos<seconds>(1) == seconds(1));
  CHECK(FromNanos<seconds>(2'000'000'000) == seconds(2));
  CHECK(FromNanos<seconds>(-1) == seconds(0));
  CHECK(FromNanos<seconds>(kNever) == seconds::max());
  using Picos = std::chrono::duration<std::int64_t, std::pico>;
  CHECK(FromNanos<Picos>(kNever - 1) == Picos::max());
  CHECK(FromNanos<Picos>(kLongAgo + 1) == Picos::min());
  CHECK(FromNanos<std::chrono::duration<double>>(1'500'000'000).count() ==
        Approx(1.5));
}

TEST_CASE("times are added and subtracted without an overflow", "[clock][S8]") {
  CHECK(SaturatingAdd(1, 2) == 3);
  CHECK(SaturatingAdd(kNever, 1) == kNever);
  CHECK(SaturatingAdd(kNever - 1, 2) == kNever);
  CHECK(SaturatingAdd(kLongAgo, -1) == kLongAgo);
  CHECK(SaturatingSubtract(kNever, -1) == kNever);
  CHECK(SaturatingSubtract(kLongAgo, 1) == kLongAgo);
  CHECK(SaturatingSubtract(0, kLongAgo) == kNever);
  CHECK(SaturatingSubtract(5, 3) == 2);
}

TEST_CASE("a span is any duration", "[clock]") {
  const auto nanos = [](Span span) { return span.count(); };
  CHECK(nanos(std::chrono::seconds(2)) == 2'000'000'000);
  CHECK(nanos(std::chrono::duration<float>(0.5f)) == 500'000'000);
  CHECK(nanos(std::chrono::hours::max()) == kNever);
}

}  // namespace
}  // namespace keyrotator::clock_test
