// What becomes of keys: nothing that a program emits shows one while everything
// fails, none goes to another host, and nothing that a caller gives can become a
// header.

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ostream.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/config/make_key_rotator.h"
#include "keyrotator/config/yaml.h"
#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "keyrotator/status/json.h"
#include "keyrotator/status/prometheus.h"
#include "keyrotator/status/table.h"
#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/faults.h"
#include "tests/support/leaks.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/witness.h"

namespace keyrotator::testing::openai_secrets_test {
namespace {

using namespace std::chrono_literals;

// With characters that JSON and URLs escape, and without a row of six that
// anything else would say.
const std::string kSecret = R"(sk-Zq7w/Xv9+k"Jt3m\Py5h=Lr8nBd2f)";

void CheckClean(const std::string& text) {
  const auto leak = FindLeak(text, kSecret);
  // Not the text itself: a failing test must not print the secret either.
  INFO("six characters of the secret, from "
       << leak.value_or(0) << " on, are in a text of " << text.size()
       << " bytes");
  CHECK_FALSE(leak.has_value());
}

std::string InJson(std::string_view text) {
  std::string json;
  for (const char c : text)
    json += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
  return json;
}
std::string InUrl(std::string_view text) {
  std::string url;
  for (const char c : text)
    url += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return url;
}

TEST_CASE("the search finds six characters in every form, and no fewer",
          "[secrets]") {
  for (std::size_t i = 0; i + 6 <= kSecret.size(); ++i) {
    CAPTURE(i);
    const std::string part = kSecret.substr(i, 6);
    for (const std::string& form : {part, InJson(part), InUrl(part)})
      CHECK(FindLeak("x" + form + "x", kSecret));
    CHECK_FALSE(FindLeak("x" + part.substr(0, 5) + "x", kSecret));
    // Base64 of it amid something else, in each of three positions; a few bits
    // at its ends are decided by its neighbours.
    for (const std::size_t before : {0U, 1U, 2U}) {
      const std::string whole = std::string(before, 'y') + kSecret;
      CHECK(FindLeak(leaks_internal::InBase64(whole, 0), kSecret));
    }
  }
  CHECK_FALSE(FindLeak("nothing", kSecret));
}

// ---- All that is emitted ----

// Takes what is written to a descriptor, until it goes.
class Captured {
 public:
  explicit Captured(int descriptor)
      : descriptor_(descriptor), saved_(dup(descriptor)) {
    const int file = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    dup2(file, descriptor);
    close(file);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  ~Captured() { End(); }

  // What was written.
  std::string End() {
    std::fflush(nullptr);
    std::cout.flush();
    if (saved_ >= 0) {
      dup2(saved_, descriptor_);
      close(std::exchange(saved_, -1));
    }
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  const int descriptor_;
  int saved_;
  const TemporaryDirectory directory_;
  const std::string path_ = directory_ / "text";
};

// Everything that one request against a fault says of itself. What a model says
// is not looked at: it is passed on as it is.
std::string EmittedUnder(const WireFault& fault, bool streamed) {
  Play play;
  play.streamed = streamed;
  // As servers echo what they were sent.
  play.more_headers =
      fmt::format("X-Echo: Bearer {0}\r\nX-Json: {1}\r\nX-Url: {2}\r\n",
                  kSecret, InJson(kSecret), InUrl(kSecret));
  for (const std::string before : {"", "user:", "Bearer "}) {
    play.more_headers +=
        fmt::format("X-Base64: {}\r\n",
                    leaks_internal::InBase64(before + kSecret + ":", 0));
  }
  const Stage stage(fault, play);
  std::mutex mutex;
  std::ostringstream out;
  const auto add = [&](const std::string& text) {
    const std::lock_guard lock(mutex);
    out << text << '\n';
  };
  KeyRotator rotator(
      {ApiKey(kSecret, {.name = "prod"}), ApiKey("sk-b", {.name = "B"})},
      {.on_event =
           [&](const KeyEvent& event) {
             add(fmt::format("{} {} {}", event, event.id, event.name));
           }},
      FirstAvailable{});
  ClientOptions options{
      .connect_timeout = 200ms,
      .request_timeout = fault.heavy ? Span(60s) : Span(200ms),
      .stream_idle_timeout = 200ms};
  options.retry.max_retries = 1;
  options.retry.initial_backoff = 1ms;
  OpenAIClient client(stage.base_url(), rotator,
                      CurlTransport({.ca_file = stage.ca_file(), .proxy = ""}),
                      options);
  Reply reply = streamed
                    ? client.ChatCompletionStream("{}", [](const SseEvent&) {})
                    : client.ChatCompletion("{}");
  if (reply.ok()) reply.body.clear();
  add(Render(reply));
  rotator.MarkRateLimited(kSecret, 1h);
  rotator.MarkFailed(kSecret);
  const auto rows = rotator.Snapshot();
  add(StatusTable(rows) + StatusPrometheus(rows) + StatusJson(rows).dump());
  for (const KeyStatus& row : rows) add(fmt::format("{}", row));
  return out.str();
}

TEST_CASE("nothing that is emitted under any fault shows a key",
          "[client][faults][secrets][S21][P13][T18]") {
  std::string emitted;
  {
    Captured out(STDOUT_FILENO);
    Captured error(STDERR_FILENO);
    const std::vector<WireFault> faults = AllWireFaults();
    std::atomic<std::size_t> next = 0;
    std::vector<std::string> texts(faults.size() * 2);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (std::size_t at; (at = next++) < texts.size();)
          texts[at] = EmittedUnder(faults[at / 2], at % 2 != 0);
      });
    }
    threads.clear();  // joins
    for (const std::string& text : texts) emitted += text;
    emitted += out.End() + error.End();
  }
  // What was echoed has been there.
  CHECK(emitted.find("X-Echo: Bearer [prod]") != emitted.npos);
  CHECK(emitted.find("X-Json: [prod]") != emitted.npos);
  CHECK(emitted.find("X-Url: [prod]") != emitted.npos);
  CHECK(emitted.find("X-Base64: [prod]") != emitted.npos);
  CheckClean(emitted);
}

