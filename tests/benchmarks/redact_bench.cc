// What it costs to take the secrets out of an error answer, in a storm of 429s:
// threads that each pick a key of many, report that it is rate limited, and
// redact the message, code, body and 15 headers of the answer. Then one thread
// that redacts such an answer, for pools of several sizes.
//
//   redact_bench [MILLISECONDS]   how long each figure is measured

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "keyrotator/keyrotator.h"

namespace {

using Steady = std::chrono::steady_clock;

keyrotator::ApiKeys MakeKeys(std::size_t count) {
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < count; ++i)
    keys.push_back(fmt::format("sk-proj-{:08x}{:032d}", i * 2654435761u, i));
  return keyrotator::ApiKeys(keys);
}

// The texts of an error answer, as a provider sends it.
std::vector<std::string> MakeAnswer() {
  std::vector<std::string> texts{
      "Rate limit reached for gpt-4o in organization org-1 on requests per min "
      "(RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms.",
      "rate_limit_exceeded"};
  texts.push_back(
      R"({"error": {"message": ")" + texts[0] +
      R"(", "type": "requests", "param": null, "code": "rate_limit_exceeded"}})");
  for (int i = 0; i < 15; ++i)
    texts.push_back(fmt::format("x-ratelimit-header-{}: 4999 of 5000", i));
  return texts;
}

template <class Rotator>
std::size_t RedactAll(const Rotator& rotator,
                      const std::vector<std::string>& answer) {
  std::size_t bytes = 0;
  for (const std::string& text : answer) bytes += rotator.Redact(text).size();
  return bytes;
}

// Nanoseconds of wall time for each answer.
double Storm(std::size_t threads, std::size_t keys,
             std::chrono::milliseconds span) {
  keyrotator::KeyRotator rotator(MakeKeys(keys));
  const std::vector<std::string> answer = MakeAnswer();
  std::atomic<std::uint64_t> answers{0};
  std::atomic<std::uint64_t> bytes{0};
  std::vector<std::thread> running;
  const Steady::time_point start = Steady::now();
  for (std::size_t i = 0; i < threads; ++i) {
    running.emplace_back([&] {
      std::uint64_t done = 0;
      std::uint64_t redacted = 0;
      while (Steady::now() - start < span) {
        if (const auto key = rotator.Pick({.scope = "gpt-4o"})) {
          rotator.MarkRateLimited(*key, std::chrono::microseconds(100));
          redacted += RedactAll(rotator, answer);
          ++done;
        }
      }
      answers += done;
      bytes += redacted;
    });
  }
  for (std::thread& thread : running) thread.join();
  const std::chrono::duration<double, std::nano> took = Steady::now() - start;
  if (answers == 0 || bytes == 0) std::exit(1);
  return took.count() / static_cast<double>(answers);
}

// Nanoseconds for one answer in one thread: the best of five.
double Alone(std::size_t keys, std::chrono::milliseconds span) {
  keyrotator::KeyRotator rotator(MakeKeys(keys));
  const std::vector<std::string> answer = MakeAnswer();
  double best = 1e300;
  for (int run = 0; run < 5; ++run) {
    std::uint64_t answers = 0;
    const Steady::time_point start = Steady::now();
    do {
      if (RedactAll(rotator, answer) == 0) std::exit(1);
      ++answers;
    } while (Steady::now() - start < span / 5);
    const std::chrono::duration<double, std::nano> took = Steady::now() - start;
    best = std::min(best, took.count() / static_cast<double>(answers));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const std::chrono::milliseconds span(argc > 1 ? std::atoi(argv[1]) : 1000);
  fmt::print("16 threads, 1024 keys: {:.1f} us an answer (settled, redacted)\n",
             Storm(16, 1024, span) / 1000);
  for (const std::size_t keys : {8u, 64u, 1024u, 16384u}) {
    fmt::print("one thread, {:5} keys: {:.2f} us to redact an answer\n", keys,
               Alone(keys, span) / 1000);
  }
}
