// File: config/provider_config.h
//
// ProviderConfig: a provider and its keys as a configuration describes them.
// config/yaml.h reads it from a file; config/make_key_rotator.h,
// openai/make_client.h and redis/make_fleet.h make something of it.
//
// Example:
//   keyrotator::ProviderConfig config{
//       .name = "openai",
//       .base_url = "https://api.openai.com/v1",
//       .api_keys = {{.key_env = "OPENAI_KEY_1", .options = {.weight = 2}},
//                    {.key_file = "/run/secrets/openai"}},
//       .key_selection = "weighted"};
//   keyrotator::ApiKeys keys = keyrotator::ResolveKeys(config);

#ifndef KEYROTATOR_CONFIG_PROVIDER_CONFIG_H_
#define KEYROTATOR_CONFIG_PROVIDER_CONFIG_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/near_miss.h"
#include "keyrotator/cooldown.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/retry_budget.h"
#include "keyrotator/retry_options.h"

namespace keyrotator {

// Where one or more keys come from: exactly one of the first three fields is
// set. It cannot be formatted, since it may hold a key.
struct KeyConfig {
  // The key itself. Unlike the keys of a rotator it is not overwritten when it
  // goes, so programs that care keep keys in variables or files.
  std::string key = {};
  // The environment variable that holds one key or several, see KeysFromEnv.
  std::string key_env = {};
  // The file that holds one key or several, see KeysFromFile.
  std::string key_file = {};
  // For each of these keys. A name can only be given to a single key.
  KeyOptions options = {};
};

// How the processes that use a provider's keys share them, over Redis.
struct FleetConfig {
  // redis://user:password@host:port/database, rediss://... with TLS, or
  // unix:///path?db=database. A password here is not overwritten when it goes,
  // so programs that care keep it in a variable.
  std::string redis = {};
  // Instead of those of the URL, if not empty. A user needs Redis 6.
  std::string username = {};
  // The variable that holds the password.
  std::string password_env = {};
  // What the pool of keys is called there, the same in all of its processes and
  // no other's: 1 to 64 of A-Za-z0-9._-.
  std::string pool = {};
  // The variable that holds the fleet's secret, by which Redis never gets to
  // know a key. The same secret in all processes.
  std::string secret_env = {};
  // From 50 ms to 1 s. Empty: FleetOptions::period.
  std::optional<Span> period = {};
  // Groups and scopes (models) are named as they are, for who looks into Redis.
  // The same in all processes.
  bool clear_names = false;
};

// One provider: its URL, its keys and how to use them.
struct ProviderConfig {
  // For messages alone.
  std::string name = {};
  // With its path, as the provider documents it: https://api.openai.com/v1.
  std::string base_url = {};
  std::vector<KeyConfig> api_keys = {};
  // The variable with the key to use if `api_keys` gives none.
  std::string api_key_env = {};
  // One of AnySelection::Names(). The default served as many requests as any
  // other policy in every cell of tests/benchmarks/goodput, and more where
  // limits differ; where no limits are reported it picks in turn.
  std::string key_selection = "most-headroom";

  // How long a key rests whose limit came without a hint. A client takes it in
  // place of RetryOptions::guess, so that it learns no pace by default; a
  // rotator that is used alone takes `initial` and `multiplier`. Empty: the
  // defaults of each.
  std::optional<Cooldown> cooldown = {};
  // No cooldown is longer, hint or not. Empty: RotatorOptions::max_cooldown.
  std::optional<Span> max_cooldown = {};

  RetryOptions retry = {};
  // Empty: RotatorOptions::retry_budget.
  std::optional<RetryBudget> retry_budget = {};

  // The header that carries the key, and the text before the key. Azure:
  // "api-key" and nothing.
  std::string auth_header = "Authorization";
  std::string auth_prefix = "Bearer ";
  // Whether http, without TLS, may be used for hosts that are not loopback.
  bool allow_http = false;

  // The models that the provider serves, by name or as a pattern with `*`: what
  // ChooseProvider goes by (config/choose_provider.h).
  std::vector<std::string> models = {};

