// File: redis/redis_exchange.h
//
// RedisExchange: a fleet's ledger in Redis (5 or later) or Valkey, which many
// processes on many machines can reach. A message is one script on one hash, so
// that a Cluster has it on one node, to which the others direct; its clock is
// Redis's own.
//
// Example:
//   keyrotator::RedisExchange exchange({.url = "redis://cache:6379/0",
//                                       .password = "...",
//                                       .pool = "prod",
//                                       .secret = "of the fleet"});
//   if (!exchange.warning().empty()) fmt::print("{}\n", exchange.warning());

#ifndef KEYROTATOR_REDIS_REDIS_EXCHANGE_H_
#define KEYROTATOR_REDIS_REDIS_EXCHANGE_H_

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/redis_url.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/redis/key_names.h"
#include "keyrotator/redis/ledger_script.h"
#include "keyrotator/redis/ledger_wire.h"
#include "keyrotator/redis/redis_connection.h"
#include "keyrotator/redis/redis_error.h"

namespace keyrotator {

// The memory of the secrets in it is overwritten when it is given back; what
// hiredis makes of them is not.
struct RedisOptions {
  // redis://user:password@host:port/database, unix:///path?db=database, or
  // rediss://... with TLS, if hiredis has it.
  internal::SecretText url;
  // Instead of those of the URL, if not empty. A user needs Redis 6.
  internal::SecretText username = {};
  internal::SecretText password = {};
  // What the fleet's pool of keys is called, the same in all of its processes and
  // no other's: 1 to 64 of A-Za-z0-9._-. The hash is kr:{POOL}:1, where 1 is its
  // layout: versions of this library that have another share nothing with this.
  std::string pool;
  // Known to the fleet alone, and the same in all of its processes: keys are
  // named by an HMAC under it. Without one they are named by a hash.
  internal::SecretText secret = {};
  // Groups and scopes (models) are named as they are, for who looks into Redis.
  // The same in all processes.
  bool clear_names = false;
  // "host:port" of Sentinels (26379 if there is no port), without passwords, and
  // what they call the master. Then the URL's host is not used.
  std::vector<std::string> sentinels = {};
  std::string master = "mymaster";
  // For TLS: a file with the certificates to trust; the system's, if empty.
  std::string ca_file = {};
  // How long a message may take, and connecting with it. From 1 ms to 1 minute.
  std::chrono::milliseconds timeout = std::chrono::milliseconds(100);
  // For how long Redis keeps what nobody uses. From 1 minute to a year.
  std::chrono::seconds ttl = std::chrono::hours(24);
};

class RedisExchange final : public Exchange {
 public:
  // Connects to nothing: that Redis is away is no error, now or later. Throws
  // std::invalid_argument for options that cannot be used, without a secret.
  explicit RedisExchange(RedisOptions options)
      : options_(std::move(options)),
        url_(Check(options_)),
        names_(options_.pool, options_.secret, options_.clear_names),
        key_("kr:{" + options_.pool +
             "}:" + std::string(internal::kLedgerLayout)),
        hash_(HashOfScript()),
        connection_(url_.has_tls, options_.ca_file) {
    for (const std::string& sentinel : options_.sentinels)
      sentinels_.push_back(*internal::ParseRedisAddress(sentinel, 26379));
  }

  // Takes at most RedisOptions::timeout, but for looking up the name of a host:
  // that takes as long as the system lets it (resolv.conf). Connects if there is
  // no connection. What is sent is not sent again, but where Redis did not know
  // the script; it may have been received though there is no reply.
  std::optional<FleetReply> Send(const FleetAsk& ask) override {
    const internal::NoSigpipe guard;
    const auto until = Clock::now() + options_.timeout;
    error_.clear();
    if (!Greet(until)) return std::nullopt;

    const std::vector<std::string> message =
        internal::LedgerArguments(ask, options_.ttl);
    std::vector<std::string_view> args{"EVALSHA", hash_, "1", key_};
    args.insert(args.end(), message.begin(), message.end());
    const std::size_t most = internal::LedgerReplyReader::MostBytes(ask);
    internal::RedisReply reply = connection_.Command(args, until, most);
    if (reply != nullptr && IsError(*reply) &&
        internal::TextOf(*reply).starts_with("NOSCRIPT")) {
      args[0] = "EVAL";
      args[1] = internal::kLedgerScript;
      reply = connection_.Command(args, until, most);
    }
    if (reply == nullptr) return Lose(address_, connection_.error());
    if (IsError(*reply)) return Refused(*reply);
    internal::LedgerReplyReader reader(reply->type == REDIS_REPLY_STRING
                                           ? internal::TextOf(*reply)
                                           : std::string_view());
    auto said = reader.Read(ask);
    if (!said)
      return Lose(address_, "an answer of no ledger: " + reader.problem());
    return said;
  }

