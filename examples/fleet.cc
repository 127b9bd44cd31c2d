// Four processes that use the same keys, with and without a fleet over Redis. One
// command starts everything: a redis-server of its own, a fake provider, and the
// processes, which send more than the keys allow. On the way it kills a process
// and starts another, and kills Redis, which comes back knowing nothing. In the end:
// what was served, and how many requests the provider refused with a 429.
//
// Two runs of 20 s; KEYROTATOR_FLEET_SECONDS says otherwise.

#include <fmt/format.h>
#include <keyrotator/http/curl.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/client.h>
#include <keyrotator/redis.h>
#include <keyrotator/testing/fake_provider.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr int kKeys = 8;
constexpr double kRequests = 20;  // that each key may send ...
constexpr std::chrono::seconds kPer = 4s;
constexpr double kLoad = 1.2;  // times what the keys allow
constexpr auto kDeadline = 2s;
constexpr std::size_t kProcesses = 4;

// What a process has come to. It is in memory that all processes see, so that one
// that was killed is counted, too.
struct Figures {
  std::atomic<int> sent = 0;
  std::atomic<int> served = 0;
  std::atomic<int> refused = 0;             // no key was free in time
  std::atomic<int> lost = 0;                // anything else
  std::atomic<std::uint64_t> messages = 0;  // that Redis answered
  std::atomic<std::uint64_t> misses = 0;
  std::atomic<bool> is_connected = false;  // at the end
  std::atomic<int> times_lost = 0;
  std::atomic<int> times_back = 0;
};

struct Board {
  std::atomic<int> port = 0;  // of the provider, once it is up
  std::atomic<std::uint64_t> served = 0;
  std::atomic<std::uint64_t> too_many = 0;  // 429s
  // The last takes the place of the one that is killed.
  std::array<Figures, kProcesses + 1> processes;
};

class SharedBoard {
 public:
  SharedBoard()
      : memory_(mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::runtime_error("no shared memory");
    board_ = new (memory_) Board;
  }
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  ~SharedBoard() { munmap(memory_, sizeof(Board)); }

  Board* operator->() const { return board_; }
  Board& operator*() const { return *board_; }

 private:
  void* memory_;
  Board* board_;
};

// ---- Processes. This one has no threads, so that it may fork at any time ----

