// File: http/curl.h
//
// A transport over libcurl (7.80 or newer): HTTP/1.1 and HTTP/2, TLS, proxies.
// Connections stay open for the next request. Redirects are not followed, as a
// key must not travel to a host that nobody named.
//
// Example:
//   keyrotator::CurlTransport transport;
//   keyrotator::HttpRequest request{
//       .url = "https://api.openai.com/v1/chat/completions",
//       .headers = {{"Authorization", "Bearer " + key},
//                   {"Content-Type", "application/json"}},
//       .body = json};
//   if (auto error = transport.Send(request, sink, stop)) Log(error->message);

#ifndef KEYROTATOR_HTTP_CURL_H_
#define KEYROTATOR_HTTP_CURL_H_

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "keyrotator/http/message.h"
#include "keyrotator/http/transfer.h"
#include "keyrotator/http/transport.h"
#include "keyrotator/http/url.h"

namespace keyrotator {

struct CurlOptions {
  // Whom to trust: a file of PEM certificates, a directory that `openssl
  // rehash` made, or both. With neither, the authorities of the system.
  std::string ca_file = "";
  std::string ca_path = "";
  // As CURLOPT_PROXY: "http://proxy:3128"; empty text means no proxy. Without a
  // value libcurl looks at http_proxy, https_proxy and no_proxy.
  std::optional<std::string> proxy = std::nullopt;
  // Sent unless the request has a User-Agent of its own.
  std::string user_agent = "keyrotator";
  // As CURLOPT_HTTP_VERSION: HTTP/2 where TLS can negotiate it.
  long http_version = CURL_HTTP_VERSION_2TLS;
  // How many connections to keep open between requests; the one unused for the
  // longest is closed first.
  std::size_t max_idle = 64;
};

namespace internal {

// A libcurl easy handle for one connection, with the multi handle that drives
// it: curl_easy_perform has one inside, too, but lets nobody wake it.
class CurlConnection {
 public:
  // Throws std::bad_alloc if libcurl has no memory.
  CurlConnection(std::string to, const CurlOptions& options)
      : origin(std::move(to)),
        multi_(curl_multi_init()),
        easy_(curl_easy_init()) {
    if (!easy_ || !multi_) throw std::bad_alloc();
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_ERRORBUFFER, error_text_);
    Set(CURLOPT_PATH_AS_IS, 1L);
    Set(CURLOPT_TCP_KEEPALIVE, 1L);
    Set(CURLOPT_ACCEPT_ENCODING, "");  // all that this libcurl can unpack
    Set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    Set(CURLOPT_HTTP_VERSION, options.http_version);
    Set(CURLOPT_USERAGENT, options.user_agent.c_str());
    if (options.proxy) Set(CURLOPT_PROXY, options.proxy->c_str());
    if (!options.ca_file.empty() || !options.ca_path.empty()) {
      Set(CURLOPT_CAINFO, OrNull(options.ca_file));
      Set(CURLOPT_CAPATH, OrNull(options.ca_path));
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    // Else ending a transfer waits for a name server that does not answer.
    Set(CURLOPT_QUICK_EXIT, 1L);
#endif
  }

  template <class Value>
  void Set(CURLoption option, Value value) {
    curl_easy_setopt(easy_.get(), option, value);
  }
  long Get(CURLINFO info) const {
    long value = 0;
    curl_easy_getinfo(easy_.get(), info, &value);
    return value;
  }
  CURL* easy() const { return easy_.get(); }
  CURLM* multi() const { return multi_.get(); }
  const char* error_text() const { return error_text_; }

  const std::string origin;

 private:
  static const char* OrNull(const std::string& text) {
    return text.empty() ? nullptr : text.c_str();
  }
  struct EasyDelete {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  };
  struct MultiDelete {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
  };

  char error_text_[CURL_ERROR_SIZE] = "";
  std::unique_ptr<CURLM, MultiDelete> multi_;
  std::unique_ptr<CURL, EasyDelete> easy_;
};

// One exchange on a connection: what libcurl's callbacks work on.
class CurlTransfer {
 public:
  CurlTransfer(CurlConnection& connection, const HttpRequest& request,
               const Url& url, ResponseSink& sink)
      : connection_(connection),
        request_(request),
        url_(url),
        delivery_(sink) {}

