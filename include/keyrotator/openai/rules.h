// File: openai/rules.h
//
// What providers say when they refuse, as data: the names, words and statuses
// that mean something for a key, one line an entry, with the provider and,
// where it is public, an issue that quotes the answer. A new provider's words
// are new lines here; in which order the tables are asked is classify.h.
//
// Example:
//   using namespace keyrotator::internal;
//   KindByWords(rules::kWords, 403, "not authenticated");  // kKeyInvalid

#ifndef KEYROTATOR_OPENAI_RULES_H_
#define KEYROTATOR_OPENAI_RULES_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/error_body.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator::internal {

// Up to six statuses, written "400 401 403". What is no such list does not
// compile.
class Statuses {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): so that rows are short.
  consteval Statuses(const char* text) {
    std::size_t last = 0;
    for (; *text != '\0'; ++text) {
      if (*text == ' ') {
        ++last;
      } else if (IsDigit(*text)) {
        statuses_.at(last) = statuses_.at(last) * 10 + (*text - '0');
      } else {
        throw "statuses are digits with one blank between them";
      }
    }
  }

  constexpr bool empty() const { return statuses_[0] == 0; }

  constexpr bool Has(int status) const {
    return status != 0 && std::find(statuses_.begin(), statuses_.end(),
                                    status) != statuses_.end();
  }

 private:
  std::array<int, 6> statuses_{};  // the rest is 0
};

// How a row's words must stand in what the provider says, without case.
enum class Words {
  kOpens,       // at its start, so that no prompt that it quotes counts
  kSays,        // anywhere
  kSaysNumber,  // anywhere, but the number at their end does not go on
};

// --- The tables. In each the first row that fits decides. ---

struct NameRule {
  std::string_view name;
  VerdictKind kind;
};

// Letters, one bit each.
constexpr std::uint32_t LetterBit(char c) { return 1U << (Lower(c) & 31); }

// "credit|credits", and the letters that these begin with.
struct Alternatives {
  // NOLINTNEXTLINE(google-explicit-constructor): so that rows are short.
  consteval Alternatives(const char* text) : all(text) {
    for (std::size_t at = 0; at < all.size(); ++at) {
      if (at == 0 || all[at - 1] == '|') initials |= LetterBit(all[at]);
    }
  }
  std::string_view all;
  std::uint32_t initials = 0;
};

// A name is split into words without case: "FreeTierOnly" is "free tier only".
struct NameWordsRule {
  Alternatives one_of;
  std::string_view and_one_of;  // empty: nothing else is asked for
  VerdictKind kind;
  std::string_view none_of = {};
  Statuses statuses = "";  // none: with each
};

struct NumberRule {
  ErrorPlace place;
  int number;
  VerdictKind kind;
};

struct NameStatus {
  std::string_view name;
  int status;
};

struct WordRule {
  Statuses statuses;
  Words where;
  std::string_view words;  // in lower case
  VerdictKind kind;
  std::string_view also = {};  // these must stand there, too
};

struct StatusRule {
  Statuses statuses;
  VerdictKind kind;
};

