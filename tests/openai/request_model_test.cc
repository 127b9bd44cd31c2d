#include "keyrotator/openai/request_model.h"

#include <cstddef>
#include <string>
#include <string_view>

#include "tests/support/catch.h"
#include "tests/support/count_allocations.h"

namespace keyrotator::internal::openai_request_model_test {
namespace {

TEST_CASE("the model is the top-level member", "[request_model]") {
  for (const char* body :
       {R"({"model":"m"})", "{ \"model\" :\r\n\t\"m\" }\n",
        R"({"messages":[{"role":"user","model":"x"}],"model":"m"})",
        R"({"model":"m","tools":{"model":"x"},"metadata":{"model":"y"}})",
        R"({"a":"\"model\":\"x\"","b":"{\"model\":\"y\"}","model":"m"})",
        R"({"a":"model","b":"\\","model":"m"})",
        R"({"a":"]}","b":["{",{"c":[]}],"model":"m","d":-1.5e3,"e":null})"}) {
    CAPTURE(body);
    CHECK(RequestModel(body) == "m");
  }
}

TEST_CASE("without a top-level model that is text there is none",
          "[request_model]") {
  for (const char* body :
       {"{}", R"({"messages":[{"model":"x"}]})", R"({"Model":"x"})",
        R"({"model":5})", R"({"model":null})", R"({"model":["x"]})",
        R"({"model":{"model":"x"}})", R"(["model","x"])", R"([{"model":"x"}])",
        R"("model")", "5"}) {
    CAPTURE(body);
    CHECK(RequestModel(body).empty());
  }
}

TEST_CASE("of several models the last counts", "[request_model]") {
  CHECK(RequestModel(R"({"model":"a","x":1,"model":"b"})") == "b");
  CHECK(RequestModel(R"({"model":1,"model":"b"})") == "b");
  CHECK(RequestModel(R"({"model":"a","model":1})").empty());
}

TEST_CASE("escapes are read, in the name and in the model", "[request_model]") {
  CHECK(RequestModel(R"({"model":"mod\u0065l-1"})") == "model-1");
  CHECK(RequestModel(R"({"m\u006fdel":"a\"b\\\/"})") == "a\"b\\/");
  CHECK(RequestModel(R"({"model":"\ud83d\ude00"})") == "\U0001F600");
  CHECK(RequestModel("{\"model\":\"gr\u00fcn\"}") == "gr\u00fcn");
}

TEST_CASE("a byte order mark hides no model", "[request_model]") {
  CHECK(RequestModel("\xEF\xBB\xBF{\"model\":\"m\"}") == "m");
  CHECK(RequestModel("\xEF\xBB\xBF\n {\"model\":\"m\"}") == "m");
}

TEST_CASE("a body that is not an object to its end has no model",
          "[request_model]") {
  const std::string body =
      R"({"messages":[{"content":"a\"b"}],"model":"m","n":[1,{"a":2}]})";
  REQUIRE(RequestModel(body) == "m");
  for (std::size_t size = 0; size < body.size(); ++size) {
    CAPTURE(size);
    CHECK(RequestModel(body.substr(0, size)).empty());
  }
  for (const char* broken :
       {"", " ", "hello", R"({"model": "m"} x)", R"({"model":"m"}{})",
        R"({"model": nope})", R"({"model":"m",})", R"({"model" "m"})",
        R"({model:"m"})", R"({"model":"m" "n":1})", R"({,"model":"m"})",
        "{\"model\":\"\xff\"}", "{\"model\":\"a\nb\"}", R"({"model":"\ud800"})",
        R"({"model":"\x"})", R"({"model":})", R"({"model":"m"]})"}) {
    CAPTURE(broken);
    CHECK(RequestModel(broken).empty());
  }
}

TEST_CASE("deep nesting hides no model and needs no stack", "[request_model]") {
  constexpr std::size_t kDeep = 1'000'000;
  const std::string deep = std::string(kDeep, '[') + std::string(kDeep, ']');
  CHECK(RequestModel("{\"a\":" + deep + ",\"model\":\"m\"}") == "m");
  CHECK(RequestModel("{\"model\":\"m\",\"a\":" + deep + "}") == "m");
  CHECK(RequestModel(deep).empty());
  CHECK(RequestModel("{\"a\":" + std::string(kDeep, '{')).empty());
}

TEST_CASE("a name that is longer than any model's is none", "[request_model]") {
  const auto body = [](std::size_t size) {
    return "{\"model\":\"" + std::string(size, 'm') + "\"}";
  };
  CHECK(RequestModel(body(kMaxModelName)).size() == kMaxModelName);
  CHECK(RequestModel(body(kMaxModelName + 1)).empty());
}

// A body of some 5 MB, as requests with a picture are.
std::string Large(std::string_view part) {
  std::string text;
  while (text.size() < 5'000'000) text += part;
  return text;
}

TEST_CASE("nothing of a body's size is allocated", "[request_model]") {
  using testing::LargestAllocation;
  constexpr std::size_t kSmall = std::size_t{64} << 10;
  const std::string pictures[] = {
      R"({"model":"m","messages":[{"content":")" + Large("iVBORw0KGgo") +
          "\"}]}",
      R"({"messages":[{"content":")" + Large("iVBORw0KGgo") +
          R"("}],"model":"m"})",
      R"({"messages":[")" + Large(R"(\"\\\n\u00e9)") + R"("],"model":"m"})",
      R"({"input":[)" + Large("1234,") + R"(0],"model":"m"})"};
  CHECK(LargestAllocation() > kSmall);  // so that they are seen
  for (const std::string& body : pictures) {
    const std::string model = RequestModel(body);
    CHECK(LargestAllocation() <= kSmall);
    CHECK(model == "m");
  }
  const std::string name = "{\"model\":\"" + Large("m") + "\"}";
  const std::string key = "{\"\\" + Large("m") + "\":\"m\"}";
  CHECK(LargestAllocation() > kSmall);
  const std::string none = RequestModel(name) + RequestModel(key);
  CHECK(LargestAllocation() <= kSmall);
  CHECK(none.empty());
}

}  // namespace
}  // namespace keyrotator::internal::openai_request_model_test
