// File: config/make_key_rotator.h
//
// MakeKeyRotator: a configuration becomes a rotator over the provider's keys.
//
// Example:
//   keyrotator::ProviderConfig config{
//       .name = "openai", .api_keys = {{.key_env = "OPENAI_API_KEYS"}}};
//   auto rotator = keyrotator::MakeKeyRotator(config);

#ifndef KEYROTATOR_CONFIG_MAKE_KEY_ROTATOR_H_
#define KEYROTATOR_CONFIG_MAKE_KEY_ROTATOR_H_

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>
#include <utility>

#include "keyrotator/api_key.h"
#include "keyrotator/config/any_selection.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/retry_options.h"
#include "keyrotator/rotator_options.h"

namespace keyrotator {

// `options`, overridden by what the configuration sets.
inline RotatorOptions MakeRotatorOptions(const ProviderConfig& config,
                                         RotatorOptions options = {}) {
  if (config.cooldown) {
    options.cooldown = config.cooldown->initial;
    options.cooldown_multiplier = config.cooldown->multiplier;
  }
  options.max_cooldown = config.max_cooldown.value_or(options.max_cooldown);
  options.retry_budget = config.retry_budget.value_or(options.retry_budget);
  return options;
}

// How a client retries. A configured cooldown replaces the learned pace.
inline RetryOptions MakeRetryOptions(const ProviderConfig& config) {
  RetryOptions retry = config.retry;
  retry.guess = config.cooldown.value_or(retry.guess);
  return retry;
}

// A rotator over the provider's keys. `options` is for what a configuration
// cannot set, such as on_event. Throws ConfigError, which names the provider,
// where ResolveKeys, AnySelection or KeyRotator would throw. Linear.
template <class Clock = std::chrono::steady_clock>
KeyRotator<AnySelection, Clock> MakeKeyRotator(
    const ProviderConfig& config, RotatorOptions options = {},
    Clock clock = Clock(), const Environment& environment = SystemEnvironment,
    const OnWarning& on_warning = {}) {
  const ApiKeys keys = ResolveKeys(config, environment, on_warning);
  try {
    return KeyRotator<AnySelection, Clock>(
        keys, MakeRotatorOptions(config, std::move(options)),
        AnySelection(config.key_selection), std::move(clock));
  } catch (const std::invalid_argument& error) {
    throw ConfigError(
        fmt::format("{}: {}", internal::Called(config), error.what()));
  }
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_MAKE_KEY_ROTATOR_H_
