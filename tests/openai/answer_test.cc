#include "keyrotator/openai/answer.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::openai_answer_test {
namespace {

using internal::Ending;
using How = Ending::How;
using Kind = TransportError::Kind;
using WallTime = std::chrono::system_clock::time_point;

constexpr WallTime kNow{std::chrono::seconds(1'700'000'000)};

// Reads no JSON: a body is as good as its status, an event "error" is one, and
// the event "end" is the last.
struct PlainClassifier {
  Verdict operator()(const HttpResponse& response, WallTime now) const {
    CHECK(now == kNow);
    return {.kind = response.status == 200 ? VerdictKind::kOk
                                           : VerdictKind::kRateLimited,
            .retry_after = {},
            .should_retry = {},
            .code = {},
            .message = response.body};
  }
  std::optional<Verdict> operator()(std::string_view event,
                                    std::string_view data, WallTime now) const {
    CHECK(now == kNow);
    if (event != "error") return std::nullopt;
    return Verdict{.kind = VerdictKind::kOverloaded,
                   .retry_after = {},
                   .should_retry = {},
                   .code = {},
                   .message = std::string(data)};
  }
  bool Completes(std::string_view event, std::string_view) const {
    return event == "end";
  }
};

// An answer, and what came out of it.
struct Reading {
  explicit Reading(bool stream)
      : answer(classifier, stream ? internal::Expected::kEvents
                                  : internal::Expected::kBody) {}

  Flow Body(std::string_view bytes) {
    return answer.OnBody(bytes, kNow, [this](const SseEvent& event) {
      events.emplace_back(event.data);
      return events.size() < wanted;
    });
  }
  Ending End(const TransportError* error = nullptr) {
    return answer.End(error, kNow, [](const SseEvent&) {});
  }

  PlainClassifier classifier;
  internal::Answer<PlainClassifier> answer;
  std::vector<std::string> events;
  std::size_t wanted = 1000;
};

constexpr std::string_view kWord = "data: word\n\n";
constexpr std::string_view kLast = "event: end\ndata: last\n\n";
constexpr std::string_view kError = "event: error\ndata: oops\n\n";
constexpr std::string_view kDone = "data: [DONE]\n\n";

TEST_CASE("a body is collected and judged at its end", "[answer]") {
  Reading it(false);
  it.answer.OnHead(429, {{"Retry-After", "1"}});
  CHECK(it.Body("slow ") == Flow::kMore);
  CHECK(it.Body("down") == Flow::kMore);
  const Ending ending = it.End();
  CHECK(ending.how == How::kWhole);
  CHECK(ending.verdict.kind == VerdictKind::kRateLimited);
  CHECK(ending.verdict.message == "slow down");
  CHECK_FALSE(ending.ambiguous);
  CHECK(it.answer.response().status == 429);
  CHECK(it.answer.response().headers.Find("retry-after") == "1");
  CHECK(it.answer.TakeResponse().body == "slow down");
}

TEST_CASE("a request was surely not acted on where the status says so",
          "[answer]") {
  for (const int status : {200, 400, 404, 408, 409, 500, 502, 504}) {
    CAPTURE(status);
    Reading it(false);
    CHECK(it.answer.Whole({.status = status}, kNow).ambiguous);
  }
  for (const int status : {401, 402, 403, 429, 503, 529}) {
    CAPTURE(status);
    Reading it(false);
    CHECK_FALSE(it.answer.Whole({.status = status}, kNow).ambiguous);
  }
}

TEST_CASE("an error is kept up to 256 KiB, a success whole", "[answer]") {
  for (const int status : {200, 400}) {
    Reading it(false);
    it.answer.OnHead(status, {});
    for (int i = 0; i < 300; ++i)
      CHECK(it.Body(std::string(1024, 'x')) == Flow::kMore);
    CHECK(it.answer.response().body.size() ==
          (status == 200 ? 300 : 256) * 1024);
  }
}

TEST_CASE("what bytes of a stream are to the transfer", "[answer]") {
  Reading it(true);
  it.answer.OnHead(200, {});
  CHECK(it.Body("\n\n") == Flow::kIdle);
  CHECK(it.Body(": hello\n\n") == Flow::kIdle);
  CHECK_FALSE(it.answer.delivered());
  CHECK(it.Body("data: wo") == Flow::kIdle);
  CHECK(it.Body("rd\n\n: and\n\n") == Flow::kMore);
  CHECK(it.answer.delivered());
  CHECK(it.Body(": more\n\n") == Flow::kIdle);
  CHECK_FALSE(it.answer.complete());
  CHECK(it.Body(kDone) == Flow::kComplete);
  CHECK(it.answer.complete());
  CHECK(it.Body("\n") == Flow::kComplete);
  CHECK(it.events == std::vector<std::string>{"word"});
  CHECK(it.End().how == How::kWhole);
}

TEST_CASE("a sink that wants no more stops the stream", "[answer]") {
  Reading it(true);
  it.wanted = 1;
  it.answer.OnHead(200, {});
  CHECK(it.Body(std::string(kWord) + std::string(kLast)) == Flow::kStop);
  CHECK(it.events.size() == 1);
  CHECK(it.End().how == How::kStopped);
}

TEST_CASE("how a stream ends, whatever its split", "[answer]") {
  struct Case {
    std::string_view body;
    bool error;
    How how;
    VerdictKind verdict;
    bool ambiguous;
  };
  const std::string word(kWord);
  const std::string whole = word + std::string(kLast);
  const std::string failed = word + std::string(kError);
  const std::string late = whole + std::string(kError);
  const std::string done = word + std::string(kDone);
  using enum VerdictKind;
  const Case cases[] = {
      {whole, false, How::kWhole, kOk, false},
      {whole, true, How::kWhole, kOk, false},
      {late, false, How::kWhole, kOk, false},
      {done, false, How::kWhole, kOk, false},
      {kDone, false, How::kWhole, kOk, false},
      {word, false, How::kBroken, kTransient, false},
      {word, true, How::kBroken, kTransient, false},
      {failed, false, How::kBroken, kOverloaded, false},
      {failed, true, How::kBroken, kOverloaded, false},
      {kError, false, How::kWhole, kOverloaded, true},
      {kError, true, How::kWhole, kOverloaded, true},
      {": only this\n\n", false, How::kWhole, kTransient, true},
      {"", false, How::kWhole, kTransient, true},
  };
  const TransportError lost{.message = "gone"};
  for (const Case& c : cases) {
    for (const std::size_t piece : {1U, 7U, 1000U}) {
      CAPTURE(c.body, c.error, piece);
      Reading it(true);
      it.answer.OnHead(200, {});
      for (auto rest = c.body; !rest.empty();
           rest.remove_prefix(std::min(piece, rest.size()))) {
        if (it.Body(rest.substr(0, piece)) == Flow::kStop) break;
      }
      const Ending ending = it.End(c.error ? &lost : nullptr);
      CHECK(ending.how == c.how);
      CHECK(ending.verdict.kind == c.verdict);
      CHECK(ending.ambiguous == c.ambiguous);
      if (c.error && c.verdict == kTransient)
        CHECK(ending.verdict.message == "gone");
      for (const std::string& event : it.events)
        CHECK((event == "word" || event == "last"));
    }
  }
}

TEST_CASE("JSON or a page in place of a stream is a body", "[answer]") {
  const std::string body = GENERATE("{\"a\":1}", "[1]", "<html>");
  CAPTURE(body);
  Reading it(true);
  it.answer.OnHead(200, {{"content-TYPE", "text/event-stream"}, {"x", "y"}});
  CHECK(it.Body("\r\n ") == Flow::kIdle);
  // No event, so no life: see HttpRequest::begin_timeout.
  CHECK(it.Body(body) == Flow::kIdle);
  CHECK(it.answer.response().body == body);
  CHECK_FALSE(it.answer.response().headers.Find("Content-Type"));
  CHECK(it.answer.response().headers.Find("x") == "y");
  CHECK(it.End().verdict.kind == VerdictKind::kOk);
}

TEST_CASE("a refusal that was cut is that refusal, a success is lost",
          "[answer]") {
  const TransportError lost{.message = "gone", .maybe_sent = true};
  Reading refused(true);
  refused.answer.OnHead(429, {});
  CHECK(refused.End(&lost).verdict.kind == VerdictKind::kRateLimited);
  CHECK(refused.answer.response().status == 429);
  Reading served(false);
  served.answer.OnHead(200, {});
  CHECK(served.End(&lost).verdict.kind == VerdictKind::kTransient);
  CHECK(served.answer.response().status == 0);
}

TEST_CASE("the answer to HEAD is good without a body", "[answer]") {
  for (const int status : {200, 404}) {
    PlainClassifier classifier;
    internal::Answer answer(classifier, internal::Expected::kHead);
    answer.OnHead(status, {{"Content-Type", "application/json"}});
    const Ending ending = answer.End(nullptr, kNow, [](const SseEvent&) {});
    CHECK(ending.how == How::kWhole);
    CHECK(ending.verdict.kind ==
          (status == 200 ? VerdictKind::kOk : VerdictKind::kRateLimited));
  }
}

TEST_CASE("a good body above the limit is read no further and is an error",
          "[answer]") {
  for (const bool events : {false, true}) {
    for (const std::size_t size : {10U, 11U}) {
      PlainClassifier classifier;
      internal::Answer answer(
          classifier,
          events ? internal::Expected::kEvents : internal::Expected::kBody, 10);
      const auto sink = [](const SseEvent&) {};
      answer.OnHead(200, {});
      static_cast<void>(answer.OnBody("{\"id\"", kNow, sink));
      const Flow flow = answer.OnBody(std::string(size - 5, ' '), kNow, sink);
      CHECK((flow == Flow::kStop) == (size > 10));
      const Ending ending = answer.End(nullptr, kNow, sink);
      if (size <= 10) continue;
      CHECK(ending.verdict.kind == VerdictKind::kTransient);
      CHECK(ending.verdict.should_retry == false);
      CHECK(ending.ambiguous);
      CHECK_THAT(ending.verdict.message,
                 testing::ContainsSubstring("above 10 bytes"));
      CHECK(answer.response().body.empty());
    }
  }
  // What is no success is cut, and says what it says.
  PlainClassifier classifier;
  internal::Answer answer(classifier, internal::Expected::kBody, 10);
  const auto sink = [](const SseEvent&) {};
  answer.OnHead(429, {});
  CHECK(answer.OnBody(std::string(300'000, ' '), kNow, sink) == Flow::kMore);
  CHECK(answer.End(nullptr, kNow, sink).verdict.kind ==
        VerdictKind::kRateLimited);
  CHECK(answer.response().body.size() == internal::kMaxErrorBody);
}

// ---- A raw sink ----

// A stream read by a raw sink, and what that got.
struct RawReading {
  Flow Body(std::string_view bytes) { return answer.OnBody(bytes, kNow, sink); }
  Ending End(const TransportError* error = nullptr) {
    return answer.End(error, kNow, sink);
  }
  // All of a stream, in pieces of up to that size.
  Ending Read(std::string_view stream, std::size_t size,
              const TransportError* error = nullptr) {
    answer.OnHead(200, {});
    Flow flow = Flow::kMore;
    while (!stream.empty() && flow != Flow::kStop) {
      const auto piece = stream.substr(0, 1 + random() % size);
      flow = Body(piece);
      stream.remove_prefix(piece.size());
    }
    return End(error);
  }
  std::string Joined() const {
    std::string joined;
    for (const std::string& bytes : pieces) joined += bytes;
    return joined;
  }

  PlainClassifier classifier;
  internal::Answer<PlainClassifier> answer{classifier,
                                           internal::Expected::kEvents};
  std::vector<std::string> pieces;
  std::size_t wanted = 1000;
  std::function<bool(std::string_view)> sink = [this](std::string_view bytes) {
    pieces.emplace_back(bytes);
    return pieces.size() < wanted;
  };
  std::mt19937 random{1};
};

TEST_CASE("a raw sink gets each event's bytes as they came", "[answer][raw]") {
  RawReading it;
  it.answer.OnHead(200, {});
  CHECK(it.Body("\n: hi\n\n") == Flow::kIdle);
  CHECK(it.pieces.empty());  // there may be no event, and then all begins anew
  CHECK(it.Body("id:1\r\ndata:  a\r\n\r\nda") == Flow::kMore);
  CHECK(it.answer.delivered());
  CHECK(it.Body("ta: b\nunknown\n") == Flow::kIdle);
  CHECK(it.Body("\n: still here\n\n: and") == Flow::kMore);
  CHECK(it.Body(" here\n\n") == Flow::kIdle);
  CHECK(it.Body("data: [DONE]\n\n: bye\n") == Flow::kComplete);
  CHECK(it.Body("\n") == Flow::kComplete);
  CHECK(it.End().how == How::kWhole);
  CHECK(it.pieces ==
        std::vector<std::string>{"\n: hi\n\nid:1\r\ndata:  a\r\n\r\n",
                                 "data: b\nunknown\n\n", ": still here\n\n",
                                 ": and here\n\n", "data: [DONE]\n\n",
                                 ": bye\n", "\n"});
}

TEST_CASE(
    "what a raw sink gets is what a whole stream was, however it is split",
    "[answer][raw]") {
  constexpr std::string_view kParts[] = {
      "data: word\n\n",        "data: two\r\ndata: lines\r\n\r\n",
      ": comment\n\n",         "\n\n",
      "event: a\rdata: b\r\r", ": comment\n",
      "retry: 1\n\n",          "id: 7\ndata\n\n"};
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string stream;
    for (std::size_t i = random() % 8; i > 0; --i)
      stream += kParts[random() % std::size(kParts)];
    stream += kLast;
    for (std::size_t i = random() % 3; i > 0; --i)
      stream += kParts[random() % std::size(kParts)];
    if (random() % 2 == 0) stream += "data: [DONE]\n";
    if (random() % 2 == 0) stream += "\n";
    CAPTURE(stream);
    RawReading it;
    it.random.seed(static_cast<unsigned>(round));
    CHECK(it.Read(stream, 1 + random() % 20).how == How::kWhole);
    CHECK(it.Joined() == stream);
  }
}

TEST_CASE("a raw sink is never given an error, nor what came before all events",
          "[answer][raw]") {
  struct Case {
    std::string stream;
    std::string passed;
    How how;
    VerdictKind verdict;
  };
  using enum VerdictKind;
  const std::string word(kWord);
  const std::string error(kError);
  const std::string last(kLast);
  const Case cases[] = {
      {": hi\n\n" + error, "", How::kWhole, kOverloaded},
      {": hi\n\n", "", How::kWhole, kTransient},
      {": hi\n\ndata: un", "", How::kWhole, kTransient},
      {error.substr(0, error.size() - 1), "", How::kWhole, kOverloaded},
      {word + ": hi\n" + error + word, word, How::kBroken, kOverloaded},
      {word + error.substr(0, error.size() - 1), word, How::kBroken,
       kOverloaded},
      {word + "data: un", word, How::kBroken, kTransient},
      {word + last + error + ": bye\n\n", word + last + ": bye\n\n",
       How::kWhole, kOk},
      {std::string(kDone), std::string(kDone), How::kWhole, kOk},
      {"{\"a\": 1}", "", How::kWhole, kOk},
      {"\n<html>", "", How::kWhole, kOk},
  };
  for (const Case& c : cases) {
    for (const std::size_t size : {1U, 5U, 1000U}) {
      CAPTURE(c.stream, size);
      RawReading it;
      const Ending ending = it.Read(c.stream, size);
      CHECK(ending.how == c.how);
      CHECK(ending.verdict.kind == c.verdict);
      CHECK(it.Joined() == c.passed);
      CHECK(it.answer.delivered() == !c.passed.empty());
    }
  }
}

TEST_CASE("what a raw stream holds before its first event is bounded",
          "[answer][raw]") {
  for (const char c : {'\n', ':'}) {
    RawReading it;
    it.answer.OnHead(200, {});
    const std::string bytes(1 << 20, c);
    int taken = 0;
    while (taken < 100 && it.Body(bytes) == Flow::kIdle) ++taken;
    CHECK(taken == 64);
    CHECK(it.End().verdict.kind == VerdictKind::kTransient);
  }
}

TEST_CASE("a raw sink that wants no more stops the stream", "[answer][raw]") {
  RawReading it;
  it.wanted = 1;
  it.answer.OnHead(200, {});
  CHECK(it.Body(std::string(kWord) + std::string(kLast)) == Flow::kStop);
  CHECK(it.End().how == How::kStopped);
  CHECK(it.Joined() == kWord);
}

TEST_CASE("what a transport's error comes to", "[answer]") {
  struct Case {
    Kind kind;
    How how;
    VerdictKind verdict;
  };
  using enum VerdictKind;
  for (const Case& c : {Case{Kind::kConnect, How::kWhole, kTransient},
                        Case{Kind::kTls, How::kWhole, kTransient},
                        Case{Kind::kTimeout, How::kWhole, kTransient},
                        Case{Kind::kLost, How::kWhole, kTransient},
                        Case{Kind::kBadUrl, How::kWhole, kCallerError},
                        Case{Kind::kBody, How::kWhole, kCallerError},
                        Case{Kind::kStopped, How::kStopped, kOk}}) {
    for (const bool sent : {true, false}) {
      CAPTURE(static_cast<int>(c.kind), sent);
      Reading it(false);
      const Ending ending = it.answer.Lost(
          {.kind = c.kind, .message = "why", .maybe_sent = sent});
      CHECK(ending.how == c.how);
      CHECK(ending.verdict.kind == c.verdict);
      CHECK(ending.ambiguous == (sent && c.how == How::kWhole));
      CHECK(ending.verdict.message == (c.how == How::kWhole ? "why" : ""));
    }
  }
}

// An answer that is passed on, whatever it is.
struct Passing {
  Passing(const char* type, const char* coding = "", int status = 200,
          std::size_t max_body = internal::kMaxBody)
      : answer(classifier, internal::Expected::kWhatComes, max_body) {
    Headers headers;
    if (*type != '\0') headers.Add("content-type", type);
    if (*coding != '\0') headers.Add("content-encoding", coding);
    answer.OnHead(status, headers);
  }

  Flow Body(std::string_view bytes) {
    return answer.OnBody(bytes, kNow, [this](std::string_view piece) {
      passed += piece;
      return takes;
    });
  }
  Ending End(const TransportError* error = nullptr) {
    return answer.End(error, kNow,
                      [this](std::string_view piece) { passed += piece; });
  }

  PlainClassifier classifier;
  internal::Answer<PlainClassifier> answer;
  std::string passed;
  bool takes = true;
};

TEST_CASE("what can be no error is passed on from its first byte", "[answer]") {
  struct Case {
    const char* type;
    const char* coding;
  };
  for (const auto& [type, coding] :
       {Case{"audio/mpeg", ""}, Case{"application/octet-stream", "identity"},
        Case{"application/jsonl", ""}, Case{"application/json", "gzip"},
        Case{"text/event-stream", "br"}, Case{"text/plain", ""}}) {
    INFO(type << " " << coding);
    Passing it(type, coding);
    CHECK(it.Body("{") == Flow::kMore);
    CHECK(it.passed == "{");
    CHECK(it.Body("ID3\xff") == Flow::kMore);
    CHECK(it.passed == "{ID3\xff");
    CHECK(it.answer.delivered());
    const Ending ending = it.End();
    CHECK(ending.how == How::kWhole);
    CHECK(ending.verdict.kind == VerdictKind::kOk);
  }
}

TEST_CASE("what may be an error is judged before it is passed on", "[answer]") {
  for (const char* type : {"application/json; charset=utf-8", "text/html", "",
                           "application/problem+json"}) {
    INFO(type);
    Passing it(type);
    CHECK(it.Body("{\"a\":") == Flow::kMore);
    CHECK(it.Body("1}") == Flow::kMore);
    CHECK(it.End().how == How::kWhole);
    CHECK(it.passed.empty());
    CHECK_FALSE(it.answer.delivered());
    CHECK(it.answer.response().body == "{\"a\":1}");
  }
  Passing refused("audio/mpeg", "", 429);
  CHECK(refused.Body("slow down") == Flow::kMore);
  CHECK(refused.End().verdict.kind == VerdictKind::kRateLimited);
  CHECK(refused.passed.empty());
}

TEST_CASE("JSON that is longer than any error is passed on as it comes",
          "[answer]") {
  Passing it("application/json");
  const std::string half(internal::kMaxErrorBody, 'a');
  CHECK(it.Body(half) == Flow::kMore);
  CHECK(it.passed.empty());
  CHECK(it.Body("b") == Flow::kMore);
  CHECK(it.passed == half + "b");
  CHECK(it.Body("c") == Flow::kMore);
  CHECK(it.passed == half + "bc");
  CHECK(it.answer.response().body.empty());
  CHECK(it.End().how == How::kWhole);
}

TEST_CASE("the largest body that may be held does not bound what is passed on",
          "[answer]") {
  Passing json("application/json", "", 200, 10);
  CHECK(json.Body("{\"a\":1234}") == Flow::kMore);
  CHECK(json.passed.empty());  // it may be an error yet
  CHECK(json.Body(" ") == Flow::kMore);
  CHECK(json.passed == "{\"a\":1234} ");
  CHECK(json.End().verdict.kind == VerdictKind::kOk);

  Passing file("audio/mpeg", "", 200, 10);
  CHECK(file.Body(std::string(100, 'a')) == Flow::kMore);
  CHECK(file.passed.size() == 100);
  CHECK(file.End().verdict.kind == VerdictKind::kOk);

  Passing refused("application/json", "", 429, 10);
  CHECK(refused.Body(std::string(100, ' ')) == Flow::kMore);
  CHECK(refused.End().verdict.kind == VerdictKind::kRateLimited);
  CHECK(refused.passed.empty());
}

TEST_CASE("a file that breaks off is cut, and lost if nothing came of it",
          "[answer]") {
  const TransportError lost{.kind = Kind::kLost, .message = "reset"};
  Passing cut("audio/mpeg");
  CHECK(cut.Body("ID3") == Flow::kMore);
  const Ending broken = cut.End(&lost);
  CHECK(broken.how == How::kBroken);
  CHECK(broken.verdict.message == "reset");

  Passing nothing("audio/mpeg");
  CHECK(nothing.End(&lost).verdict.kind == VerdictKind::kTransient);
  Passing empty("audio/mpeg");
  CHECK(empty.End().verdict.kind == VerdictKind::kOk);

  for (const TransportError* const error :
       std::initializer_list<const TransportError*>{&lost, nullptr}) {
    Passing unwanted("audio/mpeg");
    unwanted.takes = false;
    CHECK(unwanted.Body("ID3") == Flow::kStop);
    CHECK(unwanted.End(error).how == How::kStopped);
  }
}

TEST_CASE("events that are passed on are read as a stream", "[answer]") {
  Passing it("text/event-stream");
  CHECK(it.Body(": hello\n\nda") == Flow::kIdle);
  CHECK(it.passed.empty());
  CHECK(it.Body("ta: a\n\n") == Flow::kMore);
  CHECK(it.passed == ": hello\n\ndata: a\n\n");
  CHECK(it.Body("event: error\ndata: oops\n\n") == Flow::kStop);
  CHECK(it.passed == ": hello\n\ndata: a\n\n");
  CHECK(it.End().how == How::kBroken);
}

}  // namespace
}  // namespace keyrotator::openai_answer_test
