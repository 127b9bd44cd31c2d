// What a rotator promises to many threads at once. The threads write down what
// they see; the main thread judges it after they have ended. A test that waits
// for a thread gives up after kLong, so that one which nobody wakes fails.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/eventually.h"

namespace keyrotator::concurrency_test {
namespace {

using namespace std::chrono_literals;
using testing::Eventually;
using testing::ManualClock;

// Far longer than anything here takes, even under a sanitizer.
constexpr auto kLong = 30s;

// A ManualClock that tells how many threads wait: whoever is about to wait asks
// the clock to jump (see clock.h), and stands in the queue by then.
class WatchedClock {
 public:
  using duration = ManualClock::duration;
  using rep = ManualClock::rep;
  using period = ManualClock::period;
  using time_point = ManualClock::time_point;

  time_point now() const { return clock_.now(); }
  void Advance(Span by) { clock_.Advance(by); }
  std::shared_ptr<void> OnAdvance(std::function<void()> wake) const {
    return clock_.OnAdvance(std::move(wake));
  }
  bool AdvanceForWaiter(time_point) const {
    const std::lock_guard lock(state_->mutex);
    state_->threads.insert(std::this_thread::get_id());
    return false;
  }

  // How many threads have waited so far.
  std::size_t Waited() const {
    const std::lock_guard lock(state_->mutex);
    return state_->threads.size();
  }

 private:
  struct State {
    std::mutex mutex;
    std::set<std::thread::id> threads;
  };
  ManualClock clock_;
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

using Rotator = KeyRotator<RoundRobin, WatchedClock>;
using RealTimeRotator = KeyRotator<>;

// A call in a thread of its own. One that does not return is left behind: it
// keeps what it uses.
class Call {
 public:
  template <class Function>
  explicit Call(Function function) {
    std::promise<std::optional<Lease>> promise;
    result_ = promise.get_future();
    thread_ = std::thread([promise = std::move(promise),
                           function = std::move(function)]() mutable {
      promise.set_value(function());
    });
  }
  Call(Call&&) = default;
  ~Call() {
    if (!thread_.joinable()) return;
    if (Returns()) {
      thread_.join();
    } else {
      thread_.detach();
    }
  }

  bool Returns() const {
    return taken_ || result_.wait_for(kLong) == std::future_status::ready;
  }
  bool HasReturned() const {
    return taken_ || result_.wait_for(0s) == std::future_status::ready;
  }
  // Only if it returns.
  std::optional<Lease> Take() {
    taken_ = true;
    return result_.get();
  }

