// The exchange with a real redis-server, and with servers that are none: whatever
// happens there is a reply that answers the message, or none and words for it.

#include "keyrotator/redis/redis_exchange.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/redis/ledger_script.h"
#include "keyrotator/redis/ledger_wire.h"
#include "keyrotator/redis/redis_connection.h"
#include "tests/support/catch.h"
#include "tests/support/leaks.h"
#include "tests/support/raw_server.h"
#include "tests/support/redis_server.h"
#include "tests/support/skip_without_redis.h"

namespace keyrotator::redis_exchange_test {
namespace {

using namespace std::chrono_literals;
using testing::ContainsSubstring;
using testing::DeafPort;
using testing::FindLeak;
using testing::RawConnection;
using testing::RawServer;
using testing::RedisServer;
using testing::RefusingPort;
using testing::SkipWithoutRedis;

constexpr const char* kHash = "kr:{prod}:1";
const std::string kPassword = "QzXw7RtY2uIoP9aSdFgH4j";

// Long enough for a busy machine; a test in which nothing answers takes less.
RedisOptions Options(std::string url, std::chrono::milliseconds timeout = 10s) {
  RedisOptions options;
  options.url = std::move(url);
  options.pool = "prod";
  options.secret = "of the fleet";
  options.timeout = timeout;
  return options;
}

std::string Local(int port) {
  return fmt::format("redis://127.0.0.1:{}", port);
}

// Tells of a key with headers, that spent so much.
FleetAsk Ask(double spent = 0, std::size_t groups = 1) {
  FleetAsk ask;
  ask.period = 200'000'000;
  FleetScopeAsk& scope = ask.scopes.emplace_back();
  scope.scope = "scope";
  scope.want = {3, 0};
  for (std::size_t i = 0; i < groups; ++i) {
    FleetFact& fact = scope.facts.emplace_back();
    fact.group = fmt::format("group-{}", i);
    fact.spent = {spent, 0};
    fact.reported = {FleetLimit{60, 60 / 60e9, 40, 0.3}, FleetLimit{}};
  }
  return ask;
}
// Tells nothing, but asks.
FleetAsk Look() {
  FleetAsk ask = Ask();
  ask.scopes[0].facts[0].reported.reset();
  return ask;
}

double TotalOf(const std::optional<FleetReply>& reply) {
  return reply ? reply->scopes.at(0).answers.at(0).total[0] : -1;
}
bool IsKnown(const std::optional<FleetReply>& reply) {
  return reply && reply->scopes.at(0).answers.at(0).known;
}

// One that the next message does not need again.
bool KeepsConnection(RedisExchange& exchange, RedisServer& server,
                     std::string_view password = "none") {
  internal::RedisConnection admin;
  server.SayOn(admin, {"AUTH", password});
  const auto connections = [&] {
    const std::string stats = server.SayOn(admin, {"INFO", "stats"});
    const std::string_view name = "total_connections_received:";
    return std::stoi(stats.substr(stats.find(name) + name.size()));
  };
  const int before = connections();
  exchange.Send(Ask());
  return connections() == before;
}

// --- It works ---

TEST_CASE("a message is answered, and what was told is known to the next",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server({}, true);
  RedisExchange one(Options(server.url()));
  RedisExchange two(Options(Local(server.port())));
  const auto first = one.Send(Ask(2));
  INFO(one.error());
  REQUIRE(first.has_value());
  CHECK(one.error().empty());
  CHECK(first->processes == 1);
  const FleetAnswer& answer = first->scopes[0].answers[0];
  CHECK(answer.known);
  CHECK(answer.limits[0].limit == 60);
  CHECK(answer.limits[0].rate == Approx(60 / 60e9));
  CHECK(answer.grants.size() >= 3);
  const auto second = two.Send(Ask(5));
  REQUIRE(second.has_value());
  CHECK(second->processes == 2);
  CHECK(TotalOf(second) == 7);
}

TEST_CASE("an exchange may be moved", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange one(Options(server.url()));
  CHECK(TotalOf(one.Send(Ask(1))) == 1);
  RedisExchange two = std::move(one);
  CHECK(TotalOf(two.Send(Ask(1))) == 2);
}

TEST_CASE("the clock is Redis's", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  const auto slot = [&] {
    return std::stoll(server.Say({"TIME"})) * 1'000'000'000 / FleetAsk::kLease;
  };
  const auto before = slot();
  const auto reply = exchange.Send(Ask());
  REQUIRE(reply.has_value());
  CHECK(reply->slot >= before);
  CHECK(reply->slot <= slot());
}

TEST_CASE(
    "a clock that goes back a little stands, and one that jumps back begins "
    "anew",
    "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  const auto total = [&](double now) {
    const FleetAsk ask = Ask(1);
    const auto message = internal::LedgerArguments(ask, 1h, now);
    std::vector<std::string_view> args{"EVAL", internal::kLedgerScript, "1",
                                       kHash};
    args.insert(args.end(), message.begin(), message.end());
    const std::string text = server.Say(args);
    return TotalOf(internal::LedgerReplyReader(text).Read(ask));
  };
  CHECK(total(1e12) == 1);
  CHECK(total(1e12 - 1999) == 2);
  CHECK(total(1e12 + 1e7) == 3);
  CHECK(total(1e12) == 1);
  CHECK(total(1e12) == 2);
}

TEST_CASE("the database and the time to live are those of the options",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisOptions options = Options(server.url() + "?db=3");
  options.ttl = 1h;
  RedisExchange exchange(options);
  REQUIRE(exchange.Send(Ask()).has_value());
  CHECK(server.Say({"EXISTS", kHash}) == "0");
  internal::RedisConnection connection;
  server.SayOn(connection, {"SELECT", "3"});
  CHECK(server.SayOn(connection, {"EXISTS", kHash}) == "1");
  const int ttl = std::stoi(server.SayOn(connection, {"TTL", kHash}));
  CHECK(ttl > 3500);
  CHECK(ttl <= 3600);
}

TEST_CASE("a message may tell of thousands of groups", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  const FleetAsk ask = Ask(1, 2500);
  CHECK(TotalOf(exchange.Send(ask)) == 1);
  const auto reply = exchange.Send(ask);
  INFO(exchange.error());
  REQUIRE(reply.has_value());
  REQUIRE(reply->scopes[0].answers.size() == 2500);
  CHECK(reply->scopes[0].answers[2499].total[0] == 2);
}

TEST_CASE("a hash that has grown beyond all use begins anew", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  CHECK(TotalOf(exchange.Send(Ask(1))) == 1);
  const auto fill = [&](const char* fields) {
    server.Say({"EVAL",
                "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], i, 1) end",
                "1", kHash, fields});
  };
  fill("99000");
  CHECK(TotalOf(exchange.Send(Ask(1))) == 2);
  fill("100001");
  CHECK(TotalOf(exchange.Send(Ask(1))) == 1);
  CHECK(server.Say({"HLEN", kHash}) == "3");
}

// --- It is away ---

TEST_CASE("an engine that is away at the start is found later", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  server.Kill();
  RedisExchange exchange(Options(server.url()));
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring(server.path()));
  server.Start();
  CHECK(exchange.Send(Ask()).has_value());
  CHECK(exchange.error().empty());
}

