// File: redis/make_fleet.h
//
// MakeFleet: a configuration makes a rotator one of a fleet over Redis.
//
// Example:
//   keyrotator::ProviderConfig config{
//       .api_keys = {{.key_env = "OPENAI_API_KEYS"}},
//       .fleet = keyrotator::FleetConfig{.redis = "redis://cache:6379/0",
//                                        .pool = "prod",
//                                        .secret_env = "FLEET_SECRET"}};
//   auto rotator = keyrotator::MakeKeyRotator(config);
//   auto fleet = keyrotator::MakeFleet(rotator, *config.fleet);
//   fmt::print("{}\n", fleet->Status());

#ifndef KEYROTATOR_REDIS_MAKE_FLEET_H_
#define KEYROTATOR_REDIS_MAKE_FLEET_H_

#include <fmt/format.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/fleet/fleet.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/redis/redis_exchange.h"

namespace keyrotator {

namespace internal {

// What a field names the variable of; nothing, if it names none.
inline SecretText SecretOfFleet(const std::string& variable,
                                std::string_view field,
                                const Environment& environment) {
  if (variable.empty()) return {};
  SecretText secret = ReadSecret(variable, environment);
  if (secret.text().empty()) {
    throw ConfigError(fmt::format("fleet, {}: not set, or empty: {}", field,
                                  ShownVariable(variable)));
  }
  return secret;
}

}  // namespace internal

// `options`, overridden by what the configuration sets; what it cannot set are
// Sentinels and times. Throws ConfigError if a variable that it names is not set.
inline RedisOptions MakeRedisOptions(
    const FleetConfig& config,
    const Environment& environment = SystemEnvironment,
    RedisOptions options = {}) {
  options.url = config.redis;
  options.username = config.username;
  options.password =
      internal::SecretOfFleet(config.password_env, "password_env", environment);
  options.pool = config.pool;
  options.secret =
      internal::SecretOfFleet(config.secret_env, "secret_env", environment);
  options.clear_names = config.clear_names;
  return options;
}

// Makes `rotator`, of any kind, one of the fleet until what is returned goes; it
// is never null. `options` is for what a configuration cannot set. `on_warning`
// is told if the fleet has no secret. Throws ConfigError for what cannot be
// used, without a secret. That Redis is away is no error, now or later.
template <class Rotator>
std::unique_ptr<Fleet> MakeFleet(
    Rotator& rotator, const FleetConfig& config, FleetOptions options = {},
    const Environment& environment = SystemEnvironment,
    const OnWarning& on_warning = {}) {
  RedisOptions redis = MakeRedisOptions(config, environment);
  options.period = config.period.value_or(options.period);
  try {
    RedisExchange exchange(std::move(redis));
    if (on_warning && !exchange.warning().empty())
      on_warning(exchange.warning());
    return std::make_unique<Fleet>(rotator, std::move(exchange),
                                   std::move(options));
  } catch (const std::invalid_argument& error) {
    throw ConfigError(fmt::format("fleet: {}", error.what()));
  }
}

}  // namespace keyrotator

#endif  // KEYROTATOR_REDIS_MAKE_FLEET_H_
