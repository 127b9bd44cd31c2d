// File: failover_fuzz.cc
//
// libFuzzer: whoever drives a Failover, and in whatever order: nothing is sent
// twice for one step or after an event was delivered, an answer marks its key once,
// no text has a key in it, and every request ends, without a lease.
//
// libraries: simdjson
//
// An input is three bytes of options, then calls: a byte each for the call and for
// what it is given.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/keyrotator.h"
#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/failover.h"
#include "keyrotator/testing/manual_clock.h"

namespace {

using namespace keyrotator;
using namespace std::chrono_literals;
using testing::ManualClock;

void Require(bool good) {
  if (!good) std::abort();
}

using Rotator = KeyRotator<RoundRobin, ManualClock>;

// Counts what is said of a key for one send.
class Watched : public Rotator {
 public:
  using Rotator::Rotator;

  bool Settle(const KeyRef& key, const Report& report) {
    if (report.kind == Report::Kind::kServed) Require(++served <= 1);
    if (report.kind == Report::Kind::kFailed ||
        report.kind == Report::Kind::kRateLimited)
      Require(++bad <= 1);
    if (report.limits) Require(++limits <= 1);
    return Rotator::Settle(key, report);
  }

  int served = 0;
  int bad = 0;
  int limits = 0;
};

constexpr std::array<int, 12> kStatuses = {200, 200, 201, 400, 401, 403,
                                           404, 408, 429, 500, 503, 529};
constexpr std::array<std::string_view, 14> kPieces = {
    "data: {\"choices\": [{\"delta\": {\"content\": \"hi\"}}]}\n\n",
    "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\n\n",
    "data: [DONE]\n\n",
    "data: {\"error\": {\"code\": \"rate_limit_exceeded\"}}\n\n",
    "event: error\ndata: {\"error\": {\"type\": \"overloaded_error\"}}\n\n",
    ": a comment\n\n",
    "data: ",
    "\n",
    "\r\n\r\n",
    "{\"choices\": []}",
    "{\"error\": {\"code\": \"invalid_api_key\", \"message\": \"secret-A\"}}",
    "{\"error\": {\"code\": \"insufficient_quota\"}}",
    "{\"error\": {\"message\": \"try again in 2s, secret-B\"}}",
    "{"};

Headers HeadersOf(std::uint8_t bits) {
  Headers headers;
  if (bits & 1) headers.Add("retry-after", "2");
  if (bits & 2) headers.Add("x-should-retry", bits & 4 ? "true" : "false");
  if (bits & 8) {
    headers.Add("x-ratelimit-limit-requests", "10");
    headers.Add("x-ratelimit-remaining-requests", bits & 16 ? "0" : "3");
    headers.Add("x-ratelimit-reset-requests", "6s");
  }
  if (bits & 32) headers.Add("content-type", "text/event-stream");
  if (bits & 64) headers.Add("x-echo", "secret-A");
  return headers;
}

class Driver {
 public:
  explicit Driver(std::span<const std::uint8_t> bytes)
      : bytes_(bytes),
        first_(Take()),
        second_(Take()),
        rotator_(Keys(first_ % 4), Options(), RoundRobin{}, clock_),
        failover_(rotator_, OpenAIClassifier{}, Request(), Retry()) {}

  void Run() {
    while (!bytes_.empty()) Call(Take());
    // From here on nothing but failures comes.
    for (int i = 0; Next().what != Do::kDone; ++i) {
      Require(i < 1000);
      if (in_flight_) {
        End([&] { failover_.Report(TransportError{.message = "reset"}); });
      } else {
        clock_.Advance(1s);
        if (waits_for_key_) failover_.Offer(rotator_.Pick(failover_.hint()));
      }
    }
    CheckDone();
  }

 private:
  static ApiKeys Keys(std::size_t count) {
    std::vector<ApiKey> keys;
    for (const char name : std::string_view("ABCD").substr(0, count))
      keys.emplace_back(std::string("secret-") + name,
                        KeyOptions{.name = std::string(1, name)});
    return keys;
  }
  RotatorOptions Options() const {
    RotatorOptions options;
    if (first_ & 4) options.retry_failed_after = 5s;
    return options;
  }
  FailoverRequest Request() const {
    FailoverRequest request;
    request.scope = first_ & 8 ? "gpt-4o" : "";
    request.stream = (first_ & 16) != 0;
    request.head = (first_ & 32) != 0;
    request.pass_on = (first_ & 64) != 0;
    if (first_ & 128) request.max_body = 20;
    return request;
  }
  RetryOptions Retry() const {
    RetryOptions options;
    options.max_retries = second_ % 4;
    options.deadline = second_ & 4 ? 60s : 3s;
    options.retry_ambiguous = (second_ & 8) != 0;
    options.random = [] { return 0.5; };
    options.wall_clock = [] {
      return std::chrono::system_clock::time_point(1768478400s);
    };
    return options;
  }

