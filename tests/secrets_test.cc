// No secret in any output: everything that this layer can print or throw is
// rendered with marked secrets and searched for any six characters of them.

#include <chrono>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/keyrotator.h"
#include "tests/support/catch.h"
#include "tests/support/leaks.h"
#include "tests/support/rotator.h"

namespace keyrotator::testing::secrets_test {
namespace {

using std::chrono::seconds;

const std::string kMarked = "sk-QzXw7RtY2uIoP9aSdFgH4jKlM6nBvC";

void CheckClean(const std::string& text) {
  const auto leak = FindLeak(text, kMarked);
  // Not the text itself: a failing test must not print the secret either.
  INFO("six characters of the secret, from "
       << leak.value_or(0) << " on, are in a text of " << text.size()
       << " bytes");
  CHECK_FALSE(leak.has_value());
}

template <class... Args>
std::string ErrorOf(Args&&... args) {
  try {
    KeyRotator rotator(std::forward<Args>(args)...);
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

TEST_CASE("the search finds any six characters of a secret, and no fewer",
          "[secrets]") {
  for (std::size_t i = 0; i + 6 <= kMarked.size(); ++i) {
    CHECK(FindLeak("x" + kMarked.substr(i, 6) + "x", kMarked) == i);
    CHECK_FALSE(FindLeak("x" + kMarked.substr(i, 5) + "x", kMarked));
  }
  CHECK(FindLeak(kMarked, kMarked) == 0U);
  CHECK_FALSE(FindLeak("", kMarked));
}

TEST_CASE("no error tells a secret", "[secrets][S21]") {
  std::string errors;
  for (const std::string& bad :
       {kMarked + "\n" + kMarked, "\x01" + kMarked, kMarked + "\xff"}) {
    const std::string error = ErrorOf(ApiKeys{ApiKey(bad)}) +
                              ErrorOf(ApiKeys{ApiKey(bad, {.name = "n"})});
    CHECK_FALSE(error.empty());
    errors += error;
  }
  errors += ErrorOf(ApiKeys{ApiKey(kMarked, {.weight = -1})});
  errors += ErrorOf(ApiKeys{ApiKey(kMarked + "1", {.name = "n"}),
                            ApiKey(kMarked + "2", {.name = "n"})});
  CheckClean(errors);
}

TEST_CASE("no key, lease, snapshot, event or redacted text tells a secret",
          "[secrets][P13][S21]") {
  std::ostringstream out;
  ManualClock clock;
  KeyRotator rotator(
      {ApiKey(kMarked), ApiKey(kMarked + "/\"\\", {.name = "odd"}),
       ApiKey("other")},
      {.on_event =
           [&](const KeyEvent& event) {
             out << fmt::format("{}|{}", event, event.id);
           }},
      RoundRobin{}, clock);
  {
    const auto lease = rotator.Pick({.scope = "m"});
    out << *lease << fmt::format("{}", *lease) << ApiKey(kMarked)
        << fmt::format("{}", ApiKey(kMarked));
    out << lease->name() << lease->group() << lease->scope()
        << fmt::format("{}", lease->id());
    rotator.MarkRateLimited(*lease, seconds(5));
    rotator.MarkRateLimited(kMarked);
    rotator.MarkFailed(kMarked);
    for (const KeyStatus& row : rotator.Snapshot())
      out << fmt::format("{}", row) << row.name << row.group;
    out << rotator.Redact("401: " + kMarked + "; " + kMarked +
                          "\\/\\\"\\\\; u=" + kMarked + "/\"\\");
    rotator.Remove(kMarked);
    out << rotator.Redact(kMarked);
  }
  rotator.MarkFailed(kMarked + "/\"\\");
  rotator.MarkFailed("other");
  rotator.Pick();
  rotator.Restore("other");
  rotator.Add(kMarked);
  clock.Advance(seconds(100));
  rotator.Pick();
  CHECK(out.str().size() > 300);
  CheckClean(out.str());
}

}  // namespace
}  // namespace keyrotator::testing::secrets_test