  // For MakeFleet (redis/make_fleet.h) alone: neither MakeKeyRotator nor
  // MakeClient joins a fleet.
  std::optional<FleetConfig> fleet = {};
};

namespace internal {

// What messages show of the name of a variable or the path of a file, since
// some people write the key itself there.
inline std::string ShownVariable(const std::string& name) {
  const bool usual = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '_';
  });
  const bool digits = std::any_of(name.begin(), name.end(), IsDigit);
  return usual && (!digits || name.find('_') != name.npos) ? name
                                                           : "a variable";
}
inline std::string ShownPath(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::path parent =
      std::filesystem::path(path).parent_path();
  const bool there =
      std::filesystem::exists(path, ignored) ||
      (!parent.empty() && std::filesystem::is_directory(parent, ignored));
  return there ? path : "a file";
}

// How messages call the provider.
inline std::string Called(const ProviderConfig& config) {
  return config.name.empty() ? "the provider"
                             : fmt::format("provider \"{}\"", config.name);
}

// Where the keys of an entry were looked for, as messages may call it, and the
// keys found there.
struct FoundKeys {
  std::string place;
  std::vector<SecretText> keys;
};

// The keys of one entry, which messages call `where`.
inline FoundKeys FindKeys(const KeyConfig& entry, const std::string& where,
                          const Environment& environment,
                          const OnWarning& on_warning) {
  const std::string_view key = Trim(entry.key);
  if (!key.empty() + !entry.key_env.empty() + !entry.key_file.empty() != 1) {
    throw ConfigError(fmt::format(
        "{}: it must have one of key, key_env and key_file", where));
  }
  if (!key.empty()) {
    CheckKeyText(key, where);
    return {"key", {SecretText(key)}};
  }
  FoundKeys found{entry.key_file.empty() ? ShownVariable(entry.key_env)
                                         : ShownPath(entry.key_file),
                  {}};
  const std::string source = fmt::format("{}: {}", where, found.place);
  found.keys = entry.key_file.empty()
                   ? ReadVariable(entry.key_env, source, environment)
                   : ReadKeyFile(entry.key_file, source, on_warning);
  if (found.keys.size() > 1 && !entry.options.name.empty()) {
    throw ConfigError(
        fmt::format("{}: it has a name, which is for one key, but {} holds {}",
                    where, found.place, found.keys.size()));
  }
  return found;
}

}  // namespace internal

// The keys of a provider. Variables that are not set and files without a key
// are skipped. Throws ConfigError if there is no key at all, with the places
// where they were looked for; if an entry does not have exactly one of key,
// key_env and key_file; if a name is given to several keys; and as KeysFromEnv
// and KeysFromFile do. Linear.
inline ApiKeys ResolveKeys(const ProviderConfig& config,
                           const Environment& environment = SystemEnvironment,
                           const OnWarning& on_warning = {}) {
  std::vector<ApiKey> keys;
  std::vector<std::string> empty;  // where no key was found
  const auto take = [&](const KeyConfig& entry, const std::string& where) {
    const auto [place, found] =
        internal::FindKeys(entry, where, environment, on_warning);
    if (found.empty()) empty.push_back(place);
    for (const auto& key : found) keys.emplace_back(key.text(), entry.options);
  };
  const std::string provider = internal::Called(config);
  for (std::size_t i = 0; i < config.api_keys.size(); ++i) {
    take(config.api_keys[i],
         fmt::format("{}, entry {} of api_keys", provider, i + 1));
  }
  if (keys.empty() && !config.api_key_env.empty())
    take({.key_env = config.api_key_env}, provider + ", api_key_env");
  if (keys.empty()) {
    throw ConfigError(fmt::format(
        "{} has no API key; {}", provider,
        empty.empty()
            ? "neither api_keys nor api_key_env is given"
            : fmt::format("not set, or empty: {}", internal::Listed(empty))));
  }
  return keys;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_PROVIDER_CONFIG_H_
