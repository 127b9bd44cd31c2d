// What OpenAIClient promises, claimed once and run over each transport and real
// sockets. Waits are those of a manual clock that jumps; where sockets need
// real time it is short, and bounds on it are generous.

#include "keyrotator/openai/client.h"

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/raw_server.h"
#include "tests/support/rotator.h"

namespace keyrotator::openai_client_test {
namespace {

using namespace std::chrono_literals;
using testing::Chat;
using testing::Client;
using testing::FakeKeyState;
using testing::FakeProvider;
using testing::FakeRequest;
using testing::Fault;
using testing::kAnswerText;
using testing::Listener;
using testing::MakeTransport;
using testing::Pool;
using testing::ProviderStyle;
using testing::RawConnection;
using testing::RawServer;
using testing::Row;
using testing::Setup;
using testing::Trail;
using RealClock = std::chrono::steady_clock;

// What should take no time ends well before this, also on a busy machine; what
// waits where it should not does not.
constexpr auto kSoon = 2s;

// How long a function took.
template <class Function>
RealClock::duration Took(Function function) {
  const auto start = RealClock::now();
  function();
  return RealClock::now() - start;
}

// Answers a request with these bytes and closes.
RawServer::Script Once(std::string answer) {
  return [answer = std::move(answer)](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(answer);
  };
}

std::string Answer(std::string_view status, std::string_view type,
                   std::string_view body) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", status,
      type, body.size(), body);
}

// What the scripts of streams write.
constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
constexpr std::string_view kWord =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"},"
    "\"finish_reason\":null}]}\n\n";
constexpr std::string_view kEnd =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},"
    "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

// ---- That requests succeed ----

// The provider's own word on how many requests a key was sent.
TEMPLATE_TEST_CASE(
    "1,000 requests of 8 threads succeed though a key is revoked and one "
    "limited",
    "[client]", CurlTransport) {
  constexpr int kThreads = 8;
  constexpr int kRequests = 1'000;
  constexpr auto kWindow = 30ms;
  // A provider that is silent on limits makes the client learn them from 429s.
  FakeProvider provider({.keys = {{"sk-a", {}},
                                  {"sk-b", {.state = FakeKeyState::kRevoked}},
                                  {"sk-c", {.limit = {.requests = 10}}},
                                  {"sk-d", {}},
                                  {"sk-e", {}},
                                  {"sk-f", {}},
                                  {"sk-g", {}},
                                  {"sk-h", {}}},
                         .style = ProviderStyle::kSilent,
                         .latency = 1ms});
  KeyRotator rotator(Pool("ABCDEFGH"));
  ClientOptions options;
  options.retry.guess = {.initial = kWindow, .multiplier = 1, .max = kWindow};
  OpenAIClient client(provider.base_url(), rotator, MakeTransport<TestType>(),
                      options);

  std::atomic<int> sent = 0;
  std::atomic<int> succeeded = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        while (sent.fetch_add(1) < kRequests) {
          if (client.ChatCompletion(Chat()).ok()) ++succeeded;
        }
      });
    }
  }

  CHECK(succeeded == kRequests);
  CHECK(provider.Counts().served == kRequests);
  CHECK(provider.Counts("sk-b").requests >= 1);
  CHECK(provider.Counts("sk-b").requests <= kThreads);
  // Each thread may have one request on its way when the first is refused.
  int windows = 0;
  int most = 0;
  int in_window = 0;
  std::chrono::nanoseconds start{};
  for (const FakeRequest& request : provider.Log()) {
    if (request.key != "sk-c" || request.status != 429) continue;
    if (windows == 0 || request.at >= start + kWindow) {
      ++windows;
      start = request.at;
      in_window = 0;
    }
    most = std::max(most, ++in_window);
  }
  CHECK(windows >= 2);
  CHECK(most <= kThreads);
  for (const char* key : {"sk-a", "sk-d", "sk-e", "sk-f", "sk-g", "sk-h"}) {
    CHECK(provider.Counts(key).served > kRequests / 10);
  }
}

TEMPLATE_TEST_CASE("a revoked key gives way to another at once", "[client][S2]",
                   CurlTransport) {
  Setup<TestType> setup(
      {.keys = {{"sk-a", {.state = FakeKeyState::kRevoked}}, {"sk-b", {}}}},
      Pool("AB"));
  const auto start = setup.clock.now();
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.ok());
  CHECK(reply.message.empty());
  CHECK(Trail(reply) == "A 401, B 200");
  CHECK(setup.clock.now() == start);  // nobody waited
  CHECK(Row(setup.rotator, "A").state == KeyState::kFailed);
  for (int i = 0; i < 5; ++i) CHECK(setup.client.ChatCompletion(Chat()).ok());
  CHECK(setup.provider.Counts("sk-a").requests == 1);
}

