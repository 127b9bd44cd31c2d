// A fleet with a thread over a real redis-server, and what may happen to either:
// the rotator goes on, and the fleet comes back by itself.

#include "keyrotator/fleet/fleet.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "keyrotator/keyrotator.h"
#include "keyrotator/redis/redis_exchange.h"
#include "tests/support/catch.h"
#include "tests/support/eventually.h"
#include "tests/support/redis_server.h"
#include "tests/support/rotator.h"
#include "tests/support/skip_without_redis.h"

namespace keyrotator::redis_fleet_test {
namespace {

using namespace std::chrono_literals;
using testing::Eventually;
using testing::Letters;
using testing::PickName;
using testing::RedisServer;
using testing::SkipWithoutRedis;
using Clock = std::chrono::steady_clock;

RedisExchange ExchangeWith(const RedisServer& server) {
  RedisOptions options;
  options.url = server.url();
  options.pool = "prod";
  options.secret = "of the fleet";
  options.timeout = 200ms;
  return RedisExchange(std::move(options));
}

// A process's part, but for the process.
struct Member {
  explicit Member(const RedisServer& server, std::string_view names = "AB")
      : rotator(Letters(names),
                {.on_event =
                     [this](const KeyEvent& event) {
                       if (event.kind == KeyEvent::Kind::kFleetLost) ++lost;
                       if (event.kind == KeyEvent::Kind::kFleetBack) ++back;
                     }}),
        fleet(std::in_place, rotator, ExchangeWith(server),
              FleetOptions{.period = 50ms}) {}

  // A message that began after this call was answered, or was not.
  bool IsHeard() const {
    const auto before = fleet->Status().exchanges;
    return Eventually([&] { return fleet->Status().exchanges > before + 1; });
  }
  bool MissesSome() const {
    const auto before = fleet->Status().misses;
    return Eventually([&] { return fleet->Status().misses > before + 1; });
  }

  std::atomic<int> lost = 0;
  std::atomic<int> back = 0;
  KeyRotator<> rotator;
  std::optional<Fleet> fleet;
};

// How long `work` takes.
template <class Work>
Clock::duration Took(const Work& work) {
  const auto begin = Clock::now();
  work();
  return Clock::now() - begin;
}

TEST_CASE("Redis that is away at the start is found when it is there") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  server.Kill();
  Member member(server);
  REQUIRE(member.MissesSome());
  CHECK_FALSE(member.fleet->Status().is_connected);
  CHECK(PickName(member.rotator) == "A");
  CHECK(member.lost == 1);
  CHECK(member.back == 0);

  server.Start();
  REQUIRE(member.IsHeard());
  CHECK(member.fleet->Status().is_connected);
  CHECK(Eventually([&] { return member.back == 1; }));
  CHECK(member.lost == 1);
}

TEST_CASE("over Redis, too, the words of two take a key out of all") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member one(server);
  Member two(server);
  Member three(server);
  const auto fail = [](Member& member) {
    auto lease = member.rotator.Pick();
    REQUIRE(lease);
    CHECK(lease->name() == "A");
    member.rotator.MarkFailed(*lease);
  };
  fail(one);
  CHECK(Eventually([&] { return two.fleet->Status().doubted_keys == 1; }));
  fail(two);
  const auto all_have = [&](std::size_t failed_keys, KeyState state) {
    return Eventually([&] {
      for (Member* member : {&one, &two, &three}) {
        if (member->fleet->Status().failed_keys != failed_keys ||
            member->rotator.Snapshot()[0].state != state)
          return false;
      }
      return true;
    });
  };
  CHECK(all_have(1, KeyState::kFailed));
  one.rotator.Restore(one.rotator.Snapshot()[0].id);
  CHECK(all_have(0, KeyState::kAvailable));
}

TEST_CASE("Redis that restarts empty is lost once and back once") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member one(server);
  Member two(server);
  const auto both_know = [&] {
    return Eventually([&] {
      return one.fleet->Status().processes == 2 &&
             two.fleet->Status().processes == 2;
    });
  };
  REQUIRE(both_know());
  CHECK(one.lost == 0);

  server.Kill();
  REQUIRE(one.MissesSome());
  REQUIRE(two.MissesSome());
  CHECK(PickName(one.rotator) != "none");
  server.Start();
  REQUIRE(one.IsHeard());
  REQUIRE(two.IsHeard());
  CHECK(both_know());
  CHECK(server.Say({"EXISTS", "kr:{prod}:1"}) == "1");
  for (Member* member : {&one, &two}) {
    CHECK(Eventually([&] { return member->back == 1; }));
    CHECK(member->lost == 1);
  }
}

