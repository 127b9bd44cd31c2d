// File: http.h
//
// The HTTP vocabulary that the layers share: a request, a response, its
// headers, and what a transport has to offer. There is no HTTP library in here,
// so that an application's own client can speak it.
//
// Example: a transport is any class with such a Send.
//   class MyTransport {
//    public:
//     std::optional<keyrotator::TransportError> Send(
//         const keyrotator::HttpRequest& request,
//         keyrotator::ResponseSink& sink, std::stop_token stop) {
//       auto answer = my_client.Request(request.method, request.url);
//       if (!answer) return keyrotator::TransportError{.message = "lost"};
//       sink.OnHead(answer->status, ToHeaders(answer->headers));
//       (void)sink.OnBody(answer->body);
//       return std::nullopt;
//     }
//   };

#ifndef KEYROTATOR_HTTP_H_
#define KEYROTATOR_HTTP_H_

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/text.h"

namespace keyrotator {

// Header fields in the order of arrival. Names compare without regard to ASCII
// case (RFC 9110, 5.1); a name may occur more than once. A value type: as
// thread-safe as a std::vector.
class Headers {
 public:
  struct Field {
    std::string name;
    std::string value;
  };

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  // Appends a field; one of the same name stays beside it.
  void Add(std::string name, std::string value) {
    fields_.push_back({std::move(name), std::move(value)});
  }

  // The value of the first field of that name, or none. Linear. The view lives
  // until the headers are changed.
  std::optional<std::string_view> Find(std::string_view name) const {
    for (const Field& field : fields_) {
      if (SameName(field.name, name)) return field.value;
    }
    return std::nullopt;
  }

  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }
  std::size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }

 private:
  static bool SameName(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) {
                        return internal::Lower(x) == internal::Lower(y);
                      });
  }

  std::vector<Field> fields_;
};

// One request as a transport sends it. The views must outlive the call of Send.
struct HttpRequest {
  std::string method = "POST";
  std::string url = {};  // absolute: scheme, host, path
  Headers headers = {};
  std::string_view body = {};

  // Zero means no bound.
  std::chrono::milliseconds connect_timeout{5'000};
  // The longest silence between two reads once the request is sent.
  std::chrono::milliseconds idle_timeout{0};
  // For the whole exchange.
  std::chrono::milliseconds total_timeout{0};
};

// A whole answer.
struct HttpResponse {
  int status = 0;
  Headers headers = {};
  std::string body = {};
};

// Why there is no (whole) answer. `message` says what happened in words for a
// person.
struct TransportError {
  enum class Kind {
    kConnect,  // no connection was made: host unknown, refused, timed out
    kTls,      // the peer's certificate or the handshake was refused
    kBadUrl,   // the URL cannot be used; trying again is of no use
    kTimeout,  // silence for longer than the idle timeout, or the total time is
               // over
    kLost,     // the connection broke after it had been made
    kStopped,  // the caller asked to stop
  };
  Kind kind = Kind::kLost;
  std::string message = {};
  // Whether the server may have received the request and acted on it. False
  // only where that is certain.
  bool maybe_sent = true;
};

// Receives an answer while it arrives, on the thread that called Send. The
// transport calls OnHead once (not for 1xx), then OnBody for each piece in
// order.
class ResponseSink {
 public:
  virtual void OnHead(int status, Headers headers) = 0;
  // False: end the transfer; Send then returns without an error.
  [[nodiscard]] virtual bool OnBody(std::string_view bytes) = 0;

  // Whether all that is wanted has come, asked after OnBody: the transport then
  // waits for the end of the transfer, but not for longer than a second, so
  // that the connection can be used again.
  virtual bool Done() const { return false; }

 protected:
  ~ResponseSink() = default;
};

namespace internal {

template <class T>
concept IsTransport = requires(T& transport, const HttpRequest& request,
                               ResponseSink& sink, std::stop_token stop) {
  {
    transport.Send(request, sink, stop)
    } -> std::same_as<std::optional<TransportError>>;
};

}  // namespace internal
}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_H_
