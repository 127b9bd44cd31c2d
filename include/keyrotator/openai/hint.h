// File: openai/hint.h
//
// When to ask again, out of all that an error says of it: headers, members of
// the error, sentences. For a rate the next moment that may serve; for a quota
// that is used up the time at which it is given anew.
//
// Example:
//   using namespace keyrotator::internal;
//   ErrorBody body = ReadErrorBody(R"({"error": {"resets_in_seconds": 60}})");
//   FindQuotaReset({}, body.Fields(), std::chrono::system_clock::now());

#ifndef KEYROTATOR_OPENAI_HINT_H_
#define KEYROTATOR_OPENAI_HINT_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/http/message.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/openai/error_body.h"
#include "keyrotator/openai/http_date.h"
#include "keyrotator/openai/reset_text.h"
#include "keyrotator/openai/retry_after.h"
#include "keyrotator/openai/rules.h"
#include "keyrotator/openai/spent_words.h"

namespace keyrotator::internal {

// Whether a quota of the day is spent, as Google names them.
inline bool HasDailyQuota(const ErrorFields& fields) {
  return std::any_of(fields.quota_ids.begin(), fields.quota_ids.end(),
                     [](const std::string& id) {
                       return Lower(id).find("perday") != std::string::npos;
                     });
}

// What the members resets_in_seconds, retry_after and resets_at say.
inline std::optional<std::chrono::milliseconds> FieldReset(
    const ErrorFields& fields, Instant now) {
  if (const auto wait = ToWait(fields.resets_in.value_or(0) * kSecond))
    return RoundUp(wait);
  const double at = fields.resets_at.value_or(0);  // in s or ms since 1970
  const double ms = at < 1e11 ? at * 1e3 : at;
  return RoundUp(
      ToWait((ms - static_cast<double>(now.time_since_epoch().count())) * 1e6));
}

// The first hint that is usable, from the most exact source to the vaguest.
inline std::optional<std::chrono::milliseconds> FindHint(
    const Headers& headers, const ErrorFields& fields,
    std::chrono::system_clock::time_point now) {
  if (const auto wait = ParseRetryAfter(headers, now)) return wait;
  if (const auto wait = ParseDuration(fields.retry_delay)) return RoundUp(wait);
  const Instant server_now = ServerNow(headers, now);
  if (const auto wait = ParseReset(fields.reset, server_now)) {
    return RoundUp(wait);
  }
  if (const auto wait = FieldReset(fields, server_now)) return wait;
  for (const std::string_view text : fields.Texts()) {
    if (const auto wait = FindRetryHint(text)) return wait;
    if (const auto then = FindResetDate(text, server_now); then > server_now)
      return RoundUp(TimeLeft(*then, server_now));
  }
  if (const auto wait = FindRetryHint(fields.plain)) return wait;
  return ParseExhaustedReset(headers, now);
}

// The time until a quota is given anew, from what the error itself says; of a
// sentence only what is too long for the wait of a bucket. Headers are not
// believed where it may take a payment.
inline std::optional<std::chrono::milliseconds> FindQuotaReset(
    const Headers& headers, const ErrorFields& fields,
    std::chrono::system_clock::time_point now) {
  const Instant server_now = ServerNow(headers, now);
  // After a reset that has just passed it is asked again soon, and not often.
  constexpr std::chrono::minutes kSoon(1);
  const auto until = [&](Instant then) {
    return then > server_now ? RoundUp(TimeLeft(then, server_now)) : kSoon;
  };
  const auto until_midnight = [&](Instant next) {
    return next - server_now > std::chrono::days(1) - kJustPassed ? kSoon
                                                                  : until(next);
  };
  if (const auto wait = FieldReset(fields, server_now)) return wait;
  for (const std::string_view text : fields.Texts()) {
    if (const auto then = FindResetDate(text, server_now)) return until(*then);
  }
  if (HasDailyQuota(fields))
    return until_midnight(NextPacificMidnight(server_now));
  if (const auto wait = ParseReset(fields.reset, server_now))
    return RoundUp(wait);
  for (const std::string_view text : fields.Texts()) {
    const auto wait = FindRetryHint(text);
    if (wait >= std::chrono::minutes(1) &&
        !SaysNumber(OwnWords(text), "limit: 0"))
      return wait;
  }
  // Of these the end of the day is known: OpenRouter, Cloudflare.
  constexpr auto kUtcDays = std::to_array<std::string_view>(
      {"free-models-per-day", "daily free allocation"});
  for (const std::string_view text : fields.Texts()) {
    if (FindFirst(OwnWords(text), kUtcDays) != text.npos)
      return until_midnight(NextUtcMidnight(server_now));
  }
  return std::nullopt;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_HINT_H_
