// Counts the calls of operator new in a program that links
// count_allocations.cc.

#ifndef KEYROTATOR_TESTS_SUPPORT_COUNT_ALLOCATIONS_H_
#define KEYROTATOR_TESTS_SUPPORT_COUNT_ALLOCATIONS_H_

#include <cstddef>

namespace keyrotator::testing {

// How often memory was allocated so far, by all threads.
std::size_t CountAllocations();

// And how often more than 64 KiB at once.
std::size_t CountLargeAllocations();

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_COUNT_ALLOCATIONS_H_
