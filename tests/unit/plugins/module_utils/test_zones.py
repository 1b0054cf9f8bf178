# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones and services: rules of a host, the matrix of who reaches what, and what is refused."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.zones import (
    ZoneError,
    reachability,
    rules,
    unexplained,
)
from hypothesis import given
from hypothesis import strategies as st

ZONES: dict[str, Any] = {
    "management": {"networks": ["10.0.1.0/24", "2001:db8:1::/64"], "description": "administrators"},
    "edge": {"networks": ["10.0.2.0/24", "2001:db8:2::/64"]},
    "data": {"networks": ["10.0.3.0/24"], "interfaces": ["eth1"]},
    "lab": {"interfaces": ["eth2"]},
}
SETS: dict[str, Any] = {"gateways": ["10.0.2.10", "10.0.2.11"]}
SERVICES: dict[str, Any] = {
    "ssh": {"ports": [{"port": 22}], "from": ["management"]},
    "gateway": {"ports": [{"port": 443}], "from": ["any"], "hosts": ["gw"]},
    "ollama": {"ports": [{"port": 11434}], "from": ["gateways", "10.0.1.5"], "hosts": ["gpu"]},
    "osd": {
        "ports": [{"range": "6800-6803"}, {"port": 53, "protocol": "udp"}],
        "from": ["data", "lab"],
        "hosts": ["gpu"],
    },
}


def said(zones: Any = None, services: Any = None, sets: Any = None) -> str:
    """What is said; None stands for what is good, also in a test that gives an empty value."""
    given = [good if value is None else value for value, good in ((zones, ZONES), (services, SERVICES), (sets, SETS))]
    with pytest.raises(ZoneError) as caught:
        reachability(given[0], given[1], ["gw", "gpu"], given[2])
    return str(caught.value)


def test_a_host_has_rules_of_its_own_services_only() -> None:
    found = rules(ZONES, SERVICES, "gw", SETS)
    assert found[0] == {
        "service": "ssh",
        "protocol": "tcp",
        "ports": ["22"],
        "zone": "management",
        "set": "zone_management",
        "interfaces": [],
        "ipv4": ["10.0.1.0/24"],
        "ipv6": ["2001:db8:1::/64"],
        "comment": "ssh from management",
    }
    assert [(rule["service"], rule["zone"], rule["set"], rule["ipv4"]) for rule in found[1:]] == [
        ("gateway", "any", "", [])
    ]


def test_a_rule_for_each_protocol_and_peer() -> None:
    found = [rule for rule in rules(ZONES, SERVICES, "gpu", SETS) if rule["service"] in ("ollama", "osd")]
    assert [(rule["protocol"], rule["ports"], rule["set"], rule["interfaces"], rule["ipv4"]) for rule in found] == [
        ("tcp", ["11434"], "allow_gateways", [], ["10.0.2.10/31"]),
        ("tcp", ["11434"], "", [], ["10.0.1.5/32"]),
        ("tcp", ["6800-6803"], "zone_data", ["eth1"], ["10.0.3.0/24"]),
        ("tcp", ["6800-6803"], "zone_lab", ["eth2"], []),
        ("udp", ["53"], "zone_data", ["eth1"], ["10.0.3.0/24"]),
        ("udp", ["53"], "zone_lab", ["eth2"], []),
    ]


def test_going_out_the_peers_stand_in_to() -> None:
    egress = {"dns": {"ports": [{"port": 53, "protocol": "udp"}], "to": ["data"]}}
    found = rules(ZONES, egress, "gw", SETS, "out")
    assert [(rule["comment"], rule["ipv4"]) for rule in found] == [("dns to data", ["10.0.3.0/24"])]
    with pytest.raises(ZoneError, match="the service dns of firewall_egress has the key 'from'; it takes ports, to"):
        rules(ZONES, {"dns": {"ports": [{"port": 53}], "from": ["data"]}}, "gw", SETS, "out")


