// File: config/keys_from.h
//
// API keys from where they are kept: environment variables, and files such as a
// mounted secret. No error repeats a byte of a key.
//
// Example:
//   // OPENAI_API_KEYS, or OPENAI_API_KEY, OPENAI_API_KEY_1 ...
//   keyrotator::KeyRotator rotator(keyrotator::FindKeysInEnv());
//   // One key a line.
//   keyrotator::KeyRotator mounted(
//       keyrotator::KeysFromFile("/run/secrets/openai"));

#ifndef KEYROTATOR_CONFIG_KEYS_FROM_H_
#define KEYROTATOR_CONFIG_KEYS_FROM_H_

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/internal/header_text.h"
#include "keyrotator/internal/read_file.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"

namespace keyrotator {

// what() says what is wrong with a configuration, and where, without a secret.
struct ConfigError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The value of a variable, or null if it is not set.
using Environment = std::function<const char*(const char* name)>;

// The environment of the process. Not thread-safe while another thread changes
// that.
inline const char* SystemEnvironment(const char* name) {
  return std::getenv(name);
}

// Called with what is allowed but unwise. The message holds no secret.
using OnWarning = std::function<void(const std::string& message)>;

namespace internal {

// What separates keys in a text, and what messages call a part of it.
struct KeyFormat {
  std::string_view separators;
  std::string_view part;
  bool comments = false;
};
inline constexpr KeyFormat kKeysInVariable{",\n", "entry"};
inline constexpr KeyFormat kKeysInFile{"\n", "line", true};

// Servers accept header lines of 8 to 16 KiB, so a longer text is no key.
inline constexpr std::size_t kLongestKey = std::size_t{16} << 10;
inline constexpr std::size_t kLargestKeyFile = std::size_t{16} << 20;

// Throws ConfigError unless `key`, already trimmed, can be a key.
inline void CheckKeyText(std::string_view key, const std::string& where) {
  if (key.size() > kLongestKey) {
    throw ConfigError(
        fmt::format("{}: longer than any key, {} bytes", where, key.size()));
  }
  if (FindUnprintable(key) != key.npos || key.find(' ') != key.npos) {
    throw ConfigError(fmt::format(
        "{}: a blank, or a byte that cannot stand in a header", where));
  }
}

// The keys in `text`, each once.
inline std::vector<SecretText> SplitKeys(std::string_view text,
                                         const KeyFormat& format,
                                         std::string_view where) {
  if (constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
      text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  std::vector<SecretText> keys;
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

// The keys in a variable, which messages call `where`; empty if it is not set.
inline std::vector<SecretText> ReadVariable(const std::string& name,
                                            std::string_view where,
                                            const Environment& environment) {
  const char* const text = environment(name.c_str());
  if (text == nullptr) return {};
  return SplitKeys(text, kKeysInVariable, where);
}

// The text of a variable that holds one secret, without the blanks around it;
// empty if it is not set.
inline SecretText ReadSecret(const std::string& name,
                             const Environment& environment) {
  const char* const text = environment(name.c_str());
  return text == nullptr ? SecretText() : SecretText(Trim(text));
}

// Throws ConfigError if every user may write to a file of that mode; `power` is
// what they could do.
inline void CheckWriters(mode_t mode, const std::string& where,
                         std::string_view power) {
  if ((mode & S_IWOTH) == 0) return;
  throw ConfigError(fmt::format(
      "{}: every user may write to it, and so {}; chmod o-w it", where, power));
}

// Warns if others than its owner may read a file with keys.
inline void WarnOfReaders(mode_t mode, const std::string& where,
                          const OnWarning& on_warning) {
  const bool all = (mode & S_IROTH) != 0;
  if (!on_warning || (!all && (mode & S_IRGRP) == 0)) return;
  on_warning(fmt::format("{}: {} may read the keys in it; chmod {}-r it", where,
                         all ? "every user" : "the group of the file",
                         all ? "go" : "g"));
}

// The keys in a file, which messages call `where`.
inline std::vector<SecretText> ReadKeyFile(const std::filesystem::path& path,
                                           const std::string& where,
                                           const OnWarning& on_warning) {
  FileText file;
  try {
    file = ReadFile(path, kLargestKeyFile, "a file with keys");
  } catch (const std::runtime_error& error) {
    throw ConfigError(fmt::format("{}: {}", where, error.what()));
  }
  CheckWriters(file.mode, where, "choose the keys");
  WarnOfReaders(file.mode, where, on_warning);
  const SecretText text(std::move(file.text));
  return SplitKeys(text, kKeysInFile, where);
}

}  // namespace internal

// The keys in a variable, separated by commas or line breaks; empty if it is
// not set. Blanks around keys are ignored, and a repeated key counts once.
// Throws ConfigError, which names the variable and the key's position in it, if
// a key is above 16 KiB, or holds a blank or a byte that is not printable ASCII
// and so cannot be sent in a header. Linear.
inline ApiKeys KeysFromEnv(const std::string& name = "OPENAI_API_KEYS",
                           const Environment& environment = SystemEnvironment) {
  return internal::ReadVariable(name, name, environment);
}

// The keys of the variable <prefix>_API_KEYS; if it has none, those of
// <prefix>_API_KEY, <prefix>_API_KEY_1, <prefix>_API_KEY_2 and so on, up to the
// first number that is not set. Throws as KeysFromEnv does.
inline ApiKeys FindKeysInEnv(
    const std::string& prefix = "OPENAI",
    const Environment& environment = SystemEnvironment) {
  const std::string single = prefix + "_API_KEY";
  std::vector<internal::SecretText> keys =
      internal::ReadVariable(single + "S", single + "S", environment);
  if (!keys.empty()) return keys;
  const auto take = [&](const std::string& name) {
    for (auto& key : internal::ReadVariable(name, name, environment))
      keys.push_back(std::move(key));
  };
  take(single);
  for (int number = 1;; ++number) {
    const std::string name = fmt::format("{}_{}", single, number);
    if (environment(name.c_str()) == nullptr) return keys;
    take(name);
  }
}

// The keys in a file, one a line. A # at the start of the line or after a blank
// begins a comment. Blank lines, blanks around keys, a byte order mark and CR
// LF are ignored, and a repeated key counts once. Symbolic links are followed. A
// file that its group or every user may read is used, with a warning: mounted
// secrets are often like that. Without `on_warning` nobody is told.
//
// Throws ConfigError, which names the file and line: for what is not a regular
// file (it never waits for a pipe), cannot be read, is above 16 MiB or may be
// written by every user; and for a key as KeysFromEnv does. Linear.
inline ApiKeys KeysFromFile(const std::filesystem::path& path,
                            const OnWarning& on_warning = {}) {
  return internal::ReadKeyFile(path, path.string(), on_warning);
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_KEYS_FROM_H_
