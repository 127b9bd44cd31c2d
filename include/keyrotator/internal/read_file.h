// File: internal/read_file.h
//
// Reads a file that an operator named, and never hangs on what was put in
// its place: a named pipe without a writer, or a device that has no end.
//
// Example:
//   const auto [text, mode] =
//       keyrotator::internal::ReadFile("/run/secrets/openai", 1'000'000,
//                                      "a file with keys");

#ifndef KEYROTATOR_INTERNAL_READ_FILE_H_
#define KEYROTATOR_INTERNAL_READ_FILE_H_

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "keyrotator/internal/secret_text.h"

namespace keyrotator::internal {

struct FileText {
  // It may hold secrets: Wipe it.
  std::string text;
  // The permissions of the file that was read, as stat gives them.
  mode_t mode = 0;
};

// What is wrong with a path that leads to something of this `mode`, where
// `expected` should be, as "a YAML file"; empty if it is a regular file.
inline std::string WhyNoFile(mode_t mode, std::string_view expected) {
  if (S_ISREG(mode)) return {};
  return fmt::format("{}, where {} should be",
                     S_ISDIR(mode)    ? "a directory"
                     : S_ISFIFO(mode) ? "a pipe"
                     : S_ISSOCK(mode) ? "a socket"
                                      : "a device",
                     expected);
}

// The text of a regular file of at most `most` bytes; symbolic links are
// followed. Throws std::runtime_error for anything else, with the reason alone:
// the caller knows how to call the file. `expected` is as above. Linear.
inline FileText ReadFile(const std::filesystem::path& path, std::size_t most,
                         std::string_view expected) {
  const auto system_error = [](int number) {
    return std::runtime_error(std::generic_category().message(number));
  };
  struct Descriptor {
    ~Descriptor() {
      if (number >= 0) close(number);
    }
    int number;
  };
  // O_NONBLOCK: opening a pipe would otherwise wait for a writer. What it is
  // can only be asked of what is open, as a path may change its meaning.
  const Descriptor file{
      open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)};
  struct stat status {};
  if (file.number < 0) {
    const int number = errno;
    // All that open says of a socket is "No such device or address".
    if (stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode))
      throw std::runtime_error(WhyNoFile(status.st_mode, expected));
    throw system_error(number);
  }
  if (fstat(file.number, &status) != 0) throw system_error(errno);
  if (const std::string why = WhyNoFile(status.st_mode, expected); !why.empty())
    throw std::runtime_error(why);

  FileText result{.text = {}, .mode = status.st_mode};
  struct Piece {
    ~Piece() { Wipe(bytes.data(), bytes.size()); }
    std::array<char, std::size_t{64} << 10> bytes;
  } piece;
  // A text that grows leaves copies behind.
  result.text.reserve(std::min(most, static_cast<std::size_t>(status.st_size)) +
                      piece.bytes.size());
  // Not status.st_size: a file of /proc says 0, and others may grow meanwhile.
  while (true) {
    const ssize_t count =
        read(file.number, piece.bytes.data(), piece.bytes.size());
    if (count == 0) return result;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw std::runtime_error("cannot be read");
    result.text.append(piece.bytes.data(), static_cast<std::size_t>(count));
    if (result.text.size() > most)
      throw std::runtime_error(fmt::format("above {} MiB", most >> 20));
  }
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_READ_FILE_H_
