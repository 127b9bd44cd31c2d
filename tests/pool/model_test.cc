// Random operations on a KeyRotator and on a naive reference, in lockstep:
// after each one everything that can be seen of the two must be the same.
//
// KEYROTATOR_MODEL_SEED repeats a failure (the message has the seed),
// KEYROTATOR_MODEL_OPERATIONS sets how many operations are done in all.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/rotator_model.h"

namespace keyrotator::pool_model_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using testing::ManualClock;
using namespace testing::model;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Operations of all test cases together.
std::uint64_t Operations() {
  return FromEnvironment("KEYROTATOR_MODEL_OPERATIONS", 120'000);
}

template <class Expected>
void RunAll() {
  constexpr std::uint64_t kPolicies = 8;
  constexpr std::uint64_t kPerRun = 400;
  const std::uint64_t first = FromEnvironment("KEYROTATOR_MODEL_SEED", 1);
  const std::uint64_t runs = Operations() / kPolicies / kPerRun + 1;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const std::string problem =
        Lockstep<Expected>(Dice(seed), seed).Run(kPerRun);
    if (!problem.empty())
      FAIL("KEYROTATOR_MODEL_SEED=" << seed << "\n" << problem);
  }
  SUCCEED();
}

// The other half: limits that are reported. A provider with exact token buckets
// admits or refuses; after its first report the rotator runs the same buckets,
// on the safe side of them.
class Provider {
 public:
  struct Bucket {
    double limit = 0;
    double rate = 0;  // per nanosecond
    double level = 0;
    nanoseconds at{0};

    double LevelAt(nanoseconds now) const {
      return std::min(limit,
                      level + rate * static_cast<double>((now - at).count()));
    }
    void Take(double cost, nanoseconds now) {
      level = LevelAt(now) - cost;
      at = now;
    }
    RateLimit Told(nanoseconds now) const {
      const double left = LevelAt(now);
      return {.limit = limit,
              .remaining = left,
              .reset = nanoseconds(
                  static_cast<std::int64_t>((limit - left) / rate))};
    }
  };
  struct Account {
    Bucket requests;
    Bucket tokens;
    // The first report tells nothing of what was leased before it; from the
    // first report on a lease that is newer, the rotator can be exact.
    bool reported = false;
    bool exact = false;

    // What is told, or none if the request is refused.
    std::optional<RateLimits> Ask(double cost, nanoseconds now) {
      if (!Has(cost, now)) return std::nullopt;
      requests.Take(1, now);
      tokens.Take(cost, now);
      return RateLimits{requests.Told(now), tokens.Told(now)};
    }
    bool Has(double cost, nanoseconds now) const {
      constexpr double kAlmost = 1 - 1e-5;  // for rounding
      return requests.LevelAt(now) >= kAlmost &&
             tokens.LevelAt(now) >= cost * kAlmost;
    }
    // As far as the rotator can know: since headers are rounded down it
    // believes in up to one request more than they say, of which it keeps 0.3
    // in hand.
    bool MayHave(double cost, nanoseconds now) const {
      return requests.LevelAt(now) >= 0.25 &&
             tokens.LevelAt(now) >= cost * (1 - 1e-5);
    }
  };

  explicit Provider(Dice& dice) : dice_(&dice) {}

  Account& AccountOf(std::string_view group, std::string_view scope,
                     nanoseconds now) {
    const auto [entry, created] =
        accounts_.try_emplace({std::string(group), std::string(scope)});
    if (created) {
      const double per_second = 1e-9;
      entry->second.requests = {
          .limit = dice_->Of({3.0, 10.0, 60.0}),
          .rate = dice_->Of({0.2, 1.0, 10.0}) * per_second,
          .level = 0,
          .at = now};
      entry->second.tokens = {.limit = dice_->Of({100.0, 1000.0}),
                              .rate = dice_->Of({10.0, 200.0}) * per_second,
                              .level = 0,
                              .at = now};
      entry->second.requests.level = entry->second.requests.limit;
      entry->second.tokens.level = entry->second.tokens.limit;
    }
    return entry->second;
  }

