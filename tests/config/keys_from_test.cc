#include "keyrotator/config/keys_from.h"

#include <sys/stat.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "tests/support/catch.h"
#include "tests/support/config.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing::config_keys_from_test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

List FromFile(std::string_view text) {
  return Values(KeysFromFile(TemporaryFile(text).path()));
}

// ---- KeysFromEnv ----

TEST_CASE("a variable holds keys between commas or line breaks", "[config]") {
  const auto keys = [](const std::string& text) {
    return Values(KeysFromEnv("K", Env({{"K", text}})));
  };
  CHECK(keys("sk-a") == List{"sk-a"});
  CHECK(keys("sk-a,sk-b") == List{"sk-a", "sk-b"});
  CHECK(keys("sk-a\nsk-b\n") == List{"sk-a", "sk-b"});
  CHECK(keys(" sk-a ,\tsk-b\r\n,,\n sk-c,") == List{"sk-a", "sk-b", "sk-c"});
  CHECK(keys("sk-a,sk-b,sk-a") == List{"sk-a", "sk-b"});
  CHECK(keys("\xEF\xBB\xBFsk-a") == List{"sk-a"});
  CHECK(keys("sk-#a") == List{"sk-#a"});
  CHECK(keys("").empty());
  CHECK(keys(" , \n").empty());
  CHECK(Values(KeysFromEnv("K", Env({}))).empty());
  CHECK(Values(KeysFromEnv("", Env({}))).empty());
}

TEST_CASE("by default OPENAI_API_KEYS of the process is read", "[config]") {
  const char* const text = SystemEnvironment("OPENAI_API_KEYS");
  CHECK(Values(KeysFromEnv()) ==
        Values(KeysFromEnv("K", [&](const char*) { return text; })));
}

TEST_CASE("a bad key in a variable is told by its place, never by its text",
          "[config][S21]") {
  const std::string bad = GENERATE(
      as<std::string>(), "sk-secret x", "sk-secret\x01", "sk-\x7Fsecret",
      "sk-secr\xC3\xA9t", "sk-secret\tb", "sk-secret\rb");
  const std::string message = Error([&] {
    KeysFromEnv("MY_KEYS", Env({{"MY_KEYS", "sk-a,\n" + bad}}));
  });
  CAPTURE(message);
  CHECK(message.starts_with("MY_KEYS, entry 3: "));
  CHECK(message.find("sec") == message.npos);
}

TEST_CASE("a key of 16 KiB is one, a longer one and a line of 1 MiB are not",
          "[config]") {
  const std::string longest(std::size_t{16} << 10, 'k');
  CHECK(Values(KeysFromEnv("K", Env({{"K", longest}}))) == List{longest});
  for (const std::size_t size : {longest.size() + 1, std::size_t{1} << 20}) {
    const std::string text(size, 'k');
    CHECK(Error([&] {
            KeysFromEnv("K", Env({{"K", text}}));
          }) == fmt::format("K, entry 1: longer than any key, {} bytes", size));
    CHECK_THAT(Error([&] { FromFile("sk-a\n" + text); }),
               ContainsSubstring(", line 2: longer than any key"));
  }
}

// ---- FindKeysInEnv ----

TEST_CASE("the list goes before single keys", "[config]") {
  CHECK(Values(FindKeysInEnv("OPENAI", Env({{"OPENAI_API_KEYS", "sk-a,sk-b"},
                                            {"OPENAI_API_KEY", "sk-c"},
                                            {"OPENAI_API_KEY_1", "sk-d"}}))) ==
        List{"sk-a", "sk-b"});
  CHECK(Values(FindKeysInEnv("OPENAI", Env({{"OPENAI_API_KEYS", " , "},
                                            {"OPENAI_API_KEY", "sk-c"}}))) ==
        List{"sk-c"});
  CHECK(Values(FindKeysInEnv("OPENAI", Env({}))).empty());
}

TEST_CASE("numbered keys count up to the first number that is not set",
          "[config]") {
  CHECK(Values(FindKeysInEnv("OPENAI", Env({{"OPENAI_API_KEY_0", "sk-z"},
                                            {"OPENAI_API_KEY_1", "sk-a"},
                                            {"OPENAI_API_KEY_2", ""},
                                            {"OPENAI_API_KEY_3", "sk-b"},
                                            {"OPENAI_API_KEY_5", "sk-y"}}))) ==
        List{"sk-a", "sk-b"});
  KeyRotator rotator(FindKeysInEnv("GROQ", Env({{"GROQ_API_KEY", "gsk-a"},
                                                {"GROQ_API_KEY_1", "gsk-a"},
                                                {"GROQ_API_KEY_2", "gsk-b"},
                                                {"OPENAI_API_KEYS", "sk-a"}})));
  CHECK(rotator.Size() == 2);
}

// ---- KeysFromFile ----

TEST_CASE("a file holds a key a line, and comments", "[config]") {
  CHECK(FromFile("sk-a\nsk-b\n") == List{"sk-a", "sk-b"});
  CHECK(FromFile("sk-a") == List{"sk-a"});
  CHECK(
      FromFile("\xEF\xBB\xBFsk-a\r\n\r\n  sk-b\t\r\n# sk-c\r\n \t# sk-d\r\n") ==
      List{"sk-a", "sk-b"});
  CHECK(FromFile("sk-a # of the team\nsk-b\t#prod # x\nsk#c\n") ==
        List{"sk-a", "sk-b", "sk#c"});
  CHECK(FromFile("sk-a\nsk-b\nsk-a\n") == List{"sk-a", "sk-b"});
  CHECK(FromFile("").empty());
  CHECK(FromFile("\n\n# none yet\n").empty());
  CHECK(FromFile("\xEF\xBB\xBF").empty());
}

