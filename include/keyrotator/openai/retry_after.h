// File: openai/retry_after.h
//
// When a provider says that one may ask again, and what it says is left of its
// limits: durations, dates and rate-limit headers as providers write them. Pure
// functions of their arguments; no locale, no time zone, no clock. Text that
// means nothing, nothing yet to come, or nothing finite gives no value: never
// an exception, never "at once".
//
// Example:
//   const auto now = std::chrono::system_clock::now();
//   keyrotator::ParseRetryAfter(response.headers, now);  // Retry-After and kin
//   keyrotator::FindRetryHint("Please try again in 6m0s.");  // 360 s
//   rotator.ReportLimits(lease,
//                        keyrotator::ParseRateLimits(response.headers, now));

#ifndef KEYROTATOR_OPENAI_RETRY_AFTER_H_
#define KEYROTATOR_OPENAI_RETRY_AFTER_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/internal/decimal.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/limits.h"
#include "keyrotator/openai/http_date.h"

namespace keyrotator {

// No provider's limit outlasts a month; a longer wait is cut to this. It is
// above 2^31 ms, so keep it out of an int.
inline constexpr std::chrono::milliseconds kMaxRetryAfter =
    std::chrono::hours(31 * 24);

namespace internal {

// --- Durations ---

// A wait of so many nanoseconds, cut to the cap; none if it is not positive.
// Rounds to the nearest, so that 18.642 s, which no double is, stays exact.
inline std::optional<std::chrono::nanoseconds> ToWait(double nanoseconds) {
  constexpr std::chrono::nanoseconds kCap = kMaxRetryAfter;
  if (!(nanoseconds > 0)) return std::nullopt;
  if (nanoseconds >= static_cast<double>(kCap.count())) return kCap;
  return std::chrono::nanoseconds(std::max(std::llround(nanoseconds), 1LL));
}

// The wait from `now` until `then`; none unless it lies ahead.
inline std::optional<std::chrono::nanoseconds> TimeLeft(Instant then,
                                                        Instant now) {
  if (then <= now) return std::nullopt;
  // In doubles, as the difference of two far dates is more nanoseconds than an
  // int64 holds.
  return ToWait(static_cast<double>((then - now).count()) * 1e6);
}

inline constexpr double kSecond = 1e9;  // in nanoseconds

struct DurationUnit {
  std::string_view name;
  double nanoseconds;
};

// Go's units (time.ParseDuration) and the words that providers write instead.
inline constexpr auto kDurationUnits = std::to_array<DurationUnit>({
    {"ns", 1},
    {"us", 1e3},
    {"\u00b5s", 1e3},  // micro sign
    {"\u03bcs", 1e3},  // Greek mu
    {"ms", 1e6},
    {"milliseconds", 1e6},
    {"s", kSecond},
    {"sec", kSecond},
    {"secs", kSecond},
    {"second", kSecond},
    {"seconds", kSecond},
    {"m", 60 * kSecond},
    {"min", 60 * kSecond},
    {"mins", 60 * kSecond},
    {"minute", 60 * kSecond},
    {"minutes", 60 * kSecond},
    {"h", 3600 * kSecond},
    {"hr", 3600 * kSecond},
    {"hrs", 3600 * kSecond},
    {"hour", 3600 * kSecond},
    {"hours", 3600 * kSecond},
    {"d", 86400 * kSecond},
    {"day", 86400 * kSecond},
    {"days", 86400 * kSecond},
});

// Takes "6m0s", "20ms" or "2 seconds" off the front of `text`: numbers, each
// with a unit. The unit is a whole word: "20ms" is not 20 m, "3 months"
// nothing.
inline std::optional<std::chrono::nanoseconds> TakeDuration(
    std::string_view& text) {
  double total = 0;
  for (std::string_view rest = text;; text = rest) {
    rest = SkipBlanks(rest);
    const std::optional<double> number = TakeDecimal(rest);
    if (!number) break;
    rest = SkipBlanks(rest);
    std::size_t length = 0;
    while (length < rest.size() &&
           ((Lower(rest[length]) >= 'a' && Lower(rest[length]) <= 'z') ||
            static_cast<unsigned char>(rest[length]) >= 0x80)) {
      ++length;
    }
    const std::string name =
        Lower(rest.substr(0, std::min<std::size_t>(length, 16)));
    const auto unit =
        std::find_if(kDurationUnits.begin(), kDurationUnits.end(),
                     [&](const DurationUnit& u) { return u.name == name; });
    if (unit == kDurationUnits.end()) break;
    total += *number * unit->nanoseconds;
    rest.remove_prefix(length);
  }
  return ToWait(total);
}

// The whole of `text` as a duration.
inline std::optional<std::chrono::nanoseconds> ParseDuration(
    std::string_view text) {
  const std::optional<std::chrono::nanoseconds> wait = TakeDuration(text);
  return SkipBlanks(text).empty() ? wait : std::nullopt;
}

// --- Resets ---

// The provider's own idea of the present, if it gave one in the header Date:
// its dates less its own clock are right even where the local clock is wrong.
inline Instant ServerNow(const Headers& headers,
                         std::chrono::system_clock::time_point now) {
  const Instant local = std::chrono::floor<std::chrono::milliseconds>(now);
  const auto date = headers.Find("date");
  return date ? ParseHttpDate(*date, local).value_or(local) : local;
}

// The time until a limit resets, in any form that is in use: "1h2m3.5s"
// (OpenAI, Groq), RFC 3339 (Anthropic), and a bare number of seconds (Azure,
// Cerebras, IETF), seconds since 1970 or milliseconds since 1970 (OpenRouter).
// A number is told apart by its size: 1e8 s are three years, and 1e11 s are
// past the year 5000.
inline std::optional<std::chrono::nanoseconds> ParseReset(std::string_view text,
                                                          Instant now) {
  if (const std::optional<double> number = ParseDecimal(text)) {
    if (*number < 1e8) return ToWait(*number * kSecond);
    const double epoch_ms = *number < 1e11 ? *number * 1e3 : *number;
    return ToWait(
        (epoch_ms - static_cast<double>(now.time_since_epoch().count())) * 1e6);
  }
  if (const auto wait = ParseDuration(text)) return wait;
  const std::optional<Instant> then = ParseRfc3339(text);
  return then ? TimeLeft(*then, now) : std::nullopt;
}

// --- Names of rate-limit headers ---

// A rate-limit header's name, split around what it tells:
// "x-ratelimit-" "remaining" "-tokens-minute", or
// "anthropic-ratelimit-input-tokens-" "reset" "".
struct RateLimitName {
  std::string_view before;
  std::string_view what;  // "limit", "remaining" or "reset"
  std::string_view after;

