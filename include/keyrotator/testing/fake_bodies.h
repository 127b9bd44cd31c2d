// File: testing/fake_bodies.h
//
// What a fake provider reads and writes: the question in a request's body, the
// model's answer to it, and errors in each provider's form. For FakeBackend
// alone.
//
// Example:
//   namespace fake = keyrotator::testing::fake_internal;
//   const auto question = fake::ReadQuestion(
//       "POST", "/v1/chat/completions", R"({"model": "m", "stream": true})");
//   assert(fake::ChatPieces(question, "Hi").back() == "data: [DONE]\n\n");

#ifndef KEYROTATOR_TESTING_FAKE_BODIES_H_
#define KEYROTATOR_TESTING_FAKE_BODIES_H_

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/testing/fake_endpoints.h"
#include "keyrotator/testing/fake_options.h"

namespace keyrotator::testing::fake_internal {

using Json = nlohmann::json;

// ---- The question ----

// What a model was asked for, as far as it matters here.
struct FakeQuestion {
  FakeApi api = FakeApi::kUnknown;
  std::string model = {};
  bool asks_model = false;  // so that it is limited
  bool stream = false;
  bool include_usage = false;
  double tokens = 0;  // what it costs, see kDefaultTokens
  bool valid = true;  // whether the body is an object, or a form, with a model
  std::string tool = {};  // the one to call instead of an answer; empty: none
  std::string last_part = {};  // of the path, with %2F as it came
  std::size_t size = 0;        // of the body
  Json body = {};              // if it is JSON
};

// A request costs what it allows the answer to have: its max_tokens,
// max_completion_tokens or max_output_tokens; without them, this. The prompt
// costs nothing, so that a test can count.
inline constexpr double kDefaultTokens = 16;

// The tool that a model would call: the first, unless it was called already.
inline std::string ToolToCall(const Json& body) {
  const Json tools = body.value("tools", Json());
  const Json messages = body.value("messages", Json());
  if (!tools.is_array() || tools.empty() ||
      body.value("tool_choice", Json()) == "none")
    return {};
  if (messages.is_array() && !messages.empty() &&
      messages.back().value("role", "") == "tool")
    return {};
  const Json function = tools[0].value("function", Json());
  return function.is_object() ? function.value("name", "") : "";
}

inline FakeQuestion ReadQuestion(std::string_view method, std::string_view path,
                                 std::string_view body,
                                 std::string_view content_type = {}) {
  const FakeEndpoint endpoint = FindEndpoint(method, path);
  FakeQuestion question{
      .api = endpoint.api,
      .asks_model = endpoint.asks_model,
      .last_part = std::string(path.substr(path.rfind('/') + 1)),
      .size = body.size()};
  if (content_type.starts_with("multipart/")) {
    question.model = FormField(body, "model");
    question.stream = FormField(body, "stream") == "true";
    question.valid = !endpoint.needs_model || !question.model.empty();
  } else if (method == "POST" && endpoint.api != FakeApi::kUpload) {
    question.body = Json::parse(body, nullptr, false);
    const Json& json = question.body;
    const bool named =
        json.is_object() && json.contains("model") && json["model"].is_string();
    question.valid = named || (json.is_object() && !endpoint.needs_model);
    if (!question.valid || !named) return question;
    question.model = json["model"];
    question.stream = json.value("stream", Json()) == true;
    const Json options = json.value("stream_options", Json());
    question.include_usage =
        options.is_object() && options.value("include_usage", Json()) == true;
    question.tokens = kDefaultTokens;
    for (const char* name :
         {"max_tokens", "max_completion_tokens", "max_output_tokens"}) {
      const Json tokens = json.value(name, Json());
      if (tokens.is_number())
        question.tokens = std::max(0.0, tokens.get<double>());
    }
    if (question.api == FakeApi::kChat) question.tool = ToolToCall(json);
  }
  return question;
}

// ---- The answer ----

inline std::string ServerSentEvent(const Json& data,
                                   std::string_view name = {}) {
  std::string event;
  if (!name.empty()) event += "event: " + std::string(name) + "\n";
  return event + "data: " + data.dump() + "\n\n";
}

inline std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    words.back() += c;
    if (c == ' ') words.emplace_back();
  }
  return words;
}

// The answer of /chat/completions: one body, or the events of a stream.
inline std::vector<std::string> ChatPieces(const FakeQuestion& question,
                                           const std::string& text) {
  const std::vector<std::string> words = Words(text);
  const Json usage = {{"prompt_tokens", 1},
                      {"completion_tokens", words.size()},
                      {"total_tokens", words.size() + 1}};
  Json body = {{"id", "chatcmpl-fake"},
               {"object", "chat.completion"},
               {"created", 0},
               {"model", question.model}};
  const bool calls = !question.tool.empty();
  const char* const end = calls ? "tool_calls" : "stop";
  const Json call = {
      {{"index", 0},
       {"id", "call_fake"},
       {"type", "function"},
       {"function", {{"name", question.tool}, {"arguments", "{}"}}}}};
  if (!question.stream) {
    Json message = {{"role", "assistant"},
                    {"content", calls ? Json() : Json(text)}};
    if (calls) message["tool_calls"] = call;
    body["choices"] = {
        {{"index", 0}, {"message", message}, {"finish_reason", end}}};
    body["usage"] = usage;
    return {body.dump()};
  }
  body["object"] = "chat.completion.chunk";
  std::vector<std::string> pieces;
  const auto add = [&](const Json& delta, const Json& finish_reason) {
    body["choices"] = {
        {{"index", 0}, {"delta", delta}, {"finish_reason", finish_reason}}};
    pieces.push_back(ServerSentEvent(body));
  };
  add({{"role", "assistant"}, {"content", ""}}, nullptr);
  if (calls) {
    add({{"tool_calls", call}}, nullptr);
  } else {
    for (const std::string& word : words) add({{"content", word}}, nullptr);
  }
  add(Json::object(), end);
  if (question.include_usage) {
    body["choices"] = Json::array();
    body["usage"] = usage;
    pieces.push_back(ServerSentEvent(body));
  }
  pieces.emplace_back("data: [DONE]\n\n");
  return pieces;
}

