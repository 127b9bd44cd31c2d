// File: openai/spent_words.h
//
// How providers say that what a key may use is used up: money, a plan, a day's
// requests. They say it in too many ways for a list, so it is told by a noun
// and a verb near each other, and only in words of the provider's own: what is
// quoted from a prompt does not count.
//
// Example:
//   using namespace keyrotator::internal;
//   SaysSpent(429, OwnWords("Insufficient balance. Please recharge."));  // true

#ifndef KEYROTATOR_OPENAI_SPENT_WORDS_H_
#define KEYROTATOR_OPENAI_SPENT_WORDS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// How a phrase of kSpentPhrases counts.
enum class Spent {
  kNoun,   // what is paid for, at a word's start; with a verb near it
  kMoney,  // money, by itself
  kPlan,   // something else that is used up, by itself
  kReach,  // "you've reached your weekly (7-day) usage limit"
};

struct SpentPhrase {
  std::string_view words;
  Spent how = Spent::kPlan;
};

namespace rules {

using enum Spent;

// clang-format off

// In lower case. None begins another one.
inline constexpr auto kSpentPhrases = std::to_array<SpentPhrase>({
    {"balance", kNoun}, {"credit", kNoun}, {"fund", kNoun}, {"budget", kNoun},
    {"entitlement", kNoun}, {"allowance", kNoun}, {"allocation", kNoun},
    {"token plan quota", kNoun},                 // Huawei
    {"exceededbudget", kMoney},                  // LiteLLM's proxy
    {"exceededtokenbudget", kMoney},             // LiteLLM's proxy
    {"account is not active", kMoney},           // OpenAI
    {"billing hard limit", kMoney},              // OpenAI
    {"monthly spending limit", kMoney},          // xAI (continuedev/continue#10373)
    {"token quota is not enough", kMoney},       // new-api
    {"in arrears", kMoney},                      // DashScope
    {"余额不足", kMoney}, {"欠费", kMoney},      // Zhipu: no balance, in arrears
    {"额度不足", kMoney}, {"额度已用", kMoney},  // new-api, one-api: quota not enough, used
    {"配额不足", kMoney}, {"余量已用尽", kMoney}, {"套餐已到期", kMoney},  // quota, rest, plan run out
    {"usage limit reached"},                     // Zhipu, opencode
    {"usage limit has been reached"},            // OpenAI (openai/codex)
    {"usage limit exceeded"},                    // MiniMax
    {"usage quota"},                             // Volcengine Ark
    {"key limit exceeded"},                      // OpenRouter
    {"free tier of the model has been exhausted"},  // DashScope (666ghj/BettaFish#609)
    {"free allocated quota exceeded"},           // DashScope
    {"hour allocated quota exhausted"},          // DashScope, plans
    {"week allocated quota exhausted"},
    {"month allocated quota exhausted"},
    {"daily free allocation"},                   // Cloudflare
    {"set inference limit"},                     // Volcengine Ark
    {"calls / month"},                           // Cohere, trial keys
    {"使用上限"}, {"调用次数限额"}, {"调用上限"},  // Zhipu: limit of use, of calls
    {"reached your ", kReach},                   // Anthropic (anthropics/claude-code#38035), Kimi
});

// What became of the money, in the sentence of its noun.
inline constexpr auto kMoneyVerbs = std::to_array<std::string_view>({
    "insufficient", "exhausted", "depleted", "expired", "overdue", "not enough",
    "used up", "used all", "doesn't have any", "too low", "out of", "exceeded",
    "in arrears",
});

// With a 400 or 500 a message that does not begin like this may be about what
// the caller sent.
inline constexpr auto kSpentOpenings = std::to_array<std::string_view>({
    "insufficient balance",                           // MiniMax
    "your credit balance is too low",                 // Anthropic (anthropics/claude-code#66314)
    "your account is not active",                     // OpenAI
    "billing hard limit",                             // OpenAI
    "budget has been exceeded",                       // LiteLLM's proxy
    "litellm.budgetexceedederror",                    // LiteLLM's proxy
    "the free tier of the model has been exhausted",  // DashScope
    "key limit exceeded",                             // OpenRouter
    "余额不足", "您的账户已欠费",                     // Zhipu
});

// A day, week or month, which a limit is for. A minute is none.
inline constexpr auto kPeriods = std::to_array<std::string_view>({
    "per day", "per-day", "perday", "byday", "/ day", "daily", "per month",
    "/ month", "monthly", "weekly", "per week", "tpd", "rpd",
    "每日", "今日", "每周", "每月",
});

// clang-format on

}  // namespace rules

