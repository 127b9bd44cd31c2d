// File: openai/reset_text.h
//
// When a limit ends, where an error says so in words: a date in a sentence, or
// the end of a provider's day.
//
// Example:
//   using namespace keyrotator::internal;
//   const Instant now = std::chrono::sys_days{std::chrono::year(2026) / 4 / 1};
//   FindResetDate("It will reset at 2026-04-02 09:00:00 +0800 CST.", now);
//   NextPacificMidnight(now);  // 2026-04-01 07:00 UTC

#ifndef KEYROTATOR_OPENAI_RESET_TEXT_H_
#define KEYROTATOR_OPENAI_RESET_TEXT_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/internal/decimal.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/openai/http_date.h"

namespace keyrotator::internal {

// --- Dates in a sentence ---

// Takes " UTC", "Z", " +0800" or "-07:00" off the front of `text`: how far it is
// ahead of UTC. None: no zone is said.
inline std::optional<std::chrono::minutes> TakeZone(std::string_view& text) {
  std::string_view rest = SkipBlanks(text);
  for (const std::string_view utc : {"UTC", "utc", "GMT", "gmt", "Z", "z"}) {
    if (!rest.starts_with(utc)) continue;
    if (rest.size() > utc.size() && IsAlphanumeric(rest[utc.size()])) continue;
    text = rest.substr(utc.size());
    return std::chrono::minutes(0);
  }
  const bool west = rest.starts_with('-');
  if (!west && !rest.starts_with('+')) return std::nullopt;
  rest.remove_prefix(1);
  int hours = 0;
  int minutes = 0;
  if (!TakeNumber(rest, 2, hours)) return std::nullopt;
  TakeText(rest, ":");
  if (!TakeNumber(rest, 2, minutes) || hours > 23 || minutes > 59)
    return std::nullopt;
  text = rest;
  const std::chrono::minutes ahead(hours * 60 + minutes);
  return west ? -ahead : ahead;
}

// A reset that lies no further back has just happened, or happens at the moment:
// clocks differ and answers are late. It is not the one of the next day, or in
// another zone.
inline constexpr std::chrono::minutes kJustPassed(10);

// A date and a time at the front of `text`: "2026-09-09 03:30:06",
// "2026-09-01 at 00:00 UTC", "2026-08-29T23:59:59.5+08:00". Without a zone it is
// UTC+8, as Zhipu and Z.ai were measured to mean, or UTC if that has passed: a
// key that is asked too early costs one refusal.
inline std::optional<Instant> TakeResetDate(std::string_view text,
                                            Instant now) {
  std::optional<DateFields> date = TakeDate(text, "%Y-%m-%d");
  if (!date) return std::nullopt;
  if (!TakeText(text, "T")) {
    const std::string_view before = text;
    text = SkipBlanks(text);
    if (TakeText(text, "at")) text = SkipBlanks(text);
    if (before.size() == text.size()) return std::nullopt;
  }
  const std::optional<DateFields> time = TakeDate(text, "%H:%M");
  if (!time) return std::nullopt;
  date->hour = time->hour;
  date->minute = time->minute;
  std::string_view seconds = text;
  if (TakeText(seconds, ":") && TakeNumber(seconds, 2, date->second))
    text = seconds;
  const std::optional<Instant> written = ToInstant(*date);
  if (!written) return std::nullopt;
  if (text.starts_with('.')) TakeDecimal(text);  // less than a second
  if (const auto ahead = TakeZone(text)) return *written - *ahead;
  constexpr std::chrono::hours kChina(8);
  return *written - kChina > now - kJustPassed ? *written - kChina : *written;
}

// The first date in a sentence that is said to be the end of a limit and lies
// ahead: "will reset at", "regain access on", "将在 ... 重置".
inline std::optional<Instant> FindResetDate(std::string_view text,
                                            Instant now) {
  constexpr std::size_t kBetween = 12;
  constexpr auto kEnds = std::to_array<std::string_view>(
      {"reset", "access", "refresh", "available", "将在"});
  text = text.substr(0, 2048);  // what it says itself stands there
  const std::string lower = Lower(text);
  // From date to date, as they are rarer than words.
  for (std::size_t at = lower.find_first_of("0123456789"); at != lower.npos;
       at = lower.find_first_of("0123456789", at + 1)) {
    if (at > 0 && IsDigit(lower[at - 1])) continue;
    const std::size_t from = at > kBetween + 9 ? at - kBetween - 9 : 0;
    const std::string_view before =
        std::string_view(lower).substr(from, at - from);
    const bool said =
        std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) {
          const std::size_t found = before.rfind(end);
          return found != before.npos &&
                 before.size() - found - end.size() <= kBetween &&
                 before.find_first_of("0123456789", found) == before.npos;
        });
    if (!said) continue;
    // Not in lower case: "T" and "Z" stand in dates.
    const auto date = TakeResetDate(text.substr(at), now);
    if (date && *date > now - kJustPassed) return date;
  }
  return std::nullopt;
}

// --- The end of a day ---

inline Instant NextUtcMidnight(Instant now) {
  return std::chrono::floor<std::chrono::days>(now) + std::chrono::days(1);
}

// How far Los Angeles is behind UTC at that instant, by the rule of 2007: summer
// time from the second Sunday in March to the first in November, at 2:00.
inline std::chrono::hours PacificOffset(Instant at) {
  using namespace std::chrono;
  const year year = year_month_day(floor<days>(at)).year();
  const sys_days march = sys_days(year / March / Sunday[2]);
  const sys_days november = sys_days(year / November / Sunday[1]);
  const bool summer = at >= march + hours(10) && at < november + hours(9);
  return hours(summer ? -7 : -8);
}

inline Instant NextPacificMidnight(Instant now) {
  using namespace std::chrono;
  const auto midnight = floor<days>(now + PacificOffset(now)) + days(1);
  // The clocks are changed at 2:00, so at midnight the old time is in force
  // on the day itself, and the new one from the next day on.
  const Instant early = Instant(midnight) + hours(7);
  return PacificOffset(early) == hours(-7) ? early : early + hours(1);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_RESET_TEXT_H_
