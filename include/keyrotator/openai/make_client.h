// File: openai/make_client.h
//
// MakeClient: a configuration and a transport become a client with keys of its
// own, ready to send.
//
// Example:
//   keyrotator::ProviderConfig config{
//       .base_url = "https://api.openai.com/v1",
//       .api_keys = {{.key_env = "OPENAI_API_KEYS"}}};
//   auto client =
//       keyrotator::MakeClient(config, keyrotator::CurlTransport{});
//   keyrotator::Reply reply = client.ChatCompletion(body);
//   for (const auto& key : client.rotator().Snapshot())
//     fmt::print("{}\n", key);

#ifndef KEYROTATOR_OPENAI_MAKE_CLIENT_H_
#define KEYROTATOR_OPENAI_MAKE_CLIENT_H_

#include <chrono>
#include <utility>

#include "keyrotator/config/any_selection.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/make_key_rotator.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "keyrotator/rotator_options.h"

namespace keyrotator {

// `options` with what the configuration says: the header for the key, retries
// and http.
inline ClientOptions MakeClientOptions(const ProviderConfig& config,
                                       ClientOptions options = {}) {
  options.auth_header = config.auth_header;
  options.auth_prefix = config.auth_prefix;
  options.retry = MakeRetryOptions(config);
  options.allow_http = config.allow_http;
  return options;
}

namespace internal {

// A base, since it must be there before the client and after it.
template <class Rotator>
struct RotatorHolder {
  Rotator rotator;
};

}  // namespace internal

// An OpenAIClient together with its rotator. It stays where it was made.
template <class Transport, class Clock = std::chrono::steady_clock>
class ProviderClient
    : private internal::RotatorHolder<KeyRotator<AnySelection, Clock>>,
      public OpenAIClient<Transport, KeyRotator<AnySelection, Clock>> {
 public:
  using Rotator = KeyRotator<AnySelection, Clock>;

  // `options` and `rotator_options` have what a configuration does not say, as
  // timeouts and on_event. Throws as MakeKeyRotator does; a base_url that
  // cannot be used is told by the first Reply.
  ProviderClient(const ProviderConfig& config, Transport transport,
                 ClientOptions options = {},
                 RotatorOptions rotator_options = {}, Clock clock = Clock(),
                 const Environment& environment = SystemEnvironment,
                 const OnWarning& on_warning = {})
      : Holder{MakeKeyRotator(config, std::move(rotator_options),
                              std::move(clock), environment, on_warning)},
        Client(config.base_url, Holder::rotator, std::move(transport),
               MakeClientOptions(config, std::move(options))) {}

  // To look at the keys, and to change them.
  Rotator& rotator() { return Holder::rotator; }

 private:
  using Holder = internal::RotatorHolder<Rotator>;
  using Client = OpenAIClient<Transport, Rotator>;
};

// The same, for `auto client = MakeClient(config, CurlTransport{});`.
template <class Transport, class Clock = std::chrono::steady_clock>
ProviderClient<Transport, Clock> MakeClient(
    const ProviderConfig& config, Transport transport,
    ClientOptions options = {}, RotatorOptions rotator_options = {},
    Clock clock = Clock(), const Environment& environment = SystemEnvironment,
    const OnWarning& on_warning = {}) {
  return {config,
          std::move(transport),
          std::move(options),
          std::move(rotator_options),
          std::move(clock),
          environment,
          on_warning};
}

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_MAKE_CLIENT_H_
