#include "keyrotator/api_key.h"

#include <sstream>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::api_key_test {
namespace {

// The secret comes out through Reveal() alone.
static_assert(!std::is_convertible_v<ApiKey, std::string>);
static_assert(!std::is_convertible_v<ApiKey, std::string_view>);
static_assert(!std::is_convertible_v<ApiKey, const char*>);

TEST_CASE("a key's value is trimmed of white space around it alone",
          "[api_key]") {
  CHECK(ApiKey(" \t\r\n\v\fsk a\n").Reveal() == "sk a");
  CHECK(ApiKey(std::string(" ")).empty());
  CHECK(ApiKey(std::string_view()).empty());
}

TEST_CASE("a null pointer is an empty key", "[api_key]") {
  const char* unset = nullptr;
  CHECK(ApiKey(unset).empty());
}

TEST_CASE("printing a key shows its name and no byte of its secret",
          "[api_key][P13]") {
  for (const std::string secret :
       {"s", "sk-1", "sk-0123456789abcdefghijklmnopqrstuvwxyz"}) {
    std::ostringstream out;
    out << ApiKey(secret) << '|' << ApiKey(secret, {.name = "prod-1"});
    CHECK(out.str() == "(unnamed key)|prod-1");
    CHECK(fmt::format("{}|{:>8}", ApiKey(secret),
                      ApiKey(secret, {.name = "prod-1"})) ==
          "(unnamed key)|  prod-1");
  }
}

TEST_CASE("a list of keys is made from what makes keys", "[api_key]") {
  const auto count = [](const ApiKeys& keys) {
    return std::distance(keys.begin(), keys.end());
  };
  CHECK(count({}) == 0);
  CHECK(count({"a", "b"}) == 2);
  CHECK(count(std::vector<std::string>{"a", "b", "c"}) == 3);
  CHECK(count(std::vector<std::string_view>{"a"}) == 1);
  CHECK(count(std::vector<const char*>{"a", nullptr}) == 2);
  CHECK(count(std::vector<ApiKey>{ApiKey("a")}) == 1);
}

TEST_CASE("an id compares, hashes and prints", "[api_key]") {
  CHECK(KeyId{1} < KeyId{2});
  CHECK(std::unordered_set<KeyId>{KeyId{1}, KeyId{1}, KeyId{2}}.size() == 2);
  CHECK(fmt::format("{}", KeyId{7}) == "7");
}

}  // namespace
}  // namespace keyrotator::api_key_test
