// File: config/provider_config.h
//
// ProviderConfig: a provider and its keys as a configuration names them, and
// the rotator that follows from it. Keys stand in the configuration, in the
// environment or in files.
//
// Example:
//   keyrotator::ProviderConfig config{
//       .name = "openai",
//       .base_url = "https://api.openai.com/v1",
//       .api_keys = {{.key_env = "OPENAI_KEY_1", .options = {.weight = 2}},
//                    {.key_file = "/run/secrets/openai"}},
//       .key_selection = "weighted"};
//   auto rotator = keyrotator::MakeKeyRotator(config);
//
//   // Or without any configuration:
//   keyrotator::KeyRotator rotator(keyrotator::FindKeysInEnv());

#ifndef KEYROTATOR_CONFIG_PROVIDER_CONFIG_H_
#define KEYROTATOR_CONFIG_PROVIDER_CONFIG_H_

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/config/any_selection.h"
#include "keyrotator/config/near_miss.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/retry_options.h"
#include "keyrotator/rotator_options.h"

namespace keyrotator {

// What is wrong with a configuration, and where. There is no secret in it.
struct ConfigError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Where keys come from: exactly one of the first three. Nothing prints it.
struct KeyConfig {
  // The key itself.
  std::string key = {};
  // The variable that holds it, or several, as KeysFromEnv takes them.
  std::string key_env = {};
  // The file that holds it, or several, as KeysFromFile takes them.
  std::string key_file = {};
  // Of each of them; a name can only be given to one key.
  KeyOptions options = {};
};

// A provider. Durations are written in text as a number directly followed by
// ms, s, m, h or d ("500ms", "1.5m"), without a blank or sign.
struct ProviderConfig {
  // For people.
  std::string name = {};
  // With its path, as the provider gives it.
  std::string base_url = {};
  std::vector<KeyConfig> api_keys = {};
  // The variable with a key that is used if `api_keys` gives none.
  std::string api_key_env = {};
  // One of AnySelection::Names(). The default served as much as any other in
  // every cell of tests/benchmarks/goodput, and more where limits differ; where
  // none are reported it is in turn.
  std::string key_selection = "most-headroom";

  // See RotatorOptions, whose defaults hold where these are empty. They also
  // hold for a client's guesses, instead of RetryOptions::guess.
  std::optional<Span> cooldown = {};
  std::optional<Span> max_cooldown = {};
  std::optional<double> cooldown_multiplier = {};

  RetryOptions retry = {};

  // The header that carries the key, and what stands before it. Azure:
  // "api-key" and nothing.
  std::string auth_header = "Authorization";
  std::string auth_prefix = "Bearer ";
  // Allows to reach a host that is not loopback by http, without TLS.
  bool allow_http = false;

