#include "keyrotator/openai/retry_after.h"

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::openai_retry_after_test {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

using Wait = std::optional<milliseconds>;

// Thu, 15 Jan 2026 12:00:00 GMT.
constexpr system_clock::time_point kNow{seconds(1768478400)};

Wait FromHeader(std::string name, std::string value,
                system_clock::time_point now = kNow) {
  return ParseRetryAfter({{std::move(name), std::move(value)}}, now);
}

Wait RetryAfter(std::string value, system_clock::time_point now = kNow) {
  return FromHeader("Retry-After", std::move(value), now);
}

std::optional<nanoseconds> Reset(std::string_view value) {
  return internal::ParseReset(value, std::chrono::floor<milliseconds>(kNow));
}

// --- Retry-After ---

TEST_CASE("the table of the official SDKs, without their caps",
          "[retry_after]") {
  // openai-python, test_parse_retry_after_header, at its own present. Where the
  // SDK falls back to its backoff there is no hint here either; above 120 s it
  // gives up, while a pool waits with that key.
  const system_clock::time_point now{seconds(1696004797)};
  CHECK(RetryAfter("20", now) == seconds(20));
  CHECK_FALSE(RetryAfter("0", now));
  CHECK_FALSE(RetryAfter("-10", now));
  CHECK(RetryAfter("60", now) == seconds(60));
  CHECK(RetryAfter("61", now) == seconds(61));
  CHECK(RetryAfter("120", now) == seconds(120));
  CHECK(RetryAfter("121", now) == seconds(121));
  CHECK(RetryAfter("Fri, 29 Sep 2023 16:26:57 GMT", now) == seconds(20));
  CHECK_FALSE(RetryAfter("Fri, 29 Sep 2023 16:26:37 GMT", now));
  CHECK_FALSE(RetryAfter("Fri, 29 Sep 2023 16:26:27 GMT", now));
  CHECK(RetryAfter("Fri, 29 Sep 2023 16:27:37 GMT", now) == seconds(60));
  CHECK(RetryAfter("Fri, 29 Sep 2023 16:27:38 GMT", now) == seconds(61));
  CHECK(RetryAfter("Fri, 29 Sep 2023 16:28:37 GMT", now) == seconds(120));
  CHECK(RetryAfter("Fri, 29 Sep 2023 16:28:38 GMT", now) == seconds(121));
  CHECK(RetryAfter(std::string(35, '9'), now) == kMaxRetryAfter);
  CHECK_FALSE(RetryAfter("inf", now));
  CHECK_FALSE(RetryAfter("nan", now));
  CHECK_FALSE(RetryAfter("Zun, 29 Sep 2023 16:26:57 GMT", now));
  CHECK_FALSE(RetryAfter("Fri, 29 Sep 100000 16:26:57 GMT", now));
  CHECK_FALSE(RetryAfter("", now));
}

TEST_CASE(
    "where the official SDKs differ among themselves the strict one holds",
    "[retry_after]") {
  // openai-node: 0 is "at once", "10abc" is 10, ISO 8601 is a date.
  CHECK_FALSE(RetryAfter("0"));
  CHECK_FALSE(RetryAfter("10abc"));
  CHECK_FALSE(RetryAfter("2026-01-15T12:00:20Z"));
  // openai-python: a retry-after-ms of 0 hides the Retry-After.
  CHECK(ParseRetryAfter({{"retry-after-ms", "0"}, {"retry-after", "7"}},
                        kNow) == seconds(7));
}

TEST_CASE("a Retry-After never overflows", "[retry_after][S8]") {
  for (const char* value :
       {"9223372037", "18446744074", "9223372036854775807",
        "9223372036854775808", "18446744073709551616", "2678401", "2678400.001",
        "99999999999999999999999999999999999.5"}) {
    CAPTURE(value);
    CHECK(RetryAfter(value) == kMaxRetryAfter);
  }
  CHECK(RetryAfter(std::string(100'000, '9')) == kMaxRetryAfter);
  CHECK(RetryAfter("0." + std::string(100'000, '9')) == seconds(1));
  CHECK(RetryAfter(std::string(500, '0') + "1") == seconds(1));
  CHECK(RetryAfter("2678399") == seconds(2678399));
  CHECK(FromHeader("retry-after-ms", "9223372036854775808") == kMaxRetryAfter);
  CHECK(RetryAfter("Fri, 31 Dec 9999 23:59:59 GMT") == kMaxRetryAfter);
  CHECK(kMaxRetryAfter.count() == 2'678'400'000);
}

TEST_CASE("a wait of any present stays in its bounds", "[retry_after][S8]") {
  for (const system_clock::time_point now :
       {system_clock::time_point::min(), system_clock::time_point::max(),
        system_clock::time_point{}}) {
    for (const char* value :
         {"Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 0000 00:00:00 GMT",
          "Sunday, 06-Nov-94 08:49:37 GMT", "Sunday, 29-Feb-00 08:49:37 GMT"}) {
      const Wait wait = RetryAfter(value, now);
      CHECK((!wait || (wait->count() > 0 && *wait <= kMaxRetryAfter)));
    }
  }
}

TEST_CASE("fractions count, and are rounded up to a millisecond",
          "[retry_after][S8]") {
  CHECK(RetryAfter("1.5") == milliseconds(1500));
  CHECK(RetryAfter("0.1") == milliseconds(100));
  CHECK(RetryAfter(".5") == milliseconds(500));
  CHECK(RetryAfter("5.") == seconds(5));
  CHECK(RetryAfter("18.642") == milliseconds(18642));
  CHECK(RetryAfter("0.0001") == milliseconds(1));
  CHECK(RetryAfter("0.000000000000001") == milliseconds(1));
  CHECK(FromHeader("retry-after-ms", "250") == milliseconds(250));
  CHECK(FromHeader("retry-after-ms", "250.01") == milliseconds(251));
  CHECK(FromHeader("retry-after-ms", "0.5") == milliseconds(1));
  // Every thousandth, which is rarely a double, comes out as itself.
  for (int ms = 1; ms < 20'000; ++ms) {
    const std::string digits = std::to_string(ms % 1000);
    const std::string text = std::to_string(ms / 1000) + "." +
                             std::string(3 - digits.size(), '0') + digits;
    if (RetryAfter(text) != milliseconds(ms)) FAIL(text);
  }
}

TEST_CASE("what is no decimal number and no date is skipped", "[retry_after]") {
  for (const char* value :
       {"soon",      "-1",       "+1",   "1e3",         "0x10", "1,5", "1.5.2",
        "1 2",       "10s",      ".",    "--",          "nan",  "NaN", "inf",
        "Infinity",
        "\302\2405",  // a no-break space
        "5\x01",     "\xD9\xA5", "null", "Thu, 15 Jan", "0.0",  "-0",  "  "}) {
    CAPTURE(value);
    CHECK_FALSE(RetryAfter(value));
  }
  CHECK_FALSE(RetryAfter(std::string("5\0", 2)));
}

TEST_CASE("white space around a value is no part of it", "[retry_after]") {
  CHECK(RetryAfter(" \t30\t ") == seconds(30));
  CHECK(RetryAfter(" Thu, 15 Jan 2026 12:00:20 GMT ") == seconds(20));
}

TEST_CASE("the header that is more exact wins, and an unusable one is skipped",
          "[retry_after]") {
  const auto both = [](std::string ms, std::string x_ms, std::string s) {
    return ParseRetryAfter({{"Retry-After", std::move(s)},
                            {"X-MS-Retry-After-MS", std::move(x_ms)},
                            {"Retry-After-Ms", std::move(ms)}},
                           kNow);
  };
  CHECK(both("250", "300", "7") == milliseconds(250));
  CHECK(both("abc", "300", "7") == milliseconds(300));
  CHECK(both("0", "-1", "7") == seconds(7));
  CHECK(both("-5", "", "0") == std::nullopt);
  CHECK(both("nan", "inf", "Thu, 15 Jan 2026 12:00:20 GMT") == seconds(20));
  CHECK_FALSE(ParseRetryAfter({}, kNow));
}

TEST_CASE("of a Retry-After that comes twice the first counts",
          "[retry_after][T15]") {
  CHECK(ParseRetryAfter({{"Retry-After", "3"}, {"retry-after", "900"}}, kNow) ==
        seconds(3));
  CHECK_FALSE(
      ParseRetryAfter({{"Retry-After", "soon"}, {"Retry-After", "9"}}, kNow));
}

// --- Dates ---

TEST_CASE("all three HTTP dates are read, as UTC", "[retry_after][P18]") {
  CHECK(RetryAfter("Thu, 15 Jan 2026 12:00:20 GMT") == seconds(20));
  CHECK(RetryAfter("Thursday, 15-Jan-26 12:00:20 GMT") == seconds(20));
  CHECK(RetryAfter("Thu Jan 15 12:00:20 2026") == seconds(20));
  CHECK(RetryAfter("Sun Feb  1 12:00:00 2026") == hours(17 * 24));
  // RFC 9110's own example.
  const auto instant = internal::Instant(seconds(784111777));
  const auto now = std::chrono::floor<milliseconds>(kNow);
  for (const char* text :
       {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994"}) {
    CHECK(internal::ParseHttpDate(text, now) == instant);
  }
}

TEST_CASE("a date is read alike in every time zone and locale",
          "[retry_after][P18]") {
  const char* old_zone = std::getenv("TZ");
  const std::string zone = old_zone != nullptr ? old_zone : "";
  for (const char* name :
       {"America/New_York", "Asia/Kolkata", "XYZ-13", "UTC"}) {
    setenv("TZ", name, 1);
    tzset();
    CHECK(RetryAfter("Thu, 15 Jan 2026 12:00:20 GMT") == seconds(20));
    CHECK(Reset("2026-01-15T12:00:20Z") == seconds(20));
  }
  old_zone != nullptr ? setenv("TZ", zone.c_str(), 1) : unsetenv("TZ");
  tzset();
  for (const char* name : {"de_DE.UTF-8", "tr_TR.UTF-8", "C.UTF-8"}) {
    if (std::setlocale(LC_ALL, name) == nullptr) continue;  // not installed
    CHECK(RetryAfter("1.5") == milliseconds(1500));
    CHECK(RetryAfter("Thu, 15 Jan 2026 12:00:20 GMT") == seconds(20));
  }
  std::setlocale(LC_ALL, "C");
}

TEST_CASE("a date that breaks the grammar or the calendar is skipped",
          "[retry_after][P18]") {
  for (const char* value :
       {"thu, 15 jan 2026 12:00:20 gmt",   "Thu, 15 Jan 2026 12:00:20 UTC",
        "Thu, 15 Jan 2026 12:00:20 +0000", "Thu, 15 Jan 2026 12:00:20",
        "Thu, 15 Jan 2026 12:00 GMT",      "Thu, 5 Jan 2026 12:00:20 GMT",
        "Thu,15 Jan 2026 12:00:20 GMT",    "Thu, 15  Jan 2026 12:00:20 GMT",
        "Thu, 32 Jan 2026 12:00:20 GMT",   "Thu, 00 Jan 2027 12:00:20 GMT",
        "Sun, 29 Feb 2026 12:00:20 GMT",   "Thu, 15 Jan 2026 24:00:00 GMT",
        "Thu, 15 Jan 2026 12:60:00 GMT",   "Thu, 15 Jan 2026 12:00:61 GMT",
        "Thu, 15 Foo 2026 12:00:20 GMT",   "Thu, 15 Jan 2026 12:00:20 GMTx",
        "Thu, 15-Jan-26 12:00:20 GMT",     "Thursday, 15 Jan 2026 12:00:20 GMT",
        "Thu Jan 15 12:00:20 2026 GMT",    "Thu Jan 15 12:00:20 26",
        "Thu, 15 Jan 2026 1a:00:20 GMT",   "Thu, -5 Jan 2026 12:00:20 GMT"}) {
    CAPTURE(value);
    CHECK_FALSE(RetryAfter(value));
  }
  CHECK(RetryAfter("Thu, 15 Jan 2026 12:00:60 GMT") == seconds(60));
  CHECK(RetryAfter("Thu, 29 Feb 2024 00:00:10 GMT",
                   system_clock::time_point(seconds(1709164800))) ==
        seconds(10));
}

TEST_CASE("a date that is now or past gives no hint", "[retry_after]") {
  CHECK_FALSE(RetryAfter("Thu, 15 Jan 2026 12:00:00 GMT"));
  CHECK_FALSE(RetryAfter("Thu, 15 Jan 2026 11:59:50 GMT"));
  CHECK(RetryAfter("Thu, 15 Jan 2026 12:00:01 GMT", kNow + milliseconds(999)) ==
        milliseconds(1));
}

TEST_CASE("a two-digit year is never more than 50 years ahead",
          "[retry_after][P18]") {
  const auto year = [](const char* text, const char* now) {
    const auto present = *internal::ParseHttpDate(now, internal::Instant{});
    const auto then = internal::ParseHttpDate(text, present);
    REQUIRE(then);
    return static_cast<int>(std::chrono::year_month_day(
                                std::chrono::floor<std::chrono::days>(*then))
                                .year());
  };
  const char* in_2026 = "Thu, 15 Jan 2026 12:00:00 GMT";
  CHECK(year("Sunday, 06-Nov-26 08:49:37 GMT", in_2026) == 2026);
  CHECK(year("Sunday, 06-Nov-75 08:49:37 GMT", in_2026) == 2075);
  CHECK(year("Sunday, 06-Nov-76 08:49:37 GMT", in_2026) == 1976);
  CHECK(year("Sunday, 06-Nov-94 08:49:37 GMT", in_2026) == 1994);
  CHECK(year("Sunday, 29-Feb-28 08:49:37 GMT", in_2026) == 2028);
  // The turn of a century: one second ahead is not a hundred years ago.
  CHECK(year("Friday, 01-Jan-00 00:00:00 GMT",
             "Thu, 31 Dec 2099 23:59:59 GMT") == 2100);
  CHECK_FALSE(RetryAfter("Sunday, 31-Feb-26 08:49:37 GMT"));
}

TEST_CASE("the header Date goes before the local clock", "[retry_after]") {
  // A local clock that is an hour off changes nothing.
  for (const auto error : {hours(0), hours(1), hours(-1)}) {
    CHECK(ParseRetryAfter({{"Date", "Thu, 15 Jan 2026 12:00:00 GMT"},
                           {"Retry-After", "Thu, 15 Jan 2026 12:00:20 GMT"}},
                          kNow + error) == seconds(20));
  }
  CHECK(ParseRetryAfter({{"Date", "yesterday"},
                         {"Retry-After", "Thu, 15 Jan 2026 12:00:20 GMT"}},
                        kNow) == seconds(20));
  CHECK_FALSE(
      ParseRetryAfter({{"Date", "Thu, 15 Jan 2026 12:00:30 GMT"},
                       {"Retry-After", "Thu, 15 Jan 2026 12:00:20 GMT"}},
                      kNow));
  const RateLimits limits = ParseRateLimits(
      {{"Date", "Thu, 15 Jan 2026 12:00:00 GMT"},
       {"anthropic-ratelimit-requests-reset", "2026-01-15T12:00:30Z"}},
      kNow + hours(1));
  CHECK(limits.requests.reset == seconds(30));
}

TEST_CASE("RFC 3339 with fractions and offsets", "[retry_after]") {
  CHECK(Reset("2026-01-15T12:00:20Z") == seconds(20));
  CHECK(Reset("2026-01-15T12:00:20.25Z") == milliseconds(20250));
  CHECK(Reset("2026-01-15T12:00:00.000000001Z") == std::nullopt);
  CHECK(Reset("2026-01-15T13:00:20+01:00") == seconds(20));
  CHECK(Reset("2026-01-15T04:30:20-07:30") == seconds(20));
  for (const char* value :
       {"2026-01-15T12:00:20", "2026-01-15 12:00:20Z", "2026-13-15T12:00:20Z",
        "2026-01-15T12:00:20.Z", "2026-01-15T12:00:20+0100",
        "2026-01-15T12:00:20+24:00", "2026-01-15T12:00:20Zx", "2026-01-15",
        "2026-01-15T12:00:20+01:60", "2026-01-15T11:00:00Z"}) {
    CAPTURE(value);
    CHECK_FALSE(Reset(value));
  }
}

// --- Durations ---

TEST_CASE("durations as providers write them", "[retry_after]") {
  CHECK(internal::ParseDuration("6m0s") == minutes(6));
  CHECK(internal::ParseDuration("20ms") == milliseconds(20));
  CHECK(internal::ParseDuration("114h18m0s") == hours(114) + minutes(18));
  CHECK(internal::ParseDuration("1h2m3.5s") ==
        hours(1) + minutes(2) + milliseconds(3500));
  CHECK(internal::ParseDuration("9m38.016s") ==
        minutes(9) + milliseconds(38016));
  CHECK(internal::ParseDuration("2m59.56s") == milliseconds(179560));
  CHECK(internal::ParseDuration("45.837906927s") == nanoseconds(45837906927));
  CHECK(internal::ParseDuration("1.5h") == minutes(90));
  CHECK(internal::ParseDuration("7us") == nanoseconds(7000));
  CHECK(internal::ParseDuration("7\u00b5s") == nanoseconds(7000));
  CHECK(internal::ParseDuration("7\u03bcs") == nanoseconds(7000));
  CHECK(internal::ParseDuration("7ns") == nanoseconds(7));
  CHECK(internal::ParseDuration("86400 seconds") == hours(24));
  CHECK(internal::ParseDuration("1 second") == seconds(1));
  CHECK(internal::ParseDuration("1 hour 5 minutes") == minutes(65));
  CHECK(internal::ParseDuration("2 Days") == hours(48));
  CHECK(internal::ParseDuration("9999999999999999999h") == kMaxRetryAfter);
  CHECK(internal::ParseDuration(std::string(1000, '9') + "ns") ==
        kMaxRetryAfter);
}

TEST_CASE("a duration needs a unit, and a whole one", "[retry_after]") {
  for (const char* text : {"", "20", "s", "5x", "5mo", "3 months", "-5s", "5s5",
                           "5s x", "0s", "0h0m0s", "1,000s", "m5", "5 5s"}) {
    CAPTURE(text);
    CHECK_FALSE(internal::ParseDuration(text));
  }
}

TEST_CASE("a hint is found in a sentence", "[retry_after]") {
  CHECK(FindRetryHint("Please try again in 18.642s. Visit https://x.y") ==
        milliseconds(18642));
  CHECK(FindRetryHint("Please try again in 20ms.") == milliseconds(20));
  CHECK(FindRetryHint("Please try again in 6ms. Contact us") ==
        milliseconds(6));
  CHECK(FindRetryHint("Please try again in 7m12s.") == seconds(432));
  CHECK(FindRetryHint("Please retry in 38.601658672s.") == milliseconds(38602));
  CHECK(FindRetryHint("Please retry after 86400 seconds. Please contact") ==
        hours(24));
  CHECK(FindRetryHint("TRY AGAIN IN 2 SECONDS") == seconds(2));
  CHECK(FindRetryHint("please try again after 1 seconds") == seconds(1));
  CHECK(FindRetryHint("try again in 5 minutes") == minutes(5));
}

TEST_CASE("the first usable hint of a sentence counts", "[retry_after]") {
  CHECK(FindRetryHint("Try again in 0s, or retry after 3s") == seconds(3));
  CHECK(FindRetryHint("try again later; try again in a moment, retry in 4s") ==
        seconds(4));
  CHECK(FindRetryHint("retry retry in retry in 5s") == seconds(5));
  CHECK(FindRetryHint("Please wait 41250 seconds before retrying.") ==
        seconds(41250));
  CHECK(FindRetryHint("Monthly usage limit reached. Resets in 13 days.") ==
        std::chrono::days(13));
  CHECK(FindRetryHint("Try again in 2h 16m") == std::chrono::minutes(136));
  CHECK(FindRetryHint("Spent (reset after 5m)") == std::chrono::minutes(5));
  CHECK(FindRetryHint("resets in ~164h27m24s.") == seconds(592044));
  for (const char* text :
       {"", "try again", "try again in ", "Please try again later.",
        "retry in -5s", "retry after 20", "try again in five seconds", "wait",
        "waited 20s", "reset 20", "wait in vain", "used 20s, try again",
        "retry in nan seconds"}) {
    CAPTURE(text);
    CHECK_FALSE(FindRetryHint(text));
  }
}

// --- Resets ---

TEST_CASE("a bare number is seconds, or an epoch by its size",
          "[retry_after]") {
  CHECK(Reset("17") == seconds(17));
  CHECK(Reset("11.382867097854614") == nanoseconds(11382867098));
  CHECK(Reset("1768478460") == seconds(60));
  CHECK(Reset("1768478460000") == seconds(60));
  CHECK(Reset("1768478400250") == milliseconds(250));
  CHECK(Reset("99999999") == kMaxRetryAfter);  // still seconds
  CHECK_FALSE(Reset("100000000"));             // 1973
  CHECK_FALSE(Reset("1768478400"));            // now
  CHECK_FALSE(Reset("100000000000"));          // 1973, in ms
  CHECK_FALSE(Reset("0"));
  CHECK_FALSE(Reset("-1"));
  CHECK(Reset(std::string(400, '9')) == kMaxRetryAfter);
}

TEST_CASE("only limits that are used up give a reset hint, the longest",
          "[retry_after]") {
  const auto hint = [](Headers headers) {
    return ParseExhaustedReset(headers, kNow);
  };
  CHECK(hint({{"x-ratelimit-remaining-requests", "0"},
              {"x-ratelimit-reset-requests", "1h2m3.5s"},
              {"x-ratelimit-remaining-tokens", "0"},
              {"x-ratelimit-reset-tokens", "1s"}}) == milliseconds(3723500));
  CHECK_FALSE(hint({{"x-ratelimit-remaining-requests", "1"},
                    {"x-ratelimit-reset-requests", "12ms"}}));
  CHECK_FALSE(hint({{"x-ratelimit-reset-requests", "12ms"}}));
  CHECK_FALSE(hint({{"x-ratelimit-remaining-requests", "0"}}));
  CHECK_FALSE(hint({{"x-ratelimit-remaining-requests", "0"},
                    {"x-ratelimit-reset-tokens", "12ms"}}));
  // Azure's Responses API: not known.
  CHECK_FALSE(hint({{"x-ratelimit-remaining-tokens", "-1"},
                    {"x-ratelimit-reset-tokens", "0"}}));
  CHECK(hint({{"X-RateLimit-Remaining-Tokens", "0"},
              {"X-RateLimit-Reset-Tokens", "17"}}) == seconds(17));
  CHECK(hint({{"x-ratelimit-remaining-requests-day", "0"},
              {"x-ratelimit-reset-requests-day", "33011.382867097854614"},
              {"x-ratelimit-remaining-tokens-minute", "0"},
              {"x-ratelimit-reset-tokens-minute", "11.382867097854614"}}) ==
        milliseconds(33'011'383));
  CHECK(
      hint({{"anthropic-ratelimit-input-tokens-remaining", "0"},
            {"anthropic-ratelimit-input-tokens-reset", "2026-01-15T12:00:20Z"},
            {"anthropic-ratelimit-requests-remaining", "50"},
            {"anthropic-ratelimit-requests-reset", "2026-01-15T12:10:00Z"}}) ==
      seconds(20));
  CHECK(hint({{"RateLimit-Remaining", "0"}, {"RateLimit-Reset", "30"}}) ==
        seconds(30));
  CHECK(hint({{"x-ratelimit-remaining", "0"},
              {"x-ratelimit-reset", "1768478460"}}) == seconds(60));
  // A reset that means nothing leaves the other.
  CHECK(hint({{"x-ratelimit-remaining-requests", "0"},
              {"x-ratelimit-reset-requests", "soon"},
              {"x-ratelimit-remaining-tokens", "0"},
              {"x-ratelimit-reset-tokens", "2s"}}) == seconds(2));
  // Of a header that comes twice the first counts.
  CHECK_FALSE(hint({{"x-ratelimit-remaining", "5"},
                    {"x-ratelimit-remaining", "0"},
                    {"x-ratelimit-reset", "30"}}));
}

// --- Limits ---

void Check(const RateLimit& limit, std::optional<double> most,
           std::optional<double> left, std::optional<nanoseconds> reset) {
  CHECK(limit.limit == most);
  CHECK(limit.remaining == left);
  CHECK(limit.reset == reset);
}

TEST_CASE("OpenAI's limits", "[limits]") {
  const RateLimits limits =
      ParseRateLimits({{"x-ratelimit-limit-requests", "5000"},
                       {"x-ratelimit-limit-tokens", "160000"},
                       {"x-ratelimit-remaining-requests", "4999"},
                       {"x-ratelimit-remaining-tokens", "159976"},
                       {"x-ratelimit-reset-requests", "12ms"},
                       {"x-ratelimit-reset-tokens", "6m0s"}},
                      kNow);
  Check(limits.requests, 5000, 4999, milliseconds(12));
  Check(limits.tokens, 160000, 159976, minutes(6));
}

TEST_CASE("Anthropic's limits: the kind of tokens that will refuse first",
          "[limits]") {
  Headers headers{
      {"anthropic-ratelimit-requests-limit", "50"},
      {"anthropic-ratelimit-requests-remaining", "49"},
      {"anthropic-ratelimit-requests-reset", "2026-01-15T12:00:01Z"},
      {"anthropic-ratelimit-tokens-limit", "50000"},
      {"anthropic-ratelimit-tokens-remaining", "45000"},
      {"anthropic-ratelimit-tokens-reset", "2026-01-15T12:00:10Z"},
      {"anthropic-ratelimit-input-tokens-limit", "40000"},
      {"anthropic-ratelimit-input-tokens-remaining", "40000"},
      {"anthropic-ratelimit-input-tokens-reset", "2026-01-15T12:00:00Z"},
      {"anthropic-ratelimit-output-tokens-limit", "10000"},
      {"anthropic-ratelimit-output-tokens-remaining", "5000"},
      {"anthropic-ratelimit-output-tokens-reset", "2026-01-15T12:00:30Z"}};
  RateLimits limits = ParseRateLimits(headers, kNow);
  Check(limits.requests, 50, 49, seconds(1));
  Check(limits.tokens, 10000, 5000, seconds(30));

  // The order of the headers says nothing.
  std::vector<Headers::Field> fields(headers.begin(), headers.end());
  for (std::size_t turn = 0; turn < fields.size(); ++turn) {
    std::rotate(fields.begin(), fields.begin() + 1, fields.end());
    Headers turned;
    for (const auto& field : fields) turned.Add(field.name, field.value);
    limits = ParseRateLimits(turned, kNow);
    Check(limits.requests, 50, 49, seconds(1));
    Check(limits.tokens, 10000, 5000, seconds(30));
  }
}

TEST_CASE("of full limits the smallest is told", "[limits]") {
  const RateLimits limits =
      ParseRateLimits({{"anthropic-ratelimit-output-tokens-limit", "8000"},
                       {"anthropic-ratelimit-output-tokens-remaining", "8000"},
                       {"anthropic-ratelimit-tokens-limit", "48000"},
                       {"anthropic-ratelimit-tokens-remaining", "48000"}},
                      kNow);
  Check(limits.tokens, 8000, 8000, std::nullopt);
}

TEST_CASE("Cerebras' and Groq's windows", "[limits]") {
  const RateLimits limits = ParseRateLimits(
      {{"x-ratelimit-limit-requests-day", "14400"},
       {"x-ratelimit-limit-tokens-minute", "60000"},
       {"x-ratelimit-remaining-requests-day", "14399"},
       {"x-ratelimit-remaining-tokens-minute", "59000"},
       {"x-ratelimit-reset-requests-day", "33011.5"},
       {"x-ratelimit-reset-tokens-minute", "11.382867097854614"}},
      kNow);
  Check(limits.requests, 14400, 14399, milliseconds(33'011'500));
  Check(limits.tokens, 60000, 59000, nanoseconds(11382867098));

  const RateLimits two =
      ParseRateLimits({{"x-ratelimit-limit-requests-day", "1000"},
                       {"x-ratelimit-remaining-requests-day", "900"},
                       {"x-ratelimit-limit-requests-minute", "10"},
                       {"x-ratelimit-remaining-requests-minute", "1"},
                       {"x-ratelimit-reset-requests-minute", "30"}},
                      kNow);
  Check(two.requests, 10, 1, seconds(30));
}

TEST_CASE("a limit without a dimension is one of requests", "[limits]") {
  for (const char* prefix : {"x-ratelimit-", "RateLimit-"}) {
    const std::string name = prefix;
    const RateLimits limits = ParseRateLimits({{name + "limit", "100"},
                                               {name + "remaining", "7"},
                                               {name + "reset", "30"}},
                                              kNow);
    Check(limits.requests, 100, 7, seconds(30));
    Check(limits.tokens, std::nullopt, std::nullopt, std::nullopt);
  }
}

TEST_CASE("what a limit does not say is left empty", "[limits]") {
  const RateLimits azure =
      ParseRateLimits({{"x-ratelimit-limit-tokens", "-1"},
                       {"x-ratelimit-remaining-tokens", "-1"},
                       {"x-ratelimit-reset-tokens", "0"}},
                      kNow);
  Check(azure.tokens, std::nullopt, std::nullopt, std::nullopt);

  const RateLimits junk =
      ParseRateLimits({{"x-ratelimit-limit-requests", "many"},
                       {"x-ratelimit-remaining-requests", "nan"},
                       {"x-ratelimit-reset-requests", "-5s"},
                       {"x-ratelimit-limit-tokens", std::string(400, '9')},
                       {"x-ratelimit-over-limit", "yes"},
                       {"x-ratelimit-", "1"},
                       {"ratelimit", "limit=1"}},
                      kNow);
  Check(junk.requests, std::nullopt, std::nullopt, std::nullopt);
  Check(junk.tokens, std::nullopt, std::nullopt, std::nullopt);

  Check(ParseRateLimits({{"x-ratelimit-limit-requests", "60"}}, kNow).requests,
        60, std::nullopt, std::nullopt);
  Check(
      ParseRateLimits({{"x-ratelimit-remaining-requests", "0"}}, kNow).requests,
      std::nullopt, 0, std::nullopt);
  Check(ParseRateLimits({}, kNow).requests, std::nullopt, std::nullopt,
        std::nullopt);
}

TEST_CASE("a limit that is known goes before one that is not", "[limits]") {
  const RateLimits limits =
      ParseRateLimits({{"x-ratelimit-limit-tokens_usage_based", "-1"},
                       {"x-ratelimit-remaining-tokens_usage_based", "-1"},
                       {"x-ratelimit-limit-tokens", "1000"},
                       {"x-ratelimit-remaining-tokens", "1000"},
                       {"x-ratelimit-reset-tokens_usage_based", "9s"}},
                      kNow);
  Check(limits.tokens, 1000, 1000, std::nullopt);
}

}  // namespace
}  // namespace keyrotator::openai_retry_after_test
