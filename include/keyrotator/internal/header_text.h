// File: internal/header_text.h
//
// What HTTP allows in a header. A line break in the wrong place would let its
// author write a second request, so each room asks these same functions.
//
// Example:
//   keyrotator::internal::IsToken("X-Api-Key");       // true
//   keyrotator::internal::IsFieldValue("a\r\nb");     // false
//   keyrotator::internal::FindUnprintable("sk-\x01");  // 3

#ifndef KEYROTATOR_INTERNAL_HEADER_TEXT_H_
#define KEYROTATOR_INTERNAL_HEADER_TEXT_H_

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// A method, or the name of a field (RFC 9110, 5.6.2).
inline bool IsToken(std::string_view text) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return IsAlphanumeric(c) || kOthers.find(c) != kOthers.npos;
  });
}

// The value of any field (RFC 9110, 5.5): no control characters but the tab.
inline bool IsFieldValue(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    return (c >= 0 && c < ' ' && c != '\t') || c == '\x7f';
  });
}

// The position of the first byte that is not printable ASCII, or npos.
// Fields that we define, such as the one that carries a key, have no others:
// servers disagree about them (RFC 9110, 5.5).
inline std::size_t FindUnprintable(std::string_view text) {
  const auto found = std::find_if(text.begin(), text.end(),
                                  [](char c) { return c < ' ' || c > '~'; });
  return found == text.end() ? text.npos
                             : static_cast<std::size_t>(found - text.begin());
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_HEADER_TEXT_H_
