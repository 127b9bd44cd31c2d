// File: http/transport.h
//
// What a transport has to offer: a class with one function, Send, that gives an
// answer to a sink while it arrives. curl.h has one; write one around your own
// HTTP client and keep OpenAIClient. The body of a request that has a `source`
// is read from there (transfer.h: Upload); nobody sets one but who uses it.
//
// Example: a transport is any class with such a Send.
//   class MyTransport {
//    public:
//     std::optional<keyrotator::TransportError> Send(
//         const keyrotator::HttpRequest& request,
//         keyrotator::ResponseSink& sink, std::stop_token stop) {
//       std::optional<keyrotator::HttpResponse> answer = ask_(request);
//       if (!answer) return keyrotator::TransportError{.message = "lost"};
//       sink.OnHead(answer->status, answer->headers);
//       static_cast<void>(sink.OnBody(answer->body));
//       return std::nullopt;
//     }
//
//    private:
//     std::function<std::optional<keyrotator::HttpResponse>(
//         const keyrotator::HttpRequest&)>
//         ask_;  // your client
//   };

#ifndef KEYROTATOR_HTTP_TRANSPORT_H_
#define KEYROTATOR_HTTP_TRANSPORT_H_

#include <concepts>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "keyrotator/http/message.h"

namespace keyrotator {

// Why there is no (whole) answer. `message` says what happened in words for a
// person.
struct TransportError {
  enum class Kind {
    // No connection was made: host unknown, refused, timed out.
    kConnect,
    // The peer's certificate or the handshake was refused.
    kTls,
    // The URL cannot be used; trying again is of no use.
    kBadUrl,
    // Silence for longer than the idle timeout, or the total time is over.
    kTimeout,
    // The connection broke after it had been made.
    kLost,
    // The caller asked to stop.
    kStopped,
    // The request's source gave no body, or not the size it named.
    kBody,
  };
  Kind kind = Kind::kLost;
  std::string message = {};
  // Whether the server may have received the request and acted on it. False
  // only where that is certain.
  bool maybe_sent = true;
};

// What a piece of an answer is to the transfer that brought it.
enum class Flow {
  // Wanted: go on.
  kMore,
  // No sign of life, as a comment in a stream of events: go on, but let the
  // idle timeout run.
  kIdle,
  // The last that is wanted: wait for the end of the transfer, but not for
  // longer than a second, so that the connection can be used again.
  kComplete,
  // No more is wanted: end the transfer; Send returns without an error.
  kStop,
};

// Receives an answer while it arrives, on the thread that called Send. The
// transport calls OnHead once (not for 1xx), then OnBody for each piece in
// order.
class ResponseSink {
 public:
  virtual void OnHead(int status, Headers headers) = 0;
  [[nodiscard]] virtual Flow OnBody(std::string_view bytes) = 0;

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

#endif  // KEYROTATOR_HTTP_TRANSPORT_H_
