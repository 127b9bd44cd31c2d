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
#include "keyrotator/internal/text.h"
#include "keyrotator/limits.h"

namespace keyrotator {

// No provider's limit outlasts a month; a longer wait is cut to this. It is
// above 2^31 ms, so keep it out of an int.
inline constexpr std::chrono::milliseconds kMaxRetryAfter =
    std::chrono::hours(31 * 24);

namespace internal {

// Instants are whole milliseconds: every date that a header can hold fits.
using Instant = std::chrono::sys_time<std::chrono::milliseconds>;

// --- Numbers and durations ---

// Takes a decimal number such as "20", "0.5" or ".5" off the front of `text`.
// No sign and no exponent: what follows the number stays in `text`.
inline std::optional<double> TakeDecimal(std::string_view& text) {
  double value = 0;
  double scale = 1;
  bool digits = false;
  bool fraction = false;
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.' && !fraction) {
      fraction = true;
      continue;
    }
    if (!IsDigit(c)) break;
    digits = true;
    // More digits than a double tells apart would only overflow the scale.
    if (fraction && scale >= 1e18) continue;
    value = value * 10 + (c - '0');
    if (fraction) scale *= 10;
  }
  if (!digits) return std::nullopt;
  text.remove_prefix(at);
  return value / scale;
}

// The whole of `text`, but for blanks around it, as a decimal number.
inline std::optional<double> ParseDecimal(std::string_view text) {
  text = Trim(text);
  const std::optional<double> value = TakeDecimal(text);
  return text.empty() ? value : std::nullopt;
}

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
    {"second", kSecond},
    {"seconds", kSecond},
    {"m", 60 * kSecond},
    {"min", 60 * kSecond},
    {"minute", 60 * kSecond},
    {"minutes", 60 * kSecond},
    {"h", 3600 * kSecond},
    {"hour", 3600 * kSecond},
    {"hours", 3600 * kSecond},
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

// --- Dates ---

inline constexpr auto kDayNames =
    std::to_array<std::string_view>({"Sunday", "Monday", "Tuesday", "Wednesday",
                                     "Thursday", "Friday", "Saturday"});

inline constexpr auto kMonthNames =
    std::to_array<std::string_view>({"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"});

struct DateFields {
  int year = 0;
  int month = 0;
  int day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
};

// Takes what `pattern` describes off the front of `text`. The directives are
// strptime's: %a %A %b %d %e %m %y %Y %H %M %S, in English and case-sensitive;
// all else stands for itself. Numbers have all their digits.
inline std::optional<DateFields> TakeDate(std::string_view& text,
                                          std::string_view pattern) {
  const auto take_number = [&](std::size_t width, int& value) {
    if (text.size() < width) return false;
    value = 0;
    for (const char c : text.substr(0, width)) {
      if (!IsDigit(c)) return false;
      value = value * 10 + (c - '0');
    }
    text.remove_prefix(width);
    return true;
  };
  const auto take_text = [&](std::string_view wanted) {
    if (text.substr(0, wanted.size()) != wanted) return false;
    text.remove_prefix(wanted.size());
    return true;
  };
  // `length` letters of each name; npos takes them whole.
  const auto take_name = [&](const auto& names, std::size_t length,
                             int* number) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!take_text(names[i].substr(0, length))) continue;
      if (number != nullptr) *number = static_cast<int>(i) + 1;
      return true;
    }
    return false;
  };

  DateFields date;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    bool ok = false;
    if (pattern[i] != '%') {
      ok = take_text(pattern.substr(i, 1));
    } else {
      switch (pattern[++i]) {
        case 'a':
          ok = take_name(kDayNames, 3, nullptr);
          break;
        case 'A':
          ok = take_name(kDayNames, std::string_view::npos, nullptr);
          break;
        case 'b':
          ok = take_name(kMonthNames, 3, &date.month);
          break;
        case 'm':
          ok = take_number(2, date.month);
          break;
        case 'd':
          ok = take_number(2, date.day);
          break;
        case 'e':  // padded with a blank
          ok = take_text(" ") ? take_number(1, date.day)
                              : take_number(2, date.day);
          break;
        case 'Y':
          ok = take_number(4, date.year);
          break;
        case 'y':
          ok = take_number(2, date.year);
          break;
        case 'H':
          ok = take_number(2, date.hour);
          break;
        case 'M':
          ok = take_number(2, date.minute);
          break;
        case 'S':
          ok = take_number(2, date.second);
          break;
        default:
          break;
      }
    }
    if (!ok) return std::nullopt;
  }
  return date;
}

