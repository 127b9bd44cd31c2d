#include "gateway/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/status.hpp>
#include <utility>

namespace gateway {
namespace {

using std::chrono::steady_clock;

// How long, and how much, a caller may go on sending once it was refused, so
// that it reads the answer and not that the connection was reset.
constexpr std::chrono::seconds kLinger{2};
// Bytes of requests to come that are taken in while an answer is under way.
constexpr std::size_t kReadAhead = 16 << 10;

std::string PeerOf(const Connection::Socket& socket) {
  boost::system::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  return error ? std::string() : endpoint.address().to_string();
}

std::string_view Reason(int status) {
  const auto text = boost::beast::http::obsolete_reason(
      boost::beast::http::int_to_status(static_cast<unsigned>(status)));
  return {text.data(), text.size()};
}

}  // namespace

Connection::Connection(Loop& loop, Socket socket, MakeHandler make_handler)
    : Tended(loop),
      loop_(loop),
      socket_(std::move(socket)),
      make_handler_(std::move(make_handler)),
      peer_(PeerOf(socket_)) {
  ++loop_.gateway.connections;
}

Connection::~Connection() {
  DropHandler();
  --loop_.gateway.connections;
}

void Connection::Start() {
  keep_ = shared_from_this();
  boost::system::error_code ignored;
  socket_.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  const Limits& limits = loop_.gateway.options.limits;
  parser_.emplace(limits.head_bytes, limits.body_bytes);
  deadline_ = steady_clock::now() + limits.head_timeout;
  Read();
}

// ---- Reading ----

void Connection::Read() {
  const bool wants =
      state_ == State::kAnswering ? in_.size() < kReadAhead : !paused_;
  if (reading_ || state_ == State::kClosed || !wants) return;
  reading_ = true;
  // Not into in_: what is there may be parsed while this waits for more.
  piece_.resize(state_ == State::kBody ? 64 << 10 : 2 << 10);
  socket_.async_read_some(boost::asio::buffer(piece_),
                          [self = shared_from_this()](
                              const boost::system::error_code& error,
                              std::size_t size) { self->OnRead(error, size); });
}

void Connection::OnRead(const boost::system::error_code& error,
                        std::size_t size) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (error) return Close();
  if (state_ != State::kLingering) in_.append(piece_.data(), size);
  Parse();
  Read();
}

// Reads as much as has come, up to the end of the request.
void Connection::Parse() {
  if (parsing_) return;
  parsing_ = true;
  const Limits& limits = loop_.gateway.options.limits;
  std::size_t parsed = 0;
  while (parsed < in_.size() && !paused_ && state_ < State::kAnswering) {
    const SteadyTime now = steady_clock::now();
    if (state_ == State::kIdle) {
      state_ = State::kHead;
      deadline_ = now + limits.head_timeout;
      bytes_in_ = bytes_out_ = 0;
    }
    const bool had_head = parser_->got_head();
    const std::size_t used =
        parser_->Feed(std::string_view(in_).substr(parsed));
    if (parser_->problem()) {
      Refuse(*parser_->problem());
      break;
    }
    bytes_in_ += used;
    if (!had_head && parser_->got_head()) OnHead();
    if (state_ == State::kBody && !parser_->body().empty()) {
      deadline_ = now + limits.body_silence;
      // What comes faster than this may take as long as it is large.
      constexpr std::size_t kBytesASecond = 8 << 10;
      body_deadline_ += std::chrono::milliseconds(parser_->body().size() *
                                                  1000 / kBytesASecond);
      if (handler_ && !discard_) handler_->OnBody(parser_->body());
    }
    parsed += used;
    if (state_ == State::kBody && parser_->got_all()) {
      state_ = State::kAnswering;
      deadline_ = body_deadline_ = SteadyTime::max();
      if (handler_ && !discard_) handler_->OnBodyEnd();
      if (ended_) ScheduleFlush();  // it was answered before
      break;
    }
    if (used == 0) break;
  }
  parsing_ = false;
  in_.erase(0, parsed);
  if (state_ == State::kBody || in_.capacity() <= 8 << 10) return;
  in_.shrink_to_fit();
  if (!reading_) piece_ = {};
}

