#include "keyrotator/pool/event_log.h"

#include <chrono>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::pool_event_log_test {
namespace {

using std::chrono::nanoseconds;

TEST_CASE("a span is empty once its end has come, or if it never does",
          "[event_log]") {
  CHECK(SpanUntil(150, 100) == nanoseconds(50));
  CHECK(SpanUntil(100, 100) == std::nullopt);
  CHECK(SpanUntil(99, 100) == std::nullopt);
  CHECK(SpanUntil(kNever, 100) == std::nullopt);
}

TEST_CASE("an event has the key's id, name and group, and no secret",
          "[event_log]") {
  Slot slot;
  slot.id = KeyId{7};
  slot.secret = "sk-secret";
  slot.name = "prod-1";
  slot.group_name = "org-1";
  EventLog log(true);
  log.Add(KeyEvent::Kind::kCooled, &slot, "gpt-4o", 150, 100);

  const std::vector<KeyEvent> events = log.Take();
  REQUIRE(events.size() == 1);
  CHECK(events[0].kind == KeyEvent::Kind::kCooled);
  CHECK(events[0].id == KeyId{7});
  CHECK(events[0].name == "prod-1");
  CHECK(events[0].group == "org-1");
  CHECK(events[0].scope == "gpt-4o");
  CHECK(events[0].returns_in == nanoseconds(50));
}

TEST_CASE("an event may concern no key", "[event_log]") {
  EventLog log(true);
  log.Add(KeyEvent::Kind::kNoKeyLeft, nullptr);
  const std::vector<KeyEvent> events = log.Take();
  REQUIRE(events.size() == 1);
  CHECK(events[0].id == KeyId{});
  CHECK(events[0].name.empty());
  CHECK(events[0].returns_in == std::nullopt);
}

TEST_CASE("events come out once, in the order in which they happened",
          "[event_log]") {
  EventLog log(true);
  log.Add(KeyEvent::Kind::kRemoved, nullptr);
  log.Add(KeyEvent::Kind::kAdded, nullptr);
  const std::vector<KeyEvent> events = log.Take();
  REQUIRE(events.size() == 2);
  CHECK(events[0].kind == KeyEvent::Kind::kRemoved);
  CHECK(events[1].kind == KeyEvent::Kind::kAdded);
  CHECK(log.Take().empty());
}

TEST_CASE("nothing is kept without a listener", "[event_log]") {
  EventLog log(false);
  CHECK_FALSE(log.is_wanted());
  log.Add(KeyEvent::Kind::kAdded, nullptr);
  CHECK(log.Take().empty());
}

}  // namespace
}  // namespace keyrotator::internal::pool_event_log_test
