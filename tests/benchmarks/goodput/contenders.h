// File: contenders.h
//
// Who competes: this library, with its rules as they are or switched off, and
// what else is in use.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_CONTENDERS_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_CONTENDERS_H_

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/failover.h"
#include "keyrotator/openai/retry_after.h"
#include "tests/benchmarks/goodput/simulation.h"

namespace keyrotator::goodput {

// The rules of the library that can be switched off.
struct Rules {
  bool read_limits = true;  // the headers of what is left
  bool read_hints = true;   // how long to wait, by header or body
  bool trial = true;
  bool groups = true;      // which keys share their limits is known
  bool scopes = true;      // which model a request is for is known
  bool costs = true;       // what a request is expected to cost is known
  bool priorities = true;  // what can wait is known
  bool wait = true;        // else who finds no key gives up
  std::size_t max_waiters = 0;
  Cooldown guess = RetryOptions().guess;
  RetryBudget budget = {};
};

// The answer as one would have it who does not read some of it.
inline void Hide(HttpResponse& response, const Rules& rules) {
  if (rules.read_limits && rules.read_hints) return;
  Headers headers;
  for (const Headers::Field& field : response.headers) {
    const bool hint = field.name.find("retry-after") != std::string::npos;
    const bool limit = field.name.find("ratelimit") != std::string::npos;
    if ((hint && !rules.read_hints) || (limit && !rules.read_limits)) continue;
    headers.Add(field.name, field.value);
  }
  response.headers = std::move(headers);
  if (!rules.read_hints && response.status == 429)
    response.body = R"({"error":{"message":"Too many requests"}})";
}

template <class Policy>
class Ours final : public Contender {
 public:
  using Rotator = KeyRotator<Policy, testing::ManualClock>;

  Ours(World& world, const Rules& rules, std::uint64_t seed, Policy policy)
      : world_(world),
        rules_(rules),
        dice_(seed ^ 0x6f757273u),
        rotator_(MakeKeys(world.cell.pool, rules), MakeOptions(rules),
                 std::move(policy), world.clock) {}

  Rotator& rotator() { return rotator_; }
  // The requests that were begun and are not over.
  std::vector<std::size_t> Open() const {
    std::vector<std::size_t> open;
    for (const auto& [request, active] : active_) open.push_back(request);
    std::sort(open.begin(), open.end());
    return open;
  }

  void Begin(std::size_t request) override {
    const Request& wish = world_.requests[request];
    FailoverRequest options;
    if (rules_.scopes) options.scope = fmt::format("model-{}", wish.model);
    if (world_.cell.sessions > 0)
      options.affinity = fmt::format("session-{}", wish.session);
    if (rules_.costs) options.cost = wish.expected_cost;
    if (wish.batch && rules_.priorities) options.priority = Priority::kBatch;
    RetryOptions retry;
    retry.deadline =
        std::chrono::nanoseconds(FromSeconds(world_.cell.patience));
    retry.guess = rules_.guess;
    retry.random = [this] { return dice_.Uniform(); };
    retry.wall_clock = [this] { return WallTime(world_.now()); };
    active_.try_emplace(request, rotator_, std::move(options),
                        std::move(retry));
    GoOn(request);
  }

  void OnHead(std::size_t request, const HttpResponse& response) override {
    HttpResponse head = response;
    Hide(head, rules_);
    active_.at(request).failover.OnHead(head.status, std::move(head.headers));
  }

  void OnAnswer(std::size_t request, HttpResponse response) override {
    Hide(response, rules_);
    if (response.status == 0) {
      active_.at(request).failover.Report(
          TransportError{.message = "connection reset"});
    } else {
      active_.at(request).failover.Report(std::move(response));
    }
    GoOn(request);
  }

  void OnTimer(std::size_t request) override {
    active_.at(request).waiting.reset();
    GoOn(request);
  }

  std::optional<Nanos> AfterEvent() override {
    std::optional<Nanos> next;
    do {
      // A lease may end in the midst of another request's step, so those who
      // were given one wait for this.
      for (const std::size_t request : std::exchange(granted_, {})) {
        Active& active = active_.at(request);
        active.waiting.reset();
        world_.CancelTimer(request);
        active.failover.Offer(std::exchange(active.lease, {}));
        GoOn(request);
      }
      const auto due = rotator_.Poll();
      next =
          due ? std::optional(due->time_since_epoch().count()) : std::nullopt;
    } while (!granted_.empty());
    return next;
  }

 private:
  using Drive = Failover<Rotator, OpenAIClassifier>;

