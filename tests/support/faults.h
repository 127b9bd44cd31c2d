// File: faults.h
//
// What can go wrong between a client and a provider, as scripts for raw
// servers: a table of faults that tests drive requests through. Each has one
// moment at which it has gone half its way; a test that wants to stop a request
// does so there.
//
// Example: one request against each.
//   for (const WireFault& fault : AllWireFaults()) {
//     Play play;
//     Stage stage(fault, play);
//     Get(stage.base_url() + "/models");
//   }

#ifndef KEYROTATOR_TESTS_SUPPORT_FAULTS_H_
#define KEYROTATOR_TESTS_SUPPORT_FAULTS_H_

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "tests/support/raw_server.h"
#include "tests/support/self_signed.h"

namespace keyrotator::testing {

// No wait in here is longer, so that what hangs ends as a failure.
inline constexpr std::chrono::seconds kPlayBound{20};

// What the servers and the client of one request tell each other. Thread-safe,
// but for the fields, which are set before.
class Play {
 public:
  using Clock = std::chrono::steady_clock;

  bool streamed = false;
  // Whether the request is stopped at the fault's moment.
  bool stops = false;
  // Only from this request on there is such a moment.
  int looked_at = 0;
  // Header lines that come with each answer, and text in each body: for
  // servers that echo what they were sent.
  std::string more_headers = {};
  std::string quoted = {};

  // A server read the beginning of a request.
  void Sent() { Count(sends_); }
  // The client got an event.
  void Delivered() { Count(delivered_); }
  // The first request was answered, and what is wrong with the second is so.
  void Ready() { Count(ready_); }
  void AwaitReady() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPlayBound, [&] { return ready_ > 0; });
  }
  // Somebody came who should not have.
  void Strayed() { Count(strayed_); }
  // A transport came back from a send.
  void Tried() { Count(tried_); }
  void AwaitTried() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPlayBound, [&] { return tried_ > 0; });
  }

  int sends() const { return Read(sends_); }
  int delivered() const { return Read(delivered_); }
  int strayed() const { return Read(strayed_); }

  // Waits until the client got so many events, if it is to get any.
  void AwaitDelivered(int events) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPlayBound,
                      [&] { return !streamed || delivered_ >= events; });
  }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      if (!stopped_at_) stopped_at_ = Clock::now();
    }
    stop_.request_stop();
  }
  std::stop_token stop_token() const { return stop_.get_token(); }
  std::optional<Clock::time_point> stopped_at() const {
    const std::lock_guard lock(mutex_);
    return stopped_at_;
  }

 private:
  void Count(int& count) {
    const std::lock_guard lock(mutex_);
    ++count;
    changed_.notify_all();
  }
  int Read(const int& count) const {
    const std::lock_guard lock(mutex_);
    return count;
  }

  std::stop_source stop_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  int sends_ = 0;
  int delivered_ = 0;
  int strayed_ = 0;
  int ready_ = 0;
  int tried_ = 0;
  std::optional<Clock::time_point> stopped_at_;
};

// One connection of a fault's server.
class Actor {
 public:
  Actor(RawConnection& connection, Play& the_play, std::string other_origin,
        SSL_CTX* the_tls)
      : peer(connection),
        play(the_play),
        elsewhere(std::move(other_origin)),
        tls(the_tls) {}

  RawConnection& peer;
  Play& play;
  const std::string elsewhere;  // the origin of a server that nobody asks
  SSL_CTX* const tls;

  // The next request; false if the client left.
  bool Read() {
    const std::string request = peer.ReadRequest();
    if (!request.empty()) play.Sent();
    return !request.empty();
  }

  // The fault is half its way, and so many events should have been delivered.
  // False: the request was stopped, and the client has left.
  bool Moment(int delivered = 0) {
    play.AwaitDelivered(delivered);
    if (!play.stops || play.sends() < play.looked_at) return true;
    play.Stop();
    peer.WaitUntilPeerLeaves();
    return false;
  }

  // --- A good answer, in parts ---