namespace rules {

using enum VerdictKind;
using enum Words;

// One line an entry.
// clang-format off

// What stands in error.code, error.reason, error.details or error.type, where it
// says more than the status, whatever that is.
inline constexpr auto kNames = std::to_array<NameRule>({
    {"insufficient_quota", kQuotaExhausted},                 // OpenAI (OpenHands/OpenHands#998)
    {"billing_not_active", kQuotaExhausted},                 // OpenAI (BerriAI/litellm#2743)
    {"billing_hard_limit_reached", kQuotaExhausted},         // OpenAI (Decryptu/DecryptGPT#1)
    {"billing_error", kQuotaExhausted},                      // Anthropic (its SDK)
    {"exceeded_current_quota_error", kQuotaExhausted},       // Moonshot
    {"enforced_spend_limit_reached", kQuotaExhausted},       // Anthropic (its rate limits page)
    {"SetLimitExceeded", kQuotaExhausted},                   // Volcengine Ark: a limit that its owner set
    {"AllocationQuota.FreeTierOnly", kQuotaExhausted},       // DashScope (666ghj/BettaFish#609)

    {"invalid_api_key", kKeyInvalid},                        // OpenAI (easychen/openai-api-proxy#33), Groq, Together
    {"authentication_error", kKeyInvalid},                   // Anthropic, DeepSeek, llama.cpp
    {"API_KEY_INVALID", kKeyInvalid},                        // Google
    {"wrong_api_key", kKeyInvalid},                          // Cerebras
    {"invalid_authentication_error", kKeyInvalid},           // Moonshot
    {"account_deactivated", kKeyInvalid},                    // OpenAI (ChatGPTNextWeb/NextChat#4175)
    {"no_organization", kKeyInvalid},                        // OpenAI (OpenHands/OpenHands#2562)
    {"CONSUMER_SUSPENDED", kKeyInvalid},                     // Google
    {"organization_restricted", kKeyInvalid},                // Groq (songquanpeng/one-api#1764)
    {"expired_key", kKeyInvalid},                            // LiteLLM's proxy
    {"token_not_found_in_db", kKeyInvalid},                  // LiteLLM's proxy

    {"unsupported_country_region_territory", kCallerError},  // OpenAI (home-assistant/core#120072)
    {"request_forbidden", kCallerError},                     // OpenAI (home-assistant/core#120072)
    {"context_length_exceeded", kCallerError},               // OpenAI
    {"content_filter", kCallerError},                        // Azure
    {"content_policy_violation", kCallerError},              // OpenAI
    {"invalid_prompt", kCallerError},                        // OpenAI, Responses API
    {"request_too_large", kCallerError},                     // Anthropic

    {"mismatched_organization", kPermission},                // OpenAI (openai/codex#1000)
    {"ip_not_authorized", kPermission},                      // OpenAI
    {"permission_error", kPermission},                       // Anthropic (anthropics/claude-code#51610); Kimi, where a plan is spent, too
    {"DeploymentNotFound", kPermission},                     // Azure
    {"ModelNotOpen", kPermission},                           // Volcengine Ark (its error codes)

    {"overloaded_error", kOverloaded},                       // Anthropic (anthropics/claude-code#35792)
    {"engine_overloaded_error", kOverloaded},                // Moonshot (MoonshotAI/MoonshotAI-Cookbook#16)
    {"queue_exceeded", kOverloaded},                         // Cerebras
});

// What the words of other names mean, below a status of 500 or in band:
// providers build their names of the same words.
// Together sends credit_limit for too many requests, so "limit" is no word here.
inline constexpr auto kNameWords = std::to_array<NameWordsRule>({
    {"unauthorized operation", "", kPermission},             // Tencent: AuthFailure.UnauthorizedOperation
    {"overloaded", "", kOverloaded},                         // Ark: ServerOverloaded
    // DashScope Arrearage, PrepaidBillOverdue; Ark AccountOverdueError; Tencent
    // InArrears; Google BILLING_DISABLED; Novita NOT_ENOUGH_BALANCE.
    {"arrears|arrearage|overdue|balance|billing|bill|payment|funds", "", kQuotaExhausted, "load"},
    {"credit|credits", "exhausted|insufficient|depleted|balance|no|not enough", kQuotaExhausted},  // OpenAI credit_balance_exhausted
    {"spend|spending", "limit", kQuotaExhausted},            // OpenAI project_spend_limit_exceeded
    {"budget", "exceeded", kQuotaExhausted, "thinking|reasoning|token|tokens"},  // LiteLLM's proxy
    {"usage limit", "", kQuotaExhausted},                    // OpenAI (openai/codex): usage_limit_reached
    // Ark AccountQuotaExceeded; Baidu QUOTA_USER_DAILY_FREE; new-api
    // insufficient_user_quota, pre_consume_token_quota_failed. But Ark's
    // FileQuotaExceeded is of files.
    {"quota", "insufficient|daily|day|weekly|week|monthly|month|free|user|account|organization|consume|exhausted", kQuotaExhausted, "file|files"},
    {"pack|charge resource", "exhausted|exhaust", kQuotaExhausted},  // Tencent: ResourcePackExhausted
    // DashScope InvalidApiKey; Moonshot incorrect_api_key_error
    {"api key|apikey", "invalid|incorrect|wrong|expired", kKeyInvalid},
    {"authentication|auth failure|iam token|access token expired", "", kKeyInvalid},  // Ark AuthenticationError; Tencent; Baidu; Google
    {"not purchased|unpurchased", "", kPermission},          // DashScope
    {"access denied|permission denied", "", kPermission, "", "401 429"},  // LiteLLM's key_model_access_denied; Azure
});

// Numbers mean what the one who sends them in that place says: 1002 is a rate
// limit of MiniMax and a bad token of Zhipu.
inline constexpr auto kNumbers = [] {
  using enum ErrorPlace;
  return std::to_array<NumberRule>({
    // MiniMax (its page of error codes)
    {kBaseResp, 1008, kQuotaExhausted}, {kBaseResp, 2056, kQuotaExhausted},
    {kBaseResp, 1002, kRateLimited},    {kBaseResp, 1039, kRateLimited},
    {kBaseResp, 1041, kRateLimited},    {kBaseResp, 2045, kRateLimited},
    {kBaseResp, 1004, kKeyInvalid},     {kBaseResp, 2049, kKeyInvalid},
    {kBaseResp, 2061, kPermission},     {kBaseResp, 1026, kCallerError},
    {kBaseResp, 1027, kCallerError},    {kBaseResp, 1042, kCallerError},
    {kBaseResp, 2013, kCallerError},    {kBaseResp, 2037, kCallerError},
    {kBaseResp, 2039, kCallerError},    {kBaseResp, 2048, kCallerError},
    // Baidu Qianfan v1 (its page of error codes)
    {kErrorCode, 17, kQuotaExhausted},   {kErrorCode, 19, kQuotaExhausted},
    {kErrorCode, 4, kRateLimited},       {kErrorCode, 18, kRateLimited},
    {kErrorCode, 336501, kRateLimited},  {kErrorCode, 336502, kRateLimited},
    {kErrorCode, 13, kKeyInvalid},       {kErrorCode, 14, kKeyInvalid},
    {kErrorCode, 110, kKeyInvalid},      {kErrorCode, 111, kKeyInvalid},
    {kErrorCode, 6, kPermission},        {kErrorCode, 336001, kCallerError},
    {kErrorCode, 336002, kCallerError},  {kErrorCode, 336003, kCallerError},
    {kErrorCode, 336006, kCallerError},  {kErrorCode, 336007, kCallerError},
    // Cloudflare Workers AI (its page of errors; 4006 in public issues)
    {kErrors, 3036, kQuotaExhausted},    {kErrors, 4006, kQuotaExhausted},
    {kErrors, 3040, kOverloaded},        {kErrors, 10000, kKeyInvalid},
    // Zhipu, Z.ai (docs.z.ai api-code), as error.code with a 401 or 429 and as
    // {"code", "msg"} with a 200. 1300 is Mistral's, too.
    {kMsg, 1113, kQuotaExhausted}, {kMsg, 1304, kQuotaExhausted},
    {kMsg, 1308, kQuotaExhausted}, {kMsg, 1309, kQuotaExhausted},
    {kMsg, 1310, kQuotaExhausted}, {kMsg, 1316, kQuotaExhausted},
    {kMsg, 1317, kQuotaExhausted}, {kMsg, 1318, kQuotaExhausted},
    {kMsg, 1319, kQuotaExhausted}, {kMsg, 1320, kQuotaExhausted},
    {kMsg, 1321, kQuotaExhausted}, {kMsg, 1302, kRateLimited},
    {kMsg, 1303, kRateLimited},    {kMsg, 1313, kRateLimited},
    {kMsg, 1305, kOverloaded},     {kMsg, 1312, kOverloaded},
    {kMsg, 1220, kPermission},     {kMsg, 1311, kPermission},
    {kMsg, 1314, kPermission},     {kMsg, 1315, kPermission},
    {kMsg, 1000, kKeyInvalid},     {kMsg, 1001, kKeyInvalid},
    {kMsg, 1002, kKeyInvalid},     {kMsg, 1003, kKeyInvalid},
    {kMsg, 1004, kKeyInvalid},     {kMsg, 1005, kKeyInvalid},
    {kMsg, 1110, kKeyInvalid},     {kMsg, 1111, kKeyInvalid},
    {kMsg, 1112, kKeyInvalid},     {kMsg, 1121, kKeyInvalid},
    {kMsg, 1210, kCallerError},    {kMsg, 1211, kCallerError},
    {kMsg, 1212, kCallerError},    {kMsg, 1213, kCallerError},
    {kMsg, 1214, kCallerError},    {kMsg, 1215, kCallerError},
    {kMsg, 1261, kCallerError},    {kMsg, 1300, kCallerError},
    {kMsg, 1301, kCallerError},
  });
}();

// The status that the words of a name stand for where no status came with it:
// in a 200, or in a stream.
inline constexpr auto kNameStatuses = std::to_array<NameStatus>({
    {"rate limit", 429},                 // OpenAI, Groq, Anthropic, Moonshot, Baidu
    {"rate limited", 429},               // Mistral
    {"too many requests", 429},
    {"throttling", 429},                 // DashScope
    {"request quota exceeded", 429},     // Cerebras
    {"token quota exceeded", 429},       // Cerebras
    {"service unavailable error", 503},  // OpenAI, DeepSeek
    {"unavailable error", 503},          // llama.cpp
});

// What the message says where no name decides, each with the statuses that it
// is known to come with. That what was paid for is spent: spent_words.h.
inline constexpr auto kWords = std::to_array<WordRule>({
    {"403", kSays, "context length", kCallerError},                                 // Together
    {"403", kSays, "was flagged", kCallerError},                                    // OpenRouter
    {"400 401 403", kOpens, "incorrect api key", kKeyInvalid},                      // OpenAI, xAI (openai/codex#1352)
    {"400 401 403", kOpens, "invalid api key", kKeyInvalid},                        // Mistral, llama.cpp
    {"400 401 403", kOpens, "invalid api token", kKeyInvalid},                      // Cohere (cohere-ai/cohere-toolkit#857)
    {"400 401 403", kOpens, "wrong api key", kKeyInvalid},                          // Cerebras
    {"400 401 403", kOpens, "api key not valid", kKeyInvalid},                      // Google
    {"400 401 403", kOpens, "api key expired", kKeyInvalid},                        // Google (continuedev/continue#10748)
    {"400 401 403", kOpens, "your api key was reported as leaked", kKeyInvalid},    // Google (continuedev/continue#10513)
    {"400 401 403", kOpens, "permission denied: consumer 'api_key:", kKeyInvalid},  // Google
    {"400 401 403", kOpens, "this organization has been disabled", kKeyInvalid},    // Anthropic (anthropics/claude-code#72457)
    {"400 401 403", kOpens, "organization has been restricted", kKeyInvalid},       // Groq (songquanpeng/one-api#1764)
    {"403", kOpens, "authorization failed", kKeyInvalid},                           // NVIDIA
    {"403", kOpens, "not authenticated", kKeyInvalid},                              // Cerebras
    {"403", kOpens, "authentication error", kKeyInvalid},                           // Cloudflare
    {"401 429", kSays, "#token-limit", kRateLimited},                               // DashScope: tokens per minute
    {"412", kSays, "is suspended", kQuotaExhausted, "account"},                     // Fireworks (pollinations/pollinations#12136)
    {"413 429", kOpens, "request too large", kCallerError},                         // OpenAI (continuedev/continue#10602), Groq
    {"429", kOpens, "service tier capacity exceeded", kOverloaded},                 // Mistral (continuedev/continue#6185)
    {"400 403", kOpens, "request not allowed", kCallerError},                       // Anthropic, at its edge
    {"400 403", kOpens, "user location is not supported", kCallerError},            // Google
    {"429", kSaysNumber, "limit: 0", kQuotaExhausted},                              // Google, a model without a free tier
    {"401", kSays, "missing scopes", kPermission},                                  // OpenAI (microsoft/PowerToys#32989)
    {"401", kSays, "insufficient permissions", kPermission},                        // OpenAI (microsoft/PowerToys#32989)
    {"401", kSays, "ip address is not authorized", kPermission},                    // OpenAI
    {"401", kSays, "no permission to", kPermission},                                // Baidu (its error page)
    {"401", kSays, "not allowed to access", kPermission},                           // LiteLLM's proxy
    {"401", kSays, "lacks the required", kPermission},                              // Azure
    {"404", kSays, "not have access", kPermission},                                 // OpenAI (Shopify/roast#13)
    {"498", kSays, "unsafe", kCallerError},                                         // Cohere
    {"498", kSays, "usage guidelines", kCallerError},                               // Cohere
});

// What a gateway hands on from the provider behind it, in error.metadata.raw.
inline constexpr auto kUpstreamWords = std::to_array<WordRule>({
    {"429", kSays, "rate-limited upstream", kOverloaded},  // OpenRouter
});

// In a name that no rule knows, with a 400: it may be the key's doing.
inline constexpr std::string_view kKeyWords =
    "account|accounts|balance|quota|quotas|key|keys|apikey|billing";

// What is left is told by the status alone. A plain 403 never kills a key.
inline constexpr auto kStatuses = std::to_array<StatusRule>({
    {"401", kKeyInvalid},
    {"402", kQuotaExhausted},
    {"403", kPermission},
    {"429", kRateLimited},
    {"503 529", kOverloaded},
    {"498", kOverloaded},             // Groq; no standard has it
    {"408 409 425 499", kTransient},
});

// clang-format on

}  // namespace rules

