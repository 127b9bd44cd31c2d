// File: config/duration.h
//
// Durations as people write them in a configuration. This parser is strict,
// unlike that of openai/retry_after.h for what providers write: in a
// configuration a blank, a sign or a missing unit is more likely a mistake.
//
// Example:
//   keyrotator::internal::ParseSpan("1.5m");  // 90 s
//   keyrotator::internal::ParseSpan("60 s");  // std::nullopt

#ifndef KEYROTATOR_CONFIG_DURATION_H_
#define KEYROTATOR_CONFIG_DURATION_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>

#include "keyrotator/clock.h"
#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// For messages: what ParseSpan takes.
inline constexpr std::string_view kSpanFormat =
    "a number directly followed by ms, s, m, h or d, such as 500ms, 60s or "
    "1.5m";

// A decimal number, which may have a fraction, directly followed by ms, s, m, h
// or d. std::nullopt for any other text, for a fraction of a nanosecond, and
// for more than the 292 years that a Span holds. Exact. Linear.
inline std::optional<Span> ParseSpan(std::string_view text) {
  struct Unit {
    std::string_view name;
    Nanos nanos;
  };
  constexpr auto kUnits = std::to_array<Unit>({{"ms", 1'000'000},
                                               {"s", 1'000'000'000},
                                               {"m", 60'000'000'000},
                                               {"h", 3'600'000'000'000},
                                               {"d", 86'400'000'000'000}});

  const auto take_digits = [&text] {
    std::size_t count = 0;
    while (count < text.size() && IsDigit(text[count])) ++count;
    const std::string_view digits = text.substr(0, count);
    text.remove_prefix(count);
    return digits;
  };
  const std::string_view whole = take_digits();
  if (whole.empty()) return std::nullopt;
  std::string_view fraction;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    fraction = take_digits();
    if (fraction.empty()) return std::nullopt;
  }
  const auto unit =
      std::find_if(kUnits.begin(), kUnits.end(),
                   [&](const Unit& each) { return each.name == text; });
  if (unit == kUnits.end()) return std::nullopt;

  Nanos wholes = 0;  // in units
  for (const char digit : whole) {
    wholes = wholes * 10 + (digit - '0');
    if (wholes > kNever / unit->nanos) return std::nullopt;
  }
  // From the last digit backwards: a remainder at one digit can never become a
  // whole nanosecond at the next.
  Nanos part = 0;
  for (; !fraction.empty(); fraction.remove_suffix(1)) {
    part += (fraction.back() - '0') * unit->nanos;
    if (part % 10 != 0) return std::nullopt;
    part /= 10;
  }
  const Nanos nanos = wholes * unit->nanos;
  if (part > kNever - nanos) return std::nullopt;
  return Span(std::chrono::nanoseconds(nanos + part));
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_CONFIG_DURATION_H_
