#!/bin/sh
# Installs the project into a new environment: sh docker/install.sh FOLDER [EXTRAS]. The containers and CI use it.
set -eu
folder=$1
extras=${2:-serve}
cd "$(dirname "$0")/.."
python3 -m venv "$folder"
case ",$extras," in
  *,page,*) grep -v '^pillow==' constraints.txt >"$folder/constraints.txt" ;; # Gradio asks for an older one
  *) cp constraints.txt "$folder/constraints.txt" ;;
esac
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir -c "$folder/constraints.txt" ".[$extras]"
