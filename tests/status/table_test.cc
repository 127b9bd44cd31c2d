#include "keyrotator/status/table.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/status_rows.h"

namespace keyrotator::testing::status_table_test {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

TEST_CASE("a table shows the keys, and what cools where", "[status]") {
  // The columns of 漢字 are four, as on a terminal.
  CHECK("\n" + StatusTable(Rows()) == R"(
key       state      returns            in flight  picks  successes  429s  failures  left
prod-1    available                           3/8  12345      12340     2         1  499 of 500 requests
  gpt-4o  cooling    in 12 s                                                         0 of 60 requests, 1200 of 40000 tokens
kaputt-ü  failed     when restored              0      0          0     0         1
漢字      cooling    in 60 min                  0      0          0     0         0
tried     busy       when a lease ends          1      0          0     0         0
)");
}

TEST_CASE("a table without limits has no column for them", "[status]") {
  CHECK(StatusTable({}) ==
        "key  state  returns  in flight  picks  successes  429s  failures\n");
  CHECK_THAT(StatusTable(Named("a")), !ContainsSubstring("left"));
}

TEST_CASE("a table shows limits as far as they are known", "[status]") {
  const auto left = [](const RateLimit& requests) {
    std::vector<KeyStatus> rows = Named("a");
    rows[0].scopes = {{.scope = "m", .limits = {.requests = requests}}};
    const std::string table = StatusTable(rows);
    return table.substr(std::min(table.size(), table.rfind("available") + 9));
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  CHECK_THAT(left({.remaining = 7.}), ContainsSubstring("  7 requests\n"));
  CHECK_THAT(left({.limit = kInfinity, .remaining = 7.}),
             ContainsSubstring("  7 requests\n"));
  CHECK_THAT(left({.limit = 9.}), !ContainsSubstring("requests"));
  CHECK_THAT(left({.limit = 9., .remaining = kInfinity}),
             !ContainsSubstring("requests"));
  CHECK_THAT(left({.limit = 9., .remaining = -1.}),
             !ContainsSubstring("requests"));
}

TEST_CASE("a scope is shown where it returns at another time", "[status]") {
  std::vector<KeyStatus> rows = Named("a");
  rows[0].state = KeyState::kCooling;
  rows[0].returns_in = seconds(10);
  rows[0].scopes = {
      {.scope = "same", .state = KeyState::kCooling, .returns_in = seconds(10)},
      {.scope = "longer",
       .state = KeyState::kCooling,
       .returns_in = seconds(20)}};
  const std::string table = StatusTable(rows);
  CHECK_THAT(table, ContainsSubstring("\n  longer  cooling  in 20 s\n"));
  CHECK_THAT(table, !ContainsSubstring("same"));
}

TEST_CASE("spans are read at a glance", "[status]") {
  const auto text = [](std::chrono::nanoseconds span) {
    return internal::RoundSpan(span);
  };
  CHECK(text(milliseconds(1)) == "0.1 s");
  CHECK(text(milliseconds(340)) == "0.3 s");
  CHECK(text(milliseconds(9'949)) == "9.9 s");
  CHECK(text(milliseconds(9'950)) == "10 s");
  CHECK(text(seconds(99)) == "99 s");
  CHECK(text(seconds(100)) == "2 min");
  CHECK(text(minutes(60) - milliseconds(30)) == "60 min");
  CHECK(text(minutes(99)) == "99 min");
  CHECK(text(minutes(100)) == "2 h");
  CHECK(text(hours(47)) == "47 h");
  CHECK(text(hours(48)) == "2 days");
  CHECK(text(std::chrono::nanoseconds::max()) == "106752 days");
}

TEST_CASE("no name breaks a table", "[status]") {
  std::vector<KeyStatus> rows = Named(kNasty);
  rows[0].scopes = {
      {.scope = std::string(kNasty), .state = KeyState::kCooling}};
  const std::string table = StatusTable(rows);
  CHECK(std::count(table.begin(), table.end(), '\n') == 3);
  CHECK_THAT(table, ContainsSubstring("\n  a\"b\\n\\x0aü漢\\x1b[31m\\xff\\x0d"
                                      "\\x09  cooling\n"));
}

TEST_CASE("a rotator's own rows show the model that cools, and no secret",
          "[status]") {
  const ManualClock clock;
  KeyRotator rotator({ApiKey("sk-secret-value", {.name = "prod-1"})}, {},
                     RoundRobin{}, clock);
  {
    const auto lease = rotator.Pick({.scope = "gpt-4o"});
    REQUIRE(lease);
    rotator.MarkRateLimited(*lease, seconds(12));
  }
  const std::vector<KeyStatus> rows = rotator.Snapshot();
  CHECK("\n" + StatusTable(rows) == R"(
key       state      returns  in flight  picks  successes  429s  failures
prod-1    available                   0      1          0     1         0
  gpt-4o  cooling    in 12 s
)");
  CHECK_THAT(StatusTable(rows), !ContainsSubstring("secret-value"));
}

}  // namespace
}  // namespace keyrotator::testing::status_table_test
