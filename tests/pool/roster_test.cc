#include "keyrotator/pool/roster.h"

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/pool_keys.h"

namespace keyrotator::internal::pool_roster_test {
namespace {

using testing::ContainsSubstring;
using testing::Join;

std::string Names(const std::vector<Slot*>& slots) {
  std::string names;
  for (const Slot* slot : slots) names += slot->name + " ";
  return names;
}

// The message with which Check refuses `keys`.
std::string Refusal(const Roster& roster, const ApiKeys& keys,
                    bool replace = false) {
  try {
    roster.Check(keys, replace);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "not refused";
}

TEST_CASE("a key is found by id, by value with blanks around it, and by index",
          "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a", {.name = "prod-1"}), ApiKey("sk-b")});
  REQUIRE(roster.keys().size() == 2);
  Slot* const slot = roster.Find(" sk-a\n");
  REQUIRE(slot != nullptr);
  CHECK(slot->name == "prod-1");
  CHECK(roster.Find(slot->id) == slot);
  CHECK(roster.keys()[slot->index] == slot);
  CHECK(roster.Find("sk-c") == nullptr);
  CHECK(roster.Find(KeyId{}) == nullptr);
}

TEST_CASE("names that are made up avoid those that were chosen", "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a"), ApiKey("sk-b", {.name = "key-1"}),
                ApiKey("sk-c", {.name = "key-3"})});
  CHECK(Names(roster.keys()) == "key-2 key-1 key-3 ");
  Join(roster, {ApiKey("sk-d")});
  CHECK(Names(roster.keys()) == "key-2 key-1 key-3 key-4 ");
}

TEST_CASE("empty keys and the second of two equal ones do not join",
          "[roster]") {
  Roster roster;
  const ApiKeys keys{ApiKey("sk-a"), ApiKey(""), ApiKey("sk-a"),
                     ApiKey("sk-b")};
  CHECK(roster.Check(keys, false).size() == 2);
  CHECK(Join(roster, keys).joined.size() == 2);
  CHECK(Join(roster, keys).joined.empty());
}

TEST_CASE("a value that no header may hold is refused, and not shown",
          "[roster]") {
  const Roster roster;
  for (const auto& [value, why] :
       std::vector<std::pair<std::string, std::string>>{
           {"se\ncret", "byte 3 of its value is a control character"},
           {"se\x7f"
            "cret",
            "byte 3 of its value is a control character"},
           {"sec\xc3\xa4ret", "byte 4 of its value is not ASCII"}}) {
    const std::string refusal =
        Refusal(roster, {ApiKey("sk-good"), ApiKey(value, {.name = "prod"})});
    CHECK_THAT(refusal, ContainsSubstring("API key 2 (\"prod\"): " + why));
    CHECK_THAT(refusal, !ContainsSubstring("ret"));
  }
}

TEST_CASE("a weight must be a finite number above 0", "[roster]") {
  const Roster roster;
  for (const double weight :
       {0.0, -1.0, std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THAT(Refusal(roster, {ApiKey("sk-a", {.weight = weight})}),
               ContainsSubstring("API key 1: its weight is"));
  }
}

TEST_CASE("no two keys have the same name", "[roster]") {
  Roster roster;
  const ApiKey first("sk-a", {.name = "prod"});
  const ApiKey second("sk-b", {.name = "prod"});
  CHECK(Refusal(roster, {first, second}) ==
        "API key 2 (\"prod\"): another key has that name");
  Join(roster, {first});
  CHECK(Refusal(roster, {second}) ==
        "API key 1 (\"prod\"): another key has that name");
  // The one that has it leaves.
  CHECK(Refusal(roster, {second}, true) == "not refused");
}

TEST_CASE("keys that stay in a replacement keep their slot; others leave",
          "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a"), ApiKey("sk-b"), ApiKey("sk-c")});
  Slot* const a = roster.Find("sk-a");
  Slot* const c = roster.Find("sk-c");
  const Roster::Change change = Join(
      roster, {ApiKey("sk-c", {.weight = 3}), ApiKey("sk-d"), ApiKey("sk-a")},
      true);
  CHECK(change.left.size() == 1);
  CHECK(change.moved_to == std::vector<std::uint32_t>{2, Scope::kGone, 0});
  CHECK(Names(roster.keys()) == "key-3 key-4 key-1 ");
  CHECK(roster.keys()[0] == c);
  CHECK(roster.keys()[2] == a);
  CHECK(c->weight == 3);
  CHECK(roster.Find("sk-b") == nullptr);
}

TEST_CASE("keys that are added move no index", "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a"), ApiKey("sk-b")});
  const Roster::Change change = Join(roster, {ApiKey("sk-c")});
  CHECK(change.moved_to.empty());
  CHECK(change.left.empty());
  CHECK(roster.keys()[2]->index == 2);
}

TEST_CASE("keys with the same group name share a group, unnamed ones do not",
          "[roster]") {
  testing::PoolKeys keys{"org", "", "org", ""};
  CHECK(&keys.group(0) == &keys.group(2));
  CHECK(keys.group(0).members == std::vector<Slot*>{&keys[0], &keys[2]});
  CHECK(&keys.group(1) != &keys.group(3));
  CHECK(keys[0].group_hash == keys[2].group_hash);
  CHECK(keys[1].group_hash == keys[1].name_hash);
}

TEST_CASE("the number of a group that is gone is used again", "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a"), ApiKey("sk-b")});
  const std::uint32_t number = roster.Find("sk-a")->group->number;
  Join(roster, {ApiKey("sk-b")}, true);
  Join(roster, {ApiKey("sk-c")});
  CHECK(roster.Find("sk-c")->group->number == number);
}

TEST_CASE("a key that left lives on until its last lease ends", "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a"), ApiKey("sk-b")});
  Slot& slot = *roster.Find("sk-a");
  slot.holds += 2 * Slot::kLease;
  Join(roster, {ApiKey("sk-b")}, true);

  CHECK_FALSE(slot.is_pooled());
  // What is still lent may still be echoed by a provider.
  CHECK((*roster.redactor())("bad key sk-a") == "bad key [key-1]");
  CHECK(roster.Release(slot));
  CHECK_FALSE(roster.Release(slot));
  CHECK((*roster.redactor())("bad key sk-a") == "bad key sk-a");
}

TEST_CASE("the redactor is made anew only when the keys change", "[roster]") {
  Roster roster;
  Join(roster, {ApiKey("sk-a")});
  const auto before = roster.redactor();
  CHECK(roster.redactor() == before);
  Join(roster, {ApiKey("sk-a")});
  Join(roster, {ApiKey("sk-b")});
  CHECK(roster.redactor() != before);
  CHECK((*roster.redactor())("sk-a sk-b") == "[key-1] [key-2]");
}

TEST_CASE("a group's mark is told of another member once the marked key left",
          "[roster]") {
  Roster roster;
  Join(roster,
       {ApiKey("sk-a", {.group = "org"}), ApiKey("sk-b", {.group = "org"})});
  Slot* const b = roster.Find("sk-b");
  Gate gate;
  gate.Shut(1, 1, roster.Find("sk-a")->id);
  CHECK(roster.MarkedOf(gate, *b->group) == roster.Find("sk-a"));
  Join(roster, {ApiKey("sk-b")}, true);
  CHECK(roster.MarkedOf(gate, *b->group) == b);
}

}  // namespace
}  // namespace keyrotator::internal::pool_roster_test
