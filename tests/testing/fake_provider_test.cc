#include "keyrotator/testing/fake_provider.h"

#include <curl/curl.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/openai/sse.h"
#include "tests/support/catch.h"
#include "tests/support/raw_server.h"

namespace keyrotator::testing::testing_fake_provider_test {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;
using Kind = Fault::Kind;

const std::string kHello = R"({"model":"gpt"})";
const std::string kStream = R"({"model":"gpt","stream":true})";

struct Reply {
  CURLcode error = CURLE_OK;
  long status = 0;
  Headers headers;
  std::string body;
  long new_connections = 0;

  std::string Header(std::string_view name) const {
    return std::string(headers.Find(name).value_or("none"));
  }
  Json Error() const { return Json::parse(body)["error"]; }
};

// A client that keeps its connection from one call to the next.
class Client {
 public:
  explicit Client(const FakeProvider& provider)
      : base_url_(provider.base_url()), curl_(curl_easy_init()) {}
  Client(Client&& other) noexcept
      : base_url_(std::move(other.base_url_)),
        curl_(std::exchange(other.curl_, nullptr)) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { curl_easy_cleanup(curl_); }

  // An empty body makes it a GET.
  Reply Call(const std::string& path, const std::string& body,
             const std::string& auth_header) {
    Reply reply;
    curl_easy_reset(curl_);
    const std::string url = base_url_ + path;
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, 20'000L);
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &OnBody);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(curl_, CURLOPT_HEADERFUNCTION, &OnHeader);
    curl_easy_setopt(curl_, CURLOPT_HEADERDATA, &reply);
    if (!body.empty()) {
      curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.c_str());
    }
    curl_slist* const headers = curl_slist_append(nullptr, auth_header.c_str());
    curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers);
    reply.error = curl_easy_perform(curl_);
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &reply.status);
    curl_easy_getinfo(curl_, CURLINFO_NUM_CONNECTS, &reply.new_connections);
    curl_slist_free_all(headers);
    return reply;
  }
  Reply Chat(const std::string& key, const std::string& body = kHello) {
    return Call("/chat/completions", body, "Authorization: Bearer " + key);
  }

 private:
  static std::size_t OnBody(char* bytes, std::size_t, std::size_t size,
                            void* reply) {
    static_cast<Reply*>(reply)->body.append(bytes, size);
    return size;
  }
  static std::size_t OnHeader(char* bytes, std::size_t, std::size_t size,
                              void* reply) {
    const std::string_view line(bytes, size);
    if (const auto colon = line.find(": "); colon != line.npos) {
      static_cast<Reply*>(reply)->headers.Add(
          std::string(line.substr(0, colon)),
          std::string(line.substr(colon + 2, size - colon - 4)));
    }
    return size;
  }

  std::string base_url_;
  CURL* curl_;
};

// The data of a stream's events.
std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  SseParser parser;
  const auto sink = [&](const SseEvent& event) {
    events.emplace_back(event.data);
  };
  parser.Feed(body, sink);
  parser.Finish(sink);
  return events;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

// A clock that stands until it is moved.
struct Hand {
  std::shared_ptr<std::atomic<std::int64_t>> ns =
      std::make_shared<std::atomic<std::int64_t>>(0);

  std::function<std::chrono::nanoseconds()> clock() const {
    return [ns = ns] { return std::chrono::nanoseconds(ns->load()); };
  }
  void Advance(std::chrono::nanoseconds d) const { *ns += d.count(); }
};

// ---- Answers ----

TEST_CASE("a valid key is served a completion", "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}, .answer = "Hi there"});
  Client client(provider);
  const Reply reply = client.Chat("sk-a");
  CHECK(reply.status == 200);
  CHECK(reply.Header("Content-Type") == "application/json");
  const Json body = Json::parse(reply.body);
  CHECK(body["choices"][0]["message"]["content"] == "Hi there");
  CHECK(body["model"] == "gpt");

  const Json responses = Json::parse(
      client.Call("/responses", kHello, "Authorization: Bearer sk-a").body);
  CHECK(responses["status"] == "completed");
  CHECK(responses["output"][0]["content"][0]["text"] == "Hi there");
}

