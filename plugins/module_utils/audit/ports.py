# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the open ports in nmap's XML with the ports that a host declares."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple
from xml.etree import ElementTree

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import Answer, AuditError, Row

FAMILIES = ("ipv4", "ipv6")
Port = Tuple[str, int]


def read(scans: Sequence[str], declared: Sequence[Mapping[str, Any]]) -> Answer:
    """A row for each port that is open or declared, in each address family that was scanned."""
    ranges = [_range(each) for each in declared]
    opened: Dict[str, Dict[Port, str]] = {}
    tool = ""
    for scan in scans:
        family, ports, tool = _scan(scan)
        opened.setdefault(family, {}).update(ports)
    rows: List[Row] = []
    for family in FAMILIES:
        if family not in opened:
            rows.append(
                Row(f"scan@{family}", f"The host has no {family} address that was scanned", "info", "notapplicable")
            )
            continue
        unknown = [
            (protocol, port, f" ({service})" if service else "")
            for (protocol, port), service in sorted(opened[family].items())
            if not any(protocol == each[0] and each[1] <= port <= each[2] for each in ranges)
        ]
        for protocol, port, named in unknown:
            title = f"Port {port}/{protocol}{named} is open over {family} and not declared"
            rows.append(Row(f"{protocol}/{port}@{family}", title, "high", "fail"))
        if not unknown:
            # So a host that is closed altogether has a row too: it was judged.
            rows.append(Row(f"undeclared@{family}", f"No undeclared port is open over {family}", "high", "pass"))
        rows += [_declared(each, family, opened) for each in ranges]
    return Answer(rows, None, tool)


def _declared(wanted: Tuple[str, int, int], family: str, opened: Mapping[str, Mapping[Port, str]]) -> Row:
    protocol, first, last = wanted
    name = f"{protocol}/{first}" if first == last else f"{protocol}/{first}-{last}"

    def answers(where: str) -> bool:
        return any(protocol == port[0] and first <= port[1] <= last for port in opened[where])

    if answers(family):
        return Row(f"{name}@{family}", f"Declared {name} is open over {family}", "low", "pass")
    if any(answers(other) for other in opened):
        return Row(f"{name}@{family}", f"Declared {name} is open over the other family only", "low", "notapplicable")
    return Row(f"{name}@{family}", f"Declared {name} does not answer over {family}", "low", "fail")


def _range(each: Mapping[str, Any]) -> Tuple[str, int, int]:
    text, protocol = str(each.get("port", "")), str(each.get("protocol", "tcp"))
    first, sign, last = text.partition("-")
    try:
        low, high = int(first), int(last if sign else first)
    except ValueError:
        low, high = 0, 0
    if not 0 < low <= high <= 65535 or protocol not in ("tcp", "udp"):
        raise AuditError(
            f"declared port {text!r} with protocol {protocol!r} is none; give 443 or 8000-8010, and tcp or udp."
        )
    return protocol, low, high


def _scan(text: str) -> Tuple[str, Dict[Port, str], str]:
    """Family, open ports with their service, and the program; AuditError for a scan that did not end."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise AuditError(f"the scan is no complete XML ({error}); nmap was cut off, scan again.") from None
    finished = root.find("runstats/finished")
    if finished is None or finished.get("exit") != "success":
        raise AuditError("nmap did not finish its scan; look at its address and scan again.")
    hosts = root.findall("host")
    families: Set[str] = set()
    ports: Dict[Port, str] = {}
    for host in hosts:
        if host.get("timedout") == "true":
            raise AuditError("nmap gave up after its time limit; raise audit_scan_rate or audit_scan_timeout.")
        for address in host.findall("address"):
            if address.get("addrtype") in FAMILIES:
                families.add(f"ipv{ipaddress.ip_address(str(address.get('addr'))).version}")
        for port in host.findall("ports/port"):
            state = port.find("state")
            if state is not None and state.get("state") == "open":
                service = port.find("service")
                key = (str(port.get("protocol")), int(str(port.get("portid"))))
                ports[key] = str(service.get("name", "")) if service is not None else ""
    if len(families) != 1:
        raise AuditError(
            "nmap's XML holds no scanned host, or hosts of two address families; scan one at a time, with -Pn."
        )
    return families.pop(), ports, f"nmap {root.get('version', '')}"
