# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the packet filter rules of a host; thin over module_utils/zones.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.zones import ZoneError, rules

DOCUMENTATION = r"""
name: firewall_rules
short_description: Packet filter rules of a host from zones and services
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Turns zones and services into the rules of one host, one for each service, protocol and zone.
  - Refuses, in one sentence, what could mean two things or nothing, such as networks in two zones, an unknown zone, a
    service that nobody may use, or a port of two services.
positional: services, host
options:
  _input:
    description: Zones by name, each with C(networks) (IPv4 and IPv6), C(interfaces) or both.
    type: dict
    required: true
  services:
    description:
      - Services by name. C(ports) is a list of mappings with C(port) or C(range) (C(8000-8010)) and C(protocol)
        (V(tcp) where it is left out; V(udp), V(sctp); V(vrrp), V(esp) and V(ah) have no port).
      - C(from) lists zones, names of I(allow_sets), networks, or V(any).
      - C(hosts) lists the hosts that have the service; all where it is left out.
    type: dict
    required: true
  host:
    description: Name of the host.
    type: str
    required: true
  allow_sets:
    description: Lists of addresses by name, which C(from) may name beside zones.
    type: dict
    default: {}
  direction:
    description: V(in) for services of the host, V(out) for what it may reach itself, with C(to) in place of C(from).
    type: str
    default: in
    choices: [in, out]
"""

EXAMPLES = r"""
- name: Show the rules of this host
  ansible.builtin.debug:
    msg: "{{ zones | baremetal.llm.firewall_rules(services, inventory_hostname) }}"
  vars:
    zones:
      edge: {networks: [192.0.2.0/24, "2001:db8:1::/48"]}
    services:
      gateway: {ports: [{port: 443}], from: [edge]}
"""

RETURN = r"""
_value:
  description: The rules, in the order of the services.
  type: list
  elements: dict
  contains:
    service:
      description: Name of the service.
      type: str
    protocol:
      description: Protocol.
      type: str
    ports:
      description: Ports and ranges as text, empty for a protocol without ports.
      type: list
      elements: str
    zone:
      description: Name of the zone or set, V(any), or empty for single networks.
      type: str
    set:
      description: Name of the set of addresses in the packet filter without its family, empty where there is none.
      type: str
    interfaces:
      description: Interfaces that packets of the zone arrive at, empty for all.
      type: list
      elements: str
    ipv4:
      description: Networks of the zone. Both families are empty for V(any) and for a zone that has only interfaces.
      type: list
      elements: str
    ipv6:
      description: The same for IPv6.
      type: list
      elements: str
    comment:
      description: Service and zone in words.
      type: str
"""


def firewall_rules(
    zones: Any, services: Any, host: str, allow_sets: Any = None, direction: str = "in"
) -> List[Dict[str, Any]]:
    """Rules of the host; AnsibleFilterError with the sentence of a ZoneError."""
    if direction not in ("in", "out"):
        raise AnsibleFilterError(f"firewall_rules: direction is {direction!r}; it is in or out.")
    try:
        return rules(zones, services, host, allow_sets, direction)
    except ZoneError as error:
        raise AnsibleFilterError(f"{host}: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"firewall_rules": firewall_rules}