 private:
  std::future<std::optional<Lease>> result_;
  bool taken_ = false;
  std::thread thread_;
};

// Waits in a thread of its own for a key, with a deadline that is far away.
template <class AnyRotator>
Call Wait(const std::shared_ptr<AnyRotator>& rotator, std::string scope = {},
          std::stop_token stop = {}) {
  return Call([rotator, scope = std::move(scope), stop = std::move(stop)] {
    return rotator->PickFor(1h, {.scope = scope}, stop);
  });
}

// The same, and returns when it stands in the queue.
Call WaitInLine(const std::shared_ptr<Rotator>& rotator, std::string scope = {},
                std::stop_token stop = {}) {
  const std::size_t before = rotator->clock().Waited();
  Call call = Wait(rotator, std::move(scope), std::move(stop));
  REQUIRE(Eventually([&] { return rotator->clock().Waited() > before; }));
  return call;
}

std::shared_ptr<Rotator> MakeRotator(const ApiKeys& keys,
                                     RotatorOptions options = {}) {
  return std::make_shared<Rotator>(keys, std::move(options), RoundRobin{},
                                   WatchedClock());
}

std::uint64_t Picks(const Rotator& rotator) {
  std::uint64_t picks = 0;
  for (const KeyStatus& row : rotator.Snapshot()) picks += row.picks;
  return picks;
}

std::vector<ApiKey> MakeKeys(std::size_t count) {
  std::vector<ApiKey> keys;
  for (std::size_t i = 0; i < count; ++i)
    keys.emplace_back("sk-" + std::to_string(i));
  return keys;
}

std::size_t NumberOf(const Lease& lease) {
  return std::stoul(std::string(lease.Reveal().substr(3)));
}

}  // namespace

// --- Marks ---

TEST_CASE("once a mark has returned no thread picks the key again",
          "[concurrency][P20]") {
  constexpr std::size_t kKeys = 16;
  constexpr int kRounds = 60;
  std::atomic<int> violations{0};
  std::atomic<int> picks_after_all{0};
  for (int round = 0; round < kRounds; ++round) {
    Rotator rotator(MakeKeys(kKeys), {}, RoundRobin{}, WatchedClock());
    std::array<std::atomic<bool>, kKeys> down{};
    std::atomic<int> marking{2};
    std::latch start(6);
    std::vector<std::thread> threads;
    for (int picker = 0; picker < 4; ++picker) {
      threads.emplace_back([&, picker] {
        const std::string scope = picker % 2 == 0 ? "" : "m1";
        start.arrive_and_wait();
        while (marking.load() > 0) {
          std::array<bool, kKeys> was_down{};
          for (std::size_t i = 0; i < kKeys; ++i) was_down[i] = down[i].load();
          const std::optional<Lease> lease = rotator.Pick({.scope = scope});
          if (lease && was_down[NumberOf(*lease)]) ++violations;
        }
      });
    }
    for (std::size_t marker = 0; marker < 2; ++marker) {
      threads.emplace_back([&, marker] {
        start.arrive_and_wait();
        for (std::size_t i = marker; i < kKeys; i += 2) {
          const std::string value = "sk-" + std::to_string(i);
          if (i % 4 < 2) {
            rotator.MarkFailed(value);
          } else {
            rotator.MarkRateLimited(value, 10s);
          }
          down[i] = true;
        }
        --marking;
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (rotator.Pick()) ++picks_after_all;
  }
  CHECK(violations == 0);
  CHECK(picks_after_all == 0);
}

TEST_CASE("a key that returns and is marked again is never picked between",
          "[concurrency]") {
  constexpr std::size_t kKeys = 4;
  Rotator rotator(MakeKeys(kKeys), {}, RoundRobin{}, WatchedClock());
  std::array<std::atomic<bool>, kKeys> down{};
  std::atomic<bool> done{false};
  std::atomic<int> violations{0};
  std::vector<std::thread> threads;
  std::latch start(5);
  for (int picker = 0; picker < 4; ++picker) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      while (!done.load()) {
        std::array<bool, kKeys> was_down{};
        for (std::size_t i = 0; i < kKeys; ++i) was_down[i] = down[i].load();
        const std::optional<Lease> lease = rotator.Pick();
        if (!lease) continue;
        const std::size_t number = NumberOf(*lease);
        // Still down after the pick: nobody has let it return in between.
        if (was_down[number] && down[number].load()) ++violations;
      }
    });
  }
  start.arrive_and_wait();
  for (int round = 0; round < 100; ++round) {
    const std::size_t i = static_cast<std::size_t>(round) % kKeys;
    const std::string value = "sk-" + std::to_string(i);
    if (round % 3 == 0) {
      rotator.MarkFailed(value);
      down[i] = true;
      std::this_thread::yield();
      down[i] = false;
      rotator.Restore(value);
    } else {
      rotator.MarkRateLimited(value, 10s);
      down[i] = true;
      std::this_thread::yield();
      rotator.clock().Advance(10s - 1ns);
      std::this_thread::yield();
      down[i] = false;
      rotator.clock().Advance(1ns);
    }
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(violations == 0);
  CHECK(rotator.Available() == kKeys);
}

TEST_CASE("round-robin stays exact when many threads pick",
          "[concurrency][S5]") {
  constexpr std::size_t kKeys = 5;
  constexpr int kThreads = 4;
  constexpr int kPicks = 1000;
  Rotator rotator(MakeKeys(kKeys), {}, RoundRobin{}, WatchedClock());
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int pick = 0; pick < kPicks; ++pick) rotator.Pick();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const KeyStatus& row : rotator.Snapshot()) {
    CHECK(row.picks == kThreads * kPicks / kKeys);
    CHECK(row.in_flight == 0);
  }
}

TEST_CASE("many threads share one budget of retries", "[concurrency][P20]") {
  constexpr int kThreads = 4;
  constexpr int kSends = 1000;
  Rotator rotator(MakeKeys(1), {}, RoundRobin{}, WatchedClock());
  const auto in_threads = [](const auto& work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
  };
  in_threads([&] {
    for (int i = 0; i < kSends; ++i) rotator.CountSend();
  });
  std::atomic<int> allowed{0};
  in_threads([&] {
    for (int i = 0; i < kSends; ++i) allowed += rotator.MayRetry() ? 1 : 0;
  });
  // n failures leave 4,000 - n sends, worth half as many retries, beside 10.
  CHECK(allowed == 1340);
  CHECK(rotator.RefusedRetries() == kThreads * kSends - 1340);
}

TEST_CASE("a cap holds when many threads pick", "[concurrency]") {
  constexpr std::size_t kCap = 2;
  Rotator rotator({ApiKey("sk-0", {.max_in_flight = kCap}),
                   ApiKey("sk-1", {.max_in_flight = kCap})},
                  {}, RoundRobin{}, WatchedClock());
  std::array<std::atomic<std::size_t>, 2> out{};
  std::atomic<int> violations{0};
  std::atomic<int> picked{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int pick = 0; pick < 500; ++pick) {
        std::optional<Lease> lease = rotator.Pick();
        if (!lease) continue;
        ++picked;
        const std::size_t number = NumberOf(*lease);
        if (++out[number] > kCap) ++violations;
        --out[number];
        lease.reset();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(violations == 0);
  CHECK(picked > 0);
  CHECK(rotator.Available() == 2);
}

TEST_CASE("a trial is one lease, whoever asks", "[concurrency]") {
  int picked_in_all = 0;
  constexpr int kRounds = 100;
  for (int round = 0; round < kRounds; ++round) {
    Rotator rotator({"sk-0"}, {}, RoundRobin{}, WatchedClock());
    rotator.MarkRateLimited("sk-0");
    rotator.clock().Advance(60s);
    std::array<std::optional<Lease>, 4> leases;
    std::latch start(4);
    std::vector<std::thread> threads;
    for (auto& lease : leases) {
      threads.emplace_back([&] {
        start.arrive_and_wait();
        lease = rotator.Pick();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& lease : leases) picked_in_all += lease ? 1 : 0;
  }
  CHECK(picked_in_all == kRounds);
}

// --- Lives ---

TEST_CASE("leases outlive the rotator in other threads", "[concurrency]") {
  int wrong = 0;
  for (int round = 0; round < 50; ++round) {
    auto rotator = std::make_optional<KeyRotator<RoundRobin, WatchedClock>>(
        MakeKeys(3), RotatorOptions{}, RoundRobin{}, WatchedClock());
    rotator->MarkRateLimited("sk-0");
    rotator->clock().Advance(60s);  // one of the leases is a trial
    rotator->Replace(
        {ApiKey("sk-0"), ApiKey("sk-1", {.max_in_flight = 100}), "sk-2"});
    std::latch ready(5);
    std::array<int, 4> wrong_here{};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        std::vector<Lease> leases;
        for (int pick = 0; pick < 6; ++pick) {
          auto lease = rotator->Pick({.scope = pick % 2 == 0 ? "" : "m1"});
          if (lease) leases.push_back(std::move(*lease));
        }
        ready.arrive_and_wait();  // from here on the rotator may be gone
        for (const Lease& lease : leases) {
          if (lease.Reveal().substr(0, 3) != "sk-" || lease.name().empty())
            ++wrong_here[i];
        }
      });
    }
    ready.arrive_and_wait();
    if (round % 2 == 0) rotator->Remove("sk-2");
    rotator.reset();
    for (std::thread& thread : threads) thread.join();
    for (const int here : wrong_here) wrong += here;
  }
  CHECK(wrong == 0);
}

TEST_CASE("everything at once leaves nothing behind", "[concurrency][T19]") {
  constexpr int kTurns = 4000;
  RotatorOptions options;
  options.max_scopes = 3;
  options.retry_failed_after = 5s;
  options.cooldown = 1s;
  std::atomic<std::uint64_t> events{0};
  options.on_event = [&](const KeyEvent&) { ++events; };
  constexpr const char* kScopes[] = {"", "m1", "m2", "m3", "m4"};
  auto rotator = MakeRotator(MakeKeys(6), options);
  std::atomic<int> working{0};
  std::atomic<std::uint64_t> redact_failures{0};
  std::vector<std::thread> threads;
  const auto work = [&](std::uint64_t seed, auto turn) {
    ++working;
    threads.emplace_back([&, seed, turn] {
      std::mt19937_64 dice(seed);
      std::vector<Lease> leases;
      for (int i = 0; i < kTurns; ++i) turn(dice, leases);
      leases.clear();
      --working;
    });
  };
  const auto request = [&](std::mt19937_64& dice, std::vector<Lease>& leases) {
    const PickHint hint{.scope = kScopes[dice() % 5]};
    auto lease = rotator->Pick(hint);
    if (lease) leases.push_back(std::move(*lease));
    if (leases.empty()) return;
    const std::size_t i = dice() % leases.size();
    switch (dice() % 8) {
      case 0:
        rotator->MarkFailed(leases[i]);
        break;
      case 1:
        rotator->MarkRateLimited(leases[i]);
        break;
      case 2:
        rotator->MarkRateLimited(leases[i], 2s, Reach::kKey);
        break;
      case 3:
        rotator->MarkSucceeded(leases[i]);
        break;
      case 4:
        rotator->ReportLimits(
            leases[i],
            {.requests = {.limit = 10,
                          .remaining = static_cast<double>(dice() % 10),
                          .reset = 5s},
             .tokens = {}});
        break;
      default:
        break;
    }
    if (leases.size() > 3) leases.erase(leases.begin());
  };
  const auto wait = [&](std::mt19937_64& dice, std::vector<Lease>& leases) {
    leases.clear();
    auto lease = rotator->PickFor(std::chrono::seconds(1 + dice() % 4),
                                  {.scope = kScopes[dice() % 5],
                                   .cost = static_cast<double>(dice() % 3)});
    if (lease && dice() % 4 == 0) rotator->MarkRateLimited(*lease, 1s);
    if (lease && dice() % 2 == 0) leases.push_back(std::move(*lease));
  };
  const auto change = [&](std::mt19937_64& dice, std::vector<Lease>&) {
    const std::string value = "sk-" + std::to_string(dice() % 9);
    switch (dice() % 6) {
      case 0:
        rotator->Add(ApiKey(value, {.group = dice() % 2 == 0 ? "org" : "",
                                    .max_in_flight = dice() % 3}));
        break;
      case 1:
        rotator->Remove(value);
        break;
      case 2:
        rotator->Restore(value);
        break;
      case 3:
        if (dice() % 8 == 0) rotator->Replace(MakeKeys(3 + dice() % 5));
        break;
      case 4:
        rotator->Snapshot();
        rotator->Availability({.scope = kScopes[dice() % 5]});
        break;
      default:
        if (rotator->Size() > 0 && rotator->Redact("a sk-3 b").size() < 4)
          ++redact_failures;
    }
  };
  work(1, request);
  work(2, request);
  work(3, wait);
  work(4, wait);
  work(5, change);
  std::uint64_t advances = 0;
  while (working.load() > 0) {
    rotator->clock().Advance(100ms);
    ++advances;
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(redact_failures == 0);
  CHECK(events > 0);
  CHECK(advances > 0);

  rotator->Add("sk-last");
  for (const KeyStatus& row : rotator->Snapshot()) {
    CHECK(row.in_flight == 0);
    rotator->Restore(row.id);
  }
  rotator->clock().Advance(25h);
  for (const char* scope : kScopes) {
    // A trial may still be owed to each key; nothing else holds one back.
    CHECK(rotator->Available({.scope = scope}) == rotator->Size());
  }
}

// --- Waiting ---

TEST_CASE(
    "a key that returns is given to one of those who wait, and to others "
    "as its leases turn out well",
    "[concurrency][waiting][P19][T20]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkRateLimited("sk-0", 10s);
  std::vector<Call> waiting;
  for (int i = 0; i < 5; ++i) waiting.push_back(WaitInLine(rotator));
  rotator->clock().Advance(10s - 1ns);
  CHECK(Picks(*rotator) == 0);
  rotator->clock().Advance(1ns);
  REQUIRE(waiting[0].Returns());
  CHECK(Picks(*rotator) == 1);  // and by nobody else

  std::optional<Lease> first = waiting[0].Take();
  REQUIRE(first);
  rotator->MarkSucceeded(*first);
  REQUIRE(waiting[1].Returns());
  CHECK(Picks(*rotator) < 5);

  // What ends well lets more of them go, until all were served.
  first.reset();
  for (std::size_t i = 1; i < waiting.size(); ++i) {
    REQUIRE(waiting[i].Returns());
    CHECK(waiting[i].Take().has_value());
  }
  CHECK(Picks(*rotator) == 5);
  CHECK(rotator->Available() == 1);
}

TEST_CASE("who waited first is served first", "[concurrency][waiting]") {
  auto rotator = MakeRotator({ApiKey("sk-0", {.max_in_flight = 1})});
  std::optional<Lease> lease = rotator->Pick();
  REQUIRE(lease);
  std::vector<Call> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(WaitInLine(rotator));
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    lease.reset();
    REQUIRE(waiting[i].Returns());
    for (std::size_t later = i + 1; later < waiting.size(); ++later)
      CHECK_FALSE(waiting[later].HasReturned());
    CHECK(Picks(*rotator) == i + 2);
    lease = waiting[i].Take();
    REQUIRE(lease);
  }
}

TEST_CASE("a caller with a deadline that has passed does not overtake",
          "[concurrency][waiting]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkRateLimited("sk-0", 10s);
  Call first = WaitInLine(rotator);
  Call second = WaitInLine(rotator);
  rotator->clock().Advance(10s);
  REQUIRE(first.Returns());
  std::optional<Lease> lease = first.Take();
  REQUIRE(lease);
  CHECK_FALSE(rotator->PickFor(0s));  // the second is next
  lease.reset();
  REQUIRE(second.Returns());
  CHECK(second.Take());
  CHECK(rotator->PickFor(0s));
}

TEST_CASE("a rate limit on the key that returned serves nobody else",
          "[concurrency][waiting][P19]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkRateLimited("sk-0", 10s);
  Call first = WaitInLine(rotator);
  Call second = WaitInLine(rotator);
  rotator->clock().Advance(10s);
  REQUIRE(first.Returns());
  std::optional<Lease> lease = first.Take();
  REQUIRE(lease);
  rotator->MarkRateLimited(*lease, 10s);
  lease.reset();
  CHECK(Picks(*rotator) == 1);
  CHECK_FALSE(second.HasReturned());
  rotator->clock().Advance(10s);
  REQUIRE(second.Returns());
  CHECK(second.Take());
}

TEST_CASE("a stop ends a wait", "[concurrency][waiting][S17][T20]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkFailed("sk-0");
  std::stop_source stop;
  Call stopped = WaitInLine(rotator, "", stop.get_token());
  Call other = WaitInLine(rotator);
  stop.request_stop();
  REQUIRE(stopped.Returns());
  CHECK_FALSE(stopped.Take());
  CHECK_FALSE(other.HasReturned());
  rotator->Restore("sk-0");
  REQUIRE(other.Returns());
  CHECK(other.Take());
}

TEST_CASE("a stop ends a wait without a deadline in real time",
          "[concurrency][waiting][T20]") {
  auto rotator = std::make_shared<RealTimeRotator>(ApiKeys{"sk-0"});
  rotator->MarkFailed("sk-0");
  std::stop_source stop;
  std::atomic<bool> calling{false};
  Call call([rotator, token = stop.get_token(), &calling] {
    calling = true;
    return rotator->PickUntil(std::chrono::steady_clock::time_point::max(), {},
                              token);
  });
  REQUIRE(Eventually([&] { return calling.load(); }));
  stop.request_stop();
  REQUIRE(call.Returns());
  CHECK_FALSE(call.Take());
}

TEST_CASE("a deadline ends a wait", "[concurrency][waiting][T20]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkFailed("sk-0");
  Call call = WaitInLine(rotator);  // for an hour
  rotator->clock().Advance(1h - 1ns);
  CHECK_FALSE(call.HasReturned());
  rotator->clock().Advance(1ns);
  REQUIRE(call.Returns());
  CHECK_FALSE(call.Take());
}

TEST_CASE("waiting in one scope does not block picks in another",
          "[concurrency][waiting][P17][T20]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkRateLimited(*rotator->Pick({.scope = "m1"}), 10s);
  Call call = WaitInLine(rotator, "m1");
  CHECK(rotator->Pick({.scope = "m2"}));
  CHECK(rotator->Pick());
  CHECK(rotator->PickFor(1h, {.scope = "m2"}));
  CHECK_FALSE(call.HasReturned());
  rotator->clock().Advance(10s);
  REQUIRE(call.Returns());
  std::optional<Lease> lease = call.Take();
  REQUIRE(lease);
  CHECK(lease->scope() == "m1");
}

TEST_CASE("those who wait in different scopes are served each for itself",
          "[concurrency][waiting]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkRateLimited("sk-0", 10s);  // in all scopes
  Call first = WaitInLine(rotator, "m1");
  Call second = WaitInLine(rotator, "m2");
  rotator->clock().Advance(10s);
  REQUIRE(first.Returns());
  std::optional<Lease> lease = first.Take();  // held
  CHECK(lease);
  REQUIRE(second.Returns());
  CHECK(second.Take());
}

TEST_CASE("an earlier deadline that appears wakes who waits",
          "[concurrency][waiting][T20]") {
  auto rotator = std::make_shared<RealTimeRotator>(
      ApiKeys{ApiKey("sk-0", {.max_in_flight = 1}), "sk-1"});
  std::optional<Lease> lease = rotator->Pick();
  REQUIRE(lease);
  rotator->MarkRateLimited("sk-1", 1h);
  Call call = Wait(rotator);
  // Whether it waits by now or not, sk-0 is not free before it cools.
  rotator->MarkRateLimited(*lease, 20ms);
  lease.reset();
  REQUIRE(call.Returns());
  std::optional<Lease> got = call.Take();
  REQUIRE(got);
  CHECK(got->Reveal() == "sk-0");
}

TEST_CASE("who keeps the time for others hands it on when it leaves",
          "[concurrency][waiting][T20]") {
  auto rotator = std::make_shared<RealTimeRotator>(ApiKeys{"sk-0"});
  rotator->MarkRateLimited("sk-0", 200ms);
  std::stop_source stop;
  std::atomic<int> calling{0};
  Call first([&calling, rotator, token = stop.get_token()] {
    ++calling;
    return rotator->PickFor(1h, {}, token);
  });
  REQUIRE(Eventually([&] { return calling.load() == 1; }));
  Call second([&calling, rotator] {
    ++calling;
    return rotator->PickFor(1h);
  });
  REQUIRE(Eventually([&] { return calling.load() == 2; }));
  stop.request_stop();
  REQUIRE(first.Returns());
  first.Take();
  REQUIRE(second.Returns());
  CHECK(second.Take());
}

TEST_CASE("a wait in real time ends at its deadline",
          "[concurrency][waiting][T20]") {
  auto rotator = std::make_shared<RealTimeRotator>(ApiKeys{"sk-0"});
  rotator->MarkRateLimited("sk-0", 1h);
  const auto start = std::chrono::steady_clock::now();
  Call call([rotator] { return rotator->PickFor(20ms); });
  REQUIRE(call.Returns());
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK_FALSE(call.Take());
}

TEST_CASE("no more callers wait than may", "[concurrency][waiting]") {
  RotatorOptions options;
  options.max_waiters = 2;
  auto rotator = MakeRotator({"sk-0"}, options);
  rotator->MarkRateLimited("sk-0", 10s);
  Call first = WaitInLine(rotator, "m1");
  Call second = WaitInLine(rotator, "m2");
  Call third = Wait(rotator, "m3");
  REQUIRE(third.Returns());
  CHECK_FALSE(third.Take());
  rotator->clock().Advance(10s);
  REQUIRE(first.Returns());
  REQUIRE(second.Returns());
  CHECK(first.Take());
  CHECK(second.Take());
  rotator->MarkRateLimited("sk-0", 10s);
  Call fourth = WaitInLine(rotator, "m3");
  rotator->clock().Advance(10s);
  REQUIRE(fourth.Returns());
  CHECK(fourth.Take());
}

TEST_CASE("a key that is added wakes who waits",
          "[concurrency][waiting][T20]") {
  auto rotator = MakeRotator({});
  Call call = WaitInLine(rotator, "m1");
  rotator->Add("sk-1");
  REQUIRE(call.Returns());
  CHECK(call.Take());

  Call replaced = [&] {
    rotator->MarkFailed("sk-1");
    return WaitInLine(rotator);
  }();
  rotator->Replace({"sk-2"});
  REQUIRE(replaced.Returns());
  std::optional<Lease> lease = replaced.Take();
  REQUIRE(lease);
  CHECK(lease->Reveal() == "sk-2");
}

TEST_CASE("a lease that ends at a cap wakes who waits",
          "[concurrency][waiting][T20]") {
  auto rotator = MakeRotator({ApiKey("sk-0", {.max_in_flight = 2})});
  std::optional<Lease> first = rotator->Pick();
  std::optional<Lease> second = rotator->Pick({.scope = "m1"});
  REQUIRE(second);
  Call call = WaitInLine(rotator, "m2");
  second.reset();
  REQUIRE(call.Returns());
  CHECK(call.Take());
}

TEST_CASE("a cap that is raised wakes who waits",
          "[concurrency][waiting][T20]") {
  auto rotator = MakeRotator({ApiKey("sk-0", {.max_in_flight = 1})});
  const std::optional<Lease> lease = rotator->Pick();
  Call call = WaitInLine(rotator);
  rotator->Replace({ApiKey("sk-0")});
  REQUIRE(call.Returns());
  CHECK(call.Take());
}

TEST_CASE("a trial that ends wakes who waits", "[concurrency][waiting][T20]") {
  auto rotator = MakeRotator({"sk-0"});
  rotator->MarkRateLimited("sk-0");
  rotator->clock().Advance(60s);
  std::optional<Lease> trial = rotator->Pick();
  REQUIRE(trial);
  Call call = WaitInLine(rotator);
  SECTION("by its end") { trial.reset(); }
  SECTION("by a success") { rotator->MarkSucceeded(*trial); }
  REQUIRE(call.Returns());
  CHECK(call.Take());
}

TEST_CASE("a trial whose key was removed does not hold up its group",
          "[concurrency][waiting][P6][T20]") {
  auto rotator = MakeRotator(
      {ApiKey("sk-0", {.group = "org"}), ApiKey("sk-1", {.group = "org"})});
  rotator->MarkRateLimited("sk-0");
  rotator->clock().Advance(60s);
  std::optional<Lease> trial = rotator->Pick();
  REQUIRE(trial);
  REQUIRE(trial->Reveal() == "sk-0");
  Call call = WaitInLine(rotator);
  rotator->Remove("sk-0");
  CHECK_FALSE(rotator->MarkSucceeded(*trial));
  CHECK(Picks(*rotator) == 0);
  trial.reset();
  REQUIRE(call.Returns());
  CHECK(call.Take());
}

TEST_CASE("many who wait are all served, by few keys",
          "[concurrency][waiting][T20]") {
  constexpr int kThreads = 8;
  constexpr int kTurns = 50;
  auto rotator = MakeRotator({ApiKey("sk-0", {.max_in_flight = 1}),
                              ApiKey("sk-1", {.max_in_flight = 2})});
  const auto served = std::make_shared<std::atomic<int>>(0);
  std::vector<Call> calls;
  for (int i = 0; i < kThreads; ++i) {
    calls.emplace_back([rotator, served, i]() -> std::optional<Lease> {
      const std::string scope = i % 2 == 0 ? "" : "m1";
      for (int turn = 0; turn < kTurns; ++turn) {
        if (rotator->PickFor(1h, {.scope = scope})) ++*served;
      }
      return std::nullopt;
    });
  }
  for (const Call& call : calls) REQUIRE(call.Returns());
  CHECK(*served == kThreads * kTurns);
  CHECK(rotator->Available() == 2);
}

TEST_CASE("callers with and without a thread share one queue",
          "[concurrency][waiting][T20]") {
  constexpr int kTurns = 200;
  // One lease at a time, so that each that ends serves another.
  auto rotator = MakeRotator({ApiKey("sk-0", {.max_in_flight = 1})});
  std::atomic<int> served{0};
  std::atomic<int> called{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        for (int turn = 0; turn < kTurns; ++turn) {
          if (rotator->PickFor(1h)) ++served;
        }
      });
      threads.emplace_back([&] {
        for (int turn = 0; turn < kTurns; ++turn) {
          // A call may be under way while the place is given up: it must not
          // refer to this turn.
          const auto mine = std::make_shared<std::atomic<bool>>(false);
          const auto waiting = rotator->WhenUsable(
              {}, [mine](const Lease&) { mine->store(true); });
          // Every third gives up, be it served by then or not.
          if (turn % 3 == 0) continue;
          if (Eventually([&] { return mine->load(); })) ++called;
        }
      });
    }
  }
  CHECK(served == 2 * kTurns);
  CHECK(called == 2 * (kTurns - (kTurns + 2) / 3));
  CHECK(rotator->Available() == 1);
}

}  // namespace keyrotator::concurrency_test
