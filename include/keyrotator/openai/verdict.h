// File: openai/verdict.h
//
// What an answer of a provider means for the key it was sent with: types only,
// so that code with a classifier of its own compiles no JSON reader. The
// classifier that fills them is classify.h; what to do next is failover.h.
//
// Example:
//   keyrotator::Verdict verdict = keyrotator::Classify(response);
//   if (verdict.kind == keyrotator::VerdictKind::kRateLimited) {
//     fmt::print("{}, again in {} ms\n", verdict.kind,
//                verdict.retry_after.value_or(1s).count());
//   }

#ifndef KEYROTATOR_OPENAI_VERDICT_H_
#define KEYROTATOR_OPENAI_VERDICT_H_

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/cooldown.h"
#include "keyrotator/internal/format.h"

namespace keyrotator {

enum class VerdictKind {
  kOk,              // served
  kKeyInvalid,      // this key will not work again until a person acts
  kQuotaExhausted,  // what was paid for or granted is used up, for long
  kRateLimited,     // too fast, for this key and model
  kPermission,      // the key is good, but not for this; another may be
  kOverloaded,      // the provider has no capacity, whichever key asks
  kTransient,       // failed in passing; the same request may succeed
  kCallerError,     // the request itself: it fails with every key
};

// The kind in lower case: "rate_limited".
constexpr std::string_view ToString(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kOk:
      return "ok";
    case VerdictKind::kKeyInvalid:
      return "key_invalid";
    case VerdictKind::kQuotaExhausted:
      return "quota_exhausted";
    case VerdictKind::kRateLimited:
      return "rate_limited";
    case VerdictKind::kPermission:
      return "permission";
    case VerdictKind::kOverloaded:
      return "overloaded";
    case VerdictKind::kTransient:
      return "transient";
    case VerdictKind::kCallerError:
      return "caller_error";
  }
  return "unknown";
}

struct Verdict {
  VerdictKind kind = VerdictKind::kOk;
  // How long the provider asks to wait: at least 1 ms, at most 31 days. Only
  // with kRateLimited, kOverloaded and kTransient; and with kQuotaExhausted,
  // where it is the time until the quota is given anew, as the error itself
  // says it: a date or a field of its own. A Retry-After beside it is no such.
  std::optional<std::chrono::milliseconds> retry_after;
  // How far kQuotaExhausted reaches: kKey, the account; kScope, this model, so
  // that the key still serves others.
  Reach reach = Reach::kKey;
  // The header x-should-retry, if it says "true" or "false".
  std::optional<bool> should_retry;
  // error.code if it is text, else error.type, else the number as text.
  std::string code;
  // The provider's words, shortened. They may quote the request and even the
  // key: redact them before they are shown or logged.
  std::string message;
};

namespace internal {

// How much of an error's body is read: above any that was seen (the largest had
// 64 KiB), and small enough to read at once.
inline constexpr std::size_t kMaxErrorBody = std::size_t{256} << 10;

// A good one is held whole. That is the largest file that OpenAI takes; a few
// hundred bytes of a packed one unpack to a megabyte.
inline constexpr std::size_t kMaxBody = std::size_t{512} << 20;

}  // namespace internal

}  // namespace keyrotator

template <>
struct fmt::formatter<keyrotator::VerdictKind>
    : keyrotator::internal::NameFormatter<keyrotator::VerdictKind> {};

#endif  // KEYROTATOR_OPENAI_VERDICT_H_