TEST_CASE("a connection that is refused is an error, and no exception",
          "[redis]") {
  RefusingPort port;
  RedisExchange exchange(Options(Local(port.port())));
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring("refused"));
  CHECK_THAT(exchange.error(),
             ContainsSubstring(fmt::format("127.0.0.1:{}", port.port())));
}

// How long a message without an answer takes, where it may take 50 ms.
std::chrono::duration<double> TimeOf(RedisExchange& exchange) {
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_FALSE(exchange.error().empty());
  return std::chrono::steady_clock::now() - begin;
}
constexpr std::chrono::duration<double> kSoon = 5s;

TEST_CASE("a port that neither takes nor refuses costs the timeout",
          "[redis]") {
  DeafPort port;
  RedisExchange exchange(Options(Local(port.port()), 50ms));
  CHECK(TimeOf(exchange) < kSoon);
}

TEST_CASE("a late reply is not taken for the next one's", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url(), 200ms));
  for (int i = 0; i < 3; ++i) {
    if (exchange.Send(Ask(1))) break;  // a machine that is too busy
  }
  server.Stop();
  CHECK(TimeOf(exchange) < kSoon);
  CHECK_THAT(exchange.error(), ContainsSubstring("in time"));
  CHECK(TimeOf(exchange) < kSoon);
  server.Continue();
  // What they said may be heard now, or not; what this one says is.
  double total = -1;
  REQUIRE(testing::Eventually([&] {
    total = TotalOf(exchange.Send(Ask(1000)));
    return total >= 0;
  }));
  CHECK(total >= 1000);
}

