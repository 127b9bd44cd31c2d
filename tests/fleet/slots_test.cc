#include "keyrotator/fleet/slots.h"

#include "tests/support/catch.h"

namespace keyrotator::internal::fleet_slots_test {
namespace {

TEST_CASE("what was declared counts until it is taken off", "[fleet]") {
  FleetSlots slots;
  slots.Turn(5);
  slots.Put(3);
  slots.Put(4);
  CHECK(slots.Sum() == 7);
  slots.Take(5, 3);
  CHECK(slots.Sum() == 4);
  slots.Turn(6);
  CHECK(slots.Sum() == 4);
  slots.Take(5, 4);
  CHECK(slots.Sum() == 0);
}

TEST_CASE("what nobody takes off counts for two slots of time", "[fleet]") {
  FleetSlots slots;
  slots.Turn(5);
  slots.Put(3);
  slots.Turn(6);
  CHECK(slots.Sum() == 3);
  slots.Turn(7);
  CHECK(slots.Sum() == 0);
  // And is not taken off of what came later.
  slots.Put(2);
  slots.Take(5, 3);
  CHECK(slots.Sum() == 2);
  slots.Turn(9);
  CHECK(slots.Sum() == 0);
}

TEST_CASE("a sum is never below nothing", "[fleet]") {
  FleetSlots slots;
  slots.Turn(5);
  slots.Put(1);
  slots.Take(5, 3);
  CHECK(slots.Sum() == 0);
  slots.Put(1);
  slots.Clear();
  CHECK(slots.Sum() == 0);
}

}  // namespace
}  // namespace keyrotator::internal::fleet_slots_test
