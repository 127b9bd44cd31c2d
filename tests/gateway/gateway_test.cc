// The gateway over real sockets: what it passes on, by whom, and how it starts,
// changes and ends.

#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "keyrotator/config/keys_from.h"
#include "keyrotator/status/json.h"
#include "tests/gateway/support.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_directory.h"

namespace gateway::testing::gateway_test {
namespace {

using namespace std::chrono_literals;
using keyrotator::testing::FakeKeyState;
using keyrotator::testing::Fault;
using keyrotator::testing::RawConnection;
using keyrotator::testing::RawServer;

// What a server of ours answers, and what it was asked.
class Script {
 public:
  explicit Script(std::string answer)
      : server_([this, answer = std::move(answer)](RawConnection& peer) {
          std::string request;
          while (!(request = peer.ReadRequest()).empty()) {
            {
              const std::lock_guard lock(mutex_);
              requests_.push_back(request);
            }
            if (!peer.Write(answer)) return;
          }
        }) {}

  std::string base_url() const { return server_.origin() + "/v1"; }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;  // guarded by mutex_
  RawServer server_;
};

std::string Plain(std::string_view body,
                  std::string_view type = "application/json") {
  return "HTTP/1.1 200 OK\r\nContent-Type: " + std::string(type) +
         "\r\nX-Request-Id: r-1\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

TEST_CASE("dead, spent and limited keys are passed over unseen", "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-dead", {.state = FakeKeyState::kRevoked}},
                {"sk-spent", {.state = FakeKeyState::kOutOfQuota}},
                {"sk-limited", {.limit = {.requests = 2}}},
                {"sk-good", {}}}});
  RunningGateway gateway({ProviderAt(
      provider.base_url(), {"sk-dead", "sk-spent", "sk-limited", "sk-good"})});
  Client client(gateway.port());
  std::size_t attempts = 0;
  for (int i = 0; i < 20; ++i) {
    client.Send(Post("/v1/chat/completions", kChat));
    const Answered answer = client.Read();
    CHECK(answer.status == 200);
    CHECK(answer.body.find("Hello from the fake provider.") !=
          std::string::npos);
    CHECK(answer.Header("x-keyrotator-provider") == "main");
    const std::string key = answer.Header("x-keyrotator-key");
    CHECK((key == "name-of-limited" || key == "name-of-good"));
    attempts += static_cast<std::size_t>(
        std::atoi(answer.Header("x-keyrotator-attempts").c_str()));
  }
  CHECK(attempts == provider.Counts().requests);
  CHECK(provider.Counts().requests == 22);  // one each of the bad ones
  for (const char* secret : {"sk-dead", "sk-spent", "sk-good"})
    CHECK(gateway.log().find(secret) == std::string::npos);
}

TEST_CASE("what the provider sends arrives byte by byte", "[gateway]") {
  const std::string body = "{ \"a\" : 1.50,\r\n \"b\": \"\\u00e9\" }\n";
  Script provider(Plain(body));
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  const std::string sent = "{\"model\":\"m\" , \"x\":1e3 }";
  const Answered answer = Ask(
      gateway.port(),
      Post("/v1/x/y?q=%20&key=own", sent,
           "Content-Type: application/json;x=1\r\nAuthorization: Bearer own\r\n"
           "OpenAI-Beta: b\r\nX-Stainless-Lang: js\r\n"));
  CHECK(answer.body == body);
  CHECK(answer.Header("X-Request-Id") == "r-1");
  CHECK(answer.Header("Content-Length") == std::to_string(body.size()));
  REQUIRE(provider.requests().size() == 1);
  const std::string request = provider.requests()[0];
  CHECK(request.starts_with("POST /v1/x/y?q=%20 HTTP/1.1\r\n"));
  CHECK(request.ends_with("\r\n\r\n" + sent));
  for (const char* line :
       {"Authorization: Bearer sk-a\r\n", "OpenAI-Beta: b\r\n",
        "X-Stainless-Lang: js\r\n", "Content-Type: application/json;x=1\r\n"})
    CHECK(request.find(line) != request.npos);
  CHECK(request.find("own") == request.npos);
  CHECK(request.find("Host: localhost\r\n") == request.npos);
}

