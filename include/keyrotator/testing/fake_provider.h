// File: testing/fake_provider.h
//
// A provider to test against: a real HTTP server on 127.0.0.1 that has keys,
// limits and bad days, and counts what arrived. It runs in this process, on a
// port of its own, from construction to destruction. POSIX only.
//
// Example:
//   using namespace keyrotator::testing;
//   FakeProvider provider(
//       {.keys = {{"sk-a", {.limit = {.requests = 3}}},
//                 {"sk-b", {.state = FakeKeyState::kRevoked}}}});
//   provider.Inject({.kind = Fault::Kind::kStatus, .status = 502, .times = 2});
//   RunMyClient(provider.base_url());   // "http://127.0.0.1:40123/v1"
//   CHECK(provider.Counts("sk-a").rate_limited == 0);
//
// It answers what ends in /chat/completions, /responses, /messages (each plain
// or, with "stream": true, as server-sent events) and /models. A key is taken
// from `Authorization: Bearer`, `api-key` or `x-api-key`.

#ifndef KEYROTATOR_TESTING_FAKE_PROVIDER_H_
#define KEYROTATOR_TESTING_FAKE_PROVIDER_H_

#include <fcntl.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"

namespace keyrotator::testing {

// ---- What it is asked to be ----

// Whose error bodies and rate limit headers it sends.
enum class ProviderStyle {
  kOpenAI,     // x-ratelimit-* ("6m0s"), retry-after, retry-after-ms
  kAzure,      // x-ratelimit-* (whole seconds), retry-after, retry-after-ms
  kAnthropic,  // anthropic-ratelimit-* (RFC 3339), retry-after
  kGemini,     // no headers; RetryInfo in the body, which is an array
  kSilent,     // as OpenAI, but neither header nor body says when to come back
};

enum class FakeKeyState { kValid, kRevoked, kOutOfQuota };

// Two token buckets, one of requests and one of tokens. Each holds at most that
// many, begins full, and refills evenly in `per`. Zero: no such bucket.
struct FakeLimit {
  double requests = 0;
  double tokens = 0;
  std::chrono::nanoseconds per = std::chrono::minutes(1);
};

struct FakeKey {
  FakeKeyState state = FakeKeyState::kValid;
  std::set<std::string> models = {};  // the only ones it may use; empty: all
  std::string organization = {};      // whose limits it shares; empty: none
  FakeLimit limit = {};               // of this key, over all models
};

struct FakeProviderOptions {
  std::map<std::string, FakeKey> keys = {};  // by value
  ProviderStyle style = ProviderStyle::kOpenAI;
  // Limits of an organization, over all its keys and models.
  std::map<std::string, FakeLimit> organizations = {};
  // Limits of a model, held apart for each organization, or for each key that
  // is in none. A request must fit into all the limits that concern it.
  std::map<std::string, FakeLimit> models = {};
  // What the model says; a stream brings it word by word.
  std::string answer = "Hello from the fake provider.";
  // Real time: before an answer starts, and before each further event of a
  // stream.
  std::chrono::milliseconds latency{0};
  std::chrono::milliseconds event_interval{0};
  // The time by which the limits refill; none: std::chrono::steady_clock.
  // Called by the server's threads, one at a time.
  std::function<std::chrono::nanoseconds()> clock = {};
};

// Something that goes wrong. It meets requests in the order of their arrival,
// whatever their key: such a request is neither checked nor counted against a
// limit.
struct Fault {
  enum class Kind {
    kStatus,       // `status`, with the body a provider or its proxy sends
    kReset,        // the connection is reset, without an answer
    kResetInBody,  // it is reset in the middle of the answer
    kTruncated,    // it is closed in the middle of the answer
    kErrorIn200,   // an error in a 200; a stream sends some events before it
    kNotJson,      // a 200 whose body is no JSON and no event
    kNotHttp,      // bytes that are no HTTP
    kSlow,         // the answer byte by byte, `pause` before each
  };
  Kind kind = Kind::kStatus;
  int status = 500;
  std::string key = {};                // of which key; empty: any
  int times = 1;                       // how many requests it meets
  std::chrono::milliseconds pause{0};  // before the answer, too
  Headers headers = {};                // added to the answer
};

// ---- What it has seen ----

// What arrived. Each request is counted in `requests` and in one of the others.
struct FakeCounts {
  std::uint64_t requests = 0;
  std::uint64_t served = 0;
  std::uint64_t rate_limited = 0;
  std::uint64_t refused = 0;  // key, quota, model, or a request not understood
  std::uint64_t faults = 0;

