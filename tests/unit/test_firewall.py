# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role firewall: the ruleset of nftables, the zones of firewalld, and what it refuses before anything changes."""

from __future__ import annotations

import pathlib
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/firewall"

ZONES: dict[str, Any] = {
    "management": {"networks": ["192.0.2.0/27", "2001:db8:1::/64"]},
    "edge": {"networks": ["198.51.100.0/24"], "interfaces": ["eth1"]},
    "lab": {"interfaces": ["eth2"]},
}
SERVICES: dict[str, Any] = {
    "ssh": {"ports": [{"port": 22}], "from": ["management"]},
    "gateway": {"ports": [{"port": 443}, {"port": 443, "protocol": "udp"}], "from": ["any"]},
    "osd": {"ports": [{"range": "6800-6810"}, {"port": 3300}], "from": ["edge", "lab"]},
    "ollama": {"ports": [{"port": 11434}], "from": ["gateways", "203.0.113.7", "2001:db8:9::1"]},
    "keepalived": {"ports": [{"protocol": "vrrp"}], "from": ["edge"]},
}
GOOD: dict[str, Any] = {
    "firewall_zones": ZONES,
    "firewall_services": SERVICES,
    "firewall_allow_sets": {"gateways": ["192.0.2.40", "192.0.2.41"]},
    "inventory_hostname": "web1",
    "__firewall_ssh_connection": {"stdout": "192.0.2.9 5000 192.0.2.1 22"},
    "ansible_managed": "managed",
}


def variables(system: str = "Debian", **settings: Any) -> dict[str, Any]:
    loader = DataLoader()
    found: dict[str, Any] = {"role_path": str(ROLE), **GOOD, **settings}
    for file in ("defaults/main.yml", f"vars/{system}.yml", "vars/main.yml"):
        found = {**loader.load_from_file(str(ROLE / file), trusted_as_template=True), **found}
    return found


def rendered(template: str, **settings: Any) -> str:
    text = trust_as_template((ROLE / "templates" / template).read_text(encoding="utf-8"))
    found: str = Templar(DataLoader(), variables=variables(**settings)).template(text)
    return found


def chain(text: str, name: str) -> list[str]:
    """Lines of one chain or set."""
    body = re.search(rf"^  (?:chain|set) {name} \{{\n(.*?)^  \}}", text, re.DOTALL | re.MULTILINE)
    assert body, f"no {name} in {text}"
    return [line.strip() for line in body.group(1).splitlines()]


def test_services() -> None:
    lines = chain(rendered("nftables.conf.j2"), "services")
    edge = 'iifname { "eth1" } ip saddr @zone_edge_v4'
    assert lines == [
        'ip saddr @zone_management_v4 tcp dport { 22 } counter accept comment "ssh from management"',
        'ip6 saddr @zone_management_v6 tcp dport { 22 } counter accept comment "ssh from management"',
        'tcp dport { 443 } counter accept comment "gateway from any"',
        'udp dport { 443 } counter accept comment "gateway from any"',
        f'{edge} tcp dport {{ 3300, 6800-6810 }} counter accept comment "osd from edge"',
        'iifname { "eth2" } tcp dport { 3300, 6800-6810 } counter accept comment "osd from lab"',
        'ip saddr @allow_gateways_v4 tcp dport { 11434 } counter accept comment "ollama from gateways"',
        'ip saddr { 203.0.113.7/32 } tcp dport { 11434 } counter accept comment "ollama from addresses"',
        'ip6 saddr { 2001:db8:9::1/128 } tcp dport { 11434 } counter accept comment "ollama from addresses"',
        f'{edge} meta l4proto 112 counter accept comment "keepalived from edge"',
    ]


def test_only_sets_that_rules_name() -> None:
    text = rendered("nftables.conf.j2")
    assert re.findall(r"set (\w+) \{", text) == [
        *("zone_management_v4", "zone_edge_v4", "allow_gateways_v4", "zone_management_v6", "ssh_new_v4", "ssh_new_v6"),
    ]
    assert "elements = { 192.0.2.40/31 }" in chain(text, "allow_gateways_v4")