 private:
  Dice* dice_;
  std::map<std::pair<std::string, std::string>, Account> accounts_;
};

template <class Policy>
class Metered {
 public:
  explicit Metered(std::uint64_t seed)
      : dice_(seed), provider_(dice_), rotator_(Keys(), {}, Policy(), clock_) {}

  std::string Run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations && problem_.empty(); ++i) {
      switch (dice_.Below(6)) {
        case 0:
        case 1:
        case 2:
          Ask();
          break;
        case 3:
          Answer();
          break;
        default:
          MoveClock();
      }
      if (problem_.empty()) Check();
    }
    if (problem_.empty()) Finish();
    return problem_;
  }

 private:
  struct Open {
    Lease lease;
    std::uint64_t number;
    RateLimits told;
    bool after_report;
  };

  static ApiKeys Keys() {
    return {ApiKey("sk-0", {.group = "org"}), ApiKey("sk-1", {.group = "org"}),
            ApiKey("sk-2", {.group = "other"})};
  }
  static constexpr const char* kScopes[] = {"", "m1", "m2"};

  nanoseconds Now() const { return clock_.now().time_since_epoch(); }

  PickHint MakeHint() {
    return {.scope = kScopes[dice_.Below(3)],
            .cost = dice_.Of({0.0, 1.0, 20.0, 90.0})};
  }

  void Ask() {
    const PickHint hint = MakeHint();
    const auto outlook = rotator_.Availability(hint);
    std::optional<Lease> lease = rotator_.Pick(hint);
    if (lease.has_value() != (outlook.available > 0)) {
      problem_ = fmt::format("{} keys available, but picked: {}",
                             outlook.available, lease.has_value());
      return;
    }
    if (!lease) return;
    auto& account = provider_.AccountOf(lease->group(), lease->scope(), Now());
    const std::optional<RateLimits> told = account.Ask(hint.cost, Now());
    if (!told) {
      if (account.exact && !account.MayHave(hint.cost, Now())) {
        problem_ = fmt::format(
            "at {}: {} in '{}' picked, though what was reported leaves {} "
            "requests and {} tokens of the {} it costs",
            Now().count(), lease->name(), lease->scope(),
            account.requests.LevelAt(Now()), account.tokens.LevelAt(Now()),
            hint.cost);
      }
      rotator_.MarkRateLimited(*lease, 1s);
      return;
    }
    open_.push_back(std::make_unique<Open>(
        Open{std::move(*lease), ++asked_, *told, account.reported}));
  }

  // The answers come in any order, each once.
  void Answer() {
    if (open_.empty()) return;
    const std::size_t i = dice_.Below(open_.size());
    const std::unique_ptr<Open> open = std::move(open_[i]);
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i));
    const std::string group(open->lease.group());
    const std::string scope(open->lease.scope());
    std::uint64_t& newest = newest_[{group, scope}];
    const auto before = Show();
    if (!rotator_.ReportLimits(open->lease, open->told))
      problem_ = "ReportLimits: the key is not in the pool";
    if (open->number < newest && Show() != before) {
      problem_ = "a report from an older lease than the last was not ignored:" +
                 before + "\nbecame" + Show();
    }
    const bool taken = open->number >= newest;
    newest = std::max(newest, open->number);
    auto& account = provider_.AccountOf(group, scope, Now());
    account.reported = true;
    // The rate follows from what was used.
    if (taken && open->after_report &&
        *open->told.tokens.remaining < *open->told.tokens.limit - 1)
      account.exact = true;
  }

  std::string Show() const {
    std::string text;
    for (const KeyStatus& row : rotator_.Snapshot()) {
      for (const ScopeStatus& scope : row.scopes) {
        text += fmt::format("\n  {} in '{}': {} for {}, {} requests, {} tokens",
                            row.name, scope.scope, scope.state,
                            pool_model_test::Show(scope.returns_in),
                            scope.limits.requests.remaining.value_or(-1),
                            scope.limits.tokens.remaining.value_or(-1));
      }
    }
    return text;
  }

  void MoveClock() {
    const auto next = rotator_.NextAvailable(MakeHint());
    const nanoseconds by =
        next && !dice_.OneIn(3)
            ? *next - clock_.now()
            : dice_.Of<nanoseconds>({0ns, 1ns, 10ms, 200ms, 5s});
    clock_.Advance(by);
  }

  void Check() {
    for (const KeyStatus& row : rotator_.Snapshot()) {
      for (const ScopeStatus& scope : row.scopes) {
        const auto& account =
            provider_.AccountOf(row.group, scope.scope, Now());
        const double left = scope.limits.requests.remaining.value_or(0);
        if (!(left >= 0 && left <= account.requests.limit))
          problem_ = fmt::format("{} requests left of {}", left,
                                 account.requests.limit);
        if (account.exact && !account.MayHave(0, Now()) &&
            scope.state == KeyState::kAvailable) {
          problem_ =
              fmt::format("{} is available in '{}' without a request left",
                          row.name, scope.scope);
        }
      }
    }
    const PickHint hint = MakeHint();
    const auto outlook = rotator_.Availability(hint);
    if (!outlook.next) {
      problem_ = fmt::format("nothing returns in '{}' for a cost of {}:{}",
                             hint.scope, hint.cost, Show());
    } else if (dice_.OneIn(10)) {
      // It is back when it was said to be, and not before (but for rounding).
      const nanoseconds wait = *outlook.next - clock_.now();
      if (wait < 1us) return;
      clock_.Advance(wait - 1us);
      const std::size_t early = rotator_.Available(hint);
      clock_.Advance(1us + 1us);
      if (early > 0 || rotator_.Available(hint) == 0) {
        problem_ = fmt::format(
            "in '{}', cost {}: {} available 1 us before the return, {} just "
            "after",
            hint.scope, hint.cost, early, rotator_.Available(hint));
      }
    }
  }

  void Finish() {
    open_.clear();
    clock_.Advance(1h);
    for (const char* scope : kScopes) {
      if (rotator_.Available({.scope = scope, .cost = 90}) != rotator_.Size())
        problem_ =
            fmt::format("an hour later '{}' is held back:{}", scope, Show());
    }
  }

  Dice dice_;
  ManualClock clock_;
  Provider provider_;
  KeyRotator<Policy, ManualClock> rotator_;
  std::vector<std::unique_ptr<Open>> open_;
  std::uint64_t asked_ = 0;
  std::map<std::pair<std::string, std::string>, std::uint64_t> newest_;
  std::string problem_;
};

