#include "keyrotator/config/provider_config.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/config.h"

namespace keyrotator::testing::config_provider_config_test {
namespace {

// Nothing can print what holds a literal key.
static_assert(!fmt::is_formattable<KeyConfig>::value);
static_assert(!fmt::is_formattable<ProviderConfig>::value);

TEST_CASE("a provider's keys come from where each entry says", "[config]") {
  const TemporaryFile file("sk-c\nsk-d # spare\n");
  const ProviderConfig config{
      .name = "openai",
      .api_keys = {{.key = " sk-a\n", .options = {.name = "A", .weight = 2}},
                   {.key_env = "KEY_B", .options = {.group = "org"}},
                   {.key_env = "KEY_UNSET"},
                   {.key_file = file.name(), .options = {.max_in_flight = 3}}},
      .api_key_env = "KEY_OLD"};
  const ApiKeys keys =
      ResolveKeys(config, Env({{"KEY_B", "sk-b"}, {"KEY_OLD", "sk-old"}}));
  CHECK(Values(keys) == List{"sk-a", "sk-b", "sk-c", "sk-d"});
  const std::vector<ApiKey> rows(keys.begin(), keys.end());
  CHECK(rows[0].options().name == "A");
  CHECK(rows[0].options().weight == 2);
  CHECK(rows[1].options().group == "org");
  CHECK(rows[2].options().max_in_flight == 3);
  CHECK(rows[3].options().max_in_flight == 3);
}

TEST_CASE("the older single-key field is used when the others give none",
          "[config]") {
  const Environment env = Env({{"KEY_OLD", "sk-old"}});
  CHECK(Values(ResolveKeys({.api_key_env = "KEY_OLD"}, env)) == List{"sk-old"});
  CHECK(Values(ResolveKeys(
            {.api_keys = {{.key_env = "KEY_B"}}, .api_key_env = "KEY_OLD"},
            env)) == List{"sk-old"});
}

TEST_CASE("a provider without a key is told where it was looked for",
          "[config]") {
  const TemporaryFile file("# none yet\n");
  CHECK(Error([&] {
          ResolveKeys({.name = "openai",
                       .api_keys = {{.key_env = "KEY_A"},
                                    {.key_env = "KEY_B"},
                                    {.key_file = file.name()}},
                       .api_key_env = "KEY_OLD"},
                      Env({{"KEY_B", ""}}));
        }) ==
        "provider \"openai\" has no API key; not set, or empty: KEY_A, "
        "KEY_B, " +
            file.name() + ", KEY_OLD");
  CHECK(Error([] { ResolveKeys({}, Env({})); }) ==
        "the provider has no API key; neither api_keys nor api_key_env is "
        "given");
}

TEST_CASE("an entry has exactly one of key, key_env and key_file", "[config]") {
  const KeyConfig entry = GENERATE(
      KeyConfig{}, KeyConfig{.key = "  "},
      KeyConfig{.key = "sk-secret", .key_env = "KEY_A"},
      KeyConfig{.key_env = "KEY_A", .key_file = "/keys"},
      KeyConfig{.key = "sk-secret", .key_env = "KEY_A", .key_file = "/keys"});
  CHECK(Error([&] {
          ResolveKeys({.name = "openai", .api_keys = {{.key = "sk-a"}, entry}},
                      Env({{"KEY_A", "sk-b"}}));
        }) ==
        "provider \"openai\", entry 2 of api_keys: it must have one of key, "
        "key_env and key_file");
}

TEST_CASE("a name is for one key", "[config]") {
  const auto resolve = [](const std::string& text) {
    return Values(ResolveKeys(
        {.api_keys = {{.key_env = "KEYS", .options = {.name = "prod"}}}},
        Env({{"KEYS", text}})));
  };
  CHECK(resolve("sk-a,sk-a") == List{"sk-a"});
  CHECK(Error([&] { resolve("sk-a,sk-b"); }) ==
        "the provider, entry 1 of api_keys: it has a name, which is for one "
        "key, but KEYS holds 2");
}

TEST_CASE("errors say the provider, the entry and the place in its source",
          "[config]") {
  const TemporaryFile file("sk-a\nsk b\n");
  CHECK_THAT(
      Error([&] {
        ResolveKeys({.name = "p", .api_keys = {{.key_file = file.name()}}});
      }),
      ContainsSubstring("provider \"p\", entry 1 of api_keys: " + file.name() +
                        ", line 2: "));
  CHECK_THAT(Error([] {
               ResolveKeys({.name = "p", .api_key_env = "OLD"},
                           Env({{"OLD", "a,b c"}}));
             }),
             ContainsSubstring("provider \"p\", api_key_env: OLD, entry 2: "));
  CHECK_THAT(Error([] {
               ResolveKeys({.name = "p", .api_keys = {{.key = "sk secret"}}});
             }),
             ContainsSubstring("provider \"p\", entry 1 of api_keys: a blank"));
}

TEST_CASE("a key in the place of a file or a variable is not shown",
          "[config]") {
  for (const char* key :
       {"abc123.SECRETSECRET", "c2VjcmV0/SECRETSECRET", "sk-SECRETSECRET"}) {
    CAPTURE(key);
    const std::string error =
        Error([&] { ResolveKeys({.api_keys = {{.key_file = key}}}, Env({})); });
    CHECK_FALSE(error.empty());
    CHECK_THAT(error, !ContainsSubstring("SECRET"));
  }
  const std::string error = Error([] {
    ResolveKeys({.api_keys = {{.key_env = "SECRET0123ABCDEF"}}}, Env({}));
  });
  CHECK_FALSE(error.empty());
  CHECK_THAT(error, !ContainsSubstring("SECRET"));
}

}  // namespace
}  // namespace keyrotator::testing::config_provider_config_test
