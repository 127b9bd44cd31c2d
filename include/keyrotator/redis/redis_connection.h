// File: redis/redis_connection.h
//
// RedisConnection: a connection of hiredis (0.14 or 1.x) on which everything ends
// in time, and on which a reply is of the command before it or the connection is
// closed: a late one must never be taken for the next one's.

#ifndef KEYROTATOR_REDIS_REDIS_CONNECTION_H_
#define KEYROTATOR_REDIS_REDIS_CONNECTION_H_

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/redis_url.h"

#if __has_include(<hiredis/hiredis_ssl.h>)
#include <hiredis/hiredis_ssl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#define KEYROTATOR_REDIS_HAS_TLS 1
#endif

namespace keyrotator::internal {

// While it lives, writing to a socket that was closed does not end the program:
// hiredis writes without MSG_NOSIGNAL.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigset_t pending;
    sigpending(&pending);
    // Then it is blocked already, and not ours to take away.
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    if (!was_pending_) pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;
  ~NoSigpipe() {
    if (was_pending_) return;
    sigset_t pending;
    sigpending(&pending);
    int taken = 0;
    if (sigismember(&pending, SIGPIPE) == 1) sigwait(&pipe_, &taken);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

// What hiredis makes of an answer.
struct FreeRedisReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using RedisReply = std::unique_ptr<redisReply, FreeRedisReply>;

inline std::string_view TextOf(const redisReply& reply) {
  return reply.str == nullptr ? std::string_view()
                              : std::string_view(reply.str, reply.len);
}

// For one thread at a time. Nothing throws, but std::bad_alloc.
class RedisConnection {
 public:
  using Clock = std::chrono::steady_clock;

#ifdef KEYROTATOR_REDIS_HAS_TLS
  static constexpr bool kHasTls = true;
#else
  static constexpr bool kHasTls = false;
#endif

  // `ca_file`: who vouches for the server where there is TLS; the system's, if
  // empty.
  explicit RedisConnection(bool has_tls = false, std::string ca_file = {})
      : has_tls_(has_tls), ca_file_(std::move(ca_file)) {}

  // False, and error(), if it does not succeed until then; only the look-up of a
  // host's name may take longer, as long as the system lets it.
  bool Open(const RedisAddress& address, Clock::time_point until) {
    Close();
    const timeval timeout = Left(until);
    context_.reset(
        address.path.empty()
            ? redisConnectWithTimeout(address.host.c_str(), address.port,
                                      timeout)
            : redisConnectUnixWithTimeout(address.path.c_str(), timeout));
    if (context_ == nullptr) return Fail("no memory");
    if (context_->err != 0) return Fail(context_->errstr);
    fcntl(context_->fd, F_SETFD, FD_CLOEXEC);
    redisSetTimeout(context_.get(), Left(until));
    if (has_tls_ && !StartTls(address)) return false;
    context_->reader->fn = Functions(*context_->reader->fn);
    return true;
  }

  bool is_open() const { return context_ != nullptr; }
  void Close() { context_.reset(); }
  // Why there was no reply.
  const std::string& error() const { return error_; }

  // Whether nothing has come that nobody asked for, such as the end of the
  // connection. What TLS has to say of itself comes unasked.
  bool is_quiet() const { return has_tls_ || !Waits(POLLIN, Clock::now()); }

  // The reply, which may be an error's; or none, and then the connection is
  // closed. `most` is how many bytes may come.
  RedisReply Command(const std::vector<std::string_view>& args,
                     Clock::time_point until, std::size_t most = 4096) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string_view arg : args) {
      texts.push_back(arg.data());
      sizes.push_back(arg.size());
    }
    if (redisAppendCommandArgv(context_.get(), static_cast<int>(args.size()),
                               texts.data(), sizes.data()) != REDIS_OK)
      return Nothing(context_->errstr);
    for (int done = 0; done == 0;) {
      if (!Waits(POLLOUT, until)) return Nothing("no answer in time");
      redisSetTimeout(context_.get(), Left(until));
      if (redisBufferWrite(context_.get(), &done) != REDIS_OK)
        return Nothing(context_->errstr);
    }
    const redisReader& reader = *context_->reader;
    void* reply = nullptr;
    while (true) {
      if (redisGetReplyFromReader(context_.get(), &reply) != REDIS_OK)
        return Nothing(context_->errstr);
      if (reply != nullptr) break;
      if (reader.len - reader.pos > most) return Nothing("an endless answer");
      if (!Waits(POLLIN, until)) return Nothing("no answer in time");
      redisSetTimeout(context_.get(), Left(until));
      if (redisBufferRead(context_.get()) != REDIS_OK)
        return Nothing(context_->errstr);
    }
    RedisReply owned(static_cast<redisReply*>(reply));
    if (reader.len > reader.pos) return Nothing("more than one answer");
    return owned;
  }

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
  };

  // No less than a millisecond: 0 is for ever.
  static timeval Left(Clock::time_point until) {
    using std::chrono::microseconds;
    const auto left =
        std::max(std::chrono::duration_cast<microseconds>(until - Clock::now()),
                 microseconds(1000))
            .count();
    timeval time{};
    time.tv_sec = static_cast<time_t>(left / 1'000'000);
    time.tv_usec = static_cast<suseconds_t>(left % 1'000'000);
    return time;
  }

  bool Waits(short events, Clock::time_point until) const {
    while (true) {
      pollfd socket{.fd = context_->fd, .events = events, .revents = 0};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(
          std::max(until - Clock::now(), Clock::duration(0)));
      const int ready = poll(&socket, 1, static_cast<int>(left.count()));
      if (ready >= 0 || errno != EINTR) return ready != 0;
    }
  }

  // As hiredis has them, but for arrays: a peer that announces a thousand million
  // elements must not get memory for them. A master's address has two.
  static redisReplyObjectFunctions* Functions(
      const redisReplyObjectFunctions& usual) {
    static const redisReplyObjectFunctions kUsual = usual;
    static redisReplyObjectFunctions functions = [] {
      redisReplyObjectFunctions result = kUsual;
      // The number's type is not the same in all versions.
      result.createArray = [](const redisReadTask* task,
                              auto elements) -> void* {
        constexpr long long kMostElements = 16;
        return static_cast<long long>(elements) > kMostElements
                   ? nullptr
                   : kUsual.createArray(task, elements);
      };
      return result;
    }();
    return &functions;
  }

  bool StartTls([[maybe_unused]] const RedisAddress& address) {
#ifdef KEYROTATOR_REDIS_HAS_TLS
    // Not by hiredis's own context, which takes a certificate for any host.
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> settings(
        SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    if (settings == nullptr) return Fail("no TLS");
    SSL_CTX_set_min_proto_version(settings.get(), TLS1_2_VERSION);
    SSL_CTX_set_verify(settings.get(), SSL_VERIFY_PEER, nullptr);
    const int trusted = ca_file_.empty()
                            ? SSL_CTX_set_default_verify_paths(settings.get())
                            : SSL_CTX_load_verify_locations(
                                  settings.get(), ca_file_.c_str(), nullptr);
    if (trusted != 1) return Fail("the certificates to trust cannot be read");
    std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(settings.get()),
                                                  SSL_free);
    if (tls == nullptr) return Fail("no TLS");
    X509_VERIFY_PARAM* const checked = SSL_get0_param(tls.get());
    const bool is_address =
        X509_VERIFY_PARAM_set1_ip_asc(checked, address.host.c_str()) == 1;
    if (!is_address &&
        (SSL_set1_host(tls.get(), address.host.c_str()) != 1 ||
         SSL_set_tlsext_host_name(tls.get(), address.host.c_str()) != 1))
      return Fail("no TLS");
    if (redisInitiateSSL(context_.get(), tls.get()) != REDIS_OK)
      return Fail(context_->errstr);
    static_cast<void>(tls.release());  // the context's now
    return true;
#else
    return Fail("hiredis has no TLS");
#endif
  }

  // The text may be the context's.
  bool Fail(const char* why) {
    error_ = why;
    Close();
    return false;
  }
  RedisReply Nothing(const char* why) {
    Fail(why);
    return nullptr;
  }

  bool has_tls_;
  std::string ca_file_;
  std::unique_ptr<redisContext, Free> context_;
  std::string error_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_REDIS_REDIS_CONNECTION_H_