TEST_CASE("every method goes through, and what has no body has none",
          "[gateway]") {
  Script provider(
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
      "Content-Length: 2\r\n\r\n{}");
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  for (const char* method : {"GET", "DELETE", "PUT", "PATCH", "OPTIONS"}) {
    INFO(method);
    Client client(gateway.port());
    client.Send(std::string(method) +
                " /v1/files/f HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const Answered answer = client.Read();
    CHECK(answer.status == 200);
    CHECK(answer.body == "{}");
    CHECK(provider.requests().back().starts_with(std::string(method) + " "));
  }
}

TEST_CASE("HEAD is answered without a body, and with its length", "[gateway]") {
  Script provider(
      "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n"
      "Content-Length: 7777\r\n\r\n");
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  Client client(gateway.port());
  for (int i = 0; i < 2; ++i) {
    client.Send("HEAD /v1/files/f HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const Answered answer = client.Read(/*to_head=*/true);
    CHECK(answer.status == 200);
    CHECK(answer.Header("Content-Length") == "7777");
  }
}

TEST_CASE("an answer without a body is one", "[gateway]") {
  Script provider("HTTP/1.1 204 No Content\r\n\r\n");
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  Client client(gateway.port());
  for (int i = 0; i < 2; ++i) {
    client.Send("DELETE /v1/files/f HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const Answered answer = client.Read();
    CHECK(answer.status == 204);
    CHECK(answer.Header("Content-Length").empty());
  }
}

TEST_CASE("bytes that are no text go through both ways", "[gateway]") {
  std::string bytes;
  for (int i = 0; i < 100'000; ++i) bytes += static_cast<char>(i * 7);
  Script provider(Plain(bytes, "audio/mpeg"));
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  const Answered answer = Ask(
      gateway.port(),
      Post("/v1/audio", bytes, "Content-Type: application/octet-stream\r\n"));
  CHECK(answer.whole);
  CHECK(answer.body == bytes);
  CHECK(provider.requests()[0].ends_with(bytes));
}

TEST_CASE("a body in chunks arrives as one", "[gateway]") {
  Script provider(Plain("{}"));
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  Client client(gateway.port());
  client.Send(
      "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n");
  client.Send("4\r\ndefg\r\n0\r\n\r\n");
  CHECK(client.Read().status == 200);
  const std::string request = provider.requests()[0];
  CHECK(request.ends_with("\r\n\r\nabcdefg"));
  CHECK(request.find("Content-Length: 7\r\n") != request.npos);
}

TEST_CASE("a caller that waits to be told to go on is told", "[gateway]") {
  Script provider(Plain("{}"));
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  Client client(gateway.port());
  client.Send(
      "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: "
      "100-continue\r\nContent-Length: 3\r\n\r\n");
  CHECK(client.ReadUntil("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send("abc");
  CHECK(client.Read().status == 200);
}

TEST_CASE("requests that come at once are answered in order", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  Client client(gateway.port());
  std::string all;
  for (int i = 0; i < 20; ++i)
    all += i % 2 == 0 ? Post("/v1/chat/completions", kChat) : Get("/healthz");
  client.Send(all);
  for (int i = 0; i < 20; ++i) {
    const Answered answer = client.Read();
    CHECK(answer.status == 200);
    CHECK((answer.body == "ok\n") == (i % 2 == 1));
  }
}

TEST_CASE("HTTP/1.0 is answered, and the connection ends", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  Client client(gateway.port());
  client.Send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " +
              std::to_string(kStream.size()) + "\r\n\r\n" + kStream);
  const Answered answer = client.Read();
  CHECK(answer.status == 200);
  CHECK(answer.headers.Find("Transfer-Encoding") == std::nullopt);
  CHECK(answer.body.ends_with("data: [DONE]\n\n"));
  CHECK(client.IsClosed());
}

TEST_CASE("a large body goes on to another key while it is kept", "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-dead", {.state = FakeKeyState::kRevoked}},
                {"sk-good", {}}}});
  RunningGateway gateway(
      {ProviderAt(provider.base_url(), {"sk-dead", "sk-good"})});
  const std::string picture =
      R"({"model": "gpt-4o", "messages": [{"content": ")" +
      std::string(5 << 20, 'p') + "\"}]}";
  const Answered answer =
      Ask(gateway.port(), Post("/v1/chat/completions", picture));
  CHECK(answer.status == 200);
  CHECK(answer.Header("x-keyrotator-attempts") == "2");
  CHECK(provider.Log().back().model == "gpt-4o");
  CHECK(Eventually([&] { return gateway.state().kept_bytes == 0; }));
}