void Connection::OnHead() {
  const Limits& limits = loop_.gateway.options.limits;
  since_ = steady_clock::now();
  state_ = State::kBody;
  deadline_ = since_ + limits.body_silence;
  body_deadline_ = since_ + limits.body_timeout;
  RequestHead head = std::move(parser_->head());
  keep_alive_ = head.keep_alive;
  head_request_ = head.method == "HEAD";
  http_1_0_ = head.http_1_0;
  discard_ = false;
  ++loop_.gateway.requests;
  if (const auto problem = CheckHead(head)) return Refuse(*problem);
  const bool expects =
      head.headers.Find("Expect").has_value() && head.has_body();
  handler_ = make_handler_(*this, std::move(head));
  if (expects && !begun_) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    ScheduleFlush();
  }
}

// Answers and reads no more: where a request is wrong nobody knows where the
// next one begins.
void Connection::Refuse(const Problem& problem) {
  discard_ = true;
  keep_alive_ = false;
  if (begun_) return Abort();
  if (since_ == SteadyTime() || state_ == State::kHead) {
    since_ = steady_clock::now();
    ++loop_.gateway.requests;
  }
  state_ = State::kBody;
  loop_.gateway.log.Request({.caller = peer_,
                             .status = problem.status,
                             .outcome = problem.code,
                             .bytes_in = bytes_in_});
  Answer(problem);
}

void Connection::PauseBody() { paused_ = true; }

void Connection::ResumeBody() {
  if (!std::exchange(paused_, false)) return;
  deadline_ = steady_clock::now() + loop_.gateway.options.limits.body_silence;
  boost::asio::post(loop_.io, [self = shared_from_this()] {
    self->Parse();
    self->Read();
  });
}

// ---- Writing ----

void Connection::Begin(int status, const keyrotator::Headers& headers,
                       std::optional<std::uint64_t> length) {
  begun_ = true;
  // What is left of a request that was answered early is not read to its end.
  keep_alive_ = keep_alive_ && !loop_.gateway.draining &&
                (state_ == State::kAnswering || parser_->got_all());
  no_body_ = head_request_ || status == 204 || status == 304 || status < 200;
  chunked_ = !length && !no_body_ && !http_1_0_;
  if (!length && !no_body_ && http_1_0_) keep_alive_ = false;
  out_ += fmt::format("HTTP/1.1 {} {}\r\n", status, Reason(status));
  for (const auto& [name, value] : headers)
    out_.append(name).append(": ").append(value).append("\r\n");
  if (chunked_) out_ += "Transfer-Encoding: chunked\r\n";
  if (length && status != 204 && status >= 200)
    out_ += fmt::format("Content-Length: {}\r\n", *length);
  if (!keep_alive_) {
    out_ += "Connection: close\r\n";
  } else if (http_1_0_) {
    out_ += "Connection: keep-alive\r\n";
  }
  out_ += "\r\n";
  ScheduleFlush();
}

void Connection::Write(std::string_view bytes) {
  if (bytes.empty() || no_body_ || state_ == State::kClosed) return;
  bytes_out_ += bytes.size();
  if (chunked_) out_ += fmt::format("{:x}\r\n", bytes.size());
  out_.append(bytes);
  if (chunked_) out_ += "\r\n";
  was_full_ = was_full_ || IsFull();
  ScheduleFlush();
}

void Connection::End() {
  if (std::exchange(ended_, true)) return;
  if (chunked_) out_ += "0\r\n\r\n";
  ScheduleFlush();
}

void Connection::Answer(int status, keyrotator::Headers headers,
                        std::string_view body) {
  Begin(status, headers, body.size());
  Write(body);
  End();
}

void Connection::Answer(const Problem& problem) {
  keyrotator::Headers headers = ProblemHeaders(problem);
  if (problem.status == 401) headers.Add("WWW-Authenticate", "Bearer");
  if (problem.status == 405) headers.Add("Allow", "GET, HEAD");
  Answer(problem.status, std::move(headers), ErrorBody(problem));
}

