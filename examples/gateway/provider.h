// File: provider.h
//
// Provider: one provider while the gateway runs: its keys in a rotator, which
// are loaded again when their files change, and which other processes may use,
// too, and what is counted of it.
//
// Example:
//   gateway::Provider provider(
//       config, {.load = [=] { return keyrotator::ResolveKeys(config); }},
//       log);
//   provider.rotator.Snapshot();

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_PROVIDER_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_PROVIDER_H_

#include <keyrotator/config/any_selection.h>
#include <keyrotator/config/key_reloader.h>
#include <keyrotator/config/make_key_rotator.h>
#include <keyrotator/config/provider_config.h>
#include <keyrotator/key_rotator.h>
#include <keyrotator/retry_options.h>

#include <chrono>
#include <memory>
#include <string_view>
#include <utility>

#include "gateway/access_log.h"
#include "gateway/fleet.h"
#include "gateway/metrics.h"

namespace gateway {

using Rotator = keyrotator::KeyRotator<keyrotator::AnySelection>;

// Thread-safe.
class Provider {
 public:
  // `keys` loads them; its files are looked at once a second. Throws as
  // MakeKeyRotator and JoinFleet do.
  Provider(keyrotator::ProviderConfig with, keyrotator::KeySource keys,
           const AccessLog& log)
      : config(std::move(with)),
        retry(keyrotator::MakeRetryOptions(config)),
        rotator(keyrotator::MakeKeyRotator(
            config,
            {.on_event =
                 [this, &log](const auto& event) {
                   log.Event(config.name, event);
                 }},
            {}, keyrotator::SystemEnvironment, WarnIn(log))),
        fleet(JoinFleet(rotator, config, WarnIn(log))),
        reloader(rotator, std::move(keys), ReloadEverySecond(log)) {}

  const keyrotator::ProviderConfig config;
  const keyrotator::RetryOptions retry;
  ProviderMetrics metrics;
  Rotator rotator;
  const std::unique_ptr<keyrotator::Fleet> fleet;  // null: in none
  keyrotator::KeyReloader<Rotator> reloader;

 private:
  keyrotator::OnWarning WarnIn(const AccessLog& log) const {
    return [this, &log](std::string_view message) {
      log.Note("warning", config.name, message);
    };
  }
  keyrotator::ReloadOptions ReloadEverySecond(const AccessLog& log) const {
    return {.interval = std::chrono::seconds(1),
            .on_error = [this, &log](std::string_view message) {
              log.Note("reload_failed", config.name, message);
            }};
  }
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_PROVIDER_H_
