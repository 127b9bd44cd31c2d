// File: openai/error_body.h
//
// Reads the body of an answer into the few fields that tell what is wrong. Each
// provider has its own shape of an error; here they become one.
//
// Example:
//   using namespace keyrotator::internal;
//   ErrorBody body = ReadErrorBody(R"({"error": {"code": "rate_limited"}})");
//   body.Fields().code;  // "rate_limited"

#ifndef KEYROTATOR_OPENAI_ERROR_BODY_H_
#define KEYROTATOR_OPENAI_ERROR_BODY_H_

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_document.h"
#include "keyrotator/openai/json_scan.h"

namespace keyrotator::internal {

// The members of an error that a verdict rests on. Empty: absent, or not text.
struct ErrorFields {
  std::string code;
  std::optional<double> code_number;
  std::string type;
  std::string message;
  std::string error;   // {"error": "Unauthorized"}
  std::string detail;  // problem+json, FastAPI
  std::string title;   // problem+json
  std::string plain;   // the whole body, if it is no JSON: no words that
                       // decide, but they may hold a hint
  // error.details[]: Google's ErrorInfo.reason and RetryInfo.retryDelay.
  std::vector<std::string> reasons;
  std::string retry_delay;
  // error.metadata of OpenRouter.
  std::string reset;  // headers["X-RateLimit-Reset"]
  std::string raw;
  bool flagged_input = false;

  // What the provider says in words, the fullest first.
  std::array<std::string_view, 4> Texts() const {
    return {message, error, detail, title};
  }
};

// One of the places where an error object stands.
struct ErrorObject {
  // The member is there and is none of null, false, 0, "", {} and [].
  bool present = false;
  bool is_object = false;
  ErrorFields fields;
};

// What was read of a body. An array of one object reads as that object.
struct ErrorBody {
  ErrorFields top;        // members beside the error, or of a flat body
  ErrorObject error;      // the top-level "error"
  ErrorObject choice;     // choices[0].error
  ErrorObject response;   // response.error, in events of the Responses API
  bool complete = false;  // the first JSON value was read
  bool too_long = false;  // or was not, as it is too long
  bool alone = false;     // nothing but blanks follows it

  bool HasError() const { return error.present || choice.present; }

  // Where the error's members stand: in an object, or flat.
  const ErrorFields& Fields() const {
    if (error.present) return error.is_object ? error.fields : top;
    if (choice.present) return choice.fields;
    if (response.present) return response.fields;
    return top;
  }
};

// --- Reading ---

using JsonValue = simdjson::dom::element;

// What is no text reads as empty text, what is no number as none.
inline std::string TextOf(JsonValue value) {
  std::string_view text;
  return value.get(text) == simdjson::SUCCESS ? std::string(text)
                                              : std::string();
}
inline std::optional<double> NumberOf(JsonValue value) {
  double number = 0;
  return value.get(number) == simdjson::SUCCESS ? std::optional(number)
                                                : std::nullopt;
}

// null, false, 0, "", {} or [].
inline bool IsEmpty(JsonValue value) {
  using Type = simdjson::dom::element_type;
  switch (value.type()) {
    case Type::NULL_VALUE:
      return true;
    case Type::BOOL:
      return !value.get_bool().value_unsafe();
    case Type::STRING:
      return value.get_string().value_unsafe().empty();
    case Type::OBJECT:
      return value.get_object().value_unsafe().size() == 0;
    case Type::ARRAY:
      return value.get_array().value_unsafe().size() == 0;
    default:
      return NumberOf(value) == 0.0;
  }
}

// Calls visit(name, value) for each member of an object; for anything else, not
// at all. Of members with one name the last counts, so a visitor overwrites.
template <class Visit>
void ForEachMember(JsonValue value, Visit visit) {
  simdjson::dom::object object;
  if (value.get(object) != simdjson::SUCCESS) return;
  for (const auto member : object) visit(member.key, member.value);
}

template <class Visit>
void ForEachElement(JsonValue value, Visit visit) {
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) return;
  for (const JsonValue element : array) visit(element);
}

// The first element of an array.
inline std::optional<JsonValue> FirstOf(JsonValue value) {
  JsonValue first;
  return value.is_array() && value.at(0).get(first) == simdjson::SUCCESS
             ? std::optional(first)
             : std::nullopt;
}

inline void ReadField(std::string_view name, JsonValue value,
                      ErrorFields& fields) {
  if (name == "code") {
    fields.code = TextOf(value);
    fields.code_number = NumberOf(value);
  } else if (name == "type") {
    fields.type = TextOf(value);
  } else if (name == "message") {
    fields.message = TextOf(value);
  } else if (name == "error") {
    fields.error = TextOf(value);
  } else if (name == "detail") {
    fields.detail = TextOf(value);
  } else if (name == "title") {
    fields.title = TextOf(value);
  }
}

