// Two policies of one's own: a lambda, and a class that keeps a number per key.

#include <keyrotator/keyrotator.h>

#include <cstddef>

using keyrotator::ApiKey;
using keyrotator::AvailableKeys;
using keyrotator::KeyRotator;
using keyrotator::PickHint;

// Stays with a key for a number of requests before it goes on to the next, as
// suits a provider that caches prompts by key.
class InBursts {
 public:
  explicit InBursts(int length) : length_(length) {}

  std::size_t operator()(const AvailableKeys& keys, const PickHint&) const {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (keys[i].note() > 0) {
        keys[i].note() -= 1;
        return i;
      }
    }
    keys[keys.turn()].note() = length_ - 1;
    return keys.turn();
  }

 private:
  int length_;
};

int main() {
  const auto cheapest = [](const AvailableKeys& keys, const PickHint&) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < keys.size(); ++i) {
      if (keys[i].weight() < keys[best].weight()) best = i;
    }
    return best;
  };
  // Here the weight is a price.
  KeyRotator by_price({ApiKey("sk-a", {.name = "costly", .weight = 9}),
                       ApiKey("sk-b", {.name = "cheap", .weight = 1})},
                      {}, cheapest);
  fmt::print("by price: {}", *by_price.Pick());
  by_price.MarkRateLimited("sk-b");
  fmt::print(" {}\n", *by_price.Pick());

  KeyRotator in_bursts(
      {ApiKey("sk-a", {.name = "A"}), ApiKey("sk-b", {.name = "B"})}, {},
      InBursts(3));
  fmt::print("in bursts:");
  for (int i = 0; i < 8; ++i) fmt::print(" {}", *in_bursts.Pick());
  fmt::print("\n");
}
