// What the parser costs, against the fastest look at the same bytes there is:
// one memchr over all of them, and one memchr a line, which every parser needs.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

#include "keyrotator/openai/sse.h"

namespace {
std::uint64_t allocations = 0;
}  // namespace

// GCC takes the pair for a mismatch where it inlines only one of the two.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif
void* operator new(std::size_t size) {
  ++allocations;
  if (void* const block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

namespace {

enum Stream : int { kAscii200, kTwoByte, kTiny, kCrLf };

// 64 KiB of events of one kind.
std::string MakeStream(int kind) {
  std::string data, end = "\n\n";
  if (kind == kAscii200) data = std::string(192, 'x');
  if (kind == kTwoByte) {
    for (int i = 0; i < 96; ++i) data += "\xD0\xB8";
  }
  if (kind == kTiny) data.push_back('x');
  if (kind == kCrLf) data = std::string(190, 'x'), end = "\r\n\r\n";
  std::string bytes;
  while (bytes.size() < 64 << 10) bytes += "data: " + data + end;
  return bytes;
}

void Report(benchmark::State& state, std::string_view bytes) {
  constexpr std::array kLabels{"200-byte ASCII events", "two-byte UTF-8",
                               "tiny events", "CRLF"};
  state.SetLabel(kLabels[static_cast<std::size_t>(state.range(0))]);
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(bytes.size()));
}

void MemchrWhole(benchmark::State& state) {
  const std::string bytes = MakeStream(static_cast<int>(state.range(0)));
  for ([[maybe_unused]] auto _ : state) {
    const void* found = std::memchr(bytes.data(), 0, bytes.size());
    benchmark::DoNotOptimize(found);
    benchmark::ClobberMemory();
  }
  Report(state, bytes);
}

void MemchrLines(benchmark::State& state) {
  const std::string bytes = MakeStream(static_cast<int>(state.range(0)));
  for ([[maybe_unused]] auto _ : state) {
    std::size_t lines = 0;
    for (std::size_t at = 0; (at = bytes.find('\n', at)) != bytes.npos; ++at) {
      ++lines;
    }
    benchmark::DoNotOptimize(lines);
    benchmark::ClobberMemory();
  }
  Report(state, bytes);
}

// Fed in pieces of `range(1)` bytes, as a transport reads; 0: in one.
void Parse(benchmark::State& state) {
  const std::string bytes = MakeStream(static_cast<int>(state.range(0)));
  const auto piece = state.range(1) == 0
                         ? bytes.size()
                         : static_cast<std::size_t>(state.range(1));
  keyrotator::SseParser parser;
  std::size_t sum = 0;
  const auto feed = [&] {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      parser.Feed(
          std::string_view(bytes).substr(at, piece),
          [&](const keyrotator::SseEvent& event) { sum += event.data.size(); });
    }
  };
  feed();  // buffers grow once
  const std::uint64_t events_before = parser.events();
  const std::uint64_t allocations_before = allocations;
  for ([[maybe_unused]] auto _ : state) {
    feed();
    benchmark::DoNotOptimize(sum);
  }
  const auto events = static_cast<double>(parser.events() - events_before);
  state.counters["allocations_per_event"] =
      static_cast<double>(allocations - allocations_before) / events;
  state.counters["time_per_event"] = benchmark::Counter(
      events, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  Report(state, bytes);
}

BENCHMARK(MemchrWhole)->DenseRange(kAscii200, kCrLf);
BENCHMARK(MemchrLines)->DenseRange(kAscii200, kCrLf);
BENCHMARK(Parse)->ArgsProduct({{kAscii200, kTwoByte, kTiny, kCrLf},
                               {0, 16384, 1400}});

}  // namespace

BENCHMARK_MAIN();