TEMPLATE_TEST_CASE("a limited key gives way to another at once, by default",
                   "[client][S10]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}}}, Pool("AB"));
  setup.provider.Inject(
      {.status = 429, .key = "sk-a", .headers = {{"retry-after", "3600"}}});
  const auto start = setup.clock.now();
  CHECK(Trail(setup.client.ChatCompletion(Chat())) == "A 429, B 200");
  CHECK(setup.clock.now() == start);
  // The hint holds: an hour, and not longer.
  for (int i = 0; i < 4; ++i)
    CHECK(Trail(setup.client.ChatCompletion(Chat())) == "B 200");
  setup.clock.Advance(1h);
  CHECK(Trail(setup.client.ChatCompletion(Chat())) == "A 200");
}

TEMPLATE_TEST_CASE("no usable key is left untried", "[client][S11]",
                   CurlTransport) {
  using enum FakeKeyState;
  Setup<TestType> setup({.keys = {{"sk-a", {.state = kRevoked}},
                                  {"sk-b", {.state = kOutOfQuota}},
                                  {"sk-c", {.models = {"other"}}},
                                  {"sk-d", {.state = kRevoked}},
                                  {"sk-e", {}}}},
                        Pool("ABCDE"));
  const auto start = setup.clock.now();
  CHECK(Trail(setup.client.ChatCompletion(Chat())) ==
        "A 401, B 429, C 403, D 401, E 200");
  CHECK(setup.clock.now() == start);
}

TEMPLATE_TEST_CASE("a key without quota rests for an hour, for every model",
                   "[client]", CurlTransport) {
  Setup<TestType> setup(
      {.keys = {{"sk-a", {.state = FakeKeyState::kOutOfQuota}}, {"sk-b", {}}}},
      Pool("AB"));
  CHECK(Trail(setup.client.ChatCompletion(Chat())) == "A 429, B 200");
  for (int i = 0; i < 4; ++i)
    CHECK(Trail(setup.client.ChatCompletion(Chat("other"))) == "B 200");
  setup.provider.SetState("sk-a", FakeKeyState::kValid);
  setup.clock.Advance(1h);
  CHECK(setup.client.ChatCompletion(Chat()).ok());
  CHECK(setup.client.ChatCompletion(Chat()).ok());
  CHECK(setup.provider.Counts("sk-a").served >= 1);
}

TEMPLATE_TEST_CASE("a model that no key may use is denied by each once",
                   "[client]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {.models = {"other"}}},
                                  {"sk-b", {.models = {"other"}}}}},
                        Pool("AB"));
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.outcome == Outcome::kDenied);
  CHECK(Trail(reply) == "A 403, B 403");
  CHECK(reply.status == 403);
  CHECK(reply.message.find("give one of them access to gpt-4o") !=
        std::string::npos);
  CHECK(setup.client.ChatCompletion(Chat("other")).ok());
}

TEMPLATE_TEST_CASE("a failing provider is asked again with the same key",
                   "[client][S9]", CurlTransport) {
  const int status = GENERATE(500, 502, 503, 529);
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}}}, Pool("AB"));
  setup.provider.Inject({.status = status, .times = 2});
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.ok());
  CHECK(Trail(reply) == fmt::format("A {0}, A {0}, A 200", status));
  CHECK(reply.trail[1].at == 500ms);
  CHECK(reply.trail[2].at == 1500ms);
  CHECK(Row(setup.rotator, "A").state == KeyState::kAvailable);

  setup.provider.Inject({.status = status, .times = 3});
  const Reply failed = setup.client.ChatCompletion(Chat());
  CHECK(failed.outcome == Outcome::kUnavailable);
  CHECK(failed.trail.size() == 3);
  CHECK(failed.status == status);
  CHECK(failed.message.find("try again later") != std::string::npos);
}

TEMPLATE_TEST_CASE("clients of one rotator share its budget, and say so",
                   "[client][budget]", CurlTransport) {
  const bool stream = GENERATE(false, true);
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"), {},
                        {.retry_budget = {.ratio = 0, .per_second = 0.2}});
  OpenAIClient other(setup.provider.base_url(), setup.rotator,
                     MakeTransport<TestType>(), testing::Exact());
  const auto send = [&](auto& client) {
    return stream ? client.ChatCompletionStream(Chat("gpt-4o", true),
                                                [](const SseEvent&) {})
                  : client.ChatCompletion(Chat());
  };
  setup.provider.Inject({.status = 503, .times = 5});
  // Two retries are all there is.
  const Reply first = send(setup.client);
  CHECK(Trail(first) == "A 503, A 503, A 503");
  CHECK_FALSE(first.over_budget);
  const Reply second = send(other);
  CHECK(Trail(second) == "A 503");
  CHECK(second.outcome == Outcome::kUnavailable);
  CHECK(second.over_budget);
  CHECK(second.status == 503);
  CHECK_THAT(second.message, testing::ContainsSubstring("retry_budget"));
  CHECK(setup.rotator.RefusedRetries() == 1);
  setup.clock.Advance(11s);
  CHECK(Trail(send(other)) == "A 503, A 200");
}

