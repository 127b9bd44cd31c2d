#include "keyrotator/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "tests/support/catch.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing::selection_test {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

static_assert(std::random_access_iterator<AvailableKeys::Iterator>);
static_assert(std::is_empty_v<RoundRobin> && std::is_empty_v<FirstAvailable> &&
              std::is_empty_v<LeastInFlight>);

ApiKeys Weighted(const std::vector<std::pair<std::string, double>>& weights) {
  std::vector<ApiKey> keys;
  for (const auto& [name, weight] : weights)
    keys.emplace_back("secret-" + name,
                      KeyOptions{.name = name, .weight = weight});
  return keys;
}

// --- What a policy sees ---

TEST_CASE("a lambda is a policy, and sees the usable keys as they are",
          "[selection]") {
  std::vector<std::string> seen;
  const auto spy = [&](const AvailableKeys& keys,
                       const PickHint& hint) -> std::size_t {
    seen.clear();
    for (const AvailableKey key : keys) {
      seen.push_back(fmt::format("{} {} {} {} {} {}", key.name(), key.group(),
                                 key.weight(), key.in_flight(), key.picks(),
                                 key.headroom()));
    }
    CHECK(keys.end() - keys.begin() ==
          static_cast<std::ptrdiff_t>(keys.size()));
    CHECK(keys.begin()[0].id() == keys[0].id());
    CHECK(hint.affinity == "session");
    return keys.size() - 1;
  };
  KeyRotator rotator({ApiKey("a", {.name = "A", .group = "G", .weight = 2}),
                      ApiKey("b", {.name = "B"}), ApiKey("c", {.name = "C"})},
                     {}, spy);
  rotator.MarkFailed("b");
  const auto lease = rotator.Pick({.affinity = "session"});
  CHECK(lease->name() == "C");
  rotator.Pick({.affinity = "session"});
  CHECK(seen == std::vector<std::string>{"A G 2 0 0 1", "C  1 1 1 1"});
}

TEST_CASE("standard algorithms work on the view", "[selection]") {
  const auto dearest = [](const AvailableKeys& keys, const PickHint&) {
    const auto best = std::ranges::max_element(keys.begin(), keys.end(), {},
                                               &AvailableKey::weight);
    return static_cast<std::size_t>(best - keys.begin());
  };
  KeyRotator rotator(Weighted({{"A", 1}, {"B", 5}, {"C", 3}}), {}, dearest);
  CHECK(PickName(rotator) == "B");
}

TEST_CASE(
    "what a policy notes of a key stays with the key when others come and go",
    "[selection][P6]") {
  const auto counts = [](const AvailableKeys& keys, const PickHint&) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < keys.size(); ++i) {
      if (keys[i].note() < keys[best].note()) best = i;
    }
    keys[best].note() += 1;
    return best;
  };
  KeyRotator rotator(Letters("ABC"), {}, counts);
  CHECK(PickNames(rotator, 5) == "A B C A B");
  rotator.Remove("secret-A");
  CHECK(PickNames(rotator, 4) == "C B C B");
  rotator.Replace(Letters("CB"));
  CHECK(PickName(rotator) == "C");
  CHECK(PickNames(rotator, 2, {.scope = "other"}) == "C B");
}

// --- RoundRobin, FirstAvailable ---

TEST_CASE("round-robin gives a key that returns its turn and no more",
          "[selection][S5]") {
  ManualClock clock;
  KeyRotator rotator(Letters("ABC"), {}, RoundRobin{}, clock);
  rotator.MarkRateLimited("secret-B", seconds(10));
  CHECK(PickNames(rotator, 4) == "A C A C");
  clock.Advance(seconds(10));
  CHECK(PickNames(rotator, 6) == "A B C A B C");
}

TEST_CASE("first-available fills the keys in order", "[selection]") {
  KeyRotator rotator(Letters("ABC"), {}, FirstAvailable{});
  CHECK(PickNames(rotator, 3) == "A A A");
  rotator.MarkFailed("secret-A");
  CHECK(PickNames(rotator, 2) == "B B");
  rotator.Restore("secret-A");
  CHECK(PickName(rotator) == "A");
}

// --- Random ---

TEST_CASE("random picks are uniform, and the same for the same seed",
          "[selection][P10]") {
  for (const std::size_t size : {4u, 8u}) {
    const std::string names = std::string("ABCDEFGH").substr(0, size);
    KeyRotator rotator(Letters(names), {}, Random(1));
    std::map<std::string, int> counts = CountPicks(rotator, 8000);
    REQUIRE(counts.size() == size);
    const double expected = 8000.0 / static_cast<double>(size);
    double chi_squared = 0;
    for (const auto& [name, count] : counts)
      chi_squared += std::pow(count - expected, 2) / expected;
    CHECK(chi_squared <
          25);  // 7 degrees of freedom: 1 in 1,000 at 24.3; the seed is fixed
  }
  KeyRotator one(Letters("ABCDEFGH"), {}, Random(7));
  KeyRotator two(Letters("ABCDEFGH"), {}, Random(7));
  CHECK(PickNames(one, 50) == PickNames(two, 50));
}