class Child {
 public:
  // Runs `work` in a process of its own.
  template <class Work>
  explicit Child(const Work& work) : process_(fork()) {
    if (process_ < 0) throw std::runtime_error("no process can be started");
    if (process_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to outlive the example
    try {
      work();
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
      _exit(1);
    }
    _exit(0);
  }
  Child(Child&& other) noexcept : process_(std::exchange(other.process_, 0)) {}
  Child& operator=(Child&& other) noexcept {
    Kill();
    process_ = std::exchange(other.process_, 0);
    return *this;
  }
  ~Child() { Kill(); }

  // As kill -9 does.
  void Kill() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  void Wait() {
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  bool HasEnded() {
    if (waitpid(process_, nullptr, WNOHANG) != process_) return false;
    process_ = 0;
    return true;
  }

 private:
  pid_t process_;
};

// Redis on a unix socket in a directory of its own, gone with it.
class Redis {
 public:
  Redis() {
    // mkdtemp puts a name that is free in place of the six at the end.
    std::string path = std::filesystem::temp_directory_path() /
                       ("keyrotator-fleet-" + std::string(6, 'X'));
    if (mkdtemp(path.data()) == nullptr)
      throw std::runtime_error("no temporary directory can be made");
    directory_ = path;
  }
  Redis(const Redis&) = delete;
  Redis& operator=(const Redis&) = delete;
  ~Redis() {
    if (server_) server_->Kill();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  std::string url() const { return "unix://" + socket(); }

  // False: there is no redis-server.
  bool Start() {
    server_.emplace([this] {
      const std::string path = socket();
      const std::string directory = directory_.string();
      execlp("redis-server", "redis-server", "--port", "0", "--unixsocket",
             path.c_str(), "--save", "", "--appendonly", "no", "--dir",
             directory.c_str(), "--logfile", "redis.log", nullptr);
    });
    while (!std::filesystem::exists(socket())) {
      if (server_->HasEnded()) return false;
      std::this_thread::sleep_for(10ms);
    }
    return true;
  }

  void Kill() {
    server_->Kill();
    std::filesystem::remove(socket());
  }

 private:
  std::string socket() const { return (directory_ / "socket").string(); }

  std::filesystem::path directory_;
  std::optional<Child> server_;
};

// ---- The provider's process ----

void Provide(Board& board) {
  keyrotator::testing::FakeProviderOptions options{.latency = 100ms};
  for (int i = 0; i < kKeys; ++i) {
    options.keys[fmt::format("sk-{}", i)] = {
        .limit = {.requests = kRequests, .per = kPer}};
  }
  const keyrotator::testing::FakeProvider provider(options);
  board.port = provider.port();
  while (true) {  // until it is killed
    std::this_thread::sleep_for(20ms);
    const keyrotator::testing::FakeCounts counts = provider.Counts();
    board.served = counts.served;
    board.too_many = counts.rate_limited;
  }
}

// ---- A process that uses the keys ----

// Without an URL of Redis it is on its own.
void Serve(const std::string& provider, const std::string& redis, double rate,
           Clock::time_point until, Figures& figures) {
  std::vector<keyrotator::ApiKey> keys;
  for (int i = 0; i < kKeys; ++i) keys.emplace_back(fmt::format("sk-{}", i));
  using Kind = keyrotator::KeyEvent::Kind;
  keyrotator::KeyRotator rotator(
      keys, {.on_event = [&](const keyrotator::KeyEvent& event) {
        if (event.kind == Kind::kFleetLost) ++figures.times_lost;
        if (event.kind == Kind::kFleetBack) ++figures.times_back;
      }});
  // This is all that it takes to be one of many.
  std::optional<keyrotator::Fleet> fleet;
  if (!redis.empty()) {
    fleet.emplace(rotator, keyrotator::RedisExchange(
                               {.url = redis,
                                .pool = "example",
                                .secret = "known to the fleet alone"}));
  }
  keyrotator::OpenAIClient client(provider, rotator,
                                  keyrotator::CurlTransport{},
                                  {.retry = {.deadline = kDeadline}});

  // A request is due at fixed times, whether those before it were served or not.
  const auto begin = Clock::now();
  std::atomic<int> next = 0;
  const auto work = [&] {
    while (true) {
      const auto due = begin + std::chrono::duration_cast<Clock::duration>(
                                   Seconds((next++ + 0.5) / rate));
      if (due > until) return;
      std::this_thread::sleep_until(due);
      ++figures.sent;
      const keyrotator::Reply reply = client.ChatCompletion(
          R"({"model":"gpt-4o","messages":[{"role":"user","content":"Hi."}]})");
      using keyrotator::Outcome;
      if (reply.ok()) {
        ++figures.served;
      } else if (reply.outcome == Outcome::kAllCooling ||
                 reply.outcome == Outcome::kBusy ||
                 reply.outcome == Outcome::kDeadline) {
        ++figures.refused;
      } else {
        if (figures.lost++ == 0)
          fmt::print(stderr, "  {}: {}\n", reply.outcome, reply.message);
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    // As many as may wait at once, and some more.
    const int count = static_cast<int>(rate * Seconds(kDeadline).count()) + 8;
    for (int i = 0; i < count; ++i) threads.emplace_back(work);
  }
  if (!fleet) return;
  const keyrotator::FleetStatus status = fleet->Status();
  figures.is_connected = status.is_connected;
  figures.messages = status.exchanges;
  figures.misses = status.misses;
}

// ---- A run ----

struct Result {
  double served = 0;  // as the provider counted, as the next
  double wasted = 0;  // 429s per request that was served
  bool in_order = false;
};

void SleepUntil(Clock::time_point time, std::string_view what) {
  std::this_thread::sleep_until(time);
  fmt::print("  {}\n", what);
  std::fflush(stdout);
}

// Requests that the keys allow in that time: their buckets begin full.
double Allowed(double seconds) {
  return kKeys * kRequests * (1 + seconds / Seconds(kPer).count());
}

// Without Redis the processes are on their own.
Result Run(Redis* redis, double seconds) {
  const SharedBoard board;
  const Child provider([&] { Provide(*board); });
  while (board->port == 0) std::this_thread::sleep_for(1ms);
  const std::string url = fmt::format("http://127.0.0.1:{}/v1", board->port);

  const double rate = kLoad * Allowed(seconds) / seconds / kProcesses;
  const auto begin = Clock::now();
  const auto at = [&](double part) {
    return begin +
           std::chrono::duration_cast<Clock::duration>(Seconds(part * seconds));
  };
  const auto start = [&](std::size_t number) {
    return Child([&, number] {
      Serve(url, redis == nullptr ? "" : redis->url(), rate, at(1),
            board->processes[number]);
    });
  };
  std::vector<Child> processes;
  for (std::size_t i = 0; i < kProcesses; ++i) processes.push_back(start(i));

  SleepUntil(at(0.3), "a process is killed, and another starts");
  processes[0].Kill();
  processes[0] = start(kProcesses);
  if (redis != nullptr) {
    SleepUntil(at(0.5), "Redis is killed");
    redis->Kill();
    SleepUntil(at(0.6), "Redis starts again, and knows nothing");
    if (!redis->Start()) throw std::runtime_error("Redis does not start again");
  }
  for (Child& process : processes) process.Wait();
  std::this_thread::sleep_for(50ms);  // for the provider's last count

  Result result;
  result.served = static_cast<double>(board->served);
  result.wasted = static_cast<double>(board->too_many) / result.served;
  result.in_order = true;
  for (std::size_t i = 0; i < board->processes.size(); ++i) {
    const Figures& its = board->processes[i];
    const bool was_killed = i == 0;
    std::string text = fmt::format(
        "  process {}: {} requests, {} served, {} refused as no key was free "
        "in {} s",
        i + 1, its.sent, its.served, its.refused, Seconds(kDeadline).count());
    if (its.lost > 0) text += fmt::format(", {} LOST", its.lost);
    result.in_order &= its.lost == 0;
    if (was_killed) {
      text += "; killed";
    } else {
      result.in_order &=
          its.sent > 0 && its.sent == its.served + its.refused + its.lost;
      if (redis != nullptr) {
        text += fmt::format("; {} messages to Redis, {} not answered, {}",
                            its.messages + its.misses, its.misses,
                            its.is_connected ? "connected" : "ALONE");
        result.in_order &= its.is_connected && its.times_lost == its.times_back;
      }
    }
    fmt::print("{}\n", text);
  }
  return result;
}

}  // namespace

int main() try {
  const double seconds =
      std::atof(Environment("KEYROTATOR_FLEET_SECONDS", "20").c_str());
  if (!(seconds >= 1)) {
    fmt::print(stderr, "KEYROTATOR_FLEET_SECONDS must be 1 or more.\n");
    return 2;
  }
  Redis redis;
  if (!redis.Start()) {
    fmt::print("SKIPPED: redis-server does not start; is it installed?\n");
    return 0;
  }
  fmt::print(
      "{} processes use the same {} keys, and send {} times what these allow.\n"
      "Each on its own:\n",
      kProcesses, kKeys, kLoad);
  std::fflush(stdout);
  const Result alone = Run(nullptr, seconds);
  fmt::print("As a fleet, over Redis:\n");
  std::fflush(stdout);
  const Result fleet = Run(&redis, seconds);

  fmt::print("\n{:<10}{:>8}{:>12}{:>18}\n", "", "served", "of allowed",
             "429s per served");
  const auto row = [&](std::string_view name, const Result& result) {
    fmt::print("{:<10}{:>8}{:>12.3f}{:>18.4f}\n", name, result.served,
               result.served / Allowed(seconds + Seconds(kDeadline).count()),
               result.wasted);
  };
  row("alone", alone);
  row("fleet", fleet);
  if (!alone.in_order || !fleet.in_order) {
    fmt::print("Some requests were lost, or a process did not come back.\n");
    return 1;
  }
  if (fleet.wasted >= alone.wasted) {
    fmt::print("The fleet wasted no less.\n");
    return 1;
  }
  fmt::print(
      "Every request was served or refused in order, every process came "
      "back, and the fleet wasted less.\n");
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
