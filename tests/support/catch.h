// Catch2 v2 or v3, whichever there is, under the names of v3.

#ifndef KEYROTATOR_TESTS_SUPPORT_CATCH_H_
#define KEYROTATOR_TESTS_SUPPORT_CATCH_H_

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

using Catch::Approx;

namespace keyrotator::testing {

using Catch::Matchers::ContainsSubstring;

}  // namespace keyrotator::testing
#else
#include <catch2/catch.hpp>
#include <string>

namespace keyrotator::testing {

inline auto ContainsSubstring(const std::string& text) {
  return Catch::Matchers::Contains(text);
}

}  // namespace keyrotator::testing
#endif

#endif  // KEYROTATOR_TESTS_SUPPORT_CATCH_H_
