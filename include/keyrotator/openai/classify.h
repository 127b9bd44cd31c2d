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
//   2  the number of an error, in the place where a provider numbers them
//   3  a known error.code, error.type or reason, or the words of such a name
//   4  a quota of the day (Google's quotaId)
//   5  402
//   6  known words, most of them only at the start of the provider's message,
//      and each only with the statuses that it is known to come with
//   7  429 for a day or longer, without a word of when: a quota, not a rate
//   8  the status; but a 400 whose code or type is about an account, a balance, a
//      quota, a key or billing may be the key's, which another key will show
//   9  x-should-retry: true makes a caller's error by rule 8 transient
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
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/cooldown.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/internal/decimal.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/internal/utf8.h"
#include "keyrotator/openai/completion.h"
#include "keyrotator/openai/error_body.h"
#include "keyrotator/openai/hint.h"
#include "keyrotator/openai/json_document.h"
#include "keyrotator/openai/quick_look.h"
#include "keyrotator/openai/rules.h"
#include "keyrotator/openai/spent_words.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator {
namespace internal {

// What a person reads of a message, in bytes.
inline constexpr std::size_t kMaxMessage = 2048;
inline constexpr std::size_t kMaxCode = 256;

// --- The rules ---

inline bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return Lower(x) == Lower(y); });
}

// An error as it is judged.
struct JudgedError {
  int status;
  bool in_band;  // the status is the error's own, as a 200 came with it
  const ErrorFields& fields;

  // The number of its code, also if it is written as text.
  double Number() const {
    return fields.code_number.value_or(ParseDecimal(fields.code).value_or(0));
  }

  // DashScope says "insufficient_quota" of its tokens per minute, too.
  bool MeansTokensPerMinute() const {
    const std::string words = OwnWords(fields.message);
    return words.find("#token-limit") != words.npos ||
           words.starts_with("allocated quota exceeded") ||
           words.starts_with("workspace allocated quota exceeded");
  }
};

// Rule 2.
inline std::optional<VerdictKind> KindByNumber(const JudgedError& error) {
  const double number = error.Number();
  if (error.fields.place != ErrorPlace::kError)
    return KindByNumber(error.fields.place, number);
  // In "error" others have numbers, too, Mistral for one. Four digits with such
  // a status are Zhipu's, except what it has for callers' errors.
  if (number < 1000 || number > 1999) return std::nullopt;
  if (error.status != 401 && error.status != 429 && !error.in_band)
    return std::nullopt;
  const auto kind = KindByNumber(ErrorPlace::kMsg, number);
  const bool kills = kind == VerdictKind::kKeyInvalid && error.in_band;
  return kind == VerdictKind::kCallerError || kills ? std::nullopt : kind;
}

// Rule 3.
inline std::optional<VerdictKind> KindByName(const JudgedError& error) {
  std::optional<VerdictKind> kind;
  const auto decides = [&](std::string_view name) {
    if (name.size() > kMaxCode) return false;
    for (const NameRule& rule : rules::kNames) {
      if (name.size() != rule.name.size() ||
          !EqualsIgnoringCase(name, rule.name))
        continue;
      // A 403 says that already, and its words may say more.
      if (rule.kind == VerdictKind::kPermission && error.status == 403) break;
      const bool per_minute =
          rule.name == "insufficient_quota" && error.MeansTokensPerMinute();
      kind = per_minute ? VerdictKind::kRateLimited : rule.kind;
      return true;
    }
    // A provider's own failure may be called anything: BILLING_FAILED.
    if (error.status < 500 || error.in_band)
      kind = KindByNameWords(name, error.status);
    return kind.has_value();
  };
  error.fields.AnyName(decides);
  return kind;
}

// Whether the code or type of an error that no rule knows is about the key.
inline bool NameSpeaksOfKey(const ErrorFields& fields) {
  return fields.AnyName([](std::string_view name) {
    return name.size() <= kMaxCode && name.find(' ') == name.npos &&
           HasOneOf(NameWords(name), rules::kKeyWords);
  });
}

