#include "keyrotator/pool/fleet_share.h"

#include <initializer_list>
#include <limits>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "tests/support/catch.h"

namespace keyrotator::internal::pool_fleet_share_test {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kPeriod = kSecond / 5;

FleetAnswer Granted(std::initializer_list<FleetGrant> grants) {
  FleetAnswer said;
  said.known = true;
  said.grants = grants;
  said.limits[0] = {.limit = 60, .rate = 1e-9, .level = 10};
  return said;
}

struct Bench {
  FleetShare share;
  FleetReply reply{.slot = 5, .processes = 4, .plenty = false, .scopes = {}};

  bool Hear(const FleetAnswer& said, Nanos now, const FleetFact& told = {}) {
    return share.Hear(told, said, reply, now, kPeriod, 0, now);
  }
};

TEST_CASE("before the ledger knows the group the share is off", "[fleet]") {
  Bench bench;
  CHECK_FALSE(bench.share.is_on());
  CHECK_FALSE(bench.Hear({}, 0));
  CHECK_FALSE(bench.share.is_on());
  CHECK(bench.Hear(Granted({}), 0));
  CHECK(bench.share.is_on());
}

TEST_CASE("who is by itself in its fleet goes on as without one", "[fleet]") {
  Bench bench;
  bench.reply.processes = 1;
  CHECK(bench.Hear(Granted({{0, 7}, {0, 7}}), 0));
  CHECK(bench.share.is_solo());
  CHECK_FALSE(bench.share.is_on());
  bench.share.Take(7, 0);
  FleetFact fact = bench.share.Tell({}, 0);
  // Not lost: it is given back.
  CHECK(fact.held == FleetAmounts{2, 14});
  CHECK(fact.spent == FleetAmounts{1, 7});

  bench.reply.processes = 2;
  bench.Hear(Granted({{0, 7}}), kSecond, fact);
  CHECK_FALSE(bench.share.is_solo());
  CHECK(bench.share.is_on());
  CHECK(bench.share.Fits(7, kSecond));

  bench.reply.processes = 1;
  bench.Hear(Granted({{0, 7}}), 2 * kSecond);
  CHECK_FALSE(bench.share.is_on());
}

TEST_CASE("as many may go out as were granted, each from its time on",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({{0, 0}, {kSecond / 10, 0}}), kSecond);
  CHECK(bench.share.Fits(0, kSecond));
  bench.share.Take(0, kSecond);
  CHECK_FALSE(bench.share.Fits(0, kSecond));
  CHECK(bench.share.WhenFits(0, kSecond) == kSecond + kSecond / 10);
  CHECK(bench.share.Fits(0, kSecond + kSecond / 10));
  bench.share.Take(0, kSecond + kSecond / 10);
  CHECK(bench.share.WhenFits(0, kSecond + kSecond / 10) ==
        kSecond + kSecond / 10 + kPeriod);
}

TEST_CASE("a request needs its tokens, as far as the bucket can hold them",
          "[fleet]") {
  Bench bench;
  FleetAnswer said = Granted({{0, 100}, {0, 100}});
  said.limits[1] = {.limit = 1000, .rate = 1e-9, .level = 500};
  bench.Hear(said, 0);
  CHECK(bench.share.Fits(200, 0));
  CHECK_FALSE(bench.share.Fits(201, 0));
  CHECK_FALSE(bench.share.Fits(5000, 0));
  bench.share.Take(150, 0);
  CHECK(bench.share.Fits(50, 0));
  CHECK_FALSE(bench.share.Fits(60, 0));
  // What is no number is not known.
  for (const double cost : {std::numeric_limits<double>::quiet_NaN(), -5.0,
                            std::numeric_limits<double>::infinity()}) {
    CHECK(bench.share.Fits(cost, 0));
    bench.share.Take(cost, 0);
    const FleetFact fact = bench.share.Tell({}, 0);
    CHECK(fact.spent[1] <= 150);
    bench.Hear(said, 0, fact);
  }
}