// The UTC instant of a date that exists. 60 is a second of some minutes.
inline std::optional<Instant> ToInstant(const DateFields& date) {
  const std::chrono::year_month_day day{
      std::chrono::year(date.year),
      std::chrono::month(static_cast<unsigned>(date.month)),
      std::chrono::day(static_cast<unsigned>(date.day))};
  if (!day.ok() || date.hour > 23 || date.minute > 59 || date.second > 60) {
    return std::nullopt;
  }
  return std::chrono::sys_days(day) + std::chrono::hours(date.hour) +
         std::chrono::minutes(date.minute) + std::chrono::seconds(date.second);
}

// The three forms of RFC 9110, 5.6.7, all UTC. A two-digit year is the latest
// that is not more than 50 years ahead of `now`.
inline std::optional<Instant> ParseHttpDate(std::string_view text,
                                            Instant now) {
  text = Trim(text);
  for (const std::string_view pattern :
       {"%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    std::string_view rest = text;
    const std::optional<DateFields> date = TakeDate(rest, pattern);
    if (date && rest.empty()) return ToInstant(*date);
  }
  std::optional<DateFields> date = TakeDate(text, "%A, %d-%b-%y %H:%M:%S GMT");
  if (!date || !text.empty()) return std::nullopt;
  const std::chrono::year_month_day today(
      std::chrono::floor<std::chrono::days>(now));
  const int two_digits = date->year;
  date->year = (static_cast<int>(today.year()) / 100 + 1) * 100 + two_digits;
  std::optional<Instant> then = ToInstant(*date);
  // Twice at most: from the next century to the last. 29 February may not exist
  // in one of them.
  for (int i = 0; i < 2 && (!then || *then - now > std::chrono::years(50));
       ++i) {
    date->year -= 100;
    then = ToInstant(*date);
  }
  return then;
}

// RFC 3339: "2024-03-26T20:00:00Z", with a fraction or an offset if need be.
inline std::optional<Instant> ParseRfc3339(std::string_view text) {
  text = Trim(text);
  const std::optional<DateFields> date = TakeDate(text, "%Y-%m-%dT%H:%M:%S");
  if (!date) return std::nullopt;
  std::optional<Instant> instant = ToInstant(*date);
  if (!instant) return std::nullopt;
  if (text.substr(0, 1) == ".") {
    const std::optional<double> fraction = TakeDecimal(text);
    if (!fraction) return std::nullopt;
    *instant += std::chrono::milliseconds(std::lround(*fraction * 1e3));
  }
  if (text == "Z") return instant;
  const bool west = text.substr(0, 1) == "-";
  const std::optional<DateFields> offset =
      TakeDate(text, west ? "-%H:%M" : "+%H:%M");
  if (!offset || !text.empty() || offset->hour > 23 || offset->minute > 59) {
    return std::nullopt;
  }
  const auto ahead =
      std::chrono::hours(offset->hour) + std::chrono::minutes(offset->minute);
  return west ? *instant + ahead : *instant - ahead;
}

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
// seconds", without case; the first that is usable. Linear.
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
  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string_view rest = text.substr(at);
    if (!take(rest, "try again ") && !take(rest, "retry ")) continue;
    if (!take(rest, "in ") && !take(rest, "after ")) continue;
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
