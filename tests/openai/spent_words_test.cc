#include "keyrotator/openai/spent_words.h"

#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::openai_spent_words_test {
namespace {

bool Spent(int status, std::string_view text) {
  return SaysSpent(status, OwnWords(text));
}

TEST_CASE("phrases are written as they are looked for", "[spent_words]") {
  for (const SpentPhrase& phrase : rules::kSpentPhrases) {
    CAPTURE(phrase.words);
    CHECK(phrase.words.size() >= 2);
    CHECK(phrase.words == Lower(phrase.words));
  }
  for (const auto words : rules::kMoneyVerbs) CHECK(words == Lower(words));
  for (const auto words : rules::kSpentOpenings) CHECK(words == Lower(words));
  for (const auto words : rules::kPeriods) CHECK(words == Lower(words));
}

TEST_CASE("a noun of money and its verb say it, in either order",
          "[spent_words]") {
  for (const char* text :
       {"Insufficient balance", "Your balance is too low",
        "The credits of this team are exhausted", "You ran out of credits",
        "Your team doesn\u2019t have any credits", "余额不足"}) {
    CAPTURE(text);
    CHECK(Spent(429, text));
    CHECK(Spent(401, text));
    CHECK(Spent(403, text));
    CHECK_FALSE(Spent(404, text));
    CHECK_FALSE(Spent(422, text));
  }
}

TEST_CASE("a noun alone, a verb alone or one far away say nothing",
          "[spent_words]") {
  for (const char* text :
       {"", "Add 10 credits to unlock 1000 requests per day",
        "Rate limit exceeded", "Limit exceeded. See your balance.",
        "Insufficient tokens in the prompt that you have sent us, see balance",
        "Discredit exhausted",
        "You exceeded your current quota, please check your plan."}) {
    CAPTURE(text);
    CHECK_FALSE(Spent(429, text));
  }
}

TEST_CASE("what may be quoted from a prompt says nothing", "[spent_words]") {
  CHECK_FALSE(Spent(429, "Prompt 'insufficient balance' refused"));
  CHECK_FALSE(Spent(429, "Prompt \u201cinsufficient balance\u201d refused"));
  CHECK(Spent(429, "You're out of credits"));
  CHECK_FALSE(Spent(403, "Refused: insufficient balance"));
  CHECK_FALSE(Spent(403, std::string(81, 'x') + " insufficient balance"));
  // With a 400 only at the start.
  CHECK(Spent(400, "Insufficient balance"));
  CHECK_FALSE(Spent(400, "There is an insufficient balance"));
  CHECK(Spent(400, "You've reached your weekly usage limit"));
  CHECK_FALSE(Spent(400, "Since you've reached your weekly usage limit"));
}

TEST_CASE("a day or longer is said in the first sentence", "[spent_words]") {
  for (const char* text :
       {"limit of requests per day", "free-models-per-day", "UserByModelByDay",
        "Monthly quota exceeded", "on tokens per day (TPD)", "今日调用"}) {
    CAPTURE(text);
    CHECK(SaysPeriod(OwnWords(text)));
  }
  for (const char* text :
       {"", "requests per minute", "bimonthly", "Slow down. Up to 50 per day.",
        "Prompt 'per day' refused"}) {
    CAPTURE(text);
    CHECK_FALSE(SaysPeriod(OwnWords(text)));
  }
}

TEST_CASE("a key or its owner is blocked, and not a text", "[spent_words]") {
  CHECK(SaysBlocked("the api key is blocked"));
  CHECK(SaysBlocked("requests of this team are blocked"));
  CHECK_FALSE(SaysBlocked("the content you provided is blocked"));
  CHECK_FALSE(SaysBlocked("your key works. this text is blocked"));
  CHECK_FALSE(SaysBlocked("refused: \"the key is blocked\""));
  CHECK_FALSE(SaysBlocked("the monkey is blocked"));
}

}  // namespace
}  // namespace keyrotator::internal::openai_spent_words_test
