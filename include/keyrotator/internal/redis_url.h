// File: internal/redis_url.h
//
// Where a Redis is and who one is there, out of a URL:
//   redis://user:password@host:port/database
//   rediss://...                    the same over TLS
//   unix:///path?db=database        user:password@ may stand before the path
// All but the host, or the path, may be left out. A user name and a password may
// have any byte as %XX.
//
// Example:
//   auto url = keyrotator::internal::ParseRedisUrl("redis://cache:6379/0");
//   url.address.host;  // "cache"

#ifndef KEYROTATOR_INTERNAL_REDIS_URL_H_
#define KEYROTATOR_INTERNAL_REDIS_URL_H_

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

struct RedisAddress {
  std::string host;  // an IPv6 address without its brackets
  int port = 6379;   // 1 to 65535
  std::string path;  // of a unix socket; then there is no host

  // For people.
  std::string text() const {
    if (!path.empty()) return path;
    const bool is_ipv6 = host.find(':') != host.npos;
    return (is_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
  }
};

struct RedisUrl {
  RedisAddress address;
  bool has_tls = false;
  SecretText username;
  SecretText password;
  int database = 0;
};

// "Part: what is wrong" and never a byte of the URL, in which there may be a
// password.
[[noreturn]] inline void RefuseRedisUrl(std::string_view what) {
  throw std::invalid_argument(
      "The URL of Redis " + std::string(what) +
      "; it must look like redis://user:password@host:6379/0, rediss://... or "
      "unix:///path?db=0");
}

// A number of digits alone, from `least` to `most`.
inline std::optional<int> ParseDigits(std::string_view text, int least,
                                      int most) {
  int number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || !IsDigit(text.front()) || stop != end ||
      error != std::errc() || number < least || number > most)
    return std::nullopt;
  return number;
}

// "host:port", "host", "[::1]:port"; empty if it is none.
inline std::optional<RedisAddress> ParseRedisAddress(std::string_view text,
                                                     int default_port) {
  RedisAddress address;
  address.port = default_port;
  const bool is_ipv6 = text.starts_with('[');
  const std::size_t end =
      std::min(is_ipv6 ? text.find(']') : text.find(':'), text.size());
  address.host = text.substr(is_ipv6, end - is_ipv6);
  if (is_ipv6 && end == text.size()) return std::nullopt;
  text.remove_prefix(end + is_ipv6);
  const std::string_view others = is_ipv6 ? ":.%" : "-._";
  if (address.host.empty() || address.host.size() > 255 ||
      !std::all_of(address.host.begin(), address.host.end(), [&](char c) {
        return IsAlphanumeric(c) || others.find(c) != others.npos;
      }))
    return std::nullopt;
  if (text.empty()) return address;
  const auto port = text.starts_with(':')
                        ? ParseDigits(text.substr(1), 1, 65535)
                        : std::nullopt;
  if (!port) return std::nullopt;
  address.port = *port;
  return address;
}

inline SecretText DecodePercent(std::string_view text) {
  const auto value = [](char c) {
    if (IsDigit(c)) return c - '0';
    const int letter = (c | 0x20) - 'a';
    return letter >= 0 && letter < 6 ? letter + 10 : -1;
  };
  std::string decoded;
  decoded.reserve(text.size());
  while (!text.empty()) {
    if (text[0] != '%') {
      decoded.push_back(text[0]);
      text.remove_prefix(1);
      continue;
    }
    const int high = text.size() > 2 ? value(text[1]) : -1;
    const int low = text.size() > 2 ? value(text[2]) : -1;
    if (high < 0 || low < 0) {
      Wipe(decoded);
      RefuseRedisUrl("has a % that is not followed by two hexadecimal digits");
    }
    decoded.push_back(static_cast<char>(high * 16 + low));
    text.remove_prefix(3);
  }
  return SecretText(std::move(decoded));
}

// Throws std::invalid_argument, which names the part that is wrong and tells
// nothing of the URL. Linear.
inline RedisUrl ParseRedisUrl(std::string_view text) {
  if (std::any_of(text.begin(), text.end(),
                  [](char c) { return c <= ' ' || c > '~'; }))
    RefuseRedisUrl("has a byte that is not printable ASCII (write it as %XX)");
  if (text.find('#') != text.npos)
    RefuseRedisUrl("has a # (in a password write %23)");
  RedisUrl url;
  const std::size_t colon = text.find("://");
  if (colon == text.npos) RefuseRedisUrl("has no scheme");
  const std::string scheme = Lower(text.substr(0, colon));
  text.remove_prefix(colon + 3);
  const bool is_unix = scheme == "unix";
  url.has_tls = scheme == "rediss";
  if (!is_unix && !url.has_tls && scheme != "redis")
    RefuseRedisUrl("has an unknown scheme");

  std::string_view query = text.substr(std::min(text.find('?'), text.size()));
  text.remove_suffix(query.size());
  std::string_view authority = text.substr(0, text.find('/'));
  text.remove_prefix(authority.size());
  // The last one: a password with a plain @ is common, and no host has any.
  if (const std::size_t at = authority.rfind('@'); at != authority.npos) {
    const std::string_view user = authority.substr(0, at);
    authority.remove_prefix(at + 1);
    const std::size_t end = std::min(user.find(':'), user.size());
    url.username = DecodePercent(user.substr(0, end));
    if (end < user.size()) url.password = DecodePercent(user.substr(end + 1));
  }

  std::string_view database;
  if (is_unix) {
    if (!authority.empty())
      RefuseRedisUrl("has a host before the path of a unix socket");
    // What fits into sockaddr_un on Linux.
    if (text.size() < 2) RefuseRedisUrl("has no path of a unix socket");
    if (text.size() > 107)
      RefuseRedisUrl("has a path that is too long for a unix socket (107)");
    url.address.path = text;
    if (query.starts_with("?db=")) {
      database = query.substr(4);
      if (database.empty()) RefuseRedisUrl("has no database after db=");
      query = {};
    }
  } else {
    auto address = ParseRedisAddress(authority, url.address.port);
    if (!address) RefuseRedisUrl("has a host or port that cannot be used");
    url.address = std::move(*address);
    database = text.substr(std::min<std::size_t>(text.size(), 1));
  }
  if (!query.empty()) RefuseRedisUrl("has a query that is not understood");
  if (!database.empty()) {
    const auto number = ParseDigits(database, 0, 1'000'000);
    if (!number) RefuseRedisUrl("has a database that is no number");
    url.database = *number;
  }
  return url;
}

// Whether a fleet's pool of keys may be called so: the name is a part of that of
// a hash, between braces.
inline bool IsRedisPool(std::string_view text) {
  constexpr std::string_view kOthers = "._-";
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return IsAlphanumeric(c) || kOthers.find(c) != kOthers.npos;
         });
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_REDIS_URL_H_
