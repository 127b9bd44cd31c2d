// File: http/curl.h
//
// A transport over libcurl (7.80 or newer): HTTP/1.1 and HTTP/2, TLS, proxies.
// Connections stay open for the next request. Redirects are not followed, as a
// key must not travel to a host that the caller did not name.
//
// Example:
//   keyrotator::CurlTransport transport;
//   keyrotator::HttpRequest request{
//       .url = "https://api.openai.com/v1/chat/completions",
//       .headers = {{"Authorization",
//                    "Bearer " + std::string(key->Reveal())},
//                   {"Content-Type", "application/json"}},
//       .body = json};
//   if (auto error = transport.Send(request, sink, stop)) Log(error->message);

#ifndef KEYROTATOR_HTTP_CURL_H_
#define KEYROTATOR_HTTP_CURL_H_

#include <curl/curl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "keyrotator/clock.h"
#include "keyrotator/http/curl_connection.h"
#include "keyrotator/http/message.h"
#include "keyrotator/http/transfer.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/http/url.h"
#include "keyrotator/internal/header_text.h"
#include "keyrotator/internal/read_file.h"
#include "keyrotator/internal/secret_text.h"

namespace keyrotator {

namespace internal {

// One exchange on a connection: what libcurl's callbacks work on.
class CurlTransfer {
 public:
  CurlTransfer(CurlConnection& connection, const CurlOptions& options,
               const HttpRequest& request, const Url& url, ResponseSink& sink)
      : connection_(connection),
        options_(options),
        request_(request),
        url_(url),
        delivery_(sink),
        patience_(request, Now()) {
    if (request.source != nullptr) upload_.emplace(*request.source);
  }

  std::optional<TransportError> Run(const std::stop_token& stop) {
    if (upload_ && !upload_->Open())
      return Error(Kind::kBody, upload_->error());
    Prepare();
    curl_multi_add_handle(connection_.multi(), connection_.easy());
    auto error = Drive(stop);
    // Closes the connection if the transfer has not ended.
    curl_multi_remove_handle(connection_.multi(), connection_.easy());
    // So that no later request on the connection calls back to this one.
    if (upload_)
      connection_.Set(CURLOPT_SEEKFUNCTION, curl_seek_callback(nullptr));
    delivery_.Rethrow();
    if (delivery_.ended()) return std::nullopt;
    if (error && upload_ && !upload_->error().empty())
      return Error(Kind::kBody, upload_->error());
    return error;
  }

 private:
  using Kind = TransportError::Kind;
  using Milliseconds = std::chrono::milliseconds;

  void Prepare() {
    connection_.Set(CURLOPT_URL, request_.url.c_str());

    const bool has_body =
        upload_ || !request_.body.empty() || request_.method == "POST" ||
        request_.method == "PUT" || request_.method == "PATCH";
    connection_.Set(CURLOPT_HTTPGET, 1L);  // also forgets the last method
    if (upload_) {
      PrepareUpload();
    } else if (has_body) {
      // Null would make libcurl read its body from the standard input.
      connection_.Set(CURLOPT_POSTFIELDS,
                      request_.body.empty() ? "" : request_.body.data());
      connection_.Set(CURLOPT_POSTFIELDSIZE_LARGE,
                      static_cast<curl_off_t>(request_.body.size()));
    }
    if (request_.method == "HEAD") connection_.Set(CURLOPT_NOBODY, 1L);
    connection_.Set(CURLOPT_CUSTOMREQUEST, request_.method.c_str());

    for (const auto& [name, value] : request_.headers) {
      std::string line;
      line.reserve(name.size() + value.size() + 2);
      line.append(name).append(value.empty() ? ";" : ": ").append(value);
      AddHeader(std::move(line));
    }
    // Without a value: headers that libcurl would add by itself, and must not.
    if (!request_.headers.Find("Expect")) AddHeader("Expect:");
    if (has_body && !request_.headers.Find("Content-Type")) {
      AddHeader("Content-Type:");
    }
    connection_.Set(CURLOPT_HTTPHEADER, fields_.get());

    // Zero would mean 300 s.
    connection_.Set(CURLOPT_CONNECTTIMEOUT_MS,
                    request_.connect_timeout.count() == 0
                        ? long{INT_MAX}
                        : static_cast<long>(std::clamp<Milliseconds::rep>(
                              request_.connect_timeout.count(), 1, INT_MAX)));
    connection_.Set(CURLOPT_PREREQFUNCTION, &OnConnected);
    connection_.Set(CURLOPT_PREREQDATA, this);
    connection_.Set(CURLOPT_HEADERFUNCTION, &OnHeaderLine);
    connection_.Set(CURLOPT_HEADERDATA, this);
    connection_.Set(CURLOPT_WRITEFUNCTION, &OnBody);
    connection_.Set(CURLOPT_WRITEDATA, this);
  }