// Phrases by the two bytes that they begin with, so that a text is looked
// through once for all of them.
template <std::size_t kCount>
class PhraseIndex {
 public:
  template <class Phrases, class Words>
  constexpr PhraseIndex(const Phrases& phrases, Words words) {
    for (std::size_t i = 0; i < kCount; ++i) {
      const std::string_view phrase = words(phrases[i]);
      std::uint8_t& first = first_[Pair(phrase[0], phrase[1])];
      next_[i] = first;
      first = static_cast<std::uint8_t>(i + 1);
    }
  }

  // Whether one may begin with these two bytes.
  constexpr bool Has(char first, char second) const {
    return first_[Pair(first, second)] != 0;
  }

  // Calls visit(number of the phrase), in any order, for each that may begin
  // `text`, which has two bytes at least; until it returns true.
  template <class Visit>
  bool AnyOf(std::string_view text, Visit visit) const {
    for (std::size_t i = first_[Pair(text[0], text[1])]; i != 0;
         i = next_[i - 1]) {
      if (visit(i - 1)) return true;
    }
    return false;
  }

 private:
  static_assert(kCount < 255);
  static constexpr std::size_t Pair(char first, char second) {
    return static_cast<std::size_t>((first & 31) << 5 | (second & 31));
  }
  std::array<std::uint8_t, 1024> first_{};  // 0: none, else the number + 1
  std::array<std::uint8_t, kCount> next_{};
};

// What a provider says, as it is looked for: in lower case, with one kind of
// apostrophe, and without blanks in front.
inline std::string OwnWords(std::string_view text) {
  constexpr std::string_view kCurly = "\u2019";
  std::string words = Lower(SkipBlanks(text));
  for (std::size_t at = words.find(kCurly); at != words.npos;
       at = words.find(kCurly, at)) {
    words.replace(at, kCurly.size(), "'");
  }
  return words;
}

// Where a provider's own words stand, if anywhere.
inline std::string_view Beginning(std::string_view words) {
  return words.substr(0, 2048);
}

// --- Looking ---

// Where the first of the phrases stands, or npos.
inline std::size_t FindFirst(std::string_view text,
                             std::span<const std::string_view> phrases) {
  std::size_t first = text.npos;
  for (const std::string_view phrase : phrases)
    first = std::min(first, text.find(phrase));
  return first;
}

// Whether a word begins, or ends, at `at`.
inline bool IsWordEdge(std::string_view text, std::size_t at) {
  return at == 0 || at >= text.size() || !IsAlphanumeric(text[at - 1]) ||
         !IsAlphanumeric(text[at]);
}

// The same for whole words.
inline std::size_t FindWord(std::string_view text, std::string_view word,
                            std::size_t from = 0) {
  for (std::size_t at = text.find(word, from); at != text.npos;
       at = text.find(word, at + 1)) {
    if (IsWordEdge(text, at) && IsWordEdge(text, at + word.size())) return at;
  }
  return text.npos;
}

// Where a noun that ends there, or its verb, begins: the verb is in the same
// sentence, before or after it, so that both are within 48 bytes.
inline std::size_t FindNounAndVerb(std::string_view text, std::size_t noun,
                                   std::size_t size) {
  constexpr std::size_t kNear = 48;
  constexpr std::string_view kEnds = ".!?";
  if (!IsWordEdge(text, noun)) return text.npos;
  const std::size_t end = noun + size;
  std::size_t from = end > kNear ? end - kNear : 0;
  from += text.substr(from, noun - from).find_last_of(kEnds) + 1;
  const std::string_view after = text.substr(end, kNear - size);
  const std::size_t until =
      end + std::min(after.find_first_of(kEnds), after.size());
  const std::size_t verb =
      FindFirst(text.substr(from, until - from), rules::kMoneyVerbs);
  return verb == text.npos ? verb : std::min(noun, from + verb);
}

// Whether "reached your " goes on "weekly (7-day) usage limit".
inline bool IsUsageLimit(std::string_view rest) {
  const std::size_t limit = rest.substr(0, 53).find("usage limit");
  return limit <= 40 && rest.find_first_of(".\n") >= limit;
}

inline constexpr PhraseIndex<rules::kSpentPhrases.size()> kSpentIndex(
    rules::kSpentPhrases, [](const SpentPhrase& p) { return p.words; });

// Where it begins, if the phrase at `at` says that something is used up.
inline std::size_t SpentAt(std::string_view text, std::size_t at,
                           bool money_alone) {
  std::size_t found = text.npos;
  const std::string_view rest = text.substr(at);
  kSpentIndex.AnyOf(rest, [&](std::size_t i) {
    const auto& [words, how] = rules::kSpentPhrases[i];
    if (!rest.starts_with(words)) return false;
    const bool counts =
        how == Spent::kMoney ||
        (!money_alone &&
         (how == Spent::kPlan ||
          (how == Spent::kReach && IsUsageLimit(rest.substr(words.size())))));
    if (how == Spent::kNoun) {
      found = FindNounAndVerb(text, at, words.size());
    } else if (counts) {
      found = at;
    }
    return found != text.npos;
  });
  return found;
}

