// File: redis.h
//
// A fleet over Redis: many processes that use the same keys share what is left of
// them. Needs hiredis and OpenSSL (component redis).
//
// Example:
//   keyrotator::RedisExchange exchange(
//       {.url = "redis://cache:6379/0", .pool = "prod", .secret = "..."});

#ifndef KEYROTATOR_REDIS_H_
#define KEYROTATOR_REDIS_H_

#include "keyrotator/fleet/fleet.h"           // IWYU pragma: export
#include "keyrotator/redis/make_fleet.h"      // IWYU pragma: export
#include "keyrotator/redis/redis_exchange.h"  // IWYU pragma: export

#endif  // KEYROTATOR_REDIS_H_
