// File: internal/hash.h
//
// Hashes that are the same in every process and on every machine, so that
// sessions find the same keys from each of them. std::hash may differ.

#ifndef KEYROTATOR_INTERNAL_HASH_H_
#define KEYROTATOR_INTERNAL_HASH_H_

#include <cstdint>
#include <string_view>

namespace keyrotator::internal {

// Spreads `x` over all bits: the finalizer of SplitMix64 (Steele, Lea, Flood:
// Fast splittable pseudorandom number generators, 2014).
constexpr std::uint64_t Mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// FNV-1a, mixed.
constexpr std::uint64_t HashText(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return Mix(hash);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_HASH_H_
