// File: gateway.h
//
// Gateway: what all its threads share: the providers with their keys, the
// routes to them, who may come in, and the log.
//
// Example:
//   gateway::Gateway gateway(options, gateway::Setup{.providers = configs},
//                            write_line);
//   gateway.providers()[0]->rotator.Snapshot();

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_GATEWAY_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_GATEWAY_H_

#include <keyrotator/config/key_reloader.h>
#include <keyrotator/config/provider_config.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gateway/access_log.h"
#include "gateway/guard.h"
#include "gateway/options.h"
#include "gateway/provider.h"
#include "gateway/routes.h"

namespace gateway {

// The providers, and where the keys of each are loaded from.
struct Setup {
  std::vector<keyrotator::ProviderConfig> providers = {};
  // For the provider at that position; by default ResolveKeys of its
  // configuration.
  std::function<keyrotator::KeySource(std::size_t provider)> keys = {};
};

class Gateway {
 public:
  // Throws as Routes and MakeKeyRotator do.
  Gateway(Options with, Setup setup, AccessLog::Write write)
      : options(std::move(with)),
        log(std::move(write)),
        guard(options),
        routes(setup.providers) {
    for (std::size_t i = 0; i < setup.providers.size(); ++i) {
      const auto& config = setup.providers[i];
      providers_.push_back(std::make_unique<Provider>(
          config, setup.keys ? setup.keys(i) : ReadAgain(config), log));
    }
  }

  const std::vector<std::unique_ptr<Provider>>& providers() const {
    return providers_;
  }

  // Loads the keys of all providers again; what cannot be is logged.
  void Reload() {
    for (const auto& provider : providers_) {
      if (provider->reloader.Reload().ok())
        log.Note("reloaded", provider->config.name, "the keys were loaded");
    }
  }

  // `text` without any secret of any pool, and without any token.
  std::string Redact(std::string text) const {
    for (const auto& provider : providers_)
      text = provider->rotator.Redact(text);
    for (const auto* tokens : {&options.tokens, &options.admin_tokens}) {
      for (const std::string& token : *tokens) {
        for (std::size_t at; (at = text.find(token)) != text.npos;)
          text.replace(at, token.size(), "[token]");
      }
    }
    return text;
  }

  const Options options;
  const AccessLog log;
  const Guard guard;
  const Routes routes;
  // Set once, in this order: take no new requests; end those that run.
  std::atomic<bool> draining = false;
  std::atomic<bool> hurry = false;
  std::atomic<std::size_t> connections = 0;
  std::atomic<std::size_t> requests = 0;  // that have begun and not ended
  std::atomic<std::size_t> kept_bytes = 0;

 private:
  static keyrotator::KeySource ReadAgain(
      const keyrotator::ProviderConfig& config) {
    std::vector<std::string> files;
    for (const auto& entry : config.api_keys) {
      if (!entry.key_file.empty()) files.push_back(entry.key_file);
    }
    // Without files nothing can change, and nothing is to be read each second.
    if (files.empty()) files.emplace_back("/dev/null");
    return {.load = [config] { return keyrotator::ResolveKeys(config); },
            .files = std::move(files)};
  }

  std::vector<std::unique_ptr<Provider>> providers_;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_GATEWAY_H_
