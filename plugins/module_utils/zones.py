# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns network zones and services into packet filter rules of a host, and into the matrix of who reaches what.

A zone is a set of networks, an address belongs to one zone at most, and what belongs to none is C(outside). A service
has ports, hosts, and peers: zones, named sets of addresses, single networks, or C(any).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

ANY = "any"
OUTSIDE = "outside"
RESERVED = (ANY, OUTSIDE)
# firewalld's zones have at most 17 characters, and ours begin with "llm-".
NAME = re.compile(r"[a-z][a-z0-9_]{0,12}\Z")
SERVICE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,31}\Z")
INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,15}\Z")
WITH_PORTS = ("tcp", "udp", "sctp")
WITHOUT_PORTS = ("vrrp", "esp", "ah")
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
# Clients of DHCP; the rules for them are not services.
DHCP_CLIENT = (("udp", 68), ("udp", 546))


class ZoneError(ValueError):
    """What is wrong with the data, where, and what would fix it, in one sentence."""


@dataclass(frozen=True)
class Zone:
    """Networks, in lowest terms, and interfaces that packets of the zone arrive at."""

    name: str
    networks: Tuple[Network, ...]
    interfaces: Tuple[str, ...] = ()

    def family(self, version: int) -> List[str]:
        return [str(network) for network in self.networks if network.version == version]