TEST_CASE("While Redis hangs, picks go on and the fleet can end") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member member(server);
  REQUIRE(member.IsHeard());
  server.Stop();
  // Each message waits for its answer for 200 ms. If picks did, few would be made.
  int picks = 0;
  CHECK(Eventually([&] {
    if (member.rotator.Pick()) ++picks;
    return member.fleet->Status().misses >= 2;
  }));
  CHECK(picks > 100);
  CHECK(Took([&] { member.fleet.reset(); }) < 1s);
  CHECK(PickName(member.rotator) != "none");
  server.Continue();
}

TEST_CASE("A fleet ends within a second in the midst of a message") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member member(server);
  REQUIRE(member.IsHeard());
  server.Stop();
  // Whatever it is at: it was connected a moment ago.
  CHECK(Took([&] { member.fleet.reset(); }) < 1s);
  server.Continue();
}

// ---- Signals and fork ----

std::atomic<pid_t> handled_by = 0;

TEST_CASE("A signal is for the program's threads, never for the fleet's") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member member(server);
  REQUIRE(member.IsHeard());

  // Of all the process's threads only the fleet's might take it then.
  sigset_t term;
  sigset_t before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &term, &before) == 0);
  struct sigaction old {};
  struct sigaction action {};
  action.sa_handler = [](int) { handled_by = gettid(); };
  REQUIRE(sigaction(SIGTERM, &action, &old) == 0);
  REQUIRE(kill(getpid(), SIGTERM) == 0);
  REQUIRE(member.IsHeard());
  CHECK(handled_by == 0);
  REQUIRE(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  CHECK(Eventually([] { return handled_by != 0; }));
  CHECK(handled_by == gettid());
  sigaction(SIGTERM, &old, nullptr);
}

TEST_CASE("A connection that was closed kills nobody with SIGPIPE") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member member(server);
  struct sigaction action {};
  REQUIRE(sigaction(SIGPIPE, nullptr, &action) == 0);
  REQUIRE(action.sa_handler == SIG_DFL);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(member.IsHeard());
    CHECK(server.Say({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}) !=
          "0");
  }
  REQUIRE(member.IsHeard());
}

// Waits for it, for at most half a minute; its exit code, -1 if it has none.
int ExitCodeOf(pid_t child) {
  int status = 0;
  const bool ended =
      Eventually([&] { return waitpid(child, &status, WNOHANG) == child; });
  if (!ended) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("Two rotators share a limit that both were told of") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member told(server, "A");
  Member other(server, "A");
  const auto take = [](Member& member) {
    const std::optional<Lease> lease = member.rotator.Pick();
    return lease && member.rotator.MarkSucceeded(*lease);
  };
  // The provider says that of 20 one is gone, then another, for a long time.
  double left = 20;
  for (Member* member : {&other, &told}) {
    const std::optional<Lease> lease = member->rotator.Pick();
    REQUIRE(lease);
    member->rotator.ReportLimits(
        *lease,
        {.requests = {.limit = 20, .remaining = --left, .reset = 100h}});
  }
  REQUIRE(told.IsHeard());
  REQUIRE(other.IsHeard());

  // Both take all that they get, until nothing has come for some messages.
  std::array<int, 2> taken{1, 1};
  for (int idle = 0, turn = 0; idle < 5 && turn < 60; ++idle, ++turn) {
    if (take(told)) ++taken[0], idle = 0;
    if (take(other)) ++taken[1], idle = 0;
    REQUIRE(told.IsHeard());
    REQUIRE(other.IsHeard());
  }
  CAPTURE(taken[0], taken[1]);
  CHECK(taken[0] + taken[1] <= 20);
  CHECK(taken[0] + taken[1] >= 18);
  CHECK(taken[0] >= 5);
  CHECK(taken[1] >= 5);
}

TEST_CASE("A child that destroys its copy of a fleet takes nothing from it") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  Member member(server);
  Member witness(server);
  REQUIRE(Eventually([&] { return witness.fleet->Status().processes == 2; }));
  for (int i = 0; i < 20; ++i) {  // wherever the thread may be just then
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      member.fleet.reset();
      _exit(7);
    }
    CHECK(ExitCodeOf(child) == 7);
  }
  REQUIRE(member.IsHeard());
  REQUIRE(witness.IsHeard());
  CHECK(witness.fleet->Status().processes == 2);
  CHECK(member.lost == 0);
}

}  // namespace
}  // namespace keyrotator::redis_fleet_test