void Connection::Abort() {
  // A reset, not an end, so that nobody takes what came for the whole.
  boost::system::error_code ignored;
  socket_.set_option(boost::asio::socket_base::linger(true, 0), ignored);
  Close();
}

bool Connection::IsFull() const {
  return out_.size() + writing_.size() >=
         loop_.gateway.options.limits.unread_bytes;
}

// What is written within one turn of the loop goes out together.
void Connection::ScheduleFlush() {
  if (busy_ || std::exchange(flush_due_, true)) return;
  boost::asio::post(loop_.io, [self = shared_from_this()] {
    self->flush_due_ = false;
    self->Flush();
  });
}

void Connection::Flush() {
  if (busy_ || state_ == State::kClosed) return;
  if (out_.empty()) {
    write_deadline_ = SteadyTime::max();
    if (ended_) OnAnswered();
    return;
  }
  busy_ = true;
  write_deadline_ =
      steady_clock::now() + loop_.gateway.options.limits.write_timeout;
  std::swap(out_, writing_);
  boost::asio::async_write(
      socket_, boost::asio::buffer(writing_),
      [self = shared_from_this()](const boost::system::error_code& error,
                                  std::size_t) { self->OnWritten(error); });
}

void Connection::OnWritten(const boost::system::error_code& error) {
  busy_ = false;
  writing_.clear();
  if (writing_.capacity() > 8 << 10) writing_.shrink_to_fit();
  if (state_ == State::kClosed) return;
  if (error) return Close();
  if (was_full_ && !IsFull()) {
    was_full_ = false;
    if (handler_) handler_->OnRoom();
  }
  Flush();
}

// The answer is out: on to the next request, or away.
void Connection::OnAnswered() {
  if (state_ == State::kLingering) return;
  DropHandler();
  if (!keep_alive_ || state_ != State::kAnswering) {
    state_ = State::kLingering;
    deadline_ = steady_clock::now() + kLinger;
    paused_ = false;
    in_.clear();
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    return Read();
  }
  begun_ = ended_ = false;
  state_ = State::kIdle;
  const Limits& limits = loop_.gateway.options.limits;
  deadline_ = steady_clock::now() + limits.idle_timeout;
  parser_.emplace(limits.head_bytes, limits.body_bytes);
  if (loop_.gateway.draining) return Close();
  if (out_.capacity() > 8 << 10) out_.shrink_to_fit();
  Parse();
  Read();
}

// ---- The end ----

void Connection::DropHandler() {
  // Its end may look at the connection, which has no handler then.
  std::unique_ptr<Handler> gone = std::move(handler_);
  gone.reset();
  if (since_ == SteadyTime()) return;
  since_ = {};
  --loop_.gateway.requests;
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  boost::system::error_code ignored;
  socket_.close(ignored);
  // Not from within one of its own calls.
  boost::asio::post(loop_.io, [self = std::move(keep_)] {
    if (self) self->DropHandler();
  });
}

void Connection::Tend(SteadyTime now) {
  if (state_ == State::kClosed) return;
  const auto keep = shared_from_this();
  const Gateway& gateway = loop_.gateway;
  if (gateway.draining && state_ == State::kIdle) return Close();
  if (gateway.hurry && handler_ && !std::exchange(hurried_, true))
    handler_->OnHurry();
  if (now >= write_deadline_) return Abort();
  if (now < deadline_ && now < body_deadline_) return;
  const bool begun = begun_;
  switch (state_) {
    case State::kHead:
    case State::kBody:
      if (begun || paused_) return paused_ ? void() : Abort();
      deadline_ = body_deadline_ = SteadyTime::max();
      return Refuse({.status = 408,
                     .code = "request_timeout",
                     .message = "The request did not come in time."});
    case State::kIdle:
    case State::kLingering:
      return Close();
    case State::kAnswering:
    case State::kClosed:
      return;
  }
}

}  // namespace gateway
