// File: classify_fuzz.cc
//
// libFuzzer: no response, event or request, whatever its bytes, crashes what
// looks into it, or yields a hint that is out of bounds.
//
// libraries: simdjson
//
// An input is: one byte for the status, lines "name:value" up to a blank line,
// then the body. A header named "event" names the event.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/request_model.h"

namespace {

using namespace keyrotator;

void Check(const Verdict& verdict) {
  const bool may_wait = verdict.kind == VerdictKind::kQuotaExhausted ||
                        verdict.kind == VerdictKind::kRateLimited ||
                        verdict.kind == VerdictKind::kOverloaded ||
                        verdict.kind == VerdictKind::kTransient;
  if (verdict.retry_after && (!may_wait || verdict.retry_after->count() < 1 ||
                              *verdict.retry_after > kMaxRetryAfter)) {
    std::abort();
  }
  if (verdict.message.size() > 2048 || verdict.code.size() > 256) std::abort();
}

void Check(const RateLimit& limit) {
  if (limit.limit && !(*limit.limit >= 0)) std::abort();
  if (limit.remaining && !(*limit.remaining >= 0)) std::abort();
  if (limit.reset &&
      (limit.reset->count() < 1 || *limit.reset > kMaxRetryAfter)) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  constexpr std::array kStatuses = {200, 400, 401, 402, 403, 404, 412, 413,
                                    429, 498, 500, 503, 529, 307, 0,   204};
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  HttpResponse response;
  response.status = kStatuses[data[0] % kStatuses.size()];
  input.remove_prefix(1);
  while (!input.empty()) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.empty()) break;
    const std::size_t colon = std::min(line.find(':'), line.size() - 1);
    response.headers.Add(std::string(line.substr(0, colon)),
                         std::string(line.substr(colon + 1)));
  }
  response.body = input;

  const std::chrono::system_clock::time_point now{
      std::chrono::seconds(1768478400)};
  Check(Classify(response, now));
  const std::string event(response.headers.Find("event").value_or(""));
  if (const auto verdict = ClassifyEvent(event, response.body, now)) {
    Check(*verdict);
  } else if (event == "error") {
    std::abort();
  }
  OpenAIClassifier stream;
  stream.Completes(event, response.body);
  if (internal::RequestModel(response.body).size() > internal::kMaxModelName)
    std::abort();
  const RateLimits limits = ParseRateLimits(response.headers, now);
  Check(limits.requests);
  Check(limits.tokens);
  return 0;
}
