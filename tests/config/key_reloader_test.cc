// What a KeyReloader promises, looked at by hand: but for two tests of its
// thread nothing here waits, and no time passes.

#include "keyrotator/config/key_reloader.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "keyrotator/config/keys_from.h"
#include "keyrotator/keyrotator.h"
#include "tests/support/catch.h"
#include "tests/support/rotator.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing::config_key_reloader_test {
namespace {

using namespace std::chrono_literals;
using Kind = ReloadResult::Kind;
namespace fs = std::filesystem;

// Far longer than anything here takes, even under a sanitizer.
constexpr auto kLong = 30s;

// A file with the letters of some keys, as Letters makes them; '!' makes it
// broken.
ApiKeys ReadLetters(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + ": cannot be opened");
  const std::string letters{std::istreambuf_iterator<char>(file), {}};
  if (letters.find('!') != std::string::npos)
    throw std::runtime_error(path.string() + ": broken");
  return Letters(letters);
}

template <class Rotator>
std::string Names(const Rotator& rotator) {
  std::string names;
  for (const KeyStatus& key : rotator.Snapshot()) names += key.name;
  return names;
}

// A file "AB" and a rotator that has its keys.
struct Setup {
  explicit Setup(ReloadOptions options = {}) {
    WriteFile(path, "AB");
    options.on_error = [this](std::string_view message) {
      errors.emplace_back(message);
    };
    reloader.emplace(rotator,
                     KeySource{.load =
                                   [this] {
                                     ++loads;
                                     if (before_load) before_load();
                                     return ReadLetters(path);
                                   },
                               .files = {path}},
                     options);
    Settle();
  }

  // Looks until a look loads nothing more.
  void Settle() {
    for (int i = 0; i < 3; ++i) reloader->ReloadIfChanged();
    loads = 0;
  }
  Kind Look() { return reloader->ReloadIfChanged().kind; }

  TemporaryDirectory directory;
  fs::path path = directory / "keys";
  ManualClock clock;
  std::vector<std::string> events;
  KeyRotator<RoundRobin, ManualClock> rotator{
      Letters("AB"),
      {.on_event =
           [this](const KeyEvent& event) { events.push_back(event.name); }},
      RoundRobin{},
      clock};
  int loads = 0;
  std::function<void()> before_load;
  std::vector<std::string> errors;
  std::optional<KeyReloader<KeyRotator<RoundRobin, ManualClock>>> reloader;
};

// ---- What a look sees ----

TEST_CASE("the first look loads, whatever the rotator began with", "[reload]") {
  TemporaryDirectory directory;
  WriteFile(directory / "keys", "BC");
  KeyRotator rotator(Letters("AB"));
  KeyReloader reloader(rotator,
                       {.load = [&] { return ReadLetters(directory / "keys"); },
                        .files = {directory / "keys"}});
  CHECK(Names(rotator) == "AB");
  CHECK(reloader.ReloadIfChanged().kind == Kind::kReplaced);
  CHECK(Names(rotator) == "BC");
}

TEST_CASE("a file that stays is loaded once more, and then no more",
          "[reload]") {
  Setup setup;
  for (int i = 0; i < 5; ++i) CHECK(setup.Look() == Kind::kUnchanged);
  CHECK(setup.loads == 0);

  SwapFile(setup.path, "AC");
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(setup.Look() == Kind::kReplaced);
  for (int i = 0; i < 5; ++i) CHECK(setup.Look() == Kind::kUnchanged);
  CHECK(setup.loads == 2);
  CHECK(Names(setup.rotator) == "AC");
  CHECK(setup.errors.empty());
}

TEST_CASE("a pipe in the place of the file is an error, and the keys stay",
          "[reload]") {
  TemporaryDirectory directory;
  const fs::path path = directory / "keys";
  WriteFile(path, "sk-a\n");
  KeyRotator rotator(KeysFromFile(path));
  KeyReloader reloader(
      rotator, {.load = [&] { return KeysFromFile(path); }, .files = {path}});
  fs::remove(path);
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  const ReloadResult result = reloader.ReloadIfChanged();
  CHECK(result.kind == Kind::kFailed);
  CHECK(result.message == "the keys stay as they were: " + path.string() +
                              ": a pipe, where a file with keys should be");
  CHECK(rotator.Size() == 1);
}