  std::uint8_t Take() {
    if (bytes_.empty()) return 0;
    const std::uint8_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }

  Failover<Watched, OpenAIClassifier>::Step Next() {
    const auto step = failover_.Next();
    waits_for_key_ = step.for_key;
    switch (step.what) {
      case Do::kSend:
        Require(!in_flight_ && !done_ && !delivered_);
        in_flight_ = true;
        rotator_.served = rotator_.bad = rotator_.limits = 0;
        Require(!failover_.key().Reveal().empty());
        ++sends_;
        break;
      case Do::kInFlight:
        Require(in_flight_);
        break;
      case Do::kWait:
        Require(!in_flight_ && step.until > clock_.now());
        break;
      case Do::kDone:
        Require(!in_flight_);
        done_ = true;
        break;
    }
    return step;
  }

  // What ends an answer, if one is under way; else it changes nothing.
  template <class F>
  void End(F&& call) {
    const int said = rotator_.served + rotator_.bad + rotator_.limits;
    call();
    Require(in_flight_ ||
            said == rotator_.served + rotator_.bad + rotator_.limits);
    in_flight_ = false;
  }

  bool Sink() {
    delivered_ = true;
    return !stops_;
  }

  void Call(std::uint8_t call) {
    const auto on_event = [this](const SseEvent&) { return Sink(); };
    const auto on_bytes = [this](std::string_view) { return Sink(); };
    const bool raw = (first_ & 64) != 0;
    const std::uint8_t detail = Take();
    switch (call % 10) {
      case 0:
      case 1:
        Next();
        return;
      case 2:
        if (waits_for_key_ || detail < 16)
          failover_.Offer(detail & 1 ? rotator_.Pick(failover_.hint())
                                     : std::nullopt);
        return;
      case 3:
        failover_.OnHead(kStatuses[detail % kStatuses.size()],
                         HeadersOf(Take()));
        return;
      case 4:
      case 5: {
        const std::string piece(kPieces[detail % kPieces.size()]);
        const bool more = raw ? failover_.OnBody(piece, on_bytes)
                              : failover_.OnBody(piece, on_event);
        if (more) return;
        End([&] {
          raw ? failover_.OnEnd(on_bytes) : failover_.OnEnd(on_event);
        });
        return;
      }
      case 6: {
        const TransportError error{
            .kind = static_cast<TransportError::Kind>(detail % 7),
            .message = "secret-A",
            .maybe_sent = (detail & 64) != 0};
        const TransportError* ended = detail & 128 ? &error : nullptr;
        End([&] {
          raw ? failover_.OnEnd(on_bytes, ended)
              : failover_.OnEnd(on_event, ended);
        });
        return;
      }
      case 7:
        End([&] {
          failover_.Report(HttpResponse{
              .status = kStatuses[detail % kStatuses.size()],
              .headers = HeadersOf(Take()),
              .body = std::string(kPieces[Take() % kPieces.size()])});
        });
        return;
      case 8:
        if (detail < 8) {
          failover_.Stop();
          in_flight_ = false;
          done_ = true;
        } else if (detail < 16) {
          stops_ = true;
        } else if (detail < 24) {
          rotator_.Restore("secret-A");
        }
        return;
      default:
        clock_.Advance(std::chrono::milliseconds(detail * 20));
    }
  }

  void CheckDone() {
    const Outcome outcome = failover_.outcome();
    Require(outcome != Outcome::kPending);
    Require(failover_.trail().size() == sends_);
    Require((outcome == Outcome::kOk) == failover_.message().empty());
    if (delivered_ && !failover_.trail().empty())
      Require(outcome == Outcome::kOk || outcome == Outcome::kCut ||
              outcome == Outcome::kStopped);
    for (const KeyStatus& key : rotator_.Snapshot())
      Require(key.in_flight == 0);
    const auto check = [this](std::string_view text) {
      for (const ApiKey& key : Keys(first_ % 4))
        Require(text.find(key.Reveal()) == text.npos);
    };
    check(failover_.message());
    check(failover_.verdict().message);
    check(failover_.verdict().code);
    if (outcome != Outcome::kOk) check(failover_.response().body);
    // A success is looked through for the key that it was sent with.
    for (const auto& field : failover_.response().headers) {
      if (failover_.verdict().kind != VerdictKind::kOk) check(field.value);
      if (sends_ > 0)
        Require(field.value.find("secret-" + failover_.trail().back().key) ==
                std::string::npos);
    }
    for (const Attempt& attempt : failover_.trail()) check(attempt.code);
  }

  std::span<const std::uint8_t> bytes_;
  const std::uint8_t first_;
  const std::uint8_t second_;
  ManualClock clock_;
  Watched rotator_;
  Failover<Watched, OpenAIClassifier> failover_;
  std::size_t sends_ = 0;
  bool in_flight_ = false;
  bool waits_for_key_ = false;
  bool delivered_ = false;
  bool stops_ = false;
  bool done_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  Driver({data, size}).Run();
  return 0;
}
