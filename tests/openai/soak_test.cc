// Everything at once: threads that call, wait, stream and give up, a provider at
// which everything goes wrong, and keys that come, go, are replaced and restored.
// The provider is the witness.
//
// It takes twice 1 s. KEYROTATOR_SOAK_SECONDS=60 in the environment makes it twice
// 60, and it then looks at the memory that the process takes, too.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/wait.h"
#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing::openai_soak_test {
namespace {

using namespace std::chrono_literals;

constexpr int kThreads = 16;
constexpr int kKeys = 50;

int Seconds() {
  const char* const text = std::getenv("KEYROTATOR_SOAK_SECONDS");
  return text == nullptr ? 1 : std::stoi(text);
}

std::string KeyText(int number) { return fmt::format("sk-soak-{}", number); }
ApiKey Key(int number) {
  return ApiKey(KeyText(number), {.name = fmt::format("key-{}", number),
                                  .group = number % 7 == 0 ? "org" : "",
                                  .max_in_flight = number % 5 == 0 ? 2U : 0U});
}

// The first five are revoked and are neither restored nor added again; the next
// five are out of quota; every second of the others is limited.
bool IsRevoked(int number) { return number < 5; }
FakeProviderOptions Options() {
  FakeProviderOptions options{.latency = 1ms};
  for (int i = 0; i < kKeys; ++i) {
    FakeKey& key = options.keys[KeyText(i)];
    if (IsRevoked(i)) key.state = FakeKeyState::kRevoked;
    if (i >= 5 && i < 10) key.state = FakeKeyState::kOutOfQuota;
    if (i % 2 == 0) key.limit = {.requests = 20, .per = 1s};
  }
  return options;
}

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  int Below(int n) {
    return std::uniform_int_distribution<int>(0, n - 1)(engine_);
  }
  bool OneIn(int n) { return Below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

// What the threads saw; asserted once they have ended.
struct Seen {
  std::uint64_t calls = 0;
  std::uint64_t attempts = 0;
  std::uint64_t unheard = 0;  // sends that may not have reached the provider
  std::map<Outcome, std::uint64_t> outcomes;

  void Add(const Seen& other) {
    calls += other.calls;
    attempts += other.attempts;
    unheard += other.unheard;
    for (const auto& [outcome, count] : other.outcomes)
      outcomes[outcome] += count;
  }
};

// The stops of the calls that run, for one who stops some of them at random.
class Stops {
 public:
  std::stop_token Begin(std::size_t thread) {
    const std::lock_guard lock(mutex_);
    sources_[thread] = std::stop_source();
    return sources_[thread].get_token();
  }
  void Stop(std::size_t thread) {
    const std::lock_guard lock(mutex_);
    sources_[thread].request_stop();
  }

 private:
  std::mutex mutex_;
  std::array<std::stop_source, kThreads> sources_;  // under mutex_
};

// In KiB.
std::size_t ResidentMemory() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    std::size_t size = 0;
    if (word == "VmRSS:" && file >> size) return size;
  }
  return 0;
}

template <class Client>
Seen Call(Client& client, Dice& dice, Stops& stops, std::size_t thread) {
  CallOptions options;
  options.stop = stops.Begin(thread);
  options.deadline = std::chrono::milliseconds(20 + dice.Below(2000));
  if (dice.OneIn(3)) options.priority = Priority::kBatch;
  if (dice.OneIn(3)) options.affinity = fmt::format("user-{}", dice.Below(9));
  const std::string model = fmt::format("gpt-{}", dice.Below(4));
  Seen seen;
  const Reply reply =
      dice.OneIn(3) ? client.ChatCompletionStream(
                          Chat(model, true), [](const SseEvent&) {}, options)
                    : client.ChatCompletion(Chat(model), options);
  seen.calls = 1;
  seen.attempts = reply.trail.size();
  for (const Attempt& attempt : reply.trail)
    if (attempt.status == 0) ++seen.unheard;
  ++seen.outcomes[reply.outcome];
  return seen;
}

