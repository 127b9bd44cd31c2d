// An application with an HTTP client of its own: it picks a key, sends, and
// says what came of it. The client is a function here that answers as a
// provider would.

#include <keyrotator/keyrotator.h>

#include <chrono>
#include <optional>
#include <string>

struct Answer {
  int status = 0;
  std::optional<int> retry_after;  // seconds
  std::string body;
};

// Your client. This one knows three keys: one is revoked, one has used up its
// limit.
Answer Send(std::string_view key, const std::string& prompt) {
  if (key == "sk-revoked")
    return {.status = 401, .retry_after = {}, .body = "invalid api key"};
  if (key == "sk-limited")
    return {.status = 429, .retry_after = 20, .body = "slow down"};
  return {.status = 200, .retry_after = {}, .body = "echo: " + prompt};
}

// Asks with one key after the other, until one serves or none is left.
std::optional<std::string> Ask(keyrotator::KeyRotator<>& rotator,
                               const std::string& prompt) {
  while (auto key = rotator.Pick()) {
    Answer answer = Send(key->Reveal(), prompt);
    fmt::print("  {} answers {}\n", *key, answer.status);
    switch (answer.status) {
      case 200:
        rotator.MarkSucceeded(*key);
        return answer.body;
      case 401:
        rotator.MarkFailed(*key);
        break;
      case 429:
        rotator.MarkRateLimited(
            *key, std::chrono::seconds(answer.retry_after.value_or(0)));
        break;
      default:
        return std::nullopt;  // not the key's fault: another would not help
    }
  }
  return std::nullopt;
}

int main() {
  using keyrotator::ApiKey;
  keyrotator::KeyRotator rotator({ApiKey("sk-revoked", {.name = "old"}),
                                  ApiKey("sk-limited", {.name = "small"}),
                                  ApiKey("sk-good", {.name = "large"})});
  for (const std::string prompt : {"one", "two"}) {
    const auto text = Ask(rotator, prompt);
    fmt::print("{}\n", text.value_or("no key could serve it"));
  }
}
