#!/usr/bin/env bash
# services.sh ADDRESS: starts what test hosts ask for on the bridge address, unless it answers already:
# a caching package proxy (port 3142) and the artifact mirror (port 8081). services.sh stop: ends both.
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
if ! listening "$1" 8081; then
  mkdir -p "$LAB/mirror" "$LAB/run"
  nginx -c "$LAB/mirror-nginx.conf" 9>&-
  echo "started the artifact mirror"
fi