  void PrepareUpload() {
    connection_.Set(CURLOPT_UPLOAD, 1L);
    const auto size = request_.source->size();
    connection_.Set(CURLOPT_INFILESIZE_LARGE,
                    size ? static_cast<curl_off_t>(*size) : curl_off_t{-1});
    connection_.Set(CURLOPT_READFUNCTION, &OnRead);
    connection_.Set(CURLOPT_READDATA, this);
    connection_.Set(CURLOPT_SEEKFUNCTION, &OnRewind);
    connection_.Set(CURLOPT_SEEKDATA, this);
  }

  // The line may hold a key.
  void AddHeader(const SecretText& line) {
    curl_slist* longer = curl_slist_append(fields_.get(), line.text().c_str());
    if (longer == nullptr) throw std::bad_alloc();
    // The list's first node stays its first.
    if (!fields_) fields_.reset(longer);
  }

  // Runs the transfer until it ends, the caller stops it or a time is over.
  std::optional<TransportError> Drive(const std::stop_token& stop) {
    CURLM* const multi = connection_.multi();
    // The one function of libcurl that any thread may call at any time.
    const std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });

    while (true) {
      if (stop.stop_requested()) {
        return Error(Kind::kStopped, "the caller stopped it");
      }
      int running = 0;
      came_ = false;
      CURLMcode code = curl_multi_perform(multi, &running);
      if (over_) return TimedOut(*over_);
      if (code == CURLM_OK && running == 0) return Ended();

      const Patience::Left left = Look();
      if (left.over == Patience::Over::kEnding) return std::nullopt;
      if (left.over != Patience::Over::kNothing) return TimedOut(left.over);
      if (code == CURLM_OK) {
        code = curl_multi_poll(multi, nullptr, 0, PollTime(left.time), nullptr);
      }
      if (code != CURLM_OK) {
        return Error(Kind::kLost, curl_multi_strerror(code));
      }
    }
  }

  // Which bound has passed by now, and what is left.
  Patience::Left Look() {
    const Nanos now = Now();
    // Until the answer has begun, a socket that takes the request is a sign of
    // life; from then on the sink says what is.
    if (std::exchange(active_, false) || TookMore()) patience_.Heard(now);
    if (delivery_.done()) patience_.Complete(now);
    return patience_.At(now, sent_);
  }

  // Whether the peer took more of the body since the last look.
  bool TookMore() {
    curl_off_t taken = 0;
    curl_easy_getinfo(connection_.easy(), CURLINFO_SIZE_UPLOAD_T, &taken);
    return std::exchange(taken_, taken) != taken;
  }

  Nanos Now() const {
    return options_.clock
               ? ToNanos(options_.clock())
               : ToNanos(std::chrono::steady_clock::now().time_since_epoch());
  }

  // Everything wakes the poll, so its own limit is of no importance.
  static int PollTime(Nanos time) {
    constexpr std::chrono::nanoseconds kLongest = std::chrono::hours(1);
    return static_cast<int>(
        std::chrono::ceil<Milliseconds>(
            std::min(std::chrono::nanoseconds(time), kLongest))
            .count());
  }

  TransportError TimedOut(Patience::Over over) const {
    if (over == Patience::Over::kWhole) {
      return Error(Kind::kTimeout,
                   "no whole answer within " + Text(request_.total_timeout));
    }
    if (over == Patience::Over::kBeginning) {
      return Error(Kind::kTimeout,
                   "no answer began within " + Text(request_.begin_timeout));
    }
    return Error(Kind::kTimeout, (delivery_.idle() ? "nothing but comments for "
                                                   : "silence for ") +
                                     Text(request_.idle_timeout));
  }

