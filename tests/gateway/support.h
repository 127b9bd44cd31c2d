// File: support.h
//
// A gateway in this process, on a port of its own, and a client that sends any
// bytes and reads answers, also broken ones.
//
// Example:
//   FakeProvider provider({.keys = {{"sk-a", {}}}});
//   RunningGateway gateway({ProviderWith(provider, {"sk-a"})});
//   Client client(gateway.port());
//   client.Send(Get("/v1/models"));
//   Answered answer = client.Read();

#ifndef KEYROTATOR_TESTS_GATEWAY_SUPPORT_H_
#define KEYROTATOR_TESTS_GATEWAY_SUPPORT_H_

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/options.h"
#include "gateway/server.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/http/message.h"
#include "keyrotator/testing/fake_provider.h"
#include "tests/support/eventually.h"
#include "tests/support/raw_server.h"

namespace gateway::testing {

using keyrotator::ProviderConfig;
using keyrotator::testing::Eventually;
using keyrotator::testing::FakeProvider;

// The longest that a test waits for what must come.
inline constexpr std::chrono::seconds kPatience{20};

inline ProviderConfig ProviderAt(const std::string& base_url,
                                 const std::vector<std::string>& keys,
                                 std::string name = "main") {
  ProviderConfig config{.name = std::move(name), .base_url = base_url};
  for (const std::string& key : keys) {
    config.api_keys.push_back(
        {.key = key, .options = {.name = "name-of-" + key.substr(3)}});
  }
  config.retry.initial_backoff = std::chrono::milliseconds(5);
  config.retry.max_backoff = std::chrono::milliseconds(20);
  config.retry.deadline = std::chrono::seconds(20);
  return config;
}

class RunningGateway {
 public:
  explicit RunningGateway(std::vector<ProviderConfig> providers,
                          Options options = {})
      : RunningGateway(Setup{.providers = std::move(providers)},
                       std::move(options)) {}
  RunningGateway(Setup setup, Options options)
      : server_(OnAnyPort(std::move(options)), std::move(setup),
                [this](std::string_view line) {
                  const std::lock_guard lock(mutex_);
                  log_ += line;
                }) {
    thread_ = std::thread([this] { server_.Run(); });
  }
  ~RunningGateway() {
    server_.StopNow();
    if (thread_.joinable()) thread_.join();
  }

  int port() const { return server_.port(); }
  Server& server() { return server_; }
  Gateway& state() { return server_.gateway(); }
  // Waits until it has stopped.
  void Join() { thread_.join(); }
  std::string log() const {
    const std::lock_guard lock(mutex_);
    return log_;
  }

 private:
  static Options OnAnyPort(Options options) {
    options.port = 0;
    return options;
  }

  mutable std::mutex mutex_;
  std::string log_;  // guarded by mutex_
  Server server_;
  std::thread thread_;
};

// An answer as a client sees it.
struct Answered {
  int status = 0;  // 0: nothing that is HTTP came
  keyrotator::Headers headers = {};
  std::string body = {};
  bool whole = false;  // its end came, too

  std::string Header(std::string_view name) const {
    return std::string(headers.Find(name).value_or(""));
  }
};

// For one thread.
class Client {
 public:
  explicit Client(int port)
      : fd_(keyrotator::testing::ConnectTo(port)), peer_(fd_) {}

  bool Send(std::string_view bytes) { return peer_.Write(bytes); }
  // Byte by byte, up to the first that comes back; false if something did.
  bool Drip(std::string_view bytes, std::chrono::milliseconds pause) {
    return peer_.Drip(bytes, pause);
  }

  // The next answer, up to its end, or what comes of it. To HEAD there comes no
  // body.
  Answered Read(bool to_head = false) {
    Answered answer = ReadHead();
    if (answer.status != 0) ReadBody(answer, to_head);
    return answer;
  }

