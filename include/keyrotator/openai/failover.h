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
//
// Example: an event loop waits with a timer for `until` and, for a key, with a
// place in the queue in which threads stand, too, and calls rotator.Poll() when
// that asks for it. examples/async_curl_multi.cc has the whole.
//   keyrotator::Failover failover(rotator, keyrotator::OpenAIClassifier{});
//   if (failover.Next().for_key) {
//     auto waiting = rotator.WhenUsable(
//         failover.hint(), [&](keyrotator::Lease lease) {
//           failover.Offer(std::move(lease));  // then call Next
//         });
//     if (!waiting) failover.Offer(std::nullopt);  // too many wait
//   }

#ifndef KEYROTATOR_OPENAI_FAILOVER_H_
#define KEYROTATOR_OPENAI_FAILOVER_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/answer.h"
#include "keyrotator/openai/backoff.h"
#include "keyrotator/openai/make_report.h"
#include "keyrotator/openai/outcome.h"
#include "keyrotator/openai/redaction.h"
#include "keyrotator/openai/sse.h"
#include "keyrotator/openai/tried_keys.h"
#include "keyrotator/openai/verdict.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/report.h"
#include "keyrotator/retry_options.h"

namespace keyrotator {

// What one request is, as far as the choice of its keys goes.
struct FailoverRequest {
  std::string scope = {};
  std::string affinity = {};
  double cost = 0;
  Priority priority = Priority::kInteractive;
  // A key to begin with if it is usable, out of turn.
  std::optional<KeyId> prefer = {};
  bool stream = false;  // the answer is to be read as server-sent events
  bool head = false;    // the method is HEAD, whose answer has no body
  // The answer is passed on, whatever it is, by a sink that takes a
  // std::string_view: events as they come, and what can be no error, as a file,
  // from its first byte. What was not delivered is in response(), as ever.
  bool pass_on = false;
  // Of a good answer that is no stream, in bytes; a larger one is read no
  // further, and is an error. Of other answers 256 KiB are read. An answer that
  // is passed on is not held, so it may be of any size.
  std::size_t max_body = internal::kMaxBody;
};

enum class Do { kSend, kWait, kInFlight, kDone };

// Not thread-safe: one thread at a time. The rotator must outlive it.
// `Classifier` says what answers mean, as OpenAIClassifier does; answer.h lists
// what it has to offer. It is copied for each request and may keep state.
//
// One class of more than the usual length: what comes next depends on all that
// came before, so it is read as a whole. What could stand apart does (answer.h,
// backoff.h, tried_keys.h, outcome.h, make_report.h).
template <class Rotator, class Classifier>
class Failover {
 public:
  using TimePoint = typename Rotator::TimePoint;

  // What to do, and until when:
  //   kSend      send with key(); `until` is the request's deadline.
  //   kWait      call Next again at `until`. With `for_key` a key may come
  //              sooner: wait for one with hint(), by PickUntil or WhenUsable,
  //              and Offer it.
  //   kInFlight  say what comes back; `until` is the request's deadline.
  //   kDone      nothing; `until` is the end of time.
  struct Step {
    Do what = Do::kDone;
    TimePoint until = At(internal::kNever);
    bool for_key = false;  // only with kWait
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
  // is asked. A key that it takes by itself overtakes nobody who waits.
  Step Next() {
    if (state_ == State::kDone) return {};
    if (state_ == State::kInFlight)
      return {.what = Do::kInFlight, .until = At(deadline_)};
    const internal::Nanos now = Now();
    // The first send needs no time left, unless it had to wait.
    const bool in_time = now < deadline_ ||
                         (trail_.empty() && wait_until_ == internal::kLongAgo);
    if (!in_time && (!trail_.empty() || lease_)) {
      lease_.reset();
      retry_at_ = NextKey(now);
      return Finish(Outcome::kDeadline);
    }
    if (now < backoff_until_)
      return {.what = Do::kWait, .until = At(backoff_until_)};
    if (in_time && !lease_) lease_ = rotator_.Pick(HintAt(now), Queue::kInLine);
    if (lease_) return Send(now);
    return WaitForKey(now);
  }

