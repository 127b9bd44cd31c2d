// File: pool/redactor.h
//
// Redactor: takes the pool's secrets out of a text that came from elsewhere.
// Providers echo keys in their errors: as they are, escaped in JSON or a URL, and,
// with the header that they came in, as base64.
//
// It is made once for a set of keys and only read from then on, so threads that
// redact hold no lock.

#ifndef KEYROTATOR_POOL_REDACTOR_H_
#define KEYROTATOR_POOL_REDACTOR_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/internal/secret_text.h"

namespace keyrotator::internal {

// A value to take out, and what to put in its place.
struct Secret {
  SecretText value;
  std::string name;
};

// One character of a text that may be JSON or a URL, and how many bytes it takes
// there.
struct EscapedCharacter {
  char value = 0;
  std::size_t length = 1;
};

// Reads the character at the front of `text`, which is not empty: an escape of
// an ASCII character as what it stands for, anything else as it is.
constexpr EscapedCharacter ReadEscaped(std::string_view text) {
  if (text.size() < 2 || (text[0] != '\\' && text[0] != '%'))
    return {text[0], 1};
  const bool is_url = text[0] == '%';
  if (!is_url && (text[1] == '"' || text[1] == '\\' || text[1] == '/'))
    return {text[1], 2};
  const std::size_t size = is_url ? 3 : 6;
  if ((!is_url && text[1] != 'u') || text.size() < size) return {text[0], 1};
  unsigned value = 0;
  for (const char c : text.substr(is_url ? 1 : 2, is_url ? 2 : 4)) {
    const bool digit = c >= '0' && c <= '9';
    const char lower = static_cast<char>(c | 0x20);
    if (!digit && (lower < 'a' || lower > 'f')) return {text[0], 1};
    value =
        value * 16 + static_cast<unsigned>(digit ? c - '0' : lower - 'a' + 10);
  }
  if (value > 0x7e) return {text[0], 1};
  return {static_cast<char>(value), size};
}

// How many bytes at the front of `text` spell `secret`, as it is or escaped; 0
// if they do not.
constexpr std::size_t SpelledLength(std::string_view text,
                                    std::string_view secret) {
  if (text.starts_with(secret)) return secret.size();
  std::size_t length = 0;
  for (const char c : secret) {
    if (length == text.size()) return 0;
    const EscapedCharacter read = ReadEscaped(text.substr(length));
    if (read.value != c) return 0;
    length += read.length;
  }
  return length;
}

// The characters of base64 that `secret` alone decides where it stands behind
// `before` other bytes: all but at most one at each end.
inline SecretText InBase64(std::string_view secret, std::size_t before) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t start = (8 * before + 5) / 6;
  const std::size_t end = 8 * (before + secret.size()) / 6;
  std::string encoded(end - start, '=');
  std::size_t bit = 6 * start - 8 * before;
  for (char& c : encoded) {
    const std::size_t byte = bit / 8;
    unsigned bits = static_cast<unsigned char>(secret[byte]) * 256U;
    if (byte + 1 < secret.size())
      bits += static_cast<unsigned char>(secret[byte + 1]);
    c = kAlphabet[(bits >> (10 - bit % 8)) % 64];
    bit += 6;
  }
  return encoded;
}

class Redactor {
 public:
  // None of the values may be empty. In base64 those of 12 bytes and more are
  // found: what shorter ones leave could stand in a text by chance. Linear.
  explicit Redactor(std::vector<Secret> secrets)
      : secrets_(WithBase64(std::move(secrets))) {
    places_[static_cast<unsigned char>('\\')] = kAnywhere;
    places_[static_cast<unsigned char>('%')] = kAnywhere;
    for (const Secret& secret : secrets_) {
      const std::string_view prefix =
          std::string_view(secret.value).substr(0, kPrefix);
      by_prefix_[prefix].push_back(&secret);
      lengths_[prefix.size()] = true;
      for (std::size_t i = 0; i < prefix.size(); ++i)
        places_[static_cast<unsigned char>(prefix[i])] |= 1U << i;
      for (std::size_t i = prefix.size(); i < kPrefix; ++i)
        for (unsigned& places : places_) places |= 1U << i;
    }
  }
  Redactor(const Redactor&) = delete;
  Redactor& operator=(const Redactor&) = delete;

