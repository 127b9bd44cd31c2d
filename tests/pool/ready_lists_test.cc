#include "keyrotator/pool/ready_lists.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/pool_keys.h"

namespace keyrotator::internal::pool_ready_lists_test {
namespace {

using testing::PoolKeys;
using Indices = std::vector<std::uint32_t>;

constexpr Nanos kNow = 0;

// Four keys, of which the first two share a group, all usable.
struct Bench {
  PoolKeys keys{"org", "org", "", ""};
  ReadyLists lists{keys.roster().keys()};
  Scope plain{"plain", kNow};
  Scope scope{"gpt-4o", kNow};

  Bench() {
    lists.Reserve(4);
    for (std::size_t i = 0; i < 4; ++i) lists.Put(keys[i], true);
  }
  Indices In(Scope& where) {
    const ReadyLists::Indices usable = lists.In(where);
    return {usable.begin(), usable.end()};
  }
};

TEST_CASE("what is usable comes in the order of the keys", "[ready_lists]") {
  Bench bench;
  bench.lists.Put(bench.keys[1], false);
  CHECK(bench.In(bench.plain) == Indices{0, 2, 3});
  bench.lists.Put(bench.keys[1], true);
  CHECK(bench.In(bench.plain) == Indices{0, 1, 2, 3});
  CHECK(bench.keys[1].usable);
}

TEST_CASE("a group that is held back in a scope is so there alone",
          "[ready_lists]") {
  Bench bench;
  Standing& standing = bench.scope.Get(bench.keys.group(0));
  bench.lists.Put(standing, false);
  CHECK(bench.In(bench.scope) == Indices{2, 3});
  CHECK(bench.In(bench.plain) == Indices{0, 1, 2, 3});
  CHECK(bench.scope.held_back == 1);

  bench.lists.Put(standing, true);
  CHECK(bench.In(bench.scope) == Indices{0, 1, 2, 3});
  CHECK(bench.scope.held_back == 0);
}

TEST_CASE("a scope with a list of its own sees what changed since",
          "[ready_lists]") {
  Bench bench;
  bench.lists.Put(bench.scope.Get(bench.keys.group(0)), false);
  REQUIRE(bench.In(bench.scope) == Indices{2, 3});
  bench.lists.Put(bench.keys[2], false);
  bench.lists.Put(bench.keys[0], false);
  CHECK(bench.In(bench.scope) == Indices{3});
  bench.lists.Put(bench.keys[2], true);
  CHECK(bench.In(bench.scope) == Indices{2, 3});
}

TEST_CASE("a scope that is asked after very many changes misses none",
          "[ready_lists]") {
  Bench bench;
  bench.lists.Put(bench.scope.Get(bench.keys.group(0)), false);
  REQUIRE(bench.In(bench.scope) == Indices{2, 3});
  bench.lists.Put(bench.keys[2], false);
  for (int i = 0; i < 3000; ++i) bench.lists.Put(bench.keys[3], i % 2 == 1);
  CHECK(bench.In(bench.scope) == Indices{3});
}

TEST_CASE("a scope goes back to the shared list once nothing is held back",
          "[ready_lists]") {
  Bench bench;
  Standing& standing = bench.scope.Get(bench.keys.group(0));
  bench.lists.Put(standing, false);
  bench.lists.Put(standing, true);
  bench.lists.Renumber();
  CHECK(bench.In(bench.scope) == Indices{0, 1, 2, 3});
  CHECK_FALSE(bench.scope.is_listed_apart);
}

TEST_CASE("keys that have got new indices are listed by these",
          "[ready_lists]") {
  Bench bench;
  bench.lists.Put(bench.scope.Get(bench.keys.group(2)), false);
  REQUIRE(bench.In(bench.scope) == Indices{0, 1, 3});
  Slot& gone = bench.keys[0];
  bench.keys.roster().Remove(gone);
  bench.lists.Renumber();
  CHECK(bench.In(bench.plain) == Indices{0, 1, 2});
  CHECK(bench.In(bench.scope) == Indices{0, 2});
  Roster::LeaveGroup(gone);
  bench.keys.roster().Retire(gone);
}

TEST_CASE("what is filtered can be filtered again", "[ready_lists]") {
  Bench bench;
  const ReadyLists::Indices all = bench.lists.In(bench.plain);
  ReadyLists::Indices some =
      bench.lists.Filter(all, [](const Slot& slot) { return slot.index != 0; });
  CHECK(Indices(some.begin(), some.end()) == Indices{1, 2, 3});
  some = bench.lists.Filter(some,
                            [](const Slot& slot) { return slot.index != 2; });
  CHECK(Indices(some.begin(), some.end()) == Indices{1, 3});
  CHECK(bench.In(bench.plain) == Indices{0, 1, 2, 3});
}

}  // namespace
}  // namespace keyrotator::internal::pool_ready_lists_test