TEST_CASE("an engine that was killed and comes back empty knows nothing",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  CHECK(IsKnown(exchange.Send(Ask(4))));
  server.Kill();
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  server.Start();
  const auto reply = exchange.Send(Look());
  REQUIRE(reply.has_value());
  CHECK_FALSE(IsKnown(reply));
  CHECK(TotalOf(reply) == 0);
}

TEST_CASE("an engine that restarts between two messages costs none",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  REQUIRE(exchange.Send(Ask()).has_value());
  server.Kill();
  server.Start();
  CHECK(exchange.Send(Ask()).has_value());
}

TEST_CASE("after FLUSHALL nothing is known", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  CHECK(IsKnown(exchange.Send(Ask(4))));
  CHECK(IsKnown(exchange.Send(Look())));
  server.Say({"FLUSHALL"});
  CHECK_FALSE(IsKnown(exchange.Send(Look())));
}

TEST_CASE("after SCRIPT FLUSH the script is sent again, once", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  const auto count = [&](std::string_view command) {
    const std::string stats = server.Say({"INFO", "commandstats"});
    const std::string name = fmt::format("cmdstat_{}:calls=", command);
    const std::size_t at = stats.find(name);
    return at == stats.npos ? 0 : std::stoi(stats.substr(at + name.size()));
  };
  CHECK(TotalOf(exchange.Send(Ask(1))) == 1);
  CHECK(TotalOf(exchange.Send(Ask(1))) == 2);
  CHECK(count("eval") == 1);
  server.Say({"SCRIPT", "FLUSH"});
  CHECK(TotalOf(exchange.Send(Ask(1))) == 3);
  CHECK(TotalOf(exchange.Send(Ask(1))) == 4);
  CHECK(count("eval") == 2);
  CHECK(count("script|load") == 0);
}

// --- It refuses ---

// A message is refused with these words; then the trouble goes.
void CheckRefusal(RedisExchange& exchange, std::string_view code) {
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring(std::string(code) + ": "));
}

TEST_CASE("an engine without memory says so, and keeps the connection",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  REQUIRE(exchange.Send(Ask()).has_value());
  server.Say({"CONFIG", "SET", "maxmemory", "1"});
  CheckRefusal(exchange, "OOM");
  CHECK(KeepsConnection(exchange, server));
  server.Say({"CONFIG", "SET", "maxmemory", "0"});
  CHECK(exchange.Send(Ask()).has_value());
}

TEST_CASE("a replica is left for another connection", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  REQUIRE(exchange.Send(Ask()).has_value());
  server.Say({"REPLICAOF", "127.0.0.1", "1"});
  CheckRefusal(exchange, "READONLY");
  CHECK_FALSE(KeepsConnection(exchange, server));
  server.Say({"CONFIG", "SET", "replica-serve-stale-data", "no"});
  CheckRefusal(exchange, "MASTERDOWN");
  CHECK_FALSE(KeepsConnection(exchange, server));
  server.Say({"REPLICAOF", "NO", "ONE"});
  CHECK(exchange.Send(Ask()).has_value());
}

