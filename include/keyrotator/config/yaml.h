// File: config/yaml.h
//
// Providers from YAML. It is strict: what it does not know is an error, and all
// errors of a file are reported at once, each with its place. All fields are in
// examples/providers.yaml.
//
// Example:
//   for (const keyrotator::ProviderConfig& provider :
//        keyrotator::LoadProviders("providers.yaml"))
//     fmt::print("{}: {}\n", provider.name, provider.base_url);

#ifndef KEYROTATOR_CONFIG_YAML_H_
#define KEYROTATOR_CONFIG_YAML_H_

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/config/any_selection.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/near_miss.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/config/yaml_document.h"
#include "keyrotator/config/yaml_fields.h"
#include "keyrotator/cooldown.h"
#include "keyrotator/http/url.h"
#include "keyrotator/internal/header_text.h"
#include "keyrotator/internal/read_file.h"
#include "keyrotator/internal/redis_url.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/retry_budget.h"
#include "keyrotator/retry_options.h"

namespace keyrotator {

// The providers of `text`, in its order. Throws ConfigError with a line for
// each thing that is wrong, by line,
//   providers.yaml:7:9: providers[0].api_keys[1].weight: expected a number ...
// up to the first 100. Except for the name of a field that is nearly right, a
// message repeats nothing of the text: anything in it could be a key in the
// wrong place. `file` is what messages call the text.
//
// The variables and files of the keys are read to find out whether a provider
// has a key, and those of a fleet's password and secret whether they are set;
// ResolveKeys and MakeFleet read them again. Nothing else comes from the
// environment: there is no ${VAR}. Relative paths are the process's. Aliases,
// anchors, tags and a second document are errors, as are a text above 64 MiB
// and nesting that no configuration needs. Linear.
std::vector<ProviderConfig> ParseProviders(
    std::string_view text, std::string_view file = "YAML",
    const Environment& environment = SystemEnvironment);

// The providers of a file; symbolic links are followed. Throws as ParseProviders
// does, and for what is not a regular file (it never waits for a pipe), cannot
// be read or may be written by every user, who could then send the keys
// elsewhere. `on_warning` is told if the file itself holds keys, or a password in
// the URL of a fleet's Redis, and others than its owner may read it; of files that it names, whoever reads their keys is
// told (ResolveKeys).
std::vector<ProviderConfig> LoadProviders(
    const std::filesystem::path& path,
    const Environment& environment = SystemEnvironment,
    const OnWarning& on_warning = {});

namespace internal {

// For fields that do not take any text: what is wrong with one, or "".
inline std::string CheckUrlField(const std::string& text) {
  if (ParseUrl(text)) return "";
  return "expected an http or https URL, without a user name or password, such "
         "as https://api.openai.com/v1";
}
inline std::string CheckSelectionField(const std::string& text) {
  const auto names = AnySelection::Names();
  if (std::find(names.begin(), names.end(), text) != names.end()) return "";
  return fmt::format("expected one of {}{}", Listed(names),
                     DidYouMean(text, names));
}
inline std::string CheckHeaderField(const std::string& text) {
  if (IsToken(text)) return "";
  return "expected the name of a header, such as Authorization";
}
inline std::string CheckPoolField(const std::string& text) {
  if (IsRedisPool(text)) return "";
  return "expected the name of a pool: 1 to 64 of A-Z a-z 0-9 . _ -";
}
// Names of variables may be a secret in the wrong place, so messages do not
// repeat them.
inline bool CanBeVariable(const std::string& name) {
  return !IsDigit(name[0]) && std::all_of(name.begin(), name.end(), [](char c) {
    return IsAlphanumeric(c) || c == '_';
  });
}

// Of a URL that can be used.
inline bool HasPassword(const FleetConfig& fleet) {
  return !ParseRedisUrl(fleet.redis).password.text().empty();
}

// The schema of a file: what fields there are and what they must hold.
class ProvidersReader : public YamlFields {
 public:
  explicit ProvidersReader(const Environment& environment)
      : environment_(environment) {}

