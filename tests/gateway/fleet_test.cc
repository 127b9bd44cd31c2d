// Gateways with the same keys, as one over a real redis-server.

#ifdef KEYROTATOR_GATEWAY_HAS_REDIS

#include "gateway/fleet.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider.h"
#include "gateway/server.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/testing/fake_provider.h"
#include "tests/gateway/support.h"
#include "tests/support/catch.h"
#include "tests/support/redis_server.h"
#include "tests/support/skip_without_redis.h"

namespace gateway_fleet_test {
namespace {

using gateway::testing::Answered;
using gateway::testing::Client;
using gateway::testing::Eventually;
using gateway::testing::FakeProvider;
using gateway::testing::ProviderAt;
using gateway::testing::RunningGateway;
using keyrotator::ProviderConfig;
using keyrotator::testing::RedisServer;
using keyrotator::testing::SkipWithoutRedis;

ProviderConfig InFleet(const FakeProvider& provider, const RedisServer& redis) {
  ProviderConfig config =
      ProviderAt(provider.base_url(), {"sk-dead-key", "sk-good-key"});
  config.key_selection = "first-available";
  config.fleet =
      keyrotator::FleetConfig{.redis = redis.url(),
                              .pool = "gateways",
                              .period = std::chrono::milliseconds(50)};
  return config;
}

Answered Ask(const RunningGateway& running, std::string_view path) {
  Client client(running.port());
  client.Send("GET " + std::string(path) +
              " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  return client.Read();
}

keyrotator::FleetStatus StatusOf(RunningGateway& running) {
  return running.state().providers().front()->fleet->Status();
}

TEST_CASE("a key that two gateways found dead is not sent by a third",
          "[gateway]") {
  if (SkipWithoutRedis()) return;
  RedisServer redis;
  const FakeProvider provider(
      {.keys = {{"sk-dead-key",
                 {.state = keyrotator::testing::FakeKeyState::kRevoked}},
                {"sk-good-key", {}}}});
  RunningGateway one({InFleet(provider, redis)});
  RunningGateway two({InFleet(provider, redis)});
  RunningGateway three({InFleet(provider, redis)});
  const std::vector<RunningGateway*> all = {&one, &two, &three};
  for (RunningGateway* running : all) {
    REQUIRE(Eventually([&] { return StatusOf(*running).processes == 3; }));
  }

  CHECK(Ask(one, "/v1/files").status == 200);
  REQUIRE(Eventually([&] { return StatusOf(two).doubted_keys == 1; }));
  CHECK(Ask(two, "/v1/files").status == 200);
  REQUIRE(Eventually([&] { return StatusOf(three).failed_keys == 1; }));
  for (RunningGateway* running : all) {
    for (int i = 0; i < 3; ++i) CHECK(Ask(*running, "/v1/files").status == 200);
  }
  CHECK(provider.Counts("sk-dead-key").requests == 2);

  const std::string status = Ask(three, "/status").body;
  CHECK(status.find("\"fleet\":{\"is_connected\":true") != status.npos);
  CHECK(status.find("\"failed_keys\":1") != status.npos);
  const std::string metrics = Ask(three, "/metrics").body;
  CHECK(metrics.find("keyrotator_fleet_failed_keys{provider=\"main\"} 1") !=
        metrics.npos);
  CHECK(three.log().find("The pool gateways has no secret") !=
        std::string::npos);
}

TEST_CASE("a gateway starts and serves without the fleet's Redis",
          "[gateway]") {
  if (SkipWithoutRedis()) return;
  RedisServer redis;
  redis.Kill();
  const FakeProvider provider(
      {.keys = {{"sk-dead-key", {}}, {"sk-good-key", {}}}});
  RunningGateway running({InFleet(provider, redis)});
  CHECK(Ask(running, "/v1/files").status == 200);
  CHECK(Eventually([&] { return StatusOf(running).misses > 0; }));
  CHECK_FALSE(StatusOf(running).is_connected);
  CHECK(Ask(running, "/status").body.find("\"is_connected\":false") !=
        std::string::npos);
  CHECK(Eventually(
      [&] { return running.log().find("fleet") != std::string::npos; }));
}

TEST_CASE("a fleet that cannot be is refused at the start", "[gateway]") {
  const FakeProvider provider({.keys = {{"sk-good-key", {}}}});
  ProviderConfig config = ProviderAt(provider.base_url(), {"sk-good-key"});
  config.fleet = keyrotator::FleetConfig{.redis = "http://cache", .pool = "p"};
  CHECK_THROWS_AS(RunningGateway({config}), keyrotator::ConfigError);
}

}  // namespace
}  // namespace gateway_fleet_test

#endif  // KEYROTATOR_GATEWAY_HAS_REDIS
