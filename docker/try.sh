#!/bin/sh
# Does without a container engine what a container does: installs, serves a bundle, asks it, ends it.
# sh docker/try.sh BUNDLE IMAGE
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT
sh "$here/install.sh" "$scratch/fpclass" serve
export PATH="$scratch/fpclass/bin:$PATH" BUNDLE="$1" PORT="${PORT:-8642}"
sh "$here/serve.sh" >"$scratch/log" 2>&1 &
server=$!
for _ in $(seq 120); do
  python3 "$here/healthy.py" 2>/dev/null && curl -sf "http://127.0.0.1:$PORT/ready" >"$scratch/ready" && break
  kill -0 "$server" || { cat "$scratch/log"; exit 1; }
  sleep 1
done
curl -sf --data-binary "@$2" -H 'Content-Type: application/octet-stream' "http://127.0.0.1:$PORT/predict"
echo
kill "$server"
wait "$server"
server=