TEST_CASE("a file that is renamed over another is seen", "[reload]") {
  Setup setup;
  for (const char* keys : {"BC", "CD", "A", "ABCD"}) {
    SwapFile(setup.path, keys);
    CHECK(setup.Look() == Kind::kReplaced);
    CHECK(Names(setup.rotator) == keys);
  }
}

TEST_CASE("a file that keeps its size and its time is seen", "[reload]") {
  Setup setup;
  const fs::path next = setup.directory / "next";
  WriteFile(next, "XY");
  fs::last_write_time(next, fs::last_write_time(setup.path));
  fs::rename(next, setup.path);
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(Names(setup.rotator) == "XY");
}

TEST_CASE("a second change within a tick of the file's time is seen",
          "[reload]") {
  Setup setup;
  for (int i = 0; i < 20; ++i) {
    WriteFile(setup.path, "CD");
    setup.Look();
    WriteFile(setup.path, "EF");  // the same inode and size, most often time
    setup.Look();
    setup.Look();
    CHECK(Names(setup.rotator) == "EF");
  }
}

// A mounted secret: keys -> ..data/keys, ..data -> a directory with a date.
TEST_CASE("a secret that Kubernetes swaps is seen", "[reload]") {
  TemporaryDirectory mount;
  const auto project = [&](const std::string& directory, const char* keys) {
    fs::create_directory(mount / directory);
    WriteFile(mount / directory / "keys", keys);
    fs::create_directory_symlink(directory, mount / "..data_tmp");
    fs::rename(mount / "..data_tmp", mount / "..data");
  };
  project("..2024_01_01_00_00_00.1", "AB");
  fs::create_symlink("..data/keys", mount / "keys");
  KeyRotator rotator(ApiKeys{});
  KeyReloader reloader(rotator,
                       {.load = [&] { return ReadLetters(mount / "keys"); },
                        .files = {mount / "keys"}});
  while (reloader.ReloadIfChanged().kind != Kind::kUnchanged) continue;
  CHECK(Names(rotator) == "AB");

  project("..2024_01_01_00_01_00.2", "BC");
  fs::remove_all(mount / "..2024_01_01_00_00_00.1");
  CHECK(reloader.ReloadIfChanged().kind == Kind::kReplaced);
  CHECK(Names(rotator) == "BC");
}

TEST_CASE("any of several files is seen", "[reload]") {
  TemporaryDirectory directory;
  const std::array paths{directory / "one", directory / "two"};
  WriteFile(paths[0], "A");
  WriteFile(paths[1], "B");
  KeyRotator rotator(ApiKeys{});
  KeyReloader reloader(rotator,
                       {.load =
                            [&] {
                              std::vector<ApiKey> keys;
                              for (const fs::path& path : paths) {
                                for (const ApiKey& key : ReadLetters(path))
                                  keys.push_back(key);
                              }
                              return keys;
                            },
                        .files = {paths[0], paths[1]}});
  while (reloader.ReloadIfChanged().kind != Kind::kUnchanged) continue;
  SwapFile(paths[1], "C");
  CHECK(reloader.ReloadIfChanged().kind == Kind::kReplaced);
  CHECK(Names(rotator) == "AC");
}

// ---- What stays ----

TEST_CASE("the same keys written anew change nothing", "[reload]") {
  Setup setup;
  setup.rotator.MarkRateLimited("secret-B", 1h);
  const KeyId id = Row(setup.rotator, "A").id;
  setup.events.clear();
  SwapFile(setup.path, "AB");
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(setup.reloader->Reload().kind == Kind::kReplaced);
  CHECK(setup.events.empty());
  CHECK(Row(setup.rotator, "A").id == id);
  CHECK(Row(setup.rotator, "B").returns_in == std::chrono::nanoseconds(1h));
}

