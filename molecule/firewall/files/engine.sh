#!/bin/sh
# What a container engine makes: a bridge, a container behind it, a published port, tables of its own. And a network that is
# no engine's, which packets could be passed on to.
set -e
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
behind() { # bridge IPv4 IPv6
  ip link delete "$1" 2>/dev/null || true # a test host keeps its links over a reboot
  ip link add "$1" type bridge
  ip link set "$1" up
  ip address add "$2.1/24" dev "$1"
  ip address add "$3::1/64" dev "$1" nodad
  ip netns add "$1"
  ip link add "v-$1" type veth peer name eth0 netns "$1"
  ip link set "v-$1" master "$1" up
  ip -n "$1" link set lo up
  ip -n "$1" link set eth0 up
  ip -n "$1" address add "$2.2/24" dev eth0
  ip -n "$1" address add "$3::2/64" dev eth0 nodad
  ip -n "$1" route add default via "$2.1"
  ip -n "$1" route add default via "$3::1"
  systemd-run --quiet --unit="lab-behind-$1" ip netns exec "$1" /usr/local/sbin/witness.py 80
}
behind podman9 10.88.9 fd88:9
behind lan9 10.66.0 fd66
nft -f - <<'NFT'
table ip engine
delete table ip engine
table ip6 engine
delete table ip6 engine
table ip engine {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    tcp dport { 8080, 8081 } fib daddr type local dnat to 10.88.9.2:80
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.88.9.0/24 oifname != "podman9" masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname "podman9" ct state established,related accept
    oifname "podman9" tcp dport 80 accept
    oifname "podman9" drop
  }
}
table ip6 engine {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    tcp dport { 8080, 8081 } fib daddr type local dnat to [fd88:9::2]:80
  }
}
NFT
