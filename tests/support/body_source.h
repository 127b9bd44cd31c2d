// Sources of bodies for tests.

#ifndef KEYROTATOR_TESTS_SUPPORT_BODY_SOURCE_H_
#define KEYROTATOR_TESTS_SUPPORT_BODY_SOURCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "keyrotator/http/body_source.h"

namespace keyrotator::testing {

// A reader of that text.
inline ReadBody ReaderOf(std::string text) {
  auto rest = std::make_shared<std::pair<std::string, std::size_t>>(
      std::move(text), std::size_t{0});
  return [rest](std::span<char> room) {
    const std::size_t size =
        rest->first.copy(room.data(), room.size(), rest->second);
    rest->second += size;
    return size;
  };
}

// A source of that text, which counts in `opened` how often it was opened.
inline BodySource SourceOf(const std::string& text, int& opened,
                           std::optional<std::uint64_t> size = std::nullopt) {
  return BodySource(
      [&opened, text] {
        ++opened;
        return ReaderOf(text);
      },
      size);
}

// A source of `size` bytes that are nowhere, all 'x'.
inline BodySource SourceOfSize(std::uint64_t size) {
  return BodySource(
      [size]() -> ReadBody {
        return [left = size](std::span<char> room) mutable {
          const auto taken = static_cast<std::size_t>(
              std::min<std::uint64_t>(room.size(), left));
          std::fill_n(room.begin(), taken, 'x');
          left -= taken;
          return taken;
        };
      },
      size);
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_BODY_SOURCE_H_
