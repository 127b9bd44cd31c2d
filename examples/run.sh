#!/usr/bin/env bash
# Builds the examples in build-examples/ and runs those that end by themselves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

examples=(
  rotate_keys
)

bash .ci/install examples

export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
cmake -S . -B build-examples -D CMAKE_BUILD_TYPE="${CMAKE_BUILD_TYPE:-Release}" \
  -D KEYROTATOR_BUILD_TESTS=OFF \
  -D KEYROTATOR_BUILD_EXAMPLES=ON \
  -D KEYROTATOR_BUILD_BENCHMARKS=OFF
cmake --build build-examples --target "${examples[@]}"
for example in "${examples[@]}"; do
  echo "== $example"
  "build-examples/examples/$example"
done
