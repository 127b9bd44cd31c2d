// File: openai/client.h
//
// OpenAIClient: sends requests to an OpenAI-compatible provider, each with a
// key that works. It picks a key, sends, judges the answer, marks the key and
// goes on with another, as Failover says; a Reply always comes back.
//
// Example:
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
//   keyrotator::OpenAIClient client("https://api.openai.com/v1", rotator,
//                                   keyrotator::CurlTransport{});
//   keyrotator::Reply reply = client.ChatCompletion(
//       R"({"model": "gpt-4o",
//           "messages": [{"role": "user", "content": "hi"}]})");
//   fmt::print("{}\n", reply.ok() ? reply.body : reply.message);

#ifndef KEYROTATOR_OPENAI_CLIENT_H_
#define KEYROTATOR_OPENAI_CLIENT_H_

#include <algorithm>
#include <chrono>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/http/body_source.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/http/url.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/failover.h"
#include "keyrotator/openai/multipart_model.h"
#include "keyrotator/openai/request_model.h"
#include "keyrotator/openai/sse.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator {

struct ClientOptions {
  // The header that carries the key, and the text before the key. Azure:
  // "api-key" and nothing; Anthropic's own API: "x-api-key".
  std::string auth_header = "Authorization";
  std::string auth_prefix = "Bearer ";
  // Sent with every request; also instead of the client's own Content-Type and
  // Accept, but not of the header that carries the key.
  Headers headers = {};
  RetryOptions retry = {};
  // A host that is not loopback may be reached by http, without TLS: whoever is
  // on the way reads the keys.
  bool allow_http = false;
  Span connect_timeout = std::chrono::seconds(5);
  // For a whole answer; a stream has no such bound.
  Span request_timeout = std::chrono::minutes(10);
  // The longest silence in a stream; the transport counts it. Comments, which
  // only keep the connection alive, do not end it.
  Span stream_idle_timeout = std::chrono::minutes(2);
  // The largest body of an answer that is no stream, in bytes, unpacked: it is
  // held in memory, and a packed one may be a thousand times as large as what
  // was sent. A larger one is read no further and is an error.
  std::size_t max_body = internal::kMaxBody;
};

// What one call may want otherwise.
struct CallOptions {
  // What the provider limits apart; by default the "model" of a body that is
  // JSON or multipart. One that comes from a source is not looked into.
  std::string scope = {};
  // See PickHint.
  std::string affinity = {};
  double cost = 0;
  // Of a batch that can wait: kBatch. See PickHint.
  Priority priority = Priority::kInteractive;
  // For the whole call instead of RetryOptions::deadline, and then also for an
  // answer that is under way; for a stream up to its first event.
  std::optional<Span> deadline = {};
  std::stop_token stop = {};
  // In addition to ClientOptions::headers.
  Headers headers = {};
  // What the body is; by default application/json. A multipart body names its
  // boundary here: "multipart/form-data; boundary=...".
  std::string content_type = {};
};

// What came of a call. There is no secret of the pool in any of it, unless the
// model itself said one.
struct Reply {
  Outcome outcome = Outcome::kPending;
  // Of the last answer; 0 if there was none.
  int status = 0;
  Headers headers = {};
  std::string body = {};
  // What the last answer meant; without an answer (status 0) it says nothing, so
  // look at `outcome` first. Its code is the provider's word for an error.
  VerdictKind verdict = VerdictKind::kOk;
  std::string code = {};
  // What went wrong and what to do about it; empty if nothing did.
  std::string message = {};
  // Each send, in order.
  std::vector<Attempt> trail = {};
  // Whether it would have been sent again, had not too many requests failed: see
  // RetryBudget. The outcome is kUnavailable then.
  bool over_budget = false;
  // How long until it is worth trying again, if that is known.
  std::optional<std::chrono::nanoseconds> retry_in = {};

  bool ok() const { return outcome == Outcome::kOk; }
};

// Thread-safe if the transport is. It throws nothing that a network or a
// provider could cause; the rotator must outlive it.
template <class Transport, class Rotator, class Classifier = OpenAIClassifier>
class OpenAIClient {
  static_assert(internal::IsTransport<Transport>,
                "OpenAIClient: the transport must have "
                "std::optional<keyrotator::TransportError> Send(const "
                "keyrotator::HttpRequest&, keyrotator::ResponseSink&, "
                "std::stop_token); see http/transport.h");

 public:
  // `base_url` as the provider gives it, with its path: ".../v1"; a query, such
  // as Azure's "?api-version=...", goes with every request. A wrong one is told
  // by the first Reply.
  OpenAIClient(std::string base_url, Rotator& rotator, Transport transport,
               ClientOptions options = {}, Classifier classifier = {})
      : url_error_(internal::BaseUrlError(base_url, options.allow_http)),
        base_url_(std::move(base_url)),
        rotator_(rotator),
        transport_(std::move(transport)),
        options_(std::move(options)),
        classifier_(std::move(classifier)) {}

