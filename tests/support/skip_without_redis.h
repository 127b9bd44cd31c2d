// File: skip_without_redis.h
//
// For tests that need a redis-server, which not every machine has.
//
// Example:
//   if (SkipWithoutRedis()) return;

#ifndef KEYROTATOR_TESTS_SUPPORT_SKIP_WITHOUT_REDIS_H_
#define KEYROTATOR_TESTS_SUPPORT_SKIP_WITHOUT_REDIS_H_

#include <cstdlib>

#include "tests/support/catch.h"

namespace keyrotator::testing {

// Says so, for ctest, if there is no redis-server.
inline bool SkipWithoutRedis() {
  static const bool kIsThere =
      std::system("command -v redis-server >/dev/null 2>&1") == 0;
  if (!kIsThere) WARN("SKIPPED: redis-server is not installed");
  return !kIsThere;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_SKIP_WITHOUT_REDIS_H_
