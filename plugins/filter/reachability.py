# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the matrix of who reaches what; thin over module_utils/zones.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.zones import ZoneError, reachability

DOCUMENTATION = r"""
name: reachability
short_description: Which zone reaches which service of which host
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Gives the whole matrix of sources, hosts and services, what is allowed and what is denied, from the same data as
    P(baremetal.llm.firewall_rules#filter).
  - Sources are all zones, V(outside) (addresses of no zone), and each set and network that a service names.
positional: services, hosts
options:
  _input:
    description: Zones, as for P(baremetal.llm.firewall_rules#filter).
    type: dict
    required: true
  services:
    description: Services, as for P(baremetal.llm.firewall_rules#filter).
    type: dict
    required: true
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  allow_sets:
    description: Sets, as for P(baremetal.llm.firewall_rules#filter).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the ports that a scan from the edge zone should find on this host
  ansible.builtin.debug:
    msg: "{{ matrix | selectattr('source', 'equalto', 'edge') | selectattr('allowed') | map(attribute='port') }}"
  vars:
    matrix: "{{ zones | baremetal.llm.reachability(services, [inventory_hostname]) }}"
    zones:
      edge: {networks: [192.0.2.0/24, "2001:db8:1::/48"]}
    services:
      gateway: {ports: [{port: 443}], from: [edge]}
"""

RETURN = r"""
_value:
  description: One row for each source, host, service and port.
  type: list
  elements: dict
  contains:
    source:
      description: Name of the zone or set, V(outside), or the network.
      type: str
    kind:
      description: V(zone), V(outside), V(set) or V(network).
      type: str
    host:
      description: Host that has the service.
      type: str
    service:
      description: Name of the service.
      type: str
    protocol:
      description: Protocol.
      type: str
    port:
      description: Port or range, empty for a protocol without ports.
      type: str
    allowed:
      description: Whether every address of the source gets through.
      type: bool
    partly:
      description: Whether some addresses of the source get through and others do not.
      type: bool
"""


def matrix(zones: Any, services: Any, hosts: Sequence[str], allow_sets: Any = None) -> List[Dict[str, Any]]:
    """The matrix; AnsibleFilterError with the sentence of a ZoneError."""
    if isinstance(hosts, str) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError("reachability takes a list of host names, such as groups.all.")
    try:
        return reachability(zones, services, [str(host) for host in hosts], allow_sets)
    except ZoneError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"reachability": matrix}
