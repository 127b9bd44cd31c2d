#include "keyrotator/openai/failover.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <semaphore>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/openai/classify.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/rotator.h"

namespace keyrotator::openai_failover_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using testing::Letters;
using testing::Row;
using Pool = KeyRotator<RoundRobin, ManualClock>;
using TheFailover = Failover<Pool, OpenAIClassifier>;

// What comes back for one send.
struct Answer {
  HttpResponse response = {};
  std::optional<TransportError> error =
      {};  // after what there is of `response`
  nanoseconds took{0};
  std::size_t piece = 7;  // how many bytes arrive at a time
};

Answer Status(int status, Headers headers = {}, std::string body = {}) {
  return {.response = {status, std::move(headers), std::move(body)}};
}

Answer Ok() { return Status(200, {}, R"({"choices": []})"); }
Answer Limited(std::string seconds) {
  return Status(429, {{"Retry-After", std::move(seconds)}});
}
Answer NoQuota(Headers headers = {}) {
  return Status(429, std::move(headers),
                R"({"error": {"code": "insufficient_quota"}})");
}
Answer Broken(TransportError error) { return {.error = std::move(error)}; }
Answer Lost(bool maybe_sent = true) {
  return Broken({.message = "connection reset", .maybe_sent = maybe_sent});
}
Answer Stream(std::string body,
              Headers headers = {{"Content-Type", "text/event-stream"}}) {
  return Status(200, std::move(headers), std::move(body));
}
Answer After(nanoseconds took, Answer answer) {
  answer.took = took;
  return answer;
}
Answer CutOff(Answer answer) {
  answer.error = TransportError{.message = "cut off"};
  return answer;
}

constexpr std::string_view kHello =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"},"
    "\"finish_reason\":null}]}\n\n";
constexpr std::string_view kFinish =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},"
    "\"finish_reason\":\"stop\"}]}\n\n";
constexpr std::string_view kDone = "data: [DONE]\n\n";
constexpr std::string_view kStreamLimited =
    "data: {\"error\":{\"code\":\"rate_limit_exceeded\","
    "\"message\":\"Please try again in 20s.\"}}\n\n";
constexpr std::string_view kStreamOverloaded =
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
    "\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
constexpr std::string_view kStreamNoKey =
    "data: {\"error\":{\"code\":\"invalid_api_key\"}}\n\n";

std::string Text(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text += part;
  return text;
}

// A pool on a clock that moves as it is waited on, and answers by the script.
struct Bench {
  explicit Bench(std::string_view names, RotatorOptions rotator_options = {})
      : Bench(Letters(names), std::move(rotator_options)) {}
  explicit Bench(const ApiKeys& keys, RotatorOptions rotator_options = {})
      : pool(keys, std::move(rotator_options), RoundRobin{}, clock) {
    clock.AdvanceWhenWaiting();
    options.random = [] { return 0.0; };
    options.wall_clock = [] {
      return std::chrono::system_clock::time_point(1'700'000'000s);
    };
  }

  // The answers of a key, in order; the last one stays.
  std::map<std::string, std::deque<Answer>> script;
  FailoverRequest request;
  RetryOptions options;
  ManualClock clock;
  Pool pool;

  std::vector<std::string> events;  // that the sink was given
  std::function<bool(const SseEvent&)> sink = [](const SseEvent&) {
    return true;
  };
  std::function<void()> on_wait = [] {};
  std::function<void()> on_send = [] {};
  ManualClock::time_point start;
  nanoseconds waited{0};
  int sends = 0;

  TheFailover Make() {
    start = clock.now();
    return TheFailover(pool, OpenAIClassifier{}, request, options);
  }

  Answer Next(const std::string& key) {
    std::deque<Answer>& answers = script[key];
    if (answers.empty()) return Ok();
    Answer answer = answers.front();
    if (answers.size() > 1) answers.pop_front();
    return answer;
  }

  template <class F>
  void Deliver(F& failover, const Answer& answer) {
    const auto on_event = [this](const SseEvent& event) {
      events.emplace_back(event.data);
      return sink(event);
    };
    clock.Advance(answer.took);
    const TransportError* error = answer.error ? &*answer.error : nullptr;
    if (answer.response.status != 0) {
      failover.OnHead(answer.response.status, answer.response.headers);
      std::string_view rest = answer.response.body;
      while (!rest.empty()) {
        // A block of its own, so that a view that is kept shows under ASan.
        const std::string piece(rest.substr(0, answer.piece));
        rest.remove_prefix(piece.size());
        if (failover.OnBody(piece, on_event)) continue;
        error = nullptr;
        break;
      }
    }
    failover.OnEnd(on_event, error);
  }

  template <class F>
  void Drive(F& failover) {
    for (auto step = failover.Next(); step.what != Do::kDone;
         step = failover.Next()) {
      REQUIRE(step.what != Do::kInFlight);
      const auto before = clock.now();
      if (step.what == Do::kSend) {
        ++sends;
        const std::string key(failover.key().name());
        on_send();
        Deliver(failover, Next(key));
      } else {
        on_wait();
        if (step.for_key) {
          failover.Offer(pool.PickUntil(step.until, failover.hint()));
        } else {
          clock.AdvanceTo(step.until);
        }
        waited += clock.now() - before;
      }
    }
  }

  // The sends, each as key, status and when: "A429@0 B200@0.5".
  template <class F>
  static std::string Trail(const F& failover) {
    std::string text;
    for (const Attempt& attempt : failover.trail()) {
      text += fmt::format("{}{}{}@{:.6g}", text.empty() ? "" : " ", attempt.key,
                          attempt.status,
                          std::chrono::duration<double>(attempt.at).count());
    }
    return text;
  }
};

const RotatorOptions kWithoutBudget = {
    .retry_budget = {.ratio = std::numeric_limits<double>::infinity()}};
// Nothing but what `sends` that did not fail are worth: half a retry each.
const RotatorOptions kWithoutFloor = {
    .retry_budget = {.ratio = 0.5, .per_second = 0}};

// Drives one request to its end.
std::string Run(Bench& bench, TheFailover& failover) {
  bench.Drive(failover);
  return Bench::Trail(failover);
}

KeyState StateOf(const Bench& bench, std::string_view name) {
  return Row(bench.pool, name).state;
}

// --- Rotation ---

TEST_CASE("a key that is limited is left for another at once",
          "[failover][S6][S10]") {
  Bench bench("AB");
  bench.script["A"] = {Limited("3600")};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B200@0");
  CHECK(failover.outcome() == Outcome::kOk);
  CHECK(failover.message().empty());
  CHECK_FALSE(failover.retry_at());
  CHECK(bench.waited == 0s);
  CHECK(Row(bench.pool, "A").returns_in == 3600s);
  CHECK(Row(bench.pool, "B").successes == 1);
}

TEST_CASE("a key that is refused is left for another, and the right one fails",
          "[failover][S1][S2]") {
  Bench bench("ABC");
  bench.script["A"] = {Limited("20")};
  bench.script["B"] = {Status(401)};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B401@0 C200@0");
  CHECK(StateOf(bench, "A") == KeyState::kCooling);
  CHECK(StateOf(bench, "B") == KeyState::kFailed);
  CHECK(StateOf(bench, "C") == KeyState::kAvailable);
}

TEST_CASE("going on to another key uses no retry, however many there are",
          "[failover][S11][P16]") {
  Bench bench("ABCDEFGH");
  for (const char* key : {"A", "B", "C"}) bench.script[key] = {Limited("60")};
  for (const char* key : {"D", "E"}) bench.script[key] = {Status(401)};
  bench.script["F"] = {NoQuota()};
  bench.script["G"] = {Status(403)};
  bench.script["H"] = {Status(503), Status(503), Ok()};
  bench.options.max_retries = 2;
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) ==
        "A429@0 B429@0 C429@0 D401@0 E401@0 F429@0 G403@0 H503@0 H503@0.5 "
        "H200@1.5");
  CHECK(failover.outcome() == Outcome::kOk);
}

TEST_CASE(
    "a key without quota cools whole for quota_cooldown, not for its hint",
    "[failover]") {
  Bench bench("AB");
  bench.request.scope = "gpt-4o";
  bench.options.quota_cooldown = 30min;
  bench.script["A"] = {NoQuota({{"Retry-After", "2"}})};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B200@0");
  CHECK(Row(bench.pool, "A").returns_in == 30min);
  CHECK(bench.pool.Available({.scope = "another model"}) == 1);
}

TEST_CASE("a limit cools the key in its scope alone", "[failover]") {
  Bench bench("AB");
  bench.request.scope = "gpt-4o";
  bench.script["A"] = {Limited("20")};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B200@0");
  CHECK(bench.pool.Available({.scope = "gpt-4o"}) == 1);
  CHECK(bench.pool.Available({.scope = "o3"}) == 2);
}

