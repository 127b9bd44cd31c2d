// File: testing/fake_connection.h
//
// The server's end of one HTTP/1.1 connection: reads requests and writes
// answers, also those that no HTTP library would send. HTTP libraries keep the
// socket to themselves, and to break a connection one needs it. POSIX only; for
// FakeProvider alone.
//
// Example:
//   int socket = accept(listening, nullptr, nullptr);
//   keyrotator::testing::fake_internal::FakeConnection connection(socket);
//   while (auto request = connection.Read()) connection.Write("not HTTP\r\n");
//   connection.Reset();

#ifndef KEYROTATOR_TESTING_FAKE_CONNECTION_H_
#define KEYROTATOR_TESTING_FAKE_CONNECTION_H_

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "keyrotator/http/message.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/testing/fake_answer.h"

namespace keyrotator::testing::fake_internal {

struct FakeHttpRequest {
  std::string method;
  std::string target;
  Headers headers;
  std::string body;
  bool keep_alive = true;  // whether the client may send another
};

// For one thread, but ShutDown.
class FakeConnection {
 public:
  explicit FakeConnection(int socket) : socket_(socket) {
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  FakeConnection(const FakeConnection&) = delete;
  FakeConnection& operator=(const FakeConnection&) = delete;
  ~FakeConnection() { Close(); }

  // The next request; no value if the client left or what it says is not HTTP.
  std::optional<FakeHttpRequest> Read() {
    const auto head = Take("\r\n\r\n");
    if (!head) return std::nullopt;
    auto request = ParseHead(*head);
    if (!request) return std::nullopt;
    const auto is = [&](const char* name, std::string_view value) {
      const auto found = request->headers.Find(name);
      return found && internal::Lower(*found) == value;
    };
    // Some clients wait for this before they send a large body.
    if (is("Expect", "100-continue") && !Write("HTTP/1.1 100 Continue\r\n\r\n"))
      return std::nullopt;
    request->keep_alive &= !is("Connection", "close");
    const bool whole = is("Transfer-Encoding", "chunked")
                           ? ReadChunks(request->body)
                           : ReadCounted(*request);
    if (!whole) return std::nullopt;
    return request;
  }

  // False if the client is gone.
  bool WriteHead(const FakeAnswer& answer, bool keep_alive) {
    std::string head = fmt::format("HTTP/1.1 {} {}\r\n", answer.status,
                                   answer.status < 400 ? "OK" : "Error");
    for (const auto& [name, value] : answer.headers)
      head += fmt::format("{}: {}\r\n", name, value);
    head += answer.stream ? "Transfer-Encoding: chunked\r\n"
                          : fmt::format("Content-Length: {}\r\n", answer.size);
    return Write(head + (keep_alive ? "\r\n" : "Connection: close\r\n\r\n"));
  }
  bool WritePiece(const FakeAnswer& answer, const std::string& piece) {
    if (!answer.stream) return Write(piece);
    return Write(fmt::format("{:x}\r\n{}\r\n", piece.size(), piece));
  }
  bool WriteEnd(const FakeAnswer& answer) {
    return !answer.stream || Write("0\r\n\r\n");
  }

  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t size =
          ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
  }

  void Close() {
    const std::lock_guard lock(mutex_);
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  // Closes so that the client sees "connection reset".
  void Reset() {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    Close();
  }

  // Ends what the connection's thread reads or writes. Thread-safe.
  void ShutDown() {
    const std::lock_guard lock(mutex_);
    if (socket_ >= 0) ::shutdown(socket_, SHUT_RDWR);
  }

 private:
  static std::optional<FakeHttpRequest> ParseHead(std::string_view head) {
    FakeHttpRequest request;
    const std::string_view line = head.substr(0, head.find("\r\n"));
    const std::size_t first = line.find(' ');
    const std::size_t last = line.rfind(' ');
    if (first == last || !line.substr(last + 1).starts_with("HTTP/1."))
      return std::nullopt;
    request.method = line.substr(0, first);
    request.target = line.substr(first + 1, last - first - 1);
    request.keep_alive = !line.ends_with("/1.0");
    for (head.remove_prefix(line.size()); head.starts_with("\r\n");) {
      head.remove_prefix(2);
      const std::string_view field = head.substr(0, head.find("\r\n"));
      head.remove_prefix(field.size());
      const std::size_t colon = field.find(':');
      if (colon == field.npos) return std::nullopt;
      request.headers.Add(std::string(field.substr(0, colon)),
                          std::string(Trimmed(field.substr(colon + 1))));
    }
    return request;
  }

  static std::string_view Trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
  }

  static std::optional<std::size_t> Number(std::string_view text, int base) {
    std::size_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number, base);
    if (error != std::errc() || stop == text.data()) return std::nullopt;
    return number;
  }

  bool ReadCounted(FakeHttpRequest& request) {
    const auto field = request.headers.Find("Content-Length");
    if (!field) return true;
    const auto size = Number(*field, 10);
    return size && TakeBytes(*size, request.body);
  }

  bool ReadChunks(std::string& body) {
    while (true) {
      const auto line = Take("\r\n");
      const auto size = line ? Number(*line, 16) : std::nullopt;
      if (!size) return false;
      if (*size == 0) break;
      if (!TakeBytes(*size, body) || !Take("\r\n")) return false;
    }
    while (const auto trailer = Take("\r\n")) {
      if (trailer->empty()) return true;
    }
    return false;
  }

  // What comes before the next `end`, which is taken, too. No value if the
  // client is gone.
  std::optional<std::string> Take(std::string_view end) {
    std::size_t found;
    while ((found = read_.find(end)) == read_.npos) {
      if (!Receive()) return std::nullopt;
    }
    std::string taken = read_.substr(0, found);
    read_.erase(0, found + end.size());
    return taken;
  }
  bool TakeBytes(std::size_t size, std::string& to) {
    while (read_.size() < size) {
      if (!Receive()) return false;
    }
    to.append(read_, 0, size);
    read_.erase(0, size);
    return true;
  }
  bool Receive() {
    char buffer[16384];
    const ssize_t size = ::recv(socket_, buffer, sizeof(buffer), 0);
    if (size <= 0) return false;
    read_.append(buffer, static_cast<std::size_t>(size));
    return true;
  }

  std::mutex mutex_;  // of changes of socket_, and of its use by other threads
  int socket_;
  std::string read_;  // what came and was not taken yet
};

}  // namespace keyrotator::testing::fake_internal

#endif  // KEYROTATOR_TESTING_FAKE_CONNECTION_H_
