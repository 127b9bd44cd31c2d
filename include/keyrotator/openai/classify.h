// File: openai/classify.h
//
// What an answer means for the key it was sent with: one function for a whole
// response, one for an event of a stream. Pure functions of their arguments,
// for every OpenAI-compatible provider alike: the shape of the answer decides,
// not the name of who sent it.
//
// The first rule that fits decides:
//   0  2xx: good, unless it is a page, no JSON, or holds a top-level error;
//   that
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
//     return Fail(*verdict);
//   }

#ifndef KEYROTATOR_OPENAI_CLASSIFY_H_
#define KEYROTATOR_OPENAI_CLASSIFY_H_

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/openai/retry_after.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator {
namespace internal {

// Above any error that was seen (the largest had 64 KiB), and small enough to
// read at once.
inline constexpr std::size_t kMaxErrorBody = std::size_t{256} << 10;
// Error bodies nest six deep; what goes beyond this is an attack.
inline constexpr std::size_t kMaxJsonDepth = 64;
// What a person reads of a message, in bytes.
inline constexpr std::size_t kMaxMessage = 2048;
inline constexpr std::size_t kMaxCode = 256;

// --- Reading a body ---

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
  bool complete = false;  // the first JSON value was read to its end
  bool alone = false;     // and nothing but blanks follows it

  bool HasError() const { return error.present || choice.present; }

  // Where the error's members stand: in an object, or flat.
  const ErrorFields& Fields() const {
    if (error.present) return error.is_object ? error.fields : top;
    if (choice.present) return choice.fields;
    if (response.present) return response.fields;
    return top;
  }
};

// Fills an ErrorBody from the JSON reader's events (nlohmann's SAX interface).
// Keeps the few members that count and forgets the rest as it passes, so
// neither depth nor size costs memory. A later duplicate replaces an earlier
// one whole.
class ErrorReader {
 public:
  explicit ErrorReader(ErrorBody& body) : body_(body) {}

  bool null() { return Scalar({}, std::nullopt, true); }
  bool boolean(bool value) { return Scalar({}, std::nullopt, !value); }
  bool number_integer(std::int64_t value) {
    return Number(static_cast<double>(value));
  }
  bool number_unsigned(std::uint64_t value) {
    return Number(static_cast<double>(value));
  }
  bool number_float(double value, const std::string&) { return Number(value); }
  bool string(std::string& value) {
    const bool empty = value.empty();
    return Scalar(std::move(value), std::nullopt, empty);
  }
  bool binary(nlohmann::json::binary_t&) { return false; }

  bool key(std::string& name) {
    if (Here() == At::kError) error_->present = true;
    key_ = std::move(name);
    return true;
  }

  bool start_object(std::size_t) { return Enter(true); }
  bool start_array(std::size_t) { return Enter(false); }
  bool end_object() { return Leave(); }
  bool end_array() { return Leave(); }

  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::json::exception&) {
    return false;
  }

 private:
  // The places in a body that are looked into.
  enum class At : std::uint8_t {
    kOutside,
    kTopList,
    kTop,
    kChoices,
    kChoice,
    kResponse,
    kError,
    kErrorList,
    kDetails,
    kDetail,
    kMetadata,
    kHeaders,
    kElsewhere,
  };
  struct Frame {
    At at;
    bool first = true;  // of an array: no element was seen yet
  };

  At Here() const { return frames_.empty() ? At::kOutside : frames_.back().at; }

  // The error object that `key_` names here, or null.
  ErrorObject* ErrorHere() {
    if (key_ != "error") return nullptr;
    if (Here() == At::kTop) return &body_.error;
    if (Here() == At::kChoice) return &body_.choice;
    if (Here() == At::kResponse) return &body_.response;
    return nullptr;
  }

  // A value begins: forgets what an earlier member of that name left.
  void Begin() {
    if (ErrorObject* error = ErrorHere()) *error = {};
    switch (Here()) {
      case At::kTop:
        if (key_ == "choices") body_.choice = {};
        if (key_ == "response") body_.response = {};
        break;
      case At::kErrorList:
        error_->present = true;
        break;
      case At::kError:
        if (key_ == "details") {
          error_->fields.reasons.clear();
          error_->fields.retry_delay.clear();
        } else if (key_ == "metadata") {
          error_->fields.reset.clear();
          error_->fields.raw.clear();
          error_->fields.flagged_input = false;
        }
        break;
      case At::kMetadata:
        if (key_ == "headers") error_->fields.reset.clear();
        break;
      default:
        break;
    }
  }

  bool Number(double value) { return Scalar({}, value, value == 0); }

  bool Scalar(std::string text, std::optional<double> number, bool empty) {
    Begin();
    if (ErrorObject* error = ErrorHere()) {
      error->present = !empty;
      error->fields.message = text;
    }
    Keep(std::move(text), number, empty);
    Ended();
    return true;
  }

  // Takes a member's value; a value that is not text counts as empty text.
  void Keep(std::string text, std::optional<double> number, bool empty) {
    switch (Here()) {
      case At::kTop:
        KeepField(body_.top, std::move(text), number);
        break;
      case At::kError:
        KeepField(error_->fields, std::move(text), number);
        break;
      case At::kDetail:
        if (key_ == "@type")
          detail_type_ = std::move(text);
        else if (key_ == "reason")
          detail_reason_ = std::move(text);
        else if (key_ == "retryDelay")
          detail_delay_ = std::move(text);
        break;
      case At::kMetadata:
        if (key_ == "raw") error_->fields.raw = std::move(text);
        if (key_ == "flagged_input") error_->fields.flagged_input = !empty;
        break;
      case At::kHeaders:
        if (Lower(key_) == "x-ratelimit-reset") {
          error_->fields.reset =
              number ? fmt::format("{:.0f}", *number) : std::move(text);
        }
        break;
      default:
        break;
    }
  }

  void KeepField(ErrorFields& fields, std::string text,
                 std::optional<double> number) {
    if (key_ == "code") {
      fields.code = std::move(text);
      fields.code_number = number;
    } else if (key_ == "type") {
      fields.type = std::move(text);
    } else if (key_ == "message") {
      fields.message = std::move(text);
    } else if (key_ == "error") {
      fields.error = std::move(text);
    } else if (key_ == "detail") {
      fields.detail = std::move(text);
    } else if (key_ == "title") {
      fields.title = std::move(text);
    }
  }

  bool Enter(bool is_object) {
    if (frames_.size() == kMaxJsonDepth) return false;
    Begin();
    Keep({}, std::nullopt, true);
    const At inside = Inside(is_object);
    if (inside == At::kError || inside == At::kErrorList) {
      error_ = ErrorHere();
      error_->is_object = is_object;
    } else if (inside == At::kDetail) {
      detail_type_.clear();
      detail_reason_.clear();
      detail_delay_.clear();
    }
    if (!frames_.empty()) frames_.back().first = false;
    frames_.push_back({inside});
    return true;
  }

  // Which place the object or array is that begins here.
  At Inside(bool is_object) {
    if (ErrorHere() != nullptr) return is_object ? At::kError : At::kErrorList;
    const auto is = [&](bool object, std::string_view name) {
      return is_object == object && key_ == name;
    };
    switch (Here()) {
      case At::kOutside:
        return is_object ? At::kTop : At::kTopList;
      case At::kTopList:
        return is_object && frames_.back().first ? At::kTop : At::kElsewhere;
      case At::kTop:
        if (is(false, "choices")) return At::kChoices;
        return is(true, "response") ? At::kResponse : At::kElsewhere;
      case At::kChoices:
        return is_object && frames_.back().first ? At::kChoice : At::kElsewhere;
      case At::kError:
        if (is(false, "details")) return At::kDetails;
        return is(true, "metadata") ? At::kMetadata : At::kElsewhere;
      case At::kDetails:
        return is_object ? At::kDetail : At::kElsewhere;
      case At::kMetadata:
        return is(true, "headers") ? At::kHeaders : At::kElsewhere;
      default:
        return At::kElsewhere;
    }
  }

  bool Leave() {
    if (Here() == At::kDetail) {
      ErrorFields& fields = error_->fields;
      if (!detail_reason_.empty()) fields.reasons.push_back(detail_reason_);
      if (detail_type_.ends_with("google.rpc.RetryInfo") &&
          !detail_delay_.empty()) {
        fields.retry_delay = detail_delay_;
      }
    }
    frames_.pop_back();
    Ended();
    return true;
  }

  void Ended() {
    if (frames_.empty()) {
      body_.complete = true;
    } else {
      frames_.back().first = false;
    }
  }

  ErrorBody& body_;
  std::vector<Frame> frames_;
  std::string key_;               // of the member whose value comes next
  ErrorObject* error_ = nullptr;  // that we are in, or were in last
  std::string detail_type_;
  std::string detail_reason_;
  std::string detail_delay_;
};

