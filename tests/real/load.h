// File: load.h
//
// What the tests over real sockets share: keys as token buckets, a load of real
// threads that come when they want to, and the comparison of what was served
// with what the buckets could give.
//
// Example:
//   const Pool pool({{.name = "a", .bucket = {.size = 30, .per_second = 5}}});
//   const Load load{.factor = 1.2, .time = 10s};
//   CheckGoodput("one key", {.share = 0.95, .waste = 0.05}, [&] {
//     KeyRotator rotator(pool.Keys());
//     OpenAIClient client(url, rotator, WholeTransport{});
//     const Seen client_saw = Drive(client, pool, load);
//     return Compare(pool, server_counted, client_saw);
//   });

#ifndef KEYROTATOR_TESTS_REAL_LOAD_H_
#define KEYROTATOR_TESTS_REAL_LOAD_H_

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <ostream>
#include <random>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/http/curl.h"
#include "keyrotator/http/message.h"
#include "keyrotator/openai/client.h"
#include "keyrotator/openai/failover.h"
#include "tests/support/catch.h"

namespace keyrotator::testing {

// ---- The pool ----

// A token bucket: begins full.
struct Bucket {
  double size = 0;
  double per_second = 0;
};

// A key "sk-<name>". Keys of one group share one bucket.
struct PooledKey {
  std::string name;
  std::string group = {};
  Bucket bucket = {};
};

class Pool {
 public:
  explicit Pool(std::vector<PooledKey> keys) : keys_(std::move(keys)) {}

  const std::vector<PooledKey>& keys() const { return keys_; }

  static std::string Secret(const PooledKey& key) { return "sk-" + key.name; }

  ApiKeys Keys() const {
    std::vector<ApiKey> keys;
    for (const PooledKey& key : keys_) {
      keys.emplace_back(Secret(key),
                        KeyOptions{.name = key.name, .group = key.group});
    }
    return keys;
  }

  // The most that all buckets together can admit in that time.
  double Capacity(std::chrono::duration<double> time) const {
    std::map<std::string, Bucket> buckets;
    for (const PooledKey& key : keys_) {
      buckets[key.group.empty() ? "key " + key.name : "group " + key.group] =
          key.bucket;
    }
    double sum = 0;
    for (const auto& [name, bucket] : buckets)
      sum += bucket.size + bucket.per_second * time.count();
    return sum;
  }

 private:
  std::vector<PooledKey> keys_;
};

// ---- What was seen ----

// How often a key was answered 200 and 429.
struct KeySeen {
  std::uint64_t served = 0;
  std::uint64_t limited = 0;

  friend bool operator==(const KeySeen&, const KeySeen&) = default;
  friend std::ostream& operator<<(std::ostream& out, const KeySeen& seen) {
    return out << seen.served << " served, " << seen.limited << " limited";
  }
};

// By the key's name: what one side, client or server, counted.
using PerKey = std::map<std::string, KeySeen>;

// What the client saw.
struct Seen {
  PerKey keys;
  std::vector<std::string> failures;  // of calls that nobody stopped
  std::uint64_t other_answers = 0;    // neither 200 nor 429
  std::chrono::duration<double> time{0};
};

// ---- The load ----

// Calls come at random (Poisson), `factor` times as many as the pool can serve
// in that time.
struct Load {
  double factor = 1.2;
  std::chrono::duration<double> time{0};
  // How many calls are in the client at one time; the others wait outside.
  std::size_t callers = 64;
};

// When the calls come, the same in every run.
inline std::vector<std::chrono::duration<double>> Arrivals(const Pool& pool,
                                                           const Load& load) {
  std::mt19937 random(1);  // any seed; its numbers are the same everywhere
  const double per_second =
      load.factor * pool.Capacity(load.time) / load.time.count();
  std::vector<std::chrono::duration<double>> times;
  double at = 0;
  while (true) {
    const double uniform = (static_cast<double>(random()) + 1) / 0x1p32;
    at -= std::log(uniform) / per_second;
    if (at >= load.time.count()) return times;
    times.emplace_back(at);
  }
}

// CurlTransport, but what was sent is always read to its end: a call can be
// stopped while it waits for a key and not while it uses one, so that client
// and server count the same. `hidden` is the beginning of the names of header
// fields that the client is not to see; empty: none.
class WholeTransport {
 public:
  explicit WholeTransport(std::string hidden = "")
      : hidden_(std::move(hidden)) {}

  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink, std::stop_token) {
    Sieve sieve(sink, hidden_);
    return curl_.Send(request, sieve, {});
  }

