#!/usr/bin/env bash
# What it costs to include the library: three programs of ten lines, compiled
# one after the other at -O0 and -O2. Prints the best of several runs (user
# seconds, peak memory) and the ratio to the program that has standard headers
# and fmt alone. Only the ratios compare from one machine to the next.
#   tests/benchmarks/compile_time.sh [RUNS [COMPILER]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-3}
compiler=${2:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/standard.cc" <<'END'
#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

int main() {
  std::vector<std::string> keys = {"sk-a", "sk-b"};
  std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::function<void()> print = [&] { fmt::print("{} of {}\n", keys[0], keys.size()); };
  print();
}
END
cat >"$work/core.cc" <<'END'
#include <keyrotator/keyrotator.h>

int main() {
  keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
  if (auto key = rotator.Pick()) {
    fmt::print("{}\n", *key);
    rotator.MarkFailed(*key);
  }
  for (const auto& key : rotator.Snapshot()) fmt::print("{}\n", key);
}
END
cat >"$work/client.cc" <<'END'
#include <keyrotator/http/curl.h>
#include <keyrotator/openai/client.h>

int main() {
  keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
  keyrotator::OpenAIClient client("https://api.openai.com/v1", rotator,
                                  keyrotator::CurlTransport{});
  const keyrotator::Reply reply = client.ChatCompletion(R"({"model": "m"})");
  fmt::print("{}\n", reply.ok() ? reply.body : reply.message);
}
END

# measure <program> <flag>: user seconds and peak KiB of the fastest run.
measure() {
  for ((run = 0; run < runs; ++run)); do
    python3 - "$compiler" "$2" "$work/$1.cc" <<'END'
import os, resource, subprocess, sys
compiler, flag, source = sys.argv[1:]
subprocess.run([compiler, "-std=c++20", flag, "-I", "include", "-c", source, "-o", os.devnull],
               check=True, env={**os.environ, "CCACHE_DISABLE": "1"})
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{used.ru_utime:.2f} {used.ru_maxrss}")
END
  done | sort -n | head -n 1
}

"$compiler" --version | head -n 1
printf '%-28s %6s %10s %9s %8s\n' program flag "user s" ratio MiB
for flag in -O0 -O2; do
  base=
  for program in standard core client; do
    read -r seconds memory <<<"$(measure "$program" "$flag")"
    base=${base:-$seconds}
    case $program in
      standard) name="standard headers + fmt" ;;
      core) name="keyrotator.h" ;;
      client) name="client.h + curl.h" ;;
    esac
    awk -v name="$name" -v flag="$flag" -v s="$seconds" -v base="$base" -v kib="$memory" \
      'BEGIN { printf "%-28s %6s %10.2f %9.1f %8.0f\n", name, flag, s, s / base, kib / 1024 }'
  done
done