  // A request from its beginning to its end.
  struct Active {
    Active(Rotator& rotator, FailoverRequest request, RetryOptions retry)
        : failover(rotator, OpenAIClassifier(), std::move(request),
                   std::move(retry)) {}
    Drive failover;
    std::optional<Lease> lease;  // that it was given while it waited
    std::optional<typename Rotator::Waiting> waiting;
  };

  static constexpr std::string_view kPrefix = "sk-";

  static ApiKeys MakeKeys(const Pool& pool, const Rules& rules) {
    std::vector<ApiKey> keys;
    for (std::size_t i = 0; i < pool.keys.size(); ++i) {
      std::string group;
      if (rules.groups && pool.organisations.size() < pool.keys.size())
        group = fmt::format("organisation-{}", pool.keys[i]);
      keys.emplace_back(
          fmt::format("{}{}", kPrefix, i),
          KeyOptions{.name = fmt::format("key-{}", i),
                     .group = std::move(group),
                     .weight = pool.weights.empty() ? 1 : pool.weights[i]});
    }
    return keys;
  }

  static RotatorOptions MakeOptions(const Rules& rules) {
    RotatorOptions options;
    options.trial_after_guess = rules.trial;
    options.max_waiters = rules.max_waiters;
    options.retry_budget = rules.budget;
    return options;
  }

  void GoOn(std::size_t request) {
    Active& active = active_.at(request);
    const auto step = active.failover.Next();
    switch (step.what) {
      case Do::kSend: {
        std::size_t key = 0;
        const std::string_view secret = active.failover.key().Reveal();
        std::from_chars(secret.data() + kPrefix.size(),
                        secret.data() + secret.size(), key);
        return world_.Send(request, key);
      }
      case Do::kWait:
        world_.SetTimer(request, step.until.time_since_epoch().count());
        if (step.for_key) Wait(request);
        return;
      case Do::kInFlight:
        return;
      case Do::kDone:
        world_.Finish(request, active.failover.outcome() == Outcome::kOk);
        // Its end may give others a lease, so it is out of the map by then.
        active_.extract(request);
        return;
    }
  }

  void Wait(std::size_t request) {
    Active& active = active_.at(request);
    if (rules_.wait) {
      active.waiting = rotator_.WhenUsable(
          active.failover.hint(), [this, request](Lease lease) {
            active_.at(request).lease = std::move(lease);
            granted_.push_back(request);
          });
      if (active.waiting) return;
    }
    world_.CancelTimer(request);
    active.failover.Offer(std::nullopt);
    GoOn(request);
  }

  World& world_;
  const Rules rules_;
  Dice dice_;
  Rotator rotator_;
  std::unordered_map<std::size_t, Active> active_;
  std::vector<std::size_t> granted_;  // in the order in which they were
};

// --- What else is in use ---

// What the other contenders share: attempts, one after the other, with waits
// between them.
class Retrier : public Contender {
 public:
  explicit Retrier(World& world, std::uint64_t seed)
      : world_(world),
        dice_(seed ^ 0x6f7468657273u),
        tries_(world.requests.size()) {}

  void Begin(std::size_t request) override { Try(request); }
  void OnTimer(std::size_t request) override { Try(request); }
  void OnAnswer(std::size_t request, HttpResponse response) override {
    if (response.status == 200) return world_.Finish(request, true);
    OnRefusal(request, tries_[request].key, Hint(response));
  }

 protected:
  struct Tries {
    std::size_t count = 0;
    std::size_t key = 0;  // the last
  };

  virtual void Try(std::size_t request) = 0;
  virtual void OnRefusal(std::size_t request, std::size_t key,
                         std::optional<Nanos> hint) = 0;

  std::size_t Keys() const { return world_.cell.pool.keys.size(); }

  void Send(std::size_t request, std::size_t key) {
    ++tries_[request].count;
    tries_[request].key = key;
    world_.Send(request, key);
  }

  // Three attempts, as by the SDKs' and LiteLLM's defaults; none starts when
  // the caller has lost patience.
  void Again(std::size_t request, Nanos wait) {
    if (tries_[request].count >= 3 ||
        world_.now() + wait >= world_.Deadline(request))
      return world_.Finish(request, false);
    world_.SetTimer(request, world_.now() + wait);
  }

  // The SDKs': 0.5 s, 1 s .. 8 s, less up to a quarter.
  Nanos Backoff(std::size_t request) {
    const double doubled = std::exp2(
        static_cast<double>(std::max<std::size_t>(tries_[request].count, 1)) -
        1);
    return FromSeconds(std::min(8.0, 0.5 * doubled) *
                       (1 - 0.25 * dice_.Uniform()));
  }

  World& world_;
  Dice dice_;
  std::vector<Tries> tries_;

