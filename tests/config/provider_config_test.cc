#include "keyrotator/config/provider_config.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

// Nothing can print what holds a literal key.
static_assert(!fmt::is_formattable<KeyConfig>::value);
static_assert(!fmt::is_formattable<ProviderConfig>::value);

using Variables = std::map<std::string, std::string>;

// An environment of these variables alone.
Environment Env(Variables variables) {
  return [variables = std::move(variables)](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

std::vector<std::string> Values(const ApiKeys& keys) {
  std::vector<std::string> values;
  for (const ApiKey& key : keys) values.push_back(key.Reveal());
  return values;
}
using List = std::vector<std::string>;

// What the ConfigError of a call says.
template <class Call>
std::string Error(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

// A file that is gone at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view text,
                         fs::perms perms = fs::perms::owner_all) {
    static std::atomic<int> count = 0;
    path_ = fs::temp_directory_path() /
            fmt::format("keyrotator_config_test.{}.{}",
                        static_cast<const void*>(this), ++count);
    std::ofstream(path_, std::ios::binary) << text;
    fs::permissions(path_, perms);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { fs::remove(path_); }

  const fs::path& path() const { return path_; }
  std::string name() const { return path_.string(); }

 private:
  fs::path path_;
};

List FromFile(std::string_view text) {
  return Values(KeysFromFile(TemporaryFile(text).path()));
}

// ---- KeysFromEnv ----

TEST_CASE("a variable holds keys between commas or line breaks", "[config]") {
  const auto keys = [](const std::string& text) {
    return Values(KeysFromEnv("K", Env({{"K", text}})));
  };
  CHECK(keys("sk-a") == List{"sk-a"});
  CHECK(keys("sk-a,sk-b") == List{"sk-a", "sk-b"});
  CHECK(keys("sk-a\nsk-b\n") == List{"sk-a", "sk-b"});
  CHECK(keys(" sk-a ,\tsk-b\r\n,,\n sk-c,") == List{"sk-a", "sk-b", "sk-c"});
  CHECK(keys("sk-a,sk-b,sk-a") == List{"sk-a", "sk-b"});
  CHECK(keys("\xEF\xBB\xBFsk-a") == List{"sk-a"});
  CHECK(keys("sk-#a") == List{"sk-#a"});
  CHECK(keys("").empty());
  CHECK(keys(" , \n").empty());
  CHECK(Values(KeysFromEnv("K", Env({}))).empty());
  CHECK(Values(KeysFromEnv("", Env({}))).empty());
}

TEST_CASE("by default OPENAI_API_KEYS of the process is read", "[config]") {
  const char* const text = SystemEnvironment("OPENAI_API_KEYS");
  CHECK(Values(KeysFromEnv()) ==
        Values(KeysFromEnv("K", [&](const char*) { return text; })));
}

TEST_CASE("a bad key in a variable is told by its place, never by its text",
          "[config][S21]") {
  const std::string bad = GENERATE(
      as<std::string>(), "sk-secret x", "sk-secret\x01", "sk-\x7Fsecret",
      "sk-secr\xC3\xA9t", "sk-secret\tb", "sk-secret\rb");
  const std::string message = Error([&] {
    KeysFromEnv("MY_KEYS", Env({{"MY_KEYS", "sk-a,\n" + bad}}));
  });
  CAPTURE(message);
  CHECK(message.starts_with("MY_KEYS, entry 3: "));
  CHECK(message.find("sec") == message.npos);
}

TEST_CASE("a key of 16 KiB is one, a longer one and a line of 1 MiB are not",
          "[config]") {
  const std::string longest(std::size_t{16} << 10, 'k');
  CHECK(Values(KeysFromEnv("K", Env({{"K", longest}}))) == List{longest});
  for (const std::size_t size : {longest.size() + 1, std::size_t{1} << 20}) {
    const std::string text(size, 'k');
    CHECK(Error([&] {
            KeysFromEnv("K", Env({{"K", text}}));
          }) == fmt::format("K, entry 1: longer than any key, {} bytes", size));
    CHECK_THAT(Error([&] { FromFile("sk-a\n" + text); }),
               ContainsSubstring(", line 2: longer than any key"));
  }
}

// ---- FindKeysInEnv ----

TEST_CASE("the list goes before single keys", "[config]") {
  CHECK(Values(FindKeysInEnv("OPENAI", Env({{"OPENAI_API_KEYS", "sk-a,sk-b"},
                                            {"OPENAI_API_KEY", "sk-c"},
                                            {"OPENAI_API_KEY_1", "sk-d"}}))) ==
        List{"sk-a", "sk-b"});
  CHECK(Values(FindKeysInEnv("OPENAI", Env({{"OPENAI_API_KEYS", " , "},
                                            {"OPENAI_API_KEY", "sk-c"}}))) ==
        List{"sk-c"});
  CHECK(Values(FindKeysInEnv("OPENAI", Env({}))).empty());
}

TEST_CASE("numbered keys count up to the first number that is not set",
          "[config]") {
  CHECK(Values(FindKeysInEnv("OPENAI", Env({{"OPENAI_API_KEY_0", "sk-z"},
                                            {"OPENAI_API_KEY_1", "sk-a"},
                                            {"OPENAI_API_KEY_2", ""},
                                            {"OPENAI_API_KEY_3", "sk-b"},
                                            {"OPENAI_API_KEY_5", "sk-y"}}))) ==
        List{"sk-a", "sk-b"});
  KeyRotator rotator(FindKeysInEnv("GROQ", Env({{"GROQ_API_KEY", "gsk-a"},
                                                {"GROQ_API_KEY_1", "gsk-a"},
                                                {"GROQ_API_KEY_2", "gsk-b"},
                                                {"OPENAI_API_KEYS", "sk-a"}})));
  CHECK(rotator.Size() == 2);
}

// ---- KeysFromFile ----

TEST_CASE("a file holds a key a line, and comments", "[config]") {
  CHECK(FromFile("sk-a\nsk-b\n") == List{"sk-a", "sk-b"});
  CHECK(FromFile("sk-a") == List{"sk-a"});
  CHECK(
      FromFile("\xEF\xBB\xBFsk-a\r\n\r\n  sk-b\t\r\n# sk-c\r\n \t# sk-d\r\n") ==
      List{"sk-a", "sk-b"});
  CHECK(FromFile("sk-a # of the team\nsk-b\t#prod # x\nsk#c\n") ==
        List{"sk-a", "sk-b", "sk#c"});
  CHECK(FromFile("sk-a\nsk-b\nsk-a\n") == List{"sk-a", "sk-b"});
  CHECK(FromFile("").empty());
  CHECK(FromFile("\n\n# none yet\n").empty());
  CHECK(FromFile("\xEF\xBB\xBF").empty());
}

TEST_CASE("a bad line is told by file and number, never by its text",
          "[config][S21]") {
  const std::string bad = GENERATE(
      as<std::string>(), "sk-secret sk-b", "sk-secr\xC3\xA9t",
      std::string("sk-secret\0", 10), "sk-secret\rsk-b", "\x1b[31msk-secret");
  const TemporaryFile file("# keys\n\nsk-a\n" + bad + "\nsk-c\n");
  const std::string message = Error([&] { KeysFromFile(file.path()); });
  CAPTURE(message);
  CHECK(message.starts_with(file.name() + ", line 4: "));
  CHECK(message.find("sec", file.name().size()) == message.npos);
}

TEST_CASE("what cannot be read is told with its path", "[config]") {
  const std::string missing =
      (fs::temp_directory_path() / "keyrotator.there.is.none").string();
  CHECK(Error([&] { KeysFromFile(missing); }) ==
        missing + ": No such file or directory");
  const std::string directory = fs::temp_directory_path().string();
  CHECK_THAT(Error([&] { KeysFromFile(directory); }),
             ContainsSubstring(directory + ": a directory"));
  CHECK(Error([] { KeysFromFile("/proc/self/mem"); }) ==
        "/proc/self/mem: cannot be read");
  CHECK_THAT(Error([] { KeysFromFile(""); }), ContainsSubstring("No such"));
}

TEST_CASE("a file above 16 MiB is refused, also one without an end",
          "[config]") {
  const TemporaryFile large(std::string((std::size_t{16} << 20) + 1, '\n'));
  CHECK(Error([&] { KeysFromFile(large.path()); }) ==
        large.name() + ": above 16 MiB");
  const TemporaryFile most(std::string(std::size_t{16} << 20, '\n'));
  CHECK(Values(KeysFromFile(most.path())).empty());
}

TEST_CASE(
    "a file that all can read is used with a warning, one that all can "
    "write is refused",
    "[config]") {
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string& text) { warnings.push_back(text); };
  const TemporaryFile own("sk-a", fs::perms(0600));
  const TemporaryFile group("sk-a", fs::perms(0660));
  CHECK(Values(KeysFromFile(own.path(), warn)) == List{"sk-a"});
  CHECK(Values(KeysFromFile(group.path(), warn)) == List{"sk-a"});
  CHECK(warnings.empty());

  const TemporaryFile readable("sk-a", fs::perms(0644));
  CHECK(Values(KeysFromFile(readable.path(), warn)) == List{"sk-a"});
  CHECK(Values(KeysFromFile(readable.path())) == List{"sk-a"});
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].starts_with(readable.name() + ": every user may read"));

  const TemporaryFile writable("sk-a", fs::perms(0602));
  CHECK_THAT(Error([&] { KeysFromFile(writable.path(), warn); }),
             ContainsSubstring(writable.name() + ": every user may write"));
}

