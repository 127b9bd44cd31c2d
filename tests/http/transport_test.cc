// What a transport promises, on libcurl against servers on loopback. Sockets take
// real time: limits are short, bounds on them generous.

#include "keyrotator/http/transport.h"

#include <httplib.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <set>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/http/message.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/body_source.h"
#include "tests/support/catch.h"
#include "tests/support/raw_server.h"
#include "tests/support/self_signed.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/witness.h"

namespace keyrotator::http_transport_test {
namespace {

using std::chrono::milliseconds;
using testing::ArrivedRequest;
using testing::DeafPort;
using testing::MakeAnswer;
using testing::RawConnection;
using testing::RawServer;
using testing::RefusingPort;
using testing::SelfSigned;
using testing::SourceOf;
using testing::Witness;
using Clock = std::chrono::steady_clock;
using Kind = TransportError::Kind;

static_assert(internal::IsTransport<CurlTransport>);

// In the header and the query of every request: no message may show it.
constexpr std::string_view kSecret = "sk-TOP-SECRET";

// Everything below must end well before this; a limit that does not work is
// seen by it, a busy machine is not.
constexpr auto kSoon = std::chrono::seconds(2);

CurlTransport Make(const std::string& ca_file = "") {
  return CurlTransport({.ca_file = ca_file, .proxy = ""});
}

HttpRequest Request(const std::string& origin, const std::string& path = "/",
                    std::string method = "GET") {
  HttpRequest request;
  request.method = std::move(method);
  request.url = origin + path + "?key=" + std::string(kSecret);
  request.headers = {{"Authorization", "Bearer " + std::string(kSecret)}};
  return request;
}

// What a call of Send came to.
struct Result : ResponseSink {
  void OnHead(int status_now, Headers headers_now) override {
    ++heads;
    status = status_now;
    headers = std::move(headers_now);
    if (on_head) on_head();
  }
  Flow OnBody(std::string_view bytes) override {
    ++pieces;
    body += bytes;
    return !on_body || on_body() ? Flow::kMore : Flow::kStop;
  }
  std::string Header(std::string_view name) const {
    return std::string(headers.Find(name).value_or("(none)"));
  }