  friend bool operator==(const FakeCounts&, const FakeCounts&) = default;
};

struct FakeRequest {
  std::string path;
  std::string key;  // as it came
  std::string model;
  bool stream = false;
  int status = 0;                  // as answered; 0: without one
  std::chrono::nanoseconds at{0};  // by the provider's clock
};

// A namespace of its own: within keyrotator::testing, `internal` goes on to
// mean keyrotator::internal.
namespace fake_provider_internal {

using Json = nlohmann::json;

// ---- Limits ----

// One dimension of a limit.
class FakeBucket {
 public:
  FakeBucket(double limit, std::chrono::nanoseconds per,
             std::chrono::nanoseconds now)
      : limit_(limit), per_(per), level_(limit), at_(now) {}

  void Refill(std::chrono::nanoseconds now) {
    if (now <= at_) return;
    level_ = std::min(limit_, level_ + limit_ * ((now - at_) / Seconds(per_)));
    at_ = now;
  }
  void Take(double cost) { level_ -= cost; }

  // Seconds until `cost` fits: 0 if it does, infinity if it never will.
  double WaitFor(double cost) const {
    if (cost > limit_) return INFINITY;
    // Sums of many refills are off by some bits.
    if (level_ + 1e-9 >= cost) return 0;
    return (cost - level_) / limit_ * Seconds(per_).count();
  }
  double limit() const { return limit_; }
  double level() const { return std::max(level_, 0.0); }
  double SecondsToFull() const {
    return (limit_ - level_) / limit_ * Seconds(per_).count();
  }

 private:
  using Seconds = std::chrono::duration<double>;

