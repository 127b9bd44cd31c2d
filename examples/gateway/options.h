// File: options.h
//
// What the gateway is told at its start: where to listen, who may ask, and how
// much and how long anything may take. Plain data; main.cc reads it from the
// command line.
//
// Example:
//   gateway::Options options;
//   options.port = 0;  // any free one
//   options.limits.head_timeout = std::chrono::seconds(1);

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_OPTIONS_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_OPTIONS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gateway {

using Milliseconds = std::chrono::milliseconds;

// Bounds on what callers and providers may take. Times are exact to a tenth of
// a second.
struct Limits {
  std::size_t connections = 4096;
  // A request's line and fields together.
  std::uint32_t head_bytes = 64 << 10;
  // A request's body.
  std::uint64_t body_bytes = std::uint64_t{1} << 30;
  // Up to this many bytes of a body are kept, so that it can be sent again with
  // another key. A longer one is passed on as it comes, once.
  std::size_t kept_bytes = std::size_t{32} << 20;
  // The same for all bodies together.
  std::size_t kept_bytes_in_all = std::size_t{512} << 20;
  // What waits for a caller that reads slowly, before the provider is slowed
  // down, too.
  std::size_t unread_bytes = std::size_t{256} << 10;

  // Between the requests of a connection.
  Milliseconds idle_timeout = std::chrono::seconds(75);
  // From the first byte of a head to its last.
  Milliseconds head_timeout = std::chrono::seconds(15);
  // The longest silence within a body; and the whole of it, but for a second
  // more for each 8 KiB.
  Milliseconds body_silence = std::chrono::seconds(30);
  Milliseconds body_timeout = std::chrono::seconds(60);
  // A caller that takes nothing of its answer.
  Milliseconds write_timeout = std::chrono::seconds(60);

  // Of providers: to be connected, until an answer begins, and the longest
  // silence within one; comments in a stream of events do not end a silence.
  Milliseconds connect_timeout = std::chrono::seconds(5);
  Milliseconds answer_timeout = std::chrono::minutes(10);
  Milliseconds answer_silence = std::chrono::minutes(2);
};

struct Options {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: any free one
  int threads = 1;
  // What callers have to show; none are asked for on loopback alone.
  std::vector<std::string> tokens = {};
  // What those have to show who change keys by hand; none: nobody can.
  std::vector<std::string> admin_tokens = {};
  // Names, besides those of this machine, by which callers may call it; "*" for
  // any. An address is always fine: see guard.h.
  std::vector<std::string> allow_hosts = {};
  // Web pages of other origins that may use it, as "https://example.com"; "*"
  // for any.
  std::vector<std::string> allow_origins = {};
  // How long requests that run may go on after a SIGTERM.
  Milliseconds drain = std::chrono::seconds(30);
  bool log_requests = true;
  Limits limits = {};
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_OPTIONS_H_
