// File: testing/fake_transport.h
//
// FakeTransport: a provider for your tests without a socket, a port or a
// thread. It is a transport (see http/transport.h), so OpenAIClient and
// whatever else takes one runs against it as against the real thing, in one
// thread, on a clock that the test moves. FakeProvider does the same behind a
// port, for programs with an HTTP client of their own.
//
// Example:
//   using namespace keyrotator::testing;
//   ManualClock clock;
//   clock.AdvanceWhenWaiting();  // whoever would wait for a key does not
//   FakeTransport transport({.keys = {{"sk-a", {.limit = {.requests = 1}}}}},
//                           clock);
//   keyrotator::KeyRotator rotator({"sk-a"}, {}, keyrotator::RoundRobin{},
//                                  clock);
//   keyrotator::OpenAIClient client("https://fake.test/v1", rotator,
//                                   transport);
//   transport.backend().Inject({.kind = Fault::Kind::kReset});
//   assert(client.ChatCompletion(R"({"model": "gpt-4o"})").ok());
//   assert(transport.backend().Counts().served == 1);

#ifndef KEYROTATOR_TESTING_FAKE_TRANSPORT_H_
#define KEYROTATOR_TESTING_FAKE_TRANSPORT_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "keyrotator/clock.h"
#include "keyrotator/http/body_source.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transfer.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/http/url.h"
#include "keyrotator/testing/fake_answer.h"
#include "keyrotator/testing/fake_backend.h"
#include "keyrotator/testing/fake_options.h"
#include "keyrotator/testing/manual_clock.h"

namespace keyrotator::testing {

namespace fake_internal {

// One exchange: hands an answer to a sink as a network would, on a clock that
// it moves by the time that would pass.
class FakeExchange {
 public:
  FakeExchange(const HttpRequest& request, ResponseSink& sink,
               const std::stop_token& stop, ManualClock clock)
      : request_(request),
        delivery_(sink),
        stop_(stop),
        clock_(std::move(clock)),
        start_(clock_.now()) {}

  std::optional<TransportError> Run(FakeAnswer answer) {
    if (auto error = Pass(answer.delay)) return error;
    if (answer.status == 0) {
      return Error(Kind::kLost, answer.not_http.empty()
                                    ? "the connection was reset"
                                    : "what came back is not HTTP");
    }
    delivery_.Head(answer.status, std::move(answer.headers));
    bool first = true;
    for (const std::string& piece : answer.pieces) {
      if (delivery_.done()) return std::nullopt;
      if (auto error = Pass(std::exchange(first, false) ? Milliseconds(0)
                                                        : answer.pause)) {
        return error;
      }
      if (!delivery_.Body(piece)) return std::nullopt;
      if (!delivery_.idle()) begun_ = true;
    }
    if (answer.end == FakeAnswer::End::kWhole) return std::nullopt;
    return Error(Kind::kLost, "the connection broke amid the answer");
  }

 private:
  using Kind = TransportError::Kind;
  using Milliseconds = std::chrono::milliseconds;

  // Lets time pass in which nothing arrives. The error, if that or a stop ends
  // the exchange.
  std::optional<TransportError> Pass(Milliseconds silence) {
    if (stop_.stop_requested())
      return Error(Kind::kStopped, "the caller stopped it");
    const Span idle = request_.idle_timeout;
    // Nobody bounds both.
    const bool whole = begun_ || request_.begin_timeout.count() == 0;
    const Milliseconds bound =
        whole ? request_.total_timeout : request_.begin_timeout;
    const Span total = bound;
    const Span left = total - (clock_.now() - start_);
    if (total.count() != 0 && left < silence &&
        (idle.count() == 0 || left <= idle)) {
      clock_.Advance(std::max(left, Span(Milliseconds(0))));
      return Error(Kind::kTimeout, (whole ? "no whole answer within "
                                          : "no answer began within ") +
                                       Text(bound));
    }
    if (idle.count() != 0 && idle < silence) {
      clock_.Advance(idle);
      return Error(Kind::kTimeout,
                   "silence for " + Text(request_.idle_timeout));
    }
    if (silence.count() > 0) clock_.Advance(silence);
    return std::nullopt;
  }

  static std::string Text(Milliseconds time) {
    return std::to_string(time.count()) + " ms";
  }
  static TransportError Error(Kind kind, std::string message) {
    return {.kind = kind, .message = std::move(message), .maybe_sent = true};
  }

  const HttpRequest& request_;
  internal::Delivery delivery_;
  const std::stop_token& stop_;
  ManualClock clock_;
  const ManualClock::time_point start_;
  bool begun_ = false;
};

}  // namespace fake_internal

// A handle: copies send to the same provider. Thread-safe, but the clock is
// moved by each Send, as if they came one after the other.
class FakeTransport {
 public:
  // The limits refill by `clock`, and latency, event_interval and the pauses of
  // faults move it; the options' own clock is not asked.
  explicit FakeTransport(FakeProviderOptions options,
                         ManualClock clock = ManualClock())
      : backend_(std::make_shared<FakeBackend>(std::move(options))),
        clock_(std::move(clock)) {}

  // As http/transport.h says. Any host will do. A time that the request bounds
  // is over when the clock has moved so far; a connection that breaks is kLost.
  // A source is read whole. Throws what the sink and the source throw.
  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink,
                                     std::stop_token stop = {}) {
    const auto url = internal::ParseUrl(request.url);
    if (auto refusal = internal::Refusal(request, url)) return refusal;
    if (stop.stop_requested()) {
      return TransportError{.kind = TransportError::Kind::kStopped,
                            .message = "the caller stopped it",
                            .maybe_sent = false};
    }
    if (request.source == nullptr) return Exchange(request, sink, stop);
    std::string body;
    if (auto error = ReadAll(*request.source, body)) return error;
    HttpRequest read = request;
    read.body = body;
    return Exchange(read, sink, stop);
  }

  // What answers: its faults are injected and its counts read here.
  FakeBackend& backend() const { return *backend_; }

 private:
  std::optional<TransportError> Exchange(const HttpRequest& request,
                                         ResponseSink& sink,
                                         const std::stop_token& stop) {
    return fake_internal::FakeExchange(request, sink, stop, clock_)
        .Run(backend_->Answer(request, clock_.now().time_since_epoch()));
  }

  static std::optional<TransportError> ReadAll(const BodySource& source,
                                               std::string& body) {
    internal::Upload upload(source);
    char piece[16384];
    std::optional<std::size_t> size;
    if (upload.Open()) {
      while ((size = upload.Read(piece)).value_or(0) != 0)
        body.append(piece, *size);
    }
    if (size) return std::nullopt;
    return TransportError{.kind = TransportError::Kind::kBody,
                          .message = upload.error(),
                          .maybe_sent = false};
  }

  std::shared_ptr<FakeBackend> backend_;
  ManualClock clock_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTING_FAKE_TRANSPORT_H_
