#include "keyrotator/openai/outcome.h"

#include <fmt/format.h>

#include <chrono>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::openai_outcome_test {
namespace {

using namespace std::chrono_literals;
using internal::Explain;

constexpr int kOutcomes = static_cast<int>(Outcome::kBodySpent) + 1;

TEST_CASE("every outcome has a name of its own", "[outcome]") {
  std::set<std::string> names;
  for (int i = 0; i < kOutcomes; ++i)
    names.insert(fmt::format("{}", static_cast<Outcome>(i)));
  CHECK(names.size() == kOutcomes);
  CHECK_FALSE(names.contains("unknown"));
  CHECK(ToString(static_cast<Outcome>(99)) == "unknown");
}

TEST_CASE("every outcome but a good one says what to do, in words of its own",
          "[outcome]") {
  std::set<std::string> texts;
  for (int i = 0; i < kOutcomes; ++i) {
    const auto outcome = static_cast<Outcome>(i);
    const std::string text = Explain(outcome, {}, {}, "", 0s);
    CAPTURE(outcome, text);
    const bool good = outcome == Outcome::kPending || outcome == Outcome::kOk;
    CHECK(text.empty() == good);
    CHECK(text.find_first_of("{}") == std::string::npos);
    texts.insert(text);
  }
  CHECK(texts.size() == kOutcomes - 1);  // two are empty
}

TEST_CASE("an explanation quotes what is known", "[outcome]") {
  const auto says = [](Outcome outcome, const std::vector<Attempt>& trail,
                       std::string_view scope, std::string_view words) {
    return Explain(outcome, trail, {}, scope, 1500ms).find(words) !=
           std::string::npos;
  };
  CHECK(says(Outcome::kUnavailable, std::vector<Attempt>(1), "", "1 attempt;"));
  CHECK(says(Outcome::kDeadline, std::vector<Attempt>(3), "", "3 attempts;"));
  CHECK(Explain(Outcome::kUnavailable, std::vector<Attempt>(1), {}, "", 0s,
                /*over_budget=*/true)
            .find("1 attempt, and so many requests fail that") !=
        std::string::npos);
  CHECK(says(Outcome::kDenied, {}, "o3", "access to o3."));
  CHECK(says(Outcome::kDenied, {}, "", "access."));
  CHECK(says(Outcome::kAllCooling, {}, "", "in 1.5 s"));
}

TEST_CASE("the last answer is quoted, if it was no success", "[outcome]") {
  std::vector<Attempt> trail(1);
  trail[0].status = 503;
  Verdict verdict;
  const auto explained = [&] {
    return Explain(Outcome::kCut, trail, verdict, "", 0s);
  };
  CHECK(explained().ends_with("again."));
  verdict.kind = VerdictKind::kOverloaded;
  CHECK(explained().ends_with(" The last answer: 503, overloaded"));
  // What is quoted is no format of its own.
  verdict.message = "{last}{}";
  CHECK(explained().ends_with(" The last answer: 503, overloaded: {last}{}"));
  trail[0].status = 0;
  CHECK(explained().ends_with(" answer: none, overloaded: {last}{}"));
  trail.clear();
  CHECK(explained().ends_with("again."));
}

}  // namespace
}  // namespace keyrotator::openai_outcome_test