  // How a transfer went that libcurl has ended.
  std::optional<TransportError> Ended() {
    int more = 0;
    const CURLMsg* message = curl_multi_info_read(connection_.multi(), &more);
    const CURLcode code = message ? message->data.result : CURLE_FAILED_INIT;
    if (code == CURLE_OK && delivery_.begun()) return std::nullopt;
    if (sent_) {
      return Error(Kind::kLost,
                   head_.too_large()
                       ? "its headers are above 256 KiB"
                       : WhyLost(broke_ ? CURLE_GOT_NOTHING : code));
    }
    switch (code) {
      case CURLE_OPERATION_TIMEDOUT:
        return CannotConnect("nothing within " +
                             Text(request_.connect_timeout));
      case CURLE_COULDNT_CONNECT:
        if (const long number = connection_.Get(CURLINFO_OS_ERRNO)) {
          return CannotConnect(
              std::generic_category().message(static_cast<int>(number)));
        }
        return CannotConnect(curl_easy_strerror(code));
      case CURLE_SSL_CONNECT_ERROR:
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_CERTPROBLEM:
      case CURLE_SSL_CIPHER:
      case CURLE_SSL_ISSUER_ERROR:
        return Error(Kind::kTls, "TLS failed (" + TlsText(code) +
                                     "); is the host right, and does ca_file "
                                     "name the authority that vouches for it?");
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
        return Error(Kind::kBadUrl, curl_easy_strerror(code));
      default:
        return CannotConnect(curl_easy_strerror(code));
    }
  }

  static std::string WhyLost(CURLcode code) {
    switch (code) {
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_WEIRD_SERVER_REPLY:
        return "what came back is not HTTP";
      case CURLE_GOT_NOTHING:
        return "the connection was closed without an answer";
      case CURLE_PARTIAL_FILE:
        return "the connection was closed amid the answer";
      case CURLE_OUT_OF_MEMORY:  // so say releases before 8.6
        return "out of memory, or a header of the answer is over 100 kB";
      default:
        return std::string("the connection broke: ") + curl_easy_strerror(code);
    }
  }

  // libcurl's own words may quote whatever it worked on. Of a failed handshake
  // they can only quote the certificate, the host and the CA options: the
  // request has not been touched. The certificate is the peer's text.
  std::string TlsText(CURLcode code) const {
    std::string text = connection_.error_text();
    if (text.empty()) text = curl_easy_strerror(code);
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; },
        ' ');
    return text;
  }

  TransportError CannotConnect(const std::string& why) const {
    return {.kind = Kind::kConnect,
            .message = "could not connect to " + url_.origin + ": " + why +
                       "; is the server running, and is the URL right?",
            .maybe_sent = sent_};
  }
  // Shows no more of the URL than its origin: the query may hold a key.
  TransportError Error(Kind kind, const std::string& what) const {
    return {.kind = kind,
            .message = url_.origin + ": " + what,
            .maybe_sent = sent_};
  }
  static std::string Text(Milliseconds time) {
    return std::to_string(time.count()) + " ms";
  }

  // Called when a connection is ready and before the first byte of the request
  // goes out, also when libcurl repeats the request because a connection that
  // was kept open turned out to be dead.
  static int OnConnected(void* self, char*, char*, int, int) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    transfer.active_ = true;
    if (std::exchange(transfer.sent_, true) && !transfer.request_.repeatable) {
      transfer.broke_ = true;
      return CURL_PREREQFUNC_ABORT;
    }
    return CURL_PREREQFUNC_OK;
  }

  static std::size_t OnHeaderLine(char* data, std::size_t, std::size_t size,
                                  void* self) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    const bool fine = transfer.delivery_.Guard(
        [&] { return transfer.HeaderLine(std::string_view(data, size)); });
    return fine ? size : 0;
  }

  static std::size_t OnBody(char* data, std::size_t, std::size_t size,
                            void* self) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    const bool more = transfer.delivery_.Guard(
        [&] { return transfer.delivery_.Body(std::string_view(data, size)); });
    if (!transfer.delivery_.idle()) {
      transfer.active_ = true;
      transfer.patience_.Begun();
    }
    return more && !transfer.IsOver() ? size : 0;
  }

  // libcurl reads for as long as something comes, which may be without end: a
  // bound that passes meanwhile ends the transfer. The first piece is left to
  // Drive.
  bool IsOver() {
    if (!std::exchange(came_, true)) return false;
    const Patience::Over over = Look().over;
    if (over == Patience::Over::kNothing || over == Patience::Over::kEnding)
      return false;
    over_ = over;
    return true;
  }

  static std::size_t OnRead(char* to, std::size_t, std::size_t room,
                            void* self) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    std::size_t size = CURL_READFUNC_ABORT;
    transfer.delivery_.Guard([&] {
      size = transfer.upload_->Read({to, room}).value_or(CURL_READFUNC_ABORT);
      return true;
    });
    return size;
  }

  // libcurl repeats a request on another connection, from the start.
  static int OnRewind(void* self, curl_off_t, int) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    const bool fine =
        transfer.delivery_.Guard([&] { return transfer.upload_->Open(); });
    return fine ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
  }

  // False: there are too many.
  bool HeaderLine(std::string_view line) {
    if (delivery_.begun()) return true;  // a trailer field
    return head_.Line(line, [&](Headers fields) {
      const int status =
          static_cast<int>(connection_.Get(CURLINFO_RESPONSE_CODE));
      // Neither 1xx nor parts of a head are life: they may come without end.
      if (status < 200) return;
      active_ = true;
      delivery_.Head(status, std::move(fields));
    });
  }

  struct ListDelete {
    void operator()(curl_slist* list) const {
      for (curl_slist* each = list; each != nullptr; each = each->next)
        Wipe(each->data, std::strlen(each->data));
      curl_slist_free_all(list);
    }
  };

  CurlConnection& connection_;
  const CurlOptions& options_;
  const HttpRequest& request_;
  const Url& url_;
  Delivery delivery_;
  std::optional<Upload> upload_;  // if the request has a source
  Patience patience_;
  std::unique_ptr<curl_slist, ListDelete> fields_;
  HeadReader head_;
  curl_off_t taken_ = 0;  // of the body, by the peer
  bool sent_ = false;     // a byte of the request may have left
  bool broke_ = false;    // on a kept connection, and may not be sent again
  bool active_ = false;   // a sign of life came since the clock was read
  bool came_ = false;     // a piece came since libcurl was called
  std::optional<Patience::Over> over_;  // the bound that passed in a callback
};

}  // namespace internal

