#include "keyrotator/config/choose_provider.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::config_choose_provider_test {
namespace {

TEST_CASE("a star stands for any text, all else for itself", "[models]") {
  struct Case {
    const char* pattern;
    const char* model;
    bool matches;
  };
  for (const Case& c : {
           Case{"gpt-4o", "gpt-4o", true},
           Case{"gpt-4o", "gpt-4o-mini", false},
           Case{"gpt-4o", "GPT-4o", false},
           Case{"gpt-*", "gpt-", true},
           Case{"gpt-*", "gpt-4o", true},
           Case{"gpt-*", "xgpt-4o", false},
           Case{"*", "", true},
           Case{"*", "anything", true},
           Case{"", "", true},
           Case{"", "a", false},
           Case{"*-mini", "gpt-4o-mini", true},
           Case{"*-mini", "gpt-4o-mini-2024", false},
           Case{"a*b*c", "a-b-b-c", true},
           Case{"a*b*c", "a-c-b", false},
           Case{"**a**", "bab", true},
           Case{"a?c", "abc", false},
           Case{"*aaaaaaaaaaaaaaab", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
       }) {
    INFO(c.pattern << " " << c.model);
    CHECK(MatchesModel(c.pattern, c.model) == c.matches);
  }
}

TEST_CASE("a name goes before a pattern, a pattern before the first provider",
          "[models]") {
  const std::vector<ProviderConfig> providers{
      {.name = "first", .models = {"own"}},
      {.name = "any-llama", .models = {"llama-*", "*-vision"}},
      {.name = "one-llama", .models = {"llama-3", "llama-*"}}};
  CHECK(ChooseProvider(providers, "own") == 0);
  CHECK(ChooseProvider(providers, "llama-2") == 1);
  CHECK(ChooseProvider(providers, "llama-3") == 2);
  CHECK(ChooseProvider(providers, "gpt-vision") == 1);
  CHECK(ChooseProvider(providers, "unknown") == 0);
  CHECK(ChooseProvider(providers, "") == 0);
}

TEST_CASE("no model goes to the first, though another would take any",
          "[models]") {
  const std::vector<ProviderConfig> providers{{.name = "first"},
                                              {.name = "all", .models = {"*"}}};
  CHECK(ChooseProvider(providers, "") == 0);
  CHECK(ChooseProvider(providers, "gpt-4o") == 1);
}

}  // namespace
}  // namespace keyrotator::config_choose_provider_test