TEST_CASE(
    "a body too large to be kept goes through once, and says so if the "
    "key was refused",
    "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-dead", {.state = FakeKeyState::kRevoked}},
                {"sk-good", {}}}});
  Options options;
  options.limits.kept_bytes = 100'000;
  RunningGateway gateway(
      {ProviderAt(provider.base_url(), {"sk-dead", "sk-good"})}, options);
  const std::string picture =
      R"({"model": "gpt-4o", "messages": [{"content": ")" +
      std::string(3 << 20, 'p') + "\"}]}";
  const Answered refused =
      Ask(gateway.port(), Post("/v1/chat/completions", picture));
  CHECK(refused.status == 503);
  CHECK(refused.body.find("body_spent") != std::string::npos);
  for (const bool chunked : {false, true}) {
    INFO(chunked);
    Client client(gateway.port());
    if (!chunked) {
      client.Send(Post("/v1/chat/completions", picture));
    } else {
      client.Send(
          "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
          "Content-Type: application/json\r\nTransfer-Encoding: "
          "chunked\r\n\r\n");
      for (std::size_t at = 0; at < picture.size(); at += 65536) {
        const std::string piece = picture.substr(at, 65536);
        char size[20];
        std::snprintf(size, sizeof(size), "%zx\r\n", piece.size());
        client.Send(size + piece + "\r\n");
      }
      client.Send("0\r\n\r\n");
    }
    const Answered served = client.Read();
    CHECK(served.status == 200);
    CHECK(served.Header("x-keyrotator-key") == "name-of-good");
    CHECK(provider.Log().back().model == "gpt-4o");
  }
}

TEST_CASE("a stream's events come when they are sent", "[gateway]") {
  std::binary_semaphore go(0);
  RawServer provider([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{}}]}\n\n");
    go.acquire();
    peer.Write(": comment\n\ndata: [DONE]\n\n");
  });
  RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})});
  Client client(gateway.port());
  client.Send(Post("/v1/chat/completions", kStream));
  const Answered head = client.ReadHead();
  CHECK(head.status == 200);
  CHECK(head.Header("Content-Type") == "text/event-stream");
  CHECK(head.Header("x-keyrotator-key") == "name-of-a");
  const std::string first = client.ReadUntil("}\n\n\r\n");
  CHECK(first.ends_with("data: {\"choices\":[{\"delta\":{}}]}\n\n\r\n"));
  go.release();
  const std::string rest = client.ReadUntil("0\r\n\r\n");
  CHECK(rest.find(": comment\n\n") != rest.npos);
  CHECK(rest.find("data: [DONE]\n\n") != rest.npos);
  CHECK(rest.ends_with("0\r\n\r\n"));
}

TEST_CASE("a caller that reads slowly slows the provider down", "[gateway]") {
  constexpr std::size_t kSize = 40 << 20;
  std::binary_semaphore all_sent(0);
  RawServer provider([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n"
        "Content-Length: " +
        std::to_string(kSize) + "\r\n\r\n");
    if (peer.Write(std::string(kSize, 'a'))) all_sent.release();
  });
  RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})});
  Client client(gateway.port());
  client.Send(Get("/v1/files/f/content"));
  Answered answer = client.ReadHead();
  CHECK(answer.status == 200);
  // It does not come to an end for want of room: without a bound it takes a few
  // milliseconds.
  CHECK_FALSE(all_sent.try_acquire_for(1s));
  client.ReadBody(answer);
  CHECK(answer.whole);
  CHECK(answer.body.size() == kSize);
  CHECK(all_sent.try_acquire_for(kPatience));
}

