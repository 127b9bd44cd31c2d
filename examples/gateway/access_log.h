// File: access_log.h
//
// AccessLog: one line of JSON for each request and for each thing that happens
// to a key. It holds names and numbers: no header, no query, no body; and what
// a caller wrote (path, model) has the pools' secrets and the tokens taken out.
//
// Example:
//   gateway::AccessLog log([](std::string_view line) { std::cout << line; });
//   log.Request({.method = "POST", .path = "/v1/chat/completions",
//                .status = 200});

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_ACCESS_LOG_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_ACCESS_LOG_H_

#include <fmt/format.h>
#include <keyrotator/key_status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/problem.h"

namespace gateway {

// What is said of a request.
struct LoggedRequest {
  std::string caller = {};  // its address
  std::string method = {};
  std::string path = {};
  std::string provider = {};
  std::string model = {};
  int status = 0;            // 0: the caller had gone before
  std::string outcome = {};  // as keyrotator::Outcome has it
  std::string key = {};      // the name of the last
  bool batch = false;
  bool over_budget = false;  // see RetryBudget
  std::size_t attempts = 0;
  bool stream = false;
  std::chrono::nanoseconds wait{0};
  std::chrono::nanoseconds first_byte{0};
  std::chrono::nanoseconds duration{0};
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
};

// "2024-05-01T12:00:00.123Z"
inline std::string Timestamp(std::chrono::system_clock::time_point now) {
  const auto since = now.time_since_epoch();
  const std::time_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(since).count();
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format(
      "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
      utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
      std::chrono::duration_cast<std::chrono::milliseconds>(since).count() %
          1000);
}

// Thread-safe if `write` is, which gets whole lines with their ends.
class AccessLog {
 public:
  using Write = std::function<void(std::string_view line)>;

  explicit AccessLog(Write write) : write_(std::move(write)) {}

  void Request(const LoggedRequest& request) const {
    if (!write_) return;
    constexpr std::size_t kMost = 512;  // of what a caller can make long
    std::string line = Begin("request");
    const auto text = [&](const char* name, std::string_view value) {
      if (!value.empty())
        line += fmt::format(",\"{}\":{}", name, Quoted(value.substr(0, kMost)));
    };
    text("caller", request.caller);
    text("method", request.method);
    text("path", request.path);
    line += fmt::format(",\"status\":{}", request.status);
    text("provider", request.provider);
    text("model", request.model);
    text("outcome", request.outcome);
    text("key", request.key);
    if (request.batch) text("priority", "batch");
    if (request.over_budget) line += ",\"over_budget\":true";
    line += fmt::format(
        ",\"attempts\":{},\"stream\":{},\"wait_ms\":{:.3f},"
        "\"first_byte_ms\":{:.3f},\"duration_ms\":{:.3f},\"bytes_in\":{},"
        "\"bytes_out\":{}}}\n",
        request.attempts, request.stream, Ms(request.wait),
        Ms(request.first_byte), Ms(request.duration), request.bytes_in,
        request.bytes_out);
    write_(line);
  }

  void Event(std::string_view provider,
             const keyrotator::KeyEvent& event) const {
    Note("key", provider, fmt::format("{}", event));
  }

  void Note(std::string_view event, std::string_view provider,
            std::string_view message) const {
    if (!write_) return;
    std::string line = Begin(event);
    if (!provider.empty())
      line += fmt::format(",\"provider\":{}", Quoted(provider));
    write_(line + fmt::format(",\"message\":{}}}\n", Quoted(message)));
  }

 private:
  static std::string Begin(std::string_view event) {
    return fmt::format("{{\"time\":\"{}\",\"event\":\"{}\"",
                       Timestamp(std::chrono::system_clock::now()), event);
  }
  static double Ms(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1e6;
  }

  const Write write_;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_ACCESS_LOG_H_