// Walks over JSON text and leaves out the rest of a string once it is longer
// than kMaxErrorBody, as the JSON reader holds each string whole (twice): an
// image beside an error must not cost its size. What is left out is not
// checked.
class JsonBytes {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  JsonBytes(const char* at, const char* end) : at_(at), end_(end) {}

  reference operator*() const { return *at_; }
  bool operator==(const JsonBytes& other) const { return at_ == other.at_; }

  JsonBytes& operator++() {
    const char c = *at_++;
    if (!in_string_) {
      in_string_ = c == '"';
      length_ = 0;
    } else if (escaped_) {
      escaped_ = false;
    } else if (c == '"') {
      in_string_ = false;
    } else {
      escaped_ = c == '\\';
      plain_ =
          escaped_ || static_cast<unsigned char>(c) >= 0x80 ? 0 : plain_ + 1;
      // Not inside a character: an escaped pair of surrogates is 12 bytes long.
      if (++length_ > kMaxErrorBody && plain_ > 12) SkipString();
    }
    return *this;
  }
  JsonBytes operator++(int) {
    JsonBytes before = *this;
    ++*this;
    return before;
  }

 private:
  // Up to the quote that ends the string: one after an even number of
  // backslashes.
  void SkipString() {
    for (;; ++at_) {
      at_ = std::find(at_, end_, '"');
      const char* before = at_;
      while (before[-1] == '\\') --before;
      if (at_ == end_ || (at_ - before) % 2 == 0) return;
    }
  }