  // A model that says "one two three ".
  std::string Body() const {
    if (!play.streamed) {
      return R"({"choices":[{"message":{"content":"one two three "}}],"q":")" +
             play.quoted + "\"}";
    }
    return Event("one ") + Event("two ") + Event("three ") + "data: [DONE]\n\n";
  }
  static std::string Event(std::string_view text) {
    return fmt::format(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        text);
  }
  // The part of it after which a fault comes: one event of a stream.
  std::string HalfBody() const {
    return play.streamed ? Event("one ") : Body().substr(0, 20);
  }
  // Without the empty line, so that more can follow.
  std::string Fields(std::string_view status = "200 OK") const {
    return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\n{}", status,
                       play.streamed ? "text/event-stream" : "application/json",
                       play.more_headers);
  }
  std::string Head(std::size_t length, std::string_view more = "") const {
    return fmt::format("{}{}Content-Length: {}\r\n\r\n", Fields(), more,
                       length);
  }
  std::string Answer(std::string_view more = "") const {
    return Head(Body().size(), more) + Body();
  }
};

struct WireFault {
  enum class Where { kServer, kTls, kRefused, kDeaf, kNoName };
  std::string name;
  // What happens on each connection.
  std::function<void(Actor&)> script = {};
  // It goes on for ever, so that only a limit or the caller ends the request.
  bool stalls = false;
  // It moves a hundred megabytes.
  bool heavy = false;
  // It shows in the second request of a client.
  bool second = false;
  // How much the request says.
  std::size_t request_size = 0;
  Where where = Where::kServer;
  // Of the certificate.
  SelfSignedOptions certificate = {};
  // Whether the client trusts it all the same.
  bool trusted = false;
};

namespace faults_internal {

inline void Hang(Actor& act) { act.peer.WaitUntilPeerLeaves(); }

// A gzip of `size` blanks, about: 13 bits say 258 of them.
inline std::string GzipBomb(std::size_t size) {
  std::string gzip("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
  std::uint32_t bits = 0;
  int count = 0;
  // Huffman codes are packed from their first bit on, all else from its last.
  const auto put = [&](std::uint32_t value, int length, bool code) {
    for (int i = 0; i < length; ++i) {
      const std::uint32_t bit = value >> (code ? length - 1 - i : i) & 1U;
      bits |= bit << count;
      if (++count < 8) continue;
      gzip.push_back(static_cast<char>(bits));
      bits = 0;
      count = 0;
    }
  };
  put(1, 1, false);          // the last block
  put(1, 2, false);          // with the codes that are given
  put(0x30 + ' ', 8, true);  // a blank
  for (std::size_t i = 0; i < size / 258; ++i) {
    put(0xC5, 8, true);  // 258 bytes
    put(0, 5, true);     // as those one byte before
  }
  put(0, 7, true);  // the end
  put(0, 7, false);
  return gzip;  // what checks it is missing: it is too late by then
}

// Answers one request.
inline void ServeTls(Actor& act, const std::string& answer) {
  // OpenSSL writes to a client that has left. This thread alone would be told.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(act.tls),
                                                      SSL_free);
  SSL_set_fd(ssl.get(), act.peer.fd());
  if (SSL_accept(ssl.get()) != 1) return;
  char buffer[4096];
  if (SSL_read(ssl.get(), buffer, sizeof(buffer)) <= 0) return;
  act.play.Sent();
  SSL_write(ssl.get(), answer.data(), static_cast<int>(answer.size()));
}

}  // namespace faults_internal