  // What the provider serves, for whoever chooses among providers. Nothing here
  // looks at it.
  std::vector<std::string> models = {};
};

// The value of a variable, or null if it is not set.
using Environment = std::function<const char*(const char* name)>;

// The process's. Not to be read while another thread changes it.
inline const char* SystemEnvironment(const char* name) {
  return std::getenv(name);
}

// Told of what is allowed but unwise. There is no secret in it.
using OnWarning = std::function<void(const std::string& message)>;

namespace internal {

// What separates keys in a text, and what a part of it is called.
struct KeyFormat {
  std::string_view separators;
  std::string_view part;
  bool comments = false;
};
inline constexpr KeyFormat kKeysInVariable{",\n", "entry"};
inline constexpr KeyFormat kKeysInFile{"\n", "line", true};

// Servers take header lines of 8 to 16 KiB, so what is longer is no key.
inline constexpr std::size_t kLongestKey = std::size_t{16} << 10;
inline constexpr std::size_t kLargestKeyFile = std::size_t{16} << 20;

// Throws unless `key`, which has no blanks around it, can be one.
inline void CheckKeyText(std::string_view key, const std::string& where) {
  if (key.size() > kLongestKey) {
    throw ConfigError(
        fmt::format("{}: longer than any key, {} bytes", where, key.size()));
  }
  // RFC 9110, 5.5, and no key has a blank.
  if (std::any_of(key.begin(), key.end(),
                  [](char c) { return c <= ' ' || c > '~'; })) {
    throw ConfigError(fmt::format(
        "{}: a blank, or a byte that cannot stand in a header", where));
  }
}

// The keys in `text`, each once.
inline std::vector<std::string> SplitKeys(std::string_view text,
                                          const KeyFormat& format,
                                          std::string_view where) {
  if (constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
      text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  std::vector<std::string> keys;
  std::unordered_set<std::string_view> seen;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end =
        std::min(text.find_first_of(format.separators), text.size());
    std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    for (std::size_t i = 0; format.comments && i < part.size(); ++i) {
      if (part[i] == '#' && (i == 0 || IsBlank(part[i - 1])))
        part = part.substr(0, i);
    }
    part = Trim(part);
    if (part.empty() || !seen.insert(part).second) continue;
    CheckKeyText(part, fmt::format("{}, {} {}", where, format.part, number));
    keys.emplace_back(part);
  }
  return keys;
}

// What is shown of the name of a variable or the path of a file, since some
// people write the key itself there.
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

// How an error speaks of the provider.
inline std::string Called(const ProviderConfig& config) {
  return config.name.empty() ? "the provider"
                             : fmt::format("provider \"{}\"", config.name);
}

// The keys in a variable; none if it is not set.
inline std::vector<std::string> ReadVariable(const std::string& name,
                                             std::string_view where,
                                             const Environment& environment) {
  const char* const text = environment(name.c_str());
  if (text == nullptr) return {};
  return SplitKeys(text, kKeysInVariable, where);
}

// The keys in a file.
inline std::vector<std::string> ReadKeyFile(const std::filesystem::path& path,
                                            const std::string& where,
                                            const OnWarning& on_warning) {
  namespace fs = std::filesystem;
  const auto refuse = [&](std::string_view why) {
    throw ConfigError(fmt::format("{}: {}", where, why));
  };
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error) refuse(error.message());
  if (status.type() == fs::file_type::directory)
    refuse("a directory, where a file with keys should be");
  const auto others_may = [&](fs::perms what) {
    return (status.permissions() & what) != fs::perms::none;
  };
  if (others_may(fs::perms::others_write))
    refuse("every user may write to it, and so choose the keys; chmod o-w it");
  if (others_may(fs::perms::others_read) && on_warning) {
    on_warning(fmt::format(
        "{}: every user may read the keys in it; chmod o-r it", where));
  }

  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) refuse(std::generic_category().message(errno));
  std::string text;
  std::array<char, std::size_t{64} << 10> piece;
  do {
    stream.read(piece.data(), piece.size());
    text.append(piece.data(), static_cast<std::size_t>(stream.gcount()));
    if (text.size() > kLargestKeyFile) refuse("above 16 MiB");
  } while (stream);
  if (stream.bad()) refuse("cannot be read");
  return SplitKeys(text, kKeysInFile, where);
}

}  // namespace internal

// The keys in a variable, separated by commas or line breaks; none if it is not
// set. Blanks around them do not count, and an equal key counts once. Throws
// ConfigError, which names the variable and the key's position in it, for a key
// with a blank or byte that cannot stand in a header, or above 16 KiB. Linear.
inline ApiKeys KeysFromEnv(const std::string& name = "OPENAI_API_KEYS",
                           const Environment& environment = SystemEnvironment) {
  return internal::ReadVariable(name, name, environment);
}

// The keys of <prefix>_API_KEYS; if there are none, those of <prefix>_API_KEY,
// <prefix>_API_KEY_1, <prefix>_API_KEY_2 and so on, up to the first number that
// is not set. Throws as KeysFromEnv does.
inline ApiKeys FindKeysInEnv(
    const std::string& prefix = "OPENAI",
    const Environment& environment = SystemEnvironment) {
  const std::string single = prefix + "_API_KEY";
  std::vector<std::string> keys =
      internal::ReadVariable(single + "S", single + "S", environment);
  if (!keys.empty()) return keys;
  const auto take = [&](const std::string& name) {
    for (std::string& key : internal::ReadVariable(name, name, environment))
      keys.push_back(std::move(key));
  };
  take(single);
  for (int number = 1;; ++number) {
    const std::string name = fmt::format("{}_{}", single, number);
    if (environment(name.c_str()) == nullptr) return keys;
    take(name);
  }
}

// The keys in a file: one a line; what follows a # at the start of the line or
// after a blank is a comment. Blank lines, blanks around keys, a byte order
// mark and CR LF are all right, and an equal key counts once. A file that every
// user can read is used with a warning (mounted secrets often are of this
// kind); one that every user can write is refused.
//
// Throws ConfigError, which names the file and line, for such a file, one that
// cannot be read or is above 16 MiB, and for a key as KeysFromEnv does. Linear.
inline ApiKeys KeysFromFile(const std::filesystem::path& path,
                            const OnWarning& on_warning = {}) {
  return internal::ReadKeyFile(path, path.string(), on_warning);
}

