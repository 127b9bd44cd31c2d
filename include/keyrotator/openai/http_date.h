// File: openai/http_date.h
//
// Dates as servers write them in headers: the three forms of HTTP, and RFC
// 3339. No locale, no time zone but the one that is written; what is no date
// gives no value.
//
// Example:
//   using namespace keyrotator::internal;
//   ParseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT", Instant{});
//   ParseRfc3339("2024-03-26T20:00:00Z");

#ifndef KEYROTATOR_OPENAI_HTTP_DATE_H_
#define KEYROTATOR_OPENAI_HTTP_DATE_H_

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "keyrotator/internal/decimal.h"
#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// Instants are whole milliseconds: every date that a header can hold fits.
using Instant = std::chrono::sys_time<std::chrono::milliseconds>;

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

// Each takes what it names off the front of `text`, or says that it is not
// there. Numbers have all their digits.

inline bool TakeText(std::string_view& text, std::string_view wanted) {
  if (!text.starts_with(wanted)) return false;
  text.remove_prefix(wanted.size());
  return true;
}

inline bool TakeNumber(std::string_view& text, std::size_t width, int& value) {
  if (text.size() < width) return false;
  value = 0;
  for (const char c : text.substr(0, width)) {
    if (!IsDigit(c)) return false;
    value = value * 10 + (c - '0');
  }
  text.remove_prefix(width);
  return true;
}

// The first `length` letters of a name; `number` counts the names from 1.
inline bool TakeName(std::string_view& text,
                     std::span<const std::string_view> names,
                     std::size_t length, int& number) {
  number = 0;
  for (const std::string_view name : names) {
    ++number;
    if (TakeText(text, name.substr(0, length))) return true;
  }
  return false;
}

// A directive of strptime, in English and case-sensitive.
inline bool TakeDirective(std::string_view& text, char directive,
                          DateFields& date) {
  int weekday = 0;  // what it says is not checked
  switch (directive) {
    case 'a':
      return TakeName(text, kDayNames, 3, weekday);
    case 'A':
      return TakeName(text, kDayNames, std::string_view::npos, weekday);
    case 'b':
      return TakeName(text, kMonthNames, 3, date.month);
    case 'm':
      return TakeNumber(text, 2, date.month);
    case 'd':
      return TakeNumber(text, 2, date.day);
    case 'e':  // padded with a blank
      return TakeNumber(text, TakeText(text, " ") ? 1 : 2, date.day);
    case 'Y':
      return TakeNumber(text, 4, date.year);
    case 'y':
      return TakeNumber(text, 2, date.year);
    case 'H':
      return TakeNumber(text, 2, date.hour);
    case 'M':
      return TakeNumber(text, 2, date.minute);
    case 'S':
      return TakeNumber(text, 2, date.second);
    default:
      return false;
  }
}

// Takes what `pattern` describes: directives, and what stands for itself.
inline std::optional<DateFields> TakeDate(std::string_view& text,
                                          std::string_view pattern) {
  DateFields date;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const bool taken = pattern[i] == '%'
                           ? TakeDirective(text, pattern[++i], date)
                           : TakeText(text, pattern.substr(i, 1));
    if (!taken) return std::nullopt;
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

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_HTTP_DATE_H_
