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
#include <cstddef>
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

// Whether `data` has a member of that name whose value does not begin with
// `but`. In JSON text quotes are escaped, so no model's words look like that.
inline bool HasMember(std::string_view data, std::string_view quoted_name,
                      std::string_view but) {
  for (std::size_t at = data.find(quoted_name); at != std::string_view::npos;
       at = data.find(quoted_name, at + 1)) {
    std::string_view rest = SkipBlanks(data.substr(at + quoted_name.size()));
    if (!rest.starts_with(':')) continue;
    rest = SkipBlanks(rest.substr(1));
    if (!rest.starts_with(but)) return true;
  }
  return false;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_JSON_SCAN_H_
