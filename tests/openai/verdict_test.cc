#include "keyrotator/openai/verdict.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::openai_verdict_test {
namespace {

TEST_CASE("every kind of verdict has a name of its own", "[verdict]") {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(VerdictKind::kCallerError); ++i) {
    const std::string_view name = ToString(static_cast<VerdictKind>(i));
    CHECK(name != "unknown");
    CHECK(names.insert(name).second);
  }
  CHECK(names.size() == 8);
  CHECK(ToString(static_cast<VerdictKind>(99)) == "unknown");
  static_assert(ToString(VerdictKind::kOk) == "ok");
}

TEST_CASE("a kind of verdict prints as its name", "[verdict]") {
  CHECK(fmt::format("{}", VerdictKind::kRateLimited) == "rate_limited");
  CHECK(fmt::format("{:>12}|", VerdictKind::kKeyInvalid) == " key_invalid|");
}

TEST_CASE("a verdict begins as ok, and says nothing else", "[verdict]") {
  const Verdict verdict;
  CHECK(verdict.kind == VerdictKind::kOk);
  CHECK_FALSE(verdict.retry_after);
  CHECK_FALSE(verdict.should_retry);
  CHECK(verdict.code.empty());
  CHECK(verdict.message.empty());
}

}  // namespace
}  // namespace keyrotator::openai_verdict_test
