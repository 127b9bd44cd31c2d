// File: rotator_fuzz.cc
//
// libFuzzer: after any operations on a rotator, all that can be seen of it is what
// a slow and plain reference says.
//
// An input is a byte for the policy, then what the operations are drawn from.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "tests/support/rotator_model.h"

namespace {

using namespace keyrotator::testing::model;

template <class Expected>
void Run(std::span<const std::uint8_t> bytes) {
  const std::string problem = Lockstep<Expected>(Dice(bytes)).Run(2000);
  if (problem.empty()) return;
  std::fputs(problem.c_str(), stderr);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::uint8_t> bytes(data + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      Run<Turns>(bytes);
      break;
    case 1:
      Run<Firsts>(bytes);
      break;
    case 2:
      Run<Weights>(bytes);
      break;
    case 3:
      Run<Sessions>(bytes);
      break;
    default:
      Run<Lasts>(bytes);
  }
  return 0;
}
