#include "keyrotator/pool/peers.h"

#include "tests/support/catch.h"

namespace keyrotator::internal::pool_peers_test {
namespace {

TEST_CASE("peers that agree teach their rate", "[peers]") {
  Peers peers;
  const int a = 0;
  const int b = 0;
  const int c = 0;
  CHECK_FALSE(peers.Rate());
  peers.Learn(&a, 1.0);
  peers.Learn(&b, 1.05);
  CHECK_FALSE(peers.Rate());  // two may agree by chance
  peers.Learn(&c, 0.95);
  REQUIRE(peers.Rate());
  CHECK(*peers.Rate() == Approx(1).margin(0.05));
}

TEST_CASE("peers that differ teach nothing", "[peers]") {
  Peers peers;
  const int keys[4] = {};
  double rate = 1;
  for (int i = 0; i < 40; ++i) {
    peers.Learn(&keys[i % 4], rate);
    rate = rate > 5 ? 1 : rate * 2;
    CHECK_FALSE(peers.Rate());
  }
}

TEST_CASE("one that agrees with itself has no peers", "[peers]") {
  Peers peers;
  const int one = 0;
  for (int i = 0; i < 100; ++i) peers.Learn(&one, 1);
  CHECK_FALSE(peers.Rate());
}

TEST_CASE("peers follow a rate that has changed", "[peers]") {
  Peers peers;
  const int keys[4] = {};
  for (int i = 0; i < 20; ++i) peers.Learn(&keys[i % 4], 1);
  for (int i = 0; i < 100; ++i) peers.Learn(&keys[i % 4], 3);
  REQUIRE(peers.Rate());
  CHECK(*peers.Rate() == Approx(3).epsilon(0.01));
}

}  // namespace
}  // namespace keyrotator::internal::pool_peers_test
