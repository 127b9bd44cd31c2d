// File: internal/format.h
//
// What has a name prints as it: with fmt, padded and aligned as text is.
//
// For instance, at namespace scope:
//   enum class Color { kRed };
//   constexpr std::string_view ToString(Color) { return "red"; }
//   template <>
//   struct fmt::formatter<Color> : keyrotator::internal::NameFormatter<Color> {
//   };

#ifndef KEYROTATOR_INTERNAL_FORMAT_H_
#define KEYROTATOR_INTERNAL_FORMAT_H_

#include <fmt/format.h>

#include <string_view>

namespace keyrotator::internal {

// The base of a formatter for a `Named` for which there is a ToString.
template <class Named>
struct NameFormatter : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const Named& named, Context& context) const {
    return fmt::formatter<std::string_view>::format(ToString(named), context);
  }
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_FORMAT_H_