TEST_CASE("providers are chosen by model, by path, else the first",
          "[gateway]") {
  Script first(Plain(R"({"object":"list","data":[{"id":"gpt-4o","x": 1}]})"));
  Script second(Plain(R"({"data":[{"id":"llama-3"},{"id":"gpt-4o"}]})"));
  ProviderConfig groq = ProviderAt(second.base_url(), {"sk-b"}, "groq");
  groq.models = {"llama-*"};
  RunningGateway gateway({ProviderAt(first.base_url(), {"sk-a"}), groq});
  const auto count = [&](std::string_view request) {
    const auto before = second.requests().size();
    CHECK(Ask(gateway.port(), request).status == 200);
    return second.requests().size() - before;
  };
  CHECK(count(Post("/v1/chat/completions", R"({"model":"llama-3"})")) == 1);
  CHECK(count(Post("/v1/chat/completions", R"({"model":"gpt-4o"})")) == 0);
  CHECK(count(Get("/v1/files")) == 0);
  CHECK(count(Get("/v1/models/llama-3")) == 1);
  CHECK(count(Get("/groq/v1/files")) == 1);
  CHECK(second.requests().back().starts_with("GET /v1/files HTTP"));
  CHECK(count(Get("/main/v1/files")) == 0);
  CHECK(Ask(gateway.port(), Get("/nobody/v1/files")).status == 404);

  const Answered models = Ask(gateway.port(), Get("/v1/models"));
  CHECK(
      models.body ==
      R"({"object":"list","data":[{"id":"gpt-4o","x": 1},{"id":"llama-3"}]})");
}

TEST_CASE("the models of those that answer are listed", "[gateway]") {
  FakeProvider good({.keys = {{"sk-a", {}}}, .models = {{"gpt-4o", {}}}});
  FakeProvider bad({.keys = {}});
  RunningGateway gateway({ProviderAt(bad.base_url(), {"sk-b"}, "bad"),
                          ProviderAt(good.base_url(), {"sk-a"}, "good")});
  const Answered answer = Ask(gateway.port(), Get("/v1/models"));
  CHECK(answer.status == 200);
  CHECK(answer.body.find("gpt-4o") != std::string::npos);
  CHECK(answer.Header("x-keyrotator-missing") == "bad");
  good.SetState("sk-a", FakeKeyState::kRevoked);
  const Answered none = Ask(gateway.port(), Get("/v1/models"));
  CHECK(none.status == 503);
}

TEST_CASE("a list of models without end is left out", "[gateway]") {
  RawServer endless([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        "{\"data\":[");
    const std::string piece(1 << 16, ' ');
    while (peer.Write(piece)) {
    }
  });
  FakeProvider good({.keys = {{"sk-a", {}}}, .models = {{"gpt-4o", {}}}});
  RunningGateway gateway(
      {ProviderAt(endless.origin() + "/v1", {"sk-b"}, "endless"),
       ProviderAt(good.base_url(), {"sk-a"}, "good")});
  const Answered answer = Ask(gateway.port(), Get("/v1/models"));
  CHECK(answer.status == 200);
  CHECK(answer.body.find("gpt-4o") != std::string::npos);
  CHECK(answer.Header("x-keyrotator-missing") == "endless");
}

TEST_CASE("when no key can serve, the caller is told when to come back",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {.limit = {.requests = 1}}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  CHECK(Ask(gateway.port(), Post("/v1/chat/completions", kChat)).status == 200);
  const Answered answer =
      Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  CHECK(answer.status == 429);
  const int seconds = std::atoi(answer.Header("Retry-After").c_str());
  CHECK(seconds >= 50);
  CHECK(seconds <= 61);
  CHECK(std::atoi(answer.Header("retry-after-ms").c_str()) <= 1000 * seconds);
  CHECK(answer.body.find(R"("code":"all_keys_cooling")") != std::string::npos);

  FakeProvider dead({.keys = {}});
  RunningGateway other({ProviderAt(dead.base_url(), {"sk-b"})});
  const Answered failed =
      Ask(other.port(), Post("/v1/chat/completions", kChat));
  CHECK(failed.status == 503);
  CHECK(failed.Header("x-should-retry") == "false");
  CHECK(failed.Header("x-keyrotator-attempts") == "1");
  CHECK(Ask(other.port(), Get("/readyz")).status == 503);
  CHECK(failed.body.find("sk-b") == std::string::npos);
}

