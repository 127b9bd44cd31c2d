// File: internal/text.h
//
// Characters and blanks: ASCII alone, whatever the locale.

#ifndef KEYROTATOR_INTERNAL_TEXT_H_
#define KEYROTATOR_INTERNAL_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace keyrotator::internal {

constexpr bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

constexpr bool IsAlphanumeric(char c) {
  return IsDigit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

constexpr char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
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
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_TEXT_H_