TEST_CASE("a user needs what the words for NOPERM name, and no more",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  const std::string rule = ">" + kPassword;
  server.Say({"ACL", "SETUSER", "worker", "reset", "on", rule, "~kr:{prod}:*",
              "+evalsha", "+eval", "+hlen", "+hmget", "+hset", "+expire",
              "+unlink", "+time"});
  RedisOptions options = Options(server.url());
  options.username = "worker";
  options.password = kPassword;
  RedisExchange exchange(options);
  const auto reply = exchange.Send(Ask());
  INFO(exchange.error());
  REQUIRE(reply.has_value());
  for (const char* command :
       {"evalsha", "hlen", "hmget", "hset", "expire", "time"}) {
    INFO(command);
    server.Say({"ACL", "SETUSER", "worker", "-" + std::string(command)});
    CheckRefusal(exchange, "NOPERM");
    CHECK(KeepsConnection(exchange, server));
    server.Say({"ACL", "SETUSER", "worker", "+" + std::string(command)});
    CHECK(exchange.Send(Ask()).has_value());
  }
  server.Say({"ACL", "SETUSER", "worker", "resetkeys", "~other"});
  CheckRefusal(exchange, "NOPERM");
}

TEST_CASE("another thing under the pool's key is left alone", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  server.Say({"SET", kHash, "mine"});
  CheckRefusal(exchange, "WRONGTYPE");
  CHECK(KeepsConnection(exchange, server));
  CHECK(server.Say({"GET", kHash}) == "mine");
}

TEST_CASE("a hash of another layout is left alone", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  // MessagePack: an array of the number 2.
  server.Say({"HSET", kHash, "meta", "\x91\x02"});
  CheckRefusal(exchange, "KRVERSION");
  CHECK(KeepsConnection(exchange, server));
  CHECK(server.Say({"HLEN", kHash}) == "1");
  // Nor does the script take a message of another.
  CHECK_THAT(server.Say({"EVAL", internal::kLedgerScript, "1", kHash, "2"}),
             ContainsSubstring("KRVERSION"));
}

TEST_CASE("what somebody wrote into the hash is an error, and no reply",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  REQUIRE(exchange.Send(Ask()).has_value());
  for (const char* bytes : {"x", "\x91\x01", "\xff\xff"}) {
    server.Say({"HSET", kHash, "meta", bytes});
    CHECK_FALSE(exchange.Send(Ask()).has_value());
    CHECK_FALSE(exchange.error().empty());
  }
  server.Say({"DEL", kHash});
  CHECK(exchange.Send(Ask()).has_value());
}

TEST_CASE("a wrong password is an error without it", "[redis][S21]") {
  if (SkipWithoutRedis()) return;
  RedisServer server({"--requirepass", "right"});
  RedisOptions options = Options(server.url());
  RedisExchange without(options);
  CheckRefusal(without, "NOAUTH");
  options.password = kPassword;
  RedisExchange wrong(options);
  CheckRefusal(wrong, "WRONGPASS");
  CHECK_FALSE(FindLeak(wrong.error(), kPassword).has_value());
  CHECK(KeepsConnection(wrong, server, "right"));
  options.username = "nobody";
  RedisExchange stranger(options);
  CheckRefusal(stranger, "WRONGPASS");
}

TEST_CASE("a password that an engine does not want is an error without it",
          "[redis][S21]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisOptions options = Options(server.url());
  options.password = kPassword;
  RedisExchange exchange(options);
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring("AUTH was refused"));
  CHECK_FALSE(FindLeak(exchange.error(), kPassword).has_value());
}

TEST_CASE("the right password opens, of the URL or of the options", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server({"--requirepass", kPassword});
  internal::RedisConnection admin;
  server.SayOn(admin, {"AUTH", kPassword});
  server.SayOn(admin,
               {"ACL", "SETUSER", "worker", "on", ">p@ss word", "~*", "+@all"});
  RedisOptions options = Options(server.url());
  options.password = kPassword;
  CHECK(RedisExchange(options).Send(Ask()).has_value());
  options.url = "unix://:wrong@" + server.path();
  CHECK(RedisExchange(options).Send(Ask()).has_value());
  options.url = "unix://worker:p%40ss%20word@" + server.path();
  options.password = {};
  CHECK(RedisExchange(options).Send(Ask()).has_value());
}

TEST_CASE("a password that is set later is asked for, and given", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  internal::RedisConnection admin;
  server.SayOn(admin, {"PING"});
  RedisOptions options = Options(server.url());
  options.password = kPassword;
  RedisExchange exchange(options);
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  server.SayOn(admin, {"CONFIG", "SET", "requirepass", kPassword});
  CHECK(exchange.Send(Ask()).has_value());
}