TEST_CASE("a stream brings the answer in pieces and ends with [DONE]",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}, .answer = "Hi there"});
  Client client(provider);
  const Reply reply =
      client.Chat("sk-a", R"({"model":"gpt","stream":true,)"
                          R"("stream_options":{"include_usage":true}})");
  CHECK(reply.error == CURLE_OK);
  CHECK(reply.Header("Content-Type") == "text/event-stream");
  const auto events = Events(reply.body);
  REQUIRE(events.size() == 6);  // role, two words, finish, usage, [DONE]
  CHECK(Json::parse(events[0])["choices"][0]["delta"]["role"] == "assistant");
  CHECK(Json::parse(events[1])["choices"][0]["delta"]["content"] == "Hi ");
  CHECK(Json::parse(events[2])["choices"][0]["delta"]["content"] == "there");
  CHECK(Json::parse(events[3])["choices"][0]["finish_reason"] == "stop");
  CHECK(Json::parse(events[4])["usage"]["total_tokens"] == 3);
  CHECK(events[5] == "[DONE]");

  const auto of_responses = Events(
      client.Call("/responses", kStream, "Authorization: Bearer sk-a").body);
  CHECK(Json::parse(of_responses.back())["type"] == "response.completed");
}

TEST_CASE("the models that have limits are listed", "[fake_provider]") {
  FakeProvider provider(
      {.keys = {{"sk-a", {}}}, .models = {{"gpt", {}}, {"mini", {}}}});
  Client client(provider);
  const Reply reply = client.Call("/models", "", "Authorization: Bearer sk-a");
  const Json body = Json::parse(reply.body);
  REQUIRE(body["data"].size() == 2);
  CHECK(body["data"][1]["id"] == "mini");
}

TEST_CASE("what is not understood is refused", "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  const std::string auth = "Authorization: Bearer sk-a";
  CHECK(client.Chat("sk-a", "{").status == 400);
  CHECK(client.Chat("sk-a", "[]").status == 400);
  CHECK(client.Chat("sk-a", R"({"model":7})").status == 400);
  CHECK(client.Call("/elsewhere", kHello, auth).status == 404);
  CHECK(client.Call("/chat/completions", "", auth).status == 404);
  CHECK(client.Chat("sk-a", R"({"model":"m","max_tokens":"x","stream":7})")
            .status == 200);
}

TEST_CASE("a kept connection is used again, after errors too",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  CHECK(client.Chat("sk-a").new_connections == 1);
  CHECK(client.Chat("sk-a", kStream).new_connections == 0);
  CHECK(client.Chat("sk-x").new_connections == 0);
  for (int i = 0; i < 20; ++i) client.Chat("sk-a");
  CHECK(provider.connections() == 1);
  CHECK(Client(provider).Chat("sk-a").new_connections == 1);
  CHECK(provider.connections() == 2);
}

// ---- Keys ----

