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
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_scan.h"

namespace keyrotator::internal {

// Whether a member `name` of a top-level object, with that value, may be an
// error that is not called "error".
inline bool MayBeError(std::string_view name, std::string_view value) {
  const bool number = IsDigit(value[0]) || value[0] == '-';
  if (name == "\"base_resp\"") return HasMember(value, "status_code\"", "0");
  if (name == "\"error_code\"") return number && value != "0";
  if (name == "\"errors\"") return SkipBlanks(value.substr(1)).starts_with('{');
  if (name == "\"success\"") return value == "false";
  if (name == "\"Response\"") return HasMember(value, "Error\"", "null");
  if (name == "\"code\"")
    return value != "0" && value != "\"\"" && (number || value[0] == '"');
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
  const auto is_other = [](std::string_view rest) {
    return StartsWith(rest, "code\"") || StartsWith(rest, "errors\"") ||
           StartsWith(rest, "error_code\"") ||
           StartsWith(rest, "base_resp\"") || StartsWith(rest, "success\"") ||
           StartsWith(rest, "Response\"");
  };
  if (!AnyQuoted(body, is_other, "code\"", "error", "base_resp\"", "success\"",
                 "Response\"")) {
    return false;
  }
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
  return !StartsWith(rest, "null") && !StartsWith(rest, "false") &&
         !StartsWith(rest, "\"\"") &&
         !(rest.starts_with('{') &&
           SkipBlanks(rest.substr(1)).starts_with('}'));
}

// Whether a body may hold an error: `"error":` with a value that is not plainly
// empty, or what some say instead. A quick look that spares reading a good
// answer: inside a string the quotes would be escaped, so no text that a model
// wrote can look like a member.
inline bool MayHoldError(std::string_view body) {
  const auto is_error = [](std::string_view rest) {
    return StartsWith(rest, "error\"") && HasValue(rest.substr(6));
  };
  return AnyQuoted(body, is_error, "error\"") || MayHoldOtherError(body);
}

// The same for an event, whose type may say it, too.
inline bool EventMayHoldError(std::string_view data) {
  const auto is_error = [](std::string_view rest) {
    return StartsWith(rest, "error\"") || StartsWith(rest, "response.failed\"");
  };
  return AnyQuoted(data, is_error, "error\"", "response.failed\"") ||
         MayHoldOtherError(data);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_QUICK_LOOK_H_