  double limit_;
  std::chrono::nanoseconds per_;
  double level_;
  std::chrono::nanoseconds at_;
};

// As Go prints a duration, to the millisecond: "12ms", "7.66s", "6m0s".
inline std::string GoDuration(double seconds) {
  auto ms = static_cast<std::int64_t>(std::ceil(seconds * 1e3 - 1e-6));
  if (ms < 1000) return std::to_string(ms) + "ms";
  std::string text;
  if (ms >= 3'600'000) text += std::to_string(ms / 3'600'000) + "h";
  if (ms >= 60'000) text += std::to_string(ms / 60'000 % 60) + "m";
  char rest[16];
  std::snprintf(rest, sizeof(rest), "%g",
                static_cast<double>(ms % 60'000) / 1e3);
  return text + rest + "s";
}

// The moment that many seconds from now, by the wall clock.
inline std::string Rfc3339In(double seconds) {
  const auto now =
      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  const std::time_t then = now + static_cast<std::time_t>(std::ceil(seconds));
  std::tm utc{};
  gmtime_r(&then, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

inline std::string Whole(double number) {
  return std::to_string(static_cast<std::int64_t>(number));
}

// ---- Bodies ----

inline std::string ServerSentEvent(const Json& data,
                                   std::string_view name = {}) {
  std::string event;
  if (!name.empty()) event += "event: " + std::string(name) + "\n";
  return event + "data: " + data.dump() + "\n\n";
}

inline std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    words.back() += c;
    if (c == ' ') words.emplace_back();
  }
  return words;
}

// What a model was asked for, as far as it matters here.
struct FakeQuestion {
  enum class Api { kChat, kResponses, kMessages, kModels, kUnknown };
  Api api = Api::kUnknown;
  std::string model;
  bool stream = false;
  bool include_usage = false;
  double tokens = 0;  // what it costs, see kDefaultTokens
  bool valid = true;
};

// A request costs what it allows the answer to have: its max_tokens,
// max_completion_tokens or max_output_tokens; without them, this. The prompt
// costs nothing, so that a test can count.
inline constexpr double kDefaultTokens = 16;

inline FakeQuestion ReadQuestion(const std::string& path, bool has_body,
                                 const std::string& body) {
  using Api = FakeQuestion::Api;
  FakeQuestion question;
  const std::string_view view = path;
  if (view.ends_with("/chat/completions")) question.api = Api::kChat;
  if (view.ends_with("/responses")) question.api = Api::kResponses;
  if (view.ends_with("/messages")) question.api = Api::kMessages;
  if (view.ends_with("/models")) question.api = Api::kModels;
  if (has_body == (question.api == Api::kModels)) question.api = Api::kUnknown;
  if (!has_body) return question;

  const Json json = Json::parse(body, nullptr, false);
  question.valid =
      json.is_object() && json.contains("model") && json["model"].is_string();
  if (!question.valid) return question;
  question.model = json["model"];
  question.stream = json.value("stream", Json()) == true;
  const Json options = json.value("stream_options", Json());
  question.include_usage =
      options.is_object() && options.value("include_usage", Json()) == true;
  question.tokens = kDefaultTokens;
  for (const char* name :
       {"max_tokens", "max_completion_tokens", "max_output_tokens"}) {
    const Json tokens = json.value(name, Json());
    if (tokens.is_number())
      question.tokens = std::max(0.0, tokens.get<double>());
  }
  return question;
}

// The answer to a question: one body, or the events of a stream.
inline std::vector<std::string> AnswerPieces(const FakeQuestion& question,
                                             const std::string& text,
                                             const Json& models) {
  using Api = FakeQuestion::Api;
  const std::vector<std::string> words = Words(text);
  const Json usage = {{"prompt_tokens", 1},
                      {"completion_tokens", words.size()},
                      {"total_tokens", words.size() + 1}};
  const Json native_usage = {{"input_tokens", 1},
                             {"output_tokens", words.size()}};
  std::vector<std::string> pieces;
  switch (question.api) {
    case Api::kChat: {
      Json body = {{"id", "chatcmpl-fake"},
                   {"object", "chat.completion"},
                   {"created", 0},
                   {"model", question.model}};
      if (!question.stream) {
        body["choices"] = {
            {{"index", 0},
             {"message", {{"role", "assistant"}, {"content", text}}},
             {"finish_reason", "stop"}}};
        body["usage"] = usage;
        return {body.dump()};
      }
      body["object"] = "chat.completion.chunk";
      const auto add = [&](const Json& delta, const Json& finish_reason) {
        body["choices"] = {
            {{"index", 0}, {"delta", delta}, {"finish_reason", finish_reason}}};
        pieces.push_back(ServerSentEvent(body));
      };
      add({{"role", "assistant"}, {"content", ""}}, nullptr);
      for (const std::string& word : words) add({{"content", word}}, nullptr);
      add(Json::object(), "stop");
      if (question.include_usage) {
        body["choices"] = Json::array();
        body["usage"] = usage;
        pieces.push_back(ServerSentEvent(body));
      }
      pieces.emplace_back("data: [DONE]\n\n");
      return pieces;
    }
    case Api::kResponses: {
      Json body = {{"id", "resp_fake"},       {"object", "response"},
                   {"status", "in_progress"}, {"error", nullptr},
                   {"model", question.model}, {"output", Json::array()}};
      const auto add = [&](const std::string& type, Json event) {
        event["type"] = type;
        pieces.push_back(ServerSentEvent(event, type));
      };
      add("response.created", {{"response", body}});
      for (const std::string& word : words) {
        add("response.output_text.delta", {{"delta", word}});
      }
      body["status"] = "completed";
      body["usage"] = native_usage;
      body["output"] = {
          {{"type", "message"},
           {"role", "assistant"},
           {"content", {{{"type", "output_text"}, {"text", text}}}}}};
      if (!question.stream) return {body.dump()};
      add("response.completed", {{"response", body}});
      return pieces;
    }
    case Api::kMessages: {
      Json body = {{"id", "msg_fake"},        {"type", "message"},
                   {"role", "assistant"},     {"content", Json::array()},
                   {"model", question.model}, {"stop_reason", nullptr},
                   {"usage", native_usage}};
      const auto add = [&](const std::string& type, Json event) {
        event["type"] = type;
        pieces.push_back(ServerSentEvent(event, type));
      };
      add("message_start", {{"message", body}});
      for (const std::string& word : words) {
        add("content_block_delta",
            {{"index", 0},
             {"delta", {{"type", "text_delta"}, {"text", word}}}});
      }
      body["content"] = {{{"type", "text"}, {"text", text}}};
      body["stop_reason"] = "end_turn";
      if (!question.stream) return {body.dump()};
      add("message_delta", {{"delta", {{"stop_reason", "end_turn"}}}});
      add("message_stop", Json::object());
      return pieces;
    }
    case Api::kModels:
      return {Json({{"object", "list"}, {"data", models}}).dump()};
    case Api::kUnknown:
      break;
  }
  return {};
}

// An error, before it is put into a provider's form.
struct FakeError {
  int status = 500;
  std::string code = {};  // OpenAI's
  std::string type = {};
  std::string message = {};
  double retry_after = 0;  // seconds; 0: no hint
};

inline std::string ErrorBody(ProviderStyle style, const FakeError& error) {
  const int status = error.status;
  const Json code = error.code.empty() ? Json() : Json(error.code);
  if (style == ProviderStyle::kAzure) {
    const bool named = error.code == "insufficient_quota";
    return Json({{"error",
                  {{"code", named ? code : Json(std::to_string(status))},
                   {"message", error.message}}}})
        .dump();
  }
  if (style == ProviderStyle::kAnthropic) {
    const char* const type = status == 401   ? "authentication_error"
                             : status == 403 ? "permission_error"
                             : status == 404 ? "not_found_error"
                             : status == 429 ? "rate_limit_error"
                             : status == 529 ? "overloaded_error"
                             : status >= 500 ? "api_error"
                                             : "invalid_request_error";
    return Json({{"type", "error"},
                 {"error", {{"type", type}, {"message", error.message}}},
                 {"request_id", "req_fake"}})
        .dump();
  }
  if (style == ProviderStyle::kGemini) {
    const char* const word = status == 403   ? "PERMISSION_DENIED"
                             : status == 404 ? "NOT_FOUND"
                             : status == 429 ? "RESOURCE_EXHAUSTED"
                             : status == 503 ? "UNAVAILABLE"
                             : status >= 500 ? "INTERNAL"
                                             : "INVALID_ARGUMENT";
    Json details = Json::array();
    if (error.code == "invalid_api_key") {
      details.push_back({{"@type", "type.googleapis.com/google.rpc.ErrorInfo"},
                         {"reason", "API_KEY_INVALID"}});
    }
    if (error.retry_after > 0) {
      char delay[32];
      std::snprintf(delay, sizeof(delay), "%.3fs", error.retry_after);
      details.push_back({{"@type", "type.googleapis.com/google.rpc.RetryInfo"},
                         {"retryDelay", delay}});
    }
    return Json::array({{{"error",
                          {{"code", status},
                           {"message", error.message},
                           {"status", word},
                           {"details", details}}}}})
        .dump();
  }
  return Json({{"error",
                {{"message", error.message},
                 {"type", error.type},
                 {"param", nullptr},
                 {"code", code}}}})
      .dump();
}

// ---- Sockets ----

// cpp-httplib shows a handler no socket, and on closing is polite to the peer.
// But a connection is known by its two ports, and the process's open files can
// be listed; that is enough to be impolite.

inline std::vector<int> OpenFiles() {
  std::vector<int> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/dev/fd", error), end;
       !error && it != end; it.increment(error)) {
    files.push_back(std::atoi(it->path().filename().c_str()));
  }
  return files;
}

// Whether the file is a connection that was made to `port`; `peer` is the port
// of the other end, 0 for any.
inline bool IsConnection(int file, int port, int peer) {
  const auto port_of = [file](auto get_name) {
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    const bool found =
        get_name(file, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        address.sin_family == AF_INET;
    return found ? int{ntohs(address.sin_port)} : -1;
  };
  if (port_of(::getsockname) != port) return false;
  const int other = port_of(::getpeername);
  return other > 0 && (peer == 0 || other == peer);
}

// Sends `last_words` and resets the connection, or closes it. To be called by
// the thread that serves it.
inline void EndConnection(int port, int peer, std::string_view last_words,
                          bool reset) {
  for (const int file : OpenFiles()) {
    if (!IsConnection(file, port, peer)) continue;
    if (!last_words.empty()) {
      (void)!::send(file, last_words.data(), last_words.size(), MSG_NOSIGNAL);
    }
    if (reset) {
      const linger at_once{1, 0};
      ::setsockopt(file, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    // The server goes on to use the number and to close it: leave it a file on
    // which all it does with sockets fails.
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(null, file);
    ::close(null);
    return;
  }
}

// Wakes everyone who reads from or writes to a connection to `port`.
inline void ShutDownConnections(int port) {
  for (const int file : OpenFiles()) {
    if (!IsConnection(file, port, 0)) continue;
    // Its owner may close it meanwhile and the number be someone else's: look
    // again at a copy, which stays what it is.
    const int copy = ::fcntl(file, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) continue;
    if (IsConnection(copy, port, 0)) ::shutdown(copy, SHUT_RDWR);
    ::close(copy);
  }
}

// A thread for each connection, so that any number of streams may be open.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  ConnectionThreads(std::function<int()> port,
                    std::atomic<std::uint64_t>& accepted)
      : port_(std::move(port)), accepted_(accepted) {}

  // void in old versions of cpp-httplib, bool in new ones.
  using EnqueueResult =
      decltype(std::declval<httplib::TaskQueue&>().enqueue(nullptr));

  EnqueueResult enqueue(std::function<void()> serve) override {
    ++accepted_;
    connections_.remove_if([](Connection& connection) {
      if (!connection.ended) return false;
      connection.thread.join();
      return true;
    });
    Connection& connection = connections_.emplace_back();
    connection.thread = std::thread([&connection, serve = std::move(serve)] {
      serve();
      connection.ended = true;
    });
    return static_cast<EnqueueResult>(true);
  }

  // Called when no more connections are accepted.
  void shutdown() override {
    ShutDownConnections(port_());
    for (Connection& connection : connections_) connection.thread.join();
    connections_.clear();
  }

 private:
  struct Connection {
    std::thread thread;
    std::atomic<bool> ended = false;
  };

  std::function<int()> port_;
  std::atomic<std::uint64_t>& accepted_;
  std::list<Connection> connections_;  // of the accepting thread alone
};

}  // namespace fake_provider_internal

// ---- The provider ----

// Thread-safe. Its destruction ends open streams and does not wait for clients.
class FakeProvider {
 public:
  // The log holds the last requests; it forgets older ones.
  static constexpr std::size_t kMaxLog = 4096;

  // Throws std::runtime_error if no port can be listened on.
  explicit FakeProvider(FakeProviderOptions options)
      : options_(std::move(options)) {
    server_.new_task_queue = [this] {
      return new fake_provider_internal::ConnectionThreads(
          [this] { return port_; }, connections_);
    };
    server_.set_tcp_nodelay(true);
    server_.set_keep_alive_max_count(std::size_t{1} << 30);
    server_.set_keep_alive_timeout(60);
    const auto handle = [this](const httplib::Request& request,
                               httplib::Response& response) {
      Handle(request, response);
    };
    server_.Get(".*", handle);
    server_.Post(".*", handle);
    // Some versions close the connection after an error, providers do not.
    server_.set_post_routing_handler(
        [](const httplib::Request& request, httplib::Response& response) {
          if (request.get_header_value("Connection") != "close") {
            response.headers.erase("Connection");
          }
        });
    int listening = -1;
    server_.set_socket_options([&](int file) { listening = file; });
    port_ = server_.bind_to_any_port("127.0.0.1");
    // cpp-httplib lets few connections queue (5 in old versions). One too many
    // is tried again by its client's kernel, a second later.
    if (port_ <= 0 || ::listen(listening, SOMAXCONN) != 0) {
      throw std::runtime_error("FakeProvider: cannot listen on 127.0.0.1");
    }
    listener_ = std::thread([this] { server_.listen_after_bind(); });
    // The port is open already; but a server that does not run yet cannot be
    // stopped.
    while (!server_.is_running()) std::this_thread::yield();
  }

  FakeProvider(const FakeProvider&) = delete;
  FakeProvider& operator=(const FakeProvider&) = delete;

  ~FakeProvider() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    stop_.notify_all();
    server_.stop();
    listener_.join();
  }

  int port() const { return port_; }
  std::string base_url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/v1";
  }

