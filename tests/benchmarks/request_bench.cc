// File: request_bench.cc
//
// What it costs to find a request's model, beside one memchr over the same bytes
// in the same run (the counter memchrs: how many of those it takes).
//
// Aim: a body of 5 MB with a picture under 0.5 ms.

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "keyrotator/openai/request_model.h"

namespace {

using Clock = std::chrono::steady_clock;

void Run(benchmark::State& state, const std::string& body) {
  Clock::duration memchrs{};
  Clock::duration walks{};
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    benchmark::DoNotOptimize(std::memchr(body.data(), '\1', body.size()));
    const auto between = Clock::now();
    benchmark::DoNotOptimize(keyrotator::internal::RequestModel(body));
    const auto end = Clock::now();
    memchrs += between - start;
    walks += end - between;
    state.SetIterationTime(
        std::chrono::duration<double>(end - between).count());
  }
  state.counters["memchrs"] = std::chrono::duration<double>(walks) /
                              std::chrono::duration<double>(memchrs);
}

std::string Repeat(std::string_view part, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

constexpr std::size_t kSize = 5'000'000;

void Typical(benchmark::State& state) {
  Run(state,
      R"({"model":"gpt-4o","messages":[{"role":"user","content":"Hello!"}]})");
}
BENCHMARK(Typical)->UseManualTime();

void PictureOf5MB(benchmark::State& state) {
  Run(state, R"({"messages":[{"role":"user","content":[{"type":"image_url",)"
             R"("image_url":{"url":"data:image/png;base64,)" +
                 Repeat("iVBORw0KGgo", kSize) + R"("}}]}],"model":"gpt-4o"})");
}
BENCHMARK(PictureOf5MB)->UseManualTime()->Unit(benchmark::kMicrosecond);

void TalkOf5MB(benchmark::State& state) {
  const std::string words = Repeat("Lorem ipsum dolor sit amet,\\n", 400);
  Run(state,
      R"({"messages":[{"role":"user","content":"x"})" +
          Repeat(R"(,{"role":"user","content":")" + words + "\"}", kSize) +
          R"(],"model":"gpt-4o"})");
}
BENCHMARK(TalkOf5MB)->UseManualTime()->Unit(benchmark::kMicrosecond);

// JSON in JSON: as many quotes as there can be.
void QuotesOf5MB(benchmark::State& state) {
  Run(state, R"({"input":")" + Repeat(R"({\"name\":\"value\"},)", kSize) +
                 R"(","model":"gpt-4o"})");
}
BENCHMARK(QuotesOf5MB)->UseManualTime()->Unit(benchmark::kMicrosecond);

void TokensOf5MB(benchmark::State& state) {
  Run(state,
      R"({"input":[)" + Repeat("12345,", kSize) + R"(0],"model":"gpt-4o"})");
}
BENCHMARK(TokensOf5MB)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
