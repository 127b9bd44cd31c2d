// File: pool/redact.h
//
// Takes secrets out of a text that came from elsewhere: providers echo keys in
// their errors, as they are or escaped in JSON.

#ifndef KEYROTATOR_POOL_REDACT_H_
#define KEYROTATOR_POOL_REDACT_H_

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace keyrotator::internal {

struct Secret {
  std::string_view value;
  std::string_view name;
};

// One character of a text that may be JSON, and how many bytes it takes there.
struct JsonCharacter {
  char value = 0;
  std::size_t length = 1;
};

// Reads the character at the front of `text`, which is not empty: an escape of
// an ASCII character as what it stands for, anything else as it is.
constexpr JsonCharacter ReadJsonCharacter(std::string_view text) {
  if (text.size() < 2 || text[0] != '\\') return {text[0], 1};
  if (text[1] == '"' || text[1] == '\\' || text[1] == '/') return {text[1], 2};
  if (text[1] != 'u' || text.size() < 6) return {text[0], 1};
  unsigned value = 0;
  for (const char c : text.substr(2, 4)) {
    const bool digit = c >= '0' && c <= '9';
    const char lower = static_cast<char>(c | 0x20);
    if (!digit && (lower < 'a' || lower > 'f')) return {text[0], 1};
    value =
        value * 16 + static_cast<unsigned>(digit ? c - '0' : lower - 'a' + 10);
  }
  if (value > 0x7e) return {text[0], 1};
  return {static_cast<char>(value), 6};
}

// How many bytes at the front of `text` spell `secret`, as it is or escaped in
// JSON; 0 if they do not.
constexpr std::size_t SpelledLength(std::string_view text,
                                    std::string_view secret) {
  if (text.starts_with(secret)) return secret.size();
  std::size_t length = 0;
  for (const char c : secret) {
    if (length == text.size()) return 0;
    const JsonCharacter read = ReadJsonCharacter(text.substr(length));
    if (read.value != c) return 0;
    length += read.length;
  }
  return length;
}

// `text` with each of the secrets, which are not empty, replaced by its name in
// brackets; of secrets that begin alike the longest. Linear in the text and in
// the number of secrets, but for those that share their first four characters
// where a text has these.
inline std::string RedactSecrets(std::string_view text,
                                 const std::vector<Secret>& secrets) {
  // By their first characters, as many as each has, up to four.
  constexpr std::size_t kPrefix = 4;
  std::unordered_map<std::string_view, std::vector<const Secret*>> by_prefix;
  std::array<bool, kPrefix + 1> lengths{};
  std::array<bool, 256> first{};
  first[static_cast<unsigned char>('\\')] = true;
  for (const Secret& secret : secrets) {
    const std::string_view prefix = secret.value.substr(0, kPrefix);
    by_prefix[prefix].push_back(&secret);
    lengths[prefix.size()] = true;
    first[static_cast<unsigned char>(prefix[0])] = true;
  }
  using Match = std::pair<const Secret*, std::size_t>;
  const auto longest_at = [&](std::string_view rest) {
    Match best{nullptr, 0};
    const auto try_prefix = [&](std::string_view prefix) {
      const auto found = by_prefix.find(prefix);
      if (found == by_prefix.end()) return;
      for (const Secret* secret : found->second) {
        std::size_t length = SpelledLength(rest, secret->value);
        // Where the text was cut amid a secret.
        if (length == 0 && secret->value.starts_with(rest))
          length = rest.size();
        if (length > best.second) best = {secret, length};
      }
    };
    std::array<char, kPrefix> plain{};
    std::size_t position = 0;
    for (std::size_t n = 1; n <= kPrefix && position < rest.size(); ++n) {
      const JsonCharacter read = ReadJsonCharacter(rest.substr(position));
      plain[n - 1] = read.value;
      position += read.length;
      if (!lengths[n]) continue;
      try_prefix({plain.data(), n});
      if (position != n) try_prefix(rest.substr(0, n));
    }
    return best;
  };

  std::string redacted;
  redacted.reserve(text.size());
  while (!text.empty()) {
    if (first[static_cast<unsigned char>(text[0])]) {
      if (const auto [secret, length] = longest_at(text); secret != nullptr) {
        redacted.append("[").append(secret->name).append("]");
        text.remove_prefix(length);
        continue;
      }
    }
    redacted.push_back(text[0]);
    text.remove_prefix(1);
  }
  return redacted;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_REDACT_H_
