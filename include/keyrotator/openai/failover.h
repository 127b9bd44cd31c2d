// File: openai/failover.h
//
// Failover: what to do next for one request, so that it succeeds while keys are
// revoked, limited or out of quota. It says when to send and with which key, is
// told what came back, marks the key, and says what is next. It never waits,
// sleeps or does I/O, so a blocking loop and an event loop drive it alike.
//
// Example: a blocking loop. MySend returns a keyrotator::HttpResponse.
//   keyrotator::Failover failover(rotator, keyrotator::OpenAIClassifier{},
//                                 {.scope = "gpt-4o"});
//   auto step = failover.Next();
//   for (; step.what != keyrotator::Do::kDone; step = failover.Next()) {
//     if (step.what == keyrotator::Do::kSend) {
//       failover.Report(MySend(failover.key().Reveal()));
//     } else if (step.for_key) {
//       failover.Offer(rotator.PickUntil(step.until, failover.hint()));
//     } else {
//       keyrotator::SleepUntil(rotator.clock(), step.until);
//     }
//   }
//   Use(failover.response());

#ifndef KEYROTATOR_OPENAI_FAILOVER_H_
#define KEYROTATOR_OPENAI_FAILOVER_H_

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/key_status.h"
#include "keyrotator/openai/retry_after.h"
#include "keyrotator/openai/sse.h"
#include "keyrotator/openai/verdict.h"
#include "keyrotator/retry_options.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/selection.h"

namespace keyrotator {

// What one request is, as far as the choice of its keys goes.
struct FailoverRequest {
  std::string scope = {};
  std::string affinity = {};
  double cost = 0;
  // A key to begin with if it is usable, out of turn.
  std::optional<KeyId> prefer = {};
  // Whether the answer is to be read as server-sent events.
  bool stream = false;
};

// How a request ended.
enum class Outcome {
  kPending,
  kOk,           // served
  kCallerError,  // the request itself is at fault
  kDenied,  // each key that could be asked answered that it has no permission
  kUnavailable,  // failing, and no retry left, allowed or in time
  kNoKeys,       // the pool is empty
  kAllFailed,    // every key has failed
  kAllCooling,   // the next key returns at retry_at(), which is too late
  kBusy,         // every key is at its cap or on trial, or too many wait
  kDeadline,     // the time was over
  kStopped,      // the caller asked to stop
  kCut,          // a stream broke off after events had been delivered
};

constexpr std::string_view ToString(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPending:
      return "pending";
    case Outcome::kOk:
      return "ok";
    case Outcome::kCallerError:
      return "caller error";
    case Outcome::kDenied:
      return "denied";
    case Outcome::kUnavailable:
      return "unavailable";
    case Outcome::kNoKeys:
      return "no keys";
    case Outcome::kAllFailed:
      return "all keys failed";
    case Outcome::kAllCooling:
      return "all keys cooling";
    case Outcome::kBusy:
      return "busy";
    case Outcome::kDeadline:
      return "deadline";
    case Outcome::kStopped:
      return "stopped";
    case Outcome::kCut:
      return "stream cut";
  }
  return "unknown";
}

// One send, for the trail.
struct Attempt {
  std::string key;  // its name
  int status = 0;   // 0: no answer
  // kTransient also for one that was stopped before its answer was there.
  VerdictKind verdict = VerdictKind::kOk;
  std::string code;                // the provider's, or empty
  std::chrono::nanoseconds at{0};  // since the request began
  std::chrono::nanoseconds took{0};
};

enum class Do { kSend, kWait, kInFlight, kDone };

// Not thread-safe: one thread at a time. The rotator must outlive it.
//
// `Classifier` says what answers mean: `Verdict (const HttpResponse&,
// system_clock::time_point)`. For streams it may also have
// `std::optional<Verdict> (string_view event, string_view data,
// system_clock::time_point)`, an error inside a stream, and
// `bool Completes(string_view event, string_view data)`, whether this event is
// the last of the answer; it is copied for each request and may keep state.
template <class Rotator, class Classifier>
class Failover {
 public:
  using TimePoint = typename Rotator::TimePoint;

