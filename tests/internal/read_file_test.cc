#include "keyrotator/internal/read_file.h"

#include <sys/stat.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::internal {
namespace {

using testing::TemporaryDirectory;
using testing::WriteFile;

TEST_CASE("a file is read whole, to the byte that is the last allowed",
          "[read_file]") {
  const TemporaryDirectory directory;
  const auto path = directory / "file";
  std::string text(std::size_t{1} << 20, 'x');
  text[100'000] = '\0';
  text.back() = '\n';
  WriteFile(path, text);
  CHECK(ReadFile(path, text.size(), "text").text == text);
  CHECK_THROWS_WITH(ReadFile(path, text.size() - 1, "text"), "above 0 MiB");
  WriteFile(path, "");
  CHECK(ReadFile(path, 0, "text").text.empty());
  // A size of 0 that stat gives is not believed.
  CHECK_FALSE(ReadFile("/proc/self/status", 1 << 20, "text").text.empty());
}

TEST_CASE("the permissions are those of the file behind a link",
          "[read_file]") {
  const TemporaryDirectory directory;
  WriteFile(directory / "file", "x");
  std::filesystem::permissions(directory / "file",
                               std::filesystem::perms(0640));
  std::filesystem::create_symlink("file", directory / "link");
  CHECK((ReadFile(directory / "link", 1, "text").mode & 0777) == 0640);
}

TEST_CASE("what is no file is refused at once, with the reason alone",
          "[read_file]") {
  const TemporaryDirectory directory;
  const auto pipe = directory / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(ReadFile(pipe, 1, "text"), "a pipe, where text should be");
  CHECK_THROWS_WITH(ReadFile("/dev/zero", 1, "text"),
                    "a device, where text should be");
  CHECK_THROWS_WITH(ReadFile(directory.path(), 1, "text"),
                    "a directory, where text should be");
  CHECK_THROWS_WITH(ReadFile(directory / "none", 1, "text"),
                    "No such file or directory");
}

}  // namespace
}  // namespace keyrotator::internal