// One thing that changes.
template <class Rotator>
void Disturb(Rotator& rotator, FakeProvider& provider, Stops& stops,
             Dice& dice) {
  const int number = 5 + dice.Below(kKeys - 5);
  switch (dice.Below(8)) {
    case 0:
      rotator.Remove(KeyText(number));
      break;
    case 1:
      try {
        rotator.Add(Key(number));
      } catch (const std::invalid_argument&) {  // it is there
      }
      break;
    case 2:
      rotator.Restore(KeyText(number));
      break;
    case 3: {
      std::vector<ApiKey> keys;
      for (int i = 0; i < kKeys; ++i)
        if (IsRevoked(i) || !dice.OneIn(3)) keys.push_back(Key(i));
      rotator.Replace(std::move(keys));
      break;
    }
    case 4:
    case 5:
      stops.Stop(static_cast<std::size_t>(dice.Below(kThreads)));
      break;
    default: {
      constexpr std::array kKinds = {
          Fault::Kind::kStatus,    Fault::Kind::kReset,
          Fault::Kind::kTruncated, Fault::Kind::kResetInBody,
          Fault::Kind::kNotJson,   Fault::Kind::kErrorIn200,
          Fault::Kind::kNotHttp,   Fault::Kind::kSlow};
      constexpr std::array kStatuses = {400, 403, 408, 429, 500, 502, 503, 529};
      // Those that were not met are no more, or a slow machine meets nothing else.
      provider.ClearFaults();
      provider.Inject(
          {.kind = kKinds[static_cast<std::size_t>(dice.Below(8))],
           .status = kStatuses[static_cast<std::size_t>(dice.Below(8))],
           .times = 1 + dice.Below(3),
           .pause = std::chrono::milliseconds(dice.Below(2))});
    }
  }
}

TEST_CASE(
    "whatever fails and changes, each call ends in one reply, no lease is "
    "left, "
    "and the provider saw what was told",
    "[client][threads]") {
  // Without it nothing is sent twice that may have been acted on: by nobody, not
  // even by libcurl when a connection that it had kept breaks.
  const bool ambiguous = GENERATE(true, false);
  FakeProvider provider(Options());
  std::vector<ApiKey> keys;
  for (int i = 0; i < kKeys; ++i) keys.push_back(Key(i));
  KeyRotator rotator(keys, {}, MostHeadroom{});
  OpenAIClient client(provider.base_url(), rotator,
                      MakeTransport<CurlTransport>(),
                      {.retry = {.initial_backoff = 5ms,
                                 .max_backoff = 20ms,
                                 .retry_ambiguous = ambiguous}});
  const int seconds = Seconds();
  Stops stops;
  Seen all;
  std::size_t early_memory = 0;
  {
    std::atomic<bool> over = false;
    std::mutex mutex;
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        Dice dice(i);
        Seen mine;
        while (!over) mine.Add(Call(client, dice, stops, i));
        const std::lock_guard lock(mutex);
        all.Add(mine);
      });
    }
    std::chrono::steady_clock clock;
    auto next = clock.now();
    Dice dice(99);
    const int steps = seconds * 500;
    for (int step = 0; step < steps; ++step) {
      SleepUntil(clock, next += 2ms);
      Disturb(rotator, provider, stops, dice);
      if (step == steps / 4) early_memory = ResidentMemory();
    }
    over = true;
  }
  const std::size_t memory = ResidentMemory();
  const FakeCounts counts = provider.Counts();
  std::string figures = fmt::format(
      "{} calls, {} sends, {} without an answer; the provider: {} requests, {} "
      "served, {} faults; memory {} KiB, then {}",
      all.calls, all.attempts, all.unheard, counts.requests, counts.served,
      counts.faults, early_memory, memory);
  for (const auto& [outcome, count] : all.outcomes)
    figures += fmt::format("; {} {}", count, outcome);
  INFO(figures);
  if (seconds > 1) WARN(figures);

  CHECK(all.outcomes[Outcome::kOk] > 0);
  CHECK(all.outcomes[Outcome::kStopped] > 0);
  CHECK(all.outcomes[Outcome::kPending] == 0);
  CHECK(all.outcomes[Outcome::kNoKeys] == 0);
  // Nothing was sent that no reply tells of, and nothing told that was not sent.
  if (!ambiguous) CHECK(counts.requests <= all.attempts);
  CHECK(counts.requests + all.unheard >= all.attempts);
  // What the provider served was told as served, but for those who gave up.
  const std::uint64_t ok = all.outcomes[Outcome::kOk];
  CHECK(ok <= counts.served + counts.faults);
  CHECK(counts.served <= ok + all.unheard + all.outcomes[Outcome::kStopped] +
                             all.outcomes[Outcome::kCut]);
  // A key that was refused for good is not used again, but by those who had it;
  // who gave up before the answer does not know.
  for (int i = 0; i < kKeys; ++i) {
    if (!IsRevoked(i)) continue;
    CAPTURE(i);
    CHECK(provider.Counts(KeyText(i)).refused <=
          kThreads + all.outcomes[Outcome::kStopped]);
  }
  for (const KeyStatus& row : rotator.Snapshot()) CHECK(row.in_flight == 0);
  // A quarter of the time is enough to have seen everything.
  if (seconds >= 60) CHECK(memory <= early_memory + early_memory / 4);
}

}  // namespace
}  // namespace keyrotator::testing::openai_soak_test