TEST_CASE("a hint that is garbage never means at once", "[failover][S8]") {
  const std::string hint =
      GENERATE("0", "-5", "soon", "nan", "", "Thu, 01 Jan 1970 00:00:00 GMT");
  CAPTURE(hint);
  Bench bench("A");
  bench.script["A"] = {Limited(hint), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 A200@1");
}

TEST_CASE("a hint beyond all numbers cools the key and ends the request",
          "[failover][S8]") {
  const std::string hint =
      GENERATE("9223372037", "18446744074", "1e99", "99999999999999999999999");
  CAPTURE(hint);
  Bench bench("A");
  bench.script["A"] = {Limited(hint), Ok()};
  bench.options.deadline = 500ms;
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0");
  CHECK(failover.outcome() == Outcome::kAllCooling);
}

TEST_CASE("a key that is all the pool has is waited for as long as it says",
          "[failover][S7]") {
  Bench bench("A");
  bench.script["A"] = {Limited("1.5"), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 A200@1.5");
}

TEST_CASE("of keys that cool the first to return is waited for",
          "[failover][S7]") {
  Bench bench("ABC");
  bench.script["A"] = {Limited("9"), Ok()};
  bench.script["B"] = {Limited("3"), Ok()};
  bench.script["C"] = {Limited("6"), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B429@0 C429@0 B200@3");
}

TEST_CASE("a key that cools while it is in use is not taken for a failed one",
          "[failover]") {
  ManualClock clock;
  KeyRotator rotator({ApiKey("sk-a", {.name = "A", .max_in_flight = 1})}, {},
                     RoundRobin{}, clock);
  const auto lease = rotator.Pick({.scope = "m"});
  rotator.MarkRateLimited(*lease, 1s);
  Failover failover(rotator, OpenAIClassifier(), {.scope = "m"});
  const auto step = failover.Next();
  CHECK(step.what == Do::kWait);
  CHECK(step.for_key);
}

TEST_CASE("one key that is limited without a hint is tried after 1 s, 2 s, 4 s",
          "[failover][T16]") {
  Bench bench("A");
  bench.script["A"] = {Status(429), Status(429), Status(429), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 A429@1 A429@3 A200@7");
  CHECK(failover.outcome() == Outcome::kOk);
}

TEST_CASE(
    "a key that is spent for a day, as nobody says, is asked a hundred times "
    "in it",
    "[failover]") {
  Bench bench("A");
  bench.options.deadline = 30s;
  SECTION("by the learned pace") {}
  SECTION("by doubling") { bench.options.guess.learn_pace = false; }
  bench.script["A"] = {Status(429)};
  const auto run_until = [&](nanoseconds end) {
    const auto begin = bench.clock.now();
    while (bench.clock.now() < begin + end) {
      bench.clock.Advance(5s);
      TheFailover failover = bench.Make();
      bench.Drive(failover);
      if (failover.outcome() == Outcome::kOk) return true;
    }
    return false;
  };
  CHECK_FALSE(run_until(24h));
  CHECK(bench.sends > 90);
  CHECK(bench.sends < 130);
  // Its day is over.
  bench.script["A"] = {Ok()};
  CHECK(run_until(15min));
}

TEST_CASE("all keys cool for longer than the request may last: it ends now",
          "[failover][S6]") {
  Bench bench("AB");
  bench.script["A"] = {Limited("3600")};
  bench.script["B"] = {Limited("7200")};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B429@0");
  CHECK(bench.waited == 0s);
  CHECK(failover.outcome() == Outcome::kAllCooling);
  CHECK(failover.retry_at() == bench.start + 3600s);
  CHECK(failover.message().find("3600.0 s") != std::string::npos);
  CHECK(failover.response().status == 429);
  CHECK(failover.verdict().kind == VerdictKind::kRateLimited);
}

// --- Permission ---

TEST_CASE("a key without permission rests once another serves the same request",
          "[failover]") {
  Bench bench("AB");
  bench.request.scope = "gpt-5";
  bench.script["A"] = {Status(403)};
  {
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A403@0 B200@0");
  }
  for (int i = 0; i < 4; ++i) {  // no second round trip from now on
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "B200@0");
  }
  bench.request.scope = "gpt-4o";  // other models go on
  bench.script["A"] = {Ok()};
  {
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
  }
  bench.request.scope = "gpt-5";
  bench.clock.Advance(bench.options.permission_cooldown + 1ns);
  TheFailover failover = bench.Make();  // one tries it
  CHECK(Run(bench, failover) == "A200@0");
}

TEST_CASE(
    "an unknown 400 that names the account is the key's if another serves",
    "[failover]") {
  Bench bench("AB");
  bench.request.scope = "m";
  bench.script["A"] = {
      Status(400, {}, R"({"error": {"code": "AccountFrozenByOwner"}})")};
  for (const char* expected : {"A400@0 B200@0", "B200@0"}) {
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == expected);
  }
  // Another word: the request is at fault, and no key rests.
  Bench other("AB");
  other.script["A"] = {
      Status(400, {}, R"({"error": {"code": "MessageFrozenByOwner"}})")};
  TheFailover failover = other.Make();
  CHECK(Run(other, failover) == "A400@0");
  CHECK(failover.outcome() == Outcome::kCallerError);
}

TEST_CASE("what no key has permission for is remembered of none",
          "[failover]") {
  Bench bench("AB");
  bench.request.scope = "gpt-5";
  bench.script["A"] = {Status(403)};
  bench.script["B"] = {Status(403)};
  for (int i = 0; i < 2; ++i) {
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover).find("A403@0") != std::string::npos);
    CHECK(failover.outcome() == Outcome::kDenied);
  }
  for (const KeyStatus& row : bench.pool.Snapshot()) CHECK(row.scopes.empty());
}

TEST_CASE("each key is asked for permission once, and then it is denied",
          "[failover]") {
  Bench bench("ABC");
  bench.request.scope = "o3";
  for (const char* key : {"A", "B", "C"}) {
    bench.script[key] = {
        Status(403, {}, R"({"error": {"message": "no access"}})")};
  }
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A403@0 B403@0 C403@0");
  CHECK(failover.outcome() == Outcome::kDenied);
  CHECK(failover.message().find("o3") != std::string::npos);
  CHECK(failover.message().find("no access") != std::string::npos);
  CHECK(failover.response().status == 403);
  CHECK_FALSE(failover.retry_at());
  CHECK(bench.pool.Available() == 3);
}

TEST_CASE("keys that cool are waited for after a key had no permission",
          "[failover]") {
  Bench bench("AB");
  bench.script["A"] = {Status(403)};
  bench.script["B"] = {Limited("5"), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A403@0 B429@0 B200@5");
  CHECK(failover.outcome() == Outcome::kOk);
}

// --- Faults of the request ---

TEST_CASE("a request that is at fault is returned at once and marks no key",
          "[failover][P5][P14][T17]") {
  const int status = GENERATE(400, 404, 413, 422);
  const std::string message =
      GENERATE("max_tokens must be at most 429",
               "cannot parse 'Incorrect API key provided', 'insufficient "
               "balance' and 'rate limit exceeded'");
  Bench bench("ABC");
  const Answer answer =
      Status(status, {}, R"({"error": {"message": ")" + message + "\"}}");
  for (const char* key : {"A", "B", "C"}) bench.script[key] = {answer};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == fmt::format("A{}@0", status));
  CHECK(failover.outcome() == Outcome::kCallerError);
  CHECK(failover.message().find(message) != std::string::npos);
  CHECK(failover.response().body == answer.response.body);
  CHECK(bench.pool.Available() == 3);
}

TEST_CASE("a 200 that holds an error is no success", "[failover][S16]") {
  Bench bench("AB");
  bench.script["A"] = {
      Status(200, {}, R"({"error": {"code": "invalid_api_key"}})")};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0 B200@0");
  CHECK(StateOf(bench, "A") == KeyState::kFailed);
  CHECK(Row(bench.pool, "A").successes == 0);
}

// --- Retries ---

TEST_CASE("an overloaded provider is asked again with the same key",
          "[failover][S9]") {
  const int status = GENERATE(500, 502, 503, 529, 408, 409);
  Bench bench("ABC");
  bench.script["A"] = {Status(status)};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) ==
        fmt::format("A{0}@0 A{0}@0.5 A{0}@1.5", status));
  CHECK(failover.outcome() == Outcome::kUnavailable);
  CHECK(failover.response().status == status);
  CHECK(failover.message().find("3 attempts") != std::string::npos);
  CHECK(bench.pool.Available() == 3);
}

TEST_CASE("a retry stays with its key, however short its wait is",
          "[failover][S9]") {
  const int longest = GENERATE(1, 8);
  Bench bench("AB");
  bench.script["A"] = {Status(500)};
  // Equal waits, shortened by chance.
  bench.options.initial_backoff = 1s;
  bench.options.max_backoff = std::chrono::seconds(longest);
  bench.options.random = [] { return 0.9; };
  TheFailover failover = bench.Make();
  Run(bench, failover);
  REQUIRE(failover.trail().size() == 3);
  for (const Attempt& attempt : failover.trail()) CHECK(attempt.key == "A");
}

TEST_CASE("a lost connection is tried again with the same key",
          "[failover][S15]") {
  using Kind = TransportError::Kind;
  const Kind kind =
      GENERATE(Kind::kLost, Kind::kConnect, Kind::kTimeout, Kind::kTls);
  Bench bench("AB");
  bench.script["A"] = {Broken({.kind = kind, .message = "gone"}), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A0@0 A200@0.5");
  CHECK(failover.trail()[0].verdict == VerdictKind::kTransient);
}

TEST_CASE("a URL that cannot be used is the caller's error", "[failover]") {
  Bench bench("AB");
  bench.script["A"] = {Broken({.kind = TransportError::Kind::kBadUrl,
                               .message = "bad URL",
                               .maybe_sent = false})};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A0@0");
  CHECK(failover.outcome() == Outcome::kCallerError);
  CHECK(failover.message().find("bad URL") != std::string::npos);
}

TEST_CASE("the backoff doubles up to 8 s, less up to a quarter",
          "[failover][S8]") {
  Bench bench("A", kWithoutBudget);
  bench.script["A"] = {Status(503)};
  bench.options.max_retries = 6;
  SECTION("none off") {
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) ==
          "A503@0 A503@0.5 A503@1.5 A503@3.5 A503@7.5 A503@15.5 A503@23.5");
  }
  SECTION("a quarter off") {
    // The rest of a key used twice or more is not shortened.
    bench.options.random = [] { return 1.0; };
    bench.options.max_retries = 1;
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A503@0 A503@0.375");
  }
  SECTION("far beyond what a number holds") {
    bench.options.max_retries = 2000;
    bench.options.max_backoff = std::chrono::hours::max();
    bench.options.deadline = std::chrono::hours::max();
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    CHECK(failover.outcome() == Outcome::kUnavailable);
    nanoseconds last{0};
    for (const Attempt& attempt : failover.trail()) {
      CHECK(attempt.at >= last);
      last = attempt.at;
    }
    CHECK(failover.trail().size() < 64);
  }
  SECTION("none at all") {
    bench.options.initial_backoff = 0s;
    bench.options.max_retries = 2000;
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    CHECK(failover.trail().size() == 2001);
    CHECK(bench.waited == 0s);
  }
}

