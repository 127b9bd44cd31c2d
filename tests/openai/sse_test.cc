#include "keyrotator/openai/sse.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/openai/sse_reference.h"
#include "tests/support/catch.h"
#include "tests/support/vectors.h"

namespace keyrotator::openai_sse_test {
namespace {

using testing::OwnedEvent;
using testing::ParsePieces;
using testing::ReferenceParse;
using Json = nlohmann::json;
using Pieces = std::vector<std::string_view>;

// ---- The cases of vectors/sse.json -----------------------------------------

// In the file, a code point stands for a byte.
std::string ToBytes(const std::string& utf8) {
  std::string bytes;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    auto c = static_cast<unsigned char>(utf8[i]);
    if (c >= 0x80) {
      const auto low = static_cast<unsigned char>(utf8[++i]) & 0x3F;
      c = static_cast<unsigned char>((c & 0x03) << 6 | low);
    }
    bytes += static_cast<char>(c);
  }
  return bytes;
}

// Just enough to know where a case stops; what an error means is judged, and
// tested, elsewhere.
bool IsError(const OwnedEvent& event) {
  Json body = Json::parse(event.data, nullptr, false);
  if (body.is_array() && body.size() == 1) body = body[0];
  if (!body.is_object()) return false;
  return event.event == "error" ||
         (body.contains("error") && !body["error"].is_null());
}

// What an application sees that stops at "[DONE]" and at the first error.
struct Seen {
  std::vector<OwnedEvent> events;
  bool done = false;
  bool error = false;

  friend bool operator==(const Seen&, const Seen&) = default;
};

Seen Drive(const Pieces& pieces) {
  Seen seen;
  SseParser parser;
  const auto sink = [&](const SseEvent& event) {
    seen.done = event.data == "[DONE]";
    if (seen.done) return false;
    seen.events.push_back(testing::Own(event));
    seen.error = IsError(seen.events.back());
    return !seen.error;
  };
  for (const std::string_view piece : pieces) {
    const std::vector<char> block(piece.begin(), piece.end());
    parser.Feed({block.data(), block.size()}, sink);
  }
  parser.Finish(sink);
  if (const auto unfinished = parser.Unfinished()) {
    seen.error = IsError(testing::Own(*unfinished));
  }
  return seen;
}

Pieces Bytewise(std::string_view bytes, bool with_empty_pieces) {
  Pieces pieces;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    pieces.push_back(bytes.substr(i, 1));
    if (with_empty_pieces) pieces.push_back({});
  }
  return pieces;
}

TEST_CASE("every case of sse.json comes out as listed, in any split",
          "[sse][T13][T14]") {
  const Json cases = testing::ReadVectors("sse.json");
  REQUIRE(cases.size() >= 50);

  for (const Json& each : cases) {
    INFO(each["id"]);
    Seen expected;
    for (const Json& event : each["expect_events"]) {
      expected.events.push_back(
          {event["event"].is_null() ? "" : event["event"].get<std::string>(),
           event["data"].get<std::string>(), ""});
    }
    expected.done = each["expect_done"];
    expected.error = !each["expect_error"].is_null();

    std::vector<std::string> chunks;
    std::string all;
    for (const Json& chunk : each["chunks"]) {
      chunks.push_back(ToBytes(chunk));
      all += chunks.back();
    }
    const auto check = [&](const Pieces& pieces) {
      Seen seen = Drive(pieces);
      for (OwnedEvent& event : seen.events) event.id.clear();  // not listed
      return seen == expected;
    };
    CHECK(check(Pieces(chunks.begin(), chunks.end())));
    CHECK(check({all}));
    CHECK(check(Bytewise(all, false)));
    CHECK(check(Bytewise(all, true)));
    const std::string_view bytes = all;
    for (std::size_t i = 0; i <= bytes.size(); ++i) {
      INFO("split at " << i);
      REQUIRE(check({bytes.substr(0, i), {}, bytes.substr(i)}));
    }
  }
}

// ---- Any bytes, any split --------------------------------------------------

TEST_CASE("random bytes in random pieces parse as the whole text does",
          "[sse][T13][T14]") {
  static const std::vector<std::string> kParts = {
      "data",
      ":",
      " ",
      "\n",
      "\r",
      "\r\n",
      "\n\n",
      "data: x",
      "id: ",
      "event: e",
      ": c",
      "retry: 1",
      "\xEF\xBB\xBF",
      "\xEF",
      "\xBB",
      "\xBF",
      "\xD0\xB8",
      "\xF0\x9F\x98\x80",
      "\xED\xA0\x80",
      "\xC0",
      "\xF4\x90",
      "\xE2\x82",
      "data: [DONE]",
      std::string(1, '\0'),
      "a text long enough to leave the small string\n"};
  std::mt19937 random(20);
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (std::size_t n = below(24); n > 0; --n)
      text += kParts[below(kParts.size())];
    Pieces pieces;
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t size =
          below(std::min<std::size_t>(rest.size(), 12) + 1);
      pieces.push_back(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    INFO(Json(std::vector<std::uint8_t>(text.begin(), text.end())).dump());
    const auto expected = ReferenceParse(text);
    REQUIRE(ParsePieces({text}) == expected);
    REQUIRE(ParsePieces(pieces) == expected);
  }
}