TEMPLATE_TEST_CASE("a dropped connection is tried again", "[client][S15]",
                   CurlTransport) {
  const auto kind = GENERATE(Fault::Kind::kReset, Fault::Kind::kResetInBody,
                             Fault::Kind::kTruncated, Fault::Kind::kNotHttp);
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}}}, Pool("AB"));
  setup.provider.Inject({.kind = kind});
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.ok());
  CHECK(Trail(reply) == "A 0, A 200");
}

TEMPLATE_TEST_CASE("what may have been acted on is repeated only if allowed",
                   "[client]", CurlTransport) {
  ClientOptions options;
  options.retry.retry_ambiguous = false;
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}}}, Pool("AB"),
                        options);
  setup.provider.Inject({.kind = Fault::Kind::kReset});
  CHECK(setup.client.ChatCompletion(Chat()).outcome == Outcome::kUnavailable);
  setup.provider.Inject({.status = 500});
  CHECK(setup.client.ChatCompletion(Chat()).outcome == Outcome::kUnavailable);
  for (const int status : {401, 403, 429, 503, 529}) {
    INFO(status);
    setup.provider.Inject({.status = status});
    CHECK(setup.client.ChatCompletion(Chat()).ok());
    for (const char* key : {"sk-a", "sk-b"}) setup.rotator.Restore(key);
    setup.clock.Advance(1min);
  }
}

TEMPLATE_TEST_CASE("an error in a 200 is an error", "[client][S16]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  setup.provider.Inject({.kind = Fault::Kind::kErrorIn200, .times = 3});
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.outcome == Outcome::kUnavailable);
  CHECK(reply.verdict == VerdictKind::kTransient);
}

TEMPLATE_TEST_CASE("a request that is at fault costs no key and no retry",
                   "[client][P5]", CurlTransport) {
  const int status = GENERATE(400, 404, 413, 422);
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}}}, Pool("AB"));
  setup.provider.Inject({.status = status, .times = 9});
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.outcome == Outcome::kCallerError);
  CHECK(reply.status == status);
  CHECK(reply.trail.size() == 1);
  CHECK(setup.rotator.Available() == 2);
}

// ---- What is limited apart ----

TEMPLATE_TEST_CASE("a limit of one model leaves the others alone", "[client]",
                   CurlTransport) {
  // Silent: what is known comes from a 429.
  Setup<TestType> setup({.keys = {{"sk-a", {}}},
                         .style = ProviderStyle::kSilent,
                         .models = {{"small", {.requests = 1}}}},
                        Pool("A"));
  const CallOptions now{.deadline = 500ms};
  CHECK(setup.client.ChatCompletion(Chat("small"), now).ok());
  CHECK(setup.client.ChatCompletion(Chat("small"), now).outcome ==
        Outcome::kAllCooling);
  CHECK(setup.client.ChatCompletion(Chat("big"), now).ok());
  // A scope of the caller's choice goes before the model.
  CHECK(setup.client
            .ChatCompletion(Chat("big"), {.scope = "small", .deadline = 500ms})
            .outcome == Outcome::kAllCooling);
  CHECK(setup.provider.Counts("sk-a").requests == 3);
  // The call waits for the key's return if it may.
  setup.clock.Advance(1min);
  CHECK(setup.client.ChatCompletion(Chat("small"), now).ok());
}

TEMPLATE_TEST_CASE("the model is read where it stands and nowhere else",
                   "[client]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  setup.provider.Inject({.status = 429, .headers = {{"retry-after", "60"}}});
  const std::string body =
      R"({"messages":[{"role":"user","model":"x"}],"tools":{"model":"y"},)"
      R"("model":"mod\u0065l-1"})";
  CHECK_FALSE(setup.client.ChatCompletion(body, {.deadline = 0s}).ok());
  const KeyStatus row = Row(setup.rotator, "A");
  REQUIRE(row.scopes.size() == 1);
  CHECK(row.scopes[0].scope == "model-1");
  CHECK(setup.provider.Log()[0].model == "model-1");
}

