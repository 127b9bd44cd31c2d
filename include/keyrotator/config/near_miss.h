// File: config/near_miss.h
//
// Suggestions for misspelt names: the known name that is nearest to a text.
//
// Example:
//   constexpr std::string_view kFields[] = {"name", "key_selection"};
//   // "; did you mean key_selection?"
//   keyrotator::internal::DidYouMean("key_selecton", kFields);

#ifndef KEYROTATOR_CONFIG_NEAR_MISS_H_
#define KEYROTATOR_CONFIG_NEAR_MISS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

inline constexpr std::size_t kLongestName = 32;

// How many letters must be inserted, removed, replaced or swapped with their
// neighbour to turn one text into the other (optimal string alignment). Case is
// ignored, and _ equals -. Neither may be longer than kLongestName. O(a * b).
inline std::size_t EditDistance(std::string_view a, std::string_view b) {
  const auto plain = [](char c) { return c == '_' ? '-' : Lower(c); };
  using Row = std::array<std::size_t, kLongestName + 1>;
  Row before_last{};
  Row last{};
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    Row row{i};
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = plain(a[i - 1]) == plain(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + !same});
      if (i > 1 && j > 1 && plain(a[i - 1]) == plain(b[j - 2]) &&
          plain(a[i - 2]) == plain(b[j - 1])) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

// The name nearest to `text`, and the first of those that are equally near.
// Empty if in each name more than a third of the letters would be wrong.
inline std::string_view NearMiss(std::string_view text,
                                 std::span<const std::string_view> names) {
  std::string_view nearest;
  std::size_t least = kLongestName;
  for (const std::string_view name : names) {
    if (std::max(text.size(), name.size()) > kLongestName) continue;
    const std::size_t distance = EditDistance(text, name);
    if (distance * 3 > name.size() || distance >= least) continue;
    nearest = name;
    least = distance;
  }
  return nearest;
}

// For a message: "a, b, c". (With fmt::join, g++ 12 warns about fmt 9 at -O3.)
template <class Range>
std::string Listed(const Range& names) {
  std::string list;
  for (const std::string_view name : names)
    list.append(list.empty() ? "" : ", ").append(name);
  return list;
}

// For the end of a message: "; did you mean x?", or nothing.
inline std::string DidYouMean(std::string_view text,
                              std::span<const std::string_view> names) {
  const std::string_view name = NearMiss(text, names);
  if (name.empty()) return {};
  return std::string("; did you mean ").append(name).append("?");
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_CONFIG_NEAR_MISS_H_
