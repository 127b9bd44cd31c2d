// Providers and keys from a YAML file: what it says, and requests with it.
//
//   from_yaml examples/providers.yaml
//
// The requests go to a fake provider in this process, to which the keys of the
// first provider are good, but for one that is revoked.

#include <fmt/format.h>
#include <keyrotator/config/yaml.h>
#include <keyrotator/http/curl.h>
#include <keyrotator/openai/make_client.h>
#include <keyrotator/testing/fake_provider.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <map>
#include <string>

namespace {

using keyrotator::ApiKey;
using keyrotator::ProviderConfig;

// Where keys are looked up: the process's environment, and for what is not set
// there keys for show, so that the example runs anywhere. A program has no need
// of this: by default it is the environment alone.
const char* Variable(const char* name) {
  static const std::map<std::string, const char*> kForShow = {
      {"OPENAI_KEY_1", "sk-show-1"},
      {"OPENAI_KEY_2", "sk-show-2"},
      {"OPENAI_KEY_3", "sk-show-3"}};
  if (const char* const value = std::getenv(name)) return value;
  const auto found = kForShow.find(name);
  return found == kForShow.end() ? nullptr : found->second;
}

void Print(const ProviderConfig& config) {
  fmt::print("{}: {}, key selection {}\n", config.name, config.base_url,
             config.key_selection);
  const auto rotator = keyrotator::MakeKeyRotator(
      config, {}, std::chrono::steady_clock(), Variable);
  for (const keyrotator::KeyStatus& key : rotator.Snapshot()) {
    fmt::print("  {:<8} group {:<8} weight {}\n", key.name,
               key.group.empty() ? "-" : key.group, key.weight);
  }
}

// True: all of them were served.
bool SendSome(ProviderConfig config) {
  keyrotator::testing::FakeProviderOptions options;
  for (const ApiKey& key : keyrotator::ResolveKeys(config, Variable))
    options.keys[key.Reveal()] = {};
  options.keys.begin()->second.state =
      keyrotator::testing::FakeKeyState::kRevoked;
  const keyrotator::testing::FakeProvider provider(options);
  config.base_url = provider.base_url();

  auto client =
      keyrotator::MakeClient(config, keyrotator::CurlTransport{}, {}, {},
                             std::chrono::steady_clock(), Variable);
  bool all_served = true;
  for (int request = 1; request <= 6; ++request) {
    const keyrotator::Reply reply = client.ChatCompletion(
        R"({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})");
    fmt::print("request {}:", request);
    for (const keyrotator::Attempt& attempt : reply.trail)
      fmt::print(" {} answers {};", attempt.key, attempt.status);
    fmt::print(" {}\n", reply.ok() ? "served" : reply.message);
    all_served = all_served && reply.ok();
  }
  return all_served;
}

}  // namespace

int main(int argc, char** argv) try {
  const auto providers = keyrotator::LoadProviders(
      argc > 1 ? argv[1] : "examples/providers.yaml", Variable);
  for (const ProviderConfig& config : providers) Print(config);
  return SendSome(providers.front()) ? 0 : 1;
} catch (const std::exception& error) {
  // Of a configuration: each thing that is wrong, with its line. No secret.
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
