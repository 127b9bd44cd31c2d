// What it costs to choose the policy at run time: a Pick with AnySelection
// against one with the static policy, in turns in the same run.
//
//   any_selection_bench [--benchmark_filter=random.*]

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "keyrotator/config/any_selection.h"
#include "keyrotator/key_rotator.h"
#include "tests/support/count_allocations.h"

namespace keyrotator {
namespace {

using Steady = std::chrono::steady_clock;

const PickHint kHint{.affinity = "session"};

template <class Rotator>
double NanosAPick(Rotator& rotator, int picks) {
  const auto start = Steady::now();
  for (int i = 0; i < picks; ++i) {
    auto lease = rotator.Pick(kHint);
    benchmark::DoNotOptimize(lease);
  }
  return std::chrono::duration<double, std::nano>(Steady::now() - start)
             .count() /
         picks;
}

template <class Static>
void Pick(benchmark::State& state, AnySelection policy) {
  std::vector<std::string> values;
  for (std::int64_t i = 0; i < state.range(0); ++i)
    values.push_back("sk-" + std::to_string(i));
  KeyRotator<Static> fixed(values);
  KeyRotator<AnySelection> any(values, {}, policy);

  // About 0.1 ms a run; the shortest of many is what the machine can do when
  // nobody disturbs it.
  NanosAPick(any, 100);
  const int picks = std::clamp(
      static_cast<int>(100'000 / NanosAPick(fixed, 100)), 10, 10'000);
  double fixed_ns = NanosAPick(fixed, picks);
  double any_ns = NanosAPick(any, picks);
  for (int run = 0; run < 150; ++run) {
    fixed_ns = std::min(fixed_ns, NanosAPick(fixed, picks));
    any_ns = std::min(any_ns, NanosAPick(any, picks));
  }

  const std::size_t before = testing::CountAllocations();
  std::size_t count = 0;
  for ([[maybe_unused]] auto _ : state) {
    auto lease = any.Pick(kHint);
    benchmark::DoNotOptimize(lease);
    ++count;
  }
  state.counters["allocations"] =
      static_cast<double>(testing::CountAllocations() - before) /
      static_cast<double>(count);
  state.counters["static_ns"] = fixed_ns;
  state.counters["any_ns"] = any_ns;
  state.counters["x_static"] = any_ns / fixed_ns;
}

template <class Static>
void Register(const char* name, const AnySelection& policy) {
  benchmark::RegisterBenchmark(name, Pick<Static>, policy)
      ->ArgName("keys")
      ->Arg(4)
      ->Arg(1024);
}
template <class Static>
void Register(const char* name) {
  Register<Static>(name, AnySelection(name));
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  using namespace keyrotator;
  Register<RoundRobin>("round-robin");
  Register<Random>("random");
  Register<WeightedRoundRobin>("weighted");
  Register<LeastInFlight>("least-in-flight");
  Register<MostHeadroom>("most-headroom");
  Register<FirstAvailable>("first-available");
  Register<Affinity<>>("affinity");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
