// What a caller sees of a provider that fails: another attempt, an error it
// understands, or a connection that breaks; never an end that looks like one.

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/gateway/support.h"
#include "tests/support/catch.h"

namespace gateway::testing::faults_test {
namespace {

using namespace std::chrono_literals;
using keyrotator::testing::Fault;
using keyrotator::testing::RawConnection;
using keyrotator::testing::RawServer;
using Kind = Fault::Kind;

// Those that break an answer that has begun.
constexpr Kind kAmidAnswer[] = {Kind::kTruncated, Kind::kResetInBody,
                                Kind::kErrorIn200};

// What comes of a request that meets `fault`.
Answered AskUnder(const Fault& fault, FakeProvider& provider,
                  const RunningGateway& gateway, const std::string& body) {
  provider.Inject(fault);
  return Ask(gateway.port(), Post("/v1/chat/completions", body));
}

TEST_CASE("a fault before the answer is mended by another attempt",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  for (const std::string& body : {kChat, kStream}) {
    for (const Fault& fault :
         {Fault{.kind = Kind::kReset}, Fault{.kind = Kind::kNotHttp},
          Fault{.kind = Kind::kNotJson}, Fault{.status = 500},
          Fault{.status = 503}, Fault{.status = 529}, Fault{.status = 502}}) {
      INFO(static_cast<int>(fault.kind) << " " << fault.status << " " << body);
      const Answered answer = AskUnder(fault, provider, gateway, body);
      CHECK(answer.status == 200);
      CHECK(answer.whole);
      // A kept connection that dies unused is replaced by libcurl itself.
      const bool by_curl = fault.kind == Kind::kReset &&
                           answer.Header("x-keyrotator-attempts") == "1";
      if (!by_curl) CHECK(answer.Header("x-keyrotator-attempts") == "2");
    }
  }
  // And of a body that is judged whole.
  for (const Kind kind : kAmidAnswer) {
    INFO(static_cast<int>(kind));
    const Answered answer = AskUnder({.kind = kind}, provider, gateway, kChat);
    CHECK(answer.status == 200);
    CHECK(answer.Header("x-keyrotator-attempts") == "2");
  }
}

TEST_CASE("a stream that breaks off ends with an error event", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-secret-a", {}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-secret-a"})});
  for (const Kind kind : kAmidAnswer) {
    INFO(static_cast<int>(kind));
    const Answered answer =
        AskUnder({.kind = kind}, provider, gateway, kStream);
    CHECK(answer.status == 200);
    CHECK(answer.whole);
    CHECK(answer.body.starts_with("data: {\"choices\""));
    CHECK(answer.body.find("[DONE]") == std::string::npos);
    const std::size_t error = answer.body.find("\n\ndata: {\"error\":{");
    REQUIRE(error != std::string::npos);
    CHECK(answer.body.find("\n\n", error + 2) + 2 == answer.body.size());
    CHECK(answer.body.find("\"code\":\"stream_cut\"", error) !=
          std::string::npos);
    CHECK(answer.body.find("sk-secret-a") == std::string::npos);
  }
  const auto& metrics = gateway.state().providers()[0]->metrics;
  CHECK(metrics.ended[ProviderMetrics::kCut] == 3);
}

TEST_CASE("a file that breaks off breaks for the caller, too", "[gateway]") {
  for (const char* framing :
       {"Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"}) {
    INFO(framing);
    const bool chunked = framing[0] == 'T';
    RawServer provider([&](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write(
          std::string("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n") +
          framing + (chunked ? "3\r\nID3\r\n" : "ID3"));
    });
    RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})});
    Client client(gateway.port());
    client.Send(Get("/v1/files/f/content"));
    const Answered answer = client.Read();
    CHECK_FALSE(answer.whole);
    CHECK(client.IsClosed());
  }
}

TEST_CASE("a provider that cannot be reached is told as one", "[gateway]") {
  const keyrotator::testing::RefusingPort nobody;
  RunningGateway gateway({ProviderAt(nobody.origin() + "/v1", {"sk-a"})});
  const Answered answer =
      Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  CHECK(answer.status == 502);
  CHECK(answer.body.find("could not connect") != std::string::npos);
  CHECK(answer.Header("x-keyrotator-attempts") == "3");
}

TEST_CASE("a provider's own failure is passed on once retries are used up",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  const Answered answer =
      AskUnder({.status = 500, .times = 3}, provider, gateway, kChat);
  CHECK(answer.status == 500);
  CHECK(answer.body.find("The server had an error.") != std::string::npos);
  // And what is the caller's own fault at once, as it came.
  const Answered wrong =
      Ask(gateway.port(), Post("/v1/chat/completions", "no"));
  CHECK(wrong.status == 400);
  CHECK(wrong.Header("x-keyrotator-attempts") == "1");
}

