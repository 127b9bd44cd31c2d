// File: guard.h
//
// Guard: who may ask. A program on this machine may; a web page that somebody
// looks at on this machine may not, since a browser would send its requests
// here as well. So the Host must be a name that a stranger's page cannot have
// (DNS rebinding makes a name of his own point here, but no address and no
// "localhost"), and the Origin, which browsers add, must be this server's own
// page or one that was allowed. Where others may come in at all they show a
// token.
//
// Example:
//   gateway::Guard guard(options);
//   if (auto problem = guard.Check(head)) Refuse(*problem);

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_GUARD_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_GUARD_H_

#include <keyrotator/http/url.h>
#include <keyrotator/internal/text.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/options.h"
#include "gateway/problem.h"
#include "gateway/request_head.h"
#include "gateway/tokens.h"

namespace gateway {

// Only read once made, so thread-safe.
class Guard {
 public:
  explicit Guard(const Options& options)
      : tokens_(options.tokens),
        admin_tokens_(options.admin_tokens),
        hosts_(options.allow_hosts),
        origins_(options.allow_origins) {}

  // Whether the request may come in from where it comes, whatever it asks for.
  std::optional<Problem> CheckPlace(const RequestHead& head) const {
    const auto said = head.headers.Find("Host");
    const std::string_view host = said.value_or("");
    // HTTP/1.0 need not say it.
    if ((said || !head.http_1_0) && !IsOwnName(host)) {
      return Forbidden("host_not_allowed",
                       "That Host is not this server's; if it is meant to be, "
                       "start with --allow-host.");
    }
    const auto origin = head.headers.Find("Origin");
    const auto site = head.headers.Find("Sec-Fetch-Site");
    const bool elsewhere =
        origin ? !IsOwnOrigin(*origin, host) && !AllowsOrigin(*origin)
               : (site == "cross-site" || site == "same-site") &&
                     head.headers.Find("Sec-Fetch-Mode") != "navigate";
    if (elsewhere) {
      return Forbidden("origin_not_allowed",
                       "Pages of other origins may not use this server; if one "
                       "is meant to, start with --allow-origin.");
    }
    return std::nullopt;
  }

  std::optional<Problem> CheckToken(const RequestHead& head) const {
    const std::string_view shown = TokenOf(head.headers);
    if (tokens_.empty() || tokens_.Has(shown) || IsAdmin(head))
      return std::nullopt;
    return Problem{
        .status = 401,
        .code = "invalid_api_key",
        .message = shown.empty()
                       ? "This gateway asks for a token: give it as the "
                         "API key."
                       : "This gateway does not know that token.",
        .should_retry = false};
  }

  bool has_admin() const { return !admin_tokens_.empty(); }
  bool IsAdmin(const RequestHead& head) const {
    return has_admin() && admin_tokens_.Has(TokenOf(head.headers));
  }

  // The origin that may read the answer from another site's page, if it is one
  // that was allowed; empty else.
  std::string_view AllowedOrigin(const RequestHead& head) const {
    const std::string_view origin = head.headers.Find("Origin").value_or("");
    return !origin.empty() && AllowsOrigin(origin) ? origin
                                                   : std::string_view();
  }

 private:
  static Problem Forbidden(const char* code, const char* message) {
    return {
        .status = 403, .code = code, .message = message, .should_retry = false};
  }

  // Whether `host`, with a port or without, is an address, this machine by its
  // own name, or one of those that were allowed.
  bool IsOwnName(std::string_view host) const {
    using keyrotator::internal::Lower;
    const auto url = keyrotator::internal::ParseUrl(
        std::string("http://").append(host).append("/"));
    if (!url || url->target != "/" || host.empty()) return false;
    const std::string& name = url->host;
    const bool is_address =
        name.find(':') != name.npos ||
        std::all_of(name.begin(), name.end(), [](char c) {
          return keyrotator::internal::IsDigit(c) || c == '.';
        });
    return is_address || Lower(name) == "localhost" ||
           std::any_of(hosts_.begin(), hosts_.end(),
                       [&](const std::string& allowed) {
                         return allowed == "*" || Lower(allowed) == Lower(name);
                       });
  }

  static bool IsOwnOrigin(std::string_view origin, std::string_view host) {
    for (const std::string_view scheme : {"http://", "https://"}) {
      if (origin.starts_with(scheme) && origin.substr(scheme.size()) == host)
        return !host.empty();
    }
    return false;
  }

  bool AllowsOrigin(std::string_view origin) const {
    return std::any_of(origins_.begin(), origins_.end(),
                       [&](const std::string& allowed) {
                         return allowed == "*" || allowed == origin;
                       });
  }

  const Tokens tokens_;
  const Tokens admin_tokens_;
  const std::vector<std::string> hosts_;
  const std::vector<std::string> origins_;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_GUARD_H_