// Thread-safe; each Send blocks its own thread. May be moved while no Send is
// under way.
//
// Threads share neither connections (libcurl cannot do that safely) nor TLS
// sessions: a kept connection needs no handshake, and resuming a session saved
// nothing that could be measured on a new one.
class CurlTransport {
 public:
  explicit CurlTransport(CurlOptions options = {})
      : state_(std::make_unique<State>(std::move(options))) {
    // Counted by libcurl, and safe while other threads do the same. Never
    // undone: other parts of the program may still use the library.
    static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
    static_cast<void>(kReady);  // curl_easy_init tries again and tells
  }

  // Sends the request and hands the answer to `sink`. Empty when the answer is
  // whole or the sink wanted no more; then a connection whose answer was not
  // whole is closed. `stop` ends it within milliseconds, at any stage.
  //
  // A kept connection that dies before the first byte of an answer is replaced
  // once by libcurl, which sends the request again if it is `repeatable`.
  //
  // Throws what the sink and the source throw, and std::bad_alloc.
  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink,
                                     std::stop_token stop = {}) {
    const auto url = internal::ParseUrl(request.url);
    if (auto refusal = internal::Refusal(request, url)) return refusal;
    auto connection = state_->idle.Take(url->origin);
    if (!connection) {
      if (auto refusal = Misconfigured(*url)) return refusal;
      connection = std::make_unique<internal::CurlConnection>(url->origin,
                                                              state_->options);
    }
    auto error = internal::CurlTransfer(*connection, state_->options, request,
                                        *url, sink)
                     .Run(stop);
    state_->idle.Put(std::move(connection));
    return error;
  }

 private:
  struct State {
    explicit State(CurlOptions with)
        : options(std::move(with)), idle(options.max_idle) {}
    const CurlOptions options;
    internal::IdlePool<internal::CurlConnection> idle;
  };

  // Why the options cannot be used for that URL, or nothing.
  std::optional<TransportError> Misconfigured(const internal::Url& url) const {
    using Kind = TransportError::Kind;
    const auto refuse = [&](Kind kind, const std::string& why) {
      return TransportError{.kind = kind,
                            .message = url.origin + ": " + why,
                            .maybe_sent = false};
    };
    if (!internal::IsFieldValue(state_->options.user_agent)) {
      return refuse(Kind::kBadUrl,
                    "CurlOptions::user_agent holds a character that HTTP does "
                    "not allow there");
    }
    // OpenSSL would wait for a writer if ca_file is a pipe, and neither a stop
    // nor a timeout would end that.
    const std::string& path = state_->options.ca_file;
    struct stat status {};
    if (!url.tls || stat(path.c_str(), &status) != 0) return std::nullopt;
    const std::string why =
        internal::WhyNoFile(status.st_mode, "a file with certificates");
    if (why.empty()) return std::nullopt;
    return refuse(Kind::kTls, "ca_file: " + why);
  }

  std::unique_ptr<State> state_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_CURL_H_
