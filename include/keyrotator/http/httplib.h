// File: http/httplib.h
//
// A transport over cpp-httplib (0.11.4 or newer; HTTP/1.1), for programs that
// have it already. CurlTransport does more: HTTP/2, proxies, and the limits
// that are listed at the class. Compile with the macros that your cpp-httplib
// was built with (pkg-config --cflags cpp-httplib tells them); https needs
// CPPHTTPLIB_OPENSSL_SUPPORT.
//
// Example:
//   keyrotator::HttplibTransport transport;
//   keyrotator::HttpRequest request{
//       .url = "http://localhost:8000/v1/chat/completions",
//       .headers = {{"Content-Type", "application/json"}},
//       .body = json};
//   if (auto error = transport.Send(request, sink, stop)) Log(error->message);

#ifndef KEYROTATOR_HTTP_HTTPLIB_H_
#define KEYROTATOR_HTTP_HTTPLIB_H_

#include <httplib.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "keyrotator/http/message.h"
#include "keyrotator/http/transfer.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/http/url.h"

namespace keyrotator {

struct HttplibOptions {
  // Whom to trust: a file of PEM certificates or, if that is empty, a directory
  // that `openssl rehash` made. With neither, the authorities of the system.
  std::string ca_file = "";
  std::string ca_path = "";
  // Sent unless the request has a User-Agent of its own.
  std::string user_agent = "keyrotator";
  // How many connections to keep open between requests; the one unused for the
  // longest is closed first.
  std::size_t max_idle = 64;
};

namespace internal {

// Ends whatever a socket is doing, from any thread, at any stage. httplib's own
// stop() waits for a mutex that is held while it connects and shakes hands.
//
// It holds a duplicate of the descriptor: the number cannot be given to another
// file meanwhile, whatever httplib does with its own. Thread-safe.
class SocketBreaker {
 public:
  SocketBreaker() = default;
  SocketBreaker(const SocketBreaker&) = delete;
  SocketBreaker& operator=(const SocketBreaker&) = delete;
  ~SocketBreaker() { Close(); }

  // From now on it is about this socket, which is not connected yet.
  void Attach(int socket) {
    const std::lock_guard lock(mutex_);
    Close();
    duplicate_ = dup(socket);
    ++attached_;
    if (broken_) Shut();
  }

  void Break() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    Shut();
  }

  bool broken() const {
    const std::lock_guard lock(mutex_);
    return broken_;
  }
  // How many sockets there have been.
  int attached() const {
    const std::lock_guard lock(mutex_);
    return attached_;
  }

 private:
  void Shut() const {
    if (duplicate_ >= 0) shutdown(duplicate_, SHUT_RDWR);
  }
  void Close() const {
    if (duplicate_ >= 0) close(duplicate_);
  }