// --- What Redis sees ---

TEST_CASE("no byte of a key is in what Redis is told and keeps",
          "[redis][S21]") {
  if (SkipWithoutRedis()) return;
  const std::string key = "sk-QzXw7RtY2uIoP9aSdFgH4jKlM6nBvC";
  const bool clear_names = GENERATE(false, true);
  RedisServer server({}, true);
  RawConnection monitor(testing::ConnectTo(server.port()));
  std::string seen;
  monitor.Write("MONITOR\r\n");
  while (seen.find("+OK") == seen.npos) REQUIRE(monitor.ReadSome(seen));

  RedisOptions options = Options(server.url());
  options.secret = kPassword;
  options.clear_names = clear_names;
  RedisExchange exchange(options);
  FleetAsk ask = Ask(1, 2);
  ask.scopes[0].scope = exchange.NameOf("scope", "model-of-ours");
  ask.scopes[0].facts[0].group = exchange.NameOf("key", key);
  ask.scopes[0].facts[1].group = exchange.NameOf("group", "team-seven");
  REQUIRE(exchange.Send(ask).has_value());
  REQUIRE(exchange.Send(ask).has_value());
  std::string kept = server.Say({"DUMP", kHash}) + server.Say({"HKEYS", kHash});
  server.Say({"ECHO", "the end"});
  while (seen.find("the end") == seen.npos) REQUIRE(monitor.ReadSome(seen));

  for (const std::string* text : {&seen, &kept}) {
    CHECK_FALSE(FindLeak(*text, key).has_value());
    CHECK_FALSE(FindLeak(*text, kPassword).has_value());
    CHECK((text->find("model-of-ours") != text->npos) == clear_names);
    CHECK((text->find("team-seven") != text->npos) == clear_names);
  }
  // Of all commands these alone.
  for (const char* command : {"KEYS", "SCAN", "HGETALL", "SUBSCRIBE", "GET"})
    CHECK(seen.find(fmt::format("\"{}\"", command)) == seen.npos);
  CHECK(kept.find(ask.scopes[0].facts[0].group) != kept.npos);
}

// --- Sentinels ---

std::string Bulk(std::string_view text) {
  return fmt::format("${}\r\n{}\r\n", text.size(), text);
}
// The doubles that a text lists, as a reply of the ledger.
std::string Numbers(const std::string& text) {
  internal::DoubleWriter writer;
  std::istringstream words(text);
  for (std::string word; words >> word;)
    writer << std::strtod(word.c_str(), nullptr);
  return Bulk(writer.Take());
}
// The reply to get-master-addr-by-name.
std::string MasterAt(int port) {
  return "*2\r\n" + Bulk("127.0.0.1") + Bulk(std::to_string(port));
}

// Answers each of its commands by what `answer` says. They are small, and come
// as one.
RawServer::Script Answering(std::function<std::string()> answer) {
  return [answer = std::move(answer)](RawConnection& peer) {
    std::string command;
    while (peer.ReadSome(command) && peer.Write(answer())) command.clear();
  };
}

TEST_CASE("Sentinels tell where the master is, each time that it is lost",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer one({}, true);
  RedisServer two({}, true);
  std::atomic<int> master = one.port();
  RefusingPort gone;
  RawServer sentinel(Answering([&] { return MasterAt(master); }));
  {
    RedisOptions options = Options("redis://nowhere.invalid/0");
    options.sentinels = {fmt::format("127.0.0.1:{}", gone.port()),
                         fmt::format("127.0.0.1:{}", sentinel.port())};
    RedisExchange exchange(options);
    const auto reply = exchange.Send(Ask());
    INFO(exchange.error());
    REQUIRE(reply.has_value());
    CHECK(one.Say({"EXISTS", kHash}) == "1");
    master = two.port();
    one.Say({"REPLICAOF", "127.0.0.1", std::to_string(two.port())});
    CheckRefusal(exchange, "READONLY");
    CHECK(exchange.Send(Ask()).has_value());
    CHECK(two.Say({"EXISTS", kHash}) == "1");
  }
}

