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
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_document.h"
#include "keyrotator/openai/json_scan.h"

namespace keyrotator::internal {

// Where an error was found, which says what the number of its code means.
enum class ErrorPlace : std::uint8_t {
  kError,      // "error", and whatever a failure's body holds
  kBaseResp,   // {"base_resp": {"status_code": 1008, "status_msg": ...}}
  kErrorCode,  // {"error_code": 17, "error_msg": ...}
  kErrors,     // {"errors": [{"code": 3036, "message": ...}]}
  kMsg,        // {"code": 1113, "msg": ..., "success": false}
};

// The members of an error that a verdict rests on. Empty: absent, or not text.
struct ErrorFields {
  ErrorPlace place = ErrorPlace::kError;
  std::string code;
  std::optional<double> code_number;
  std::string type;
  std::string message;
  std::string error;   // {"error": "Unauthorized"}
  std::string detail;  // problem+json, FastAPI
  std::string title;   // problem+json
  std::string msg;     // msg, error_msg and status_msg of those who say so
  std::string plain;   // the whole body, if it is no JSON: no words that
                       // decide, but they may hold a hint
  std::string param;   // what of the request it is about
  std::string reason;
  std::optional<double> status;     // in an event that is an error
  std::optional<double> resets_in;  // resets_in_seconds, retry_after
  std::optional<double> resets_at;  // seconds since 1970
  // error.details[]: Google's ErrorInfo.reason, RetryInfo.retryDelay and
  // QuotaFailure.violations[].quotaId; details.error_code of Anthropic.
  std::vector<std::string> reasons;
  std::string retry_delay;
  std::vector<std::string> quota_ids;
  // error.metadata of OpenRouter.
  std::string reset;  // headers["X-RateLimit-Reset"]
  std::string raw;
  bool flagged_input = false;

  // What the provider says in words, the fullest first.
  std::array<std::string_view, 5> Texts() const {
    return {message, error, detail, title, msg};
  }