TEST_CASE("random scopes do not walk in step", "[selection][S18]") {
  KeyRotator rotator(Letters("ABCDEFGH"), {}, Random(1));
  CHECK(PickNames(rotator, 50, {.scope = "x"}) !=
        PickNames(rotator, 50, {.scope = "y"}));
}

TEST_CASE("random seeded by the system differs from rotator to rotator",
          "[selection]") {
  KeyRotator one(Letters("ABCDEFGH"), {}, Random{});
  KeyRotator two(Letters("ABCDEFGH"), {}, Random{});
  CHECK(PickNames(one, 100) != PickNames(two, 100));
}

// --- WeightedRoundRobin ---

TEST_CASE("weighted picks are in proportion and evenly spread",
          "[selection][P9]") {
  KeyRotator rotator(Weighted({{"A", 3}, {"B", 1}, {"C", 1}}), {},
                     WeightedRoundRobin{});
  CHECK(PickNames(rotator, 5) == "A B A C A");
  CHECK(CountPicks(rotator, 500) ==
        std::map<std::string, int>{{"A", 300}, {"B", 100}, {"C", 100}});
}

TEST_CASE("small and fractional weights count as they are", "[selection][P9]") {
  KeyRotator rotator(Weighted({{"A", 0.29}, {"B", 0.71}}), {},
                     WeightedRoundRobin{});
  CHECK(CountPicks(rotator, 1000) ==
        std::map<std::string, int>{{"A", 290}, {"B", 710}});
  KeyRotator tiny(Weighted({{"A", 0.005}, {"B", 0.995}}), {},
                  WeightedRoundRobin{});
  CHECK(CountPicks(tiny, 1000) ==
        std::map<std::string, int>{{"A", 5}, {"B", 995}});
  KeyRotator unset(
      {ApiKey("a", {.name = "A", .weight = 3}), ApiKey("b", {.name = "B"})}, {},
      WeightedRoundRobin{});
  CHECK(CountPicks(unset, 400) ==
        std::map<std::string, int>{{"A", 300}, {"B", 100}});
}

TEST_CASE("weights at the limits of the type do not overflow", "[selection]") {
  using Limits = std::numeric_limits<double>;
  KeyRotator rotator(Weighted({{"A", Limits::max()},
                               {"B", Limits::max()},
                               {"C", Limits::denorm_min()}}),
                     {}, WeightedRoundRobin{});
  CHECK(CountPicks(rotator, 100) ==
        std::map<std::string, int>{{"A", 50}, {"B", 50}});
}

TEST_CASE(
    "with a flapping key nobody starves and the proportion holds over the time "
    "each was there",
    "[selection][P8]") {
  for (int rhythm = 1; rhythm <= 6; ++rhythm) {
    for (const std::string flapping : {"A", "B", "C"}) {
      ManualClock clock;
      KeyRotator rotator(Weighted({{"A", 3}, {"B", 1}, {"C", 1}}), {},
                         WeightedRoundRobin{}, clock);
      std::map<std::string, double> counts;
      std::map<std::string, double> expected;
      for (int i = 0; i < 3000; ++i) {
        const bool away = (i / rhythm) % 2 == 1;
        if (away) rotator.MarkRateLimited("secret-" + flapping, seconds(1));
        double sum = 0;
        for (const KeyStatus& key : rotator.Snapshot())
          sum += key.state == KeyState::kAvailable ? key.weight : 0;
        for (const KeyStatus& key : rotator.Snapshot()) {
          if (key.state == KeyState::kAvailable)
            expected[key.name] += key.weight / sum;
        }
        ++counts[PickName(rotator)];
        clock.Advance(seconds(1));
      }
      for (const auto& [name, count] : expected) {
        CAPTURE(rhythm, flapping, name, count, counts[name]);
        CHECK(std::abs(counts[name] - count) <= 0.01 * count + 3);
      }
    }
  }
}

// --- LeastInFlight, MostHeadroom ---

TEST_CASE(
    "least-in-flight takes the key with the fewest leases for its weight, of "
    "equals the next in turn",
    "[selection]") {
  KeyRotator rotator(Letters("ABC"), {}, LeastInFlight{});
  const auto a = rotator.Pick();
  auto b = rotator.Pick();
  const auto c = rotator.Pick();
  CHECK(a->name() == "A");
  CHECK(b->name() == "B");
  CHECK(c->name() == "C");
  b.reset();
  CHECK(PickNames(rotator, 2) == "B B");

  KeyRotator weighted(Weighted({{"A", 1}, {"B", 3}}), {}, LeastInFlight{});
  std::vector<Lease> leases;
  std::map<std::string, int> counts;
  for (int i = 0; i < 40; ++i)
    ++counts[std::string(leases.emplace_back(*weighted.Pick()).name())];
  CHECK(counts == std::map<std::string, int>{{"A", 10}, {"B", 30}});
}

