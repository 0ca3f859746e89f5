#!/bin/sh
# Does without a container engine what a container does: installs, serves a bundle, asks it, ends it.
# sh docker/try.sh BUNDLE IMAGE [ENVIRONMENT]; without an environment that has fpclass[serve] it installs one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT
environment=${3:-$scratch/fpclass}
test $# -ge 3 || sh "$here/install.sh" "$environment" serve
export PATH="$environment/bin:$PATH" BUNDLE="$1" PORT="${PORT:-8642}"
sh "$here/serve.sh" --page=no >"$scratch/log" 2>&1 &
server=$!
for _ in $(seq 120); do
  curl -sf "http://127.0.0.1:$PORT/ready" >"$scratch/ready" && break
  kill -0 "$server" || { cat "$scratch/log"; exit 1; }
  sleep 1
done
test -s "$scratch/ready"
python3 "$here/healthy.py"
curl -sf --data-binary "@$2" -H 'Content-Type: application/octet-stream' "http://127.0.0.1:$PORT/predict"
echo
kill "$server"
wait "$server"
server=
