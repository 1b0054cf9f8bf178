#!/usr/bin/env bash
# make-archives.sh MIRROR: small archives in the mirror's layout, the same bytes each time.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack() { tar -C "$work" --sort=name --owner=1234 --group=1234 --numeric-owner --mtime=@0 -c "$@"; }
for version in 1.0 2.0 3.0; do
  mkdir -p "$1/tool/$version" "$work/bin" "$work/lib"
  printf '#!/bin/sh\necho %s\n' "$version" >"$work/bin/tool"
  chmod 755 "$work/bin/tool"
  pack bin | gzip -n >"$1/tool/$version/tool.tar.gz"
done
echo addon >"$work/lib/addon"
pack lib | zstd -q -f -o "$1/tool/1.0/addon.tar.zst"
cd "$1/tool"
sha256sum ./*/* | python3 -c 'import json, sys; print(json.dumps({n[2:]: s for s, n in (line.split() for line in sys.stdin)}))' >../sums.json