  std::string error() const override { return error_; }

  std::string NameOf(std::string_view kind,
                     std::string_view value) const override {
    return names_.Of(kind, value);
  }

  // What is to be said about the options, for a log; empty if nothing is.
  std::string warning() const {
    if (!options_.secret.text().empty()) return {};
    return fmt::format(
        "The pool {} has no secret: in Redis its keys are known by plain "
        "hashes, "
        "and one that is short or easy to guess can be found out by trying. "
        "Set "
        "RedisOptions::secret, the same in all processes.",
        options_.pool);
  }

 private:
  using Clock = internal::RedisConnection::Clock;

  static internal::RedisUrl Check(RedisOptions& options) {
    const auto refuse = [](std::string_view what) {
      throw std::invalid_argument("RedisOptions: " + std::string(what));
    };
    internal::RedisUrl url = internal::ParseRedisUrl(options.url);
    options.url = {};
    if (!options.username.text().empty())
      url.username = std::move(options.username);
    if (!options.password.text().empty())
      url.password = std::move(options.password);
    if (!url.username.text().empty() && url.password.text().empty())
      refuse("there is a user name without a password");
    if (url.has_tls && !internal::RedisConnection::kHasTls)
      refuse(
          "rediss:// needs a hiredis with TLS, 1.0 or later with "
          "hiredis_ssl.h; "
          "this one has none, and without TLS nothing is sent");
    if (!internal::IsRedisPool(options.pool))
      refuse("pool must be 1 to 64 of A-Z a-z 0-9 . _ -");
    for (std::size_t i = 0; i < options.sentinels.size(); ++i) {
      if (!internal::ParseRedisAddress(options.sentinels[i], 26379))
        refuse(fmt::format("sentinels: number {} is not host:port", i + 1));
    }
    if (!options.sentinels.empty() && options.master.empty())
      refuse("there are sentinels, and master is empty");
    using std::chrono::milliseconds;
    if (options.timeout < milliseconds(1) ||
        options.timeout > std::chrono::minutes(1))
      refuse("timeout must be from 1 ms to 1 minute");
    if (options.ttl < std::chrono::minutes(1) ||
        options.ttl > std::chrono::hours(24 * 366))
      refuse("ttl must be from 1 minute to a year");
    return url;
  }

  // As Redis knows the script by. It is no signature.
  static std::string HashOfScript() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    const std::string_view script = internal::kLedgerScript;
    if (EVP_Digest(script.data(), script.size(), digest, &size, EVP_sha1(),
                   nullptr) != 1)
      throw std::runtime_error("OpenSSL cannot make a SHA-1");
    std::string text;
    for (unsigned i = 0; i < size; ++i)
      text += fmt::format("{:02x}", digest[i]);
    return text;
  }

  static bool IsError(const redisReply& reply) {
    return reply.type == REDIS_REPLY_ERROR;
  }

  // There is a connection to the right server, which knows who this is.
  bool Greet(Clock::time_point until) {
    if (connection_.is_open() &&
        (getpid() != process_ || !connection_.is_quiet()))
      connection_.Close();  // the parent's, or at its end
    if (!connection_.is_open()) {
      is_greeted_ = false;
      process_ = getpid();
      auto address = Find(until);
      if (!address) return false;
      address_ = std::move(*address);
      if (!connection_.Open(address_, until))
        return Lose(address_, connection_.error()), false;
    }
    if (is_greeted_) return true;
    if (!url_.password.text().empty()) {
      std::vector<std::string_view> args{"AUTH"};
      if (!url_.username.text().empty()) args.push_back(url_.username);
      args.push_back(url_.password);
      if (!Say(args, "AUTH", until)) return false;
    }
    if (url_.database != 0) {
      const std::string database = std::to_string(url_.database);
      if (!Say({"SELECT", database}, "SELECT", until)) return false;
    }
    return is_greeted_ = true;
  }

  // A command to which the answer is OK. Of what else is answered only the code
  // is told: some servers repeat what they do not understand, a password too.
  bool Say(const std::vector<std::string_view>& args, std::string_view what,
           Clock::time_point until) {
    const internal::RedisReply reply = connection_.Command(args, until);
    if (reply == nullptr) return Lose(address_, connection_.error()), false;
    if (reply->type == REDIS_REPLY_STATUS) return true;
    if (!IsError(*reply)) return Lose(address_, "an answer of no Redis"), false;
    const internal::RedisError* const known =
        internal::FindRedisError(internal::TextOf(*reply));
    if (known != nullptr) return Refused(*reply), false;
    Tell(address_, fmt::format("{} was refused", what));
    return false;
  }

