#include "keyrotator/openai/raw_events.h"

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::openai_raw_events_test {
namespace {

using internal::RawEvents;

// The pieces that a stream is cut into, joined where a cut is no blank line's.
std::vector<std::string> Blocks(std::string_view stream, std::size_t size) {
  RawEvents raw;
  std::vector<std::string> blocks;
  std::string open;
  while (!stream.empty()) {
    raw.Cut(stream.substr(0, size), [&](std::string_view piece, bool whole) {
      open += piece;
      if (whole) blocks.push_back(std::exchange(open, {}));
      return true;
    });
    stream.remove_prefix(std::min(size, stream.size()));
  }
  if (!open.empty()) blocks.push_back(open);
  return blocks;
}

TEST_CASE("a stream is cut behind each blank line, whatever its split",
          "[raw]") {
  for (const std::size_t size : {1U, 2U, 3U, 5U, 100U}) {
    CAPTURE(size);
    CHECK(Blocks("a\n\n: b\nc\n\nd", size) ==
          std::vector<std::string>{"a\n\n", ": b\nc\n\n", "d"});
    CHECK(Blocks("\n\na\r\rb\r\r", size) ==
          std::vector<std::string>{"\n", "\n", "a\r\r", "b\r\r"});
  }
  CHECK(Blocks("a\r\n\r\nb\r\n\r\n", 100) ==
        std::vector<std::string>{"a\r\n\r\n", "b\r\n\r\n"});
  // The CR ends the line; its LF may come much later, or never.
  CHECK(Blocks("a\r\n\r\nb", 1) == std::vector<std::string>{"a\r\n\r", "\nb"});
}

TEST_CASE("no byte is lost, and none comes twice", "[raw]") {
  std::mt19937 random(7);
  const auto below = [&](std::size_t most) { return random() % most; };
  for (int round = 0; round < 2000; ++round) {
    std::string stream;
    for (std::size_t i = below(40); i > 0; --i) stream += "a:\r\n"[below(4)];
    CAPTURE(stream);
    std::string joined;
    for (const std::string& block : Blocks(stream, 1 + below(8)))
      joined += block;
    CHECK(joined == stream);
  }
}

TEST_CASE("the cutting ends when that is asked for", "[raw]") {
  RawEvents raw;
  int pieces = 0;
  raw.Cut("a\n\nb\n\nc", [&](std::string_view, bool) { return ++pieces < 2; });
  CHECK(pieces == 2);
}

TEST_CASE("what was held comes first, once, and may be dropped", "[raw]") {
  RawEvents raw;
  std::vector<std::string> passed;
  const auto pass = [&](std::string_view bytes) {
    passed.emplace_back(bytes);
    return passed.size() != 2;
  };
  CHECK(raw.Release("a", pass));
  CHECK(raw.Hold("b"));
  CHECK(raw.Hold("c"));
  CHECK_FALSE(raw.Release("d", pass));
  CHECK(raw.Hold("e"));
  raw.Drop();
  CHECK(raw.Release("", pass));
  CHECK(raw.Hold("f"));
  CHECK(raw.Release("", pass));
  CHECK(passed == std::vector<std::string>{"a", "bcd", "f"});
}

TEST_CASE("no more is held than an event may have", "[raw]") {
  RawEvents raw;
  const std::string half(SseParser::kDefaultMaxEvent / 2, 'x');
  CHECK(raw.Hold(half));
  CHECK(raw.Hold(half));
  CHECK_FALSE(raw.Hold("x"));
}

}  // namespace
}  // namespace keyrotator::openai_raw_events_test
