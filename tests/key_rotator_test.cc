// The contract of KeyRotator in one thread. Random operations against a
// reference are in model_test.cc, threads in concurrency_test.cc.

#include "keyrotator/key_rotator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing::key_rotator_test {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

using Rotator = KeyRotator<RoundRobin, ManualClock>;

// A rotator over the keys A, B, C, ... on a clock of its own.
struct Pool {
  explicit Pool(std::string_view names, RotatorOptions options = {})
      : rotator(Letters(names), std::move(options), RoundRobin{}, clock) {}
  ManualClock clock;
  Rotator rotator;
};

// --- Keys ---

TEST_CASE("no keys are allowed and a pick finds none", "[rotator]") {
  KeyRotator rotator(ApiKeys{});
  CHECK(rotator.Size() == 0);
  CHECK_FALSE(rotator.Pick());
  CHECK(rotator.NextAvailable() == std::nullopt);
}

TEST_CASE(
    "unset variables, empty and blank keys are ignored and white space around "
    "keys is trimmed",
    "[rotator]") {
  KeyRotator rotator({std::getenv("KEYROTATOR_TEST_SURELY_UNSET"), "",
                      " \t\r\n", "\n sk-a \r\n"});
  REQUIRE(rotator.Size() == 1);
  CHECK(rotator.Pick()->Reveal() == "sk-a");
  CHECK(rotator.MarkFailed(" sk-a\n"));
}

TEST_CASE("a key that is given twice counts once, also to MarkFailed",
          "[rotator][S4]") {
  KeyRotator rotator({"A", "A"});
  CHECK(rotator.Size() == 1);
  CHECK(rotator.MarkFailed("A"));
  CHECK_FALSE(rotator.Pick());
}

TEST_CASE(
    "keys without a name are called key-N by how many ever joined, and no name "
    "is used twice",
    "[rotator]") {
  KeyRotator rotator({ApiKey("a"), ApiKey("b", {.name = "key-1"}),
                      ApiKey("c", {.name = "mine"}), ApiKey("d")});
  CHECK(PickNames(rotator, 4) == "key-2 key-1 mine key-4");
  CHECK(rotator.Remove("d"));
  CHECK(rotator.Add("d"));
  CHECK(Row(rotator, "key-5").picks == 0);
}

TEST_CASE("every range that makes keys is a list of keys", "[rotator]") {
  const std::vector<std::string> strings{"a", "b"};
  CHECK(KeyRotator(strings).Size() == 2);
  const std::vector<ApiKey> keys{ApiKey("a"), ApiKey("b"), ApiKey("c")};
  CHECK(KeyRotator(keys).Size() == 3);
  const char* const pointers[] = {"a", nullptr};
  CHECK(KeyRotator(pointers).Size() == 1);
  const char* unset = nullptr;
  CHECK(KeyRotator({unset, unset}).Size() == 0);
}

