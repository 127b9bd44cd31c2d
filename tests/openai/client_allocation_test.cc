// What a large request costs in memory: nothing, beyond what the caller has.

#include <cstddef>
#include <string>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/body_source.h"
#include "tests/support/catch.h"
#include "tests/support/count_allocations.h"
#include "tests/support/raw_server.h"

namespace keyrotator::openai_client_allocation_test {
namespace {

using testing::LargestAllocation;
using testing::RawConnection;
using testing::RawServer;

TEST_CASE("the largest allocation is noted, of this thread", "[client]") {
  LargestAllocation();
  CHECK(std::vector<char>(100'000).size() == 100'000);
  CHECK(std::vector<char>(10).size() == 10);
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

TEST_CASE("an upload of 64 MB takes no memory, also when it is sent again",
          "[client]") {
  constexpr std::size_t kSize = 64'000'000;
  std::vector<std::size_t> received;
  {
    RawServer server([&](RawConnection& peer) {
      // Reads a head, then as much as is to come, and keeps nothing.
      while (true) {
        std::string text;
        while (text.find("\r\n\r\n") == text.npos) {
          if (!peer.ReadSome(text)) return;
        }
        std::size_t size = text.size() - text.find("\r\n\r\n") - 4;
        while (size < kSize) {
          text.clear();
          if (!peer.ReadSome(text)) return;
          size += text.size();
        }
        received.push_back(size);
        peer.Write(received.size() == 1
                       ? "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}"
                       : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
      }
    });
    KeyRotator rotator({"sk-a", "sk-b"});
    OpenAIClient client(server.origin(), rotator, CurlTransport({.proxy = ""}));
    LargestAllocation();
    const Reply reply =
        client.Post("/files", testing::SourceOfSize(kSize),
                    {.content_type = "application/octet-stream"});
    CHECK(LargestAllocation() <= (64U << 10));
    CHECK(reply.ok());
  }
  CHECK(received == std::vector<std::size_t>{kSize, kSize});
}

}  // namespace
}  // namespace keyrotator::openai_client_allocation_test
