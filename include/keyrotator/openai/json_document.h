// File: openai/json_document.h
//
// A JSON text of a stranger, read whole and checked, within bounds: no more
// than 256 KiB and 64 deep, and at most 4 MiB of memory while it lives.
//
// Example:
//   keyrotator::internal::JsonDocument document(R"({"code": 429})");
//   if (const auto root = document.root()) {
//     std::int64_t code = root->at_key("code").get_int64().value();
//   }

#ifndef KEYROTATOR_OPENAI_JSON_DOCUMENT_H_
#define KEYROTATOR_OPENAI_JSON_DOCUMENT_H_

#include <simdjson.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_scan.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator::internal {

// Error bodies nest six deep; what goes beyond this is an attack.
inline constexpr std::size_t kMaxJsonDepth = 64;

// At most `size` bytes, not cut inside a UTF-8 character.
inline std::string_view Shorten(std::string_view text, std::size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80)
    --size;
  return text.substr(0, size);
}

class JsonDocument {
 public:
  // Reads the first value of `text`. A string of more than 64 KiB in a text of
  // more than 256 KiB, such as a picture beside an error, is cut to its
  // beginning and not checked.
  explicit JsonDocument(std::string_view text) {
    std::string_view rest = text = SkipMark(text);
    if (!SkipValue(rest, kMaxJsonDepth)) return;
    alone_ = SkipBlanks(rest).empty();
    text.remove_suffix(rest.size());
    too_long_ = !Copy(text);
    if (too_long_) return;
    const std::size_t size = text_.size();
    text_.append(simdjson::SIMDJSON_PADDING, '\0');
    simdjson::dom::element root;
    if (parser_.allocate(size, kMaxJsonDepth) == simdjson::SUCCESS &&
        parser_.parse(text_.data(), size, false).get(root) ==
            simdjson::SUCCESS) {
      root_ = root;
    }
  }

  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;

  // The value, which lives as long as this does; nothing if it is not JSON
  // (cut short, too deep, not UTF-8, half a surrogate pair, a number beyond a
  // double or a 64-bit integer) or too long.
  std::optional<simdjson::dom::element> root() const { return root_; }

  // Whether it is too long to be read: it may be anything.
  bool too_long() const { return too_long_; }

  // Whether nothing but blanks follows the value.
  bool alone() const { return alone_; }

 private:
  static constexpr std::size_t kLongString = std::size_t{64} << 10;
  static constexpr std::size_t kKeptOfIt = 4096;

  // False: that is too much.
  bool Copy(std::string_view text) {
    if (text.size() <= kMaxErrorBody) {
      text_.reserve(text.size() + simdjson::SIMDJSON_PADDING);
      text_ = text;
      return true;
    }
    while (text_.size() <= kMaxErrorBody) {
      const std::size_t quote = text.find('"');
      if (quote == text.npos) {
        text_ += text.substr(0, kMaxErrorBody + 1);
        break;
      }
      text_ += text.substr(0, std::min(quote, kMaxErrorBody + 1));
      std::string_view string = text = text.substr(quote);
      if (!SkipString(text)) return false;
      string.remove_suffix(text.size());
      if (string.size() <= kLongString) {
        text_ += string;
      } else {
        // Not inside an escape.
        text_ += Shorten(string.substr(0, string.find('\\')), kKeptOfIt);
        text_ += '"';
      }
    }
    return text_.size() <= kMaxErrorBody;
  }

  std::string text_;  // with room behind it, as simdjson reads beyond the end
  simdjson::dom::parser parser_;
  std::optional<simdjson::dom::element> root_;
  bool too_long_ = false;
  bool alone_ = false;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_JSON_DOCUMENT_H_
