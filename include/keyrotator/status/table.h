// File: status/table.h
//
// A snapshot as a table for people. Names come from users and may hold
// anything: what could break a line or a terminal is escaped; a byte that is
// not of valid UTF-8 is written \xHH.
//
// Example:
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
//   fmt::print("{}", keyrotator::StatusTable(rotator.Snapshot()));
//   // key       state      returns   in flight  picks  successes  429s ...
//   // prod-1    available                    1     40         37     2 ...
//   //   gpt-4o  cooling    in 12 s                                     ...

#ifndef KEYROTATOR_STATUS_TABLE_H_
#define KEYROTATOR_STATUS_TABLE_H_

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "keyrotator/internal/utf8.h"
#include "keyrotator/key_status.h"
#include "keyrotator/limits.h"
#include "keyrotator/status/figures.h"

namespace keyrotator {
namespace internal {

// key, state, returns, in flight, picks, successes, 429s, failures, left
using StatusCells = std::array<std::string, 9>;

// "3.4 s", "12 s", "3 min": rounded, but never "0.0 s".
inline std::string RoundSpan(std::chrono::nanoseconds span) {
  const double seconds = Seconds(span);
  if (seconds < 9.95) return fmt::format("{:.1f} s", std::max(seconds, 0.1));
  if (seconds < 99.5) return fmt::format("{:.0f} s", seconds);
  if (seconds < 99.5 * 60) return fmt::format("{:.0f} min", seconds / 60);
  if (seconds < 47.5 * 3600) return fmt::format("{:.0f} h", seconds / 3600);
  return fmt::format("{:.0f} days", seconds / 86'400);
}

// For a KeyStatus or a ScopeStatus.
std::string WhenItReturns(const auto& status) {
  if (status.returns_in) return "in " + RoundSpan(*status.returns_in);
  if (status.state == KeyState::kFailed) return "when restored";
  if (status.state == KeyState::kBusy) return "when a lease ends";
  return "";
}

// "3 of 60 requests, 1200 of 40000 tokens"
inline std::string WhatIsLeft(const RateLimits& limits) {
  std::string text;
  const auto add = [&](const RateLimit& limit, std::string_view unit) {
    const std::optional<double> remaining = Known(limit.remaining);
    if (!remaining) return;
    if (!text.empty()) text += ", ";
    text += fmt::format("{}", std::floor(*remaining));
    if (const auto most = Known(limit.limit))
      text += fmt::format(" of {}", *most);
    text.append(" ").append(unit);
  };
  add(limits.requests, "requests");
  add(limits.tokens, "tokens");
  return text;
}

inline void AddCells(const KeyStatus& key, std::vector<StatusCells>& table) {
  constexpr auto kEscaped = [](char32_t) { return false; };
  StatusCells& cells = table.emplace_back(StatusCells{
      Printable(key.name, kEscaped), std::string(ToString(key.state)),
      WhenItReturns(key),
      key.max_in_flight == 0
          ? fmt::format("{}", key.in_flight)
          : fmt::format("{}/{}", key.in_flight, key.max_in_flight),
      fmt::format("{}", key.picks), fmt::format("{}", key.successes),
      fmt::format("{}", key.rate_limits), fmt::format("{}", key.failures), ""});
  std::vector<StatusCells> scopes;
  for (const ScopeStatus& scope : key.scopes) {
    std::string left = WhatIsLeft(scope.limits);
    if (scope.scope.empty()) {  // the state of the key itself
      cells.back() = std::move(left);
    } else if (scope.state != key.state || scope.returns_in != key.returns_in ||
               !left.empty()) {
      StatusCells& line = scopes.emplace_back();
      line[0] = "  " + Printable(scope.scope, kEscaped);
      line[1] = ToString(scope.state);
      line[2] = WhenItReturns(scope);
      line.back() = std::move(left);
    }
  }
  std::move(scopes.begin(), scopes.end(), std::back_inserter(table));
}

// The width in columns of a terminal, where a code point takes zero to two. fmt
// knows it: padded to as many columns as it has bytes, the text grows by the
// bytes that take no column. (formatted_size would compile fmt's engine again.)
inline std::size_t Width(std::string_view text) {
  return 2 * text.size() - fmt::format("{:<{}}", text, text.size()).size();
}

}  // namespace internal

// One line a key, and indented beneath it one for each scope in which the key
// is in another state or whose limits are known: a key that is available may
// cool for one model. Columns are aligned by their width on a terminal. Throws
// nothing but std::bad_alloc. Linear.
inline std::string StatusTable(const std::vector<KeyStatus>& rows) {
  std::vector<internal::StatusCells> table = {
      {"key", "state", "returns", "in flight", "picks", "successes", "429s",
       "failures", "left"}};
  for (const KeyStatus& key : rows) internal::AddCells(key, table);
  if (std::all_of(table.begin() + 1, table.end(),
                  [](const auto& cells) { return cells.back().empty(); }))
    table.front().back().clear();

  std::array<std::size_t, std::tuple_size_v<internal::StatusCells>> widths{};
  for (const internal::StatusCells& cells : table) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], internal::Width(cells[i]));
  }
  std::string text;
  for (const internal::StatusCells& cells : table) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool is_number = i >= 3 && i <= 7;
      text += is_number ? fmt::format("{:>{}}  ", cells[i], widths[i])
                        : fmt::format("{:<{}}  ", cells[i], widths[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text.push_back('\n');
  }
  return text;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_STATUS_TABLE_H_
