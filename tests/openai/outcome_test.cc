#include "keyrotator/openai/outcome.h"

#include <fmt/format.h>

#include <chrono>
#include <set>
#include <string>

#include "tests/support/catch.h"

namespace keyrotator {
namespace {

using namespace std::chrono_literals;
using internal::Explain;

constexpr int kOutcomes = static_cast<int>(Outcome::kCut) + 1;

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
    const std::string text = Explain(outcome, {});
    CAPTURE(outcome, text);
    const bool good = outcome == Outcome::kPending || outcome == Outcome::kOk;
    CHECK(text.empty() == good);
    CHECK(text.find_first_of("{}") == std::string::npos);
    texts.insert(text);
  }
  CHECK(texts.size() == kOutcomes - 1);  // two are empty
}

TEST_CASE("an explanation quotes what is known", "[outcome]") {
  CHECK(Explain(Outcome::kUnavailable, {.attempts = 1}).find("1 attempt;") !=
        std::string::npos);
  CHECK(Explain(Outcome::kDeadline, {.attempts = 3}).find("3 attempts;") !=
        std::string::npos);
  CHECK(Explain(Outcome::kDenied, {.scope = "o3"}).find("access to o3.") !=
        std::string::npos);
  CHECK(Explain(Outcome::kDenied, {}).find("access.") != std::string::npos);
  CHECK(Explain(Outcome::kAllCooling, {.retry_in = 1500ms}).find("in 1.5 s") !=
        std::string::npos);
  // What is quoted is no format of its own.
  CHECK(Explain(Outcome::kCut, {.last_answer = " {last}{}"})
            .ends_with("again. {last}{}"));
}

TEST_CASE("the last answer is a sentence, if it was no success", "[outcome]") {
  using internal::DescribeAnswer;
  Verdict verdict;
  CHECK(DescribeAnswer(200, verdict).empty());
  verdict.kind = VerdictKind::kOverloaded;
  CHECK(DescribeAnswer(503, verdict) == " The last answer: 503, overloaded");
  verdict.message = "busy";
  CHECK(DescribeAnswer(0, verdict) ==
        " The last answer: none, overloaded: busy");
}

}  // namespace
}  // namespace keyrotator