// Whether the message of a 400 or 500 may speak of the key: one that names a
// parameter, or has a code of its own, speaks of the request.
inline bool MaySpeakOfKey(const JudgedError& error) {
  if (error.status != 400 && error.status != 500) return true;
  constexpr auto kGeneric = std::to_array<std::string_view>(
      {"", "invalid_request_error", "bad_request", "badrequest",
       "invalid-argument", "client specified an invalid argument",
       "invalid_argument", "api_error", "server_error"});
  const ErrorFields& fields = error.fields;
  const bool generic = ParseDecimal(fields.code) ||
                       std::find(kGeneric.begin(), kGeneric.end(),
                                 Lower(fields.code)) != kGeneric.end();
  const std::string param = Lower(fields.param);
  return generic && (param.empty() || param == "none" || param == "null");
}

// What a 429 mostly is: named as a rate, with a wait told in its message.
inline bool IsPlainRateLimit(const JudgedError& error) {
  return error.status == 429 && error.fields.code == "rate_limit_exceeded" &&
         FindRetryHint(error.fields.message);
}

// Rule 6; and 7, for the first of the texts: a limit of a day or longer, where
// no wait is told. Groq's days roll on, and tell one.
inline std::optional<VerdictKind> KindByText(
    const JudgedError& error, const Headers& headers,
    std::chrono::system_clock::time_point now) {
  const ErrorFields& fields = error.fields;
  const int status = error.status;
  if (status == 403 && fields.flagged_input) return VerdictKind::kCallerError;
  bool first = status == 429;
  bool long_period = false;
  for (const std::string_view text : fields.Texts()) {
    if (text.empty() || !MaySpeakOfKey(error)) continue;
    const std::string words = OwnWords(text);
    if (const auto kind = KindByWords(rules::kWords, status, words))
      return kind;
    if (SaysSpent(status, words)) return VerdictKind::kQuotaExhausted;
    long_period = long_period || (first && SaysPeriod(words));
    first = false;
    if (status == 403 && SaysBlocked(words)) return VerdictKind::kKeyInvalid;
  }
  if (!fields.raw.empty()) {
    if (const auto kind =
            KindByWords(rules::kUpstreamWords, status, OwnWords(fields.raw)))
      return kind;
  }
  if (long_period && !FindHint(headers, fields, now))
    return VerdictKind::kQuotaExhausted;
  return std::nullopt;
}

// The status of an error that came with a 200 or in a stream.
inline int InBandStatus(const ErrorFields& fields) {
  const JudgedError error{0, true, fields};
  for (const double number : {fields.status.value_or(0), error.Number()}) {
    if (number >= 400 && number < 600) return static_cast<int>(number);
  }
  int status = 500;
  fields.AnyName([&](std::string_view name) {
    if (name.size() > kMaxCode) return false;
    const std::string words = NameWords(name);
    const auto row = std::find_if(
        rules::kNameStatuses.begin(), rules::kNameStatuses.end(),
        [&](const NameStatus& r) { return HasOneOf(words, r.name); });
    if (row == rules::kNameStatuses.end()) return false;
    status = row->status;
    return true;
  });
  return status;
}

