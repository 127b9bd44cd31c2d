#include "keyrotator/pool/scopes.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/pool_keys.h"

namespace keyrotator::internal::pool_scopes_test {
namespace {

constexpr Nanos kNow = 0;

// Chooses as often as it was asked: each copy counts for itself.
struct Counting {
  std::size_t calls = 0;
  std::size_t operator()(const AvailableKeys&, const PickHint&) {
    return calls++;
  }
};
using Table = Scopes<Counting>;

std::string Names(const Table& scopes) {
  std::string names;
  for (const Scope* scope : scopes.Sorted()) names += "[" + scope->name + "]";
  return names;
}

TEST_CASE("a scope is made when it is first named, and then the same",
          "[scopes]") {
  Table scopes({}, 10, kNow);
  CHECK(scopes.Find("a") == nullptr);
  Scope& scope = scopes.Of("a");
  CHECK(&scopes.Of("a") == &scope);
  CHECK(scopes.Find("a") == &scope);
  CHECK(scopes.Of("").is_unnamed());
  CHECK(scopes.Find("") == &scopes.Of(""));
}

TEST_CASE("scopes are told by name, the one without a name first", "[scopes]") {
  Table scopes({}, 10, kNow);
  scopes.Of("b");
  scopes.Of("a");
  CHECK(Names(scopes) == "[][a][b]");
  std::size_t count = 0;
  scopes.ForEach([&](Scope&) { ++count; });
  CHECK(count == 3);
}

TEST_CASE("the least recently used scope is forgotten", "[scopes]") {
  Table scopes({}, 2, kNow);
  scopes.Of("a");
  scopes.Of("b");
  scopes.Of("a");
  scopes.Of("c");
  CHECK(Names(scopes) == "[][a][c]");
}

TEST_CASE("a scope in which something is going on is not forgotten",
          "[scopes]") {
  Table scopes({}, 1, kNow);
  Scope& scope = scopes.Of("a");
  SECTION("a lease is out") {
    scope.in_flight = 1;
    scopes.Of("b");
    CHECK(Names(scopes) == "[][a][b]");
    scope.in_flight = 0;
  }
  SECTION("a caller waits") {
    scope.queue.push_back(nullptr);
    scopes.Of("b");
    CHECK(Names(scopes) == "[][a][b]");
    scope.queue.clear();
  }
  SECTION("a group is held back") {
    scope.held_back = 1;
    scopes.Of("b");
    CHECK(Names(scopes) == "[][a][b]");
    scope.held_back = 0;
  }
  // Both are idle now, and one is to stay.
  scopes.Of("c");
  CHECK(Names(scopes) == "[][c]");
}

TEST_CASE("each scope has a policy of its own, copied from the rotator's",
          "[scopes]") {
  Table scopes({}, 10, kNow);
  const testing::PoolKeys keys{"", "", ""};
  const std::vector<Slot*> slots{&keys[0], &keys[1], &keys[2]};
  const std::vector<std::uint32_t> usable{0, 2};
  const auto choose = [&](const char* name) {
    return scopes.Choose(scopes.Of(name), slots, usable, {});
  };
  CHECK(choose("a") == 0);
  CHECK(choose("a") == 1);
  CHECK(choose("b") == 0);
}

TEST_CASE("the policy is not asked where no key is usable", "[scopes]") {
  Table scopes({}, 10, kNow);
  const std::vector<std::uint32_t> usable{0};
  const testing::PoolKeys keys{""};
  CHECK(scopes.Choose(scopes.Of("a"), {}, {}, {}) == 0);
  CHECK(scopes.Choose(scopes.Of("a"), {&keys[0]}, usable, {}) == 0);
}

TEST_CASE("the turn is the first usable key behind the one picked last",
          "[scopes]") {
  // Chooses the key whose turn it is.
  const auto in_turn = [](const AvailableKeys& keys, const PickHint&) {
    return keys.turn();
  };
  Scopes scopes(in_turn, 10, kNow);
  const testing::PoolKeys keys{"", "", "", ""};
  const std::vector<Slot*> slots{&keys[0], &keys[1], &keys[2], &keys[3]};
  Scope& scope = scopes.Of("a");
  const auto choose = [&](const std::vector<std::uint32_t>& usable) {
    return usable[scopes.Choose(scope, slots, usable, {})];
  };
  CHECK(choose({0, 1, 2, 3}) == 0);
  scope.turn = 2;  // the one with index 1 was picked
  scope.turn_position = 2;
  CHECK(choose({0, 1, 2, 3}) == 2);
  CHECK(choose({0, 3}) == 3);  // the position no longer holds
  CHECK(choose({0, 1}) == 0);  // behind the last it is the first's
  scope.turn = 0;
  CHECK(choose({1, 3}) == 1);
}

}  // namespace
}  // namespace keyrotator::internal::pool_scopes_test