  std::function<void()> on_head;
  std::function<bool()> on_body;
  int heads = 0;
  int pieces = 0;
  int status = 0;
  Headers headers;
  std::string body;
  std::optional<TransportError> error;
  Clock::duration took{};
};

// Sends and checks what holds for every outcome.
void Exchange(CurlTransport& transport, const HttpRequest& request,
              Result& result, std::stop_token stop = {}) {
  const auto start = Clock::now();
  result.error = transport.Send(request, result, std::move(stop));
  result.took = Clock::now() - start;
  CHECK(result.heads <= 1);
  if (result.error) {
    INFO(result.error->message);
    CHECK_FALSE(result.error->message.empty());
    CHECK(result.error->message.find(kSecret) == std::string::npos);
    CHECK(result.error->message.find("SECRET") == std::string::npos);
  } else {
    CHECK(result.heads == 1);
  }
}

Result Fetch(CurlTransport& transport, const HttpRequest& request,
             std::stop_token stop = {}) {
  Result result;
  Exchange(transport, request, result, std::move(stop));
  return result;
}

Result Fetch(const HttpRequest& request) {
  CurlTransport transport = Make();
  return Fetch(transport, request);
}

void CheckError(const Result& result, Kind kind, bool maybe_sent) {
  REQUIRE(result.error);
  INFO(result.error->message);
  CHECK(result.error->kind == kind);
  CHECK(result.error->maybe_sent == maybe_sent);
  CHECK(result.took < kSoon);
}

// Answers a request with raw bytes and closes.
RawServer::Script Answers(std::string bytes) {
  return [bytes = std::move(bytes)](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(bytes);
  };
}

// A server that behaves, and notes the ports that clients came from: as many as
// there were connections.
template <class Server>
class SaneServer {
 public:
  template <class... Args>
  explicit SaneServer(Args&&... args) : server_(std::forward<Args>(args)...) {
    server_.set_keep_alive_max_count(100'000);
    server_.set_tcp_nodelay(true);
    const auto echo = [this](const httplib::Request& request,
                             httplib::Response& response) {
      const std::lock_guard lock(mutex_);
      ports_.insert(request.remote_port);
      // In brackets: cpp-httplib drops a field without a value.
      const auto echoed = [&](const char* name) {
        return "[" + request.get_header_value(name) + "]";
      };
      response.set_header("X-Method", request.method);
      response.set_header("X-Seen", echoed("X-Asked"));
      response.set_header("X-Authorization", echoed("Authorization"));
      response.set_header("X-Type", echoed("Content-Type"));
      response.set_header("X-Expect", echoed("Expect"));
      response.set_content(request.body.empty() ? "hello" : request.body,
                           "application/octet-stream");
    };
    server_.Get("/echo", echo);
    server_.Post("/echo", echo);
    server_.Put("/echo", echo);
    server_.Delete("/echo", echo);
    server_.Get("/text", [](const auto&, httplib::Response& response) {
      response.set_content(std::string(10'000, 't'), "text/plain");
    });
    server_.Get("/empty", [](const auto&, httplib::Response& response) {
      response.set_content("", "text/plain");
    });
    server_.Get("/204", [](const auto&, httplib::Response& response) {
      response.status = 204;
    });
    server_.Get("/302", [](const auto&, httplib::Response& response) {
      response.set_redirect("/echo");
    });
    server_.Get("/chunks", [](const auto&, httplib::Response& response) {
      response.set_chunked_content_provider(
          "text/event-stream", [](std::size_t, httplib::DataSink& sink) {
            for (int i = 0; i < 3; ++i) sink.write("data: x\n\n", 9);
            sink.done();
            return true;
          });
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~SaneServer() {
    server_.stop();
    thread_.join();
  }

  std::string origin(const std::string& scheme = "http") const {
    return scheme + "://127.0.0.1:" + std::to_string(port_);
  }
  int port() const { return port_; }
  std::size_t connections() {
    const std::lock_guard lock(mutex_);
    return ports_.size();
  }

 private:
  Server server_;
  std::mutex mutex_;
  std::set<int> ports_;  // guarded by mutex_
  int port_ = 0;
  std::thread thread_;
};
using HttpServer = SaneServer<httplib::Server>;
using HttpsServer = SaneServer<httplib::SSLServer>;

TEST_CASE("a GET brings status, headers and body", "[transport]") {
  HttpServer server;
  HttpRequest request = Request(server.origin(), "/echo");
  request.headers.Add("X-Asked", "a, b");
  const Result result = Fetch(request);
  REQUIRE_FALSE(result.error);
  CHECK(result.status == 200);
  CHECK(result.body == "hello");
  CHECK(result.Header("x-method") == "GET");
  CHECK(result.Header("X-Seen") == "[a, b]");
  CHECK(result.Header("X-Authorization") ==
        "[Bearer " + std::string(kSecret) + "]");
}

TEST_CASE("method and body arrive as they are", "[transport]") {
  HttpServer server;
  CurlTransport transport = Make();
  // One transport for all: nothing of one request may stick to the next.
  for (const std::string method : {"POST", "DELETE", "PUT", "GET", "POST"}) {
    HttpRequest request = Request(server.origin(), "/echo", method);
    if (method == "POST" || method == "PUT") {
      request.headers.Add("Content-Type", "application/json");
      request.body = R"({"model":"m"})";
    }
    const Result result = Fetch(transport, request);
    REQUIRE_FALSE(result.error);
    CHECK(result.Header("X-Method") == method);
    CHECK(result.Header("X-Type") ==
          (request.body.empty() ? "[]" : "[application/json]"));
    CHECK(result.body == (request.body.empty() ? "hello" : request.body));
  }
}

// ---- Bodies that are read while they are sent ----

TEST_CASE("a source arrives whole, with a length or in chunks", "[transport]") {
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(200, {"{}"}); });
  std::string text;
  while (text.size() < 300'000) text += std::to_string(text.size()) + '\0';
  CurlTransport transport = Make();
  int opened = 0;
  // One transport for all: nothing of one request may stick to the next.
  for (const std::string method : {"POST", "PUT", "PATCH"}) {
    for (const bool sized : {true, false}) {
      const BodySource source = SourceOf(
          text, opened, sized ? std::optional(text.size()) : std::nullopt);
      HttpRequest request = Request(witness.origin(), "/", method);
      request.headers.Add("Content-Type", "audio/mpeg");
      request.source = &source;
      CHECK(Fetch(transport, request).status == 200);
      const ArrivedRequest arrived = witness.Log().back();
      CHECK(arrived.method == method);
      CHECK(arrived.headers.Find("Content-Type") == "audio/mpeg");
      CHECK_FALSE(arrived.headers.Find("Expect"));
      CHECK(arrived.headers.Find("Content-Length").has_value() == sized);
      CHECK((arrived.body == text));
    }
    CHECK(Fetch(transport, Request(witness.origin(), "/")).status == 200);
    CHECK(witness.Log().back().method == "GET");
    CHECK(witness.Log().back().body.empty());
    CHECK_FALSE(witness.Log().back().headers.Find("Transfer-Encoding"));
  }
  CHECK(opened == 6);
  CHECK(witness.Log().size() == 9);
}

TEST_CASE("a source that is empty is a body without bytes", "[transport]") {
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(200, {"{}"}); });
  int opened = 0;
  for (const bool sized : {true, false}) {
    const BodySource source = SourceOf(
        "", opened, sized ? std::optional<std::uint64_t>(0) : std::nullopt);
    HttpRequest request = Request(witness.origin(), "/", "POST");
    request.source = &source;
    CHECK(Fetch(request).status == 200);
    CHECK(witness.Log().back().body.empty());
  }
}

TEST_CASE("a source that gives less than it named is not taken for a body",
          "[transport]") {
  RawServer server([](RawConnection& peer) { peer.WaitUntilPeerLeaves(); });
  int opened = 0;
  const BodySource source = SourceOf("hello", opened, 6);
  HttpRequest request = Request(server.origin(), "/", "POST");
  request.source = &source;
  const Result result = Fetch(request);
  CheckError(result, Kind::kBody, true);
  CHECK(result.error->message.ends_with(
      "its source gave 5 bytes and had named 6"));
}

TEST_CASE("an answer that comes amid an upload ends it", "[transport]") {
  RawServer server([](RawConnection& peer) {
    std::string some;
    while (some.size() < 100'000 && peer.ReadSome(some)) {
    }
    peer.Write("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}");
    peer.WaitUntilPeerLeaves();
  });
  std::size_t read = 0;
  // Without an end: what is not given up goes on until the test is.
  const BodySource endless([&read] {
    return [&read](std::span<char> room) {
      read += room.size();
      std::fill(room.begin(), room.end(), 'x');
      return room.size();
    };
  });
  HttpRequest request = Request(server.origin(), "/", "POST");
  request.source = &endless;
  const Result result = Fetch(request);
  CHECK_FALSE(result.error);
  CHECK(result.status == 401);
  CHECK(result.body == "{}");
  CHECK(read >= 90'000);
}

TEST_CASE("a source that was read and cannot be again is not sent",
          "[transport]") {
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(200, {"{}"}); });
  const BodySource source = BodySource::Once(testing::ReaderOf("hello"));
  HttpRequest request = Request(witness.origin(), "/", "POST");
  request.source = &source;
  CHECK(Fetch(request).status == 200);
  CheckError(Fetch(request), Kind::kBody, false);
  CHECK(witness.Log().size() == 1);
}

TEST_CASE("what a source throws comes out of Send", "[transport]") {
  RawServer server([](RawConnection& peer) { peer.WaitUntilPeerLeaves(); });
  const bool opens = GENERATE(true, false);
  const BodySource source([opens]() -> ReadBody {
    if (!opens) throw std::runtime_error("mine");
    return [](std::span<char>) -> std::size_t {
      throw std::runtime_error("mine");
    };
  });
  HttpRequest request = Request(server.origin(), "/", "POST");
  request.source = &source;
  CurlTransport transport = Make();
  Result result;
  CHECK_THROWS_WITH(transport.Send(request, result), "mine");
}

TEST_CASE("a source begins anew where a kept connection broke", "[transport]") {
  const std::string text(200'000, 'x');
  std::mutex mutex;
  std::vector<std::string> requests;
  RawServer server([&](RawConnection& peer) {
    const std::string request = peer.ReadRequest();
    bool first = false;
    {
      const std::lock_guard lock(mutex);
      first = requests.empty();
      requests.push_back(request);
    }
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if (!first) return;
    // Takes a part of the next body, and ends. A reset might be met in sending,
    // where libcurl does not begin anew.
    std::string some;
    while (some.size() < 100'000 && peer.ReadSome(some)) {
    }
    peer.EndWriting();
    peer.WaitUntilPeerLeaves();
  });
  const bool once = GENERATE(false, true);
  CurlTransport transport = Make();
  CHECK(Fetch(transport, Request(server.origin())).body == "ok");
  int opened = 0;
  const BodySource source =
      once ? BodySource::Once(testing::ReaderOf(text), text.size())
           : SourceOf(text, opened, text.size());
  HttpRequest request = Request(server.origin(), "/", "POST");
  request.source = &source;
  const Result result = Fetch(transport, request);
  const std::lock_guard lock(mutex);
  if (once) {
    CheckError(result, Kind::kBody, true);
    for (const std::string& arrived : requests)
      CHECK(arrived.find("POST") == arrived.npos);
  } else {
    CHECK_FALSE(result.error);
    CHECK(opened == 2);
    REQUIRE(requests.size() == 2);
    CHECK(requests[1].ends_with("\r\n\r\n" + text));
  }
}

TEST_CASE("a POST without a body is sent with length 0", "[transport]") {
  HttpServer server;
  const Result result = Fetch(Request(server.origin(), "/echo", "POST"));
  REQUIRE_FALSE(result.error);
  CHECK(result.status == 200);
  CHECK(result.Header("X-Type") == "[]");
}

TEST_CASE("an answer without a body still has its head", "[transport]") {
  HttpServer server;
  for (const auto& [path, status] :
       {std::pair("/204", 204), std::pair("/empty", 200)}) {
    const Result result = Fetch(Request(server.origin(), path));
    REQUIRE_FALSE(result.error);
    CHECK(result.status == status);
    CHECK(result.pieces == 0);
  }
  const Result head = Fetch(Request(server.origin(), "/text", "HEAD"));
  REQUIRE_FALSE(head.error);
  CHECK(head.status == 200);
  CHECK(head.pieces == 0);
}

TEST_CASE("a body of 1 MiB goes and comes whole, without Expect",
          "[transport]") {
  HttpServer server;
  // One more: libcurl asks with Expect from there on.
  std::string body((1 << 20) + 1, '\0');
  for (std::size_t i = 0; i < body.size(); ++i) {
    body[i] = static_cast<char>(i * 2654435761U >> 24);
  }
  HttpRequest request = Request(server.origin(), "/echo", "POST");
  request.headers.Add("Content-Type", "application/octet-stream");
  request.body = body;
  const Result result = Fetch(request);
  REQUIRE_FALSE(result.error);
  CHECK(result.Header("X-Expect") == "[]");
  CHECK((result.body == body));
}

TEST_CASE("a body that the server packs is unpacked", "[transport]") {
  HttpServer server;
  const Result result = Fetch(Request(server.origin(), "/text"));
  REQUIRE_FALSE(result.error);
  CHECK((result.body == std::string(10'000, 't')));
}

TEST_CASE("a redirect is returned, not followed", "[transport]") {
  HttpServer server;
  const Result result = Fetch(Request(server.origin(), "/302"));
  REQUIRE_FALSE(result.error);
  CHECK(result.status == 302);
  CHECK(result.Header("Location") == "/echo");
  CHECK(server.connections() == 0);
}

TEST_CASE("a stream is handed on while it arrives", "[transport]") {
  std::promise<void> saw_first;
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nfirst\r\n");
    // Were it kept back, neither side would ever go on.
    if (saw_first.get_future().wait_for(kSoon) != std::future_status::ready) {
      return;
    }
    peer.Write("6\r\nsecond\r\n0\r\n\r\n");
  });
  CurlTransport transport = Make();
  Result result;
  result.on_body = [&] {
    if (result.pieces == 1) saw_first.set_value();
    return true;
  };
  Exchange(transport, Request(server.origin()), result);
  REQUIRE_FALSE(result.error);
  CHECK(result.body == "firstsecond");
  CHECK(result.pieces == 2);
}

TEST_CASE("one connection serves request after request", "[transport][T3]") {
  HttpServer server;
  CurlTransport transport = Make();
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(Fetch(transport, Request(server.origin(), "/echo")).error);
    CHECK_FALSE(Fetch(transport, Request(server.origin(), "/chunks")).error);
    CHECK_FALSE(Fetch(transport, Request(server.origin(), "/204")).error);
  }
  CHECK(server.connections() == 1);
}

TEST_CASE("eight threads share one transport", "[transport]") {
  constexpr int kThreads = 8;
  constexpr int kRequests = 25;
  HttpServer server;
  CurlTransport transport = Make();
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kRequests; ++i) {
        HttpRequest request = Request(server.origin(), "/echo", "POST");
        const std::string body = std::to_string(thread * kRequests + i);
        request.body = body;
        Result result;
        const bool failed = transport.Send(request, result, {}).has_value();
        good += !failed && result.body == body;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == kThreads * kRequests);
  CHECK(server.connections() <= kThreads);
}

TEST_CASE("no more connections are kept than asked for", "[transport]") {
  HttpServer server;
  CurlTransport transport({.max_idle = 0});
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(Fetch(transport, Request(server.origin(), "/echo")).error);
  }
  CHECK(server.connections() == 3);
}

TEST_CASE("a certificate that nobody vouches for is refused",
          "[transport][tls]") {
  const SelfSigned self;
  HttpsServer server(self.certificate(), self.key());
  const HttpRequest request = Request(server.origin("https"), "/echo");
  CheckError(Fetch(request), Kind::kTls, false);

  CurlTransport trusting = Make(self.file());
  for (int i = 0; i < 3; ++i) {
    const Result result = Fetch(trusting, request);
    REQUIRE_FALSE(result.error);
    CHECK(result.body == "hello");
  }
  CHECK(server.connections() == 1);

  // The certificate is for 127.0.0.1.
  const std::string elsewhere =
      "https://localhost:" + std::to_string(server.port());
  CheckError(Fetch(trusting, Request(elsewhere, "/echo")), Kind::kTls, false);

  CurlTransport misled = Make("/no/such/file.pem");
  CheckError(Fetch(misled, request), Kind::kTls, false);
}

TEST_CASE("authorities that are no file are told, and nothing waits for them",
          "[transport][tls]") {
  RawServer server([](RawConnection& peer) { peer.WaitUntilPeerLeaves(); });
  const testing::TemporaryDirectory directory;
  const std::string pipe = directory / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  for (const auto& [path, what] :
       {std::pair(pipe, "a pipe"),
        std::pair(std::string("/dev/zero"), "a device"),
        std::pair(directory.path().string(), "a directory")}) {
    CurlTransport transport = Make(path);
    const Result result =
        Fetch(transport,
              Request("https://127.0.0.1:" + std::to_string(server.port())));
    CheckError(result, Kind::kTls, false);
    CHECK_THAT(result.error->message,
               testing::ContainsSubstring(
                   "ca_file: " + std::string(what) +
                   ", where a file with certificates should be"));
  }
}

TEST_CASE("a server that does not speak TLS is a TLS error",
          "[transport][tls]") {
  RawServer server([](RawConnection& peer) {
    std::string hello;
    peer.ReadSome(hello);
    peer.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
    peer.WaitUntilPeerLeaves();
  });
  CheckError(
      Fetch(Request("https://127.0.0.1:" + std::to_string(server.port()))),
      Kind::kTls, false);
}

TEST_CASE("a handshake that hangs ends with the connect timeout",
          "[transport][tls]") {
  RawServer server([](RawConnection& peer) { peer.WaitUntilPeerLeaves(); });
  HttpRequest request =
      Request("https://127.0.0.1:" + std::to_string(server.port()));
  request.connect_timeout = milliseconds(100);
  const Result result = Fetch(request);
  CheckError(result, Kind::kConnect, false);
  CHECK(result.took >= milliseconds(100));
}

TEST_CASE("a refused connection was certainly not sent", "[transport]") {
  const RefusingPort port;
  const Result result = Fetch(Request(port.origin()));
  CheckError(result, Kind::kConnect, false);
  CHECK_THAT(result.error->message,
             testing::ContainsSubstring(port.origin()) &&
                 testing::ContainsSubstring("refused") &&
                 testing::ContainsSubstring("is the server running"));
}

TEST_CASE("an unknown host was certainly not sent", "[transport]") {
  // A label may have 63 characters (RFC 1035, 2.3.4): no name server is asked.
  const Result result =
      Fetch(Request("http://" + std::string(64, 'x') + ".invalid"));
  CheckError(result, Kind::kConnect, false);
}

TEST_CASE("connecting takes no longer than its timeout", "[transport]") {
  const DeafPort port;
  HttpRequest request = Request(port.origin());
  request.connect_timeout = milliseconds(100);
  const Result result = Fetch(request);
  CheckError(result, Kind::kConnect, false);
  CHECK(result.took >= milliseconds(100));
  CHECK_THAT(result.error->message, testing::ContainsSubstring("100 ms"));
}

TEST_CASE("what cannot be a request is refused before it is sent",
          "[transport]") {
  CurlTransport transport = Make();
  const std::string secret(kSecret);
  for (const std::string& url : std::vector<std::string>{
           "", "/v1?key=" + secret, "ftp://host/" + secret, "file:///" + secret,
           "http://", "http:///" + secret, "http://host:0/" + secret,
           "http://host:65536/" + secret, "http://host:80a/" + secret,
           "http://host:/" + secret, "http://" + secret + "@host/",
           "http://host\\@" + secret + "/", "http://[::1/" + secret,
           "http://[::1]x/" + secret, "http://host/a b" + secret,
           "http://host/\r\nX: " + secret, "http://h\xC3\xB6st/" + secret}) {
    INFO(url);
    HttpRequest request;
    request.url = url;
    CheckError(Fetch(transport, request), Kind::kBadUrl, false);
  }
  const RefusingPort port;
  for (const auto& [name, value] :
       {std::pair("X-A", "1\r\nX-B: "), std::pair("X-A", "1\nX-B: "),
        std::pair("X A", ""), std::pair("", ""), std::pair("X-A:", "")}) {
    HttpRequest request = Request(port.origin());
    request.headers.Add(name, value + secret);
    const Result result = Fetch(transport, request);
    CheckError(result, Kind::kBadUrl, false);
    CHECK_THAT(result.error->message, testing::ContainsSubstring("header 2"));
  }
  CheckError(
      Fetch(transport, Request(port.origin(), "/", "GET / HTTP/1.1\r\nX: ")),
      Kind::kBadUrl, false);
}

TEST_CASE("the scheme may be in capitals, a fragment stays here",
          "[transport]") {
  std::string seen;
  {
    RawServer server([&](RawConnection& peer) {
      seen = peer.ReadRequest();
      peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    HttpRequest request;
    request.method = "GET";
    request.url =
        "HTTP" + server.origin().substr(4) + "/a/../b?c=%2F+d&e=[f]#g?h";
    CHECK_FALSE(Fetch(request).error);
  }
  CHECK_THAT(seen, Catch::Matchers::StartsWith(
                       "GET /a/../b?c=%2F+d&e=[f] HTTP/1.1\r\n"));
}

TEST_CASE("a connection that breaks is lost, and may have been sent",
          "[transport][S15]") {
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
  const std::string chunked =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  struct Case {
    const char* claim;
    RawServer::Script script;
    int heads;
    const char* body;
  };
  std::promise<void> saw_body;
  const auto reset = [](const std::string& bytes) {
    return [bytes](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write(bytes);
      peer.Reset();
    };
  };
  const std::vector<Case> cases = {
      {"closed at once", [](RawConnection& peer) { peer.Close(); }, 0, ""},
      {"closed without an answer", Answers(""), 0, ""},
      {"closed amid the headers", Answers("HTTP/1.1 200 OK\r\nX-A"), 0, ""},
      {"closed amid a counted body", Answers(head + "abc"), 1, "abc"},
      {"closed before a counted body", Answers(head), 1, ""},
      {"closed amid a chunk", Answers(chunked + "a\r\nabc"), 1, "abc"},
      {"closed between chunks", Answers(chunked + "3\r\nabc\r\n"), 1, "abc"},
      {"closed before the last line", Answers(chunked + "3\r\nabc\r\n0\r\n"), 1,
       "abc"},
      {"reset before the headers", reset(""), 0, ""},
      {"reset amid the headers", reset("HTTP/1.1 200 OK\r\nX-A"), 0, ""},
      {"reset amid the body",
       [&](RawConnection& peer) {
         peer.ReadRequest();
         peer.Write(head + "abc");
         saw_body.get_future().wait_for(kSoon);
         peer.Reset();
       },
       1, "abc"},
      {"not HTTP", Answers("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), 0, ""},
      {"not HTTP, without a line", Answers(std::string(5000, 'x')), 0, ""},
      {"a header of 200 kB",
       Answers("HTTP/1.1 200 OK\r\nX-A: " + std::string(200'000, 'x') +
               "\r\nContent-Length: 0\r\n\r\n"),
       0, ""},
  };
  CurlTransport transport = Make();
  for (const Case& c : cases) {
    INFO(c.claim);
    RawServer server(c.script);
    Result result;
    if (std::string_view(c.claim) == "reset amid the body") {
      result.on_body = [&] {
        saw_body.set_value();
        return true;
      };
    }
    Exchange(transport, Request(server.origin()), result);
    CheckError(result, Kind::kLost, true);
    CHECK(result.heads == c.heads);
    CHECK(result.body == c.body);
  }
}

TEST_CASE("an upload that is cut kills nobody by SIGPIPE", "[transport]") {
  // The servers of cpp-httplib ignore the signal for the whole process.
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  const std::string body(32 << 20, 'x');
  {
    RawServer server([](RawConnection& peer) {
      std::string some;
      peer.ReadSome(some);
      peer.Reset();
    });
    HttpRequest request = Request(server.origin(), "/", "POST");
    request.body = body;
    CheckError(Fetch(request), Kind::kLost, true);
  }
  {
    std::stop_source source;
    std::promise<void> left;
    RawServer server([&](RawConnection& peer) {
      std::string some;
      peer.ReadSome(some);
      source.request_stop();
      left.get_future().wait_for(std::chrono::seconds(10));
    });
    HttpRequest request = Request(server.origin(), "/", "POST");
    request.body = body;
    CurlTransport transport = Make();
    const Result result = Fetch(transport, request, source.get_token());
    left.set_value();
    CheckError(result, Kind::kStopped, true);
  }
  std::signal(SIGPIPE, before);
}

TEST_CASE("an answer without a length ends where it is closed", "[transport]") {
  RawServer server(Answers("HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nold but whole"));
  CurlTransport transport = Make();
  for (int i = 0; i < 2; ++i) {
    const Result result = Fetch(transport, Request(server.origin()));
    REQUIRE_FALSE(result.error);
    CHECK(result.status == 200);
    CHECK(result.body == "old but whole");
  }
}

TEST_CASE("a 100 is not the answer", "[transport]") {
  RawServer server(Answers(
      "HTTP/1.1 100 Continue\r\n\r\n"
      "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nretry-after: 9\r\n"
      "X-A: \t padded \t\r\nContent-Length: 2\r\n\r\nno"));
  const Result result = Fetch(Request(server.origin()));
  REQUIRE_FALSE(result.error);
  CHECK(result.status == 429);
  CHECK(result.Header("Retry-After") == "7");
  CHECK(result.Header("X-A") == "padded");
  CHECK(result.body == "no");
}

TEST_CASE("an early hint is not the answer", "[transport]") {
  RawServer server(
      Answers("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
              "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  const Result result = Fetch(Request(server.origin()));
  REQUIRE_FALSE(result.error);
  CHECK(result.status == 200);
  CHECK(result.Header("Link") == "(none)");
}

TEST_CASE("a silence longer than the idle timeout ends the exchange",
          "[transport]") {
  struct Case {
    const char* before;
    int heads;
  };
  for (const Case& c :
       {Case{"", 0}, Case{"HTTP/1.1 200 OK\r\nX-A", 0},
        Case{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 1},
        Case{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
             1},
        Case{"HTTP/1.1 200 OK\r\n\r\nabc", 1}}) {
    INFO(c.before);
    RawServer server([&](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write(c.before);
      peer.WaitUntilPeerLeaves();
    });
    HttpRequest request = Request(server.origin());
    request.idle_timeout = milliseconds(150);
    const Result result = Fetch(request);
    CheckError(result, Kind::kTimeout, true);
    CHECK(result.heads == c.heads);
    CHECK(result.took >= milliseconds(150));
    CHECK_THAT(result.error->message, testing::ContainsSubstring("150 ms"));
  }
}

TEST_CASE("a head that does not end is a silence, and so are 1xx",
          "[transport]") {
  const std::string line = GENERATE(
      as<std::string>(), "HTTP/1.1 103 Early Hints\r\n\r\n", "X: y\r\n");
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    if (line[0] == 'X') peer.Write("HTTP/1.1 200 OK\r\n");
    while (peer.Drip(line, milliseconds(1))) {
    }
  });
  HttpRequest request = Request(server.origin());
  request.idle_timeout = milliseconds(100);
  CheckError(Fetch(request), Kind::kTimeout, true);
}

TEST_CASE("headers and 1xx without end are an error", "[transport]") {
  const std::string line =
      GENERATE(as<std::string>(), "HTTP/1.1 103 Early Hints\r\n\r\n",
               "X: and more, and more, and more\r\n");
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    if (line[0] == 'X') peer.Write("HTTP/1.1 200 OK\r\n");
    while (peer.Write(line)) {
    }
  });
  const Result result = Fetch(Request(server.origin()));
  CheckError(result, Kind::kLost, true);
  CHECK(result.heads == 0);
  CHECK_THAT(result.error->message,
             testing::ContainsSubstring("headers are above 256 KiB"));
}

TEST_CASE("slow bytes are not a silence", "[transport][S13]") {
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n");
    peer.Drip("sixteen letters!", milliseconds(40));
  });
  HttpRequest request = Request(server.origin());
  request.idle_timeout = milliseconds(500);
  const Result result = Fetch(request);
  REQUIRE_FALSE(result.error);
  CHECK(result.body == "sixteen letters!");
  CHECK(result.took > request.idle_timeout);
}

TEST_CASE("a server that does not take the request is silent", "[transport]") {
  std::promise<void> left;
  RawServer server([&](RawConnection&) {
    left.get_future().wait_for(std::chrono::seconds(10));
  });
  const std::string body(32 << 20, 'x');
  HttpRequest request = Request(server.origin(), "/", "POST");
  request.body = body;
  request.idle_timeout = milliseconds(150);
  const Result result = Fetch(request);
  left.set_value();
  CheckError(result, Kind::kTimeout, true);
}

TEST_CASE("the total timeout holds although bytes keep coming", "[transport]") {
  const std::string drip(1000, 'x');
  for (const std::string head :
       {"HTTP/1.1 200 OK\r\nX-A: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n"}) {
    RawServer server([&](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write(head);
      peer.Drip(drip, milliseconds(10));
    });
    HttpRequest request = Request(server.origin());
    request.total_timeout = milliseconds(200);
    request.idle_timeout = milliseconds(5'000);
    const Result result = Fetch(request);
    CheckError(result, Kind::kTimeout, true);
    CHECK(result.took >= milliseconds(200));
    CHECK_THAT(result.error->message, testing::ContainsSubstring("200 ms"));
  }
}

TEST_CASE("the total timeout bounds connecting, too", "[transport]") {
  const DeafPort port;
  HttpRequest request = Request(port.origin());
  request.total_timeout = milliseconds(150);
  CheckError(Fetch(request), Kind::kTimeout, false);
}

TEST_CASE("limits that are not reached change nothing", "[transport]") {
  HttpServer server;
  for (const milliseconds limit :
       {milliseconds(0), milliseconds(60'000), milliseconds::max()}) {
    HttpRequest request = Request(server.origin(), "/echo");
    request.connect_timeout = limit;
    request.idle_timeout = limit;
    request.total_timeout = limit;
    CHECK(Fetch(request).body == "hello");
  }
}

TEST_CASE("a stop ends the exchange at once, at any stage",
          "[transport][S17]") {
  HttpServer sane;
  std::stop_source source;
  CurlTransport transport = Make();

  SECTION("before it began, also where a connection is ready") {
    CHECK_FALSE(Fetch(transport, Request(sane.origin(), "/echo")).error);
    source.request_stop();
    CheckError(
        Fetch(transport, Request(sane.origin(), "/echo"), source.get_token()),
        Kind::kStopped, false);
  }
  SECTION("while it connects") {
    const DeafPort port;
    bool came = false;
    std::thread stopper([&] {
      came = port.AwaitCaller();
      source.request_stop();
    });
    const Result result =
        Fetch(transport, Request(port.origin()), source.get_token());
    stopper.join();
    CHECK(came);
    CheckError(result, Kind::kStopped, false);
  }
  SECTION("amid the handshake") {
    RawServer server([&](RawConnection& peer) {
      std::string hello;
      peer.ReadSome(hello);
      source.request_stop();
      peer.WaitUntilPeerLeaves();
    });
    CheckError(
        Fetch(transport,
              Request("https://127.0.0.1:" + std::to_string(server.port())),
              source.get_token()),
        Kind::kStopped, false);
  }
  for (const std::string before :
       {"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\n\r\nabc"}) {
    SECTION("after the answer began with: " + before) {
      RawServer server([&](RawConnection& peer) {
        peer.ReadRequest();
        peer.Write(before);
        source.request_stop();
        peer.WaitUntilPeerLeaves();
      });
      CheckError(Fetch(transport, Request(server.origin()), source.get_token()),
                 Kind::kStopped, true);
    }
  }

  // The transport is as good as before.
  CHECK(Fetch(transport, Request(sane.origin(), "/echo")).body == "hello");
}

TEST_CASE("a stop takes effect within 100 ms", "[transport][T20]") {
  Clock::duration shortest = kSoon;  // of some: a busy machine delays one
  for (int i = 0; i < 4; ++i) {
    std::stop_source source;
    Clock::time_point stopped, returned;
    CurlTransport transport = Make();
    {
      RawServer server([&](RawConnection& peer) {
        peer.ReadRequest();
        stopped = Clock::now();
        source.request_stop();
        peer.WaitUntilPeerLeaves();
      });
      CheckError(Fetch(transport, Request(server.origin()), source.get_token()),
                 Kind::kStopped, true);
      returned = Clock::now();
    }  // the server's thread has ended: what it wrote may be read
    shortest = std::min(shortest, returned - stopped);
  }
  CHECK(shortest < milliseconds(100));
}

TEST_CASE("a stop from the sink ends the exchange", "[transport]") {
  RawServer server([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    peer.WaitUntilPeerLeaves();
  });
  std::stop_source source;
  CurlTransport transport = Make();
  Result result;
  result.on_body = [&] { return source.request_stop(); };
  Exchange(transport, Request(server.origin()), result, source.get_token());
  CheckError(result, Kind::kStopped, true);
}

TEST_CASE("a sink that wants no more ends the exchange without error",
          "[transport][T3]") {
  RawServer server([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    peer.WaitUntilPeerLeaves();
  });
  CurlTransport transport = Make();
  for (int i = 0; i < 2; ++i) {
    Result result;
    result.on_body = [] { return false; };
    Exchange(transport, Request(server.origin()), result);
    CHECK_FALSE(result.error);
    CHECK(result.pieces == 1);
    CHECK(result.took < kSoon);
  }
}

TEST_CASE("what a sink throws comes out of Send", "[transport]") {
  HttpServer server;
  CurlTransport transport = Make();
  const HttpRequest request = Request(server.origin(), "/echo");
  Result result;
  result.on_body = []() -> bool { throw std::runtime_error("full"); };
  CHECK_THROWS_WITH(transport.Send(request, result, {}), "full");
  result.on_body = nullptr;
  result.on_head = [] { throw std::runtime_error("odd"); };
  CHECK_THROWS_WITH(transport.Send(request, result, {}), "odd");
  CHECK(Fetch(transport, request).body == "hello");
}

TEST_CASE("a kept connection that was closed is replaced unseen",
          "[transport]") {
  std::promise<void> closed;
  std::atomic<int> connections = 0;
  RawServer server([&](RawConnection& peer) {
    const bool first = ++connections == 1;
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    peer.Close();
    if (first) closed.set_value();
  });
  CurlTransport transport = Make();
  CHECK(Fetch(transport, Request(server.origin())).body == "ok");
  closed.get_future().wait();
  CHECK(Fetch(transport, Request(server.origin())).body == "ok");
  CHECK(connections == 2);
}

TEST_CASE(
    "a request lost on a kept connection may have been sent, "
    "even if connecting anew is refused",
    "[transport]") {
  std::atomic<RawServer*> self{nullptr};
  RawServer server([&](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    peer.ReadRequest();  // it may act on this one
    self.load()->Refuse();
    peer.Reset();
  });
  self = &server;
  CurlTransport transport = Make();
  CHECK(Fetch(transport, Request(server.origin())).body == "ok");
  CheckError(Fetch(transport, Request(server.origin())), Kind::kLost, true);
}

TEST_CASE("what may not be repeated is sent once, also on a kept connection",
          "[transport]") {
  std::atomic<int> requests = 0;
  RawServer server([&](RawConnection& peer) {
    for (int i = 0; i < 2 && !peer.ReadRequest().empty(); ++i) {
      // It acts on the second, and cannot say so.
      if (++requests == 2) return peer.Reset();
      peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
  });
  CurlTransport transport = Make();
  HttpRequest request = Request(server.origin(), "/", "POST");
  request.repeatable = GENERATE(true, false);
  CHECK(Fetch(transport, request).body == "ok");
  const Result second = Fetch(transport, request);
  if (request.repeatable) {
    CHECK(second.body == "ok");
    CHECK(requests == 3);
  } else {
    CheckError(second, Kind::kLost, true);
    CHECK_THAT(second.error->message,
               testing::ContainsSubstring("closed without an answer"));
    CHECK(requests == 2);
  }
  // Nothing of it sticks to the next.
  CHECK(Fetch(transport, Request(server.origin())).body == "ok");
}

// A sink for which lines that begin with a colon are no sign of life, on a clock
// that is moved. `looked` is released when the transport has looked at the
// clock after a piece.
struct Lively final : ResponseSink {
  void OnHead(int, Headers) override {}
  Flow OnBody(std::string_view bytes) override {
    ++pieces;
    came = true;
    return bytes.starts_with(':') ? Flow::kIdle : Flow::kMore;
  }
  std::chrono::nanoseconds Now() {
    const auto now = clock.now().time_since_epoch();
    if (std::exchange(came, false)) looked.release();
    return now;
  }
  ManualClock clock;
  std::counting_semaphore<> looked{0};
  int pieces = 0;
  bool came = false;
};

TEST_CASE("only what the sink takes for life ends a silence",
          "[transport][S13]") {
  struct Case {
    std::vector<std::string_view> pieces;  // a minute after one another
    int seen;
    bool over;
  };
  for (const Case& c :
       {Case{{"a", "b", "c", "d"}, 4, false},
        Case{{"a", ":", "b", ":", "c"}, 5, false},
        Case{{"a", ":", ":", "b"}, 3, true}, Case{{":", ":", "b"}, 3, false},
        Case{{":", ":", ":", "b"}, 3, true}}) {
    CAPTURE(c.pieces.size(), c.seen);
    Lively sink;
    RawServer server([&](RawConnection& peer) {
      peer.ReadRequest();
      peer.Write("HTTP/1.1 200 OK\r\n\r\n");
      bool first = true;
      int left = c.seen;
      for (const std::string_view piece : c.pieces) {
        if (!std::exchange(first, false)) {
          sink.clock.Advance(std::chrono::minutes(1));
        }
        if (!peer.Write(piece) || left-- == 0) return;
        sink.looked.acquire();
      }
    });
    CurlTransport transport(
        {.proxy = "", .clock = [&sink] { return sink.Now(); }});
    HttpRequest request = Request(server.origin());
    request.idle_timeout = std::chrono::minutes(2);
    const auto error = transport.Send(request, sink);
    CHECK(sink.pieces == c.seen);
    REQUIRE(error.has_value() == c.over);
    if (!error) continue;
    CHECK(error->kind == Kind::kTimeout);
    CHECK_THAT(error->message,
               testing::ContainsSubstring("nothing but comments"));
  }
}

TEST_CASE("bytes after the last that is wanted do not keep the transfer open",
          "[transport][T3]") {
  struct Complete final : ResponseSink {
    void OnHead(int, Headers) override {}
    Flow OnBody(std::string_view) override { return Flow::kComplete; }
  } sink;
  RawServer server([](RawConnection& peer) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\n\r\n");
    while (peer.Write(": more\n\n")) {
    }
  });
  CurlTransport transport({.proxy = ""});
  const auto start = Clock::now();
  CHECK_FALSE(transport.Send(Request(server.origin()), sink));
  CHECK(Clock::now() - start < 2 * kSoon);
}

TEST_CASE("what a proxy answers to CONNECT is not the answer", "[transport]") {
  const SelfSigned self;
  HttpsServer server(self.certificate(), self.key());
  RawServer proxy([&](RawConnection& client) {
    client.ReadRequest();
    client.Write("HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n");
    RawConnection upstream(testing::ConnectTo(server.port()));
    const auto pump = [](RawConnection& from, RawConnection& to) {
      for (std::string bytes; from.ReadSome(bytes) && to.Write(bytes);) {
        bytes.clear();
      }
      from.Shutdown();
      to.Shutdown();
    };
    std::thread back([&] { pump(upstream, client); });
    pump(client, upstream);
    back.join();
  });
  CurlTransport transport({.ca_file = self.file(), .proxy = proxy.origin()});
  const Result result =
      Fetch(transport, Request(server.origin("https"), "/echo"));
  REQUIRE_FALSE(result.error);
  CHECK(result.body == "hello");
  CHECK(result.Header("X-Method") == "GET");
  CHECK(result.Header("X-Proxy") == "(none)");
}

TEST_CASE("a proxy that refuses has not sent the request", "[transport]") {
  RawServer proxy(
      Answers("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: "
              "0\r\n\r\n"));
  CurlTransport transport(
      {.proxy = "http://user:" + std::string(kSecret) +
                "@127.0.0.1:" + std::to_string(proxy.port())});
  const Result result = Fetch(transport, Request("https://api.example.com"));
  CheckError(result, Kind::kConnect, false);
  CHECK(result.heads == 0);
}

}  // namespace
}  // namespace keyrotator::http_transport_test
