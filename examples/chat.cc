// A chat on the command line: the answer is printed as it streams, the
// conversation is kept, and Ctrl-C stops the answer that is running. Which key
// served, and which did not, goes to the standard error.
//
//   OPENAI_API_KEYS=sk-one,sk-two chat --model gpt-4o
//   echo "Say hello." | chat --fake
//   chat --base-url http://127.0.0.1:8000/v1 --model llama "Say hello."
//   chat --config examples/providers.yaml --provider local
//
// Without --config the keys come from OPENAI_API_KEYS (separated by commas) or
// OPENAI_API_KEY.

#include <fmt/format.h>
#include <keyrotator/config/yaml.h>
#include <keyrotator/http/curl.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/client.h>
#include <keyrotator/openai/make_client.h>
#include <keyrotator/testing/fake_provider.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common.h"

namespace {

using keyrotator::ProviderConfig;
using keyrotator::Reply;

// Ctrl-C stops the answer that runs, or the program if none does. The signal is
// blocked everywhere and waited for on a thread of its own, where it may do
// what a signal handler may not. Create it before any other thread.
class CtrlC {
 public:
  CtrlC() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] { Wait(); });
  }
  ~CtrlC() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    pthread_kill(thread_.native_handle(), SIGINT);
    thread_.join();
  }
  CtrlC(const CtrlC&) = delete;
  CtrlC& operator=(const CtrlC&) = delete;

  // From now until End, Ctrl-C stops what listens to the token.
  std::stop_token Begin() {
    const std::lock_guard lock(mutex_);
    return answer_.emplace().get_token();
  }
  void End() {
    const std::lock_guard lock(mutex_);
    answer_.reset();
  }

 private:
  void Wait() {
    while (true) {
      int signal = 0;
      sigwait(&signals_, &signal);
      const std::lock_guard lock(mutex_);
      if (ending_) return;
      if (!answer_) _exit(128 + SIGINT);
      answer_->request_stop();
    }
  }

  sigset_t signals_;
  std::mutex mutex_;
  bool ending_ = false;                     // guarded by mutex_
  std::optional<std::stop_source> answer_;  // guarded by mutex_
  std::thread thread_;
};

// "[key-1: 401 key_invalid; served by key-2]"
void TellKeys(const Reply& reply) {
  std::vector<std::string> told;
  for (const keyrotator::Attempt& attempt : reply.trail) {
    if (attempt.verdict == keyrotator::VerdictKind::kOk) {
      told.push_back("served by " + attempt.key);
    } else if (attempt.status == 0) {
      told.push_back(attempt.key + ": no answer");
    } else {
      told.push_back(fmt::format("{}: {} {}", attempt.key, attempt.status,
                                 attempt.verdict));
    }
  }
  if (!told.empty()) fmt::print(stderr, "[{}]\n", fmt::join(told, "; "));
  if (!reply.ok()) fmt::print(stderr, "{}\n", reply.message);
}

template <class Client>
class Chat {
 public:
  Chat(Client& client, std::string model)
      : client_(client), model_(std::move(model)) {}

  // Prints the answer. False: there was none.
  bool Ask(const std::string& prompt, CtrlC& ctrl_c) {
    messages_.push_back({{"role", "user"}, {"content", prompt}});
    const std::string body =
        nlohmann::json(
            {{"model", model_}, {"stream", true}, {"messages", messages_}})
            .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    std::string answer;
    const Reply reply = client_.ChatCompletionStream(
        body,
        [&](const keyrotator::SseEvent& event) {
          const std::string text = AddedText(event);
          answer += text;
          fmt::print("{}", text);
          std::fflush(stdout);
        },
        {.stop = ctrl_c.Begin()});
    ctrl_c.End();
    if (!answer.empty()) fmt::print("\n");
    std::fflush(stdout);
    TellKeys(reply);

    // What was said stays said, even if it was stopped.
    if (answer.empty()) {
      messages_.erase(messages_.size() - 1);
    } else {
      messages_.push_back({{"role", "assistant"}, {"content", answer}});
    }
    return reply.ok() || reply.outcome == keyrotator::Outcome::kStopped;
  }

 private:
  Client& client_;
  const std::string model_;
  nlohmann::json messages_ = nlohmann::json::array();
};

// The provider of that name in a file; without a name the first.
ProviderConfig FromFile(const std::string& file, const std::string& name) {
  const auto providers = keyrotator::LoadProviders(file);
  if (name.empty()) return providers.front();
  const auto found = std::find_if(
      providers.begin(), providers.end(),
      [&](const ProviderConfig& config) { return config.name == name; });
  if (found != providers.end()) return *found;
  std::vector<std::string> names;
  for (const ProviderConfig& config : providers) names.push_back(config.name);
  throw std::invalid_argument(fmt::format("{} has no provider {}; it has {}",
                                          file, name, fmt::join(names, ", ")));
}

}  // namespace

int main(int argc, char** argv) try {
  std::string base_url =
      Environment("OPENAI_BASE_URL", "https://api.openai.com/v1");
  std::string file;
  std::string name;
  std::string model;
  std::string prompt;
  bool fake = false;
  CLI::App app("Chats with an OpenAI-compatible provider over a pool of keys.");
  app.add_option("prompt", prompt, "One prompt; else each line of the input");
  CLI::Option* const url =
      app.add_option("--base-url", base_url)->capture_default_str();
  CLI::Option* const config_file =
      app.add_option("--config", file, "Providers and keys, in YAML")
          ->excludes(url);
  app.add_option("--provider", name, "One of them; else the first")
      ->needs(config_file);
  app.add_option("--model", model,
                 "Else OPENAI_MODEL, the provider's first or gpt-4o-mini");
  app.add_flag("--fake", fake, "A fake provider with two keys, one revoked")
      ->excludes(config_file, url);
  CLI11_PARSE(app, argc, argv);

  CtrlC ctrl_c;
  ProviderConfig config;
  std::optional<keyrotator::testing::FakeProvider> provider;
  if (fake) {
    using keyrotator::testing::FakeKeyState;
    provider.emplace(keyrotator::testing::FakeProviderOptions{
        .keys = {{"sk-revoked", {.state = FakeKeyState::kRevoked}},
                 {"sk-good", {}}},
        .event_interval = std::chrono::milliseconds(100)});
    config.base_url = provider->base_url();
    config.api_keys = {{.key = "sk-revoked", .options = {.name = "revoked"}},
                       {.key = "sk-good", .options = {.name = "good"}}};
  } else if (!file.empty()) {
    config = FromFile(file, name);
  } else {
    config.base_url = base_url;
    config.api_keys = {{.key_env = "OPENAI_API_KEYS"}};
    config.api_key_env = "OPENAI_API_KEY";
  }
  if (model.empty()) {
    model = Environment("OPENAI_MODEL", config.models.empty()
                                            ? "gpt-4o-mini"
                                            : config.models.front());
  }

  auto client = keyrotator::MakeClient(config, keyrotator::CurlTransport{});
  Chat chat(client, model);
  if (!prompt.empty()) return chat.Ask(prompt, ctrl_c) ? 0 : 1;

  const bool terminal = isatty(STDIN_FILENO) == 1;
  bool all_answered = true;
  while (true) {
    if (terminal) fmt::print(stderr, "> ");
    if (!std::getline(std::cin, prompt)) break;
    if (prompt.empty()) continue;
    all_answered = chat.Ask(prompt, ctrl_c) && all_answered;
  }
  return all_answered ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