  // The name of the sibling that tells `other` of the same limit.
  std::string Sibling(std::string_view other) const {
    return std::string(before).append(other).append(after);
  }
};

// Splits a name in lower case; none if it is no such header. The views point
// into `name`.
inline std::optional<RateLimitName> SplitRateLimitName(std::string_view name) {
  constexpr std::string_view kFamily = "ratelimit-";
  std::size_t begin = name.find(kFamily);
  if (begin == std::string_view::npos) return std::nullopt;
  for (begin += kFamily.size(); begin <= name.size();) {
    const std::size_t end = std::min(name.find('-', begin), name.size());
    const std::string_view word = name.substr(begin, end - begin);
    if (word == "limit" || word == "remaining" || word == "reset") {
      return RateLimitName{name.substr(0, begin), word, name.substr(end)};
    }
    begin = end + 1;
  }
  return std::nullopt;
}

// Whether `a` refuses before `b`: a smaller share of it is left, or a smaller
// number, or it is smaller, or takes longer to reset. What is not known comes
// last.
inline bool BindsBefore(const RateLimit& a, const RateLimit& b) {
  constexpr double kUnknown = std::numeric_limits<double>::infinity();
  const auto rank = [=](const RateLimit& limit) {
    const double left = limit.remaining.value_or(kUnknown);
    const double most = limit.limit.value_or(kUnknown);
    const double share = left == 0                     ? 0
                         : 0 < most && most < kUnknown ? left / most
                                                       : kUnknown;
    return std::array{share, left, most};
  };
  return rank(a) != rank(b) ? rank(a) < rank(b) : a.reset > b.reset;
}

// Waits are handed out in milliseconds, rounded up: never too early.
inline std::optional<std::chrono::milliseconds> RoundUp(
    std::optional<std::chrono::nanoseconds> wait) {
  if (!wait) return std::nullopt;
  return std::chrono::ceil<std::chrono::milliseconds>(*wait);
}

}  // namespace internal

// The wait that the headers ask for: retry-after-ms, then x-ms-retry-after-ms
// (decimal milliseconds), then Retry-After: decimal seconds, or a date of RFC
// 9110, less the header Date if there is one, else `now`. Of a header that
// comes twice the first counts. From 1 ms to kMaxRetryAfter; a value that is
// zero, negative, past or garbage is skipped, and the next header asked.
// Linear.
inline std::optional<std::chrono::milliseconds> ParseRetryAfter(
    const Headers& headers, std::chrono::system_clock::time_point now) {
  for (const std::string_view name :
       {"retry-after-ms", "x-ms-retry-after-ms"}) {
    const auto value = headers.Find(name);
    if (!value) continue;
    const std::optional<double> ms = internal::ParseDecimal(*value);
    if (const auto wait = internal::ToWait(ms.value_or(0) * 1e6)) {
      return internal::RoundUp(wait);
    }
  }
  const auto value = headers.Find("retry-after");
  if (!value) return std::nullopt;
  if (const std::optional<double> seconds = internal::ParseDecimal(*value)) {
    return internal::RoundUp(internal::ToWait(*seconds * internal::kSecond));
  }
  const internal::Instant server_now = internal::ServerNow(headers, now);
  const auto then = internal::ParseHttpDate(*value, server_now);
  if (!then) return std::nullopt;
  return internal::RoundUp(internal::TimeLeft(*then, server_now));
}

// The wait that a sentence asks for: "try again in 6m0s", "retry after 20
// seconds", "wait 41250 seconds", "resets in 13 days", without case; the first
// that is usable. Linear.
inline std::optional<std::chrono::milliseconds> FindRetryHint(
    std::string_view text) {
  const auto take = [](std::string_view& rest, std::string_view word) {
    if (rest.size() < word.size() ||
        !std::equal(word.begin(), word.end(), rest.begin(),
                    [](char a, char b) { return a == internal::Lower(b); })) {
      return false;
    }
    rest.remove_prefix(word.size());
    return true;
  };
  const auto take_one = [&](std::string_view& rest, auto... words) {
    return (take(rest, words) || ...);
  };
  for (std::size_t at = 0; at + 1 < text.size(); ++at) {
    // Most places are passed over at the first two letters.
    const int first = text[at] | 0x20;  // in lower case, if a letter
    if (first != 't' && first != 'r' && first != 'w') continue;
    const int second = text[at + 1] | 0x20;
    if (second != 'r' && second != 'e' && second != 'a') continue;
    std::string_view rest = text.substr(at);
    if (!take_one(rest, "try again ", "retry ", "wait ", "reset ", "resets "))
      continue;
    take_one(rest, "in ", "after ", "for ");
    take(rest, "~");
    if (const auto wait = internal::TakeDuration(rest)) {
      return internal::RoundUp(wait);
    }
  }
  return std::nullopt;
}

// The longest time to a reset among the limits of which the headers say that
// nothing remains. A last resort: for OpenAI it is the time to a *full* bucket,
// far more than one request has to wait.
inline std::optional<std::chrono::milliseconds> ParseExhaustedReset(
    const Headers& headers, std::chrono::system_clock::time_point now) {
  const internal::Instant server_now = internal::ServerNow(headers, now);
  std::optional<std::chrono::nanoseconds> longest;
  for (const Headers::Field& field : headers) {
    const std::string name = internal::Lower(field.name);
    const auto split = internal::SplitRateLimitName(name);
    if (!split || split->what != "remaining") continue;
    // Find, not field.value: of a name that comes twice the first counts.
    if (internal::ParseDecimal(*headers.Find(name)) != 0.0) continue;
    const auto reset = headers.Find(split->Sibling("reset"));
    if (!reset) continue;
    // An empty optional is less than any wait.
    longest = std::max(longest, internal::ParseReset(*reset, server_now));
  }
  return internal::RoundUp(longest);
}

// What the headers say is left of the limits on requests and on tokens:
// x-ratelimit-{limit,remaining,reset}-{requests,tokens}, with Groq's and
// Cerebras' windows after that (-requests-day, -tokens-minute), Anthropic's
// anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-*, and
// x-ratelimit-* or ratelimit-* alone, which are requests.
//
// Where several limits bound one dimension (Anthropic's three kinds of tokens,
// a minute and a day), the one is returned that will refuse first: the smallest
// share is left of it; of equals the smallest number, then the longest reset.
//
// Negative numbers (Azure's -1: not known) and garbage are left empty, as is a
// reset that does not lie ahead. Never an error. `now` is for dates and epochs;
// the header Date goes before it.
inline RateLimits ParseRateLimits(const Headers& headers,
                                  std::chrono::system_clock::time_point now) {
  const internal::Instant server_now = internal::ServerNow(headers, now);
  // The first header of each name counts.
  struct Limit {
    std::string before;
    std::string after;
    std::optional<std::string_view> limit, remaining, reset;
  };
  std::vector<Limit> found;
  for (const Headers::Field& field : headers) {
    const std::string name = internal::Lower(field.name);
    const auto split = internal::SplitRateLimitName(name);
    if (!split) continue;
    auto limit = std::find_if(found.begin(), found.end(), [&](const Limit& l) {
      return l.before == split->before && l.after == split->after;
    });
    if (limit == found.end()) {
      found.push_back({.before = std::string(split->before),
                       .after = std::string(split->after),
                       .limit = {},
                       .remaining = {},
                       .reset = {}});
      limit = std::prev(found.end());
    }
    auto& value = split->what == "limit"       ? limit->limit
                  : split->what == "remaining" ? limit->remaining
                                               : limit->reset;
    if (!value) value = field.value;
  }

  RateLimits limits;
  for (const Limit& texts : found) {
    const auto named = [&](std::string_view word) {
      return texts.before.find(word) != std::string::npos ||
             texts.after.find(word) != std::string::npos;
    };
    const bool tokens = named("token");
    const bool bare =
        texts.before.ends_with("ratelimit-") && texts.after.empty();
    if (!tokens && !named("request") && !bare) continue;

    const auto number = [](std::optional<std::string_view> text) {
      const std::optional<double> parsed =
          text ? internal::ParseDecimal(*text) : std::nullopt;
      return parsed && std::isfinite(*parsed) ? parsed : std::nullopt;
    };
    RateLimit limit;
    limit.limit = number(texts.limit);
    limit.remaining = number(texts.remaining);
    if (texts.reset)
      limit.reset = internal::ParseReset(*texts.reset, server_now);
    RateLimit& slot = tokens ? limits.tokens : limits.requests;
    if (!internal::BindsBefore(slot, limit)) slot = limit;
  }
  return limits;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_RETRY_AFTER_H_