TEST_CASE("each state of a key is answered in the provider's own words",
          "[fake_provider]") {
  struct Row {
    ProviderStyle style;
    long revoked, quota, model;
    std::string of_revoked, of_quota;  // what the bodies contain
  };
  const auto row = GENERATE(values<Row>({
      {ProviderStyle::kOpenAI, 401, 429, 403, R"("code":"invalid_api_key")",
       R"("code":"insufficient_quota")"},
      {ProviderStyle::kAzure, 401, 429, 403, R"("code":"401")",
       R"("code":"insufficient_quota")"},
      {ProviderStyle::kAnthropic, 401, 400, 403,
       R"("type":"authentication_error")", "credit balance is too low"},
      {ProviderStyle::kGemini, 400, 429, 403, R"("reason":"API_KEY_INVALID")",
       "limit: 0"},
  }));
  FakeProvider provider(
      {.keys = {{"sk-dead", {.state = FakeKeyState::kRevoked}},
                {"sk-poor", {.state = FakeKeyState::kOutOfQuota}},
                {"sk-mini", {.models = {"mini"}}}},
       .style = row.style});
  Client client(provider);
  const Reply revoked = client.Chat("sk-dead");
  CHECK(revoked.status == row.revoked);
  CHECK(Contains(revoked.body, row.of_revoked));
  CHECK(client.Chat("sk-unknown").status == row.revoked);
  const Reply quota = client.Chat("sk-poor");
  CHECK(quota.status == row.quota);
  CHECK(Contains(quota.body, row.of_quota));
  CHECK(client.Chat("sk-mini").status == row.model);
  CHECK(client.Chat("sk-mini", R"({"model":"mini"})").status == 200);
}

TEST_CASE("a key is read from each of the headers", "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  for (const char* header :
       {"Authorization: Bearer sk-a", "api-key: sk-a", "x-api-key: sk-a"}) {
    CHECK(client.Call("/chat/completions", kHello, header).status == 200);
  }
  CHECK(client.Call("/chat/completions", kHello, "x: y").status == 401);
}

TEST_CASE("a key changes its state at run time", "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  CHECK(client.Chat("sk-a").status == 200);
  provider.SetState("sk-a", FakeKeyState::kRevoked);
  CHECK(client.Chat("sk-a").status == 401);
  provider.SetState("sk-a", FakeKeyState::kValid);
  CHECK(client.Chat("sk-a").status == 200);
  provider.SetState("sk-new", FakeKeyState::kValid);
  CHECK(client.Chat("sk-new").status == 200);
}

// ---- Limits ----

TEST_CASE("a bucket refills evenly, and says when", "[fake_provider]") {
  const Hand hand;
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.requests = 2}}}}, .clock = hand.clock()});
  Client client(provider);
  const Reply first = client.Chat("sk-a");
  CHECK(first.status == 200);
  CHECK(first.Header("x-ratelimit-limit-requests") == "2");
  CHECK(first.Header("x-ratelimit-remaining-requests") == "1");
  CHECK(first.Header("x-ratelimit-reset-requests") == "30s");
  CHECK(first.Header("x-ratelimit-limit-tokens") == "none");
  CHECK(client.Chat("sk-a").Header("x-ratelimit-reset-requests") == "1m0s");

  hand.Advance(500ms);
  const Reply refused = client.Chat("sk-a");
  CHECK(refused.status == 429);
  CHECK(refused.Header("retry-after") == "30");
  CHECK(refused.Header("retry-after-ms") == "29500");
  CHECK(refused.Error()["code"] == "rate_limit_exceeded");
  CHECK(refused.Error()["type"] == "requests");
  CHECK(Contains(refused.body, "try again in 29.5s"));

  hand.Advance(29'499ms);
  CHECK(client.Chat("sk-a").status == 429);
  hand.Advance(1ms);  // what was said is what holds
  CHECK(client.Chat("sk-a").status == 200);
  CHECK(client.Chat("sk-a").status == 429);
  hand.Advance(24h);  // it never holds more than its limit
  CHECK(client.Chat("sk-a").status == 200);
  CHECK(client.Chat("sk-a").status == 200);
  CHECK(client.Chat("sk-a").status == 429);
}

TEST_CASE("tokens are limited by what a request allows its answer",
          "[fake_provider]") {
  const Hand hand;
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.tokens = 100}}}}, .clock = hand.clock()});
  Client client(provider);
  const std::string sixty = R"({"model":"gpt","max_tokens":60})";
  CHECK(client.Chat("sk-a", sixty).Header("x-ratelimit-remaining-tokens") ==
        "40");
  const Reply refused = client.Chat("sk-a", sixty);
  CHECK(refused.status == 429);
  CHECK(refused.Error()["type"] == "tokens");
  CHECK(refused.Header("retry-after-ms") == "12000");
  CHECK(client.Chat("sk-a").status == 200);  // 16, if nothing is said
  const Reply never = client.Chat("sk-a", R"({"model":"g","max_tokens":101})");
  CHECK(never.status == 429);
  CHECK(Contains(never.body, "Request too large"));
  CHECK(never.Header("retry-after") == "none");
}

