// File: server.h
//
// Server: the gateway on its socket. It listens from construction on, runs
// until Drain has done its work, and never throws for what comes from outside.
//
// Example:
//   gateway::Server server(options, {.providers = configs}, write_line);
//   std::thread thread([&] { server.Run(); });
//   Ask("127.0.0.1", server.port());
//   server.Drain();
//   thread.join();

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_SERVER_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_SERVER_H_

#include <memory>

#include "gateway/access_log.h"
#include "gateway/gateway.h"
#include "gateway/options.h"

namespace gateway {

class Server {
 public:
  // Throws std::runtime_error if the address cannot be listened on, or is not
  // loopback and no token is asked for; and as Gateway does.
  Server(Options options, Setup setup, AccessLog::Write write);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const;
  Gateway& gateway();

  // Serves, on this thread and those of the options, until it has drained.
  void Run();

  // Thread-safe, and may be called more than once: takes no new requests, lets
  // those that run go on for as long as the options say, then ends them.
  void Drain();
  // The same without waiting for those that run.
  void StopNow();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_SERVER_H_
