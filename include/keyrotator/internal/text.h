// File: internal/text.h
//
// Characters and blanks: ASCII alone, whatever the locale.

#ifndef KEYROTATOR_INTERNAL_TEXT_H_
#define KEYROTATOR_INTERNAL_TEXT_H_

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace keyrotator::internal {

// A table, as there are texts of nothing but megabytes of blanks.
constexpr auto kBlanks = [] {
  std::array<bool, 256> blanks{};
  for (const char c : {' ', '\t', '\n', '\v', '\f', '\r'})
    blanks[static_cast<unsigned char>(c)] = true;
  return blanks;
}();
constexpr bool IsBlank(char c) {
  return kBlanks[static_cast<unsigned char>(c)];
}

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

constexpr bool IsAlphanumeric(char c) {
  return IsDigit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

constexpr char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// As text.starts_with(literal), which calls memcmp where this is a few
// instructions, as it knows the length.
template <std::size_t kSize>
bool StartsWith(std::string_view text, const char (&literal)[kSize]) {
  return text.size() >= kSize - 1 &&
         std::memcmp(text.data(), literal, kSize - 1) == 0;
}

inline std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = Lower(c);
  return lower;
}

constexpr std::string_view SkipBlanks(std::string_view text) {
  std::size_t blanks = 0;
  while (blanks < text.size() && IsBlank(text[blanks])) ++blanks;
  return text.substr(blanks);
}

// Without the blanks around it.
constexpr std::string_view Trim(std::string_view text) {
  text = SkipBlanks(text);
  std::size_t size = text.size();
  while (size > 0 && IsBlank(text[size - 1])) --size;
  return text.substr(0, size);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_TEXT_H_