TEMPLATE_TEST_CASE("keys of one organisation are limited together", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {.organization = "org"}},
                                  {"sk-b", {.organization = "org"}}},
                         .style = ProviderStyle::kSilent,
                         .organizations = {{"org", {.requests = 1}}}},
                        Pool("AB", "org"));
  const CallOptions now{.deadline = 500ms};
  CHECK(setup.client.ChatCompletion(Chat(), now).ok());
  const Reply reply = setup.client.ChatCompletion(Chat(), now);
  CHECK(reply.outcome == Outcome::kAllCooling);
  CHECK(reply.trail.size() == 1);  // the other key was not asked in vain
}

TEMPLATE_TEST_CASE("a key of which the provider said nothing is left rests",
                   "[client]", CurlTransport) {
  const auto style = GENERATE(ProviderStyle::kOpenAI, ProviderStyle::kAzure);
  Setup<TestType> setup(
      {.keys = {{"sk-a", {.limit = {.requests = 5, .tokens = 1'000}}},
                {"sk-b", {}}},
       .style = style},
      Pool("AB"));
  CHECK(setup.client.ChatCompletion(Chat()).ok());
  const KeyStatus row = Row(setup.rotator, "A");
  REQUIRE(row.scopes.size() == 1);
  CHECK(row.scopes[0].scope == "gpt-4o");
  CHECK(row.scopes[0].limits.requests.limit == 5.0);
  CHECK(row.scopes[0].limits.requests.remaining == 4.0);
  CHECK(row.scopes[0].limits.tokens.limit == 1'000.0);
  // Without a single 429: what was said is believed, to within a reserve.
  for (int i = 0; i < 20; ++i) CHECK(setup.client.ChatCompletion(Chat()).ok());
  const auto served = setup.provider.Counts("sk-a").served;
  CHECK(setup.provider.Counts("sk-a").requests == served);
  CHECK(served >= 3);
  CHECK(served <= 5);
  // Its limit is full again.
  setup.clock.Advance(1min);
  for (int i = 0; i < 20; ++i) CHECK(setup.client.ChatCompletion(Chat()).ok());
  CHECK(setup.provider.Counts("sk-a").served > served);
  CHECK(setup.provider.Counts().rate_limited == 0);
}

TEMPLATE_TEST_CASE("a call waits for a key that returns within its deadline",
                   "[client]", CurlTransport) {
  Setup<TestType> setup(
      {.keys = {{"sk-a", {.limit = {.requests = 1}}}},
       .style = GENERATE(ProviderStyle::kOpenAI, ProviderStyle::kGemini,
                         ProviderStyle::kAnthropic)},
      Pool("A"), {.retry = {.deadline = 2min}});
  const auto start = setup.clock.now();
  CHECK(setup.client.ChatCompletion(Chat()).ok());
  CHECK(setup.client.ChatCompletion(Chat()).ok());
  CHECK(setup.clock.now() - start > 59s);
  CHECK(setup.clock.now() - start < 62s);
}

TEMPLATE_TEST_CASE("a deadline that no key meets is told at once", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  setup.provider.Inject({.status = 429, .headers = {{"retry-after", "30"}}});
  const auto start = setup.clock.now();
  const Reply reply = setup.client.ChatCompletion(Chat(), {.deadline = 20s});
  CHECK(reply.outcome == Outcome::kAllCooling);
  CHECK(reply.status == 429);
  CHECK(setup.clock.now() == start);
  REQUIRE(reply.retry_in);
  CHECK(*reply.retry_in == 30s);
  INFO(reply.message);
  CHECK(reply.message.find("returns in 30") != std::string::npos);
}

TEMPLATE_TEST_CASE("a deadline of a call also bounds the answer", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}, .latency = 30s}, Pool("A"));
  Reply reply;
  const auto took = Took(
      [&] { reply = setup.client.ChatCompletion(Chat(), {.deadline = 50ms}); });
  CHECK(took < kSoon);
  CHECK(reply.outcome == Outcome::kUnavailable);
  CHECK(reply.trail.size() == 1);
  CHECK(reply.message.find("50 ms") != std::string::npos);
}

TEMPLATE_TEST_CASE("a deadline of a call bounds a stream up to its first event",
                   "[client]", CurlTransport) {
  // Nothing at all; life that is no event; an error without end, at which a
  // client that is asked for a stream would look for ever.
  const std::string begin = GENERATE(
      as<std::string>(), "", "HTTP/1.1 200 OK\r\n\r\n: ",
      "HTTP/1.1 500 Oops\r\nContent-Length: 99999\r\n\r\n{\"error\":\"");
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(begin);
    peer.Drip(std::string(begin.empty() ? 0 : 9'000, 'x'), 5ms);
    peer.WaitUntilPeerLeaves();
  });
  Client<TestType> pool(server.origin(), Pool("A"),
                        {.retry = {.max_retries = 0}});
  Reply reply;
  const auto took = Took([&] {
    reply = pool.client.ChatCompletionStream(Chat("m", true), Listener(),
                                             {.deadline = 50ms});
  });
  INFO(reply.message);
  CHECK(took < kSoon);
  CHECK(reply.outcome == Outcome::kUnavailable);
  if (reply.status == 0)
    CHECK(reply.message.find("no answer began within 50 ms") !=
          std::string::npos);
}

TEMPLATE_TEST_CASE("an answer is bounded by the request timeout", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}, .latency = 30s}, Pool("A"),
                        {.request_timeout = 50ms});
  Reply reply;
  const auto took = Took([&] { reply = setup.client.ChatCompletion(Chat()); });
  CHECK(took < kSoon);
  CHECK(reply.outcome == Outcome::kUnavailable);
  CHECK(reply.trail.size() == 3);
}

