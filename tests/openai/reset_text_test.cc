#include "keyrotator/openai/reset_text.h"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_reset_text_test {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

Instant At(int year, unsigned month, unsigned day, milliseconds time = 0ms) {
  return Instant(sys_days(std::chrono::year(year) / std::chrono::month(month) /
                          std::chrono::day(day))) +
         time;
}

const Instant kNow = At(2026, 8, 1, 12h);

std::optional<Instant> Find(std::string_view text) {
  return FindResetDate(text, kNow);
}

TEST_CASE("a date with a zone is taken as such", "[reset_text]") {
  CHECK(Find("It will reset at 2026-08-29 23:59:59 +0800 CST.") ==
        At(2026, 8, 29, 15h + 59min + 59s));
  CHECK(Find("You will regain access on 2026-09-01 at 00:00 UTC.") ==
        At(2026, 9, 1));
  CHECK(Find("resets 2026-09-01T02:00:00Z") == At(2026, 9, 1, 2h));
  CHECK(Find("available 2026-09-01T02:00:00.5-07:30") ==
        At(2026, 9, 1, 9h + 30min));
}

TEST_CASE("a date without a zone is China's, or UTC's if that has passed",
          "[reset_text]") {
  CHECK(Find("Your limit will reset at 2026-09-09 03:30:06") ==
        At(2026, 9, 8, 19h + 30min + 6s));
  CHECK(Find("您的限额将在 2026-09-09 03:30:06 重置。") ==
        At(2026, 9, 8, 19h + 30min + 6s));
  CHECK(Find("reset at 2026-08-01 13:00") == At(2026, 8, 1, 13h));
}

TEST_CASE("an offset that no zone has is left aside", "[reset_text]") {
  const auto without = Find("reset at 2026-09-01 00:00:00");
  REQUIRE(without);
  CHECK(Find("reset at 2026-09-01 00:00:00+24:00") == without);
  CHECK(Find("reset at 2026-09-01 00:00:00+01:60") == without);
  CHECK(Find("reset at 2026-09-01 00:00:00+01:0") == without);
}

TEST_CASE("no date, none to come, or one of something else is no reset",
          "[reset_text]") {
  for (const char* text :
       {"", "reset at", "reset at 2026", "reset at 2026-13-01 00:00:00",
        "reset at 2026-02-30 00:00:00", "reset at 2025-09-01 00:00:00",
        "reset at 2026-09-01", "model of 2026-09-01 00:00:00",
        "reset, as the page that was written says, 2026-09-01 00:00:00",
        "reset at 12026-09-01 00:00:00", "reset at 2026-09-0100:00"}) {
    CAPTURE(text);
    CHECK_FALSE(Find(text));
  }
}

TEST_CASE("the first date to come counts", "[reset_text]") {
  CHECK(Find("reset at 2020-01-01 00:00:00, reset at 2026-09-01 00:00:00Z") ==
        At(2026, 9, 1));
}

TEST_CASE("midnight in UTC lies ahead", "[reset_text]") {
  CHECK(NextUtcMidnight(kNow) == At(2026, 8, 2));
  CHECK(NextUtcMidnight(At(2026, 8, 1)) == At(2026, 8, 2));
  CHECK(NextUtcMidnight(At(2026, 12, 31, 23h)) == At(2027, 1, 1));
}

TEST_CASE("midnight in California follows summer time", "[reset_text]") {
  CHECK(NextPacificMidnight(At(2026, 1, 15, 12h)) == At(2026, 1, 16, 8h));
  CHECK(NextPacificMidnight(At(2026, 8, 1, 12h)) == At(2026, 8, 2, 7h));
  // Before midnight there, though it is the next day in UTC.
  CHECK(NextPacificMidnight(At(2026, 8, 2, 6h)) == At(2026, 8, 2, 7h));
  CHECK(NextPacificMidnight(At(2026, 8, 2, 7h)) == At(2026, 8, 3, 7h));
  // 8 March 2026 has 23 hours, 1 November 25.
  CHECK(NextPacificMidnight(At(2026, 3, 8, 7h + 59min)) == At(2026, 3, 8, 8h));
  CHECK(NextPacificMidnight(At(2026, 3, 8, 8h)) == At(2026, 3, 9, 7h));
  CHECK(NextPacificMidnight(At(2026, 11, 1, 6h)) == At(2026, 11, 1, 7h));
  CHECK(NextPacificMidnight(At(2026, 11, 1, 7h)) == At(2026, 11, 2, 8h));
}

}  // namespace
}  // namespace keyrotator::internal::openai_reset_text_test
