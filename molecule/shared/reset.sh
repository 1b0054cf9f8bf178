#!/usr/bin/env bash
# Forgets what is left of test hosts whose processes are gone, as after a run that was cut off; keeps images.
# Does nothing while any container of this machine runs.
set -euo pipefail
export CONTAINERS_CONF=${LAB:?}/containers.conf CONTAINERS_STORAGE_CONF=$LAB/storage.conf
# shellcheck disable=SC2009  # pgrep would count zombies too
if ps -C conmon -o stat= | grep -qv '^Z'; then exit 0; fi
[ -e /run/libpod ] || exit 0
for n in /run/netns/netns-*; do [ -e "$n" ] && ip netns del "${n##*/}"; done
for b in $(ip -br link | sed -n 's/^\(podman[0-9]*\) .*/\1/p'); do ip link del "$b"; done
# A name server outlives hosts that were killed, and would go on answering from a list that is removed below.
# No container runs here (see above), so it serves nobody.
{ pgrep -x aardvark-dns || true; } | xargs -r kill
findmnt -rno TARGET | grep "^$LAB/" | sort -r | xargs -r umount -l || true
rm -rf /run/libpod /run/containers/networks /dev/shm/libpod_lock
if [ -e "$CONTAINERS_CONF" ]; then
  podman rm -f -v -a >/dev/null
  podman volume prune -f >/dev/null
fi