  struct Step {
    Do what = Do::kDone;
    // kSend: the deadline. kWait: call Next again then.
    TimePoint until = {};
    // kWait: a key may come sooner, so wait for it with PickUntil and Offer the
    // result. Who cannot block waits until `next_key` and calls Next.
    bool for_key = false;
    TimePoint next_key = {};
  };

  // The deadline starts now.
  Failover(Rotator& rotator, Classifier classifier,
           FailoverRequest request = {}, RetryOptions options = {})
      : rotator_(rotator),
        classifier_(std::move(classifier)),
        request_(std::move(request)),
        options_(std::move(options)),
        start_(Now()),
        deadline_(internal::SaturatingAdd(start_, options_.deadline.count())),
        prefer_(request_.prefer) {}
  Failover(const Failover&) = delete;
  Failover& operator=(const Failover&) = delete;

  // What to do now. While a request is in flight it says so, however often it
  // is asked.
  Step Next() {
    if (state_ == State::kDone) return {.what = Do::kDone};
    if (state_ == State::kInFlight)
      return {.what = Do::kInFlight, .until = At(deadline_)};
    const internal::Nanos now = Now();
    // The first send needs no time left, unless it had to wait.
    const bool in_time = now < deadline_ ||
                         (attempts_ == 0 && wait_until_ == internal::kLongAgo);
    if (!in_time && (attempts_ > 0 || lease_)) {
      lease_.reset();
      retry_at_ = NextKey(now);
      Finish(Outcome::kDeadline);
      return {.what = Do::kDone};
    }
    if (now < backoff_until_)
      return {.what = Do::kWait,
              .until = At(backoff_until_),
              .next_key = At(backoff_until_)};
    // A Pick that overtakes nobody who waits.
    if (in_time && !lease_)
      lease_ = rotator_.PickUntil(At(internal::kLongAgo), HintAt(now));
    if (lease_) return Send(now);
    return WaitForKey(now);
  }

  // The key to send with, after kSend.
  const Lease& key() const { return *lease_; }

  // For PickUntil. Valid until the next call of another member.
  PickHint hint() { return HintAt(Now()); }

  // What PickUntil gave after a step that was for a key. None before the step's
  // time means that no more callers may wait.
  void Offer(std::optional<Lease> lease) {
    if (state_ != State::kIdle) return;
    if (lease) {
      lease_ = std::move(lease);
    } else if (Now() < wait_until_) {
      Finish(Outcome::kBusy);
    }
  }

  // The caller gives up. Reports that come later change nothing.
  void Stop() {
    if (state_ == State::kDone) return;
    if (state_ == State::kInFlight)
      AddToTrail(VerdictKind::kTransient, incoming_.status, {});
    lease_.reset();
    Finish(Outcome::kStopped);
  }

  // --- The answer, as it arrives. `sink` is called with each event of a stream
  // but errors and the final "[DONE]"; it may return bool, and false ends the
  // transfer. ---

  void OnHead(int status, Headers headers) {
    if (state_ != State::kInFlight) return;
    incoming_ = {.status = status, .headers = std::move(headers), .body = {}};
    reading_ = request_.stream && IsSuccess(status) ? Reading::kUndecided
                                                    : Reading::kBody;
  }