// Where the provider begins to say that something is used up: money alone, or
// anything. One pass.
inline std::size_t FindSpent(std::string_view text, bool money_alone = false) {
  for (std::size_t at = 0; at + 1 < text.size(); ++at) {
    if (!kSpentIndex.Has(text[at], text[at + 1]) || !IsWordEdge(text, at))
      continue;
    const std::size_t found = SpentAt(text, at, money_alone);
    if (found != text.npos) return found;
  }
  return text.npos;
}

// --- Whose words they are ---

// Whether a quotation may have begun in `before`: an opening quotation mark. An
// apostrophe inside a word is none.
inline bool OpensQuotation(std::string_view before,
                           std::string_view marks = "'\"`") {
  constexpr auto kMarks =
      std::to_array<std::string_view>({"\u201c", "\u2018", "\u300c", "\u300e"});
  if (FindFirst(before, kMarks) != before.npos) return true;
  for (std::size_t at = before.find_first_of(marks); at != before.npos;
       at = before.find_first_of(marks, at + 1)) {
    if (at == 0 || !IsAlphanumeric(before[at - 1])) return true;
  }
  return false;
}

// The same where a provider may hand on a prompt without marks: nothing before
// that could lead to one, and not far into the message.
inline bool LeadsToQuotation(std::string_view before) {
  constexpr std::size_t kFar = 80;
  constexpr auto kOther = std::to_array<std::string_view>({"\u201d", "\uff1a"});
  return before.size() > kFar || OpensQuotation(before) ||
         before.find_first_of(":\n[{(<\"`") != before.npos ||
         FindFirst(before, kOther) != before.npos;
}

// Whether the provider says, in its own words and with that status, that what
// the key may use is used up. `words`: OwnWords. Linear.
inline bool SaysSpent(int status, std::string_view words) {
  words = Beginning(words);
  if (status == 400 || status == 500) {
    const auto opens = [&](std::string_view opening) {
      return words.starts_with(opening);
    };
    if (std::any_of(rules::kSpentOpenings.begin(), rules::kSpentOpenings.end(),
                    opens))
      return true;
    const std::size_t you = words.starts_with("you've ")     ? 7
                            : words.starts_with("you have ") ? 9
                                                             : words.npos;
    return you != words.npos && FindSpent(words) == you;
  }
  if (status != 401 && status != 403 && status != 429) return false;
  const std::size_t at = FindSpent(words);
  if (at == words.npos) return false;
  const std::string_view before = words.substr(0, at);
  return status == 403 ? !LeadsToQuotation(before) : !OpensQuotation(before);
}

inline constexpr PhraseIndex<rules::kPeriods.size()> kPeriodIndex(
    rules::kPeriods, [](std::string_view period) { return period; });

inline bool IsPeriodAt(std::string_view words, std::size_t at) {
  const std::string_view rest = words.substr(at);
  return kPeriodIndex.AnyOf(rest, [&](std::size_t i) {
    const std::string_view period = rules::kPeriods[i];
    // "UserByModelByDay" has no blanks, and Chinese has none.
    const bool word = period.size() == 3 || period.ends_with("ly");
    return rest.starts_with(period) &&
           (!word ||
            (IsWordEdge(words, at) && IsWordEdge(words, at + period.size())));
  });
}

// Whether its first sentence says that the limit is one of a day or longer.
inline bool SaysPeriod(std::string_view words) {
  words = Beginning(words);
  words = words.substr(0, words.find(". "));
  for (std::size_t at = 0; at + 1 < words.size(); ++at) {
    if (!kPeriodIndex.Has(words[at], words[at + 1]) || !IsPeriodAt(words, at))
      continue;
    // Groq writes names of models in backticks.
    return !OpensQuotation(words.substr(0, at), "'\"");
  }
  return false;
}

// Whether it is a key or its owner that "is blocked", and not a text.
inline bool SaysBlocked(std::string_view words) {
  words = Beginning(words);
  constexpr auto kBlocked =
      std::to_array<std::string_view>({" is blocked", " are blocked"});
  constexpr auto kOwners = std::to_array<std::string_view>(
      {"key", "keys", "team", "account", "organization"});
  const std::size_t at = FindFirst(words, kBlocked);
  if (at == words.npos) return false;
  const std::string_view before = words.substr(0, at);
  const std::size_t sentence = before.find_last_of(".\n") + 1;
  return !LeadsToQuotation(before) &&
         std::any_of(kOwners.begin(), kOwners.end(), [&](auto owner) {
           return FindWord(before.substr(sentence), owner) != before.npos;
         });
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_SPENT_WORDS_H_
