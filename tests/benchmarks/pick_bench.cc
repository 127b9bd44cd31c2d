// What Pick and the reports cost, against the least that any such rotator pays:
// one uncontended lock and unlock of a std::mutex, one atomic increment and
// decrement, and where something cools one reading of the clock. Each benchmark
// prints its ratio to that floor, measured in the same run, and counts the
// allocations per pick.
//
//   pick_bench [--benchmark_filter=Pick.*] [--benchmark_repetitions=5]

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "keyrotator/keyrotator.h"
#include "tests/support/count_allocations.h"

namespace keyrotator {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;
using Steady = std::chrono::steady_clock;

std::mutex floor_mutex;
std::atomic<std::uint64_t> floor_count{0};

void FloorOnce() {
  {
    const std::lock_guard lock(floor_mutex);
    floor_count.fetch_add(1);
  }
  floor_count.fetch_sub(1);
}

void ReadClock() { benchmark::DoNotOptimize(Steady::now()); }

// Per call, in the shortest of several short runs: what the machine can do when
// nobody disturbs it.
template <class Function>
double NanosEach(Function function) {
  double best = std::numeric_limits<double>::infinity();
  std::int64_t calls = 1;
  for (int run = 0; run < 40; ++run) {
    const auto start = Steady::now();
    for (std::int64_t i = 0; i < calls; ++i) function();
    const double nanos =
        std::chrono::duration<double, std::nano>(Steady::now() - start).count();
    best = std::min(best, nanos / static_cast<double>(calls));
    if (nanos < 500'000) calls *= 2;
  }
  return best;
}

template <class Policy>
using Rotator = KeyRotator<Policy>;

template <class Policy>
std::unique_ptr<Rotator<Policy>> Make(std::int64_t keys,
                                      std::int64_t cooling_percent) {
  std::vector<std::string> values;
  for (std::int64_t i = 0; i < keys; ++i)
    values.push_back("sk-" + std::to_string(i));
  auto rotator = std::make_unique<Rotator<Policy>>(values);
  // Spread, so that the usable keys are not all in a row.
  for (std::int64_t i = 0; i < keys; ++i) {
    if (i * cooling_percent % 100 < cooling_percent && cooling_percent > 0) {
      rotator->MarkRateLimited(values[static_cast<std::size_t>(i)], hours(10));
    }
  }
  return rotator;
}

void ReportRatio(benchmark::State& state, double nanos, bool clock) {
  const double lock = NanosEach(FloorOnce);
  const double floor = lock + (clock ? NanosEach(ReadClock) : 0);
  state.counters["best_ns"] = nanos;
  state.counters["floor_ns"] = floor;
  state.counters["x_floor"] = nanos / floor;
}

template <class Policy>
void Pick(benchmark::State& state) {
  const auto rotator = Make<Policy>(state.range(0), state.range(1));
  const PickHint hint{.affinity = "session"};
  for (int i = 0; i < 1000; ++i) rotator->Pick(hint);
  const std::size_t before = testing::CountAllocations();
  std::size_t picks = 0;
  for ([[maybe_unused]] auto _ : state) {
    auto lease = rotator->Pick(hint);
    benchmark::DoNotOptimize(lease);
    ++picks;
  }
  state.counters["allocations"] =
      static_cast<double>(testing::CountAllocations() - before) /
      static_cast<double>(picks);
  const double best = NanosEach([&] {
    auto lease = rotator->Pick(hint);
    benchmark::DoNotOptimize(lease);
  });
  ReportRatio(state, best, state.range(1) > 0);
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"keys", "cooling"})
      ->ArgsProduct({{4, 64, 1024, 65536}, {0, 50, 90}});
}

BENCHMARK_TEMPLATE(Pick, RoundRobin)->Apply(Sizes);
BENCHMARK_TEMPLATE(Pick, FirstAvailable)->Apply(Sizes);
BENCHMARK_TEMPLATE(Pick, Random)->Apply(Sizes);
BENCHMARK_TEMPLATE(Pick, LeastInFlight)->Apply(Sizes);
BENCHMARK_TEMPLATE(Pick, MostHeadroom)->Apply(Sizes);
BENCHMARK_TEMPLATE(Pick, WeightedRoundRobin)->Apply(Sizes);
BENCHMARK_TEMPLATE(Pick, Affinity<>)->Apply(Sizes);

