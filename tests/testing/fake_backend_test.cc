#include "keyrotator/testing/fake_backend.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::testing::testing_fake_backend_test {
namespace {

using namespace std::chrono_literals;
using End = FakeAnswer::End;
using Kind = Fault::Kind;

HttpRequest Chat(const std::string& url = "/v1/chat/completions") {
  return {.url = url,
          .headers = {{"Authorization", "Bearer sk-a"}},
          .body = R"({"model":"gpt","stream":true})"};
}

std::string Joined(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

TEST_CASE("an answer follows from the request and the time alone",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {.limit = {.requests = 1}}}}});
  CHECK(backend.Answer(Chat(), 100s).status == 200);
  CHECK(backend.Answer(Chat(), 159s).status == 429);
  CHECK(backend.Answer(Chat(), 40s).status == 429);  // no time is taken back
  CHECK(backend.Answer(Chat(), 160s).status == 200);
}

TEST_CASE("a path stands alone or in a URL, with a query or without",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  for (const char* url :
       {"/v1/chat/completions", "/v1/chat/completions?api-version=1",
        "https://fake.test/v1/chat/completions",
        "http://127.0.0.1:80/v1/chat/completions?a=/b#c"}) {
    INFO(url);
    CHECK(backend.Answer(Chat(url), 0s).status == 200);
    CHECK(backend.Log().back().path == "/v1/chat/completions");
  }
  CHECK(backend.Answer(Chat("https://fake.test"), 0s).status == 404);
}

TEST_CASE("only a POST asks a model, only a GET lists them", "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  const auto status = [&](const char* method, const char* path) {
    HttpRequest request = Chat(path);
    request.method = method;
    return backend.Answer(request, 0s).status;
  };
  CHECK(status("GET", "/v1/models") == 200);
  CHECK(status("POST", "/v1/models") == 404);
  CHECK(status("GET", "/v1/chat/completions") == 404);
  CHECK(status("PUT", "/v1/chat/completions") == 404);
}

TEST_CASE("a broken answer holds the half that comes and the size of the whole",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  const FakeAnswer whole = backend.Answer(Chat(), 0s);
  const std::string body = Joined(whole.pieces);
  CHECK(whole.end == End::kWhole);
  CHECK(whole.size == body.size());
  for (const auto& [kind, end] : {std::pair(Kind::kTruncated, End::kClosed),
                                  std::pair(Kind::kResetInBody, End::kReset)}) {
    backend.Inject({.kind = kind});
    const FakeAnswer broken = backend.Answer(Chat(), 0s);
    CHECK(broken.end == end);
    CHECK(broken.size == whole.size);
    CHECK(Joined(broken.pieces) == body.substr(0, body.size() / 2));
  }
}

TEST_CASE("where nothing comes that is HTTP there is no status",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  backend.Inject({.kind = Kind::kReset});
  const FakeAnswer reset = backend.Answer(Chat(), 0s);
  CHECK(reset.status == 0);
  CHECK(reset.end == End::kReset);
  CHECK(reset.pieces.empty());
  backend.Inject({.kind = Kind::kNotHttp});
  const FakeAnswer garbage = backend.Answer(Chat(), 0s);
  CHECK(garbage.status == 0);
  CHECK_FALSE(garbage.not_http.empty());
  CHECK(backend.Log().back().status == 0);
}

TEST_CASE("what is slow comes byte by byte", "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  const std::string body = Joined(backend.Answer(Chat(), 0s).pieces);
  backend.Inject({.kind = Kind::kSlow, .pause = 7ms});
  const FakeAnswer slow = backend.Answer(Chat(), 0s);
  CHECK(slow.pieces.size() == body.size());
  CHECK(Joined(slow.pieces) == body);
  CHECK(slow.delay == 7ms);
  CHECK(slow.pause == 7ms);
}

TEST_CASE("the wall clock dates a refill where the provider does",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {.limit = {.requests = 2}}}},
                       .style = ProviderStyle::kAnthropic});
  const std::chrono::sys_days day(std::chrono::year(2030) / 1 / 1);
  const FakeAnswer answer = backend.Answer(Chat(), 0s, day);
  CHECK(answer.headers.Find("anthropic-ratelimit-requests-reset") ==
        "2030-01-01T00:00:30Z");
}

TEST_CASE("the log forgets what is oldest", "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  for (std::size_t i = 0; i <= FakeBackend::kMaxLog; ++i)
    backend.Answer(Chat("/" + std::to_string(i)), 0s);
  CHECK(backend.Log().size() == FakeBackend::kMaxLog);
  CHECK(backend.Log().front().path == "/1");
  CHECK(backend.Counts().requests == FakeBackend::kMaxLog + 1);
}

