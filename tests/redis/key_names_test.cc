#include "keyrotator/redis/key_names.h"

#include <set>
#include <string>
#include <string_view>

#include "tests/support/catch.h"
#include "tests/support/leaks.h"

namespace keyrotator::redis_key_names_test {
namespace {

using internal::KeyNames;

bool IsHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == text.npos;
}

TEST_CASE("a key's name is the first half of an HMAC-SHA-256", "[redis]") {
  // printf '12:keyrotator 14:prod3:key4:sk-a' | openssl dgst -sha256 -hmac top
  CHECK(KeyNames("prod", "top", false).Of("key", "sk-a") ==
        "e2f6e8e14fbdb0b8fc99f35a65468320");
  // ... | sha256sum
  CHECK(KeyNames("prod", "", false).Of("key", "sk-a") ==
        "3ac62ae56b3959bc8a9e33e47a019617");
}

TEST_CASE("a name tells nothing of what it names", "[redis][S21]") {
  const std::string key = "sk-QzXw7RtY2uIoP9aSdFgH4jKlM6nBvC";
  for (const bool clear_names : {false, true}) {
    const std::string name = KeyNames("prod", "s", clear_names).Of("key", key);
    CHECK(name.size() == 32);
    CHECK(IsHex(name));
    CHECK_FALSE(testing::FindLeak(name, key).has_value());
  }
  const std::string scope = KeyNames("prod", "s", false).Of("scope", "gpt-4o");
  CHECK(scope.size() == 16);
  CHECK(IsHex(scope));
}

TEST_CASE("secret, pool, kind and value make a name, each by itself",
          "[redis]") {
  std::set<std::string> names;
  std::size_t count = 0;
  for (const char* secret : {"", "a", "b"})
    for (const char* pool : {"p", "p1"})
      for (const char* kind : {"key", "group", "scope"})
        for (const char* value : {"", "1", "x", "1:x"}) {
          names.insert(KeyNames(pool, secret, false).Of(kind, value));
          ++count;
        }
  CHECK(names.size() == count);
  // A border that moves.
  CHECK(KeyNames("p", "s", false).Of("key", "k3:key") !=
        KeyNames("p3:keyk", "s", false).Of("key", ""));
  CHECK(KeyNames("p", "s", false).Of("group", "x") ==
        KeyNames("p", "s", false).Of("group", "x"));
}

TEST_CASE("clear names are readable, and no two are the same", "[redis]") {
  const KeyNames names("prod", "s", true);
  CHECK(names.Of("scope", "openai/gpt-4o_mini.1") == "=openai/gpt-4o_mini.1");
  CHECK(names.Of("scope", "") == "=");
  CHECK(names.Of("group", "a:b c%\xff\n") == "=a%3Ab%20c%25%FF%0A");
}

}  // namespace
}  // namespace keyrotator::redis_key_names_test
