#!/usr/bin/env bash
# Installs the clients of package-lock.json into a folder and runs them:
#   run.sh <folder> <keyrotator-gateway>
# Exits with 77, which ctest takes for skipped, where node or the packages cannot
# be had.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1
export GATEWAY=$2

node=$(node --version 2>/dev/null | sed -nE 's/^v([0-9]+).*/\1/p')
if [[ ${node:-0} -lt 20 ]] || ! command -v npm >/dev/null; then
  echo "SKIPPED: node 20 and npm are needed"
  exit 77
fi
mkdir -p "$folder"
if ! cmp -s "$here/package-lock.json" "$folder/installed-lock.json"; then
  cp "$here/package.json" "$here/package-lock.json" "$folder"
  (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --prefer-offline \
      --fetch-retries=0 --fetch-timeout=20000) || {
    echo "SKIPPED: the packages cannot be installed"
    exit 77
  }
  cp "$here/package-lock.json" "$folder/installed-lock.json"
fi
cp "$here"/*.mjs "$folder"
cd "$folder"
exec node --test --test-reporter=spec clients_test.mjs
