// An application that has an HTTP client of its own and keeps it: here
// cpp-httplib, with nothing of this library around it. It picks a key, sends,
// asks Classify what the answer means for the key, and says so. That is all a
// rotator needs; Failover (see async_curl_multi.cc) adds retries, waiting and
// deadlines.
//
// The provider is a fake one in this process.

#include <fmt/format.h>
#include <httplib.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/classify.h>
#include <keyrotator/testing/fake_provider.h>

#include <chrono>
#include <optional>
#include <string>

namespace {

using keyrotator::ApiKey;
using keyrotator::KeyRotator;
using keyrotator::VerdictKind;

// Classify reads any answer in this form.
keyrotator::HttpResponse ToResponse(const httplib::Response& answer) {
  keyrotator::HttpResponse response{.status = answer.status,
                                    .body = answer.body};
  for (const auto& [name, value] : answer.headers)
    response.headers.Add(name, value);
  return response;
}

// Asks with one key after the other, until one serves or none is left.
std::optional<std::string> Ask(httplib::Client& http, KeyRotator<>& rotator,
                               const std::string& path,
                               const std::string& body) {
  while (auto key = rotator.Pick()) {
    const auto answer = http.Post(
        path, {{"Authorization", "Bearer " + std::string(key->Reveal())}}, body,
        "application/json");
    if (!answer) return std::nullopt;  // no connection: not the key's fault
    const keyrotator::Verdict verdict =
        keyrotator::Classify(ToResponse(*answer));
    fmt::print("  {} answers {}: {}\n", *key, answer->status, verdict.kind);
    switch (verdict.kind) {
      case VerdictKind::kOk:
        rotator.MarkSucceeded(*key);
        return answer->body;
      case VerdictKind::kKeyInvalid:
        rotator.MarkFailed(*key);
        break;
      case VerdictKind::kRateLimited:
        // Zero means that the provider did not say for how long.
        rotator.MarkRateLimited(
            *key, verdict.retry_after.value_or(std::chrono::milliseconds(0)));
        break;
      case VerdictKind::kQuotaExhausted:
        rotator.MarkRateLimited(*key, std::chrono::hours(1),
                                keyrotator::Reach::kKey);
        break;
      default:
        return std::nullopt;  // not the key's fault; Failover might try again
    }
  }
  return std::nullopt;
}

}  // namespace

int main() {
  using keyrotator::testing::FakeKeyState;
  const keyrotator::testing::FakeProvider provider(
      {.keys = {{"sk-revoked", {.state = FakeKeyState::kRevoked}},
                {"sk-unpaid", {.state = FakeKeyState::kOutOfQuota}},
                {"sk-small", {.limit = {.requests = 1}}},
                {"sk-large", {}}}});
  KeyRotator rotator({ApiKey("sk-revoked", {.name = "revoked"}),
                      ApiKey("sk-unpaid", {.name = "unpaid"}),
                      ApiKey("sk-small", {.name = "small"}),
                      ApiKey("sk-large", {.name = "large"})});
  httplib::Client http("127.0.0.1", provider.port());
  for (int request = 1; request <= 4; ++request) {
    fmt::print("request {}\n", request);
    if (!Ask(http, rotator, "/v1/chat/completions",
             R"({"model": "gpt-4o", "messages": []})")) {
      fmt::print("no key could serve it\n");
      return 1;
    }
  }
  for (const auto& key : rotator.Snapshot()) fmt::print("{}\n", key);
}
