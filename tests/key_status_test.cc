#include "keyrotator/key_status.h"

#include <chrono>

#include "tests/support/catch.h"

namespace keyrotator::key_status_test {
namespace {

TEST_CASE("a status reads as a line", "[key_status]") {
  KeyStatus key;
  key.name = "prod-1";
  key.picks = 40;
  CHECK(fmt::format("{}", key) == "prod-1: available (picks 40, in flight 0)");
  key.state = KeyState::kCooling;
  key.returns_in = std::chrono::milliseconds(12'500);
  key.rate_limits = 2;
  key.failures = 1;
  key.in_flight = 1;
  key.scopes.push_back({.scope = "gpt-4o",
                        .state = KeyState::kCooling,
                        .returns_in = std::chrono::seconds(3)});
  CHECK(fmt::format("{}", key) ==
        "prod-1: cooling, returns in 12.5s (picks 40, in flight 1, rate "
        "limits 2, failures 1); gpt-4o: cooling, returns "
        "in 3s");
}

TEST_CASE("an event reads as a line", "[key_status]") {
  KeyEvent event{.kind = KeyEvent::Kind::kCooled,
                 .name = "prod-1",
                 .scope = "gpt-4o",
                 .returns_in = std::chrono::seconds(20)};
  CHECK(fmt::format("{}", event) == "prod-1 cooled in gpt-4o for 20s");
  event = {.kind = KeyEvent::Kind::kNoKeyLeft,
           .returns_in = std::chrono::milliseconds(1500)};
  CHECK(fmt::format("{}", event) == "no key left, returns in 1.5s");
  event = {.kind = KeyEvent::Kind::kFailed, .name = "prod-1"};
  CHECK(fmt::format("{:>15}|", event) == "  prod-1 failed|");
}

TEST_CASE("long spans are whole seconds", "[key_status]") {
  const KeyEvent event{.kind = KeyEvent::Kind::kCooled,
                       .name = "prod-1",
                       .returns_in = std::chrono::hours(1)};
  CHECK(fmt::format("{}", event) == "prod-1 cooled for 3600s");
}

TEST_CASE("states and kinds have names", "[key_status]") {
  CHECK(fmt::format("{} {} {} {}", KeyState::kAvailable, KeyState::kBusy,
                    KeyState::kCooling,
                    KeyState::kFailed) == "available busy cooling failed");
  CHECK(fmt::format("{} {} {}", KeyEvent::Kind::kReturned,
                    KeyEvent::Kind::kAdded,
                    KeyEvent::Kind::kRemoved) == "returned added removed");
}

}  // namespace
}  // namespace keyrotator::key_status_test
