// File: openai/settle.h
//
// Settle: the one line for programs with their own HTTP client. It reads what
// an answer means for its key, and tells the rotator: the mark, and what the
// provider says is left.
//
// Example: each key at most once.
//   std::vector<keyrotator::KeyId> tried;
//   while (auto key = rotator.Pick({.scope = "gpt-4o", .exclude = tried})) {
//     keyrotator::HttpResponse response = MySend(key->Reveal());
//     keyrotator::Verdict verdict =
//         keyrotator::Settle(rotator, *key, response);
//     if (verdict.kind == keyrotator::VerdictKind::kOk) break;
//     tried.push_back(key->id());
//   }

#ifndef KEYROTATOR_OPENAI_SETTLE_H_
#define KEYROTATOR_OPENAI_SETTLE_H_

#include "keyrotator/http/message.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/make_report.h"
#include "keyrotator/openai/redaction.h"
#include "keyrotator/openai/verdict.h"
#include "keyrotator/retry_options.h"

namespace keyrotator {

// What `response` means for the key of `lease`, told to the rotator under one
// lock: served, refused, limited or out of quota, and the limits in the
// headers. What to do next is the caller's: kKeyInvalid, kQuotaExhausted,
// kRateLimited and kPermission are worth another key at once, kOverloaded and
// kTransient the same one after a wait. (Failover does all of that.)
//
// The verdict's texts have no secret of the pool in them. Of `options` it takes
// quota_cooldown, guess and wall_clock. Nothing is marked if the lease is
// another rotator's or its key was removed. Thread-safe as the rotator is; the
// body and headers are read once.
template <class Rotator>
Verdict Settle(Rotator& rotator, const Lease& lease,
               const HttpResponse& response, const RetryOptions& options = {}) {
  Verdict verdict = Classify(response, internal::WallNow(options));
  rotator.Settle(lease, MakeReport(verdict, response.headers, options));
  internal::RedactVerdict(rotator, verdict);
  return verdict;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_SETTLE_H_