// ---- Stopping ----

// A clock that stands still and tells when someone begins to wait for it.
struct WaitedFor : ManualClock {
  explicit WaitedFor(std::function<void()> call) : on_wait(std::move(call)) {}
  bool AdvanceForWaiter(time_point) const { return on_wait(), false; }
  std::function<void()> on_wait;
};

TEMPLATE_TEST_CASE("a stop ends a call at any stage", "[client][S17]",
                   CurlTransport) {
  const std::string stage = GENERATE(as<std::string>(), "key", "backoff",
                                     "answer", "stream", "before");
  std::atomic<int> requests = 0;
  std::counting_semaphore<> reached(stage == "before" ? 1 : 0);
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    ++requests;
    if (stage == "backoff") {
      peer.Write(
          "HTTP/1.1 503 Unavailable\r\nRetry-After: 50\r\n"
          "Content-Length: 0\r\n\r\n");
      return;
    }
    if (stage == "stream") peer.Write(kStreamHead);
    reached.release();
    peer.WaitUntilPeerLeaves();
  });
  KeyRotator rotator(Pool("A"), {}, RoundRobin{},
                     WaitedFor([&] { reached.release(); }));
  // What would end the call without the stop.
  ClientOptions options;
  options.request_timeout = options.stream_idle_timeout = 20s;
  OpenAIClient client(server.origin(), rotator, MakeTransport<TestType>(),
                      options);
  if (stage == "key") rotator.MarkRateLimited("sk-a", 50s);

  std::stop_source stop;
  RealClock::time_point stopped;
  std::jthread stopper([&] {
    reached.acquire();
    stopped = RealClock::now();
    stop.request_stop();
  });
  if (stage == "before") stopper.join();
  const CallOptions call{.stop = stop.get_token()};
  const Reply reply = stage == "stream" ? client.ChatCompletionStream(
                                              Chat("m", true), Listener(), call)
                                        : client.ChatCompletion(Chat(), call);
  const auto returned = RealClock::now();
  if (stopper.joinable()) stopper.join();
  INFO(stage);
  CHECK(returned - stopped < kSoon);
  if (stage == "before") {  // nothing was sent, so there is no trace of it
    CHECK(reply.trail.empty());
    CHECK(Row(rotator, "A").picks == 0);
  }
  CHECK(reply.outcome == Outcome::kStopped);
  CHECK(requests == (stage == "key" || stage == "before" ? 0 : 1));
  CHECK(Row(rotator, "A").in_flight == 0);
}

// ---- Streams ----

TEMPLATE_TEST_CASE("a stream delivers each event once, without [DONE]",
                   "[client]", CurlTransport) {
  Setup<TestType> setup(
      {.keys = {{"sk-a", {.state = FakeKeyState::kRevoked}}, {"sk-b", {}}}},
      Pool("AB"));
  Listener listener;
  const Reply reply =
      setup.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  CHECK(reply.ok());
  CHECK(Trail(reply) == "A 401, B 200");
  CHECK(listener.text == kAnswerText);
  CHECK(listener.raw.find("[DONE]") == std::string::npos);
}

TEMPLATE_TEST_CASE("streams keep their connection", "[client][T3]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  for (int i = 0; i < 5; ++i) {
    Listener listener;
    CHECK(setup.client.ChatCompletionStream(Chat("m", true), std::ref(listener))
              .ok());
    CHECK(listener.text == kAnswerText);
  }
  CHECK(setup.provider.connections() == 1);
}