def test_matrix() -> None:
    found = {
        (row["source"], row["service"], row["port"]): (row["allowed"], row["partly"])
        for row in reachability(ZONES, SERVICES, ["gpu"], SETS)
    }
    yes, no, some = (True, False), (False, False), (False, True)
    assert found[("management", "ssh", "22")] == yes
    assert found[("edge", "ssh", "22")] == found[("outside", "ssh", "22")] == no
    # Two gateways stand in the edge zone, and one address of the management zone is named beside them.
    assert found[("edge", "ollama", "11434")] == found[("management", "ollama", "11434")] == some
    assert found[("gateways", "ollama", "11434")] == found[("10.0.1.5/32", "ollama", "11434")] == yes
    assert found[("10.0.1.5/32", "ssh", "22")] == yes, "it lies in the management zone"
    assert found[("lab", "osd", "6800-6803")] == found[("data", "osd", "53")] == yes
    assert found[("gateways", "osd", "53")] == found[("data", "ollama", "11434")] == no
    sources = {"management", "edge", "data", "lab", "outside", "gateways", "10.0.1.5/32"}
    assert {key[0] for key in found} == sources
    assert len(found) == len(sources) * 4, "every pair, ssh and ollama with one port, osd with two"


def test_what_anybody_may_use_all_sources_reach() -> None:
    rows = [row for row in reachability(ZONES, SERVICES, ["gw"], SETS) if row["service"] == "gateway"]
    assert rows and all(row["allowed"] for row in rows)


def test_outside_is_what_no_zone_holds() -> None:
    services = {"x": {"ports": [{"port": 1}], "from": ["203.0.113.0/24", "10.0.2.1"]}}
    found = {row["source"]: (row["allowed"], row["partly"]) for row in reachability(ZONES, services, ["gw"])}
    assert found["outside"] == (False, True)
    inner = {"x": {"ports": [{"port": 1}], "from": ["10.0.2.1"]}}
    found = {row["source"]: (row["allowed"], row["partly"]) for row in reachability(ZONES, inner, ["gw"])}
    assert found["outside"] == (False, False)


def test_a_zone_of_which_one_network_is_named_gets_through_in_part() -> None:
    zones = {"two": {"networks": ["10.0.0.0/24", "10.9.0.0/24"]}}
    services = {"x": {"ports": [{"port": 1}], "from": ["10.0.0.0/16"]}}
    found = {row["source"]: (row["allowed"], row["partly"]) for row in reachability(zones, services, ["gw"])}
    assert found["two"] == (False, True)


def test_ports_that_overlap_are_one_range() -> None:
    ports = [{"port": 12}, {"range": "1-10"}, {"range": "3-5"}, {"range": "9-11"}]
    found = rules(ZONES, {"x": {"ports": ports, "from": ["any"]}}, "gw")
    assert found[0]["ports"] == ["1-11", "12"]


BAD_ZONES: dict[str, tuple[Any, str]] = {
    "no mapping": ([], "firewall_zones is []; give a mapping"),
    "reserved name": ({"any": {"networks": ["10.0.0.0/8"]}}, "a zone of firewall_zones is called 'any'"),
    "long name": ({"a" * 14: {"networks": ["10.0.0.0/8"]}}, "take a name of at most 13 lower-case letters"),
    "dash in the name": ({"my-zone": {"networks": ["10.0.0.0/8"]}}, "is called 'my-zone'"),
    "odd key": ({"a": {"network": "10.0.0.0/8"}}, "the zone a of firewall_zones has the key 'network'; it takes"),
    "empty": ({"a": {"description": "b"}}, "the zone a of firewall_zones has neither networks nor interfaces"),
    "text": ({"a": {"networks": "10.0.0.0/8"}}, "the zone a of firewall_zones is '10.0.0.0/8'; give a list"),
    "host bits": ({"a": {"networks": ["10.0.0.1/8"]}}, "has 10.0.0.1/8, an address with a prefix; write 10.0.0.0/8"),
    "name": ({"a": {"networks": ["example.net"]}}, "has 'example.net', which is no network; write for example"),
    "everybody": ({"a": {"networks": ["::/0"]}}, "has ::/0, which is everybody; write any in the service"),
    "mapped": ({"a": {"networks": ["::ffff:10.0.0.0/104"]}}, "an IPv4 address inside an IPv6 one; write it as IPv4"),
    "around mapped": ({"a": {"networks": ["::/64"]}}, "an IPv4 address inside an IPv6 one"),
    "loopback": ({"a": {"networks": ["127.0.0.0/8"]}}, "a loopback network, from where no packet comes"),
    "multicast": ({"a": {"networks": ["ff02::/16"]}}, "a multicast network, from where no packet comes"),
    "scope": ({"a": {"networks": ["fe80::1%eth0"]}}, "has fe80::1%eth0, which belongs to one interface"),
    "interface": ({"a": {"interfaces": ['eth0"']}}, "has the interface 'eth0\"'; write its name, such as eth1"),
    "overlap": (
        {"a": {"networks": ["10.0.0.0/8"]}, "b": {"networks": ["fd00::/8", "10.1.0.0/16"]}},
        "the zones a and b of firewall_zones share addresses (10.0.0.0/8 and 10.1.0.0/16); an address belongs to one",
    ),
    "same interface": (
        {"a": {"interfaces": ["eth0"]}, "b": {"interfaces": ["eth0"], "networks": ["10.0.0.0/8"]}},
        "the zones a and b of firewall_zones share the interface eth0; give both their networks",
    ),
}


