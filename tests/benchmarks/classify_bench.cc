// File: classify_bench.cc
//
// What a verdict costs in time and in memory (the counter peak_bytes: the most
// that was allocated at once beyond the response itself).
//
// Aims: 64 MiB of anything and 100,000-deep nesting under 50 ms and 4 MiB; a
// success of 1 MB under 1 ms. On one core of 2.4 GHz 19 ms for quotes, plain or
// escaped, 15 for an error of 64 MiB, 3.9 MiB at most, and 0.5 ms. Missed by what
// no provider sends: blanks take 50 ms, `"error":null,` and `"error"` 70, the same
// with blanks between 90, an event of quotes 70 for both looks.

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>

#include "keyrotator/openai/classify.h"

namespace {

std::atomic<std::size_t> held = 0;
std::atomic<std::size_t> peak = 0;

// The size of a block stands before it.
constexpr std::size_t kHeader = alignof(std::max_align_t);

void* Take(std::size_t size) {
  void* block = std::malloc(size + kHeader);
  if (block == nullptr) throw std::bad_alloc();
  *static_cast<std::size_t*>(block) = size;
  const std::size_t now = held.fetch_add(size) + size;
  if (now > peak.load()) peak.store(now);
  return static_cast<char*>(block) + kHeader;
}

void Give(void* pointer) noexcept {
  if (pointer == nullptr) return;
  void* block = static_cast<char*>(pointer) - kHeader;
  held.fetch_sub(*static_cast<std::size_t*>(block));
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size) { return Take(size); }
void* operator new[](std::size_t size) { return Take(size); }
void operator delete(void* pointer) noexcept { Give(pointer); }
void operator delete[](void* pointer) noexcept { Give(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { Give(pointer); }
void operator delete[](void* pointer, std::size_t) noexcept { Give(pointer); }

namespace {

using keyrotator::Classify;
using keyrotator::ClassifyEvent;
using keyrotator::HttpResponse;

constexpr std::chrono::system_clock::time_point kNow{
    std::chrono::seconds(1768478400)};

void Run(benchmark::State& state, int status, std::string body) {
  HttpResponse response;
  response.status = status;
  response.headers.Add("Content-Type", "application/json");
  response.headers.Add("x-ratelimit-remaining-tokens", "63");
  response.body = std::move(body);
  const std::size_t before = held;
  peak = before;
  for ([[maybe_unused]] auto _ : state) {
    benchmark::DoNotOptimize(Classify(response, kNow));
  }
  state.counters["peak_bytes"] = static_cast<double>(peak - before);
}

std::string Repeat(std::string_view part, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

const char kRateLimit[] =
    R"({"error":{"message":"Rate limit reached for gpt-4o in organization )"
    R"(org-EXAMPLE on tokens per min (TPM): Limit 30000, Used 29937, )"
    R"(Requested 385. Please try again in 644ms. Visit )"
    R"(https://platform.openai.com/account/rate-limits to learn more.",)"
    R"("type":"tokens","param":null,"code":"rate_limit_exceeded"}})";

void TypicalRateLimit(benchmark::State& state) { Run(state, 429, kRateLimit); }
BENCHMARK(TypicalRateLimit);

void TypicalSuccess(benchmark::State& state) {
  Run(state, 200,
      R"({"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":)"
      R"("assistant","content":"Hello!"},"finish_reason":"stop"}]})");
}
BENCHMARK(TypicalSuccess);

void SuccessOf1MB(benchmark::State& state) {
  Run(state, 200,
      R"({"choices":[{"message":{"content":")" +
          Repeat(R"(He said: \"error\": no. )", 1'000'000) + R"("}}]})");
}
BENCHMARK(SuccessOf1MB);

void EmbeddingsOf1MB(benchmark::State& state) {
  Run(state, 200,
      R"({"data":[{"embedding":[)" + Repeat("-0.0123456,", 1'000'000) +
          "0]}]}");
}
BENCHMARK(EmbeddingsOf1MB);

void ErrorOf64MiB(benchmark::State& state) {
  Run(state, 429,
      R"({"error":{"message":")" + std::string(64 << 20, 'x') + R"("}})");
}
BENCHMARK(ErrorOf64MiB)->Unit(benchmark::kMillisecond);