TEST_CASE("requests wait for a key that returns, or is free again",
          "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.requests = 2, .per = 200ms}}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  std::vector<std::thread> callers;
  std::vector<int> statuses(12);
  for (int& status : statuses) {
    callers.emplace_back([&status, port = gateway.port()] {
      status = Ask(port, Post("/v1/chat/completions", kChat)).status;
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(statuses == std::vector<int>(12, 200));
  const auto& metrics = gateway.state().providers()[0]->metrics;
  CHECK(metrics.waiting == 0);
  CHECK(Eventually([&] { return metrics.in_flight == 0; }));
}

TEST_CASE(
    "a caller that goes away ends the provider's work within 100 ms and "
    "marks nothing",
    "[gateway]") {
  std::binary_semaphore arrived(0);
  std::atomic<std::chrono::steady_clock::time_point> ended{};
  const bool begun = GENERATE(false, true);
  RawServer provider([&](RawConnection& peer) {
    peer.ReadRequest();
    if (begun)
      peer.Write(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
          "data: {\"choices\":[{\"delta\":{}}]}\n\n");
    arrived.release();
    peer.WaitUntilPeerLeaves();
    ended = std::chrono::steady_clock::now();
    arrived.release();
  });
  RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})});
  const bool reset = GENERATE(false, true);
  INFO("begun " << begun << ", reset " << reset);
  Client client(gateway.port());
  client.Send(Post("/v1/chat/completions", kStream));
  REQUIRE(arrived.try_acquire_for(kPatience));
  if (begun) CHECK(client.ReadHead().status == 200);
  const auto left = std::chrono::steady_clock::now();
  reset ? client.Reset() : client.Close();
  REQUIRE(arrived.try_acquire_for(kPatience));
  CHECK(ended.load() - left < 100ms);
  const auto& state = *gateway.state().providers()[0];
  CHECK(Eventually([&] { return state.metrics.in_flight == 0; }));
  const auto key = state.rotator.Snapshot()[0];
  CHECK(key.state == keyrotator::KeyState::kAvailable);
  CHECK(key.failures + key.rate_limits == 0);
  CHECK(key.in_flight == 0);
  CHECK(state.metrics.ended[ProviderMetrics::kGone] == 1);
  CHECK(Eventually([&] { return gateway.state().connections == 0; }));
}

TEST_CASE("a batch waits behind who came later and is in a hurry",
          "[gateway]") {
  std::binary_semaphore arrived(0), go(0);
  std::mutex mutex;
  std::vector<std::string> served;
  RawServer provider([&](RawConnection& peer) {
    for (std::string request; !(request = peer.ReadRequest()).empty();) {
      bool first = false;
      {
        const std::lock_guard lock(mutex);
        first = served.empty();
        served.push_back(request);
      }
      if (first) {
        arrived.release();
        static_cast<void>(go.try_acquire_for(kPatience));
      }
      if (!peer.Write(Plain("{}"))) return;
    }
  });
  auto config = ProviderAt(provider.origin() + "/v1", {"sk-a"});
  config.api_keys[0].options.max_in_flight = 1;
  RunningGateway gateway({config});
  const auto& metrics = gateway.state().providers()[0]->metrics;
  std::deque<Client> clients;
  const auto send = [&](const char* path, const char* more) {
    clients.emplace_back(gateway.port());
    clients.back().Send(Post(path, "{}", more));
  };
  send("/v1/first", "");
  REQUIRE(arrived.try_acquire_for(kPatience));
  send("/v1/batch", "x-keyrotator-priority: batch\r\n");
  REQUIRE(Eventually([&] { return metrics.waiting == 1; }));
  send("/v1/person", "x-keyrotator-priority: interactive\r\n");
  REQUIRE(Eventually([&] { return metrics.waiting == 2; }));
  go.release();
  for (Client& client : clients) CHECK(client.Read().status == 200);
  REQUIRE(served.size() == 3);
  CHECK(served[1].starts_with("POST /v1/person "));
  CHECK(served[2].starts_with("POST /v1/batch "));
  for (const std::string& request : served)
    CHECK(request.find("x-keyrotator") == request.npos);
  CHECK(Eventually([&] {
    return gateway.log().find(R"("priority":"batch")") != std::string::npos;
  }));

  const Answered wrong =
      Ask(gateway.port(), Get("/v1/x", "x-keyrotator-priority: low\r\n"));
  CHECK(wrong.status == 400);
  CHECK(wrong.body.find("interactive or batch") != std::string::npos);
  CHECK(served.size() == 3);
}