@pytest.mark.parametrize("name", BAD_ZONES)
def test_bad_zones_are_refused(name: str) -> None:
    zones, sentence = BAD_ZONES[name]
    assert sentence in said(zones, {}, {})


def service(**change: Any) -> dict[str, Any]:
    return {"web": {"ports": [{"port": 443}], "from": ["edge"], **change}}


BAD_SERVICES: dict[str, tuple[Any, str]] = {
    "no mapping": ([], "firewall_services is []; give a mapping"),
    "unknown zone": (
        service(**{"from": ["edgy"]}),
        "names edgy, which is no zone; it may name management, edge, data, lab, gateways, any or a network",
    ),
    "nobody": (
        service(**{"from": []}),
        "the service web of firewall_services may be used by nobody; name zones or any",
    ),
    "text": (service(**{"from": "edge"}), "from of the service web of firewall_services is 'edge'; give a list"),
    "no ports": (service(ports=[]), "the service web of firewall_services has no ports; give at least one"),
    "number": (service(ports=[443]), "a port of the service web of firewall_services is 443; give a mapping"),
    "zero": (service(ports=[{"port": 0}]), "has the port 0; ports are 1 to 65535"),
    "too high": (service(ports=[{"port": 65536}]), "has the port 65536; ports are 1 to 65535"),
    "no number": (service(ports=[{"port": "https"}]), "has the port 'https'; ports are 1 to 65535"),
    "truth": (service(ports=[{"port": True}]), "has the port True; ports are 1 to 65535"),
    "both": (service(ports=[{"port": 1, "range": "1-2"}]), "has an entry of ports with both port and range"),
    "neither": (service(ports=[{"protocol": "udp"}]), "has an entry of ports with neither port and range"),
    "half a range": (service(ports=[{"range": "80"}]), "has the range '80'; write FIRST-LAST"),
    "backwards": (service(ports=[{"range": "9-8"}]), "has the range 9-8, which ends before it begins"),
    "protocol": (
        service(ports=[{"port": 1, "protocol": "icmp"}]),
        "has the protocol 'icmp'; it is tcp, udp, sctp, vrrp",
    ),
    "port of vrrp": (service(ports=[{"port": 1, "protocol": "vrrp"}]), "gives a port to vrrp, which has none"),
    "odd key": (service(zone="edge"), "the service web of firewall_services has the key 'zone'; it takes ports, from"),
    "name": ({"Web": {}}, "a service of firewall_services is called 'Web'"),
    "bad network": (service(**{"from": ["10.0.0.1/8"]}), "write 10.0.0.0/8 for the network"),
    "hosts as text": (service(hosts="gw"), "hosts of the service web of firewall_services is 'gw'; give a list"),
    "one port twice": (
        {**service(), "other": {"ports": [{"range": "400-500"}], "from": ["any"], "hosts": ["gw"]}},
        "the services web and other of firewall_services both have 400-500/tcp on the same host; give the port to one",
    ),
}


@pytest.mark.parametrize("name", BAD_SERVICES)
def test_bad_services_are_refused(name: str) -> None:
    services, sentence = BAD_SERVICES[name]
    assert sentence in said(ZONES, services)


def test_bad_sets_are_refused() -> None:
    assert "the set edge of firewall_allow_sets has the name of a zone" in said(sets={"edge": ["10.0.0.1"]})
    assert "the set x of firewall_allow_sets is empty" in said(sets={"x": []})


def test_two_hosts_may_use_one_port_for_two_services() -> None:
    ports = [{"port": 1}]
    services = {name: {"ports": ports, "from": ["any"], "hosts": [name]} for name in ("gw", "gpu")}
    assert {row["host"] for row in reachability(ZONES, services, ["gw", "gpu"])} == {"gw", "gpu"}


