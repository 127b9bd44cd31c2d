#!/usr/bin/env bash
# Runs the page of a gateway in a headless Chromium:
#   run.sh <keyrotator-gateway>
# Exits with 77, which ctest takes for skipped, without node or Chromium.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export GATEWAY=$1

node=$(node --version 2>/dev/null | sed -nE 's/^v([0-9]+).*/\1/p')
if [[ ${node:-0} -lt 20 ]] || ! command -v chromium >/dev/null; then
  echo "SKIPPED: node 20 and chromium are needed"
  exit 77
fi
exec node --test --test-reporter=spec "$here/page_test.mjs"
