// File: curl_loop.h
//
// CurlLoop: libcurl's transfers on an Asio event loop, any number of them on
// one thread. libcurl says which sockets it waits for and until when, Asio says
// when they are ready. Connections are kept for later requests.
//
// Example:
//   gateway::CurlLoop curl(io_context);
//   std::unique_ptr<gateway::Transfer> transfer =
//       curl.Start(request, /*upload=*/false, receiver);
//   io_context.run();  // calls the receiver
//
// Destroying a transfer ends it at once: the provider sees the connection
// close, or, over HTTP/2, its stream.

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_CURL_LOOP_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_CURL_LOOP_H_

#include <curl/curl.h>
#include <keyrotator/http/message.h>
#include <keyrotator/http/transfer.h>
#include <keyrotator/http/transport.h>
#include <keyrotator/internal/secret_text.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gateway {

// Who gets an answer as it arrives. None of these may destroy the transfer but
// OnEnd.
class Receiver {
 public:
  virtual void OnHead(int status, keyrotator::Headers headers) = 0;
  // False: end the transfer.
  [[nodiscard]] virtual bool OnBody(std::string_view bytes) = 0;
  // True: wait with the next bytes until Transfer::Resume.
  virtual bool IsFull() = 0;
  // The next bytes of an upload, put into `room`: how many; none at the end; no
  // value if they are yet to come, see Transfer::Resume.
  virtual std::optional<std::size_t> OnUpload(std::span<char> room) = 0;
  // The last call: the transfer is over, with an error if not well.
  virtual void OnEnd(const keyrotator::TransportError* error) = 0;

 protected:
  ~Receiver() = default;
};

class CurlLoop;

// One exchange. Not thread-safe, like all here.
class Transfer {
 public:
  Transfer(CurlLoop& loop, const keyrotator::HttpRequest& request, bool upload,
           std::optional<std::uint64_t> upload_size, Receiver& receiver);
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer();

  // Goes on where IsFull or OnUpload made it wait.
  void Resume();

 private:
  friend class CurlLoop;

  void Finished(CURLcode code);
  keyrotator::TransportError ErrorOf(CURLcode code) const;

  static std::size_t OnHeaderLine(char* data, std::size_t, std::size_t size,
                                  void* self);
  static std::size_t OnBody(char* data, std::size_t, std::size_t size,
                            void* self);
  static std::size_t OnRead(char* to, std::size_t, std::size_t room,
                            void* self);
  static int OnConnected(void* self, char*, char*, int, int);

  // False: there are too many.
  bool HeaderLine(std::string_view line);
  void Set(CURLoption option, auto value) {
    curl_easy_setopt(easy_, option, value);
  }
  void AddField(const keyrotator::internal::SecretText& line);

  CurlLoop& loop_;
  Receiver& receiver_;
  CURL* easy_;
  curl_slist* fields_ = nullptr;
  std::string origin_;  // the part of the URL that may be shown
  keyrotator::internal::HeadReader head_;
  const bool repeatable_;
  bool begun_ = false;    // the head was given out
  bool sent_ = false;     // a byte of the request may have left
  bool broke_ = false;    // on a kept connection, and may not be sent again
  bool stopped_ = false;  // the receiver wanted no more
  bool paused_ = false;
};

class CurlLoop {
 public:
  // Throws std::bad_alloc if libcurl has no memory.
  explicit CurlLoop(boost::asio::io_context& io);
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;
  ~CurlLoop();

  // What `request` refers to must outlive the transfer. With `upload` its body
  // comes from the receiver instead, of that size if one is named.
  std::unique_ptr<Transfer> Start(
      const keyrotator::HttpRequest& request, Receiver& receiver,
      bool upload = false, std::optional<std::uint64_t> upload_size = {});

 private:
  friend class Transfer;

  // A socket of libcurl's, and what it waits for there.
  struct Watch {
    Watch(boost::asio::io_context& io, int socket) : descriptor(io, socket) {}
    boost::asio::posix::stream_descriptor descriptor;
    int wanted = 0;
    bool reading = false;
    bool writing = false;
  };

  static int OnSocket(CURL*, curl_socket_t socket, int what, void* self, void*);
  static int OnTimer(CURLM*, long milliseconds, void* self);

  void WatchSocket(curl_socket_t socket, int what);
  void Arm(const std::shared_ptr<Watch>& watch);
  void Ready(const std::shared_ptr<Watch>& watch, int events);
  void ArmTimer();
  void CheckTimer();
  void TakeEnded();

  CURL* TakeEasy();
  void GiveEasy(CURL* easy);

  boost::asio::io_context& io_;
  using Time = std::chrono::steady_clock::time_point;
  boost::asio::steady_timer timer_;
  Time due_ = Time::max();    // as libcurl said last
  Time armed_ = Time::max();  // when the timer comes; not later
  bool now_due_ = false;      // and a call is on its way
  CURLM* multi_;
  std::map<curl_socket_t, std::shared_ptr<Watch>> watches_;
  std::vector<CURL*> idle_;  // handles to use again
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_CURL_LOOP_H_
