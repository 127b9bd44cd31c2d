// Every fault of tests/support/faults.h, for an answer that is plain and for
// one that is streamed, under each way in which a caller bounds a request: what
// the reply says, what was delivered, and what the server saw. The table is
// tests/faults.md, which this program writes if KEYROTATOR_WRITE_FAULTS is set,
// and compares otherwise. What must hold of each cell is asserted here.
//
// Sockets take real time: bounds that end a stall are short, and those that
// only a mistake meets are long. Cells run side by side, as most of them wait.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/catch.h"
#include "tests/support/faults.h"

namespace keyrotator::testing::openai_fault_matrix_test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// How a caller bounds a request.
enum class Bound {
  kNothing,   // the client's own timeouts
  kStop,      // it is stopped when the fault is half its way
  kDeadline,  // CallOptions::deadline; a retry would come after it
  kOnce,      // RetryOptions::retry_ambiguous is false
};
constexpr Bound kBounds[] = {Bound::kNothing, Bound::kStop, Bound::kDeadline,
                             Bound::kOnce};

// What ends a stall.
constexpr auto kStall = 1s;
// Only a mistake makes anything last so long.
constexpr auto kLong = 60s;
// How late a request may be that was stopped or whose deadline is over. It
// takes milliseconds; a busy machine is not what this is about.
constexpr auto kLate = 5s;

// Of an answer: above the largest that is served, and below what the bomb makes.
constexpr std::size_t kMaxBody = std::size_t{110} << 20;

constexpr std::string_view kText = "one two three ";

struct Cell {
  const WireFault* fault = nullptr;
  bool streamed = false;
  Bound bound = Bound::kNothing;

  // What came of it.
  Reply reply = {};
  std::string text = {};
  int events = 0;
  int sends = 0;
  int strayed = 0;
  bool stopped = false;
  Clock::duration took{};
  Clock::duration late{};  // after the stop or the deadline
  std::vector<KeyStatus> keys = {};

  std::string Name() const {
    constexpr const char* kNames[] = {"nothing", "stop", "deadline", "once"};
    return fmt::format("{}, {}, {}", fault->name,
                       streamed ? "streamed" : "plain",
                       kNames[static_cast<int>(bound)]);
  }
};

// Takes the words of a plain answer, and those of a stream.
void Read(std::string_view json, std::string& text) {
  constexpr std::string_view kField = R"("content":")";
  const std::size_t at = json.find(kField);
  if (at == json.npos) return;
  json.remove_prefix(at + kField.size());
  text += json.substr(0, json.find('"'));
}

// What moves much is not moved four times: it ends by itself, so only a stop
// makes a difference.
bool IsSkipped(const Cell& cell) {
  return cell.fault->heavy && cell.bound != Bound::kNothing &&
         cell.bound != Bound::kStop;
}

template <class Transport>
void Run(Cell& cell) {
  Play play;
  play.streamed = cell.streamed;
  play.stops = cell.bound == Bound::kStop;
  play.looked_at = cell.fault->second ? 2 : 0;
  const Stage stage(*cell.fault, play);

  KeyRotator rotator(
      {ApiKey("sk-a", {.name = "A"}), ApiKey("sk-b", {.name = "B"})}, {},
      FirstAvailable{});
  const bool stalls = cell.fault->stalls;
  // A stream that has begun is not cut by a deadline, but by its silence.
  const Span patience = !stalls || cell.bound == Bound::kStop ? Span(kLong)
                        : cell.bound == Bound::kDeadline      ? Span(8 * kStall)
                                                              : Span(kStall);
  // Nobody waits for a retry but to be stopped.
  const bool retries =
      cell.bound == Bound::kNothing || cell.bound == Bound::kOnce;
  ClientOptions options{.connect_timeout = patience,
                        .request_timeout = patience,
                        .stream_idle_timeout = patience,
                        .max_body = kMaxBody};
  options.retry.initial_backoff = retries ? Span(1ms) : Span(5 * kLong);
  options.retry.max_backoff = options.retry.initial_backoff;
  options.retry.deadline = 10 * kLong;
  options.retry.retry_ambiguous = cell.bound != Bound::kOnce;
  CallOptions call{.stop = play.stop_token()};
  const Span deadline = stalls ? Span(kStall) : Span(kLong);
  if (cell.bound == Bound::kDeadline) call.deadline = deadline;

  OpenAIClient client(
      stage.base_url(), rotator,
      Telling<Transport>{Transport({.ca_file = stage.ca_file(), .proxy = ""}),
                         &play},
      options);
  const std::string body = fmt::format(
      R"({{"model":"m","stream":{},"messages":[{{"role":"user","content":"{}"}}]}})",
      cell.streamed, std::string(cell.fault->request_size, 'x'));
  const auto ask = [&] {
    cell.text.clear();
    cell.events = 0;
    const auto listen = [&](const SseEvent& event) {
      ++cell.events;
      Read(event.data, cell.text);
      play.Delivered();
    };
    const auto start = Clock::now();
    cell.reply = cell.streamed ? client.ChatCompletionStream(body, listen, call)
                               : client.ChatCompletion(body, call);
    const auto end = Clock::now();
    if (!cell.streamed && cell.reply.ok()) Read(cell.reply.body, cell.text);
    cell.took = end - start;
    if (cell.bound == Bound::kDeadline) cell.late = cell.took - deadline;
    if (const auto at = play.stopped_at()) cell.late = end - *at;
  };
  ask();
  const int before = cell.fault->second ? play.sends() : 0;
  if (cell.fault->second) {
    play.AwaitReady();
    ask();
  }
  cell.sends = play.sends() - before;
  cell.strayed = play.strayed();
  cell.stopped = play.stopped_at().has_value();
  cell.keys = rotator.Snapshot();
}

