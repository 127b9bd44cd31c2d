#include "keyrotator/openai/completion.h"

#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_completion_test {
namespace {

bool CompletesAlone(std::string_view event, std::string_view data) {
  return Completion().Completes(event, data);
}

TEST_CASE("a finish_reason completes an answer of one choice", "[completion]") {
  CHECK(CompletesAlone(
      "", R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})"));
  CHECK(CompletesAlone("",
                       "{ \"choices\" : [ { \"finish_reason\" :\n\"x\" } ] }"));
  for (const char* data :
       {"", "[DONE]", "{}", R"({"choices":[]})",
        R"({"choices":[{"index":0,"finish_reason":null}]})",
        R"({"choices":[{"index":0,"finish_reason":""}]})",
        R"({"finish_reason":"stop"})",
        R"({"choices":[{"delta":{"finish_reason":"stop"}}]})",
        R"({"choices":[{"delta":"{\"finish_reason\": \"stop\"}"}]})",
        R"({"choices":{"finish_reason":"stop"}})"}) {
    CAPTURE(data);
    CHECK_FALSE(CompletesAlone("", data));
  }
}

TEST_CASE("every choice that was seen must be finished", "[completion]") {
  Completion completion;
  CHECK_FALSE(completion.Completes(
      "", R"({"choices":[{"index":1,"delta":{},"finish_reason":null}]})"));
  CHECK_FALSE(completion.Completes(
      "", R"({"choices":[{"index":0,"finish_reason":"stop"}]})"));
  CHECK(completion.Completes(
      "", R"({"choices":[{"index":1,"finish_reason":"length"}]})"));
}

TEST_CASE("some events say that they are the last", "[completion]") {
  for (const char* name :
       {"message_stop", "response.completed", "response.incomplete"}) {
    CAPTURE(name);
    CHECK(CompletesAlone(name, "{}"));
    CHECK(CompletesAlone("", std::string(R"({"type":")") + name + "\"}"));
    CHECK_FALSE(
        CompletesAlone("", std::string(R"({"a":{"type":")") + name + "\"}}"));
    CHECK_FALSE(CompletesAlone("", std::string(R"({"a":")") + name + "\"}"));
  }
  CHECK_FALSE(CompletesAlone("response.created", "{}"));
  CHECK_FALSE(CompletesAlone("", R"({"type":"response.created"})"));
}

TEST_CASE("a large event is followed as well as a small one", "[completion]") {
  std::string logprobs = "[0";
  while (logprobs.size() < 1'000'000) logprobs += R"(,{"token":"a"})";
  CHECK(CompletesAlone("", R"({"choices":[{"logprobs":)" + logprobs +
                               R"(],"finish_reason":"stop"}]})"));
}

}  // namespace
}  // namespace keyrotator::internal::openai_completion_test
