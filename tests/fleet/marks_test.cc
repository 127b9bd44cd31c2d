#include "keyrotator/fleet/marks.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "tests/support/catch.h"

namespace keyrotator::fleet_marks_test {
namespace {

using internal::Nanos;
using Kind = FleetNews::Kind;

constexpr Nanos kSecond = 1'000'000'000;

FleetNews News(Kind kind, Nanos span = 0, std::string id = "k") {
  return {.id = std::move(id), .kind = kind, .span = span};
}

FleetReply Told(const FleetMarks& marks, std::uint64_t known = 0,
                Nanos now = 0) {
  FleetReply reply;
  marks.Tell(known, now, reply);
  return reply;
}

// The only one.
FleetMark MarkIn(const FleetMarks& marks, Nanos now = 0) {
  const FleetReply reply = Told(marks, 0, now);
  REQUIRE(reply.marks);
  REQUIRE(reply.marks->size() == 1);
  return reply.marks->front();
}

TEST_CASE("what is known is told to who knows another version", "[fleet]") {
  FleetMarks marks(5000);
  CHECK(Told(marks).born == 5000);
  CHECK(Told(marks).version == 5000);
  marks.Hear(News(Kind::kFailed), 1, 0);
  const std::uint64_t version = Told(marks).version;
  CHECK(version == 5001);
  CHECK_FALSE(Told(marks, version).marks);
  CHECK(MarkIn(marks).failed == version);
}

TEST_CASE("one process's word counts once however often it is told",
          "[fleet]") {
  FleetMarks marks;
  marks.Hear(News(Kind::kFailed), 1, 0);
  const std::uint64_t version = Told(marks).version;
  marks.Hear(News(Kind::kFailed), 1, kSecond);
  CHECK(Told(marks).version == version);
  CHECK(MarkIn(marks).words == 1);
  marks.Hear(News(Kind::kFailed), 2, kSecond);
  CHECK(MarkIn(marks).words == 2);
  marks.Hear(News(Kind::kFailed), 3, kSecond);
  CHECK(MarkIn(marks).words == 2);
}

TEST_CASE("who is served takes its own word back, and of a key that is out all",
          "[fleet]") {
  FleetMarks marks;
  marks.Hear(News(Kind::kFailed), 1, 0);
  marks.Hear(News(Kind::kServed), 2, 0);
  CHECK(MarkIn(marks).words == 1);
  CHECK(MarkIn(marks).restored == 0);
  marks.Hear(News(Kind::kServed), 1, 0);
  CHECK(MarkIn(marks).words == 0);
  CHECK(MarkIn(marks).restored == 0);
  marks.Hear(News(Kind::kFailed), 1, 0);
  marks.Hear(News(Kind::kFailed), 2, 0);
  marks.Hear(News(Kind::kServed), 3, 0);
  CHECK(MarkIn(marks).words == 0);
  CHECK(MarkIn(marks).restored == Told(marks).version);
}

TEST_CASE("a trial in vain puts the next one off", "[fleet]") {
  FleetMarks marks;
  marks.Hear(News(Kind::kFailed, 60 * kSecond), 1, 0);
  marks.Hear(News(Kind::kFailed, 60 * kSecond), 2, 0);
  CHECK(MarkIn(marks, 50 * kSecond).failed_for == 10 * kSecond);
  // Over, but not for ever.
  CHECK(MarkIn(marks, 70 * kSecond).failed_for == 1);
  const FleetReply before = Told(marks);
  marks.Hear(News(Kind::kFailed, 60 * kSecond), 2, 60 * kSecond);
  CHECK(Told(marks).version > before.version);
  CHECK(MarkIn(marks, 70 * kSecond).failed_for == 50 * kSecond);
  CHECK(MarkIn(marks).failed == before.marks->front().failed);
  marks.Hear(News(Kind::kFailed), 2, 120 * kSecond);
  CHECK(MarkIn(marks).failed_for == 0);
}

TEST_CASE("of two rests the later end wins", "[fleet]") {
  FleetMarks marks;
  marks.Hear(News(Kind::kRested, 60 * kSecond), 1, 0);
  const std::uint64_t version = Told(marks).version;
  marks.Hear(News(Kind::kRested, 10 * kSecond), 2, kSecond);
  CHECK(Told(marks).version == version);
  CHECK(MarkIn(marks).rests == 60 * kSecond);
  FleetNews guess = News(Kind::kRested, 100 * kSecond);
  guess.is_guess = true;
  marks.Hear(guess, 2, kSecond);
  CHECK(MarkIn(marks, kSecond).rests == 100 * kSecond);
  CHECK(MarkIn(marks).is_guess);
  CHECK(MarkIn(marks, 200 * kSecond).rests == 0);
}

TEST_CASE("a mark that says nothing any more is forgotten after an hour",
          "[fleet]") {
  FleetMarks marks;
  marks.Hear(News(Kind::kRestored), 1, 0);
  marks.Hear(News(Kind::kFailed, 0, "other"), 1, 3600 * kSecond);
  CHECK(Told(marks).marks->size() == 2);
  marks.Hear(News(Kind::kFailed, 0, "other"), 2, 3601 * kSecond);
  CHECK(MarkIn(marks).id == "other");
}

TEST_CASE("marks do not grow without end", "[fleet]") {
  FleetMarks marks;
  for (std::size_t i = 0; i < FleetMarks::kMost + 10; ++i)
    marks.Hear(News(Kind::kFailed, 0, std::to_string(i)), 1, 0);
  CHECK(Told(marks).marks->size() == FleetMarks::kMost);
  marks.Hear(News(Kind::kFailed, 0, "0"), 2, 0);
  CHECK(Told(marks).marks->front().words == 2);

  FleetMarks few;
  few.Hear(News(Kind::kFailed, 0, std::string(FleetMarks::kMostName + 1, 'x')),
           1, 0);
  CHECK(Told(few).version == 0);
  few.Hear(News(Kind::kFailed, 0, std::string(FleetMarks::kMostName, 'x')), 1,
           0);
  CHECK(Told(few).marks->size() == 1);
}

}  // namespace
}  // namespace keyrotator::fleet_marks_test
