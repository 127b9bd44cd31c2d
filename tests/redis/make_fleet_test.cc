#include "keyrotator/redis/make_fleet.h"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/fleet/fleet.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/redis/redis_exchange.h"
#include "keyrotator/selection.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/leaks.h"
#include "tests/support/redis_server.h"
#include "tests/support/skip_without_redis.h"

namespace keyrotator::make_fleet_test {
namespace {

using namespace std::chrono_literals;
using testing::ContainsSubstring;
using testing::FindLeak;
using testing::ManualClock;
using testing::RedisServer;
using testing::SkipWithoutRedis;

const std::string kPassword = "QzXw7RtY2uIoP9aSdFgH4j";

Environment Variables(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

using Rotator = KeyRotator<RoundRobin, ManualClock>;

Rotator OneKey(const ManualClock& clock) {
  return Rotator({ApiKey("sk-a", {.name = "a"})}, {}, RoundRobin{}, clock);
}

// On one thread, by Poll.
std::unique_ptr<Fleet> Join(Rotator& rotator, const FleetConfig& config,
                            const Environment& environment = Variables({}),
                            const OnWarning& on_warning = {}) {
  return MakeFleet(rotator, config,
                   {.has_thread = false, .random = [] { return 0.; }},
                   environment, on_warning);
}

std::string ErrorOf(const FleetConfig& config,
                    const Environment& environment = Variables({})) {
  const ManualClock clock;
  Rotator rotator = OneKey(clock);
  try {
    Join(rotator, config, environment);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

// Sends a message, now or when it is due.
void Talk(Fleet& fleet, ManualClock& clock) {
  const auto before = fleet.Status();
  for (int i = 0; i < 10; ++i) {
    clock.Advance(fleet.Poll());
    const auto now = fleet.Status();
    if (now.exchanges + now.misses > before.exchanges + before.misses) return;
  }
}

TEST_CASE("a configuration says what the exchange is to do", "[redis]") {
  const FleetConfig config{.redis = "redis://cache:6380/2",
                           .username = "us",
                           .password_env = "PASSWORD",
                           .pool = "prod",
                           .secret_env = "SECRET",
                           .clear_names = true};
  const RedisOptions options = MakeRedisOptions(
      config, Variables({{"PASSWORD", "p w\n"}, {"SECRET", "ours"}}),
      {.url = "redis://other", .pool = "other", .timeout = 70ms});
  CHECK(options.url.text() == "redis://cache:6380/2");
  CHECK(options.username.text() == "us");
  CHECK(options.password.text() == "p w");
  CHECK(options.pool == "prod");
  CHECK(options.secret.text() == "ours");
  CHECK(options.clear_names);
  CHECK(options.timeout == 70ms);
  const RedisOptions least =
      MakeRedisOptions({.redis = "redis://cache", .pool = "p"}, Variables({}));
  CHECK(least.password.text().empty());
  CHECK(least.secret.text().empty());
  CHECK_FALSE(least.clear_names);
}

TEST_CASE("two rotators of one configuration are a fleet", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server({"--requirepass", kPassword});
  const FleetConfig config{.redis = server.url(),
                           .password_env = "PASSWORD",
                           .pool = "prod",
                           .secret_env = "SECRET"};
  const auto environment =
      Variables({{"PASSWORD", kPassword}, {"SECRET", "ours"}});
  ManualClock clock;
  Rotator rotator = OneKey(clock);
  Rotator another = OneKey(clock);
  const auto fleet = Join(rotator, config, environment);
  const auto second = Join(another, config, environment);
  CHECK_FALSE(fleet->Status().is_connected);
  Talk(*fleet, clock);
  Talk(*second, clock);
  INFO(fleet->Status().error << second->Status().error);
  CHECK(fleet->Status().is_connected);
  CHECK(second->Status().processes == 2);
}

TEST_CASE("a fleet is made whether Redis is there or not", "[redis]") {
  ManualClock clock;
  Rotator rotator = OneKey(clock);
  const auto fleet =
      Join(rotator, {.redis = "unix:///nowhere/redis.sock", .pool = "prod"});
  REQUIRE(fleet != nullptr);
  Talk(*fleet, clock);
  CHECK(fleet->Status().misses == 1);
  CHECK_FALSE(fleet->Status().is_connected);
  CHECK(rotator.Pick().has_value());
}

TEST_CASE("the period is the configuration's, or else the caller's",
          "[redis]") {
  ManualClock clock;
  Rotator rotator = OneKey(clock);
  const std::string redis = "unix:///nowhere/redis.sock";
  const auto made = [&](std::optional<Span> period, Span of_caller) {
    return MakeFleet(rotator,
                     {.redis = redis, .pool = "prod", .period = period},
                     {.period = of_caller, .has_thread = false});
  };
  // One that is out of range is refused, so it is known which was taken.
  CHECK_NOTHROW(made(100ms, 1h));
  CHECK_NOTHROW(made({}, 100ms));
  CHECK_THROWS_AS(made({}, 1h), ConfigError);
  CHECK_THROWS_WITH(made(1h, 100ms),
                    "fleet: FleetOptions: period must be from 50 ms to 1 s");
}

TEST_CASE("a fleet without a secret is warned of", "[redis]") {
  ManualClock clock;
  Rotator rotator = OneKey(clock);
  std::vector<std::string> warnings;
  const OnWarning warn = [&](const std::string& text) {
    warnings.push_back(text);
  };
  FleetConfig config{.redis = "unix:///nowhere/redis.sock", .pool = "prod"};
  Join(rotator, config, Variables({}), warn);
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0], ContainsSubstring("pool prod has no secret"));
  config.secret_env = "SECRET";
  Join(rotator, config, Variables({{"SECRET", "ours"}}), warn);
  CHECK(warnings.size() == 1);
}

TEST_CASE("what cannot be used is an error without a secret",
          "[redis][secrets]") {
  const FleetConfig fine{.redis = "redis://:" + kPassword + "@cache",
                         .pool = "prod"};
  CHECK(ErrorOf(fine).empty());
  const auto error_with = [&](auto change) {
    FleetConfig config = fine;
    change(config);
    std::string error =
        ErrorOf(config, Variables({{"EMPTY", " "}, {"SECRET", kPassword}}));
    CHECK_FALSE(FindLeak(error, kPassword));
    return error;
  };
  CHECK(error_with([](FleetConfig& c) { c.password_env = "UNSET"; }) ==
        "fleet, password_env: not set, or empty: UNSET");
  CHECK(error_with([](FleetConfig& c) { c.secret_env = "EMPTY"; }) ==
        "fleet, secret_env: not set, or empty: EMPTY");
  CHECK(error_with([](FleetConfig& c) { c.secret_env = kPassword; }) ==
        "fleet, secret_env: not set, or empty: a variable");
  CHECK_THAT(error_with([](FleetConfig& c) { c.redis += ":x"; }),
             ContainsSubstring("fleet: The URL of Redis has a host or port"));
  CHECK_THAT(error_with([](FleetConfig& c) { c.pool = ""; }),
             ContainsSubstring("fleet: RedisOptions: pool must be"));
}

}  // namespace
}  // namespace keyrotator::make_fleet_test
