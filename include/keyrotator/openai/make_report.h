// File: openai/make_report.h
//
// What an answer says about its key, in the rotator's words: a verdict and the
// headers beside it become one keyrotator::Report. Apart from settle.h, so that
// code with a classifier of its own compiles no JSON reader.
//
// Example: with a verdict of your own.
//   keyrotator::Verdict verdict;
//   if (response.status == 401)
//     verdict.kind = keyrotator::VerdictKind::kKeyInvalid;
//   rotator.Settle(lease, keyrotator::MakeReport(verdict, response.headers));

#ifndef KEYROTATOR_OPENAI_MAKE_REPORT_H_
#define KEYROTATOR_OPENAI_MAKE_REPORT_H_

#include <chrono>

#include "keyrotator/cooldown.h"
#include "keyrotator/http/message.h"
#include "keyrotator/limits.h"
#include "keyrotator/openai/retry_after.h"
#include "keyrotator/openai/verdict.h"
#include "keyrotator/report.h"
#include "keyrotator/retry_options.h"

namespace keyrotator {
namespace internal {

// The time of day, for hints that are dates.
inline std::chrono::system_clock::time_point WallNow(
    const RetryOptions& options) {
  return options.wall_clock ? options.wall_clock()
                            : std::chrono::system_clock::now();
}

// What the headers say is left of the provider's limits, if they say it.
inline std::optional<RateLimits> LimitsIn(const Headers& headers,
                                          const RetryOptions& options) {
  const RateLimits limits = ParseRateLimits(headers, WallNow(options));
  if (!limits.requests.limit && !limits.tokens.limit) return {};
  return limits;
}

}  // namespace internal

// What `verdict` means for the key that it is about, and what the headers say
// is left of the provider's limits. Of `options` it takes how long a key rests
// that has used up its quota where the provider does not say until when (in this
// model or altogether, and its group with it), the guess for a limit that came
// without a hint, and the time of day. Linear in the headers; never an error.
inline Report MakeReport(const Verdict& verdict, const Headers& headers = {},
                         const RetryOptions& options = {}) {
  Report report;
  switch (verdict.kind) {
    case VerdictKind::kOk:
      report.kind = Report::Kind::kServed;
      break;
    case VerdictKind::kKeyInvalid:
      report.kind = Report::Kind::kFailed;
      break;
    case VerdictKind::kQuotaExhausted:
      report.kind = Report::Kind::kRateLimited;
      report.retry_after = options.quota_cooldown;
      if (verdict.retry_after) report.retry_after = *verdict.retry_after;
      report.reach = verdict.reach;
      break;
    case VerdictKind::kRateLimited:
      report.kind = Report::Kind::kRateLimited;
      if (verdict.retry_after) report.retry_after = *verdict.retry_after;
      report.guess = options.guess;
      break;
    case VerdictKind::kPermission:
    case VerdictKind::kOverloaded:
    case VerdictKind::kTransient:
    case VerdictKind::kCallerError:
      break;
  }
  if (!headers.empty()) report.limits = internal::LimitsIn(headers, options);
  return report;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_MAKE_REPORT_H_
