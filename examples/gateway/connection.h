// File: connection.h
//
// Connection: one caller's connection. It reads requests (HTTP/1.1, one after
// the other), gives each to a handler, and writes what the handler answers. It
// reads on while an answer is under way, and so notices at once if the caller
// goes away. A caller that closes only its half of the connection counts as
// gone, too.
//
// Example:
//   auto connection = std::make_shared<gateway::Connection>(
//       loop, std::move(socket), gateway::MakeHandler);
//   connection->Start();  // lives until the caller or the server closes it

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_CONNECTION_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_CONNECTION_H_

#include <keyrotator/http/message.h>

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/loop.h"
#include "gateway/problem.h"
#include "gateway/request_head.h"
#include "gateway/request_parser.h"

namespace gateway {

class Connection;

// What answers one request. It is destroyed when the answer has been written,
// or when the caller has gone, which ends whatever it does.
class Handler {
 public:
  virtual ~Handler() = default;
  // The body as it comes, and that it is whole.
  virtual void OnBody(std::string_view /*bytes*/) {}
  virtual void OnBodyEnd() {}
  // What was full has room again: see Connection::IsFull.
  virtual void OnRoom() {}
  // The server wants to stop, and has waited for as long as it may.
  virtual void OnHurry() {}
};

// Null: the connection has been answered already.
using MakeHandler =
    std::function<std::unique_ptr<Handler>(Connection&, RequestHead)>;

class Connection final : public std::enable_shared_from_this<Connection>,
                         private Tended {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  Connection(Loop& loop, Socket socket, MakeHandler make_handler);
  ~Connection();

  void Start();

  // ---- For handlers: the answer, once a request ----

  // Without a length the body's end is told by its chunks.
  void Begin(int status, const keyrotator::Headers& headers,
             std::optional<std::uint64_t> length);
  void Write(std::string_view bytes);
  void End();
  // All of it at once.
  void Answer(int status, keyrotator::Headers headers, std::string_view body);
  void Answer(const Problem& problem);
  // What was begun cannot be ended: the caller sees the connection break.
  void Abort();

  // Whether the caller has enough to read for now.
  bool IsFull() const;
  // While a body is passed on slowly.
  void PauseBody();
  void ResumeBody();

  bool begun() const { return begun_; }
  const std::string& peer() const { return peer_; }
  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }
  // When the request's head had come.
  SteadyTime since() const { return since_; }
  Loop& loop() { return loop_; }

 private:
  enum class State {
    kIdle,       // between requests
    kHead,       // a head has begun
    kBody,       // a body is being read
    kAnswering,  // the request is read
    kLingering,  // answered; what still comes is thrown away
    kClosed,
  };

  void Read();
  void OnRead(const boost::system::error_code& error, std::size_t size);
  void Parse();
  void OnHead();
  void Refuse(const Problem& problem);
  void ScheduleFlush();
  void Flush();
  void OnWritten(const boost::system::error_code& error);
  void OnAnswered();
  void DropHandler();
  void Close();
  void Tend(SteadyTime now) override;
  void Drop() override { Close(); }

  Loop& loop_;
  Socket socket_;
  const MakeHandler make_handler_;
  const std::string peer_;
  // Itself, until it is closed: it may wait for nothing but its handler.
  std::shared_ptr<Connection> keep_;
  State state_ = State::kIdle;
  SteadyTime since_;
  // When to give up what the state waits for; and the writing.
  SteadyTime deadline_ = SteadyTime::max();
  SteadyTime body_deadline_ = SteadyTime::max();
  SteadyTime write_deadline_ = SteadyTime::max();

  std::string in_;           // read, and not parsed yet
  std::vector<char> piece_;  // being read
  std::optional<RequestParser> parser_;
  std::unique_ptr<Handler> handler_;
  bool reading_ = false;
  bool paused_ = false;
  bool parsing_ = false;
  bool discard_ = false;  // the rest of the request is not wanted

  // The answer.
  std::string out_;      // to be written next
  std::string writing_;  // being written
  bool flush_due_ = false;
  bool busy_ = false;  // a write runs
  bool begun_ = false;
  bool ended_ = false;
  bool chunked_ = false;
  bool no_body_ = false;
  bool keep_alive_ = false;
  bool head_request_ = false;
  bool http_1_0_ = false;
  bool was_full_ = false;
  bool hurried_ = false;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_CONNECTION_H_
