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

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator::internal {

// Error bodies nest six deep; what goes beyond this is an attack.
inline constexpr std::size_t kMaxJsonDepth = 64;

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

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_ERROR_BODY_H_