TEST_CASE("what the budget of retries cuts short says so, and is not retried",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  auto config = ProviderAt(provider.base_url(), {"sk-a"});
  config.retry_budget = keyrotator::RetryBudget{.ratio = 0, .per_second = 0};
  RunningGateway gateway({config});
  provider.Inject({.status = 503});
  const Answered failed =
      Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  CHECK(failed.status == 503);
  CHECK(failed.Header("x-keyrotator-attempts") == "1");
  CHECK(failed.Header("x-keyrotator-over-budget") == "true");
  CHECK(failed.Header("x-should-retry") == "false");
  // And where the provider said nothing that could be passed on.
  provider.Inject({.kind = Fault::Kind::kNotHttp});
  const Answered lost =
      Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  CHECK(lost.status == 502);
  CHECK(lost.Header("x-should-retry") == "false");
  CHECK(lost.body.find("it was not sent again") != std::string::npos);
  // What needs no retry is no matter of the budget.
  const Answered good =
      Ask(gateway.port(), Post("/v1/chat/completions", kChat));
  CHECK(good.status == 200);
  CHECK_FALSE(good.headers.Find("x-keyrotator-over-budget"));
  CHECK_FALSE(good.headers.Find("x-should-retry"));

  CHECK(Ask(gateway.port(), Get("/metrics"))
            .body.find("keyrotator_gateway_refused_retries_total{provider="
                       "\"main\"} 2\n") != std::string::npos);
  const auto status =
      nlohmann::json::parse(Ask(gateway.port(), Get("/status")).body);
  CHECK(status["providers"][0]["refused_retries"] == 2);
  CHECK(gateway.log().find(R"("over_budget":true)") != std::string::npos);
}

TEST_CASE("a caller that goes away while it waits for a key leaves the queue",
          "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.requests = 1, .per = 3s}}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})});
  CHECK(Ask(gateway.port(), Post("/v1/chat/completions", kChat)).status == 200);
  const auto& metrics = gateway.state().providers()[0]->metrics;
  {
    Client client(gateway.port());
    client.Send(Post("/v1/chat/completions", kChat));
    REQUIRE(Eventually([&] { return metrics.waiting == 1; }));
  }
  CHECK(Eventually([&] { return metrics.in_flight == 0; }));
  CHECK(metrics.waiting == 0);
}

TEST_CASE("at its end it takes no new requests and lets those go on that run",
          "[gateway]") {
  std::binary_semaphore arrived(0), go(0);
  RawServer provider([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{}}]}\n\n");
    arrived.release();
    go.acquire();
    peer.Write("data: [DONE]\n\n");
  });
  RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})});
  Client client(gateway.port());
  client.Send(Post("/v1/chat/completions", kStream));
  Client idle(gateway.port());
  idle.Send(Get("/readyz"));
  CHECK(idle.Read().status == 200);
  REQUIRE(arrived.try_acquire_for(kPatience));
  gateway.server().Drain();
  CHECK(idle.IsClosed());
  CHECK(Client(gateway.port()).IsClosed());
  go.release();
  const Answered answer = client.Read();
  CHECK(answer.whole);
  CHECK(answer.body.ends_with("data: [DONE]\n\n"));
  gateway.Join();
  CHECK(gateway.log().find("\"stopped\"") != std::string::npos);
}

