#include "keyrotator/http/url.h"

#include <string>

#include "tests/support/catch.h"

namespace keyrotator::internal::http_url_test {
namespace {

TEST_CASE("a URL falls into what a transport needs", "[url]") {
  struct Case {
    const char* text;
    bool tls;
    const char* host;
    int port;
    const char* target;
    const char* origin;
  };
  for (const Case& c :
       {Case{"https://api.example.com/v1/models?key=a#b", true,
             "api.example.com", 443, "/v1/models?key=a",
             "https://api.example.com:443"},
        Case{"http://127.0.0.1:8000", false, "127.0.0.1", 8000, "/",
             "http://127.0.0.1:8000"},
        Case{"http://0.255.10.9", false, "0.255.10.9", 80, "/",
             "http://0.255.10.9:80"},
        Case{"http://4.h1.0a./", false, "4.h1.0a.", 80, "/",
             "http://4.h1.0a.:80"},
        Case{"http://h/~a!", false, "h", 80, "/~a!", "http://h:80"},
        Case{"http://h?a=://b@c:1", false, "h", 80, "/?a=://b@c:1",
             "http://h:80"},
        Case{"HTTPS://[::1]:65535/x", true, "::1", 65535, "/x",
             "https://[::1]:65535"},
        Case{"http://[fe80::ABcd:1.2.3.4]/", false, "fe80::ABcd:1.2.3.4", 80,
             "/", "http://[fe80::ABcd:1.2.3.4]:80"}}) {
    INFO(c.text);
    const auto url = ParseUrl(c.text);
    REQUIRE(url);
    CHECK(url->tls == c.tls);
    CHECK(url->host == c.host);
    CHECK(url->port == c.port);
    CHECK(url->target == c.target);
    CHECK(url->origin == c.origin);
  }
}

TEST_CASE("a URL that two readers could read differently is none", "[url]") {
  for (const char* text : {"",
                           "/",
                           "http",
                           "http:",
                           "http:/h",
                           "http//h",
                           "://h",
                           "ftp://h",
                           "http://",
                           "http://?a",
                           "http://#a",
                           "http://:80",
                           "http://h:",
                           "http://h:0",
                           "http://h:-1",
                           "http://h:+80",
                           "http://h:65536",
                           "http://h:99999999999999999999",
                           "http://h:80x",
                           "http://h:8:0",
                           "http://u@h",
                           "http://u:p@h",
                           "http://h\\@x",
                           "http://h%2e",
                           "http://2",
                           "http://127.1",
                           "http://2130706433",
                           "http://0x7f.0.0.1",
                           "http://h.0X1",
                           "http://127.0.0.01",
                           "http://256.0.0.1",
                           "http://1..2.3",
                           "http://127.0.0.1.5",
                           "http://127.0.0.1.",
                           "http://h.1.",
                           "http://[",
                           "http://[]",
                           "http://[::1",
                           "http://[::1]x",
                           "http://[::1]80",

                           "http://[fe80::1%25eth0]",
                           "http://::1",
                           "http://h/ ",
                           " http://h",
                           "http://h/\t",
                           "http://h/\x7f",
                           "http://h/\xff"}) {
    INFO(text);
    CHECK_FALSE(ParseUrl(text));
  }
  CHECK_FALSE(ParseUrl(std::string("http://h/\0", 10)));
}

TEST_CASE("a path is put below the base, before the query of the base",
          "[url]") {
  CHECK(JoinUrl("https://h/v1", "/models") == "https://h/v1/models");
  CHECK(JoinUrl("https://h/v1/", "/models?a=1") == "https://h/v1/models?a=1");
  CHECK(JoinUrl("https://h/v1?v=2", "/models") == "https://h/v1/models?v=2");
  CHECK(JoinUrl("https://h/v1/?v=2", "/m?a=1") == "https://h/v1/m?a=1&v=2");
}

TEST_CASE("keys go by TLS, over loopback, or where http is allowed", "[url]") {
  CHECK(BaseUrlError("https://h/v1", false).empty());
  CHECK(BaseUrlError("http://127.0.0.1:8000/v1", false).empty());
  CHECK(BaseUrlError("http://[::1]/v1", false).empty());
  CHECK(BaseUrlError("http://localhost/v1", false).empty());
  CHECK(BaseUrlError("http://h/v1", true).empty());
  const std::string readable = BaseUrlError("http://h/v1?key=sk-1", false);
  CHECK(readable.find("http://h:80 is not encrypted") == 0);
  CHECK(readable.find("sk-1") == readable.npos);
  CHECK_FALSE(BaseUrlError("http://127.0.0.1.evil.test/v1", false).empty());
  CHECK_FALSE(BaseUrlError("https://h/v1#f", false).empty());
  CHECK_FALSE(BaseUrlError("ftp://h", true).empty());
}

}  // namespace
}  // namespace keyrotator::internal::http_url_test
