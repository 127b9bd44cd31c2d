// Picking a key allocates nothing in steady state.

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/count_allocations.h"

namespace keyrotator::allocation_test {
namespace {

using namespace std::chrono_literals;
using testing::CountAllocations;
using testing::ManualClock;

constexpr const char* kScopes[] = {"", "gpt-4o-mini-with-a-long-name", "m2",
                                   "m3"};

std::vector<ApiKey> MakeKeys() {
  std::vector<ApiKey> keys;
  for (std::size_t i = 0; i < 40; ++i) {
    KeyOptions options;
    options.weight = static_cast<double>(1 + i % 3);
    options.group = i % 5 == 0 ? "org" : "";
    options.max_in_flight = i % 4 == 0 ? 3 : 0;
    keys.emplace_back("sk-" + std::to_string(i), options);
  }
  return keys;
}

// Requests of all kinds: allocations in the second round of them.
template <class Policy>
std::size_t AllocationsInSteadyState(Policy policy) {
  ManualClock clock;
  KeyRotator rotator(MakeKeys(), {}, std::move(policy), clock);
  std::vector<KeyId> ids;
  for (const KeyStatus& row : rotator.Snapshot()) ids.push_back(row.id);
  const std::vector<KeyId> excluded(ids.begin(), ids.begin() + 5);
  // Half of them cool, in one scope or in all; limits are known of one.
  for (std::size_t i = 0; i < ids.size(); i += 4)
    rotator.MarkRateLimited(ids[i], std::chrono::seconds(1000 + i));
  for (int i = 0; i < 10; ++i)
    rotator.MarkRateLimited(*rotator.Pick({.scope = "m2"}), 2000s);
  {
    const auto lease = rotator.Pick({.scope = "m3"});
    rotator.ReportLimits(
        *lease, {.requests = {.limit = 1000, .remaining = 900, .reset = 60s},
                 .tokens = {.limit = 1e6, .remaining = 9e5, .reset = 60s}});
  }

  std::optional<Lease> held[8];
  const auto round = [&] {
    for (std::size_t i = 0; i < 400; ++i) {
      PickHint hint;
      hint.scope = kScopes[i % 4];
      if (i % 3 == 0) hint.affinity = "a session with a name of some length";
      if (i % 5 == 0) hint.exclude = excluded;
      if (i % 7 == 0) hint.prefer = ids[i % ids.size()];
      if (i % 11 == 0) hint.cost = 1000;
      held[i % 8].reset();
      std::optional<Lease> lease = rotator.Pick(hint);
      if (lease) held[i % 8].emplace(std::move(*lease));
    }
  };
  round();
  clock.Advance(1010s);  // some return between the rounds
  rotator.Pick();
  const std::size_t before = CountAllocations();
  round();
  const std::size_t after = CountAllocations();
  for (auto& lease : held) lease.reset();
  return after - before;
}

}  // namespace

TEST_CASE("the test sees an allocation", "[allocation]") {
  const std::size_t before = CountAllocations();
  const std::string text(100, 'x');
  CHECK(CountAllocations() > before);
}

TEST_CASE("a pick allocates nothing in steady state", "[allocation]") {
  CHECK(AllocationsInSteadyState(RoundRobin()) == 0);
  CHECK(AllocationsInSteadyState(FirstAvailable()) == 0);
  CHECK(AllocationsInSteadyState(Random(1)) == 0);
  CHECK(AllocationsInSteadyState(WeightedRoundRobin()) == 0);
  CHECK(AllocationsInSteadyState(LeastInFlight()) == 0);
  CHECK(AllocationsInSteadyState(MostHeadroom()) == 0);
  CHECK(AllocationsInSteadyState(Affinity<>()) == 0);
}

TEST_CASE("a pick allocates nothing when every key is out", "[allocation]") {
  KeyRotator rotator({"sk-0", "sk-1"}, {}, RoundRobin{}, ManualClock());
  rotator.MarkFailed("sk-0");
  rotator.MarkRateLimited("sk-1", 10s);
  rotator.Pick();
  const std::size_t before = CountAllocations();
  for (int i = 0; i < 100; ++i) rotator.Pick();
  CHECK(CountAllocations() == before);
}

}  // namespace keyrotator::allocation_test