TEST_CASE("a reload does not disturb whose turn it is", "[reload]") {
  Setup setup;
  std::string names;
  for (int i = 0; i < 4; ++i) {
    names += PickName(setup.rotator);
    setup.reloader->Reload();
  }
  CHECK(names == "ABAB");
}

TEST_CASE("keys that stay keep their cooldowns, failures and counts",
          "[reload]") {
  Setup setup;
  setup.rotator.Pick();
  setup.rotator.MarkFailed("secret-A");
  setup.rotator.MarkRateLimited("secret-B", 1h);
  SwapFile(setup.path, "CBA");
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(Names(setup.rotator) == "CBA");
  CHECK(Row(setup.rotator, "A").state == KeyState::kFailed);
  CHECK(Row(setup.rotator, "A").picks == 1);
  CHECK(Row(setup.rotator, "B").returns_in == std::chrono::nanoseconds(1h));
  CHECK(PickNames(setup.rotator, 3) == "C C C");
}

TEST_CASE("a request in flight finishes with the key that it has", "[reload]") {
  Setup setup;
  const std::optional<Lease> lease = setup.rotator.Pick();
  REQUIRE(lease->name() == "A");
  SwapFile(setup.path, "BC");
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(lease->Reveal() == "secret-A");
  CHECK_FALSE(setup.rotator.MarkFailed(*lease));
  CHECK(PickNames(setup.rotator, 4) == "B C B C");
}

TEST_CASE("a key whose secret was exchanged keeps its name", "[reload]") {
  KeyRotator rotator({ApiKey("sk-old", {.name = "prod"})});
  KeyReloader reloader(rotator, {.load = [] {
                         return ApiKeys{ApiKey("sk-new", {.name = "prod"})};
                       }});
  CHECK(reloader.Reload().ok());
  const std::optional<Lease> lease = rotator.Pick();
  CHECK(lease->name() == "prod");
  CHECK(lease->Reveal() == "sk-new");
}

// ---- What goes wrong ----

TEST_CASE("a broken file leaves the keys and is told once a change",
          "[reload]") {
  Setup setup;
  SwapFile(setup.path, "AC!");
  for (int i = 0; i < 5; ++i) {
    const ReloadResult result = setup.reloader->ReloadIfChanged();
    CHECK(result.kind == Kind::kFailed);
    CHECK_FALSE(result.ok());
    CHECK(result.message ==
          "the keys stay as they were: " + setup.path.string() + ": broken");
  }
  CHECK(Names(setup.rotator) == "AB");
  REQUIRE(setup.errors.size() == 1);
  CHECK(setup.errors[0] ==
        "the keys stay as they were: " + setup.path.string() + ": broken");

  SwapFile(setup.path, "AD!");
  for (int i = 0; i < 5; ++i) CHECK(setup.Look() == Kind::kFailed);
  CHECK(setup.errors.size() == 2);
  // Who asks is told.
  CHECK_FALSE(setup.reloader->Reload().ok());
  CHECK(setup.errors.size() == 3);

  SwapFile(setup.path, "AD");
  const ReloadResult result = setup.reloader->ReloadIfChanged();
  CHECK(result.ok());
  CHECK(result.message.empty());
  CHECK(Names(setup.rotator) == "AD");
  CHECK(setup.errors.size() == 3);
}

TEST_CASE("what failed for another reason than the files is tried again",
          "[reload]") {
  Setup setup;
  const char* reason = "no network";
  setup.before_load = [&] {
    if (reason != nullptr) throw std::runtime_error(reason);
  };
  SwapFile(setup.path, "AC");
  for (int i = 0; i < 3; ++i) CHECK(setup.Look() == Kind::kFailed);
  CHECK(setup.errors.size() == 1);
  reason = "no permission";
  for (int i = 0; i < 3; ++i) CHECK(setup.Look() == Kind::kFailed);
  CHECK(setup.errors.size() == 2);
  reason = nullptr;
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(Names(setup.rotator) == "AC");
  CHECK(setup.Look() == Kind::kUnchanged);
}

