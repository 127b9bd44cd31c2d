// The library's main job: many requests from many threads over a pool of keys,
// some of which are bad. All of them are served, and then it shows how each key
// stands, and what a client without rotation loses on the same provider.
//
// By itself it runs against a fake provider, in this process. With
//   OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEYS=sk-one,sk-two
// it sends a few small requests to that one; OPENAI_MODEL says to which model.

#include <fmt/format.h>
#include <keyrotator/config/provider_config.h>
#include <keyrotator/http/curl.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/client.h>
#include <keyrotator/status/table.h>
#include <keyrotator/testing/fake_provider.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common.h"

namespace {

using keyrotator::ApiKey;
using keyrotator::KeyRotator;
using keyrotator::Reply;
using namespace std::chrono_literals;

using Client =
    keyrotator::OpenAIClient<keyrotator::CurlTransport, KeyRotator<>>;

std::string ChatBody(const std::string& model, bool stream) {
  return nlohmann::json(
             {{"model", model},
              {"max_tokens", 16},
              {"stream", stream},
              {"messages", {{{"role", "user"}, {"content", "Say hello."}}}}})
      .dump();
}

// ---- Many requests at once ----

// Calls ask(0) to ask(count - 1) on several threads and prints describe(done)
// now and then. Returns how many seconds it took.
template <class Ask, class Describe>
double AskAll(int count, int threads, const Ask& ask,
              const Describe& describe) {
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int> next = 0;
  std::atomic<int> done = 0;
  std::vector<std::jthread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (int request = next++; request < count; request = next++) {
        ask(request);
        ++done;
      }
    });
  }
  for (auto due = start + 3s; done < count;) {
    std::this_thread::sleep_for(20ms);
    if (std::chrono::steady_clock::now() < due) continue;
    fmt::print("{}\n", describe(done));
    std::fflush(stdout);
    due += 3s;
  }
  workers.clear();  // joins
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// What came of the requests. Filled by all threads.
struct Tally {
  std::atomic<int> served = 0;
  std::atomic<int> attempts = 0;
  std::atomic<int> rotated = 0;  // went on to another key
  std::mutex mutex;
  std::set<std::string> errors;  // guarded by mutex

  void Count(const Reply& reply) {
    attempts += static_cast<int>(reply.trail.size());
    for (std::size_t i = 1; i < reply.trail.size(); ++i) {
      if (reply.trail[i].key != reply.trail[i - 1].key) ++rotated;
    }
    if (reply.ok()) {
      ++served;
    } else {
      const std::lock_guard lock(mutex);
      errors.insert(reply.message);
    }
  }
};

// Sends `count` requests and a streamed one. True: all were served.
bool Serve(Client& client, KeyRotator<>& rotator, const std::string& model,
           int count, int threads) {
  Tally tally;
  const std::string body = ChatBody(model, false);
  const double seconds = AskAll(
      count, threads, [&](int) { tally.Count(client.ChatCompletion(body)); },
      [&](int done) {
        const auto keys = rotator.Availability({.scope = model});
        return fmt::format(
            "{} of {} requests done; keys: {} available, {} cooling, {} failed",
            done, count, keys.available + keys.busy, keys.cooling, keys.failed);
      });

  std::string text;
  tally.Count(client.ChatCompletionStream(
      ChatBody(model, true),
      [&](const keyrotator::SseEvent& event) { text += AddedText(event); }));
  if (!text.empty()) fmt::print("The streamed answer: {}\n", text);
  fmt::print("\n");

  fmt::print("{}", keyrotator::StatusTable(rotator.Snapshot()));
  fmt::print(
      "\nWith rotation:    {} of {} served in {:.1f} s (attempts: {}, another "
      "key took over: {})\n",
      tally.served, count + 1, seconds, tally.attempts, tally.rotated);
  for (const std::string& error : tally.errors) fmt::print("  {}\n", error);
  return tally.served == count + 1;
}

// ---- The same without rotation ----

// Keeps the answer.
class Answer final : public keyrotator::ResponseSink {
 public:
  void OnHead(int status, keyrotator::Headers headers) override {
    response.status = status;
    response.headers = std::move(headers);
  }
  keyrotator::Flow OnBody(std::string_view bytes) override {
    response.body += bytes;
    return keyrotator::Flow::kMore;
  }
  keyrotator::HttpResponse response;
};

// One request with one key and two retries, as the official SDKs do it: they
// wait as Retry-After asks if it is at most a minute, else 0.5 s and 1 s less a
// random share of up to a quarter.
bool AskWithOneKey(keyrotator::CurlTransport& transport,
                   const keyrotator::HttpRequest& request) {
  thread_local std::minstd_rand random{std::random_device{}()};
  auto wait = 500ms;
  for (int retries = 0;; ++retries) {
    Answer answer;
    const bool lost = transport.Send(request, answer, {}).has_value();
    const int status = answer.response.status;
    if (!lost && status == 200) return true;
    const bool worth_it = lost || status == 408 || status == 409 ||
                          status == 429 || status >= 500;
    if (!worth_it || retries == 2) return false;
    const auto hint = keyrotator::ParseRetryAfter(
        answer.response.headers, std::chrono::system_clock::now());
    const std::chrono::duration<double, std::milli> jittered =
        wait * std::uniform_real_distribution(0.75, 1.0)(random);
    std::this_thread::sleep_for(hint && *hint <= 1min ? *hint : jittered);
    wait *= 2;
  }
}