  // What it returns counts only if nothing is wrong, see Finish.
  std::vector<ProviderConfig> ReadText(std::string_view text) {
    std::vector<ProviderConfig> providers;
    try {
      const YAML::Node root = ParseYaml(text);
      const YAML::Mark mark = root.Mark();
      ReadFields({root, mark.is_null() ? YAML::Mark() : mark, ""},
                 {{.name = "providers",
                   .read = Into(providers, &ProvidersReader::ReadProviders),
                   .required = true}});
    } catch (const YamlError& error) {
      problems_.push_back({error.mark, "", error.what()});
    }
    return providers;
  }

 private:
  // What is known of the keys of one provider.
  struct Pool {
    std::size_t keys = 0;
    // A source was wrong, so there may be more keys.
    bool doubtful = false;
    // Sources without a key: wrong if there is no other.
    std::vector<Problem> empty = {};
    Names names = {};
  };

  // ---- Providers ----

  void ReadProviders(const Value& list, std::vector<ProviderConfig>& out) {
    const std::size_t before = problems_.size();
    ReadList(list, [&](const Value& each) {
      ReadProvider(each, out.emplace_back());
    });
    if (out.empty() && problems_.size() == before)
      Wrong(list, "expected at least one provider");
  }

  void ReadProvider(const Value& value, ProviderConfig& out) {
    using Self = ProvidersReader;
    pool_ = {};
    std::optional<Span> cooldown;
    double multiplier = 0;  // 0: not given
    ReadFields(value,
               {{"name", Into(out.name, &provider_names_), true},
                {"base_url", Into(out.base_url, CheckUrlField), true},
                {"api_keys", Into(out.api_keys, &Self::ReadKeys)},
                {"api_key_env", Into(out.api_key_env, &Self::ReadVariableName)},
                {"key_selection", Into(out.key_selection, CheckSelectionField)},
                {"cooldown", Into(cooldown)},
                {"max_cooldown", Into(out.max_cooldown)},
                {"cooldown_multiplier",
                 Into(multiplier, Bound{"a number of at least 1", 1})},
                {"quota_cooldown", Into(out.retry.quota_cooldown)},
                {"retry", Into(out.retry, &Self::ReadRetry)},
                {"retry_budget", Into(out.retry_budget, &Self::ReadBudget)},
                {"auth", Into(out, &Self::ReadAuth)},
                {"allow_http", Into(out.allow_http)},
                {"models", Into(out.models)},
                {"fleet", Into(out.fleet, &Self::ReadFleet)}});
    if (cooldown) {
      out.cooldown = Cooldown{.initial = *cooldown,
                              .multiplier = std::max(multiplier, 1.0)};
    } else if (multiplier > 0) {
      out.retry.guess.multiplier = multiplier;
    }
    if (!value.node.IsMap() || pool_.keys > 0 || pool_.doubtful) return;
    if (pool_.empty.empty())
      Wrong(value, "it has no key: give it api_keys or api_key_env");
    for (Problem& each : pool_.empty) problems_.push_back(std::move(each));
  }

  void ReadRetry(const Value& value, RetryOptions& out) {
    int attempts = out.max_retries + 1;
    ReadFields(value,
               {{"max_attempts",
                 Into(attempts, Bound{"a whole number of at least 1", 1})},
                {"initial_backoff", Into(out.initial_backoff)},
                {"max_backoff", Into(out.max_backoff)},
                {"deadline", Into(out.deadline)},
                {"retry_ambiguous", Into(out.retry_ambiguous)}});
    out.max_retries = attempts - 1;
  }

  // Its fields, or false for none.
  void ReadBudget(const Value& value, std::optional<RetryBudget>& out) {
    RetryBudget& budget = out.emplace();
    if (value.node.IsScalar()) {
      bool bounded = true;
      Read(value, bounded);
      if (!bounded) budget.ratio = std::numeric_limits<double>::infinity();
      return;
    }
    const Bound bound{"a number of at least 0"};
    ReadFields(value, {{"ratio", Into(budget.ratio, bound)},
                       {"per_second", Into(budget.per_second, bound)}});
  }

