// File: report.h
//
// Report: what came of one request, as KeyRotator::Settle is told it. One call
// for one answer: what it means for the key, and what the provider says is
// left. openai/settle.h makes one of an HTTP response.
//
// Example:
//   rotator.Settle(*key, {.kind = keyrotator::Report::Kind::kRateLimited,
//                         .retry_after = std::chrono::seconds(20)});

#ifndef KEYROTATOR_REPORT_H_
#define KEYROTATOR_REPORT_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "keyrotator/clock.h"
#include "keyrotator/cooldown.h"
#include "keyrotator/limits.h"

namespace keyrotator {

struct Report {
  // What it means for the key.
  enum class Kind : std::uint8_t {
    kNothing,      // nothing: the answer was not the key's doing
    kServed,       // as KeyRotator::MarkSucceeded
    kFailed,       // as MarkFailed
    kRateLimited,  // as MarkRateLimited
  };
  Kind kind = Kind::kNothing;

  // Of a rate limit: for how long, as the provider said. Zero or less: it did
  // not say.
  Span retry_after = std::chrono::nanoseconds(0);
  // Of a rate limit: how far it reaches.
  Reach reach = Reach::kScope;
  // Of a rate limit: replaces the guess of the rotator's options, where the
  // provider did not say for how long.
  std::optional<Cooldown> guess = {};

  // What the provider says is left, as KeyRotator::ReportLimits takes it.
  std::optional<RateLimits> limits = {};
};

}  // namespace keyrotator

#endif  // KEYROTATOR_REPORT_H_