template <class Call>
void AddError(std::string& to, Call call) {
  try {
    call();
  } catch (const std::exception& error) {
    to.append(error.what()).append("\n");
  }
}

TEST_CASE("no exception and no object that is printed shows a key",
          "[secrets][S21][P13]") {
  std::string emitted;
  const std::string bad = kSecret + "\n" + kSecret;
  AddError(emitted, [&] { KeyRotator({ApiKey(bad)}); });
  AddError(emitted, [&] { KeyRotator({ApiKey(kSecret, {.weight = -1})}); });
  AddError(emitted, [&] { MakeKeyRotator({.api_keys = {{.key = bad}}}); });
  AddError(emitted,
           [&] { MakeKeyRotator({.api_keys = {{.key_env = kSecret}}}); });
  AddError(emitted,
           [&] { MakeKeyRotator({.api_keys = {{.key_file = kSecret}}}); });
  const std::string quoted = "'" + kSecret + "'";
  for (const std::string& yaml :
       {"providers: " + quoted, "providers: [{" + quoted + ": 1}]",
        "providers: [{name: a, base_url: " + quoted + "}]",
        "providers: [{name: a, base_url: https://a, api_keys: [{key_env: " +
            quoted + "}]}]",
        "providers: [{name: a, base_url: https://a, api_keys: [{key: " +
            quoted + ", weight: " + quoted + "}]}]",
        "providers: [" + kSecret}) {
    AddError(emitted, [&] { ParseProviders(yaml); });
  }
  CHECK(std::count(emitted.begin(), emitted.end(), '\n') >= 11);
  const KeyRotator rotator({ApiKey(kSecret, {.name = "prod"})});
  std::ostringstream out;
  out << ApiKey(kSecret) << fmt::format("{}", ApiKey(kSecret));
  CheckClean(emitted + out.str());
}

// ---- What could become a header ----

TEST_CASE("nothing that a caller gives can become a header", "[secrets]") {
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(200, {"{}"}); });
  const std::string breaks =
      GENERATE(as<std::string>(), "a\r\nX-Evil: 1", "a\nX-Evil: 1",
               "a\rX-Evil: 1", "a\r\n\r\nGET / HTTP/1.1\r\n");
  CHECK_THROWS_AS(KeyRotator({ApiKey(breaks)}), std::invalid_argument);
  KeyRotator rotator({"sk-a"});
  const auto ask = [&](ClientOptions options, const CallOptions& call = {},
                       CurlOptions transport = {.proxy = ""},
                       const std::string& path = "/x") {
    OpenAIClient client(witness.origin() + "/v1", rotator,
                        CurlTransport(std::move(transport)),
                        std::move(options));
    const Reply reply = client.Post(path, "{}", call);
    CHECK(reply.outcome == Outcome::kCallerError);
    CHECK(reply.message.find("Evil") == std::string::npos);
  };
  ask({.auth_header = breaks});
  ask({.auth_prefix = breaks});
  ask({.headers = {{"X-A", breaks}}});
  ask({.headers = {{breaks, "1"}}});
  ask({}, {.headers = {{"X-A", breaks}}});
  ask({}, {.headers = {{breaks, "1"}}});
  ask({}, {.content_type = breaks});
  ask({}, {}, {.proxy = "", .user_agent = breaks});
  ask({}, {}, {.proxy = ""}, "/" + breaks);
  OpenAIClient misled(witness.origin() + "/" + breaks, rotator,
                      CurlTransport({.proxy = ""}));
  CHECK(misled.Models().outcome == Outcome::kCallerError);
  CHECK(witness.Log().empty());

  // A model is no header, and goes as the body has it.
  OpenAIClient client(witness.origin() + "/v1", rotator,
                      CurlTransport({.proxy = ""}));
  const std::string body = R"({"model":"a\r\nX-Evil: 1"})";
  CHECK(client.ChatCompletion(body).trail.size() == 1);
  CHECK(client.ChatCompletion("{}", {.scope = breaks, .affinity = breaks})
            .trail.size() == 1);
  for (const ArrivedRequest& request : witness.Log())
    CHECK_FALSE(request.headers.Find("X-Evil"));
  CHECK(witness.Log().at(0).body == body);
}

