// File: yaml_fuzz.cc
//
// libFuzzer: no text, whatever its bytes, crashes the YAML loader, makes its
// error tell a key, or passes as a configuration that a rotator refuses.
//
// An input is a text as it is, or if its first byte is 0, one made of words: a
// byte is one of them. So it gets behind the syntax soon.
//
// libraries: yaml-cpp

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/config/make_key_rotator.h"
#include "keyrotator/config/yaml.h"

namespace {

using namespace keyrotator;

constexpr std::string_view kSecret = "sk-SECRET";

constexpr auto kWords = std::to_array<std::string_view>(
    {"\n",
     "\n  ",
     "\n    ",
     "\n      ",
     "\n      - ",
     "\n  - ",
     "\n    - ",
     "- ",
     ": ",
     ", ",
     " { ",
     " } ",
     " [ ",
     " ] ",
     " ",
     "\t",
     "\"",
     "'",
     "# ",
     "? ",
     "|",
     ">",
     "&",
     "*",
     "!",
     "%",
     "@",
     "---\n",
     "...\n",
     "\r\n",
     "\\",
     "${",
     "\n    api_keys:\n",
     "sk-SECRET",
     "sk-b",
     "providers:\n  - name: a\n    base_url: https://a\n    api_keys: [sk-a]\n",
     "providers:\n  - name: b\n    base_url: http://b\n    api_keys:\n      - ",
     "\n  - name: b\n    base_url: https://b\n    api_key_env: KEY\n",
     "providers: ",
     "name: ",
     "base_url: ",
     "api_keys: ",
     "api_key_env: ",
     "key: ",
     "key_env: ",
     "key_file: ",
     "group: ",
     "weight: ",
     "max_in_flight: ",
     "key_selection: ",
     "cooldown: ",
     "max_cooldown: ",
     "cooldown_multiplier: ",
     "quota_cooldown: ",
     "retry: ",
     "max_attempts: ",
     "initial_backoff: ",
     "max_backoff: ",
     "deadline: ",
     "retry_ambiguous: ",
     "auth: ",
     "header: ",
     "prefix: ",
     "allow_http: ",
     "models: ",
     "1",
     "0",
     "-",
     ".5",
     "1e9",
     "99999999999999999999",
     "nan",
     "60s",
     "1.5m",
     "60 s",
     "true",
     "random",
     "affinity",
     "wieght: ",
     "https://a.example/v1",
     "KEY",
     "KEYS",
     "UNSET",
     "/dev/null",
     "a",
     "~",
     "null",
     "\xEF\xBB\xBF",
     "\xC3\xA9",
     "\xFF"});

std::string TextOf(std::string_view input) {
  if (input.empty() || input[0] != '\0') return std::string(input);
  std::string text;
  for (const char c : input.substr(1))
    text += kWords[static_cast<unsigned char>(c) % kWords.size()];
  return text;
}

const char* Variable(const char* name) {
  const std::string_view text(name);
  if (text == "KEY") return "sk-SECRET-1";
  if (text == "KEYS") return "sk-SECRET-1,sk-SECRET-2\nsk-SECRET 3";
  return nullptr;
}

void CheckError(std::string_view error) {
  if (error.empty() || error.find(kSecret) != error.npos) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string text = TextOf({reinterpret_cast<const char*>(data), size});
  std::vector<ProviderConfig> providers;
  try {
    providers = ParseProviders(text, "f", Variable);
  } catch (const ConfigError& error) {
    CheckError(error.what());
    return 0;
  }
  if (providers.empty()) std::abort();
  for (const ProviderConfig& provider : providers) {
    // What a file has may be told.
    if (provider.name.find(kSecret) != provider.name.npos) continue;
    if (MakeKeyRotator(provider, {}, std::chrono::steady_clock(), Variable)
            .Size() == 0) {
      std::abort();
    }
  }
  return 0;
}
