// A directory of a test's own, gone with it.

#ifndef KEYROTATOR_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
#define KEYROTATOR_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace keyrotator::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    // mkdtemp puts a name that is free in place of the six at the end.
    std::string path = std::filesystem::temp_directory_path() /
                       ("keyrotator-" + std::string(6, 'X'));
    if (mkdtemp(path.data()) == nullptr)
      throw std::runtime_error("cannot make a temporary directory");
    path_ = path;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

// Writes a file in place, as an editor or a shell's `>` does.
inline void WriteFile(const std::filesystem::path& path,
                      std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

// Replaces a file at once: who reads it sees the old text or the new one.
inline void SwapFile(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path next = path;
  next += ".next";
  WriteFile(next, text);
  std::filesystem::rename(next, path);
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
