// Processes of a fleet and their Redis, any of them killed, stopped or restarted
// at any time: the others go on, nobody hangs or crashes, and all find together
// again.
//
// KEYROTATOR_KILL_ROUNDS=200 for ten minutes of it, KEYROTATOR_KILL_SEED for
// another order.

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <random>
#include <string_view>
#include <thread>
#include <utility>

#include "keyrotator/fleet/fleet.h"
#include "keyrotator/keyrotator.h"
#include "keyrotator/redis/redis_exchange.h"
#include "tests/support/catch.h"
#include "tests/support/eventually.h"
#include "tests/support/redis_server.h"
#include "tests/support/rotator.h"
#include "tests/support/skip_without_redis.h"

namespace keyrotator::redis_kill_test {
namespace {

using namespace std::chrono_literals;
using testing::Eventually;
using testing::Letters;
using testing::RedisServer;
using Clock = std::chrono::steady_clock;

// What a process says of itself, in memory that the others see.
struct Pulse {
  std::atomic<std::uint64_t> beats = 0;  // picks
  std::atomic<std::uint64_t> exchanges = 0;
  std::atomic<std::uint64_t> misses = 0;
  std::atomic<bool> is_connected = false;
};
constexpr std::size_t kProcesses = 4;
using Pulses = std::array<Pulse, kProcesses>;

class SharedPulses {
 public:
  SharedPulses()
      : memory_(mmap(nullptr, sizeof(Pulses), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    REQUIRE(memory_ != MAP_FAILED);
    pulses_ = new (memory_) Pulses;
  }
  SharedPulses(const SharedPulses&) = delete;
  SharedPulses& operator=(const SharedPulses&) = delete;
  ~SharedPulses() { munmap(memory_, sizeof(Pulses)); }

  Pulse& operator[](std::size_t i) { return (*pulses_)[i]; }

 private:
  void* memory_;
  Pulses* pulses_;
};

// Picks for ever, has requests served and refused, keys failed and restored.
[[noreturn]] void Live(const RedisServer& server, Pulse& pulse,
                       std::uint32_t seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to outlive the test
  RedisOptions options;
  options.url = server.url();
  options.pool = "prod";
  options.secret = "of the fleet";
  options.timeout = 100ms;
  KeyRotator<> rotator(Letters("ABCD"), {.retry_failed_after = 1s});
  const Fleet fleet(rotator, RedisExchange(std::move(options)),
                    {.period = 50ms});
  std::mt19937 dice(seed);
  while (true) {
    if (auto lease = rotator.Pick({.scope = "gpt-4o"})) {
      const auto roll = dice() % 1000;
      if (roll == 0) {
        rotator.MarkFailed(*lease);
      } else if (roll < 10) {
        rotator.MarkRateLimited(*lease, 20ms);
      } else if (roll < 12) {
        rotator.Restore(lease->id());
      } else {
        rotator.Settle(
            *lease,
            {.kind = Report::Kind::kServed,
             .limits = RateLimits{
                 .requests = {.limit = 1e6, .remaining = 9e5, .reset = 1s}}});
      }
    }
    const FleetStatus status = fleet.Status();
    pulse.exchanges = status.exchanges;
    pulse.misses = status.misses;
    pulse.is_connected = status.is_connected;
    ++pulse.beats;
    std::this_thread::yield();
  }
}

class Fleets {
 public:
  Fleets() {
    for (std::size_t i = 0; i < kProcesses; ++i) Begin(i);
  }
  Fleets(const Fleets&) = delete;
  Fleets& operator=(const Fleets&) = delete;
  ~Fleets() {
    for (std::size_t i = 0; i < kProcesses; ++i) Kill(i);
  }

  RedisServer& server() { return server_; }

