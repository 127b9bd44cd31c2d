// Starts a fake provider, and asks one that has no port.

#include <chrono>
#include <cstdio>

#include "keyrotator/testing/fake_provider.h"
#include "keyrotator/testing/fake_transport.h"

int main() {
  const keyrotator::testing::FakeProvider provider({.keys = {{"sk-a", {}}}});
  if (provider.base_url().empty()) return 1;
  const keyrotator::testing::FakeTransport transport({.keys = {{"sk-a", {}}}});
  const auto answer = transport.backend().Answer(
      {.method = "GET", .url = "/models", .headers = {{"api-key", "sk-a"}}},
      std::chrono::seconds(0));
  if (answer.status != 200) return 1;
  std::puts("testing: ok");
}
