// File: internal/utf8.h
//
// UTF-8 from anywhere: read, repaired, and made safe to show.
//
// Example:
//   using namespace keyrotator::internal;
//   ToValidUtf8("a\xFF");                                    // "a\uFFFD"
//   Printable("a\n", [](char32_t) { return false; });        // "a\\x0a"

#ifndef KEYROTATOR_INTERNAL_UTF8_H_
#define KEYROTATOR_INTERNAL_UTF8_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace keyrotator::internal {

struct Utf8Sequence {
  // If it is not valid: of its maximal subpart, which one U+FFFD replaces
  // (Unicode Standard, section 3.9).
  std::size_t bytes;
  bool valid;
};

// The sequence that `text`, which is not empty, begins with. Valid is what the
// Unicode Standard's table 3-7 has. Unrolled: streams are full of these.
constexpr Utf8Sequence FirstSequence(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const auto is_continuation = [&](std::size_t i) {
    return i < text.size() && (byte(i) & 0xC0) == 0x80;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4 || !is_continuation(1)) return {1, false};
  if (lead < 0xE0) return {2, true};

  // The second byte of some leads is narrowed: no overlong form, no surrogate,
  // nothing above U+10FFFF.
  const unsigned second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
    return {1, false};
  }
  if (!is_continuation(2)) return {2, false};
  if (lead < 0xF0) return {3, true};
  return is_continuation(3) ? Utf8Sequence{4, true} : Utf8Sequence{3, false};
}

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: no valid sequence begins here
};

// The first code point of `text`, which is not empty.
constexpr CodePoint FirstCodePoint(std::string_view text) {
  const auto [bytes, valid] = FirstSequence(text);
  if (!valid) return {};
  const char32_t lead = static_cast<unsigned char>(text[0]);
  char32_t value = bytes == 1 ? lead : lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i)
    value = value << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
  return {value, bytes};
}

// The number of ASCII bytes that `text` starts with; eight and more at a time,
// as most text is nothing else.
inline std::size_t AsciiPrefix(std::string_view text) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* at = begin;
  const auto word = [](const char* bytes) {
    std::uint64_t loaded;
    std::memcpy(&loaded, bytes, sizeof(loaded));
    return loaded;
  };
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  for (; end - at >= 32; at += 32) {
    if (((word(at) | word(at + 8) | word(at + 16) | word(at + 24)) &
         kHighBits) != 0) {
      break;
    }
  }
  while (end - at >= 8 && (word(at) & kHighBits) == 0) at += 8;
  while (at != end && static_cast<signed char>(*at) >= 0) ++at;
  return static_cast<std::size_t>(at - begin);
}

// How many bytes of `text` are valid UTF-8 before the first that are not, and
// how many are not: one maximal subpart, or 0 if the text is valid.
struct Utf8Extent {
  std::size_t valid;
  std::size_t broken;
};
inline Utf8Extent FindBrokenUtf8(std::string_view text) {
  std::size_t size = 0;
  while (true) {
    size += AsciiPrefix(text.substr(size));
    // Letters beyond ASCII come in runs.
    do {
      if (size == text.size()) return {size, 0};
      const auto first = FirstSequence(text.substr(size));
      if (!first.valid) return {size, first.bytes};
      size += first.bytes;
    } while (size < text.size() && static_cast<signed char>(text[size]) < 0);
  }
}

inline bool IsValidUtf8(std::string_view text) {
  return FindBrokenUtf8(text).broken == 0;
}

// `text` with U+FFFD in the place of each maximal subpart that is not valid.
inline std::string ToValidUtf8(std::string_view text) {
  std::string result;
  while (true) {
    const auto [valid, broken] = FindBrokenUtf8(text);
    result += text.substr(0, valid);
    if (broken == 0) return result;
    result += "\xEF\xBF\xBD";
    text.remove_prefix(valid + broken);
  }
}

// `text` with each byte that is not of valid UTF-8, and each control character
// that `keeps(code point)` does not keep, written \xHH, byte by byte: unlike
// with a replacement character, names that differ stay different.
template <class Keeps>
std::string Printable(std::string_view text, Keeps keeps) {
  constexpr std::string_view kHex = "0123456789abcdef";
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
      const auto byte = static_cast<unsigned char>(c);
      printable += "\\x";
      printable += kHex[byte >> 4];
      printable += kHex[byte & 0xF];
    }
  }
  return printable;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_UTF8_H_
