#!/bin/sh
# without-container-marker.sh COMMAND...: runs COMMAND where /run/.containerenv does not exist.
# Run it by `unshare --mount --propagation private`: nothing outside sees what it mounts, and it is all gone when COMMAND ends.
# The file itself cannot be taken away, since /run is shared with the host; so COMMAND gets another /run, with all but that file in it.
set -eu
new=$(mktemp -d)
trap 'umount -l "$new" 2>/dev/null || true; rmdir "$new"' EXIT
mount -t tmpfs -o mode=0755 tmpfs "$new"
for path in /run/* /run/.[!.]*; do
  name=${path##*/}
  if [ "$name" = .containerenv ] || { [ ! -e "$path" ] && [ ! -L "$path" ]; }; then
    continue
  elif [ -L "$path" ]; then
    cp -P "$path" "$new/$name"
  elif [ -d "$path" ]; then
    mkdir "$new/$name"
    mount --rbind "$path" "$new/$name"
  else
    : >"$new/$name"
    mount --bind "$path" "$new/$name"
  fi
done
mount --rbind "$new" /run
"$@"