TEST_CASE("without a source of its own the jitter stays within a quarter",
          "[failover][S18]") {
  Bench bench("A", kWithoutBudget);
  bench.options.random = {};
  bench.script["A"] = {Status(503), Ok()};
  std::set<nanoseconds> seen;
  for (int i = 0; i < 50; ++i) {
    bench.script["A"] = {Status(503), Ok()};
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    REQUIRE(failover.trail().size() == 2);
    const nanoseconds at = failover.trail()[1].at;
    CHECK(at > 374ms);
    CHECK(at <= 500ms);
    seen.insert(at);
  }
  CHECK(seen.size() > 10);
}

TEST_CASE("a hint of an overloaded provider replaces the backoff",
          "[failover]") {
  const auto [header, value, at] =
      GENERATE(table<std::string, std::string, std::string>(
          {{"Retry-After", "7", "7"},
           {"retry-after-ms", "100", "0.1"},
           {"Retry-After", "0", "0.5"},
           {"Retry-After", "-3", "0.5"},
           {"Retry-After", "Tue, 14 Nov 2023 22:13:40 GMT", "20"}}));
  CAPTURE(header, value);
  Bench bench("A");
  bench.options.random = [] { return 0.0; };
  bench.script["A"] = {Status(503, {{header, value}}), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A503@0 A200@" + at);
}

TEST_CASE("a hint of an overloaded provider beyond the deadline ends it now",
          "[failover][S6]") {
  Bench bench("AB");
  bench.script["A"] = {Status(503, {{"Retry-After", "3600"}})};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A503@0");
  CHECK(bench.waited == 0s);
  CHECK(failover.outcome() == Outcome::kUnavailable);
  CHECK(failover.retry_at() == bench.start + 3600s);
  CHECK(bench.pool.Available() == 2);
}

TEST_CASE("x-should-retry: false forbids another send with the key",
          "[failover]") {
  Bench bench("AB");
  const Headers forbid = {{"x-should-retry", "false"}, {"Retry-After", "2"}};
  SECTION("none after an overload") {
    bench.script["A"] = {Status(503, forbid)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A503@0");
    CHECK(failover.outcome() == Outcome::kUnavailable);
  }
  SECTION("another key after a limit, but not that one") {
    bench.script["A"] = {Status(429, forbid), Ok()};
    bench.script["B"] = {Limited("5"), Ok()};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0 B429@0 B200@5");
  }
  SECTION("no other key is there: not denied, but unavailable until it is") {
    bench.script["A"] = {Status(429, forbid)};
    bench.script["B"] = {Status(401)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0 B401@0");
    CHECK(failover.outcome() == Outcome::kUnavailable);
    CHECK(failover.retry_at() == bench.start + 2s);
  }
}

TEST_CASE("what may have been acted on is not repeated if that is not wanted",
          "[failover]") {
  Bench bench("AB");
  bench.options.retry_ambiguous = false;
  const auto [answer, repeated] =
      GENERATE(table<Answer, bool>({{Status(500), false},
                                    {Status(502), false},
                                    {Status(408), false},
                                    {Status(409), false},
                                    {Lost(true), false},
                                    {CutOff(Status(200, {}, "{\"cho")), false},
                                    {Lost(false), true},
                                    {Status(503), true},
                                    {Status(529), true},
                                    {Status(401), true},
                                    {Status(402), true},
                                    {Status(403), true},
                                    {Status(429), true}}));
  CAPTURE(answer.response.status);
  bench.script["A"] = {answer, Ok()};
  TheFailover failover = bench.Make();
  bench.Drive(failover);
  CHECK(failover.trail().size() == (repeated ? 2 : 1));
  CHECK(failover.outcome() ==
        (repeated ? Outcome::kOk : Outcome::kUnavailable));
}

// --- The budget of retries ---

TEST_CASE("a request that the budget cuts short says so",
          "[failover][budget]") {
  const Answer failure =
      GENERATE(Status(503), Status(529), Status(500), Lost());
  Bench bench("AB", kWithoutFloor);
  bench.script["A"] = {failure};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == fmt::format("A{}@0", failure.response.status));
  CHECK(failover.outcome() == Outcome::kUnavailable);
  CHECK(failover.over_budget());
  CHECK_THAT(failover.message(),
             testing::ContainsSubstring("in 1 attempt, and so many") &&
                 testing::ContainsSubstring("RotatorOptions::retry_budget"));
  CHECK(bench.pool.RefusedRetries() == 1);
  CHECK(bench.waited == 0s);
}

TEST_CASE("the budget is of all requests of the rotator",
          "[failover][budget]") {
  Bench bench("A", kWithoutFloor);
  const auto fails = [&] {
    bench.script["A"] = {Status(503), Ok()};
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    CHECK(failover.over_budget() == (failover.outcome() != Outcome::kOk));
    return failover.over_budget();
  };
  CHECK(fails());
  bench.script["A"] = {Ok()};
  for (int i = 0; i < 4; ++i) {
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
  }
  // Worth two retries, and these are served: worth another.
  CHECK_FALSE(fails());
  CHECK_FALSE(fails());
  CHECK_FALSE(fails());
  CHECK(fails());
  // What is long gone is worth nothing.
  bench.clock.Advance(1h);
  CHECK(fails());
}

TEST_CASE("a lone failure is retried to the end, whatever came before",
          "[failover][budget]") {
  Bench bench("A");
  for (int i = 0; i < 10; ++i) {
    bench.script["A"] = {Status(503)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A503@0 A503@0.5 A503@1.5");
    CHECK_FALSE(failover.over_budget());
    CHECK(failover.message().find("budget") == std::string::npos);
    bench.clock.Advance(5s);
  }
  CHECK(bench.pool.RefusedRetries() == 0);
}

TEST_CASE("going on to another key draws nothing from the budget",
          "[failover][budget][P16]") {
  const Answer verdict =
      GENERATE(Status(401), Limited("20"), NoQuota(), Status(403));
  Bench bench("ABC", {.retry_budget = {.ratio = 0, .per_second = 0}});
  bench.script["A"] = {verdict};
  bench.script["B"] = {verdict};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) ==
        fmt::format("A{0}@0 B{0}@0 C200@0", verdict.response.status));
  CHECK(bench.pool.RefusedRetries() == 0);
}

TEST_CASE("what would not be sent again anyway is not the budget's doing",
          "[failover][budget]") {
  Bench bench("A", kWithoutFloor);
  Answer failure = Status(503);
  SECTION("no retry is left") { bench.options.max_retries = 0; }
  SECTION("the provider forbids it") {
    failure = Status(503, {{"x-should-retry", "false"}});
  }
  SECTION("it may have been acted on") {
    bench.options.retry_ambiguous = false;
    failure = Status(500);
  }
  SECTION("there is no time for it") { bench.options.deadline = 100ms; }
  SECTION("the provider wants more time than there is") {
    failure = Status(503, {{"Retry-After", "3600"}});
  }
  bench.script["A"] = {failure};
  TheFailover failover = bench.Make();
  bench.Drive(failover);
  CHECK(failover.outcome() == Outcome::kUnavailable);
  CHECK_FALSE(failover.over_budget());
  CHECK(bench.pool.RefusedRetries() == 0);
}

TEST_CASE("a stream before its first event draws on the budget, too",
          "[failover][budget]") {
  Bench bench("A", kWithoutFloor);
  bench.request.stream = true;
  bench.script["A"] = {CutOff(Stream(": hello\n\n"))};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A0@0");
  CHECK(failover.over_budget());
  CHECK(bench.events.empty());
}

TEST_CASE("in an outage each request is sent once, and again when it is over",
          "[failover][budget]") {
  Bench bench("AB");
  const auto send_many = [&](int requests) {
    const int before = bench.sends;
    for (int i = 0; i < requests; ++i) {
      TheFailover failover = bench.Make();
      bench.Drive(failover);
    }
    return bench.sends - before;
  };
  // All at one time, for the sake of the figures: each retry at once.
  bench.options.initial_backoff = 0s;
  CHECK(send_many(1000) == 1000);
  bench.script["A"] = bench.script["B"] = {Status(503)};
  // Of 1,000 that did not fail there are 500, and 10 by the floor.
  CHECK(send_many(3000) == 3510);
  bench.clock.Advance(10s);
  CHECK(send_many(3000) == 3010);
  bench.script["A"] = bench.script["B"] = {Ok()};
  CHECK(send_many(100) == 100);
  bench.script["A"] = {Status(503), Ok()};
  CHECK(send_many(100) == 101);
}

TEST_CASE("no lease is held while a request waits", "[failover][T8]") {
  Bench bench({ApiKey("sk-a", {.name = "A", .max_in_flight = 1})});
  bench.script["A"] = {Status(503), Limited("2"), Ok()};
  int waits = 0;
  bench.on_wait = [&] {
    ++waits;
    CHECK(Row(bench.pool, "A").in_flight == 0);
  };
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A503@0 A429@0.5 A200@2.5");
  CHECK(waits == 2);
  CHECK(Row(bench.pool, "A").in_flight == 0);
}

TEST_CASE("a key that failed during the backoff is not used again",
          "[failover][T9]") {
  Bench bench("AB");
  bench.script["A"] = {Status(503)};
  bench.on_wait = [&] { bench.pool.MarkFailed("secret-A"); };
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A503@0 B200@0.5");
}

TEST_CASE("a retry counts only if something is sent", "[failover][T10]") {
  // The backoff is over, but the only key cools until after another's mark.
  Bench bench("A");
  bench.options.max_retries = 1;
  bench.script["A"] = {Status(503), Limited("2"), Ok()};
  bool marked = false;
  bench.on_wait = [&] {
    if (!std::exchange(marked, true))
      bench.pool.MarkRateLimited("secret-A", 3s);
  };
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A503@0 A429@3 A200@5");
  CHECK(failover.outcome() == Outcome::kOk);
}

TEST_CASE("the key to begin with is taken out of turn, and only to begin with",
          "[failover]") {
  Bench bench("ABC");
  bench.request.prefer = Row(bench.pool, "C").id;
  bench.script["C"] = {Status(401)};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "C401@0 A200@0");
}