  // False: end the transfer; then call OnEnd.
  template <class Sink>
  [[nodiscard]] bool OnBody(std::string_view bytes, Sink&& sink) {
    if (state_ != State::kInFlight) return false;
    if (reading_ == Reading::kUndecided) {
      // Its first byte tells a stream from JSON or HTML that came in its place;
      // the Content-Type may be wrong or missing.
      const std::string_view text = internal::SkipBlanks(bytes);
      if (text.empty()) return true;
      reading_ = Reading::kEvents;
      if (text[0] == '{' || text[0] == '[' || text[0] == '<') {
        reading_ = Reading::kBody;
        DropContentType();
      }
    }
    if (reading_ == Reading::kEvents) return Feed(bytes, sink);
    // No error needs more than that to be understood.
    const std::size_t room =
        kMaxErrorBody - std::min(kMaxErrorBody, incoming_.body.size());
    incoming_.body.append(IsSuccess(incoming_.status) ? bytes
                                                      : bytes.substr(0, room));
    return true;
  }

  // Whether the answer is complete and only the transfer is left to end, which
  // should be waited for briefly: the connection can be used again then.
  bool complete() const { return done_; }

  // The transfer is over, with `error` if it did not end well.
  template <class Sink>
  void OnEnd(Sink&& sink, const TransportError* error = nullptr) {
    if (state_ != State::kInFlight) return;
    if (reading_ == Reading::kBody) {
      // A refusal whose body was cut is a refusal all the same.
      const bool refused =
          incoming_.status != 0 && !IsSuccess(incoming_.status);
      if (error != nullptr && !refused) return Report(*error);
      return Judge();
    }
    parser_.Finish([&](const SseEvent& event) { return OnEvent(event, sink); });
    // Servers often close right after an error.
    if (const auto rest = parser_.Unfinished(); rest && !stream_error_)
      (void)TakeError(*rest);
    EndStream(error);
  }
  void OnEnd(const TransportError* error = nullptr) {
    OnEnd([](const SseEvent&) {}, error);
  }

  // --- The answer as a whole. ---

  void Report(HttpResponse response) {
    if (state_ != State::kInFlight) return;
    incoming_ = std::move(response);
    Judge();
  }

  void Report(const TransportError& error) {
    if (state_ != State::kInFlight) return;
    if (error.kind == TransportError::Kind::kStopped) return Stop();
    Verdict verdict{.kind = VerdictKind::kTransient,
                    .retry_after = {},
                    .should_retry = {},
                    .code = {},
                    .message = error.message};
    incoming_ = {};
    if (error.kind == TransportError::Kind::kBadUrl)
      verdict.kind = VerdictKind::kCallerError;
    Act(std::move(verdict), error.maybe_sent);
  }

  // --- How it went. ---

  Outcome outcome() const { return outcome_; }
  // The last answer that came, also if the send after it got none; status 0 if
  // there was none at all. The text of one that is an error has no secret of
  // the pool in it.
  const HttpResponse& response() const { return response_; }
  HttpResponse TakeResponse() { return std::move(response_); }
  // What the last send came to. Its text has no secret of the pool in it.
  const Verdict& verdict() const { return verdict_; }
  const std::vector<Attempt>& trail() const { return trail_; }
  // For people: what went wrong and what to do about it; empty after kOk.
  const std::string& message() const { return message_; }
  // When it is worth trying again, if that is known.
  std::optional<TimePoint> retry_at() const {
    return retry_at_ == internal::kNever ? std::nullopt
                                         : std::optional(At(retry_at_));
  }

 private:
  enum class State { kIdle, kInFlight, kDone };
  enum class Reading { kBody, kUndecided, kEvents };

  static constexpr std::size_t kMaxErrorBody = std::size_t{256} << 10;

  // How often this request has used a key.
  struct Use {
    KeyId key;
    int count = 0;
    internal::Nanos not_before = internal::kLongAgo;
  };

  internal::Nanos Now() const { return internal::NanosNow(rotator_.clock()); }
  static TimePoint At(internal::Nanos time) {
    return TimePoint(internal::FromNanos<typename TimePoint::duration>(time));
  }
  std::chrono::system_clock::time_point WallNow() const {
    return options_.wall_clock ? options_.wall_clock()
                               : std::chrono::system_clock::now();
  }

  static bool IsSuccess(int status) { return status >= 200 && status < 300; }

