// What OpenAIClient with CurlTransport costs beside bare libcurl: requests a
// second to the same server on loopback, which answers as a provider does, with
// 1 and 8 threads. The client picks a key of eight, reads the request's model,
// judges the answer and takes in the limits that it tells.
//
// Usage: client_bench [rounds, 5] [requests a round, 2000]

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/bare_curl.h"
#include "tests/support/raw_server.h"

namespace keyrotator {
namespace {

using testing::BareCurl;
using testing::Compare;
using testing::RawConnection;
using testing::RawServer;

constexpr std::string_view kBody =
    R"({"model":"gpt-4o","messages":[{"role":"system","content":"You are a )"
    R"(helpful assistant."},{"role":"user","content":"Say hello."}]})";
constexpr std::string_view kAnswer =
    R"({"id":"chatcmpl-1","object":"chat.completion","created":1,"model":)"
    R"("gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":)"
    R"("Hello! How can I help you today?"},"logprobs":null,"finish_reason":)"
    R"("stop"}],"usage":{"prompt_tokens":19,"completion_tokens":9,)"
    R"("total_tokens":28}})";

int Main(int rounds, int requests) {
  const std::string answer =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
      "x-ratelimit-limit-requests: 1000000\r\n"
      "x-ratelimit-remaining-requests: 999999\r\n"
      "x-ratelimit-reset-requests: 6ms\r\n"
      "x-ratelimit-limit-tokens: 100000000\r\n"
      "x-ratelimit-remaining-tokens: 99999999\r\n"
      "x-ratelimit-reset-tokens: 6ms\r\nopenai-processing-ms: 200\r\n"
      "x-request-id: req_0123456789\r\nContent-Length: " +
      std::to_string(kAnswer.size()) + "\r\n\r\n" + std::string(kAnswer);
  // Ends with its clients, which close first.
  RawServer server([&](RawConnection& peer) {
    while (!peer.ReadRequest().empty() && peer.Write(answer)) {
    }
  });
  std::vector<std::string> keys;
  for (int i = 0; i < 8; ++i) keys.push_back("sk-" + std::to_string(i));
  KeyRotator rotator(keys);
  OpenAIClient client(server.origin() + "/v1", rotator,
                      CurlTransport({.proxy = ""}));

  for (const std::size_t threads : {1U, 8U}) {
    std::vector<std::unique_ptr<BareCurl>> bare;
    for (std::size_t i = 0; i < threads; ++i) {
      bare.push_back(std::make_unique<BareCurl>(
          server.origin() + "/v1/chat/completions", kBody));
    }
    const auto result = Compare(
        threads, requests / static_cast<int>(threads), rounds,
        [&](std::size_t thread) {
          return bare[thread]->Send() && bare[thread]->answer() == kAnswer;
        },
        [&](std::size_t) {
          const Reply reply = client.ChatCompletion(kBody);
          return reply.ok() && reply.body == kAnswer;
        });
    std::printf(
        "%zu thread%s: bare libcurl %.0f/s, OpenAIClient %.0f/s, ratio %.3f; "
        "processor time a request %.1f us and %.1f us\n",
        threads, threads == 1 ? "" : "s", result.base.per_second,
        result.other.per_second, result.ratio, result.base.cpu_us,
        result.other.cpu_us);
  }
  return 0;
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  return keyrotator::Main(argc > 1 ? std::atoi(argv[1]) : 5,
                          argc > 2 ? std::atoi(argv[2]) : 2'000);
}