// --- A storm of one request ---

TEST_CASE("a key used twice rests longer each time, whatever its hint says",
          "[failover]") {
  Bench bench("A");
  bench.script["A"] = {Status(429, {{"retry-after-ms", "1"}})};
  bench.options.deadline = 20s;
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) ==
        "A429@0 A429@0.001 A429@0.501 A429@1.501 A429@3.501 A429@7.501 "
        "A429@15.501");
  CHECK(failover.outcome() == Outcome::kAllCooling);
}

TEST_CASE("a key that has to rest does not make the request wait in vain",
          "[failover]") {
  Bench bench("A");
  SECTION("it failed") {
    bench.script["A"] = {Limited("1"), Status(401)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0 A401@1");
    CHECK(failover.outcome() == Outcome::kAllFailed);
  }
  SECTION("it cools for longer than the request may last") {
    bench.script["A"] = {Limited("1"), Limited("3600")};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0 A429@1");
    CHECK(failover.outcome() == Outcome::kAllCooling);
    CHECK(failover.retry_at() == bench.start + 3601s);
  }
  CHECK(bench.waited == 1s);
}

// --- The deadline ---

TEST_CASE("the first send needs no time left, others do", "[failover][T11]") {
  Bench bench("AB");
  bench.options.deadline = GENERATE(0s, -5s);
  bench.script["A"] = {Limited("3600")};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0");
  CHECK(failover.outcome() == Outcome::kDeadline);
  CHECK(Row(bench.pool, "A").returns_in == 3600s);
  CHECK_FALSE(failover.retry_at());
}

TEST_CASE("an answer after the deadline marks its key and ends the request",
          "[failover][T11]") {
  Bench bench("A");
  bench.options.deadline = 10s;
  const nanoseconds took = GENERATE(10s, 11s);
  bench.script["A"] = {After(took, Limited("30"))};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0");
  CHECK(failover.trail()[0].took == took);
  CHECK(failover.outcome() == Outcome::kDeadline);
  CHECK(failover.message().find("429") != std::string::npos);
  CHECK(failover.retry_at() == bench.start + took + 30s);
  CHECK(StateOf(bench, "A") == KeyState::kCooling);
}

TEST_CASE("a wait must end before the deadline", "[failover]") {
  Bench bench("A");
  bench.options.deadline = 5s;
  SECTION("for a key, at it") {
    bench.script["A"] = {Limited("5")};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0");
    CHECK(failover.outcome() == Outcome::kAllCooling);
  }
  SECTION("for a key, just before it") {
    bench.script["A"] = {Limited("4.999"), Ok()};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0 A200@4.999");
  }
  SECTION("a backoff, at it") {
    bench.script["A"] = {Status(503, {{"Retry-After", "5"}})};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A503@0");
    CHECK(failover.outcome() == Outcome::kUnavailable);
  }
  SECTION("a backoff, just before it") {
    bench.script["A"] = {Status(503, {{"Retry-After", "4.999"}}), Ok()};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A503@0 A200@4.999");
  }
  CHECK(bench.waited < 5s);
}

TEST_CASE("a key that comes at the deadline is too late", "[failover]") {
  Bench bench({ApiKey("sk-a", {.name = "A", .max_in_flight = 1})});
  bench.clock.AdvanceWhenWaiting(false);
  bench.options.deadline = 5s;
  std::optional<Lease> other = bench.pool.Pick();
  TheFailover failover = bench.Make();
  const auto step = failover.Next();
  REQUIRE(step.what == Do::kWait);
  CHECK(step.for_key);
  CHECK(step.until == bench.start + 5s);
  bench.clock.Advance(5s);
  other.reset();
  const bool offered = GENERATE(true, false);
  if (offered)
    failover.Offer(bench.pool.PickUntil(step.until, failover.hint()));
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.outcome() == (offered ? Outcome::kDeadline : Outcome::kBusy));
  CHECK(failover.trail().empty());
  CHECK(Row(bench.pool, "A").in_flight == 0);
}

// --- Nothing to send with ---

TEST_CASE("an empty pool is said to be empty", "[failover][P15]") {
  Bench bench("");
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover).empty());
  CHECK(failover.outcome() == Outcome::kNoKeys);
  CHECK(failover.response().status == 0);
  CHECK_FALSE(failover.message().empty());
  CHECK_FALSE(failover.retry_at());
}

TEST_CASE("when every key has failed it says so", "[failover]") {
  Bench bench("AB");
  bench.script["A"] = {Status(401)};
  bench.script["B"] = {Status(401)};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A401@0 B401@0");
  CHECK(failover.outcome() == Outcome::kAllFailed);
  CHECK(failover.response().status == 401);
  CHECK(failover.message().find("401") != std::string::npos);
  CHECK_FALSE(failover.retry_at());
}

TEST_CASE("keys in use are waited for until the deadline, then it was busy",
          "[failover]") {
  Bench bench({ApiKey("sk-a", {.name = "A", .max_in_flight = 1})});
  const std::optional<Lease> other = bench.pool.Pick();
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover).empty());
  CHECK(failover.outcome() == Outcome::kBusy);
  CHECK(bench.waited == 60s);
  CHECK_FALSE(failover.message().empty());
}

TEST_CASE("where no more may wait the request is told it is busy",
          "[failover]") {
  Bench bench("A");
  bench.pool.MarkRateLimited("secret-A", 5s);
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().for_key);
  failover.Offer(std::nullopt);  // as PickUntil answers above max_waiters
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.outcome() == Outcome::kBusy);
}

TEST_CASE("a policy that wants none of the keys does not make a caller spin",
          "[failover]") {
  ManualClock clock;
  const auto none = [](const AvailableKeys& keys, const PickHint&) {
    return keys.size();
  };
  KeyRotator pool({"sk-a"}, RotatorOptions{}, none, clock);
  Failover failover(pool, OpenAIClassifier{}, {}, {.deadline = 1s});
  const auto deadline = clock.now() + 1s;
  const auto step = failover.Next();
  REQUIRE(step.what == Do::kWait);
  CHECK(step.until == deadline);
  clock.AdvanceTo(step.until);
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.outcome() == Outcome::kBusy);
}

// --- An event loop ---

TEST_CASE("a loop waits for a key without a thread", "[failover]") {
  Bench bench("A");
  bench.clock.AdvanceWhenWaiting(false);
  bench.script["A"] = {Limited("3"), Ok()};
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().what == Do::kSend);
  bench.Deliver(failover, bench.Next("A"));
  const auto step = failover.Next();
  REQUIRE(step.what == Do::kWait);
  REQUIRE(step.for_key);
  CHECK(step.until == bench.start + 60s);
  const auto waiting = bench.pool.WhenUsable(
      failover.hint(), [&](Lease lease) { failover.Offer(std::move(lease)); });
  REQUIRE(waiting);
  CHECK(bench.pool.Poll() == bench.start + 3s);
  bench.clock.Advance(3s);
  CHECK(failover.outcome() == Outcome::kPending);
  bench.pool.Poll();
  CHECK(failover.Next().what == Do::kSend);
  CHECK(failover.key().name() == "A");
}

// A key that one request at a time may use, and one who has it.
ApiKeys OneAtATime() { return {{ApiKey("sk-a", {.max_in_flight = 1})}}; }

TEST_CASE("a loop that waits is served while others come again and again",
          "[failover]") {
  ManualClock clock;
  Pool pool(OneAtATime(), {}, RoundRobin{}, clock);
  std::optional<Lease> held = pool.Pick();
  TheFailover failover(pool, OpenAIClassifier{});
  REQUIRE(failover.Next().for_key);
  const auto waiting = pool.WhenUsable(
      failover.hint(), [&](Lease lease) { failover.Offer(std::move(lease)); });
  int others = 0;
  std::optional<Pool::Waiting> other;
  while (failover.Next().what == Do::kWait && others < 1000) {
    ++others;
    other = pool.WhenUsable({}, [&](Lease lease) { held = std::move(lease); });
    held.reset();
  }
  CHECK(others == 1);
  CHECK(failover.key().name() == "key-1");
}

TEST_CASE("to ask again and again overtakes nobody who waits", "[failover]") {
  ManualClock clock;
  Pool pool(OneAtATime(), {}, RoundRobin{}, clock);
  std::optional<Lease> held = pool.Pick();
  TheFailover failover(pool, OpenAIClassifier{});
  REQUIRE(failover.Next().what == Do::kWait);
  std::optional<Lease> others;
  const auto waiting =
      pool.WhenUsable({}, [&](Lease lease) { others = std::move(lease); });
  held.reset();
  CHECK(failover.Next().what == Do::kWait);
  CHECK(others);
  others.reset();
  CHECK(failover.Next().what == Do::kSend);
}

