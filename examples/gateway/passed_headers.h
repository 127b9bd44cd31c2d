// File: passed_headers.h
//
// Which headers go through, either way. All do but those of the connection (RFC
// 9110, 7.6.1), those that could hold a key of the caller's or bind it to an
// account, and those that speak for the provider's own origin.
//
// Example:
//   keyrotator::Headers passed =
//       gateway::HeadersForProvider(head.headers, "Authorization");

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_PASSED_HEADERS_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_PASSED_HEADERS_H_

#include <keyrotator/http/message.h>
#include <keyrotator/internal/text.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

namespace gateway {

// Whether `name`, in lower case, is of this connection alone: by its nature, or
// because the field Connection names it.
inline bool IsOfHop(std::string_view name, std::string_view connection) {
  for (const std::string_view each :
       {"connection", "keep-alive", "proxy-connection", "proxy-authenticate",
        "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade"}) {
    if (name == each) return true;
  }
  while (!connection.empty()) {
    std::string_view token = connection.substr(0, connection.find(','));
    connection.remove_prefix(std::min(token.size() + 1, connection.size()));
    while (!token.empty() && (token.back() == ' ' || token.back() == '\t'))
      token.remove_suffix(1);
    token = keyrotator::internal::SkipBlanks(token);
    if (keyrotator::internal::Lower(token) == name) return true;
  }
  return false;
}

inline bool IsOneOf(std::string_view name,
                    std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Without what could hold a key, too; that of the pool is added later, as
// `auth_header`. What the answer is packed in is between the caller's program
// and the provider, but this program has to read errors and events: so the
// provider is asked for none.
inline keyrotator::Headers HeadersForProvider(const keyrotator::Headers& from,
                                              std::string_view auth_header) {
  const std::string_view connection = from.Find("Connection").value_or("");
  const std::string auth = keyrotator::internal::Lower(auth_header);
  keyrotator::Headers to;
  for (const auto& [name, value] : from) {
    const std::string lower = keyrotator::internal::Lower(name);
    if (lower == auth || lower.starts_with("x-keyrotator-") ||
        lower.starts_with("sec-fetch-") || IsOfHop(lower, connection) ||
        IsOneOf(lower, {"host", "content-length", "expect", "accept-encoding",
                        "authorization", "api-key", "x-api-key",
                        "x-goog-api-key", "ocp-apim-subscription-key",
                        "x-auth-token", "cookie", "origin", "referer"}))
      continue;
    to.Add(name, value);
  }
  to.Add("Accept-Encoding", "identity");
  return to;
}

// The provider says neither who may read its answers in a browser, nor what a
// browser is to keep.
inline keyrotator::Headers HeadersForCaller(const keyrotator::Headers& from) {
  const std::string_view connection = from.Find("Connection").value_or("");
  keyrotator::Headers to;
  for (const auto& [name, value] : from) {
    const std::string lower = keyrotator::internal::Lower(name);
    if (lower.starts_with("x-keyrotator-") ||
        lower.starts_with("access-control-") || IsOfHop(lower, connection) ||
        IsOneOf(lower, {"content-length", "set-cookie", "alt-svc",
                        "strict-transport-security"}))
      continue;
    to.Add(name, value);
  }
  return to;
}

// A query without the parameters in which some providers take a key.
inline std::string QueryForProvider(std::string_view query) {
  std::string kept;
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
    const std::string name =
        keyrotator::internal::Lower(pair.substr(0, pair.find('=')));
    if (IsOneOf(name, {"key", "api_key", "api-key", "apikey", "access_token",
                       "subscription-key"}))
      continue;
    kept.append(kept.empty() ? "" : "&").append(pair);
  }
  return kept;
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_PASSED_HEADERS_H_