  // The head alone; the body follows by ReadBody or ReadUntil.
  Answered ReadHead() {
    Answered answer;
    std::string line;
    do {
      answer = {};
      if (!Take("\r\n", line) || !line.starts_with("HTTP/1.1 ")) return {};
      answer.status = std::atoi(line.c_str() + 9);
      while (Take("\r\n", line) && !line.empty()) {
        const std::size_t colon = line.find(": ");
        if (colon != line.npos)
          answer.headers.Add(line.substr(0, colon), line.substr(colon + 2));
      }
    } while (answer.status == 100);
    return answer;
  }

  void ReadBody(Answered& answer, bool to_head = false) {
    if (to_head || answer.status == 204 || answer.status == 304) {
      answer.whole = true;
    } else if (answer.Header("Transfer-Encoding") == "chunked") {
      answer.whole = ReadChunks(answer.body);
    } else if (const std::string size = answer.Header("Content-Length");
               !size.empty()) {
      answer.whole =
          ReadBytes(std::strtoul(size.c_str(), nullptr, 10), answer.body);
    } else {
      while (Receive()) {
      }
      answer.body = std::exchange(read_, {});
      answer.whole = !broken_;
    }
  }

  // What comes up to and with `end`, raw; less if the connection ends.
  std::string ReadUntil(std::string_view end) {
    while (read_.find(end) == read_.npos && Receive()) {
    }
    const std::size_t found = read_.find(end);
    const std::size_t size =
        found == read_.npos ? read_.size() : found + end.size();
    std::string text = read_.substr(0, size);
    read_.erase(0, size);
    return text;
  }

  // Whether the server ends the connection, and says nothing before.
  bool IsClosed() { return read_.empty() && !Receive(); }
  // Whether it was ended by a reset.
  bool broken() const { return broken_; }

  void Close() { peer_.Close(); }
  void Reset() { peer_.Reset(); }

 private:
  bool Receive() {
    char buffer[65536];
    pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1,
               static_cast<int>(
                   std::chrono::milliseconds(kPatience).count())) <= 0)
      return false;
    const ssize_t size = ::recv(fd_, buffer, sizeof(buffer), 0);
    broken_ = broken_ || size < 0;
    if (size <= 0) return false;
    read_.append(buffer, static_cast<std::size_t>(size));
    return true;
  }
  bool Take(std::string_view end, std::string& text) {
    while (read_.find(end) == read_.npos) {
      if (!Receive()) return false;
    }
    const std::size_t found = read_.find(end);
    text = read_.substr(0, found);
    read_.erase(0, found + end.size());
    return true;
  }
  bool ReadBytes(std::size_t size, std::string& to) {
    while (read_.size() < size && Receive()) {
    }
    const std::size_t got = std::min(size, read_.size());
    to.append(read_, 0, got);
    read_.erase(0, got);
    return got == size;
  }
  bool ReadChunks(std::string& body) {
    std::string line;
    while (Take("\r\n", line)) {
      const std::size_t size = std::strtoul(line.c_str(), nullptr, 16);
      if (size == 0) return Take("\r\n", line);
      if (!ReadBytes(size, body) || !Take("\r\n", line)) return false;
    }
    return false;
  }

  const int fd_;
  keyrotator::testing::RawConnection peer_;  // owns it
  std::string read_;
  bool broken_ = false;
};

inline std::string Get(std::string_view target, std::string_view more = "") {
  return std::string("GET ")
      .append(target)
      .append(" HTTP/1.1\r\nHost: localhost\r\n")
      .append(more)
      .append("\r\n");
}
inline std::string Post(
    std::string_view target, std::string_view body,
    std::string_view more = "Content-Type: application/json\r\n") {
  return std::string("POST ").append(target).append(
             " HTTP/1.1\r\nHost: localhost\r\nContent-Length: ") +
         std::to_string(body.size()) + "\r\n" + std::string(more) + "\r\n" +
         std::string(body);
}

// One request on a connection of its own.
inline Answered Ask(int port, std::string_view request) {
  Client client(port);
  client.Send(request);
  return client.Read(request.starts_with("HEAD "));
}

inline const std::string kChat =
    R"({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})";
inline const std::string kStream =
    R"({"model": "gpt-4o", "stream": true, "messages": []})";

}  // namespace gateway::testing

#endif  // KEYROTATOR_TESTS_GATEWAY_SUPPORT_H_