// A clock that notes which threads wait on it.
class WatchedClock {
 public:
  using duration = ManualClock::duration;
  using time_point = ManualClock::time_point;

  time_point now() const { return clock_.now(); }
  std::shared_ptr<void> OnAdvance(std::function<void()> wake) const {
    return clock_.OnAdvance(std::move(wake));
  }
  bool AdvanceForWaiter(time_point) const {
    const std::lock_guard lock(waiters_->mutex);
    waiters_->threads.insert(std::this_thread::get_id());
    waiters_->more.notify_all();
    return false;
  }
  void AwaitThreads(std::size_t count) const {
    std::unique_lock lock(waiters_->mutex);
    waiters_->more.wait(lock,
                        [&] { return waiters_->threads.size() >= count; });
  }

 private:
  struct Waiters {
    std::mutex mutex;
    std::condition_variable more;
    std::set<std::thread::id> threads;
  };
  ManualClock clock_;
  std::shared_ptr<Waiters> waiters_ = std::make_shared<Waiters>();
};

TEST_CASE("first come, first served, with a thread or without one",
          "[failover]") {
  const WatchedClock clock;
  KeyRotator pool(OneAtATime(), {}, RoundRobin{}, clock);
  using TheRotator = decltype(pool);
  std::optional<Lease> held = pool.Pick();
  std::mutex mutex;
  std::string served;
  const auto note = [&](const char* who) {
    const std::lock_guard lock(mutex);
    served += who;
  };

  // One request of a loop: another thread may call it, so it only takes note.
  struct Looped {
    explicit Looped(TheRotator& rotator)
        : failover(rotator, OpenAIClassifier{}) {}
    Failover<TheRotator, OpenAIClassifier> failover;
    std::optional<Lease> given;
    std::binary_semaphore is_given{0};
    std::optional<TheRotator::Waiting> waiting;
  };
  const auto wait = [&](Looped& it, const char* who) {
    if (!it.failover.Next().for_key) return;
    it.waiting = pool.WhenUsable(it.failover.hint(), [&, who](Lease lease) {
      note(who);
      it.given = std::move(lease);
      it.is_given.release();
    });
  };
  const auto finish = [&](Looped& it) {
    it.is_given.acquire();
    it.failover.Offer(std::move(it.given));
    it.given.reset();
    if (it.failover.Next().what == Do::kSend)
      it.failover.Report(HttpResponse{.status = 200, .body = "{}"});
  };
  const auto threaded = [&](const char* who) {
    if (const std::optional<Lease> lease = pool.PickFor(1h)) note(who);
  };

  Looped first(pool);
  Looped third(pool);
  wait(first, "1");
  std::thread second(threaded, "2");
  clock.AwaitThreads(1);
  wait(third, "3");
  std::thread fourth(threaded, "4");
  clock.AwaitThreads(2);
  held.reset();
  finish(first);
  finish(third);
  second.join();
  fourth.join();
  CHECK(served == "1234");
  CHECK(first.failover.outcome() == Outcome::kOk);
  CHECK(third.failover.outcome() == Outcome::kOk);
}

// --- The caller's part ---

TEST_CASE("asking what to do while a request is in flight sends nothing",
          "[failover][T6]") {
  Bench bench("AB");
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().what == Do::kSend);
  const KeyId key = failover.key().id();
  for (int i = 0; i < 3; ++i) {
    const auto step = failover.Next();
    CHECK(step.what == Do::kInFlight);
    CHECK(step.until == bench.start + 60s);
  }
  CHECK(failover.key().id() == key);
  failover.Offer(bench.pool.Pick());  // of no use now
  CHECK(failover.key().id() == key);
  failover.Report(Ok().response);
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.trail().size() == 1);
}

TEST_CASE("a report after the end changes nothing", "[failover][T5]") {
  Bench bench("AB");
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().what == Do::kSend);
  const bool stopped = GENERATE(true, false);
  if (stopped) {
    failover.Stop();
  } else {
    failover.Report(Ok().response);
  }
  failover.Report(Status(401).response);
  failover.Report(TransportError{.message = "late"});
  failover.OnHead(429, {});
  CHECK_FALSE(failover.OnBody("{}", [](const SseEvent&) {}));
  failover.OnEnd();
  failover.Stop();
  CHECK(failover.outcome() == (stopped ? Outcome::kStopped : Outcome::kOk));
  CHECK(failover.response().status == (stopped ? 0 : 200));
  CHECK(failover.trail().size() == 1);
  CHECK(bench.pool.Available() == 2);
  CHECK(Row(bench.pool, "A").failures == 0);
}

TEST_CASE("a report before anything was sent changes nothing", "[failover]") {
  Bench bench("A");
  TheFailover failover = bench.Make();
  failover.Report(Status(401).response);
  failover.OnHead(401, {});
  failover.OnEnd();
  CHECK(failover.outcome() == Outcome::kPending);
  CHECK(Run(bench, failover) == "A200@0");
}

TEST_CASE("a stop ends a backoff at once", "[failover][S17]") {
  Bench bench("A");
  bench.script["A"] = {Status(503)};
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().what == Do::kSend);
  bench.Deliver(failover, bench.Next("A"));
  REQUIRE(failover.Next().what == Do::kWait);
  failover.Stop();
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.outcome() == Outcome::kStopped);
  CHECK(bench.clock.now() == bench.start);
  CHECK(failover.response().status == 503);
}

TEST_CASE("a transfer that the caller stopped ends the request unmarked",
          "[failover][S17]") {
  Bench bench("AB");
  bench.script["A"] = {Broken({.kind = TransportError::Kind::kStopped})};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A0@0");
  CHECK(failover.outcome() == Outcome::kStopped);
  CHECK_FALSE(failover.message().empty());
  CHECK(Row(bench.pool, "A").in_flight == 0);
  CHECK(bench.pool.Available() == 2);
}

// --- What is kept ---

TEST_CASE("the last answer is kept when what follows has none", "[failover]") {
  Bench bench("AB");
  bench.options.max_retries = 0;
  bench.script["A"] = {Status(429, {{"x-request-id", "r1"}}, "slow down")};
  SECTION("a lost connection") {
    bench.script["B"] = {Lost()};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A429@0 B0@0");
    CHECK(failover.outcome() == Outcome::kUnavailable);
    CHECK(failover.verdict().message == "connection reset");
    CHECK(failover.message().find("connection reset") != std::string::npos);
    CHECK(failover.message().find("429") == std::string::npos);
    CHECK(failover.response().status == 429);
    CHECK(failover.response().headers.Find("X-Request-Id") == "r1");
    CHECK(failover.response().body == "slow down");
  }
  SECTION("a stop") {
    TheFailover failover = bench.Make();
    REQUIRE(failover.Next().what == Do::kSend);
    bench.Deliver(failover, bench.Next("A"));
    REQUIRE(failover.Next().what == Do::kSend);
    failover.Stop();
    CHECK(failover.response().status == 429);
    CHECK(failover.TakeResponse().body == "slow down");
  }
}

TEST_CASE("an error body that never ends is kept up to 256 KiB", "[failover]") {
  Bench bench("A");
  Answer answer = Status(400, {}, std::string(300 << 10, 'x'));
  answer.piece = 4096;
  bench.script["A"] = {answer};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A400@0");
  CHECK(failover.response().body.size() == 256 << 10);

  Bench good("A");
  answer.response.status = 200;
  answer.response.headers = {{"Content-Type", "audio/mpeg"}};
  good.script["A"] = {answer};
  TheFailover served = good.Make();
  CHECK(Run(good, served) == "A200@0");
  CHECK(served.response().body.size() == 300 << 10);
}

TEST_CASE("the trail tells of each send", "[failover]") {
  Bench bench("AB");
  bench.script["A"] = {After(2s, NoQuota())};
  bench.script["B"] = {After(1s, Status(503)), After(3s, Ok())};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A429@0 B503@2 B200@3.5");
  const auto& trail = failover.trail();
  CHECK(trail[0].verdict == VerdictKind::kQuotaExhausted);
  CHECK(trail[0].code == "insufficient_quota");
  CHECK(trail[0].took == 2s);
  CHECK(trail[1].verdict == VerdictKind::kOverloaded);
  CHECK(trail[1].took == 1s);
  CHECK(trail[2].verdict == VerdictKind::kOk);
  CHECK(trail[2].took == 3s);
}

TEST_CASE("no secret of the pool is in anything that is told of an error",
          "[failover][S21][T18]") {
  Bench bench({ApiKey("sk-secret-1", {.name = "A"}),
               ApiKey("sk-secret/2", {.name = "B"})});
  const auto check = [&](TheFailover& failover) {
    std::string all = failover.message() + failover.verdict().message +
                      failover.verdict().code + failover.response().body;
    for (const auto& field : failover.response().headers) all += field.value;
    for (const Attempt& attempt : failover.trail())
      all += attempt.key + attempt.code;
    CAPTURE(all);
    CHECK(all.find("secret") == std::string::npos);
    CHECK(all.find("[A]") != std::string::npos);
    CHECK(all.find("[B]") != std::string::npos);
  };
  const std::string body =
      R"({"error": {"code": "sk-secret-1 sk-secret/2",)"
      R"( "message": "bad key sk-secret-1, not sk-secret\/2"}})";
  SECTION("an answer") {
    bench.script["A"] = {
        Status(400, {{"x-echo", "Bearer sk-secret-1, sk-secret/2"}}, body)};
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    check(failover);
  }
  SECTION("an error in a stream") {
    bench.request.stream = true;
    bench.options.max_retries = 0;
    const bool first = GENERATE(true, false);
    bench.script["A"] = {
        Stream(Text({first ? "" : kHello, "data: ", body, "\n\n"}),
               {{"x-echo", "sk-secret-1"}})};
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    CHECK(failover.outcome() ==
          (first ? Outcome::kUnavailable : Outcome::kCut));
    check(failover);
  }
  SECTION("the transport's words") {
    bench.options.max_retries = 0;
    bench.script["A"] = {Broken({.message = "sk-secret-1: sk-secret/2"})};
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    check(failover);
  }
}