TEST_CASE("limits of a model are apart from those of another",
          "[fake_provider]") {
  const Hand hand;
  FakeProvider provider({.keys = {{"sk-a", {}}, {"sk-b", {}}},
                         .models = {{"gpt", {.requests = 1}}},
                         .clock = hand.clock()});
  Client client(provider);
  CHECK(client.Chat("sk-a").status == 200);
  CHECK(client.Chat("sk-a").status == 429);
  CHECK(client.Chat("sk-a", R"({"model":"other"})").status == 200);
  CHECK(client.Chat("sk-b").status == 200);  // no organization in common
}

TEST_CASE("keys of one organization share its limits", "[fake_provider]") {
  const Hand hand;
  FakeProvider provider({.keys = {{"sk-a", {.organization = "o"}},
                                  {"sk-b", {.organization = "o"}},
                                  {"sk-c", {.organization = "p"}}},
                         .organizations = {{"o", {.requests = 3}}},
                         .models = {{"gpt", {.requests = 1}}},
                         .clock = hand.clock()});
  Client client(provider);
  CHECK(client.Chat("sk-a").status == 200);
  CHECK(client.Chat("sk-b").status == 429);  // the model's is shared, too
  CHECK(client.Chat("sk-c").status == 200);
  const std::string other = R"({"model":"other"})";
  CHECK(client.Chat("sk-b", other).status == 200);
  CHECK(client.Chat("sk-a", other).status == 200);
  CHECK(client.Chat("sk-a", other).status == 429);
  CHECK(client.Chat("sk-c", other).status == 200);
}

TEST_CASE("a refused request takes nothing from any limit", "[fake_provider]") {
  const Hand hand;
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.requests = 2, .tokens = 20}}}},
       .clock = hand.clock()});
  Client client(provider);
  const std::string small = R"({"model":"gpt","max_tokens":1})";
  CHECK(client.Chat("sk-a").status == 200);  // 4 tokens left
  CHECK(client.Chat("sk-a").status == 429);
  CHECK(client.Chat("sk-a", small).status == 200);
}

TEST_CASE("each style has its own headers", "[fake_provider]") {
  const auto style = GENERATE(ProviderStyle::kAzure, ProviderStyle::kAnthropic,
                              ProviderStyle::kGemini, ProviderStyle::kSilent);
  const Hand hand;
  FakeProvider provider({.keys = {{"sk-a", {.limit = {.requests = 1}}}},
                         .style = style,
                         .clock = hand.clock()});
  Client client(provider);
  CHECK(client.Chat("sk-a").status == 200);
  hand.Advance(1ms);
  const Reply reply = client.Chat("sk-a");
  CHECK(reply.status == 429);
  switch (style) {
    case ProviderStyle::kAzure:
      CHECK(reply.Header("retry-after") == "60");
      CHECK(reply.Header("retry-after-ms") == "59999");
      CHECK(reply.Header("x-ratelimit-reset-requests") == "60");
      CHECK(reply.Error()["code"] == "429");
      break;
    case ProviderStyle::kAnthropic: {
      CHECK(reply.Header("retry-after") == "60");
      CHECK(reply.Header("retry-after-ms") == "none");
      CHECK(reply.Header("anthropic-ratelimit-requests-remaining") == "0");
      const auto reset = reply.Header("anthropic-ratelimit-requests-reset");
      CHECK(reset.size() == 20);
      CHECK(reset.back() == 'Z');
      CHECK(reply.Error()["type"] == "rate_limit_error");
      break;
    }
    case ProviderStyle::kGemini: {
      CHECK(reply.Header("retry-after") == "none");
      const Json error = Json::parse(reply.body)[0]["error"];
      CHECK(error["status"] == "RESOURCE_EXHAUSTED");
      CHECK(error["details"][0]["retryDelay"] == "59.999s");
      break;
    }
    default:
      CHECK(reply.Header("retry-after") == "none");
      CHECK(reply.Header("retry-after-ms") == "none");
      CHECK(reply.Header("x-ratelimit-reset-requests") == "none");
      CHECK(reply.Error()["message"] == "Rate limit reached.");
  }
}

