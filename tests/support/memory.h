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

  // Whether at `data` begins any part of it that tells it: its second half.
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
      for (std::size_t i = 0; i <= last; ++i) {
        const std::uintptr_t address = at + i;
        const bool is_own = address >= own && address < own + piece.size();
        if (!is_own && secret.IsAt(&piece[i])) ++found;
      }
    }
  }
  std::fill(piece.begin(), piece.end(), std::uint8_t{0});
  close(memory);
  return found;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_MEMORY_H_