TEST_CASE("Sentinels that know nothing are an error", "[redis]") {
  const std::string answer = GENERATE(
      std::string("*-1\r\n"), std::string("$-1\r\n"),
      std::string("-ERR no\r\n"), std::string("*2\r\n$1\r\nh\r\n$1\r\nx\r\n"),
      std::string("*2\r\n$3\r\na b\r\n$1\r\n1\r\n"),
      std::string("*2\r\n:1\r\n:2\r\n"), std::string("*1000000000\r\n"),
      std::string("*1\r\n*1\r\n*1\r\n:1\r\n"));
  RawServer sentinel(Answering([&] { return std::string(answer); }));
  RedisOptions options = Options("redis://nowhere.invalid");
  options.sentinels = {fmt::format("127.0.0.1:{}", sentinel.port())};
  RedisExchange exchange(options);
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring("Sentinel"));
}

TEST_CASE("a node of a Cluster directs to the one that has the pool",
          "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server({}, true);
  const std::string host = GENERATE("127.0.0.1", "");
  std::atomic<int> port = server.port();
  RawServer other(Answering(
      [&] { return fmt::format("-MOVED 3999 {}:{}\r\n", host, port); }));
  RedisExchange exchange(Options(Local(other.port())));
  CheckRefusal(exchange, "MOVED");
  CHECK(TotalOf(exchange.Send(Ask(1))) == 1);
  CHECK(TotalOf(exchange.Send(Ask(1))) == 2);
  // That one is lost: the first is asked again.
  server.Kill();
  CheckRefusal(exchange, "MOVED");
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring("refused"));
  CheckRefusal(exchange, "MOVED");
}

// --- What is no Redis, or lies ---

TEST_CASE("an error by which another server is to be asked ends the connection",
          "[redis]") {
  const std::pair<std::string, bool> cases[] = {
      {"LOADING Redis is loading the dataset in memory", false},
      {"READONLY You can't write against a read only replica.", false},
      {"MASTERDOWN Link with MASTER is down", false},
      {"CLUSTERDOWN The cluster is down", false},
      {"TRYAGAIN Multiple keys request during rehashing of slot", false},
      {"OOM command not allowed when used memory > 'maxmemory'.", true},
      {"NOPERM this user has no permissions", true},
      {"WRONGTYPE Operation against a key", true},
      {"MISCONF Redis is configured to save RDB snapshots", true},
      {"ERR something new", true},
      // As Redis 6 has those of scripts.
      {"ERR Error running script (call to f_0): @user_script:1: -READONLY You "
       "can't write",
       false},
      {"ERR Error running script (call to f_0): @user_script:1: @user_script: "
       "1: -OOM command not allowed",
       true},
  };
  for (const auto& [text, keeps] : cases) {
    INFO(text);
    std::atomic<int> connections = 0;
    RawServer server([&, &error = text](RawConnection& peer) {
      ++connections;
      Answering([&] { return "-" + error + "\r\n"; })(peer);
    });
    RedisExchange exchange(Options(Local(server.port())));
    CHECK_FALSE(exchange.Send(Ask()).has_value());
    CHECK_FALSE(exchange.error().empty());
    CHECK_FALSE(exchange.Send(Ask()).has_value());
    CHECK(connections == (keeps ? 1 : 2));
  }
}

