// What goes wrong, as a user of OpenAIClient sees it: every fault of the fake
// provider, mistakes in the set-up, and that no reply shows a secret.

#include <httplib.h>

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/openai/client.h"
#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/raw_server.h"
#include "tests/support/self_signed.h"

namespace keyrotator::openai_client_faults_test {
namespace {

using namespace std::chrono_literals;
using testing::Chat;
using testing::Client;
using testing::FakeProvider;
using testing::Fault;
using testing::kAnswerText;
using testing::Listener;
using testing::Pool;
using testing::ProviderStyle;
using testing::RawConnection;
using testing::RawServer;
using testing::RefusingPort;
using testing::Render;
using testing::SelfSigned;
using testing::Setup;

constexpr ProviderStyle kStyles[] = {
    ProviderStyle::kOpenAI, ProviderStyle::kAzure, ProviderStyle::kAnthropic,
    ProviderStyle::kGemini, ProviderStyle::kSilent};

// All that can go wrong with one request.
std::vector<Fault> AllFaults() {
  std::vector<Fault> faults;
  for (const int status :
       {400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529}) {
    faults.push_back({.kind = Fault::Kind::kStatus, .status = status});
  }
  for (const auto kind :
       {Fault::Kind::kReset, Fault::Kind::kResetInBody, Fault::Kind::kTruncated,
        Fault::Kind::kErrorIn200, Fault::Kind::kNotJson, Fault::Kind::kNotHttp,
        Fault::Kind::kSlow}) {
    faults.push_back({.kind = kind});
  }
  return faults;
}

std::string Name(const Fault& fault) {
  return fmt::format("fault {}, status {}, {} times",
                     static_cast<int>(fault.kind), fault.status, fault.times);
}

// What holds of every reply, and of what a stream delivered.
void CheckSound(const Reply& reply, const Listener& listener, bool stream) {
  INFO(Render(reply));
  INFO(listener.text);
  CHECK(reply.outcome != Outcome::kPending);
  CHECK(reply.ok() == reply.message.empty());
  CHECK_FALSE(reply.trail.empty());
  // A provider that limits every key is asked as often as keys return.
  CHECK(reply.trail.size() <=
        (reply.trail[0].verdict == VerdictKind::kRateLimited ? 10 : 4));
  if (!stream) {
    CHECK(listener.events == 0);
    if (reply.ok()) CHECK(reply.body.find(kAnswerText) != std::string::npos);
    return;
  }
  // A text that is delivered twice is no beginning of the answer.
  CHECK(kAnswerText.starts_with(listener.text));
  if (reply.ok()) {
    CHECK(listener.text == kAnswerText);
  } else {
    CHECK((listener.events > 0) == (reply.outcome == Outcome::kCut));
  }
}

TEMPLATE_TEST_CASE("whatever fails, nothing is delivered twice",
                   "[client][faults][P12]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}, {"sk-c", {}}}},
                        Pool("ABC"));
  for (Fault fault : AllFaults()) {
    for (const int times : {1, 2, 9}) {
      for (const bool stream : {false, true}) {
        fault.times = times;
        INFO(Name(fault) << (stream ? ", stream" : ""));
        setup.provider.Inject(fault);
        Listener listener;
        const Reply reply = stream ? setup.client.ChatCompletionStream(
                                         Chat("m", true), std::ref(listener))
                                   : setup.client.ChatCompletion(Chat());
        CheckSound(reply, listener, stream);
        // What goes away by itself is not seen by the caller.
        const bool passing =
            (fault.kind == Fault::Kind::kStatus &&
             (fault.status == 401 || fault.status == 403 ||
              fault.status == 408 || fault.status == 409 ||
              fault.status == 429 || fault.status >= 500)) ||
            fault.kind == Fault::Kind::kReset ||
            fault.kind == Fault::Kind::kNotHttp ||
            fault.kind == Fault::Kind::kSlow ||
            (!stream && (fault.kind == Fault::Kind::kResetInBody ||
                         fault.kind == Fault::Kind::kTruncated ||
                         fault.kind == Fault::Kind::kErrorIn200));
        if (passing && times <= 2) CHECK(reply.ok());
        setup.provider.ClearFaults();
        for (const char* key : {"sk-a", "sk-b", "sk-c"})
          setup.rotator.Restore(key);
        setup.clock.Advance(24h);
      }
    }
  }
}

// ---- Mistakes ----

// Sends one of each kind and expects this of each reply: nothing was sent, or
// nothing came back, and the message has these words.
template <class AnyClient>
void CheckTold(AnyClient& client, Outcome outcome, const std::string& words) {
  Listener listener;
  for (const Reply& reply :
       {client.ChatCompletion(Chat()), client.Models(),
        client.ChatCompletionStream(Chat("m", true), std::ref(listener))}) {
    INFO(Render(reply));
    CHECK(reply.outcome == outcome);
    CHECK(reply.status == 0);
    CHECK(reply.message.find(words) != std::string::npos);
  }
  CHECK(listener.events == 0);
  CHECK_FALSE(client.Healthy());
}

TEMPLATE_TEST_CASE("a base URL that cannot be used is told", "[client]",
                   CurlTransport) {
  for (const char* url :
       {"", "api.openai.com/v1", "htps://api.openai.com/v1", "https://",
        "https://me:pw@api.openai.com/v1", "https://a b/v1",
        "https://api.openai.com:99999/v1", "https://api.openai.com/v1#x",
        "https://api.openai.com/v1\r\nX: y", "ftp://api.openai.com/v1"}) {
    INFO(url);
    Client<TestType> pool(url, Pool("A"));
    CheckTold(pool.client, Outcome::kCallerError, "https://api.openai.com/v1");
    CHECK(pool.client.ChatCompletion(Chat()).message.find("pw") ==
          std::string::npos);
    CHECK(pool.rotator.Snapshot()[0].picks == 0);
  }
}

TEMPLATE_TEST_CASE("keys do not travel unencrypted beyond this machine",
                   "[client]", CurlTransport) {
  for (const char* url :
       {"http://api.openai.com/v1", "http://10.0.0.1/v1",
        "http://127.0.0.1.example.com/v1", "http://localhost.example.com/",
        "HTTP://example.com", "http://[2001:db8::1]/v1"}) {
    INFO(url);
    Client<TestType> pool(url, Pool("A"));
    CheckTold(pool.client, Outcome::kCallerError, "allow_http");
    CHECK(pool.rotator.Snapshot()[0].picks == 0);
  }
  // Nothing listens there, but it was tried.
  const RefusingPort nobody;
  for (const char* host : {"127.0.0.1", "LOCALHOST", "127.1.2.3", "[::1]"}) {
    INFO(host);
    Client<TestType> pool(fmt::format("http://{}:{}/v1", host, nobody.port()),
                          Pool("A"));
    CheckTold(pool.client, Outcome::kUnavailable, "could not serve");
  }
}

TEMPLATE_TEST_CASE("http to another host is sent if the caller allows it",
                   "[client]", CurlTransport) {
  // Resolved here, and loopback all the same: the name is what is judged.
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  const std::string url = fmt::format("http://0.0.0.0:{}/v1", provider.port());
  Client<TestType> refused(url, Pool("A"));
  CheckTold(refused.client, Outcome::kCallerError, "allow_http");
  Client<TestType> allowed(url, Pool("A"), {.allow_http = true});
  CHECK(allowed.client.ChatCompletion(Chat()).ok());
}

TEMPLATE_TEST_CASE("a pool without keys is told", "[client][P15]",
                   CurlTransport) {
  FakeProvider provider({.keys = {}});
  Client<TestType> pool(provider.base_url(), ApiKeys{});
  CheckTold(pool.client, Outcome::kNoKeys, "There is no key in the pool");
  CHECK(provider.Counts().requests == 0);
}

TEMPLATE_TEST_CASE("keys that were all refused are told", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {}}, Pool("ABC"));
  const Reply reply = setup.client.ChatCompletion(Chat());
  CHECK(reply.outcome == Outcome::kAllFailed);
  CHECK(reply.trail.size() == 3);
  CHECK(reply.status == 401);
  CHECK(reply.message.find("replace them") != std::string::npos);
  CHECK(setup.client.ChatCompletion(Chat()).trail.empty());
  CHECK(setup.provider.Counts().requests == 3);
}

