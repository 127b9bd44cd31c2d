// Makes a rotator of a provider that a YAML text describes.

#include "keyrotator/config/yaml.h"

#include <cstdio>
#include <string_view>

#include "keyrotator/config/make_key_rotator.h"

int main() {
  const auto providers = keyrotator::ParseProviders(
      "providers:\n"
      "  - name: local\n"
      "    base_url: http://127.0.0.1:8000/v1\n"
      "    api_keys: [sk-a]\n");
  auto rotator = keyrotator::MakeKeyRotator(providers.at(0));
  const auto key = rotator.Pick();
  if (!key || key->Reveal() != std::string_view("sk-a")) return 1;
  std::puts("yaml: ok");
}
