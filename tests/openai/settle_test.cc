#include "keyrotator/openai/settle.h"

#include <chrono>
#include <optional>
#include <string>

#include "keyrotator/config/any_selection.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/rotator.h"

namespace keyrotator::openai_settle_test {
namespace {

using namespace std::chrono_literals;
using testing::Letters;
using testing::Row;

HttpResponse Answer(int status, Headers headers = {}, std::string body = "{}") {
  return {
      .status = status, .headers = std::move(headers), .body = std::move(body)};
}

TEST_CASE("one line marks the key as the answer says", "[settle]") {
  struct Case {
    HttpResponse response;
    VerdictKind verdict;
    KeyState state;
    std::optional<std::chrono::nanoseconds> returns_in;
  };
  using enum VerdictKind;
  const std::string quota = R"({"error": {"code": "insufficient_quota"}})";
  for (const Case& c :
       {Case{Answer(200), kOk, KeyState::kAvailable, {}},
        Case{Answer(401), kKeyInvalid, KeyState::kFailed, {}},
        Case{Answer(429, {{"Retry-After", "20"}}), kRateLimited,
             KeyState::kCooling, 20s},
        Case{Answer(429), kRateLimited, KeyState::kCooling, 1s},
        Case{Answer(429, {{"Retry-After", "2"}}, quota), kQuotaExhausted,
             KeyState::kCooling, 1h},
        Case{Answer(403), kPermission, KeyState::kAvailable, {}},
        Case{Answer(503), kOverloaded, KeyState::kAvailable, {}},
        Case{Answer(400), kCallerError, KeyState::kAvailable, {}}}) {
    CAPTURE(c.response.status, c.verdict);
    ManualClock clock;
    KeyRotator rotator(Letters("A"), {}, RoundRobin{}, clock);
    const std::optional<Lease> lease = rotator.Pick();
    REQUIRE(lease);
    CHECK(Settle(rotator, *lease, c.response).kind == c.verdict);
    CHECK(Row(rotator, "A").state == c.state);
    CHECK(Row(rotator, "A").successes == (c.verdict == kOk ? 1 : 0));
    if (c.returns_in) CHECK(Row(rotator, "A").returns_in == c.returns_in);
  }
}

TEST_CASE("the limits that an answer tells of hold the key back", "[settle]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {}, RoundRobin{}, clock);
  std::optional<Lease> lease = rotator.Pick();
  Settle(rotator, *lease,
         Answer(200, {{"x-ratelimit-limit-requests", "60"},
                      {"x-ratelimit-remaining-requests", "0"},
                      {"x-ratelimit-reset-requests", "60s"}}));
  lease.reset();
  CHECK(rotator.Available() == 0);
  clock.Advance(60s);
  CHECK(rotator.Available() == 1);
}

TEST_CASE("the options say how long a key rests", "[settle]") {
  ManualClock clock;
  KeyRotator rotator(Letters("AB"), {}, RoundRobin{}, clock);
  const RetryOptions options{.guess = {.initial = 3s}, .quota_cooldown = 5min};
  const std::optional<Lease> a = rotator.Pick();
  const std::optional<Lease> b = rotator.Pick();
  Settle(rotator, *a, Answer(429), options);
  Settle(rotator, *b, Answer(402), options);
  CHECK(Row(rotator, "A").returns_in == 3s);
  CHECK(Row(rotator, "B").returns_in == 5min);
}

TEST_CASE("the verdict that comes back quotes no key", "[settle][S21]") {
  KeyRotator rotator(Letters("AB"));
  const std::optional<Lease> lease = rotator.Pick();
  const Verdict verdict = Settle(
      rotator, *lease,
      Answer(400, {},
             R"({"error": {"code": "secret-B", "message": "for secret-A"}})"));
  CHECK(verdict.message == "for [A]");
  CHECK(verdict.code == "[B]");
}

TEST_CASE("a lease of another pool marks nothing", "[settle]") {
  KeyRotator mine(Letters("A"));
  KeyRotator other(Letters("A"));
  const std::optional<Lease> lease = other.Pick();
  CHECK(Settle(mine, *lease, Answer(401)).kind == VerdictKind::kKeyInvalid);
  CHECK(mine.Available() == 1);
  CHECK(other.Available() == 1);
}

TEST_CASE("any rotator will do", "[settle]") {
  const auto check = [](auto& rotator) {
    const std::optional<Lease> lease = rotator.Pick({.scope = "m"});
    Settle(rotator, *lease, Answer(401));
    CHECK(rotator.Available() == 0);
  };
  KeyRotator plain({"sk-a"});
  KeyRotator<MostHeadroom> headroom({"sk-a"});
  KeyRotator<AnySelection, ManualClock> any({"sk-a"});
  check(plain);
  check(headroom);
  check(any);
}

}  // namespace
}  // namespace keyrotator::openai_settle_test