TEST_CASE("a duration is written as Go writes it", "[fake_provider]") {
  using fake_internal::GoDuration;
  CHECK(GoDuration(0) == "0ms");
  CHECK(GoDuration(0.012) == "12ms");
  CHECK(GoDuration(0.0001) == "1ms");
  CHECK(GoDuration(1) == "1s");
  CHECK(GoDuration(7.66) == "7.66s");
  CHECK(GoDuration(59.999) == "59.999s");
  CHECK(GoDuration(360) == "6m0s");
  CHECK(GoDuration(3661.5) == "1h1m1.5s");
}

// ---- Faults ----

TEST_CASE("a fault meets as many requests as it says, of the key it names",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}, {"sk-b", {}}}});
  Client client(provider);
  provider.Inject({.status = 503, .key = "sk-a", .times = 2});
  provider.Inject({.status = 500});
  CHECK(client.Chat("sk-a").status == 503);
  CHECK(client.Chat("sk-b").status == 500);
  CHECK(client.Chat("sk-b").status == 200);
  CHECK(client.Chat("sk-a").status == 503);
  CHECK(client.Chat("sk-a").status == 200);
  provider.Inject({.times = 1000});
  provider.ClearFaults();
  CHECK(client.Chat("sk-a").status == 200);
}

TEST_CASE("a status comes with the body and headers that fit",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  provider.Inject({.status = 502});
  const Reply proxy = client.Chat("sk-a");
  CHECK(proxy.status == 502);
  CHECK(proxy.Header("Content-Type") == "text/html");
  CHECK(Contains(proxy.body, "<html>"));
  provider.Inject({.status = 529, .headers = {{"Retry-After", "7"}}});
  const Reply overloaded = client.Chat("sk-a");
  CHECK(overloaded.status == 529);
  CHECK(overloaded.Header("retry-after") == "7");
  CHECK(overloaded.Error()["type"] == "server_error");
  CHECK(provider.connections() == 1);
}

TEST_CASE("a reset is a reset, before the answer and within it",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  for (const std::string& body : {kHello, kStream}) {
    INFO(body);
    // On a fresh connection: curl repeats by itself on one that it had kept.
    provider.Inject({.kind = Kind::kReset});
    const Reply before = Client(provider).Chat("sk-a", body);
    CHECK(before.error == CURLE_RECV_ERROR);
    CHECK(before.status == 0);

    provider.Inject({.kind = Kind::kResetInBody});
    const Reply within = client.Chat("sk-a", body);
    CHECK(within.error == CURLE_RECV_ERROR);
    CHECK(within.status == 200);
    CHECK_FALSE(within.body.empty());
  }
  CHECK(client.Chat("sk-a").status == 200);
}

TEST_CASE("a truncated answer stops in the middle", "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  const std::string whole = client.Chat("sk-a").body;
  provider.Inject({.kind = Kind::kTruncated, .times = 2});
  const Reply cut = client.Chat("sk-a");
  CHECK(cut.error == CURLE_PARTIAL_FILE);
  CHECK(cut.body == whole.substr(0, whole.size() / 2));
  const Reply stream = client.Chat("sk-a", kStream);
  CHECK(stream.error != CURLE_OK);
  CHECK_FALSE(Events(stream.body).empty());
  CHECK(Events(stream.body).back() != "[DONE]");
}

