// What the gateway decides without a socket: heads, names, tokens, headers,
// routes, errors.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/guard.h"
#include "gateway/models_request.h"
#include "gateway/passed_headers.h"
#include "gateway/problem.h"
#include "gateway/request_head.h"
#include "gateway/request_parser.h"
#include "gateway/routes.h"
#include "gateway/tokens.h"
#include "tests/support/catch.h"

namespace gateway::head_test {
namespace {

using keyrotator::Headers;
using keyrotator::Outcome;

RequestHead Head(std::string target, Headers more = {}) {
  RequestHead head{
      .method = "GET", .target = std::move(target), .headers = std::move(more)};
  if (!head.headers.Find("Host")) head.headers.Add("Host", "localhost");
  return head;
}

int StatusOf(const std::optional<Problem>& problem) {
  return problem ? problem->status : 0;
}

TEST_CASE("a path that climbs is refused however it is written", "[gateway]") {
  for (const char* path :
       {"/v1/../admin", "/..", "/v1/.", "/v1/%2e%2e/x", "/v1/%2E./x",
        "/v1/..%2fx", "/v1/..\\x", "/v1/%5c..%5cx", "/v1/a%0d%0aX:1", "/v1/%00",
        "/v1/%7f", "/v1/%zz", "/v1/%2", "v1", "", "/v1/a b", "/v1/#f",
        "http://elsewhere/v1/models", "*"}) {
    INFO(path);
    CHECK(StatusOf(CheckHead(Head(path))) == 400);
  }
  for (const char* path :
       {"/", "/v1/models", "/v1/models/meta-llama%2FLlama-3", "/v1/a..b/...",
        "/v1/files/a%20b", "/v1/x?to=../y"}) {
    INFO(path);
    CHECK(StatusOf(CheckHead(Head(path))) == 0);
  }
}

TEST_CASE("a host is an address, this machine, or one that was allowed",
          "[gateway]") {
  const Guard guard(Options{.allow_hosts = {"gateway.lan"}});
  for (const char* host :
       {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080",
        "192.168.0.7:8080", "[::1]:8080", "gateway.lan", "Gateway.LAN:80"}) {
    INFO(host);
    CHECK(StatusOf(guard.CheckPlace(Head("/", {{"Host", host}}))) == 0);
  }
  for (const char* host :
       {"evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "", "a b",
        "evil.test:80", "user@localhost", "localhost/x", "gateway.lan.evil"}) {
    INFO(host);
    CHECK(StatusOf(guard.CheckPlace(Head("/", {{"Host", host}}))) == 403);
  }
}

TEST_CASE("HTTP/1.0 need not say a host, and if it does, not a stranger's",
          "[gateway]") {
  const Guard guard(Options{});
  RequestHead head = Head("/", {{"Host", "evil.test"}});
  head.http_1_0 = true;
  CHECK(StatusOf(guard.CheckPlace(head)) == 403);
  head.headers = {{"Host", "localhost"}};
  CHECK(StatusOf(guard.CheckPlace(head)) == 0);
  head.headers = {};
  CHECK(StatusOf(guard.CheckPlace(head)) == 0);
  head.http_1_0 = false;
  CHECK(StatusOf(guard.CheckPlace(head)) == 403);
}

TEST_CASE("a page of another origin may not ask", "[gateway]") {
  const Guard guard(Options{.allow_origins = {"https://app.test"}});
  const auto status = [&](Headers headers) {
    headers.Add("Host", "localhost:8080");
    return StatusOf(guard.CheckPlace(Head("/v1/models", std::move(headers))));
  };
  CHECK(status({}) == 0);
  CHECK(status({{"Origin", "http://localhost:8080"}}) == 0);
  CHECK(status({{"Origin", "https://app.test"}}) == 0);
  CHECK(status({{"Origin", "http://localhost:9090"}}) == 403);
  CHECK(status({{"Origin", "http://evil.test"}}) == 403);
  CHECK(status({{"Origin", "null"}}) == 403);
  CHECK(status({{"Origin", ""}}) == 403);
  CHECK(status({{"Sec-Fetch-Site", "cross-site"}}) == 403);
  CHECK(status({{"Sec-Fetch-Site", "same-site"}}) == 403);
  CHECK(status({{"Sec-Fetch-Site", "same-origin"}}) == 0);
  CHECK(status({{"Sec-Fetch-Site", "none"}}) == 0);
  CHECK(status({{"Sec-Fetch-Site", "cross-site"},
                {"Sec-Fetch-Mode", "navigate"}}) == 0);
}

TEST_CASE("a token is taken from where clients put their key", "[gateway]") {
  const std::string token = "a-token-of-the-tests";
  const Guard guard(
      Options{.tokens = {token}, .admin_tokens = {"another-token-here"}});
  const auto status = [&](Headers headers) {
    return StatusOf(guard.CheckToken(Head("/v1/models", std::move(headers))));
  };
  CHECK(status({{"Authorization", "Bearer " + token}}) == 0);
  CHECK(status({{"authorization", "bearer " + token}}) == 0);
  CHECK(status({{"api-key", token}}) == 0);
  CHECK(status({{"x-api-key", token}}) == 0);
  CHECK(status({{"Authorization", "Bearer another-token-here"}}) == 0);
  CHECK(status({}) == 401);
  CHECK(status({{"Authorization", token}}) == 401);
  CHECK(status({{"Authorization", "Basic " + token}}) == 401);
  CHECK(status({{"Authorization", "Bearer "}}) == 401);
  CHECK(status({{"Authorization", "Bearer " + token + "x"}}) == 401);
  CHECK(status({{"Authorization", "Bearer " + token.substr(1)}}) == 401);
  CHECK(status({{"Authorization", "Bearer x"}, {"api-key", token}}) == 401);
  CHECK_FALSE(guard.IsAdmin(Head("/", {{"Authorization", "Bearer " + token}})));
  CHECK(guard.IsAdmin(
      Head("/", {{"Authorization", "Bearer another-token-here"}})));
  CHECK_FALSE(Guard(Options{}).IsAdmin(Head("/")));
}

TEST_CASE("no key of the caller's reaches the provider", "[gateway]") {
  const Headers passed =
      HeadersForProvider({{"Host", "localhost"},
                          {"Authorization", "Bearer own"},
                          {"API-Key", "own"},
                          {"x-api-key", "own"},
                          {"X-Goog-Api-Key", "own"},
                          {"Cookie", "own"},
                          {"Proxy-Authorization", "own"},
                          {"X-Secret", "own"},
                          {"Connection", "keep-alive, X-Hop , te"},
                          {"X-Hop", "own"},
                          {"TE", "trailers"},
                          {"Content-Length", "3"},
                          {"Transfer-Encoding", "chunked"},
                          {"Accept-Encoding", "gzip"},
                          {"x-keyrotator-key", "own"},
                          {"OpenAI-Beta", "assistants=v2"},
                          {"Content-Type", "application/json"},
                          {"Idempotency-Key", "5"}},
                         "X-Secret");
  std::string text;
  for (const auto& [name, value] : passed) text += name + "=" + value + " ";
  CHECK(text ==
        "OpenAI-Beta=assistants=v2 Content-Type=application/json "
        "Idempotency-Key=5 Accept-Encoding=identity ");
  CHECK(QueryForProvider("a=1&key=own&API_KEY=own&b=2&api-key=own") ==
        "a=1&b=2");
  CHECK(QueryForProvider("").empty());
}

TEST_CASE("no header of the provider's speaks for its origin", "[gateway]") {
  const Headers passed = HeadersForCaller({{"Content-Type", "audio/mpeg"},
                                           {"Set-Cookie", "a"},
                                           {"Access-Control-Allow-Origin", "*"},
                                           {"Strict-Transport-Security", "a"},
                                           {"Connection", "close, X-Hop"},
                                           {"X-Hop", "a"},
                                           {"X-Request-Id", "r"},
                                           {"Content-Length", "5"},
                                           {"x-keyrotator-key", "forged"}});
  REQUIRE(passed.size() == 2);
  CHECK(passed.Find("content-type") == "audio/mpeg");
  CHECK(passed.Find("x-request-id") == "r");
}

TEST_CASE("a path or a model leads to a provider", "[gateway]") {
  const Routes routes(
      {{.name = "openai", .base_url = "https://api.openai.com/v1"},
       {.name = "groq",
        .base_url = "https://api.groq.com/openai/v1?v=1",
        .models = {"llama-*"}}});
  CHECK(routes.Find("/v1/models")->path == "/models");
  CHECK_FALSE(routes.Find("/v1/models")->provider.has_value());
  CHECK(routes.Find("/v1")->path.empty());
  CHECK(routes.Find("/groq/v1/chat/completions")->provider == 1);
  CHECK(routes.Find("/groq/v1/chat/completions")->path == "/chat/completions");
  for (const char* path : {"/v1x", "/v2/models", "/groq/models", "/nobody/v1/x",
                           "/", "", "/metrics", "//v1/models"}) {
    INFO(path);
    CHECK_FALSE(routes.Find(path).has_value());
  }
  CHECK(routes.ForModel("llama-3") == 1);
  CHECK(routes.ForModel("gpt-4o") == 0);
  CHECK(routes.UrlOf(1, "/models", "a=1&key=own") ==
        "https://api.groq.com/openai/v1/models?a=1&v=1");
  CHECK(routes.UrlOf(0, "", "") == "https://api.openai.com/v1");
}

TEST_CASE("a configuration that cannot work is refused at the start",
          "[gateway]") {
  const auto refused = [](std::vector<keyrotator::ProviderConfig> providers) {
    CHECK_THROWS_AS(Routes(std::move(providers)), std::invalid_argument);
  };
  refused({});
  refused({{.name = "metrics", .base_url = "https://h/v1"}});
  refused({{.name = "v1", .base_url = "https://h/v1"}});
  refused({{.name = "a", .base_url = "http://elsewhere/v1"}});
}

TEST_CASE("the model is found in what there is of a body", "[gateway]") {
  RequestHead json = Head("/v1/x", {{"Content-Type", "application/json"}});
  CHECK(ModelOf(json, "/x", R"({"a": 1, "model": "m"})", true) == "m");
  CHECK(ModelOf(json, "/x", R"({"model": "m", "a": [1, 2)", false) == "m");
  CHECK(ModelOf(json, "/x", R"({"a": [1, 2)", false).empty());
  CHECK(ModelOf(json, "/models/a%2Fb", "", true) == "a/b");
  CHECK(ModelOf(json, "/files", "", true).empty());
  RequestHead form =
      Head("/v1/x", {{"Content-Type", "multipart/form-data; boundary=x"}});
  CHECK(ModelOf(form, "/x",
                "--x\r\nContent-Disposition: form-data; "
                "name=\"model\"\r\n\r\nwhisper-1\r\n--x",
                false) == "whisper-1");
}

TEST_CASE("a request is interactive unless it says that it is a batch",
          "[gateway]") {
  using keyrotator::Priority;
  CHECK(PriorityOf(Head("/v1/x", {})) == Priority::kInteractive);
  for (const auto& [word, priority] :
       {std::pair("batch", Priority::kBatch),
        {"BATCH", Priority::kBatch},
        {"interactive", Priority::kInteractive}}) {
    INFO(word);
    const RequestHead head = Head("/v1/x", {{"X-KeyRotator-Priority", word}});
    CHECK(PriorityOf(head) == priority);
    CHECK_FALSE(HeadersForProvider(head.headers, "Authorization")
                    .Find("x-keyrotator-priority"));
  }
  for (const char* word : {"", "low", "batch,batch", "1"}) {
    INFO(word);
    CHECK_FALSE(PriorityOf(Head("/v1/x", {{"x-keyrotator-priority", word}})));
  }
}

TEST_CASE("an outcome becomes a status that SDKs wait for or leave alone",
          "[gateway]") {
  using std::chrono::milliseconds;
  const Problem cooling =
      ProblemOf(Outcome::kAllCooling, "wait", milliseconds(1200));
  CHECK(cooling.status == 429);
  const Headers headers = ProblemHeaders(cooling);
  CHECK(headers.Find("Retry-After") == "2");
  CHECK(headers.Find("retry-after-ms") == "1200");
  CHECK(ErrorBody(cooling) ==
        R"({"error":{"message":"wait","type":"rate_limit_error","param":null,)"
        R"("code":"all_keys_cooling"}})");
  CHECK(ProblemOf(Outcome::kBusy, "", {}).status == 503);
  CHECK(ProblemHeaders(ProblemOf(Outcome::kBusy, "", {})).Find("Retry-After") ==
        "1");
  CHECK(ProblemOf(Outcome::kAllFailed, "", {}).status == 503);
  CHECK(ProblemHeaders(ProblemOf(Outcome::kAllFailed, "", {}))
            .Find("x-should-retry") == "false");
  CHECK(ProblemOf(Outcome::kDeadline, "", {}).status == 503);
  CHECK(ProblemOf(Outcome::kDeadline, "", milliseconds(5)).status == 429);
  CHECK(ProblemOf(Outcome::kUnavailable, "", {}).status == 502);
  CHECK(ProblemHeaders(ProblemOf(Outcome::kAllCooling, "", milliseconds(-5)))
            .Find("retry-after-ms") == "1");
}

TEST_CASE("text in an error breaks no JSON", "[gateway]") {
  const std::string body =
      ErrorBody({.code = "a\"b", .message = "line\nquote\" \xff end"});
  CHECK(body.find('\n') == body.npos);
  CHECK(body.find(R"(line\nquote\" \\xff end)") != body.npos);
}

TEST_CASE("lists of models are joined as they were written", "[gateway]") {
  CHECK(
      JoinModels({R"({"object": "list", "data": [{"id": "a", "x": 1.50}]})",
                  R"({"data":[{"id":"a"},{"id":"b","n":[1,2]},5]})", "", "[]",
                  R"({"data": 5})"}) ==
      R"({"object":"list","data":[{"id": "a", "x": 1.50},{"id":"b","n":[1,2]},5]})");
  CHECK(JoinModels({}) == R"({"object":"list","data":[]})");
}

TEST_CASE("a request is the same however its bytes are split", "[gateway]") {
  const std::string text =
      "POST /v1/x?a=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
      "X-A:  b \r\n\r\n3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nT: 1\r\n\r\nGET ";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    RequestParser parser(4096, 100);
    std::string body;
    std::string waiting;
    std::size_t taken = 0;
    for (std::size_t at = 0; at < text.size() && !parser.got_all();) {
      const std::size_t size = std::min(step, text.size() - at);
      waiting.append(text, at, size);
      at += size;
      while (!waiting.empty() && !parser.got_all()) {
        const std::size_t used = parser.Feed(waiting);
        body += parser.body();
        taken += used;
        waiting.erase(0, used);
        if (used == 0) break;
      }
      REQUIRE_FALSE(parser.problem());
    }
    REQUIRE(parser.got_all());
    CHECK(taken == text.size() - 4);
    CHECK(body == "abcdefg");
    CHECK(parser.head().method == "POST");
    CHECK(parser.head().path() == "/v1/x");
    CHECK(parser.head().query() == "a=1");
    CHECK(parser.head().headers.Find("x-a") == "b");
    CHECK(parser.head().chunked);
    CHECK(parser.head().keep_alive);
  }
}

}  // namespace
}  // namespace gateway::head_test
