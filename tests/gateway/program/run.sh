#!/usr/bin/env bash
# Runs tests of the gateway as a program; page_test.mjs in a headless Chromium:
#   run.sh <keyrotator-gateway> <test>.mjs
# Exits with 77, which ctest takes for skipped, without node or Chromium.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export GATEWAY=$1

node=$(node --version 2>/dev/null | sed -nE 's/^v([0-9]+).*/\1/p')
if [[ ${node:-0} -lt 20 ]]; then
  echo "SKIPPED: node 20 is needed"
  exit 77
fi
if [[ $2 == page_test.mjs ]] && ! command -v chromium >/dev/null; then
  echo "SKIPPED: chromium is needed"
  exit 77
fi
exec node --test --test-reporter=spec "$here/$2"
