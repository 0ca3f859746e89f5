#!/bin/sh
# What a container runs: the server of a bundle, by default the one mounted at /bundle, on $PORT. Arguments are flags of `fpclass serve`.
set -eu
exec fpclass serve --bundle="${BUNDLE:-/bundle}" --host=0.0.0.0 --port="${PORT:-8000}" "$@"