  mutable std::mutex mutex_;
  int duplicate_ = -1;   // guarded by mutex_
  int attached_ = 0;     // guarded by mutex_
  bool broken_ = false;  // guarded by mutex_
};

// Holds back the SIGPIPE that this thread causes while it lives: httplib writes
// to sockets that the peer may have closed, and the default is to die of it.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    // One that was there before is somebody else's.
    if (sigismember(&pending, SIGPIPE) == 1) return;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    active_ = true;
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;
  ~NoSigpipe() {
    if (!active_) return;
    constexpr timespec kNoWait{};
    while (sigtimedwait(&pipe_, nullptr, &kNoWait) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool active_ = false;
};

// One connection: cpp-httplib keeps one socket a client. Of its classes the one
// below httplib::Client is taken, whose constructor reads no URL.
struct HttplibConnection {
  // Throws std::bad_alloc.
  HttplibConnection(const Url& url, const HttplibOptions& options)
      : origin(url.origin) {
#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
    if (url.tls) {
      client = std::make_unique<httplib::SSLClient>(url.host, url.port);
      client->set_ca_cert_path(options.ca_file, options.ca_path);
    }
#endif
    if (!client) {
      client = std::make_unique<httplib::ClientImpl>(url.host, url.port);
    }
    client->set_keep_alive(true);
    SendPathAsIs(*client);
    // Head and body are written apart: Nagle's algorithm would hold the second
    // back until the first is acknowledged, some 40 ms.
    client->set_tcp_nodelay(true);
    client->set_default_headers({{"User-Agent", options.user_agent}});
    client->set_socket_options(
        [this](auto socket) { breaker.Attach(static_cast<int>(socket)); });
  }

  HttplibConnection(const HttplibConnection&) = delete;
  HttplibConnection& operator=(const HttplibConnection&) = delete;
  ~HttplibConnection() {
    const NoSigpipe no_sigpipe;  // TLS says good-bye
    client.reset();
  }

  const std::string origin;
  SocketBreaker breaker;  // the client below calls it
  std::unique_ptr<httplib::ClientImpl> client;

 private:
  // The path is encoded already. Later releases renamed the switch.
  template <class Client>
  static void SendPathAsIs(Client& client) {
    if constexpr (requires { client.set_path_encode(false); }) {
      client.set_path_encode(false);
    } else {
      client.set_url_encode(false);
    }
  }
};

// One exchange on a connection.
class HttplibTransfer {
 public:
  HttplibTransfer(HttplibConnection& connection, const HttpRequest& request,
                  const Url& url, ResponseSink& sink)
      : connection_(connection),
        request_(request),
        url_(url),
        delivery_(sink) {}

  std::optional<TransportError> Run(const std::stop_token& stop) {
    httplib::ClientImpl& client = *connection_.client;
    client.set_connection_timeout(Limit(request_.connect_timeout));
    client.set_read_timeout(Limit(request_.idle_timeout));
    client.set_write_timeout(Limit(request_.idle_timeout));
    was_open_ = client.is_socket_open() != 0;
    attached_before_ = connection_.breaker.attached();

    httplib::Request request = Prepared();
    httplib::Response response;
    httplib::Error code = httplib::Error::Success;
    bool whole = false;
    {
      const NoSigpipe no_sigpipe;
      const std::stop_callback on_stop(stop,
                                       [this] { connection_.breaker.Break(); });
      std::jthread timer;
      if (request_.total_timeout.count() != 0) {
        timer = BreakAfter(Limit(request_.total_timeout));
      }
      whole = client.send(request, response, code);
      // Not called by itself where there can be no body.
      if (whole && !delivery_.begun()) {
        whole = delivery_.Guard([&] { return Head(response); });
      }
    }
    linger_ = {};
    delivery_.Rethrow();
    if (delivery_.ended() || delivery_.done()) return std::nullopt;
    // Before `whole`: an answer without a length ends where its connection
    // does.
    if (connection_.breaker.broken()) {
      return stop.stop_requested()
                 ? Error(Kind::kStopped, code, "the caller stopped it")
                 : Error(Kind::kTimeout, code,
                         "no whole answer within " +
                             Text(request_.total_timeout));
    }
    if (whole) return std::nullopt;
    return Failure(code);
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Kind = TransportError::Kind;
  using Milliseconds = std::chrono::milliseconds;

  // cpp-httplib has no "never", and may count milliseconds in an int.
  static Milliseconds Limit(Milliseconds time) {
    constexpr Milliseconds kLongest = std::chrono::hours(24 * 20);
    if (time.count() == 0) return kLongest;
    return std::clamp(time, Milliseconds(1), kLongest);
  }

  httplib::Request Prepared() {
    httplib::Request request;
    request.method = request_.method;
    request.path = url_.target;
    for (const auto& [name, value] : request_.headers) {
      request.headers.emplace(name, value);
    }
    request.body = request_.body;
    request.response_handler = [this](const httplib::Response& response) {
      return delivery_.Guard([&] { return Head(response); });
    };
    request.content_receiver = [this](const char* data, std::size_t size,
                                      auto /*offset*/, auto /*total*/) {
      return delivery_.Guard([&] {
        bool more = delivery_.Body(std::string_view(data, size));
        if (!delivery_.idle()) {
          heard_ = Clock::now();
        } else if (IsOver(request_.idle_timeout, heard_)) {
          more = false;
        }
        if (delivery_.done() && !linger_.joinable())
          linger_ = BreakAfter(kLinger);
        return more;
      });
    };
    return request;
  }

  bool Head(const httplib::Response& response) {
    heard_ = Clock::now();
    // cpp-httplib skips a 100 and takes any other interim answer for the final
    // one.
    if (response.status < 200) {
      interim_ = true;
      return false;
    }
    Headers headers;
    for (const auto& [name, value] : response.headers) headers.Add(name, value);
    delivery_.Head(response.status, std::move(headers));
    return true;
  }

  // cpp-httplib 0.11 has no limit for the whole exchange, nor one that changes.
  std::jthread BreakAfter(Milliseconds time) {
    const auto end = Clock::now() + time;
    return std::jthread([this, end](const std::stop_token& done) {
      std::mutex mutex;
      std::condition_variable_any never;
      std::unique_lock lock(mutex);
      never.wait_until(lock, done, end, [] { return false; });
      if (!done.stop_requested()) connection_.breaker.Break();
    });
  }

  template <class Code>
  static bool IsTls(Code code) {
    if constexpr (requires { Code::SSLServerHostnameVerification; }) {
      if (code == Code::SSLServerHostnameVerification) return true;
    }
    return code == Code::SSLConnection || code == Code::SSLLoadingCerts ||
           code == Code::SSLServerVerification;
  }

  template <class Code>
  static bool IsConnect(Code code) {
    if constexpr (requires { Code::ProxyConnection; }) {
      if (code == Code::ProxyConnection) return true;
    }
    return code == Code::Connection || code == Code::ConnectionTimeout ||
           code == Code::BindIPAddress;
  }

  TransportError Failure(httplib::Error code) const {
    const bool connect_is_over = IsOver(request_.connect_timeout, start_);
    if (IsConnect(code) || (IsTls(code) && connect_is_over)) {
      return Error(Kind::kConnect, code,
                   std::string("no connection: ") +
                       (connect_is_over
                            ? "nothing within " + Text(request_.connect_timeout)
                            : "host unknown or connection refused") +
                       "; is the server running, and is the URL right?");
    }
    if (IsTls(code)) {
      return Error(Kind::kTls, code,
                   "TLS failed; is the certificate valid and for this host, "
                   "and does ca_file name the authority that vouches for it?");
    }
    if (IsOver(request_.idle_timeout, heard_)) {
      return Error(
          Kind::kTimeout, code,
          "silence, but for comments, for " + Text(request_.idle_timeout));
    }
    if (interim_) {
      return Error(Kind::kLost, code,
                   "it sent an interim answer that cpp-httplib cannot read");
    }
    return Error(Kind::kLost, code,
                 delivery_.begun()
                     ? "the connection broke amid the answer"
                     : "the connection broke, or what came back is not HTTP");
  }

  // cpp-httplib tells a silence and a loss by the same error; the clock, from
  // the last sign of life that it passed on, tells them apart.
  static bool IsOver(Milliseconds limit, Clock::time_point since) {
    return limit.count() != 0 && Clock::now() - since >= Limit(limit);
  }

  // Shows no more of the URL than its origin: the query may hold a key.
  TransportError Error(Kind kind, httplib::Error code,
                       const std::string& what) const {
    return {.kind = kind,
            .message = url_.origin + ": " + what,
            .maybe_sent = MaybeSent(code)};
  }

  // The request is written only after these errors can no longer occur, but
  // later releases repeat it over TLS on a new connection, which may fail then.
  template <class Code>
  bool MaybeSent(Code code) const {
    if (!IsConnect(code) && !IsTls(code)) return true;
    if constexpr (requires { Code::SSLPeerCouldBeClosed_; }) {
      return url_.tls && (was_open_ || connection_.breaker.attached() !=
                                           attached_before_ + 1);
    }
    return false;
  }

  static std::string Text(Milliseconds time) {
    return std::to_string(time.count()) + " ms";
  }

  HttplibConnection& connection_;
  const HttpRequest& request_;
  const Url& url_;
  Delivery delivery_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point heard_ = start_;
  bool interim_ = false;
  bool was_open_ = false;
  int attached_before_ = 0;
  std::jthread linger_;  // ends what the sink is done with
};

}  // namespace internal

// Thread-safe; each Send blocks its own thread. May be moved while no Send is
// under way. What it does less well than CurlTransport, as cpp-httplib does:
// - the order of header fields is lost, in later releases (0.18) even among
//   those of one name; values are percent-decoded and empty ones left out;
// - looking up a host cannot be stopped, and no timeout bounds it;
// - the connect timeout counts for each address, and again for the handshake;
// - a kept connection that dies at the very moment of a request is an error;
// - interim answers other than 100 are errors;
// - a body without a length that falls silent counts as whole in some releases
//   (0.18); a chunk without its end may do so in others (0.11);
// - later releases ask with Expect: 100-continue before a larger body, unless
//   CPPHTTPLIB_EXPECT_100_THRESHOLD is 0;
// - a very long status line overflows the stack (0.11): use it with servers
//   that are trusted so far.
class HttplibTransport {
 public:
  explicit HttplibTransport(HttplibOptions options = {})
      : state_(std::make_unique<State>(std::move(options))) {}

  // Sends the request and hands the answer to `sink`. None when the answer is
  // whole or the sink wanted no more; then a connection whose answer was not
  // whole is closed. `stop` ends it within milliseconds, once the host is
  // known.
  //
  // Throws what the sink throws, and std::bad_alloc.
  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink,
                                     std::stop_token stop = {}) {
    const auto url = internal::ParseUrl(request.url);
    if (auto refusal = internal::Refusal(request, url)) return refusal;
#ifndef CPPHTTPLIB_OPENSSL_SUPPORT
    if (url->tls) {
      return TransportError{.kind = TransportError::Kind::kBadUrl,
                            .message = url->origin +
                                       ": compiled without TLS; define "
                                       "CPPHTTPLIB_OPENSSL_SUPPORT",
                            .maybe_sent = false};
    }
#endif
    if (stop.stop_requested()) {
      return TransportError{.kind = TransportError::Kind::kStopped,
                            .message = url->origin + ": the caller stopped it",
                            .maybe_sent = false};
    }
    auto connection = state_->idle.Take(url->origin);
    if (!connection) {
      connection =
          std::make_unique<internal::HttplibConnection>(*url, state_->options);
    }
    auto error =
        internal::HttplibTransfer(*connection, request, *url, sink).Run(stop);
    if (!connection->breaker.broken()) state_->idle.Put(std::move(connection));
    return error;
  }

 private:
  struct State {
    explicit State(HttplibOptions with)
        : options(std::move(with)), idle(options.max_idle) {}
    const HttplibOptions options;
    internal::IdlePool<internal::HttplibConnection> idle;
  };

  std::unique_ptr<State> state_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_HTTPLIB_H_