  // From now on the key is in that state; it joins if it is not known.
  void SetState(const std::string& key, FakeKeyState state) {
    const std::lock_guard lock(mutex_);
    options_.keys[key].state = state;
  }

  // The next requests that it is meant for meet the fault. Faults are used in
  // the order in which they were given.
  void Inject(Fault fault) {
    const std::lock_guard lock(mutex_);
    if (fault.times > 0) faults_.push_back(std::move(fault));
  }
  void ClearFaults() {
    const std::lock_guard lock(mutex_);
    faults_.clear();
  }

  // What arrived with that key, known or not; zeros if nothing did.
  FakeCounts Counts(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto it = counts_.find(key);
    return it == counts_.end() ? FakeCounts{} : it->second;
  }
  // What arrived in all.
  FakeCounts Counts() const {
    const std::lock_guard lock(mutex_);
    return total_;
  }
  // How many connections were made.
  std::uint64_t connections() const { return connections_; }

  // The last requests, at most kMaxLog, the oldest first.
  std::vector<FakeRequest> Log() const {
    const std::lock_guard lock(mutex_);
    return {log_.begin(), log_.end()};
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Json = fake_provider_internal::Json;
  using Question = fake_provider_internal::FakeQuestion;

  // What goes back, and how it ends.
  struct Answer {
    enum class End { kWhole, kReset, kClosed };
    int status = 200;
    Headers headers;
    std::string type = "application/json";
    std::vector<std::string> pieces;  // one write each
    bool stream = false;
    std::chrono::milliseconds delay{0};  // before the first
    std::chrono::milliseconds pause{0};  // before each other
    End end = End::kWhole;
    std::string last_words;  // for a connection that is closed without more
  };

  void Handle(const httplib::Request& request, httplib::Response& response) {
    auto answer = std::make_shared<Answer>(Decide(request));
    Wait(answer->delay);
    const int peer = request.remote_port;
    if (answer->pieces.empty()) {
      fake_provider_internal::EndConnection(port_, peer, answer->last_words,
                                            answer->end == Answer::End::kReset);
      return;
    }
    response.status = answer->status;
    for (const auto& [name, value] : answer->headers) {
      response.set_header(name, value);
    }
    Send(answer, peer, response);
  }

  void Send(const std::shared_ptr<Answer>& answer, int peer,
            httplib::Response& response) {
    const bool whole = answer->end == Answer::End::kWhole;
    std::size_t size = 0;
    for (const std::string& piece : answer->pieces) size += piece.size();
    if (!whole) Cut(answer->pieces, size / 2);
    // Writes the next piece; false closes the connection.
    const auto write =
        [this, answer, peer,
         next = std::make_shared<std::size_t>(0)](httplib::DataSink& sink) {
          if (*next > 0 && !Wait(answer->pause)) return false;
          const std::string& piece = answer->pieces[(*next)++];
          if (!sink.write(piece.data(), piece.size())) return false;
          if (*next < answer->pieces.size()) return true;

          if (answer->end == Answer::End::kReset) {
            fake_provider_internal::EndConnection(port_, peer, {}, true);
          }
          if (answer->end != Answer::End::kWhole) return false;
          if (answer->stream) sink.done();
          return true;
        };
    if (answer->stream) {
      response.set_chunked_content_provider(
          answer->type, [write](std::size_t, httplib::DataSink& sink) {
            return write(sink);
          });
    } else if (whole && answer->pieces.size() == 1) {
      response.set_content(answer->pieces.front(), answer->type);
    } else {
      response.set_content_provider(
          size, answer->type,
          [write](std::size_t, std::size_t, httplib::DataSink& sink) {
            return write(sink);
          });
    }
  }

  // Keeps the first `size` bytes, at least one.
  static void Cut(std::vector<std::string>& pieces, std::size_t size) {
    size = std::max<std::size_t>(size, 1);
    std::vector<std::string> kept;
    for (std::string& piece : pieces) {
      if (size == 0) break;
      piece.resize(std::min(piece.size(), size));
      size -= piece.size();
      kept.push_back(std::move(piece));
    }
    pieces = std::move(kept);
  }

  // False: the provider is being destroyed.
  bool Wait(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !stop_.wait_for(lock, time, [this] { return stopping_; });
  }

  // Below, all but Decide and KeyOf is called with mutex_ held.

  Answer Decide(const httplib::Request& request) {
    const std::string key = KeyOf(request);
    const Question question = fake_provider_internal::ReadQuestion(
        request.path, request.method == "POST", request.body);

    const std::lock_guard lock(mutex_);
    const auto now =
        options_.clock
            ? options_.clock()
            : std::chrono::nanoseconds(Clock::now().time_since_epoch());
    FakeCounts count{.requests = 1};
    Answer answer;
    if (const auto fault = TakeFault(key)) {
      count.faults = 1;
      answer = Spoil(question, *fault);
    } else {
      answer = Judge(question, key, now, count);
    }
    if (answer.delay.count() == 0) answer.delay = options_.latency;

    for (FakeCounts* counts : {&counts_[key], &total_}) {
      counts->requests += count.requests;
      counts->served += count.served;
      counts->rate_limited += count.rate_limited;
      counts->refused += count.refused;
      counts->faults += count.faults;
    }
    const int status = answer.pieces.empty() ? 0 : answer.status;
    log_.push_back(
        {request.path, key, question.model, question.stream, status, now});
    if (log_.size() > kMaxLog) log_.pop_front();
    return answer;
  }

  static std::string KeyOf(const httplib::Request& request) {
    const std::string bearer = request.get_header_value("Authorization");
    if (bearer.rfind("Bearer ", 0) == 0) return bearer.substr(7);
    const std::string azure = request.get_header_value("api-key");
    return azure.empty() ? request.get_header_value("x-api-key") : azure;
  }

  std::optional<Fault> TakeFault(const std::string& key) {
    const auto it =
        std::find_if(faults_.begin(), faults_.end(), [&](const Fault& fault) {
          return fault.key.empty() || fault.key == key;
        });
    if (it == faults_.end()) return std::nullopt;
    const Fault fault = *it;
    if (--it->times == 0) faults_.erase(it);
    return fault;
  }

  Answer Serve(const Question& question) const {
    Json models = Json::array();
    for (const auto& [name, limit] : options_.models) {
      models.push_back({{"id", name}, {"object", "model"}});
    }
    Answer answer;
    answer.pieces =
        fake_provider_internal::AnswerPieces(question, options_.answer, models);
    answer.stream = question.stream;
    answer.pause = options_.event_interval;
    if (answer.stream) answer.type = "text/event-stream";
    return answer;
  }

  Answer Refuse(fake_provider_internal::FakeError error) const {
    if (options_.style == ProviderStyle::kSilent) error.retry_after = 0;
    Answer answer;
    answer.status = error.status;
    answer.pieces = {fake_provider_internal::ErrorBody(options_.style, error)};
    return answer;
  }

  // The answer without any fault.
  Answer Judge(const Question& question, const std::string& key,
               std::chrono::nanoseconds now, FakeCounts& count) {
    const ProviderStyle style = options_.style;
    count.refused = 1;  // unless it comes to be served or rate limited
    const auto it = options_.keys.find(key);
    if (it == options_.keys.end() ||
        it->second.state == FakeKeyState::kRevoked) {
      return Refuse({.status = style == ProviderStyle::kGemini ? 400 : 401,
                     .code = "invalid_api_key",
                     .type = "invalid_request_error",
                     .message = "Incorrect API key provided."});
    }
    const FakeKey& owner = it->second;
    if (owner.state == FakeKeyState::kOutOfQuota) {
      if (style == ProviderStyle::kAnthropic) {
        return Refuse(
            {.status = 400, .message = "Your credit balance is too low."});
      }
      return Refuse({.status = 429,
                     .code = "insufficient_quota",
                     .type = "insufficient_quota",
                     .message = style == ProviderStyle::kGemini
                                    ? "Quota exceeded, limit: 0"
                                    : "You exceeded your current quota."});
    }
    if (question.api == Question::Api::kUnknown) {
      return Refuse({.status = 404,
                     .type = "invalid_request_error",
                     .message = "Unknown request URL."});
    }
    if (!question.valid) {
      return Refuse({.status = 400,
                     .type = "invalid_request_error",
                     .message = "The body is no JSON object with a model."});
    }
    if (question.api == Question::Api::kModels) {
      count.refused = 0;
      count.served = 1;
      return Serve(question);
    }
    if (!owner.models.empty() && owner.models.count(question.model) == 0) {
      return Refuse({.status = 403,
                     .code = "model_not_found",
                     .type = "invalid_request_error",
                     .message = "This key has no access to the model."});
    }
    return Admit(question, key, owner, now, count);
  }

  // Serves what fits into all its limits.
  Answer Admit(const Question& question, const std::string& key,
               const FakeKey& owner, std::chrono::nanoseconds now,
               FakeCounts& count) {
    std::vector<fake_provider_internal::FakeBucket*> requests;
    std::vector<fake_provider_internal::FakeBucket*> tokens;
    const auto concern = [&](const std::string& whose, const FakeLimit& limit) {
      const auto add = [&](const char* what, double size, auto& buckets) {
        if (size <= 0) return;
        auto& bucket = buckets_.try_emplace(whose + what, size, limit.per, now)
                           .first->second;
        bucket.Refill(now);
        buckets.push_back(&bucket);
      };
      add(" requests", limit.requests, requests);
      add(" tokens", limit.tokens, tokens);
    };
    const std::string payer = owner.organization.empty()
                                  ? "key " + key
                                  : "organization " + owner.organization;
    concern("key " + key, owner.limit);
    if (const auto it = options_.organizations.find(owner.organization);
        it != options_.organizations.end()) {
      concern(payer, it->second);
    }
    if (const auto it = options_.models.find(question.model);
        it != options_.models.end()) {
      concern(payer + " model " + question.model, it->second);
    }

    const auto longest_wait = [](const auto& buckets, double cost) {
      double wait = 0;
      for (const auto* bucket : buckets) {
        wait = std::max(wait, bucket->WaitFor(cost));
      }
      return wait;
    };
    const double request_wait = longest_wait(requests, 1);
    const double token_wait = longest_wait(tokens, question.tokens);
    const double wait = std::max(request_wait, token_wait);

    count.refused = 0;
    Answer answer;
    if (wait == 0) {
      count.served = 1;
      for (auto* bucket : requests) bucket->Take(1);
      for (auto* bucket : tokens) bucket->Take(question.tokens);
      answer = Serve(question);
    } else {
      count.rate_limited = 1;
      answer = RateLimited(wait, token_wait > request_wait);
    }
    AddLimitHeaders(answer.headers, "requests", requests);
    AddLimitHeaders(answer.headers, "tokens", tokens);
    return answer;
  }

  Answer RateLimited(double wait, bool by_tokens) const {
    fake_provider_internal::FakeError error{
        .status = 429,
        .code = "rate_limit_exceeded",
        .type = by_tokens ? "tokens" : "requests",
        .message = "Rate limit reached."};
    if (!std::isfinite(wait)) {
      error.message = "Request too large for the limit.";
      return Refuse(error);
    }
    if (options_.style == ProviderStyle::kSilent) return Refuse(error);

    error.retry_after = wait;
    const auto seconds = fake_provider_internal::Whole(std::ceil(wait));
    if (options_.style == ProviderStyle::kAzure) {
      error.message += " Please retry after " + seconds + " seconds.";
    } else if (options_.style != ProviderStyle::kAnthropic) {
      error.message += " Please try again in " +
                       fake_provider_internal::GoDuration(wait) + ".";
    }
    Answer answer = Refuse(error);
    if (options_.style == ProviderStyle::kGemini) return answer;
    answer.headers.Add("retry-after", seconds);
    if (options_.style != ProviderStyle::kAnthropic) {
      answer.headers.Add("retry-after-ms", fake_provider_internal::Whole(
                                               std::ceil(wait * 1e3 - 1e-6)));
    }
    return answer;
  }

  // Says what is left in the bucket that has the least of its limit.
  void AddLimitHeaders(
      Headers& headers, const std::string& what,
      const std::vector<fake_provider_internal::FakeBucket*>& buckets) const {
    const auto tightest = std::min_element(
        buckets.begin(), buckets.end(), [](const auto* a, const auto* b) {
          return a->level() / a->limit() < b->level() / b->limit();
        });
    if (tightest == buckets.end()) return;
    const fake_provider_internal::FakeBucket& bucket = **tightest;
    const std::string limit = fake_provider_internal::Whole(bucket.limit());
    const std::string left =
        fake_provider_internal::Whole(bucket.level() + 1e-9);
    const double reset = bucket.SecondsToFull();
    switch (options_.style) {
      case ProviderStyle::kOpenAI:
      case ProviderStyle::kAzure:
        headers.Add("x-ratelimit-limit-" + what, limit);
        headers.Add("x-ratelimit-remaining-" + what, left);
        headers.Add("x-ratelimit-reset-" + what,
                    options_.style == ProviderStyle::kOpenAI
                        ? fake_provider_internal::GoDuration(reset)
                        : fake_provider_internal::Whole(std::ceil(reset)));
        break;
      case ProviderStyle::kAnthropic:
        headers.Add("anthropic-ratelimit-" + what + "-limit", limit);
        headers.Add("anthropic-ratelimit-" + what + "-remaining", left);
        headers.Add("anthropic-ratelimit-" + what + "-reset",
                    fake_provider_internal::Rfc3339In(reset));
        break;
      case ProviderStyle::kGemini:
      case ProviderStyle::kSilent:
        break;
    }
  }

  // The answer that a fault makes of one that would have been served.
  Answer Spoil(const Question& question, const Fault& fault) const {
    Answer answer = Serve(question);
    if (answer.pieces.empty()) answer.pieces = {"{}"};
    switch (fault.kind) {
      case Fault::Kind::kStatus:
        answer = FaultStatus(fault.status);
        break;
      case Fault::Kind::kReset:
        answer = {};
        answer.end = Answer::End::kReset;
        break;
      case Fault::Kind::kResetInBody:
        answer.end = Answer::End::kReset;
        break;
      case Fault::Kind::kTruncated:
        answer.end = Answer::End::kClosed;
        break;
      case Fault::Kind::kErrorIn200: {
        const std::string body = FaultStatus(500).pieces.front();
        if (question.stream) {
          answer.pieces.resize((answer.pieces.size() + 1) / 2);
          const bool named = options_.style == ProviderStyle::kAnthropic;
          answer.pieces.push_back((named ? "event: error\n" : "") +
                                  ("data: " + body) + "\n\n");
        } else {
          answer.pieces = {body};
        }
        break;
      }
      case Fault::Kind::kNotJson:
        answer.pieces = {"\x01\xFF garbage }{ \n\n not what was asked for"};
        break;
      case Fault::Kind::kNotHttp:
        answer = {};
        answer.last_words = "\x16\x03 this is not HTTP\r\n\r\n";
        break;
      case Fault::Kind::kSlow: {
        std::vector<std::string> bytes;
        for (const std::string& piece : answer.pieces) {
          for (const char byte : piece) bytes.emplace_back(1, byte);
        }
        answer.pieces = std::move(bytes);
        answer.pause = fault.pause;
        break;
      }
    }
    answer.delay = fault.pause;
    for (const auto& [name, value] : fault.headers) {
      answer.headers.Add(name, value);
    }
    return answer;
  }

  Answer FaultStatus(int status) const {
    const bool overloaded = status == 503 || status == 529;
    Answer answer = Refuse(
        {.status = status,
         .code = overloaded ? "overloaded" : "",
         .type = status >= 500 ? "server_error" : "invalid_request_error",
         .message = overloaded ? "The server is overloaded."
                               : "The server had an error."});
    if (status == 502 || status == 504) {  // a proxy speaks
      answer.type = "text/html";
      answer.pieces = {"<html><head><title>" + std::to_string(status) +
                       "</title></head><body>Bad gateway</body></html>\n"};
    }
    return answer;
  }

  mutable std::mutex mutex_;
  FakeProviderOptions options_;  // guarded by mutex_
  std::map<std::string, fake_provider_internal::FakeBucket>
      buckets_;                               // guarded by mutex_
  std::deque<Fault> faults_;                  // guarded by mutex_
  std::map<std::string, FakeCounts> counts_;  // guarded by mutex_
  FakeCounts total_;                          // guarded by mutex_
  std::deque<FakeRequest> log_;               // guarded by mutex_
  bool stopping_ = false;                     // guarded by mutex_
  std::condition_variable stop_;
  std::atomic<std::uint64_t> connections_ = 0;
  int port_ = 0;
  httplib::Server server_;
  std::thread listener_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTING_FAKE_PROVIDER_H_
