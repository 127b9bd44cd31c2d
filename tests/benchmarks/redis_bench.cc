// File: redis_bench.cc
//
// How much of one core a fleet takes of Redis: real processes' parts in one
// program, which send 1.2 and 0.5 times what the keys allow, over a redis-server of
// its own. The aim: at most a quarter of a core for 200 processes with 100 keys in 3
// scopes.
//
//   redis_bench [SECONDS]   how long each is measured, after as long; by default 20

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/keyrotator.h"
#include "keyrotator/redis.h"
#include "tests/support/redis_server.h"

namespace keyrotator {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using testing::RedisServer;

constexpr double kBucket = 10;  // seconds of its rate that a bucket holds

// Seconds of CPU that it has taken so far, its own and the kernel's for it.
double CpuOf(RedisServer& redis) {
  const std::string text = redis.Say({"INFO", "cpu"});
  double all = 0;
  for (const std::string_view name : {"used_cpu_sys:", "used_cpu_user:"}) {
    const std::size_t at = text.find(name);
    if (at == text.npos) throw std::runtime_error("INFO cpu: " + text);
    all += std::strtod(text.c_str() + at + name.size(), nullptr);
  }
  return all;
}

struct Fleets {
  std::size_t processes = 0;
  std::size_t keys = 0;
  std::size_t scopes = 0;
  double load = 1.2;      // of what the keys allow
  double per_second = 1;  // of a key in a scope
};

// What a provider has left of a key in a scope.
struct Bucket {
  double left = 0;
  Clock::time_point at;
};

class Provider {
 public:
  explicit Provider(const Fleets& fleets)
      : limit_(kBucket * fleets.per_second), per_second_(fleets.per_second) {}

  Report Answer(const std::string& key, const std::string& scope) {
    const auto now = Clock::now();
    const auto [place, is_new] =
        buckets_.try_emplace({key, scope}, Bucket{limit_, now});
    Bucket& bucket = place->second;
    const Seconds since = now - std::exchange(bucket.at, now);
    bucket.left = std::min(limit_, bucket.left + since.count() * per_second_);
    Report report{.kind = Report::Kind::kServed};
    if (bucket.left >= 1) {
      bucket.left -= 1;
    } else {
      report.kind = Report::Kind::kRateLimited;
      report.reach = Reach::kScope;
    }
    const Seconds reset((limit_ - bucket.left) / per_second_);
    report.limits = RateLimits{
        .requests = {
            .limit = limit_,
            .remaining = std::floor(bucket.left),
            .reset =
                std::chrono::duration_cast<std::chrono::nanoseconds>(reset)}};
    return report;
  }

 private:
  const double limit_;
  const double per_second_;
  std::map<std::pair<std::string, std::string>, Bucket> buckets_;
};

class Member {
 public:
  Member(Provider& provider, const RedisServer& redis,
         const std::vector<ApiKey>& keys)
      : provider_(provider), rotator_(keys, {}, MostHeadroom()) {
    RedisOptions options;
    options.url = redis.url();
    options.pool = "bench";
    options.secret = "of the fleet";
    options.timeout = 1s;
    fleet_.emplace(rotator_, RedisExchange(std::move(options)),
                   FleetOptions{.has_thread = false});
  }

  void Request(const std::string& scope) {
    auto lease = rotator_.Pick({.scope = scope});
    if (lease)
      rotator_.Settle(*lease,
                      provider_.Answer(std::string(lease->name()), scope));
  }
  void Poll() { fleet_->Poll(); }

  FleetStatus Status() const { return fleet_->Status(); }

 private:
  Provider& provider_;
  KeyRotator<MostHeadroom> rotator_;
  std::optional<Fleet> fleet_;
};

void Measure(const Fleets& fleets, Seconds time) {
  RedisServer redis;
  std::vector<ApiKey> keys;
  for (std::size_t i = 0; i < fleets.keys; ++i)
    keys.emplace_back(fmt::format("sk-{}", i));
  Provider provider(fleets);
  std::vector<std::unique_ptr<Member>> members;
  for (std::size_t i = 0; i < fleets.processes; ++i)
    members.push_back(std::make_unique<Member>(provider, redis, keys));

  std::mt19937 dice(1);
  const double allowed =
      fleets.per_second * static_cast<double>(fleets.keys * fleets.scopes);
  double sent = 0;
  const auto begin = Clock::now();
  const auto run = [&](Seconds until) {
    while (true) {
      const Seconds now = Clock::now() - begin;
      if (now > until) return now;
      for (; sent < fleets.load * allowed * now.count(); sent += 1) {
        members[dice() % members.size()]->Request(
            fmt::format("model-{}", dice() % fleets.scopes));
      }
      for (const auto& member : members) member->Poll();
      std::this_thread::sleep_for(1ms);
    }
  };
  struct Counts {
    double cpu = 0;
    double messages = 0;
  };
  const auto count = [&] {
    Counts counts{.cpu = CpuOf(redis)};
    for (const auto& member : members)
      counts.messages += static_cast<double>(member->Status().exchanges);
    return counts;
  };
  const Seconds first = run(time);  // the full buckets are used up then
  const Counts before = count();
  const Seconds took = run(first + time) - first;
  const Counts after = count();
  const double messages = after.messages - before.messages;
  fmt::print(
      "{:3} processes, {:3} keys, {} scopes, {} x: {:4.1f} % of a core, "
      "{:3.0f} "
      "messages/s of {:4.0f} us\n",
      fleets.processes, fleets.keys, fleets.scopes, fleets.load,
      100 * (after.cpu - before.cpu) / took.count(), messages / took.count(),
      1e6 * (after.cpu - before.cpu) / std::max(messages, 1.0));
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  const keyrotator::Seconds time(argc > 1 ? std::atof(argv[1]) : 20);
  if (std::system("command -v redis-server >/dev/null 2>&1") != 0) {
    fmt::print("redis-server is not installed\n");
    return 0;
  }
  for (const double load : {1.2, 0.5}) {
    const auto measure = [&](std::size_t processes, std::size_t keys,
                             std::size_t scopes) {
      keyrotator::Measure({processes, keys, scopes, load}, time);
    };
    measure(4, 8, 1);
    measure(32, 8, 1);
    measure(32, 100, 3);
    measure(200, 100, 3);
  }
}
