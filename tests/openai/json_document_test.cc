#include "keyrotator/openai/json_document.h"

#include <optional>
#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_json_document_test {
namespace {

bool IsRead(std::string_view text) {
  return JsonDocument(text).root().has_value();
}

// The text of the member "a".
std::string A(std::string_view json) {
  const JsonDocument document(json);
  std::string_view a;
  REQUIRE(document.root());
  REQUIRE(document.root()->at_key("a").get(a) == simdjson::SUCCESS);
  return std::string(a);
}

TEST_CASE("what is not JSON is not read", "[json_document]") {
  for (const char* json : {"{}", "[]", "1", "\"x\"", "null", " \n{} ",
                           "\xEF\xBB\xBF{}", "-0.5e-3", "\"\\ud83d\\ude00\""}) {
    CAPTURE(json);
    CHECK(IsRead(json));
  }
  for (const char* other :
       {"", " ", "{", "{]", "nul", "{\"a\":1,}", "\"\\ud800\"", "\"\xff\"",
        "\"a\nb\"", "1e999", "01", "{\"a\" 1}", "'x'", "oops"}) {
    CAPTURE(other);
    CHECK_FALSE(IsRead(other));
    CHECK_FALSE(JsonDocument(other).too_long());
  }
}

TEST_CASE("the first value is read, and whether it is alone",
          "[json_document]") {
  CHECK(JsonDocument("{} \n").alone());
  for (const char* text : {"{}x", "{} {}", "1 2", "[]]"}) {
    CAPTURE(text);
    CHECK(IsRead(text));
    CHECK_FALSE(JsonDocument(text).alone());
  }
}

TEST_CASE("what nests too deep is not read", "[json_document]") {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  CHECK(IsRead(nested(kMaxJsonDepth)));
  CHECK_FALSE(IsRead(nested(kMaxJsonDepth + 1)));
  CHECK_FALSE(IsRead(nested(100'000)));
}

TEST_CASE("what is too long is said to be, long strings aside",
          "[json_document]") {
  std::string numbers = "{\"b\":[0";
  while (numbers.size() < kMaxErrorBody) numbers += ",1234567";
  numbers += "],\"a\":\"x\"}";
  CHECK_FALSE(IsRead(numbers));
  CHECK(JsonDocument(numbers).too_long());

  const std::string picture(3'000'000, 'p');
  CHECK(A("{\"b\":\"" + picture + "\",\"a\":\"x\"}") == "x");
  const std::string kept = A("{\"a\":\"" + picture + "\"}");
  CHECK(kept.size() > 2048);
  CHECK(kept.size() < 10'000);
}

TEST_CASE("a long string is cut between characters and escapes",
          "[json_document]") {
  for (const std::string part :
       {"\\n", "\\\"", "\\\\", "\\ud83d\\ude00", "\u20ac", "\U0001F600"}) {
    for (std::size_t shift = 0; shift < 13; ++shift) {
      std::string text(4090 + shift, 'a');
      while (text.size() < 300'000) text += part;
      CAPTURE(part, shift);
      CHECK(A("{\"a\":\"" + text + "\"}").starts_with("aaaa"));
    }
  }
}

}  // namespace
}  // namespace keyrotator::internal::openai_json_document_test