TEST_CASE("an answer of no ledger is none, and ends the connection",
          "[redis]") {
  const std::string zeros = " 1 0 0 0 0 0 0 60 1 30 0 0 0 0 ";
  const std::string answers[] = {
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      "\r\n\r\n",
      std::string(64, '\0'),
      ":1\r\n",
      "+OK\r\n",
      "$-1\r\n",
      "$-7\r\n",
      "$0\r\n\r\n",
      "*0\r\n",
      "*-1\r\n",
      "*1\r\n:1\r\n",
      "*1000000000\r\n",
      "*2147483647\r\n",
      "*99999999999999999999\r\n",
      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
      "$99999999999999999999\r\n",
      "%1\r\n+a\r\n+b\r\n",
      ">1\r\n+a\r\n",
      Bulk("garbage"),
      Numbers("0 1 0"),
      Numbers("0 1 0 0 0 0 -1 0"),
      Numbers("0 1 0 0 0 0 -1 0" + zeros + "1 1 -5 0"),
      Numbers("0 1 0 0 0 0 -1 0" + zeros + "1 1 inf 0"),
      Numbers("0 1 0 0 0 0 -1 0" + zeros + "1 1 nan 0"),
      Numbers("0 1 0 0 0 0 -1 0" + zeros + "1 1000000 0 0"),
      Numbers("0 1 0 0 0 0 -1 0" + zeros + "0 0"),
      // One that answers, and one that nobody asked for.
      Numbers("0 1 0 0 0 0 -1 0" + zeros + "0") +
          Numbers("0 1 0 0 0 0 -1 0" + zeros + "0"),
  };
  for (const std::string& answer : answers) {
    INFO(answer);
    std::atomic<int> connections = 0;
    RawServer server([&](RawConnection& peer) {
      ++connections;
      Answering([&] { return answer; })(peer);
    });
    RedisExchange exchange(Options(Local(server.port()), 500ms));
    CHECK_FALSE(exchange.Send(Ask()).has_value());
    CHECK_FALSE(exchange.error().empty());
    CHECK_FALSE(exchange.Send(Ask()).has_value());
    CHECK(connections == 2);
  }
  // The same in order.
  RawServer server(
      Answering([&] { return Numbers("0 1 0 0 0 0 -1 0" + zeros + "0"); }));
  RedisExchange exchange(Options(Local(server.port())));
  CHECK(exchange.Send(Ask()).has_value());
}

TEST_CASE("an answer that does not end costs the timeout", "[redis]") {
  const RawServer::Script scripts[] = {
      // Nothing.
      [](RawConnection& peer) { peer.WaitUntilPeerLeaves(); },
      // A byte now and then: each in time, all of them not.
      [](RawConnection& peer) {
        std::string command;
        peer.ReadSome(command);
        peer.Drip("$1000\r\n" + std::string(1000, ' '), 20ms);
      },
      // More than any reply has.
      [](RawConnection& peer) {
        std::string command;
        peer.ReadSome(command);
        peer.Write("$500000000\r\n");
        while (peer.Write(std::string(65536, ' '))) {
        }
      },
      // The beginning.
      [](RawConnection& peer) {
        std::string command;
        peer.ReadSome(command);
        peer.Write("$1000\r\n0 1");
        peer.WaitUntilPeerLeaves();
      },
      // The end.
      [](RawConnection& peer) {
        std::string command;
        peer.ReadSome(command);
        peer.Reset();
      },
  };
  for (const RawServer::Script& script : scripts) {
    INFO("script " << &script - scripts);
    RawServer server(script);
    RedisExchange exchange(Options(Local(server.port()), 50ms));
    CHECK(TimeOf(exchange) < kSoon);
  }
}

TEST_CASE(
    "a server that says the password again does not bring it into an error",
    "[redis][S21]") {
  for (const std::string& answer :
       {"-ERR unknown command 'AUTH', with args beginning with: '" + kPassword +
            "'\r\n",
        std::string("-ERR no\r\n"), "-" + kPassword + "\r\n",
        "+" + kPassword + "\r\n", "*1\r\n+" + kPassword + "\r\n",
        "-OOM " + kPassword + "\r\n", Bulk(kPassword), kPassword + "\r\n"}) {
    RawServer server(Answering([&, &text = answer] { return text; }));
    RedisOptions options = Options(Local(server.port()), 500ms);
    options.password = kPassword;
    RedisExchange exchange(options);
    CHECK_FALSE(exchange.Send(Ask()).has_value());
    CHECK_FALSE(exchange.error().empty());
    CHECK_FALSE(FindLeak(exchange.error(), kPassword).has_value());
  }
  // Later, too.
  std::atomic<int> commands = 0;
  RawServer server(Answering([&] {
    return commands++ == 0 ? std::string("+OK\r\n")
                           : "-ERR I know " + kPassword + "\r\n";
  }));
  RedisOptions options = Options(Local(server.port()));
  options.password = kPassword;
  RedisExchange exchange(options);
  CHECK_FALSE(exchange.Send(Ask()).has_value());
  CHECK_THAT(exchange.error(), ContainsSubstring("I know ***"));
}

