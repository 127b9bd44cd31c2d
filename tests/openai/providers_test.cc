// What providers say, in their own words: each vector of providers.json is
// judged as its expectation says, and none of them does harm when a caller
// sends it as text.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/make_report.h"
#include "tests/support/catch.h"
#include "tests/support/vectors.h"

namespace keyrotator::openai_providers_test {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::system_clock;

// "rate_limited|quota_exhausted"
bool IsOneOf(const std::string& alternatives, std::string_view one) {
  return ("|" + alternatives + "|").find("|" + std::string(one) + "|") !=
         std::string::npos;
}

bool HintFits(const json& expect, std::optional<milliseconds> hint) {
  if (expect.contains("retry_after_ms_between")) {
    const json& range = expect["retry_after_ms_between"];
    if (!hint) return range[0].is_null();
    const std::int64_t least =
        range[0].is_null() ? 0 : range[0].get<std::int64_t>();
    return hint->count() >= least &&
           hint->count() <= range[1].get<std::int64_t>();
  }
  if (expect["retry_after_ms"].is_null()) return !hint;
  // A millisecond for a provider's doubles.
  return hint && std::abs(hint->count() -
                          expect["retry_after_ms"].get<std::int64_t>()) <= 1;
}

TEST_CASE("what each provider says is understood: kind, hint and reach",
          "[providers][vectors]") {
  const json rows = testing::ReadVectors("providers.json");
  REQUIRE(rows.size() == 264);
  for (const json& row : rows) {
    const json& expect = row["expect"];
    const Verdict verdict =
        Classify(testing::ResponseOf(row), testing::NowOf(row));
    CAPTURE(row["id"].get<std::string>(), expect.dump(), verdict.message);
    CHECK(IsOneOf(expect["class"], ToString(verdict.kind)));
    CAPTURE(verdict.retry_after.value_or(milliseconds(-1)).count());
    CHECK(HintFits(expect, verdict.retry_after));
    if (verdict.kind == VerdictKind::kQuotaExhausted &&
        expect.contains("reach"))
      CHECK(IsOneOf(expect["reach"],
                    verdict.reach == Reach::kKey ? "account" : "model"));
  }
}

// --- What they say, as a caller's text ---

// The messages of all vectors.
std::set<std::string> Messages() {
  std::set<std::string> messages;
  for (const char* file : {"providers.json", "responses.json"}) {
    for (const json& row : testing::ReadVectors(file)) {
      const Verdict verdict =
          Classify(testing::ResponseOf(row), testing::NowOf(row));
      if (verdict.message.size() > 3) messages.insert(verdict.message);
    }
  }
  return messages;
}

HttpResponse Answer(int status, const json& body) {
  HttpResponse response;
  response.status = status;
  response.headers.Add("Content-Type", "application/json");
  response.body = body.dump();
  return response;
}

HttpResponse OpenAIError(int status, const std::string& message,
                         const json& param, const json& code) {
  return Answer(status, {{"error",
                          {{"message", message},
                           {"type", "invalid_request_error"},
                           {"param", param},
                           {"code", code}}}});
}

bool Marks(const HttpResponse& response) {
  const VerdictKind kind = Classify(response).kind;
  return kind == VerdictKind::kKeyInvalid ||
         kind == VerdictKind::kQuotaExhausted ||
         kind == VerdictKind::kRateLimited;
}

TEST_CASE("a prompt that says what a provider says marks no key",
          "[providers][property]") {
  using Shape = std::function<HttpResponse(const std::string&)>;
  const std::vector<std::pair<const char*, Shape>> shapes = {
      {"quoted in a 400",
       [](const std::string& t) {
         return OpenAIError(400,
                            "Invalid value: '" + t +
                                "'. Supported values are: 'system', 'user'.",
                            "messages[0].role", "invalid_value");
       }},
      {"after a colon",
       [](const std::string& t) {
         return OpenAIError(400, "Invalid prompt: " + t, nullptr, nullptr);
       }},
      {"after a path",
       [](const std::string& t) {
         return Answer(400, {{"type", "error"},
                             {"error",
                              {{"type", "invalid_request_error"},
                               {"message", "messages.0.content.0: " + t}}}});
       }},
      {"alone, in a 422",
       [](const std::string& t) {
         return Answer(422, {{"object", "error"},
                             {"message", t},
                             {"type", "invalid_request_error"}});
       }},
      {"at the start, with what it is about",
       [](const std::string& t) {
         return OpenAIError(400, t + " is not an allowed value", "x", nullptr);
       }},
      {"at the start of a 404",
       [](const std::string& t) {
         return OpenAIError(404, t + " does not exist", "model",
                            "model_not_found");
       }},
      {"quoted in a 403",
       [](const std::string& t) {
         return Answer(
             403,
             {{"error",
               {{"message", "Your prompt was flagged: \"" + t + "\""},
                {"code", 403},
                {"metadata", {{"reasons", {"x"}}, {"flagged_input", t}}}}}});
       }},
      {"bare in a 403",
       [](const std::string& t) {
         return Answer(403, {{"error",
                              {{"message", "Your prompt " + t + " was flagged"},
                               {"code", 403}}}});
       }},
      {"quoted in a 500",
       [](const std::string& t) {
         return Answer(500, {{"error",
                              {{"message", "Failed at \"" + t + "\""},
                               {"type", "server_error"},
                               {"code", nullptr}}}});
       }},
      {"in no JSON",
       [](const std::string& t) {
         HttpResponse response = Answer(400, nullptr);
         response.body = "bad request: " + t;
         return response;
       }},
      {"in a detail",
       [](const std::string& t) {
         return Answer(400, {{"detail", "Value error, got " + t}});
       }},
      {"in a good answer",
       [](const std::string& t) {
         return Answer(200,
                       {{"id", "x"},
                        {"choices",
                         {{{"index", 0},
                           {"message", {{"role", "assistant"}, {"content", t}}},
                           {"finish_reason", "stop"}}}}});
       }},
  };
  const std::set<std::string> messages = Messages();
  REQUIRE(messages.size() > 250);
  for (const auto& [name, shape] : shapes) {
    for (const std::string& message : messages) {
      CAPTURE(name, message);
      CHECK_FALSE(Marks(shape(message)));
    }
  }
}

TEST_CASE("an error of a stream is judged with the status that it names",
          "[providers][event]") {
  const auto verdict = ClassifyEvent(
      "error",
      R"({"type":"error","status":429,"error":{"type":"usage_limit_reached",)"
      R"("message":"The usage limit has been reached",)"
      R"("resets_in_seconds":39600}})",
      system_clock::time_point());
  REQUIRE(verdict);
  CHECK(verdict->kind == VerdictKind::kQuotaExhausted);
  CHECK(verdict->retry_after == std::chrono::hours(11));
  // MiniMax and Zhipu, in the one event of a stream that is no stream.
  const auto kind = [](const char* data) {
    const auto event = ClassifyEvent("", data, system_clock::time_point());
    return event ? event->kind : VerdictKind::kOk;
  };
  CHECK(
      kind(R"({"base_resp":{"status_code":1002,"status_msg":"rate limit"}})") ==
      VerdictKind::kRateLimited);
  CHECK(kind(R"({"code":1113,"msg":"x","success":false})") ==
        VerdictKind::kQuotaExhausted);
}

TEST_CASE("a good answer that is shaped like an error is good", "[providers]") {
  for (const char* body :
       {R"({"base_resp":{"status_code":0,"status_msg":"success"}})",
        R"({"choices":[{"delta":{}}],"base_resp":{"status_code":1002}})",
        R"({"errors":[],"success":true,"result":{"response":"hi"}})",
        R"({"code":200,"msg":"ok","data":{}})",
        R"({"code":0,"msg":"ok","success":true})",
        R"({"error_code":0,"result":"hi"})",
        R"({"code":"print 1","message":"here is your program"})",
        R"({"data":[{"embedding":[1]}],"code":"x"})"}) {
    CAPTURE(body);
    HttpResponse response;
    response.status = 200;
    response.body = body;
    CHECK(Classify(response).kind == VerdictKind::kOk);
  }
}

}  // namespace
}  // namespace keyrotator::openai_providers_test