TEST_CASE("what went out while a reply was under way is taken off it",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({{0, 0}, {0, 0}}), 0);
  const FleetFact told = bench.share.Tell({}, 0);
  CHECK(told.held[0] == 2);
  bench.share.Take(0, 0);
  bench.Hear(Granted({{0, 0}}), 1, told);
  CHECK_FALSE(bench.share.Fits(0, 1));
}

TEST_CASE("what got no reply is told again, but not after another epoch",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({{0, 0}, {0, 0}}), 0);
  bench.share.Take(0, 0);
  bench.share.Serve(0);
  FleetFact told = bench.share.Tell({}, 0);
  CHECK(told.spent[0] == 1);
  CHECK(told.served == 1);
  bench.share.Untell(told);
  told = bench.share.Tell({}, 0);
  CHECK(told.spent[0] == 1);
  CHECK(told.served == 1);
  FleetAnswer said = Granted({});
  said.epoch = 9;
  bench.Hear(said, 0, told);
  bench.share.Untell(told);
  CHECK(bench.share.Tell({}, 0).spent[0] == 0);
}

TEST_CASE("a refusal voids what was granted, if it is of this epoch",
          "[fleet]") {
  Bench bench;
  FleetAnswer said = Granted({{0, 0}});
  said.epoch = 3;
  bench.Hear(said, 0);
  bench.share.Refuse(2, {}, 0);
  CHECK(bench.share.Fits(0, 0));
  CHECK_FALSE(bench.share.Tell({}, 0).refused);
  bench.share.Refuse(3, {.hint = 5, .guess = 7, .longest = 9}, 0);
  CHECK_FALSE(bench.share.Fits(0, 0));
  const FleetFact told = bench.share.Tell({}, 0);
  CHECK(told.refused);
  CHECK(told.refusal.hint == 5);
  CHECK(told.epoch == 3);
}

TEST_CASE("without news a process goes on with its part, then leaves",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({}), 0);  // a quarter of one a second
  const Nanos over = FleetAsk::kLease;
  CHECK_FALSE(bench.share.IsAlone(over - 1));
  CHECK(bench.share.IsAlone(over));
  CHECK_FALSE(bench.share.Fits(0, over));
  const Nanos when = bench.share.WhenFits(0, over);
  CHECK(when > over + 4 * kSecond);
  CHECK(when < over + 5 * kSecond);
  CHECK(bench.share.Fits(0, when));
  CHECK_FALSE(bench.share.IsLeft(when));
  CHECK(bench.share.IsLeft(bench.share.leaves()));
  // However many go out then, the next time it is alone begins with no debt.
  for (int i = 0; i < 100; ++i) bench.share.Take(0, when);
  bench.Hear(Granted({}), when);
  const Nanos again = when + FleetAsk::kLease;
  CHECK(bench.share.WhenFits(0, again) < again + 5 * kSecond);
}

TEST_CASE("once a message was missed, a process goes on with its part at once",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({{0, 0}}), 0);  // a quarter of one a second
  CHECK(bench.share.Miss(kSecond));
  CHECK_FALSE(bench.share.Miss(kSecond + 1));
  // What was granted is used up first.
  CHECK_FALSE(bench.share.IsAlone(kSecond));
  CHECK(bench.share.Fits(0, kSecond));
  bench.share.Take(0, kSecond);
  CHECK(bench.share.IsAlone(kSecond));
  CHECK_FALSE(bench.share.Fits(0, kSecond));
  const Nanos when = bench.share.WhenFits(0, kSecond);
  CHECK(when > 5 * kSecond);
  CHECK(when < 6 * kSecond);
  CHECK(bench.share.Fits(0, when));
  bench.share.Take(0, when);
  // Only what it took of the grant is told: then nobody counted.
  CHECK(bench.share.Tell({}, when).spent[0] == 1);
}

TEST_CASE("what was granted and not used lets one more out where all is lost",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({{0, 0}, {0, 0}}), 0);
  bench.share.Miss(kSecond);
  const Nanos over = FleetAsk::kLease;
  REQUIRE(bench.share.IsAlone(over));
  CHECK(bench.share.Fits(0, over));
  bench.share.Take(0, over);
  CHECK_FALSE(bench.share.Fits(0, over));
}

