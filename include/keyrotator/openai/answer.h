// File: openai/answer.h
//
// Answer: the answer to one send, read as it arrives. Bytes go in; the events
// of a stream and, at the end, a verdict come out. It knows no rotator and no
// clock: what a verdict does to a key, and what is sent next, is failover.h.
//
// Example: the events of a stream, then what the whole comes to.
//   keyrotator::OpenAIClassifier classifier;
//   keyrotator::internal::Answer answer(classifier, /*stream=*/true);
//   auto now = std::chrono::system_clock::now();
//   auto sink = [](const keyrotator::SseEvent&) { return true; };
//   answer.OnHead(200, {});
//   (void)answer.OnBody("data: {\"choices\": []}\n\n", now, sink);
//   auto ending = answer.End(nullptr, now, sink);  // cut: no "[DONE]" came

#ifndef KEYROTATOR_OPENAI_ANSWER_H_
#define KEYROTATOR_OPENAI_ANSWER_H_

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/openai/sse.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator::internal {

// What an answer came to.
struct Ending {
  enum class How {
    kWhole,    // it came, for good or ill: the verdict says which
    kBroken,   // it broke off after events had been delivered
    kStopped,  // the caller ended it
  };
  How how = How::kWhole;
  Verdict verdict = {};
  // Whether the server may have acted on the request: to send it again may then
  // be paid for twice.
  bool ambiguous = false;
};

// For one send and one thread. The classifier must outlive it.
//
// `Classifier` says what answers mean: `Verdict (const HttpResponse&,
// system_clock::time_point)`. For streams it may also have
// `std::optional<Verdict> (string_view event, string_view data,
// system_clock::time_point)`, an error inside a stream, and
// `bool Completes(string_view event, string_view data)`, whether this event is
// the last of the answer. It may keep state from event to event.
template <class Classifier>
class Answer {
 public:
  using WallTime = std::chrono::system_clock::time_point;

  // `stream`: a success is to be read as server-sent events.
  Answer(Classifier& classifier, bool stream)
      : classifier_(classifier), stream_(stream) {}

  void OnHead(int status, Headers headers) {
    response_ = {.status = status, .headers = std::move(headers), .body = {}};
    reading_ =
        stream_ && IsSuccess(status) ? Reading::kUndecided : Reading::kBody;
  }

  // The next bytes. `sink` is called with each event but errors and the final
  // "[DONE]"; it may return bool, and false ends the answer. Bytes that bring
  // no event, such as comments, are idle; `now` is for dates in them.
  template <class Sink>
  Flow OnBody(std::string_view bytes, WallTime now, Sink&& sink) {
    if (reading_ == Reading::kUndecided && !Decide(bytes)) return Flow::kIdle;
    if (reading_ == Reading::kEvents) return Feed(bytes, now, sink);
    // No error needs more than that to be understood.
    const std::size_t room =
        kMaxErrorBody - std::min(kMaxErrorBody, response_.body.size());
    response_.body.append(IsSuccess(response_.status) ? bytes
                                                      : bytes.substr(0, room));
    return Flow::kMore;
  }

  // The transfer is over, with `error` if it did not end well.
  template <class Sink>
  Ending End(const TransportError* error, WallTime now, Sink&& sink) {
    if (reading_ == Reading::kBody) {
      // A refusal whose body was cut is still a refusal.
      const bool refused =
          response_.status != 0 && !IsSuccess(response_.status);
      return error != nullptr && !refused ? Lost(*error) : Judge(now);
    }
    parser_.Finish(
        [&](const SseEvent& event) { return OnEvent(event, now, sink); });
    // Servers often close right after an error.
    if (const auto rest = parser_.Unfinished(); rest && !error_)
      static_cast<void>(TakeError(*rest, now));
    return delivered_ ? EndDelivered(error) : EndUndelivered(error);
  }

  // The answer as a whole, instead of the three above.
  Ending Whole(HttpResponse response, WallTime now) {
    response_ = std::move(response);
    return Judge(now);
  }

  // There is no answer, or none that is whole: what has come of it is dropped.
  Ending Lost(const TransportError& error) {
    if (error.kind == TransportError::Kind::kStopped)
      return {.how = Ending::How::kStopped};
    response_ = {};
    const bool useless = error.kind == TransportError::Kind::kBadUrl;
    return {.verdict = Failure(
                useless ? VerdictKind::kCallerError : VerdictKind::kTransient,
                error.message),
            .ambiguous = error.maybe_sent};
  }

  // Whether an event went to the sink, so that nothing may be sent again.
  bool delivered() const { return delivered_; }
  // Whether "[DONE]" came: only the transfer is left to end.
  bool complete() const { return done_; }

  // What has come so far. The body of a stream is that of the error in it.
  const HttpResponse& response() const { return response_; }
  HttpResponse TakeResponse() { return std::move(response_); }

 private:
  enum class Reading { kBody, kUndecided, kEvents };

  static bool IsSuccess(int status) { return status >= 200 && status < 300; }

  static Verdict Failure(VerdictKind kind, std::string message) {
    return {.kind = kind,
            .retry_after = {},
            .should_retry = {},
            .code = {},
            .message = std::move(message)};
  }

  // Its first byte tells a stream from JSON or HTML that came in its place; the
  // Content-Type may be wrong or missing. False before there is one.
  bool Decide(std::string_view bytes) {
    const std::string_view text = SkipBlanks(bytes);
    if (text.empty()) return false;
    reading_ = Reading::kEvents;
    if (text[0] == '{' || text[0] == '[' || text[0] == '<') {
      reading_ = Reading::kBody;
      // So that a classifier looks at the body instead.
      response_.headers.Remove("Content-Type");
    }
    return true;
  }

  template <class Sink>
  Flow Feed(std::string_view bytes, WallTime now, Sink& sink) {
    const std::uint64_t before = parser_.events();
    const bool going = parser_.Feed(bytes, [&](const SseEvent& event) {
      return OnEvent(event, now, sink);
    });
    if (done_) return Flow::kComplete;
    if (!going) return Flow::kStop;
    return parser_.events() == before ? Flow::kIdle : Flow::kMore;
  }

  // False: read no further.
  template <class Sink>
  bool OnEvent(const SseEvent& event, WallTime now, Sink& sink) {
    if (event.data == "[DONE]") {
      done_ = whole_ = true;
      return false;
    }
    if (TakeError(event, now)) return whole_;
    delivered_ = true;
    whole_ = whole_ || Completes(event);
    if constexpr (std::is_void_v<decltype(sink(event))>) {
      sink(event);
      return true;
    } else {
      sink_stopped_ = !sink(event);
      return !sink_stopped_;
    }
  }

  // Whether the event is an error. One that comes when the answer is whole is
  // of no account.
  bool TakeError(const SseEvent& event, WallTime now) {
    std::optional<Verdict> error = EventError(event, now);
    if (!error) return false;
    if (!whole_) {
      error_ = std::move(error);
      response_.body = event.data;
    }
    return true;
  }

  std::optional<Verdict> EventError(const SseEvent& event, WallTime now) {
    if constexpr (std::is_invocable_v<Classifier&, std::string_view,
                                      std::string_view, WallTime>) {
      return classifier_(event.event, event.data, now);
    } else {
      return std::nullopt;
    }
  }

  bool Completes(const SseEvent& event) {
    if constexpr (requires {
                    {
                      classifier_.Completes(event.event, event.data)
                      } -> std::convertible_to<bool>;
                  }) {
      return classifier_.Completes(event.event, event.data);
    } else {
      return false;
    }
  }

  Ending Judge(WallTime now) {
    const int status = response_.status;
    const bool safe = status == 401 || status == 402 || status == 403 ||
                      status == 429 || status == 503 || status == 529;
    return {.verdict = classifier_(response_, now), .ambiguous = !safe};
  }

  Ending EndUndelivered(const TransportError* error) {
    if (whole_) return {};  // "[DONE]" and nothing before it
    if (error_) return {.verdict = *std::move(error_), .ambiguous = true};
    if (error != nullptr) return Lost(*error);
    return {.verdict = Cut(nullptr, "the stream ended without an event"),
            .ambiguous = true};
  }

  Ending EndDelivered(const TransportError* error) {
    using How = Ending::How;
    if (error_) return {.how = How::kBroken, .verdict = *std::move(error_)};
    if (whole_) return {};
    const bool stopped =
        sink_stopped_ ||
        (error != nullptr && error->kind == TransportError::Kind::kStopped);
    if (stopped) return {.how = How::kStopped};
    return {.how = How::kBroken,
            .verdict =
                Cut(error, "the stream ended before the answer was complete")};
  }

  Verdict Cut(const TransportError* error, const char* how) const {
    return Failure(VerdictKind::kTransient, error != nullptr ? error->message
                                            : parser_.error().empty()
                                                ? std::string(how)
                                                : std::string(parser_.error()));
  }

  Classifier& classifier_;
  const bool stream_;
  HttpResponse response_;
  Reading reading_ = Reading::kBody;
  SseParser parser_;
  bool delivered_ = false;
  bool whole_ = false;            // the answer is complete
  bool done_ = false;             // "[DONE]"
  bool sink_stopped_ = false;     // the sink wants no more
  std::optional<Verdict> error_;  // in the stream
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_ANSWER_H_
