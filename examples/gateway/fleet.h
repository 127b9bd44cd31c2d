// File: fleet.h
//
// JoinFleet: makes a provider's rotator one of a fleet, if its configuration says
// so: other gateways, or programs, that use the same keys over the same Redis.
//
// Example:
//   auto fleet = gateway::JoinFleet(provider.rotator, config, warn);
//   if (fleet != nullptr) fmt::print("{}\n", fleet->Status());

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_FLEET_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_FLEET_H_

#include <keyrotator/config/keys_from.h>
#include <keyrotator/config/provider_config.h>
#include <keyrotator/fleet/fleet.h>

#include <memory>

#ifdef KEYROTATOR_GATEWAY_HAS_REDIS
#include <keyrotator/redis.h>
#endif

namespace gateway {

// Null if the configuration names no fleet. Throws keyrotator::ConfigError for one
// that cannot be used, without a secret; that Redis is away is no error.
template <class Rotator>
std::unique_ptr<keyrotator::Fleet> JoinFleet(
    [[maybe_unused]] Rotator& rotator, const keyrotator::ProviderConfig& config,
    [[maybe_unused]] const keyrotator::OnWarning& warn) {
  if (!config.fleet) return nullptr;
#ifdef KEYROTATOR_GATEWAY_HAS_REDIS
  return keyrotator::MakeFleet(rotator, *config.fleet, {},
                               keyrotator::SystemEnvironment, warn);
#else
  throw keyrotator::ConfigError(
      "fleet: this gateway was built without hiredis, and cannot join one");
#endif
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_FLEET_H_