// --- The process ---

TEST_CASE("a write to a socket that was closed does not end the program",
          "[redis]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  close(ends[0]);
  sigset_t pipe_only;
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  sigset_t pending;
  sigset_t blocked;
  {
    const internal::NoSigpipe guard;
    CHECK(write(ends[1], "x", 1) == -1);
    CHECK(errno == EPIPE);
  }
  // And leaves nothing behind.
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 0);
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  CHECK(sigismember(&blocked, SIGPIPE) == 0);

  // What was pending before is not taken away.
  pthread_sigmask(SIG_BLOCK, &pipe_only, &blocked);
  CHECK(write(ends[1], "x", 1) == -1);
  {
    const internal::NoSigpipe guard;
    CHECK(write(ends[1], "x", 1) == -1);
  }
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 1);
  int taken = 0;
  sigwait(&pipe_only, &taken);
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  close(ends[1]);
}

TEST_CASE("a child does not speak on its parent's connection", "[redis]") {
  if (SkipWithoutRedis()) return;
  RedisServer server;
  RedisExchange exchange(Options(server.url()));
  REQUIRE(exchange.Send(Ask()).has_value());
  // Replies to messages of several shapes; one that is mixed up is none.
  const auto talk = [&](std::size_t groups) {
    for (int i = 0; i < 200; ++i) {
      if (!exchange.Send(Ask(0, groups))) return false;
    }
    return true;
  };
  const pid_t child = fork();
  if (child == 0) _exit(talk(3) ? 0 : 1);
  CHECK(talk(5));
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

// --- Options ---

std::string ErrorOf(const RedisOptions& options) {
  try {
    RedisExchange exchange(options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

TEST_CASE("options that cannot be used are refused by their name, at once",
          "[redis][S21]") {
  const struct {
    std::function<void(RedisOptions&)> change;
    std::string says;
  } cases[] = {
      {[](RedisOptions& o) { o.url = "cache:6379"; }, "scheme"},
      {[](RedisOptions& o) { o.pool = ""; }, "pool"},
      {[](RedisOptions& o) { o.pool = "a}b"; }, "pool"},
      {[](RedisOptions& o) { o.pool = "a b"; }, "pool"},
      {[](RedisOptions& o) { o.pool = std::string(65, 'a'); }, "pool"},
      {[](RedisOptions& o) { o.password = {}, o.username = "u"; },
       "without a password"},
      {[](RedisOptions& o) {
         o.sentinels = {"a:1", ":1"};
       },
       "number 2"},
      {[](RedisOptions& o) { o.sentinels = {"a"}, o.master = ""; }, "master"},
      {[](RedisOptions& o) { o.timeout = 0ms; }, "timeout"},
      {[](RedisOptions& o) { o.timeout = 61s; }, "timeout"},
      {[](RedisOptions& o) { o.ttl = 59s; }, "ttl"},
      {[](RedisOptions& o) { o.ttl = std::chrono::seconds::max(); }, "ttl"},
  };
  RedisOptions usable = Options("redis://cache");
  usable.password = kPassword;
  CHECK(ErrorOf(usable).empty());
  for (const auto& [change, says] : cases) {
    RedisOptions options = usable;
    change(options);
    const std::string error = ErrorOf(options);
    CHECK_THAT(error, ContainsSubstring(says));
    CHECK_FALSE(FindLeak(error, kPassword).has_value());
  }
  usable.pool = std::string(64, 'a');
  CHECK(ErrorOf(usable).empty());
}

TEST_CASE("rediss:// is never spoken without TLS", "[redis]") {
  const std::string error = ErrorOf(Options("rediss://cache"));
  if (internal::RedisConnection::kHasTls) {
    CHECK(error.empty());
  } else {
    CHECK_THAT(error, ContainsSubstring("TLS"));
  }
}

TEST_CASE("a pool without a secret is warned of", "[redis]") {
  RedisOptions options = Options("redis://cache");
  CHECK(RedisExchange(options).warning().empty());
  options.secret = {};
  CHECK_THAT(RedisExchange(options).warning(), ContainsSubstring("no secret"));
}

}  // namespace
}  // namespace keyrotator::redis_exchange_test
