#!/usr/bin/env bash
# Builds the quickstart in build-examples/ and runs it: on a fake provider, or on
# the one that OPENAI_BASE_URL and OPENAI_API_KEYS name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash .ci/install examples

export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
cmake -S . -B build-examples -D CMAKE_BUILD_TYPE="${CMAKE_BUILD_TYPE:-Release}" \
  -D KEYROTATOR_BUILD_TESTS=OFF \
  -D KEYROTATOR_BUILD_EXAMPLES=ON \
  -D KEYROTATOR_BUILD_BENCHMARKS=OFF
cmake --build build-examples --target quickstart
exec build-examples/examples/quickstart