  // POST /chat/completions. `body` is JSON text and is sent as it is.
  Reply ChatCompletion(std::string_view body, const CallOptions& call = {}) {
    return Post("/chat/completions", body, call);
  }

  // The same for a body with "stream": true. `on_event` is called with each
  // event as it arrives, but for errors and the final "[DONE]", on the calling
  // thread; it may return bool, and false ends the stream. Once it was called
  // nothing is sent again, so nothing is delivered twice.
  //
  // If `on_event` takes a std::string_view instead, it gets the bytes of the
  // events as they came, with comments, blank lines and "[DONE]", to be passed
  // on: together they are what the provider sent, but for errors.
  template <class OnEvent>
  Reply ChatCompletionStream(std::string_view body, OnEvent&& on_event,
                             const CallOptions& call = {}) {
    return Stream("/chat/completions", body, on_event, call);
  }

  // The methods, with a path below the base URL. `body` is any text or bytes,
  // or a BodySource, which is read while it is sent; it is JSON unless
  // CallOptions::content_type says otherwise. The Reply's body may be bytes.
  Reply Post(std::string_view path, BodyView body,
             const CallOptions& call = {}) {
    return Run({.method = "POST", .path = path, .body = body}, call);
  }
  Reply Put(std::string_view path, BodyView body,
            const CallOptions& call = {}) {
    return Run({.method = "PUT", .path = path, .body = body}, call);
  }
  Reply Patch(std::string_view path, BodyView body,
              const CallOptions& call = {}) {
    return Run({.method = "PATCH", .path = path, .body = body}, call);
  }
  Reply Get(std::string_view path, const CallOptions& call = {}) {
    return Run({.method = "GET", .path = path}, call);
  }
  Reply Head(std::string_view path, const CallOptions& call = {}) {
    return Run({.method = "HEAD", .path = path}, call);
  }
  Reply Delete(std::string_view path, const CallOptions& call = {}) {
    return Run({.method = "DELETE", .path = path}, call);
  }

  // POST and GET whose answer is a stream; see ChatCompletionStream.
  template <class OnEvent>
  Reply Stream(std::string_view path, BodyView body, OnEvent&& on_event,
               const CallOptions& call = {}) {
    return Run({.method = "POST", .path = path, .body = body, .stream = true},
               call, on_event);
  }
  template <class OnEvent>
  Reply GetStream(std::string_view path, OnEvent&& on_event,
                  const CallOptions& call = {}) {
    return Run({.method = "GET", .path = path, .stream = true}, call, on_event);
  }

  // GET /models.
  Reply Models(const CallOptions& call = {}) { return Get("/models", call); }

  // Whether the provider answers and a key works. It takes no key's turn, and
  // what it learns of keys counts.
  bool Healthy(const CallOptions& call = {}) {
    Call models{.method = "GET", .path = "/models"};
    for (const KeyStatus& key : rotator_.Snapshot()) {
      if (key.state != KeyState::kAvailable) continue;
      models.prefer = key.id;
      break;
    }
    return Run(models, call).ok();
  }

 private:
  using TheFailover = Failover<Rotator, Classifier>;

  struct Call {
    std::string_view method;
    std::string_view path;
    BodyView body = {};
    bool stream = false;
    std::optional<KeyId> prefer = {};
  };

  // Hands what arrives to the failover.
  template <class OnEvent>
  class Sink final : public ResponseSink {
   public:
    Sink(TheFailover& failover, OnEvent& on_event)
        : failover_(failover), on_event_(on_event) {}

    void OnHead(int status, Headers headers) override {
      failover_.OnHead(status, std::move(headers));
    }
    Flow OnBody(std::string_view bytes) override {
      return failover_.OnBytes(bytes, on_event_);
    }

   private:
    TheFailover& failover_;
    OnEvent& on_event_;
  };

  Reply Run(const Call& what, const CallOptions& call) {
    return Run(what, call, [](const SseEvent&) {});
  }

  template <class OnEvent>
  Reply Run(const Call& what, const CallOptions& call, OnEvent&& on_event) {
    if (const std::string wrong = Check(what); !wrong.empty()) {
      return {.outcome = Outcome::kCallerError,
              .verdict = VerdictKind::kCallerError,
              .message = wrong};
    }
    RetryOptions retry = options_.retry;
    if (call.deadline) retry.deadline = *call.deadline;
    TheFailover failover(rotator_, classifier_,
                         {.scope = Scope(what, call),
                          .affinity = call.affinity,
                          .cost = call.cost,
                          .priority = call.priority,
                          .prefer = what.prefer,
                          .stream = what.stream,
                          .head = what.method == "HEAD",
                          .max_body = options_.max_body},
                         std::move(retry));
    while (true) {
      // Before a key is taken: what is not sent leaves no trace.
      if (call.stop.stop_requested()) failover.Stop();
      const auto step = failover.Next();
      if (step.what == Do::kDone) break;
      if (step.what == Do::kSend) {
        Send(failover, what, call, step.until, on_event);
        if (what.body.source() != nullptr && what.body.source()->spent())
          failover.Stop(Outcome::kBodySpent);
      } else if (step.for_key) {
        auto lease = rotator_.PickUntil(step.until, failover.hint(), call.stop);
        if (!call.stop.stop_requested()) failover.Offer(std::move(lease));
      } else {
        SleepUntil(rotator_.clock(), step.until, call.stop);
      }
    }
    return MakeReply(failover);
  }

