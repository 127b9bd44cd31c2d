#include "keyrotator/openai/hint.h"

#include <chrono>
#include <optional>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_hint_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

// Thu, 15 Jan 2026 12:00:00 GMT.
constexpr std::chrono::system_clock::time_point kNow{
    std::chrono::seconds(1768478400)};

std::optional<milliseconds> Reset(std::string_view body,
                                  const Headers& headers = {}) {
  ErrorBody read = ReadErrorBody(body);
  return FindQuotaReset(headers, read.Fields(), kNow);
}

TEST_CASE("a quota's reset is what the error itself says", "[hint]") {
  CHECK(Reset(R"({"error":{"resets_in_seconds":39600}})") == 11h);
  CHECK(Reset(R"({"error":{"resets_at":1768482000}})") == 1h);
  CHECK(Reset(R"({"error":{"message":"Resets in 13 days."}})") == 24h * 13);
  CHECK(Reset(R"({"error":{"message":"reset at 2026-01-16 12:00 UTC"}})") ==
        24h);
  // OpenRouter's.
  CHECK(Reset(R"({"error":{"message":"x","metadata":{"headers":)"
              R"({"X-RateLimit-Reset":"1768482000000"}}}})") == 1h);
}

TEST_CASE("what may be a bucket's wait is no reset of a quota", "[hint]") {
  CHECK_FALSE(Reset(R"({"error":{"message":"Try again in 20s"}})"));
  CHECK_FALSE(Reset(R"({"error":{"message":"x"}})", {{"Retry-After", "7200"}}));
  CHECK_FALSE(
      Reset(R"({"error":{"message":"limit: 0, please retry in 90s"}})"));
  CHECK_FALSE(Reset(R"({"error":{"resets_in_seconds":-1,"resets_at":5}})"));
}

TEST_CASE("a day ends where the provider's does", "[hint]") {
  CHECK(Reset(R"({"error":{"details":[{"@type":"x.google.rpc.QuotaFailure",)"
              R"("violations":[{"quotaId":"RequestsPerDayPerModel"}]},)"
              R"({"@type":"x.google.rpc.RetryInfo","retryDelay":"34s"}]}})") ==
        20h);
  CHECK(Reset(R"({"error":{"message":"limit: free-models-per-day"}})") == 12h);
}

TEST_CASE("the provider's clock goes before the local one", "[hint]") {
  CHECK(Reset(R"({"error":{"resets_at":1768482000}})",
              {{"Date", "Thu, 15 Jan 2026 12:30:00 GMT"}}) == 30min);
}

TEST_CASE(
    "a reset that has just passed is not the next day's, nor another zone's",
    "[hint]") {
  // 20:00 in China is now.
  CHECK(Reset(R"({"error":{"message":"reset at 2026-01-15 20:00:01"}})") == 1s);
  CHECK(Reset(R"({"error":{"message":"reset at 2026-01-15 20:00:00"}})") ==
        1min);
  CHECK(Reset(R"({"error":{"message":"reset at 2026-01-15 19:50:01"}})") ==
        1min);
  CHECK(Reset(R"({"error":{"message":"reset at 2026-01-15 19:50:00"}})") ==
        7h + 50min);  // UTC
  const std::string_view day =
      R"({"error":{"message":"limit: free-models-per-day"}})";
  CHECK(Reset(day, {{"Date", "Thu, 15 Jan 2026 23:59:59 GMT"}}) == 1s);
  CHECK(Reset(day, {{"Date", "Thu, 15 Jan 2026 00:00:00 GMT"}}) == 1min);
  CHECK(Reset(day, {{"Date", "Thu, 15 Jan 2026 00:09:59 GMT"}}) == 1min);
  CHECK(Reset(day, {{"Date", "Thu, 15 Jan 2026 00:10:00 GMT"}}) == 23h + 50min);
}

}  // namespace
}  // namespace keyrotator::internal::openai_hint_test
