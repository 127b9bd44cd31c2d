// Counts the calls of operator new in a program that links
// count_allocations.cc, and notes the largest.

#ifndef KEYROTATOR_TESTS_SUPPORT_COUNT_ALLOCATIONS_H_
#define KEYROTATOR_TESTS_SUPPORT_COUNT_ALLOCATIONS_H_

#include <cstddef>

namespace keyrotator::testing {

// How often memory was allocated so far, by all threads.
std::size_t CountAllocations();

// The size of the largest allocation that this thread made since it asked last,
// or since it began.
std::size_t LargestAllocation();

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_COUNT_ALLOCATIONS_H_
