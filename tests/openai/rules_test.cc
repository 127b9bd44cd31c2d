#include "keyrotator/openai/rules.h"

#include <cstddef>
#include <set>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_rules_test {
namespace {

constexpr int kNoStatus = 1000;

// Whether every answer that `row` fits is taken by `above` already.
bool Hides(const WordRule& above, const WordRule& row) {
  for (int status = 0; status < kNoStatus; ++status) {
    if (row.statuses.Has(status) && !above.statuses.Has(status)) return false;
  }
  if (!above.also.empty() && above.also != row.also) return false;
  if (above.where == Words::kOpens)
    return row.where == Words::kOpens && row.words.starts_with(above.words);
  return above.where == Words::kSays &&
         row.words.find(above.words) != std::string_view::npos;
}

TEST_CASE("statuses are those that are written, and no others", "[rules]") {
  constexpr Statuses kSome = "400 401 498";
  int found = 0;
  for (int status = -1; status < kNoStatus; ++status)
    found += kSome.Has(status) ? 1 : 0;
  CHECK(found == 3);
  CHECK(kSome.Has(400));
  CHECK(kSome.Has(401));
  CHECK(kSome.Has(498));
}

TEST_CASE("a name stands once in a table", "[rules]") {
  std::set<std::string_view> names;
  for (const NameRule& rule : rules::kNames) {
    CAPTURE(rule.name);
    CHECK(names.insert(rule.name).second);
  }
  // One that decides by itself needs no status.
  for (const NameStatus& row : rules::kNameStatuses) {
    CAPTURE(row.name);
    CHECK(names.insert(row.name).second);
    CHECK((row.status >= 400 && row.status < 600));
  }
}

TEST_CASE("words are written as they are looked for", "[rules]") {
  for (const WordRule& rule : rules::kWords) {
    CAPTURE(rule.words);
    CHECK_FALSE(rule.words.empty());
    CHECK(rule.words == Lower(rule.words));
    CHECK(rule.words == Trim(rule.words));
    CHECK(rule.also == Lower(rule.also));
    CHECK(IsDigit(rule.words.back()) == (rule.where == Words::kSaysNumber));
  }
}

TEST_CASE("no row of words is hidden by one above it", "[rules]") {
  for (std::size_t i = 0; i < rules::kWords.size(); ++i) {
    for (std::size_t above = 0; above < i; ++above) {
      CAPTURE(rules::kWords[above].words, rules::kWords[i].words);
      CHECK_FALSE(Hides(rules::kWords[above], rules::kWords[i]));
    }
  }
}

TEST_CASE("a status has one row", "[rules]") {
  for (int status = 0; status < kNoStatus; ++status) {
    int rows = 0;
    for (const StatusRule& rule : rules::kStatuses)
      rows += rule.statuses.Has(status) ? 1 : 0;
    CAPTURE(status);
    CHECK(rows <= 1);
  }
}

TEST_CASE("words that must both stand there may stand in either order",
          "[rules]") {
  for (const char* text :
       {"account acme is suspended", "it is suspended: the account is in debt"})
    CHECK(KindByWords(rules::kWords, 412, text) ==
          VerdictKind::kQuotaExhausted);
  CHECK_FALSE(KindByWords(rules::kWords, 412, "the model is suspended"));
  CHECK_FALSE(KindByWords(rules::kWords, 412, "your account"));
}

}  // namespace
}  // namespace keyrotator::internal::openai_rules_test
