// What CurlTransport costs beside bare libcurl, and how fast a stop is.
//
// Both send the same small request to the same server on loopback, with kept
// connections, in turns. The ratio is the median of the rounds' ratios.
// Usage: transport_bench [rounds, 31]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/http/message.h"
#include "tests/support/bare_curl.h"
#include "tests/support/raw_server.h"

namespace keyrotator {
namespace {

using testing::BareCurl;
using testing::Compare;
using testing::Median;
using testing::RawConnection;
using testing::RawServer;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kBody =
    R"({"model":"m","messages":[{"role":"user","content":"hello"}]})";
constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
    "x-request-id: 0123456789\r\nContent-Length: 27\r\n\r\n"
    R"({"choices":[{"index": 0} ]})";
constexpr std::string_view kAnswerBody = kAnswer.substr(kAnswer.size() - 27);

struct Collect : ResponseSink {
  void OnHead(int status_now, Headers headers_now) override {
    status = status_now;
    headers = std::move(headers_now);
  }
  Flow OnBody(std::string_view bytes) override {
    body += bytes;
    return Flow::kMore;
  }
  int status = 0;
  Headers headers;
  std::string body;
};

HttpRequest Request(const std::string& origin) {
  HttpRequest request;
  request.url = origin + "/v1/chat/completions";
  request.headers = {{"Authorization", "Bearer sk-0123456789"},
                     {"Content-Type", "application/json"},
                     {"Accept", "application/json"}};
  request.body = kBody;
  return request;
}

void CompareRates(CurlTransport& transport, const std::string& origin,
                  std::size_t threads, int rounds) {
  const HttpRequest request = Request(origin);
  std::vector<std::unique_ptr<BareCurl>> bare;
  for (std::size_t i = 0; i < threads; ++i) {
    bare.push_back(std::make_unique<BareCurl>(request.url, kBody));
  }
  const auto result = Compare(
      threads, static_cast<int>(2'000 / threads), rounds,
      [&](std::size_t thread) {
        return bare[thread]->Send() && bare[thread]->answer() == kAnswerBody;
      },
      [&](std::size_t) {
        Collect answer;
        return !transport.Send(request, answer, {}) &&
               answer.body == kAnswerBody;
      });
  std::printf(
      "%zu thread%s: bare libcurl %.0f/s, CurlTransport %.0f/s, ratio %.3f; "
      "processor "
      "time a request %.1f us and %.1f us\n",
      threads, threads == 1 ? "" : "s", result.base.per_second,
      result.other.per_second, result.ratio, result.base.cpu_us,
      result.other.cpu_us);
}

// From request_stop, which the server calls when it has the request and never
// answers, to the return of Send.
void StopLatency(int rounds) {
  std::vector<double> waits;
  for (int round = 0; round < rounds; ++round) {
    std::stop_source source;
    Clock::time_point stopped;
    CurlTransport transport;
    Clock::time_point returned;
    {
      RawServer server([&](RawConnection& peer) {
        peer.ReadRequest();
        stopped = Clock::now();
        source.request_stop();
        peer.WaitUntilPeerLeaves();
      });
      Collect answer;
      static_cast<void>(
          transport.Send(Request(server.origin()), answer, source.get_token()));
      returned = Clock::now();
    }
    waits.push_back(
        std::chrono::duration<double, std::micro>(returned - stopped).count());
  }
  std::printf("stop: median %.0f us, longest %.0f us of %d\n", Median(waits),
              *std::max_element(waits.begin(), waits.end()), rounds);
}

int Main(int rounds) {
  {
    CurlTransport curl({.proxy = ""});
    // The client's ends close first: the scripts end with them.
    RawServer server([](RawConnection& peer) {
      while (!peer.ReadRequest().empty() && peer.Write(kAnswer)) {
      }
    });
    for (const std::size_t threads : {1U, 8U}) {
      CompareRates(curl, server.origin(), threads, rounds);
    }
    curl = CurlTransport();
  }
  StopLatency(200);
  return 0;
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  return keyrotator::Main(argc > 1 ? std::atoi(argv[1]) : 31);
}
