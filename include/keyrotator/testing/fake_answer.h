// File: testing/fake_answer.h
//
// FakeAnswer: what a fake provider sends back, as data, with all that goes
// wrong on the way. And how one is made: served, refused, or spoilt by a fault.
//
// Example:
//   namespace fake = keyrotator::testing::fake_internal;
//   const keyrotator::testing::FakeAnswer answer = fake::RateLimited(
//       keyrotator::testing::ProviderStyle::kOpenAI, 1.5, false);
//   assert(answer.status == 429);
//   assert(answer.headers.Find("retry-after-ms") == "1500");

#ifndef KEYROTATOR_TESTING_FAKE_ANSWER_H_
#define KEYROTATOR_TESTING_FAKE_ANSWER_H_

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/testing/fake_bodies.h"
#include "keyrotator/testing/fake_limits.h"
#include "keyrotator/testing/fake_options.h"

namespace keyrotator::testing {

// What comes back for one request, and how it ends.
struct FakeAnswer {
  enum class End {
    kWhole,
    kClosed,  // the connection is closed after the last piece
    kReset,   // it is reset after the last piece
  };
  int status = 0;  // 0: nothing that is HTTP comes back
  Headers headers = {};
  std::vector<std::string> pieces = {};  // of the body, as they arrive
  // Of the whole body, also if the pieces are less. A stream's is not
  // announced.
  std::size_t size = 0;
  bool stream = false;
  std::chrono::milliseconds delay{0};  // before the head
  std::chrono::milliseconds pause{0};  // before each piece but the first
  End end = End::kWhole;
  std::string not_http = {};  // what comes instead of HTTP
};

namespace fake_internal {

inline FakeAnswer MakeAnswer(int status, std::vector<std::string> pieces,
                             const std::string& type = "application/json") {
  FakeAnswer answer{.status = status,
                    .headers = {{"Content-Type", type}},
                    .pieces = std::move(pieces)};
  for (const std::string& piece : answer.pieces) answer.size += piece.size();
  return answer;
}

inline FakeAnswer Refused(ProviderStyle style, const FakeError& error) {
  return MakeAnswer(error.status, {ErrorBody(style, error)});
}

inline FakeAnswer Served(const FakeProviderOptions& options,
                         const FakeQuestion& question) {
  std::vector<std::string> pieces = {"{}"};
  std::string type = question.stream ? "text/event-stream" : "application/json";
  switch (question.api) {
    case FakeApi::kChat:
      pieces = ChatPieces(question, options.answer);
      break;
    case FakeApi::kResponses:
      pieces = ResponsesPieces(question, options.answer);
      break;
    case FakeApi::kEmbeddings:
      pieces = {EmbeddingsBody(question.body, question.model)};
      break;
    case FakeApi::kImages:
      pieces = {ImagesBody()};
      break;
    case FakeApi::kSpeech:
      pieces = {SpeechBody()};
      type = "audio/mpeg";
      break;
    case FakeApi::kTranscriptions:
      pieces = {Json({{"text", options.answer}}).dump()};
      break;
    case FakeApi::kModerations:
      pieces = {ModerationsBody(question.model)};
      break;
    case FakeApi::kUpload:
      pieces = {FileBody("file-fake", question.size)};
      break;
    case FakeApi::kFiles:
      pieces = {R"({"object":"list","has_more":false,"data":[)" +
                FileBody("file-fake", 0) + "]}"};
      break;
    case FakeApi::kFile:
      pieces = {FileBody(question.last_part, 0)};
      break;
    case FakeApi::kFileContent:
      pieces = {SpeechBody()};
      type = "application/octet-stream";
      break;
    case FakeApi::kDeleteFile:
      pieces = {Json({{"id", question.last_part},
                      {"object", "file"},
                      {"deleted", true}})
                    .dump()};
      break;
    case FakeApi::kModels:
      pieces = {ModelList(options.models)};
      break;
    case FakeApi::kModel:
      pieces = {Json({{"id", question.last_part}, {"object", "model"}}).dump()};
      break;
    case FakeApi::kUnknown:
      break;
  }
  FakeAnswer answer = MakeAnswer(200, std::move(pieces), type);
  answer.stream = question.stream;
  answer.pause = options.event_interval;
  return answer;
}

// A 429 that says, in the provider's way, that `wait` seconds are left;
// infinity: that the request will never fit.
inline FakeAnswer RateLimited(ProviderStyle style, double wait,
                              bool by_tokens) {
  FakeError error{.status = 429,
                  .code = "rate_limit_exceeded",
                  .type = by_tokens ? "tokens" : "requests",
                  .message = "Rate limit reached."};
  if (!std::isfinite(wait)) {
    error.message = "Request too large for the limit.";
    return Refused(style, error);
  }
  if (style == ProviderStyle::kSilent) return Refused(style, error);

  error.retry_after = wait;
  const std::string seconds = Whole(std::ceil(wait));
  if (style == ProviderStyle::kAzure) {
    error.message += " Please retry after " + seconds + " seconds.";
  } else if (style != ProviderStyle::kAnthropic) {
    error.message += " Please try again in " + GoDuration(wait) + ".";
  }
  FakeAnswer answer = Refused(style, error);
  if (style == ProviderStyle::kGemini) return answer;
  answer.headers.Add("retry-after", seconds);
  if (style != ProviderStyle::kAnthropic) {
    answer.headers.Add("retry-after-ms", Whole(std::ceil(wait * 1e3 - 1e-6)));
  }
  return answer;
}

// What comes with a status that has nothing to do with the key.
inline FakeAnswer Failed(ProviderStyle style, int status) {
  if (status == 502 || status == 504) {  // a proxy speaks
    return MakeAnswer(status,
                      {"<html><head><title>" + std::to_string(status) +
                       "</title></head><body>Bad gateway</body></html>\n"},
                      "text/html");
  }
  const bool overloaded = status == 503 || status == 529;
  return Refused(
      style, {.status = status,
              .code = overloaded ? "overloaded" : "",
              .type = status >= 500 ? "server_error" : "invalid_request_error",
              .message = overloaded ? "The server is overloaded."
                                    : "The server had an error."});
}

// An answer that stops in the middle of its body, but after its first byte.
inline FakeAnswer Cut(FakeAnswer answer, FakeAnswer::End end) {
  std::size_t left = std::max<std::size_t>(answer.size / 2, 1);
  std::vector<std::string> kept;
  for (std::string& piece : answer.pieces) {
    if (left == 0) break;
    piece.resize(std::min(piece.size(), left));
    left -= piece.size();
    kept.push_back(std::move(piece));
  }
  answer.pieces = std::move(kept);
  answer.end = end;
  return answer;
}

inline FakeAnswer ErrorIn200(const FakeProviderOptions& options,
                             const FakeQuestion& question) {
  const std::string body = Failed(options.style, 500).pieces.front();
  if (!question.stream) return MakeAnswer(200, {body});
  FakeAnswer answer = Served(options, question);
  answer.pieces.resize((answer.pieces.size() + 1) / 2);
  const bool named = options.style == ProviderStyle::kAnthropic;
  answer.pieces.push_back((named ? "event: error\n" : "") + ("data: " + body) +
                          "\n\n");
  return answer;
}

inline FakeAnswer ByteByByte(FakeAnswer answer,
                             std::chrono::milliseconds pause) {
  std::vector<std::string> bytes;
  for (const std::string& piece : answer.pieces) {
    for (const char byte : piece) bytes.emplace_back(1, byte);
  }
  answer.pieces = std::move(bytes);
  answer.pause = pause;
  return answer;
}

// What a fault makes of an answer that would have been served.
inline FakeAnswer Spoilt(const FakeProviderOptions& options,
                         const FakeQuestion& question, const Fault& fault) {
  using End = FakeAnswer::End;
  FakeAnswer answer;
  switch (fault.kind) {
    case Fault::Kind::kStatus:
      answer = Failed(options.style, fault.status);
      break;
    case Fault::Kind::kReset:
      answer.end = End::kReset;
      break;
    case Fault::Kind::kResetInBody:
      answer = Cut(Served(options, question), End::kReset);
      break;
    case Fault::Kind::kTruncated:
      answer = Cut(Served(options, question), End::kClosed);
      break;
    case Fault::Kind::kErrorIn200:
      answer = ErrorIn200(options, question);
      break;
    case Fault::Kind::kNotJson:
      answer = Served(options, question);
      answer.pieces = {"\x01\xFF garbage }{ \n\n not what was asked for"};
      answer.size = answer.pieces.front().size();
      break;
    case Fault::Kind::kNotHttp:
      answer.end = End::kClosed;
      answer.not_http = "\x16\x03 this is not HTTP\r\n\r\n";
      break;
    case Fault::Kind::kSlow:
      answer = ByteByByte(Served(options, question), fault.pause);
      break;
  }
  answer.delay = fault.pause;
  for (const auto& [name, value] : fault.headers)
    answer.headers.Add(name, value);
  return answer;
}

}  // namespace fake_internal
}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTING_FAKE_ANSWER_H_