def test_published_ports_of_containers_obey_the_same_matrix() -> None:
    text = rendered("nftables.conf.j2")
    published = chain(text, "published")
    assert 'meta l4proto tcp ct original proto-dst { 443 } counter accept comment "gateway from any"' in published
    assert not any("112" in line for line in published), "a protocol without ports is never published"
    text = rendered("nftables.conf.j2", firewall_container_interfaces=[])
    assert "published" not in text
    assert "jump containers" not in text


@pytest.mark.parametrize(
    ("given", "connection", "lines"),
    [
        ([], "192.0.2.9 5000 192.0.2.1 22", ["ip saddr { 192.0.2.9 }"]),
        ([], "2001:db8::5 5000 2001:db8::1 22", ["ip6 saddr { 2001:db8::5 }"]),
        ([], "fe80::5%eth0 5000 fe80::1%eth0 22", ["ip6 saddr { fe80::5 }"]),
        ([], "::ffff:192.0.2.9 5000 ::ffff:192.0.2.1 22", ["ip saddr { 192.0.2.9 }"]),
        (
            ["10.0.0.0/8", "2001:db8::/32"],
            "192.0.2.9 5 1 22",
            ["ip saddr { 10.0.0.0/8 }", "ip6 saddr { 2001:db8::/32 }"],
        ),
        ([], "", []),
    ],
)
def test_the_deployer_is_let_in_before_the_limit(given: list[str], connection: str, lines: list[str]) -> None:
    text = rendered(
        "nftables.conf.j2", firewall_deployer_addresses=given, __firewall_ssh_connection={"stdout": connection}
    )
    ssh = chain(text, "ssh")
    assert ssh[: len(lines)] == [f'{line} counter accept comment "deployer, never limited"' for line in lines]
    assert ssh[len(lines)].startswith("add @ssh_new_v4 { ip saddr limit rate over 10/minute burst 5 packets }")


def test_output_is_open_unless_told_otherwise() -> None:
    assert chain(rendered("nftables.conf.j2"), "output") == ["type filter hook output priority filter; policy accept;"]
    egress = {"dns": {"ports": [{"port": 53, "protocol": "udp"}], "to": ["management"]}}
    text = rendered("nftables.conf.j2", firewall_output="drop", firewall_egress=egress, firewall_services={})
    output = chain(text, "output")
    assert 'ip daddr @zone_management_v4 udp dport { 53 } counter accept comment "dns to management"' in output
    assert output[-1] == "jump refused"
    assert "set zone_management_v6 {" in text


def test_logging_can_be_switched_off() -> None:
    assert chain(rendered("nftables.conf.j2", firewall_log_per_minute=0), "refused") == ["counter drop"]


def test_other_tables_are_left_alone() -> None:
    for template in ("nftables.conf.j2", "nftables.service.conf.j2"):
        assert "flush" not in re.sub(r"#.*", "", rendered(template))


def firewalld_zone(name: str, **settings: Any) -> ElementTree.Element:
    zone = variables("RedHat", **settings)["firewall_zones"].get(name, {})
    return ElementTree.fromstring(
        rendered("firewalld-zone.xml.j2", system="RedHat", item={"key": name, "value": zone}, **settings)
    )


def open_ports(zone: ElementTree.Element) -> list[str]:
    return [f"{port.get('port')}/{port.get('protocol')}" for port in zone.findall("port")]


def test_firewalld_opens_a_service_in_the_zones_that_may_use_it() -> None:
    edge = firewalld_zone("edge")
    assert edge.get("target") == "DROP"
    assert [source.get("address") for source in edge.findall("source")] == ["198.51.100.0/24"]
    assert open_ports(edge) == ["443/tcp", "443/udp", "3300/tcp", "6800-6810/tcp"]
    assert [each.get("value") for each in edge.findall("protocol")] == ["vrrp"]
    assert open_ports(firewalld_zone("outside")) == ["443/tcp", "443/udp"]
    assert [each.get("name") for each in firewalld_zone("lab").findall("interface")] == ["eth2"]