  void ReadAuth(const Value& value, ProviderConfig& out) {
    ReadFields(value, {{"header", Into(out.auth_header, CheckHeaderField)},
                       {"prefix",
                        Into(out.auth_prefix, &ProvidersReader::ReadPrefix)}});
  }

  // Unlike other text it may be empty, and keeps its blanks.
  void ReadPrefix(const Value& value, std::string& out) {
    const std::string& text = value.node.Scalar();
    if (!value.node.IsScalar()) {
      Expect(value, "text (\"\" for none)");
    } else if (FindUnprintable(text) != text.npos) {
      Wrong(value, "a byte that cannot stand in a header");
    } else if (!text.empty() && IsAlphanumeric(text.back())) {
      Wrong(value,
            "it would run into the key; a blank at its end needs quotes, as in "
            "\"Bearer \"");
    } else {
      out = text;
    }
  }

  // ---- The fleet ----

  void ReadFleet(const Value& value, std::optional<FleetConfig>& out) {
    using Self = ProvidersReader;
    FleetConfig& fleet = out.emplace();
    const std::size_t before = problems_.size();
    ReadFields(
        value,
        {{"redis", Into(fleet.redis, &Self::ReadRedisUrl), true},
         {"username", Into(fleet.username)},
         {"password_env", Into(fleet.password_env, &Self::ReadSecretName)},
         {"pool", Into(fleet.pool, &Self::ReadFleetPool), true},
         {"secret_env", Into(fleet.secret_env, &Self::ReadSecretName)},
         {"period", Into(fleet.period, &Self::ReadPeriod)},
         {"clear_names", Into(fleet.clear_names)}});
    if (problems_.size() == before && !fleet.username.empty() &&
        fleet.password_env.empty() && !HasPassword(fleet))
      Wrong(value, "a username needs a password: give it password_env");
  }

  void ReadRedisUrl(const Value& value, std::string& out) {
    if (value.node.IsScalar() &&
        value.node.Scalar().find("${") != std::string::npos) {
      Wrong(value,
            "no variables are put into text; for a password from the "
            "environment use password_env, with the bare name");
    } else if (Read(value, out)) {
      try {
        ParseRedisUrl(out);
      } catch (const std::invalid_argument& error) {
        Wrong(value, error.what());
      }
    }
  }

  // Pools of different providers would take each other for their own.
  void ReadFleetPool(const Value& value, std::string& out) {
    if (Read(value, out, CheckPoolField)) Read(value, out, &fleet_pools_);
  }

  void ReadSecretName(const Value& value, std::string& out) {
    if (!Read(value, out)) return;
    if (!CanBeVariable(out)) {
      Wrong(value,
            "expected the name of a variable (letters, digits and _), not the "
            "secret itself");
    } else if (ReadSecret(out, environment_).text().empty()) {
      Wrong(value, "the variable is not set, or empty");
    }
  }

  // As FleetOptions has it.
  void ReadPeriod(const Value& value, std::optional<Span>& out) {
    Read(value, out);
    if (out && (*out < std::chrono::milliseconds(50) ||
                *out > std::chrono::seconds(1)))
      Wrong(value, "expected a duration from 50ms to 1s");
  }

  // ---- Keys ----

  void ReadKeys(const Value& list, std::vector<KeyConfig>& out) {
    if (!list.node.IsSequence()) pool_.doubtful = true;
    ReadList(list, [&](const Value& each) {
      KeyConfig& entry = out.emplace_back();
      if (each.node.IsScalar()) {
        ReadBareKey(each, entry.key);
      } else {
        ReadKey(each, entry);
      }
    });
  }

