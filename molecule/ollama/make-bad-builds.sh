#!/usr/bin/env bash
# make-bad-builds.sh MIRROR: two builds for the rollback drill, printed in the shape of ollama_artifacts.
#   0.99.0 ends at once; 0.99.1 answers (0.34.1 under another name) but its model runner does not work.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arch=$(dpkg --print-architecture)
tar --zstd -xf "$1/ollama/0.34.1/ollama-linux-$arch-lab-rebuild.tar.zst" -C "$work"
row() {
  local out="$1/ollama/$2/ollama-bad.tar.zst"
  mkdir -p "${out%/*}"
  tar -C "$work" --sort=name --owner=0 --group=0 --mtime=@0 -c bin lib | zstd -q -f -o "$out"
  printf '"%s": {"%s": [{"url": "https://example.invalid/ollama-bad.tar.zst", "sha256": "%s"}]}' "$2" "$arch" "$(sha256sum "$out" | cut -d' ' -f1)"
}
sed -i 's/0\.34\.1/0.99.1/g' "$work/bin/ollama"
printf '#!/bin/sh\nexit 1\n' >"$work/lib/ollama/llama-server"
second=$(row "$1" 0.99.1)
printf '#!/bin/sh\necho this build is broken >&2\nexit 1\n' >"$work/bin/ollama"
echo "{$(row "$1" 0.99.0), $second}"
