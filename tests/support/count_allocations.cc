#include "tests/support/count_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

namespace keyrotator::testing {
namespace {

std::atomic<std::size_t> allocations{0};
thread_local std::size_t largest = 0;

void* Allocate(std::size_t size, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (size > largest) largest = size;
  // aligned_alloc wants a multiple of the alignment, and not 0.
  const std::size_t rounded = (size / alignment + 1) * alignment;
  return std::aligned_alloc(alignment, rounded);
}

void* AllocateOrThrow(std::size_t size, std::size_t alignment) {
  if (void* memory = Allocate(size, alignment)) return memory;
  throw std::bad_alloc();
}

constexpr std::size_t kUsual = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

std::size_t CountAllocations() { return allocations.load(); }

std::size_t LargestAllocation() { return std::exchange(largest, 0); }

}  // namespace keyrotator::testing

// Those for arrays call these. AddressSanitizer brings its own of each that is
// missing here, and would report what one kind allocates and the other frees.

void* operator new(std::size_t size) {
  return keyrotator::testing::AllocateOrThrow(size,
                                              keyrotator::testing::kUsual);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return keyrotator::testing::AllocateOrThrow(
      size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return keyrotator::testing::Allocate(size, keyrotator::testing::kUsual);
}
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return keyrotator::testing::Allocate(size,
                                       static_cast<std::size_t>(alignment));
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
