// File: openai/request_model.h
//
// Which model a request is for: the member "model" of its body, found without
// reading the rest. A body may hold a picture of megabytes, and is looked into
// for each request: the walk goes from quote to quote.
//
// simdjson is not asked here: it needs 64 bytes that it may read behind the
// text, which a caller's view has not, so a copy of it all, and an index of
// four bytes for each byte. The walk needs neither, and is as fast where
// strings are long; only the name itself goes through simdjson, for its
// escapes.
//
// Example:
//   keyrotator::internal::RequestModel(R"({"model": "gpt-4o"})");  // "gpt-4o"

#ifndef KEYROTATOR_OPENAI_REQUEST_MODEL_H_
#define KEYROTATOR_OPENAI_REQUEST_MODEL_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_document.h"
#include "keyrotator/openai/json_scan.h"

namespace keyrotator::internal {

// Longer than any provider's.
inline constexpr std::size_t kMaxModelName = 1024;

// The text of a short JSON string; empty for anything else.
inline std::string ReadShortString(std::string_view json) {
  if (!json.starts_with('"') || json.size() > kMaxModelName + 2) return {};
  const JsonDocument document(json);
  const auto root = document.root();
  std::string_view text;
  if (!root || root->get(text) != simdjson::SUCCESS) return {};
  return std::string(text);
}

// The model of a request, or nothing: where `body` is not an object, does not
// end as one, or its top-level "model" is no text or too long. Of several the
// last counts, as it does for providers. The other members are not checked:
// to refuse a body is the provider's part. Linear.
inline std::string RequestModel(std::string_view body) {
  std::string_view model;
  body = SkipMark(body);
  const bool whole =
      ForEachMember(body, [&](std::string_view name, std::string_view value) {
        if (name == "\"model\"" ||
            (name.find('\\') != name.npos && ReadShortString(name) == "model"))
          model = value;
      });
  if (!whole || !SkipBlanks(body).empty()) return {};
  return ReadShortString(model);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_REQUEST_MODEL_H_