  const char* at_;
  const char* end_;
  bool in_string_ = false;
  bool escaped_ = false;    // a backslash came before
  std::size_t length_ = 0;  // of the string so far
  std::size_t plain_ = 0;  // ASCII bytes since the last that was not, or escape
};

// Reads the first JSON value of a body. What the reader refuses (cut short, too
// deep, not UTF-8, a number beyond a double) leaves nothing but !complete.
inline ErrorBody ReadErrorBody(std::string_view text) {
  ErrorBody body;
  ErrorReader reader(body);
  const char* end = text.data() + text.size();
  body.alone = nlohmann::json::sax_parse(JsonBytes(text.data(), end),
                                         JsonBytes(end, end), &reader);
  if (!body.complete) body = {};
  return body;
}

// The body without a byte order mark and blanks around it.
inline std::string_view TrimBody(std::string_view body) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (body.starts_with(kMark)) body.remove_prefix(kMark.size());
  return Trim(body);
}

inline bool StartsWithoutCase(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() &&
         Lower(text.substr(0, lower.size())) == lower;
}

inline bool OpensJson(std::string_view body) {
  return body.starts_with('{') || body.starts_with('[');
}

inline bool LooksLikeHtml(std::string_view body) {
  constexpr auto kOpenings = std::to_array<std::string_view>(
      {"<!doctype", "<html", "<head", "<body", "<title", "<meta", "<!--"});
  return std::any_of(
      kOpenings.begin(), kOpenings.end(),
      [&](std::string_view tag) { return StartsWithoutCase(body, tag); });
}

