// Snapshots to render.

#ifndef KEYROTATOR_TESTS_SUPPORT_STATUS_ROWS_H_
#define KEYROTATOR_TESTS_SUPPORT_STATUS_ROWS_H_

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/key_status.h"

namespace keyrotator::testing {

inline constexpr std::string_view kNasty = "a\"b\\n\nü漢\x1b[31m\xff\r\t";

inline std::vector<KeyStatus> Rows() {
  KeyStatus limited{.name = "prod-1",
                    .group = "org-1",
                    .weight = 2.5,
                    .max_in_flight = 8,
                    .in_flight = 3,
                    .picks = 12'345,
                    .successes = 12'340,
                    .rate_limits = 2,
                    .failures = 1};
  limited.scopes = {
      {.scope = "",
       .limits = {.requests = {.limit = 500., .remaining = 499.9}}},
      {.scope = "gpt-4o",
       .state = KeyState::kCooling,
       .returns_in = std::chrono::milliseconds(12'500),
       .limits = {.requests = {.limit = 60., .remaining = 0.4},
                  .tokens = {.limit = 40'000., .remaining = 1'200.}}},
      {.scope = "o3"}};
  return {limited,
          {.name = "kaputt-ü",
           .state = KeyState::kFailed,
           .failures = 1,
           .scopes = {{.scope = "gpt-4o", .state = KeyState::kFailed}}},
          {.name = "漢字",
           .state = KeyState::kCooling,
           .returns_in = std::chrono::hours(1)},
          {.name = "tried", .state = KeyState::kBusy, .in_flight = 1}};
}

inline std::vector<KeyStatus> Named(std::string_view name) {
  return {{.name = std::string(name)}};
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_STATUS_ROWS_H_