// With a scope, half of the keys cooling in it.
void PickInScope(benchmark::State& state) {
  const auto rotator = Make<RoundRobin>(state.range(0), 0);
  const PickHint hint{.scope = "gpt-4o"};
  for (std::int64_t i = 0; i < state.range(0) / 2; ++i)
    rotator->MarkRateLimited(*rotator->Pick(hint), hours(10));
  for ([[maybe_unused]] auto _ : state)
    benchmark::DoNotOptimize(rotator->Pick(hint));
  ReportRatio(state,
              NanosEach([&] { benchmark::DoNotOptimize(rotator->Pick(hint)); }),
              true);
}
BENCHMARK(PickInScope)->ArgName("keys")->Arg(4)->Arg(1024)->Arg(65536);

// With limits reported for every key, far from their edge.
void PickWithReports(benchmark::State& state) {
  const auto rotator = Make<RoundRobin>(state.range(0), 0);
  const RateLimits limits{
      .requests = {.limit = 1e12, .remaining = 9e11, .reset = hours(1)},
      .tokens = {.limit = 1e15, .remaining = 9e14, .reset = hours(1)}};
  for (std::int64_t i = 0; i < state.range(0); ++i)
    rotator->ReportLimits(*rotator->Pick(), limits);
  const PickHint hint{.cost = 500};
  for ([[maybe_unused]] auto _ : state)
    benchmark::DoNotOptimize(rotator->Pick(hint));
  ReportRatio(state,
              NanosEach([&] { benchmark::DoNotOptimize(rotator->Pick(hint)); }),
              true);
}
BENCHMARK(PickWithReports)->ArgName("keys")->Arg(4)->Arg(1024)->Arg(65536);

// A rate limit and the key's return.
void MarkAndReturn(benchmark::State& state) {
  const auto rotator = Make<RoundRobin>(state.range(0), 0);
  const auto once = [&] {
    auto lease = rotator->Pick();
    rotator->MarkRateLimited(*lease, nanoseconds(1));
  };
  for ([[maybe_unused]] auto _ : state) once();
  ReportRatio(state, NanosEach(once), true);
}
BENCHMARK(MarkAndReturn)->ArgName("keys")->Arg(4)->Arg(1024)->Arg(65536);

// Wall time a pick by two threads against one, and the same for a bare counter
// under a lock: what contention alone costs.
template <class Function>
double TwoThreadsToOne(Function function) {
  constexpr int kCalls = 300'000;
  const auto work = [&] {
    for (int i = 0; i < kCalls; ++i) function();
  };
  std::vector<double> ratios;
  for (int run = 0; run < 5; ++run) {
    const auto start = Steady::now();
    work();
    const auto one = Steady::now() - start;
    std::atomic<int> ready{0};
    const auto together = [&] {
      ++ready;
      while (ready.load() < 2) {
      }
      work();
    };
    const auto start_two = Steady::now();
    std::thread other(together);
    together();
    other.join();
    const auto two = Steady::now() - start_two;
    ratios.push_back(static_cast<double>(two.count()) / 2 /
                     static_cast<double>(one.count()));
  }
  std::sort(ratios.begin(), ratios.end());
  return ratios[ratios.size() / 2];
}

void TwoThreads(benchmark::State& state) {
  const auto rotator = Make<RoundRobin>(4, 0);
  double ratio = 0;
  double bare = 0;
  for ([[maybe_unused]] auto _ : state) {
    ratio = TwoThreadsToOne([&] { benchmark::DoNotOptimize(rotator->Pick()); });
    bare = TwoThreadsToOne(FloorOnce);
  }
  state.counters["two_to_one"] = ratio;
  state.counters["bare_two_to_one"] = bare;
}
BENCHMARK(TwoThreads)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace keyrotator

BENCHMARK_MAIN();
