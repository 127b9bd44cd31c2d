#include "keyrotator/config/near_miss.h"

#include <array>
#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::config_near_miss_test {
namespace {

constexpr auto kFields = std::to_array<std::string_view>(
    {"name", "base_url", "api_keys", "key_selection", "cooldown",
     "max_cooldown"});

TEST_CASE("a slip of the pen finds the name that was meant", "[near_miss]") {
  CHECK(NearMiss("key_selecton", kFields) == "key_selection");    // left out
  CHECK(NearMiss("key_sellection", kFields) == "key_selection");  // put in
  CHECK(NearMiss("key_selektion", kFields) == "key_selection");   // replaced
  CHECK(NearMiss("key_seletcion", kFields) == "key_selection");   // swapped
  CHECK(NearMiss("Key-Selection", kFields) == "key_selection");
  CHECK(NearMiss("api_key", kFields) == "api_keys");
  CHECK(NearMiss("baseurl", kFields) == "base_url");
}

TEST_CASE("what is far from every name has no near miss", "[near_miss]") {
  CHECK(NearMiss("timeout", kFields).empty());
  CHECK(NearMiss("", kFields).empty());
  CHECK(NearMiss("nm", kFields).empty());
  CHECK(NearMiss("n", {}).empty());
  CHECK(NearMiss(std::string(1 << 20, 'k'), kFields).empty());
  CHECK(NearMiss(std::string(kLongestName, 'k'), kFields).empty());
}

TEST_CASE("of several the nearest is meant, of equals the first",
          "[near_miss]") {
  CHECK(NearMiss("max_cooldwn", kFields) == "max_cooldown");
  CHECK(NearMiss("cooldwn", kFields) == "cooldown");
  constexpr auto kEquals = std::to_array<std::string_view>({"cat", "car"});
  CHECK(NearMiss("caz", kEquals) == "cat");
}

TEST_CASE("the distance counts what must be changed", "[near_miss]") {
  CHECK(EditDistance("", "") == 0);
  CHECK(EditDistance("", "abc") == 3);
  CHECK(EditDistance("abc", "") == 3);
  CHECK(EditDistance("kitten", "sitting") == 3);
  CHECK(EditDistance("ab", "ba") == 1);
  CHECK(EditDistance("ca", "abc") == 3);  // no letter is changed twice
  CHECK(EditDistance("A_b", "a-B") == 0);
}

TEST_CASE("names are listed", "[near_miss]") {
  CHECK(Listed(std::array<std::string, 2>{"a", "b"}) == "a, b");
  CHECK(Listed(std::array<std::string_view, 0>{}).empty());
}

TEST_CASE("a message ends with the near miss, if there is one", "[near_miss]") {
  CHECK(DidYouMean("nmae", kFields) == "; did you mean name?");
  CHECK(DidYouMean("sk-secret", kFields).empty());
}

}  // namespace
}  // namespace keyrotator::internal::config_near_miss_test