// The same of /responses.
inline std::vector<std::string> ResponsesPieces(const FakeQuestion& question,
                                                const std::string& text) {
  const std::vector<std::string> words = Words(text);
  Json body = {{"id", "resp_fake"},       {"object", "response"},
               {"status", "in_progress"}, {"error", nullptr},
               {"model", question.model}, {"output", Json::array()}};
  std::vector<std::string> pieces;
  const auto add = [&](const std::string& type, Json event) {
    event["type"] = type;
    pieces.push_back(ServerSentEvent(event, type));
  };
  add("response.created", {{"response", body}});
  for (const std::string& word : words)
    add("response.output_text.delta", {{"delta", word}});
  body["status"] = "completed";
  body["usage"] = {{"input_tokens", 1}, {"output_tokens", words.size()}};
  body["output"] = {{{"type", "message"},
                     {"role", "assistant"},
                     {"content", {{{"type", "output_text"}, {"text", text}}}}}};
  if (!question.stream) return {body.dump()};
  add("response.completed", {{"response", body}});
  return pieces;
}

// The answer of /models.
inline std::string ModelList(const std::map<std::string, FakeLimit>& models) {
  Json list = Json::array();
  for (const auto& [name, limit] : models)
    list.push_back({{"id", name}, {"object", "model"}});
  return Json({{"object", "list"}, {"data", list}}).dump();
}

// ---- Errors ----

// An error, before it is put into a provider's form.
struct FakeError {
  int status = 500;
  std::string code = {};  // OpenAI's
  std::string type = {};
  std::string message = {};
  double retry_after = 0;  // seconds; 0: no hint
};

inline std::string OpenAIError(const FakeError& error) {
  return Json({{"error",
                {{"message", error.message},
                 {"type", error.type},
                 {"param", nullptr},
                 {"code", error.code.empty() ? Json() : Json(error.code)}}}})
      .dump();
}

inline std::string AzureError(const FakeError& error) {
  const bool named = error.code == "insufficient_quota";
  return Json({{"error",
                {{"code", named ? error.code : std::to_string(error.status)},
                 {"message", error.message}}}})
      .dump();
}

inline std::string AnthropicError(const FakeError& error) {
  const int status = error.status;
  const char* const type = status == 401   ? "authentication_error"
                           : status == 403 ? "permission_error"
                           : status == 404 ? "not_found_error"
                           : status == 429 ? "rate_limit_error"
                           : status == 529 ? "overloaded_error"
                           : status >= 500 ? "api_error"
                                           : "invalid_request_error";
  return Json({{"type", "error"},
               {"error", {{"type", type}, {"message", error.message}}},
               {"request_id", "req_fake"}})
      .dump();
}

inline std::string GeminiError(const FakeError& error) {
  const int status = error.status;
  const char* const word = status == 403   ? "PERMISSION_DENIED"
                           : status == 404 ? "NOT_FOUND"
                           : status == 429 ? "RESOURCE_EXHAUSTED"
                           : status == 503 ? "UNAVAILABLE"
                           : status >= 500 ? "INTERNAL"
                                           : "INVALID_ARGUMENT";
  Json details = Json::array();
  if (error.code == "invalid_api_key") {
    details.push_back({{"@type", "type.googleapis.com/google.rpc.ErrorInfo"},
                       {"reason", "API_KEY_INVALID"}});
  }
  if (error.retry_after > 0) {
    char delay[32];
    std::snprintf(delay, sizeof(delay), "%.3fs", error.retry_after);
    details.push_back({{"@type", "type.googleapis.com/google.rpc.RetryInfo"},
                       {"retryDelay", delay}});
  }
  return Json::array({{{"error",
                        {{"code", status},
                         {"message", error.message},
                         {"status", word},
                         {"details", details}}}}})
      .dump();
}

inline std::string ErrorBody(ProviderStyle style, const FakeError& error) {
  switch (style) {
    case ProviderStyle::kOpenAI:
    case ProviderStyle::kSilent:
      break;
    case ProviderStyle::kAzure:
      return AzureError(error);
    case ProviderStyle::kAnthropic:
      return AnthropicError(error);
    case ProviderStyle::kGemini:
      return GeminiError(error);
  }
  return OpenAIError(error);
}

}  // namespace keyrotator::testing::fake_internal

#endif  // KEYROTATOR_TESTING_FAKE_BODIES_H_