TEST_CASE("what runs for longer than it may ends with an error", "[gateway]") {
  std::counting_semaphore<4> arrived(0);
  RawServer provider([&](RawConnection& peer) {
    const std::string request = peer.ReadRequest();
    if (request.find("stream") != request.npos)
      peer.Write(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
          "data: {\"choices\":[{\"delta\":{}}]}\n\n");
    arrived.release();
    peer.WaitUntilPeerLeaves();
  });
  Options options;
  options.drain = 50ms;
  RunningGateway gateway({ProviderAt(provider.origin() + "/v1", {"sk-a"})},
                         options);
  Client stream(gateway.port()), whole(gateway.port());
  stream.Send(Post("/v1/chat/completions", kStream));
  whole.Send(Post("/v1/chat/completions", kChat));
  REQUIRE(arrived.try_acquire_for(kPatience));
  REQUIRE(arrived.try_acquire_for(kPatience));
  CHECK(stream.ReadHead().status == 200);
  gateway.server().Drain();
  const std::string rest = stream.ReadUntil("0\r\n\r\n");
  CHECK(rest.find("data: {\"error\":{") != rest.npos);
  CHECK(rest.find("shutting_down") != rest.npos);
  const Answered answer = whole.Read();
  CHECK(answer.status == 503);
  CHECK(answer.Header("Retry-After") == "1");
  gateway.Join();
}

TEST_CASE("keys are loaded again when their file changes, or when asked",
          "[gateway]") {
  const keyrotator::testing::TemporaryDirectory directory;
  const std::string file = (directory.path() / "keys").string();
  const auto write = [&](std::string_view keys) {
    std::ofstream(file + ".new") << keys;
    std::filesystem::permissions(file + ".new",
                                 std::filesystem::perms::owner_read);
    std::filesystem::rename(file + ".new", file);
  };
  write("sk-old\n");
  FakeProvider provider({.keys = {{"sk-new", {}}}});
  ProviderConfig config{.name = "main",
                        .base_url = provider.base_url(),
                        .api_keys = {{.key_file = file}}};
  RunningGateway gateway({config});
  CHECK(Ask(gateway.port(), Get("/v1/models")).status == 503);
  write("sk-new\n");
  SECTION("by itself") {}
  SECTION("on SIGHUP") { gateway.state().Reload(); }
  CHECK(Eventually(
      [&] { return Ask(gateway.port(), Get("/v1/models")).status == 200; }));
  // A file that is broken leaves the keys as they are, and is told.
  write("sk bad\n");
  gateway.state().Reload();
  CHECK(Ask(gateway.port(), Get("/v1/models")).status == 200);
  CHECK(gateway.log().find("reload_failed") != std::string::npos);
  CHECK(gateway.log().find("sk bad") == std::string::npos);
}

TEST_CASE("the pages say how it stands, without a secret", "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-dead", {.state = FakeKeyState::kRevoked}},
                {"sk-good", {}}}});
  RunningGateway gateway(
      {ProviderAt(provider.base_url(), {"sk-dead", "sk-good"})});
  CHECK(Ask(gateway.port(), Post("/v1/chat/completions", kChat)).status == 200);
  CHECK(Ask(gateway.port(), Get("/healthz")).body == "ok\n");
  CHECK(Ask(gateway.port(), Get("/readyz")).body == "ready\n");

  const Answered status = Ask(gateway.port(), Get("/status"));
  const auto json = nlohmann::json::parse(status.body);
  CHECK(json["providers"][0]["served"] == 1);
  CHECK(json["providers"][0]["attempts"] == 2);
  CHECK(json["providers"][0]["keys"][0]["state"] == "failed");

  const std::string metrics = Ask(gateway.port(), Get("/metrics")).body;
  for (const char* line :
       {"keyrotator_key_state{provider=\"main\",key=\"name-of-dead\",state="
        "\"failed\"} 1\n",
        "keyrotator_gateway_requests_total{provider=\"main\",end=\"2xx\"} 1\n",
        "keyrotator_gateway_attempts_total{provider=\"main\"} 2\n",
        "keyrotator_gateway_duration_seconds_count{provider=\"main\"} 1\n",
        "keyrotator_gateway_first_byte_seconds_bucket{provider=\"main\",le="
        "\"+Inf\"} 1\n"})
    CHECK(metrics.find(line) != metrics.npos);

  const Answered page = Ask(gateway.port(), Get("/"));
  CHECK(page.Header("Content-Type") == "text/html; charset=utf-8");
  CHECK(page.body.starts_with("<!doctype html>"));

  Client events(gateway.port());
  events.Send(Get("/events"));
  CHECK(events.ReadHead().Header("Content-Type") == "text/event-stream");
  const std::string first = events.ReadUntil("\n\n");
  CHECK(first.find("\"history\"") != first.npos);
  const std::string second = events.ReadUntil("\n\n");
  CHECK(second.find("data: {\"time\"") != second.npos);

  for (const std::string& text : {status.body, metrics, page.body, first}) {
    CHECK(text.find("sk-good") == text.npos);
    CHECK(text.find("sk-dead") == text.npos);
  }
  CHECK(Ask(gateway.port(), Get("/nothing")).status == 404);
  CHECK(Ask(gateway.port(), Post("/healthz", "")).status == 405);
}

