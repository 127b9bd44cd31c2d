// File: leaks.h
//
// Looks for a secret in whatever a program emits: any six characters of it in a
// row, as they are, escaped in JSON or a URL, or in base64.
//
// Example:
//   CHECK_FALSE(FindLeak(text, secret));

#ifndef KEYROTATOR_TESTS_SUPPORT_LEAKS_H_
#define KEYROTATOR_TESTS_SUPPORT_LEAKS_H_

#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace keyrotator::testing {

// Characters in a row that are a leak.
inline constexpr std::size_t kTelling = 6;

namespace leaks_internal {

// Where that many characters of `secret` begin that are in `text`.
inline std::optional<std::size_t> FindPart(std::string_view text,
                                           std::string_view secret,
                                           std::size_t size) {
  for (std::size_t i = 0; i + size <= secret.size(); ++i) {
    if (text.find(secret.substr(i, size)) != text.npos) return i;
  }
  return std::nullopt;
}

// Without the escapes of JSON and of URLs.
inline std::string Unescaped(std::string_view text) {
  std::string plain;
  const auto code = [&](std::size_t at, std::size_t size) {
    const std::string digits(text.substr(at, size));
    char* end = nullptr;
    const long value = std::strtol(digits.c_str(), &end, 16);
    const bool whole = digits.size() == size && *end == '\0';
    return whole && value < 0x80 ? static_cast<int>(value) : -1;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool json = text[i] == '\\' && i + 1 < text.size();
    const int value = text[i] == '%'               ? code(i + 1, 2)
                      : json && text[i + 1] == 'u' ? code(i + 2, 4)
                                                   : -1;
    if (value >= 0) {
      plain += static_cast<char>(value);
      i += text[i] == '%' ? 2 : 5;
    } else if (json) {
      plain += text[++i];
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// In base64, behind so many bytes of something else: the characters that the
// secret alone decides.
inline std::string InBase64(std::string_view secret, std::size_t before) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string bytes = std::string(before, '\0') + std::string(secret);
  std::string text;
  for (std::size_t bit = 0; bit + 6 <= bytes.size() * 8; bit += 6) {
    unsigned value = 0;
    for (std::size_t i = bit; i < bit + 6; ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i / 8]);
      value = value << 1 | (byte >> (7 - i % 8) & 1U);
    }
    text += kDigits[value];
  }
  return text.substr((before * 8 + 5) / 6);
}

}  // namespace leaks_internal

// About where in the secret the part begins that is in `text`; empty if there is
// none.
inline std::optional<std::size_t> FindLeak(std::string_view text,
                                           std::string_view secret) {
  using leaks_internal::FindPart;
  if (const auto at = FindPart(text, secret, kTelling)) return at;
  if (const auto at =
          FindPart(leaks_internal::Unescaped(text), secret, kTelling)) {
    return at;
  }
  for (const std::size_t before : {0U, 1U, 2U}) {
    // Eight of these hold six bytes, or all of them but a few bits.
    if (const auto at =
            FindPart(text, leaks_internal::InBase64(secret, before), 8)) {
      return *at * 6 / 8;
    }
  }
  return std::nullopt;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_LEAKS_H_