void BlanksOf64MiB(benchmark::State& state) {
  Run(state, 429, std::string(64 << 20, ' '));
}
BENCHMARK(BlanksOf64MiB)->Unit(benchmark::kMillisecond);

void ErrorOf256KiB(benchmark::State& state) {
  Run(state, 429,
      R"({"error":{"message":")" + std::string(262'000, 'x') + R"("}})");
}
BENCHMARK(ErrorOf256KiB)->Unit(benchmark::kMillisecond);

void SuccessfulErrorOf64MiB(benchmark::State& state) {
  Run(state, 200,
      R"({"error":{"message":")" + std::string(64 << 20, 'x') + R"("}})");
}
BENCHMARK(SuccessfulErrorOf64MiB)->Unit(benchmark::kMillisecond);

void SuccessOf64MiB(benchmark::State& state) {
  Run(state, 200, R"({"b64":")" + std::string(64 << 20, 'x') + R"("})");
}
BENCHMARK(SuccessOf64MiB)->Unit(benchmark::kMillisecond);

// What a look for an error has to stop at most often.
void HostileOf64MiB(benchmark::State& state, int status, const char* part) {
  Run(state, status, "{" + Repeat(part, 64 << 20));
}
BENCHMARK_CAPTURE(HostileOf64MiB, quotes, 200, "\"")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, backslashes, 200, R"("\\\"\n)")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, errors, 200, R"("error":null,)")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, escaped_quotes, 200, R"(\")")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, names, 200, R"("error")")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, half_names, 200, R"("e)")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, blank_errors, 200, R"("error" : { } ,)")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, blanks, 200, " ")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, braces, 200, "{}")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, nested, 200, R"("error":{)")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, nested_in_429, 429, R"("error":{)")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostileOf64MiB, brackets, 200, "[")
    ->Unit(benchmark::kMillisecond);

void Nesting100000Deep(benchmark::State& state) {
  Run(state, 429, R"({"error":)" + Repeat("[", 100'000));
}
BENCHMARK(Nesting100000Deep)->Unit(benchmark::kMicrosecond);

void ClosedNesting100000DeepIn200(benchmark::State& state) {
  Run(state, 200,
      R"({"error":)" + std::string(100'000, '[') + std::string(100'000, ']') +
          "}");
}
BENCHMARK(ClosedNesting100000DeepIn200)->Unit(benchmark::kMicrosecond);

// A long answer as it is sent: little but words, and few quotes in them.
void ChatOf32KB(benchmark::State& state) {
  Run(state, 200,
      R"({"id":"chatcmpl-1","object":"chat.completion","created":1768478400,)"
      R"("model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant",)"
      R"("content":")" +
          Repeat(R"(A paragraph ends here.\n\nAnother begins, in which )"
                 R"(somebody says \"no\" after a long while of thought. )",
                 32'000) +
          R"(","refusal":null},"logprobs":null,"finish_reason":"stop"}],)"
          R"("usage":{"prompt_tokens":9,"completion_tokens":8000}})");
}
BENCHMARK(ChatOf32KB);

// Both looks that each event of a stream gets.
void EventOf64MiB(benchmark::State& state, const char* part) {
  const std::string data = "{" + Repeat(part, 64 << 20);
  for ([[maybe_unused]] auto _ : state) {
    keyrotator::OpenAIClassifier stream;
    benchmark::DoNotOptimize(ClassifyEvent("", data, kNow));
    benchmark::DoNotOptimize(stream.Completes("", data));
  }
}
BENCHMARK_CAPTURE(EventOf64MiB, quotes, "\"")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(EventOf64MiB, words, "x")->Unit(benchmark::kMillisecond);

void TypicalCompletes(benchmark::State& state) {
  const std::string data =
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","choices":)"
      R"([{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]})";
  keyrotator::OpenAIClassifier stream;
  for ([[maybe_unused]] auto _ : state) {
    benchmark::DoNotOptimize(stream.Completes("", data));
  }
}
BENCHMARK(TypicalCompletes);

void TypicalEvent(benchmark::State& state) {
  const std::string data =
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","choices":)"
      R"([{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]})";
  for ([[maybe_unused]] auto _ : state) {
    benchmark::DoNotOptimize(ClassifyEvent("", data, kNow));
  }
}
BENCHMARK(TypicalEvent);

}  // namespace

BENCHMARK_MAIN();
