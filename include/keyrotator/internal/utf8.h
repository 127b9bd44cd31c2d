// File: internal/utf8.h
//
// Text from anywhere made safe to show: valid UTF-8, without surprises.

#ifndef KEYROTATOR_INTERNAL_UTF8_H_
#define KEYROTATOR_INTERNAL_UTF8_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>

namespace keyrotator::internal {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: no well-formed sequence begins here
};

// The first code point of `text`, which is not empty. Well-formed is what the
// Unicode Standard's table 3-7 has: no overlong form, no surrogate, nothing
// above U+10FFFF.
constexpr CodePoint FirstCodePoint(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead < 0xC0   ? 0
                            : lead < 0xE0 ? 2
                            : lead < 0xF0 ? 3
                            : lead < 0xF8 ? 4
                                          : 0;
  if (bytes == 0 || bytes > text.size()) return {};
  char32_t value = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0u) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3Fu);
  }
  const char32_t least = bytes == 2 ? 0x80 : bytes == 3 ? 0x800 : 0x10000;
  const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < least || value > 0x10FFFF || is_surrogate) return {};
  return {value, bytes};
}

// `text` with each byte that is not of valid UTF-8, and each control character
// that `keeps(code point)` does not keep, written \xHH, byte by byte: other
// than with a replacement character, names that differ stay different.
template <class Keeps>
std::string Printable(std::string_view text, Keeps keeps) {
  std::string printable;
  while (!text.empty()) {
    const auto [value, bytes] = FirstCodePoint(text);
    const bool is_control = value < 0x20 || (value >= 0x7F && value < 0xA0);
    const std::string_view piece =
        text.substr(0, std::max<std::size_t>(bytes, 1));
    text.remove_prefix(piece.size());
    if (bytes > 0 && (!is_control || keeps(value))) {
      printable += piece;
      continue;
    }
    for (const char c : piece) {
      fmt::format_to(std::back_inserter(printable), "\\x{:02x}",
                     static_cast<unsigned char>(c));
    }
  }
  return printable;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_UTF8_H_
