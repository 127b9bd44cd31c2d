// File: stop_bench.cc
//
// How long a call goes on once it is told to stop, and how late it is when its
// deadline is over, in each state that a call can be in, over real sockets. The
// aims: at most 100 ms after a stop, 50 ms after a deadline.
//
//   stop_bench [ROUNDS]   how often each is measured, by default 20

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <future>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/raw_server.h"

namespace keyrotator {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using testing::DeafPort;
using testing::RawConnection;
using testing::RawServer;

constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    "Content-Length: 999\r\n\r\n{\"a\":";
constexpr std::string_view kStream =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

// Where a call stands until somebody ends it.
struct State {
  const char* name = nullptr;
  // What the server says once it has read the request; none: it does not read.
  std::optional<std::string_view> says = "";
  bool connects = true;
  std::size_t request_size = 0;
  bool has_key = true;
  bool streamed = false;
  // A deadline ends it as late as a stop does.
  bool has_deadline = true;
};

std::vector<State> AllStates() {
  return {
      {.name = "waiting for a key", .has_key = false},
      {.name = "connecting", .connects = false},
      // The server reads nothing, and this is more than the kernel takes.
      {.name = "sending", .says = std::nullopt, .request_size = 64 << 20},
      {.name = "waiting for the head"},
      {.name = "amid a body", .says = kHead},
      // Has begun: its deadline is kept.
      {.name = "amid a stream",
       .says = kStream,
       .streamed = true,
       .has_deadline = false},
      // A retry after the deadline is not waited for.
      {.name = "waiting to retry",
       .says = "HTTP/1.1 503 Unavailable\r\nRetry-After: 50\r\n"
               "Content-Length: 0\r\n\r\n",
       .has_deadline = false},
  };
}

// Milliseconds from the stop, or without one from the deadline, to the reply.
double Lateness(const State& state, bool stopped) {
  std::promise<void> over;
  const std::shared_future<void> is_over = over.get_future().share();
  const DeafPort deaf;
  const RawServer server([&](RawConnection& peer) {
    if (state.says) {
      peer.ReadRequest();
      peer.Write(*state.says);
    }
    is_over.wait();
  });
  const std::string url = state.connects ? server.origin() : deaf.origin();
  KeyRotator rotator({ApiKey("sk-a", {.name = "A", .max_in_flight = 1})});
  std::optional<Lease> held;
  if (!state.has_key) held = rotator.Pick();
  OpenAIClient client(url, rotator, CurlTransport({.proxy = ""}),
                      {.connect_timeout = 60s, .request_timeout = 60s});
  const std::string body =
      fmt::format(R"({{"model":"m","stream":{},"x":"{}"}})", state.streamed,
                  std::string(state.request_size, 'x'));
  const auto listen = [](const SseEvent&) {};
  std::stop_source stop;
  CallOptions call{.stop = stop.get_token()};
  // Long enough to come to where it stays.
  constexpr auto kUntil = 50ms;
  Clock::time_point end = Clock::now() + kUntil;
  if (!stopped) call.deadline = kUntil;
  std::jthread stopper;
  if (stopped) {
    stopper = std::jthread([&] {
      std::this_thread::sleep_for(kUntil);
      end = Clock::now();
      stop.request_stop();
    });
  }
  const Reply reply = state.streamed
                          ? client.ChatCompletionStream(body, listen, call)
                          : client.ChatCompletion(body, call);
  const auto returned = Clock::now();
  over.set_value();
  if (stopper.joinable()) stopper.join();
  if (reply.ok() || stopped != (reply.outcome == Outcome::kStopped)) {
    fmt::print("{}: {}, {}\n", state.name, reply.outcome, reply.message);
    std::exit(1);
  }
  return std::chrono::duration<double, std::milli>(returned - end).count();
}

std::string Figures(const State& state, bool stopped, int rounds) {
  std::vector<double> late;
  for (int i = 0; i < rounds; ++i) late.push_back(Lateness(state, stopped));
  std::ranges::sort(late);
  return fmt::format("{:.1f} and {:.1f}", late[late.size() / 2], late.back());
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  const int rounds = std::max(argc > 1 ? std::atoi(argv[1]) : 20, 1);
  fmt::print("median and most of {}, in ms\n{:22}{:>16}{:>18}\n", rounds, "",
             "after a stop", "after a deadline");
  for (const keyrotator::State& state : keyrotator::AllStates()) {
    fmt::print("{:22}{:>16}{:>18}\n", state.name, Figures(state, true, rounds),
               state.has_deadline ? Figures(state, false, rounds) : "");
  }
}
