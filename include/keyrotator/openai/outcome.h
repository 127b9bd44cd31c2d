// File: openai/outcome.h
//
// How a request ended, for a program (Outcome), for a person (Explain's texts)
// and send by send (Attempt). Apart from failover.h, so that the texts can be
// read as a list.
//
// Example:
//   keyrotator::Outcome outcome = keyrotator::Outcome::kAllCooling;
//   fmt::print("{}\n", outcome);  // all keys cooling

#ifndef KEYROTATOR_OPENAI_OUTCOME_H_
#define KEYROTATOR_OPENAI_OUTCOME_H_

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/internal/format.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator {

// How a request ended.
enum class Outcome {
  kPending,      // it has not
  kOk,           // served
  kCallerError,  // the request itself is at fault
  kDenied,       // each key that could be asked said it has no permission
  kUnavailable,  // failing, and no retry left, allowed, in time or in budget
  kNoKeys,       // the pool is empty
  kAllFailed,    // every key has failed
  kAllCooling,   // the next key returns at retry_at(), which is too late
  kBusy,         // every key is at its cap or on trial, or too many wait
  kDeadline,     // the time was over
  kStopped,      // the caller asked to stop
  kCut,          // a stream broke off after events had been delivered
  kBodySpent,    // it failed, and its body could be read only once
};

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

namespace internal {

struct OutcomeText {
  Outcome outcome;
  std::string_view name;
  // A format string: what went wrong and what to do about it.
  std::string_view message;
};

inline constexpr OutcomeText kOutcomeTexts[] = {
    {Outcome::kPending, "pending", ""},
    {Outcome::kOk, "ok", ""},
    {Outcome::kCallerError, "caller error",
     "The request was refused, and would be with every key; correct it.{last}"},
    {Outcome::kDenied, "denied",
     "No key has permission for this; give one of them "
     "access{to_scope}.{last}"},
    {Outcome::kUnavailable, "unavailable",
     "The provider could not serve the request in {attempts}{budget}; try "
     "again "
     "later.{last}"},
    {Outcome::kNoKeys, "no keys",
     "There is no key in the pool; add one (are the environment variables "
     "set?)."},
    {Outcome::kAllFailed, "all keys failed",
     "Every key was refused as invalid; replace them, or Restore those that "
     "work again.{last}"},
    {Outcome::kAllCooling, "all keys cooling",
     "Every key is rate limited or out of quota; the next returns in "
     "{seconds:.1f} s, which is after the deadline. Wait, or add keys.{last}"},
    {Outcome::kBusy, "busy",
     "Every key is in use (at its max_in_flight or on trial), or too many "
     "callers wait; try again, or add keys."},
    {Outcome::kDeadline, "deadline",
     "The deadline passed after {attempts}; allow more time.{last}"},
    {Outcome::kStopped, "stopped", "The request was stopped by its caller."},
    {Outcome::kCut, "stream cut",
     "The stream broke off after events had been delivered, so it was not sent "
     "again.{last}"},
    {Outcome::kBodySpent, "body spent",
     "The body could be read only once, so the request was not sent again; "
     "send one that can be opened again.{last}"},
};

// What the last send came to, as a sentence after others; empty if there was
// none, or if that was a success.
inline std::string DescribeLast(const std::vector<Attempt>& trail,
                                const Verdict& verdict) {
  if (trail.empty() || verdict.kind == VerdictKind::kOk) return {};
  const int status = trail.back().status;
  return fmt::format(" The last answer: {}, {}{}{}",
                     status == 0 ? "none" : fmt::format("{}", status),
                     verdict.kind, verdict.message.empty() ? "" : ": ",
                     verdict.message);
}

// For people: what went wrong and what to do about it; empty after kOk.
// `verdict` is that of the last send; `retry_in` counts for kAllCooling,
// `over_budget`, that another send was refused for it, for kUnavailable.
inline std::string Explain(Outcome outcome, const std::vector<Attempt>& trail,
                           const Verdict& verdict, std::string_view scope,
                           std::chrono::nanoseconds retry_in,
                           bool over_budget = false) {
  for (const OutcomeText& text : kOutcomeTexts) {
    if (text.outcome != outcome || text.message.empty()) continue;
    return fmt::format(
        fmt::runtime(text.message),
        fmt::arg("last", DescribeLast(trail, verdict)),
        fmt::arg("to_scope", scope.empty() ? "" : fmt::format(" to {}", scope)),
        fmt::arg("attempts", fmt::format("{} attempt{}", trail.size(),
                                         trail.size() == 1 ? "" : "s")),
        fmt::arg("budget", over_budget
                               ? ", and so many requests fail that it was not "
                                 "sent again (RotatorOptions::retry_budget)"
                               : ""),
        fmt::arg("seconds", std::chrono::duration<double>(retry_in).count()));
  }
  return {};
}

}  // namespace internal

// The outcome in lower case: "all keys cooling".
constexpr std::string_view ToString(Outcome outcome) {
  for (const internal::OutcomeText& text : internal::kOutcomeTexts) {
    if (text.outcome == outcome) return text.name;
  }
  return "unknown";
}

}  // namespace keyrotator

template <>
struct fmt::formatter<keyrotator::Outcome>
    : keyrotator::internal::NameFormatter<keyrotator::Outcome> {};

#endif  // KEYROTATOR_OPENAI_OUTCOME_H_
