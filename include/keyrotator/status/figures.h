// File: status/figures.h
//
// What the renderings of a snapshot share: durations in seconds, and which
// figures of a provider's limits mean anything.
//
// Example:
//   keyrotator::internal::Seconds(std::chrono::milliseconds(1500));  // 1.5
//   keyrotator::internal::Known(-3.0);                 // std::nullopt

#ifndef KEYROTATOR_STATUS_FIGURES_H_
#define KEYROTATOR_STATUS_FIGURES_H_

#include <chrono>
#include <cmath>
#include <optional>

namespace keyrotator::internal {

inline double Seconds(std::chrono::nanoseconds span) {
  return std::chrono::duration<double>(span).count();
}

// Numbers that mean nothing count as not known, as limits.h has it.
inline std::optional<double> Known(std::optional<double> number) {
  if (number && !(std::isfinite(*number) && *number >= 0)) return std::nullopt;
  return number;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_STATUS_FIGURES_H_
