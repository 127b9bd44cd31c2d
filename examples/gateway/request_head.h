// File: request_head.h
//
// RequestHead: a request up to its body, and what is wrong with one. HTTP is
// read by Boost.Beast's parser (request_parser.h); this is what the parser
// leaves open and a gateway must not: two readers of one request that see two
// requests in it, a target that climbs out of its path, a name that is not
// this server's. No sockets, so that it can be tested and fuzzed by itself.
//
// Example:
//   gateway::RequestHead head{.method = "GET", .target = "/v1/../admin"};
//   auto problem = gateway::CheckHead(head);  // 400

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_REQUEST_HEAD_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_REQUEST_HEAD_H_

#include <keyrotator/http/message.h>
#include <keyrotator/internal/header_text.h>
#include <keyrotator/internal/text.h>
#include <keyrotator/pick_hint.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/problem.h"

namespace gateway {

struct RequestHead {
  std::string method = {};
  std::string target = {};
  bool http_1_0 = false;
  bool keep_alive = true;
  bool chunked = false;
  std::optional<std::uint64_t> length = {};  // of the body, if it is named
  keyrotator::Headers headers = {};

  std::string_view path() const {
    return std::string_view(target).substr(0, target.find('?'));
  }
  // Without the question mark.
  std::string_view query() const {
    const std::size_t mark = target.find('?');
    return mark == target.npos ? std::string_view()
                               : std::string_view(target).substr(mark + 1);
  }
  bool has_body() const { return chunked || length.value_or(0) > 0; }
};

// Who goes first where requests wait, as `x-keyrotator-priority` says:
// interactive, as without it, or batch. Nothing for another word.
inline std::optional<keyrotator::Priority> PriorityOf(const RequestHead& head) {
  const std::string word = keyrotator::internal::Lower(
      head.headers.Find("x-keyrotator-priority").value_or("interactive"));
  if (word == "interactive") return keyrotator::Priority::kInteractive;
  if (word == "batch") return keyrotator::Priority::kBatch;
  return std::nullopt;
}

// The value of two hexadecimal digits, or nothing.
inline std::optional<int> HexByte(std::string_view digits) {
  int value = 0;
  if (digits.size() < 2) return std::nullopt;
  for (const char c : digits.substr(0, 2)) {
    const char lower = keyrotator::internal::Lower(c);
    const bool digit = keyrotator::internal::IsDigit(c);
    if (!digit && !(lower >= 'a' && lower <= 'f')) return std::nullopt;
    value = value * 16 + (digit ? c - '0' : lower - 'a' + 10);
  }
  return value;
}

// `text` with its %XX as bytes; nothing if one is broken.
inline std::optional<std::string> Unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    const auto byte = HexByte(text.substr(i + 1));
    if (!byte) return std::nullopt;
    plain += static_cast<char>(*byte);
    i += 2;
  }
  return plain;
}

// Whether the path stays in its place, whoever unescapes it: no ".." or "."
// between slashes of either kind, no control characters.
inline bool IsPlainPath(std::string_view path) {
  const auto plain = Unescaped(path);
  if (!plain || !path.starts_with('/')) return false;
  std::string segment;
  const auto climbs = [&] { return segment == "." || segment == ".."; };
  for (const char c : *plain) {
    if ((c >= 0 && c < ' ') || c == '\x7f') return false;
    if (c == '/' || c == '\\') {
      if (climbs()) return false;
      segment.clear();
    } else {
      segment += c;
    }
  }
  return !climbs();
}

// What is wrong with the head, if anything is.
inline std::optional<Problem> CheckHead(const RequestHead& head) {
  const auto bad = [](int status, const char* code, std::string message) {
    return Problem{.status = status,
                   .code = code,
                   .message = std::move(message),
                   .should_retry = false};
  };
  std::size_t hosts = 0;
  std::size_t lengths = 0;
  std::size_t codings = 0;
  for (const auto& [name, value] : head.headers) {
    const std::string lower = keyrotator::internal::Lower(name);
    hosts += lower == "host";
    lengths += lower == "content-length";
    lengths += lower == "content-length" && value.find(',') != value.npos;
    codings += lower == "transfer-encoding";
    if (!keyrotator::internal::IsToken(name) ||
        !keyrotator::internal::IsFieldValue(value))
      return bad(400, "bad_request", "A header holds what HTTP forbids there.");
    if (lower == "expect" &&
        keyrotator::internal::Lower(value) != "100-continue")
      return bad(417, "expectation_failed", "Expect may only be 100-continue.");
    if (lower == "transfer-encoding" &&
        keyrotator::internal::Lower(value) != "chunked")
      return bad(501, "not_implemented",
                 "Transfer-Encoding may only be chunked.");
  }
  if (lengths + codings > 1 || (codings > 0 && head.http_1_0))
    return bad(400, "bad_request",
               "The length of the body is named twice, or in two ways.");
  if (hosts > 1 || (hosts == 0 && !head.http_1_0))
    return bad(400, "bad_request", "There must be one Host.");
  if (head.method == "CONNECT" || head.method == "TRACE")
    return bad(405, "method_not_allowed",
               "This is no proxy, and echoes nothing.");
  const bool printable =
      std::all_of(head.target.begin(), head.target.end(),
                  [](char c) { return c > ' ' && c <= '~'; });
  if (!printable || head.target.find('#') != head.target.npos ||
      !IsPlainPath(head.path()))
    return bad(400, "bad_request",
               "The target must be a path without dots between its slashes.");
  return std::nullopt;
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_REQUEST_HEAD_H_