TEST_CASE("an error comes in a 200, alone or amid a stream",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  provider.Inject({.kind = Kind::kErrorIn200, .times = 2});
  const Reply reply = client.Chat("sk-a");
  CHECK(reply.status == 200);
  CHECK(reply.Error()["type"] == "server_error");
  const Reply stream = client.Chat("sk-a", kStream);
  CHECK(stream.error == CURLE_OK);
  const auto events = Events(stream.body);
  REQUIRE(events.size() > 1);
  CHECK(Json::parse(events.front()).contains("choices"));
  CHECK(Json::parse(events.back()).contains("error"));
}

TEST_CASE("garbage comes as a body, or in the place of HTTP",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Client client(provider);
  provider.Inject({.kind = Kind::kNotJson});
  const Reply reply = client.Chat("sk-a");
  CHECK(reply.status == 200);
  CHECK_FALSE(Json::accept(reply.body));
  provider.Inject({.kind = Kind::kNotJson});
  CHECK(Events(client.Chat("sk-a", kStream).body).empty());

  provider.Inject({.kind = Kind::kNotHttp});
  const Reply garbage = Client(provider).Chat("sk-a");
  CHECK(garbage.error != CURLE_OK);
  CHECK(garbage.status == 0);
}

TEST_CASE("slow bytes are the whole answer in the end", "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}, .answer = "x"});
  Client client(provider);
  const std::string whole = client.Chat("sk-a").body;
  const std::string stream = client.Chat("sk-a", kStream).body;
  provider.Inject({.kind = Kind::kSlow, .times = 2, .pause = 1ms});
  CHECK(client.Chat("sk-a").body == whole);
  CHECK(client.Chat("sk-a", kStream).body == stream);
}

// ---- HTTP ----

// What the provider sends until it has sent `wanted`, or goes away.
std::string ReadUntil(RawConnection& peer, std::string_view wanted) {
  std::string text;
  while (text.find(wanted) == text.npos && peer.ReadSome(text)) {
  }
  return text;
}