std::string ErrorOf(const ApiKeys& keys) {
  try {
    const KeyRotator rotator(keys);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST_CASE(
    "a byte that cannot stand in a header is refused, and the error names the "
    "key but no byte of it",
    "[rotator]") {
  for (const std::string& byte :
       {std::string("\r"), std::string("\n"), std::string(1, '\0'),
        std::string("\x01"), std::string("\x7f"), std::string("\t"),
        std::string("\x80"), std::string("ä")}) {
    const std::string error = ErrorOf(
        {"sk-good", ApiKey("topsecret" + byte + "hidden", {.name = "prod-2"})});
    CAPTURE(error);
    CHECK(error.find("API key 2 (\"prod-2\")") != std::string::npos);
    CHECK(error.find("byte 10") != std::string::npos);
    CHECK(error.find("topsecret") == std::string::npos);
    CHECK(error.find("hidden") == std::string::npos);
  }
  CHECK(ErrorOf({"", "", "a\nb"}).find("API key 3:") != std::string::npos);
}

TEST_CASE("a weight that is not finite and above 0 is refused",
          "[rotator][P9]") {
  using Limits = std::numeric_limits<double>;
  for (const double weight : {0.0, -1.0, -0.0, Limits::quiet_NaN(),
                              Limits::infinity(), -Limits::infinity()}) {
    CAPTURE(weight);
    CHECK(ErrorOf({ApiKey("a", {.weight = weight})})
              .find("API key 1: its weight is") != std::string::npos);
  }
  for (const double weight :
       {Limits::min(), Limits::denorm_min(), Limits::max(), 0.005}) {
    CAPTURE(weight);
    CHECK(ErrorOf({ApiKey("a", {.weight = weight})}) == "no error");
  }
}

TEST_CASE("a name that another key has is refused", "[rotator]") {
  CHECK(ErrorOf({ApiKey("a", {.name = "x"}), ApiKey("b", {.name = "x"})}) ==
        "API key 2 (\"x\"): another key has that name");
  KeyRotator rotator({ApiKey("a", {.name = "x"})});
  CHECK_THROWS_AS(rotator.Add(ApiKey("b", {.name = "x"})),
                  std::invalid_argument);
  CHECK(rotator.Size() == 1);
  CHECK_THROWS_AS(rotator.Replace({ApiKey("a"), ApiKey("b", {.name = "x"})}),
                  std::invalid_argument);
  CHECK(rotator.Size() == 1);
}

TEST_CASE("options out of range are refused by name", "[rotator]") {
  const auto error_of = [](RotatorOptions options) {
    try {
      const KeyRotator rotator({"a"}, std::move(options));
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(error_of({.cooldown = seconds(0)}).find("cooldown") !=
        std::string::npos);
  CHECK(error_of({.max_cooldown = seconds(-1)}).find("max_cooldown") !=
        std::string::npos);
  CHECK(error_of({.max_guess_pause = seconds(-1)}).find("max_guess_pause") !=
        std::string::npos);
  CHECK(error_of({.cooldown_multiplier = 0.5}).find("cooldown_multiplier") !=
        std::string::npos);
  CHECK(error_of({.cooldown_multiplier = std::nan("")})
            .find("cooldown_multiplier") != std::string::npos);
  CHECK(
      error_of({.retry_failed_after = seconds(0)}).find("retry_failed_after") !=
      std::string::npos);
  CHECK(error_of({.max_scopes = 0}).find("max_scopes") != std::string::npos);
  CHECK(error_of({.cooldown = hours::max(), .max_cooldown = hours::max()}) ==
        "no error");
}

TEST_CASE("a key of 100 kB and a pool of 100,000 keys work", "[rotator]") {
  const std::string long_key(100'000, 'k');
  KeyRotator one({long_key});
  CHECK(one.Pick()->Reveal() == long_key);

  std::vector<std::string> keys;
  for (int i = 0; i < 100'000; ++i) keys.push_back("sk-" + std::to_string(i));
  KeyRotator many(keys);
  CHECK(many.Size() == 100'000);
  for (const std::string& key : keys)
    REQUIRE(many.MarkRateLimited(key, hours(1)));
  CHECK_FALSE(many.Pick());
  CHECK(many.Availability().cooling == 100'000);
}

// --- Picking ---

TEST_CASE(
    "round-robin goes through the keys in the order in which they were given",
    "[rotator]") {
  Pool pool("ABC");
  CHECK(PickNames(pool.rotator, 7) == "A B C A B C A");
}

TEST_CASE(
    "round-robin is fair to the others whatever the rhythm in which one key "
    "flaps",
    "[rotator][S5]") {
  for (int away = 1; away <= 7; ++away) {
    for (int here = 1; here <= 7; ++here) {
      Pool pool("ABCD");
      std::map<std::string, int> counts;
      for (int i = 0; i < 400; ++i) {
        if (i % (away + here) == 0)
          pool.rotator.MarkRateLimited("secret-A", seconds(away));
        ++counts[PickName(pool.rotator)];
        pool.clock.Advance(seconds(1));
      }
      CAPTURE(away, here, counts);
      const auto [low, high] =
          std::minmax({counts["B"], counts["C"], counts["D"]});
      CHECK(high - low <= 1);
    }
  }
}

TEST_CASE(
    "an excluded key is not picked, and a pick that excludes all finds none",
    "[rotator]") {
  Pool pool("ABC");
  const std::vector<KeyStatus> rows = pool.rotator.Snapshot();
  const std::vector<KeyId> not_a{rows[0].id};
  const std::vector<KeyId> none{rows[0].id, rows[1].id, rows[2].id};
  CHECK(PickNames(pool.rotator, 4, {.exclude = not_a}) == "B C B C");
  CHECK(PickName(pool.rotator, {.exclude = none}) == "none");
  CHECK(pool.rotator.Available({.exclude = not_a}) == 2);
  CHECK(pool.rotator.NextAvailable({.exclude = none}) == std::nullopt);
}

TEST_CASE(
    "a preferred key is taken out of turn if it is usable, and the turn stays",
    "[rotator]") {
  Pool pool("ABC");
  const KeyId c = pool.rotator.Snapshot()[2].id;
  CHECK(PickName(pool.rotator, {.prefer = c}) == "C");
  CHECK(PickName(pool.rotator) == "A");
  CHECK(PickName(pool.rotator, {.exclude = std::span(&c, 1), .prefer = c}) ==
        "B");
}

TEST_CASE("a preferred key that another request failed meanwhile is not taken",
          "[rotator][T9]") {
  Pool pool("AB");
  const KeyId a = pool.rotator.Snapshot()[0].id;
  pool.rotator.MarkFailed(a);
  CHECK(PickName(pool.rotator, {.prefer = a}) == "B");
  CHECK(PickName(pool.rotator, {.prefer = KeyId{0}}) == "B");
}

TEST_CASE("an exhausted pool says so instead of handing out a bad key",
          "[rotator][P15][S7]") {
  Pool pool("AB");
  pool.rotator.MarkFailed("secret-A");
  pool.rotator.MarkRateLimited("secret-B", seconds(10));
  CHECK_FALSE(pool.rotator.Pick());
  const Rotator::Outlook outlook = pool.rotator.Availability();
  CHECK(outlook.available == 0);
  CHECK(outlook.cooling == 1);
  CHECK(outlook.failed == 1);
  CHECK(outlook.next == pool.clock.now() + seconds(10));
}

TEST_CASE("a policy that wants none of the keys gets none", "[rotator]") {
  const auto none = [](const AvailableKeys& keys, const PickHint&) {
    return keys.size();
  };
  KeyRotator rotator({"a"}, {}, none);
  CHECK_FALSE(rotator.Pick());
}

// --- Leases ---

TEST_CASE(
    "a lease counts as in flight until it ends, and its end gives no verdict",
    "[rotator]") {
  Pool pool("A");
  {
    const auto lease = pool.rotator.Pick();
    CHECK(Row(pool.rotator, "A").in_flight == 1);
  }
  const KeyStatus row = Row(pool.rotator, "A");
  CHECK(row.in_flight == 0);
  CHECK(row.picks == 1);
  CHECK(row.successes + row.failures + row.rate_limits == 0);
  CHECK(row.state == KeyState::kAvailable);
}

TEST_CASE("a lease moves, and what it was moved from counts no more",
          "[rotator]") {
  Pool pool("AB");
  std::optional<Lease> a = pool.rotator.Pick();
  std::optional<Lease> b = pool.rotator.Pick();
  *a = std::move(*b);
  CHECK(a->name() == "B");
  CHECK(Row(pool.rotator, "A").in_flight == 0);
  CHECK(Row(pool.rotator, "B").in_flight == 1);
  static_assert(!std::is_copy_constructible_v<Lease>);
}

TEST_CASE("a lease outlives its rotator", "[rotator]") {
  std::optional<Lease> plain;
  std::optional<Lease> capped;
  std::optional<Lease> scoped;
  std::optional<Lease> trial;
  {
    ManualClock clock;
    Rotator rotator({ApiKey("secret-A", {.name = "A", .group = "G"}),
                     ApiKey("secret-B", {.max_in_flight = 1}),
                     ApiKey("secret-C"), ApiKey("secret-D")},
                    {}, {}, clock);
    plain = rotator.Pick();
    capped = rotator.Pick();
    scoped = rotator.Pick({.scope = "model"});
    rotator.MarkRateLimited("secret-D");
    clock.Advance(seconds(60));
    trial = rotator.Pick({.prefer = rotator.Snapshot()[3].id});
  }
  CHECK(plain->Reveal() == "secret-A");
  CHECK(plain->name() == "A");
  CHECK(plain->group() == "G");
  CHECK(scoped->scope() == "model");
  CHECK(trial->Reveal() == "secret-D");
}

TEST_CASE(
    "reports on another rotator's lease, a removed key or an unknown value are "
    "false and change nothing",
    "[rotator][P6]") {
  Pool pool("AB");
  Pool other("AB");
  const auto foreign = other.rotator.Pick();
  const auto removed = pool.rotator.Pick();
  REQUIRE(removed->name() == "A");
  CHECK(pool.rotator.Remove(*removed));
  for (const KeyRef key :
       {KeyRef(*foreign), KeyRef(*removed), KeyRef(removed->id()),
        KeyRef("secret-A"), KeyRef("secret-"), KeyRef(""),
        KeyRef(static_cast<const char*>(nullptr)), KeyRef(KeyId{0}),
        KeyRef(foreign->id())}) {
    CHECK_FALSE(pool.rotator.MarkFailed(key));
    CHECK_FALSE(pool.rotator.MarkRateLimited(key));
    CHECK_FALSE(pool.rotator.MarkRateLimited(key, seconds(20)));
    CHECK_FALSE(pool.rotator.MarkSucceeded(key));
    CHECK_FALSE(pool.rotator.Restore(key));
    CHECK_FALSE(pool.rotator.Remove(key));
  }
  CHECK_FALSE(pool.rotator.ReportLimits(
      *foreign,
      {.requests = {.limit = 1, .remaining = 0, .reset = seconds(9)}}));
  CHECK(PickNames(pool.rotator, 2) == "B B");
}

// --- Failures ---

TEST_CASE("a failed key stays out, whatever another request reports later",
          "[rotator][S3]") {
  Pool pool("AB");
  const auto first = pool.rotator.Pick();
  const auto second = pool.rotator.Pick({.prefer = first->id()});
  CHECK(pool.rotator.MarkFailed(*first));
  CHECK(pool.rotator.MarkRateLimited(*second, seconds(1)));
  CHECK(pool.rotator.MarkSucceeded(*second));
  pool.clock.Advance(hours(1000));
  CHECK(PickNames(pool.rotator, 3) == "B B B");
}

TEST_CASE("the key that failed is marked, not another one", "[rotator][S1]") {
  Pool pool("ABC");
  const auto a = pool.rotator.Pick();
  pool.rotator.MarkRateLimited(*a);
  pool.rotator.Pick();
  const auto c = pool.rotator.Pick();
  pool.rotator.MarkFailed(*c);
  CHECK(Row(pool.rotator, "A").state == KeyState::kCooling);
  CHECK(Row(pool.rotator, "B").state == KeyState::kAvailable);
  CHECK(Row(pool.rotator, "C").state == KeyState::kFailed);
}

TEST_CASE("a key that failed for one model is out for all", "[rotator][P7]") {
  Pool pool("AB");
  const auto lease = pool.rotator.Pick({.scope = "gpt-4o"});
  pool.rotator.MarkFailed(*lease);
  CHECK(PickNames(pool.rotator, 2, {.scope = "o3"}) == "B B");
  CHECK(PickNames(pool.rotator, 2) == "B B");
}

TEST_CASE("Restore lifts a failure, not a cooldown", "[rotator]") {
  Pool pool("A");
  pool.rotator.MarkFailed("secret-A");
  pool.rotator.MarkRateLimited("secret-A", seconds(10));
  CHECK(pool.rotator.Restore("secret-A"));
  CHECK(Row(pool.rotator, "A").state == KeyState::kCooling);
  pool.clock.Advance(seconds(10));
  CHECK(PickName(pool.rotator) == "A");
}

TEST_CASE("a failed key returns on trial after retry_failed_after",
          "[rotator]") {
  Pool pool("A", {.retry_failed_after = seconds(30)});
  pool.rotator.MarkFailed("secret-A");
  pool.clock.Advance(seconds(30) - nanoseconds(1));
  CHECK_FALSE(pool.rotator.Pick());
  pool.clock.Advance(nanoseconds(1));
  auto trial = pool.rotator.Pick();
  REQUIRE(trial);
  CHECK_FALSE(pool.rotator.Pick());
  pool.rotator.MarkFailed(*trial);
  trial.reset();
  CHECK_FALSE(pool.rotator.Pick());
  pool.clock.Advance(seconds(30));
  trial = pool.rotator.Pick();
  pool.rotator.MarkSucceeded(*trial);
  CHECK(pool.rotator.Pick());
}

TEST_CASE("the end of a failed key's trial brings it back, if nobody marks it",
          "[rotator]") {
  Pool pool("A", {.retry_failed_after = seconds(30)});
  pool.rotator.MarkFailed("secret-A");
  pool.clock.Advance(seconds(30));
  std::optional<Lease> trial = pool.rotator.Pick();
  REQUIRE(trial);
  CHECK_FALSE(pool.rotator.Pick());
  trial.reset();
  const auto one = pool.rotator.Pick();
  const auto two = pool.rotator.Pick();
  CHECK((one && two));
}

// --- Cooldowns ---

TEST_CASE("at exactly the deadline the key is back, and not before",
          "[rotator][S19]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited("secret-A", seconds(20));
  pool.clock.Advance(seconds(20) - nanoseconds(1));
  CHECK_FALSE(pool.rotator.Pick());
  pool.clock.Advance(nanoseconds(1));
  CHECK(pool.rotator.Pick());
}

TEST_CASE(
    "without a hint a key cools for the option, with one for the hint, at most "
    "for max_cooldown",
    "[rotator]") {
  Pool pool("ABCDE", {.cooldown = seconds(5), .max_cooldown = seconds(100)});
  pool.rotator.MarkRateLimited("secret-A");
  pool.rotator.MarkRateLimited("secret-B", milliseconds(1500));
  pool.rotator.MarkRateLimited("secret-C", hours(2));
  pool.rotator.MarkRateLimited("secret-D", seconds(0));
  pool.rotator.MarkRateLimited("secret-E", seconds(-3));
  CHECK(Row(pool.rotator, "A").returns_in == seconds(5));
  CHECK(Row(pool.rotator, "B").returns_in == milliseconds(1500));
  CHECK(Row(pool.rotator, "C").returns_in == seconds(100));
  CHECK(Row(pool.rotator, "D").returns_in == seconds(5));
  CHECK(Row(pool.rotator, "E").returns_in == seconds(5));
}

TEST_CASE("cooldowns at the limits of their type do not overflow",
          "[rotator][S8]") {
  Pool pool("A", {.max_cooldown = hours::max()});
  const auto row = [&] { return Row(pool.rotator, "A"); };
  SECTION("the longest") {
    pool.rotator.MarkRateLimited("secret-A", hours::max());
    CHECK(row().state == KeyState::kCooling);
    pool.clock.Advance(hours(24) * 365 * 100);
    CHECK(row().state == KeyState::kCooling);
  }
  SECTION("the longest that has a fraction") {
    pool.rotator.MarkRateLimited("secret-A",
                                 std::chrono::duration<double>(1e300));
    CHECK(row().state == KeyState::kCooling);
  }
  SECTION("the shortest counts as none") {
    pool.rotator.MarkRateLimited("secret-A", hours::min());
    CHECK(row().returns_in == seconds(60));
  }
  SECTION("not a number counts as none") {
    pool.rotator.MarkRateLimited("secret-A",
                                 std::chrono::duration<double>(std::nan("")));
    CHECK(row().returns_in == seconds(60));
  }
  SECTION("a clock at the end of time") {
    pool.clock.Advance(hours::max());
    pool.rotator.MarkRateLimited("secret-A", hours(1));
    CHECK_FALSE(pool.rotator.Pick());
  }
}

TEST_CASE("a shorter cooldown never overwrites a longer one", "[rotator][P3]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited("secret-A", seconds(60));
  pool.clock.Advance(seconds(10));
  pool.rotator.MarkRateLimited("secret-A", seconds(5));
  CHECK(Row(pool.rotator, "A").returns_in == seconds(50));
  pool.rotator.MarkRateLimited("secret-A", seconds(55));
  CHECK(Row(pool.rotator, "A").returns_in == seconds(55));
}

TEST_CASE("the time to the next key is what remains", "[rotator][P4]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited("secret-A", seconds(60));
  pool.clock.Advance(seconds(50));
  CHECK(pool.rotator.NextAvailable() == pool.clock.now() + seconds(10));
}

TEST_CASE(
    "a rate limit from before the window changes nothing, unless the server "
    "gave a hint",
    "[rotator][S12]") {
  Pool pool("A", {.trial_after_guess = false});
  const auto old_one = pool.rotator.Pick();
  const auto old_two = pool.rotator.Pick();
  const auto reported = pool.rotator.Pick();
  pool.rotator.MarkRateLimited(*reported, seconds(60));
  pool.clock.Advance(seconds(30));
  pool.rotator.MarkRateLimited(*old_one);
  CHECK(Row(pool.rotator, "A").returns_in == seconds(30));
  pool.clock.Advance(seconds(30));
  pool.rotator.MarkRateLimited(*old_one);
  CHECK(Row(pool.rotator, "A").state == KeyState::kAvailable);
  pool.rotator.MarkRateLimited(*old_two, seconds(7));
  CHECK(Row(pool.rotator, "A").returns_in == seconds(7));
}

TEST_CASE("a success from before the window does not end it", "[rotator][P1]") {
  Pool pool("A");
  const auto limited = pool.rotator.Pick();
  const auto served = pool.rotator.Pick();
  pool.rotator.MarkRateLimited(*limited);
  pool.rotator.MarkSucceeded(*served);
  CHECK_FALSE(pool.rotator.Pick());
}

TEST_CASE("many rate limits in one window are one step of the escalation",
          "[rotator][P2]") {
  Pool pool("A", {.cooldown = seconds(60),
                  .cooldown_multiplier = 60,
                  .trial_after_guess = false});
  std::vector<Lease> leases;
  for (int i = 0; i < 4; ++i) leases.push_back(*pool.rotator.Pick());
  for (const Lease& lease : leases) pool.rotator.MarkRateLimited(lease);
  CHECK(Row(pool.rotator, "A").returns_in == seconds(60));
  pool.clock.Advance(seconds(60));
  for (const Lease& lease : leases) pool.rotator.MarkRateLimited(lease);
  CHECK(Row(pool.rotator, "A").state == KeyState::kAvailable);
}

TEST_CASE(
    "an escalation goes a step a window, to max_cooldown, and a fresh success "
    "resets it",
    "[rotator]") {
  Pool pool("A", {.cooldown = seconds(1),
                  .max_cooldown = seconds(60),
                  .cooldown_multiplier = 2});
  const auto stale = pool.rotator.Pick();
  for (const int expected : {1, 2, 4, 8, 16, 32, 60, 60}) {
    const auto lease = pool.rotator.Pick();
    REQUIRE(lease);
    pool.rotator.MarkRateLimited(*lease);
    CHECK(Row(pool.rotator, "A").returns_in == seconds(expected));
    pool.clock.Advance(seconds(expected));
  }
  pool.rotator.MarkSucceeded(*stale);
  {
    const auto lease = pool.rotator.Pick();
    pool.rotator.MarkRateLimited(*lease);
    CHECK(Row(pool.rotator, "A").returns_in == seconds(60));
    pool.clock.Advance(seconds(60));
  }
  pool.rotator.MarkSucceeded(*pool.rotator.Pick());
  pool.rotator.MarkRateLimited(*pool.rotator.Pick());
  CHECK(Row(pool.rotator, "A").returns_in == seconds(1));
}

TEST_CASE("a caller's guess escalates by its own rule", "[rotator]") {
  Pool pool("A");
  const Cooldown guess{
      .initial = seconds(1), .multiplier = 2, .max = seconds(60)};
  for (const int expected : {1, 2, 4, 8, 16, 32, 60, 60}) {
    pool.rotator.Settle(*pool.rotator.Pick(),
                        {.kind = Report::Kind::kRateLimited, .guess = guess});
    CHECK(Row(pool.rotator, "A").returns_in == seconds(expected));
    pool.clock.Advance(seconds(expected));
  }
}

TEST_CASE("where nothing is served a guess grows beyond its max if it may",
          "[rotator]") {
  Pool pool("A");
  const Cooldown guess{.initial = seconds(10),
                       .multiplier = 2,
                       .max = seconds(60),
                       .max_guess_pause = seconds(900)};
  const auto limit = [&] {
    pool.rotator.Settle(*pool.rotator.Pick(),
                        {.kind = Report::Kind::kRateLimited, .guess = guess});
    const auto rests = Row(pool.rotator, "A").returns_in;
    pool.clock.Advance(*rests);
    return *rests;
  };
  for (const int expected : {10, 20, 40, 60, 60, 60, 80, 160, 320, 640, 900})
    CHECK(limit() == seconds(expected));
  CHECK(limit() == seconds(900));
  pool.rotator.MarkSucceeded(*pool.rotator.Pick());
  CHECK(limit() == seconds(10));
}

TEST_CASE("a pace that is learned pauses up to max_guess_pause", "[rotator]") {
  for (const int longest : {0, 300, 900}) {
    CAPTURE(longest);
    ManualClock clock;
    KeyRotator rotator(
        Letters("A"), {.learn_pace = true, .max_guess_pause = seconds(longest)},
        RoundRobin{}, clock);
    for (int i = 0; i < 20; ++i) {
      clock.Advance(Row(rotator, "A").returns_in.value_or(nanoseconds(0)));
      rotator.MarkRateLimited(*rotator.Pick());
    }
    CHECK(*Row(rotator, "A").returns_in == seconds(std::max(longest, 60)));
  }
}

// --- Trial ---

TEST_CASE(
    "after a guessed cooldown one lease goes out, and its end opens the gate",
    "[rotator]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited("secret-A");
  pool.clock.Advance(seconds(60));
  auto trial = pool.rotator.Pick();
  REQUIRE(trial);
  CHECK_FALSE(pool.rotator.Pick());
  CHECK(pool.rotator.Availability().busy == 1);
  CHECK(pool.rotator.NextAvailable() == std::nullopt);
  SECTION("by its end") { trial.reset(); }
  SECTION("by its success") { pool.rotator.MarkSucceeded(*trial); }
  const auto one = pool.rotator.Pick();
  const auto two = pool.rotator.Pick();
  CHECK((one && two));
}

TEST_CASE("a trial that is limited again shuts the gate again", "[rotator]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited("secret-A");
  pool.clock.Advance(seconds(60));
  auto trial = pool.rotator.Pick();
  pool.rotator.MarkRateLimited(*trial);
  trial.reset();
  CHECK_FALSE(pool.rotator.Pick());
  CHECK(Row(pool.rotator, "A").returns_in == seconds(60));
}

TEST_CASE("leases from before the window neither take the trial nor end it",
          "[rotator]") {
  Pool pool("A");
  auto old_one = pool.rotator.Pick();
  auto old_two = pool.rotator.Pick();
  pool.rotator.MarkRateLimited("secret-A");
  pool.clock.Advance(seconds(60));
  const auto trial = pool.rotator.Pick();
  REQUIRE(trial);
  pool.rotator.MarkSucceeded(*old_one);
  old_one.reset();
  old_two.reset();
  CHECK_FALSE(pool.rotator.Pick());
}

TEST_CASE("after a hint, or without trial_after_guess, the gate is open",
          "[rotator]") {
  Pool hinted("A");
  hinted.rotator.MarkRateLimited("secret-A", seconds(5));
  hinted.clock.Advance(seconds(5));
  const auto one = hinted.rotator.Pick();
  const auto two = hinted.rotator.Pick();
  CHECK((one && two));

  Pool untried("A", {.trial_after_guess = false});
  untried.rotator.MarkRateLimited("secret-A");
  untried.clock.Advance(seconds(60));
  const auto three = untried.rotator.Pick();
  const auto four = untried.rotator.Pick();
  CHECK((three && four));
}

// --- Scopes and groups ---

TEST_CASE("a rate limit on one scope's lease leaves the others alone",
          "[rotator]") {
  Pool pool("AB");
  const auto lease = pool.rotator.Pick({.scope = "gpt-4o"});
  pool.rotator.MarkRateLimited(*lease, seconds(10));
  CHECK(PickNames(pool.rotator, 3, {.scope = "gpt-4o"}) == "B B B");
  CHECK(PickNames(pool.rotator, 2, {.scope = "o3"}) == "A B");
  CHECK(PickNames(pool.rotator, 2) == "A B");
  pool.clock.Advance(seconds(10));
  CHECK(PickNames(pool.rotator, 2, {.scope = "gpt-4o"}) == "A B");
}

TEST_CASE("a quota is of the whole key, whatever the scope it was met in",
          "[rotator]") {
  Pool pool("AB");
  const auto lease = pool.rotator.Pick({.scope = "gpt-4o"});
  pool.rotator.MarkRateLimited(*lease, hours(1), Reach::kKey);
  CHECK(PickNames(pool.rotator, 2, {.scope = "o3"}) == "B B");
  CHECK(PickNames(pool.rotator, 2) == "B B");
}

TEST_CASE("each scope picks in a turn of its own", "[rotator]") {
  Pool pool("AB");
  CHECK(PickNames(pool.rotator, 3) == "A B A");
  CHECK(PickNames(pool.rotator, 3, {.scope = "gpt-4o"}) == "A B A");
  CHECK(PickNames(pool.rotator, 2) == "B A");
  CHECK(PickNames(pool.rotator, 2, {.scope = "gpt-4o"}) == "B A");
}

TEST_CASE("a group cools as one, and a key that joins it cools, too",
          "[rotator]") {
  ManualClock clock;
  Rotator rotator(
      {ApiKey("a", {.name = "A", .group = "org"}),
       ApiKey("b", {.name = "B", .group = "org"}), ApiKey("c", {.name = "C"})},
      {}, {}, clock);
  rotator.MarkRateLimited("a");
  CHECK(PickNames(rotator, 2) == "C C");
  rotator.Add(ApiKey("d", {.name = "D", .group = "org"}));
  CHECK(PickNames(rotator, 2) == "C C");
  clock.Advance(seconds(60));
  const auto trial = rotator.Pick();
  CHECK(trial->group() == "org");
  CHECK(PickNames(rotator, 3) == "C C C");  // one trial for the group
}

TEST_CASE("a failure concerns the key alone, not its group", "[rotator]") {
  KeyRotator rotator({ApiKey("a", {.group = "org"}),
                      ApiKey("b", {.name = "B", .group = "org"})});
  rotator.MarkFailed("a");
  CHECK(PickName(rotator) == "B");
}

TEST_CASE("the least recently used idle scope is forgotten, one in use is not",
          "[rotator][T19]") {
  Pool pool("AB", {.max_scopes = 2});
  const auto lease = pool.rotator.Pick({.scope = "leased"});
  pool.rotator.MarkRateLimited(*pool.rotator.Pick({.scope = "cooling"}),
                               seconds(10));
  for (int i = 0; i < 1000; ++i)
    pool.rotator.Pick({.scope = "scope-" + std::to_string(i)});
  CHECK(PickNames(pool.rotator, 2, {.scope = "cooling"}) == "B B");
  CHECK(lease->scope() == "leased");
  CHECK(PickName(pool.rotator, {.scope = "leased"}) == "B");
  pool.clock.Advance(seconds(10));
  for (int i = 0; i < 1000; ++i) {
    const std::string scope = "scope-" + std::to_string(i);
    pool.rotator.MarkRateLimited(*pool.rotator.Pick({.scope = scope}),
                                 milliseconds(1));
    pool.clock.Advance(milliseconds(1));
  }
  CHECK(pool.rotator.Available() == 2);
}

TEST_CASE("a key at its cap is busy until a lease ends", "[rotator][T8]") {
  Pool pool("B");
  pool.rotator.Replace({ApiKey("secret-A", {.name = "A", .max_in_flight = 2}),
                        ApiKey("secret-B")});
  const KeyId a = pool.rotator.Snapshot()[0].id;
  auto one = pool.rotator.Pick({.prefer = a});
  auto two = pool.rotator.Pick({.prefer = a});
  CHECK(PickNames(pool.rotator, 2) == "B B");
  CHECK(Row(pool.rotator, "A").state == KeyState::kBusy);
  one.reset();
  CHECK(PickName(pool.rotator, {.prefer = a}) == "A");
}

TEST_CASE("a cap that Replace sets counts the leases that are out",
          "[rotator]") {
  Pool pool("A");
  auto one = pool.rotator.Pick();
  auto two = pool.rotator.Pick();
  pool.rotator.Replace({ApiKey("secret-A", {.max_in_flight = 1})});
  CHECK_FALSE(pool.rotator.Pick());
  one.reset();
  CHECK_FALSE(pool.rotator.Pick());
  two.reset();
  CHECK(pool.rotator.Pick());
}

// --- Changing the keys ---

TEST_CASE("a removed key is not picked again, and its leases stay valid",
          "[rotator]") {
  Pool pool("ABC");
  const auto a = pool.rotator.Pick();
  CHECK(pool.rotator.Remove("secret-A"));
  CHECK_FALSE(pool.rotator.Remove("secret-A"));
  CHECK(PickNames(pool.rotator, 4) == "B C B C");
  CHECK(a->Reveal() == "secret-A");
  CHECK(pool.rotator.Add("secret-A"));
  CHECK(pool.rotator.Size() == 3);
  CHECK_FALSE(pool.rotator.MarkFailed(*a));
  CHECK(pool.rotator.Available() == 3);
}

TEST_CASE("the turn survives a removal", "[rotator][P6]") {
  Pool pool("ABCDE");
  CHECK(PickNames(pool.rotator, 3) == "A B C");
  pool.rotator.Remove("secret-A");
  CHECK(PickName(pool.rotator) == "D");
  pool.rotator.Remove("secret-E");
  CHECK(PickName(pool.rotator) == "B");
}

TEST_CASE(
    "what is kept of a key does not move to its neighbour when one is removed",
    "[rotator][P6]") {
  Pool pool("ABC");
  pool.rotator.MarkFailed("secret-B");
  pool.rotator.MarkRateLimited(
      *pool.rotator.Pick(
          {.scope = "m", .prefer = pool.rotator.Snapshot()[2].id}),
      hours(1));
  pool.rotator.Remove("secret-A");
  CHECK(Row(pool.rotator, "B").state == KeyState::kFailed);
  CHECK(PickName(pool.rotator, {.scope = "m"}) == "none");
  CHECK(PickName(pool.rotator) == "C");
}

TEST_CASE(
    "Replace keeps the state, name and group of keys whose value stays, and "
    "takes weight, cap and order",
    "[rotator]") {
  ManualClock clock;
  KeyRotator rotator(
      {ApiKey("a", {.name = "A", .group = "G"}), ApiKey("b", {.name = "B"})},
      {}, RoundRobin{}, clock);
  rotator.MarkFailed("a");
  rotator.MarkRateLimited("b", seconds(10));
  rotator.Replace({ApiKey("c", {.name = "C"}),
                   ApiKey("b", {.name = "other", .weight = 3}),
                   ApiKey("a", {.group = "H", .max_in_flight = 7})});
  const std::vector<KeyStatus> rows = rotator.Snapshot();
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].name == "C");
  CHECK(rows[1].name == "B");
  CHECK(rows[1].weight == 3);
  CHECK(rows[1].returns_in == seconds(10));
  CHECK(rows[2].name == "A");
  CHECK(rows[2].group == "G");
  CHECK(rows[2].max_in_flight == 7);
  CHECK(rows[2].state == KeyState::kFailed);
  rotator.Replace(ApiKeys{});
  CHECK(rotator.Size() == 0);
  CHECK_FALSE(rotator.Pick());
}

TEST_CASE(
    "Add gives the id of a new key and none for one that is there or empty",
    "[rotator]") {
  Pool pool("A");
  const auto id = pool.rotator.Add(ApiKey("secret-B", {.name = "B"}));
  REQUIRE(id);
  CHECK(Row(pool.rotator, "B").id == *id);
  CHECK_FALSE(pool.rotator.Add("secret-B"));
  CHECK_FALSE(pool.rotator.Add("  "));
  CHECK(pool.rotator.Remove(*id));
}

// --- Limits ---

RateLimits Requests(double limit, double remaining, Span reset) {
  return {.requests = {.limit = limit, .remaining = remaining, .reset = reset},
          .tokens = {}};
}

TEST_CASE(
    "a key whose reported limit is used up is left alone until enough has come "
    "back",
    "[rotator]") {
  Pool pool("AB");
  const auto lease = pool.rotator.Pick();
  // 60 a minute, all used: one comes back a second, and 0.3 are kept in hand.
  pool.rotator.ReportLimits(*lease, Requests(60, 0, seconds(60)));
  CHECK(PickNames(pool.rotator, 2) == "B B");
  CHECK(Row(pool.rotator, "A").state == KeyState::kCooling);
  pool.clock.Advance(seconds(1));
  CHECK(PickName(pool.rotator) == "B");
  pool.clock.Advance(milliseconds(400));
  CHECK(PickNames(pool.rotator, 3) == "A B B");
}

TEST_CASE(
    "a report counts from its own lease: what was leased after it is taken off",
    "[rotator]") {
  Pool pool("A");
  pool.rotator.ReportLimits(*pool.rotator.Pick(),
                            Requests(60, 50, seconds(10)));
  const auto reporting = pool.rotator.Pick();
  std::vector<Lease> later;
  for (int i = 0; i < 4; ++i) later.push_back(*pool.rotator.Pick());
  // It was the last but four; the server saw five left when it was admitted.
  pool.rotator.ReportLimits(*reporting, Requests(60, 5, seconds(55)));
  CHECK_FALSE(pool.rotator.Pick());
  // A report on an older lease than the last is ignored.
  pool.rotator.ReportLimits(later.back(), Requests(60, 1, seconds(59)));
  pool.rotator.ReportLimits(*reporting, Requests(60, 50, seconds(10)));
  CHECK_FALSE(pool.rotator.Pick());
}

TEST_CASE("limits are of the scope and the group", "[rotator]") {
  KeyRotator rotator({ApiKey("a", {.name = "A", .group = "org"}),
                      ApiKey("b", {.name = "B", .group = "org"})},
                     {}, RoundRobin{}, ManualClock());
  const auto lease = rotator.Pick({.scope = "m"});
  rotator.ReportLimits(*lease, Requests(60, 0, seconds(60)));
  CHECK_FALSE(rotator.Pick({.scope = "m"}));
  CHECK(PickNames(rotator, 2, {.scope = "n"}) == "A B");
}

TEST_CASE(
    "a request that costs more than a key has left goes to one that has it",
    "[rotator]") {
  Pool pool("AB");
  const auto tokens = [](double remaining) {
    return RateLimits{
        .requests = {},
        .tokens = {.limit = 1000,
                   .remaining = remaining,
                   .reset = seconds(60) * (1 - remaining / 1000)}};
  };
  const auto a = pool.rotator.Pick();
  const auto b = pool.rotator.Pick();
  pool.rotator.ReportLimits(*a, tokens(100));
  pool.rotator.ReportLimits(*b, tokens(900));
  CHECK(PickName(pool.rotator, {.cost = 500}) == "B");
  CHECK(PickName(pool.rotator, {.cost = 500}) == "none");
  CHECK(PickName(pool.rotator, {.cost = 50}) == "A");
  const auto next = pool.rotator.NextAvailable({.cost = 500});
  REQUIRE(next);
  pool.clock.AdvanceTo(*next);
  CHECK(PickName(pool.rotator, {.cost = 500}) == "B");
}

TEST_CASE("limits that make no sense hold nothing back", "[rotator]") {
  Pool pool("A");
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  const auto lease = pool.rotator.Pick();
  for (const RateLimits& limits :
       {RateLimits{}, Requests(-1, -1, seconds(0)),
        Requests(nan, nan, seconds(1)), Requests(infinity, 0, seconds(1)),
        Requests(0, 0, seconds(1)), Requests(60, 0, seconds(0)),
        Requests(60, 0, seconds(-5)),
        RateLimits{.requests = {.limit = 60, .remaining = 0, .reset = {}},
        .tokens = {}}}) {
    CHECK(pool.rotator.ReportLimits(*lease, limits));
    CHECK(pool.rotator.Pick());
  }
}

// --- Waiting, as far as one thread goes ---

TEST_CASE("PickFor waits for the first key to return and no longer than it may",
          "[rotator]") {
  Pool pool("AB");
  pool.clock.AdvanceWhenWaiting();
  pool.rotator.MarkRateLimited("secret-A", seconds(20));
  pool.rotator.MarkRateLimited("secret-B", seconds(10));
  const auto start = pool.clock.now();
  CHECK_FALSE(pool.rotator.PickFor(seconds(9)));
  CHECK(pool.clock.now() == start + seconds(9));
  const auto lease = pool.rotator.PickUntil(start + seconds(10));
  REQUIRE(lease);
  CHECK(lease->name() == "B");
  CHECK(pool.clock.now() == start + seconds(10));
}

TEST_CASE("a deadline that has passed makes PickUntil a Pick", "[rotator]") {
  Pool pool("A");
  CHECK(pool.rotator.PickUntil(pool.clock.now() - seconds(5)));
  pool.rotator.MarkFailed("secret-A");
  CHECK_FALSE(pool.rotator.PickUntil(pool.clock.now()));
  CHECK_FALSE(pool.rotator.PickFor(hours::min()));
}

TEST_CASE("a requested stop ends a wait before it begins", "[rotator][S17]") {
  Pool pool("A");
  pool.rotator.MarkFailed("secret-A");
  std::stop_source stop;
  stop.request_stop();
  CHECK_FALSE(pool.rotator.PickFor(hours::max(), {}, stop.get_token()));
}

// --- Watching ---

TEST_CASE("a learned pace lets leases out at the rate of what was admitted",
          "[rotator][pace]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {.learn_pace = true}, RoundRobin{}, clock);
  // The provider admits one in ten seconds, and says so once.
  rotator.MarkRateLimited(*rotator.Pick(), seconds(10));
  CHECK_FALSE(rotator.Pick());
  clock.Advance(seconds(10));
  CHECK(rotator.Pick());
  CHECK_FALSE(rotator.Pick());
  CHECK(rotator.NextAvailable() == clock.now() + seconds(10));
  CHECK(rotator.Availability().cooling == 1);
  // What is not used is saved up.
  clock.Advance(seconds(30));
  CHECK(PickNames(rotator, 4) == "A A A none");
}

TEST_CASE("a pace is of the group and the scope", "[rotator][pace]") {
  ManualClock clock;
  KeyRotator rotator({ApiKey("s1", {.name = "A", .group = "org"}),
                      ApiKey("s2", {.name = "B", .group = "org"})},
                     {.learn_pace = true}, RoundRobin{}, clock);
  rotator.MarkRateLimited(*rotator.Pick({.scope = "m"}), seconds(10));
  clock.Advance(seconds(10));
  CHECK(PickNames(rotator, 2, {.scope = "m"}) == "B none");
  CHECK(PickNames(rotator, 4, {.scope = "n"}) == "A B A B");
  CHECK(PickNames(rotator, 4) == "A B A B");
}

TEST_CASE("successes make a pace faster until the next refusal",
          "[rotator][pace]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {.learn_pace = true}, RoundRobin{}, clock);
  rotator.MarkRateLimited(*rotator.Pick(), seconds(10));
  clock.Advance(seconds(10));
  for (int i = 0; i < 5; ++i) {
    const auto lease = rotator.Pick();
    REQUIRE(lease);
    clock.Advance(milliseconds(500));
    rotator.MarkSucceeded(*lease);
    clock.Advance(milliseconds(500));
  }
}

TEST_CASE("a success that is told twice counts once for the pace",
          "[rotator][pace]") {
  const auto next = [](int times) {
    ManualClock clock;
    KeyRotator rotator(Letters("A"), {.learn_pace = true}, RoundRobin{}, clock);
    rotator.MarkRateLimited(*rotator.Pick(), seconds(10));
    clock.Advance(seconds(10));
    const auto lease = rotator.Pick();
    clock.Advance(seconds(4));
    for (int i = 0; i < times; ++i) rotator.MarkSucceeded(*lease);
    return *rotator.NextAvailable() - clock.now();
  };
  CHECK(next(1) > seconds(1));
  CHECK(next(3) == next(1));
}

TEST_CASE("a provider that reports its limits is not paced by guesses",
          "[rotator][pace]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {.learn_pace = true}, RoundRobin{}, clock);
  {
    const auto lease = rotator.Pick();
    rotator.ReportLimits(
        *lease,
        {.requests = {.limit = 60, .remaining = 50, .reset = seconds(10)}});
    rotator.MarkRateLimited(*lease, seconds(10));
  }
  clock.Advance(seconds(10));
  CHECK(PickNames(rotator, 3) == "A A A");
}

TEST_CASE("a late refusal does not change the pace", "[rotator][pace][S12]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {.learn_pace = true}, RoundRobin{}, clock);
  const auto early = rotator.Pick();
  const auto late = rotator.Pick();
  rotator.MarkRateLimited(*early, seconds(10));
  clock.Advance(seconds(10));
  rotator.MarkRateLimited(*late);
  CHECK(rotator.Pick());
  CHECK(rotator.NextAvailable() == clock.now() + seconds(10));
}

TEST_CASE("a place in the queue that is assigned to gives up its own",
          "[rotator]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited("secret-A", seconds(10));
  std::string served;
  const auto say = [&](const char* name) {
    return [&served, name](const Lease&) { served += name; };
  };
  auto one = pool.rotator.WhenUsable({}, say("one "));
  auto two = pool.rotator.WhenUsable({}, say("two "));
  REQUIRE((one && two));
  *one = std::move(*two);
  auto& same = *one;
  *one = std::move(same);
  pool.clock.Advance(seconds(10));
  pool.rotator.Poll();
  CHECK(served == "two ");
}

TEST_CASE("WhenUsable calls with a lease, at once or when a key returns",
          "[rotator][wait]") {
  ManualClock clock;
  KeyRotator rotator(Letters("AB"), {}, RoundRobin{}, clock);
  std::vector<std::string> served;
  const auto serve = [&](const Lease& lease) {
    served.emplace_back(lease.name());
  };
  const auto at_once = rotator.WhenUsable({}, serve);
  CHECK(served == std::vector<std::string>{"A"});
  CHECK_FALSE(rotator.Poll());

  rotator.MarkRateLimited("secret-A", seconds(3));
  rotator.MarkRateLimited("secret-B", seconds(2));
  const auto first = rotator.WhenUsable({}, serve);
  const auto second = rotator.WhenUsable({}, serve);
  CHECK(served.size() == 1);
  CHECK(rotator.Poll() == clock.now() + seconds(2));
  clock.Advance(seconds(2));
  CHECK(served.size() == 1);  // time passes in calls alone
  rotator.Poll();
  CHECK(served.size() >= 2);
  CHECK(served[1] == "B");
  clock.Advance(seconds(1));
  rotator.Poll();
  CHECK(served.size() == 3);
  CHECK_FALSE(rotator.Poll());
}

TEST_CASE("who gives up a place in the queue is not called",
          "[rotator][wait]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {.max_waiters = 2}, RoundRobin{}, clock);
  rotator.MarkRateLimited("secret-A", seconds(1));
  std::string served;
  const auto say = [&served](const char* who) {
    return [&served, who](const Lease&) { served += who; };
  };
  auto first = rotator.WhenUsable({}, say("first "));
  std::string scope = "chat";
  auto second = rotator.WhenUsable({.scope = scope}, say("second "));
  scope = "else";  // what the hint refers to was copied
  CHECK_FALSE(rotator.WhenUsable({}, say("one too many ")));
  first.reset();
  CHECK(rotator.WhenUsable({}, say("gone at once ")));
  clock.Advance(seconds(1));
  rotator.Poll();
  CHECK(served == "second ");
}

TEST_CASE("a place in the queue may outlive the rotator", "[rotator][wait]") {
  ManualClock clock;
  auto rotator = std::make_unique<KeyRotator<RoundRobin, ManualClock>>(
      Letters("A"), RotatorOptions{}, RoundRobin{}, clock);
  rotator->MarkFailed("secret-A");
  bool called = false;
  auto waiting = rotator->WhenUsable({}, [&](const Lease&) { called = true; });
  rotator.reset();
  waiting.reset();
  CHECK_FALSE(called);
}

TEST_CASE("who gives up a place from within another's call is not called",
          "[rotator][wait]") {
  ManualClock clock;
  KeyRotator rotator(ApiKeys(), {}, RoundRobin{}, clock);
  std::string served;
  std::vector<Lease> held;
  std::optional<decltype(rotator)::Waiting> second;
  const auto first = rotator.WhenUsable({}, [&](Lease lease) {
    served += "first ";
    held.push_back(std::move(lease));
    second.reset();
  });
  second = rotator.WhenUsable({}, [&](const Lease&) { served += "second "; });
  rotator.Replace(Letters("AB"));
  CHECK(served == "first ");
  CHECK(Row(rotator, "B").in_flight == 0);
}

TEST_CASE("a lease that ends in a call serves the next after it, not within it",
          "[rotator][wait]") {
  ManualClock clock;
  KeyRotator rotator({ApiKey("sk-a", {.max_in_flight = 1})}, {}, RoundRobin{},
                     clock);
  std::optional<Lease> lease = rotator.Pick();
  std::vector<decltype(rotator)::Waiting> waiting;
  int depth = 0;
  int deepest = 0;
  int served = 0;
  for (int i = 0; i < 1000; ++i) {
    waiting.push_back(*rotator.WhenUsable({}, [&](Lease mine) {
      deepest = std::max(deepest, ++depth);
      { const Lease ended = std::move(mine); }
      ++served;
      --depth;
    }));
  }
  lease.reset();
  CHECK(served == 1000);
  CHECK(deepest == 1);
}

TEST_CASE("of those who wait a batch is served after all that are interactive",
          "[rotator][wait][priority]") {
  Pool pool("A");
  pool.rotator.MarkRateLimited(*pool.rotator.Pick(), seconds(10));
  std::string served;
  std::vector<Lease> leases;
  std::vector<decltype(pool.rotator)::Waiting> waiting;
  const auto wait = [&](const char* who, Priority priority) {
    auto place = pool.rotator.WhenUsable({.priority = priority},
                                         [&served, &leases, who](Lease lease) {
                                           served += who;
                                           leases.push_back(std::move(lease));
                                         });
    REQUIRE(place);
    waiting.push_back(std::move(*place));
  };
  wait("1", Priority::kBatch);
  wait("2", Priority::kBatch);
  wait("a", Priority::kInteractive);
  wait("3", Priority::kBatch);
  wait("b", Priority::kInteractive);
  pool.clock.Advance(seconds(10));
  pool.rotator.Poll();
  // A key that has returned serves one, and two for each that turns out well.
  while (!leases.empty()) {
    const Lease lease = std::move(leases.front());
    leases.erase(leases.begin());
    pool.rotator.MarkSucceeded(lease);
  }
  CHECK(served == "ab123");
}

// Two requests are left, and somebody who is interactive has just been there.
void LeaveTwo(Pool& pool) {
  pool.rotator.ReportLimits(*pool.rotator.Pick(), Requests(60, 3, seconds(57)));
  REQUIRE(pool.rotator.Pick());
}

TEST_CASE("who is interactive does not wait behind a batch that waits",
          "[rotator][wait][priority]") {
  Pool pool("A");
  LeaveTwo(pool);
  // Two are left, less the reserve and what a batch leaves to others.
  bool served = false;
  const auto batch = pool.rotator.WhenUsable(
      {.priority = Priority::kBatch}, [&](const Lease&) { served = true; });
  REQUIRE(batch);
  CHECK_FALSE(served);
  CHECK(pool.rotator.Pick({}, Queue::kInLine));
  CHECK_FALSE(
      pool.rotator.Pick({.priority = Priority::kBatch}, Queue::kInLine));
}

TEST_CASE("a batch that is alone gets everything",
          "[rotator][wait][priority]") {
  Pool pool("A");
  const PickHint batch{.priority = Priority::kBatch};
  const auto lease = pool.rotator.Pick(batch);
  pool.rotator.ReportLimits(*lease, Requests(60, 5, seconds(55)));
  int count = 0;
  while (pool.rotator.Pick(batch)) ++count;
  CHECK(count == 4);  // but for the reserve

  // Somebody else leaves it alone for a minute after the last request.
  Pool shared("A");
  shared.rotator.ReportLimits(*shared.rotator.Pick(),
                              Requests(60, 7, seconds(53)));
  CHECK(shared.rotator.Pick());
  count = 0;
  while (shared.rotator.Pick(batch)) ++count;
  CHECK(count == 2);  // of six, less three and the reserve
  shared.clock.Advance(seconds(61));
  count = 0;
  while (shared.rotator.Pick(batch)) ++count;
  CHECK(count == 59);  // all but for the reserve
}

TEST_CASE("a batch waits no longer than until there is enough for it",
          "[rotator][wait][priority]") {
  Pool pool("A");
  LeaveTwo(pool);
  bool served = false;
  const auto batch = pool.rotator.WhenUsable(
      {.priority = Priority::kBatch}, [&](const Lease&) { served = true; });
  CHECK_FALSE(served);
  for (int i = 0; i < 10 && !served; ++i) {
    const auto due = pool.rotator.Poll();
    REQUIRE(due);
    REQUIRE(*due > pool.clock.now());
    pool.clock.AdvanceTo(*due);
    pool.rotator.Poll();
  }
  CHECK(served);
}

TEST_CASE("slow start lets few out of those who can wait, and all others",
          "[rotator][wait][slow_start]") {
  Pool pool("A");
  const PickHint patient{.initial_window = 4};
  std::vector<Lease> leases;
  for (int i = 0; i < 100; ++i) {
    if (auto lease = pool.rotator.Pick(patient, Queue::kInLine))
      leases.push_back(std::move(*lease));
  }

  CHECK(leases.size() == 4);
  CHECK(pool.rotator.Availability().available == 1);
  CHECK(pool.rotator.Pick(patient));  // it overtakes

  SECTION("each that turns out well makes room for two") {
    for (Lease& lease : leases) pool.rotator.MarkSucceeded(lease);
    for (int i = 0; i < 6; ++i)
      CHECK(pool.rotator.Pick(patient, Queue::kInLine));
  }
  SECTION("what the provider says of its limits ends it") {
    pool.rotator.ReportLimits(leases[0], Requests(60, 50, seconds(10)));
    std::vector<Lease> more;
    while (auto lease = pool.rotator.Pick(patient, Queue::kInLine))
      more.push_back(std::move(*lease));
    CHECK(more.size() > 40);
  }
  SECTION("a second without a refusal makes room") {
    bool served = false;
    const auto waiting =
        pool.rotator.WhenUsable(patient, [&](const Lease&) { served = true; });
    CHECK_FALSE(served);
    pool.clock.Advance(seconds(1));
    pool.rotator.Poll();
    CHECK(served);
  }
  SECTION("the end of a lease makes room") {
    leases.pop_back();
    CHECK(pool.rotator.Pick(patient, Queue::kInLine));
  }
}

TEST_CASE("who need not wait is no waiter", "[rotator][wait]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {.max_waiters = 1}, RoundRobin{}, clock);
  rotator.MarkRateLimited(*rotator.Pick({.scope = "busy"}), seconds(60));
  const auto waiting =
      rotator.WhenUsable({.scope = "busy"}, [](const Lease&) {});
  bool served = false;
  CHECK(rotator.WhenUsable({.scope = "idle"},
                           [&](const Lease&) { served = true; }));
  CHECK(served);
}

TEST_CASE("a cost that is no number counts as not known", "[rotator]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {}, RoundRobin{}, clock);
  const double inf = std::numeric_limits<double>::infinity();
  const auto report = [&](double remaining, Span reset, double cost) {
    const auto lease = rotator.Pick({.cost = cost});
    REQUIRE(lease);
    rotator.ReportLimits(
        *lease,
        {.tokens = {.limit = 1000, .remaining = remaining, .reset = reset}});
  };
  report(1000, seconds(0), std::nan(""));
  report(500, seconds(30), inf);
  report(500, seconds(30), -5);
  clock.Advance(hours(1));
  CHECK(rotator.Pick({.cost = std::nan("")}));
  CHECK(rotator.Pick({.cost = 900}));
}

TEST_CASE("what WhenUsable calls may mark its lease and wait again",
          "[rotator][wait]") {
  ManualClock clock;
  KeyRotator rotator(Letters("AB"), {}, FirstAvailable{}, clock);
  using Waiting = decltype(rotator)::Waiting;
  std::vector<std::string> served;
  std::optional<Waiting> again;
  const std::optional<Waiting> first = rotator.WhenUsable({}, [&](Lease lease) {
    served.emplace_back(lease.name());
    rotator.MarkRateLimited(lease, seconds(5));
    again = rotator.WhenUsable(
        {}, [&](const Lease& other) { served.emplace_back(other.name()); });
  });
  CHECK(served == std::vector<std::string>{"A", "B"});
}

TEST_CASE("events tell each change once, and the keys at the start are no news",
          "[rotator]") {
  std::vector<std::string> events;
  ManualClock clock;
  Rotator rotator(Letters("AB"),
                  {.on_event =
                       [&](const KeyEvent& event) {
                         events.push_back(fmt::format("{}", event));
                       }},
                  {}, clock);
  rotator.MarkRateLimited(*rotator.Pick({.scope = "m"}), seconds(20));
  rotator.MarkRateLimited("secret-A", seconds(10));
  rotator.MarkRateLimited("secret-A", seconds(5));
  rotator.MarkFailed("secret-B");
  rotator.MarkFailed("secret-B");
  rotator.Pick();
  rotator.Pick();
  clock.Advance(seconds(10));
  rotator.Pick();
  rotator.Add(ApiKey("c", {.name = "C"}));
  rotator.Remove("c");
  rotator.Restore("secret-B");
  CHECK(events == std::vector<std::string>{
                      "A cooled in m for 20s", "A cooled for 10s", "B failed",
                      "no key left, returns in 10s", "A returned", "C added",
                      "C removed", "B returned"});
}

TEST_CASE("nothing is heard of a removed key when its rest would have ended",
          "[rotator]") {
  const bool lent = GENERATE(true, false);
  std::vector<std::string> events;
  ManualClock clock;
  Rotator rotator(
      {ApiKey("a", {.name = "A", .group = "org"}), ApiKey("b", {.name = "B"})},
      {.retry_failed_after = seconds(45),
       .on_event =
           [&](const KeyEvent& event) {
             events.push_back(fmt::format("{}", event));
           }},
      {}, clock);
  std::optional<Lease> lease = rotator.Pick({.scope = "m"});
  REQUIRE(lease->name() == "A");
  rotator.MarkRateLimited(*lease, seconds(10));  // the group, in m
  rotator.MarkRateLimited("a", seconds(20));     // the group
  rotator.MarkNoAccess("a", "n", seconds(30));   // the key, in n
  rotator.Settle("a", {.kind = Report::Kind::kRateLimited,
                       .retry_after = seconds(40),
                       .reach = Reach::kKey});
  rotator.MarkFailed("a");
  if (!lent) lease.reset();
  rotator.Remove("a");
  const std::size_t told = events.size();
  clock.Advance(seconds(50));
  rotator.Pick({.scope = "m"});
  rotator.Pick({.scope = "n"});
  CHECK(rotator.NextAvailable() == clock.now());
  CHECK(events.size() == told);
}

TEST_CASE("an event handler may call the rotator", "[rotator]") {
  Rotator* self = nullptr;
  std::size_t available = 99;
  Rotator rotator(Letters("AB"), {.on_event = [&](const KeyEvent&) {
                    available = self->Available();
                  }});
  self = &rotator;
  rotator.MarkFailed("secret-A");
  CHECK(available == 1);
}

TEST_CASE("a snapshot has a row a key with its state, counts and scopes",
          "[rotator]") {
  Pool pool("AB");
  const auto lease = pool.rotator.Pick({.scope = "m"});
  pool.rotator.MarkSucceeded(*lease);
  pool.rotator.MarkRateLimited(*lease, seconds(12));
  const KeyStatus row = Row(pool.rotator, "A");
  CHECK(row.state == KeyState::kAvailable);
  CHECK(row.in_flight == 1);
  CHECK(row.picks == 1);
  CHECK(row.successes == 1);
  CHECK(row.rate_limits == 1);
  REQUIRE(row.scopes.size() == 1);
  CHECK(row.scopes[0].scope == "m");
  CHECK(row.scopes[0].state == KeyState::kCooling);
  CHECK(row.scopes[0].returns_in == seconds(12));
}

TEST_CASE(
    "Redact replaces secrets by names, also escaped, also of removed keys that "
    "are lent",
    "[rotator][S21][T18]") {
  KeyRotator rotator({ApiKey("sk-one\"/x", {.name = "one"}),
                      ApiKey("sk-two", {.name = "two"})});
  auto one = rotator.Pick();
  rotator.Remove(*one);
  CHECK(rotator.Redact(R"(a sk-one"/x b sk-one\"\/x c sk-two)") ==
        "a [one] b [one] c [two]");
  one.reset();
  CHECK(rotator.Redact("sk-one\"/x sk-two") == "sk-one\"/x [two]");
}

TEST_CASE("a rotator prints leases and keys by name", "[rotator][P13]") {
  Pool pool("A");
  const auto lease = pool.rotator.Pick();
  std::ostringstream out;
  out << *lease << ' ' << ApiKey("sk-1") << ' '
      << ApiKey("sk-1", {.name = "x"});
  CHECK(out.str() == "A (unnamed key) x");
  CHECK(fmt::format("{} {:>3}", *lease, *lease) == "A   A");
}

// --- What a random test found ---

TEST_CASE(
    "the least recently used scope is forgotten, though no pick found a "
    "key there",
    "[scopes]") {
  // A scope that was forgotten tells again that no key is left.
  const char* names[] = {"m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"};
  for (const char* newest : names) {
    int told = 0;
    RotatorOptions options;
    options.max_scopes = 8;
    options.on_event = [&](const KeyEvent&) { ++told; };
    KeyRotator rotator(ApiKeys{}, options);
    for (const char* name : names) rotator.Pick({.scope = name});
    // All are used once more, `newest` last.
    for (const char* name : names) {
      if (name != newest) rotator.Pick({.scope = name});
    }
    rotator.Pick({.scope = newest});
    rotator.Pick({.scope = "another"});
    told = 0;
    rotator.Pick({.scope = newest});
    CHECK(told == 0);
  }
}

TEST_CASE(
    "when more scopes than max_scopes fall idle, those above it are "
    "forgotten",
    "[scopes]") {
  RotatorOptions options;
  options.max_scopes = 2;
  KeyRotator rotator({"sk-0", "sk-1"}, options, RoundRobin{}, ManualClock());
  {
    std::vector<Lease> leases;
    for (const char* name : {"m1", "m2", "m3", "m4", "m5", "m6"})
      leases.push_back(*rotator.Pick({.scope = name}));
  }
  // Nothing is out, nothing cools: of the old ones at most one is left.
  rotator.Pick({.scope = "new"});
  // Each scope that is remembered is at its second key.
  int remembered = 0;
  for (const char* name : {"m6", "m5", "m4", "m3", "m2"}) {
    if (rotator.Pick({.scope = name})->Reveal() == "sk-1") ++remembered;
  }
  CHECK(remembered <= 1);
}

TEST_CASE(
    "a key that returned on trial does not return once more when it is "
    "restored",
    "[events]") {
  int returns = 0;
  RotatorOptions options;
  options.retry_failed_after = seconds(10);
  options.on_event = [&](const KeyEvent& event) {
    if (event.kind == KeyEvent::Kind::kReturned) ++returns;
  };
  ManualClock clock;
  KeyRotator rotator({"sk-0"}, options, RoundRobin{}, clock);
  rotator.MarkFailed("sk-0");
  clock.Advance(seconds(10));
  rotator.Snapshot();
  CHECK(returns == 1);
  rotator.Restore("sk-0");
  CHECK(returns == 1);
}

TEST_CASE(
    "a call that throws changes nothing, and what came due is told by the next",
    "[events]") {
  int returns = 0;
  RotatorOptions options;
  options.on_event = [&](const KeyEvent& event) {
    if (event.kind == KeyEvent::Kind::kReturned) ++returns;
  };
  ManualClock clock;
  KeyRotator rotator({"sk-0"}, options, RoundRobin{}, clock);
  rotator.MarkRateLimited("sk-0", seconds(10));
  clock.Advance(seconds(10));
  CHECK_THROWS(rotator.Add("sk-\n1"));
  CHECK(returns == 0);
  CHECK(rotator.Available() == 1);
  CHECK(returns == 1);
}

TEST_CASE(
    "a burst before the first report does not hold a key back for as "
    "long again",
    "[limits]") {
  ManualClock clock;
  KeyRotator rotator({"sk-0"}, {}, RoundRobin{}, clock);
  std::vector<Lease> leases;
  for (int i = 0; i < 60; ++i) leases.push_back(*rotator.Pick());
  // The provider admitted all 60 of 60, refills one a second, and the answers
  // come together, the last first.
  for (int i = 59; i >= 0; --i) {
    rotator.ReportLimits(leases[static_cast<std::size_t>(i)],
                         {.requests = {.limit = 60,
                                       .remaining = 59.0 - i,
                                       .reset = std::chrono::seconds(i + 1)},
                          .tokens = {}});
  }
  leases.clear();
  clock.Advance(seconds(2));  // the provider has two again
  CHECK(rotator.Available() == 1);
}

TEST_CASE("what is in flight in another scope is not taken off a first report",
          "[limits]") {
  ManualClock clock;
  KeyRotator rotator({"sk-0"}, {}, RoundRobin{}, clock);
  std::vector<Lease> others;
  for (int i = 0; i < 30; ++i) others.push_back(*rotator.Pick({.scope = "m1"}));
  const auto lease = rotator.Pick({.scope = "m2"});
  rotator.ReportLimits(
      *lease, {.requests = {.limit = 10, .remaining = 9, .reset = seconds(6)},
               .tokens = {}});
  CHECK(rotator.Available({.scope = "m2"}) == 1);
}

TEST_CASE(
    "what was leased after the first report is taken off a later one "
    "from before it",
    "[limits]") {
  ManualClock clock;
  KeyRotator rotator({"sk-0"}, {}, RoundRobin{}, clock);
  const auto tokens = [](double left) {
    return RateLimits{
        .requests = {},
        .tokens = {.limit = 100, .remaining = left, .reset = seconds(60)}};
  };
  const auto a = rotator.Pick({.cost = 1});
  const auto b = rotator.Pick({.cost = 1});
  rotator.ReportLimits(*a, tokens(99));
  const auto c = rotator.Pick({.cost = 90});  // the provider has 8 left
  REQUIRE(c);
  rotator.ReportLimits(*b, tokens(98));
  CHECK(rotator.Available({.cost = 50}) == 0);
}

// --- No access ---

TEST_CASE("a key without access rests in that scope, and no other key does",
          "[rotator][access]") {
  ManualClock clock;
  KeyRotator rotator({ApiKey("secret-A", {.name = "A", .group = "org"}),
                      ApiKey("secret-B", {.name = "B", .group = "org"})},
                     {}, RoundRobin{}, clock);
  CHECK(rotator.MarkNoAccess("secret-A", "gpt-5", minutes(10)));
  CHECK(PickNames(rotator, 4, {.scope = "gpt-5"}) == "B B B B");
  CHECK(PickNames(rotator, 4, {.scope = "gpt-4o"}) == "A B A B");
  CHECK(PickNames(rotator, 4) == "A B A B");
  const KeyStatus row = Row(rotator, "A");
  CHECK(row.state == KeyState::kAvailable);
  REQUIRE(row.scopes.size() == 1);
  CHECK_FALSE(row.scopes[0].has_access);
  CHECK(row.scopes[0].state == KeyState::kCooling);
  CHECK(row.scopes[0].returns_in == minutes(10));
  CHECK(fmt::format("{}", row).find("; no access to gpt-5, returns in 600s") !=
        std::string::npos);
  CHECK(Row(rotator, "B").scopes.empty());
  CHECK(rotator.Availability({.scope = "gpt-5"}).cooling == 1);
}

TEST_CASE(
    "after its rest one request tries the key's access, and each rest is twice "
    "as long",
    "[rotator][access]") {
  ManualClock clock;
  KeyRotator rotator(Letters("A"), {}, RoundRobin{}, clock);
  const PickHint hint{.scope = "m"};
  for (const int expected : {10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440}) {
    rotator.MarkNoAccess("secret-A", "m", minutes(10));
    CHECK(rotator.NextAvailable(hint) == clock.now() + minutes(expected));
    clock.Advance(minutes(expected) - nanoseconds(1));
    CHECK_FALSE(rotator.Pick(hint));
    clock.Advance(nanoseconds(1));
    const std::optional<Lease> trial = rotator.Pick(hint);
    REQUIRE(trial);
    CHECK_FALSE(rotator.Pick(hint));  // the trial is taken
  }
  std::optional<Lease> trial = rotator.Pick(hint);
  REQUIRE(trial);
  rotator.MarkSucceeded(*trial);  // it has access now
  CHECK(rotator.Pick(hint));
  rotator.MarkNoAccess("secret-A", "m", minutes(10));
  CHECK(rotator.NextAvailable(hint) == clock.now() + minutes(10));
}

TEST_CASE("Restore gives a key its access back, everywhere",
          "[rotator][access]") {
  ManualClock clock;
  std::vector<std::string> told;
  KeyRotator rotator(Letters("AB"),
                     {.on_event =
                          [&](const KeyEvent& event) {
                            told.push_back(fmt::format("{}", event));
                          }},
                     RoundRobin{}, clock);
  rotator.MarkNoAccess("secret-A", "m1", minutes(10));
  rotator.MarkNoAccess("secret-A", "m1", minutes(10));  // no news
  rotator.MarkNoAccess("secret-A", "m2", minutes(10));
  CHECK(rotator.Restore("secret-A"));
  CHECK(PickNames(rotator, 2, {.scope = "m1"}) == "A B");
  CHECK(PickNames(rotator, 2, {.scope = "m2"}) == "A B");
  std::sort(told.begin(), told.end());
  CHECK(told == std::vector<std::string>{
                    "A no access to m1 for 600s", "A no access to m2 for 600s",
                    "A returned in m1", "A returned in m2"});
}

TEST_CASE(
    "a key without access may be removed, and one that waits is served by its "
    "return",
    "[rotator][access]") {
  ManualClock clock;
  KeyRotator rotator(Letters("AB"), {}, RoundRobin{}, clock);
  rotator.MarkNoAccess("secret-A", "m", minutes(10));
  rotator.MarkNoAccess("secret-B", "m", minutes(20));
  CHECK(rotator.Remove("secret-B"));
  std::string served;
  const auto waiting = rotator.WhenUsable(
      {.scope = "m"}, [&](const Lease& lease) { served = lease.name(); });
  REQUIRE(waiting);
  CHECK(served.empty());
  CHECK(rotator.Poll() == clock.now() + minutes(10));
  clock.Advance(minutes(10));
  rotator.Poll();
  CHECK(served == "A");
  rotator.Replace(Letters("CA"));
  CHECK(PickNames(rotator, 2, {.scope = "m"}) == "C A");
}

TEST_CASE(
    "no sequence of calls lends a key where it has no access, or hides one",
    "[rotator][access]") {
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return random() % n; };
  const std::vector<std::string> scopes{"", "m1", "m2"};
  ManualClock clock;
  KeyRotator rotator(Letters("ABCD"), {.max_scopes = 2}, RoundRobin{}, clock);
  std::string here = "ABCD";
  // By name and scope: when the rest ends, and how long the next one is.
  std::map<std::pair<char, std::string>, ManualClock::time_point> rests;
  for (int step = 0; step < 20'000; ++step) {
    const std::string& scope = scopes[below(scopes.size())];
    const char name = "ABCDEF"[below(6)];
    const std::string value = std::string("secret-") + name;
    switch (below(8)) {
      case 0:
        if (rotator.MarkNoAccess(value, scope, seconds(1 + below(60)))) {
          rotator.MarkNoAccess(value, scope, seconds(1));  // changes nothing
          for (const ScopeStatus& row : Row(rotator, {&name, 1}).scopes) {
            if (row.scope != scope) continue;
            REQUIRE(row.returns_in);
            rests[{name, scope}] = clock.now() + *row.returns_in;
          }
        }
        break;
      case 1:
        clock.Advance(seconds(below(90)));
        break;
      case 2:
        if (rotator.Restore(value))
          std::erase_if(rests,
                        [&](const auto& r) { return r.first.first == name; });
        break;
      case 3: {
        here.clear();
        for (const char c : {'F', 'E', 'D', 'C', 'B', 'A'}) {
          if (below(2) == 0) here += c;
        }
        rotator.Replace(Letters(here));
        std::erase_if(rests, [&](const auto& r) {
          return here.find(r.first.first) == std::string::npos;
        });
        break;
      }
      default: {
        std::string usable;
        for (const char c : here) {
          const auto rest = rests.find({c, scope});
          if (rest == rests.end() || rest->second <= clock.now()) usable += c;
        }
        const std::string picked = PickName(rotator, {.scope = scope});
        INFO("step " << step << ", usable in '" << scope << "': " << usable);
        if (usable.empty()) {
          REQUIRE(picked == "none");
        } else {
          REQUIRE(usable.find(picked) != std::string::npos);
        }
        REQUIRE(rotator.Available({.scope = scope}) == usable.size());
      }
    }
  }
}

// --- In line ---

TEST_CASE(
    "a pick in line finds no key while others wait in its scope, an overtaking "
    "one does",
    "[rotator]") {
  ManualClock clock;
  KeyRotator rotator(Letters("AB"), {}, RoundRobin{}, clock);
  rotator.MarkRateLimited("secret-B", seconds(10));
  const std::vector<KeyId> not_a{Row(rotator, "A").id};
  std::string served;
  auto waiting =
      rotator.WhenUsable({.scope = "m", .exclude = not_a},
                         [&](const Lease& lease) { served = lease.name(); });
  REQUIRE(waiting);
  CHECK_FALSE(rotator.Pick({.scope = "m"}, Queue::kInLine));
  CHECK(PickName(rotator, {.scope = "m"}) == "A");
  CHECK(rotator.Pick({.scope = "other"}, Queue::kInLine));
  CHECK(served.empty());
  waiting.reset();
  CHECK(rotator.Pick({.scope = "m"}, Queue::kInLine));
}

// --- After the rotator ---

TEST_CASE("a trial and a place in the queue may outlive the rotator",
          "[rotator]") {
  ManualClock clock;
  std::optional<KeyRotator<RoundRobin, ManualClock>> rotator;
  rotator.emplace(Letters("ABC"), RotatorOptions{.cooldown = seconds(1)},
                  RoundRobin{}, clock);
  rotator->MarkRateLimited("secret-A");
  rotator->MarkRateLimited("secret-B", seconds(60));
  rotator->MarkRateLimited("secret-C", seconds(60), Reach::kKey);
  clock.Advance(seconds(1));
  std::optional<Lease> trial = rotator->Pick();
  REQUIRE(trial);
  bool called = false;
  auto waiting = rotator->WhenUsable({}, [&](const Lease&) { called = true; });
  REQUIRE(waiting);
  rotator.reset();  // while the others cool
  CHECK(trial->name() == "A");
  trial.reset();
  waiting.reset();
  CHECK_FALSE(called);
}

}  // namespace
}  // namespace keyrotator::testing::key_rotator_test