// ---- Where keys go ----

// A variable of the environment, for as long as this lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    setenv(name, value.c_str(), 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { unsetenv(name_); }

 private:
  const char* const name_;
};

// Says that over TLS, and is trusted. HOST is a host that nobody is to ask.
WireFault Trusted(const std::string& answer) {
  const auto script = [answer](Actor& act) {
    constexpr std::string_view kHost = "HOST";
    std::string text = answer;
    for (std::size_t at; (at = text.find(kHost)) != text.npos;)
      text.replace(at, kHost.size(), act.elsewhere.substr(7));
    faults_internal::ServeTls(act, text);
  };
  return {.name = "none",
          .script = script,
          .where = WireFault::Where::kTls,
          .trusted = true};
}

Reply AskTwice(const Stage& stage, CurlOptions options) {
  KeyRotator rotator({ApiKey(kSecret)});
  options.ca_file = stage.ca_file();
  ClientOptions client_options;
  client_options.retry.max_retries = 0;
  OpenAIClient client(stage.base_url(), rotator,
                      CurlTransport(std::move(options)), client_options);
  static_cast<void>(client.ChatCompletion("{}"));
  return client.ChatCompletion("{}");
}

TEST_CASE("a redirect from https takes no key along", "[secrets]") {
  const std::string status = GENERATE("301", "302", "303", "307", "308");
  const WireFault fault =
      Trusted("HTTP/1.1 " + status +
              " Moved\r\nLocation: http://HOST/x\r\nContent-Length: 0\r\n\r\n");
  Play play;
  const Stage stage(fault, play);
  CHECK(AskTwice(stage, {.proxy = ""}).status == std::stoi(status));
  CHECK(play.sends() == 2);
  CHECK(play.strayed() == 0);
}

TEST_CASE("Alt-Svc moves no request to another host", "[secrets]") {
  const WireFault fault = Trusted(
      "HTTP/1.1 200 OK\r\nAlt-Svc: h2=\"HOST\"; persist=1, "
      "http/1.1=\"HOST\"\r\n"
      "Content-Length: 14\r\n\r\n{\"choices\":[]}");
  Play play;
  const Stage stage(fault, play);
  CHECK(AskTwice(stage, {.proxy = ""}).ok());
  CHECK(play.sends() == 2);
  CHECK(play.strayed() == 0);
}

TEST_CASE("a proxy of the environment sees no key", "[secrets]") {
  std::mutex mutex;
  std::string seen;
  RawServer proxy([&](RawConnection& peer) {
    const std::string request = peer.ReadRequest();
    const std::lock_guard lock(mutex);
    seen += request;
    peer.Write("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
  });
  const char* const name = GENERATE("http_proxy", "https_proxy", "HTTPS_PROXY",
                                    "all_proxy", "ALL_PROXY");
  CAPTURE(name);
  const Variable variable(name, proxy.origin());

  // https asks it for a way through, by name alone.
  const WireFault tls =
      Trusted("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"choices\":[]}");
  Play https;
  {
    const Stage stage(tls, https);
    const Reply reply = AskTwice(stage, {});
    const bool direct = std::string_view(name) == "http_proxy";
    CHECK(reply.ok() == direct);
    CHECK(https.sends() == (direct ? 2 : 0));
    const std::lock_guard lock(mutex);
    CHECK(seen.empty() == direct);
    CHECK((direct || seen.starts_with("CONNECT 127.0.0.1:")));
    CHECK(seen.find("Authorization") == seen.npos);
    CheckClean(seen);
    seen.clear();
  }
  // What is not encrypted does not go there at all.
  Witness witness([](const ArrivedRequest&) {
    return MakeAnswer(200, {R"({"choices":[]})"});
  });
  KeyRotator rotator({ApiKey(kSecret)});
  OpenAIClient client(witness.origin() + "/v1", rotator, CurlTransport{});
  CHECK(client.ChatCompletion("{}").ok());
  const std::lock_guard lock(mutex);
  CHECK(seen.empty());
}

TEST_CASE("a .netrc changes nothing", "[secrets]") {
  const TemporaryDirectory home;
  WriteFile(home / ".netrc", "machine 127.0.0.1 login me password pw\n");
  const Variable variable("HOME", home.path().string());
  const Variable named("NETRC", (home / ".netrc").string());
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(401, {"{}"}); });
  KeyRotator rotator({"sk-a"});
  OpenAIClient client(witness.origin() + "/v1", rotator,
                      CurlTransport({.proxy = ""}));
  static_cast<void>(client.ChatCompletion("{}"));
  const auto log = witness.Log();
  REQUIRE(log.size() == 1);
  int authorizations = 0;
  for (const auto& [field, value] : log[0].headers)
    authorizations += internal::Lower(field) == "authorization" ? 1 : 0;
  CHECK(authorizations == 1);
  CHECK(log[0].headers.Find("Authorization") == "Bearer sk-a");
}

}  // namespace
}  // namespace keyrotator::testing::openai_secrets_test