TEST_CASE(
    "most-headroom takes the key with the largest share left, not the largest "
    "number",
    "[selection]") {
  ManualClock clock;
  KeyRotator rotator(Letters("ABC"), {}, MostHeadroom{}, clock);
  const auto requests = [](double limit, double remaining) {
    return RateLimits{.requests = {.limit = limit,
                                   .remaining = remaining,
                                   .reset = hours(1)}};
  };
  std::vector<Lease> leases;
  for (int i = 0; i < 3; ++i) leases.push_back(*rotator.Pick());
  rotator.ReportLimits(leases[0], requests(1000, 100));
  rotator.ReportLimits(leases[1], requests(10, 8));
  rotator.ReportLimits(leases[2], requests(100, 50));
  CHECK(PickNames(rotator, 3) == "B B B");
  CHECK(PickName(rotator) ==
        "C");  // 5 of 10 against 50 of 100: the next in turn
}

TEST_CASE("policies that compare keys look at 64 from whose turn it is on",
          "[selection]") {
  std::vector<std::string> values;
  for (int i = 0; i < 200; ++i) values.push_back("secret-" + std::to_string(i));
  KeyRotator rotator(values, {}, LeastInFlight{});
  std::vector<Lease> leases;
  for (int i = 0; i < 200; ++i) leases.push_back(*rotator.Pick());
  leases.erase(leases.begin() + 100);
  // The key without a lease is out of sight until the turn is near.
  std::map<std::string, int> counts = CountPicks(rotator, 37);
  CHECK(counts["key-101"] == 0);
  CHECK(PickName(rotator) == "key-101");
}

// --- Affinity ---

TEST_CASE("affinity keeps a session on one key, and spreads sessions",
          "[selection]") {
  KeyRotator rotator(Letters("ABCDEFGH"), {}, Affinity<>{});
  std::map<std::string, int> counts;
  for (int i = 0; i < 800; ++i) {
    const std::string session = "session-" + std::to_string(i);
    const std::string name = PickName(rotator, {.affinity = session});
    CHECK(PickNames(rotator, 3, {.affinity = session}) ==
          name + " " + name + " " + name);
    ++counts[name];
  }
  REQUIRE(counts.size() == 8);
  for (const auto& [name, count] : counts) CHECK(std::abs(count - 100) < 50);
}

TEST_CASE("only the sessions of a lost key move, and they come back with it",
          "[selection][P11]") {
  ManualClock clock;
  KeyRotator rotator(Letters("ABCDEFGH"), {}, Affinity<>{}, clock);
  std::map<std::string, std::string> home;
  for (int i = 0; i < 400; ++i) {
    const std::string session = "session-" + std::to_string(i);
    home[session] = PickName(rotator, {.affinity = session});
  }
  rotator.MarkRateLimited("secret-C", seconds(10));
  for (const auto& [session, name] : home) {
    const std::string now = PickName(rotator, {.affinity = session});
    CHECK((name == "C") == (now != name));
    CHECK(now != "C");
  }
  clock.Advance(seconds(10));
  for (const auto& [session, name] : home)
    CHECK(PickName(rotator, {.affinity = session}) == name);
}

TEST_CASE("affinity chooses the group first, and is the same in every process",
          "[selection]") {
  const auto make = [] {
    std::vector<ApiKey> keys;
    for (int i = 0; i < 12; ++i) {
      keys.emplace_back("k" + std::to_string(i),
                        KeyOptions{.name = "n" + std::to_string(i),
                                   .group = "org-" + std::to_string(i % 3)});
    }
    return keys;
  };
  KeyRotator one(make(), {}, Affinity<>{});
  KeyRotator two(make(), {}, Affinity<>{});
  std::map<std::string, int> groups;
  for (int i = 0; i < 300; ++i) {
    const std::string session = fmt::format("s{}", i);
    const auto lease = one.Pick({.affinity = session});
    const KeyId first = lease->id();
    CHECK(two.Pick({.affinity = session})->name() == lease->name());
    // Without that key the session goes to another of its group.
    CHECK(one.Pick({.affinity = session, .exclude = std::span(&first, 1)})
              ->group() == lease->group());
    ++groups[std::string(lease->group())];
  }
  CHECK(groups.size() == 3);
}

TEST_CASE("without an affinity the fallback decides", "[selection]") {
  KeyRotator rotator(Letters("ABC"), {}, Affinity<FirstAvailable>{});
  CHECK(PickNames(rotator, 3) == "A A A");
  KeyRotator turns(Letters("ABC"), {}, Affinity{});
  CHECK(PickNames(turns, 3) == "A B C");
}

}  // namespace
}  // namespace keyrotator::testing::selection_test