TEST_CASE("a file that vanishes leaves the keys, and is seen when it returns",
          "[reload]") {
  Setup setup;
  const fs::path away = setup.directory / "away";
  fs::rename(setup.path, away);
  for (int i = 0; i < 3; ++i) CHECK(setup.Look() == Kind::kFailed);
  CHECK(Names(setup.rotator) == "AB");
  CHECK(setup.errors.size() == 1);
  fs::rename(away, setup.path);
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(Names(setup.rotator) == "AB");

  fs::remove(setup.path);
  CHECK(setup.Look() == Kind::kFailed);
  WriteFile(setup.path, "CD");
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(Names(setup.rotator) == "CD");
  CHECK(setup.errors.size() == 2);
}

TEST_CASE("no keys are an error, unless they are allowed", "[reload]") {
  const bool allowed = GENERATE(false, true);
  Setup setup({.allow_no_keys = allowed});
  WriteFile(setup.path, "");
  CHECK(setup.Look() == (allowed ? Kind::kReplaced : Kind::kFailed));
  CHECK(setup.rotator.Size() == (allowed ? 0 : 2));
  CHECK(setup.errors.size() == (allowed ? 0 : 1));
  if (!allowed) CHECK_THAT(setup.errors[0], ContainsSubstring(": no key"));
}

TEST_CASE("keys that are all empty are no keys", "[reload]") {
  KeyRotator rotator(Letters("A"));
  KeyReloader reloader(rotator, {.load = [] {
                         return std::vector<const char*>{nullptr, "", "  "};
                       }});
  const ReloadResult result = reloader.Reload();
  CHECK(result.message == "the keys stay as they were: the source: no key");
  CHECK(Names(rotator) == "A");
}

TEST_CASE("a file that changes while it is read is read again", "[reload]") {
  Setup setup;
  setup.before_load = [&] {
    if (setup.loads == 1) SwapFile(setup.path, "CDE");
  };
  SwapFile(setup.path, "BC");
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(setup.loads == 2);
  CHECK(Names(setup.rotator) == "CDE");
}

TEST_CASE("a file that never stops changing is left for the next look",
          "[reload]") {
  Setup setup;
  setup.before_load = [&] {
    SwapFile(setup.path, std::string_view("CDEFGH").substr(
                             0, static_cast<std::size_t>(setup.loads)));
  };
  CHECK(setup.reloader->Reload().kind == Kind::kFailed);
  CHECK(setup.loads == 3);
  CHECK(Names(setup.rotator) == "AB");
  REQUIRE(setup.errors.size() == 1);
  CHECK_THAT(setup.errors[0], ContainsSubstring("changing while it is read"));
  setup.before_load = nullptr;
  CHECK(setup.Look() == Kind::kReplaced);
  CHECK(Names(setup.rotator) == "CDE");
}

TEST_CASE("whatever the source throws ends in the reloader", "[reload]") {
  KeyRotator rotator(Letters("AB"));
  int what = 0;
  KeyReloader reloader(
      rotator, {.load = [&]() -> ApiKeys {
        if (what == 0) throw std::runtime_error("");
        if (what == 1) throw 42;
        if (what == 2) return Letters("AA");  // counts once
        return {ApiKey("x", {.name = "n"}), ApiKey("y", {.name = "n"})};
      }});
  for (what = 0; what < 2; ++what) {
    CHECK(reloader.Reload().message ==
          "the keys stay as they were: an error without a message");
    CHECK(Names(rotator) == "AB");
  }
  CHECK(reloader.Reload().ok());
  CHECK(Names(rotator) == "A");
  what = 3;
  CHECK(reloader.Reload().message ==
        "the keys stay as they were: API key 2 (\"n\"): another key has that "
        "name");
  CHECK(Names(rotator) == "A");
}

