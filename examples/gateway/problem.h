// File: problem.h
//
// What the gateway says itself when it cannot pass an answer on, in OpenAI's
// form, so that the official SDKs understand it and wait by themselves: an
// answer, or, where a stream has begun, an event.
//
// Example:
//   gateway::Problem problem{.status = 404, .code = "not_found",
//                            .message = "There is no such page."};
//   gateway::ErrorBody(problem);
//   // {"error":{"message":"There is no such page.","type":...,"code":...}}

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_PROBLEM_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_PROBLEM_H_

#include <keyrotator/http/message.h>
#include <keyrotator/internal/utf8.h>
#include <keyrotator/openai/outcome.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace gateway {

struct Problem {
  int status = 500;
  std::string code = {};
  std::string message = {};
  // When it is worth trying again, if that is known.
  std::optional<std::chrono::milliseconds> retry_after = {};
  // Whether trying again is of any use without a change by somebody.
  bool should_retry = true;
};

// JSON text, in quotes; a byte that is not valid UTF-8 is written \xHH.
inline std::string Quoted(std::string_view text) {
  return nlohmann::json(keyrotator::internal::Printable(
                            text, [](char32_t) { return true; }))
      .dump();
}

inline std::string ErrorBody(const Problem& problem) {
  const char* const type = problem.status == 429   ? "rate_limit_error"
                           : problem.status == 401 ? "authentication_error"
                           : problem.status >= 500 ? "gateway_error"
                                                   : "invalid_request_error";
  return std::string(R"({"error":{"message":)") + Quoted(problem.message) +
         R"(,"type":")" + type + R"(","param":null,"code":)" +
         Quoted(problem.code) + "}}";
}

// For a stream that broke off. Of no name, which all clients of chat
// completions and of responses read.
inline std::string ErrorEvent(const Problem& problem) {
  return "data: " + ErrorBody(problem) + "\n\n";
}

// The fields that go with it. The official SDKs wait for retry-after-ms, else
// for Retry-After, which is in whole seconds.
inline keyrotator::Headers ProblemHeaders(const Problem& problem) {
  keyrotator::Headers headers{{"Content-Type", "application/json"}};
  if (problem.retry_after) {
    const auto ms = std::max<std::chrono::milliseconds::rep>(
        problem.retry_after->count(), 1);
    headers.Add("Retry-After", std::to_string((ms + 999) / 1000));
    headers.Add("retry-after-ms", std::to_string(ms));
  }
  if (!problem.should_retry) headers.Add("x-should-retry", "false");
  return headers;
}

// What a request comes to that no key could serve. `message` is for people;
// `retry_in` is when a key is there again, if that is known.
inline Problem ProblemOf(keyrotator::Outcome outcome, std::string message,
                         std::optional<std::chrono::milliseconds> retry_in) {
  using keyrotator::Outcome;
  Problem problem{
      .status = 503, .message = std::move(message), .retry_after = retry_in};
  for (const char c : keyrotator::ToString(outcome))
    problem.code += c == ' ' ? '_' : c;
  switch (outcome) {
    case Outcome::kAllCooling:
      problem.status = 429;
      break;
    case Outcome::kDeadline:
      if (retry_in) problem.status = 429;
      break;
    case Outcome::kUnavailable:
    case Outcome::kCut:
      problem.status = 502;
      break;
    case Outcome::kBusy:
      if (!retry_in) problem.retry_after = std::chrono::seconds(1);
      break;
    case Outcome::kNoKeys:
    case Outcome::kAllFailed:
      problem.should_retry = false;
      break;
    case Outcome::kCallerError:
      problem.status = 400;
      problem.should_retry = false;
      break;
    default:
      break;
  }
  return problem;
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_PROBLEM_H_