TEMPLATE_TEST_CASE("a host that does not answer is told", "[client]",
                   CurlTransport) {
  const RefusingPort nobody;
  Client<TestType> pool(nobody.origin(), Pool("A"));
  CheckTold(pool.client, Outcome::kUnavailable, "is the server running");
  // Connecting was tried again even where nothing may be repeated.
  ClientOptions options;
  options.retry.retry_ambiguous = false;
  Client<TestType> once(nobody.origin(), Pool("A"), options);
  CHECK(once.client.ChatCompletion(Chat()).trail.size() == 3);
}

TEMPLATE_TEST_CASE("a certificate that nobody vouches for is told", "[client]",
                   CurlTransport) {
  const SelfSigned self;
  httplib::SSLServer server(self.certificate(), self.key());
  const int port = server.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { server.listen_after_bind(); });
  while (!server.is_running()) std::this_thread::yield();
  {
    Client<TestType> pool(fmt::format("https://127.0.0.1:{}/v1", port),
                          Pool("A"));
    CheckTold(pool.client, Outcome::kUnavailable, "TLS failed");
  }
  server.stop();
  thread.join();
}

TEMPLATE_TEST_CASE("a body that is no JSON is the provider's to refuse",
                   "[client]", CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  const auto start = setup.clock.now();
  std::uint64_t requests = 0;
  for (const std::string body :
       {"hello", R"({"model": "m")", R"({"model": "m"} x)",
        R"({"model": nope})", "{\"model\": \"\xff\"}"}) {
    Listener listener;
    for (const Reply& reply :
         {setup.client.ChatCompletion(body),
          setup.client.ChatCompletionStream(body, std::ref(listener))}) {
      INFO(body << ": " << reply.message);
      CHECK(reply.outcome == Outcome::kCallerError);
      CHECK(reply.status == 400);
      CHECK(reply.trail.size() == 1);
    }
    requests += 2;
    CHECK(setup.provider.Counts().requests == requests);
  }
  CHECK(setup.rotator.Snapshot()[0].scopes.empty());
  CHECK(setup.clock.now() == start);
  // 100,000 arrays in one another are JSON, and are not read recursively.
  const std::string deep =
      std::string(100'000, '[') + std::string(100'000, ']');
  CHECK(setup.client.ChatCompletion(deep).status == 400);
}

TEMPLATE_TEST_CASE("a path or header that cannot be sent is told", "[client]",
                   CurlTransport) {
  Setup<TestType> setup({.keys = {{"sk-a", {}}}}, Pool("A"));
  for (const char* path : {"", "models", "?a=b"}) {
    INFO(path);
    const Reply reply = setup.client.Get(path);
    CHECK(reply.outcome == Outcome::kCallerError);
    CHECK(reply.message.find("begin with a slash") != std::string::npos);
  }
  for (const Reply& reply :
       {setup.client.Get("/a b"), setup.client.Get("/a\r\nX: y"),
        setup.client.Get("/a", {.headers = {{"X", "1\r\nY: 2"}}}),
        setup.client.Get("/a", {.headers = {{"X:", "1"}}})}) {
    INFO(reply.message);
    CHECK(reply.outcome == Outcome::kCallerError);
    CHECK(reply.message.size() > 20);
    CHECK(reply.trail.size() == 1);
  }
  CHECK(setup.provider.Counts().requests == 0);
}

// ---- Secrets ----

// No six characters of it occur in what is checked by chance.
constexpr std::string_view kSecret = "sk-Zq7wXv9kJt3mPy5hLr8nBd2f";

// Any six characters in a row of the secret, beyond its usual beginning.
bool Leaks(std::string_view text) {
  for (std::size_t i = 0; i + 6 <= kSecret.size(); ++i) {
    if (text.find(kSecret.substr(i, 6)) != std::string_view::npos) return true;
  }
  return false;
}

ApiKeys Marked() {
  return std::vector<ApiKey>{ApiKey(std::string(kSecret), {.name = "prod-1"})};
}

TEST_CASE("a leak would be seen", "[client]") {
  CHECK(Leaks("xx" + std::string(kSecret.substr(9, 6)) + "yy"));
  CHECK_FALSE(Leaks("prod-1"));
}

TEMPLATE_TEST_CASE("no fault in any style shows a secret",
                   "[client][faults][S21][T18]", CurlTransport) {
  std::mutex mutex;
  std::string events;
  for (const ProviderStyle style : kStyles) {
    Setup<TestType> setup(
        {.keys = {{std::string(kSecret), {}}}, .style = style}, Marked(), {},
        {.on_event = [&](const KeyEvent& event) {
          const std::lock_guard lock(mutex);
          events += fmt::format("{}\n", event);
        }});
    for (Fault fault : AllFaults()) {
      // Some gateways echo what they were sent.
      fault.headers = {{"X-Echo", "Bearer " + std::string(kSecret)},
                       {"X-Request", fmt::format("a{}b{}", kSecret, kSecret)}};
      fault.times = 9;
      for (const bool stream : {false, true}) {
        INFO(static_cast<int>(style) << ", " << Name(fault));
        setup.provider.Inject(fault);
        Listener listener;
        const Reply reply = stream ? setup.client.ChatCompletionStream(
                                         Chat("m", true), std::ref(listener))
                                   : setup.client.ChatCompletion(Chat());
        const std::string all = Render(reply) + listener.raw;
        INFO(all);
        CHECK_FALSE(Leaks(all));
        setup.provider.ClearFaults();
        setup.rotator.Restore(std::string(kSecret));
        setup.clock.Advance(24h);
      }
    }
  }
  CHECK_FALSE(events.empty());
  CHECK_FALSE(Leaks(events));
}

// An error body that quotes the key as providers do.
TEMPLATE_TEST_CASE("a provider that echoes the key shows none to the caller",
                   "[client][S21][T18]", CurlTransport) {
  const std::string head = GENERATE(
      as<std::string>(), "HTTP/1.1 400 Bad Request",
      "HTTP/1.1 401 Unauthorized", "HTTP/1.1 403 Forbidden",
      "HTTP/1.1 429 Too Many Requests", "HTTP/1.1 500 Oops", "HTTP/1.1 200 OK");
  const std::string form = GENERATE(
      as<std::string>(),
      R"({{"error":{{"code":"{0}","type":"{0}","message":"key {0}"}}}})",
      R"([{{"error":{{"code":400,"message":"API key not valid: {0}",)"
      R"("status":"{0}","details":[{{"reason":"{0}"}}]}}}}])",
      R"({{"detail":"{0}"}})", "plain {0}", "<html><title>{0}</title></html>");
  const std::string type = form[0] == '<'   ? "text/html"
                           : form[0] == 'p' ? "text/plain"
                                            : "application/json";
  const std::string body = fmt::format(fmt::runtime(form), kSecret);
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(fmt::format(
        "{}\r\nContent-Type: {}\r\nContent-Length: {}\r\nX-Echo: {}\r\n"
        "WWW-Authenticate: Bearer realm=\"{}\"\r\n\r\n{}",
        head, type, body.size(), kSecret, kSecret, body));
  });
  Client<TestType> pool(server.origin(), Marked());
  Listener listener;
  for (const bool stream : {false, true}) {
    const Reply reply = stream ? pool.client.ChatCompletionStream(
                                     Chat("m", true), std::ref(listener))
                               : pool.client.ChatCompletion(Chat());
    std::string all = Render(reply);
    // What is served is the model's own text, which is not touched.
    if (reply.ok()) all.erase(all.find(reply.body), reply.body.size());
    INFO(head << "\n" << body << "\n" << all);
    CHECK_FALSE(Leaks(all));
    CHECK(all.find("[prod-1]") != std::string::npos);
    pool.rotator.Restore(std::string(kSecret));
    pool.clock.Advance(24h);
  }
}