TEST_CASE("a provider that falls silent is given up", "[gateway]") {
  Options options;
  options.limits.answer_timeout = 200ms;
  options.limits.answer_silence = 200ms;
  SECTION("before its answer") {
    RawServer provider([](RawConnection& peer) {
      peer.ReadRequest();
      peer.WaitUntilPeerLeaves();
    });
    RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})},
                           options);
    const Answered answer =
        Ask(gateway.port(), Post("/v1/chat/completions", kChat));
    CHECK(answer.status == 502);
    CHECK(answer.body.find("no answer within 200 ms") != std::string::npos);
  }
  SECTION("amid a stream, though it sends comments") {
    RawServer provider([](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
          "data: {\"choices\":[{\"delta\":{}}]}\n\n");
      while (peer.Drip(": still here\n\n", 5ms)) {
      }
    });
    RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})},
                           options);
    const Answered answer =
        Ask(gateway.port(), Post("/v1/chat/completions", kStream));
    CHECK(answer.whole);
    CHECK(answer.body.find("silence for 200 ms") != std::string::npos);
  }
  SECTION("after the end of a stream, which is no fault") {
    RawServer provider([](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
          "data: {\"choices\":[{\"delta\":{}}]}\n\ndata: [DONE]\n\n");
      peer.WaitUntilPeerLeaves();
    });
    RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})},
                           options);
    const Answered answer =
        Ask(gateway.port(), Post("/v1/chat/completions", kStream));
    CHECK(answer.whole);
    CHECK(answer.body.ends_with("data: [DONE]\n\n"));
  }
}

TEST_CASE("headers without end are an error, and so are answers before one",
          "[gateway]") {
  const bool interim = GENERATE(false, true);
  INFO("interim " << interim);
  RawServer provider([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(interim ? "" : "HTTP/1.1 200 OK\r\n");
    const std::string piece =
        interim ? "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
                : "X-More: " + std::string(1000, 'a') + "\r\n";
    while (peer.Write(piece)) {
    }
  });
  auto config = ProviderAt(provider.origin() + "/v1", {"sk-a"});
  config.retry.max_retries = 0;
  RunningGateway gateway({config});
  const Answered answer =
      Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  CHECK(answer.status == 502);
  CHECK(answer.body.find("its headers are above 256 KiB") != std::string::npos);
}

TEST_CASE("a flood of comments does not hold the silence back", "[gateway]") {
  Options options;
  options.limits.answer_silence = 200ms;
  RawServer provider([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{}}]}\n\n");
    std::string flood;
    while (flood.size() < 60'000) flood += ": still here\n\n";
    while (peer.Write(flood)) {
    }
  });
  RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})},
                         options);
  const Answered answer =
      Ask(gateway.port(), Post("/v1/chat/completions", kStream));
  CHECK(answer.whole);
  CHECK(answer.body.find("silence for 200 ms") != std::string::npos);
}

TEST_CASE(
    "what may not be sent twice is not, where a kept connection turns out to "
    "be dead",
    "[gateway]") {
  std::atomic<int> requests = 0;
  RawServer provider([&](RawConnection& peer) {
    if (peer.ReadRequest().empty()) return;
    ++requests;
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        "Content-Length: 2\r\n\r\n{}");
    // It takes the next one, and dies of it.
    if (peer.ReadRequest().empty()) return;
    ++requests;
    peer.Reset();
  });
  auto config = ProviderAt(provider.origin() + "/v1", {"sk-a"});
  const bool may = GENERATE(false, true);
  config.retry.retry_ambiguous = may;
  RunningGateway gateway({config});
  const auto ask = [&] {
    return Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  };
  CHECK(ask().status == 200);
  const Answered second = ask();
  CHECK(second.status == (may ? 200 : 502));
  CHECK(requests == (may ? 3 : 2));
}

TEST_CASE("a key goes to no proxy of the environment without TLS",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  const keyrotator::testing::RefusingPort proxy;
  setenv("http_proxy", proxy.origin().c_str(), 1);
  setenv("all_proxy", proxy.origin().c_str(), 1);
  {
    RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
    CHECK(Ask(gateway.port(), Get("/v1/models")).status == 200);
  }
  unsetenv("http_proxy");
  unsetenv("all_proxy");
}

TEST_CASE("a key that the provider echoes is not passed on", "[gateway]") {
  const std::string echo = "sk-secret-a";
  for (const int status : {200, 400, 500}) {
    for (const char* type : {"application/json", "audio/mpeg"}) {
      INFO(status << " " << type);
      RawServer provider([&](RawConnection& peer) {
        while (!peer.ReadRequest().empty()) {
          const std::string body =
              status == 200 ? "{}"
                            : "{\"error\":{\"message\":\"bad " + echo + "\"}}";
          peer.Write("HTTP/1.1 " + std::to_string(status) +
                     " X\r\nContent-Type: " + type + "\r\nX-Echo: Bearer " +
                     echo + "\r\nContent-Length: " +
                     std::to_string(body.size()) + "\r\n\r\n" + body);
        }
      });
      RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {echo})});
      const Answered answer =
          Ask(gateway.port(), Post("/v1/chat/completions", kChat));
      CHECK(answer.status == status);
      CHECK(answer.Header("X-Echo") == "Bearer [name-of-secret-a]");
      CHECK(answer.body.find(echo) == std::string::npos);
      CHECK(gateway.log().find(echo) == std::string::npos);
    }
  }
}

}  // namespace
}  // namespace gateway::testing::faults_test