TEST_CASE("every endpoint answers as its client libraries expect",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  struct Case {
    const char* method;
    const char* path;
    const char* body;
    const char* type;
    const char* holds;
  };
  const char* const form =
      "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper"
      "\r\n--x--";
  for (const Case& c :
       {Case{"POST", "/v1/embeddings", R"({"model":"m","input":["a","b"]})",
             "application/json", R"("embedding":[0.25,0.5,0.75],"index":1)"},
        Case{"POST", "/v1/embeddings",
             R"({"model":"m","input":[1,2],"encoding_format":"base64"})",
             "application/json", R"("embedding":"AACAPgAAAD8AAEA/","index":0)"},
        Case{"POST", "/v1/images/generations", R"({"prompt":"p"})",
             "application/json", "b64_json"},
        Case{"POST", "/v1/audio/speech", R"({"model":"tts"})",
             "application/json", "ID3"},
        Case{"POST", "/v1/audio/transcriptions", form,
             "multipart/form-data; boundary=x", R"("text":"Hello)"},
        Case{"POST", "/v1/moderations", R"({"input":"a"})", "application/json",
             R"("flagged":false)"},
        Case{"POST", "/v1/files", form, "multipart/form-data; boundary=x",
             R"("id":"file-fake")"},
        Case{"GET", "/v1/files", "", "", R"("data":[{)"},
        Case{"GET", "/v1/files/f-7", "", "", R"("id":"f-7")"},
        Case{"GET", "/v1/files/f-7/content", "", "", "ID3"},
        Case{"DELETE", "/v1/files/f-7", "", "", R"("deleted":true)"},
        Case{"GET", "/v1/models/m-1", "", "", R"("id":"m-1")"}}) {
    INFO(c.method << " " << c.path);
    const FakeAnswer answer =
        backend.Answer({.method = c.method,
                        .url = c.path,
                        .headers = {{"Authorization", "Bearer sk-a"},
                                    {"Content-Type", c.type}},
                        .body = c.body},
                       0s);
    CHECK(answer.status == 200);
    CHECK(Joined(answer.pieces).find(c.holds) != std::string::npos);
  }
  CHECK(backend.Log()[4].model == "whisper");
}

TEST_CASE("what must name a model and does not is refused, forms too",
          "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  for (const char* path : {"/v1/embeddings", "/v1/audio/transcriptions"}) {
    for (const char* type : {"application/json", "multipart/form-data"}) {
      const FakeAnswer answer =
          backend.Answer({.url = path,
                          .headers = {{"Authorization", "Bearer sk-a"},
                                      {"Content-Type", type}},
                          .body = "{}"},
                         0s);
      CHECK(answer.status == 400);
    }
  }
}

TEST_CASE("files and lists are not limited, pictures are", "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {.limit = {.requests = 1}}}}});
  const auto status = [&](const char* method, const char* path) {
    return backend
        .Answer({.method = method,
                 .url = path,
                 .headers = {{"Authorization", "Bearer sk-a"}},
                 .body = "{}"},
                0s)
        .status;
  };
  for (int i = 0; i < 3; ++i) CHECK(status("GET", "/v1/files") == 200);
  CHECK(status("POST", "/v1/images/generations") == 200);
  CHECK(status("POST", "/v1/images/generations") == 429);
}

TEST_CASE("a tool that is offered is called once", "[fake_backend]") {
  FakeBackend backend({.keys = {{"sk-a", {}}}});
  const auto ask = [&](const std::string& more) {
    HttpRequest request = Chat();
    const std::string body =
        R"({"model":"m","tools":[{"type":"function","function":{"name":)"
        R"("weather"}}])" +
        more + "}";
    request.body = body;
    return Joined(backend.Answer(request, 0s).pieces);
  };
  CHECK(ask("").find(R"("name":"weather")") != std::string::npos);
  CHECK(ask("").find(R"("finish_reason":"tool_calls")") != std::string::npos);
  CHECK(ask(R"(,"stream":true)").find(R"("tool_calls":[{)") !=
        std::string::npos);
  for (const char* more : {R"(,"tool_choice":"none")",
                           R"(,"messages":[{"role":"tool","content":"sun"}])"})
    CHECK(ask(more).find("Hello") != std::string::npos);
}

}  // namespace
}  // namespace keyrotator::testing::testing_fake_backend_test
