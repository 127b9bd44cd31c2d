#include "keyrotator/redis/ledger_wire.h"

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "tests/support/catch.h"

namespace keyrotator::redis_ledger_wire_test {
namespace {

using internal::LedgerReplyReader;

FleetAsk AskOf(std::size_t scopes, std::size_t facts) {
  FleetAsk ask;
  ask.scopes.resize(scopes);
  for (FleetScopeAsk& scope : ask.scopes) scope.facts.resize(facts);
  return ask;
}

// The doubles that a text lists.
std::string Bytes(const std::string& text) {
  internal::DoubleWriter writer;
  std::istringstream words(text);
  for (std::string word; words >> word;)
    writer << std::strtod(word.c_str(), nullptr);
  return writer.Take();
}

std::string ProblemOf(const FleetAsk& ask, std::string_view bytes) {
  LedgerReplyReader reader(bytes);
  const auto reply = reader.Read(ask);
  CHECK(reply.has_value() == reader.problem().empty());
  return reader.problem();
}

// known epoch total total foreign foreign gate, limit rate level twice, pace, and
// grants: how many times it is how many, when, what they cost.
constexpr std::string_view kAnswer =
    "1 5 10 20 3 4 1500 60 0.001 -2.5 0 0 0 0 2 1 0 7 2 100.5 8";

std::string Reply(std::string_view answer) {
  return Bytes(fmt::format("875000000 2 1 5001 5000 1 -1 0.25 {}", answer));
}

TEST_CASE("a message is told field by field", "[redis]") {
  FleetAsk ask = AskOf(1, 1);
  ask.period = 200'000'000;
  ask.slot = 7;
  ask.alone = true;
  ask.who = 4711;
  ask.version = 5001;
  ask.news.push_back({.id = "k",
                      .kind = FleetNews::Kind::kRested,
                      .span = 1'500'000'000,
                      .is_guess = true});
  ask.caps.push_back({.id = "c",
                      .cap = 8,
                      .in_flight = 2,
                      .want = 3,
                      .last_want = 4,
                      .slot = 6,
                      .held = 5,
                      .carry = 0.5});
  FleetScopeAsk& scope = ask.scopes[0];
  scope.scope = "s";
  scope.want = {1.5, 300};
  scope.last_want = {2, 400};
  scope.slot = 6;
  scope.carry = 0.1;
  scope.costs = {10, 20};
  FleetFact& fact = scope.facts[0];
  fact.group = "g";
  fact.epoch = 1'792'000'000'000'000;
  fact.spent = {1, 2};
  fact.served = 1;
  fact.held = {3, 4};
  fact.slot = 5;
  fact.seen = {6, 7};
  const auto expect = [&](const char* told) {
    CHECK(internal::LedgerArguments(ask, std::chrono::minutes(1)) ==
          std::vector<std::string>{
              "1", "60", Bytes("-1 200 7 1 0 1 4711 5001 1 1"), "k",
              Bytes("3 1500 1"), "c", Bytes("8 2 3 4 6 5 0.5"), "s",
              Bytes("1 1.5 300 2 400 6 0.1 1"), Bytes("10 20"), "g",
              Bytes(told)});
  };
  expect("1792000000000000 1 2 1 3 4 5 6 7 0 0 0");
  fact.refused = true;
  fact.refusal = {.hint = 1'500'000, .guess = 1'000'000'000, .longest = 0};
  fact.reported = {FleetLimit{60, 1e-9, 30, 0.3}, FleetLimit{}};
  fact.seed_rate = 2e-9;
  expect(
      "1792000000000000 1 2 1 3 4 5 6 7 0.002 1 1 60 0.001 30 0.3 0 0 0 0 "
      "1.5 1000 0");
}

TEST_CASE("a reply of the ledger is read whole", "[redis]") {
  const std::string text = Reply(kAnswer);
  const auto reply = LedgerReplyReader(text).Read(AskOf(1, 1));
  REQUIRE(reply.has_value());
  CHECK(reply->slot == 875'000'000);
  CHECK(reply->processes == 2);
  CHECK(reply->plenty);
  CHECK(reply->gathers);
  REQUIRE(reply->scopes.size() == 1);
  CHECK(reply->scopes[0].carry == 0.25);
  REQUIRE(reply->scopes[0].answers.size() == 1);
  const FleetAnswer& answer = reply->scopes[0].answers[0];
  CHECK(answer.known);
  CHECK(answer.epoch == 5);
  CHECK(answer.total == FleetAmounts{10, 20});
  CHECK(answer.foreign == FleetAmounts{3, 4});
  CHECK(answer.gate == 1'500'000'000);
  CHECK(answer.limits[0].limit == 60);
  CHECK(answer.limits[0].rate == Approx(1e-9));
  CHECK(answer.limits[0].level == -2.5);
  CHECK(answer.limits[1].limit == 0);
  REQUIRE(answer.grants.size() == 3);
  CHECK(answer.grants[0].in == 0);
  CHECK(answer.grants[0].cost == 7);
  CHECK(answer.grants[1].in == 100'500'000);
  CHECK(answer.grants[1].cost == 8);
  CHECK(answer.grants[2].in == 100'500'000);
}

TEST_CASE("what a reply says of keys is read", "[redis]") {
  const std::string text = Bytes("1 2 0 5002 5000 0 2 3") + "key" +
                           Bytes("2 5002 5001 60000 0 0 1") + "g" +
                           Bytes("0 0 0 0 1.5 1");
  const auto reply = LedgerReplyReader(text).Read(AskOf(0, 0));
  REQUIRE(reply.has_value());
  CHECK(reply->version == 5002);
  CHECK(reply->born == 5000);
  REQUIRE(reply->marks);
  REQUIRE(reply->marks->size() == 2);
  const FleetMark& mark = reply->marks->front();
  CHECK(mark.id == "key");
  CHECK(mark.words == 2);
  CHECK(mark.failed == 5002);
  CHECK(mark.restored == 5001);
  CHECK(mark.failed_for == 60'000'000'000);
  CHECK(reply->marks->back().id == "g");
  CHECK(reply->marks->back().rests == 1'500'000);
  CHECK(reply->marks->back().is_guess);
  for (std::size_t size = 0; size < text.size(); ++size) {
    INFO(size);
    CHECK_FALSE(ProblemOf(AskOf(0, 0), text.substr(0, size)).empty());
  }
  CHECK_FALSE(
      LedgerReplyReader(Reply(kAnswer)).Read(AskOf(1, 1))->marks.has_value());
}

TEST_CASE("permits are read, as many as there may be", "[redis]") {
  FleetAsk ask = AskOf(0, 0);
  ask.caps.push_back({.id = "c", .cap = 8, .in_flight = 9});
  const std::string text = Bytes("1 2 0 0 0 0 -1 3 9 0.5");
  const auto reply = LedgerReplyReader(text).Read(ask);
  REQUIRE(reply.has_value());
  REQUIRE(reply->permits.size() == 1);
  CHECK(reply->permits[0].count == 3);
  CHECK(reply->permits[0].held == 9);
  CHECK(reply->permits[0].carry == 0.5);
  CHECK(ProblemOf(ask, Bytes("1 2 0 0 0 0 -1 10 9 0.5")) ==
        "permits is out of range");
  CHECK(ProblemOf(ask, Bytes("1 2 0 0 0 0 -1 3.5 9 0.5")) ==
        "permits is not whole");
  CHECK(ProblemOf(ask, Bytes("1 2 0 0 0 0 -1 3 nan 0.5")) ==
        "held is out of range");
  CHECK(ProblemOf(ask, Bytes("1 2 0 0 0 0 -1 3 9 2")) ==
        "carry is out of range");
  CHECK(ProblemOf(ask, Bytes("1 2 0 0 0 0 -1")) == "permits is missing");
}

TEST_CASE("a reply that is cut off anywhere is none", "[redis]") {
  const std::string text = Reply(kAnswer);
  const FleetAsk ask = AskOf(1, 1);
  REQUIRE(ProblemOf(ask, text).empty());
  for (std::size_t size = 0; size < text.size(); ++size) {
    INFO(size);
    CHECK_FALSE(ProblemOf(ask, text.substr(0, size)).empty());
  }
  CHECK_FALSE(ProblemOf(ask, text + " ").empty());
  CHECK(ProblemOf(ask, text + Bytes("0")) == "the reply does not end");
}

TEST_CASE("a reply to another message is none", "[redis]") {
  CHECK_FALSE(ProblemOf(AskOf(0, 0), Reply(kAnswer)).empty());
  CHECK_FALSE(ProblemOf(AskOf(1, 0), Reply(kAnswer)).empty());
  CHECK_FALSE(ProblemOf(AskOf(1, 2), Reply(kAnswer)).empty());
  CHECK_FALSE(ProblemOf(AskOf(2, 1), Reply(kAnswer)).empty());
  CHECK(ProblemOf(AskOf(0, 0), Bytes("0 1 0 0 0 0 -1")).empty());
}

TEST_CASE("no number of a reply is believed that cannot be", "[redis]") {
  const FleetAsk ask = AskOf(1, 1);
  const struct {
    const char* text;
    const char* problem;
  } cases[] = {
      {"", "slot is missing"},
      {"-1 1 0 0 0 0 -1 0", "slot is out of range"},
      {"0.5 1 0 0 0 0 -1 0", "slot is not whole"},
      {"1e17 1 0 0 0 0 -1 0", "slot is out of range"},
      {"0 0 0 0 0 0 -1 0", "processes is out of range"},
      {"0 inf 0 0 0 0 -1 0", "processes is out of range"},
      {"0 nan 0 0 0 0 -1 0", "processes is out of range"},
      {"0 1 2 0 0 0 -1 0", "plenty is out of range"},
      {"0 1 0 0 0 0 -1 1.5", "carry is out of range"},
      {"0 1 0 0 0 0 -1 -0.5", "carry is out of range"},
      {"0 1 0 0 0 0 -1 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0",
       "epoch is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0",
       "total is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 inf 0 0 0 0 0 0 0 0 0 0",
       "foreign is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 -1 0 0 0 0 0 0 0 0",
       "gate is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 86400001 0 0 0 0 0 0 0 0",
       "gate is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 1e308 0 0 0 0 0 0 0 0",
       "gate is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 -1 0 0 0 0 0 0 0",
       "limit is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 inf 0 0 0 0 0 0",
       "rate is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 -1 0 0 0 0 0 0",
       "rate is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 60 0 1e9 0 0 0 0 0",
       "level is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 nan 0 0",
       "level is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 -nan 0",
       "pace is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1000000000",
       "grants is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1000000000 0 0",
       "count is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0.5 0 0",
       "count is not whole"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 -1",
       "grants is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 -1 0",
       "grant is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 0 -1",
       "cost is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 0 inf",
       "cost is out of range"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2 1 5 0 1 4 0",
       "the grants are not in order"},
      {"0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 0", "cost is missing"},
      {"0 1 0 -1 0 0 -1 0", "version is out of range"},
      {"0 1 0 0 0.5 0 -1 0", "born is not whole"},
      {"0 1 0 0 0 2 -1 0", "gathers is out of range"},
      {"0 1 0 0 0 0 -2 0", "marks is out of range"},
      {"0 1 0 0 0 0 1025 0", "marks is out of range"},
      {"0 1 0 0 0 0 1 257", "a name is out of range"},
      {"0 1 0 0 0 0 1 256", "a name is missing"},
      {"0 1 0 0 0 0 1 0 3", "words is out of range"},
      {"0 1 0 0 0 0 1 0 2 0.5", "failed is not whole"},
      {"0 1 0 0 0 0 1 0 2 0 inf", "restored is out of range"},
      {"0 1 0 0 0 0 1 0 2 0 0 4e10", "failed for is out of range"},
      {"0 1 0 0 0 0 1 0 2 0 0 0 -1", "rests is out of range"},
      {"0 1 0 0 0 0 1 0 2 0 0 0 0 2", "guess is out of range"},
  };
  CHECK(ProblemOf(ask, Bytes("0 1 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"))
            .empty());
  for (const auto& [text, problem] : cases) {
    INFO(text);
    CHECK(ProblemOf(ask, Bytes(text)) == problem);
  }
}

TEST_CASE("no more is granted in a scope than may be, over all of its groups",
          "[redis]") {
  const auto reply = [](std::size_t in_each) {
    std::string text = "0 1 0 0 0 0 -1 0";
    for (int i = 0; i < 2; ++i) {
      text += fmt::format(" 1 0 0 0 0 0 0 0 0 0 0 0 0 0 1 {} 0 0", in_each);
    }
    return Bytes(text);
  };
  CHECK(ProblemOf(AskOf(1, 2), reply(128)).empty());
  CHECK(ProblemOf(AskOf(1, 2), reply(129)) == "the grants are too many");
}

TEST_CASE("the longest reply there can be is not too long", "[redis]") {
  CHECK(LedgerReplyReader::MostBytes(AskOf(1, 2)) >=
        8 * (6 + 1024 * (7 + 256 / 8) + 1 + 15 * 2 + 3 * 256) + 8);
}

}  // namespace
}  // namespace keyrotator::redis_ledger_wire_test
