#include "keyrotator/internal/read_file.h"

#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::internal::internal_read_file_test {
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
  // A link is what it leads to.
  std::filesystem::create_symlink("pipe", directory / "link");
  CHECK_THROWS_WITH(ReadFile(directory / "link", 1, "text"),
                    "a pipe, where text should be");
  std::filesystem::create_symlink("loop", directory / "loop");
  CHECK_THROWS_WITH(ReadFile(directory / "loop", 1, "text"),
                    "Too many levels of symbolic links");
  // It is regular, and without O_NONBLOCK a read waits for the kernel's words.
  if (access("/proc/kmsg", R_OK) == 0) {
    CHECK_THROWS(ReadFile("/proc/kmsg", 0, "text"));
  }
}

TEST_CASE("a socket in the place of a file is called one", "[read_file]") {
  const TemporaryDirectory directory;
  const std::string path = directory / "socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof(address.sun_path));
  std::copy(path.begin(), path.end(), address.sun_path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
          0);
  CHECK_THROWS_WITH(ReadFile(path, 1, "text"),
                    "a socket, where text should be");
  close(fd);
}

TEST_CASE("a file that this user may not read is told", "[read_file]") {
  const TemporaryDirectory directory;
  WriteFile(directory / "file", "x");
  std::filesystem::permissions(directory / "file",
                               std::filesystem::perms::none);
  // Root may read all, so the test reads as another: this thread alone.
  const auto user = static_cast<uid_t>(setfsuid(65534));
  CHECK_THROWS_WITH(ReadFile(directory / "file", 1, "text"),
                    "Permission denied");
  setfsuid(user);
}

}  // namespace
}  // namespace keyrotator::internal::internal_read_file_test
