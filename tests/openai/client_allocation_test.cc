// What a large request costs in memory: nothing, beyond what the caller has.

#include <cstddef>
#include <memory>
#include <string>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/catch.h"
#include "tests/support/count_allocations.h"
#include "tests/support/raw_server.h"

namespace keyrotator {
namespace {

using testing::LargestAllocation;
using testing::RawConnection;
using testing::RawServer;

TEST_CASE("the largest allocation is noted, of this thread", "[client]") {
  LargestAllocation();
  { const auto memory = std::make_unique<char[]>(100'000); }
  { const auto memory = std::make_unique<char[]>(10); }
  CHECK(LargestAllocation() == 100'000);
  CHECK(LargestAllocation() < 100'000);
}

TEST_CASE("a body of 5 MB goes out without a copy of it", "[client]") {
  std::string body = R"({"model": "gpt-4o", "messages": [)";
  while (body.size() < (5U << 20))
    body += R"({"role": "user", "content": "Say hello."}, )";
  body += "{}]}";
  std::size_t received = 0;
  RawServer server([&](RawConnection& peer) {
    for (int i = 0; i < 2; ++i) {
      const std::string request = peer.ReadRequest();
      received += request.size() - request.find("\r\n\r\n") - 4;
      peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    }
  });
  KeyRotator rotator({"sk-a"});
  OpenAIClient client(server.origin(), rotator, CurlTransport({.proxy = ""}));
  for (int i = 0; i < 2; ++i) {
    LargestAllocation();
    const Reply reply = client.ChatCompletion(body);
    CHECK(LargestAllocation() <= (64U << 10));
    CHECK(reply.ok());
  }
  CHECK(received == 2 * body.size());
}

}  // namespace
}  // namespace keyrotator
