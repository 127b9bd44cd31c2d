// Keys are replaced under requests: none fails for it, and none is sent with a
// key that was gone before the request began. The provider is the witness.
//
// It takes 3 s. KEYROTATOR_RELOAD_SECONDS=20 in the environment makes it 20.

#include <stdlib.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "keyrotator/config/key_reloader.h"
#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/rotator.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing::openai_client_reload_test {
namespace {

using namespace std::chrono_literals;

constexpr auto kEvery = 50ms;

int Reloads() {
  const char* const text = getenv("KEYROTATOR_RELOAD_SECONDS");
  const int seconds = text == nullptr ? 3 : std::stoi(text);
  return static_cast<int>(std::chrono::seconds(seconds) / kEvery);
}

// The number at the end of "sk-17" or "gpt-17".
int NumberOf(std::string_view text) {
  const std::string_view digits = text.substr(text.rfind('-') + 1);
  int number = -1;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

// The n-th generation: two keys with its number, as many with the next, so that
// half of the keys stay from each generation to the next; and two that all
// generations have, which are not usable.
std::vector<std::string> Generation(int n) {
  std::vector<std::string> keys{"sk-limited", "sk-failed"};
  for (const int number : {n, n + 1}) {
    keys.push_back("sk-a-" + std::to_string(number));
    keys.push_back("sk-b-" + std::to_string(number));
  }
  return keys;
}

std::string FileOf(const std::vector<std::string>& keys) {
  std::string text;
  for (const std::string& key : keys) text.append(key).append("\n");
  return text;
}

ApiKeys ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path.string() + ": cannot be opened");
  std::vector<ApiKey> keys;
  for (std::string line; std::getline(file, line);)
    keys.emplace_back(line, KeyOptions{.name = line});
  return keys;
}

TEST_CASE(
    "8 threads notice nothing of keys that are replaced every 50 ms, and no "
    "key is used once it is gone",
    "[reload][threads]") {
  constexpr int kThreads = 8;
  const int reloads = Reloads();
  FakeProviderOptions options{.latency = 1ms};
  for (int n = 0; n <= reloads; ++n) {
    for (const std::string& key : Generation(n)) options.keys[key] = {};
  }
  FakeProvider provider(options);

  TemporaryDirectory directory;
  const std::filesystem::path path = directory / "keys";
  WriteFile(path, FileOf(Generation(0)));
  KeyRotator rotator(ReadFile(path));
  rotator.MarkRateLimited("sk-limited", 24h);
  rotator.MarkFailed("sk-failed");
  KeyReloader reloader(
      rotator, {.load = [&] { return ReadFile(path); }, .files = {path}});
  OpenAIClient client(provider.base_url(), rotator,
                      MakeTransport<CurlTransport>());

  // The newest generation whose Replace has returned. A request names it as its
  // model, read before the request began: what the provider sees tells on its
  // own whether the key was gone by then.
  std::atomic<int> installed = 0;
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> sent = 0;
  std::atomic<std::uint64_t> attempts = 0;
  std::mutex mutex;
  std::string failures;  // under mutex

  int not_reloaded = 0;
  std::uint64_t witnessed = 0;
  bool missed = false;
  std::string stale;
  std::set<int> numbers;  // that served
  const auto ask_witness = [&] {
    const std::uint64_t before = provider.Counts().requests;
    const std::vector<FakeRequest> log = provider.Log();
    // The log forgets: whether it goes back to where the last one ended.
    missed = missed || before - witnessed > log.size();
    witnessed = before;
    for (const FakeRequest& request : log) {
      const int number = NumberOf(request.key);
      numbers.insert(number);
      if (number < NumberOf(request.model))
        stale += request.key + " for " + request.model + "\n";
    }
  };

  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        while (!over) {
          const int newest = installed;
          // One scope for all, as if they were one model.
          const Reply reply = client.ChatCompletion(
              Chat("gpt-" + std::to_string(newest)), {.scope = "gpt"});
          ++sent;
          attempts += reply.trail.size();
          if (reply.ok()) continue;
          const std::lock_guard lock(mutex);
          failures += Trail(reply) + ": " + reply.message + "\n";
        }
      });
    }
    std::chrono::steady_clock clock;
    auto next = clock.now();
    for (int n = 1; n <= reloads; ++n) {
      SleepUntil(clock, next += kEvery);
      SwapFile(path, FileOf(Generation(n)));
      // Each of both ways in its turn.
      const ReloadResult result =
          n % 2 == 0 ? reloader.Reload() : reloader.ReloadIfChanged();
      installed = n;
      if (result.kind != ReloadResult::Kind::kReplaced) ++not_reloaded;
      ask_witness();
    }
    over = true;
  }
  ask_witness();

  INFO(sent << " requests, " << attempts << " attempts, " << reloads
            << " reloads, keys of " << numbers.size() << " generations used");
  CHECK(not_reloaded == 0);
  INFO("failures: " << failures);
  CHECK(failures.empty());
  CHECK(attempts == sent);  // none needed a second one
  INFO("used though gone: " << stale);
  CHECK(stale.empty());
  CHECK_FALSE(missed);
  CHECK(provider.Counts().served == sent);
  CHECK(sent > static_cast<std::uint64_t>(reloads));
  // The new keys came into use.
  CHECK(numbers.size() > static_cast<std::size_t>(reloads) / 2);
  // Those that stayed kept what had come of them.
  CHECK(provider.Counts("sk-limited").requests == 0);
  CHECK(provider.Counts("sk-failed").requests == 0);
  CHECK(Row(rotator, "sk-limited").state == KeyState::kCooling);
  CHECK(Row(rotator, "sk-failed").state == KeyState::kFailed);
}

}  // namespace
}  // namespace keyrotator::testing::openai_client_reload_test