// What holds of every cell.
void Check(const Cell& cell) {
  INFO(cell.Name() << ": " << cell.reply.message << "\n"
                   << cell.text.substr(0, 100));
  const Reply& reply = cell.reply;
  CHECK(reply.outcome != Outcome::kPending);
  CHECK(reply.ok() == reply.message.empty());
  // Nothing is the fault of a key.
  REQUIRE(cell.keys.size() == 2);
  for (const KeyStatus& key : cell.keys) {
    CHECK(key.state == KeyState::kAvailable);
    CHECK(key.failures == 0);
    CHECK(key.rate_limits == 0);
    CHECK(key.in_flight == 0);
    for (const ScopeStatus& scope : key.scopes)
      CHECK(scope.state == KeyState::kAvailable);
  }
  // So another would not have done better.
  for (const Attempt& attempt : reply.trail) CHECK(attempt.key == "A");
  CHECK(cell.strayed == 0);

  // Nothing is delivered twice or in another order, and no end is missed.
  CHECK(kText.starts_with(cell.text));
  if (reply.ok() && reply.status != 204) CHECK(cell.text == kText);
  if (cell.streamed && reply.outcome == Outcome::kCut) CHECK(cell.events > 0);
  if (!cell.streamed) CHECK(cell.events == 0);

  // Nothing that may have been acted on is sent twice, unless that is allowed.
  const bool allowed = cell.bound == Bound::kNothing && cell.events == 0;
  CHECK(cell.sends <= (allowed || reply.ok() ? 3 : 1));
  if (cell.bound == Bound::kOnce) CHECK(cell.sends <= 1);

  if (cell.stopped) CHECK(reply.outcome == Outcome::kStopped);
  const bool begun = cell.bound == Bound::kDeadline && cell.events > 0;
  if (!begun) CHECK(cell.late < kLate);
  CHECK(cell.took < kLong);
}

template <class Number>
std::string Counted(Number count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string Shown(const Cell& cell) {
  std::string text =
      fmt::format("{}, {}", cell.reply.outcome, Counted(cell.sends, "send"));
  if (cell.events > 0) text += ", " + Counted(cell.events, "event");
  return text;
}

// What the reply says of the fault, without what another run or another
// version of libcurl would say otherwise.
std::string Words(const Cell& cell) {
  std::string text = cell.reply.message;
  const std::size_t last = text.find("The last answer: ");
  if (last == text.npos) return text;
  text.erase(0, last + std::string_view("The last answer: ").size());
  // From the end of `from`, which stays, up to `to`.
  const auto erase = [&](std::string_view from, std::string_view to) {
    std::size_t start = text.find(from);
    if (start == text.npos) return;
    start += from.size();
    text.erase(start, std::min(text.find(to, start), text.size()) - start);
  };
  erase("http://127.0.0.1", ": ");
  erase("https://127.0.0.1", ": ");
  if (text.find(".invalid") != text.npos) erase("https://", ".invalid");
  erase("TLS failed", ";");
  text.erase(std::min(text.find("; is the"), text.size()));
  return text;
}

std::string Page(const std::string& section, const std::vector<Cell>& cells) {
  std::string page = fmt::format("\n## {}\n\n", section);
  page +=
      "| fault | answer | marks | no bound | stop requested | deadline | "
      "`retry_ambiguous` off | what the reply says, without a bound |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (std::size_t i = 0; i < cells.size(); i += std::size(kBounds)) {
    page += fmt::format("| {} | {} | none |", cells[i].fault->name,
                        cells[i].streamed ? "streamed" : "plain");
    for (std::size_t bound = 0; bound < std::size(kBounds); ++bound) {
      page += fmt::format(
          " {} |", IsSkipped(cells[i + bound]) ? "" : Shown(cells[i + bound]));
    }
    page += fmt::format(" {} |\n", Words(cells[i]));
  }
  return page;
}

