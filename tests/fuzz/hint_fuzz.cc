// File: hint_fuzz.cc
//
// libFuzzer: dates and durations in headers are what others read in them: the C
// library's dates, and a slow and simple reading of a duration.
//
// An input is a text; its first bytes are a date, too.

#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/openai/http_date.h"
#include "keyrotator/openai/retry_after.h"

namespace {

using namespace keyrotator;
using internal::Instant;

constexpr Instant kNow{std::chrono::seconds(1768478400)};

void Require(bool good) {
  if (!good) std::abort();
}

constexpr std::array kForms = {"%a, %d %b %Y %H:%M:%S GMT",
                               "%a %b %e %H:%M:%S %Y",
                               "%A, %d-%b-%y %H:%M:%S GMT"};

std::int64_t Seconds(Instant instant) {
  return std::chrono::floor<std::chrono::seconds>(instant.time_since_epoch())
      .count();
}

// The same but for the century, which each chooses in its own way.
bool IsSameInItsCentury(std::int64_t a, std::int64_t b) {
  tm one = {};
  tm other = {};
  const time_t first = a;
  const time_t second = b;
  gmtime_r(&first, &one);
  gmtime_r(&second, &other);
  const auto fields = [](const tm& time) {
    return std::array{(time.tm_year + 1900) % 100,
                      time.tm_mon,
                      time.tm_mday,
                      time.tm_hour,
                      time.tm_min,
                      time.tm_sec};
  };
  return fields(one) == fields(other);
}

// What is accepted is one of the three forms, and the C library's date.
void CheckDate(std::string_view text) {
  const std::optional<Instant> date = internal::ParseHttpDate(text, kNow);
  if (!date) return;
  const std::string copy(internal::Trim(text));
  for (const char* form : kForms) {
    tm fields = {};
    const char* end = strptime(copy.c_str(), form, &fields);
    if (end == nullptr || *end != '\0') continue;
    const std::int64_t other = timegm(&fields);
    if (other == Seconds(*date)) return;
    if (form == kForms[2] && IsSameInItsCentury(other, Seconds(*date))) return;
  }
  std::abort();
}

// A date that exists is read in each form.
void CheckInstant(std::int64_t seconds) {
  const time_t time = seconds;
  tm fields = {};
  if (gmtime_r(&time, &fields) == nullptr) return;
  std::array<char, 64> text = {};
  for (const char* form : kForms) {
    Require(strftime(text.data(), text.size(), form, &fields) > 0);
    const auto date = internal::ParseHttpDate(text.data(), kNow);
    // 29 February of a century that has none near by.
    const bool leap = fields.tm_mon == 1 && fields.tm_mday == 29;
    if (!date && form == kForms[2] && leap) continue;
    Require(date.has_value());
    Require(Seconds(*date) == seconds ||
            (form == kForms[2] && IsSameInItsCentury(seconds, Seconds(*date))));
  }
  Require(strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &fields) >
          0);
  const auto date = internal::ParseRfc3339(text.data());
  Require(date && Seconds(*date) == seconds);
}

bool IsNumber(char c) { return internal::IsDigit(c) || c == '.'; }

// Numbers, each with a unit, and nothing else.
std::optional<long double> SlowDuration(const std::string& text) {
  static const std::array<std::pair<const char*, long double>, 24> kUnits = {{
      {"ns", 1},          {"us", 1e3L},      {"\u00b5s", 1e3L},
      {"\u03bcs", 1e3L},  {"ms", 1e6L},      {"milliseconds", 1e6L},
      {"s", 1e9L},        {"sec", 1e9L},     {"secs", 1e9L},
      {"second", 1e9L},   {"seconds", 1e9L}, {"m", 60e9L},
      {"min", 60e9L},     {"mins", 60e9L},   {"minute", 60e9L},
      {"minutes", 60e9L}, {"h", 3600e9L},    {"hr", 3600e9L},
      {"hrs", 3600e9L},   {"hour", 3600e9L}, {"hours", 3600e9L},
      {"d", 86400e9L},    {"day", 86400e9L}, {"days", 86400e9L},
  }};
  long double total = 0;
  std::size_t i = 0;
  const auto skip = [&] {
    while (i < text.size() && internal::IsBlank(text[i])) ++i;
  };
  for (skip(); i < text.size(); skip()) {
    std::string number;
    while (i < text.size() && IsNumber(text[i])) number += text[i++];
    if (number.empty()) return std::nullopt;
    skip();
    std::string unit;
    while (i < text.size() && !IsNumber(text[i]) && !internal::IsBlank(text[i]))
      unit += text[i++];
    unit = internal::Lower(unit);
    const auto* known =
        std::find_if(kUnits.begin(), kUnits.end(),
                     [&](const auto& entry) { return unit == entry.first; });
    if (known == kUnits.end()) return std::nullopt;
    total += std::strtold(number.c_str(), nullptr) * known->second;
  }
  return total;
}

void CheckDuration(const std::string& text) {
  const auto wait = internal::ParseDuration(text);
  if (!wait) return;
  const auto slow = SlowDuration(text);
  Require(slow.has_value());
  const long double cap =
      std::chrono::duration<long double, std::nano>(kMaxRetryAfter).count();
  const long double wanted = std::min(*slow, cap);
  const auto got = static_cast<long double>(wait->count());
  Require(std::abs(got - wanted) <= 1 + wanted * 1e-9L);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  CheckDate(text);
  CheckDuration(text);
  if (const auto wait = internal::ParseReset(text, kNow))
    Require(wait->count() >= 1 && *wait <= kMaxRetryAfter);
  if (const auto hint = FindRetryHint(text))
    Require(hint->count() >= 1 && *hint <= kMaxRetryAfter);

  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(size, 5); ++i)
    bits = bits << 8 | data[i];
  // From 1970 to the year 9999.
  CheckInstant(static_cast<std::int64_t>(bits % 253'402'300'800ULL));
  return 0;
}
