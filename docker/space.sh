#!/bin/sh
# Makes the files of a Hugging Face Space of a bundle, ready to push: sh docker/space.sh BUNDLE DIR
set -eu
bundle=$(cd "$1" && pwd)
mkdir "$2"
space=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
test -f "$bundle/bundle.json" || { echo "$bundle: no bundle (it has no bundle.json)" >&2; exit 2; }
cp -R fpclass configs docker constraints.txt pyproject.toml setup.py LICENSE "$space"
cp README.md "$space/PROJECT.md"
cp -R "$bundle" "$space/bundle"
sed -e 's/^ARG EXTRAS=serve$/ARG EXTRAS=page/' -e '/^USER 10001$/i COPY bundle /bundle' -e 's/PORT=8000/PORT=7860/' \
  -e 's/^EXPOSE 8000$/EXPOSE 7860/' -e 's/^RUN sh/RUN mv PROJECT.md README.md \&\& sh/' Dockerfile >"$space/Dockerfile"
cat >"$space/README.md" <<END
---
title: $(basename "$(dirname "$bundle")")
emoji: 🔎
colorFrom: blue
colorTo: gray
sdk: docker
app_port: 7860
---

$(cat "$bundle/README.md")
END
find "$space" -name __pycache__ -prune -exec rm -r {} +
