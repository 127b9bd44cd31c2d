// File: redis/redis_error.h
//
// What Redis's errors mean for who shares a ledger there: whether another server
// has to be found, and the words for a person.

#ifndef KEYROTATOR_REDIS_REDIS_ERROR_H_
#define KEYROTATOR_REDIS_REDIS_ERROR_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace keyrotator::internal {

struct RedisError {
  std::string_view code;
  std::string_view phrase;  // by which it is known, too
  // The server is not the one to ask, or not now: connect anew.
  bool elsewhere;
  std::string_view meaning;
};

// The codes are Redis's own (its errors begin with them), and the script's. A
// message of many parts is a protocol error to who is not known yet; and Redis 7.0
// has no code for a command that a script's user may not.
inline constexpr RedisError kRedisErrors[] = {
    {"LOADING", "", true, "it is loading its data"},
    {"READONLY", "", true, "it is a replica, which only reads"},
    {"MASTERDOWN", "", true, "it is a replica without its master"},
    {"CLUSTERDOWN", "", true, "its cluster is down"},
    {"MOVED", "", true, "another node of its cluster has the pool"},
    {"ASK", "", true, "another node of its cluster takes over the pool"},
    {"TRYAGAIN", "", true, "its cluster is moving the pool"},
    {"OOM", "", false, "it has no memory left (maxmemory)"},
    {"NOPERM", "can't run this command", false,
     "the user may not: it needs EVALSHA, EVAL, HLEN, HMGET, HSET, EXPIRE, "
     "UNLINK and TIME on the key of the pool"},
    {"WRONGTYPE", "", false,
     "something else is stored under the key of the pool"},
    {"NOAUTH", "unauthenticated", false, "it wants a password"},
    {"WRONGPASS", "", false, "the user name or the password is wrong"},
    {"KRVERSION", "", false,
     "the pool is kept by a version of this library with another layout"},
    {"NOREPLICAS", "", false, "it has too few replicas to write"},
    {"MISCONF", "", false, "it cannot save its data, and refuses to write"},
    {"BUSY", "", false, "a script runs there and does not end"},
};

// Which of them `text` is; null if none. Before Redis 7 an error within a script
// has its own in the middle: "ERR Error running script ...: -OOM command ...".
inline const RedisError* FindRedisError(std::string_view text) {
  for (const RedisError& known : kRedisErrors) {
    const std::string code = std::string(known.code) + " ";
    if (text.starts_with(code) || text.find("-" + code) != text.npos ||
        (text.starts_with("ERR ") && text.find(": " + code) != text.npos) ||
        (!known.phrase.empty() && text.find(known.phrase) != text.npos))
      return &known;
  }
  return nullptr;
}

// For a person: printable, of one line, not long.
inline std::string PrintableRedisText(std::string_view text) {
  constexpr std::size_t kMost = 160;
  std::string printable(text.substr(0, std::min(text.size(), kMost)));
  for (char& c : printable) {
    if (c < ' ' || c > '~') c = ' ';
  }
  return printable;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_REDIS_REDIS_ERROR_H_
