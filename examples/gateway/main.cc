// keyrotator-gateway: any program, in any language, gets the pool of keys by one
// environment variable:
//
//   keyrotator-gateway --config providers.yaml
//   OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=any python app.py
//
// Without --config the keys come from OPENAI_API_KEYS (separated by commas) or
// OPENAI_API_KEY, for OPENAI_BASE_URL or --base-url; without those, too, a fake
// provider in this process answers, so that it can be tried. README.md has the
// rest.

#include <fmt/format.h>
#include <keyrotator/config/keys_from.h>
#include <keyrotator/config/provider_config.h>
#include <keyrotator/config/yaml.h>
#include <keyrotator/testing/fake_provider.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/options.h"
#include "gateway/server.h"

namespace {

using keyrotator::ProviderConfig;

// A line at a time, also where several threads write.
void WriteLine(std::string_view line) {
  while (!line.empty()) {
    const ssize_t size = ::write(STDOUT_FILENO, line.data(), line.size());
    if (size <= 0) return;
    line.remove_prefix(static_cast<std::size_t>(size));
  }
}

void Warn(std::string_view message) { fmt::print(stderr, "{}\n", message); }

std::vector<std::string> ReadTokens(const std::string& path) {
  constexpr std::size_t kShortest = 16;
  std::vector<std::string> tokens;
  if (path.empty()) return tokens;
  for (const auto& token : keyrotator::KeysFromFile(path, Warn)) {
    if (token.Reveal().size() < kShortest) {
      throw std::runtime_error(fmt::format(
          "{}: a token must have at least {} characters; `openssl rand -hex "
          "32` makes one",
          path, kShortest));
    }
    tokens.emplace_back(token.Reveal());
  }
  if (tokens.empty()) throw std::runtime_error(path + ": there is no token");
  return tokens;
}

// The providers of a file, whose keys are read again when it changes.
gateway::Setup FromFile(const std::string& path) {
  gateway::Setup setup{.providers = keyrotator::LoadProviders(
                           path, keyrotator::SystemEnvironment, Warn)};
  setup.keys = [path, providers = setup.providers](std::size_t position) {
    std::vector<std::string> files{path};
    for (const auto& entry : providers[position].api_keys) {
      if (!entry.key_file.empty()) files.push_back(entry.key_file);
    }
    const std::string name = providers[position].name;
    return keyrotator::KeySource{
        .load = [path, name]() -> keyrotator::ApiKeys {
          for (const ProviderConfig& now : keyrotator::LoadProviders(path)) {
            if (now.name == name) return keyrotator::ResolveKeys(now);
          }
          throw std::runtime_error(
              path + " has no such provider any more; restart to change them");
        },
        .files = std::move(files)};
  };
  return setup;
}

std::string EnvironmentOr(const char* name, std::string otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? std::move(otherwise) : value;
}

// One provider, if the environment has keys for it.
std::optional<gateway::Setup> FromEnvironment(const std::string& base_url) {
  ProviderConfig config{.name = "openai", .base_url = base_url};
  for (const auto& key : keyrotator::FindKeysInEnv())
    config.api_keys.push_back({.key = std::string(key.Reveal())});
  if (config.api_keys.empty()) return std::nullopt;
  return gateway::Setup{.providers = {std::move(config)}};
}

// A provider in this process, with a key of each kind.
gateway::Setup FromFake(
    std::unique_ptr<keyrotator::testing::FakeProvider>& fake) {
  using keyrotator::testing::FakeKeyState;
  fake = std::make_unique<keyrotator::testing::FakeProvider>(
      keyrotator::testing::FakeProviderOptions{
          .keys = {{"sk-fake-revoked", {.state = FakeKeyState::kRevoked}},
                   {"sk-fake-spent", {.state = FakeKeyState::kOutOfQuota}},
                   {"sk-fake-limited", {.limit = {.requests = 5}}},
                   {"sk-fake-good", {.limit = {.requests = 10'000}}}},
          .models = {{"gpt-4o", {}}, {"gpt-4o-mini", {}}},
          .event_interval = std::chrono::milliseconds(40)});
  return {.providers = {
              {.name = "fake",
               .base_url = fake->base_url(),
               .api_keys = {
                   {.key = "sk-fake-revoked", .options = {.name = "revoked"}},
                   {.key = "sk-fake-spent", .options = {.name = "spent"}},
                   {.key = "sk-fake-limited", .options = {.name = "limited"}},
                   {.key = "sk-fake-good", .options = {.name = "good"}}}}}};
}

// SIGTERM and SIGINT drain, the second of them ends it; SIGHUP reloads. They are
// waited for on a thread of its own, where it may be done what a handler may
// not. Create it before any other thread.
class Signals {
 public:
  Signals() {
    sigemptyset(&signals_);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1})
      sigaddset(&signals_, signal);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
  }
  ~Signals() {
    if (!thread_.joinable()) return;
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  void Serve(gateway::Server& server) {
    thread_ = std::thread([this, &server] {
      bool asked = false;
      int signal = 0;
      while (sigwait(&signals_, &signal) == 0 && signal != SIGUSR1) {
        if (signal == SIGHUP) {
          server.gateway().Reload();
        } else if (std::exchange(asked, true)) {
          server.StopNow();
        } else {
          server.Drain();
        }
      }
    });
  }

 private:
  sigset_t signals_{};
  std::thread thread_;
};

struct CommandLine {
  gateway::Options options;
  std::string config;
  std::string base_url;
  std::string token_file;
  std::string admin_token_file;
  bool fake = false;
};

void Describe(CLI::App& app, CommandLine& line) {
  gateway::Options& options = line.options;
  gateway::Limits& limits = options.limits;
  const auto seconds = [&](const char* name, gateway::Milliseconds& to,
                           const char* help) {
    app.add_option_function<std::string>(
           name,
           [&to](const std::string& text) {
             const CLI::AsNumberWithUnit unit(std::map<std::string, long>{
                 {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}});
             std::string number = text;
             const std::string error = unit(number);
             if (!error.empty()) throw CLI::ValidationError(error);
             to = gateway::Milliseconds(std::stol(number));
           },
           help)
        ->default_str(fmt::format("{}ms", to.count()))
        ->type_name("TIME");
  };
  app.add_option("--config", line.config, "Providers and keys, in YAML");
  app.add_option("--base-url", line.base_url,
                 "The provider for keys of the environment (OPENAI_API_KEYS)");
  app.add_flag("--fake", line.fake, "A fake provider in this process");
  app.add_option("--host", options.host, "The address to listen on")
      ->capture_default_str();
  app.add_option("--port", options.port, "The port; 0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads that serve")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--token-file", line.token_file,
                 "Tokens, one a line, of which callers give one as API key");
  app.add_option("--admin-token-file", line.admin_token_file,
                 "Tokens for the buttons of the page");
  app.add_option("--allow-host", options.allow_hosts,
                 "Another name by which it may be called; * for any");
  app.add_option("--allow-origin", options.allow_origins,
                 "A web page's origin that may use it; * for any");
  seconds("--drain", options.drain, "How long running requests may go on");
  app.add_option("--max-connections", limits.connections)
      ->capture_default_str();
  app.add_option("--max-head", limits.head_bytes,
                 "Bytes of a request's headers")
      ->check(CLI::Range(256, 16 << 20))
      ->capture_default_str();
  app.add_option("--max-body", limits.body_bytes, "Bytes of a request's body")
      ->capture_default_str();
  app.add_option("--keep-body", limits.kept_bytes,
                 "Bytes of a body that are kept to be sent again")
      ->capture_default_str();
  app.add_option("--keep-bodies", limits.kept_bytes_in_all,
                 "The same for all bodies together")
      ->capture_default_str();
  seconds("--idle-timeout", limits.idle_timeout, "Between requests");
  seconds("--head-timeout", limits.head_timeout, "For a request's headers");
  seconds("--body-silence", limits.body_silence, "Within a request's body");
  seconds("--body-timeout", limits.body_timeout,
          "For a body, and a second more for each 8 KiB");
  seconds("--write-timeout", limits.write_timeout,
          "For a caller that takes nothing of its answer");
  seconds("--connect-timeout", limits.connect_timeout, "To a provider");
  seconds("--answer-timeout", limits.answer_timeout,
          "Until a provider's answer begins");
  seconds("--answer-silence", limits.answer_silence,
          "Within a provider's answer");
  app.add_flag("!--no-request-log", options.log_requests,
               "No line for each request");
}

int Run(CommandLine& line) {
  using Fake = keyrotator::testing::FakeProvider;
  gateway::Options& options = line.options;
  options.tokens = ReadTokens(line.token_file);
  options.admin_tokens = ReadTokens(line.admin_token_file);

  Signals signals;
  std::unique_ptr<Fake> fake;
  std::optional<gateway::Setup> setup;
  if (!line.config.empty()) {
    setup = FromFile(line.config);
  } else if (!line.fake) {
    const std::string base_url =
        !line.base_url.empty()
            ? line.base_url
            : EnvironmentOr("OPENAI_BASE_URL", "https://api.openai.com/v1");
    const std::string own =
        fmt::format("http://{}:{}/", options.host, options.port);
    if (base_url.starts_with(own))
      throw std::runtime_error(
          "OPENAI_BASE_URL leads to this gateway itself; name the provider by "
          "--base-url");
    setup = FromEnvironment(base_url);
  }
  if (!setup) setup = FromFake(fake);

  gateway::Server server(options, *std::move(setup), WriteLine);
  signals.Serve(server);
  fmt::print(stderr,
             "{}Listening on http://{}:{}/ - try\n"
             "  curl http://{}:{}/v1/chat/completions -H 'Content-Type: "
             "application/json' -d '{{\"model\": \"gpt-4o\", \"messages\": "
             "[{{\"role\": \"user\", \"content\": \"hi\"}}]}}'\n",
             fake ? "No keys are configured: a fake provider answers.\n" : "",
             options.host, server.port(), options.host, server.port());
  server.Run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  CLI::App app{"Gives any program a pool of API keys, by OPENAI_BASE_URL."};
  Describe(app, line);
  CLI11_PARSE(app, argc, argv);
  try {
    return Run(line);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