// A pool that counts what it is asked.
struct CountingPool : Pool {
  using Pool::Pool;
  bool Settle(const KeyRef& key, const Report& report) {
    ++settled;
    return Pool::Settle(key, report);
  }
  std::string Redact(std::string_view text) const {
    ++redacted;
    return Pool::Redact(text);
  }
  void MarkFailed(const KeyRef&) = delete;
  void MarkRateLimited(const KeyRef&) = delete;
  void MarkSucceeded(const KeyRef&) = delete;
  void ReportLimits(const Lease&, const RateLimits&) = delete;

  int settled = 0;
  mutable int redacted = 0;
};

TEST_CASE(
    "the rotator is told of an answer in one call, of a good head's limits in "
    "one before",
    "[failover]") {
  const Headers limits = {{"x-ratelimit-limit-requests", "60"},
                          {"x-ratelimit-remaining-requests", "59"}};
  const auto [answer, stream, calls] = GENERATE_COPY(table<Answer, bool, int>(
      {{Status(200, limits, R"({"choices": []})"), false, 2},
       {Status(200, {}, R"({"choices": []})"), false, 1},
       {Status(401, limits), false, 1},
       {Status(429, limits), false, 1},
       {NoQuota(limits), false, 1},
       {Status(403, limits), false, 1},
       {Status(503, limits), false, 1},
       {Status(400), false, 0},  // says nothing of the key
       {Lost(), false, 0},
       {Stream(Text({kHello, kHello, kFinish, kDone}), limits), true, 2},
       {Stream(std::string(kStreamLimited), limits), true, 2},
       {Stream(std::string(kHello), limits), true, 2},  // cut
       {Stream(Text({kHello, kStreamLimited}), limits), true, 3}}));
  CAPTURE(answer.response.status, answer.response.body);
  Bench bench("");
  CountingPool pool(Letters("AB"), RotatorOptions{}, RoundRobin{}, bench.clock);
  Failover<CountingPool, OpenAIClassifier> failover(
      pool, OpenAIClassifier{}, {.stream = stream}, bench.options);
  REQUIRE(failover.Next().what == Do::kSend);
  bench.Deliver(failover, answer);
  CHECK(failover.trail().size() == 1);
  CHECK(pool.settled == calls);
}

TEST_CASE(
    "only what could hold a secret is looked through for one, a head at once",
    "[failover]") {
  Bench bench("");
  CountingPool pool(Letters("A"), RotatorOptions{}, RoundRobin{}, bench.clock);
  const auto [answer, looks] = GENERATE(table<Answer, int>(
      {{Status(200, {{"x", "y"}}, R"({"choices": []})"), 1},
       {Status(200, {{"x", "y"}, {"echo", "secret-A"}}, "{}"), 3},
       {Status(403, {{"x", "y"}}), 1},
       {Status(403, {{"x", "y"}}, R"({"error": {"message": "no"}})"), 3}}));
  CAPTURE(answer.response.status, answer.response.body);
  Failover<CountingPool, OpenAIClassifier> failover(pool, OpenAIClassifier{});
  REQUIRE(failover.Next().what == Do::kSend);
  bench.Deliver(failover, answer);
  CHECK(pool.redacted == looks);
  const auto echo = failover.response().headers.Find("echo");
  if (echo) CHECK(*echo == "[A]");
}

TEST_CASE("the limits in an answer's headers are reported", "[failover]") {
  const bool stream = GENERATE(true, false);
  Bench bench("A");
  bench.request.stream = stream;
  const Headers headers = {{"x-ratelimit-limit-requests", "60"},
                           {"x-ratelimit-remaining-requests", "0"},
                           {"x-ratelimit-reset-requests", "60s"}};
  bench.script["A"] = {stream ? Stream(Text({kHello, kFinish, kDone}), headers)
                              : Status(200, headers, R"({"choices": []})")};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(bench.pool.Available() == 0);
  bench.clock.Advance(60s);
  CHECK(bench.pool.Available() == 1);
}

TEST_CASE("an offer of nothing does not take back a key that was offered",
          "[failover]") {
  Bench bench("A");
  TheFailover failover = bench.Make();
  bench.pool.MarkRateLimited("secret-A", 1s);
  REQUIRE(failover.Next().for_key);
  bench.clock.Advance(1s);
  failover.Offer(bench.pool.Pick());
  failover.Offer(std::nullopt);
  CHECK(failover.Next().what == Do::kSend);
}

TEST_CASE("limits are reported by an answer's head, not at its end",
          "[failover]") {
  const bool stream = GENERATE(true, false);
  const int status = GENERATE(200, 201, 429, 503);
  Bench bench("AB");
  bench.request.stream = stream;
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().what == Do::kSend);
  failover.OnHead(status, {{"x-ratelimit-limit-requests", "60"},
                           {"x-ratelimit-remaining-requests", "0"},
                           {"x-ratelimit-reset-requests", "60s"}});
  // What an error says of its key is known when all of it is there.
  CHECK(bench.pool.Available() == (status < 300 ? 1 : 2));
  // Whatever becomes of it, and once: a minute later it is said no more.
  bench.clock.Advance(60s);
  CHECK(bench.pool.Available() == 2);
  if (status == 200) {
    const TransportError lost = {.message = "reset"};
    failover.OnEnd(&lost);
    CHECK(bench.pool.Available() == 2);
  }
}

// --- Streams ---

TEST_CASE("a stream is delivered, and complete in each of its ways",
          "[failover]") {
  const std::string end = GENERATE(
      Text({kDone}), Text({kFinish}), Text({kFinish, kDone}),
      std::string("event: message_stop\ndata: {}\n\n"),
      std::string("data: {\"type\": \"message_stop\"}\n\n"),
      std::string("event: response.completed\ndata: {}\n\n"),
      std::string("data: {\"type\":\"response.incomplete\"}\n\n"),
      std::string("data: {\"choices\":[{\"finish_reason\" : \"length\"}]}\n\n"),
      std::string("data: [DONE]"));
  CAPTURE(end);
  Bench bench("AB");
  bench.request.stream = true;
  Answer answer = Stream(Text({": hi\n\n", kHello, end}));
  answer.piece = GENERATE(1u, 7u, 1000u);
  // After the end no error matters.
  const bool broken = GENERATE(true, false);
  bench.script["A"] = {broken ? CutOff(answer) : answer};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(failover.outcome() == Outcome::kOk);
  REQUIRE_FALSE(bench.events.empty());
  CHECK(bench.events[0].find("hello") != std::string::npos);
  CHECK(bench.events.back() != "[DONE]");
  CHECK(failover.complete() == (end.find("[DONE]") != std::string::npos));
  CHECK(Row(bench.pool, "A").successes == 1);
}

TEST_CASE("a finish_reason in the model's own words ends nothing",
          "[failover][T2]") {
  Bench bench("A");
  bench.request.stream = true;
  bench.script["A"] = {
      Stream(Text({"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                   "\"{\\\"finish_reason\\\": \\\"stop\\\"} message_stop\"},"
                   "\"finish_reason\":null}]}\n\n"}))};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(failover.outcome() == Outcome::kCut);
}

TEST_CASE("a stream of several choices is complete when all are",
          "[failover][T2]") {
  const auto chunk = [](int index, std::string_view reason) {
    return fmt::format(
        "data: {{\"choices\":[{{\"index\":{},\"delta\":{{}},"
        "\"finish_reason\":{}}}]}}\n\n",
        index, reason);
  };
  const std::string begin = chunk(0, "null") + chunk(1, "null");
  const auto [rest, outcome] = GENERATE_COPY(table<std::string, Outcome>(
      {{chunk(0, "\"stop\""), Outcome::kCut},
       {chunk(1, "\"stop\""), Outcome::kCut},
       {chunk(1, "\"stop\"") + chunk(0, "\"\""), Outcome::kCut},
       {chunk(1, "\"stop\"") + chunk(0, "\"stop\""), Outcome::kOk}}));
  CAPTURE(rest);
  Bench bench("A");
  bench.request.stream = true;
  bench.script["A"] = {Stream(begin + rest)};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(failover.outcome() == outcome);
}

