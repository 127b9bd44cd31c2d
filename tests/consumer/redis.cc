// Asks where nobody listens, and is told so.

#include "keyrotator/redis.h"

#include <cstdio>

int main() {
  keyrotator::RedisExchange exchange(
      {.url = "redis://127.0.0.1:1", .pool = "consumer"});
  if (exchange.Send({}) || exchange.error().empty()) return 1;
  std::puts("redis: ok");
}