TEMPLATE_TEST_CASE("a stream that stays open after [DONE] is let go",
                   "[client][T3]", CurlTransport) {
  RawServer server([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        "data: {\"choices\":[]}\n\ndata: [DONE]\n\n");
    peer.WaitUntilPeerLeaves();
  });
  Client<TestType> pool(server.origin(), Pool("A"));
  Reply reply;
  const auto took = Took([&] {
    reply = pool.client.ChatCompletionStream(Chat("m", true), Listener());
  });
  CHECK(reply.ok());
  CHECK(took < 5s);  // the transports wait a second
}

TEMPLATE_TEST_CASE("a healthy stream is not cut by the request timeout",
                   "[client][S13]", CurlTransport) {
  // Eight events and more, so the whole takes at least 560 ms.
  Setup<TestType> setup({.keys = {{"sk-a", {}}}, .event_interval = 70ms},
                        Pool("A"), {.request_timeout = 100ms});
  Listener listener;
  const Reply reply = setup.client.ChatCompletionStream(
      Chat("m", true), std::ref(listener), {.deadline = 500ms});
  INFO(reply.message);
  CHECK(reply.ok());
  CHECK(listener.text == kAnswerText);
}

TEMPLATE_TEST_CASE("comments do not keep a stream alive", "[client]",
                   CurlTransport) {
  const bool begun = GENERATE(true, false);
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(kStreamHead);
    if (begun) peer.Write(kWord);
    while (peer.Write(": alive\n\n")) {
    }
  });
  Client<TestType> pool(server.origin(), Pool("A"),
                        {.stream_idle_timeout = 100ms});
  Listener listener;
  Reply reply;
  const auto took = Took([&] {
    reply =
        pool.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  });
  CHECK(took < kSoon);
  CHECK(reply.outcome == (begun ? Outcome::kCut : Outcome::kUnavailable));
  CHECK(reply.trail.size() == (begun ? 1 : 3));
  CHECK(listener.events == (begun ? 1 : 0));
  CHECK(reply.message.find("comments") != std::string::npos);
}

// What a client sent, as the server read it.
template <class Transport>
std::string Sent(ClientOptions options, const CallOptions& call = {}) {
  std::string request;
  RawServer server([&](RawConnection& peer) {
    request = peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  });
  Client<Transport> pool(server.origin(), Pool("A"), std::move(options));
  CHECK(pool.client.ChatCompletion(Chat(), call).ok());
  return internal::Lower(request);
}

// How often `part` is in `text`.
int Count(std::string_view text, std::string_view part) {
  int count = 0;
  for (auto at = text.find(part); at != text.npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

TEMPLATE_TEST_CASE(
    "the pool's key goes out instead of one that the caller gave", "[client]",
    CurlTransport) {
  const std::string name = GENERATE("Authorization", "aUTHORIZATION");
  const Headers own = {{name, "Bearer sk-mine"}, {name, "Bearer sk-mine"}};
  CAPTURE(name);
  SECTION("for all calls") {
    const std::string sent = Sent<TestType>({.headers = own});
    CHECK(Count(sent, "authorization:") == 1);
    CHECK(Count(sent, "authorization: bearer sk-a\r\n") == 1);
  }
  SECTION("for one call") {
    const std::string sent = Sent<TestType>({}, {.headers = own});
    CHECK(Count(sent, "authorization:") == 1);
    CHECK(Count(sent, "authorization: bearer sk-a\r\n") == 1);
  }
  SECTION("whatever the header is") {
    const std::string sent =
        Sent<TestType>({.auth_header = "api-key",
                        .auth_prefix = "",
                        .headers = {{"API-Key", "sk-mine"}, {name, "other"}}});
    CHECK(Count(sent, "api-key:") == 1);
    CHECK(Count(sent, "api-key: sk-a\r\n") == 1);
    CHECK(Count(sent, "authorization: other\r\n") == 1);
  }
}

TEMPLATE_TEST_CASE("a stream that falls silent is cut", "[client]",
                   CurlTransport) {
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(kStreamHead);
    peer.Write(kWord);
    peer.WaitUntilPeerLeaves();
  });
  Client<TestType> pool(server.origin(), Pool("A"),
                        {.stream_idle_timeout = 50ms});
  Listener listener;
  Reply reply;
  const auto took = Took([&] {
    reply =
        pool.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  });
  CHECK(took < kSoon);
  CHECK(reply.outcome == Outcome::kCut);
  CHECK(listener.text == "word");
}