  // So that a classifier looks at the body instead.
  void DropContentType() {
    Headers headers;
    for (const Headers::Field& field : incoming_.headers) {
      if (internal::Lower(field.name) != "content-type")
        headers.Add(field.name, field.value);
    }
    incoming_.headers = std::move(headers);
  }

  Step Send(internal::Nanos now) {
    state_ = State::kInFlight;
    ++attempts_;
    prefer_.reset();
    sent_at_ = now;
    incoming_ = {};
    reading_ = Reading::kBody;
    parser_ = SseParser();
    return {.what = Do::kSend, .until = At(deadline_)};
  }

  PickHint HintAt(internal::Nanos now) {
    excluded_ = refused_;
    for (const Use& use : uses_) {
      if (use.not_before > now) excluded_.push_back(use.key);
    }
    return HintWithout(excluded_);
  }
  PickHint HintWithout(const std::vector<KeyId>& excluded) const {
    return {.scope = request_.scope,
            .affinity = request_.affinity,
            .exclude = excluded,
            .prefer = prefer_,
            .cost = request_.cost};
  }

  static internal::Nanos ReturnOf(const typename Rotator::Outlook& outlook) {
    return outlook.next ? internal::ToNanos(outlook.next->time_since_epoch())
                        : internal::kNever;
  }

  // When the pool has a key again, if that is to come and known.
  internal::Nanos NextKey(internal::Nanos now) const {
    const internal::Nanos next =
        ReturnOf(rotator_.Availability(HintWithout({})));
    return next > now ? next : internal::kNever;
  }

  // No key is usable: is one worth waiting for?
  Step WaitForKey(internal::Nanos now) {
    const auto outlook = rotator_.Availability(HintAt(now));
    // Some may be held up by others who wait in turn, or by the policy.
    const bool in_use = outlook.busy > 0 || outlook.available > 0;
    const internal::Nanos next = ReturnOf(outlook);
    // When those that have been used too often may be looked at again.
    internal::Nanos rested = internal::kNever;
    for (const Use& use : uses_) {
      if (use.not_before > now && !IsRefused(use.key))
        rested = std::min(rested, use.not_before);
    }
    if (rested != internal::kNever) {
      const auto all = rotator_.Availability(HintWithout(refused_));
      if (all.busy == 0) rested = std::max(rested, ReturnOf(all));
    }
    if (now < deadline_ && (in_use || std::min(next, rested) < deadline_)) {
      wait_until_ = std::min(deadline_, rested);
      const internal::Nanos look =
          in_use ? internal::SaturatingAdd(now, kLook) : internal::kNever;
      return {.what = Do::kWait,
              .until = At(wait_until_),
              .for_key = true,
              .next_key =
                  At(std::min({wait_until_, look, next > now ? next : look}))};
    }
    if (rotator_.Size() == 0) {
      Finish(Outcome::kNoKeys);
    } else if (in_use) {
      Finish(Outcome::kBusy);
    } else if (std::min(next, rested) != internal::kNever) {
      retry_at_ = std::min(next, rested);
      Finish(Outcome::kAllCooling);
    } else if (forbidden_) {
      retry_at_ = NextKey(now);
      Finish(Outcome::kUnavailable);
    } else {
      Finish(refused_.empty() ? Outcome::kAllFailed : Outcome::kDenied);
    }
    return {.what = Do::kDone};
  }

  bool IsRefused(KeyId key) const {
    return std::find(refused_.begin(), refused_.end(), key) != refused_.end();
  }

  // --- Streams ---

  template <class Sink>
  bool Feed(std::string_view bytes, Sink& sink) {
    const bool going = parser_.Feed(
        bytes, [&](const SseEvent& event) { return OnEvent(event, sink); });
    // After the end of the answer the transfer may end by itself.
    return going || done_;
  }