  // The key to send with, after kSend.
  const Lease& key() const { return *lease_; }

  // For PickUntil and WhenUsable, after a step that is for a key. Valid until
  // the next call of another member.
  PickHint hint() { return HintAt(Now()); }

  // What came of waiting for a key. No lease before the step's time is over
  // means that no more callers may wait.
  void Offer(std::optional<Lease> lease) {
    if (state_ != State::kIdle) return;
    if (lease) {
      lease_ = std::move(lease);
    } else if (!lease_ && Now() < wait_until_) {
      Finish(Outcome::kBusy);
    }
  }

  // The caller gives up; `why` may also be kBodySpent. Reports that come
  // later change nothing.
  void Stop(Outcome why = Outcome::kStopped) {
    if (state_ == State::kDone) return;
    if (state_ == State::kInFlight)
      AddToTrail(VerdictKind::kTransient, answer_->response().status, {});
    lease_.reset();
    Finish(why);
  }

  // --- The answer, as it arrives. `sink` is called with each event of a stream
  // but errors and the final "[DONE]", or, if it takes a std::string_view, with
  // the bytes of the events as they came, "[DONE]" too; it may return bool, and
  // false ends the transfer. ---

  // What a good answer's head says is left of the limits is reported at once: its
  // end may be minutes away, and others are to be sent by then.
  void OnHead(int status, Headers headers) {
    if (state_ != State::kInFlight) return;
    answer_->OnHead(status, std::move(headers));
    if (!internal::IsSuccess(status) || limits_told_) return;
    const auto limits =
        internal::LimitsIn(answer_->response().headers, options_);
    if (limits) rotator_.Settle(*lease_, {.limits = limits});
    limits_told_ = true;
  }

  // False: end the transfer; then call OnEnd.
  template <class Sink>
  [[nodiscard]] bool OnBody(std::string_view bytes, Sink&& sink) {
    return OnBytes(bytes, sink) != Flow::kStop;
  }
  // The same in a transport's words: what the bytes are to the transfer.
  template <class Sink>
  [[nodiscard]] Flow OnBytes(std::string_view bytes, Sink&& sink) {
    if (state_ != State::kInFlight) return Flow::kStop;
    return answer_->OnBody(bytes, internal::WallNow(options_), Settling(sink));
  }

  // Whether the answer is complete and only the transfer is left to end, which
  // should be waited for briefly: the connection can be used again then.
  bool complete() const { return answer_ && answer_->complete(); }

  // The transfer is over, with `error` if it did not end well.
  template <class Sink>
  void OnEnd(Sink&& sink, const TransportError* error = nullptr) {
    if (state_ == State::kInFlight)
      Conclude(
          answer_->End(error, internal::WallNow(options_), Settling(sink)));
  }
  void OnEnd(const TransportError* error = nullptr) {
    OnEnd([](const SseEvent&) {}, error);
  }

  // --- The answer as a whole. ---

  void Report(HttpResponse response) {
    if (state_ == State::kInFlight)
      Conclude(
          answer_->Whole(std::move(response), internal::WallNow(options_)));
  }
  void Report(const TransportError& error) {
    if (state_ == State::kInFlight) Conclude(answer_->Lost(error));
  }

  // --- How it went. ---

  Outcome outcome() const { return outcome_; }
  // The last answer that came, also if the send after it got none; status 0 if
  // there was none at all. The text of one that is an error has no secret of
  // the pool in it, and no header of any has the key that it was sent with.
  const HttpResponse& response() const { return response_; }
  HttpResponse TakeResponse() { return std::move(response_); }
  // What the last send came to. Its text has no secret of the pool in it.
  const Verdict& verdict() const { return verdict_; }
  const std::vector<Attempt>& trail() const { return trail_; }
  // For people: what went wrong and what to do about it; empty after kOk.
  const std::string& message() const { return message_; }
  // Whether it would have been sent again, had not too many requests failed: see
  // RetryBudget. The outcome is kUnavailable then.
  bool over_budget() const { return over_budget_; }
  // When it is worth trying again, if that is known.
  std::optional<TimePoint> retry_at() const {
    return retry_at_ == internal::kNever ? std::nullopt
                                         : std::optional(At(retry_at_));
  }

