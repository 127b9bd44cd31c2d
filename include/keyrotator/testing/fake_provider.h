// File: testing/fake_provider.h
//
// A provider to test against: a real HTTP server on 127.0.0.1 that has keys,
// limits and bad days, and counts what arrived. It runs in this process, on a
// port of its own, from construction to destruction. Linux only. A test whose
// client takes a transport needs no port: see testing/fake_transport.h.
//
// Example:
//   using namespace keyrotator::testing;
//   FakeProvider provider(
//       {.keys = {{"sk-a", {.limit = {.requests = 3}}},
//                 {"sk-b", {.state = FakeKeyState::kRevoked}}}});
//   provider.Inject({.kind = Fault::Kind::kStatus, .status = 502, .times = 2});
//   std::string url = provider.base_url();  // "http://127.0.0.1:40123/v1"
//   // ... your client asks that URL ...
//   assert(provider.Counts("sk-a").rate_limited == 0);
//
// It answers what ends in /chat/completions and /responses (each plain or, with
// "stream": true, as server-sent events), /embeddings, /images/..., /audio/...,
// /moderations, /files and /models. A key is taken from `Authorization:
// Bearer`, `api-key` or `x-api-key`.

#ifndef KEYROTATOR_TESTING_FAKE_PROVIDER_H_
#define KEYROTATOR_TESTING_FAKE_PROVIDER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/testing/fake_answer.h"
#include "keyrotator/testing/fake_backend.h"
#include "keyrotator/testing/fake_connection.h"
#include "keyrotator/testing/fake_options.h"

namespace keyrotator::testing {

// Thread-safe. A thread for each connection, so that any number of streams may
// be open. Its destruction ends open streams and does not wait for clients.
class FakeProvider {
 public:
  static constexpr std::size_t kMaxLog = FakeBackend::kMaxLog;

  // Throws std::runtime_error if no port can be listened on.
  explicit FakeProvider(const FakeProviderOptions& options)
      : clock_(options.clock), backend_(options) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listening_ < 0 || ::bind(listening_, generic, size) != 0 ||
        ::listen(listening_, SOMAXCONN) != 0 ||
        ::getsockname(listening_, generic, &size) != 0) {
      if (listening_ >= 0) ::close(listening_);
      throw std::runtime_error("FakeProvider: cannot listen on 127.0.0.1");
    }
    port_ = ntohs(address.sin_port);
    listener_ = std::thread([this] { Listen(); });
  }

  FakeProvider(const FakeProvider&) = delete;
  FakeProvider& operator=(const FakeProvider&) = delete;

  ~FakeProvider() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    stop_.notify_all();
    ::shutdown(listening_, SHUT_RDWR);  // wakes accept
    listener_.join();
    ::close(listening_);
    for (Client& client : clients_) client.connection.ShutDown();
    for (Client& client : clients_) client.thread.join();
  }

  int port() const { return port_; }
  std::string base_url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/v1";
  }
  // How many connections were made.
  std::uint64_t connections() const { return connections_; }

  // See FakeBackend.
  void SetState(const std::string& key, FakeKeyState state) {
    backend_.SetState(key, state);
  }
  void Inject(Fault fault) { backend_.Inject(std::move(fault)); }
  void ClearFaults() { backend_.ClearFaults(); }
  FakeCounts Counts(const std::string& key) const {
    return backend_.Counts(key);
  }
  FakeCounts Counts() const { return backend_.Counts(); }
  std::vector<FakeRequest> Log() const { return backend_.Log(); }

 private:
  using Connection = fake_internal::FakeConnection;
  using End = FakeAnswer::End;

  struct Client {
    explicit Client(int socket) : connection(socket) {}
    Connection connection;
    std::atomic<bool> ended = false;
    std::thread thread;
  };

  void Listen() {
    while (true) {
      const int socket = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) {
        // Stopped, or the process may open no more files just now.
        if (!Wait(std::chrono::milliseconds(1))) return;
        continue;
      }
      ++connections_;
      clients_.remove_if([](Client& client) {
        if (!client.ended) return false;
        client.thread.join();
        return true;
      });
      Client& client = clients_.emplace_back(socket);
      client.thread = std::thread([this, &client] {
        while (ServeNext(client.connection)) {
        }
        client.connection.Close();
        client.ended = true;
      });
    }
  }

  // False: the connection has ended.
  bool ServeNext(Connection& connection) {
    const auto request = connection.Read();
    if (!request) return false;
    const FakeAnswer answer = Answer(*request);
    if (!Wait(answer.delay)) return false;
    if (answer.status == 0) {
      connection.Write(answer.not_http);
    } else if (!Send(connection, answer, *request)) {
      return false;
    }
    if (answer.end == End::kReset) connection.Reset();
    return answer.end == End::kWhole && request->keep_alive;
  }

  FakeAnswer Answer(const fake_internal::FakeHttpRequest& request) {
    const std::lock_guard lock(mutex_);
    return backend_.Answer(
        {.method = request.method,
         .url = request.target,
         .headers = request.headers,
         .body = request.body},
        clock_ ? clock_()
               : std::chrono::nanoseconds(
                     std::chrono::steady_clock::now().time_since_epoch()));
  }

  bool Send(Connection& connection, const FakeAnswer& answer,
            const fake_internal::FakeHttpRequest& request) {
    if (!connection.WriteHead(answer, request.keep_alive)) return false;
    if (request.method == "HEAD") return true;
    bool first = true;
    for (const std::string& piece : answer.pieces) {
      if (!std::exchange(first, false) && !Wait(answer.pause)) return false;
      if (!connection.WritePiece(answer, piece)) return false;
    }
    return answer.end != End::kWhole || connection.WriteEnd(answer);
  }

  // False: the provider is being destroyed.
  bool Wait(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !stop_.wait_for(lock, time, [this] { return stopping_; });
  }

  const std::function<std::chrono::nanoseconds()> clock_;
  FakeBackend backend_;
  std::atomic<std::uint64_t> connections_ = 0;
  int listening_ = -1;
  int port_ = 0;
  std::mutex mutex_;       // also of calls of clock_
  bool stopping_ = false;  // guarded by mutex_
  std::condition_variable stop_;
  std::list<Client> clients_;  // the listener's until it has ended
  std::thread listener_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTING_FAKE_PROVIDER_H_
