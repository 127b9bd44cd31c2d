// File: openai/rules.h
//
// What providers say when they refuse, as data: the names, words and statuses
// that mean something for a key, one line an entry, with the provider and,
// where it is public, an issue that quotes the answer. A new provider's words
// are new lines here; in which order the tables are asked is classify.h.
//
// Example:
//   using namespace keyrotator::internal;
//   KindByWords(rules::kWords, 403, "Not authenticated");  // kKeyInvalid

#ifndef KEYROTATOR_OPENAI_RULES_H_
#define KEYROTATOR_OPENAI_RULES_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "keyrotator/internal/text.h"
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

// What stands in error.code, error.type or error.details[].reason, where it
// says more than the status.
inline constexpr auto kNames = std::to_array<NameRule>({
    {"insufficient_quota", kQuotaExhausted},                 // OpenAI (OpenHands/OpenHands#998)
    {"billing_not_active", kQuotaExhausted},                 // OpenAI (BerriAI/litellm#2743)
    {"billing_hard_limit_reached", kQuotaExhausted},         // OpenAI (Decryptu/DecryptGPT#1)
    {"billing_error", kQuotaExhausted},                      // Anthropic (its SDK)
    {"exceeded_current_quota_error", kQuotaExhausted},       // Moonshot

    {"invalid_api_key", kKeyInvalid},                        // OpenAI (easychen/openai-api-proxy#33), Groq, Together
    {"account_deactivated", kKeyInvalid},                    // OpenAI (ChatGPTNextWeb/NextChat#4175)
    {"no_organization", kKeyInvalid},                        // OpenAI (OpenHands/OpenHands#2562)
    {"authentication_error", kKeyInvalid},                   // Anthropic, DeepSeek, llama.cpp
    {"API_KEY_INVALID", kKeyInvalid},                        // Google
    {"CONSUMER_SUSPENDED", kKeyInvalid},                     // Google
    {"organization_restricted", kKeyInvalid},                // Groq (songquanpeng/one-api#1764)
    {"wrong_api_key", kKeyInvalid},                          // Cerebras
    {"invalid_authentication_error", kKeyInvalid},           // Moonshot

    {"unsupported_country_region_territory", kCallerError},  // OpenAI (home-assistant/core#120072)
    {"request_forbidden", kCallerError},                     // OpenAI (home-assistant/core#120072)
    {"context_length_exceeded", kCallerError},               // OpenAI
    {"content_filter", kCallerError},                        // Azure
    {"content_policy_violation", kCallerError},              // OpenAI
    {"invalid_prompt", kCallerError},                        // OpenAI, Responses API
    {"request_too_large", kCallerError},                     // Anthropic

    {"mismatched_organization", kPermission},                // OpenAI (openai/codex#1000)
    {"ip_not_authorized", kPermission},                      // OpenAI
    {"permission_error", kPermission},                       // Anthropic (anthropics/claude-code#51610)
    {"DeploymentNotFound", kPermission},                     // Azure

    {"overloaded_error", kOverloaded},                       // Anthropic (anthropics/claude-code#35792)
    {"engine_overloaded_error", kOverloaded},                // Moonshot (MoonshotAI/MoonshotAI-Cookbook#16)
    {"queue_exceeded", kOverloaded},                         // Cerebras
});

// The status that a name stands for where no status came with it: in a 200, or
// in a stream.
inline constexpr auto kNameStatuses = std::to_array<NameStatus>({
    {"rate_limit_exceeded", 429},        // OpenAI, Groq
    {"rate_limit_error", 429},           // Anthropic
    {"rate_limit_reached_error", 429},   // Moonshot
    {"rate_limited", 429},               // Mistral
    {"request_quota_exceeded", 429},     // Cerebras
    {"token_quota_exceeded", 429},       // Cerebras
    {"service_unavailable_error", 503},  // OpenAI, DeepSeek
    {"unavailable_error", 503},          // llama.cpp
});

// What the message says where no name decides, each with the statuses that it
// is known to come with.
inline constexpr auto kWords = std::to_array<WordRule>({
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
    {"400 403 429", kOpens, "your credit balance is too low", kQuotaExhausted},     // Anthropic (anthropics/claude-code#66314)
    {"400 403 429", kOpens, "you have reached your specified api usage limits", kQuotaExhausted},  // Anthropic (anthropics/claude-code#38035)
    {"400 403 429", kOpens, "billing hard limit", kQuotaExhausted},                 // OpenAI
    {"400 403 429", kOpens, "your account is not active", kQuotaExhausted},         // OpenAI
    {"400 403 429", kOpens, "key limit exceeded", kQuotaExhausted},                 // OpenRouter
    {"412", kSays, "is suspended", kQuotaExhausted, "account"},                     // Fireworks (pollinations/pollinations#12136)
    {"413 429", kOpens, "request too large", kCallerError},                         // OpenAI (continuedev/continue#10602), Groq
    {"429", kOpens, "service tier capacity exceeded", kOverloaded},                 // Mistral (continuedev/continue#6185)
    {"400 403", kOpens, "request not allowed", kCallerError},                       // Anthropic, at its edge
    {"400 403", kOpens, "user location is not supported", kCallerError},            // Google
    {"403 429", kSays, "used all available credits", kQuotaExhausted},              // xAI (continuedev/continue#10373)
    {"403 429", kSays, "monthly spending limit", kQuotaExhausted},                  // xAI (continuedev/continue#10373)
    {"403 429", kSays, "calls / month", kQuotaExhausted},                           // Cohere, trial keys
    {"403 429", kSaysNumber, "limit: 0", kQuotaExhausted},                          // Google, a model without a free tier
    {"401", kSays, "missing scopes", kPermission},                                  // OpenAI (microsoft/PowerToys#32989)
    {"401", kSays, "insufficient permissions", kPermission},                        // OpenAI (microsoft/PowerToys#32989)
    {"401", kSays, "ip address is not authorized", kPermission},                    // OpenAI
    {"404", kSays, "not have access", kPermission},                                 // OpenAI (Shopify/roast#13)
    {"403", kSays, "is blocked", kKeyInvalid},                                      // xAI
    {"403", kSays, "context length", kCallerError},                                 // Together
    {"403", kSays, "input was flagged", kCallerError},                              // OpenRouter
    {"498", kSays, "unsafe", kCallerError},                                         // Cohere
    {"498", kSays, "usage guidelines", kCallerError},                               // Cohere
});

// What a gateway hands on from the provider behind it, in error.metadata.raw.
inline constexpr auto kUpstreamWords = std::to_array<WordRule>({
    {"429", kSays, "rate-limited upstream", kOverloaded},  // OpenRouter
});

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

inline std::optional<VerdictKind> KindByWords(std::span<const WordRule> rules,
                                              int status,
                                              std::string_view text) {
  if (text.empty()) return std::nullopt;
  const std::string lower = Lower(SkipBlanks(text));
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