// --- How a row is applied ---

// Whether `lower` has the phrase without the digits going on: "limit: 0", and
// not "limit: 05" or "limit: 0.5".
inline bool SaysNumber(std::string_view lower, std::string_view phrase) {
  for (std::size_t at = 0;
       (at = lower.find(phrase, at)) != std::string_view::npos;) {
    at += phrase.size();
    std::string_view rest = lower.substr(at);
    if (rest.starts_with('.')) rest.remove_prefix(1);
    if (rest.empty() || !IsDigit(rest.front())) return true;
  }
  return false;
}

// `lower`: what the provider says, in lower case and without blanks in front.
inline bool Fits(const WordRule& rule, int status, std::string_view lower) {
  const auto says = [&](std::string_view words) {
    return lower.find(words) != std::string_view::npos;
  };
  if (!rule.statuses.Has(status) || !says(rule.also)) return false;
  switch (rule.where) {
    case Words::kOpens:
      return lower.starts_with(rule.words);
    case Words::kSays:
      return says(rule.words);
    case Words::kSaysNumber:
      return SaysNumber(lower, rule.words);
  }
  return false;
}

// The words of a name, in lower case, with a blank around each: split where a
// letter or digit ends and, in camel case, before a capital.
inline std::string NameWords(std::string_view name) {
  const auto capital = [&](std::size_t at) {
    return at < name.size() && name[at] >= 'A' && name[at] <= 'Z';
  };
  const auto small = [&](std::size_t at) {
    return at < name.size() && IsAlphanumeric(name[at]) && !capital(at);
  };
  std::string words = " ";
  for (std::size_t at = 0; at < name.size(); ++at) {
    const bool begins = at > 0 && capital(at) &&
                        (small(at - 1) || (capital(at - 1) && small(at + 1) &&
                                           !IsDigit(name[at + 1])));
    if ((begins || !IsAlphanumeric(name[at])) && words.back() != ' ')
      words += ' ';
    if (IsAlphanumeric(name[at])) words += Lower(name[at]);
  }
  if (words.back() != ' ') words += ' ';
  return words;
}

