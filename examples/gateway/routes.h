// File: routes.h
//
// Which provider a request is for, by its path or by its model:
//   /v1/...        by the model, else the first provider
//   /groq/v1/...   the provider of that name
// What follows /v1 is put below the provider's base URL.
//
// Example:
//   gateway::Routes routes(providers);
//   auto place = routes.Find("/groq/v1/models");  // provider 1, "/models"
//   std::size_t provider = routes.ForModel("llama-3");

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_ROUTES_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_ROUTES_H_

#include <keyrotator/config/choose_provider.h>
#include <keyrotator/config/provider_config.h>
#include <keyrotator/http/url.h>
#include <keyrotator/internal/text.h>
#include <keyrotator/openai/json_scan.h>
#include <keyrotator/openai/multipart_model.h>
#include <keyrotator/openai/request_model.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/passed_headers.h"
#include "gateway/request_head.h"

namespace gateway {

// Only read once made, so thread-safe.
class Routes {
 public:
  struct Place {
    // Empty: the model decides.
    std::optional<std::size_t> provider = {};
    std::string_view path = {};  // what follows /v1; may be empty
  };

  // Throws std::invalid_argument if a base URL cannot be used or a name would
  // hide one of the gateway's own pages.
  explicit Routes(std::vector<keyrotator::ProviderConfig> providers)
      : providers_(std::move(providers)) {
    if (providers_.empty()) throw std::invalid_argument("There is no provider");
    for (const auto& provider : providers_) {
      const std::string error = keyrotator::internal::BaseUrlError(
          provider.base_url, provider.allow_http);
      if (!error.empty())
        throw std::invalid_argument("provider \"" + provider.name +
                                    "\": " + error);
      if (IsOneOf(provider.name, {"v1", "healthz", "readyz", "metrics",
                                  "status", "events", "admin"}))
        throw std::invalid_argument("A provider cannot be called \"" +
                                    provider.name +
                                    "\": that is a page of the gateway's own");
    }
  }

  const std::vector<keyrotator::ProviderConfig>& providers() const {
    return providers_;
  }

  // Where a path leads, if it is one to pass on.
  std::optional<Place> Find(std::string_view path) const {
    if (const auto rest = Below(path, "/v1")) return Place{{}, *rest};
    for (std::size_t i = 0; i < providers_.size(); ++i) {
      const std::string& name = providers_[i].name;
      if (name.empty()) continue;
      if (const auto rest = Below(path, "/" + name + "/v1"))
        return Place{i, *rest};
    }
    return std::nullopt;
  }

  std::size_t ForModel(std::string_view model) const {
    return keyrotator::ChooseProvider(providers_, model);
  }

  // The URL of the provider's page for a request at such a place.
  std::string UrlOf(std::size_t provider, std::string_view path,
                    std::string_view query) const {
    const std::string kept = QueryForProvider(query);
    return keyrotator::internal::JoinUrl(
        providers_[provider].base_url,
        std::string(path).append(kept.empty() ? "" : "?").append(kept));
  }

 private:
  static std::optional<std::string_view> Below(std::string_view path,
                                               std::string_view root) {
    if (!path.starts_with(root)) return std::nullopt;
    path.remove_prefix(root.size());
    if (!path.empty() && path[0] != '/') return std::nullopt;
    return path;
  }

  const std::vector<keyrotator::ProviderConfig> providers_;
};

// The model that a request is for, or nothing. `whole` says whether all of the
// body is there; of JSON that is not, the model counts if it stands in what is.
inline std::string ModelOf(const RequestHead& head, std::string_view below_v1,
                           std::string_view body, bool whole) {
  namespace internal = keyrotator::internal;
  constexpr std::string_view kModels = "/models/";
  if (below_v1.starts_with(kModels))
    return Unescaped(below_v1.substr(kModels.size())).value_or("");
  if (body.empty()) return {};
  const std::string_view type = head.headers.Find("Content-Type").value_or("");
  if (internal::IsMultipart(type)) return internal::MultipartModel(type, body);
  if (whole) return internal::RequestModel(body);
  std::string model;
  std::string_view rest = internal::SkipMark(body);
  static_cast<void>(internal::ForEachMember(
      rest, [&](std::string_view name, std::string_view value) {
        if (name == "\"model\"") model = internal::ReadShortString(value);
      }));
  return model;
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_ROUTES_H_