 private:
  // What the SDKs read of it, if it is not too long.
  std::optional<Nanos> Hint(const HttpResponse& response) const {
    const auto wait = ParseRetryAfter(response.headers, WallTime(world_.now()));
    if (!wait || *wait > std::chrono::seconds(60)) return std::nullopt;
    return internal::ToNanos(*wait);
  }
};

// Keys in turn, under a client that retries as the official SDKs do.
class NaiveRoundRobin final : public Retrier {
 public:
  using Retrier::Retrier;

 private:
  void Try(std::size_t request) override { Send(request, turn_++ % Keys()); }
  void OnRefusal(std::size_t request, std::size_t,
                 std::optional<Nanos> hint) override {
    Again(request, hint.value_or(Backoff(request)));
  }

  std::size_t turn_ = 0;
};

// A refused key is out for 60 s whatever the provider says, and its request
// sleeps for as long as the provider says even if another key is there; in turn
// modulo the number of keys that are left; if none is, the last one again.
class FixedCooldown final : public Retrier {
 public:
  FixedCooldown(World& world, std::uint64_t seed)
      : Retrier(world, seed), until_(Keys(), 0) {}

 private:
  void Try(std::size_t request) override {
    std::vector<std::size_t> active;
    for (std::size_t key = 0; key < until_.size(); ++key) {
      if (until_[key] <= world_.now()) active.push_back(key);
    }
    if (!active.empty()) return Send(request, active[turn_++ % active.size()]);
    if (tries_[request].count == 0) return world_.Finish(request, false);
    Send(request, tries_[request].key);
  }
  void OnRefusal(std::size_t request, std::size_t key,
                 std::optional<Nanos> hint) override {
    until_[key] = world_.now() + 60 * kSecond;
    Again(request, hint.value_or(Backoff(request)));
  }

  std::size_t turn_ = 0;
  std::vector<Nanos> until_;
};

// Any key but those refused in the last 5 s, for that model; the next attempt
// at once if there is one. As LiteLLM's router does by default.
class RandomCooldown final : public Retrier {
 public:
  RandomCooldown(World& world, std::uint64_t seed)
      : Retrier(world, seed),
        until_(Keys() * world.cell.pool.models.size(), 0) {}

 private:
  std::vector<std::size_t> Healthy(std::size_t request) const {
    std::vector<std::size_t> keys;
    for (std::size_t key = 0; key < Keys(); ++key) {
      if (until_[Place(request, key)] <= world_.now()) keys.push_back(key);
    }
    return keys;
  }
  std::size_t Place(std::size_t request, std::size_t key) const {
    return world_.requests[request].model * Keys() + key;
  }

  void Try(std::size_t request) override {
    const std::vector<std::size_t> healthy = Healthy(request);
    if (!healthy.empty())
      return Send(request, healthy[dice_.Below(healthy.size())]);
    ++tries_[request].count;  // an attempt that found no key
    Again(request, Backoff(request));
  }
  void OnRefusal(std::size_t request, std::size_t key,
                 std::optional<Nanos> hint) override {
    // A model's only key is not cooled.
    if (Keys() > 1) until_[Place(request, key)] = world_.now() + 5 * kSecond;
    Again(request, Keys() > 1 && !Healthy(request).empty()
                       ? 0
                       : hint.value_or(Backoff(request)));
  }

  std::vector<Nanos> until_;
};

// Each request asks the keys in the order given until one serves it, and
// nothing is remembered.
class OrderedFallback final : public Retrier {
 public:
  using Retrier::Retrier;

 private:
  void Try(std::size_t request) override { Send(request, 0); }
  void OnRefusal(std::size_t request, std::size_t key,
                 std::optional<Nanos>) override {
    if (key + 1 >= Keys() || world_.now() >= world_.Deadline(request))
      return world_.Finish(request, false);
    Send(request, key + 1);
  }
};

using MakeContender =
    std::function<std::unique_ptr<Contender>(World& world, std::uint64_t seed)>;

struct Entry {
  std::string name;
  MakeContender make;
};

template <class Policy>
Entry OursWith(std::string name, Rules rules = {}) {
  return {std::move(name), [rules](World& world, std::uint64_t seed) {
            if constexpr (std::same_as<Policy, Random>) {
              return std::make_unique<Ours<Policy>>(world, rules, seed,
                                                    Random(seed));
            } else {
              return std::make_unique<Ours<Policy>>(world, rules, seed,
                                                    Policy());
            }
          }};
}

template <class Other>
Entry Others(std::string name) {
  return {std::move(name), [](World& world, std::uint64_t seed) {
            return std::make_unique<Other>(world, seed);
          }};
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_CONTENDERS_H_