def test_firewalld_limits_ssh_but_not_for_the_deployer() -> None:
    def ssh_rules(name: str) -> list[tuple[str | None, bool]]:
        found = []
        for rule in firewalld_zone(name).findall("rule"):
            port, source = rule.find("port"), rule.find("source")
            if port is not None and port.get("port") == "22":
                found.append((source.get("address") if source is not None else None, rule.find(".//limit") is not None))
        return found

    assert ssh_rules("management") == [("192.0.2.9", False), (None, True)]
    assert ssh_rules("outside") == [("192.0.2.9", False)]


def test_firewalld_lets_single_addresses_in_from_any_zone() -> None:
    def sources(name: str) -> list[str | None]:
        rules = firewalld_zone(name).findall("rule")
        ollama = [rule for rule in rules if rule.find("port[@port='11434']") is not None]
        return [source.get("address") for rule in ollama for source in rule.findall("source")]

    assert sources("outside") == sources("edge") == ["192.0.2.40/31", "203.0.113.7/32", "2001:db8:9::1/128"]


def test_the_backend_follows_the_system() -> None:
    for system, setting, expected in (
        ("Debian", "auto", "nftables"),
        ("RedHat", "auto", "firewalld"),
        ("RedHat", "nftables", "nftables"),
        ("Debian", "firewalld", "firewalld"),
    ):
        known = variables(system, firewall_backend=setting)
        assert Templar(DataLoader(), variables=known).template(known["__firewall_uses"]) == expected


# What tasks/assert.yml says to bad settings.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "zones that overlap": (
        {"firewall_zones": {**ZONES, "data": {"networks": ["192.0.2.16/28"]}}},
        "the zones management and data of firewall_zones share addresses (192.0.2.0/27 and 192.0.2.16/28)",
    ),
    "unknown zone": (
        {"firewall_services": {"ssh": {"ports": [{"port": 22}], "from": ["mgmt"]}}},
        "the service ssh of firewall_services names mgmt, which is no zone; it may name management, edge, lab",
    ),
    "too long to wait": ({"firewall_confirm_seconds": 61}, "firewall_confirm_seconds (61) on web1 must be 10 to 60"),
    "no port of ssh": ({"firewall_ssh_ports": []}, "firewall_ssh_ports () on web1 must be ports"),
    "another port of ssh": (
        {"firewall_ssh_ports": [2222]},
        "came in on port 22, which firewall_ssh_ports (2222) leaves",
    ),
    "name as deployer": (
        {"firewall_deployer_addresses": ["bastion"]},
        "firewall_deployer_addresses (bastion) on web1 takes addresses and networks only",
    ),
    "no limit": (
        {"firewall_ssh_burst": 0},
        "firewall_ssh_burst and firewall_icmp_per_second on web1 must be 1 or more",
    ),
    "odd interface": (
        {"firewall_container_interfaces": ['x" } accept']},
        'firewall_container_interfaces (x" } accept) on web1 takes names of interfaces',
    ),
    "egress without effect": (
        {"firewall_egress": {"dns": {"ports": [{"port": 53}], "to": ["any"]}}},
        "firewall_egress on web1 has no effect while firewall_output is accept",
    ),
    "output of firewalld": (
        {"firewall_backend": "firewalld", "firewall_output": "drop"},
        "firewall_output=drop and firewall_include_files need nftables, and web1 filters with firewalld",
    ),
    "forward of firewalld": (
        {"firewall_backend": "firewalld", "firewall_forward": "accept"},
        "firewall_forward=accept needs nftables; on web1",
    ),
}


def refusals(**settings: Any) -> str:
    """What the task that refuses says; the sentence of a filter comes as its error."""
    tasks = DataLoader().load_from_file(str(ROLE / "tasks/assert.yml"), trusted_as_template=True)
    known = variables(**settings)
    known.update(tasks[-1]["vars"])
    try:
        return "\n".join(Templar(DataLoader(), variables=known).template(known["__firewall_refusals"]))
    except Exception as error:  # the filter's, in the templating engine's own wrapping
        return str(error)


def test_good_settings_pass() -> None:
    assert refusals() == ""
    assert refusals(__firewall_ssh_connection={"stdout": ""}) == "", "a local connection"


@pytest.mark.parametrize("name", CASES)
def test_bad_settings_are_refused(name: str) -> None:
    change, sentence = CASES[name]
    assert sentence in refusals(**change)
