#include "tests/support/count_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace keyrotator::testing {
namespace {

std::atomic<std::size_t> allocations{0};

}  // namespace

std::size_t CountAllocations() { return allocations.load(); }

}  // namespace keyrotator::testing

void* operator new(std::size_t size) {
  keyrotator::testing::allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }

void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
