// File: url_fuzz.cc
//
// libFuzzer: what ParseUrl accepts libcurl accepts, too, and reads the same host,
// port and target out of it; a path below a base URL leads to the base's host.
//
// libraries: curl
//
// An input is a URL, and after a line feed a path.

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/http/url.h"

namespace {

using namespace keyrotator::internal;

void Require(bool good) {
  if (!good) std::abort();
}

std::string Part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK)
    return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

// libcurl writes them anew.
bool IsSameIpv6(const std::string& a, const std::string& b) {
  in6_addr one = {};
  in6_addr other = {};
  return inet_pton(AF_INET6, a.c_str(), &one) == 1 &&
         inet_pton(AF_INET6, b.c_str(), &other) == 1 &&
         std::memcmp(&one, &other, sizeof(one)) == 0;
}

void CheckUrl(const std::string& text) {
  const std::optional<Url> url = ParseUrl(text);
  if (!url) return;
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> other(
      curl_url(), &curl_url_cleanup);
  const bool is_ipv6 = url->origin.find('[') != std::string::npos;
  // As it came: dots in its path are not resolved.
  const CURLUcode code =
      curl_url_set(other.get(), CURLUPART_URL, text.c_str(), CURLU_PATH_AS_IS);
  // What is in brackets is checked by who connects.
  if (is_ipv6 && code != CURLUE_OK) return;
  Require(code == CURLUE_OK);
  Require(Part(other.get(), CURLUPART_SCHEME) == (url->tls ? "https" : "http"));
  std::string host = Part(other.get(), CURLUPART_HOST);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  Require(Lower(host) == Lower(url->host) || IsSameIpv6(host, url->host));
  Require(Part(other.get(), CURLUPART_PORT) == std::to_string(url->port));
  Require(Part(other.get(), CURLUPART_USER).empty());
  std::string target = Part(other.get(), CURLUPART_PATH);
  const std::string query = Part(other.get(), CURLUPART_QUERY);
  if (!query.empty()) target += "?" + query;
  // An empty query is none to libcurl.
  std::string wanted = url->target;
  if (wanted.find('?') == wanted.size() - 1) wanted.pop_back();
  Require(target == wanted);
  // What is shown to people has no part that may be secret.
  const std::optional<Url> origin = ParseUrl(url->origin);
  Require(origin && origin->target == "/" && origin->origin == url->origin);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\n'), input.size());
  const std::string base(input.substr(0, end));
  CheckUrl(base);
  // A secret does not stand in the reason.
  const std::string error = BaseUrlError(base, false);
  Require(error.empty() || error.size() < 200 + base.size());

  if (end == input.size()) return 0;
  const std::string target = "/" + std::string(input.substr(end + 1));
  const std::optional<Url> below = ParseUrl(base);
  if (!below || !BaseUrlError(base, true).empty()) return 0;
  const std::string joined = JoinUrl(base, target);
  if (const std::optional<Url> url = ParseUrl(joined))
    Require(url->origin == below->origin);
  CheckUrl(joined);
  return 0;
}
