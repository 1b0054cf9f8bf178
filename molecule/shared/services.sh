#!/usr/bin/env bash
# services.sh ADDRESS: starts what test hosts ask for on the bridge address (and on 127.0.0.1, which virtual machines reach as 10.0.2.2), unless it
# answers already: a caching package proxy (port 3142) and the artifact mirror (port 8081). services.sh stop: ends both.
set -euo pipefail
exec 9>"${LAB:?}/services.lock"
flock 9
# end PIDFILE PROGRAM: a number in a file that a cut-off run left may be another program's by now.
end() {
  local pid
  pid=$(cat "$1" 2>/dev/null || true)
  [ -z "$pid" ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ] || kill "$pid"
  rm -f "$1"
}
if [ "$1" = stop ]; then
  end "$LAB/acng/pid" apt-cacher-ng
  end "$LAB/mirror-nginx.pid" nginx
  exit
fi
listening() { ss -Hltn src "$1:$2" | grep -q .; }
if ! listening "$1" 3142; then
  mkdir -p "$LAB/acng/conf"
  echo '# The settings are on the command line; a folder without a *.conf is refused.' >"$LAB/acng/conf/acng.conf"
  end "$LAB/acng/pid" apt-cacher-ng # one that was started before the bridge had its address
  while listening 127.0.0.1 3142; do sleep 0.2; done
  apt-cacher-ng -c "$LAB/acng/conf" CacheDir="$LAB/acng/cache" LogDir="$LAB/acng/log" SupportDir=/usr/lib/apt-cacher-ng Port=3142 \
    "BindAddress=127.0.0.1 $1" 'PassThroughPattern=.*:443$' ExThreshold=30 PidFile="$LAB/acng/pid" 9>&-
  echo "started the package proxy"
fi
if ! listening "$1" 8081 || ! listening 127.0.0.1 8081; then
  mkdir -p "$LAB/mirror" "$LAB/run"
  # Those that it listens on already stay.
  { printf '%s:8081\n' 127.0.0.1 "$1"; ss -Hltn 'sport = 8081' | awk '{print $4}'; } | sort -u | sed 's/.*/listen &;/' >"$LAB/run/mirror-listen.conf"
  if [ "$(cat "/proc/$(cat "$LAB/mirror-nginx.pid" 2>/dev/null)/comm" 2>/dev/null)" = nginx ]; then
    nginx -c "$LAB/mirror-nginx.conf" -s reload
  else
    nginx -c "$LAB/mirror-nginx.conf" 9>&-
  fi
  for _ in $(seq 50); do
    listening "$1" 8081 && listening 127.0.0.1 8081 && break
    sleep 0.1
  done
  echo "started the artifact mirror"
fi