  template <class OnEvent>
  void Send(TheFailover& failover, const Call& what, const CallOptions& call,
            typename Rotator::TimePoint deadline, OnEvent& on_event) {
    struct Wiped {
      ~Wiped() { request.headers.Wipe(); }
      HttpRequest request;
    } sent{Prepare(what, call, failover.key().Reveal(), deadline)};
    Sink<OnEvent> sink(failover, on_event);
    const std::optional<TransportError> error =
        transport_.Send(std::as_const(sent.request), sink, call.stop);
    failover.OnEnd(on_event, error ? &*error : nullptr);
  }

  // Why the call cannot be made, or nothing.
  std::string Check(const Call& what) const {
    if (!url_error_.empty()) return url_error_;
    if (what.path.empty() || what.path[0] != '/')
      return "The path must begin with a slash, as in /embeddings.";
    return {};
  }

  std::string Scope(const Call& what, const CallOptions& call) const {
    if (!call.scope.empty()) return call.scope;
    const std::string_view type = ContentType(call);
    return internal::IsMultipart(type)
               ? internal::MultipartModel(type, what.body.text())
               : internal::RequestModel(what.body.text());
  }

  std::string_view ContentType(const CallOptions& call) const {
    if (const auto type = call.headers.Find("Content-Type")) return *type;
    if (!call.content_type.empty()) return call.content_type;
    return options_.headers.Find("Content-Type").value_or("application/json");
  }

  HttpRequest Prepare(const Call& what, const CallOptions& call,
                      std::string_view key,
                      typename Rotator::TimePoint deadline) const {
    using std::chrono::milliseconds;
    HttpRequest request;
    request.method = what.method;
    request.url = internal::JoinUrl(base_url_, what.path);
    request.body = what.body.text();
    request.source = what.body.source();
    request.headers = options_.headers;
    for (const Headers::Field& field : call.headers)
      request.headers.Add(field.name, field.value);
    const auto add = [&](const char* name, const char* value) {
      if (!request.headers.Find(name)) request.headers.Add(name, value);
    };
    if (!what.body.empty())
      request.headers.Set("Content-Type", std::string(ContentType(call)));
    // JSON, but files and speech are bytes.
    add("Accept",
        what.stream ? "text/event-stream" : "application/json, */*;q=0.5");
    // Instead of one that the caller gave: a key that is not of the pool would
    // go out beside the pool's.
    std::string value;
    value.reserve(options_.auth_prefix.size() + key.size());
    request.headers.Set(
        options_.auth_header,
        std::move(value.append(options_.auth_prefix).append(key)));
    request.repeatable = options_.retry.retry_ambiguous;
    request.connect_timeout =
        std::chrono::ceil<milliseconds>(options_.connect_timeout);
    if (what.stream) {
      request.idle_timeout =
          std::chrono::ceil<milliseconds>(options_.stream_idle_timeout);
    } else {
      request.total_timeout =
          std::chrono::ceil<milliseconds>(options_.request_timeout);
    }
    // A deadline of 0 asks for one send without a wait, not for none.
    if (call.deadline && call.deadline->count() > 0) {
      milliseconds& bound =
          what.stream ? request.begin_timeout : request.total_timeout;
      const auto left = std::max(
          std::chrono::ceil<milliseconds>(deadline - rotator_.clock().now()),
          milliseconds(1));
      if (bound.count() == 0 || left < bound) bound = left;
    }
    return request;
  }

  Reply MakeReply(TheFailover& failover) const {
    Reply reply;
    reply.outcome = failover.outcome();
    reply.verdict = failover.verdict().kind;
    reply.code = failover.verdict().code;
    reply.message = failover.message();
    reply.trail = failover.trail();
    reply.over_budget = failover.over_budget();
    if (const auto at = failover.retry_at()) {
      reply.retry_in =
          std::max<Span>(*at - rotator_.clock().now(), Span::zero());
    }
    HttpResponse response = failover.TakeResponse();
    reply.status = response.status;
    reply.headers = std::move(response.headers);
    reply.body = std::move(response.body);
    return reply;
  }

  const std::string url_error_;
  const std::string base_url_;
  Rotator& rotator_;
  Transport transport_;
  const ClientOptions options_;
  const Classifier classifier_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_CLIENT_H_
