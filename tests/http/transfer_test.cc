#include "keyrotator/http/transfer.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/body_source.h"
#include "tests/support/catch.h"

namespace keyrotator::http_transfer_test {
namespace {

using internal::Delivery;
using internal::HeadReader;
using internal::IdlePool;
using internal::kNever;
using internal::Nanos;
using internal::Patience;
using Over = Patience::Over;

constexpr Nanos kMilli = 1'000'000;
constexpr Nanos kSecond = 1'000 * kMilli;

HttpRequest Bounds(std::chrono::milliseconds idle,
                   std::chrono::milliseconds total) {
  HttpRequest request;
  request.idle_timeout = idle;
  request.total_timeout = total;
  return request;
}

TEST_CASE("an upload is read from its start as often as it is opened",
          "[transfer]") {
  int opened = 0;
  const BodySource source = testing::SourceOf("hello", opened, 5);
  internal::Upload upload(source);
  char room[3];
  for (int i = 0; i < 2; ++i) {
    REQUIRE(upload.Open());
    CHECK(upload.Read(room) == 3);
    CHECK(std::string_view(room, 3) == "hel");
  }
  CHECK(upload.Read(room) == 2);
  CHECK(upload.Read(room) == 0);
  CHECK(upload.error().empty());
  CHECK(opened == 2);
}

TEST_CASE("an upload whose source does not keep its word is no upload",
          "[transfer]") {
  char room[10];
  int opened = 0;
  for (const std::uint64_t size : {4U, 6U}) {
    const BodySource source = testing::SourceOf("hello", opened, size);
    internal::Upload upload(source);
    REQUIRE(upload.Open());
    if (size == 6) CHECK(upload.Read(room) == 5);
    CHECK_FALSE(upload.Read(room));
    CHECK(upload.error() ==
          "its source gave 5 bytes and had named " + std::to_string(size));
  }
  const BodySource liar([] { return [](std::span<char>) { return 11; }; });
  internal::Upload upload(liar);
  REQUIRE(upload.Open());
  CHECK_FALSE(upload.Read(room));
  CHECK_FALSE(upload.error().empty());

  const BodySource once = BodySource::Once(testing::ReaderOf("hello"));
  internal::Upload first(once);
  REQUIRE(first.Open());
  CHECK(first.Read(room) == 5);
  CHECK_FALSE(first.Open());
  CHECK(first.error() == "its body can be read only once");
}

TEST_CASE("without bounds nothing is ever over", "[transfer]") {
  const Patience patience({}, 0);
  CHECK(patience.At(kNever, true).over == Over::kNothing);
  CHECK(patience.At(5, true).time == kNever);
}

TEST_CASE("a silence is counted from the last sign of life", "[transfer]") {
  Patience patience(Bounds(std::chrono::seconds(2), {}), 0);
  CHECK(patience.At(0, true).time == 2 * kSecond);
  CHECK(patience.At(2 * kSecond - 1, true).over == Over::kNothing);
  CHECK(patience.At(2 * kSecond, true).over == Over::kSilence);
  patience.Heard(kSecond);
  CHECK(patience.At(2 * kSecond, true).over == Over::kNothing);
  CHECK(patience.At(2 * kSecond, true).time == kSecond);
  CHECK(patience.At(3 * kSecond, true).over == Over::kSilence);
}

TEST_CASE("before the request leaves there is no silence", "[transfer]") {
  const Patience patience(Bounds(std::chrono::seconds(2), {}), 0);
  CHECK(patience.At(3 * kSecond, false).over == Over::kNothing);
  CHECK(patience.At(3 * kSecond, false).time == kNever);
}

TEST_CASE("no sign of life moves the bound of the whole", "[transfer]") {
  Patience patience(Bounds({}, std::chrono::seconds(5)), kSecond);
  patience.Heard(5 * kSecond);
  CHECK(patience.At(5 * kSecond, false).time == kSecond);
  CHECK(patience.At(6 * kSecond, false).over == Over::kWhole);
}

TEST_CASE("the bound of the beginning holds until the answer has begun",
          "[transfer]") {
  HttpRequest request;
  request.begin_timeout = std::chrono::seconds(5);
  Patience patience(request, kSecond);
  patience.Heard(5 * kSecond);
  CHECK(patience.At(5 * kSecond, false).time == kSecond);
  CHECK(patience.At(6 * kSecond, true).over == Over::kBeginning);
  patience.Begun();
  CHECK(patience.At(6 * kSecond, true).over == Over::kNothing);
  CHECK(patience.At(6 * kSecond, true).time == kNever);
}

TEST_CASE("what comes after the answer does not keep the transfer open",
          "[transfer]") {
  Patience patience({}, 0);
  patience.Complete(kSecond);
  patience.Heard(kSecond + 900 * kMilli);
  patience.Complete(kSecond + 900 * kMilli);
  CHECK(patience.At(kSecond + 900 * kMilli, true).time == 100 * kMilli);
  CHECK(patience.At(2 * kSecond, true).over == Over::kEnding);
}

TEST_CASE("an answer that is complete is no failure for being silent",
          "[transfer]") {
  Patience patience(Bounds(std::chrono::milliseconds(100), {}), 0);
  patience.Complete(0);
  CHECK(patience.At(99 * kMilli, true).over == Over::kNothing);
  // The silence is over before the second is, and ends the transfer as it does.
  CHECK(patience.At(100 * kMilli, true).over == Over::kEnding);
}

TEST_CASE("bounds of any length are counted", "[transfer]") {
  const auto longest = std::chrono::milliseconds::max();
  const Patience patience(Bounds(longest, longest), kSecond);
  CHECK(patience.At(kNever - 1, true).over == Over::kNothing);
  const std::chrono::milliseconds negative(-5);
  CHECK(Patience(Bounds({}, negative), 0).At(0, true).over == Over::kWhole);
}

// Answers each piece as it is told.
struct Script final : ResponseSink {
  void OnHead(int, Headers) override {}
  Flow OnBody(std::string_view) override { return next; }
  Flow next = Flow::kMore;
};

TEST_CASE("what the sink says is what the transfer is told", "[transfer]") {
  Script sink;
  Delivery delivery(sink);
  CHECK_FALSE(delivery.begun());
  delivery.Head(200, {});
  CHECK(delivery.begun());
  CHECK(delivery.Body("x"));
  CHECK_FALSE(delivery.idle());
  sink.next = Flow::kIdle;
  CHECK(delivery.Body("x"));
  CHECK(delivery.idle());
  sink.next = Flow::kComplete;
  CHECK(delivery.Body("x"));
  CHECK(delivery.done());
  CHECK_FALSE(delivery.ended());
  sink.next = Flow::kStop;
  CHECK_FALSE(delivery.Body("x"));
  CHECK(delivery.ended());
  CHECK(delivery.done());
}

TEST_CASE("what a sink throws comes out later, once", "[transfer]") {
  Script sink;
  Delivery delivery(sink);
  delivery.Rethrow();
  CHECK(delivery.Guard([] { return true; }));
  CHECK_FALSE(
      delivery.Guard([]() -> bool { throw std::runtime_error("full"); }));
  CHECK_THROWS_AS(delivery.Rethrow(), std::runtime_error);
  CHECK_NOTHROW(delivery.Rethrow());
}

struct Line {
  std::string origin;
  int number = 0;
};

TEST_CASE("a head is read line by line, each 1xx for itself", "[transfer]") {
  HeadReader reader;
  std::vector<std::string> heads;
  const auto on_end = [&](const Headers& fields) {
    std::string text;
    for (const auto& [name, value] : fields) text += name + "=" + value + ";";
    heads.push_back(text);
  };
  for (const char* line :
       {"HTTP/1.1 103 Early Hints\r\n", "Link: a\r\n", "\r\n",
        "HTTP/1.1 200 OK\r\n", "A:b:c\r\n", "B: \t x y \t\r\n", "C:\r\n", "\n"})
    CHECK(reader.Line(line, on_end));
  CHECK(heads == std::vector<std::string>{"Link=a;", "A=b:c;B=x y;C=;"});
}

TEST_CASE("a head may be of 256 KiB, with those before it", "[transfer]") {
  HeadReader reader;
  int ended = 0;
  const auto on_end = [&](const Headers&) { ++ended; };
  const std::string half = "A: " + std::string((128 << 10) - 4, 'a') + "\n";
  CHECK(reader.Line(half, on_end));
  CHECK(reader.Line(half, on_end));
  CHECK_FALSE(reader.too_large());
  CHECK_FALSE(reader.Line("\n", on_end));
  CHECK(reader.too_large());
  CHECK(ended == 0);
}

TEST_CASE("of idle connections the last used is taken, the oldest dropped",
          "[transfer]") {
  IdlePool<Line> pool(2);
  for (const int number : {1, 2, 3})
    pool.Put(std::make_unique<Line>(Line{"here", number}));
  CHECK(pool.Take("elsewhere") == nullptr);
  CHECK(pool.Take("here")->number == 3);
  CHECK(pool.Take("here")->number == 2);
  CHECK(pool.Take("here") == nullptr);
}

}  // namespace
}  // namespace keyrotator::http_transfer_test