constexpr std::string_view kHead = R"(# The fault matrix

Written by `openai/fault_matrix_test.cc` with `KEYROTATOR_WRITE_FAULTS=1`, and compared by it
otherwise. Each fault of [support/faults.h](support/faults.h) meets a client with two keys
over real sockets, and goes on for as long as the client asks. A cell says how the request
ended, how often the server was sent it, and how many events of a stream were delivered
(a whole one has three).

- no bound: the client's own timeouts, here of a second.
- stop requested: when the fault is half its way, or amid the wait for a retry.
- deadline: `CallOptions::deadline`, here of a second where the fault goes on for ever;
  a retry would come after it. It does not cut a stream that has begun: that has its own
  timeout, here of eight seconds.
- `retry_ambiguous` off: what the server may have acted on is not sent again.

Of every cell the test asserts: no key is marked, and none but the first is used, as
another would do no better; nothing is in flight after it; what was delivered is the
beginning of the answer, once; without leave nothing that may have been acted on is sent
twice; nobody is asked but the host that was named; a stop and a deadline are kept; no
descriptor stays open.
)";

bool IsRewritten() { return std::getenv("KEYROTATOR_WRITE_FAULTS") != nullptr; }

std::size_t OpenDescriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

template <class Transport>
std::string Matrix(const std::string& section) {
  const std::vector<WireFault> faults = AllWireFaults();
  std::vector<Cell> cells;
  for (const WireFault& fault : faults) {
    for (const bool streamed : {false, true}) {
      for (const Bound bound : kBounds)
        cells.push_back(
            {.fault = &fault, .streamed = streamed, .bound = bound});
    }
  }
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i; (i = next++) < cells.size();) {
      if (!IsSkipped(cells[i])) Run<Transport>(cells[i]);
    }
  };
  Run<Transport>(cells[0]);  // what libraries open once, they have opened
  const std::size_t before = OpenDescriptors();
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back(work);
  threads.clear();  // joins
  CHECK(OpenDescriptors() == before);
  const Cell* late_stop = nullptr;
  const Cell* late_deadline = nullptr;
  for (const Cell& cell : cells) {
    if (IsSkipped(cell)) continue;
    Check(cell);
    const auto keep = [&](const Cell*& latest) {
      if (latest == nullptr || latest->late < cell.late) latest = &cell;
    };
    if (cell.stopped) keep(late_stop);
    if (cell.bound == Bound::kDeadline && cell.events == 0) keep(late_deadline);
  }
  REQUIRE(late_stop != nullptr);
  REQUIRE(late_deadline != nullptr);
  if (IsRewritten()) {
    const auto ms = [](Clock::duration time) {
      return std::chrono::duration<double, std::milli>(time).count();
    };
    fmt::print(
        "{}: at most {:.1f} ms after a stop ({}), {:.1f} after a deadline "
        "({})\n",
        section, ms(late_stop->late), late_stop->Name(),
        ms(late_deadline->late), late_deadline->Name());
  }
  return Page(section, cells);
}

TEST_CASE("each fault comes to what the page says",
          "[client][faults][S9][S15][P12]") {
  const std::string path = KEYROTATOR_TEST_VECTORS "/../../faults.md";
  // A transport of another kind is one more line.
  const std::string page =
      std::string(kHead) + Matrix<CurlTransport>("CurlTransport");
  if (IsRewritten()) std::ofstream(path) << page;
  std::ifstream file(path);
  const std::string known{std::istreambuf_iterator<char>(file), {}};
  // Line by line, so that a failure shows the row alone.
  const auto lines = [](const std::string& text) {
    std::vector<std::string> result{""};
    for (const char c : text) {
      if (c == '\n') {
        result.emplace_back();
      } else {
        result.back() += c;
      }
    }
    return result;
  };
  const auto expected = lines(known);
  const auto found = lines(page);
  REQUIRE(expected.size() == found.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == expected[i]);
}

}  // namespace
}  // namespace keyrotator::testing::openai_fault_matrix_test