 private:
  enum class State { kIdle, kInFlight, kDone };

  internal::Nanos Now() const { return internal::NanosNow(rotator_.clock()); }
  static TimePoint At(internal::Nanos time) {
    return TimePoint(internal::FromNanos<typename TimePoint::duration>(time));
  }

  Step Send(internal::Nanos now) {
    state_ = State::kInFlight;
    prefer_.reset();
    sent_at_ = now;
    rotator_.CountSend();
    limits_told_ = false;
    settled_ = false;
    using internal::Expected;
    answer_.emplace(classifier_,
                    request_.stream    ? Expected::kEvents
                    : request_.head    ? Expected::kHead
                    : request_.pass_on ? Expected::kWhatComes
                                       : Expected::kBody,
                    request_.max_body);
    return {.what = Do::kSend, .until = At(deadline_)};
  }

  PickHint HintAt(internal::Nanos now) {
    return HintWithout(tried_.Excluded(now));
  }
  PickHint HintWithout(const std::vector<KeyId>& excluded) const {
    return {.scope = request_.scope,
            .affinity = request_.affinity,
            .exclude = excluded,
            .prefer = prefer_,
            .cost = request_.cost,
            .priority = request_.priority,
            .initial_window = options_.initial_window};
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
    const internal::Nanos rested = WhenRested(now);
    const internal::Nanos next = std::min(ReturnOf(outlook), rested);
    if (now < deadline_ && (in_use || next < deadline_)) {
      wait_until_ = std::min(deadline_, rested);
      return {.what = Do::kWait, .until = At(wait_until_), .for_key = true};
    }
    if (rotator_.Size() == 0) return Finish(Outcome::kNoKeys);
    if (in_use) return Finish(Outcome::kBusy);
    if (next != internal::kNever) {
      retry_at_ = next;
      return Finish(Outcome::kAllCooling);
    }
    if (forbidden_) {
      retry_at_ = NextKey(now);
      return Finish(Outcome::kUnavailable);
    }
    return Finish(tried_.refused().empty() ? Outcome::kAllFailed
                                           : Outcome::kDenied);
  }

  // When those that have been used too often may be looked at again.
  internal::Nanos WhenRested(internal::Nanos now) const {
    const internal::Nanos rested = tried_.WhenRested(now);
    if (rested == internal::kNever) return rested;
    const auto all = rotator_.Availability(HintWithout(tried_.refused()));
    return all.busy == 0 ? std::max(rested, ReturnOf(all)) : rested;
  }

  // A stream's key has served at its first good event, not at the end, which
  // may be minutes later.
  template <class Sink>
  auto Settling(Sink& sink) {
    return [this, &sink](const auto& piece) -> decltype(sink(piece)) {
      if (!settled_) Settle(Verdict{});
      return sink(piece);
    };
  }

  // Tells the rotator, in one call, what the answer says about its key.
  void Settle(const Verdict& verdict) {
    settled_ = true;
    const Headers none;
    const keyrotator::Report report = MakeReport(
        verdict,
        std::exchange(limits_told_, true) ? none : answer_->response().headers,
        options_);
    if (report.kind != keyrotator::Report::Kind::kNothing || report.limits)
      rotator_.Settle(*lease_, report);
    if (verdict.kind != VerdictKind::kOk) return;
    // This key served what others had no permission for: it was not the request.
    for (const KeyId key : tried_.denied())
      rotator_.MarkNoAccess(key, request_.scope, options_.permission_cooldown);
  }

  void Conclude(internal::Ending ending) {
    using How = internal::Ending::How;
    if (!answer_->delivered()) {
      if (ending.how == How::kStopped) return Stop();
      return Act(std::move(ending.verdict), ending.ambiguous);
    }
    // Something was delivered, so nothing is sent again.
    if (ending.how == How::kBroken) Settle(ending.verdict);
    Record(std::move(ending.verdict));
    lease_.reset();
    Finish(ending.how == How::kBroken    ? Outcome::kCut
           : ending.how == How::kStopped ? Outcome::kStopped
                                         : Outcome::kOk);
  }

