// File: openai/classify.h
//
// What an answer means for the key it was sent with: one function for a whole
// response, one for an event of a stream. Pure functions of their arguments,
// for every OpenAI-compatible provider alike: the shape of the answer decides,
// not the name of who sent it.
//
// The first rule that fits decides:
//   0  2xx: good, unless it is a page, no JSON, or holds a top-level error; that
//      error is then judged as if it had come with the status that it names
//   1  a page of HTML: only the status counts
//   2  a known error.code, error.type or error.details[].reason
//   3  402
//   4  known words, most of them only at the start of the provider's message,
//      and each only with the statuses that it is known to come with
//   5  the status
//   6  x-should-retry: true makes a caller's error by rule 5 transient
// A plain 403 never kills a key, and nothing that a prompt can say does.
//
// Example:
//   keyrotator::Verdict verdict = keyrotator::Classify(response);
//   if (verdict.kind == keyrotator::VerdictKind::kKeyInvalid) {
//     rotator.MarkFailed(lease);
//   }
//   // and for each event of a stream:
//   if (auto verdict = keyrotator::ClassifyEvent(event.event, event.data)) {
//     Log(verdict->message);
//   }

#ifndef KEYROTATOR_OPENAI_CLASSIFY_H_
#define KEYROTATOR_OPENAI_CLASSIFY_H_

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/internal/decimal.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/internal/utf8.h"
#include "keyrotator/openai/completion.h"
#include "keyrotator/openai/error_body.h"
#include "keyrotator/openai/json_document.h"
#include "keyrotator/openai/retry_after.h"
#include "keyrotator/openai/rules.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator {
namespace internal {

// What a person reads of a message, in bytes.
inline constexpr std::size_t kMaxMessage = 2048;
inline constexpr std::size_t kMaxCode = 256;

// --- The rules ---

// Whether the error bears that name.
inline bool IsNamed(const ErrorFields& fields, std::string_view name) {
  return fields.code == name || fields.type == name ||
         std::find(fields.reasons.begin(), fields.reasons.end(), name) !=
             fields.reasons.end();
}

// Rule 2.
inline std::optional<VerdictKind> KindByName(const ErrorFields& fields) {
  for (const NameRule& rule : rules::kNames) {
    if (IsNamed(fields, rule.name)) return rule.kind;
  }
  return std::nullopt;
}

// Rule 4.
inline std::optional<VerdictKind> KindByText(int status,
                                             const ErrorFields& fields) {
  for (const std::string_view text : fields.Texts()) {
    if (const auto kind = KindByWords(rules::kWords, status, text)) return kind;
  }
  if (status == 403 && fields.flagged_input) return VerdictKind::kCallerError;
  return KindByWords(rules::kUpstreamWords, status, fields.raw);
}

// The status of an error that came with a 200 or in a stream.
inline int InBandStatus(const ErrorFields& fields) {
  const double number =
      fields.code_number.value_or(ParseDecimal(fields.code).value_or(0));
  if (number >= 400 && number < 600) return static_cast<int>(number);
  for (const NameStatus& row : rules::kNameStatuses) {
    if (IsNamed(fields, row.name)) return row.status;
  }
  return 500;
}

// --- The verdict ---

inline std::string CodeOf(const ErrorFields& fields) {
  if (!fields.code.empty()) return std::string(Shorten(fields.code, kMaxCode));
  if (!fields.type.empty()) return std::string(Shorten(fields.type, kMaxCode));
  if (fields.code_number) {
    return fmt::format("{:.0f}", *fields.code_number).substr(0, kMaxCode);
  }
  return {};
}

inline std::optional<bool> ShouldRetry(const Headers& headers) {
  const std::string_view value =
      Trim(headers.Find("x-should-retry").value_or(""));
  if (value == "true") return true;
  if (value == "false") return false;
  return std::nullopt;
}

// The first hint that is usable, from the most exact source to the vaguest.
inline std::optional<std::chrono::milliseconds> FindHint(
    const Headers& headers, const ErrorFields& fields,
    std::chrono::system_clock::time_point now) {
  if (const auto wait = ParseRetryAfter(headers, now)) return wait;
  if (const auto wait = ParseDuration(fields.retry_delay)) return RoundUp(wait);
  if (const auto wait = ParseReset(fields.reset, ServerNow(headers, now))) {
    return RoundUp(wait);
  }
  for (const std::string_view text : fields.Texts()) {
    if (const auto wait = FindRetryHint(text)) return wait;
  }
  if (const auto wait = FindRetryHint(fields.plain)) return wait;
  return ParseExhaustedReset(headers, now);
}

// Completes a verdict of that kind.
inline Verdict MakeVerdict(VerdictKind kind, const Headers& headers,
                           const ErrorFields& fields,
                           std::chrono::system_clock::time_point now) {
  Verdict verdict;
  verdict.kind = kind;
  verdict.should_retry = ShouldRetry(headers);
  if (kind == VerdictKind::kRateLimited || kind == VerdictKind::kOverloaded ||
      kind == VerdictKind::kTransient) {
    verdict.retry_after = FindHint(headers, fields, now);
  }
  verdict.code = CodeOf(fields);
  verdict.message = Shorten(fields.plain, kMaxMessage);
  for (const std::string_view text : fields.Texts()) {
    if (text.empty()) continue;
    verdict.message = Shorten(text, kMaxMessage);
    break;
  }
  return verdict;
}

// --- The order of the rules ---

// Rules 2 to 6.
inline Verdict JudgeError(int status, const Headers& headers,
                          const ErrorFields& fields,
                          std::chrono::system_clock::time_point now) {
  const auto verdict = [&](VerdictKind kind) {
    return MakeVerdict(kind, headers, fields, now);
  };
  if (const auto kind = KindByName(fields)) return verdict(*kind);          // 2
  if (status == 402) return verdict(KindByStatus(status));                  // 3
  if (const auto kind = KindByText(status, fields)) return verdict(*kind);  // 4
  const VerdictKind kind = KindByStatus(status);                            // 5
  const bool again =
      kind == VerdictKind::kCallerError && ShouldRetry(headers) == true;
  return verdict(again ? VerdictKind::kTransient : kind);  // 6
}

// Rule 0.
inline Verdict JudgeSuccess(const HttpResponse& response,
                            std::chrono::system_clock::time_point now) {
  const auto verdict = [&](VerdictKind kind, const ErrorFields& fields = {}) {
    return MakeVerdict(kind, response.headers, fields, now);
  };
  if (response.status == 202 || response.status == 204 ||
      response.status == 205) {
    return verdict(VerdictKind::kOk);
  }
  const std::string type =
      Lower(Trim(response.headers.Find("content-type").value_or("")));
  const bool says_html = type.find("html") != std::string::npos;
  const bool says_json = type.find("json") != std::string::npos &&
                         type.find("jsonl") == std::string::npos &&
                         type.find("json-lines") == std::string::npos &&
                         type.find("ndjson") == std::string::npos;
  if (!type.empty() && !says_html && !says_json) {
    return verdict(VerdictKind::kOk);
  }
  const std::string_view body = TrimBody(response.body);
  const bool opens_json = OpensJson(body);
  if (LooksLikeHtml(body) || (says_html && !opens_json)) {
    return verdict(VerdictKind::kCallerError);
  }
  if (body.empty()) return verdict(VerdictKind::kTransient);

  const bool paired =
      opens_json && body.back() == (body.front() == '{' ? '}' : ']');
  if (opens_json && !MayHoldError(body)) {
    return verdict(paired ? VerdictKind::kOk : VerdictKind::kTransient);
  }
  // All other JSON is a lone string or number, and short.
  const ErrorBody read =
      ReadErrorBody(opens_json ? body : body.substr(0, kMaxErrorBody));
  if (read.HasError()) {
    return JudgeError(InBandStatus(read.Fields()), response.headers,
                      read.Fields(), now);
  }
  const bool good = (read.complete || read.too_long) && (paired || read.alone);
  return verdict(good ? VerdictKind::kOk : VerdictKind::kTransient);
}

// Rules 1 to 6.
inline Verdict JudgeFailure(const HttpResponse& response,
                            std::chrono::system_clock::time_point now) {
  const std::string_view body =
      TrimBody(std::string_view(response.body).substr(0, kMaxErrorBody));
  const bool says_html =
      Lower(response.headers.Find("content-type").value_or("")).find("html") !=
      std::string::npos;
  if (LooksLikeHtml(body) || (says_html && !OpensJson(body))) {
    // A page comes from a proxy at the edge, which has not looked at the key.
    if (response.status == 403 || response.status == 429) {
      return MakeVerdict(response.status == 403 ? VerdictKind::kCallerError
                                                : VerdictKind::kOverloaded,
                         response.headers, {}, now);
    }
    return JudgeError(response.status, response.headers, {}, now);
  }
  ErrorFields fields;
  if (OpensJson(body)) {
    fields = ReadErrorBody(body).Fields();
  } else {
    fields.plain = body;
  }
  return JudgeError(response.status, response.headers, fields, now);
}

}  // namespace internal

