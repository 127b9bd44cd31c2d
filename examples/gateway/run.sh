#!/usr/bin/env bash
# Installs what is missing, builds the gateway in build-gateway/ and starts it.
# Arguments are the gateway's:
#   examples/gateway/run.sh                            # keys of OPENAI_API_KEYS, or a fake provider
#   examples/gateway/run.sh --config providers.yaml
#   examples/gateway/run.sh --help
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

bash "$root/.ci/install" gateway

export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
cmake -S "$root" -B "$root/build-gateway" --log-level=WARNING \
  -D CMAKE_BUILD_TYPE="${CMAKE_BUILD_TYPE:-Release}" \
  -D KEYROTATOR_GATEWAY=ON \
  -D KEYROTATOR_BUILD_TESTS=OFF \
  -D KEYROTATOR_BUILD_EXAMPLES=OFF \
  -D KEYROTATOR_BUILD_BENCHMARKS=OFF >&2
cmake --build "$root/build-gateway" --target gateway >&2
# Where it was called from, so that paths mean what they say.
exec "$root/build-gateway/examples/gateway/keyrotator-gateway" "$@"
