// File: http/url.h
//
// The parts of an http(s) URL that a transport needs. It is stricter than RFC
// 3986, so that every HTTP library reads the same host out of what it accepts.
//
// Example:
//   auto url = keyrotator::internal::ParseUrl("https://host/v1/models?key=s");
//   url->origin;  // "https://host:443": the part to show to people
//   url->target;  // "/v1/models?key=s": may hold a secret
//   // A path below a base URL, whose query goes with every request.
//   keyrotator::internal::JoinUrl("https://host/v1?version=1", "/models");

#ifndef KEYROTATOR_HTTP_URL_H_
#define KEYROTATOR_HTTP_URL_H_

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

struct Url {
  bool tls = false;
  std::string host;    // an IPv6 address without its brackets
  int port = 0;        // 1 to 65535
  std::string target;  // the path, never empty, and the query
  std::string origin;  // scheme://host:port
};

// Whether a host is an IPv4 address of four decimal numbers, or is none that any
// library takes for one: "2130706433", "127.1" and "0x7f.0.0.1" are addresses to
// some and names to others (WHATWG, URL, 3.5: a host that ends in a number).
inline bool IsClearHost(std::string_view host) {
  std::string_view last = host;
  if (last.ends_with('.')) last.remove_suffix(1);
  last.remove_prefix(last.rfind('.') + 1);  // npos + 1 is 0
  const auto all_digits = [](std::string_view text) {
    return std::all_of(text.begin(), text.end(), IsDigit);
  };
  const bool hexadecimal = last.starts_with("0x") || last.starts_with("0X");
  if (!hexadecimal && !all_digits(last)) return true;
  for (int i = 0; i < 4; ++i) {
    const std::string_view part = host.substr(0, host.find('.'));
    int number = 0;
    std::from_chars(part.data(), part.data() + part.size(), number);
    if (part.empty() || part.size() > 3 || !all_digits(part) || number > 255 ||
        (part.size() > 1 && part[0] == '0'))
      return false;
    host.remove_prefix(part.size());
    if (i < 3 && host.empty()) return false;
    if (i < 3) host.remove_prefix(1);
  }
  return host.empty();
}

// Empty if the scheme is not http or https, the host or port is malformed, or the
// host may be an address to some and a name to others, there is a user name or password (they would travel unseen), or a byte is not
// printable ASCII. A fragment is dropped. Linear.
inline std::optional<Url> ParseUrl(std::string_view text) {
  if (std::any_of(text.begin(), text.end(),
                  [](char c) { return c <= ' ' || c > '~'; })) {
    return std::nullopt;
  }
  text = text.substr(0, text.find('#'));

  Url url;
  const std::size_t colon = text.find("://");
  if (colon == text.npos) return std::nullopt;
  std::string scheme(text.substr(0, colon));
  for (char& c : scheme) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  url.tls = scheme == "https";
  if (!url.tls && scheme != "http") return std::nullopt;
  text.remove_prefix(colon + 3);

  std::string_view authority = text.substr(0, text.find_first_of("/?"));
  text.remove_prefix(authority.size());
  if (!text.starts_with('/')) url.target.push_back('/');
  url.target.append(text);

  const bool is_ipv6 = authority.starts_with('[');
  const std::size_t host_end =
      is_ipv6 ? authority.find(']') : authority.find(':');
  if (is_ipv6) {
    if (host_end == authority.npos) return std::nullopt;
    url.host = authority.substr(1, host_end - 1);
    authority.remove_prefix(host_end + 1);
  } else {
    url.host = authority.substr(0, host_end);
    authority.remove_prefix(url.host.size());
  }
  const std::string_view others = is_ipv6 ? ":." : "-._";
  if (url.host.empty() ||
      !std::all_of(url.host.begin(), url.host.end(), [&](char c) {
        return IsAlphanumeric(c) || others.find(c) != others.npos;
      })) {
    return std::nullopt;
  }
  if (!is_ipv6 && !IsClearHost(url.host)) return std::nullopt;

  url.port = url.tls ? 443 : 80;
  if (!authority.empty()) {
    const char* end = authority.data() + authority.size();
    const auto [stop, error] =
        std::from_chars(authority.data() + 1, end, url.port);
    if (authority[0] != ':' || error != std::errc() || stop != end ||
        url.port < 1 || url.port > 65535) {
      return std::nullopt;
    }
  }
  url.origin = scheme + "://" + (is_ipv6 ? "[" + url.host + "]" : url.host) +
               ":" + std::to_string(url.port);
  return url;
}

// Whether a host is this machine by its name or address (RFC 6761, 6.3 and RFC
// 1122, 3.2.1.3).
inline bool IsLoopback(std::string_view host) {
  const auto is_ipv4 = [&] {
    return std::all_of(host.begin(), host.end(),
                       [](char c) { return IsDigit(c) || c == '.'; });
  };
  return Lower(host) == "localhost" || host == "::1" ||
         (host.starts_with("127.") && is_ipv4());
}

// Why keys cannot be sent to a provider with that base URL, for a person; empty
// if they can. http, without TLS, is for loopback unless it is allowed.
inline std::string BaseUrlError(std::string_view base_url, bool allow_http) {
  const auto url = ParseUrl(base_url);
  if (!url || base_url.find('#') != base_url.npos) {
    return "The base URL cannot be used; it must look like "
           "https://api.openai.com/v1, without a user name or fragment.";
  }
  if (!url->tls && !allow_http && !IsLoopback(url->host)) {
    return fmt::format(
        "{} is not encrypted, and the keys would travel readable; use https, "
        "or set ClientOptions::allow_http if the way is safe.",
        url->origin);
  }
  return {};
}

// The URL of `target`, a path that begins with a slash and perhaps a query,
// below a base URL. The query of the base goes with every request.
inline std::string JoinUrl(std::string_view base_url, std::string_view target) {
  const std::size_t end = std::min(base_url.find('?'), base_url.size());
  std::string url(base_url.substr(0, end));
  while (url.ends_with('/')) url.pop_back();
  url.append(target);
  if (end == base_url.size()) return url;
  const char mark = target.find('?') == target.npos ? '?' : '&';
  return url.append(1, mark).append(base_url.substr(end + 1));
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_HTTP_URL_H_