// Whether one of "credit|credits" is among the words of a name.
inline bool HasOneOf(std::string_view words, std::string_view alternatives) {
  while (!alternatives.empty()) {
    const std::size_t end =
        std::min(alternatives.find('|'), alternatives.size());
    const std::string_view phrase = alternatives.substr(0, end);
    alternatives.remove_prefix(std::min(end + 1, alternatives.size()));
    for (std::size_t at = words.find(phrase); at != words.npos;
         at = words.find(phrase, at + 1)) {
      if (words[at - 1] == ' ' && words[at + phrase.size()] == ' ') return true;
    }
  }
  return false;
}

// `name`: as it was sent. A sentence is no name.
inline std::optional<VerdictKind> KindByNameWords(std::string_view name,
                                                  int status) {
  if (name.find(' ') != name.npos) return std::nullopt;
  // Most names have no word of these: their letters tell that at once.
  std::uint32_t initials = 0;
  for (std::size_t at = 0; at < name.size(); ++at) {
    if (at == 0 || !IsAlphanumeric(name[at - 1]) ||
        (name[at] >= 'A' && name[at] <= 'Z'))
      initials |= LetterBit(name[at]);
  }
  std::string words;
  for (const NameWordsRule& rule : rules::kNameWords) {
    if ((rule.one_of.initials & initials) == 0) continue;
    if (!rule.statuses.empty() && !rule.statuses.Has(status)) continue;
    if (words.empty()) words = NameWords(name);
    if (HasOneOf(words, rule.one_of.all) &&
        (rule.and_one_of.empty() || HasOneOf(words, rule.and_one_of)) &&
        !HasOneOf(words, rule.none_of)) {
      return rule.kind;
    }
  }
  return std::nullopt;
}

inline std::optional<VerdictKind> KindByNumber(ErrorPlace place,
                                               double number) {
  for (const NumberRule& rule : rules::kNumbers) {
    if (rule.place == place && rule.number == number) return rule.kind;
  }
  return std::nullopt;
}

// `lower` as in Fits.
inline std::optional<VerdictKind> KindByWords(std::span<const WordRule> rules,
                                              int status,
                                              std::string_view lower) {
  for (const WordRule& rule : rules) {
    if (Fits(rule, status, lower)) return rule.kind;
  }
  return std::nullopt;
}

inline VerdictKind KindByStatus(int status) {
  for (const StatusRule& rule : rules::kStatuses) {
    if (rule.statuses.Has(status)) return rule.kind;
  }
  // A redirect here is a wrong base URL: the key must not follow it.
  return status >= 300 && status < 500 ? VerdictKind::kCallerError
                                       : VerdictKind::kTransient;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_RULES_H_