// What a response means for the key that it answers. `now` serves hints that
// are dates; the response's own header Date goes before it.
//
// Never throws for anything that a server can send. Of a body that is no
// success at most 256 KiB are read. A success is searched for an error in one
// pass and is read as JSON only if it may hold one; if it then is longer than
// 256 KiB, its long strings aside, it counts as good. Thread-safe.
inline Verdict Classify(const HttpResponse& response,
                        std::chrono::system_clock::time_point now =
                            std::chrono::system_clock::now()) {
  return response.status >= 200 && response.status < 300
             ? internal::JudgeSuccess(response, now)
             : internal::JudgeFailure(response, now);
}

// What an event of a stream that began with a 200 means if it is an error; none
// for every other event. An error is: an event named "error" (Anthropic,
// OpenAI's Responses API) or "response.failed", and by its data one whose type
// is one of these, or that holds a top-level "error" or choices[0].error which
// is not empty. Text that the model wrote is not looked into. Never throws for
// anything that a server can send. Thread-safe.
inline std::optional<Verdict> ClassifyEvent(
    std::string_view event, std::string_view data,
    std::chrono::system_clock::time_point now =
        std::chrono::system_clock::now()) {
  const bool named = event == "error" || event == "response.failed";
  if (!named && !internal::EventMayHoldError(data)) return std::nullopt;
  internal::ErrorBody read = internal::ReadErrorBody(data);
  if (!read.complete && data.size() <= internal::kMaxErrorBody) {
    read = internal::ReadErrorBody(internal::ToValidUtf8(data));
  }
  const std::string& type = read.top.type;
  if (!named && !read.HasError() && type != "error" &&
      type != "response.failed") {
    return std::nullopt;
  }
  internal::ErrorFields fields = read.Fields();
  if (!read.complete) fields.plain = data;
  return internal::JudgeError(internal::InBandStatus(fields), {}, fields, now);
}

// What Failover needs to know of OpenAI-compatible answers: their verdicts, the
// errors inside streams, and when a stream's answer is complete. One object
// serves one request at a time.
class OpenAIClassifier {
 public:
  Verdict operator()(const HttpResponse& response,
                     std::chrono::system_clock::time_point now) const {
    return Classify(response, now);
  }

  std::optional<Verdict> operator()(
      std::string_view event, std::string_view data,
      std::chrono::system_clock::time_point now) const {
    return ClassifyEvent(event, data, now);
  }

  // Whether the answer is complete with this event: all choices have a
  // finish_reason, or the event says so (message_stop, response.completed,
  // response.incomplete). "[DONE]" is Failover's.
  bool Completes(std::string_view event, std::string_view data) {
    return completion_.Completes(event, data);
  }

 private:
  internal::Completion completion_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_CLASSIFY_H_