TEST_CASE("no error of a reload tells a secret", "[reload][secrets]") {
  const std::string marked = "sk-QzXw7RtY2uIoP9aSdFgH4jKlM6nBvC";
  KeyRotator rotator({ApiKey(marked, {.name = "prod"})});
  std::string told;
  bool refused = false;
  KeyReloader reloader(
      rotator, {.load = [&]() -> ApiKeys {
        if (!refused)
          throw std::runtime_error("line 1: " + marked + "\\n is odd");
        return {ApiKey(marked + "\x01", {.name = "next"})};
      }},
      {.on_error = [&](std::string_view message) { told += message; }});
  told += reloader.Reload().message;
  CHECK_THAT(told, ContainsSubstring("line 1: [prod]"));
  refused = true;
  told += reloader.Reload().message;
  CHECK_THAT(told, ContainsSubstring("(\"next\")"));
  for (std::size_t i = 0; i + 6 <= marked.size(); ++i) {
    const bool leaked = told.find(marked.substr(i, 6)) != std::string::npos;
    CHECK_FALSE(leaked);
  }
}

TEST_CASE("who is told of an error may call the reloader", "[reload]") {
  using Reloader = KeyReloader<KeyRotator<>>;
  KeyRotator rotator(Letters("A"));
  bool up = false;
  std::unique_ptr<Reloader> reloader;
  reloader = std::make_unique<Reloader>(
      rotator, KeySource{.load = [&]() -> ApiKeys {
        if (!up) throw std::runtime_error("down");
        return Letters("B");
      }},
      ReloadOptions{.on_error = [&](std::string_view) {
        up = true;
        reloader->Reload();
      }});
  CHECK_FALSE(reloader->Reload().ok());
  CHECK(Names(rotator) == "B");
}

TEST_CASE("a source that cannot be called and an interval of 0 are refused",
          "[reload]") {
  KeyRotator rotator(Letters("A"));
  const auto make = [&](const KeySource& source, const ReloadOptions& options) {
    const KeyReloader reloader(rotator, source, options);
  };
  const KeySource good{.load = [] { return Letters("A"); }};
  CHECK_THROWS_AS(make({.load = nullptr}, {}), std::invalid_argument);
  CHECK_THROWS_AS(make(good, {.interval = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(make(good, {.interval = -1s}), std::invalid_argument);
}

// ---- Sources ----

TEST_CASE("a source without files is loaded by each look", "[reload]") {
  KeyRotator rotator(Letters("A"));
  int loads = 0;
  bool down = false;
  int errors = 0;
  KeyReloader reloader(
      rotator,
      {.load =
           [&] {
             if (down) throw std::runtime_error("down");
             return std::vector<std::string>{"sk-" + std::to_string(++loads)};
           }},
      {.on_error = [&](std::string_view) { ++errors; }});
  for (int i = 0; i < 5; ++i)
    CHECK(reloader.ReloadIfChanged().kind == Kind::kReplaced);
  CHECK(rotator.Pick()->Reveal() == "sk-5");
  down = true;
  for (int i = 0; i < 5; ++i)
    CHECK(reloader.ReloadIfChanged().kind == Kind::kFailed);
  CHECK(rotator.Pick()->Reveal() == "sk-5");
  CHECK(errors == 1);
  down = false;
  CHECK(reloader.ReloadIfChanged().kind == Kind::kReplaced);
  down = true;
  CHECK(reloader.ReloadIfChanged().kind == Kind::kFailed);
  CHECK(errors == 2);  // the same words, but news again
}

TEST_CASE("the environment is read on demand", "[reload]") {
  constexpr const char* kVariable = "KEYROTATOR_TEST_RELOADED_KEY";
  setenv(kVariable, "sk-1", 1);
  const KeySource source{.load = [] { return ApiKeys{getenv(kVariable)}; }};
  KeyRotator rotator(source.load());
  KeyReloader reloader(rotator, source);
  setenv(kVariable, "sk-2", 1);
  CHECK(reloader.Reload().ok());
  CHECK(rotator.Pick()->Reveal() == "sk-2");
  unsetenv(kVariable);
  CHECK_FALSE(reloader.Reload().ok());
  CHECK(rotator.Pick()->Reveal() == "sk-2");
}

TEST_CASE("a hangup reloads from the program's loop", "[reload]") {
  static std::atomic<bool> hung_up = false;
  static_assert(std::atomic<bool>::is_always_lock_free);
  Setup setup;
  SwapFile(setup.path, "CD");
  const auto before = std::signal(SIGHUP, [](int) { hung_up = true; });
  std::raise(SIGHUP);
  std::signal(SIGHUP, before);
  for (int i = 0; i < 3; ++i) {
    if (hung_up.exchange(false)) setup.reloader->Reload();
  }
  CHECK(setup.loads == 1);
  CHECK(Names(setup.rotator) == "CD");
}

// ---- Threads ----

TEST_CASE("calls at the same time load one after the other", "[reload]") {
  constexpr int kThreads = 4;
  constexpr int kCalls = 200;
  KeyRotator rotator(ApiKeys{});
  std::atomic<int> loads = 0;
  std::atomic<int> loading = 0;
  std::atomic<int> most_loading = 0;
  std::atomic<int> failed = 0;
  KeyReloader reloader(rotator, {.load = [&] {
                         const int now = ++loading;
                         if (now > most_loading) most_loading = now;
                         const std::string key =
                             "sk-" + std::to_string(++loads);
                         std::this_thread::yield();
                         --loading;
                         return std::vector<std::string>{key};
                       }});
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        for (int call = 0; call < kCalls; ++call) {
          const bool good = i % 2 == 0 ? reloader.Reload().ok()
                                       : reloader.ReloadIfChanged().ok();
          if (!good) ++failed;
        }
      });
    }
  }
  CHECK(failed == 0);
  CHECK(most_loading == 1);
  CHECK(loads == kThreads * kCalls);
  // What was loaded last is what there is.
  CHECK(rotator.Pick()->Reveal() == "sk-" + std::to_string(kThreads * kCalls));
}

