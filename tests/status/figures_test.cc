#include "keyrotator/status/figures.h"

#include <chrono>
#include <limits>
#include <optional>

#include "tests/support/catch.h"

namespace keyrotator::internal::status_figures_test {
namespace {

TEST_CASE("spans are shown in seconds, with their fraction", "[figures]") {
  CHECK(Seconds(std::chrono::milliseconds(1500)) == 1.5);
  CHECK(Seconds(std::chrono::minutes(2)) == 120);
  CHECK(Seconds(std::chrono::nanoseconds(0)) == 0);
}

TEST_CASE("numbers that mean nothing count as not known", "[figures]") {
  using Limits = std::numeric_limits<double>;
  CHECK(Known(0.0) == 0.0);
  CHECK(Known(2.5) == 2.5);
  CHECK(Known(std::nullopt) == std::nullopt);
  CHECK(Known(-1.0) == std::nullopt);
  CHECK(Known(Limits::infinity()) == std::nullopt);
  CHECK(Known(Limits::quiet_NaN()) == std::nullopt);
}

}  // namespace
}  // namespace keyrotator::internal::status_figures_test
