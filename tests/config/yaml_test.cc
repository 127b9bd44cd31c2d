#include "keyrotator/config/yaml.h"

#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/config/make_key_rotator.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing::config_yaml_test {
namespace {

using namespace std::chrono_literals;

// A long one without a run of letters that an error could have by itself.
const std::string kSecret = "sk-QzXw7RtY2uIoP9aSdFgH4jKlM6nBvC";

bool Leaks(std::string_view text) {
  for (std::size_t i = 0; i + 6 <= kSecret.size(); ++i) {
    if (text.find(kSecret.substr(i, 6)) != text.npos) return true;
  }
  return false;
}

Environment Variables(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

// What is wrong with a text, one problem a line, without the file's name.
std::string ErrorsIn(std::string_view text, const Environment& environment) {
  try {
    ParseProviders(text, "f", environment);
  } catch (const ConfigError& error) {
    std::string lines = error.what();
    for (std::size_t at = 0; (at = lines.find("f:", at)) != lines.npos;) {
      if (at == 0 || lines[at - 1] == '\n') {
        lines.erase(at, 2);
      } else {
        ++at;
      }
    }
    return lines;
  }
  return "";
}
std::string ErrorsIn(std::string_view text) {
  return ErrorsIn(text, Variables({}));
}

// A provider with these lines besides what it must have.
std::string Provider(const std::string& lines) {
  return "providers:\n"
         "  - name: a\n"
         "    base_url: https://a.example/v1\n"
         "    api_keys: [sk-a]\n" +
         lines;
}

const std::string kComplete = R"(# Comments are all right.
providers:
  - name: openai
    base_url: https://api.openai.com/v1
    api_keys:
      - { key_env: KEYS, group: org-a, weight: 2.5 }
      - key: sk-literal
        name: literal
        max_in_flight: 8
      - sk-bare
    api_key_env: KEY
    key_selection: least-in-flight
    cooldown: 1.5m
    max_cooldown: 2h
    cooldown_multiplier: 2
    quota_cooldown: 1d
    retry:
      max_attempts: 4
      initial_backoff: 250ms
      max_backoff: 4s
      deadline: 30s
      retry_ambiguous: false
    retry_budget: { ratio: 0.25, per_second: 3 }
    auth: { header: api-key, prefix: "" }
    models: [gpt-4o, "gpt-4o-mini"]
    fleet:
      redis: redis://cache:6379/0
      username: us
      password_env: KEY
      pool: prod
      secret_env: KEY
      period: 500ms
      clear_names: true
  - name: local
    base_url: http://127.0.0.1:8000/v1
    allow_http: true
    api_key_env: KEY
)";

TEST_CASE("a complete configuration says all that there is", "[yaml]") {
  const auto environment = Variables({{"KEYS", "sk-1,sk-2"}, {"KEY", "sk-3"}});
  const auto providers = ParseProviders(kComplete, "f", environment);
  REQUIRE(providers.size() == 2);

  const ProviderConfig& openai = providers[0];
  CHECK(openai.name == "openai");
  CHECK(openai.base_url == "https://api.openai.com/v1");
  REQUIRE(openai.api_keys.size() == 3);
  CHECK(openai.api_keys[0].key_env == "KEYS");
  CHECK(openai.api_keys[0].options.group == "org-a");
  CHECK(openai.api_keys[0].options.weight == 2.5);
  CHECK(openai.api_keys[1].key == "sk-literal");
  CHECK(openai.api_keys[1].options.name == "literal");
  CHECK(openai.api_keys[1].options.max_in_flight == 8);
  CHECK(openai.api_keys[2].key == "sk-bare");
  CHECK(openai.api_key_env == "KEY");
  CHECK(openai.key_selection == "least-in-flight");
  REQUIRE(openai.cooldown);
  CHECK(openai.cooldown->initial == 90s);
  CHECK(openai.cooldown->multiplier == 2);
  CHECK(openai.max_cooldown == Span(2h));
  CHECK(openai.retry.quota_cooldown == 24h);
  CHECK(openai.retry.max_retries == 3);
  CHECK(openai.retry.initial_backoff == 250ms);
  CHECK(openai.retry.max_backoff == 4s);
  CHECK(openai.retry.deadline == 30s);
  CHECK_FALSE(openai.retry.retry_ambiguous);
  REQUIRE(openai.retry_budget);
  CHECK(openai.retry_budget->ratio == 0.25);
  CHECK(openai.retry_budget->per_second == 3);
  CHECK(openai.auth_header == "api-key");
  CHECK(openai.auth_prefix.empty());
  CHECK_FALSE(openai.allow_http);
  CHECK(openai.models == std::vector<std::string>{"gpt-4o", "gpt-4o-mini"});
  REQUIRE(openai.fleet);
  CHECK(openai.fleet->redis == "redis://cache:6379/0");
  CHECK(openai.fleet->username == "us");
  CHECK(openai.fleet->password_env == "KEY");
  CHECK(openai.fleet->pool == "prod");
  CHECK(openai.fleet->secret_env == "KEY");
  CHECK(openai.fleet->period == Span(500ms));
  CHECK(openai.fleet->clear_names);

  // The defaults hold for what is not said.
  const ProviderConfig& local = providers[1];
  CHECK(local.allow_http);
  CHECK(local.api_keys.empty());
  CHECK(local.key_selection == ProviderConfig().key_selection);
  CHECK_FALSE(local.cooldown);
  CHECK(local.retry.max_retries == RetryOptions().max_retries);
  CHECK(local.auth_prefix == "Bearer ");
  CHECK_FALSE(local.fleet);

  const auto rotator =
      MakeKeyRotator(openai, {}, std::chrono::steady_clock(), environment);
  CHECK(rotator.Size() == 4);
}

TEST_CASE("a cooldown multiplies only if it is told to", "[yaml]") {
  const auto read = [](const std::string& lines) {
    return ParseProviders(Provider(lines))[0];
  };
  const Cooldown guess = RetryOptions().guess;
  CHECK(read("    cooldown: 5s\n").cooldown->multiplier == 1);
  CHECK_FALSE(MakeRetryOptions(read("    cooldown: 5s\n")).guess.learn_pace);
  // Without a cooldown it is the client's guess that is multiplied.
  const ProviderConfig alone = read("    cooldown_multiplier: 3\n");
  CHECK_FALSE(alone.cooldown);
  CHECK(MakeRetryOptions(alone).guess.multiplier == 3);
  CHECK(MakeRetryOptions(alone).guess.initial == guess.initial);
  CHECK(MakeRetryOptions(alone).guess.learn_pace);
  CHECK(MakeRetryOptions(read("")).guess.multiplier == guess.multiplier);
}

TEST_CASE("a budget of retries can be turned off, in part given, or left out",
          "[yaml]") {
  const auto budget = [](const std::string& lines) {
    return ParseProviders(Provider(lines))[0].retry_budget;
  };
  CHECK_FALSE(budget(""));
  CHECK(std::isinf(budget("    retry_budget: false\n")->ratio));
  CHECK(budget("    retry_budget: true\n")->ratio == RetryBudget().ratio);
  const auto partly = budget("    retry_budget: { ratio: 0.1 }\n");
  CHECK(partly->ratio == 0.1);
  CHECK(partly->per_second == RetryBudget().per_second);
}

TEST_CASE("each error says where it is and what was expected", "[yaml]") {
  struct Case {
    std::string text;
    std::string error;
  };
  const std::string duration =
      "expected a duration: " + std::string(internal::kSpanFormat);
  const std::vector<Case> cases = {
      {"", "1:1: expected fields (providers), found nothing"},
      {"# nothing\n", "1:1: expected fields (providers), found nothing"},
      {"providers:", "1:1: providers: expected a list, found nothing"},
      {"providers: []", "1:12: providers: expected at least one provider"},
      {"providers: sk-x", "1:12: providers: expected a list, found text"},
      {"{}", "1:1: the field providers is missing"},
      {"provders: [1]",
       "1:1: unknown field provders; did you mean providers?\n1:12: "
       "providers[0]: expected fields (name, base_url, api_keys, api_key_env, "
       "key_selection, cooldown, max_cooldown, cooldown_multiplier, "
       "quota_cooldown, retry, retry_budget, auth, allow_http, models, fleet), "
       "found text"},
      {Provider("    key_selecton: random\n"),
       "5:5: providers[0]: unknown field key_selecton; did you mean "
       "key_selection?"},
      {Provider("    key_selection: roundrobin\n"),
       "5:20: providers[0].key_selection: expected one of round-robin, random, "
       "weighted, least-in-flight, most-headroom, first-available, affinity; "
       "did you mean round-robin?"},
      {Provider("    key_selection: best\n"),
       "5:20: providers[0].key_selection: expected one of round-robin, random, "
       "weighted, least-in-flight, most-headroom, first-available, affinity"},
      {Provider("    auth: { user: me }\n"),
       "5:13: providers[0].auth: unknown field; expected one of header, "
       "prefix"},
      {Provider("    auth: { prefix: Bearer }\n"),
       "5:21: providers[0].auth.prefix: it would run into the key; a blank at "
       "its end needs quotes, as in \"Bearer \""},
      {Provider("    auth: { header: 'X Key' }\n"),
       "5:21: providers[0].auth.header: expected the name of a header, such as "
       "Authorization"},
      {Provider("    auth: { prefix: [Bearer] }\n"),
       "5:21: providers[0].auth.prefix: expected text (\"\" for none), "
       "found a list"},
      {Provider("    auth: { prefix: \"a\\n\" }\n"),
       "5:21: providers[0].auth.prefix: a byte that cannot stand in a header"},
      {Provider("    cooldown: 60 s\n"),
       "5:15: providers[0].cooldown: " + duration},
      {Provider("    cooldown: -1s\n"),
       "5:15: providers[0].cooldown: " + duration},
      {Provider("    max_cooldown: 60\n"),
       "5:19: providers[0].max_cooldown: " + duration},
      {Provider("    quota_cooldown: 0s\n"),
       "5:21: providers[0].quota_cooldown: expected a duration longer than 0"},
      {Provider("    retry: { deadline: [1s] }\n"),
       "5:24: providers[0].retry.deadline: expected a duration (" +
           std::string(internal::kSpanFormat) + "), found a list"},
      {Provider("    retry: { max_attempts: 0 }\n"),
       "5:28: providers[0].retry.max_attempts: expected a whole number of at "
       "least 1"},
      {Provider("    retry: { max_attempts: 99999999999 }\n"),
       "5:28: providers[0].retry.max_attempts: expected a whole number of at "
       "least 1, found one out of range"},
      {Provider("    retry: { retry_ambiguous: yes }\n"),
       "5:31: providers[0].retry.retry_ambiguous: expected true or false, "
       "found text"},
      {Provider("    retry: 3\n"),
       "5:12: providers[0].retry: expected fields (max_attempts, "
       "initial_backoff, max_backoff, deadline, retry_ambiguous), found text"},
      {Provider("    retry_budget: { ratio: -1, per_second: inf }\n"),
       "5:28: providers[0].retry_budget.ratio: expected a number of at least "
       "0\n5:44: providers[0].retry_budget.per_second: expected a number of at "
       "least 0"},
      {Provider("    retry_budget: off\n"),
       "5:19: providers[0].retry_budget: expected true or false, found text"},
      {Provider("    retry_budget: [0.1]\n"),
       "5:19: providers[0].retry_budget: expected fields (ratio, per_second), "
       "found a list"},
      {Provider("    retry_budget: { rato: 0.1 }\n"),
       "5:21: providers[0].retry_budget: unknown field rato; did you mean "
       "ratio?"},
      {Provider("    retry_bugdet: false\n"),
       "5:5: providers[0]: unknown field retry_bugdet; did you mean "
       "retry_budget?"},
      {Provider("    cooldown_multiplier: 0.5\n"),
       "5:26: providers[0].cooldown_multiplier: expected a number of at least "
       "1"},
      {Provider("    cooldown_multiplier: inf\n"),
       "5:26: providers[0].cooldown_multiplier: expected a number of at least "
       "1"},
      {Provider("    models: gpt-4o\n"),
       "5:13: providers[0].models: expected a list, found text"},
      {Provider("    models: [a, '']\n"),
       "5:17: providers[0].models[1]: expected text that is not empty"},
      {Provider("    cooldown: 1s\n    cooldown: 2s\n"),
       "6:5: providers[0].cooldown: given twice, first in line 5"},
      {Provider("    ? [cooldown]\n    : 1s\n"),
       "5:7: providers[0]: unknown field; expected one of name, base_url, "
       "api_keys, api_key_env, key_selection, cooldown, max_cooldown, "
       "cooldown_multiplier, quota_cooldown, retry, retry_budget, auth, "
       "allow_http, models, fleet"},
      {Provider("  - name: a\n    base_url: http://b\n    api_keys: [sk-b]\n"),
       "5:11: providers[1].name: the name is taken, by line 2"},
      {Provider("  - api_keys: [sk-b]\n"),
       "5:5: providers[1]: the field name is missing\n5:5: providers[1]: the "
       "field base_url is missing"},
      {"providers: [{ name: a, base_url: https://a }]",
       "1:13: providers[0]: it has no key: give it api_keys or api_key_env"},
      {"providers: [{ name: a, base_url: https://a, api_keys: [] }]",
       "1:13: providers[0]: it has no key: give it api_keys or api_key_env"},
      {"providers: [{ name: , base_url: '', api_keys: [sk-a] }]",
       "1:15: providers[0].name: expected text, found nothing\n1:33: "
       "providers[0].base_url: expected text that is not empty"},
      {"providers: [{ name: \"a\\nb\", base_url: [], api_keys: {} }]",
       "1:21: providers[0].name: a line break or another control character\n"
       "1:39: providers[0].base_url: expected text, found a list\n"
       "1:53: providers[0].api_keys: expected a list, found fields"}};
  for (const Case& each : cases) {
    INFO(each.text);
    CHECK(ErrorsIn(each.text) == each.error);
  }
}

TEST_CASE("a fleet needs a Redis and a pool, and no more", "[yaml]") {
  const ProviderConfig provider = ParseProviders(
      Provider("    fleet: { redis: 'unix:///run/redis', pool: prod }\n"))[0];
  REQUIRE(provider.fleet);
  CHECK(provider.fleet->redis == "unix:///run/redis");
  CHECK(provider.fleet->password_env.empty());
  CHECK(provider.fleet->secret_env.empty());
  CHECK_FALSE(provider.fleet->period);
  CHECK_FALSE(provider.fleet->clear_names);
}

TEST_CASE("each error of a fleet says where it is", "[yaml]") {
  struct Case {
    std::string fields;
    std::string error;
  };
  const std::string url =
      "; it must look like redis://user:password@host:6379/0, rediss://... or "
      "unix:///path?db=0";
  const std::vector<Case> cases = {
      {"[]",
       "5:12: providers[0].fleet: expected fields (redis, username, "
       "password_env, pool, secret_env, period, clear_names), found a list"},
      {"{}",
       "5:12: providers[0].fleet: the field redis is missing\n5:12: "
       "providers[0].fleet: the field pool is missing"},
      {"{ redis: redis://a, pol: p }",
       "5:32: providers[0].fleet: unknown field pol; did you mean pool?"},
      {"{ redis: redis://a, pool: p, password: x }",
       "5:41: providers[0].fleet: unknown field password; did you mean "
       "password_env?\n5:51: providers[0].fleet.password_env: the variable is "
       "not set, or empty"},
      {"{ redis: redis://a, pool: p, host: x }",
       "5:41: providers[0].fleet: unknown field; expected one of redis, "
       "username, password_env, pool, secret_env, period, clear_names"},
      {"{ redis: cache, pool: p }",
       "5:21: providers[0].fleet.redis: The URL of Redis has no scheme" + url},
      {"{ redis: redis://a:0, pool: p, username: u }",
       "5:21: providers[0].fleet.redis: The URL of Redis has a host or port "
       "that cannot be used" +
           url},
      {"{ redis: 'redis://:${KEY}@a', pool: p }",
       "5:21: providers[0].fleet.redis: no variables are put into text; for a "
       "password from the environment use password_env, with the bare name"},
      {"{ redis: [redis://a], pool: p }",
       "5:21: providers[0].fleet.redis: expected text, found a list"},
      {"{ redis: redis://a, pool: 'a b' }",
       "5:38: providers[0].fleet.pool: expected the name of a pool: 1 to 64 of "
       "A-Z a-z 0-9 . _ -"},
      {"{ redis: redis://a, pool: '' }",
       "5:38: providers[0].fleet.pool: expected text that is not empty"},
      {"{ redis: redis://a, pool: p, password_env: UNSET }",
       "5:55: providers[0].fleet.password_env: the variable is not set, or "
       "empty"},
      {"{ redis: redis://a, pool: p, secret_env: BLANK }",
       "5:53: providers[0].fleet.secret_env: the variable is not set, or "
       "empty"},
      {"{ redis: redis://a, pool: p, secret_env: of-us }",
       "5:53: providers[0].fleet.secret_env: expected the name of a variable "
       "(letters, digits and _), not the secret itself"},
      {"{ redis: redis://a, pool: p, username: u }",
       "5:12: providers[0].fleet: a username needs a password: give it "
       "password_env"},
      {"{ redis: redis://a, pool: p, period: 49ms }",
       "5:49: providers[0].fleet.period: expected a duration from 50ms to 1s"},
      {"{ redis: redis://a, pool: p, period: 1001ms }",
       "5:49: providers[0].fleet.period: expected a duration from 50ms to 1s"},
      {"{ redis: redis://a, pool: p, clear_names: yes }",
       "5:54: providers[0].fleet.clear_names: expected true or false, found "
       "text"},
      {"{ redis: redis://:x@a, pool: p, username: u }", ""},
      {"{ redis: redis://a, pool: p, username: u, password_env: KEY }", ""},
      {"{ redis: redis://a, pool: p, period: 50ms }", ""},
      {"{ redis: redis://a, pool: p, period: 1s }", ""}};
  const auto environment = Variables({{"KEY", "x"}, {"BLANK", " \n"}});
  for (const Case& each : cases) {
    INFO(each.fields);
    CHECK(ErrorsIn(Provider("    fleet: " + each.fields + "\n"), environment) ==
          each.error);
  }
}

TEST_CASE("two providers do not share a pool", "[yaml]") {
  const std::string fleet = "    fleet: { redis: redis://a, pool: p }\n";
  CHECK(
      ErrorsIn(Provider(fleet) +
               "  - name: b\n    base_url: https://b\n    api_keys: [sk-b]\n" +
               fleet) ==
      "9:38: providers[1].fleet.pool: the name is taken, by line 5");
}

TEST_CASE("a base URL is one of http or https", "[yaml]") {
  for (const char* const url :
       {"ftp://a.example", "a.example/v1", "https://", "https://u:p@a.example",
        "\"https://a.example/ v1\"", "file:///etc/passwd"}) {
    INFO(url);
    CHECK(ErrorsIn(std::string("providers: [{ name: a, api_keys: [sk-a], "
                               "base_url: ") +
                   url + " }]")
              .starts_with("1:52: providers[0].base_url: expected an http"));
  }
}

TEST_CASE("each error of a key says where it is", "[yaml]") {
  struct Case {
    const char* entry;
    const char* error;
  };
  const std::vector<Case> cases = {
      {"{ key: sk-b, key_env: B }",
       "5:9: providers[0].api_keys[0]: expected one of key, key_env and "
       "key_file, found several"},
      {"{ key: sk-b, key_file: /b }",
       "5:9: providers[0].api_keys[0]: expected one of key, key_env and "
       "key_file, found several\n5:32: providers[0].api_keys[0].key_file: the "
       "file: No such file or directory"},
      {"{ name: b }",
       "5:9: providers[0].api_keys[0]: expected one of key, key_env and "
       "key_file, found none"},
      {"{ key: sk-b, weight: 0 }",
       "5:30: providers[0].api_keys[0].weight: expected a number above 0"},
      {"{ key: sk-b, weight: nan }",
       "5:30: providers[0].api_keys[0].weight: expected a number above 0"},
      {"{ key: sk-b, weight: 1e999 }",
       "5:30: providers[0].api_keys[0].weight: expected a number above 0, "
       "found one out of range"},
      {"{ key: sk-b, weight: '2' }",
       "5:30: providers[0].api_keys[0].weight: expected a number above 0, "
       "found text in quotes"},
      {"{ key: sk-b, max_in_flight: -1 }",
       "5:37: providers[0].api_keys[0].max_in_flight: expected a whole number "
       "(0 for no bound)"},
      {"{ key: sk-b, max_in_flight: 1.5 }",
       "5:37: providers[0].api_keys[0].max_in_flight: expected a whole number "
       "(0 for no bound)"},
      {"{ key: sk b }",
       "5:16: providers[0].api_keys[0].key: the key: a blank, or a byte that "
       "cannot stand in a header"},
      {"{ key: \"sk\\u00e9\" }",
       "5:16: providers[0].api_keys[0].key: the key: a blank, or a byte that "
       "cannot stand in a header"},
      {"{ key: '${KEY}' }",
       "5:16: providers[0].api_keys[0].key: no variables are put into text; "
       "for a key from the environment use key_env, with the bare name"},
      {"{ key: $KEY }",
       "5:16: providers[0].api_keys[0].key: no key begins with $; for one from "
       "the environment use key_env, with the bare name"},
      {"OPENAI_KEY",
       "5:9: providers[0].api_keys[0]: expected a key, found what looks like "
       "the name of a variable; write { key_env: NAME }, or { key: ... } if it "
       "is a key"},
      {"{ key_env: sk-b }",
       "5:20: providers[0].api_keys[0].key_env: expected the name of a "
       "variable "
       "(letters, digits and _), not the key itself"},
      {"{ key_env: UNSET }",
       "5:20: providers[0].api_keys[0].key_env: no key is there (not set, or "
       "empty), and the provider has no other"},
      {"{ key_env: EMPTY }",
       "5:20: providers[0].api_keys[0].key_env: no key is there (not set, or "
       "empty), and the provider has no other"},
      {"{ key_env: BROKEN }",
       "5:20: providers[0].api_keys[0].key_env: the variable, entry 2: a "
       "blank, or a byte that cannot stand in a header"},
      {"{ key_env: TWO, name: one }",
       "5:9: providers[0].api_keys[0]: a name is for one key, found 2 keys"},
      {"{ key_file: / }",
       "5:21: providers[0].api_keys[0].key_file: the file: a directory, where "
       "a file with keys should be"},
      {"{ key: sk-b, name: n }\n      - { key: sk-c, name: n }",
       "6:28: providers[0].api_keys[1].name: the name is taken, by line 5"},
      {"[sk-b]",
       "5:9: providers[0].api_keys[0]: expected fields (key, key_env, "
       "key_file, name, group, weight, max_in_flight), found a list"}};
  const auto environment = Variables(
      {{"EMPTY", " ,"}, {"BROKEN", "sk-a,sk b"}, {"TWO", "sk-a,sk-b"}});
  for (const Case& each : cases) {
    INFO(each.entry);
    CHECK(ErrorsIn(std::string("providers:\n  - name: a\n    base_url: "
                               "https://a.example\n    api_keys:\n      - ") +
                       each.entry + "\n",
                   environment) == each.error);
  }
}

TEST_CASE("a variable may be unset while the provider has a key", "[yaml]") {
  const std::string text =
      "providers: [{ name: a, base_url: https://a, api_key_env: B, api_keys: "
      "[{ key_env: A }, { key_env: C }] }]";
  CHECK(ErrorsIn(text, Variables({{"C", "sk-c"}})).empty());
  CHECK(ErrorsIn(text, Variables({{"B", "sk-b"}})).empty());
  const std::string none =
      "no key is there (not set, or empty), and the provider has no other";
  CHECK(ErrorsIn(text) ==
        "1:58: providers[0].api_key_env: " + none +
            "\n1:83: providers[0].api_keys[0].key_env: " + none +
            "\n1:99: providers[0].api_keys[1].key_env: " + none);
  // What one provider has is not another's.
  CHECK(ErrorsIn("providers:\n"
                 "  - { name: a, base_url: https://a, api_key_env: A }\n"
                 "  - { name: b, base_url: https://b, api_key_env: UNSET }\n",
                 Variables({{"A", "sk-a"}})) ==
        "3:50: providers[1].api_key_env: " + none);
}

TEST_CASE("all errors of a file are told, by line", "[yaml]") {
  const std::string text =
      "providers:\n"
      "  - name: a\n"
      "    base_url: ftp://a\n"
      "    api_keys:\n"
      "      - { key: sk-a, wieght: x }\n"
      "      - { weight: -1 }\n"
      "    cooldown: soon\n"
      "  - name: a\n"
      "    base_url: https://b\n"
      "    api_key_env: UNSET\n"
      "models: []\n";
  const std::string errors = ErrorsIn(text);
  std::vector<std::string> places;
  for (std::size_t at = 0; at < errors.size();) {
    const std::size_t end = std::min(errors.find('\n', at), errors.size());
    places.push_back(errors.substr(at, errors.find(": ", at) - at));
    at = end + 1;
  }
  CHECK(places == std::vector<std::string>{"3:15", "5:22", "5:30", "6:9",
                                           "6:19", "7:15", "8:11", "10:18",
                                           "11:1"});

  // But not thousands of them.
  std::string many = "providers:\n";
  for (int i = 0; i < 250; ++i) many += "  - sk-a\n";
  CHECK(ErrorsIn(many).ends_with("\n and 150 more"));
}

TEST_CASE("a syntax error is told with its place", "[yaml]") {
  struct Case {
    const char* text;
    const char* error;
  };
  const std::vector<Case> cases = {
      {"providers:\n\t- name: a", "2:2: a tab in the indentation; use spaces"},
      {"a: b: c", "1:5: a colon that nothing explains"},
      {"a: [b", "1:4: not closed"},
      {"a: {b: c", "1:4: not closed"},
      {"a: \"b", "1:6: a quote is not closed"},
      {"a: @b", "1:4: text that begins with this sign needs quotes"},
      {"a: 1\n}", "2:1: a ] or } that closes nothing"},
      {"a: \"\\q\"", "1:7: not valid YAML"},
      {"%YAML 3\n---\na: b", "1:1: not valid YAML"},
      {"a: *b", "1:4: aliases and anchors"},
      {"a: &b c", "1:4: aliases and anchors"},
      {"&b a: c", "1:1: aliases and anchors"},
      {"a: !!str b", "1:4: tags are not taken"},
      {"---\na: b\n---\nc: d", "3:1: another document begins here"},
      {"- a\nb: c", "2:1: another document begins here"},
      {"a: \x01", "1:4: a control character"},
      {"a: b\n\x04providers: []", "2:1: a control character"},
      {"a: b\r\nb: \x7f", "2:4: a control character"},
      {"a: \xff", "1:4: a byte that is not UTF-8"},
      {"\xfe\xff\0a", "1:1: a byte that is not UTF-8"}};
  for (const Case& each : cases) {
    INFO(each.text);
    const std::string errors = ErrorsIn(each.text);
    CHECK_THAT(errors, ContainsSubstring(each.error));
    CHECK(errors.starts_with(each.error));
    CHECK(errors.find('\n') == errors.npos);
  }
}

TEST_CASE("a byte order mark, CR LF and an ended document are all right",
          "[yaml]") {
  std::string text = "\xEF\xBB\xBF---\r\n";
  for (const char c : kComplete) {
    if (c == '\n') text += '\r';
    text += c;
  }
  text += "...\r\n";
  const auto providers =
      ParseProviders(text, "f", Variables({{"KEY", "sk-3"}}));
  REQUIRE(providers.size() == 2);
  CHECK(providers[0].api_keys[1].key == "sk-literal");
  CHECK(providers[1].base_url == "http://127.0.0.1:8000/v1");
  // A block of text ends in a line break, which is not the key's.
  const auto block = ParseProviders(
      "providers:\r\n  - name: a\r\n    base_url: https://a\r\n    "
      "api_keys:\r\n"
      "      - key: |\r\n          sk-a\r\n");
  CHECK(block[0].api_keys[0].key == "sk-a");
}

TEST_CASE("an error repeats no byte of a key, wherever it was put",
          "[yaml][secrets]") {
  REQUIRE(Leaks("x" + kSecret.substr(4, 6)));
  const auto environment = Variables({{"KEY", kSecret + " " + kSecret}});
  // As it is, and where YAML reads something else out of what is around it.
  const std::vector<std::string> insertions = {kSecret,
                                               kSecret + ": ",
                                               "\n" + kSecret,
                                               " " + kSecret,
                                               "\n" + kSecret + ": x\n",
                                               "- " + kSecret,
                                               "*" + kSecret,
                                               "&" + kSecret + " ",
                                               "!" + kSecret,
                                               "\"" + kSecret,
                                               "'" + kSecret + "' ",
                                               "@" + kSecret,
                                               "\"\\" + kSecret,
                                               "{" + kSecret + "}",
                                               "[" + kSecret,
                                               "%" + kSecret + "\n",
                                               "\n%YAML " + kSecret + "\n",
                                               "\n---\n" + kSecret,
                                               "\t" + kSecret,
                                               "|" + kSecret,
                                               "${" + kSecret + "}",
                                               kSecret + "\n" + kSecret,
                                               "\"\\u" + kSecret + "\"",
                                               "!<" + kSecret + "> "};
  std::size_t errors = 0;
  std::size_t leaks = 0;
  for (std::size_t at = 0; at <= kComplete.size(); ++at) {
    for (const std::string& insertion : insertions) {
      const std::string error =
          ErrorsIn(std::string(kComplete).insert(at, insertion), environment);
      errors += error.empty() ? 0 : 1;
      leaks += Leaks(error) ? 1 : 0;
    }
  }
  // A comment and a name may hold anything.
  CHECK(errors > insertions.size() * kComplete.size() / 2);
  CHECK(leaks == 0);
}

TEST_CASE("an error tells nothing of the URL of a fleet's Redis",
          "[yaml][secrets]") {
  const std::vector<std::string> wrong = {"redis://:" + kSecret + "@cache:x",
                                          "redis//:" + kSecret + "@cache",
                                          "redis://" + kSecret + "@cache/all",
                                          "redis://:" + kSecret + "%zz@cache",
                                          kSecret,
                                          "redis://cache?" + kSecret};
  for (const std::string& url : wrong) {
    INFO(url);
    const std::string error =
        ErrorsIn(Provider("    fleet: { pool: p, redis: '" + url + "' }\n"));
    CHECK(error.starts_with("5:30: providers[0].fleet.redis: "));
    CHECK_FALSE(Leaks(error));
  }
  // A right one, beside what is wrong.
  const std::string beside = ErrorsIn(Provider(
      "    fleet: { redis: 'redis://:" + kSecret + "@cache', pool: '' }\n"));
  CHECK_FALSE(beside.empty());
  CHECK_FALSE(Leaks(beside));
}

TEST_CASE("nothing is read from the environment but keys", "[yaml]") {
  const auto environment = Variables({{"A", "https://a.example"}});
  CHECK(ErrorsIn("providers: [{ name: '${A}', base_url: '${A}', models: "
                 "['${A}'], api_keys: [sk-a] }]",
                 environment) ==
        "1:21: providers[0].name: no variables are put into text; for a key "
        "from the environment use key_env, with the bare name\n"
        "1:39: providers[0].base_url: no variables are put into text; for a "
        "key from the environment use key_env, with the bare name\n"
        "1:56: providers[0].models[0]: no variables are put into text; for a "
        "key from the environment use key_env, with the bare name");
}

TEST_CASE("what is too large or too deep is refused", "[yaml]") {
  CHECK(ErrorsIn(std::string((std::size_t{64} << 20) + 1, 'a')) ==
        "1:1: longer than 64 MiB; is this the right file?");
  for (const char* const opening : {"[", "{a: ", "- ", "? ", "[{? "}) {
    INFO(opening);
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += opening;
    CHECK_THAT(ErrorsIn(deep), ContainsSubstring(": nested too deeply"));
  }
  std::string laughs = "a: &a [ha, ha]\n";
  for (int i = 0; i < 30; ++i) laughs += "b: &a [*a, *a, *a, *a]\n";
  CHECK_THAT(ErrorsIn(laughs), ContainsSubstring("1:4: aliases and anchors"));
  CHECK_THAT(ErrorsIn("a: [" + std::string(8'000'000, ',')),
             ContainsSubstring(": more than 4000000 values"));
}

TEST_CASE("long lines are read", "[yaml]") {
  const std::string mebibyte(std::size_t{1} << 20, 'x');
  CHECK(ErrorsIn(Provider("    # " + mebibyte + "\n")).empty());
  CHECK(ParseProviders(Provider("    models: [" + mebibyte + "]\n"))[0]
            .models[0] == mebibyte);
  CHECK_THAT(
      ErrorsIn("providers: [{ name: a, base_url: https://a, api_keys: [" +
               mebibyte + "]}]"),
      ContainsSubstring("1:56: providers[0].api_keys[0]: the key: "
                        "longer than any key"));
  CHECK_THAT(ErrorsIn(Provider("    " + mebibyte + ": 1\n")),
             ContainsSubstring("5:1048581: a colon"));
}

TEST_CASE("a hundred thousand keys are read", "[yaml]") {
  std::string text = Provider("");
  text.resize(text.size() - std::string("[sk-a]\n").size());
  text += "\n";
  for (int i = 0; i < 100'000; ++i)
    text += fmt::format("      - {{ key: sk-{}, name: k-{} }}\n", i, i);
  const auto providers = ParseProviders(text);
  REQUIRE(providers[0].api_keys.size() == 100'000);
  CHECK(providers[0].api_keys.back().options.name == "k-99999");
}

TEST_CASE("providers and keys come from files", "[yaml]") {
  const TemporaryDirectory directory;
  const auto write = [&](const std::string& name, const std::string& text) {
    WriteFile(directory / name, text);
    return (directory / name).string();
  };
  const std::string keys = write("keys", "# ours\nsk-1\nsk-2\n");
  const std::string bad = write("bad", "sk-1\n" + kSecret + " x\n");
  const std::string none = write("none", "# none yet\n");
  const auto load = [&](const std::string& key_file) {
    return LoadProviders(write("providers.yaml",
                               "providers: [{ name: a, base_url: https://a, "
                               "api_keys: [{ key_file: '" +
                                   key_file + "' }] }]"));
  };
  const auto error_of = [&](const std::string& key_file) -> std::string {
    try {
      load(key_file);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  const auto providers = load(keys);
  REQUIRE(providers.size() == 1);
  CHECK(MakeKeyRotator(providers[0]).Size() == 2);
  const std::string place = directory.path().string() +
                            "/providers.yaml:1:68: "
                            "providers[0].api_keys[0].key_file: ";
  CHECK(error_of(bad) == place +
                             "the file, line 2: a blank, or a byte that cannot "
                             "stand in a header");
  CHECK(error_of(none) == place +
                              "no key is there (not set, or empty), and the "
                              "provider has no other");
  CHECK(error_of(kSecret) == place + "the file: No such file or directory");
}

TEST_CASE("a file that cannot be read is told", "[yaml]") {
  const TemporaryDirectory directory;
  CHECK_THROWS_WITH(
      LoadProviders(directory.path().string() + "/missing.yaml"),
      directory.path().string() + "/missing.yaml: No such file or directory");
  CHECK_THROWS_WITH(
      LoadProviders(directory.path()),
      directory.path().string() + ": a directory, where a YAML file should be");
  const std::string pipe = (directory / "pipe").string();
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(LoadProviders(pipe),
                    pipe + ": a pipe, where a YAML file should be");
  CHECK_THROWS_WITH(LoadProviders("/dev/zero"),
                    "/dev/zero: a device, where a YAML file should be");
  const std::string large = (directory / "large").string();
  WriteFile(large, "");
  std::filesystem::resize_file(large, (std::uintmax_t{64} << 20) + 1);
  CHECK_THROWS_WITH(LoadProviders(large), large + ": above 64 MiB");
}

TEST_CASE("a configuration that all can write is refused", "[yaml]") {
  const TemporaryDirectory directory;
  const std::string path = (directory / "providers.yaml").string();
  WriteFile(path, Provider(""));
  std::filesystem::permissions(path, std::filesystem::perms(0602));
  CHECK_THROWS_WITH(LoadProviders(path),
                    path +
                        ": every user may write to it, and so choose where the "
                        "keys go; chmod o-w it");
}

TEST_CASE("a configuration with keys that others can read is told of",
          "[yaml]") {
  const TemporaryDirectory directory;
  const std::string path = (directory / "providers.yaml").string();
  const auto told = [&](const std::string& text, int mode) {
    WriteFile(path, text);
    std::filesystem::permissions(path,
                                 static_cast<std::filesystem::perms>(mode));
    std::string warnings;
    CHECK(LoadProviders(path, Variables({{"KEY", "sk-a"}}),
                        [&](const std::string& text_of_one) {
                          warnings += text_of_one + "\n";
                        })
              .size() == 1);
    return warnings;
  };
  const std::string named =
      "providers: [{ name: a, base_url: https://a, api_key_env: KEY }]";
  const std::string bare = Provider("");
  const std::string field =
      "providers: [{ name: a, base_url: https://a, "
      "api_keys: [{ key_env: KEY }, { key: sk-b }] }]";
  CHECK(told(named, 0644).empty());
  const std::string fleet = named.substr(0, named.size() - 3) +
                            ", fleet: { pool: p, redis: 'redis://";
  CHECK(told(fleet + "cache' } }]", 0644).empty());
  const std::string password = fleet + ":x@cache' } }]";
  for (const std::string& text : {bare, field, password}) {
    CHECK(told(text, 0600).empty());
    CHECK(told(text, 0644) ==
          path + ": every user may read the keys in it; chmod go-r it\n");
    CHECK(told(text, 0640) ==
          path +
              ": the group of the file may read the keys in it; chmod g-r "
              "it\n");
  }
}

}  // namespace
}  // namespace keyrotator::testing::config_yaml_test