  // `ambiguous`: the server may have acted on the request.
  void Act(Verdict verdict, bool ambiguous) {
    const internal::Nanos now = Now();
    const KeyId key = lease_->id();
    Settle(verdict);
    Record(std::move(verdict));
    tried_.Count(key, now, options_);
    // Not held while this request waits: a cap would starve others.
    lease_.reset();
    state_ = State::kIdle;
    switch (verdict_.kind) {
      case VerdictKind::kOk:
        Finish(Outcome::kOk);
        return;
      case VerdictKind::kCallerError:
        Finish(Outcome::kCallerError);
        return;
      case VerdictKind::kPermission:
        tried_.Deny(key);
        return;
      case VerdictKind::kKeyInvalid:
      case VerdictKind::kQuotaExhausted:
      case VerdictKind::kRateLimited:
        if (verdict_.should_retry == false) {
          forbidden_ = true;
          tried_.Refuse(key);
        }
        return;
      case VerdictKind::kOverloaded:
      case VerdictKind::kTransient:
        Retry(key, now, ambiguous);
        return;
    }
  }

  // The same key once more, after a wait, if that is allowed, in time and within
  // the budget that all requests share.
  void Retry(KeyId key, internal::Nanos now, bool ambiguous) {
    const internal::Nanos until = internal::SaturatingAdd(
        now, internal::RetryWait(options_, retries_, verdict_.retry_after));
    const bool allowed =
        retries_ < options_.max_retries && verdict_.should_retry != false &&
        (options_.retry_ambiguous || !ambiguous) && until < deadline_;
    if (!rotator_.MayRetry(allowed)) {
      over_budget_ = allowed;
      if (verdict_.retry_after) retry_at_ = until;
      Finish(Outcome::kUnavailable);
      return;
    }
    ++retries_;  // sent, unless the request ends before
    backoff_until_ = until;
    tried_.Retry(key, until);
    prefer_ = key;
  }

  // Keeps what came of the send, without a secret.
  void Record(Verdict verdict) {
    HttpResponse response = answer_->TakeResponse();
    internal::RedactAnswer(rotator_, verdict, response);
    AddToTrail(verdict.kind, response.status, verdict.code);
    verdict_ = std::move(verdict);
    if (response.status != 0) response_ = std::move(response);
  }

  void AddToTrail(VerdictKind verdict, int status, std::string code) {
    trail_.push_back({.key = std::string(lease_->name()),
                      .status = status,
                      .verdict = verdict,
                      .code = std::move(code),
                      .at = std::chrono::nanoseconds(sent_at_ - start_),
                      .took = std::chrono::nanoseconds(Now() - sent_at_)});
  }

  Step Finish(Outcome outcome) {
    state_ = State::kDone;
    outcome_ = outcome;
    message_ =
        internal::Explain(outcome, trail_, verdict_, request_.scope,
                          std::chrono::nanoseconds(
                              internal::SaturatingSubtract(retry_at_, Now())),
                          over_budget_);
    return {};
  }

  Rotator& rotator_;
  Classifier classifier_;
  const FailoverRequest request_;
  const RetryOptions options_;
  const internal::Nanos start_;
  const internal::Nanos deadline_;

  State state_ = State::kIdle;
  std::optional<Lease> lease_;
  int retries_ = 0;
  internal::Nanos backoff_until_ = internal::kLongAgo;
  internal::Nanos wait_until_ = internal::kLongAgo;
  std::optional<KeyId> prefer_;
  internal::TriedKeys tried_;
  bool forbidden_ = false;  // a key was refused by x-should-retry
  bool over_budget_ = false;

  // The send that is in flight, or the last.
  std::optional<internal::Answer<Classifier>> answer_;
  internal::Nanos sent_at_ = 0;
  bool limits_told_ = false;  // the rotator knows what the headers say
  bool settled_ = false;      // and what came of the answer

  Outcome outcome_ = Outcome::kPending;
  HttpResponse response_;
  Verdict verdict_;
  std::vector<Attempt> trail_;
  std::string message_;
  internal::Nanos retry_at_ = internal::kNever;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_FAILOVER_H_
