// File: raw_server.h
//
// Servers on loopback that do what no HTTP server does: each connection runs a
// script of raw reads and writes. Also ports that refuse, and ports that never
// answer.
//
// Example:
//   RawServer server([](RawConnection& peer) {
//     peer.ReadRequest();
//     peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
//     peer.Reset();
//   });
//   Get(server.origin() + "/");

#ifndef KEYROTATOR_TESTS_SUPPORT_RAW_SERVER_H_
#define KEYROTATOR_TESTS_SUPPORT_RAW_SERVER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iomanip>
#include <ios>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/eventually.h"

namespace keyrotator::testing {

// A socket bound to a free port of 127.0.0.1.
class BoundSocket {
 public:
  BoundSocket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (fd_ < 0 || bind(fd_, generic, size) != 0 ||
        getsockname(fd_, generic, &size) != 0) {
      throw std::runtime_error("cannot bind to 127.0.0.1");
    }
    port_ = ntohs(address.sin_port);
  }
  BoundSocket(const BoundSocket&) = delete;
  BoundSocket& operator=(const BoundSocket&) = delete;
  ~BoundSocket() { close(fd_); }

  int fd() const { return fd_; }
  int port() const { return port_; }
  std::string origin() const {
    return "http://127.0.0.1:" + std::to_string(port_);
  }

 private:
  int fd_;
  int port_ = 0;
};

// A socket that connects, or is about to, to that port of 127.0.0.1.
inline int ConnectTo(int port, int flags = 0) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<in_port_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  static_cast<void>(
      connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  return fd;
}

// Nobody listens there: connecting is refused.
using RefusingPort = BoundSocket;

// Connecting neither succeeds nor fails: the queue of those who wait to be
// accepted is full, and the kernel drops what comes after (Linux).
class DeafPort : public BoundSocket {
 public:
  DeafPort() {
    listen(fd(), 0);
    for (int& filler : fillers_) filler = ConnectTo(port(), SOCK_NONBLOCK);
    waiting_ = Waiting();
  }
  ~DeafPort() {
    for (const int filler : fillers_) close(filler);
  }

  // Waits until somebody tries to connect; false if nobody does.
  bool AwaitCaller() const {
    return Eventually([&] { return Waiting() > waiting_; });
  }

 private:
  // How many sockets have asked for a connection, and got none. A line of the
  // file has both addresses and a state, of which 02 is SYN_SENT.
  int Waiting() const {
    std::ostringstream sought;
    sought << " 0100007F:" << std::uppercase << std::hex << std::setw(4)
           << std::setfill('0') << port() << " 02 ";
    std::ifstream sockets("/proc/net/tcp");
    int count = 0;
    for (std::string line; std::getline(sockets, line);)
      count += line.find(sought.str()) != std::string::npos ? 1 : 0;
    return count;
  }

  int fillers_[4];
  int waiting_ = 0;
};

// One end of a connection. For one thread, but Shutdown.
class RawConnection {
 public:
  explicit RawConnection(int fd) : fd_(fd) {}
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;
  ~RawConnection() { Close(); }

  // One request with the body that its Content-Length announces, or less if the
  // peer goes away. Reads nothing beyond it if requests are not pipelined.
  std::string ReadRequest() {
    std::string request;
    std::size_t wanted = request.npos;
    while (request.size() < wanted && ReadSome(request)) {
      const std::size_t end = request.find("\r\n\r\n");
      if (end == request.npos) continue;
      constexpr std::string_view kLength = "Content-Length: ";
      const std::size_t field = request.find(kLength);
      wanted = end + 4;
      if (field < end) {
        wanted +=
            std::strtoul(request.c_str() + field + kLength.size(), nullptr, 10);
      }
    }
    return request;
  }

  // Appends what comes next; false if the peer is gone.
  bool ReadSome(std::string& text) {
    char buffer[65536];
    const ssize_t size = recv(fd_, buffer, sizeof(buffer), 0);
    if (size <= 0) return false;
    text.append(buffer, static_cast<std::size_t>(size));
    return true;
  }

  // False if the peer is gone.
  bool Write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t size = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (size <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
  }

  // Byte by byte, each after a pause that ends early if the peer goes away;
  // false if it did.
  bool Drip(std::string_view text, std::chrono::milliseconds pause) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      pollfd peer{.fd = fd_, .events = POLLIN, .revents = 0};
      if (poll(&peer, 1, static_cast<int>(pause.count())) != 0) return false;
      if (!Write(text.substr(i, 1))) return false;
    }
    return true;
  }

  void WaitUntilPeerLeaves() {
    std::string ignored;
    while (ReadSome(ignored)) ignored.clear();
  }

  // For a library that speaks through it.
  int fd() const { return fd_; }

  // Gives the socket away, to be closed by whoever takes it.
  int Release() { return std::exchange(fd_, -1); }

  // Ends what is under way, in whichever thread.
  void Shutdown() { shutdown(fd_, SHUT_RDWR); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // The peer sees the end of what it reads; what it sends still arrives.
  void EndWriting() { shutdown(fd_, SHUT_WR); }
  // The peer sees "connection reset".
  void Reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }

 private:
  int fd_;
};

// Runs `script` for each connection, in a thread of its own. The destructor
// refuses further connections and waits for the scripts: the client must have
// left by then, or the script must not wait for it. Thread-safe.
class RawServer {
 public:
  using Script = std::function<void(RawConnection&)>;

  explicit RawServer(Script script) : script_(std::move(script)) {
    listen(socket_.fd(), 64);
    listener_ = std::thread([this] { Listen(); });
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  ~RawServer() {
    Refuse();
    listener_.join();
    for (std::thread& thread : scripts_) thread.join();
  }

  // From now on connecting is refused.
  void Refuse() { shutdown(socket_.fd(), SHUT_RDWR); }

  std::string origin() const { return socket_.origin(); }
  int port() const { return socket_.port(); }

 private:
  void Listen() {
    int fd;
    while ((fd = accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC)) >= 0) {
      scripts_.emplace_back([this, fd] {
        RawConnection connection(fd);
        script_(connection);
      });
    }
  }

  const Script script_;
  BoundSocket socket_;
  std::vector<std::thread> scripts_;  // the listener's until it has ended
  std::thread listener_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_RAW_SERVER_H_
