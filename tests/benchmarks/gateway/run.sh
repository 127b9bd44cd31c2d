#!/usr/bin/env bash
# The gateway beside what else there is: nginx straight, the gateway, and
# @portkey-ai/gateway, all on the same upstream (nginx, an answer of 300 bytes).
#   tests/benchmarks/gateway/run.sh <keyrotator-gateway> [seconds]
# Prints one row each: requests/s at full load, latency at 1,000 requests/s, and
# the most memory; then how many of 200 requests and of 200 streams come through
# with one dead and one limited key. Portkey is left out where npm cannot get it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gateway=$(realpath "$1")
seconds=${2:-10}
work=$(mktemp -d)
pids=()
finish() {
  [[ ${#pids[@]} -eq 0 ]] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

for program in wrk nginx node curl; do
  command -v "$program" >/dev/null || {
    echo "needs $program" >&2
    exit 2
  }
done

upstream=18801 ours=18802 portkey=18803 keys=18804 ours_keys=18805

cat >"$work/nginx.conf" <<EOF
worker_processes 1;
daemon off;
pid $work/nginx.pid;
error_log $work/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path $work/body;
  server {
    listen 127.0.0.1:$upstream reuseport;
    location / {
      default_type application/json;
      return 200 '{"id":"chatcmpl-1","object":"chat.completion","created":0,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"Hello from the upstream of this benchmark."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}';
    }
  }
}
EOF
nginx -e "$work/error.log" -c "$work/nginx.conf" &
pids+=($!)
node "$here/upstream.mjs" $keys &
pids+=($!)

start() { # <log> <command...>: its pid
  "${@:2}" >"$work/$1" 2>&1 &
  pids+=($!)
  started=$!
}
await() {
  for _ in $(seq 200); do
    curl -s -o /dev/null "http://127.0.0.1:$1$2" && return
    sleep 0.1
  done
  return 1
}
export OPENAI_API_KEYS=sk-good-1,sk-good-2
start ours.log "$gateway" --port $ours --base-url "http://127.0.0.1:$upstream/v1" --no-request-log
ours_pid=$started
OPENAI_API_KEYS=sk-dead,sk-limited,sk-good start ours_keys.log "$gateway" \
  --port $ours_keys --base-url "http://127.0.0.1:$keys/v1" --no-request-log
await $upstream / && await $ours /healthz && await $ours_keys /healthz

portkey_pid=
if npm install --prefix "$work/npm" --no-audit --no-fund --silent @portkey-ai/gateway@1.15.2 >/dev/null 2>&1; then
  start portkey.log node "$work/npm/node_modules/@portkey-ai/gateway/build/start-server.js" \
    --port=$portkey --headless
  portkey_pid=$started
  await $portkey / || portkey_pid=
fi

body='{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
export BODY=$body
measure() { # <name> <port> <pid> <header...>
  local url=http://127.0.0.1:$2/v1/chat/completions full paced memory
  local headers=()
  for header in "${@:4}"; do headers+=(-H "$header"); done
  wrk -t1 -c16 -d2s -s "$here/post.lua" "${headers[@]}" "$url" >/dev/null
  full=$(wrk -t1 -c64 -d"${seconds}s" --latency -s "$here/post.lua" "${headers[@]}" "$url")
  paced=$(PACE=1 wrk -t1 -c20 -d"${seconds}s" --latency -s "$here/post.lua" "${headers[@]}" "$url")
  memory=$(awk '/VmHWM/ {printf "%.0f MB", $2 / 1024}' "/proc/$3/status")
  printf '| %s | %s | %s / %s | %s (%s/s) | %s | %s |\n' "$1" \
    "$(awk '/Requests\/sec/ {printf "%.0f", $2}' <<<"$full")" \
    "$(awk '$1 == "50%" {print $2}' <<<"$full")" "$(awk '$1 == "99%" {print $2}' <<<"$full")" \
    "$(awk '$1 == "50%" {a = $2} $1 == "99%" {b = $2} END {print a " / " b}' <<<"$paced")" \
    "$(awk '/Requests\/sec/ {printf "%.0f", $2}' <<<"$paced")" "$memory" \
    "$(awk '/Non-2xx/ {print $NF}' <<<"$full$paced" | paste -sd+ | sed 's/^$/0/')"
}
echo "| | requests/s, 64 connections | p50 / p99 there | p50 / p99 at 1,000/s | memory | not 2xx |"
echo "| --- | --- | --- | --- | --- | --- |"
measure "nginx straight" $upstream "${pids[0]}" "Authorization: Bearer sk-good-1"
measure "keyrotator-gateway" $ours "$ours_pid" "Authorization: Bearer any"
if [[ -n $portkey_pid ]]; then
  measure "@portkey-ai/gateway" $portkey "$portkey_pid" "Authorization: Bearer sk-good-1" \
    "x-portkey-provider: openai" "x-portkey-custom-host: http://127.0.0.1:$upstream/v1"
fi

echo
echo "| one dead, one limited and one good key | of 200 requests | of 200 streams at once |"
echo "| --- | --- | --- |"
node "$here/ask.mjs" "keyrotator-gateway" "http://127.0.0.1:$ours_keys/v1/chat/completions"
if [[ -n $portkey_pid ]]; then
  target() { printf '{"provider":"openai","api_key":"%s","custom_host":"http://127.0.0.1:%s/v1"}' "$1" $keys; }
  targets="$(target sk-dead),$(target sk-limited),$(target sk-good)"
  config() { printf '{"strategy":{"mode":"%s"},"retry":{"attempts":%s},"targets":[%s]}' "$1" "$2" "$targets"; }
  for how in "loadbalance 3" "fallback 0"; do
    read -r mode retries <<<"$how"
    node "$here/ask.mjs" "@portkey-ai/gateway, $mode, $retries retries" \
      "http://127.0.0.1:$portkey/v1/chat/completions" "$(config "$mode" "$retries")"
  done
fi
