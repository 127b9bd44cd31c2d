// Requests that nobody sends in good faith: each is answered rightly, none
// reaches the provider, and the gateway serves the next one.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "tests/gateway/support.h"
#include "tests/support/catch.h"

namespace gateway::testing::hostile_test {
namespace {

using namespace std::chrono_literals;

struct Hostile {
  const char* what;
  std::string request;
  int status;  // 0: the connection is closed without a word
};

std::string Filled(std::string_view before, std::size_t size,
                   std::string_view after) {
  return std::string(before) + std::string(size, 'a') + std::string(after);
}

std::vector<Hostile> AllHostile() {
  const std::string smuggled = Get("/v1/models");
  const std::string post = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\n";
  std::string many = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 10'000; ++i) many += "X-" + std::to_string(i) + ": a\r\n";
  return {
      {"a length beside chunks",
       post +
           "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
           smuggled,
       400},
      {"chunks beside a length",
       post +
           "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" +
           smuggled,
       400},
      {"two lengths",
       post + "Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde" + smuggled,
       400},
      {"one length twice",
       post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400},
      {"a length with a sign", post + "Content-Length: +5\r\n\r\nabcde", 400},
      {"a list of lengths", post + "Content-Length: 5, 5\r\n\r\nabcde", 400},
      {"a length that overflows",
       post + "Content-Length: 18446744073709551617\r\n\r\na", 400},
      {"a coding that is not chunked",
       post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
      {"a coding under chunks",
       post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
      {"chunked twice",
       post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: "
              "chunked\r\n\r\n0\r\n\r\n",
       400},
      {"chunks in HTTP/1.0",
       "POST /v1/x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: "
       "chunked\r\n\r\n0\r\n\r\n",
       400},
      {"a blank before a colon",
       post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
      {"a chunk without a size",
       post + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400},
      {"a chunk that overflows",
       post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
      {"line feeds alone", "GET /v1/models HTTP/1.1\nHost: localhost\n\n", 400},
      {"a NUL in a field",
       std::string("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: a") +
           '\0' + "b\r\n\r\n",
       400},
      {"a head that is huge",
       Filled("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: ", 100'000,
              "\r\n\r\n"),
       431},
      {"a path that is huge",
       Filled("GET /v1/", 100'000, " HTTP/1.1\r\nHost: localhost\r\n\r\n"),
       431},
      {"thousands of fields", many + "\r\n", 431},
      {"a body that is said to be huge",
       post + "Content-Length: 99999999999\r\n\r\n", 413},
      {"an absolute target",
       "GET http://evil.test/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
       400},
      {"a tunnel", "CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
       405},
      {"an echo", "TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
      {"a path with a line break in it", Get("/v1/a%0d%0aHost:%20evil"), 400},
      {"a line break in the path itself",
       "GET /v1/a\r\nX: b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"a path that climbs", Get("/v1/../admin/check"), 400},
      {"a path that climbs in disguise", Get("/v1/%2e%2e/%2e%2e/etc/passwd"),
       400},
      {"a path that climbs by backslashes", Get("/v1/..%5c..%5cx"), 400},
      {"no host", "GET /v1/models HTTP/1.1\r\n\r\n", 400},
      {"two hosts",
       "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", 400},
      {"a stranger's host",
       "GET /v1/models HTTP/1.1\r\nHost: rebound.evil.test\r\n\r\n", 403},
      {"a stranger's origin",
       Get("/v1/models", "Origin: https://evil.test\r\n"), 403},
      {"an origin that hides", Get("/v1/models", "Origin: null\r\n"), 403},
      {"a stranger's image",
       Get("/v1/models", "Sec-Fetch-Site: cross-site\r\n"), 403},
      {"a stranger's preflight",
       "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: "
       "https://evil.test\r\nAccess-Control-Request-Method: POST\r\n\r\n",
       403},
      {"another expectation",
       post + "Content-Length: 1\r\nExpect: a-miracle\r\n\r\na", 417},
      {"HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"HTTP/0.9", "GET /v1/models\r\n\r\n", 400},
      {"TLS",
       std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) +
           std::string(100, 'x'),
       400},
      {"a token that is guessed, where one is asked for elsewhere",
       Get("/admin/check", "Authorization: Bearer guess\r\n"), 403},
  };
}

TEST_CASE("a hostile request is answered rightly and goes no further",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-secret-a", {}}}});
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-secret-a"})});
  const std::vector<Hostile> all = AllHostile();
  CHECK(all.size() >= 24);
  for (const Hostile& hostile : all) {
    INFO(hostile.what);
    Client client(gateway.port());
    client.Send(hostile.request);
    const Answered answer = client.Read();
    CHECK(answer.status == hostile.status);
    if (answer.status != 0) {
      CHECK(answer.whole);
      CHECK(answer.body.find("\"error\"") != answer.body.npos);
      CHECK(answer.headers.Find("Access-Control-Allow-Origin") == std::nullopt);
    }
    // What came behind it is not taken for another request.
    const bool may_stay = answer.Header("Connection") != "close";
    if (!may_stay) CHECK(client.IsClosed());
  }
  CHECK(provider.Counts().requests == 0);
  const Answered next = Ask(gateway.port(), Get("/v1/models"));
  CHECK(next.status == 200);
  CHECK(gateway.log().find("sk-secret-a") == std::string::npos);
}

TEST_CASE("a caller that is slow on purpose is shown out", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Options options;
  options.limits.head_timeout = 200ms;
  options.limits.body_silence = 200ms;
  options.limits.body_timeout = 400ms;
  options.limits.idle_timeout = 200ms;
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})}, options);

  SECTION("in its head") {
    Client client(gateway.port());
    client.Send("GET /v1/models HTTP/1.1\r\nHo");
    CHECK(client.Read().status == 408);
    CHECK(client.IsClosed());
  }
  SECTION("in its body") {
    Client client(gateway.port());
    client.Send("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n");
    client.Send("Host: b\r\n");
    // Two hosts: told at once.
    client.Send("\r\n");
    CHECK(client.Read().status == 400);
    Client other(gateway.port());
    other.Send(
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        "9\r\n\r\nabc");
    CHECK(other.Read().status == 408);
    CHECK(other.IsClosed());
  }
  SECTION("byte by byte in its body") {
    Client client(gateway.port());
    client.Send(
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        "99999\r\n\r\n");
    CHECK_FALSE(client.Drip(std::string(99'999, 'a'), 50ms));
    CHECK(client.Read().status == 408);
  }
  SECTION("between requests") {
    Client client(gateway.port());
    client.Send(Get("/healthz"));
    CHECK(client.Read().status == 200);
    CHECK(client.IsClosed());
  }
  CHECK(provider.Counts().requests == 0);
}

TEST_CASE("a body above the bound is refused where its length comes late, too",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Options options;
  options.limits.body_bytes = 1000;
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})}, options);
  CHECK(Ask(gateway.port(), Post("/v1/x", std::string(1001, 'a'))).status ==
        413);
  CHECK(Ask(gateway.port(),
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
            "chunked\r\n\r\n400\r\n" +
                std::string(0x400, 'a') + "\r\n0\r\n\r\n")
            .status == 413);
  CHECK(provider.Counts().requests == 0);
}

TEST_CASE("tokens are asked for, and no guess is let in", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Options options;
  options.tokens = {"the-right-token-1"};
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})}, options);
  for (const char* guess : {"", "the-right-token-", "the-right-token-11",
                            "sk-a", "THE-RIGHT-TOKEN-1"}) {
    INFO(guess);
    const Answered answer =
        Ask(gateway.port(),
            Get("/v1/models",
                std::string("Authorization: Bearer ") + guess + "\r\n"));
    CHECK(answer.status == 401);
    CHECK(answer.body.find("invalid_api_key") != answer.body.npos);
  }
  for (const char* page : {"/status", "/metrics", "/events", "/v1/models"}) {
    INFO(page);
    CHECK(Ask(gateway.port(), Get(page)).status == 401);
  }
  CHECK(provider.Counts().requests == 0);
  CHECK(Ask(gateway.port(), Get("/healthz")).status == 200);
  CHECK(Ask(gateway.port(),
            Get("/v1/models", "Authorization: Bearer the-right-token-1\r\n"))
            .status == 200);
  CHECK(provider.Log().back().key == "sk-a");
  CHECK(gateway.log().find("the-right-token") == std::string::npos);
}

TEST_CASE("elsewhere than on loopback a token is needed to start",
          "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Options options;
  options.host = "0.0.0.0";
  const Setup setup{.providers = {ProviderAt(provider.base_url(), {"sk-a"})}};
  CHECK_THROWS_AS(Server(options, setup, {}), std::runtime_error);
  options.tokens = {"the-right-token-1"};
  options.port = 0;
  CHECK_NOTHROW(Server(options, setup, {}));
}

TEST_CASE("more connections than may be are closed", "[gateway]") {
  FakeProvider provider({.keys = {{"sk-a", {}}}});
  Options options;
  options.limits.connections = 2;
  RunningGateway gateway({ProviderAt(provider.base_url(), {"sk-a"})}, options);
  Client first(gateway.port());
  Client second(gateway.port());
  first.Send(Get("/healthz"));
  second.Send(Get("/healthz"));
  CHECK(first.Read().status == 200);
  CHECK(second.Read().status == 200);
  Client third(gateway.port());
  CHECK(third.IsClosed());
  first.Close();
  CHECK(Eventually(
      [&] { return Ask(gateway.port(), Get("/healthz")).status == 200; }));
}

}  // namespace
}  // namespace gateway::testing::hostile_test