// Whether the bytes hold `"error":` with a value that is not plainly empty. A
// quick look that spares reading a good answer: inside a string the quotes
// would be escaped, so no text that a model wrote can look like that.
inline bool MayHoldError(std::string_view body) {
  constexpr std::string_view kName = "\"error\"";
  const std::boyer_moore_horspool_searcher searcher(kName.begin(), kName.end());
  auto at = body.begin();
  while ((at = std::search(at, body.end(), searcher)) != body.end()) {
    at += kName.size();
    std::string_view rest =
        SkipBlanks(body.substr(static_cast<std::size_t>(at - body.begin())));
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

// --- The rules ---

// Rule 2: what providers write in error.code, error.type or details[].reason,
// where it says more than the status. The first row that fits decides.
struct NamedKind {
  std::string_view name;
  VerdictKind kind;
};

inline constexpr auto kNamedKinds = std::to_array<NamedKind>({
    {"insufficient_quota", VerdictKind::kQuotaExhausted},  // OpenAI
    {"billing_not_active", VerdictKind::kQuotaExhausted},
    {"billing_hard_limit_reached", VerdictKind::kQuotaExhausted},
    {"billing_error", VerdictKind::kQuotaExhausted},  // Anthropic
    {"exceeded_current_quota_error", VerdictKind::kQuotaExhausted},  // Moonshot

    {"invalid_api_key", VerdictKind::kKeyInvalid},  // OpenAI, Groq, Together
    {"account_deactivated", VerdictKind::kKeyInvalid},
    {"no_organization", VerdictKind::kKeyInvalid},
    {"authentication_error", VerdictKind::kKeyInvalid},  // Anthropic, DeepSeek
    {"API_KEY_INVALID", VerdictKind::kKeyInvalid},       // Google
    {"CONSUMER_SUSPENDED", VerdictKind::kKeyInvalid},
    {"organization_restricted", VerdictKind::kKeyInvalid},       // Groq
    {"wrong_api_key", VerdictKind::kKeyInvalid},                 // Cerebras
    {"invalid_authentication_error", VerdictKind::kKeyInvalid},  // Moonshot

    {"unsupported_country_region_territory", VerdictKind::kCallerError},
    {"request_forbidden", VerdictKind::kCallerError},
    {"context_length_exceeded", VerdictKind::kCallerError},
    {"content_filter", VerdictKind::kCallerError},  // Azure
    {"content_policy_violation", VerdictKind::kCallerError},
    {"invalid_prompt", VerdictKind::kCallerError},     // Responses API
    {"request_too_large", VerdictKind::kCallerError},  // Anthropic

    {"mismatched_organization", VerdictKind::kPermission},
    {"ip_not_authorized", VerdictKind::kPermission},
    {"permission_error", VerdictKind::kPermission},    // Anthropic
    {"DeploymentNotFound", VerdictKind::kPermission},  // Azure

    {"overloaded_error", VerdictKind::kOverloaded},         // Anthropic
    {"engine_overloaded_error", VerdictKind::kOverloaded},  // Moonshot
    {"queue_exceeded", VerdictKind::kOverloaded},           // Cerebras
});

// The status that a name stands for where no status came with it: in a 200, or
// in a stream. Where it says nothing else, the error is the server's (500).
struct NamedStatus {
  std::string_view name;
  int status;
};

inline constexpr auto kNamedStatuses = std::to_array<NamedStatus>({
    {"rate_limit_exceeded", 429},
    {"rate_limit_error", 429},          // Anthropic
    {"rate_limit_reached_error", 429},  // Moonshot
    {"rate_limited", 429},              // Mistral
    {"request_quota_exceeded", 429},    // Cerebras
    {"token_quota_exceeded", 429},
    {"service_unavailable_error", 503},  // OpenAI, DeepSeek
    {"unavailable_error", 503},          // llama.cpp
});

// Whether the error bears that name.
inline bool IsNamed(const ErrorFields& fields, std::string_view name) {
  return fields.code == name || fields.type == name ||
         std::find(fields.reasons.begin(), fields.reasons.end(), name) !=
             fields.reasons.end();
}

inline std::optional<VerdictKind> KindByName(const ErrorFields& fields) {
  for (const NamedKind& row : kNamedKinds) {
    if (IsNamed(fields, row.name)) return row.kind;
  }
  return std::nullopt;
}

// Whether the text says "limit: 0", and not "limit: 05" or "limit: 0.5".
inline bool SaysLimitIsZero(std::string_view lower) {
  constexpr std::string_view kPhrase = "limit: 0";
  for (std::size_t at = 0;
       (at = lower.find(kPhrase, at)) != std::string_view::npos;) {
    at += kPhrase.size();
    std::string_view rest = lower.substr(at);
    if (rest.starts_with('.')) rest.remove_prefix(1);
    if (rest.empty() || !IsDigit(rest.front())) return true;
  }
  return false;
}

// Rule 4: the words that count where no code does, each with the statuses that
// it comes with. Most must open the message: what a provider quotes of a prompt
// comes later.
inline std::optional<VerdictKind> KindByText(int status,
                                             std::string_view text) {
  const std::string lower = Lower(SkipBlanks(text));
  const auto with = [&](std::initializer_list<int> statuses) {
    return std::find(statuses.begin(), statuses.end(), status) !=
           statuses.end();
  };
  const auto opens = [&](std::initializer_list<std::string_view> phrases) {
    return std::any_of(
        phrases.begin(), phrases.end(),
        [&](std::string_view phrase) { return lower.starts_with(phrase); });
  };
  const auto says = [&](std::initializer_list<std::string_view> phrases) {
    return std::any_of(phrases.begin(), phrases.end(),
                       [&](std::string_view phrase) {
                         return lower.find(phrase) != std::string::npos;
                       });
  };

  if (with({400, 401, 403}) &&
      opens({"incorrect api key", "invalid api key", "invalid api token",
             "wrong api key", "api key not valid", "api key expired",
             "your api key was reported as leaked",
             "permission denied: consumer 'api_key:",
             "this organization has been disabled",
             "organization has been restricted"})) {
    return VerdictKind::kKeyInvalid;
  }
  if (with({403}) && opens({"authorization failed", "not authenticated"})) {
    return VerdictKind::kKeyInvalid;
  }
  if (with({400, 403, 429}) &&
      opens({"your credit balance is too low",
             "you have reached your specified api usage limits",
             "billing hard limit", "your account is not active",
             "key limit exceeded"})) {
    return VerdictKind::kQuotaExhausted;
  }
  if (with({412}) && says({"account"}) && says({"is suspended"})) {
    return VerdictKind::kQuotaExhausted;
  }
  if (with({413, 429}) && opens({"request too large"})) {
    return VerdictKind::kCallerError;
  }
  if (with({429}) && opens({"service tier capacity exceeded"})) {
    return VerdictKind::kOverloaded;
  }
  if (with({400, 403}) &&
      opens({"request not allowed", "user location is not supported"})) {
    return VerdictKind::kCallerError;
  }
  if (with({403, 429}) && (says({"used all available credits",
                                 "monthly spending limit", "calls / month"}) ||
                           SaysLimitIsZero(lower))) {
    return VerdictKind::kQuotaExhausted;
  }
  if (with({401}) && says({"missing scopes", "insufficient permissions",
                           "ip address is not authorized"})) {
    return VerdictKind::kPermission;
  }
  if (with({404}) && says({"not have access"})) {
    return VerdictKind::kPermission;
  }
  if (with({403}) && says({"is blocked"})) return VerdictKind::kKeyInvalid;
  if (with({403}) && says({"context length", "input was flagged"})) {
    return VerdictKind::kCallerError;
  }
  if (with({498}) && says({"unsafe", "usage guidelines"})) {
    return VerdictKind::kCallerError;
  }
  return std::nullopt;
}

inline std::optional<VerdictKind> KindByText(int status,
                                             const ErrorFields& fields) {
  for (const std::string_view text : fields.Texts()) {
    if (const auto kind = KindByText(status, text)) return kind;
  }
  if (status == 403 && fields.flagged_input) return VerdictKind::kCallerError;
  if (status == 429 &&
      Lower(fields.raw).find("rate-limited upstream") != std::string::npos) {
    return VerdictKind::kOverloaded;
  }
  return std::nullopt;
}

// Rules 3 and 5.
inline VerdictKind KindByStatus(int status) {
  switch (status) {
    case 401:
      return VerdictKind::kKeyInvalid;
    case 402:
      return VerdictKind::kQuotaExhausted;
    case 403:
      return VerdictKind::kPermission;
    case 429:
      return VerdictKind::kRateLimited;
    case 498:  // Groq; no standard has it
    case 503:
    case 529:
      return VerdictKind::kOverloaded;
    case 408:
    case 409:
    case 425:
    case 499:
      return VerdictKind::kTransient;
    default:
      // A redirect here is a wrong base URL: the key must not follow it.
      return status >= 300 && status < 500 ? VerdictKind::kCallerError
                                           : VerdictKind::kTransient;
  }
}

// The status of an error that came with a 200 or in a stream.
inline int InBandStatus(const ErrorFields& fields) {
  const double number =
      fields.code_number.value_or(ParseDecimal(fields.code).value_or(0));
  if (number >= 400 && number < 600) return static_cast<int>(number);
  for (const NamedStatus& row : kNamedStatuses) {
    if (IsNamed(fields, row.name)) return row.status;
  }
  return 500;
}

// --- The verdict ---

// At most `size` bytes, not cut inside a UTF-8 character.
inline std::string Shorten(std::string_view text, std::size_t size) {
  if (text.size() <= size) return std::string(text);
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) {
    --size;
  }
  return std::string(text.substr(0, size));
}

inline std::string CodeOf(const ErrorFields& fields) {
  if (!fields.code.empty()) return Shorten(fields.code, kMaxCode);
  if (!fields.type.empty()) return Shorten(fields.type, kMaxCode);
  if (fields.code_number) {
    return Shorten(fmt::format("{:.0f}", *fields.code_number), kMaxCode);
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

// Rules 2 to 6.
inline Verdict JudgeError(int status, const Headers& headers,
                          const ErrorFields& fields,
                          std::chrono::system_clock::time_point now) {
  std::optional<VerdictKind> kind = KindByName(fields);
  if (!kind && status != 402) kind = KindByText(status, fields);
  if (!kind) {
    kind = KindByStatus(status);
    if (kind == VerdictKind::kCallerError && ShouldRetry(headers) == true) {
      kind = VerdictKind::kTransient;
    }
  }
  return MakeVerdict(*kind, headers, fields, now);
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
  if (!type.empty() && !says_html && type.find("json") == std::string::npos) {
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
  const bool good = read.complete && (paired || read.alone);
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

// `text` with U+FFFD in the place of what is not UTF-8.
inline std::string RepairUtf8(std::string_view text) {
  const std::string quoted = nlohmann::json(text).dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
  return nlohmann::json::parse(quoted).get<std::string>();
}

}  // namespace internal

// What a response means for the key that it answers. `now` serves hints that
// are dates; the response's own header Date goes before it.
//
// Never throws for anything that a server can send. Of a body that is no
// success at most 256 KiB are read; a success is read as JSON only if it may
// hold an error, and is searched for that in one pass. Thread-safe.
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
  if (!named && data.find("\"error\"") == std::string_view::npos &&
      data.find("\"response.failed\"") == std::string_view::npos) {
    return std::nullopt;
  }
  internal::ErrorBody read = internal::ReadErrorBody(data);
  if (!read.complete && data.size() <= internal::kMaxErrorBody) {
    read = internal::ReadErrorBody(internal::RepairUtf8(data));
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

namespace internal {

// What the choices of a streamed chunk say: the index of each, and whether it
// is finished. Reads the JSON as a sequence of tokens; nothing recurses.
class ChoiceReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  struct Choice {
    std::int64_t index = 0;
    bool finished = false;
  };

  const std::vector<Choice>& choices() const { return choices_; }
  const std::string& type() const { return type_; }  // the top-level one

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t value) override {
    return OnNumber(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return OnNumber(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t& value) override {
    if (depth_ == 1 && keys_[1] == "type") type_ = value;
    if (InChoice() && keys_[3] == "finish_reason" && !value.empty())
      choices_.back().finished = true;
    return true;
  }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    const bool entered = Enter();
    if (InChoice()) choices_.emplace_back();
    return entered;
  }
  bool key(string_t& name) override {
    if (depth_ < keys_.size()) keys_[depth_] = name;
    return true;
  }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::json::exception&) override {
    return false;
  }

 private:
  static constexpr std::size_t kMaxDepth = 64;

  bool Enter() {
    ++depth_;
    // A key from a sibling is none of this value's.
    if (depth_ < keys_.size()) keys_[depth_].clear();
    return depth_ <= kMaxDepth;
  }

  // {"choices": [{...}]}: the object in an array in an object.
  bool InChoice() const { return depth_ == 3 && keys_[1] == "choices"; }
  bool OnNumber(std::int64_t value) {
    if (InChoice() && keys_[3] == "index") choices_.back().index = value;
    return true;
  }
  bool Leave() {
    --depth_;
    return true;
  }

  std::size_t depth_ = 0;
  std::array<std::string, 4> keys_;  // the last key at each depth
  std::vector<Choice> choices_;
  std::string type_;
};

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

}  // namespace internal

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
    if (IsLast(event)) return true;
    const bool finishes =
        internal::HasMember(data, "\"finish_reason\"", "null");
    const bool other_choice = internal::HasMember(data, "\"index\"", "0");
    const bool typed =
        data.find("\"message_stop\"") != std::string_view::npos ||
        data.find("\"response.") != std::string_view::npos;
    if (!finishes && !other_choice && !typed) return false;
    internal::ChoiceReader reader;
    nlohmann::json::sax_parse(data, &reader,
                              nlohmann::json::input_format_t::json, false);
    if (IsLast(reader.type())) return true;
    for (const auto& choice : reader.choices()) {
      bool& finished = choices_[choice.index];
      finished = finished || choice.finished;
    }
    return finishes &&
           std::all_of(choices_.begin(), choices_.end(),
                       [](const auto& choice) { return choice.second; });
  }

 private:
  static bool IsLast(std::string_view name) {
    return name == "message_stop" || name == "response.completed" ||
           name == "response.incomplete";
  }

  // Those that were seen, and whether they are finished. There is a first one
  // in every answer.
  std::map<std::int64_t, bool> choices_{{0, false}};
};

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_CLASSIFY_H_
