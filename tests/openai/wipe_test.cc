// Where the library keeps a key it overwrites it when the key goes: looked for
// in the memory of the process itself.

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/config/key_reloader.h"
#include "keyrotator/config/make_key_rotator.h"
#include "keyrotator/http/curl.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/catch.h"
#include "tests/support/memory.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing::openai_wipe_test {
namespace {

using internal::Wipe;

ApiKeys Keys(const MaskedSecret& secret) {
  std::string text = secret.Make();
  ApiKeys keys{ApiKey(text, {.name = "marked"}), "sk-other"};
  Wipe(text);
  return keys;
}

// Files are written by another's buffers.
void Write(const std::filesystem::path& path, const MaskedSecret& secret) {
  std::string text = secret.Make();
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  CHECK(write(file, text.data(), text.size()) ==
        static_cast<ssize_t>(text.size()));
  close(file);
  Wipe(text);
}

TEST_CASE("the search finds a secret wherever it is, and none where it was",
          "[wipe]") {
  const MaskedSecret secret(1);
  CHECK(CountInMemory(secret) == 0);
  std::string text = secret.Make();
  std::vector<char> copy(text.begin(), text.end());
  CHECK(CountInMemory(secret) == 2);
  Wipe(text);
  CHECK(CountInMemory(secret) == 1);
  Wipe(copy.data(), copy.size());
  CHECK(CountInMemory(secret) == 0);
}

TEST_CASE("a key that is removed is nowhere in memory", "[wipe][secrets]") {
  const MaskedSecret secret(2);
  KeyRotator rotator(Keys(secret));
  CHECK(CountInMemory(secret) == 1);
  // So that what takes secrets out of texts is made, too.
  CHECK(rotator.Redact("plain") == "plain");
  CHECK(CountInMemory(secret) == 2);
  const KeyId id = rotator.Snapshot()[0].id;
  SECTION("by Remove") { rotator.Remove(id); }
  SECTION("by Replace") { rotator.Replace({"sk-other"}); }
  SECTION("after its last lease") {
    std::optional<Lease> lease = rotator.Pick();
    REQUIRE(lease->id() == id);
    rotator.MarkFailed(*lease);
    rotator.Remove(id);
    CHECK(CountInMemory(secret) >= 1);
    lease.reset();
  }
  CHECK(rotator.Size() == 1);
  CHECK(CountInMemory(secret) == 0);
}

TEST_CASE("a rotator that goes takes its keys along", "[wipe][secrets]") {
  const MaskedSecret secret(3);
  {
    const KeyRotator rotator(Keys(secret));
    CHECK(rotator.Redact("plain") == "plain");
  }
  CHECK(CountInMemory(secret) == 0);
}

TEST_CASE("a key from a file, loaded and loaded again, leaves nothing",
          "[wipe][secrets][config]") {
  const MaskedSecret secret(4);
  const MaskedSecret next(5);
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory / "keys";
  Write(path, secret);
  {
    KeyRotator rotator(KeysFromFile(path));
    CHECK(CountInMemory(secret) == 1);
    KeyReloader reloader(rotator, {.load = [&] { return KeysFromFile(path); },
                                   .files = {path.string()}});
    Write(path, next);
    CHECK(reloader.Reload().ok());
    CHECK(CountInMemory(secret) == 0);
    CHECK(CountInMemory(next) == 1);
    // As a configuration names it.
    const auto other =
        MakeKeyRotator({.api_keys = {{.key_file = path.string()}}});
    CHECK(CountInMemory(next) == 2);
  }
  CHECK(CountInMemory(next) == 0);
}

// Answers what it should and keeps nothing.
struct Forgetful {
  std::optional<TransportError> Send(const HttpRequest& request,
                                     ResponseSink& sink, std::stop_token) {
    CHECK(request.headers.Find("Authorization")->starts_with("Bearer sk-"));
    sink.OnHead(200, {});
    static_cast<void>(sink.OnBody(R"({"choices":[]})"));
    return std::nullopt;
  }
};

TEST_CASE("a request leaves no key behind", "[wipe][secrets]") {
  const MaskedSecret secret(6);
  KeyRotator rotator(Keys(secret), {}, FirstAvailable{});
  OpenAIClient client("https://fake.test/v1", rotator, Forgetful{});
  CHECK(client.ChatCompletion("{}").ok());
  CHECK(CountInMemory(secret) == 1);
  rotator.Remove(rotator.Snapshot()[0].id);
  CHECK(CountInMemory(secret) == 0);
}

}  // namespace
}  // namespace keyrotator::testing::openai_wipe_test
