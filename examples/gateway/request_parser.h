// File: request_parser.h
//
// RequestParser: one HTTP/1.1 request, read by Boost.Beast as its bytes come.
// Beast refuses what is no HTTP: bare line feeds, a blank before a colon, a
// Content-Length beside chunks, numbers that overflow; CheckHead does the rest.
//
// Example:
//   gateway::RequestParser parser(/*head_bytes=*/65536, /*body_bytes=*/1 << 20);
//   std::size_t used = parser.Feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
//   parser.head().target;  // "/"

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_REQUEST_PARSER_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_REQUEST_PARSER_H_

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/optional.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/problem.h"
#include "gateway/request_head.h"

namespace gateway {

class RequestParser final : private boost::beast::http::basic_parser<true> {
  using Base = boost::beast::http::basic_parser<true>;

 public:
  RequestParser(std::uint32_t head_bytes, std::uint64_t body_bytes) {
    header_limit(head_bytes);
    body_limit(body_bytes);
  }

  // Takes some of the bytes, up to the end of the head or of a piece of the
  // body, and says how many; 0: it needs more than these.
  std::size_t Feed(std::string_view bytes) {
    boost::beast::error_code error;
    body_ = {};
    const std::size_t used =
        put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    if (error && error != boost::beast::http::error::need_more && !problem_)
      problem_ = Explain(error);
    return used;
  }

  bool got_head() const { return is_header_done(); }
  bool got_all() const { return is_done(); }
  // What makes it no request, if anything does; then nothing more may be fed.
  const std::optional<Problem>& problem() const { return problem_; }

  // Once the head is there.
  RequestHead& head() { return head_; }
  // What the last Feed brought of the body; a part of its bytes.
  std::string_view body() const { return body_; }

 private:
  static Problem Explain(const boost::beast::error_code& error) {
    using Http = boost::beast::http::error;
    Problem problem{
        .status = 400,
        .code = "bad_request",
        .message = "This is no HTTP/1.1 request: " + error.message() + ".",
        .should_retry = false};
    if (error == Http::header_limit) {
      problem.status = 431;
      problem.code = "headers_too_large";
      problem.message = "The request's headers are too large.";
    } else if (error == Http::body_limit) {
      problem.status = 413;
      problem.code = "body_too_large";
      problem.message = "The request's body is too large.";
    }
    return problem;
  }

  static std::string Text(boost::beast::string_view text) {
    return {text.data(), text.size()};
  }

  void on_request_impl(boost::beast::http::verb,
                       boost::beast::string_view method,
                       boost::beast::string_view target, int version,
                       boost::beast::error_code&) override {
    head_.method = Text(method);
    head_.target = Text(target);
    head_.http_1_0 = version < 11;
  }
  void on_response_impl(int, boost::beast::string_view, int,
                        boost::beast::error_code&) override {}
  void on_field_impl(boost::beast::http::field, boost::beast::string_view name,
                     boost::beast::string_view value,
                     boost::beast::error_code&) override {
    head_.headers.Add(Text(name), Text(value));
  }
  void on_header_impl(boost::beast::error_code&) override {
    head_.keep_alive = keep_alive();
    head_.chunked = chunked();
    if (const auto length = content_length()) head_.length = *length;
  }
  void on_body_init_impl(const boost::optional<std::uint64_t>&,
                         boost::beast::error_code&) override {}
  std::size_t on_body_impl(boost::beast::string_view body,
                           boost::beast::error_code&) override {
    body_ = {body.data(), body.size()};
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, boost::beast::string_view,
                            boost::beast::error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, boost::beast::string_view body,
                                 boost::beast::error_code&) override {
    body_ = {body.data(), body.size()};
    return body.size();
  }
  void on_finish_impl(boost::beast::error_code&) override {}

  RequestHead head_;
  std::string_view body_;
  std::optional<Problem> problem_;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_REQUEST_PARSER_H_
