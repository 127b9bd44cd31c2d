#include "keyrotator/config/duration.h"

#include <chrono>
#include <string>
#include <string_view>

// Both stand beside each other in a program with a client.
#include "keyrotator/openai/retry_after.h"
#include "tests/support/catch.h"

namespace keyrotator::internal::openai_duration_test {
namespace {

using namespace std::chrono_literals;

std::optional<Nanos> Parsed(std::string_view text) {
  const std::optional<Span> span = ParseSpan(text);
  return span ? std::optional(span->count()) : std::nullopt;
}

TEST_CASE("a duration is a number directly followed by its unit",
          "[duration]") {
  CHECK(Parsed("500ms") == Span(500ms).count());
  CHECK(Parsed("60s") == Span(60s).count());
  CHECK(Parsed("1.5m") == Span(90s).count());
  CHECK(Parsed("1h") == Span(1h).count());
  CHECK(Parsed("2d") == Span(48h).count());
  CHECK(Parsed("0s") == 0);
  CHECK(Parsed("007s") == Span(7s).count());
  // What stands behind the text is none of it.
  CHECK_FALSE(Parsed(std::string_view("12s").substr(0, 1)));
}

TEST_CASE("decimals are exact", "[duration]") {
  CHECK(Parsed("0.1s") == 100'000'000);
  CHECK(Parsed("18.642s") == 18'642'000'000);
  CHECK(Parsed("0.000000001s") == 1);
  CHECK(Parsed("0.00000000005m") == 3);  // 5e-11 of 60 s
  CHECK(Parsed("1.10000000000000000000000000000s") == 1'100'000'000);
  // No double tells it from its neighbours.
  CHECK(Parsed("9000000000.000000001s") == 9'000'000'000'000'000'001);
}

TEST_CASE("what is finer than a nanosecond is no duration", "[duration]") {
  CHECK_FALSE(Parsed("0.0000000001s"));
  CHECK_FALSE(Parsed("1.0000001ms"));
  CHECK_FALSE(Parsed("0.00000000001m"));
}

TEST_CASE("what does not fit into 63 bits of nanoseconds is no duration",
          "[duration][S8]") {
  CHECK(Parsed("9223372036s") == 9'223'372'036'000'000'000);
  CHECK(Parsed("9223372036.854775807s") == kNever);
  CHECK_FALSE(Parsed("9223372036.854775808s"));
  CHECK_FALSE(Parsed("9223372037s"));
  CHECK_FALSE(Parsed("18446744074s"));
  CHECK_FALSE(Parsed("106752d"));
  CHECK(Parsed("106751d"));
  CHECK_FALSE(Parsed(std::string(100'000, '9') + "s"));
  CHECK_FALSE(Parsed("0." + std::string(1 << 20, '9') + "s"));
  CHECK(Parsed(std::string(1 << 20, '0') + "1s") == 1'000'000'000);
}

TEST_CASE("nothing else is a duration", "[duration]") {
  const std::string_view text =
      GENERATE(as<std::string_view>(), "", "s", "60", "60 s", " 60s", "60s ",
               "-1s", "+1s", "1.s", ".5s", "1..5s", "1.5.1s", "1e3s", "0x10s",
               "60S", "60sec", "1m30s", "5ns", "5us", "1w", "inf", "nan",
               "1,5s", "1_000s", std::string_view("1s\0", 3),
               "\xEF\xBB\xBF"
               "1s",
               "٣s", "~", "never");
  CAPTURE(text);
  CHECK_FALSE(Parsed(text));
}

}  // namespace
}  // namespace keyrotator::internal::openai_duration_test