TEST_CASE("UTF-8 of every two and three bytes is repaired as the standard says",
          "[sse]") {
  int wrong = 0;
  for (unsigned lead = 0x80; lead <= 0xFF; ++lead) {
    for (unsigned second = 0; second <= 0xFF; ++second) {
      for (const unsigned third : {0x20u, 0x7Fu, 0x80u, 0xBFu, 0xC2u, 0xF0u}) {
        for (const char* after : {"", "\x80", "\xBF", "z"}) {
          std::string text;
          for (const unsigned byte : {lead, second, third}) {
            text += static_cast<char>(byte);
          }
          text += after;
          if (internal::ToValidUtf8(text) != testing::ReferenceUtf8(text)) {
            ++wrong;
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a wrong byte is found wherever it stands in a long text", "[sse]") {
  for (std::size_t size = 1; size < 80; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      std::string text(size, 'a');
      text[at] = '\xFF';
      REQUIRE(internal::FindBrokenUtf8(text).valid == at);
    }
  }
}

// ---- Views -----------------------------------------------------------------

TEST_CASE("an event that lies whole in the bytes is a view of them", "[sse]") {
  const std::string bytes = "event: e\ndata: \xD0\xB8 text\n\n";
  bool inside = false;
  SseParser().Feed(bytes, [&](const SseEvent& event) {
    const auto is_inside = [&](std::string_view view) {
      return view.data() > bytes.data() &&
             view.data() < bytes.data() + bytes.size();
    };
    inside = is_inside(event.data) && is_inside(event.event);
  });
  CHECK(inside);
}

TEST_CASE("an event whose blank line comes in the next piece does not dangle",
          "[sse][T13]") {
  const std::string_view text =
      "event: a name longer than a small string\n"
      "id: an id that is longer than a small string, too\n"
      "data: and data longer than any small string can be\n"
      "\n";
  const auto expected = ReferenceParse(text);
  REQUIRE(expected.events.size() == 1);
  CHECK(ParsePieces({text.substr(0, text.size() - 1), "\n"}) == expected);
  CHECK(ParsePieces({text.substr(0, 60), text.substr(60, 70),
                     text.substr(130)}) == expected);
}

TEST_CASE("a copy of a parser between two pieces is independent", "[sse]") {
  std::vector<std::string> seen;
  const auto sink = [&](const SseEvent& event) {
    seen.emplace_back(event.data);
  };
  SseParser first;
  first.Feed("data: on", sink);
  SseParser second = first;
  first.Feed("e\n\n", sink);
  second.Feed("ly\n", sink);
  SseParser third = std::move(second);
  third.Feed("\n", sink);
  CHECK(seen == std::vector<std::string>{"one", "only"});
}

// ---- Lines -----------------------------------------------------------------

TEST_CASE("a CR at the end of a piece dispatches at once", "[sse][T14]") {
  int events = 0;
  const auto sink = [&](const SseEvent&) { ++events; };
  SseParser parser;
  parser.Feed("data: a\r", sink);
  parser.Feed("\r", sink);
  CHECK(events == 1);
  parser.Feed("", sink);
  parser.Feed("\ndata: b\r", sink);  // the LF belongs to the CR before it
  parser.Feed("", sink);
  parser.Feed("\n", sink);
  CHECK(events == 1);
  parser.Feed("\n", sink);  // only one LF does
  CHECK(events == 2);
}

TEST_CASE("one byte order mark is dropped, at the start alone", "[sse][T14]") {
  const std::string bom = "\xEF\xBB\xBF";
  CHECK(ParsePieces(Bytewise(bom + "data: x\n\n", true)).events.size() == 1);
  CHECK(ParsePieces({bom + bom + "data: x\n\n"}).events.empty());
  CHECK(ParsePieces({"\n" + bom + "data: x\n\n"}).events.empty());
}

TEST_CASE("an id holds for the events after it, unless it has a NUL", "[sse]") {
  using namespace std::string_view_literals;
  const auto result =
      ParsePieces({"id: 7\ndata\n\ndata\n\nid: 8\0\ndata\n\nid\ndata\n\n"sv});
  REQUIRE(result.events.size() == 4);
  CHECK(result.events[0].id == "7");
  CHECK(result.events[1].id == "7");
  CHECK(result.events[2].id == "7");
  CHECK(result.events[3].id.empty());
}

// ---- The end ---------------------------------------------------------------

TEST_CASE("the end dispatches a pending [DONE] and nothing else", "[sse]") {
  CHECK(ParsePieces({"data: [DONE]"}).events.size() == 1);
  CHECK(ParsePieces({"data: [DONE]\n"}).events.size() == 1);
  CHECK_FALSE(ParsePieces({"data: [DONE]\n"}).unfinished);

  const auto cut = ParsePieces({"event: error\ndata: {\"er\xFF"});
  CHECK(cut.events.empty());
  REQUIRE(cut.unfinished);
  CHECK(cut.unfinished->event == "error");
  CHECK(cut.unfinished->data == "{\"er\xEF\xBF\xBD");
  CHECK_FALSE(ParsePieces({"event: error\n"}).unfinished);
}

TEST_CASE("a sink that returns false sees no further event", "[sse]") {
  int events = 0;
  const auto sink = [&](const SseEvent&) { return ++events < 2; };
  SseParser parser;
  CHECK(parser.Feed("data: 1\n\n", sink));
  CHECK_FALSE(parser.Feed("data: 2\n\ndata: 3\n\ndata: 4\n", sink));
  CHECK_FALSE(parser.Feed("data: 5\n\n", sink));
  parser.Finish(sink);
  CHECK(events == 2);
  CHECK(parser.error().empty());
  CHECK_FALSE(parser.Unfinished());
}

TEST_CASE("a sink that throws ends the parsing", "[sse]") {
  SseParser parser;
  int events = 0;
  const auto sink = [&](const SseEvent&) {
    ++events;
    throw std::runtime_error("no");
  };
  CHECK_THROWS_AS(parser.Feed("data: 1\n\ndata: 2\n\n", sink),
                  std::runtime_error);
  CHECK_FALSE(parser.Feed("data: 3\n\n", sink));
  CHECK(events == 1);
}

TEST_CASE("bytes after Finish are ignored", "[sse]") {
  int events = 0;
  const auto sink = [&](const SseEvent&) { ++events; };
  SseParser parser;
  parser.Finish(sink);
  CHECK_FALSE(parser.Feed("data: 1\n\n", sink));
  CHECK(events == 0);
}

TEST_CASE("comments are told from events", "[sse]") {
  SseParser parser;
  const auto ignore = [](const SseEvent&) {};
  parser.Feed(": ping\n\n: ping\n\nretry: 1\n\nid: 1\n\n", ignore);
  CHECK(parser.events() == 0);
  parser.Feed("data: x\n\n: ping\n\n", ignore);
  CHECK(parser.events() == 1);
}

// ---- Size ------------------------------------------------------------------

// How many events come, and what error, with at most 16 bytes an event.
std::pair<int, std::string> WithinSixteen(std::string_view text,
                                          std::size_t piece) {
  SseParser parser(16);
  int events = 0;
  const auto sink = [&](const SseEvent&) { ++events; };
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    const bool more = parser.Feed(text.substr(0, piece), sink);
    if (more != parser.error().empty()) return {-1, "contradiction"};
  }
  parser.Finish(sink);
  return {events, std::string(parser.error())};
}

TEST_CASE("an event above max_event is an error in any split", "[sse]") {
  const std::string error = "a server-sent event is longer than 16 bytes";
  for (const std::size_t piece : {1u, 2u, 7u, 1000u}) {
    INFO("pieces of " << piece);
    const auto check = [&](std::string_view text) {
      return WithinSixteen(text, piece);
    };
    using Expected = std::pair<int, std::string>;
    // A line of 16 bytes, and one of 17, with and without its end.
    CHECK(check("data: 0123456789\n\n") == Expected(1, ""));
    CHECK(check("data: 0\n\ndata: 0123456789a\n\n") == Expected(1, error));
    CHECK(check("data: 0\n\ndata: 0123456789a") == Expected(1, error));
    CHECK(check(": a comment of that size") == Expected(0, error));
    // Data of 16 bytes in several lines, and of 17.
    CHECK(check("data: 01234567\ndata: 0123456\n\n") == Expected(1, ""));
    CHECK(check("data: 01234567\ndata: 01234567\n\n") == Expected(0, error));
    CHECK(check("data: 01234567\ndata: 01234567") == Expected(0, error));
    // Small events and comments do not add up.
    CHECK(check("data: 1234\n\ndata: 1234\n\ndata: 1234\n\n") ==
          Expected(3, ""));
    CHECK(check(": 12345\n: 12345\n: 12345\ndata: 1\n\n") == Expected(1, ""));
  }
}

}  // namespace
}  // namespace keyrotator::openai_sse_test