  // `text` with each secret replaced by its name in brackets; of secrets that
  // begin alike the longest. Linear in the text, but for secrets that share
  // their first four characters where the text has these.
  std::string operator()(std::string_view text) const {
    std::string redacted;
    redacted.reserve(text.size());
    for (;;) {
      const std::size_t plain = static_cast<std::size_t>(
          std::ranges::find_if(text, [this](char c) { return MayBe(c, 0); }) -
          text.begin());
      redacted.append(text, 0, plain);
      text.remove_prefix(plain);
      if (text.empty()) return redacted;
      if (const Match match = LongestAt(text); match.secret != nullptr) {
        redacted.append("[").append(match.secret->name).append("]");
        text.remove_prefix(match.length);
      } else {
        redacted.push_back(text[0]);
        text.remove_prefix(1);
      }
    }
  }

 private:
  // Secrets are found by their first characters: as many as each has, up to
  // this.
  static constexpr std::size_t kPrefix = 4;
  static constexpr unsigned kAnywhere = (1U << kPrefix) - 1;
  static constexpr std::size_t kMinBase64 = 12;

  struct Match {
    const Secret* secret = nullptr;
    std::size_t length = 0;
  };

  // The same, and what base64 makes of them, wherever it groups their bytes.
  static std::vector<Secret> WithBase64(std::vector<Secret> secrets) {
    const std::size_t count = secrets.size();
    secrets.reserve(4 * count);
    for (std::size_t i = 0; i < count; ++i) {
      if (secrets[i].value.text().size() < kMinBase64) continue;
      for (const std::size_t before : {0U, 1U, 2U}) {
        SecretText standard = InBase64(secrets[i].value, before);
        // The alphabet of URLs differs for secrets that have one of >?~.
        if (standard.text().find_first_of("+/") != std::string::npos) {
          std::string url = standard.text();
          std::replace(url.begin(), url.end(), '+', '-');
          std::replace(url.begin(), url.end(), '/', '_');
          secrets.push_back({std::move(url), secrets[i].name});
        }
        secrets.push_back({std::move(standard), secrets[i].name});
      }
    }
    return secrets;
  }

  // Whether a secret may have `c` at `place`, or there be escaped.
  bool MayBe(char c, std::size_t place) const {
    return (places_[static_cast<unsigned char>(c)] & (1U << place)) != 0;
  }
  // A quick look, which most of a text does not pass.
  bool MayStart(std::string_view text) const {
    for (std::size_t i = 0; i < std::min(kPrefix, text.size()); ++i) {
      if (!MayBe(text[i], i)) return false;
      if (text[i] == '\\' || text[i] == '%') break;  // takes several places
    }
    return true;
  }

  // The longest secret at the front of `text`.
  Match LongestAt(std::string_view text) const {
    Match best;
    if (!MayStart(text)) return best;
    std::array<char, kPrefix> plain{};
    std::size_t position = 0;
    for (std::size_t n = 1; n <= kPrefix && position < text.size(); ++n) {
      const EscapedCharacter read = ReadEscaped(text.substr(position));
      plain[n - 1] = read.value;
      position += read.length;
      if (!lengths_[n]) continue;
      TryPrefix({plain.data(), n}, text, best);
      if (position != n) TryPrefix(text.substr(0, n), text, best);
    }
    return best;
  }

  void TryPrefix(std::string_view prefix, std::string_view text,
                 Match& best) const {
    const auto found = by_prefix_.find(prefix);
    if (found == by_prefix_.end()) return;
    for (const Secret* secret : found->second) {
      std::size_t length = SpelledLength(text, secret->value);
      // Where the text was cut amid a secret.
      if (length == 0 && secret->value.text().starts_with(text))
        length = text.size();
      if (length > best.length) best = {secret, length};
    }
  }

  const std::vector<Secret> secrets_;
  std::unordered_map<std::string_view, std::vector<const Secret*>> by_prefix_;
  std::array<bool, kPrefix + 1> lengths_{};  // that some prefix has
  // For each character a bit for each place of a prefix at which it may stand.
  std::array<unsigned, 256> places_{};
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_REDACTOR_H_