TEMPLATE_TEST_CASE("an error amid a stream shows no secret", "[client][S21]",
                   CurlTransport) {
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(fmt::format(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: {0}\r\n\r\n"
        "data: {{\"choices\":[]}}\n\n"
        "data: {{\"error\":{{\"message\":\"for {0}\",\"code\":\"{0}\"}}}}\n\n",
        kSecret));
  });
  Client<TestType> pool(server.origin(), Marked());
  Listener listener;
  const Reply reply =
      pool.client.ChatCompletionStream(Chat("m", true), std::ref(listener));
  CHECK(reply.outcome == Outcome::kCut);
  const std::string all = Render(reply) + listener.raw;
  INFO(all);
  CHECK_FALSE(Leaks(all));
}

// The secret is cut where a text is cut: a part of it is no less secret.
TEMPLATE_TEST_CASE("a key that is cut off in an error is not shown in part",
                   "[client][S21][T7]", CurlTransport) {
  const auto before = GENERATE(as<std::size_t>(), 2'030, 2'036, 262'130, 10);
  const std::string body = "{\"error\":{\"message\":\"" +
                           std::string(before, 'x') + std::string(kSecret) +
                           "\"}}";
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(fmt::format("HTTP/1.1 401 No\r\nContent-Length: {}\r\n\r\n{}",
                           body.size(),
                           // Broken off amid the key, if it is short.
                           before == 10 ? body.substr(0, 45) : body));
  });
  Client<TestType> pool(server.origin(), Marked());
  const Reply reply = pool.client.ChatCompletion(Chat());
  CHECK(reply.status == 401);
  CHECK_FALSE(Leaks(reply.message));
  CHECK_FALSE(Leaks(reply.body));
}

}  // namespace
}  // namespace keyrotator::openai_client_faults_test