TEST_CASE("a mounted secret is read through its links", "[config]") {
  const TemporaryFile file("sk-a");
  const fs::path link = file.name() + ".link";
  fs::create_symlink(file.path(), link);
  const List values = Values(KeysFromFile(link));
  fs::remove(link);
  CHECK(values == List{"sk-a"});
}

TEST_CASE("100,000 keys are read in a moment", "[config]") {
  std::string text;
  for (int i = 0; i < 100'000; ++i)
    text += fmt::format("sk-{:050}\n", i % 99'999);
  const TemporaryFile file(text);
  const auto start = std::chrono::steady_clock::now();
  CHECK(Values(KeysFromFile(file.path())).size() == 99'999);
  CHECK(Values(KeysFromEnv("K", Env({{"K", text}}))).size() == 99'999);
  ProviderConfig config{.name = "p"};
  for (int i = 0; i < 100'000; ++i)
    config.api_keys.push_back({.key = fmt::format("sk-{}", i)});
  CHECK(MakeKeyRotator(config).Size() == 100'000);
  // Quadratic it would be minutes.
  CHECK(std::chrono::steady_clock::now() - start < 20s);
}

// ---- ResolveKeys ----

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

// ---- What follows from a configuration ----

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
      .cooldown = 30s, .max_cooldown = 1h, .cooldown_multiplier = 3};
  const RotatorOptions options = MakeRotatorOptions(config, {.max_scopes = 7});
  CHECK(options.cooldown == 30s);
  CHECK(options.max_cooldown == 1h);
  CHECK(options.cooldown_multiplier == 3);
  CHECK(options.max_scopes == 7);
  CHECK(MakeRetryOptions(config).guess.initial == 30s);
  CHECK(MakeRetryOptions(config).guess.multiplier == 3);
  CHECK(MakeRetryOptions(config).guess.max == 1h);

  CHECK(MakeRetryOptions({.cooldown = 30s}).guess.multiplier == 1);
  CHECK(MakeRetryOptions({.cooldown = 5min}).guess.max >= 5min);
  CHECK(MakeRetryOptions({.max_cooldown = 10s}).guess.max == 10s);
  CHECK(MakeRetryOptions({.max_cooldown = 10min}).guess.max == own.max);
  CHECK(MakeRetryOptions({.retry = {.max_retries = 9}}).max_retries == 9);
}

TEST_CASE("a rotator is made as the configuration says", "[config]") {
  ManualClock clock;
  int events = 0;
  auto rotator = MakeKeyRotator(
      {.name = "p",
       .api_keys = {{.key = "sk-a", .options = {.name = "A", .weight = 3}},
                    {.key_env = "KEY_B", .options = {.name = "B"}}},
       .key_selection = "weighted",
       .cooldown = 10s},
      {.on_event = [&](const KeyEvent&) { ++events; }}, clock,
      Env({{"KEY_B", "sk-b"}}));
  CHECK(PickNames(rotator, 4) == "A A B A");
  rotator.MarkRateLimited("sk-a");
  CHECK(events == 1);
  CHECK(PickNames(rotator, 2) == "B B");
  clock.Advance(10s);
  CHECK(rotator.Available() == 2);
}

TEST_CASE("where no limits are reported the default goes in turn", "[config]") {
  auto rotator =
      MakeKeyRotator({.api_keys = {{.key = "sk-a"}, {.key = "sk-b"}}});
  CHECK(PickNames(rotator, 4) == "key-1 key-2 key-1 key-2");
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
  CHECK_THAT(error({.cooldown = 0s}),
             ContainsSubstring("provider \"p\": ") &&
                 ContainsSubstring("cooldown must be"));
  CHECK_THAT(error({.api_keys = {{.key = "a", .options = {.name = "N"}},
                                 {.key = "b", .options = {.name = "N"}}}}),
             ContainsSubstring("provider \"p\": ") &&
                 ContainsSubstring("another key has that name"));
}

}  // namespace
}  // namespace keyrotator::testing
