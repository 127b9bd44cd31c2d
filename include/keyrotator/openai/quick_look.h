// File: openai/quick_look.h
//
// Whether an answer may be an error at all, told by a walk from quote to quote,
// which spares reading a good one: inside a string the quotes would be escaped,
// so no text that a model wrote can look like a member.
//
// Example:
//   keyrotator::internal::MayHoldError(R"({"choices": [], "error": null})");

#ifndef KEYROTATOR_OPENAI_QUICK_LOOK_H_
#define KEYROTATOR_OPENAI_QUICK_LOOK_H_

#include <cstddef>
#include <cstring>
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_scan.h"

namespace keyrotator::internal {

// Whether a member `name` of a top-level object, with that value, may be an
// error that is not called "error".
inline bool MayBeError(std::string_view name, std::string_view value) {
  const bool number = IsDigit(value[0]) || value[0] == '-';
  if (name == "\"base_resp\"") return HasMember(value, "\"status_code\"", "0");
  if (name == "\"error_code\"") return number && value != "0";
  if (name == "\"errors\"") return SkipBlanks(value.substr(1)).starts_with('{');
  if (name == "\"success\"") return value == "false";
  if (name == "\"Response\"") return HasMember(value, "\"Error\"", "null");
  if (name == "\"code\"")
    return value != "0" && value != "\"\"" && (number || value[0] == '"');
  return false;
}

// Calls visit(rest) for what follows each quote and begins with one of the
// letters, until that returns true.
template <char... kLetters, class Visit>
bool AnyQuoted(std::string_view json, Visit visit) {
  const char* rest = json.data();
  std::size_t left = json.size();
  const auto next = [&] {
    const void* quote = left == 0 ? nullptr : std::memchr(rest, '"', left);
    if (quote == nullptr) return false;
    const char* const after = static_cast<const char*>(quote) + 1;
    left -= static_cast<std::size_t>(after - rest);
    rest = after;
    return left > 0;
  };
  while (next()) {
    if (((*rest == kLetters) || ...) && visit(std::string_view(rest, left)))
      return true;
  }
  return false;
}

// Whether the first array of an answer is "choices", with some: so it is with
// most good ones.
inline bool OpensWithChoices(std::string_view body) {
  constexpr std::string_view kChoices = "\"choices\":[{";
  const std::size_t at = body.find('[');
  return at != body.npos && at + 2 >= kChoices.size() &&
         body.compare(at + 2 - kChoices.size(), kChoices.size(), kChoices) == 0;
}

// Whether a short answer may be an error that is not called "error". Nothing
// is read of one that has choices.
inline bool MayHoldOtherError(std::string_view body) {
  constexpr std::size_t kMost = 4096;
  if (body.size() > kMost || OpensWithChoices(body)) return false;
  const bool other =
      AnyQuoted<'c', 'e', 'b', 's', 'R'>(body, [](std::string_view rest) {
        return rest.starts_with("code\"") || rest.starts_with("errors\"") ||
               rest.starts_with("error_code\"") ||
               rest.starts_with("base_resp\"") ||
               rest.starts_with("success\"") || rest.starts_with("Response\"");
      });
  if (!other) return false;
  bool may = false;
  bool answers = false;
  ForEachMember(body, [&](std::string_view name, std::string_view value) {
    may = may || MayBeError(name, value);
    answers = answers || (name == "\"choices\"" &&
                          SkipBlanks(value.substr(1)).starts_with('{'));
  });
  return may && !answers;
}

// Whether `rest`, which follows a name, is a value that is not plainly empty.
inline bool HasValue(std::string_view rest) {
  rest = SkipBlanks(rest);
  if (!rest.starts_with(':')) return false;
  rest = SkipBlanks(rest.substr(1));
  return !rest.starts_with("null") && !rest.starts_with("false") &&
         !rest.starts_with("\"\"") &&
         !(rest.starts_with('{') &&
           SkipBlanks(rest.substr(1)).starts_with('}'));
}

// Whether a body may hold an error: `"error":` with a value that is not plainly
// empty, or what some say instead. A quick look that spares reading a good
// answer: inside a string the quotes would be escaped, so no text that a model
// wrote can look like a member.
inline bool MayHoldError(std::string_view body) {
  const auto is_error = [](std::string_view rest) {
    return rest.starts_with("error\"") && HasValue(rest.substr(6));
  };
  return AnyQuoted<'e'>(body, is_error) || MayHoldOtherError(body);
}

// The same for an event, whose type may say it, too.
inline bool EventMayHoldError(std::string_view data) {
  const auto is_error = [](std::string_view rest) {
    return rest.starts_with("error\"") || rest.starts_with("response.failed\"");
  };
  return AnyQuoted<'e', 'r'>(data, is_error) || MayHoldOtherError(data);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_QUICK_LOOK_H_
