// File: internal/decimal.h
//
// Decimal numbers in text: digits and a point, whatever the locale.
//
// Example:
//   keyrotator::internal::ParseDecimal(" 0.5 ");  // 0.5

#ifndef KEYROTATOR_INTERNAL_DECIMAL_H_
#define KEYROTATOR_INTERNAL_DECIMAL_H_

#include <cstddef>
#include <optional>
#include <string_view>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// Takes a decimal number such as "20", "0.5" or ".5" off the front of `text`.
// No sign and no exponent: what follows the number stays in `text`.
constexpr std::optional<double> TakeDecimal(std::string_view& text) {
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
constexpr std::optional<double> ParseDecimal(std::string_view text) {
  text = Trim(text);
  const std::optional<double> value = TakeDecimal(text);
  return text.empty() ? value : std::nullopt;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_DECIMAL_H_
