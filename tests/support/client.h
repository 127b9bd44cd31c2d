// File: client.h
//
// What the tests of OpenAIClient share: a provider, a pool and a client over
// a transport, on a clock that jumps where a program would wait.
//
// Example:
//   Setup<CurlTransport> setup({.keys = {{"sk-a", {}}, {"sk-b", {}}}},
//                              Pool("AB"));
//   CHECK(setup.client.ChatCompletion(Chat()).ok());
//   CHECK(setup.provider.Counts("sk-a").served == 1);

#ifndef KEYROTATOR_TESTS_SUPPORT_CLIENT_H_
#define KEYROTATOR_TESTS_SUPPORT_CLIENT_H_

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "keyrotator/testing/fake_provider.h"
#include "keyrotator/testing/manual_clock.h"

namespace keyrotator::testing {

template <class Transport>
Transport MakeTransport() {
  return Transport({.proxy = ""});
}

// A request of the chat API.
inline std::string Chat(std::string_view model = "gpt-4o",
                        bool stream = false) {
  return fmt::format(
      R"({{"model":"{}","stream":{},"messages":[{{"role":"user","content":"hi"}}]}})",
      model, stream);
}

// What the fake provider's model says, unless told otherwise.
inline constexpr std::string_view kAnswerText = "Hello from the fake provider.";

// Listens to a stream: the words of the answer, and all events as they came.
struct Listener {
  void operator()(const SseEvent& event) {
    ++events;
    raw.append(event.event).append("|").append(event.data).append("\n");
    const auto json = nlohmann::json::parse(event.data, nullptr, false);
    if (!json.is_object() || !json.contains("choices")) return;
    for (const auto& choice : json["choices"]) {
      if (choice.contains("delta"))
        text += choice["delta"].value("content", "");
    }
  }

  int events = 0;
  std::string text;
  std::string raw;
};

// Keys "sk-a", "sk-b", ... named A, B, ...
inline ApiKeys Pool(std::string_view names, const std::string& group = "") {
  std::vector<ApiKey> keys;
  for (const char name : names) {
    keys.emplace_back(std::string("sk-") + static_cast<char>(name - 'A' + 'a'),
                      KeyOptions{.name = std::string(1, name), .group = group});
  }
  return keys;
}

// All of a reply that a program could print.
inline std::string Render(const Reply& reply) {
  std::string text =
      fmt::format("{} {} {} {} {}\n{}\n", reply.outcome, reply.status,
                  reply.verdict, reply.code, reply.message, reply.body);
  for (const auto& [name, value] : reply.headers)
    text += fmt::format("{}: {}\n", name, value);
  for (const Attempt& attempt : reply.trail) {
    text += fmt::format("{} {} {} {}\n", attempt.key, attempt.status,
                        attempt.verdict, attempt.code);
  }
  return text;
}

// "A 429, B 200": the sends of a reply.
inline std::string Trail(const Reply& reply) {
  std::string text;
  for (const Attempt& attempt : reply.trail) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", attempt.key,
                        attempt.status);
  }
  return text;
}

// Options without chance: a backoff is 0.5 s, then 1 s.
inline ClientOptions Exact(ClientOptions options = {}) {
  options.retry.random = [] { return 0.0; };
  return options;
}

// A pool and a client for a server at `url`. The clock jumps where someone
// would wait for it.
template <class Transport>
struct Client {
  using Rotator = KeyRotator<RoundRobin, ManualClock>;

  Client(const std::string& url, const ApiKeys& keys,
         ClientOptions options = {}, RotatorOptions rotator_options = {},
         ManualClock the_clock = ManualClock())
      : clock(std::move(the_clock)),
        rotator(keys, std::move(rotator_options), RoundRobin{}, clock),
        client(url, rotator, MakeTransport<Transport>(),
               Exact(std::move(options))) {
    clock.AdvanceWhenWaiting();
  }

  ManualClock clock;
  Rotator rotator;
  OpenAIClient<Transport, Rotator> client;
};

// A provider whose limits refill by the clock, whatever else it is.
inline FakeProviderOptions By(const ManualClock& clock,
                              FakeProviderOptions options) {
  options.clock = [clock] { return clock.now().time_since_epoch(); };
  return options;
}

// Both, on one clock.
template <class Transport>
struct Setup {
  Setup(FakeProviderOptions provider_options, const ApiKeys& keys,
        ClientOptions options = {}, RotatorOptions rotator_options = {})
      : provider(By(clock, std::move(provider_options))),
        pool(provider.base_url(), keys, std::move(options),
             std::move(rotator_options), clock) {}

  ManualClock clock;
  FakeProvider provider;
  Client<Transport> pool;
  OpenAIClient<Transport, typename Client<Transport>::Rotator>& client =
      pool.client;
  typename Client<Transport>::Rotator& rotator = pool.rotator;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_CLIENT_H_
