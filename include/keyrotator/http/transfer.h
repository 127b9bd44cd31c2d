// File: http/transfer.h
//
// What a transport needs and no HTTP library offers: refusing a request that
// cannot be sent as it is, reading a head that may come without end, handing an
// answer to a sink through code that must not see exceptions, bounds in time that
// tell silence from life, and keeping connections for the next request.
//
// Example: bounds in time.
//   keyrotator::HttpRequest request{.idle_timeout = 2min};
//   keyrotator::internal::Patience patience(request, /*now=*/0);
//   patience.Heard(60'000'000'000);
//   auto left = patience.At(90'000'000'000, /*sent=*/true);  // 90 s

#ifndef KEYROTATOR_HTTP_TRANSFER_H_
#define KEYROTATOR_HTTP_TRANSFER_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/http/body_source.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/http/url.h"
#include "keyrotator/internal/header_text.h"

namespace keyrotator::internal {

// Why the request cannot be sent; empty if it can. A line break in a method or
// a field would let its author write a second request.
inline std::optional<TransportError> Refusal(const HttpRequest& request,
                                             const std::optional<Url>& url) {
  std::string why;
  if (!url) {
    why =
        "the URL cannot be used; it must be http:// or https://, a host and a "
        "path, in printable ASCII and without a user name";
  } else if (!IsToken(request.method)) {
    why = "the method is not an HTTP token";
  } else {
    std::size_t position = 0;
    for (const auto& [name, value] : request.headers) {
      ++position;
      if (IsToken(name) && IsFieldValue(value)) continue;
      why = "header " + std::to_string(position) +
            " holds a character that HTTP does not allow there";
      break;
    }
  }
  if (why.empty()) return std::nullopt;
  return TransportError{.kind = TransportError::Kind::kBadUrl,
                        .message = std::move(why),
                        .maybe_sent = false};
}

// Hands one answer to a sink. An HTTP library calls it through Guard, since an
// exception must not pass through C code or leave a library half way; Rethrow
// lets it out afterwards. For one thread.
class Delivery {
 public:
  explicit Delivery(ResponseSink& sink) : sink_(sink) {}

  // What `step` returns, or false if it throws.
  template <class Step>
  bool Guard(Step step) noexcept {
    try {
      return step();
    } catch (...) {
      exception_ = std::current_exception();
      return false;
    }
  }
  void Rethrow() {
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
  }

  void Head(int status, Headers headers) {
    begun_ = true;
    sink_.OnHead(status, std::move(headers));
  }
  // False if the transfer is to end.
  bool Body(std::string_view bytes) {
    flow_ = sink_.OnBody(bytes);
    done_ = done_ || flow_ == Flow::kComplete;
    return flow_ != Flow::kStop;
  }

  bool begun() const { return begun_; }
  // Whether the last piece was no sign of life.
  bool idle() const { return flow_ == Flow::kIdle; }
  // Whether the sink wants no more.
  bool ended() const { return flow_ == Flow::kStop; }
  // Whether it only waits for the transfer to end.
  bool done() const { return done_; }

 private:
  ResponseSink& sink_;
  std::exception_ptr exception_;
  Flow flow_ = Flow::kMore;
  bool begun_ = false;
  bool done_ = false;
};

// Reads a request's source for one Send; also from the start again, where an
// HTTP library has to repeat the request on another connection. For one thread.
class Upload {
 public:
  explicit Upload(const BodySource& source) : source_(source) {}

  // Goes to the start. False: there is none any more.
  bool Open() {
    read_ = source_.Open();
    taken_ = 0;
    if (!read_) error_ = "its body can be read only once";
    return static_cast<bool>(read_);
  }

  // As ReadBody. No value if the source does not keep its word: see error().
  std::optional<std::size_t> Read(std::span<char> room) {
    const std::size_t size = read_(room);
    taken_ += size;
    const auto whole = source_.size();
    if (size > room.size()) {
      error_ = "its source says that it gave more than there was room for";
    } else if (whole && (taken_ > *whole || (size == 0 && taken_ < *whole))) {
      error_ = "its source gave " + std::to_string(taken_) +
               " bytes and had named " + std::to_string(*whole);
    } else {
      return size;
    }
    return std::nullopt;
  }

  // What is wrong with the source; empty if nothing is.
  const std::string& error() const { return error_; }

