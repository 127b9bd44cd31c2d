// An application that keeps its own HTTP client, here cpp-httplib's. It picks a
// key, sends, and tells the rotator what came back: Settle reads what the
// answer means for the key and marks it, in one line. Failover (see
// async_curl_multi.cc) adds retries, waiting and deadlines.
//
// The provider is a fake one in this process.

#include <fmt/format.h>
#include <httplib.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/settle.h>
#include <keyrotator/testing/fake_provider.h>

#include <optional>
#include <string>

namespace {

using keyrotator::ApiKey;
using keyrotator::HttpResponse;
using keyrotator::KeyRotator;
using keyrotator::Verdict;
using keyrotator::VerdictKind;

HttpResponse ToResponse(const httplib::Response& answer) {
  HttpResponse response{.status = answer.status, .body = answer.body};
  for (const auto& [name, value] : answer.headers)
    response.headers.Add(name, value);
  return response;
}

// Asks with one key after the other, until one serves or none is left.
std::optional<std::string> Ask(httplib::Client& http, KeyRotator<>& rotator,
                               const std::string& body) {
  while (auto key = rotator.Pick()) {
    const auto answer =
        http.Post("/v1/chat/completions",
                  {{"Authorization", "Bearer " + std::string(key->Reveal())}},
                  body, "application/json");
    if (!answer) return std::nullopt;  // no connection: not the key's fault

    const Verdict verdict =
        keyrotator::Settle(rotator, *key, ToResponse(*answer));
    fmt::print("  {} answers {}: {}\n", *key, answer->status, verdict.kind);
    switch (verdict.kind) {
      case VerdictKind::kOk:
        return answer->body;
      case VerdictKind::kKeyInvalid:
      case VerdictKind::kQuotaExhausted:
      case VerdictKind::kRateLimited:
        break;  // it rests; the next one
      default:
        return std::nullopt;  // not the key's fault
    }
  }
  return std::nullopt;
}

}  // namespace

int main() {
  using keyrotator::testing::FakeKeyState;
  // It is silent on what is left: that "small" is used up is told by a 429.
  const keyrotator::testing::FakeProvider provider(
      {.keys = {{"sk-revoked", {.state = FakeKeyState::kRevoked}},
                {"sk-unpaid", {.state = FakeKeyState::kOutOfQuota}},
                {"sk-small", {.limit = {.requests = 1}}},
                {"sk-large", {}}},
       .style = keyrotator::testing::ProviderStyle::kSilent});
  KeyRotator rotator({ApiKey("sk-revoked", {.name = "revoked"}),
                      ApiKey("sk-unpaid", {.name = "unpaid"}),
                      ApiKey("sk-small", {.name = "small"}),
                      ApiKey("sk-large", {.name = "large"})});
  httplib::Client http("127.0.0.1", provider.port());
  for (int request = 1; request <= 4; ++request) {
    fmt::print("request {}\n", request);
    if (!Ask(http, rotator, R"({"model": "gpt-4o", "messages": []})")) {
      fmt::print("no key could serve it\n");
      return 1;
    }
  }
  for (const auto& key : rotator.Snapshot()) fmt::print("{}\n", key);
}
