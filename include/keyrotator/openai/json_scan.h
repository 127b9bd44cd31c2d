// File: openai/json_scan.h
//
// Walks over JSON text without reading it: strings are jumped over, nothing is
// copied, allocated or recursed into. That is what finds one short member
// beside a picture of megabytes. What is jumped over is not checked: text that
// is no JSON may pass, but never beyond its end.
//
// Example:
//   std::string_view json = R"({"size": [1, 2], "model": "m"} and more)";
//   keyrotator::internal::ForEachMember(
//       json, [](std::string_view name, std::string_view value) {
//         fmt::print("{} is {}\n", name, value);  // "size" is [1, 2] ...
//       });  // json is " and more"

#ifndef KEYROTATOR_OPENAI_JSON_SCAN_H_
#define KEYROTATOR_OPENAI_JSON_SCAN_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// Without the byte order mark and the blanks that some put in front.
constexpr std::string_view SkipMark(std::string_view text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
  return SkipBlanks(text);
}

// Each of the following takes what it is named for off the front of `text`.
// False if it is not there or does not end; where `text` then begins is not
// specified.

inline bool TakeChar(std::string_view& text, char c) {
  text = SkipBlanks(text);
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// A string ends at the first quote with an even number of backslashes before.
inline bool SkipString(std::string_view& text) {
  if (!text.starts_with('"')) return false;
  for (std::size_t quote = 1; (quote = text.find('"', quote)) != text.npos;
       ++quote) {
    std::size_t before = quote;
    while (text[before - 1] == '\\') --before;
    if ((quote - before) % 2 != 0) continue;
    text.remove_prefix(quote + 1);
    return true;
  }
  return false;
}

// The places where a bool is true are those that a walk must stop at.
constexpr auto kJsonStops = [] {
  std::array<bool, 256> stops{};
  for (const char c : {'"', '[', ']', '{', '}'})
    stops[static_cast<unsigned char>(c)] = true;
  return stops;
}();

// An object or array, with all that is in it. Brackets are counted, not paired.
inline bool SkipNested(std::string_view& text, std::size_t max_depth) {
  std::size_t depth = 0;
  while (true) {
    std::size_t at = 0;
    while (at < text.size() &&
           !kJsonStops[static_cast<unsigned char>(text[at])])
      ++at;
    text.remove_prefix(at);
    if (text.empty()) return false;
    if (text[0] == '"') {
      if (!SkipString(text)) return false;
      continue;
    }
    const bool opens = text[0] == '[' || text[0] == '{';
    text.remove_prefix(1);
    if (opens && ++depth > max_depth) return false;
    if (!opens && --depth == 0) return true;
  }
}

// Any value, nested to `max_depth` at most.
inline bool SkipValue(
    std::string_view& text,
    std::size_t max_depth = std::numeric_limits<std::size_t>::max()) {
  text = SkipBlanks(text);
  if (text.starts_with('"')) return SkipString(text);
  if (text.starts_with('{') || text.starts_with('['))
    return SkipNested(text, max_depth);
  const std::string_view before = text;
  while (!text.empty() && !IsBlank(text[0]) && text[0] != ',' &&
         text[0] != ']' && text[0] != '}') {
    text.remove_prefix(1);
  }
  return text.size() < before.size();
}

// The same, and returns its text as it is.
inline bool TakeValue(std::string_view& text, std::string_view& value) {
  value = text = SkipBlanks(text);
  if (!SkipValue(text)) return false;
  value.remove_suffix(text.size());
  return true;
}

// An object: calls visit(name, value) for each member, as they are: the
// name in quotes, both with their escapes.
template <class Visit>
bool ForEachMember(std::string_view& text, Visit visit) {
  if (!TakeChar(text, '{')) return false;
  if (TakeChar(text, '}')) return true;
  do {
    std::string_view name = text = SkipBlanks(text);
    if (!SkipString(text)) return false;
    name.remove_suffix(text.size());
    std::string_view value;
    if (!TakeChar(text, ':') || !TakeValue(text, value)) return false;
    visit(name, value);
  } while (TakeChar(text, ','));
  return TakeChar(text, '}');
}

// An array: calls visit(value) for each element.
template <class Visit>
bool ForEachElement(std::string_view& text, Visit visit) {
  if (!TakeChar(text, '[')) return false;
  if (TakeChar(text, ']')) return true;
  do {
    std::string_view value;
    if (!TakeValue(text, value)) return false;
    visit(value);
  } while (TakeChar(text, ','));
  return TakeChar(text, ']');
}

// 0x80 in each byte of `word` that is 0, and 0 in the others.
constexpr std::uint64_t ZeroBytes(std::uint64_t word) {
  constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
  return ~(((word & kLow) + kLow) | word | kLow);
}

// Whether visit(rest) is true for anything that follows a quote and begins with
// one of the names. It is called for more than that, as one letter or two of them
// are looked at. From quote to quote goes memchr, which nothing is quicker than
// where they are far apart; once some in a row are not, eight bytes at a time are
// looked at, so that a text of nothing but quotes is not much slower than others.
template <class Visit, class... Names>
bool AnyQuoted(std::string_view json, Visit visit, const Names&... names) {
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  constexpr std::size_t kNear = 24;  // bytes from quote to quote
  constexpr std::size_t kSome = 3;
  constexpr std::size_t kNeeded = kWord + 2;  // a word and two letters
  // What is 0 in each byte of a word that is that letter.
  const auto differ = [&](std::size_t at, char letter) {
    std::uint64_t word = 0;
    std::memcpy(&word, json.data() + at, kWord);
    return word ^ 0x0101010101010101 * static_cast<unsigned char>(letter);
  };
  std::size_t last = 0;
  std::size_t close = 0;  // quotes in a row that are near the one before
  for (std::size_t at = 0; (at = json.find('"', at)) != json.npos;) {
    close = at - last < kNear ? close + 1 : 0;
    if (close < kSome || json.size() - at < kNeeded) {
      last = at++;
      if (at < json.size() && ((json[at] == names[0]) || ...) &&
          visit(json.substr(at))) {
        return true;
      }
      continue;
    }
    for (; json.size() - at >= kNeeded; at += kWord) {
      const std::uint64_t quotes = differ(at, '"');
      if (ZeroBytes(quotes) == 0) break;
      last = at;
      for (std::uint64_t found = (ZeroBytes(quotes | differ(at + 1, names[0]) |
                                            differ(at + 2, names[1])) |
                                  ...);
           found != 0; found &= found - 1) {
        const auto bits = static_cast<std::size_t>(std::countr_zero(found));
        const std::size_t byte = std::endian::native == std::endian::little
                                     ? bits / 8
                                     : kWord - 1 - bits / 8;
        if (visit(json.substr(at + byte + 1))) return true;
      }
    }
  }
  return false;
}

// Whether `rest` is a member of that name, its first quote aside, whose value
// does not begin with `but`.
template <std::size_t kSize>
bool IsMember(std::string_view rest, const char (&name)[kSize],
              std::string_view but) {
  if (!StartsWith(rest, name)) return false;
  rest = SkipBlanks(rest.substr(kSize - 1));
  return rest.starts_with(':') && !SkipBlanks(rest.substr(1)).starts_with(but);
}

// Whether `data` has such a member. In JSON text quotes are escaped, so no
// model's words look like that.
template <std::size_t kSize>
bool HasMember(std::string_view data, const char (&name)[kSize],
               std::string_view but) {
  const auto is_member = [&](std::string_view rest) {
    return IsMember(rest, name, but);
  };
  return AnyQuoted(data, is_member, name);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_JSON_SCAN_H_
