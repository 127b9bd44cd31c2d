// File: redis_server.h
//
// A redis-server of a test's own, on a unix socket or a free port; killed when it
// goes.
//
// Example:
//   RedisServer server;
//   server.Say({"CONFIG", "SET", "maxmemory", "1"});  // "OK"

#ifndef KEYROTATOR_TESTS_SUPPORT_REDIS_SERVER_H_
#define KEYROTATOR_TESTS_SUPPORT_REDIS_SERVER_H_

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/redis/redis_connection.h"
#include "tests/support/eventually.h"
#include "tests/support/raw_server.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing {

// What redis-cli would print, more or less: the text of a reply, of an array its
// elements, a line each.
inline std::string TextOfReply(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_INTEGER) return std::to_string(reply.integer);
  if (reply.type != REDIS_REPLY_ARRAY)
    return std::string(internal::TextOf(reply));
  std::string text;
  for (std::size_t i = 0; i < reply.elements; ++i)
    text += TextOfReply(*reply.element[i]) + "\n";
  return text;
}

class RedisServer {
 public:
  // `options`: of its command line. `has_port`: a port of 127.0.0.1, too.
  explicit RedisServer(std::vector<std::string> options = {},
                       bool has_port = false)
      : options_(std::move(options)), has_port_(has_port) {
    Start();
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;
  ~RedisServer() { Kill(); }

  // kill -9. It may be stopped.
  void Kill() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  // Where it was, and empty.
  void Start() {
    // Between the look for a free port and its use another may take it.
    for (int i = 0; i < 5; ++i) {
      if (has_port_ && port_ == 0) port_ = BoundSocket().port();
      Launch();
      if (Eventually([&] { return IsUp() || HasEnded(); }) && process_ > 0)
        return;
      port_ = 0;
    }
    throw std::runtime_error("redis-server does not start");
  }
  // Goes on with nothing; connections are made, and nobody answers.
  void Stop() {
    kill(process_, SIGSTOP);
    int status = 0;
    waitpid(process_, &status, WUNTRACED);
  }
  void Continue() { kill(process_, SIGCONT); }

  std::string path() const { return (directory_ / "redis").string(); }
  int port() const { return port_; }
  std::string url() const { return "unix://" + path(); }

  // By a connection of its own, that nothing else is refused on.
  std::string Say(const std::vector<std::string_view>& args) {
    internal::RedisConnection connection;
    return SayOn(connection, args);
  }
  // By one that is kept.
  std::string SayOn(internal::RedisConnection& connection,
                    const std::vector<std::string_view>& args) const {
    const auto until = internal::RedisConnection::Clock::now() + kBound;
    internal::RedisAddress address;
    address.path = path();
    if (!connection.is_open() && !connection.Open(address, until)) return {};
    const auto reply = connection.Command(args, until, 64U << 20U);
    return reply == nullptr ? connection.error() : TextOfReply(*reply);
  }

 private:
  static constexpr std::chrono::seconds kBound{20};

  void Launch() {
    std::vector<std::string> args{"redis-server",
                                  "--port",
                                  std::to_string(port_),
                                  "--bind",
                                  "127.0.0.1",
                                  "--unixsocket",
                                  path(),
                                  "--save",
                                  "",
                                  "--appendonly",
                                  "no",
                                  "--dir",
                                  directory_.path().string()};
    args.insert(args.end(), options_.begin(), options_.end());
    std::vector<char*> texts;
    for (std::string& arg : args) texts.push_back(arg.data());
    texts.push_back(nullptr);
    process_ = fork();
    if (process_ != 0) return;
    // Not to outlive a test that is killed.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int nowhere = open("/dev/null", O_RDWR);
    for (const int stream : {0, 1, 2}) dup2(nowhere, stream);
    execvp(texts[0], texts.data());
    _exit(127);
  }
  bool IsUp() {
    const std::string answer = Say({"PING"});
    return answer == "PONG" || answer.starts_with("NOAUTH") ||
           answer.starts_with("NOPERM");
  }
  bool HasEnded() {
    if (waitpid(process_, nullptr, WNOHANG) != process_) return false;
    process_ = 0;
    return true;
  }

  const std::vector<std::string> options_;
  const bool has_port_;
  const TemporaryDirectory directory_;
  int port_ = 0;
  pid_t process_ = 0;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_REDIS_SERVER_H_
