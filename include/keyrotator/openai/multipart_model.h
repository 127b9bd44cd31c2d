// File: openai/multipart_model.h
//
// Which model a form is for: the part "model" of a multipart body (RFC 7578), as
// uploads of audio and images have it. The part stands before the file or after
// it, so a piece at either end is looked into, and the file between is not.
//
// Example:
//   keyrotator::internal::MultipartModel(
//       "multipart/form-data; boundary=x",
//       "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
//       "whisper-1\r\n--x--\r\n");  // "whisper-1"

#ifndef KEYROTATOR_OPENAI_MULTIPART_MODEL_H_
#define KEYROTATOR_OPENAI_MULTIPART_MODEL_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/internal/utf8.h"
#include "keyrotator/openai/request_model.h"

namespace keyrotator::internal {

// How much of either end is looked into.
inline constexpr std::size_t kMultipartWindow = std::size_t{64} << 10;

inline bool IsMultipart(std::string_view content_type) {
  return Lower(content_type.substr(0, 10)) == "multipart/";
}

// The parameter `name`, in lower case, of a header field such as
// `form-data; name="model"`, without its quotes; empty if there is none.
inline std::string_view HeaderParameter(std::string_view field,
                                        std::string_view name) {
  while (true) {
    // The next semicolon that is in no quotes.
    bool quoted = false;
    const auto end =
        std::find_if(field.begin(), field.end(), [&quoted](char c) {
          if (c == '"') quoted = !quoted;
          return c == ';' && !quoted;
        });
    if (end == field.end()) return {};
    field.remove_prefix(static_cast<std::size_t>(end - field.begin()) + 1);
    const std::string_view rest = SkipBlanks(field);
    const std::size_t equals = rest.find('=');
    if (equals == rest.npos || Lower(rest.substr(0, equals)) != name) continue;
    std::string_view value = rest.substr(equals + 1);
    if (value.starts_with('"')) {
      value.remove_prefix(1);
      return value.substr(0, value.find('"'));
    }
    return value.substr(0, value.find_first_of("; \t\r\n"));
  }
}

// Whether the head of a part calls it a field of that name, and no file.
inline bool IsField(std::string_view head, std::string_view name) {
  constexpr std::string_view kField = "content-disposition:";
  for (std::size_t at = 0; at < head.size();) {
    const std::size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view line = head.substr(at, end - at);
    at = end + 2;
    if (Lower(line.substr(0, kField.size())) != kField) continue;
    return HeaderParameter(line, "name") == name &&
           HeaderParameter(line, "filename").empty();
  }
  return false;
}

// The value of the part "model" that stands whole in a piece of a body.
// `delimiter` is "--" and the boundary.
inline std::string_view FindModelPart(std::string_view piece,
                                      const std::string& delimiter) {
  constexpr std::size_t kLongestHead = 4096;
  for (std::size_t at = piece.find(delimiter); at != piece.npos;
       at = piece.find(delimiter, at)) {
    at += delimiter.size();
    const std::size_t end = piece.substr(at, kLongestHead).find("\r\n\r\n");
    if (end == piece.npos) continue;
    if (!IsField(piece.substr(at, end), "model")) continue;
    const std::string_view value = piece.substr(at + end + 4);
    const std::size_t size =
        value.substr(0, kMaxModelName + 2 + delimiter.size())
            .find("\r\n" + delimiter);
    if (size != value.npos) return value.substr(0, size);
  }
  return {};
}

// The model of a multipart body, or nothing: where it has no boundary, or no
// part of that name within 64 KiB of either end, or that is no text or too
// long. Does not depend on the body's length.
inline std::string MultipartModel(std::string_view content_type,
                                  std::string_view body) {
  const std::string_view boundary = HeaderParameter(content_type, "boundary");
  if (boundary.empty()) return {};
  const std::string delimiter = std::string("--").append(boundary);
  std::string_view model =
      FindModelPart(body.substr(0, kMultipartWindow), delimiter);
  if (model.empty() && body.size() > kMultipartWindow) {
    model =
        FindModelPart(body.substr(body.size() - kMultipartWindow), delimiter);
  }
  return std::string(IsValidUtf8(model) ? model : std::string_view());
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_MULTIPART_MODEL_H_