TEST_CASE("keys are changed by hand with the admin token alone", "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-a", {.state = FakeKeyState::kRevoked}}}});
  Options options;
  options.admin_tokens = {"the-admin-token-1"};
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})}, options);
  CHECK(Ask(gateway.port(), Get("/v1/models")).status == 503);
  provider.SetState("sk-a", FakeKeyState::kValid);
  const auto ask = [&](const char* command, const char* token) {
    return Ask(gateway.port(),
               Post(command, "",
                    std::string("Authorization: Bearer ") + token + "\r\n"))
        .status;
  };
  const char* const restore = "/admin/restore?provider=main&key=name-of-a";
  CHECK(ask(restore, "wrong") == 403);
  CHECK(ask(restore, "") == 403);
  CHECK(Ask(gateway.port(), Get("/v1/models")).status == 503);
  CHECK(ask("/admin/restore?provider=main&key=nobody", "the-admin-token-1") ==
        404);
  CHECK(ask("/admin/explode", "the-admin-token-1") == 404);
  CHECK(ask(restore, "the-admin-token-1") == 200);
  CHECK(Ask(gateway.port(), Get("/v1/models")).status == 200);
  CHECK(ask("/admin/rest?provider=main&key=name-of-a", "the-admin-token-1") ==
        200);
  CHECK(Ask(gateway.port(), Get("/v1/models")).status == 429);
  // Nobody may where no admin token is given.
  RunningGateway other({ProviderAt(provider.base_url(), {"sk-a"})});
  CHECK(Ask(other.port(), Post(restore, "", "Authorization: Bearer \r\n"))
            .status == 403);
}

TEST_CASE("a page that was allowed may ask, and is told so", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Options options;
  options.allow_origins = {"https://app.test"};
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})}, options);
  const Answered preflight =
      Ask(gateway.port(),
          "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: "
          "https://app.test\r\nAccess-Control-Request-Method: POST\r\n"
          "Access-Control-Request-Headers: authorization\r\n\r\n");
  CHECK(preflight.status == 204);
  CHECK(preflight.Header("Access-Control-Allow-Origin") == "https://app.test");
  CHECK(preflight.Header("Access-Control-Allow-Headers") == "authorization");
  const Answered answer =
      Ask(gateway.port(), Get("/v1/models", "Origin: https://app.test\r\n"));
  CHECK(answer.status == 200);
  CHECK(answer.Header("Access-Control-Allow-Origin") == "https://app.test");
}

TEST_CASE("many callers on several threads are all served", "[gateway]") {
  FakeProvider provider(
      {.keys = {{"sk-dead", {.state = FakeKeyState::kRevoked}},
                {"sk-a", {}},
                {"sk-b", {}}}});
  Options options;
  options.threads = 3;
  RunningGateway gateway(
      {ProviderAt(provider.base_url(), {"sk-dead", "sk-a", "sk-b"})}, options);
  std::vector<std::thread> callers;
  std::vector<int> served(8);
  for (int& count : served) {
    callers.emplace_back([&count, port = gateway.port()] {
      Client client(port);
      for (int i = 0; i < 50; ++i) {
        client.Send(Post("/v1/chat/completions", i % 2 == 0 ? kChat : kStream));
        const Answered answer = client.Read();
        count += answer.status == 200 && answer.whole;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(served == std::vector<int>(8, 50));
}

}  // namespace
}  // namespace gateway::testing::gateway_test
