// Starts a fake provider.

#include <cstdio>

#include "keyrotator/testing/fake_provider.h"

int main() {
  keyrotator::testing::FakeProvider provider({.keys = {{"sk-a", {}}}});
  if (provider.base_url().empty()) return 1;
  std::puts("testing: ok");
}
