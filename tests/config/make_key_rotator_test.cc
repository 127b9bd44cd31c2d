#include "keyrotator/config/make_key_rotator.h"

#include <chrono>
#include <string>

#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/config.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing::config_make_key_rotator_test {
namespace {

using namespace std::chrono_literals;

TEST_CASE("a configuration's cooldowns are the rotator's and the client's",
          "[config]") {
  const RotatorOptions defaults;
  const RotatorOptions untouched = MakeRotatorOptions({});
  CHECK(untouched.cooldown == defaults.cooldown);
  CHECK(untouched.max_cooldown == defaults.max_cooldown);
  CHECK(MakeRotatorOptions({}, {.cooldown = 5s}).cooldown == 5s);
  const Cooldown own = RetryOptions().guess;
  CHECK(MakeRetryOptions({}).guess.initial == own.initial);
  CHECK(MakeRetryOptions({}).guess.multiplier == own.multiplier);
  CHECK(MakeRetryOptions({}).guess.max == own.max);

  const ProviderConfig config{
      .cooldown = Cooldown{.initial = 30s, .multiplier = 3},
      .max_cooldown = 1h};
  const RotatorOptions options = MakeRotatorOptions(config, {.max_scopes = 7});
  CHECK(options.cooldown == 30s);
  CHECK(options.max_cooldown == 1h);
  CHECK(options.cooldown_multiplier == 3);
  CHECK(options.max_scopes == 7);
  CHECK(MakeRetryOptions(config).guess.initial == 30s);
  CHECK(MakeRetryOptions(config).guess.multiplier == 3);

  // It replaces the guess of a client whole, and with it the learned pace.
  const Cooldown plain =
      MakeRetryOptions({.cooldown = Cooldown{.initial = 5min}}).guess;
  CHECK(plain.multiplier == 1);
  CHECK(plain.max >= 5min);
  CHECK_FALSE(plain.learn_pace);
  // A bound alone leaves the guess, and the learning, as they are.
  CHECK(MakeRetryOptions({.max_cooldown = 10s}).guess.initial == own.initial);
  CHECK(MakeRetryOptions({.max_cooldown = 10s}).guess.learn_pace);
  CHECK(MakeRetryOptions({.retry = {.max_retries = 9}}).max_retries == 9);
}

TEST_CASE("a configured budget of retries is the rotator's", "[config]") {
  CHECK(MakeRotatorOptions({}, {.retry_budget = {.ratio = 0.3}})
            .retry_budget.ratio == 0.3);
  const ProviderConfig config{.retry_budget =
                                  RetryBudget{.ratio = 0.1, .per_second = 2}};
  const RetryBudget budget =
      MakeRotatorOptions(config, {.retry_budget = {.ratio = 0.3}}).retry_budget;
  CHECK(budget.ratio == 0.1);
  CHECK(budget.per_second == 2);
}

TEST_CASE("a rotator is made as the configuration says", "[config]") {
  ManualClock clock;
  int events = 0;
  auto rotator = MakeKeyRotator(
      {.name = "p",
       .api_keys = {{.key = "sk-a", .options = {.name = "A", .weight = 3}},
                    {.key_env = "KEY_B", .options = {.name = "B"}}},
       .key_selection = "weighted",
       .cooldown = Cooldown{.initial = 10s}},
      {.on_event = [&](const KeyEvent&) { ++events; }}, clock,
      Env({{"KEY_B", "sk-b"}}));
  CHECK(PickNames(rotator, 4) == "A A B A");
  rotator.MarkRateLimited("sk-a");
  CHECK(events == 1);
  CHECK(PickNames(rotator, 2) == "B B");
  clock.Advance(10s);
  CHECK(rotator.Available() == 2);
}

TEST_CASE("a configured bound holds for guesses and hints", "[config]") {
  ManualClock clock;
  auto rotator = MakeKeyRotator({.api_keys = {{.key = "sk-a"}},
                                 .cooldown = Cooldown{.initial = 5min},
                                 .max_cooldown = 10s},
                                {}, clock);
  rotator.MarkRateLimited("sk-a");
  clock.Advance(10s);
  CHECK(rotator.Available() == 1);
  rotator.MarkRateLimited("sk-a", 1h);
  clock.Advance(10s);
  CHECK(rotator.Available() == 1);
}

TEST_CASE("where no limits are reported the default goes in turn", "[config]") {
  auto rotator =
      MakeKeyRotator({.api_keys = {{.key = "sk-a"}, {.key = "sk-b"}}});
  CHECK(PickNames(rotator, 4) == "key-1 key-2 key-1 key-2");
}

TEST_CASE("a rotator of 100,000 keys is made in a moment", "[config]") {
  ProviderConfig config{.name = "p"};
  for (int i = 0; i < 100'000; ++i)
    config.api_keys.push_back({.key = fmt::format("sk-{}", i)});
  const auto start = std::chrono::steady_clock::now();
  CHECK(MakeKeyRotator(config).Size() == 100'000);
  // Quadratic it would be minutes.
  CHECK(std::chrono::steady_clock::now() - start < 20s);
}

TEST_CASE("what no rotator can be made of is told with the provider",
          "[config][S20]") {
  const auto error = [](ProviderConfig config) {
    config.name = "p";
    if (config.api_keys.empty()) config.api_keys = {{.key = "sk-a"}};
    return Error([&] { MakeKeyRotator(config); });
  };
  CHECK_THAT(error({.key_selection = "round_robin"}),
             ContainsSubstring("provider \"p\": no such key selection") &&
                 ContainsSubstring("did you mean round-robin?"));
  CHECK_THAT(error({.key_selection = ""}),
             ContainsSubstring("provider \"p\": no such key selection"));
  CHECK_THAT(error({.cooldown = Cooldown{.initial = 0s}}),
             ContainsSubstring("provider \"p\": ") &&
                 ContainsSubstring("cooldown must be"));
  CHECK_THAT(error({.api_keys = {{.key = "a", .options = {.name = "N"}},
                                 {.key = "b", .options = {.name = "N"}}}}),
             ContainsSubstring("provider \"p\": ") &&
                 ContainsSubstring("another key has that name"));
}

TEST_CASE("a key that stands where its variable or file should is not shown",
          "[config][S21]") {
  const std::string secret =
      GENERATE(as<std::string>(), "sk-proj-Secret0123", "gsk_Secret0123");
  for (const ProviderConfig& config :
       {ProviderConfig{.api_keys = {{.key_env = secret}}},
        ProviderConfig{.api_keys = {{.key_file = secret}}},
        ProviderConfig{.api_key_env = secret},
        ProviderConfig{.api_keys = {{.key = secret + " " + secret}}},
        ProviderConfig{.api_keys = {{.key = "sk-a"}},
        .key_selection = secret}}) {
    const std::string message =
        Error([&] { MakeKeyRotator(config, {}, ManualClock(), Env({})); });
    CAPTURE(message);
    CHECK(message != "no error");
    CHECK(message.find("Secret") == message.npos);
  }
}

}  // namespace
}  // namespace keyrotator::testing::config_make_key_rotator_test
