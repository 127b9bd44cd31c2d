// File: openai/answer.h
//
// Answer: the answer to one send, read as it arrives. Bytes go in; the events
// of a stream and, at the end, a verdict come out. It knows no rotator and no
// clock: what a verdict does to a key, and what is sent next, is failover.h.
//
// Example: the events of a stream, then what the whole comes to.
//   keyrotator::OpenAIClassifier classifier;
//   keyrotator::internal::Answer answer(
//       classifier, keyrotator::internal::Expected::kEvents);
//   auto now = std::chrono::system_clock::now();
//   auto sink = [](const keyrotator::SseEvent&) { return true; };
//   answer.OnHead(200, {});
//   (void)answer.OnBody("data: {\"choices\": []}\n\n", now, sink);
//   auto ending = answer.End(nullptr, now, sink);  // cut: no "[DONE]" came
//
// A sink that takes a std::string_view instead is a raw one: it gets the bytes
// of the events as they came, or, of an answer to be passed on, whatever comes.

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
#include "keyrotator/openai/raw_events.h"
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

// How the good answers to a request are read.
enum class Expected {
  kBody,
  kEvents,  // as server-sent events
  kHead,    // to HEAD: there is no body, so none is missed
  // As their headers say, by a raw sink: events as kEvents; JSON, a page or what
  // has no type as kBody, unless it is longer than any error or than what may be
  // held; all else, as it comes, from its first byte.
  kWhatComes,
};

// What the headers of a good answer say of a body: how it is to be read.
enum class BodyKind { kText, kEvents, kOpaque };
inline BodyKind KindOfBody(const Headers& headers) {
  const std::string coding =
      Lower(headers.Find("Content-Encoding").value_or("identity"));
  if (coding != "identity" && !coding.empty()) return BodyKind::kOpaque;
  const std::string_view field = headers.Find("Content-Type").value_or("");
  const std::string type = Lower(field.substr(0, field.find_first_of("; \t")));
  if (type == "text/event-stream") return BodyKind::kEvents;
  const bool text = type.empty() || type == "text/html" ||
                    type == "application/json" || type.ends_with("+json");
  return text ? BodyKind::kText : BodyKind::kOpaque;
}

