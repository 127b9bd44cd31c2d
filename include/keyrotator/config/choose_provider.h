// File: config/choose_provider.h
//
// Which provider of a configuration serves a model: the one whose `models` name
// it, else the one that has a pattern for it, else the first.
//
// Example:
//   std::vector<keyrotator::ProviderConfig> providers{
//       {.name = "openai"},
//       {.name = "groq", .models = {"llama-*", "whisper-large-v3"}}};
//   keyrotator::ChooseProvider(providers, "llama-3.3-70b");  // 1
//   keyrotator::ChooseProvider(providers, "gpt-4o");         // 0

#ifndef KEYROTATOR_CONFIG_CHOOSE_PROVIDER_H_
#define KEYROTATOR_CONFIG_CHOOSE_PROVIDER_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/config/provider_config.h"

namespace keyrotator {

// Whether `pattern` stands for `model`: each `*` in it for any text, also none;
// all else for itself, with regard to case. O(|pattern| * |model|) at worst.
inline bool MatchesModel(std::string_view pattern, std::string_view model) {
  std::size_t p = 0;
  std::size_t m = 0;
  // The last star, and what it stands for at least; none yet.
  std::size_t star = pattern.npos;
  std::size_t covered = 0;
  while (m < model.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      covered = m;
    } else if (p < pattern.size() && pattern[p] == model[m]) {
      ++p;
      ++m;
    } else if (star != pattern.npos) {
      p = star + 1;
      m = ++covered;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

// The position of the provider for `model`: of those that name it the first; if
// none does, of those with a pattern that matches the first; else, and for no
// model at all, 0. Linear in the number of names.
inline std::size_t ChooseProvider(const std::vector<ProviderConfig>& providers,
                                  std::string_view model) {
  if (model.empty()) return 0;
  const auto first = [&](auto serves) {
    return static_cast<std::size_t>(
        std::find_if(providers.begin(), providers.end(),
                     [&](const ProviderConfig& provider) {
                       return std::any_of(provider.models.begin(),
                                          provider.models.end(), serves);
                     }) -
        providers.begin());
  };
  std::size_t chosen =
      first([&](const std::string& name) { return name == model; });
  if (chosen == providers.size()) {
    chosen = first(
        [&](const std::string& name) { return MatchesModel(name, model); });
  }
  return chosen == providers.size() ? 0 : chosen;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_CHOOSE_PROVIDER_H_
