// File: memory.h
//
// A search of the process's own memory for a secret, which itself never has the
// secret in the open.
//
// Example:
//   const MaskedSecret secret(7);
//   {
//     std::string text = secret.Make();
//     CHECK(CountInMemory(secret) >= 1);
//   }

#ifndef KEYROTATOR_TESTS_SUPPORT_MEMORY_H_
#define KEYROTATOR_TESTS_SUPPORT_MEMORY_H_

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace keyrotator::testing {

// A key like "sk-..." of 48 characters; only the masked form is kept.
class MaskedSecret {
 public:
  static constexpr std::size_t kSize = 48;

  explicit MaskedSecret(unsigned seed) {
    constexpr char kDigits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    std::minstd_rand random(seed);
    for (std::size_t i = 0; i < kSize; ++i) {
      const char c = i < 3 ? "sk-"[i] : kDigits[random() % 62];
      masked_[i] = static_cast<unsigned char>(c ^ kMask);
    }
  }

  // In the open, for whoever wipes it.
  std::string Make() const {
    std::string text(kSize, ' ');
    for (std::size_t i = 0; i < kSize; ++i)
      text[i] = static_cast<char>(masked_[i] ^ kMask);
    return text;
  }

  // The first character of what IsAt looks for: that alone tells nothing.
  int first() const { return masked_[kSize / 2] ^ kMask; }
  // Whether at `data` begins the part of it that is looked for: its second half,
  // as the first bytes of memory that was given back are overwritten anyway.
  bool IsAt(const unsigned char* data) const {
    for (std::size_t i = 0; i < kSize / 2; ++i) {
      if ((data[i] ^ kMask) != masked_[kSize / 2 + i]) return false;
    }
    return true;
  }

 private:
  static constexpr unsigned char kMask = 0xA5;
  unsigned char masked_[kSize];
};

// How often it is in the memory that this process may write to. Mappings above
// 1 GiB are a sanitizer's own.
inline int CountInMemory(const MaskedSecret& secret) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  constexpr std::size_t kOverlap = MaskedSecret::kSize;
  // What is read here is in memory twice.
  static std::vector<unsigned char> piece(kPiece + kOverlap);
  const auto own = reinterpret_cast<std::uintptr_t>(piece.data());
  const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  std::ifstream maps("/proc/self/maps");
  int found = 0;
  for (std::string line; std::getline(maps, line);) {
    char* end = nullptr;
    const std::uintptr_t from = std::strtoull(line.c_str(), &end, 16);
    const std::uintptr_t to = std::strtoull(end + 1, &end, 16);
    if (end[1] != 'r' || end[2] != 'w' || to - from > (1U << 30)) continue;
    for (std::uintptr_t at = from; at < to; at += kPiece) {
      const std::size_t wanted = std::min<std::size_t>(piece.size(), to - at);
      const ssize_t size =
          pread(memory, piece.data(), wanted, static_cast<off_t>(at));
      if (size < static_cast<ssize_t>(kOverlap)) continue;
      const std::size_t last = std::min<std::size_t>(
          static_cast<std::size_t>(size) - kOverlap / 2, kPiece - 1);
      const unsigned char* const end_of_search = piece.data() + last + 1;
      const unsigned char* here = piece.data();
      while ((here = static_cast<const unsigned char*>(std::memchr(
                  here, secret.first(),
                  static_cast<std::size_t>(end_of_search - here)))) !=
             nullptr) {
        const std::uintptr_t address =
            at + static_cast<std::uintptr_t>(here - piece.data());
        const bool is_own = address >= own && address < own + piece.size();
        if (!is_own && secret.IsAt(here)) ++found;
        ++here;
      }
    }
  }
  std::fill(piece.begin(), piece.end(), std::uint8_t{0});
  close(memory);
  return found;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_MEMORY_H_
