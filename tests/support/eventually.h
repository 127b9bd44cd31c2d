// File: eventually.h
//
// Waits for what other threads bring about, where nothing tells of it.
//
// Example:
//   REQUIRE(Eventually([&] { return calling.load(); }));

#ifndef KEYROTATOR_TESTS_SUPPORT_EVENTUALLY_H_
#define KEYROTATOR_TESTS_SUPPORT_EVENTUALLY_H_

#include <chrono>
#include <thread>

namespace keyrotator::testing {

// Until `condition` holds; false if that does not come in 30 s, far longer than
// anything in a test takes, even under a sanitizer.
template <class Condition>
bool Eventually(Condition condition) {
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_EVENTUALLY_H_