  // Calls visit(name) for what it is called, the most exact name first, until
  // that returns true.
  template <class Visit>
  bool AnyName(Visit visit) const {
    const auto is = [&](const std::string& name) {
      return !name.empty() && visit(std::string_view(name));
    };
    return is(code) || is(reason) ||
           std::any_of(reasons.begin(), reasons.end(), is) || is(type);
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
  ErrorFields top;    // members beside the error, or of a flat body
  ErrorObject error;  // the top-level "error"
  // Those that are present.
  std::optional<ErrorFields> choice;     // choices[0].error
  std::optional<ErrorFields> listed;     // errors[0], Cloudflare
  std::optional<ErrorFields> base_resp;  // MiniMax
  std::optional<ErrorFields> native;     // Response.Error, Tencent's own
  std::optional<ErrorFields> response;   // response.error, Responses API
  bool fails = false;                    // "success": false
  bool answers = false;                  // "choices" has some
  bool complete = false;                 // the first JSON value was read
  bool too_long = false;                 // or was not, as it is too long
  bool alone = false;                    // nothing but blanks follows it

  // Whether it is an error even with a 200. One that is only a code and a
  // message beside each other is not: see Classify.
  bool HasError() const {
    return error.present || choice || listed || base_resp || native ||
           top.place != ErrorPlace::kError;
  }

  // Where the error's members stand: in an object, or flat.
  ErrorFields& Fields() {
    if (error.present) return error.is_object ? error.fields : top;
    for (auto* place : {&choice, &listed, &base_resp, &native, &response}) {
      if (*place) return **place;
    }
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
  if (name == "code" || name == "Code") {
    fields.code = TextOf(value);
    fields.code_number = NumberOf(value);
  } else if (name == "type") {
    fields.type = TextOf(value);
  } else if (name == "message" || name == "Message") {
    fields.message = TextOf(value);
  } else if (name == "error") {
    fields.error = TextOf(value);
  } else if (name == "detail") {
    fields.detail = TextOf(value);
  } else if (name == "title") {
    fields.title = TextOf(value);
  } else if (name == "msg" || name == "error_msg" || name == "status_msg") {
    fields.msg = TextOf(value);
  } else if (name == "param") {
    fields.param = TextOf(value);
  } else if (name == "reason") {
    fields.reason = TextOf(value);
  } else if (name == "status") {
    fields.status = NumberOf(value);
  } else if (name == "resets_in_seconds" || name == "retry_after") {
    fields.resets_in = NumberOf(value);
  } else if (name == "resets_at") {
    fields.resets_at = NumberOf(value);
  }
}

inline void ReadViolations(JsonValue violations, ErrorFields& fields) {
  ForEachElement(violations, [&](JsonValue violation) {
    ForEachMember(violation, [&](std::string_view name, JsonValue value) {
      if (name == "quotaId") fields.quota_ids.push_back(TextOf(value));
    });
  });
}

inline void ReadDetails(JsonValue details, ErrorFields& fields) {
  fields.reasons.clear();
  fields.retry_delay.clear();
  fields.quota_ids.clear();
  ForEachMember(details, [&](std::string_view name, JsonValue value) {
    if (name == "error_code") fields.reasons = {TextOf(value)};
  });
  ForEachElement(details, [&](JsonValue detail) {
    std::string type;
    std::string reason;
    std::string delay;
    ForEachMember(detail, [&](std::string_view name, JsonValue value) {
      if (name == "@type") type = TextOf(value);
      if (name == "reason") reason = TextOf(value);
      if (name == "retryDelay") delay = TextOf(value);
      if (name == "violations") ReadViolations(value, fields);
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
inline std::optional<ErrorFields> ReadErrorOf(std::optional<JsonValue> value) {
  std::optional<ErrorFields> fields;
  if (!value) return fields;
  ForEachMember(*value, [&](std::string_view name, JsonValue member) {
    if (name != "error" && name != "Error") return;
    fields.reset();
    if (!IsEmpty(member)) fields = ReadError(member).fields;
  });
  return fields;
}

// {"status_code": 1008, "status_msg": "insufficient balance"}; 0 is good.
inline std::optional<ErrorFields> ReadBaseResp(JsonValue value) {
  ErrorFields fields;
  fields.place = ErrorPlace::kBaseResp;
  ForEachMember(value, [&](std::string_view name, JsonValue member) {
    ReadField(name == "status_code" ? "code" : name, member, fields);
  });
  if (fields.code_number.value_or(0) == 0) return std::nullopt;
  return fields;
}

inline std::optional<ErrorFields> ReadListed(std::optional<JsonValue> value) {
  if (!value || !value->is_object()) return std::nullopt;
  ErrorFields fields = ReadError(*value).fields;
  fields.place = ErrorPlace::kErrors;
  if (fields.message.empty()) return std::nullopt;
  return fields;
}

// Where a flat body's number stands. `code` counts only beside what says that
// it is an error, and not if it is a success of HTTP.
inline void FindPlace(std::optional<double> error_code, ErrorBody& body) {
  if (body.answers) return;
  const double code = body.top.code_number.value_or(0);
  if (error_code.value_or(0) != 0) {
    body.top.place = ErrorPlace::kErrorCode;
    body.top.code_number = error_code;
  } else if (code != 0 && (code < 200 || code >= 300) &&
             (body.fails || !body.top.msg.empty())) {
    body.top.place = ErrorPlace::kMsg;
  }
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
  std::optional<double> error_code;
  ForEachMember(FirstOf(*root).value_or(*root),
                [&](std::string_view name, JsonValue value) {
                  ReadField(name, value, body.top);
                  if (name == "error") body.error = ReadError(value);
                  if (name == "choices") {
                    body.choice = ReadErrorOf(FirstOf(value));
                    body.answers = !IsEmpty(value);
                  }
                  if (name == "response") body.response = ReadErrorOf(value);
                  if (name == "errors")
                    body.listed = ReadListed(FirstOf(value));
                  if (name == "base_resp") body.base_resp = ReadBaseResp(value);
                  if (name == "Response") body.native = ReadErrorOf(value);
                  if (name == "error_code") error_code = NumberOf(value);
                  if (name == "success")
                    body.fails = value.is_bool() && IsEmpty(value);
                });
  FindPlace(error_code, body);
  if (!body.error.fields.status) body.error.fields.status = body.top.status;
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

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_ERROR_BODY_H_
