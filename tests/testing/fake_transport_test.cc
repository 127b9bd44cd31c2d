// A whole client over a provider without a socket, in one thread. No time
// passes but the clock's.

#include "keyrotator/testing/fake_transport.h"

#include <fmt/format.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/body_source.h"
#include "tests/support/catch.h"

namespace keyrotator::testing::testing_fake_transport_test {
namespace {

using namespace std::chrono_literals;
using Kind = Fault::Kind;

static_assert(internal::IsTransport<FakeTransport>);

const std::string kHello = R"({"model":"gpt"})";
const std::string kStream = R"({"model":"gpt","stream":true})";

// The keys "sk-a" and "sk-b", called A and B, and a client for them. A backoff
// is 0.5 s, then 1 s.
struct Program {
  explicit Program(FakeProviderOptions provider, ClientOptions options = {})
      : transport(std::move(provider), clock),
        client("https://fake.test/v1", rotator, transport,
               Exact(std::move(options))) {
    clock.AdvanceWhenWaiting();
  }
  static ClientOptions Exact(ClientOptions options) {
    options.retry.random = [] { return 0.0; };
    return options;
  }
  std::chrono::nanoseconds passed() const { return clock.now() - start; }

  ManualClock clock;
  const ManualClock::time_point start = clock.now();
  FakeTransport transport;
  KeyRotator<RoundRobin, ManualClock> rotator{
      {ApiKey("sk-a", {.name = "A"}), ApiKey("sk-b", {.name = "B"})},
      {},
      RoundRobin{},
      clock};
  OpenAIClient<FakeTransport, KeyRotator<RoundRobin, ManualClock>> client;
};

const std::map<std::string, FakeKey> kBothKeys = {{"sk-a", {}}, {"sk-b", {}}};
const std::map<std::string, FakeKey> kSecondKey = {{"sk-b", {}}};

// "A 429, B 200": the sends of a reply.
std::string Trail(const Reply& reply) {
  std::string text;
  for (const Attempt& attempt : reply.trail) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", attempt.key,
                        attempt.status);
  }
  return text;
}

// The word that an event of a stream adds to the answer.
std::string Word(const SseEvent& event) {
  return nlohmann::json::parse(event.data)["choices"][0]["delta"].value(
      "content", "");
}

TEST_CASE("a client is served, and the provider has seen what it sent",
          "[fake_transport]") {
  Program program({.keys = kBothKeys, .answer = "Hi there"});
  const Reply reply = program.client.ChatCompletion(kHello);
  CHECK(reply.ok());
  CHECK(reply.status == 200);
  CHECK(reply.headers.Find("content-type") == "application/json");
  CHECK(nlohmann::json::parse(reply.body)["choices"][0]["message"]["content"] ==
        "Hi there");
  CHECK(program.passed() == 0s);
  const auto log = program.transport.backend().Log();
  REQUIRE(log.size() == 1);
  CHECK(log[0].path == "/v1/chat/completions");
  CHECK(log[0].key == "sk-a");
  CHECK(log[0].model == "gpt");
  CHECK(log[0].at == program.start.time_since_epoch());
}

TEST_CASE("a revoked key is left at once, an exhausted one until it refills",
          "[fake_transport]") {
  Program program({.keys = {{"sk-a", {.state = FakeKeyState::kRevoked}},
                            {"sk-b", {.limit = {.requests = 1}}}}});
  CHECK(Trail(program.client.ChatCompletion(kHello)) == "A 401, B 200");
  CHECK(program.passed() == 0s);
  CHECK(Trail(program.client.ChatCompletion(kHello)) == "B 200");
  CHECK(std::chrono::ceil<std::chrono::milliseconds>(program.passed()) == 60s);
  CHECK(program.transport.backend().Counts("sk-a").requests == 1);
  CHECK(program.transport.backend().Counts("sk-b").rate_limited == 0);
}

TEST_CASE("a 429 is waited for as long as its Retry-After says",
          "[fake_transport]") {
  Program program({.keys = kSecondKey});
  program.rotator.MarkFailed("sk-a");
  program.transport.backend().Inject(
      {.status = 429, .headers = {{"Retry-After", "20"}}});
  CHECK(Trail(program.client.ChatCompletion(kHello)) == "B 429, B 200");
  CHECK(program.passed() == 20s);
  CHECK(program.transport.backend().Counts().faults == 1);
}

TEST_CASE("a stream is delivered in pieces, as the clock brings them",
          "[fake_transport]") {
  Program program({.keys = kBothKeys,
                   .answer = "Hi there",
                   .latency = 300ms,
                   .event_interval = 100ms});
  std::vector<std::pair<std::string, std::chrono::nanoseconds>> heard;
  const Reply reply =
      program.client.ChatCompletionStream(kStream, [&](const SseEvent& event) {
        heard.emplace_back(Word(event), program.passed());
      });
  CHECK(reply.ok());
  REQUIRE(heard.size() == 4);  // the role, two words, the end
  CHECK(heard[0] ==
        std::pair<std::string, std::chrono::nanoseconds>("", 300ms));
  CHECK(heard[1] ==
        std::pair<std::string, std::chrono::nanoseconds>("Hi ", 400ms));
  CHECK(heard[2] ==
        std::pair<std::string, std::chrono::nanoseconds>("there", 500ms));
}

TEST_CASE("a stream that breaks is cut, and not begun again",
          "[fake_transport]") {
  const auto kind = GENERATE(Kind::kTruncated, Kind::kResetInBody);
  Program program({.keys = kBothKeys});
  program.transport.backend().Inject({.kind = kind});
  int events = 0;
  const Reply reply = program.client.ChatCompletionStream(
      kStream, [&](const SseEvent&) { ++events; });
  CHECK(reply.outcome == Outcome::kCut);
  CHECK(events > 0);
  CHECK(program.transport.backend().Counts().requests == 1);
}

