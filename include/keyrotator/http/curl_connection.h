// File: http/curl_connection.h
//
// How CurlTransport connects: its options, and one libcurl handle set up by
// them. What is sent over it is curl.h.
//
// Example:
//   keyrotator::CurlTransport transport({.proxy = "http://proxy:3128"});

#ifndef KEYROTATOR_HTTP_CURL_CONNECTION_H_
#define KEYROTATOR_HTTP_CURL_CONNECTION_H_

#include <curl/curl.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

namespace keyrotator {

struct CurlOptions {
  // The authorities to trust: a file of PEM certificates, a directory that
  // `openssl rehash` made, or both. With neither, the authorities of the
  // system.
  std::string ca_file = "";
  std::string ca_path = "";
  // As CURLOPT_PROXY: "http://proxy:3128"; empty text means no proxy. Without a
  // value https goes by what libcurl finds in https_proxy, all_proxy and
  // no_proxy, and http, whose keys a proxy could read, by none.
  std::optional<std::string> proxy = std::nullopt;
  // Sent unless the request has a User-Agent of its own.
  std::string user_agent = "keyrotator";
  // As CURLOPT_HTTP_VERSION: HTTP/2 where TLS can negotiate it.
  long http_version = CURL_HTTP_VERSION_2TLS;
  // The time since any beginning, for the idle and the total timeout; by
  // default std::chrono::steady_clock's. A test may have one that stands still
  // until it is moved: it is looked at whenever something arrives.
  std::function<std::chrono::nanoseconds()> clock = {};
  // How many connections to keep open between requests; the one unused for the
  // longest is closed first.
  std::size_t max_idle = 64;
};

namespace internal {

// A libcurl easy handle for one connection, with the multi handle that drives
// it: curl_easy_perform has one inside, too, but no way to wake it.
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
    if (options.proxy) {
      Set(CURLOPT_PROXY, options.proxy->c_str());
    } else if (!origin.starts_with("https:")) {
      Set(CURLOPT_PROXY, "");
    }
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

}  // namespace internal
}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_CURL_CONNECTION_H_
