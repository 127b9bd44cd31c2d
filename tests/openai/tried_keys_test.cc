#include "keyrotator/openai/tried_keys.h"

#include <chrono>
#include <optional>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "tests/support/catch.h"

namespace keyrotator::openai_tried_keys_test {
namespace {

using internal::kNever;
using internal::Nanos;
using internal::TriedKeys;
using Keys = std::vector<KeyId>;

constexpr Nanos kSecond = 1'000'000'000;

// Three ids.
Keys Ids() {
  KeyRotator rotator({"sk-a", "sk-b", "sk-c"});
  Keys ids;
  for (const KeyStatus& key : rotator.Snapshot()) ids.push_back(key.id);
  return ids;
}

TEST_CASE("a key that was refused is never asked again", "[tried_keys]") {
  const Keys ids = Ids();
  TriedKeys tried;
  CHECK(tried.Excluded(0).empty());
  tried.Refuse(ids[1]);
  CHECK(tried.Excluded(0) == Keys{ids[1]});
  CHECK(tried.Excluded(kNever) == Keys{ids[1]});
  CHECK(tried.refused() == Keys{ids[1]});
  CHECK(tried.WhenRested(0) == kNever);
}

TEST_CASE("a key rests from its second use on, longer each time",
          "[tried_keys]") {
  const Keys ids = Ids();
  const RetryOptions options;
  TriedKeys tried;
  tried.Count(ids[0], 0, options);
  CHECK(tried.Excluded(0).empty());
  for (const Nanos rest : {kSecond / 2, kSecond, 2 * kSecond, 4 * kSecond}) {
    CAPTURE(rest);
    tried.Count(ids[0], 0, options);
    CHECK(tried.WhenRested(0) == rest);
    CHECK(tried.Excluded(rest - 1) == Keys{ids[0]});
    CHECK(tried.Excluded(rest).empty());
    CHECK(tried.WhenRested(rest) == kNever);
  }
}

TEST_CASE("a key that is to be asked again rests no longer than until then",
          "[tried_keys][S9]") {
  const Keys ids = Ids();
  const RetryOptions options;
  TriedKeys tried;
  for (const KeyId id : {ids[0], ids[1]}) {
    for (int i = 0; i < 2; ++i) tried.Count(id, 0, options);
  }
  tried.Retry(ids[0], kSecond / 4);
  tried.Retry(ids[1], kSecond);
  tried.Retry(ids[2], 0);
  CHECK(tried.Excluded(kSecond / 4 - 1) == Keys{ids[0], ids[1]});
  CHECK(tried.Excluded(kSecond / 4) == Keys{ids[1]});
  CHECK(tried.Excluded(kSecond / 2).empty());
}

TEST_CASE("of keys that rest the first to have rested counts, if not refused",
          "[tried_keys]") {
  const Keys ids = Ids();
  const RetryOptions options;
  TriedKeys tried;
  for (int i = 0; i < 2; ++i) tried.Count(ids[0], 0, options);
  for (int i = 0; i < 3; ++i) tried.Count(ids[1], 0, options);
  CHECK(tried.WhenRested(0) == kSecond / 2);
  CHECK(tried.Excluded(0) == Keys{ids[0], ids[1]});
  tried.Refuse(ids[0]);
  CHECK(tried.WhenRested(0) == kSecond);
}

}  // namespace
}  // namespace keyrotator::openai_tried_keys_test
