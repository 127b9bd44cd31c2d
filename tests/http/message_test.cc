#include "keyrotator/http/message.h"

#include <string>

#include "keyrotator/http/transport.h"
#include "tests/support/catch.h"

namespace keyrotator::http_message_test {
namespace {

TEST_CASE("header names compare without regard to case", "[http]") {
  const Headers headers{{"Content-Type", "text/plain"},
                        {"x-ratelimit-limit-requests", "60"}};
  CHECK(headers.Find("content-type") == "text/plain");
  CHECK(headers.Find("X-RateLimit-Limit-Requests") == "60");
  CHECK(headers.Find("content") == std::nullopt);
  CHECK(headers.Find("") == std::nullopt);
}

TEST_CASE("only ASCII letters are folded", "[http]") {
  const Headers headers{{"x-[", "1"}, {"\xC4", "2"}};
  CHECK(headers.Find("x-{") == std::nullopt);
  CHECK(headers.Find("\xE4") == std::nullopt);
}

TEST_CASE("a header is set once, in place of all of that name", "[http]") {
  Headers headers{{"A", "1"}, {"b", "2"}, {"a", "3"}};
  headers.Set("a", "4");
  REQUIRE(headers.size() == 2);
  CHECK(headers.Find("A") == "4");
  CHECK(headers.begin()->name == "b");
  headers.Set("C", "5");
  CHECK(headers.Find("c") == "5");
}

TEST_CASE("a header is removed as often as it is there", "[http]") {
  Headers headers{{"A", "1"}, {"b", "2"}, {"a", "3"}};
  headers.Remove("x");
  CHECK(headers.size() == 3);
  headers.Remove("a");
  CHECK(headers.size() == 1);
  CHECK(headers.Find("a") == std::nullopt);
  CHECK(headers.Find("b") == "2");
}

TEST_CASE("of a header that comes twice the first is found and both are kept",
          "[http][T15]") {
  Headers headers;
  CHECK(headers.empty());
  headers.Add("Retry-After", "1");
  headers.Add("retry-after", "2");
  CHECK(headers.Find("RETRY-AFTER") == "1");
  CHECK(headers.size() == 2);
  std::string values;
  for (const Headers::Field& field : headers) values += field.value;
  CHECK(values == "12");
}

struct GoodTransport {
  std::optional<TransportError> Send(const HttpRequest&, ResponseSink&,
                                     std::stop_token) {
    return std::nullopt;
  }
};
struct BadTransport {
  bool Send(const HttpRequest&, ResponseSink&, std::stop_token) { return true; }
};
static_assert(internal::IsTransport<GoodTransport>);
static_assert(!internal::IsTransport<BadTransport>);
static_assert(!internal::IsTransport<int>);

}  // namespace
}  // namespace keyrotator::http_message_test