TEST_CASE("choices of no known shape do no harm", "[failover]") {
  for (const char* data :
       {R"({"a":[{"finish_reason":"x"}],"choices":[["finish_reason"]]})",
        R"({"a":[{"index":1}],"choices":[[5]]})", R"({"choices":[5,"x"]})",
        R"({"choices":{"finish_reason":"x","index":1}})",
        R"({"choices":[{"index":1,"finish_reason")",
        R"({"finish_reason":"stop","choices":[]})"}) {
    CAPTURE(data);
    OpenAIClassifier classifier;
    CHECK_FALSE(classifier.Completes("", data));
  }
  std::string deep = R"({"finish_reason":"stop","choices":)";
  deep.append(100'000, '[');
  CHECK_FALSE(OpenAIClassifier().Completes("", deep));
}

TEST_CASE("an error after the answer is complete is none", "[failover][T4]") {
  Bench bench("AB");
  bench.request.stream = true;
  const bool with_done = GENERATE(true, false);
  bench.script["A"] = {CutOff(
      Stream(Text({kHello, kFinish, with_done ? kDone : "", kStreamLimited})))};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(failover.outcome() == Outcome::kOk);
  CHECK(bench.events.size() == 2);
  CHECK(bench.pool.Available() == 2);
  CHECK(failover.trail()[0].verdict == VerdictKind::kOk);
}

TEST_CASE("after [DONE] the transfer is let to end by itself",
          "[failover][T3]") {
  Bench bench("A");
  bench.request.stream = true;
  TheFailover failover = bench.Make();
  REQUIRE(failover.Next().what == Do::kSend);
  failover.OnHead(200, {});
  const auto sink = [](const SseEvent&) { return true; };
  CHECK(failover.OnBody(kHello, sink));
  CHECK_FALSE(failover.complete());
  CHECK(failover.OnBody(kDone, sink));
  CHECK(failover.complete());
  CHECK(failover.OnBody("\n", sink));
  CHECK(Row(bench.pool, "A").in_flight == 1);
  failover.OnEnd(sink);
  CHECK(failover.outcome() == Outcome::kOk);
}

TEST_CASE("an error as a stream's first event is judged as an answer",
          "[failover]") {
  Bench bench("AB");
  bench.request.stream = true;
  const std::string good = Text({kHello, kFinish, kDone});
  bench.script["B"] = {Stream(good)};
  SECTION("another key at once") {
    const auto [error, state] = GENERATE(table<std::string, KeyState>(
        {{Text({kStreamLimited}), KeyState::kCooling},
         {Text({kStreamNoKey, kDone}), KeyState::kFailed}}));
    bench.script["A"] = {Stream(Text({": hello\n\n", error}))};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0 B200@0");
    CHECK(StateOf(bench, "A") == state);
    CHECK(Row(bench.pool, "A").successes == 0);
    CHECK(bench.events.size() == 2);
    CHECK(failover.outcome() == Outcome::kOk);
  }
  SECTION("the same key after a backoff") {
    bench.script["A"] = {Stream(std::string(kStreamOverloaded)), Stream(good)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0 A200@0.5");
    CHECK(bench.events.size() == 2);
    CHECK(failover.outcome() == Outcome::kOk);
  }
  SECTION("its text is the answer's body") {
    bench.script["A"] = {Stream(
        "data: {\"error\":{\"code\":400,\"message\":\"no such tool\"}}\n\n")};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
    CHECK(failover.outcome() == Outcome::kCallerError);
    CHECK(failover.response().body.find("no such tool") != std::string::npos);
    CHECK(bench.events.empty());
  }
}

TEST_CASE("after the first event nothing is sent again", "[failover][P12]") {
  Bench bench("AB");
  bench.request.stream = true;
  SECTION("a limit marks the key, and the stream is cut") {
    bench.script["A"] = {Stream(Text({kHello, kStreamLimited, kHello, kDone}))};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
    CHECK(failover.outcome() == Outcome::kCut);
    CHECK(failover.verdict().kind == VerdictKind::kRateLimited);
    CHECK(failover.message().find("Please try again") != std::string::npos);
    CHECK(Row(bench.pool, "A").returns_in == 20s);
  }
  SECTION("the transport's error that follows an error is no second one") {
    using Kind = TransportError::Kind;
    Answer answer = Stream(Text({kHello, kStreamLimited}));
    answer.response.body.pop_back();  // the event is not finished
    answer.error =
        TransportError{.kind = GENERATE(Kind::kLost, Kind::kStopped)};
    bench.script["A"] = {answer};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
    CHECK(failover.outcome() == Outcome::kCut);
    CHECK(failover.verdict().kind == VerdictKind::kRateLimited);
    CHECK(Row(bench.pool, "A").rate_limits == 1);
  }
  SECTION("a lost connection cuts it, and is not the key's fault") {
    bench.script["A"] = {CutOff(Stream(std::string(kHello)))};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
    CHECK(failover.outcome() == Outcome::kCut);
    CHECK(failover.message().find("cut off") != std::string::npos);
    CHECK(bench.pool.Available() == 2);
  }
  SECTION("an end without completion cuts it") {
    bench.script["A"] = {Stream(std::string(kHello))};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
    CHECK(failover.outcome() == Outcome::kCut);
  }
  CHECK(bench.events.size() == 1);
  CHECK(bench.script["B"].empty());
}

TEST_CASE("an error that the stream's end cut short is seen all the same",
          "[failover]") {
  Bench bench("AB");
  bench.request.stream = true;
  std::string error(kStreamNoKey);
  while (error.back() == '\n') error.pop_back();
  bench.script["B"] = {Stream(Text({kHello, kDone}))};
  bench.script["A"] = {Stream(error)};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0 B200@0");
  CHECK(StateOf(bench, "A") == KeyState::kFailed);
}

TEST_CASE("a stream that is answered otherwise is judged as a body",
          "[failover][T12]") {
  Bench bench("AB");
  bench.request.stream = true;
  bench.script["B"] = {Stream(Text({kHello, kDone}))};
  const std::string type =
      GENERATE("application/json", "text/event-stream", "text/html", "");
  CAPTURE(type);
  const Headers headers =
      type.empty() ? Headers{} : Headers{{"Content-Type", type}};
  SECTION("an error in JSON") {
    const std::string blanks = GENERATE("", "\n\n  \n");
    bench.script["A"] = {
        Stream(blanks + R"({"error": {"code": "invalid_api_key"}})", headers)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0 B200@0");
    CHECK(StateOf(bench, "A") == KeyState::kFailed);
    CHECK(bench.events.size() == 1);
  }
  SECTION("a page") {
    bench.script["A"] = {Stream("<html>a proxy's page</html>", headers)};
    TheFailover failover = bench.Make();
    bench.Drive(failover);
    CHECK(failover.outcome() != Outcome::kOk);
    CHECK(bench.events.empty());
    CHECK(failover.response().body.find("proxy") != std::string::npos);
  }
  SECTION("events, whatever the header says") {
    bench.script["A"] = {Stream(Text({"\n", kHello, kDone}), headers)};
    TheFailover failover = bench.Make();
    CHECK(Run(bench, failover) == "A200@0");
    CHECK(failover.outcome() == Outcome::kOk);
    CHECK(bench.events.size() == 1);
  }
}

TEST_CASE("a stream without an event is no success", "[failover][T12]") {
  const std::string body = GENERATE("", "\n\n", ": keep-alive\n\n", "oops");
  CAPTURE(body);
  ManualClock clock;
  Pool pool(Letters("A"), {}, RoundRobin{}, clock);
  // Also with a classifier that takes every 200 for good.
  Failover failover(
      pool,
      [](const HttpResponse&, std::chrono::system_clock::time_point) {
        return Verdict{};
      },
      {.stream = true}, {.max_retries = 0});
  REQUIRE(failover.Next().what == Do::kSend);
  failover.OnHead(200, {});
  CHECK(failover.OnBody(body, [](const SseEvent&) {}));
  failover.OnEnd();
  CHECK(failover.outcome() == Outcome::kUnavailable);
  CHECK(failover.verdict().kind == VerdictKind::kTransient);
  CHECK(Row(pool, "A").successes == 0);
}

TEST_CASE("a stream without an event is tried again, and then delivered",
          "[failover]") {
  Bench bench("A");
  bench.request.stream = true;
  bench.script["A"] = {Stream(": keep-alive\n\n"),
                       Stream(Text({kHello, kDone}))};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0 A200@0.5");
  CHECK(failover.outcome() == Outcome::kOk);
  CHECK(bench.events.size() == 1);
}

TEST_CASE(
    "success is marked at the first good event, the lease kept to the end",
    "[failover]") {
  Bench bench("A");
  bench.request.stream = true;
  bench.script["A"] = {Stream(Text({kHello, kHello, kFinish, kDone}))};
  bench.sink = [&](const SseEvent&) {
    CHECK(Row(bench.pool, "A").successes == 1);
    CHECK(Row(bench.pool, "A").in_flight == 1);
    return true;
  };
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(bench.events.size() == 3);
  CHECK(Row(bench.pool, "A").in_flight == 0);
}

TEST_CASE("a sink that wants no more ends the stream", "[failover]") {
  Bench bench("A");
  bench.request.stream = true;
  bench.script["A"] = {Stream(Text({kHello, kFinish, kDone}))};
  std::size_t wanted = GENERATE(1u, 2u);
  bench.sink = [&](const SseEvent&) { return bench.events.size() < wanted; };
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A200@0");
  CHECK(bench.events.size() == wanted);
  // The last it took had said that the answer was complete.
  CHECK(failover.outcome() == (wanted == 2 ? Outcome::kOk : Outcome::kStopped));
  CHECK(failover.verdict().kind == VerdictKind::kOk);
}

TEST_CASE("a refusal whose body was cut is that refusal", "[failover]") {
  Bench bench("AB");
  bench.request.stream = GENERATE(true, false);
  bench.script["A"] = {CutOff(Status(401, {}, "{\"error\": {"))};
  bench.script["B"] = {bench.request.stream ? Stream(Text({kHello, kDone}))
                                            : Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A401@0 B200@0");
  CHECK(StateOf(bench, "A") == KeyState::kFailed);
}

TEST_CASE("a success whose body was cut is a lost connection", "[failover]") {
  Bench bench("A");
  bench.script["A"] = {CutOff(Status(200, {}, R"({"choices": [])")), Ok()};
  TheFailover failover = bench.Make();
  CHECK(Run(bench, failover) == "A0@0 A200@0.5");
  CHECK(Row(bench.pool, "A").successes == 1);
}

// --- The classifier ---

TEST_CASE("a plain function is a classifier", "[failover]") {
  Bench bench("AB");
  const auto classify = [](const HttpResponse& response,
                           std::chrono::system_clock::time_point now) {
    CHECK(now.time_since_epoch() == 1'700'000'000s);
    Verdict verdict;
    if (response.status == 777) verdict.kind = VerdictKind::kKeyInvalid;
    return verdict;
  };
  bench.script["A"] = {Status(777)};
  bench.start = bench.clock.now();
  Failover failover(bench.pool, classify, bench.request, bench.options);
  bench.Drive(failover);
  CHECK(Bench::Trail(failover) == "A777@0 B200@0");
  CHECK(StateOf(bench, "A") == KeyState::kFailed);

  // It knows no errors inside a stream: what comes is delivered.
  Failover stream(bench.pool, classify, {.stream = true}, bench.options);
  bench.script["B"] = {Stream(Text({kHello, kStreamNoKey, kDone}))};
  bench.Drive(stream);
  CHECK(stream.outcome() == Outcome::kOk);
  CHECK(bench.events.size() == 2);
}

// --- Everything at random ---

// Draws from a seed; the same seed gives the same request.
class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}
  int Roll(int sides) {
    return std::uniform_int_distribution<int>(0, sides - 1)(engine_);
  }
  bool Chance(int percent) { return Roll(100) < percent; }
  template <class T>
  T OneOf(const std::vector<T>& choices) {
    return choices[static_cast<std::size_t>(
        Roll(static_cast<int>(choices.size())))];
  }

 private:
  std::mt19937 engine_;
};

// An answer, and whether a stream's sink is given something of it.
Answer RandomAnswer(Dice& dice, bool stream) {
  const nanoseconds took = dice.OneOf<nanoseconds>({0s, 1ms, 300ms, 2s, 30s});
  Answer answer;
  Headers headers;
  if (dice.Chance(40)) {
    headers.Add(dice.OneOf<std::string>({"Retry-After", "retry-after-ms"}),
                dice.OneOf<std::string>({"0", "1", "-1", "7", "90", "x", "1.5",
                                         "99999999999999999999"}));
  }
  if (dice.Chance(10))
    headers.Add("x-should-retry", dice.OneOf<std::string>({"true", "false"}));
  if (stream && dice.Chance(50)) {
    std::string body;
    for (int i = dice.Roll(5); i >= 0; --i) {
      body += dice.OneOf<std::string_view>(
          {kHello, kHello, kFinish, kDone, kStreamLimited, kStreamOverloaded,
           kStreamNoKey, ": comment\n\n", "{\"choices\": []}", "<html>"});
    }
    if (dice.Chance(20)) body.resize(body.size() - 2);
    answer = Stream(std::move(body));
    answer.piece = static_cast<std::size_t>(dice.OneOf<int>({1, 7, 4000}));
  } else if (dice.Chance(10)) {
    answer = Lost(dice.Chance(50));
  } else {
    answer =
        Status(dice.OneOf<int>({200, 200, 400, 401, 402, 403, 404, 429, 429,
                                429, 500, 503, 529}),
               headers, dice.OneOf<std::string>({"", R"({"choices": []})"}));
  }
  if (dice.Chance(10)) answer = CutOff(std::move(answer));
  return After(took, std::move(answer));
}

struct Counts {
  std::uint64_t successes = 0;
  std::uint64_t rate_limits = 0;
  std::uint64_t failures = 0;
  friend bool operator==(const Counts&, const Counts&) = default;
};

// Waits for a key as an event loop does.
void WaitInLoop(Bench& bench, TheFailover& failover,
                ManualClock::time_point until) {
  std::optional<Lease> given;
  const auto waiting = bench.pool.WhenUsable(
      failover.hint(), [&](Lease lease) { given = std::move(lease); });
  REQUIRE(waiting);
  for (auto due = bench.pool.Poll(); !given && bench.clock.now() < until;
       due = bench.pool.Poll()) {
    REQUIRE((!due || *due > bench.clock.now()));
    bench.clock.AdvanceTo(std::min(due.value_or(until), until));
  }
  if (given) failover.Offer(std::move(given));
}

void PlayAtRandom(unsigned seed) {
  CAPTURE(seed);
  Dice dice(seed);
  std::vector<ApiKey> keys;
  const int size = dice.Roll(6);
  for (int i = 0; i < size; ++i) {
    keys.emplace_back(
        fmt::format("sk-secret-{}", i),
        KeyOptions{.name = std::string(1, static_cast<char>('A' + i)),
                   .group = dice.OneOf<std::string>({"", "", "one"}),
                   .max_in_flight = static_cast<std::size_t>(dice.Roll(2))});
  }
  Bench bench(keys, {.trial_after_guess = dice.Chance(70)});
  bench.request.scope = dice.OneOf<std::string>({"", "gpt-4o"});
  bench.request.stream = dice.Chance(60);
  bench.options.max_retries = dice.Roll(5);
  bench.options.retry_ambiguous = dice.Chance(80);
  bench.options.deadline = dice.OneOf<nanoseconds>({0s, 1s, 20s, 60s, 600s});
  bench.options.quota_cooldown = dice.OneOf<nanoseconds>({1s, 1h});
  bench.options.random = [&] { return dice.Roll(100) / 100.0; };
  const bool stops = dice.Chance(5);

  // What the answers say, against what the trail and the rotator say.
  std::map<std::string, Counts> marks;
  std::set<std::string> denied;
  TheFailover failover = bench.Make();
  const auto deadline = bench.start + bench.options.deadline;
  int sends = 0;
  int retries = 0;
  bool delivered_before = false;
  int steps = 0;
  for (auto step = failover.Next(); step.what != Do::kDone;
       step = failover.Next()) {
    REQUIRE(++steps < 2000);
    if (stops && dice.Chance(20)) {
      failover.Stop();
      continue;
    }
    if (step.what == Do::kWait) {
      // Nothing is lent while it waits.
      for (const KeyStatus& row : bench.pool.Snapshot())
        REQUIRE(row.in_flight == 0);
      REQUIRE(step.until <= deadline);
      REQUIRE(step.until > bench.clock.now());
      if (!step.for_key) {
        bench.clock.AdvanceTo(step.until);
      } else if (dice.Chance(50)) {
        failover.Offer(bench.pool.PickUntil(step.until, failover.hint()));
      } else {
        WaitInLoop(bench, failover, step.until);
      }
      continue;
    }
    REQUIRE(step.what == Do::kSend);
    REQUIRE((steps == 1 || bench.clock.now() < deadline));
    REQUIRE_FALSE(delivered_before);
    ++sends;
    REQUIRE(failover.Next().what == Do::kInFlight);
    const std::string key(failover.key().name());
    REQUIRE_FALSE(denied.contains(key));

    const std::size_t events_before = bench.events.size();
    bench.Deliver(failover, RandomAnswer(dice, bench.request.stream));
    REQUIRE(failover.trail().size() == static_cast<std::size_t>(sends));
    const Attempt& attempt = failover.trail().back();
    REQUIRE(attempt.key == key);
    const bool delivered = bench.events.size() > events_before;
    delivered_before = delivered;
    Counts& count = marks[key];
    switch (attempt.verdict) {
      case VerdictKind::kOk:
        ++count.successes;
        break;
      case VerdictKind::kKeyInvalid:
        ++count.failures;
        break;
      case VerdictKind::kQuotaExhausted:
      case VerdictKind::kRateLimited:
        ++count.rate_limits;
        break;
      case VerdictKind::kPermission:
        denied.insert(key);
        break;
      case VerdictKind::kOverloaded:
      case VerdictKind::kTransient:
        ++retries;
        break;
      case VerdictKind::kCallerError:
        break;
    }
    if (delivered && attempt.verdict != VerdictKind::kOk) ++count.successes;
    // Nothing that an error brought was handed on.
    for (const std::string& event : bench.events) {
      REQUIRE(event.find("error") == std::string::npos);
      REQUIRE(event != "[DONE]");
    }
  }
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.outcome() != Outcome::kPending);
  CHECK(failover.message().empty() == (failover.outcome() == Outcome::kOk));
  CHECK(failover.message().find("secret") == std::string::npos);
  CHECK(retries <= bench.options.max_retries + 1);
  // Each key twice, then rests of 0.5, 1, 2, 4 s and 8 s each, and the retries.
  const double seconds =
      std::chrono::duration<double>(bench.options.deadline).count();
  CHECK(sends <= 1 + bench.options.max_retries +
                     size * (2 + 4 + static_cast<int>(seconds / 8)));
  for (const KeyStatus& row : bench.pool.Snapshot()) {
    CAPTURE(row.name);
    CHECK(row.in_flight == 0);
    CHECK(Counts{row.successes, row.rate_limits, row.failures} ==
          marks[row.name]);
  }
}

TEST_CASE("whatever comes, a request ends and keeps the rules",
          "[failover][property]") {
  for (unsigned seed = 0; seed < 5000; ++seed) PlayAtRandom(seed);
}

TEST_CASE(
    "an answer to pass on changes keys up to its first byte, and is cut "
    "after it",
    "[failover][P12]") {
  Bench bench("AB");
  TheFailover failover(bench.pool, {}, {.pass_on = true}, bench.options);
  std::string passed;
  const auto sink = [&](std::string_view bytes) { passed += bytes; };
  REQUIRE(failover.Next().what == Do::kSend);
  failover.OnHead(429, {{"Retry-After", "20"}});
  failover.OnEnd(sink);
  REQUIRE(failover.Next().what == Do::kSend);
  CHECK(failover.key().name() == "B");
  failover.OnHead(200, {{"Content-Type", "audio/mpeg"}});
  CHECK(failover.OnBody("ID3", sink));
  CHECK(passed == "ID3");
  CHECK(bench.pool.Snapshot()[1].successes == 1);
  const TransportError lost{.message = "reset"};
  failover.OnEnd(sink, &lost);
  CHECK(failover.Next().what == Do::kDone);
  CHECK(failover.outcome() == Outcome::kCut);
}

}  // namespace
}  // namespace keyrotator::openai_failover_test