  void ReadKey(const Value& value, KeyConfig& out) {
    using Self = ProvidersReader;
    const std::size_t keys_before = pool_.keys;
    sources_ = 0;
    ReadFields(
        value,
        {{"key", Into(out.key, &Self::ReadLiteral)},
         {"key_env", Into(out.key_env, &Self::ReadVariableName)},
         {"key_file", Into(out.key_file, &Self::ReadFileName)},
         {"name", Into(out.options.name, &pool_.names)},
         {"group", Into(out.options.group)},
         {"weight",
          Into(out.options.weight, Bound{"a number above 0", 0, false})},
         {"max_in_flight", Into(out.options.max_in_flight,
                                Bound{"a whole number (0 for no bound)"})}});
    const std::size_t keys = pool_.keys - keys_before;
    if (sources_ != 1) {
      pool_.doubtful = true;
      if (value.node.IsMap()) {
        Wrong(value,
              fmt::format("expected one of key, key_env and key_file, found {}",
                          sources_ == 0 ? "none" : "several"));
      }
    } else if (keys > 1 && !out.options.name.empty()) {
      Wrong(value, fmt::format("a name is for one key, found {} keys", keys));
    }
  }

  // An entry that is only a text is a key.
  void ReadBareKey(const Value& value, std::string& out) {
    ReadLiteral(value, out);
    if (out.find('_') != out.npos && ShownVariable(out) == out) {
      Wrong(value,
            "expected a key, found what looks like the name of a variable; "
            "write { key_env: NAME }, or { key: ... } if it is a key");
    }
  }

  void ReadLiteral(const Value& value, std::string& out) {
    ReadSource(value, out, [&]() -> std::size_t {
      if (out.starts_with('$')) {
        throw ConfigError(
            "no key begins with $; for one from the environment use key_env, "
            "with the bare name");
      }
      CheckKeyText(out, "the key");
      return 1;
    });
  }

  void ReadVariableName(const Value& value, std::string& out) {
    ReadSource(value, out, [&] {
      if (!CanBeVariable(out)) {
        throw ConfigError(
            "expected the name of a variable (letters, digits and _), not the "
            "key itself");
      }
      return ReadVariable(out, "the variable", environment_).size();
    });
  }

  void ReadFileName(const Value& value, std::string& out) {
    ReadSource(value, out,
               [&] { return ReadKeyFile(out, "the file", {}).size(); });
  }

  // Reads where keys are, and adds those that `count` counts there. It may
  // throw ConfigError.
  template <class Count>
  void ReadSource(const Value& value, std::string& out, const Count& count) {
    ++sources_;
    if (!Read(value, out)) {
      pool_.doubtful = true;
      return;
    }
    try {
      const std::size_t keys = count();
      pool_.keys += keys;
      if (keys > 0) return;
      pool_.empty.push_back({value.mark, value.field,
                             "no key is there (not set, or empty), and the "
                             "provider has no other"});
    } catch (const ConfigError& error) {
      pool_.doubtful = true;
      Wrong(value, error.what());
    }
  }

  const Environment& environment_;
  Names provider_names_;
  Names fleet_pools_;
  Pool pool_;        // of the provider that is being read
  int sources_ = 0;  // of the entry of api_keys that is being read
};

}  // namespace internal

inline std::vector<ProviderConfig> ParseProviders(
    std::string_view text, std::string_view file,
    const Environment& environment) {
  internal::ProvidersReader reader(environment);
  std::vector<ProviderConfig> providers = reader.ReadText(text);
  reader.Finish(file);
  return providers;
}

inline std::vector<ProviderConfig> LoadProviders(
    const std::filesystem::path& path, const Environment& environment,
    const OnWarning& on_warning) {
  internal::FileText file;
  try {
    file = internal::ReadFile(path, internal::kLongestYaml, "a YAML file");
  } catch (const std::runtime_error& error) {
    throw ConfigError(fmt::format("{}: {}", path.string(), error.what()));
  }
  internal::CheckWriters(file.mode, path.string(), "choose where the keys go");
  const internal::SecretText text(std::move(file.text));
  auto providers = ParseProviders(text, path.string(), environment);
  const auto has_secret = [](const ProviderConfig& provider) {
    return (provider.fleet && internal::HasPassword(*provider.fleet)) ||
           std::any_of(
               provider.api_keys.begin(), provider.api_keys.end(),
               [](const KeyConfig& entry) { return !entry.key.empty(); });
  };
  if (std::any_of(providers.begin(), providers.end(), has_secret))
    internal::WarnOfReaders(file.mode, path.string(), on_warning);
  return providers;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_YAML_H_