def test_listeners_without_a_rule() -> None:
    known = rules(ZONES, SERVICES, "gpu", SETS)

    def row(protocol: str, port: int, address: str) -> dict[str, Any]:
        return {"protocol": protocol, "port": port, "address": address, "name": "p"}

    listeners = [
        *(row("tcp", 22, "0.0.0.0"), row("tcp", 22, "::"), row("tcp", 6802, "10.0.0.9"), row("udp", 53, "0.0.0.0")),
        *(row("tcp", 25, "127.0.0.1"), row("tcp", 25, "::1"), row("udp", 323, "[::1]"), row("udp", 68, "0.0.0.0")),
        *(row("tcp", 53, "::"), row("tcp", 53, "0.0.0.0"), row("tcp", 53, "::"), row("udp", 6802, "fe80::1%eth0")),
    ]
    assert unexplained(listeners, known) == [
        {"protocol": "tcp", "port": 53, "process": "p", "addresses": ["0.0.0.0", "::"]},
        {"protocol": "udp", "port": 6802, "process": "p", "addresses": ["fe80::1"]},
    ]


# One address is asked about in two ways: by the rules of a host as a packet filter reads them, and by the matrix.
Network = Any


def _networks(version: int) -> st.SearchStrategy[Network]:
    bits, lowest = (
        (32, int(ipaddress.ip_address("10.0.0.0"))) if version == 4 else (128, int(ipaddress.ip_address("fd00::")))
    )
    # Few addresses, so that networks often meet.
    return st.builds(
        lambda number, prefix: ipaddress.ip_network((lowest + number, prefix), strict=False),
        st.integers(0, 63),
        st.integers(bits - 5, bits),
    )


NETWORKS = st.lists(st.one_of(_networks(4), _networks(6)), min_size=1, max_size=4)
PORTS = st.lists(
    st.one_of(
        st.builds(
            lambda port, protocol: {"port": port, "protocol": protocol},
            st.integers(1, 20),
            st.sampled_from(["tcp", "udp"]),
        ),
        st.builds(lambda first, more: {"range": f"{first}-{first + more}"}, st.integers(1, 20), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=3,
)


def passes(host_rules: list[dict[str, Any]], address: Any, protocol: str, port: int) -> bool:
    """Whether a packet passes rules, read as the packet filter does."""
    for rule in host_rules:
        bounds = [tuple(map(int, (ports.split("-") * 2)[:2])) for ports in rule["ports"]]
        if rule["protocol"] != protocol or not any(first <= port <= last for first, last in bounds):
            continue
        networks = [ipaddress.ip_network(each) for each in rule["ipv4"] + rule["ipv6"]]
        if rule["zone"] == "any" or any(address in each for each in networks):
            return True
    return False


@given(st.lists(NETWORKS, min_size=1, max_size=3), st.lists(st.tuples(PORTS, st.data()), min_size=1, max_size=3))
def test_rules_and_matrix_say_the_same_of_every_address(networks: list[list[Network]], drawn: list[Any]) -> None:
    zones = {f"z{number}": {"networks": [str(each) for each in found]} for number, found in enumerate(networks)}
    choices = st.lists(
        st.sampled_from([*zones, "any", "10.0.0.3", "10.0.0.8/29", "fd00::4/126"]), min_size=1, max_size=3
    )
    services = {
        f"s{number}": {"ports": ports, "from": data.draw(choices)} for number, (ports, data) in enumerate(drawn)
    }
    try:
        matrix = reachability(zones, services, ["h"])
    except ZoneError as error:
        # What is refused must be one of the two that this test can make.
        assert "share addresses" in str(error) or "on the same host" in str(error)
        return
    host_rules = rules(zones, services, "h")
    for row in matrix:
        if row["kind"] != "zone":
            continue
        port = int(row["port"].partition("-")[0])
        answers = {
            passes(host_rules, address, row["protocol"], port)
            for each in zones[row["source"]]["networks"]
            for address in ipaddress.ip_network(each)
        }
        assert row["allowed"] == (answers == {True})
        assert row["partly"] == (answers == {True, False})


@given(NETWORKS)
def test_networks_in_lowest_terms_hold_the_same_addresses(networks: list[Network]) -> None:
    found = rules(
        {"a": {"networks": [str(each) for each in networks]}}, {"s": {"ports": [{"port": 1}], "from": ["a"]}}, "h"
    )
    kept = [ipaddress.ip_network(each) for each in found[0]["ipv4"] + found[0]["ipv6"]]
    assert {address for each in networks for address in each} == {address for each in kept for address in each}
    assert not any(one != two and one.version == two.version and one.overlaps(two) for one in kept for two in kept)
