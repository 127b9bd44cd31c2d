#!/usr/bin/env bash
# Builds the tests in build/ and runs them. Arguments are passed on to ctest:
#   tests/run.sh -R key_rotator
# With -Og, as the tests are quick and the compiler is not; CXXFLAGS and
# CMAKE_BUILD_TYPE replace that. Several files are compiled as one, which takes half
# as long; KEYROTATOR_UNITY_TESTS=OFF for who changes one of them again and again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash .ci/install tests

export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
# Consumers' projects (tests/consumer) take it from here, too.
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
cmake -S . -B build \
  -D CMAKE_BUILD_TYPE="${CMAKE_BUILD_TYPE-}" \
  -D CMAKE_CXX_FLAGS="${CXXFLAGS--Og}" \
  -D KEYROTATOR_BUILD_TESTS=ON \
  -D KEYROTATOR_UNITY_TESTS="${KEYROTATOR_UNITY_TESTS-ON}" \
  -D KEYROTATOR_BUILD_EXAMPLES=OFF \
  -D KEYROTATOR_BUILD_BENCHMARKS=OFF
cmake --build build
ctest --test-dir build --output-on-failure --no-tests=error "$@"