TEMPLATE_TEST_CASE("a slow listener is no silence of the stream", "[client]",
                   CurlTransport) {
  RawServer server([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(kStreamHead);
    peer.Write(kWord);
    // More than is read at once, and no event.
    peer.Write(":" + std::string(256 << 10, ' ') + "\n\n");
    peer.Write(kEnd);
  });
  Client<TestType> pool(server.origin(), Pool("A"),
                        {.stream_idle_timeout = 100ms});
  // The listener makes a call of its own, which takes its time.
  Setup<TestType> other({.keys = {{"sk-a", {}}}, .latency = 200ms}, Pool("A"));
  Listener listener;
  const Reply reply = pool.client.ChatCompletionStream(
      Chat("m", true), [&](const SseEvent& event) {
        listener(event);
        if (listener.events == 1)
          CHECK(other.client.ChatCompletion(Chat()).ok());
      });
  INFO(reply.message);
  CHECK(reply.ok());
  CHECK(listener.text == "word");
  CHECK(listener.events == 2);
}

TEMPLATE_TEST_CASE("a stream cut before its first event is begun again",
                   "[client][P12]", CurlTransport) {
  std::atomic<int> connections = 0;
  RawServer server([&](RawConnection& peer) {
    const bool first = ++connections == 1;
    peer.ReadRequest();
    peer.Write(kStreamHead);
    peer.Write(": hello\n\n");
    if (first) return peer.Write(kWord.substr(0, 40)), peer.Reset();
    peer.Write(kWord);
    peer.Write(kEnd);
  });
  Client<TestType> pool(server.origin(), Pool("A"));
  Listener listener;
  const Reply reply =
      pool.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  INFO(reply.message);
  CHECK(reply.ok());
  CHECK(reply.trail.size() == 2);
  CHECK(listener.text == "word");
}

TEMPLATE_TEST_CASE("a stream cut after its first event is reported as cut",
                   "[client][P12]", CurlTransport) {
  RawServer server(Once(std::string(kStreamHead) + std::string(kWord)));
  Client<TestType> pool(server.origin(), Pool("AB"));
  Listener listener;
  const Reply reply =
      pool.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  CHECK(reply.outcome == Outcome::kCut);
  CHECK(reply.trail.size() == 1);
  CHECK(listener.text == "word");
  CHECK(reply.message.find("not sent again") != std::string::npos);
}

TEMPLATE_TEST_CASE("a stream answered with an error body is that error",
                   "[client][T12]", CurlTransport) {
  // A wrong type does not make a stream of it.
  const std::string type =
      GENERATE(as<std::string>(), "application/json", "text/event-stream");
  RawServer server(Once(Answer(
      "200 OK", type,
      R"({"error":{"message":"no","type":"server_error","code":null}})")));
  Client<TestType> pool(server.origin(), Pool("A"));
  Listener listener;
  const Reply reply =
      pool.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  CHECK(reply.outcome == Outcome::kUnavailable);
  CHECK(reply.trail.size() == 3);
  CHECK(listener.events == 0);
}

TEMPLATE_TEST_CASE("a listener ends the stream by false", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}, .event_interval = 1ms},
                        Pool("A"));
  int events = 0;
  const Reply reply = setup.client.ChatCompletionStream(
      Chat("m", true), [&](const SseEvent&) { return ++events < 3; });
  CHECK(reply.outcome == Outcome::kStopped);
  CHECK(events == 3);
  CHECK(reply.trail.size() == 1);
  CHECK(Row(setup.rotator, "A").state == KeyState::kAvailable);
}

TEMPLATE_TEST_CASE("what a listener throws comes out, and the key comes back",
                   "[client]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  const auto throws = [](const SseEvent&) {
    throw std::runtime_error("listener");
  };
  CHECK_THROWS_WITH(setup.client.ChatCompletionStream(Chat("m", true), throws),
                    "listener");
  CHECK(Row(setup.rotator, "A").in_flight == 0);
  CHECK(setup.client.ChatCompletion(Chat()).ok());
}

// ---- Other requests ----

TEMPLATE_TEST_CASE("a health check takes no turn, and what it learns counts",
                   "[client][S14]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}, {"sk-c", {}}}},
                        Pool("ABC"));
  CHECK(Trail(setup.client.ChatCompletion(Chat())) == "A 200");
  for (int i = 0; i < 4; ++i) CHECK(setup.client.Healthy());
  CHECK(Trail(setup.client.ChatCompletion(Chat())) == "B 200");
  CHECK(setup.provider.Counts().requests == 6);

  setup.provider.SetState("sk-a", FakeKeyState::kRevoked);
  CHECK(setup.client.Healthy());  // by another key
  CHECK(Row(setup.rotator, "A").state == KeyState::kFailed);
  for (const char* key : {"sk-b", "sk-c"})
    setup.provider.SetState(key, FakeKeyState::kRevoked);
  CHECK_FALSE(setup.client.Healthy());
  CHECK(setup.rotator.Available() == 0);
}