// The keys of a provider. Variables that are not set and files without a key
// are passed over, unless no key is left: then ConfigError says where they were
// looked for. It also tells of what KeysFromEnv and KeysFromFile throw, of an
// entry that has not exactly one of key, key_env and key_file, and of a name
// for several keys.
inline ApiKeys ResolveKeys(const ProviderConfig& config,
                           const Environment& environment = SystemEnvironment,
                           const OnWarning& on_warning = {}) {
  std::vector<ApiKey> keys;
  std::vector<std::string> empty;  // where no key was found
  const auto take = [&](const std::vector<std::string>& found,
                        const std::string& place, const KeyOptions& options,
                        const std::string& where) {
    if (found.empty()) empty.push_back(place);
    if (found.size() > 1 && !options.name.empty()) {
      throw ConfigError(fmt::format(
          "{}: it has a name, which is for one key, but {} holds {}", where,
          place, found.size()));
    }
    for (const std::string& key : found) keys.emplace_back(key, options);
  };
  const auto take_variable = [&](const std::string& name,
                                 const KeyOptions& options,
                                 const std::string& where) {
    const std::string place = internal::ShownVariable(name);
    take(internal::ReadVariable(name, fmt::format("{}: {}", where, place),
                                environment),
         place, options, where);
  };

  const std::string provider = internal::Called(config);
  for (std::size_t i = 0; i < config.api_keys.size(); ++i) {
    const KeyConfig& entry = config.api_keys[i];
    const std::string where =
        fmt::format("{}, entry {} of api_keys", provider, i + 1);
    const std::string_view key = internal::Trim(entry.key);
    if (!key.empty() + !entry.key_env.empty() + !entry.key_file.empty() != 1) {
      throw ConfigError(fmt::format(
          "{}: it must have one of key, key_env and key_file", where));
    }
    if (!entry.key_env.empty()) {
      take_variable(entry.key_env, entry.options, where);
    } else if (!entry.key_file.empty()) {
      const std::string place = internal::ShownPath(entry.key_file);
      take(internal::ReadKeyFile(
               entry.key_file, fmt::format("{}: {}", where, place), on_warning),
           place, entry.options, where);
    } else {
      internal::CheckKeyText(key, where);
      take({std::string(key)}, "key", entry.options, where);
    }
  }
  if (keys.empty() && !config.api_key_env.empty())
    take_variable(config.api_key_env, {}, provider + ", api_key_env");
  if (keys.empty()) {
    throw ConfigError(fmt::format(
        "{} has no API key; {}", provider,
        empty.empty()
            ? "neither api_keys nor api_key_env is given"
            : fmt::format("not set, or empty: {}", internal::Listed(empty))));
  }
  return keys;
}

// `options` with what the configuration says.
inline RotatorOptions MakeRotatorOptions(const ProviderConfig& config,
                                         RotatorOptions options = {}) {
  options.cooldown = config.cooldown.value_or(options.cooldown);
  options.max_cooldown = config.max_cooldown.value_or(options.max_cooldown);
  options.cooldown_multiplier =
      config.cooldown_multiplier.value_or(options.cooldown_multiplier);
  return options;
}

// How a client sends requests again: the configuration's cooldown, if it has
// one, is that of a key whose limit came without a hint.
inline RetryOptions MakeRetryOptions(const ProviderConfig& config) {
  RetryOptions retry = config.retry;
  Cooldown& guess = retry.guess;
  if (config.cooldown) {
    // Who says how long wants no pace that is learned.
    guess = {.initial = *config.cooldown,
             .multiplier = 1,
             .max = RotatorOptions().max_cooldown};
  }
  guess.multiplier = config.cooldown_multiplier.value_or(guess.multiplier);
  if (config.max_cooldown)
    guess.max = std::min(guess.max, *config.max_cooldown);
  return retry;
}

// A rotator over the provider's keys. `options` has what a configuration does
// not say, as on_event. Throws ConfigError, which names the provider, for all
// that ResolveKeys, AnySelection and KeyRotator throw for.
template <class Clock = std::chrono::steady_clock>
KeyRotator<AnySelection, Clock> MakeKeyRotator(
    const ProviderConfig& config, RotatorOptions options = {},
    Clock clock = Clock(), const Environment& environment = SystemEnvironment,
    const OnWarning& on_warning = {}) {
  const ApiKeys keys = ResolveKeys(config, environment, on_warning);
  try {
    return KeyRotator<AnySelection, Clock>(
        keys, MakeRotatorOptions(config, std::move(options)),
        AnySelection(config.key_selection), std::move(clock));
  } catch (const std::invalid_argument& error) {
    throw ConfigError(
        fmt::format("{}: {}", internal::Called(config), error.what()));
  }
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_PROVIDER_CONFIG_H_