TEST_CASE("a body is asked for where the client waits for that",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  RawConnection peer(ConnectTo(provider.port()));
  peer.Write(
      "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-a\r\n"
      "expect: 100-continue\r\ncontent-length: 15\r\n\r\n");
  CHECK(ReadUntil(peer, "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  peer.Write(kHello);
  CHECK(Contains(ReadUntil(peer, "\r\n\r\n"), "HTTP/1.1 200 OK\r\n"));
}

TEST_CASE("a body may come in chunks and requests one upon the other",
          "[fake_provider]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  RawConnection peer(ConnectTo(provider.port()));
  peer.Write(
      "POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer sk-a\r\n"
      "Transfer-Encoding: chunked\r\n\r\n"
      "4;x=y\r\n{\"mo\r\nB\r\ndel\":\"gpt\"}\r\n0\r\nX-Trailer: 1\r\n\r\n"
      "HEAD /v1/models HTTP/1.1\r\n\r\n"
      "GET /v1/models HTTP/1.1\r\napi-key:sk-a\r\n\r\n");
  CHECK(Contains(ReadUntil(peer, "\"object\":\"list\"}"), "chat.completion"));
  CHECK(provider.Counts("sk-a").served == 2);
  CHECK(provider.Log().front().model == "gpt");
}

TEST_CASE("a client that wants its connection closed has it closed",
          "[fake_provider]") {
  FakeProvider provider({.keys = {}});
  for (const char* head : {"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n",
                           "GET /a HTTP/1.0\r\n\r\n"}) {
    RawConnection peer(ConnectTo(provider.port()));
    peer.Write(head);
    CHECK(Contains(ReadUntil(peer, "(the end)"), "Connection: close\r\n"));
  }
}

TEST_CASE("what is not HTTP ends the connection", "[fake_provider]") {
  FakeProvider provider({.keys = {}});
  for (const char* text :
       {"\x16\x03\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nX\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"}) {
    INFO(text);
    RawConnection peer(ConnectTo(provider.port()));
    peer.Write(text);
    CHECK(ReadUntil(peer, "(the end)").empty());
  }
  CHECK(provider.Counts().requests == 0);
}

// ---- What it has seen ----

TEST_CASE("what arrived is counted by key and logged", "[fake_provider]") {
  const Hand hand;
  FakeProvider provider(
      {.keys = {{"sk-a", {.limit = {.requests = 1}}}}, .clock = hand.clock()});
  Client client(provider);
  hand.Advance(5s);
  client.Chat("sk-a", kStream);
  client.Chat("sk-a");
  client.Chat("sk-x");
  provider.Inject({.kind = Kind::kReset});
  Client(provider).Chat("sk-a");
  CHECK(provider.Counts("sk-a") == FakeCounts{.requests = 3,
                                              .served = 1,
                                              .rate_limited = 1,
                                              .refused = 0,
                                              .faults = 1});
  CHECK(provider.Counts("sk-x").refused == 1);
  CHECK(provider.Counts("sk-never") == FakeCounts{});
  CHECK(provider.Counts().requests == 4);

  const auto log = provider.Log();
  REQUIRE(log.size() == 4);
  CHECK(log[0].path == "/v1/chat/completions");
  CHECK(log[0].key == "sk-a");
  CHECK(log[0].model == "gpt");
  CHECK(log[0].stream);
  CHECK(log[0].status == 200);
  CHECK(log[0].at == 5s);
  CHECK(log[1].status == 429);
  CHECK(log[2].status == 401);
  CHECK(log[3].status == 0);
}

TEST_CASE("threads are served at once, and each request is counted",
          "[fake_provider]") {
  constexpr int kThreads = 8, kCalls = 25;
  FakeProvider provider({.keys = {{"sk-a", {.limit = {.requests = 50}}}},
                         .clock = Hand().clock()});
  std::atomic<int> served = 0, limited = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      Client client(provider);
      for (int call = 0; call < kCalls; ++call) {
        const long status =
            client.Chat("sk-a", call % 2 == 0 ? kHello : kStream).status;
        if (status == 200) ++served;
        if (status == 429) ++limited;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(served == 50);
  CHECK(limited == kThreads * kCalls - 50);
  CHECK(provider.Counts("sk-a").served == 50);
  CHECK(provider.connections() == kThreads);
}

// ---- The end ----

TEST_CASE("it stops at once with idle connections and open streams",
          "[fake_provider]") {
  auto provider = std::make_unique<FakeProvider>(FakeProviderOptions{
      .keys = {{"sk-a", {}}, {"sk-b", {}}}, .event_interval = 10min});
  provider->Inject({.kind = Kind::kSlow, .key = "sk-b", .pause = 10min});
  Client idle(*provider);
  CHECK(idle.Chat("sk-a").status == 200);
  std::vector<Reply> replies(3);
  std::vector<std::thread> threads;
  for (Reply& reply : replies) {
    const char* const key = &reply == &replies.back() ? "sk-b" : "sk-a";
    threads.emplace_back([&reply, key, client = Client(*provider)]() mutable {
      reply = client.Chat(key, kStream);
    });
  }
  while (provider->Counts().requests < 4) std::this_thread::yield();

  provider.reset();
  for (std::thread& thread : threads) thread.join();
  // Not the clients gave up: they would wait for 20 s.
  for (const Reply& reply : replies) {
    CHECK(reply.error != CURLE_OK);
    CHECK(reply.error != CURLE_OPERATION_TIMEDOUT);
  }
  CHECK(replies.back().status == 0);  // the pause is before the answer, too
}

TEST_CASE("it stops before anyone has connected", "[fake_provider]") {
  for (int i = 0; i < 20; ++i) FakeProvider provider({});
  SUCCEED();
}

}  // namespace
}  // namespace keyrotator::testing::testing_fake_provider_test