// How far a quota reaches that is used up: money is the account's, anything
// else this model's if the error says so.
inline Reach ReachOf(int status, const ErrorFields& fields) {
  if (status == 402) return Reach::kKey;
  std::string words;
  for (const std::string_view text : fields.Texts())
    if (!text.empty()) (words += Beginning(OwnWords(text))) += ' ';
  fields.AnyName([&](std::string_view name) {
    words += NameWords(name.substr(0, kMaxCode));
    return false;
  });
  for (const std::string& id : fields.quota_ids) (words += Lower(id)) += ' ';
  const bool money =
      FindSpent(words, true) != words.npos && words.find("free") == words.npos;
  constexpr auto kModel = std::to_array<std::string_view>(
      {"permodel", "bymodel", "\u8be5\u6a21\u578b"});  // "this model"
  const bool model = FindWord(words, "model") != words.npos ||
                     FindFirst(words, kModel) != words.npos;
  return model && !money ? Reach::kScope : Reach::kKey;
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

// Completes a verdict of that kind.
inline Verdict MakeVerdict(VerdictKind kind, int status, const Headers& headers,
                           const ErrorFields& fields,
                           std::chrono::system_clock::time_point now) {
  Verdict verdict;
  verdict.kind = kind;
  verdict.should_retry = ShouldRetry(headers);
  if (kind == VerdictKind::kRateLimited || kind == VerdictKind::kOverloaded ||
      kind == VerdictKind::kTransient) {
    verdict.retry_after = FindHint(headers, fields, now);
  } else if (kind == VerdictKind::kQuotaExhausted) {
    verdict.retry_after = FindQuotaReset(headers, fields, now);
    verdict.reach = ReachOf(status, fields);
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

// Rules 2 to 7; none: the status decides.
inline std::optional<VerdictKind> KindOf(
    const JudgedError& error, const Headers& headers,
    std::chrono::system_clock::time_point now) {
  if (const auto kind = KindByNumber(error)) return kind;                // 2
  if (const auto kind = KindByName(error)) return kind;                  // 3
  if (HasDailyQuota(error.fields)) return VerdictKind::kQuotaExhausted;  // 4
  if (error.status == 402) return std::nullopt;                          // 5
  if (IsPlainRateLimit(error)) return std::nullopt;                      // 8
  return KindByText(error, headers, now);                                // 6, 7
}

// Rules 2 to 9.
inline Verdict JudgeError(const JudgedError& error, const Headers& headers,
                          std::chrono::system_clock::time_point now) {
  const auto verdict = [&](VerdictKind kind) {
    return MakeVerdict(kind, error.status, headers, error.fields, now);
  };
  if (const auto kind = KindOf(error, headers, now)) return verdict(*kind);
  if (error.status == 400 && NameSpeaksOfKey(error.fields))  // 8
    return verdict(VerdictKind::kPermission);
  const VerdictKind kind = KindByStatus(error.status);
  const bool again =
      kind == VerdictKind::kCallerError && ShouldRetry(headers) == true;
  return verdict(again ? VerdictKind::kTransient : kind);  // 9
}

// Whether a body with a 200 is nothing but a code and a message, without
// choices, where the code is known for an error's.
inline bool IsFlatError(const ErrorBody& body) {
  const ErrorFields& fields = body.top;
  if (body.answers || fields.code.empty() || fields.message.empty())
    return false;
  const JudgedError error{InBandStatus(fields), true, fields};
  return error.status != 500 || KindByName(error);
}

inline Verdict JudgeInBand(const ErrorFields& fields, const Headers& headers,
                           std::chrono::system_clock::time_point now) {
  return JudgeError({InBandStatus(fields), true, fields}, headers, now);
}

// Rule 0.
inline Verdict JudgeSuccess(const HttpResponse& response,
                            std::chrono::system_clock::time_point now) {
  const auto verdict = [&](VerdictKind kind) {
    if (kind != VerdictKind::kOk)
      return MakeVerdict(kind, response.status, response.headers, {}, now);
    Verdict good;
    good.should_retry = ShouldRetry(response.headers);
    return good;
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
  ErrorBody read =
      ReadErrorBody(opens_json ? body : body.substr(0, kMaxErrorBody));
  if (read.HasError() || IsFlatError(read))
    return JudgeInBand(read.Fields(), response.headers, now);
  const bool good = (read.complete || read.too_long) && (paired || read.alone);
  return verdict(good ? VerdictKind::kOk : VerdictKind::kTransient);
}

// Rules 1 to 9.
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
                         response.status, response.headers, {}, now);
    }
    return JudgeError({response.status, false, {}}, response.headers, now);
  }
  const bool is_json = OpensJson(body);
  ErrorBody read = is_json ? ReadErrorBody(body) : ErrorBody();
  ErrorFields& fields = read.Fields();
  if (!is_json) fields.plain = body;
  return JudgeError({response.status, false, fields}, response.headers, now);
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
  return internal::IsSuccess(response.status)
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
      type != "response.failed" && !internal::IsFlatError(read)) {
    return std::nullopt;
  }
  internal::ErrorFields& fields = read.Fields();
  if (!read.complete) fields.plain = data;
  return internal::JudgeInBand(fields, {}, now);
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
