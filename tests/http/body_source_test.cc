#include "keyrotator/http/body_source.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::http_body_source_test {
namespace {

// A reader of that text.
ReadBody Reader(std::string text) {
  auto rest = std::make_shared<std::string>(std::move(text));
  return [rest](std::span<char> room) {
    const std::size_t size = rest->copy(room.data(), room.size());
    rest->erase(0, size);
    return size;
  };
}

std::string ReadAll(const ReadBody& read, std::size_t room = 2) {
  std::string text;
  std::string piece(room, ' ');
  while (const std::size_t size = read(piece)) text.append(piece, 0, size);
  return text;
}

TEST_CASE("each reader of a source begins at its start", "[source]") {
  const BodySource source([] { return Reader("hello"); }, 5);
  const ReadBody first = source.Open();
  char one[1];
  CHECK(first(one) == 1);
  CHECK(ReadAll(source.Open()) == "hello");
  CHECK(ReadAll(first) == "ello");
  CHECK(ReadAll(source.Open()) == "hello");
  CHECK_FALSE(source.spent());
  CHECK(source.size() == 5);
}

TEST_CASE("a source that is read once can be opened until it is read",
          "[source]") {
  const BodySource source = BodySource::Once(Reader("hello"));
  const std::vector<BodySource> copies{source};
  CHECK(source.Open());
  CHECK_FALSE(source.spent());
  CHECK(ReadAll(copies[0].Open()) == "hello");
  CHECK(source.spent());
  CHECK(copies[0].spent());
  CHECK_FALSE(source.Open());
  CHECK(source.size() == std::nullopt);
}

TEST_CASE("a body is a view of text or of a source", "[source]") {
  const std::string text = "text";
  const BodySource source([] { return Reader("hello"); });
  const auto view = [](BodyView body) { return body; };
  CHECK(view(text).text().data() == text.data());
  CHECK(view(std::string_view(text).substr(1)).text() == "ext");
  CHECK(view("literal").text() == "literal");
  CHECK(view(text).source() == nullptr);
  CHECK(view(source).source() == &source);
  CHECK(view(source).text().empty());
  CHECK_FALSE(view(source).empty());
  CHECK_FALSE(view(text).empty());
  CHECK(BodyView().empty());
  CHECK(view("").empty());
}

}  // namespace
}  // namespace keyrotator::http_body_source_test