inline void ReadDetails(JsonValue details, ErrorFields& fields) {
  fields.reasons.clear();
  fields.retry_delay.clear();
  ForEachElement(details, [&](JsonValue detail) {
    std::string type;
    std::string reason;
    std::string delay;
    ForEachMember(detail, [&](std::string_view name, JsonValue value) {
      if (name == "@type") type = TextOf(value);
      if (name == "reason") reason = TextOf(value);
      if (name == "retryDelay") delay = TextOf(value);
    });
    if (!reason.empty()) fields.reasons.push_back(std::move(reason));
    if (type.ends_with("google.rpc.RetryInfo") && !delay.empty())
      fields.retry_delay = std::move(delay);
  });
}

inline void ReadMetadata(JsonValue metadata, ErrorFields& fields) {
  fields.reset.clear();
  fields.raw.clear();
  fields.flagged_input = false;
  ForEachMember(metadata, [&](std::string_view name, JsonValue value) {
    if (name == "raw") fields.raw = TextOf(value);
    if (name == "flagged_input") fields.flagged_input = !IsEmpty(value);
    if (name != "headers") return;
    fields.reset.clear();
    ForEachMember(value, [&](std::string_view header, JsonValue reset) {
      if (Lower(header) != "x-ratelimit-reset") return;
      const auto number = NumberOf(reset);
      fields.reset = number ? fmt::format("{:.0f}", *number) : TextOf(reset);
    });
  });
}

inline ErrorObject ReadError(JsonValue value) {
  ErrorObject error{
      .present = !IsEmpty(value), .is_object = value.is_object(), .fields = {}};
  error.fields.message = TextOf(value);
  ForEachMember(value, [&](std::string_view name, JsonValue member) {
    ReadField(name, member, error.fields);
    if (name == "details") ReadDetails(member, error.fields);
    if (name == "metadata") ReadMetadata(member, error.fields);
  });
  return error;
}

// The member "error" of an object, or of nothing.
inline ErrorObject ReadErrorOf(std::optional<JsonValue> value) {
  ErrorObject error;
  if (!value) return error;
  ForEachMember(*value, [&](std::string_view name, JsonValue member) {
    if (name == "error") error = ReadError(member);
  });
  return error;
}

// Reads the first JSON value of a body; see JsonDocument for what it refuses.
inline ErrorBody ReadErrorBody(std::string_view text) {
  const JsonDocument document(text);
  const auto root = document.root();
  ErrorBody body;
  body.complete = root.has_value();
  body.too_long = document.too_long();
  body.alone = document.alone();
  if (!root) return body;
  ForEachMember(FirstOf(*root).value_or(*root),
                [&](std::string_view name, JsonValue value) {
                  ReadField(name, value, body.top);
                  if (name == "error") body.error = ReadError(value);
                  if (name == "choices")
                    body.choice = ReadErrorOf(FirstOf(value));
                  if (name == "response") body.response = ReadErrorOf(value);
                });
  return body;
}

// --- What a body is ---

// The body without a byte order mark and blanks around it.
inline std::string_view TrimBody(std::string_view body) {
  return Trim(SkipMark(body));
}

inline bool OpensJson(std::string_view body) {
  return body.starts_with('{') || body.starts_with('[');
}

inline bool LooksLikeHtml(std::string_view body) {
  if (!body.starts_with('<')) return false;
  constexpr auto kOpenings = std::to_array<std::string_view>(
      {"<!doctype", "<html", "<head", "<body", "<title", "<meta", "<!--"});
  const std::string opening = Lower(body.substr(0, 9));
  return std::any_of(
      kOpenings.begin(), kOpenings.end(),
      [&](std::string_view tag) { return opening.starts_with(tag); });
}

// Whether the bytes hold `"error":` with a value that is not plainly empty. A
// quick look that spares reading a good answer: inside a string the quotes
// would be escaped, so no text that a model wrote can look like that.
inline bool MayHoldError(std::string_view body) {
  constexpr std::string_view kName = "\"error\"";
  for (std::size_t at = body.find(kName); at != body.npos;
       at = body.find(kName, at + kName.size())) {
    std::string_view rest = SkipBlanks(body.substr(at + kName.size()));
    if (!rest.starts_with(':')) continue;
    rest = SkipBlanks(rest.substr(1));
    const bool empty =
        rest.starts_with("null") || rest.starts_with("false") ||
        rest.starts_with("\"\"") ||
        (rest.starts_with('{') && SkipBlanks(rest.substr(1)).starts_with('}'));
    if (!empty) return true;
  }
  return false;
}

// The same for an event, whose type may say it, too.
inline bool EventMayHoldError(std::string_view data) {
  for (std::size_t at = data.find('"'); at != data.npos;
       at = data.find('"', at + 1)) {
    const std::string_view rest = data.substr(at + 1);
    if (rest.starts_with("error\"") || rest.starts_with("response.failed\""))
      return true;
  }
  return false;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_ERROR_BODY_H_