TEST_CASE("a bad line is told by file and number, never by its text",
          "[config][S21]") {
  const std::string bad = GENERATE(
      as<std::string>(), "sk-secret sk-b", "sk-secr\xC3\xA9t",
      std::string("sk-secret\0", 10), "sk-secret\rsk-b", "\x1b[31msk-secret");
  const TemporaryFile file("# keys\n\nsk-a\n" + bad + "\nsk-c\n");
  const std::string message = Error([&] { KeysFromFile(file.path()); });
  CAPTURE(message);
  CHECK(message.starts_with(file.name() + ", line 4: "));
  CHECK(message.find("sec", file.name().size()) == message.npos);
}

TEST_CASE("what cannot be read is told with its path", "[config]") {
  const std::string missing =
      (fs::temp_directory_path() / "keyrotator.there.is.none").string();
  CHECK(Error([&] { KeysFromFile(missing); }) ==
        missing + ": No such file or directory");
  const std::string directory = fs::temp_directory_path().string();
  CHECK_THAT(Error([&] { KeysFromFile(directory); }),
             ContainsSubstring(directory + ": a directory"));
  CHECK(Error([] { KeysFromFile("/proc/self/mem"); }) ==
        "/proc/self/mem: cannot be read");
  CHECK_THAT(Error([] { KeysFromFile(""); }), ContainsSubstring("No such"));
}

TEST_CASE("a pipe or a device in the place of a file does not hang",
          "[config]") {
  const TemporaryDirectory directory;
  const fs::path pipe = directory / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(Error([&] { KeysFromFile(pipe); }) ==
        pipe.string() + ": a pipe, where a file with keys should be");
  // Nor does a link hide it.
  const fs::path link = directory / "link";
  fs::create_symlink(pipe, link);
  CHECK(Error([&] { KeysFromFile(link); }) ==
        link.string() + ": a pipe, where a file with keys should be");
  CHECK(Error([] { KeysFromFile("/dev/zero"); }) ==
        "/dev/zero: a device, where a file with keys should be");
}

TEST_CASE("a file above 16 MiB is refused", "[config]") {
  const TemporaryFile large(std::string((std::size_t{16} << 20) + 1, '\n'));
  CHECK(Error([&] { KeysFromFile(large.path()); }) ==
        large.name() + ": above 16 MiB");
  const TemporaryFile most(std::string(std::size_t{16} << 20, '\n'));
  CHECK(Values(KeysFromFile(most.path())).empty());
}

TEST_CASE("a file that others can read is used, with a warning that says who",
          "[config]") {
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string& text) { warnings.push_back(text); };
  const auto told = [&](int mode) {
    warnings.clear();
    const TemporaryFile file("sk-a", static_cast<fs::perms>(mode));
    CHECK(Values(KeysFromFile(file.path(), warn)) == List{"sk-a"});
    CHECK(Values(KeysFromFile(file.path())) == List{"sk-a"});
    if (warnings.empty()) return std::string();
    REQUIRE(warnings.size() == 1);
    REQUIRE(warnings[0].starts_with(file.name() + ": "));
    return warnings[0].substr(file.name().size() + 2);
  };
  const std::string group =
      "the group of the file may read the keys in it; chmod g-r it";
  const std::string all = "every user may read the keys in it; chmod go-r it";
  for (const int mode : {0400, 0600, 0700, 0610, 0620}) {
    CAPTURE(mode);
    CHECK(told(mode).empty());
  }
  for (const int mode : {0440, 0640, 0660}) {
    CAPTURE(mode);
    CHECK(told(mode) == group);
  }
  for (const int mode : {0444, 0644, 0604}) {
    CAPTURE(mode);
    CHECK(told(mode) == all);
  }
  // Of a link the file counts that it leads to.
  const TemporaryFile file("sk-a", fs::perms(0644));
  const TemporaryDirectory directory;
  fs::create_symlink(file.path(), directory / "link");
  warnings.clear();
  KeysFromFile(directory / "link", warn);
  CHECK(warnings == List{(directory / "link").string() + ": " + all});
}

TEST_CASE("a file that all can write is refused", "[config]") {
  for (const int mode : {0602, 0666}) {
    const TemporaryFile writable("sk-a", static_cast<fs::perms>(mode));
    CHECK_THAT(Error([&] { KeysFromFile(writable.path()); }),
               ContainsSubstring(writable.name() + ": every user may write"));
  }
}

TEST_CASE("a mounted secret is read through its links", "[config]") {
  const TemporaryFile file("sk-a");
  const fs::path link = file.name() + ".link";
  fs::create_symlink(file.path(), link);
  const List values = Values(KeysFromFile(link));
  fs::remove(link);
  CHECK(values == List{"sk-a"});
}

TEST_CASE("100,000 keys are read in a moment", "[config]") {
  std::string text;
  for (int i = 0; i < 100'000; ++i)
    text += fmt::format("sk-{:050}\n", i % 99'999);
  const TemporaryFile file(text);
  const auto start = std::chrono::steady_clock::now();
  CHECK(Values(KeysFromFile(file.path())).size() == 99'999);
  CHECK(Values(KeysFromEnv("K", Env({{"K", text}}))).size() == 99'999);
  // Quadratic it would be minutes.
  CHECK(std::chrono::steady_clock::now() - start < 20s);
}

}  // namespace
}  // namespace keyrotator::testing::config_keys_from_test
