# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the endpoints of a group's hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Dict, List

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: host_endpoints
short_description: Where the hosts of a group are reached
version_added: "0.1.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Turns a list of host names into a list of endpoints, in the same order, as the gateway's pool of
    upstreams needs them.
  - The address is the host's C(llm_address), else its C(ansible_host), else its name.
positional: hostvars
options:
  _input:
    description: Names of hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
  port:
    description: Port of hosts that do not set C(ollama_port).
    type: int
    default: 11434
"""

EXAMPLES = r"""
- name: Give the gateway all inference hosts
  ansible.builtin.include_role:
    name: baremetal.llm.gateway
  vars:
    gateway_upstreams: "{{ groups.inference | baremetal.llm.host_endpoints(hostvars) }}"
"""

RETURN = r"""
_value:
  description: One mapping for each host.
  type: list
  elements: dict
  contains:
    name:
      description: Name of the host in the inventory.
      type: str
    address:
      description: Name or address that other hosts reach it at.
      type: str
    port:
      description: Port of Ollama.
      type: int
    weight:
      description: Share of requests, the host's C(llm_weight) or 1.
      type: int
"""


def host_endpoints(hosts: Sequence[str], hostvars: Mapping[str, Any], port: int = 11434) -> List[Dict[str, Any]]:
    """Endpoint of each host; an unknown host is an error."""
    if isinstance(hosts, str) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError("host_endpoints takes a list of host names, such as groups.inference.")
    endpoints = []
    for host in hosts:
        if host not in hostvars:
            raise AnsibleFilterError(f"host_endpoints: {host} is not in the inventory; add it or correct its name.")
        known = hostvars[host]
        endpoints.append(
            {
                "name": str(host),
                "address": str(known.get("llm_address") or known.get("ansible_host") or host),
                "port": int(known.get("ollama_port", port)),
                "weight": int(known.get("llm_weight", 1)),
            }
        )
    return endpoints


class FilterModule:
    """Filters of this file."""

    def filters(self) -> Dict[str, Any]:
        return {"host_endpoints": host_endpoints}