// What a sink returns; true if that is nothing.
template <class Sink, class Piece>
bool Accepts(Sink& sink, const Piece& piece) {
  if constexpr (std::is_void_v<decltype(sink(piece))>) {
    sink(piece);
    return true;
  } else {
    return sink(piece);
  }
}

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

  // `max_body`: of a success that is no stream, in bytes. It bounds what is held:
  // an answer that is passed on may be larger.
  Answer(Classifier& classifier, Expected expected,
         std::size_t max_body = kMaxBody)
      : classifier_(classifier), expected_(expected), max_body_(max_body) {}

  void OnHead(int status, Headers headers) {
    response_ = {.status = status, .headers = std::move(headers), .body = {}};
    reading_ = IsSuccess(status) ? HowToRead() : Reading::kBody;
  }

  // The next bytes. `sink` is called with each event but errors and the final
  // "[DONE]"; it may return bool, and false ends the answer. A raw sink is
  // called with the bytes of each event, "[DONE]" as well, that may be passed
  // on: those of errors, and what came before the first good event of an answer
  // that has none, never are. Comments come with the event behind them, or, once
  // there was one, by themselves. Bytes that bring no event, such as comments,
  // are idle; `now` is for dates in them.
  template <class Sink>
  Flow OnBody(std::string_view bytes, WallTime now, Sink&& sink) {
    if (reading_ == Reading::kUndecided && !Decide(bytes)) {
      if constexpr (IsRaw<Sink>()) {
        if (!raw_.Hold(bytes)) return Flow::kStop;
      }
      return Flow::kIdle;
    }
    if (reading_ == Reading::kEvents) {
      if constexpr (IsRaw<Sink>()) {
        return FeedRaw(bytes, now, sink);
      } else {
        return Feed(bytes, now, sink);
      }
    }
    if constexpr (IsRaw<Sink>()) {
      if (reading_ == Reading::kPassed || IsTooLongToHold(bytes))
        return PassOn(bytes, sink);
    }
    // No error needs more than that to be understood.
    const bool good = IsSuccess(response_.status);
    const std::size_t most = good ? max_body_ : kMaxErrorBody;
    const std::size_t room = most - std::min(most, response_.body.size());
    too_large_ = too_large_ || (good && bytes.size() > room);
    if (too_large_) return Flow::kStop;
    response_.body.append(bytes.substr(0, room));
    // In the place of a stream it is no life: a stream may take its time, what
    // came instead may not.
    return expected_ == Expected::kEvents ? Flow::kIdle : Flow::kMore;
  }

  // The transfer is over, with `error` if it did not end well.
  template <class Sink>
  Ending End(const TransportError* error, WallTime now, Sink&& sink) {
    if (too_large_) return TooLarge();
    if (reading_ == Reading::kBody) {
      // A refusal whose body was cut is still a refusal.
      const bool refused =
          response_.status != 0 && !IsSuccess(response_.status);
      return error != nullptr && !refused ? Lost(*error) : Judge(now);
    }
    if (reading_ == Reading::kPassed) {
      whole_ = error == nullptr && !sink_stopped_;
      return delivered_ ? EndDelivered(error) : EndUndelivered(error);
    }
    parser_.Finish([&](const SseEvent& event) {
      if constexpr (IsRaw<Sink>()) {
        static_cast<void>(Read(event, now));
      } else {
        static_cast<void>(OnEvent(event, now, sink));
      }
    });
    // Servers often close right after an error.
    const auto rest = parser_.Unfinished();
    const bool failed = rest && !error_ && TakeError(*rest, now);
    if constexpr (IsRaw<Sink>()) {
      if (whole_ && !failed && !sink_stopped_)
        static_cast<void>(Pass({}, sink));
    }
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
    const bool useless = error.kind == TransportError::Kind::kBadUrl ||
                         error.kind == TransportError::Kind::kBody;
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
  enum class Reading { kBody, kUndecided, kEvents, kPassed };

  enum class Meaning { kNone, kGood, kDone, kError };

  template <class Sink>
  static constexpr bool IsRaw() {
    return !std::is_invocable_v<Sink&, const SseEvent&>;
  }

  static Verdict Failure(VerdictKind kind, std::string message) {
    return {.kind = kind,
            .retry_after = {},
            .should_retry = {},
            .code = {},
            .message = std::move(message)};
  }

  // A good answer, by what is expected and what its headers say.
  Reading HowToRead() const {
    if (expected_ == Expected::kEvents) return Reading::kUndecided;
    if (expected_ != Expected::kWhatComes) return Reading::kBody;
    switch (KindOfBody(response_.headers)) {
      case BodyKind::kEvents:
        return Reading::kUndecided;
      case BodyKind::kOpaque:
        return Reading::kPassed;
      case BodyKind::kText:
        break;
    }
    return Reading::kBody;
  }

  // Whether a body that was collected so far is passed on, good as it must be,
  // since no error is so long.
  bool IsTooLongToHold(std::string_view bytes) const {
    return expected_ == Expected::kWhatComes && IsSuccess(response_.status) &&
           response_.body.size() + bytes.size() >
               std::min(kMaxErrorBody, max_body_);
  }

  // From here on whatever comes goes to the sink, after what was collected.
  template <class Sink>
  Flow PassOn(std::string_view bytes, Sink& sink) {
    reading_ = Reading::kPassed;
    const std::string collected = std::exchange(response_.body, {});
    const bool more =
        (collected.empty() || Deliver(std::string_view(collected), sink)) &&
        (bytes.empty() || Deliver(bytes, sink));
    return more ? Flow::kMore : Flow::kStop;
  }

  // It would be as large when it is sent again, and with any key.
  Ending TooLarge() {
    response_.body.clear();
    Verdict verdict = Failure(VerdictKind::kTransient,
                              "its body is above " + std::to_string(max_body_) +
                                  " bytes, unpacked (ClientOptions::max_body)");
    verdict.should_retry = false;
    return {.verdict = std::move(verdict), .ambiguous = true};
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

  // What an event is to the answer.
  Meaning Read(const SseEvent& event, WallTime now) {
    if (event.data == "[DONE]") {
      done_ = whole_ = true;
      return Meaning::kDone;
    }
    if (TakeError(event, now)) return Meaning::kError;
    whole_ = whole_ || Completes(event);
    return Meaning::kGood;
  }

  // False: read no further.
  template <class Sink>
  bool OnEvent(const SseEvent& event, WallTime now, Sink& sink) {
    const Meaning meaning = Read(event, now);
    if (meaning == Meaning::kError) return whole_;
    return meaning == Meaning::kGood && Deliver(event, sink);
  }

  template <class Sink, class Piece>
  bool Deliver(const Piece& piece, Sink& sink) {
    delivered_ = true;
    sink_stopped_ = !Accepts(sink, piece);
    return !sink_stopped_;
  }

  // --- For a raw sink ---

  template <class Sink>
  Flow FeedRaw(std::string_view bytes, WallTime now, Sink& sink) {
    const std::uint64_t before = parser_.events();
    bool going = true;
    raw_.Cut(bytes, [&](std::string_view piece, bool whole) {
      return going = OnPiece(piece, whole, now, sink);
    });
    if (done_) return Flow::kComplete;
    if (!going) return Flow::kStop;
    return parser_.events() == before ? Flow::kIdle : Flow::kMore;
  }

  // A piece of the stream, which holds one event at most, and that at its end.
  // False: read no further.
  template <class Sink>
  bool OnPiece(std::string_view piece, bool whole, WallTime now, Sink& sink) {
    if (done_) return !sink_stopped_ && Pass(piece, sink);
    Meaning meaning = Meaning::kNone;
    const bool going = parser_.Feed(piece, [&](const SseEvent& event) {
      meaning = Read(event, now);
      return meaning == Meaning::kGood || whole_;
    });
    if (meaning == Meaning::kError) {
      raw_.Drop();
      return whole_;
    }
    if (meaning != Meaning::kNone) return Pass(piece, sink);
    if (!going) return false;
    return whole && delivered_ ? Pass(piece, sink) : raw_.Hold(piece);
  }

  // Gives out what was held, and then `piece`.
  template <class Sink>
  bool Pass(std::string_view piece, Sink& sink) {
    return raw_.Release(
        piece, [&](std::string_view bytes) { return Deliver(bytes, sink); });
  }

  // --- What the classifier says ---

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
    if (expected_ == Expected::kHead && IsSuccess(status)) return {};
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
  const Expected expected_;
  const std::size_t max_body_;
  HttpResponse response_;
  Reading reading_ = Reading::kBody;
  SseParser parser_;
  RawEvents raw_;
  bool delivered_ = false;
  bool whole_ = false;         // the answer is complete
  bool done_ = false;          // "[DONE]"
  bool sink_stopped_ = false;  // the sink wants no more
  bool too_large_ = false;
  std::optional<Verdict> error_;  // in the stream
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_ANSWER_H_