  std::optional<TransportError> Run(const std::stop_token& stop) {
    Prepare();
    curl_multi_add_handle(connection_.multi(), connection_.easy());
    auto error = Drive(stop);
    // Closes the connection if the transfer has not ended.
    curl_multi_remove_handle(connection_.multi(), connection_.easy());
    delivery_.Rethrow();
    if (delivery_.ended()) return std::nullopt;
    return error;
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Kind = TransportError::Kind;
  using Milliseconds = std::chrono::milliseconds;

  void Prepare() {
    connection_.Set(CURLOPT_URL, request_.url.c_str());

    const bool has_body = !request_.body.empty() || request_.method == "POST" ||
                          request_.method == "PUT" ||
                          request_.method == "PATCH";
    connection_.Set(CURLOPT_HTTPGET, 1L);  // also forgets the last method
    if (has_body) {
      // Null would make libcurl read its body from the standard input.
      connection_.Set(CURLOPT_POSTFIELDS,
                      request_.body.empty() ? "" : request_.body.data());
      connection_.Set(CURLOPT_POSTFIELDSIZE_LARGE,
                      static_cast<curl_off_t>(request_.body.size()));
    }
    if (request_.method == "HEAD") connection_.Set(CURLOPT_NOBODY, 1L);
    connection_.Set(CURLOPT_CUSTOMREQUEST, request_.method.c_str());

    for (const auto& [name, value] : request_.headers) {
      AddHeader(value.empty() ? name + ";" : name + ": " + value);
    }
    // Without a value: what libcurl would add by itself, and shall not.
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

  void AddHeader(const std::string& line) {
    curl_slist* longer = curl_slist_append(fields_.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    // The list's first node stays its first.
    if (!fields_) fields_.reset(longer);
  }

  // Runs the transfer until it ends, the caller stops it or a time is over.
  std::optional<TransportError> Drive(const std::stop_token& stop) {
    CURLM* const multi = connection_.multi();
    // The one function of libcurl that any thread may call at any time.
    const std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });

    const Clock::time_point start = Clock::now();
    Clock::time_point heard = start;
    int ready = 0;  // sockets on which something happened
    while (true) {
      if (stop.stop_requested()) {
        return Error(Kind::kStopped, "the caller stopped it");
      }
      int running = 0;
      CURLMcode code = curl_multi_perform(multi, &running);
      if (code == CURLM_OK && running == 0) return Ended();

      const Clock::time_point now = Clock::now();
      if (std::exchange(active_, false) || ready > 0) heard = now;
      // Everything wakes the poll, so its own limit is of no importance.
      Clock::duration left = std::chrono::hours(1);
      if (const auto limit = request_.total_timeout; limit.count() != 0) {
        left = std::min(left, Left(start, limit, now));
        if (left.count() <= 0) {
          return Error(Kind::kTimeout, "no whole answer within " + Text(limit));
        }
      }
      if (delivery_.done()) {
        left = std::min(left, Left(heard, kLinger, now));
        if (left.count() <= 0) return std::nullopt;
      }
      if (const auto limit = request_.idle_timeout;
          sent_ && limit.count() != 0) {
        left = std::min(left, Left(heard, limit, now));
        if (left.count() <= 0) {
          return Error(Kind::kTimeout, "silence for " + Text(limit));
        }
      }
      if (code == CURLM_OK) {
        code = curl_multi_poll(
            multi, nullptr, 0,
            static_cast<int>(std::chrono::ceil<Milliseconds>(left).count()),
            &ready);
      }
      if (code != CURLM_OK) {
        return Error(Kind::kLost, curl_multi_strerror(code));
      }
    }
  }

  // What is left of a limit that began at `since`.
  static Clock::duration Left(Clock::time_point since, Milliseconds limit,
                              Clock::time_point now) {
    constexpr Milliseconds kLongest = std::chrono::hours(24 * 365);
    return since + std::clamp(limit, Milliseconds(0), kLongest) - now;
  }

  // How a transfer went that libcurl has ended.
  std::optional<TransportError> Ended() {
    int more = 0;
    const CURLMsg* message = curl_multi_info_read(connection_.multi(), &more);
    const CURLcode code = message ? message->data.result : CURLE_FAILED_INIT;
    if (code == CURLE_OK && delivery_.begun()) return std::nullopt;
    if (sent_) return Error(Kind::kLost, WhyLost(code));
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
    transfer.sent_ = transfer.active_ = true;
    return CURL_PREREQFUNC_OK;
  }

  static std::size_t OnHeaderLine(char* data, std::size_t, std::size_t size,
                                  void* self) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    transfer.active_ = true;
    const bool fine = transfer.delivery_.Guard([&] {
      transfer.HeaderLine(std::string_view(data, size));
      return true;
    });
    return fine ? size : 0;
  }

  static std::size_t OnBody(char* data, std::size_t, std::size_t size,
                            void* self) {
    auto& transfer = *static_cast<CurlTransfer*>(self);
    transfer.active_ = true;
    const bool more = transfer.delivery_.Guard(
        [&] { return transfer.delivery_.Body(std::string_view(data, size)); });
    return more ? size : 0;
  }

  void HeaderLine(std::string_view line) {
    if (delivery_.begun()) return;  // a trailer field
    line = Trimmed(line);
    if (line.empty()) {
      const int status =
          static_cast<int>(connection_.Get(CURLINFO_RESPONSE_CODE));
      Headers headers = std::exchange(headers_, {});
      if (status >= 200) delivery_.Head(status, std::move(headers));
      return;
    }
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return;  // the status line
    headers_.Add(std::string(line.substr(0, colon)),
                 std::string(Trimmed(line.substr(colon + 1))));
  }

  // RFC 9110, 5.5: white space around a value is not part of it.
  static std::string_view Trimmed(std::string_view text) {
    constexpr std::string_view kBlank = " \t\r\n";
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
  }

  struct ListDelete {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };

  CurlConnection& connection_;
  const HttpRequest& request_;
  const Url& url_;
  Delivery delivery_;
  std::unique_ptr<curl_slist, ListDelete> fields_;
  Headers headers_;
  bool sent_ = false;    // a byte of the request may have left
  bool active_ = false;  // a callback ran since the clock was read
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
    // undone: nobody can know who else still uses the library.
    static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
    static_cast<void>(kReady);  // curl_easy_init tries again and tells
  }

  // Sends the request and hands the answer to `sink`. None when the answer is
  // whole or the sink wanted no more; then a connection whose answer was not
  // whole is closed. `stop` ends it within milliseconds, at any stage.
  //
  // A kept connection that dies before the first byte of an answer is replaced
  // once by libcurl, which sends the request again.
  //
  // Throws what the sink throws, and std::bad_alloc.
  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink,
                                     std::stop_token stop = {}) {
    const auto url = internal::ParseUrl(request.url);
    if (auto refusal = internal::Refusal(request, url)) return refusal;
    auto connection = state_->idle.Take(url->origin);
    if (!connection) {
      connection = std::make_unique<internal::CurlConnection>(url->origin,
                                                              state_->options);
    }
    auto error =
        internal::CurlTransfer(*connection, request, *url, sink).Run(stop);
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

  std::unique_ptr<State> state_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_CURL_H_