TEST_CASE("while the fleet gathers a process keeps to its part, and is counted",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({}), 0);
  bench.share.Miss(0);
  FleetAnswer said = Granted({{0, 0}});
  said.known = false;
  CHECK_FALSE(bench.Hear(said, 5 * kSecond));
  CHECK(bench.share.IsAlone(5 * kSecond));
  CHECK_FALSE(bench.share.IsLost(5 * kSecond));
  // Of what it saved up while it was lost the part of a request is left.
  CHECK(bench.share.WhenFits(0, 5 * kSecond) < 9 * kSecond);
  const Nanos when = bench.share.WhenFits(0, 5 * kSecond);
  bench.Hear(said, when);
  bench.share.Take(0, when);
  CHECK(bench.share.Tell({}, when).spent[0] == 1);
  // A ledger that knows the limits need not hear of them again.
  const std::array<FleetLimit, 2> limits{{{60, 1e-9, 10, 0}, {}}};
  CHECK_FALSE(bench.share.Tell(limits, when).reported.has_value());
}

TEST_CASE("what is saved up while the fleet gathers is lost at no message",
          "[fleet]") {
  Bench bench;
  bench.Hear(Granted({}), 0);  // a quarter of one a second
  bench.share.Miss(0);
  Nanos now = 0;
  for (; now < 10 * kSecond; now += kPeriod) bench.Hear({}, now);
  CHECK(bench.share.Fits(0, now));
  bench.Hear({}, now);
  CHECK(bench.share.Fits(0, now));
}

TEST_CASE("no tokens come for what was granted once the fleet is silent",
          "[fleet]") {
  Bench bench;
  FleetAnswer said = Granted({{0, 10}});
  said.limits[1] = {.limit = 1000, .rate = 1e-9, .level = 500};
  bench.Hear(said, 0);
  CHECK_FALSE(bench.share.Fits(500, 0));
  bench.share.Miss(1);
  CHECK(bench.share.Fits(500, 1));
}

TEST_CASE("a refusal or a report replaces what was granted and not used",
          "[fleet]") {
  const Nanos over = FleetAsk::kLease;
  Bench refused;
  refused.Hear(Granted({{0, 0}}), 0);
  refused.share.Refuse(0, {.hint = 5 * kSecond}, over);
  CHECK_FALSE(refused.share.Fits(0, over + 1));
  Bench reported;
  reported.Hear(Granted({{0, 0}}), 0);
  reported.share.Report({{{60, 1e-9, 50, 0}, {}}}, over);
  for (int i = 0; i < 2; ++i) {
    CHECK(reported.share.Fits(0, over) == (i == 0));
    reported.share.Take(0, over);
  }
  // The next time that it is alone that pause is no more.
  refused.Hear(Granted({}), over + 1);
  const Nanos again = over + 1 + FleetAsk::kLease;
  CHECK(refused.share.WhenFits(0, again) < again + 5 * kSecond);
}

TEST_CASE("a ledger that has forgotten is told what was known", "[fleet]") {
  Bench bench;
  FleetAnswer said = Granted({});
  said.limits = {};
  said.pace = 2e-9;
  bench.Hear(said, 0);
  CHECK_FALSE(bench.Hear({}, 1));
  CHECK(bench.share.is_forgotten());
  CHECK(bench.share.IsAlone(1));
  CHECK(bench.share.Tell({}, 1).seed_rate == 2e-9);
  // Or the limits, where the provider says them.
  const std::array<FleetLimit, 2> limits{{{60, 1e-9, 10, 0}, {}}};
  bench.share.Report({{{60, 1e-9, 4, 0}, {}}}, 1);
  bench.share.Tell(limits, 1);
  // Once more, where nobody said what is left since: what flowed back may be gone.
  FleetFact fact = bench.share.Tell(limits, 1);
  REQUIRE(fact.reported.has_value());
  CHECK((*fact.reported)[0].level == 4);
}

}  // namespace
}  // namespace keyrotator::internal::pool_fleet_share_test