// Spreads the requests over the keys; each stays with the key it was given.
void ServeWithoutRotation(const std::string& base_url,
                          const std::vector<ApiKey>& keys,
                          const std::string& model, int count, int threads) {
  keyrotator::CurlTransport transport;
  const std::string body = ChatBody(model, false);
  std::atomic<int> served = 0;
  const double seconds = AskAll(
      count, threads,
      [&](int i) {
        const ApiKey& key = keys[static_cast<std::size_t>(i) % keys.size()];
        served += AskWithOneKey(
            transport, {.url = base_url + "/chat/completions",
                        .headers = {{"Authorization", "Bearer " + key.Reveal()},
                                    {"Content-Type", "application/json"}},
                        .body = body});
      },
      [&](int done) {
        return fmt::format("without rotation: {} of {} requests done", done,
                           count);
      });
  fmt::print(
      "Without rotation: {} of {} served in {:.1f} s (each request stays with "
      "one key, with two retries)\n",
      served, count, seconds);
}

// ---- The providers ----

int RunOnFakeProvider() {
  using keyrotator::testing::FakeKeyState;
  const std::string model = "gpt-4o";
  const keyrotator::testing::FakeProviderOptions options{
      .keys = {{"sk-revoked", {.state = FakeKeyState::kRevoked}},
               {"sk-out-of-quota", {.state = FakeKeyState::kOutOfQuota}},
               {"sk-team-1", {.organization = "team"}},
               {"sk-team-2", {.organization = "team"}},
               {"sk-slow", {.limit = {.requests = 10, .per = 20min}}},
               {"sk-good-1", {.limit = {.requests = 40, .per = 2s}}},
               {"sk-good-2", {.limit = {.requests = 40, .per = 2s}}},
               {"sk-good-3", {.limit = {.requests = 40, .per = 2s}}}},
      .organizations = {{"team", {.requests = 20, .per = 2s}}},
      .latency = 20ms};
  const std::vector<ApiKey> keys = {
      ApiKey("sk-revoked", {.name = "revoked"}),
      ApiKey("sk-out-of-quota", {.name = "out-of-quota"}),
      ApiKey("sk-team-1", {.name = "team-1", .group = "team"}),
      ApiKey("sk-team-2", {.name = "team-2", .group = "team"}),
      ApiKey("sk-slow", {.name = "slow"}),
      ApiKey("sk-good-1", {.name = "good-1"}),
      ApiKey("sk-good-2", {.name = "good-2"}),
      ApiKey("sk-good-3", {.name = "good-3"})};

  fmt::print("300 requests from 8 threads over 8 keys, of a fake provider:\n");
  bool all_served = false;
  {
    const keyrotator::testing::FakeProvider provider(options);
    KeyRotator rotator(keys);
    Client client(provider.base_url(), rotator, keyrotator::CurlTransport{});
    all_served = Serve(client, rotator, model, 300, 8);
  }
  // On another, so that its limits are fresh.
  const keyrotator::testing::FakeProvider provider(options);
  ServeWithoutRotation(provider.base_url(), keys, model, 300, 8);
  return all_served ? 0 : 1;
}

int RunOn(const std::string& base_url, const keyrotator::ApiKeys& keys) {
  KeyRotator rotator(keys);
  Client client(base_url, rotator, keyrotator::CurlTransport{},
                {.retry = {.deadline = 30s}, .request_timeout = 1min});
  std::string model = Environment("OPENAI_MODEL");
  if (model.empty()) {
    const Reply reply = client.Models();
    const auto list = nlohmann::json::parse(reply.body, nullptr, false);
    const nlohmann::json::json_pointer first("/data/0/id");
    if (reply.ok() && list.is_object() && list.contains(first) &&
        list[first].is_string()) {
      model = list[first];
    } else {
      fmt::print(stderr, "No model; set OPENAI_MODEL. {}\n", reply.message);
      return 1;
    }
  }
  const int count = std::min(2 * static_cast<int>(rotator.Size()), 10);
  fmt::print("{} requests from 2 threads to {} of {}; keys: {}\n", count, model,
             base_url, rotator.Size());
  return Serve(client, rotator, model, count, 2) ? 0 : 1;
}

}  // namespace

int main() try {
  const std::string base_url = Environment("OPENAI_BASE_URL");
  const bool has_keys = !Environment("OPENAI_API_KEYS").empty();
  if (base_url.empty() && !has_keys) return RunOnFakeProvider();
  if (!base_url.empty() && has_keys)
    return RunOn(base_url, keyrotator::KeysFromEnv("OPENAI_API_KEYS"));
  fmt::print(stderr,
             "Set both OPENAI_BASE_URL and OPENAI_API_KEYS, or neither to run "
             "on a fake provider.\n");
  return 2;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
