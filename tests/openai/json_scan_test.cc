#include "keyrotator/openai/json_scan.h"

#include <cstddef>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_json_scan_test {
namespace {

using Members = std::vector<std::pair<std::string, std::string>>;

TEST_CASE("a value is skipped to its end, and no further", "[json_scan]") {
  for (const char* value :
       {"1", "-1.5e3", "null", "\"\"", "\"a\"", "\"\\\"\"", "\"\\\\\"",
        "\"\\\\\\\"\"", "[]", "{}", "[[]]", "{\"a\":[1,\"]\",{}]}"}) {
    for (const char* after : {"", ",1", "]", "}", " x"}) {
      CAPTURE(value, after);
      const std::string whole = std::string(" ") + value + after;
      std::string_view text = whole;
      CHECK(SkipValue(text));
      CHECK(text == after);
    }
  }
}

TEST_CASE("what has no end is no value", "[json_scan]") {
  for (const char* value : {"", " ", "\"", "\"a", "\"\\\"", "\"a\\\\\\\"", "[",
                            "[[]", "{\"a\":\"}", "]", "}", ","}) {
    CAPTURE(value);
    std::string_view text = value;
    CHECK_FALSE(SkipValue(text));
  }
}

TEST_CASE("nesting is skipped up to a depth", "[json_scan]") {
  std::string_view text = "[[[]]]";
  CHECK(SkipValue(text, 3));
  text = "[[[]]]";
  CHECK_FALSE(SkipValue(text, 2));
}

TEST_CASE("members are given as they stand there", "[json_scan]") {
  std::string_view text = " { \"a\" : 1 ,\n\"\\u0062\":[1, {}] } rest";
  Members members;
  CHECK(ForEachMember(text, [&](std::string_view name, std::string_view value) {
    members.emplace_back(name, value);
  }));
  CHECK(members == Members{{"\"a\"", "1"}, {"\"\\u0062\"", "[1, {}]"}});
  CHECK(text == " rest");
}

TEST_CASE("elements are given as they stand there", "[json_scan]") {
  std::string_view text = "[1 , \"a]\",[ ]]";
  std::vector<std::string> elements;
  CHECK(ForEachElement(text,
                       [&](std::string_view e) { elements.emplace_back(e); }));
  CHECK(elements == std::vector<std::string>{"1", "\"a]\"", "[ ]"});
  CHECK(text.empty());
}

TEST_CASE("what is no object or array is said to be none", "[json_scan]") {
  const auto none = [](auto&&...) {};
  for (const char* json : {"", "1", "[1", "[1,", "[1 2]", "[,]", "{", "{\"a\"",
                           "{\"a\":", "{\"a\":1", "{\"a\":1,", "{1:2}",
                           "{\"a\":1 \"b\":2}", "{,}"}) {
    CAPTURE(json);
    std::string_view text = json;
    CHECK_FALSE(ForEachMember(text, none));
    text = json;
    CHECK_FALSE(ForEachElement(text, none));
  }
}

TEST_CASE("what follows quotes is found wherever it stands", "[json_scan]") {
  std::mt19937_64 random(1);
  const std::vector<std::string> parts = {"\"",
                                          "\\",
                                          "e",
                                          "ra",
                                          "er",
                                          "re",
                                          "x",
                                          "\"er",
                                          "\"error\"",
                                          " ",
                                          ":",
                                          "\"r",
                                          "\xA2\xE5\xF2",
                                          std::string(30, 'x'),
                                          "\xA2\"e\xF2"};
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (std::size_t n = random() % 40; n > 0; --n)
      text += parts[random() % parts.size()];
    // Nothing is read beyond the end.
    const std::vector<char> exact(text.begin(), text.end());
    std::set<std::size_t> found;
    AnyQuoted(
        std::string_view(exact.data(), exact.size()),
        [&](std::string_view rest) {
          if (rest.starts_with("er") || rest.starts_with("re"))
            found.insert(text.size() - rest.size());
          return false;
        },
        "er", "re");
    std::set<std::size_t> expected;
    for (std::size_t at = 0; at + 2 < text.size(); ++at) {
      const std::string next = text.substr(at + 1, 2);
      if (text[at] == '"' && (next == "er" || next == "re"))
        expected.insert(at + 1);
    }
    CAPTURE(text);
    REQUIRE(found == expected);
  }
}

TEST_CASE("a look ends at the first that is told to be it", "[json_scan]") {
  for (const std::size_t before : {0U, 3U, 40U}) {
    int visits = 0;
    CHECK(AnyQuoted(
        std::string(before, 'x') + R"("error" "error" "error", and more)",
        [&](std::string_view) { return ++visits == 2; }, "error"));
    CHECK(visits == 2);
  }
}

}  // namespace
}  // namespace keyrotator::internal::openai_json_scan_test