TEST_CASE("the reloader's thread looks at once, and by the rotator's clock",
          "[reload]") {
  TemporaryDirectory directory;
  const fs::path path = directory / "keys";
  WriteFile(path, "A");
  ManualClock clock;
  KeyRotator rotator(ApiKeys{}, {}, RoundRobin{}, clock);
  const auto give_up = std::chrono::steady_clock::now() + kLong;
  // Moves the time by what lies between two looks until the names are these.
  const auto becomes = [&](const std::string& names, Span step) {
    while (Names(rotator) != names) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      clock.Advance(step);
      std::this_thread::yield();
    }
    return true;
  };
  std::atomic<int> errors = 0;
  const KeyReloader reloader(
      rotator, {.load = [&] { return ReadLetters(path); }, .files = {path}},
      {.interval = 1h, .on_error = [&](std::string_view) { ++errors; }});
  CHECK(becomes("A", 0s));
  SwapFile(path, "B");
  CHECK(becomes("B", 1h));
  SwapFile(path, "!");
  while (errors == 0 && std::chrono::steady_clock::now() < give_up) {
    clock.Advance(1h);
    std::this_thread::yield();
  }
  CHECK(errors == 1);
  SwapFile(path, "C");
  CHECK(becomes("C", 1h));
}

TEMPLATE_TEST_CASE("a reloader ends at once, however long its interval",
                   "[reload]", std::chrono::steady_clock, ManualClock) {
  KeyRotator rotator(ApiKeys{}, {}, RoundRobin{}, TestType());
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    std::atomic<bool> loaded = false;
    const KeyReloader reloader(rotator,
                               {.load =
                                    [&] {
                                      loaded = true;
                                      return Letters("A");
                                    }},
                               {.interval = std::chrono::hours::max()});
    // Half of them end about when the thread begins, half when it sleeps.
    while (i % 2 == 0 && !loaded) std::this_thread::yield();
  }
  CHECK(std::chrono::steady_clock::now() - start < kLong);
}

}  // namespace
}  // namespace keyrotator::testing::config_key_reloader_test