@dataclass(frozen=True)
class Ports:
    """A range of ports of one protocol; 0 to 0 for a protocol without ports."""

    protocol: str
    first: int = 0
    last: int = 0

    @property
    def text(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def meets(self, other: Ports) -> bool:
        return self.protocol == other.protocol and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Service:
    """Ports, who may use them (or, going out, where they may be reached), and on which hosts (None: all)."""

    name: str
    ports: Tuple[Ports, ...]
    peers: Tuple[str, ...]
    networks: Tuple[Network, ...]
    hosts: Optional[Tuple[str, ...]] = None

    def runs_on(self, host: str) -> bool:
        return self.hosts is None or host in self.hosts


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ZoneError(f"{what} is {value!r}; give a mapping.")
    return value


def _list(value: Any, what: str) -> Sequence[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ZoneError(f"{what} is {value!r}; give a list.")
    return value


def _known(row: Mapping[str, Any], keys: Sequence[str], what: str) -> None:
    for key in row:
        if key not in keys:
            raise ZoneError(f"{what} has the key {key!r}; it takes {', '.join(keys)}.")


def network(value: Any, what: str) -> Network:
    """A network or single address that may stand for peers; C(what) says where it stands."""
    try:
        found = ipaddress.ip_network(str(value), strict=False)
        exact = "%" not in str(value) and ipaddress.ip_network(str(value), strict=True) == found
    except ValueError:
        if "%" not in str(value) and "/" in str(value) and _parses(str(value)):
            raise ZoneError(f"{what} has {value}, an address with a prefix; write {found} for the network.") from None
        raise ZoneError(f"{what} has {value!r}, which is no network; write for example 192.0.2.0/24.") from None
    if not exact:
        raise ZoneError(f"{what} has {value}, which belongs to one interface; leave out what follows the %.")
    if found.prefixlen == 0:
        raise ZoneError(f"{what} has {value}, which is everybody; write {ANY} in the service instead.")
    if isinstance(found, ipaddress.IPv6Network) and found.overlaps(MAPPED):
        raise ZoneError(f"{what} has {value}, an IPv4 address inside an IPv6 one; write it as IPv4.")
    if found.is_loopback or found.is_multicast:
        kind = "loopback" if found.is_loopback else "multicast"
        raise ZoneError(f"{what} has {value}, a {kind} network, from where no packet comes; leave it out.")
    return found


def _parses(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def _networks(values: Any, what: str) -> Tuple[Network, ...]:
    return lowest(network(value, what) for value in _list(values, what))


def lowest(networks: Iterable[Network]) -> Tuple[Network, ...]:
    """The same addresses in the fewest networks, IPv4 first."""
    found = list(networks)
    ipv4 = [each for each in found if isinstance(each, ipaddress.IPv4Network)]
    ipv6 = [each for each in found if isinstance(each, ipaddress.IPv6Network)]
    return (*ipaddress.collapse_addresses(ipv4), *ipaddress.collapse_addresses(ipv6))


def overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def inside(one: Network, others: Iterable[Network]) -> bool:
    """Whether a network lies in one of others, which are in lowest terms."""
    return any(one.version == other.version and one.subnet_of(other) for other in others)  # type: ignore[arg-type]


def _name(name: Any, what: str, pattern: re.Pattern[str] = NAME) -> str:
    if not isinstance(name, str) or not pattern.match(name) or name in RESERVED:
        long = 13 if pattern is NAME else 32
        raise ZoneError(
            f"{what} is called {name!r}; take a name of at most {long} lower-case letters, digits and underscores "
            f"that begins with a letter and is not {' or '.join(RESERVED)}."
        )
    return name


def parse_zones(zones: Any, variable: str = "firewall_zones") -> Dict[str, Zone]:
    """Zones by name; a ZoneError for anything that could mean two things."""
    found: Dict[str, Zone] = {}
    for name, row in _mapping(zones, variable).items():
        what = f"the zone {name} of {variable}"
        _name(name, f"a zone of {variable}")
        _known(_mapping(row, what), ("networks", "interfaces", "description"), what)
        interfaces = tuple(str(each) for each in _list(row.get("interfaces") or [], f"interfaces of {what}"))
        for interface in interfaces:
            if not INTERFACE_NAME.match(interface):
                raise ZoneError(f"{what} has the interface {interface!r}; write its name, such as eth1.")
        zone = Zone(str(name), _networks(row.get("networks") or [], what), interfaces)
        if not zone.networks and not zone.interfaces:
            raise ZoneError(f"{what} has neither networks nor interfaces; give one of them, or remove the zone.")
        for other in found.values():
            _apart(zone, other, variable)
        found[zone.name] = zone
    return found


def _apart(zone: Zone, other: Zone, variable: str) -> None:
    for one in zone.networks:
        for two in other.networks:
            if overlap(one, two):
                raise ZoneError(
                    f"the zones {other.name} and {zone.name} of {variable} share addresses ({two} and {one}); "
                    "an address belongs to one zone, so make the networks smaller."
                )
    both = sorted(set(zone.interfaces) & set(other.interfaces))
    if both and not (zone.networks and other.networks):
        raise ZoneError(
            f"the zones {other.name} and {zone.name} of {variable} share the interface {both[0]}; "
            "give both their networks, or the interface to one."
        )


def parse_sets(sets: Any, zones: Mapping[str, Zone], variable: str = "firewall_allow_sets") -> Dict[str, Zone]:
    """Named sets of addresses that services may name beside zones; they may overlap zones and each other."""
    found = {}
    for name, values in _mapping(sets or {}, variable).items():
        if _name(name, f"a set of {variable}") in zones:
            raise ZoneError(f"the set {name} of {variable} has the name of a zone; give it another.")
        networks = _networks(values, f"the set {name} of {variable}")
        if not networks:
            raise ZoneError(f"the set {name} of {variable} is empty; give it addresses, or remove it.")
        found[str(name)] = Zone(str(name), networks)
    return found


def _port(value: Any, what: str) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", str(value)) or not 1 <= int(value) <= 65535:
        raise ZoneError(f"{what} has the port {value!r}; ports are 1 to 65535.")
    return int(value)


def _ports(row: Any, what: str) -> Ports:
    _known(_mapping(row, f"a port of {what}"), ("port", "range", "protocol"), f"a port of {what}")
    protocol = str(row.get("protocol") or "tcp")
    if protocol in WITHOUT_PORTS:
        if "port" in row or "range" in row:
            raise ZoneError(f"{what} gives a port to {protocol}, which has none; leave it out.")
        return Ports(protocol)
    if protocol not in WITH_PORTS:
        raise ZoneError(f"{what} has the protocol {protocol!r}; it is {', '.join(WITH_PORTS + WITHOUT_PORTS)}.")
    if ("port" in row) == ("range" in row):
        raise ZoneError(
            f"{what} has an entry of ports with {'both' if 'port' in row else 'neither'} port and range; give one."
        )
    if "port" in row:
        port = _port(row["port"], what)
        return Ports(protocol, port, port)
    first, dash, last = str(row["range"]).partition("-")
    if not dash:
        raise ZoneError(f"{what} has the range {row['range']!r}; write FIRST-LAST.")
    found = Ports(protocol, _port(first, what), _port(last, what))
    if found.first > found.last:
        raise ZoneError(f"{what} has the range {row['range']}, which ends before it begins; swap the numbers.")
    return found


def _merged(ports: Iterable[Ports]) -> Tuple[Ports, ...]:
    """The same ports, none twice, sorted."""
    merged: List[Ports] = []
    for each in sorted(ports, key=lambda one: (one.protocol, one.first, one.last)):
        if merged and merged[-1].meets(each):
            merged[-1] = Ports(each.protocol, merged[-1].first, max(merged[-1].last, each.last))
        else:
            merged.append(each)
    return tuple(merged)


def parse_services(
    services: Any,
    zones: Mapping[str, Zone],
    sets: Mapping[str, Zone],
    variable: str = "firewall_services",
    key: str = "from",
) -> Tuple[Service, ...]:
    """Services in the order given; C(key) is C(from), or C(to) for what a host may reach itself."""
    found: List[Service] = []
    for name, row in _mapping(services, variable).items():
        what = f"the service {name} of {variable}"
        _name(name, f"a service of {variable}", SERVICE_NAME)
        _known(_mapping(row, what), ("ports", key, "hosts", "description"), what)
        ports = _merged(_ports(each, what) for each in _list(row.get("ports") or [], f"ports of {what}"))
        if not ports:
            raise ZoneError(f"{what} has no ports; give at least one, or remove the service.")
        peers = tuple(dict.fromkeys(str(peer) for peer in _list(row.get(key) or [], f"{key} of {what}")))
        if not peers:
            raise ZoneError(f"{what} may be used by nobody; name zones or {ANY} in {key}, or remove the service.")
        hosts = None if row.get("hosts", "all") == "all" else tuple(map(str, _list(row["hosts"], f"hosts of {what}")))
        named, networks = _peers(peers, zones, sets, what)
        service = Service(str(name), ports, named, networks, hosts)
        if key == "from":
            for other in found:
                _distinct(service, other, variable)
        found.append(service)
    return tuple(found)


def _peers(
    peers: Sequence[str], zones: Mapping[str, Zone], sets: Mapping[str, Zone], what: str
) -> Tuple[Tuple[str, ...], Tuple[Network, ...]]:
    if ANY in peers:
        return (ANY,), ()
    named = tuple(peer for peer in peers if peer in zones or peer in sets)
    networks = []
    for peer in peers:
        if peer in named:
            continue
        if re.match(r"[0-9]+\.|[0-9A-Fa-f]*:", peer):
            networks.append(network(peer, what))
            continue
        known = ", ".join([*zones, *sets, ANY])
        raise ZoneError(f"{what} names {peer}, which is no zone; it may name {known} or a network.")
    return named, lowest(networks)


def _distinct(service: Service, other: Service, variable: str) -> None:
    if service.hosts is not None and other.hosts is not None and not set(service.hosts) & set(other.hosts):
        return
    for one in service.ports:
        if any(one.meets(two) for two in other.ports):
            port = one.protocol if one.protocol in WITHOUT_PORTS else f"{one.text}/{one.protocol}"
            raise ZoneError(
                f"the services {other.name} and {service.name} of {variable} both have {port} on the same host; "
                "give the port to one of them."
            )


def rules(zones: Any, services: Any, host: str, allow_sets: Any = None, direction: str = "in") -> List[Dict[str, Any]]:
    """Rules of one host, one for each service, protocol and peer; single networks of a service share a rule."""
    known = parse_zones(zones)
    sets = parse_sets(allow_sets, known)
    found = []
    if direction == "in":
        parsed = parse_services(services, known, sets)
    else:
        parsed = parse_services(services, known, sets, "firewall_egress", "to")
    for service in parsed:
        if not service.runs_on(host):
            continue
        for protocol in dict.fromkeys(each.protocol for each in service.ports):
            ports = [each.text for each in service.ports if each.protocol == protocol and each.last]
            for peer in service.peers:
                zone = known.get(peer) or sets.get(peer) or Zone(peer, ())
                prefix = "" if peer == ANY else "zone_" if peer in known else "allow_"
                found.append(_rule(service.name, protocol, ports, zone, prefix and f"{prefix}{peer}", direction))
            if service.networks:
                found.append(_rule(service.name, protocol, ports, Zone("", service.networks), "", direction))
    return found


def _rule(
    service: str, protocol: str, ports: Sequence[str], peer: Zone, set_name: str, direction: str
) -> Dict[str, Any]:
    return {
        "service": service,
        "protocol": protocol,
        "ports": list(ports),
        "zone": peer.name,
        "set": set_name,
        "interfaces": list(peer.interfaces),
        "ipv4": peer.family(4),
        "ipv6": peer.family(6),
        "comment": f"{service} {'from' if direction == 'in' else 'to'} {peer.name or 'addresses'}",
    }


def reachability(zones: Any, services: Any, hosts: Sequence[str], allow_sets: Any = None) -> List[Dict[str, Any]]:
    """Who reaches what: a row for each source, host, service and port.

    Sources are all zones, C(outside), and each set and network that a service names.
    """
    known = parse_zones(zones)
    sets = parse_sets(allow_sets, known)
    parsed = parse_services(services, known, sets)
    single = {str(each): Zone(str(each), (each,)) for service in parsed for each in service.networks}
    kinds = [("zone", known), ("outside", {OUTSIDE: Zone(OUTSIDE, ())}), ("set", sets), ("network", single)]
    found = []
    for host in hosts:
        for service in parsed:
            if not service.runs_on(host):
                continue
            let_in = lowest(
                [
                    each
                    for peer in service.peers
                    for each in (known.get(peer) or sets.get(peer) or Zone("", ())).networks
                ]
                + list(service.networks)
            )
            for kind, sources in kinds:
                for source in sources.values():
                    allowed, partly = _reaches(source, service, let_in, known.values())
                    for ports in service.ports:
                        found.append(
                            {
                                "source": source.name,
                                "kind": kind,
                                "host": host,
                                "service": service.name,
                                "protocol": ports.protocol,
                                "port": ports.text if ports.last else "",
                                "allowed": allowed,
                                "partly": partly,
                            }
                        )
    return found


def _reaches(source: Zone, service: Service, let_in: Sequence[Network], zones: Iterable[Zone]) -> Tuple[bool, bool]:
    """Whether all of a source gets through, and whether only a part of it does."""
    if ANY in service.peers or source.name in service.peers:
        return True, False
    if source.name == OUTSIDE:
        inner = [each for zone in zones for each in zone.networks]
        return False, any(not inside(each, lowest(inner)) for each in let_in)
    covered = [inside(each, let_in) for each in source.networks]
    if covered and all(covered):
        return True, False
    return False, any(overlap(one, two) for one in source.networks for two in let_in)


def unexplained(
    listeners: Iterable[Mapping[str, Any]], host_rules: Sequence[Mapping[str, Any]]
) -> List[Dict[str, Any]]:
    """Listening sockets that other hosts could ask and that no rule lets in.

    C(listeners) are rows of C(ansible_facts.tcp_listen) and C(udp_listen).
    """
    opened = [
        (str(rule["protocol"]), int(first), int(last or first))
        for rule in host_rules
        for first, _dash, last in (str(ports).partition("-") for ports in rule["ports"])
    ]
    found: Dict[Tuple[str, int], Dict[str, Any]] = {}
    for row in listeners:
        protocol, port = str(row["protocol"])[:3], int(row["port"])
        address = str(row["address"]).strip("[]").partition("%")[0]
        if _is_loopback(address) or (protocol, port) in DHCP_CLIENT:
            continue
        if any(protocol == known and first <= port <= last for known, first, last in opened):
            continue
        entry = found.setdefault(
            (protocol, port),
            {"protocol": protocol, "port": port, "process": str(row.get("name") or ""), "addresses": []},
        )
        if address not in entry["addresses"]:
            entry["addresses"].append(address)
    return [{**entry, "addresses": sorted(entry["addresses"])} for _key, entry in sorted(found.items())]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