  // False: read no further.
  template <class Sink>
  bool OnEvent(const SseEvent& event, Sink& sink) {
    if (event.data == "[DONE]") {
      done_ = whole_ = true;
      return false;
    }
    if (TakeError(event)) return whole_;
    if (!std::exchange(delivered_, true)) {
      rotator_.MarkSucceeded(*lease_);
      ReportLimits();
    }
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
  bool TakeError(const SseEvent& event) {
    std::optional<Verdict> error = EventError(event);
    if (!error) return false;
    if (!whole_) {
      stream_error_ = std::move(error);
      incoming_.body = event.data;
    }
    return true;
  }

  std::optional<Verdict> EventError(const SseEvent& event) {
    if constexpr (std::is_invocable_v<Classifier&, std::string_view,
                                      std::string_view,
                                      std::chrono::system_clock::time_point>) {
      return classifier_(event.event, event.data, WallNow());
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

  void EndStream(const TransportError* error) {
    const auto cut = [&](const char* how) {
      return Verdict{.kind = VerdictKind::kTransient,
                     .retry_after = {},
                     .should_retry = {},
                     .code = {},
                     .message = error != nullptr ? error->message
                                : parser_.error().empty()
                                    ? std::string(how)
                                    : std::string(parser_.error())};
    };
    if (!delivered_) {
      if (whole_) return Act({}, false);  // "[DONE]" and nothing before it
      if (stream_error_) return Act(*std::exchange(stream_error_, {}), true);
      if (error != nullptr) return Report(*error);
      return Act(cut("the stream ended without an event"), true);
    }
    // Something was delivered, so nothing is sent again.
    const bool stopped =
        sink_stopped_ ||
        (error != nullptr && error->kind == TransportError::Kind::kStopped);
    const bool broken = stream_error_ || !(whole_ || stopped);
    if (stream_error_) {
      Mark(*stream_error_);
      Record(*std::move(stream_error_));
    } else {
      Record(broken ? cut("the stream ended before the answer was complete")
                    : Verdict{});
    }
    lease_.reset();
    Finish(broken ? Outcome::kCut : whole_ ? Outcome::kOk : Outcome::kStopped);
  }

  // --- Verdicts ---

  void Judge() {
    const int status = incoming_.status;
    const bool safe = status == 401 || status == 402 || status == 403 ||
                      status == 429 || status == 503 || status == 529;
    Act(classifier_(incoming_, WallNow()), !safe);
  }

  // `ambiguous`: the server may have acted on the request.
  void Act(Verdict verdict, bool ambiguous) {
    const internal::Nanos now = Now();
    const KeyId key = lease_->id();
    Mark(verdict);
    ReportLimits();
    Record(std::move(verdict));
    CountUse(key, now);
    // Not held while this request waits: a cap would starve others.
    lease_.reset();
    state_ = State::kIdle;
    switch (verdict_.kind) {
      case VerdictKind::kOk:
        return Finish(Outcome::kOk);
      case VerdictKind::kCallerError:
        return Finish(Outcome::kCallerError);
      case VerdictKind::kPermission:
        refused_.push_back(key);
        return;
      case VerdictKind::kKeyInvalid:
      case VerdictKind::kQuotaExhausted:
      case VerdictKind::kRateLimited:
        if (verdict_.should_retry == false) {
          forbidden_ = true;
          refused_.push_back(key);
        }
        return;
      case VerdictKind::kOverloaded:
      case VerdictKind::kTransient:
        break;
    }
    const internal::Nanos wait = verdict_.retry_after
                                     ? internal::ToNanos(*verdict_.retry_after)
                                     : Backoff(retries_, Random());
    const internal::Nanos until = internal::SaturatingAdd(now, wait);
    const bool allowed = retries_ < options_.max_retries &&
                         verdict_.should_retry != false &&
                         (options_.retry_ambiguous || !ambiguous);
    if (!allowed || until >= deadline_) {
      if (verdict_.retry_after) retry_at_ = until;
      return Finish(Outcome::kUnavailable);
    }
    ++retries_;  // sent, unless the request ends before
    backoff_until_ = until;
    prefer_ = key;
  }

  void Mark(const Verdict& verdict) {
    const Lease& lease = *lease_;
    switch (verdict.kind) {
      case VerdictKind::kOk:
        rotator_.MarkSucceeded(lease);
        return;
      case VerdictKind::kKeyInvalid:
        rotator_.MarkFailed(lease);
        return;
      case VerdictKind::kQuotaExhausted:
        rotator_.MarkRateLimited(lease, options_.quota_cooldown, Reach::kKey);
        return;
      case VerdictKind::kRateLimited:
        rotator_.Settle(lease, {.kind = keyrotator::Report::Kind::kRateLimited,
                                .retry_after = verdict.retry_after.value_or(
                                    std::chrono::milliseconds(0)),
                                .guess = options_.guess});
        return;
      case VerdictKind::kPermission:
      case VerdictKind::kOverloaded:
      case VerdictKind::kTransient:
      case VerdictKind::kCallerError:
        return;
    }
  }

  void ReportLimits() {
    if (incoming_.headers.empty()) return;
    const RateLimits limits = ParseRateLimits(incoming_.headers, WallNow());
    if (limits.requests.limit || limits.tokens.limit)
      rotator_.ReportLimits(*lease_, limits);
  }

  // Keeps what came of the send. What is no success may quote a key.
  void Record(Verdict verdict) {
    if (verdict.kind != VerdictKind::kOk) {
      verdict.message = rotator_.Redact(verdict.message);
      verdict.code = rotator_.Redact(verdict.code);
      incoming_.body = rotator_.Redact(incoming_.body);
      Headers headers;
      for (const Headers::Field& field : incoming_.headers)
        headers.Add(field.name, rotator_.Redact(field.value));
      incoming_.headers = std::move(headers);
    }
    AddToTrail(verdict.kind, incoming_.status, verdict.code);
    verdict_ = std::move(verdict);
    if (incoming_.status != 0) response_ = std::move(incoming_);
  }

  void AddToTrail(VerdictKind verdict, int status, std::string code) {
    trail_.push_back({.key = std::string(lease_->name()),
                      .status = status,
                      .verdict = verdict,
                      .code = std::move(code),
                      .at = std::chrono::nanoseconds(sent_at_ - start_),
                      .took = std::chrono::nanoseconds(Now() - sent_at_)});
  }

  // A key that was used twice rests for as long as a retry would wait, longer
  // each time: a hint of 1 ms must not make a storm of one request.
  void CountUse(KeyId key, internal::Nanos now) {
    auto use = std::find_if(uses_.begin(), uses_.end(),
                            [&](const Use& other) { return other.key == key; });
    if (use == uses_.end()) use = uses_.insert(use, {.key = key});
    ++use->count;
    if (use->count >= 2)
      use->not_before =
          internal::SaturatingAdd(now, Backoff(use->count - 2, 0));
  }

  // The n-th wait (from 0): doubled each time, shortened by up to a quarter.
  internal::Nanos Backoff(int n, double random) const {
    const double wait = static_cast<double>(options_.initial_backoff.count()) *
                        std::exp2(std::min(n, 62));
    const double longest = static_cast<double>(options_.max_backoff.count());
    return internal::ToNanos(std::chrono::duration<double, std::nano>(
        std::min(wait, longest) * (1 - 0.25 * random)));
  }

  double Random() const {
    if (options_.random) return options_.random();
    thread_local std::minstd_rand generator{std::random_device{}()};
    return std::generate_canonical<double, 32>(generator);
  }

  void Finish(Outcome outcome) {
    state_ = State::kDone;
    outcome_ = outcome;
    message_ = Explain();
  }

  // What the last send came to, if that was no success.
  std::string LastAnswer() const {
    if (trail_.empty() || verdict_.kind == VerdictKind::kOk) return {};
    const int status = trail_.back().status;
    return fmt::format(" The last answer: {}, {}{}{}",
                       status == 0 ? "none" : fmt::format("{}", status),
                       verdict_.kind, verdict_.message.empty() ? "" : ": ",
                       verdict_.message);
  }

  std::string Explain() const {
    const std::string said = LastAnswer();
    switch (outcome_) {
      case Outcome::kPending:
      case Outcome::kOk:
        return {};
      case Outcome::kCallerError:
        return fmt::format(
            "The request was refused, and would be with every key; correct "
            "it.{}",
            said);
      case Outcome::kDenied:
        return fmt::format(
            "No key has permission for this; give one of them access{}.{}",
            request_.scope.empty() ? "" : " to " + request_.scope, said);
      case Outcome::kUnavailable:
        return fmt::format(
            "The provider could not serve the request in {} attempt{}; try "
            "again later.{}",
            attempts_, attempts_ == 1 ? "" : "s", said);
      case Outcome::kNoKeys:
        return "There is no key in the pool; add one (are the environment "
               "variables set?).";
      case Outcome::kAllFailed:
        return fmt::format(
            "Every key was refused as invalid; replace them, or Restore those "
            "that work again.{}",
            said);
      case Outcome::kAllCooling:
        return fmt::format(
            "Every key is rate limited or out of quota; the next returns in "
            "{:.1f} s, which is after the deadline. Wait, or add keys.{}",
            static_cast<double>(retry_at_ - Now()) / 1e9, said);
      case Outcome::kBusy:
        return "Every key is in use (at its max_in_flight or on trial), or too "
               "many callers wait; try again, or add keys.";
      case Outcome::kDeadline:
        return fmt::format(
            "The deadline passed after {} attempt{}; allow more time.{}",
            attempts_, attempts_ == 1 ? "" : "s", said);
      case Outcome::kStopped:
        return "The request was stopped by its caller.";
      case Outcome::kCut:
        return fmt::format(
            "The stream broke off after events had been delivered, so it was "
            "not sent again.{}",
            said);
    }
    return {};
  }

  // How long who cannot block leaves it before it looks for a key that a
  // lease's end would free.
  static constexpr internal::Nanos kLook = 10'000'000;

  Rotator& rotator_;
  Classifier classifier_;
  const FailoverRequest request_;
  const RetryOptions options_;
  const internal::Nanos start_;
  const internal::Nanos deadline_;

  State state_ = State::kIdle;
  std::optional<Lease> lease_;
  int attempts_ = 0;
  int retries_ = 0;
  internal::Nanos backoff_until_ = internal::kLongAgo;
  internal::Nanos wait_until_ = internal::kLongAgo;
  internal::Nanos sent_at_ = 0;
  std::optional<KeyId> prefer_;
  std::vector<KeyId> refused_;  // not to be asked again by this request
  bool forbidden_ = false;      // some of them by x-should-retry
  std::vector<Use> uses_;
  std::vector<KeyId> excluded_;  // what hint() shows

  Reading reading_ = Reading::kBody;
  SseParser parser_;
  bool delivered_ = false;     // an event went to the caller
  bool whole_ = false;         // the answer is complete
  bool done_ = false;          // "[DONE]"
  bool sink_stopped_ = false;  // the sink wants no more
  std::optional<Verdict> stream_error_;

  Outcome outcome_ = Outcome::kPending;
  HttpResponse incoming_;  // to the send that is in flight
  HttpResponse response_;
  Verdict verdict_;
  std::vector<Attempt> trail_;
  std::string message_;
  internal::Nanos retry_at_ = internal::kNever;
};

}  // namespace keyrotator

template <>
struct fmt::formatter<keyrotator::Outcome> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(keyrotator::Outcome outcome, Context& context) const {
    return fmt::formatter<std::string_view>::format(
        keyrotator::ToString(outcome), context);
  }
};

#endif  // KEYROTATOR_OPENAI_FAILOVER_H_