  // Where the server is: asked of the Sentinels, if there are some, of the one
  // that answered last first.
  std::optional<internal::RedisAddress> Find(Clock::time_point until) {
    if (moved_) return std::exchange(moved_, std::nullopt);
    if (sentinels_.empty()) return url_.address;
    for (std::size_t i = 0; i < sentinels_.size(); ++i) {
      const internal::RedisAddress& sentinel = sentinels_[sentinel_];
      // One that does not answer is not to take the time of all.
      const auto now = Clock::now();
      const auto share =
          (until - now) / static_cast<int>(sentinels_.size() - i + 1);
      if (auto found = Ask(sentinel, now + share)) return found;
      sentinel_ = (sentinel_ + 1) % sentinels_.size();
    }
    return std::nullopt;
  }

  std::optional<internal::RedisAddress> Ask(
      const internal::RedisAddress& sentinel, Clock::time_point until) {
    internal::RedisConnection connection(url_.has_tls, options_.ca_file);
    internal::RedisReply reply;
    if (connection.Open(sentinel, until)) {
      reply = connection.Command(
          {"SENTINEL", "get-master-addr-by-name", options_.master}, until);
    }
    std::string problem = connection.error();
    if (reply != nullptr) {
      if (auto master = MasterOf(*reply)) return master;
      problem = IsError(*reply)
                    ? internal::PrintableRedisText(internal::TextOf(*reply))
                    : "it knows no master " + options_.master;
    }
    Tell(sentinel, "Sentinel: " + problem);
    return std::nullopt;
  }

  static std::optional<internal::RedisAddress> MasterOf(
      const redisReply& reply) {
    if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2)
      return std::nullopt;
    const auto text = [&](std::size_t i) {
      return std::string(reply.element[i]->type == REDIS_REPLY_STRING
                             ? internal::TextOf(*reply.element[i])
                             : std::string_view());
    };
    const std::string host = text(0);
    const bool is_ipv6 = host.find(':') != host.npos;
    return internal::ParseRedisAddress(
        (is_ipv6 ? "[" + host + "]" : host) + ":" + text(1), 0);
  }

  std::nullopt_t Refused(const redisReply& reply) {
    const std::string_view text = internal::TextOf(reply);
    const internal::RedisError* const known = internal::FindRedisError(text);
    if (known == nullptr)
      return Tell(address_, internal::PrintableRedisText(text));
    if (known->elsewhere) connection_.Close();
    // "MOVED 3999 127.0.0.1:6381"; without a host it is the same one.
    if (known->code == "MOVED") {
      const std::string_view place = text.substr(text.rfind(' ') + 1);
      moved_ = internal::ParseRedisAddress(
          (place.starts_with(':') ? address_.host : "") + std::string(place),
          address_.port);
    }
    if (known->code == "NOAUTH") is_greeted_ = false;
    return Tell(address_, fmt::format("{}: {}", known->code, known->meaning));
  }

  // Nothing that comes on that connection is to be listened to.
  std::nullopt_t Lose(const internal::RedisAddress& address,
                      std::string_view why) {
    Tell(address, why);
    connection_.Close();
    return std::nullopt;
  }

  // What error() says. A server may have sent back what it was sent.
  std::nullopt_t Tell(const internal::RedisAddress& address,
                      std::string_view why) {
    error_ = fmt::format("Redis at {}: {}", address.text(), why);
    const std::string& password = url_.password.text();
    std::size_t at = 0;
    while (!password.empty() &&
           (at = error_.find(password, at)) != error_.npos) {
      error_.replace(at, password.size(), "***");
      at += 3;
    }
    return std::nullopt;
  }

  RedisOptions options_;
  internal::RedisUrl url_;
  internal::KeyNames names_;
  std::string key_;
  std::string hash_;
  internal::RedisConnection connection_;
  internal::RedisAddress address_;  // of the connection
  // Where a Cluster said that the pool is; tried once.
  std::optional<internal::RedisAddress> moved_;
  std::vector<internal::RedisAddress> sentinels_;
  std::size_t sentinel_ = 0;  // the one to ask first
  pid_t process_ = 0;         // that connected
  bool is_greeted_ = false;   // AUTH and SELECT are done
  std::string error_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_REDIS_REDIS_EXCHANGE_H_