  void Begin(std::size_t i) {
    new (&pulses_[i]) Pulse;
    processes_[i] = fork();
    if (processes_[i] != 0) return;
    try {
      Live(server_, pulses_[i], ++seed_);
    } catch (const std::exception&) {
      std::abort();
    }
  }
  void Kill(std::size_t i) {
    kill(processes_[i], SIGKILL);
    waitpid(processes_[i], nullptr, 0);
  }
  void Signal(std::size_t i, int signal) { kill(processes_[i], signal); }

  // Each process but `one` goes on picking, whatever the others and Redis do.
  bool GoesOn(std::size_t but = kProcesses) {
    std::array<std::uint64_t, kProcesses> before;
    for (std::size_t i = 0; i < kProcesses; ++i) before[i] = pulses_[i].beats;
    return Eventually([&] {
      for (std::size_t i = 0; i < kProcesses; ++i) {
        if (i != but && pulses_[i].beats < before[i] + 100) return false;
      }
      return true;
    });
  }
  // Each has missed so many answers more.
  bool IsMissed(std::uint64_t count) {
    std::array<std::uint64_t, kProcesses> before;
    for (std::size_t i = 0; i < kProcesses; ++i) before[i] = pulses_[i].misses;
    return Eventually([&] {
      for (std::size_t i = 0; i < kProcesses; ++i) {
        if (pulses_[i].misses < before[i] + count) return false;
      }
      return true;
    });
  }
  // Each has sent a message since that was answered.
  bool IsTogether() {
    std::array<std::uint64_t, kProcesses> before;
    for (std::size_t i = 0; i < kProcesses; ++i)
      before[i] = pulses_[i].exchanges;
    return Eventually([&] {
      for (std::size_t i = 0; i < kProcesses; ++i) {
        if (!pulses_[i].is_connected || pulses_[i].exchanges < before[i] + 2)
          return false;
      }
      return true;
    });
  }
  // None has ended by itself.
  bool AllLive() {
    return std::ranges::all_of(processes_, [](pid_t process) {
      return waitpid(process, nullptr, WNOHANG) == 0;
    });
  }

 private:
  RedisServer server_;
  SharedPulses pulses_;
  std::array<pid_t, kProcesses> processes_{};
  std::uint32_t seed_ = 0;
};

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST_CASE("whoever is killed, the others go on, and all find together again") {
  if (testing::SkipWithoutRedis()) return;
  const std::uint64_t rounds = FromEnvironment("KEYROTATOR_KILL_ROUNDS", 4);
  std::mt19937 dice(
      static_cast<std::uint32_t>(FromEnvironment("KEYROTATOR_KILL_SEED", 1)));
  Fleets fleets;
  REQUIRE(fleets.IsTogether());
  Clock::duration longest{0};
  for (std::uint64_t round = 0; round < rounds; ++round) {
    // The first ones are one of each.
    const auto kind = round < 4 ? round : dice() % 4;
    const std::size_t who = dice() % kProcesses;
    // From before what was granted runs out to when they ask ever more seldom.
    const std::uint64_t misses = 1 + dice() % 5;
    INFO("round " << round << ", kind " << kind << ", process " << who);
    switch (kind) {
      case 0:
        fleets.Kill(who);
        CHECK(fleets.GoesOn(who));
        fleets.Begin(who);
        break;
      case 1:
        fleets.server().Kill();
        CHECK(fleets.IsMissed(misses));
        CHECK(fleets.GoesOn());
        fleets.server().Start();
        break;
      case 2:
        fleets.server().Stop();
        CHECK(fleets.IsMissed(misses));
        CHECK(fleets.GoesOn());
        fleets.server().Continue();
        break;
      default:
        fleets.Signal(who, SIGSTOP);
        CHECK(fleets.GoesOn(who));
        fleets.Signal(who, SIGCONT);
    }
    const auto begin = Clock::now();
    CHECK(fleets.IsTogether());
    longest = std::max(longest, Clock::now() - begin);
    CHECK(fleets.AllLive());
  }
  fmt::print("{} rounds, all back after {:.1f} s at most\n", rounds,
             std::chrono::duration<double>(longest).count());
}

}  // namespace
}  // namespace keyrotator::redis_kill_test