template <class Policy>
void RunMetered() {
  constexpr std::uint64_t kPerRun = 400;
  const std::uint64_t first = FromEnvironment("KEYROTATOR_MODEL_SEED", 1);
  const std::uint64_t runs = Operations() / 8 / kPerRun + 1;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const std::string problem = Metered<Policy>(seed).Run(kPerRun);
    if (!problem.empty())
      FAIL("KEYROTATOR_MODEL_SEED=" << seed << "\n" << problem);
  }
  SUCCEED();
}

}  // namespace

TEST_CASE("the rotator does what the model does: round-robin", "[model]") {
  RunAll<Turns>();
}
TEST_CASE("the rotator does what the model does: first available", "[model]") {
  RunAll<Firsts>();
}
TEST_CASE("the rotator does what the model does: weights", "[model]") {
  RunAll<Weights>();
}
TEST_CASE("the rotator does what the model does: least in flight", "[model]") {
  RunAll<Loads>();
}
TEST_CASE("the rotator does what the model does: headroom", "[model]") {
  RunAll<Headrooms>();
}
TEST_CASE("the rotator does what the model does: affinity", "[model]") {
  RunAll<Sessions>();
}
TEST_CASE("the rotator does what the model does: random", "[model]") {
  RunAll<Draws>();
}
TEST_CASE("the rotator does what the model does: a lambda", "[model]") {
  RunAll<Lasts>();
}

TEST_CASE(
    "no key is picked that its provider would refuse, and none is held "
    "back for ever",
    "[model][limits]") {
  RunMetered<RoundRobin>();
}
TEST_CASE("by headroom no key is picked that its provider would refuse",
          "[model][limits]") {
  RunMetered<MostHeadroom>();
}

}  // namespace keyrotator::pool_model_test