TEMPLATE_TEST_CASE("GET and POST reach any path", "[client]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}, .models = {{"m1", {}}}},
                        Pool("A"));
  const Reply models = setup.client.Models();
  CHECK(models.ok());
  CHECK(models.body.find("m1") != std::string::npos);
  CHECK(setup.client.Get("/models").body == models.body);
  CHECK(setup.client.Post("/responses", Chat()).ok());
  Listener listener;
  CHECK(setup.client.Stream("/responses", Chat("m", true), std::ref(listener))
            .ok());
  CHECK(listener.raw.find("response.completed") != std::string::npos);
  CHECK(setup.client.Get("/nothing").outcome == Outcome::kCallerError);
  CHECK(setup.client.Get("/nothing").status == 404);
  CHECK(setup.provider.Log()[2].path == "/v1/responses");
}

TEMPLATE_TEST_CASE("a request goes out as it was given", "[client]",
                   CurlTransport) {
  std::mutex mutex;
  std::string request;
  RawServer server([&](RawConnection& peer) {
    const std::string text = peer.ReadRequest();
    {
      const std::lock_guard lock(mutex);
      request = text;
    }
    peer.Write(Answer("200 OK", "application/json", R"({"choices":[]})"));
  });
  const auto has = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    return request.find(line) != std::string::npos;
  };
  const std::string body = "{\"model\" :\t\"m\"  }";
  {
    Client<TestType> pool(server.origin() + "/v1/", Pool("A"),
                          {.headers = {{"X-Every", "1"}}});
    CHECK(
        pool.client.ChatCompletion(body, {.headers = {{"X-Once", "2"}}}).ok());
  }
  CHECK(has("POST /v1/chat/completions HTTP/1.1\r\n"));
  CHECK(has("Authorization: Bearer sk-a\r\n"));
  CHECK(has("Content-Type: application/json\r\n"));
  CHECK(has("Accept: application/json, */*;q=0.5\r\n"));
  CHECK(has("X-Every: 1\r\n"));
  CHECK(has("X-Once: 2\r\n"));
  CHECK(has("\r\n\r\n" + body));

  // As Azure wants it: a header of its own, and a query in each URL.
  {
    Client<TestType> pool(server.origin() + "/openai/?api-version=1", Pool("A"),
                          {.auth_header = "api-key",
                           .auth_prefix = "",
                           .headers = {{"accept", "*/*"}}});
    CHECK(pool.client.ChatCompletion(body).ok());
    CHECK(has("POST /openai/chat/completions?api-version=1 HTTP/1.1\r\n"));
    CHECK(has("api-key: sk-a\r\n"));
    CHECK(has("accept: */*\r\n"));
    CHECK_FALSE(has("application/json\r\nAccept"));
    CHECK_FALSE(has("Accept: application"));
    CHECK_FALSE(has("Bearer"));
    CHECK(pool.client.Get("/a?b=c").ok());
    CHECK(has("GET /openai/a?b=c&api-version=1 HTTP/1.1\r\n"));
  }
}

TEMPLATE_TEST_CASE("a redirect is not followed", "[client]", CurlTransport) {
  FakeProvider elsewhere({.keys = {{"sk-a", {}}}});
  RawServer server(Once(
      "HTTP/1.1 307 Temporary Redirect\r\nLocation: " + elsewhere.base_url() +
      "/chat/completions\r\nContent-Length: 0\r\n\r\n"));
  Client<TestType> pool(server.origin(), Pool("A"));
  const Reply reply = pool.client.ChatCompletion(Chat());
  CHECK_FALSE(reply.ok());
  CHECK(reply.status == 307);
  CHECK_FALSE(reply.message.empty());
  CHECK(elsewhere.Counts().requests == 0);
}

TEMPLATE_TEST_CASE("eight threads share a client whatever fails", "[client]",
                   CurlTransport) {
  FakeProvider provider({.keys = {{"sk-a", {}}, {"sk-b", {}}, {"sk-c", {}}}});
  KeyRotator rotator(Pool("ABC"));
  ClientOptions options;
  options.retry.initial_backoff = 1ms;
  OpenAIClient client(provider.base_url(), rotator, MakeTransport<TestType>(),
                      options);
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 8; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 20; ++i) {
          if (thread == 0 && i % 4 == 0)
            provider.Inject({.kind = Fault::Kind::kReset});
          if (i % 2 == 0) {
            if (!client.ChatCompletion(Chat()).ok()) ++wrong;
            continue;
          }
          Listener listener;
          const Reply reply =
              client.ChatCompletionStream(Chat("m", true), std::ref(listener));
          if (!reply.ok() || listener.text != kAnswerText) ++wrong;
        }
      });
    }
  }
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace keyrotator::openai_client_test