 private:
  const BodySource& source_;
  ReadBody read_;
  std::uint64_t taken_ = 0;
  std::string error_;
};

// All fields of an answer, with those of 1xx before it: nothing but a mistake or
// an attack sends more, and without end.
inline constexpr std::size_t kMaxHead = std::size_t{256} << 10;

// Reads the fields of an answer from lines, as libcurl hands them out. For one
// thread.
class HeadReader {
 public:
  // One line. At the blank one `on_end` is called with the fields since the last:
  // of a 1xx, or of the answer. False: they are above kMaxHead.
  template <class OnEnd>
  bool Line(std::string_view line, OnEnd&& on_end) {
    size_ += line.size();
    if (too_large()) return false;
    line = Trimmed(line);
    if (line.empty()) {
      on_end(std::exchange(fields_, {}));
      return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return true;  // the status line
    fields_.Add(std::string(line.substr(0, colon)),
                std::string(Trimmed(line.substr(colon + 1))));
    return true;
  }
  bool too_large() const { return size_ > kMaxHead; }

 private:
  // RFC 9110, 5.5: white space around a value is not part of it.
  static std::string_view Trimmed(std::string_view text) {
    constexpr std::string_view kBlank = " \t\r\n";
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
  }

  Headers fields_;
  std::size_t size_ = 0;
};

// How long a transfer may take to end once the sink is done.
inline constexpr std::chrono::milliseconds kLinger{1'000};

// The bounds in time of one exchange: the whole, its beginning, a silence, and
// the end of the transfer once the answer is complete. Time is a parameter.
class Patience {
 public:
  enum class Over { kNothing, kWhole, kBeginning, kSilence, kEnding };

  // Which bound has passed, and how long until the next one does.
  struct Left {
    Over over = Over::kNothing;
    Nanos time = kNever;
  };

  Patience(const HttpRequest& request, Nanos now)
      : total_(request.total_timeout),
        begin_(request.begin_timeout),
        idle_(request.idle_timeout),
        start_(now),
        heard_(now) {}

  // A sign of life.
  void Heard(Nanos now) { heard_ = now; }
  // The answer has begun, as the sink sees it; said once or more.
  void Begun() { begun_ = true; }
  // The answer is complete; said once or more.
  void Complete(Nanos now) { complete_ = std::min(complete_, now); }

  // `sent`: the request has begun to leave, so that there can be a silence.
  Left At(Nanos now, bool sent) const {
    Left left;
    const auto bound = [&](Over over, Nanos since, Nanos limit) {
      const Nanos time = SaturatingSubtract(SaturatingAdd(since, limit), now);
      if (left.over == Over::kNothing && time <= 0) left.over = over;
      left.time = std::min(left.time, time);
    };
    if (total_.count() != 0) bound(Over::kWhole, start_, ToNanos(total_));
    if (!begun_ && begin_.count() != 0)
      bound(Over::kBeginning, start_, ToNanos(begin_));
    if (complete_ != kNever) bound(Over::kEnding, complete_, ToNanos(kLinger));
    if (sent && idle_.count() != 0)
      bound(complete_ == kNever ? Over::kSilence : Over::kEnding, heard_,
            ToNanos(idle_));
    return left;
  }

 private:
  const std::chrono::milliseconds total_;
  const std::chrono::milliseconds begin_;
  const std::chrono::milliseconds idle_;
  const Nanos start_;
  Nanos heard_;
  Nanos complete_ = kNever;
  bool begun_ = false;
};

// Connections at rest. A Connection has an `origin` that says where it leads.
// Thread-safe.
template <class Connection>
class IdlePool {
 public:
  explicit IdlePool(std::size_t most) : most_(most) {}

  // The connection to that origin that was used last (the others may then grow
  // old and be dropped), or null. Linear in their number.
  std::unique_ptr<Connection> Take(std::string_view origin) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(
        idle_.rbegin(), idle_.rend(),
        [&](const auto& connection) { return connection->origin == origin; });
    if (found == idle_.rend()) return nullptr;
    std::unique_ptr<Connection> connection = std::move(*found);
    idle_.erase(std::prev(found.base()));
    return connection;
  }

  void Put(std::unique_ptr<Connection> connection) {
    std::unique_ptr<Connection> oldest;  // closed when the lock is released
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(connection));
    if (idle_.size() > most_) {
      oldest = std::move(idle_.front());
      idle_.erase(idle_.begin());
    }
  }

 private:
  const std::size_t most_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> idle_;  // guarded by mutex_
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_HTTP_TRANSFER_H_
