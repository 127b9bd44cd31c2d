// Every method, every body, every kind of answer, over real sockets: what a
// provider's server sees of it, and what comes back.

#include <cstddef>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/openai/client.h"
#include "tests/support/body_source.h"
#include "tests/support/catch.h"
#include "tests/support/client.h"
#include "tests/support/witness.h"

namespace keyrotator::openai_client_endpoints_test {
namespace {

using testing::ArrivedRequest;
using testing::Client;
using testing::FakeAnswer;
using testing::MakeAnswer;
using testing::Pool;
using testing::ReaderOf;
using testing::RefusingPort;
using testing::SourceOf;
using testing::Trail;
using testing::Witness;
using TestClient = Client<CurlTransport>;

const std::string kJson = "application/json";
const std::string kForm = "multipart/form-data; boundary=xYz";

FakeAnswer Limited() {
  FakeAnswer answer =
      MakeAnswer(429, {R"({"error":{"message":"Rate limit reached","code":)"
                       R"("rate_limit_exceeded"}})"});
  answer.headers.Add("Retry-After", "20");
  return answer;
}

// Limits the key "sk-a" and serves all others with that.
std::function<FakeAnswer(const ArrivedRequest&)> SecondKey(FakeAnswer answer) {
  return [answer](const ArrivedRequest& request) {
    return request.headers.Find("Authorization") == "Bearer sk-a" ? Limited()
                                                                  : answer;
  };
}

// Bytes that no text has, with what would end a C string or a form.
std::string Bytes(std::size_t size) {
  std::mt19937 random(3);
  std::string bytes("\0--xYz\r\n\r\n\xff", 11);
  while (bytes.size() < size) bytes += static_cast<char>(random());
  return bytes;
}

std::string Part(std::string_view head, std::string_view value) {
  return fmt::format(
      "--xYz\r\nContent-Disposition: form-data; {}\r\n\r\n{}\r\n", head, value);
}
std::string FormOf(std::string_view model, std::string_view file) {
  return Part("name=\"file\"; filename=\"a.mp3\"", file) +
         Part("name=\"model\"", model) + "--xYz--\r\n";
}

// What one call sends and what it is answered.
struct Exchange {
  std::string method = "POST";
  std::string path;
  std::string type = {};  // of the body
  std::string body = {};
  std::string answer = R"({"object":"it"})";
  std::string answer_type = kJson;
  std::string scope = {};  // the model that it is for
};

Reply Send(TestClient& pool, const Exchange& it) {
  const CallOptions call{.content_type = it.type};
  auto& client = pool.client;
  if (it.method == "GET") return client.Get(it.path);
  if (it.method == "HEAD") return client.Head(it.path);
  if (it.method == "DELETE") return client.Delete(it.path);
  if (it.method == "PUT") return client.Put(it.path, it.body, call);
  if (it.method == "PATCH") return client.Patch(it.path, it.body, call);
  return client.Post(it.path, it.body, call);
}

// The call is limited with the first key and served with the second; each time
// all of it arrives.
void CheckServed(const Exchange& it) {
  CAPTURE(it.method, it.path);
  Witness witness(SecondKey(MakeAnswer(200, {it.answer}, it.answer_type)));
  TestClient pool(witness.origin() + "/v1", Pool("AB"));
  const Reply reply = Send(pool, it);
  CHECK(reply.ok());
  CHECK(reply.status == 200);
  CHECK(reply.headers.Find("Content-Type") == it.answer_type);
  CHECK((reply.body == (it.method == "HEAD" ? "" : it.answer)));
  CHECK(Trail(reply) == "A 429, B 200");

  const auto log = witness.Log();
  REQUIRE(log.size() == 2);
  CHECK(log[0].headers.Find("Authorization") == "Bearer sk-a");
  CHECK(log[1].headers.Find("Authorization") == "Bearer sk-b");
  for (const ArrivedRequest& arrived : log) {
    CHECK(arrived.method == it.method);
    CHECK(arrived.target == "/v1" + it.path);
    CHECK(arrived.headers.Find("Content-Type").value_or("") == it.type);
    CHECK((arrived.body == it.body));
  }
  // The limit is that of its model alone, or of all if it has none.
  CHECK(pool.rotator.Availability({.scope = it.scope}).available == 1);
  CHECK(pool.rotator.Availability({.scope = "other"}).available ==
        (it.scope.empty() ? 1 : 2));
}

TEST_CASE("embeddings", "[client][endpoints]") {
  CheckServed({.path = "/embeddings",
               .type = kJson,
               .body = R"({"model":"text-embedding-3-small","input":"hi"})",
               .answer = R"({"data":[{"embedding":[0.5,-1]}]})",
               .scope = "text-embedding-3-small"});
}

TEST_CASE("moderations", "[client][endpoints]") {
  CheckServed({.path = "/moderations",
               .type = kJson,
               .body = R"({"model":"omni-moderation-latest","input":"hi"})",
               .answer = R"({"results":[{"flagged":false}]})",
               .scope = "omni-moderation-latest"});
}

TEST_CASE("audio: speech is bytes", "[client][endpoints]") {
  CheckServed({.path = "/audio/speech",
               .type = kJson,
               .body = R"({"model":"tts-1","input":"hi","voice":"alloy"})",
               .answer = Bytes(100'000),
               .answer_type = "audio/mpeg",
               .scope = "tts-1"});
}

TEST_CASE("audio: what is transcribed is a form", "[client][endpoints]") {
  CheckServed({.path = "/audio/transcriptions",
               .type = kForm,
               .body = FormOf("whisper-1", Bytes(300'000)),
               .answer = R"({"text":"hi"})",
               .scope = "whisper-1"});
}

TEST_CASE("images: made from JSON, edited by a form", "[client][endpoints]") {
  CheckServed({.path = "/images/generations",
               .type = kJson,
               .body = R"({"model":"gpt-image-1","prompt":"a cat"})",
               .answer = R"({"data":[{"b64_json":"aGk="}]})",
               .scope = "gpt-image-1"});
  CheckServed({.path = "/images/edits",
               .type = kForm,
               .body = FormOf("gpt-image-1", Bytes(300'000)),
               .scope = "gpt-image-1"});
}

TEST_CASE("files: sent, read, replaced and deleted", "[client][endpoints]") {
  const std::string lines =
      "{\"custom_id\":\"1\",\"error\":null}\n"
      "{\"custom_id\":\"2\",\"error\":null}\n";
  CheckServed({.path = "/files",
               .type = kForm,
               .body = Part("name=\"purpose\"", "batch") +
                       Part("name=\"file\"; filename=\"b.jsonl\"", lines) +
                       "--xYz--\r\n"});
  for (const char* type : {"application/octet-stream", "application/jsonl",
                           "application/x-ndjson"}) {
    CheckServed({.method = "GET",
                 .path = "/files/file-1/content",
                 .answer = lines,
                 .answer_type = type});
  }
  CheckServed({.method = "HEAD", .path = "/files/file-1"});
  CheckServed({.method = "PUT",
               .path = "/files/file-1",
               .type = "application/jsonl",
               .body = lines});
  CheckServed({.method = "PATCH",
               .path = "/files/file-1",
               .type = "application/merge-patch+json",
               .body = R"({"purpose":"batch"})"});
  CheckServed({.method = "DELETE",
               .path = "/files/file-1",
               .answer = R"({"id":"file-1","deleted":true})"});
}

TEST_CASE("batches: made, looked at and cancelled", "[client][endpoints]") {
  CheckServed({.path = "/batches",
               .type = kJson,
               .body =
                   R"({"input_file_id":"file-1","endpoint":"/v1/responses",)"
                   R"("completion_window":"24h"})"});
  CheckServed({.method = "GET", .path = "/batches/b-1"});
  CheckServed({.path = "/batches/b-1/cancel"});
}

TEST_CASE("responses: made, streamed again and deleted",
          "[client][endpoints]") {
  CheckServed({.path = "/responses",
               .type = kJson,
               .body = R"({"model":"gpt-5","input":"hi","background":true})",
               .scope = "gpt-5"});
  CheckServed({.method = "DELETE", .path = "/responses/r-1"});

  FakeAnswer stream = MakeAnswer(
      200,
      {"event: response.output_text.delta\ndata: {\"delta\":\"hi\"}\n\n",
       "event: response.completed\ndata: "
       "{\"type\":\"response.completed\"}\n\n"},
      "text/event-stream");
  stream.stream = true;
  Witness witness(SecondKey(stream));
  TestClient pool(witness.origin() + "/v1", Pool("AB"));
  testing::Listener listener;
  const Reply reply =
      pool.client.GetStream("/responses/r-1?stream=true", std::ref(listener));
  CHECK(reply.ok());
  CHECK(Trail(reply) == "A 429, B 200");
  CHECK(listener.events == 2);
  CHECK(witness.Log()[1].method == "GET");
  CHECK(witness.Log()[1].target == "/v1/responses/r-1?stream=true");
  CHECK(witness.Log()[1].headers.Find("Accept") == "text/event-stream");
}

TEST_CASE("the caller's content type goes before the client's, and is one",
          "[client][endpoints]") {
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(200, {"{}"}); });
  TestClient pool(witness.origin(), Pool("A"),
                  {.headers = {{"content-type", "text/plain"}}});
  CHECK(pool.client.Post("/a", "x").ok());
  CHECK(pool.client.Post("/a", "x", {.content_type = "text/csv"}).ok());
  CHECK(pool.client
            .Post("/a", "x",
                  {.headers = {{"Content-Type", "text/html"}},
                   .content_type = "text/csv"})
            .ok());
  std::vector<std::string> types;
  for (const ArrivedRequest& arrived : witness.Log()) {
    for (const auto& [name, value] : arrived.headers) {
      if (internal::Lower(name) == "content-type") types.push_back(value);
    }
  }
  CHECK(types ==
        std::vector<std::string>{"text/plain", "text/csv", "text/html"});
}

// ---- Bodies that are read while they are sent ----

TEST_CASE("an upload is read from its start with each key",
          "[client][endpoints]") {
  const std::string form = FormOf("whisper-1", Bytes(300'000));
  Witness witness(SecondKey(MakeAnswer(200, {"{}"})));
  TestClient pool(witness.origin() + "/v1", Pool("AB"));
  int opened = 0;
  const Reply reply = pool.client.Post(
      "/audio/transcriptions", SourceOf(form, opened, form.size()),
      {.scope = "whisper-1", .content_type = kForm});
  CHECK(Trail(reply) == "A 429, B 200");
  CHECK(reply.ok());
  CHECK(opened == 2);
  const auto log = witness.Log();
  REQUIRE(log.size() == 2);
  for (const ArrivedRequest& arrived : log) {
    CHECK(arrived.headers.Find("Content-Type") == kForm);
    CHECK((arrived.body == form));
  }
  CHECK(pool.rotator.Availability({.scope = "whisper-1"}).available == 1);
  CHECK(pool.rotator.Availability({.scope = "other"}).available == 2);
}

TEST_CASE("an upload that can be read but once is sent once, and that is said",
          "[client][endpoints]") {
  const bool limited = GENERATE(true, false);
  Witness witness([&](const ArrivedRequest&) {
    return limited ? Limited() : MakeAnswer(200, {"{}"});
  });
  TestClient pool(witness.origin(), Pool("AB"));
  const Reply reply =
      pool.client.Post("/files", BodySource::Once(ReaderOf(Bytes(100'000))),
                       {.content_type = "application/octet-stream"});
  REQUIRE(witness.Log().size() == 1);
  CHECK((witness.Log()[0].body == Bytes(100'000)));
  if (!limited) {
    CHECK(reply.ok());
    return;
  }
  CHECK(reply.outcome == Outcome::kBodySpent);
  CHECK(reply.status == 429);
  CHECK(reply.verdict == VerdictKind::kRateLimited);
  CHECK(reply.message.find("only once") != std::string::npos);
  CHECK(reply.message.find("Rate limit reached") != std::string::npos);
  CHECK(Trail(reply) == "A 429");
  CHECK(pool.rotator.Availability({}).available == 1);
  CHECK(pool.rotator.Availability({}).busy == 0);
}

TEST_CASE("an upload of which no byte was read may be sent again",
          "[client][endpoints]") {
  RefusingPort port;
  TestClient pool(port.origin(), Pool("A"));
  const BodySource source = BodySource::Once(ReaderOf("x"));
  const Reply reply = pool.client.Post("/files", source);
  CHECK(reply.outcome == Outcome::kUnavailable);
  CHECK(reply.trail.size() == 3);
  CHECK_FALSE(source.spent());
}

TEST_CASE("a source that does not keep its word is the caller's error",
          "[client][endpoints]") {
  Witness witness(
      [](const ArrivedRequest&) { return MakeAnswer(200, {"{}"}); });
  TestClient pool(witness.origin(), Pool("AB"));
  int opened = 0;
  const Reply reply = pool.client.Post("/files", SourceOf("x", opened, 2));
  CHECK(reply.outcome == Outcome::kCallerError);
  CHECK(reply.message.find("gave 1 bytes and had named 2") !=
        std::string::npos);
  CHECK(opened == 1);
  CHECK(pool.rotator.Availability({}).available == 2);
}

// ---- Raw streams ----

TEST_CASE("a raw stream is what the provider sent from the good attempt",
          "[client][endpoints][raw]") {
  const std::string sent =
      ": OPENROUTER PROCESSING\n\ndata: {\"choices\":[{\"index\":0,\"delta\":"
      "{\"content\":\"hi\"},\"finish_reason\":null}]}\r\n\r\n: ping\n\n"
      "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"
      "\"stop\"}]}\n\ndata: [DONE]\n\n";
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    FakeAnswer good = MakeAnswer(200, {}, "text/event-stream");
    good.stream = true;
    for (std::string_view rest = sent; !rest.empty();) {
      const auto piece = rest.substr(0, 1 + random() % 60);
      good.pieces.emplace_back(piece);
      rest.remove_prefix(piece.size());
    }
    // The first key: an error before the first event.
    FakeAnswer bad = MakeAnswer(
        200,
        {": OPENROUTER PROCESSING\n\n",
         "data: {\"error\":{\"code\":429,\"message\":\"Rate limit\"}}\n\n"},
        "text/event-stream");
    bad.stream = true;
    Witness witness([&](const ArrivedRequest& request) {
      return request.headers.Find("Authorization") == "Bearer sk-a" ? bad
                                                                    : good;
    });
    TestClient pool(witness.origin(), Pool("AB"));
    std::string got;
    const Reply reply = pool.client.ChatCompletionStream(
        testing::Chat("m", true),
        [&](std::string_view bytes) { got += bytes; });
    CHECK(reply.ok());
    CHECK(Trail(reply) == "A 200, B 200");
    CHECK(got == sent);
  }
}

TEST_CASE("a raw stream that breaks off is cut, and its error is not passed on",
          "[client][endpoints][raw]") {
  const std::string word =
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
  FakeAnswer answer = MakeAnswer(
      200, {word, "data: {\"error\":{\"message\":\"bad sk-a\"}}\n\n"},
      "text/event-stream");
  answer.stream = true;
  Witness witness([&](const ArrivedRequest&) { return answer; });
  TestClient pool(witness.origin(), Pool("AB"));
  std::string got;
  const Reply reply = pool.client.ChatCompletionStream(
      testing::Chat("m", true), [&](std::string_view bytes) {
        got += bytes;
        return true;
      });
  CHECK(reply.outcome == Outcome::kCut);
  CHECK(got == word);
  CHECK(witness.Log().size() == 1);
  CHECK(testing::Render(reply).find("sk-a") == std::string::npos);
}

}  // namespace
}  // namespace keyrotator::openai_client_endpoints_test
