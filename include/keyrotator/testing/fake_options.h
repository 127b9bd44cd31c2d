// File: testing/fake_options.h
//
// What a fake provider is asked to be, what may go wrong with it, and what it
// has seen: the vocabulary of FakeProvider, a server, and of FakeTransport,
// which needs no socket.
//
// Example:
//   using namespace keyrotator::testing;
//   FakeProviderOptions options{
//       .keys = {{"sk-a", {.limit = {.requests = 3}}},
//                {"sk-b", {.state = FakeKeyState::kRevoked}}},
//       .style = ProviderStyle::kAzure};
//   Fault overloaded{.kind = Fault::Kind::kStatus, .status = 503, .times = 2};

#ifndef KEYROTATOR_TESTING_FAKE_OPTIONS_H_
#define KEYROTATOR_TESTING_FAKE_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "keyrotator/http/message.h"

namespace keyrotator::testing {

// Whose error bodies and rate limit headers it sends.
enum class ProviderStyle {
  kOpenAI,     // x-ratelimit-* ("6m0s"), retry-after, retry-after-ms
  kAzure,      // x-ratelimit-* (whole seconds), retry-after, retry-after-ms
  kAnthropic,  // anthropic-ratelimit-* (RFC 3339), retry-after
  kGemini,     // no headers; RetryInfo in the body, which is an array
  kSilent,     // as OpenAI, but neither header nor body says when to come back
};

enum class FakeKeyState { kValid, kRevoked, kOutOfQuota };

// Two token buckets, one of requests and one of tokens. Each holds at most that
// many, begins full, and refills evenly in `per`. Zero: no such bucket.
struct FakeLimit {
  double requests = 0;
  double tokens = 0;
  std::chrono::nanoseconds per = std::chrono::minutes(1);
};

struct FakeKey {
  FakeKeyState state = FakeKeyState::kValid;
  std::set<std::string> models = {};  // the only ones it may use; empty: all
  std::string organization = {};      // whose limits it shares; empty: none
  FakeLimit limit = {};               // of this key, over all models
};

struct FakeProviderOptions {
  std::map<std::string, FakeKey> keys = {};  // by value
  ProviderStyle style = ProviderStyle::kOpenAI;
  // Limits of an organization, over all its keys and models.
  std::map<std::string, FakeLimit> organizations = {};
  // Limits of a model, held apart for each organization, or for each key that
  // is in none. A request must fit into all the limits that concern it.
  std::map<std::string, FakeLimit> models = {};
  // What the model says; a stream brings it word by word.
  std::string answer = "Hello from the fake provider.";
  // The time before an answer starts, and before each further event of a
  // stream: real time of a FakeProvider, the ManualClock's of a FakeTransport.
  std::chrono::milliseconds latency{0};
  std::chrono::milliseconds event_interval{0};
  // Of a FakeProvider: the time by which the limits refill. Without one it is
  // std::chrono::steady_clock. Called by the server's threads, one at a time.
  std::function<std::chrono::nanoseconds()> clock = {};
};

// Something that goes wrong. It meets requests in the order of their arrival,
// whatever their key: such a request is neither checked nor counted against a
// limit.
struct Fault {
  enum class Kind {
    kStatus,       // `status`, with the body a provider or its proxy sends
    kReset,        // the connection is reset, without an answer
    kResetInBody,  // it is reset in the middle of the answer
    kTruncated,    // it is closed in the middle of the answer
    kErrorIn200,   // an error in a 200; a stream sends some events before it
    kNotJson,      // a 200 whose body is no JSON and no event
    kNotHttp,      // bytes that are no HTTP
    kSlow,         // the answer byte by byte, `pause` before each
  };
  Kind kind = Kind::kStatus;
  int status = 500;
  std::string key = {};                // of which key; empty: any
  int times = 1;                       // how many requests it meets
  std::chrono::milliseconds pause{0};  // before the answer, too
  Headers headers = {};                // added to the answer
};

// What arrived. Each request is counted in `requests` and in one of the others.
struct FakeCounts {
  std::uint64_t requests = 0;
  std::uint64_t served = 0;
  std::uint64_t rate_limited = 0;
  std::uint64_t refused = 0;  // key, quota, model, or a request not understood
  std::uint64_t faults = 0;

  friend bool operator==(const FakeCounts&, const FakeCounts&) = default;
};

struct FakeRequest {
  std::string path;  // without the query
  std::string key;   // as it came
  std::string model;
  bool stream = false;
  int status = 0;                  // as answered; 0: without one
  std::chrono::nanoseconds at{0};  // by the provider's clock
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTING_FAKE_OPTIONS_H_
