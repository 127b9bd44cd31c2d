#include "keyrotator/openai/make_client.h"

#include <chrono>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing::openai_make_client_test {
namespace {

using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<ProviderClient<CurlTransport>> &&
              !std::is_move_constructible_v<ProviderClient<CurlTransport>>);

ProviderConfig ConfigFor(const FakeProvider& provider) {
  return {.name = "fake",
          .base_url = provider.base_url(),
          .api_keys = {{.key = "sk-a", .options = {.name = "A"}},
                       {.key_env = "KEY_B", .options = {.name = "B"}}}};
}

const char* KeyB(const char* name) {
  return name == std::string("KEY_B") ? "sk-b" : nullptr;
}

// On a clock that jumps where somebody would wait.
auto MakeTestClient(const ProviderConfig& config,
                    ManualClock clock = ManualClock(),
                    RotatorOptions rotator_options = {}) {
  clock.AdvanceWhenWaiting();
  return MakeClient(config, MakeTransport<CurlTransport>(), {},
                    std::move(rotator_options), clock, KeyB);
}

TEST_CASE("a client is made of a configuration and goes on with another key",
          "[make_client]") {
  FakeProvider provider(
      {.keys = {{"sk-a", {.state = FakeKeyState::kRevoked}}, {"sk-b", {}}}});
  auto client = MakeTestClient(ConfigFor(provider));
  const Reply reply = client.ChatCompletion(Chat());
  CHECK(reply.ok());
  CHECK(Trail(reply) == "A 401, B 200");
  CHECK(Row(client.rotator(), "A").state == KeyState::kFailed);
  CHECK(client.ChatCompletion(Chat()).trail.size() == 1);
}

TEST_CASE("it is an OpenAIClient for whoever takes one", "[make_client]") {
  FakeProvider provider({.keys = {{"sk-a", {}}, {"sk-b", {}}}});
  auto client = MakeTestClient(ConfigFor(provider));
  const auto ask = []<class Transport, class Rotator>(
                       OpenAIClient<Transport, Rotator>& any) {
    return any.ChatCompletion(Chat()).ok();
  };
  CHECK(ask(client));
}

TEST_CASE("selection, cooldown and events are as configured", "[make_client]") {
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.requests = 1, .per = 1h}}}, {"sk-b", {}}},
       .style = ProviderStyle::kSilent});
  ProviderConfig config = ConfigFor(provider);
  config.key_selection = "first-available";
  config.cooldown = Cooldown{.initial = 90s};
  std::vector<KeyEvent> events;
  ManualClock clock;
  auto client = MakeTestClient(
      config, clock,
      {.on_event = [&](const KeyEvent& event) { events.push_back(event); }});
  CHECK(Trail(client.ChatCompletion(Chat())) == "A 200");
  const auto before = clock.now();
  CHECK(Trail(client.ChatCompletion(Chat())) == "A 429, B 200");
  CHECK(events.size() == 1);
  CHECK(client.rotator().Available({.scope = "gpt-4o"}) == 1);
  clock.Advance(before + 90s - clock.now() - 1ns);
  CHECK(client.rotator().Available({.scope = "gpt-4o"}) == 1);
  clock.Advance(1ns);
  CHECK(client.rotator().Available({.scope = "gpt-4o"}) == 2);
}

TEST_CASE("the header that carries the key is as configured", "[make_client]") {
  ProviderConfig config{.auth_header = "api-key", .auth_prefix = ""};
  config.allow_http = true;
  config.retry.max_retries = 7;
  ClientOptions rest;
  rest.headers.Add("X-Title", "test");
  const ClientOptions options = MakeClientOptions(config, rest);
  CHECK(options.auth_header == "api-key");
  CHECK(options.auth_prefix.empty());
  CHECK(options.allow_http);
  CHECK(options.retry.max_retries == 7);
  CHECK(options.headers.Find("X-Title") == "test");

  FakeProvider provider({.keys = {{"sk-a", {}}}});
  ProviderConfig wrong = ConfigFor(provider);
  wrong.auth_prefix = "Basic ";
  CHECK(MakeTestClient(wrong).ChatCompletion(Chat()).outcome ==
        Outcome::kAllFailed);
}

TEST_CASE("a configuration without a key makes no client", "[make_client]") {
  CHECK_THROWS_AS(MakeTestClient({.name = "p",
                                  .base_url = "https://localhost/v1",
                                  .api_keys = {{.key_env = "KEY_C"}}}),
                  ConfigError);
}

TEST_CASE("a base URL that cannot be used is told by the first reply",
          "[make_client]") {
  auto client = MakeTestClient({.base_url = "", .api_keys = {{.key = "sk-a"}}});
  CHECK(client.ChatCompletion(Chat()).outcome == Outcome::kCallerError);
}

}  // namespace
}  // namespace keyrotator::testing::openai_make_client_test