// The table. Rows of a page and of a test are in this order.
inline std::vector<WireFault> AllWireFaults() {
  using faults_internal::GzipBomb;
  using faults_internal::Hang;
  using faults_internal::ServeTls;
  using Where = WireFault::Where;
  constexpr std::size_t kMebibyte = std::size_t{1} << 20;
  std::vector<WireFault> faults;
  const auto add = [&](std::string name, std::function<void(Actor&)> script) {
    return &faults.emplace_back(
        WireFault{.name = std::move(name), .script = std::move(script)});
  };
  // What follows once a request was read.
  const auto answer = [&](std::string name, auto script) {
    return add(std::move(name), [script](Actor& act) {
      while (act.Read()) {
        if (!script(act)) return;
      }
    });
  };
  const auto whole = [](std::string_view more) {
    return [more](Actor& act) {
      return act.Moment() && act.peer.Write(act.Answer(more));
    };
  };

  // --- Connecting ---
  add("connecting is refused", {})->where = Where::kRefused;
  add("the name is not found", {})->where = Where::kNoName;
  WireFault* fault = add("connecting is not answered", {});
  fault->where = Where::kDeaf;
  fault->stalls = true;

  // --- No answer, or a part of one ---
  fault = answer("black hole",
                 [](Actor& act) { return act.Moment() && (Hang(act), false); });
  fault->stalls = true;
  answer("reset before a byte",
         [](Actor& act) { return act.Moment() && (act.peer.Reset(), false); });
  answer("closed before a byte",
         [](Actor& act) { return act.Moment() && false; });
  answer("reset amid the headers", [](Actor& act) {
    act.peer.Write(act.Fields().substr(0, 30));
    return act.Moment() && (act.peer.Reset(), false);
  });
  answer("reset amid the body", [](Actor& act) {
    act.peer.Write(act.Head(act.Body().size()) + act.HalfBody());
    return act.Moment(1) && (act.peer.Reset(), false);
  });
  fault = answer("stall amid the body", [](Actor& act) {
    act.peer.Write(act.Head(act.Body().size()) + act.HalfBody());
    return act.Moment(1) && (Hang(act), false);
  });
  fault->stalls = true;
  answer("truncated chunk", [](Actor& act) {
    act.peer.Write(act.Fields() + "Transfer-Encoding: chunked\r\n\r\nffff\r\n" +
                   act.HalfBody());
    return act.Moment(1) && false;
  });
  answer("not a chunk's size", [](Actor& act) {
    if (!act.Moment()) return false;
    act.peer.Write(act.Fields() + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" +
                   act.Body());
    return false;
  });
  answer("Content-Length too long", [](Actor& act) {
    const std::string body = act.Body();
    if (!act.Moment()) return false;
    act.peer.Write(act.Head(body.size() + 10) + body);
    return false;
  });
  answer("Content-Length too short", [](Actor& act) {
    const std::string body = act.Body();
    if (!act.Moment()) return false;
    // Amid the last event, or the JSON.
    act.peer.Write(act.Head(body.size() - 30) + body);
    return false;
  });
  answer("two Content-Lengths", whole("Content-Length: 7\r\n"));

  // --- Odd bodies ---
  answer("gzip garbage", [](Actor& act) {
    return act.Moment() &&
           act.peer.Write(act.Head(60, "Content-Encoding: gzip\r\n") +
                          std::string(60, 'x'));
  });
  answer("gzip bomb", [](Actor& act) {
    // Of a stream nothing is held, so there is no limit to reach.
    static const std::string kBombs[] = {GzipBomb(120 * kMebibyte),
                                         GzipBomb(8 * kMebibyte)};
    const std::string& bomb = kBombs[act.play.streamed];
    return act.Moment() &&
           act.peer.Write(act.Head(bomb.size(), "Content-Encoding: gzip\r\n") +
                          bomb);
  })->heavy = true;
  fault = answer("a byte now and then", [](Actor& act) {
    act.peer.Write(act.Head(100'000));
    if (!act.Moment()) return false;
    act.peer.Drip(std::string(100'000, ' '), std::chrono::milliseconds(50));
    return false;
  });
  fault->stalls = true;
  answer("a body of 100 MiB", [](Actor& act) {
    const std::size_t size = 100 * kMebibyte;
    std::string piece(kMebibyte, ' ');
    std::string last = act.Body();
    if (act.play.streamed) {
      // Comments, so that no event is too long.
      for (std::size_t i = 0; i < piece.size(); i += 4096) {
        piece[i] = ':';
        piece[i + 4095] = '\n';
      }
      last = "\n" + last;
    }
    act.peer.Write(act.Head(size + last.size()));
    if (!act.Moment()) return false;
    for (std::size_t sent = 0; sent < size; sent += piece.size()) {
      if (!act.peer.Write(piece)) return false;
    }
    return act.peer.Write(last);
  })->heavy = true;
  answer("garbage after the body", [](Actor& act) {
    if (!act.Moment()) return false;
    const bool written = act.peer.Write(
        act.Answer() + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
    act.play.Ready();
    return written;
  })->second = true;

  // --- Odd headers ---
  fault = answer("headers without end", [](Actor& act) {
    act.peer.Write(act.Fields());
    if (!act.Moment()) return false;
    while (act.peer.Write("X-More: and more, and more, and more\r\n")) {
    }
    return false;
  });
  fault->stalls = true;
  fault = answer("headers without end, slowly", [](Actor& act) {
    act.peer.Write(act.Fields());
    if (!act.Moment()) return false;
    while (act.peer.Drip("X: y\r\n", std::chrono::milliseconds(20))) {
    }
    return false;
  });
  fault->stalls = true;
  answer("20,000 headers", [](Actor& act) {
    std::string more;
    for (int i = 0; i < 20'000; ++i) more += fmt::format("X{}: y\r\n", i);
    return act.Moment() && act.peer.Write(act.Answer(more));
  });
  answer("a header with NUL", whole({"X-Odd: a\0b\r\n", 12}));
  answer("a header of 200 kB", [](Actor& act) {
    return act.Moment() &&
           act.peer.Write(
               act.Answer("X-Long: " + std::string(200'000, 'x') + "\r\n"));
  });
  fault = answer("1xx without end", [](Actor& act) {
    if (!act.Moment()) return false;
    while (act.peer.Write("HTTP/1.1 100 Continue\r\n\r\n")) {
    }
    return false;
  });
  fault->stalls = true;
  fault = answer("1xx without end, slowly", [](Actor& act) {
    if (!act.Moment()) return false;
    while (act.peer.Drip("HTTP/1.1 103 Early Hints\r\n\r\n",
                         std::chrono::milliseconds(5))) {
    }
    return false;
  });
  fault->stalls = true;
  answer("not HTTP", [](Actor& act) {
    if (!act.Moment()) return false;
    act.peer.Write("SSH-2.0-OpenSSH_9.2p1\r\n");
    return false;
  });

  // --- Old or rude, but whole ---
  answer("HTTP/1.0 without a length", [](Actor& act) {
    if (!act.Moment()) return false;
    act.peer.Write("HTTP/1.0 200 OK\r\n" + act.play.more_headers + "\r\n" +
                   act.Body());
    return false;
  });
  answer("Connection: close", [](Actor& act) {
    if (!act.Moment()) return false;
    act.peer.Write(act.Answer("Connection: close\r\n"));
    return false;
  });
  fault = add("answered before the request was read", [](Actor& act) {
    std::string some;
    if (!act.peer.ReadSome(some)) return;
    act.play.Sent();
    if (!act.Moment()) return;
    act.peer.Write(act.Answer("Connection: close\r\n"));
    // Else the kernel resets the connection over what was not read.
    act.peer.WaitUntilPeerLeaves();
  });
  fault->request_size = 16 * kMebibyte;
  add("a kept connection closed between requests", [](Actor& act) {
    if (!act.Read() || !act.Moment()) return;
    act.peer.Write(act.Answer());
    act.peer.Close();
    act.play.Ready();
  })->second = true;
  add("a kept connection reset by a request", [](Actor& act) {
    if (!act.Read() || !act.peer.Write(act.Answer())) return;
    act.play.Ready();
    if (act.Read() && act.Moment()) act.peer.Reset();
  })->second = true;

  // --- TLS ---
  add("what answers does not speak TLS", [](Actor& act) {
    std::string hello;
    if (!act.peer.ReadSome(hello) || !act.Moment()) return;
    act.peer.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
    act.peer.WaitUntilPeerLeaves();
  })->where = Where::kTls;
  const auto tls = [&](std::string name, SelfSignedOptions certificate,
                       bool trusted) {
    WireFault* const with = add(std::move(name), [](Actor& act) {
      if (act.Moment()) ServeTls(act, act.Answer());
    });
    with->where = Where::kTls;
    with->certificate = certificate;
    with->trusted = trusted;
  };
  tls("a self-signed certificate", {}, false);
  tls("an expired certificate", {.ends = -60}, true);
  tls("a certificate for another host", {.name = "IP:127.0.0.2"}, true);

  // --- Answers that are none ---
  for (const char* status :
       {"302 Found", "307 Temporary Redirect", "308 Permanent Redirect"}) {
    answer(fmt::format("{} to another host", status), [status](Actor& act) {
      return act.Moment() &&
             act.peer.Write(fmt::format(
                 "HTTP/1.1 {}\r\n{}Location: {}/v1/chat/completions\r\n"
                 "Content-Length: 0\r\n\r\n",
                 status, act.play.more_headers, act.elsewhere));
    });
  }
  for (const char* status : {"204 No Content", "304 Not Modified"}) {
    answer(status, [status](Actor& act) {
      return act.Moment() &&
             act.peer.Write(fmt::format("HTTP/1.1 {}\r\n{}\r\n", status,
                                        act.play.more_headers));
    });
  }
  return faults;
}

// A transport that tells when it has come back.
template <class Transport>
struct Telling {
  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink,
                                     const std::stop_token& stop) {
    auto error = transport.Send(request, sink, stop);
    play->Tried();
    return error;
  }

  Transport transport;
  Play* play;
};

// The servers of one fault. Its clients must have left when it is destroyed.
class Stage {
 public:
  Stage(const WireFault& fault, Play& play) : fault_(fault), play_(play) {
    if (fault.where == WireFault::Where::kTls) {
      certificate_.emplace(fault.certificate);
      stranger_.emplace();
      tls_.reset(SSL_CTX_new(TLS_server_method()));
      SSL_CTX_use_certificate(tls_.get(), certificate_->certificate());
      SSL_CTX_use_PrivateKey(tls_.get(), certificate_->key());
    }
    if (fault.where == WireFault::Where::kRefused) refusing_.emplace();
    if (fault.where == WireFault::Where::kDeaf) deaf_.emplace();
    elsewhere_.emplace([&play](RawConnection&) { play.Strayed(); });
    if (fault.script) {
      server_.emplace([this](RawConnection& peer) {
        Actor actor(peer, play_, elsewhere_->origin(), tls_.get());
        fault_.script(actor);
      });
    }
    // No script says when the fault is half its way.
    if (play.stops && !fault.script) {
      stopper_ = std::jthread([this] {
        if (deaf_) {
          deaf_->AwaitCaller();
        } else {
          play_.AwaitTried();
        }
        play_.Stop();
      });
    }
  }

  std::string base_url() const {
    using Where = WireFault::Where;
    switch (fault_.where) {
      case Where::kServer:
        return server_->origin() + "/v1";
      case Where::kTls:
        return fmt::format("https://127.0.0.1:{}/v1", server_->port());
      case Where::kRefused:
        return refusing_->origin() + "/v1";
      case Where::kDeaf:
        return deaf_->origin() + "/v1";
      case Where::kNoName:
        break;
    }
    // A label may have 63 characters (RFC 1035, 2.3.4): no name server is
    // asked.
    return "https://" + std::string(64, 'x') + ".invalid/v1";
  }
  // The authority that the client is to trust. Never the system's: OpenSSL takes
  // seconds to read all of those under a sanitizer, and hears no stop meanwhile.
  std::string ca_file() const {
    if (!certificate_) return "";
    return fault_.trusted ? certificate_->file() : stranger_->file();
  }

 private:
  const WireFault& fault_;
  Play& play_;
  std::optional<SelfSigned> certificate_;
  std::optional<SelfSigned> stranger_;  // who vouches for nobody
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> tls_{nullptr, SSL_CTX_free};
  std::optional<RefusingPort> refusing_;
  std::optional<DeafPort> deaf_;
  std::optional<RawServer> elsewhere_;
  std::optional<RawServer> server_;
  std::jthread stopper_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_FAULTS_H_