TEST_CASE("an answer that is lost is asked for again", "[fake_transport]") {
  const auto kind = GENERATE(Kind::kReset, Kind::kNotHttp, Kind::kResetInBody,
                             Kind::kTruncated);
  Program program({.keys = kBothKeys});
  program.transport.backend().Inject({.kind = kind});
  CHECK(Trail(program.client.ChatCompletion(kHello)) == "A 0, A 200");
  CHECK(program.passed() == 500ms);
}

TEST_CASE("what is slow is whole in the end", "[fake_transport]") {
  Program program({.keys = kBothKeys});
  const std::string whole = program.client.ChatCompletion(kHello).body;
  program.transport.backend().Inject({.kind = Kind::kSlow, .pause = 2ms});
  CHECK(program.client.ChatCompletion(kHello).body == whole);
  CHECK(program.passed() == 2ms * whole.size());
}

TEST_CASE("an answer that takes longer than its request may is a timeout",
          "[fake_transport]") {
  Program program({.keys = kBothKeys, .latency = 1h}, {.request_timeout = 10s});
  const Reply reply = program.client.ChatCompletion(kHello);
  CHECK(reply.outcome == Outcome::kUnavailable);
  CHECK(Trail(reply) == "A 0, A 0, A 0");
  CHECK_THAT(reply.message, ContainsSubstring("10000 ms"));
  CHECK(program.passed() == 3 * 10s + 500ms + 1s);
}

TEST_CASE("an answer that takes as long as its request may is served",
          "[fake_transport]") {
  Program program({.keys = kBothKeys, .latency = 10s},
                  {.request_timeout = 10s});
  CHECK(program.client.ChatCompletion(kHello).ok());
  CHECK(program.passed() == 10s);
}

TEST_CASE("bounds of a request that are not reached change nothing",
          "[fake_transport]") {
  const Span limit = GENERATE(Span(0s), Span(std::chrono::nanoseconds::max()));
  Program program({.keys = kBothKeys, .latency = 1h, .event_interval = 1h},
                  {.request_timeout = limit, .stream_idle_timeout = limit});
  CHECK(program.client.ChatCompletion(kHello).ok());
  CHECK(program.client.ChatCompletionStream(kStream, [](const SseEvent&) {})
            .ok());
}

TEST_CASE("a stream that stalls is cut after the longest silence it may have",
          "[fake_transport]") {
  Program program({.keys = kBothKeys, .event_interval = 10min},
                  {.stream_idle_timeout = 1min});
  int events = 0;
  const Reply reply = program.client.ChatCompletionStream(
      kStream, [&](const SseEvent&) { ++events; });
  CHECK(reply.outcome == Outcome::kCut);
  CHECK(events == 1);
  CHECK(program.passed() == 1min);
}

TEST_CASE("a stream's first event is bounded by the deadline, its end is not",
          "[fake_transport]") {
  Program program({.keys = kBothKeys, .latency = 1min, .event_interval = 1min},
                  {.retry = {.max_retries = 0}});
  const auto ask = [&](Span deadline) {
    return program.client
        .ChatCompletionStream(kStream, [](const SseEvent&) {},
                              {.deadline = deadline})
        .outcome;
  };
  CHECK(ask(50s) == Outcome::kUnavailable);
  CHECK(program.passed() == 50s);
  CHECK(ask(70s) == Outcome::kOk);
}

TEST_CASE("a stop is heard before the request and between pieces",
          "[fake_transport]") {
  Program program({.keys = kBothKeys});
  std::stop_source stop;
  const Reply reply = program.client.ChatCompletionStream(
      kStream, [&](const SseEvent&) { stop.request_stop(); },
      {.stop = stop.get_token()});
  CHECK(reply.outcome == Outcome::kStopped);
  CHECK(program.client.ChatCompletion(kHello, {.stop = stop.get_token()})
            .outcome == Outcome::kStopped);
  CHECK(program.transport.backend().Counts().requests == 1);
}

TEST_CASE("a body that comes from a source is read whole, for each send",
          "[fake_transport]") {
  Program program({.keys = kSecondKey});
  int opened = 0;
  CHECK(
      program.client
          .Post("/chat/completions", SourceOf(kHello, opened), {.scope = "gpt"})
          .ok());
  CHECK(opened == 2);
  const auto log = program.transport.backend().Log();
  REQUIRE(log.size() == 2);
  CHECK(log[0].model == "gpt");
  CHECK(log[1].model == "gpt");
  const Reply reply =
      program.client.Post("/chat/completions", SourceOf(kHello, opened, 99));
  CHECK(reply.outcome == Outcome::kCallerError);
  CHECK(program.transport.backend().Counts().requests == 2);
}

TEST_CASE("what no transport sends does not arrive", "[fake_transport]") {
  Program program({.keys = kBothKeys}, {.headers = {{"X-A", "1\r\nX-B: 2"}}});
  CHECK_FALSE(program.client.ChatCompletion(kHello).ok());
  CHECK(program.transport.backend().Counts().requests == 0);
}

TEST_CASE("what a listener throws comes out of the call", "[fake_transport]") {
  Program program({.keys = kBothKeys});
  CHECK_THROWS_WITH(
      program.client.ChatCompletionStream(
          kStream, [](const SseEvent&) { throw std::runtime_error("full"); }),
      "full");
  CHECK(program.client.ChatCompletion(kHello).ok());
}

}  // namespace
}  // namespace keyrotator::testing::testing_fake_transport_test