 private:
  class Sieve final : public ResponseSink {
   public:
    Sieve(ResponseSink& sink, const std::string& hidden)
        : sink_(sink), hidden_(hidden) {}

    void OnHead(int status, Headers headers) override {
      Headers kept;
      for (const Headers::Field& field : headers) {
        if (hidden_.empty() || !field.name.starts_with(hidden_))
          kept.Add(field.name, field.value);
      }
      sink_.OnHead(status, std::move(kept));
    }
    Flow OnBody(std::string_view bytes) override { return sink_.OnBody(bytes); }

   private:
    ResponseSink& sink_;
    const std::string& hidden_;
  };

  std::string hidden_;
  CurlTransport curl_{CurlOptions{.proxy = ""}};
};

// Adds one call to what was seen.
inline void Note(const Reply& reply, Seen& seen) {
  const bool stopped = reply.outcome == Outcome::kStopped;
  for (const Attempt& attempt : reply.trail) {
    KeySeen& key = seen.keys[attempt.key];
    if (attempt.status == 200) {
      ++key.served;
    } else if (attempt.status == 429) {
      ++key.limited;
    } else if (!stopped || attempt.status != 0) {  // stopped before it was sent
      ++seen.other_answers;
    }
  }
  if (!reply.ok() && !stopped) {
    seen.failures.push_back(fmt::format("{} after {} sends: {}", reply.outcome,
                                        reply.trail.size(), reply.message));
  }
}

// Calls the client as the load says, and stops the calls that still wait when
// its time is over.
template <class Client>
Seen Drive(Client& client, const Pool& pool, const Load& load) {
  using Clock = std::chrono::steady_clock;
  constexpr std::string_view kBody =
      R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";
  const auto arrivals = Arrivals(pool, load);
  const auto after = [start = Clock::now()](std::chrono::duration<double> t) {
    return start + std::chrono::duration_cast<Clock::duration>(t);
  };
  std::atomic<std::size_t> next = 0;
  std::stop_source stop;
  std::mutex mutex;
  Seen seen;  // guarded by mutex
  const auto call = [&] {
    Clock clock;
    for (std::size_t i = next++; i < arrivals.size(); i = next++) {
      if (!SleepUntil(clock, after(arrivals[i]), stop.get_token())) return;
      if (stop.stop_requested()) return;
      CallOptions options;
      options.stop = stop.get_token();
      const Reply reply = client.ChatCompletion(kBody, options);
      const std::lock_guard lock(mutex);
      Note(reply, seen);
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < load.callers; ++i) threads.emplace_back(call);
  Clock clock;
  SleepUntil(clock, after(load.time), {});  // a real limiter's time is real
  stop.request_stop();
  for (std::jthread& thread : threads) thread.join();
  seen.time = Clock::now() - after({});
  return seen;
}

// ---- The comparison ----

// What a run got out of the pool.
struct Goodput {
  double share = 0;  // served, of what the buckets could give
  double waste = 0;  // 429s for each served
};

// Compares what the server counted with what the pool could give until the last
// answer was in. That the client counted the same shows that neither miscounts.
inline Goodput Compare(const Pool& pool, const PerKey& server,
                       const Seen& client) {
  KeySeen all;
  for (const auto& [name, key] : server) {
    all.served += key.served;
    all.limited += key.limited;
  }
  const auto served = static_cast<double>(all.served);
  const Goodput goodput{
      .share = served / pool.Capacity(client.time),
      .waste = static_cast<double>(all.limited) / std::max(served, 1.0)};
  if (!client.failures.empty()) UNSCOPED_INFO(client.failures.front());
  CHECK(client.failures.empty());
  CHECK(client.keys == server);
  CHECK(client.other_answers == 0);
  CHECK(goodput.share <= 1);  // else the witness or the arithmetic is wrong
  return goodput;
}

// Holds the best of at most three runs against the bound, of a share that is at
// least and a waste that is at most so large: what else the machine has to do
// can only take away from what a run gets.
template <class Run>
void CheckGoodput(std::string_view what, const Goodput& bound, Run run) {
  std::string seen;
  for (int i = 0; i < 3; ++i) {
    const Goodput got = run();
    const std::string figures =
        fmt::format("{}: served {:.4f} of what there was, 429s {:.4f} a served",
                    what, got.share, got.waste);
    fmt::print("{}\n", figures);
    if (got.share >= bound.share && got.waste <= bound.waste) return;
    seen += "\n" + figures;
  }
  FAIL("Not one run was within " << bound.share << " and " << bound.waste
                                 << seen);
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_REAL_LOAD_H_
