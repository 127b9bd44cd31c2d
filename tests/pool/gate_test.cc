// Each cell of the table at the head of pool/gate.h.

#include "keyrotator/pool/gate.h"

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::pool_gate_test {
namespace {

using State = Gate::State;
using Event = std::function<void(Gate&)>;

constexpr std::uint64_t kFresh = 7;  // the first ticket after the window began

// A gate in that state, with one window behind it.
Gate In(State state) {
  Gate gate;
  gate.Shut(100, kFresh, KeyId{3});
  gate.Escalate();
  if (state == State::kOpen) gate.Expire();
  if (state == State::kOnTrial || state == State::kTrialTaken)
    gate.Expire(true);
  if (state == State::kTrialTaken) REQUIRE(gate.TryTake());
  REQUIRE(gate.state() == state);
  return gate;
}

struct Row {
  std::string name;
  Event event;
  // After it, from open, shut, on trial and trial taken.
  std::array<State, 4> states;
};

TEST_CASE("a gate goes from state to state as its table says", "[gate]") {
  constexpr State kOpen = State::kOpen;
  constexpr State kShut = State::kShut;
  constexpr State kTrial = State::kOnTrial;
  constexpr State kTaken = State::kTrialTaken;
  const std::vector<Row> rows{
      {"Shut",
       [](Gate& gate) { gate.Shut(200, 9, KeyId{4}); },
       {kShut, kShut, kShut, kShut}},
      {"Lengthen",
       [](Gate& gate) { gate.Lengthen(200); },
       {kOpen, kShut, kTrial, kTaken}},
      {"Expire(trial)",
       [](Gate& gate) { gate.Expire(true); },
       {kOpen, kTrial, kTrial, kTaken}},
      {"Expire()",
       [](Gate& gate) { gate.Expire(); },
       {kOpen, kOpen, kTrial, kTaken}},
      {"TryTake",
       [](Gate& gate) { gate.TryTake(); },
       {kOpen, kShut, kTaken, kTaken}},
      {"EndTrial, good",
       [](Gate& gate) { gate.EndTrial(kFresh, true); },
       {kOpen, kShut, kTrial, kOpen}},
      {"EndTrial, not good",
       [](Gate& gate) { gate.EndTrial(kFresh, false); },
       {kOpen, kShut, kTrial, kTrial}},
      {"EndTrial of an old lease",
       [](Gate& gate) { gate.EndTrial(kFresh - 1, true); },
       {kOpen, kShut, kTrial, kTaken}},
      {"Prove", [](Gate& gate) { gate.Prove(); }, {kOpen, kShut, kOpen, kOpen}},
      {"Open", [](Gate& gate) { gate.Open(); }, {kOpen, kOpen, kOpen, kOpen}},
  };
  constexpr std::array<State, 4> kFrom{kOpen, kShut, kTrial, kTaken};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < kFrom.size(); ++i) {
      Gate gate = In(kFrom[i]);
      row.event(gate);
      INFO(row.name << " from state " << i);
      CHECK(gate.state() == row.states[i]);
    }
  }
}

TEST_CASE("a gate lets leases through while it is open or on trial", "[gate]") {
  CHECK(In(State::kOpen).is_usable());
  CHECK_FALSE(In(State::kShut).is_usable());
  CHECK(In(State::kOnTrial).is_usable());
  CHECK_FALSE(In(State::kTrialTaken).is_usable());
}

TEST_CASE("a gate is open or shut in one state each", "[gate]") {
  for (const State state :
       {State::kOpen, State::kShut, State::kOnTrial, State::kTrialTaken}) {
    CHECK(In(state).is_open() == (state == State::kOpen));
    CHECK(In(state).is_shut() == (state == State::kShut));
  }
}

TEST_CASE("the later end of a window wins, and is no guess", "[gate]") {
  Gate gate;
  gate.Shut(100, 1, KeyId{1});
  gate.SetGuess(true);
  CHECK_FALSE(gate.Lengthen(99));
  CHECK_FALSE(gate.Lengthen(100));
  CHECK(gate.until() == 100);
  CHECK(gate.is_guess());
  CHECK(gate.Lengthen(101));
  CHECK(gate.until() == 101);
  CHECK_FALSE(gate.is_guess());
}

TEST_CASE("windows count until a success proves the key", "[gate]") {
  Gate gate;
  gate.Shut(100, 1, KeyId{1});
  gate.Escalate();
  gate.Expire();
  gate.Shut(200, 2, KeyId{1});
  gate.Escalate();
  CHECK(gate.windows() == 2);
  gate.Prove();
  CHECK(gate.windows() == 0);
  CHECK(gate.is_shut());  // what shut it is not lifted by a success
}

TEST_CASE("leases from the first of a window on are fresh", "[gate]") {
  Gate gate;
  CHECK(gate.IsFresh(0));
  gate.Shut(100, kFresh, KeyId{1});
  CHECK_FALSE(gate.IsFresh(kFresh - 1));
  CHECK(gate.IsFresh(kFresh));
}

TEST_CASE("a gate knows whose mark shut it, and says whether it was shut",
          "[gate]") {
  Gate gate;
  gate.Shut(100, 1, KeyId{5});
  CHECK(gate.marked() == KeyId{5});
  CHECK(gate.Open());
  CHECK_FALSE(gate.Open());
}

}  // namespace
}  // namespace keyrotator::internal::pool_gate_test
