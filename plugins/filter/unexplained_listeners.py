# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives listening sockets that no rule explains; thin over module_utils/zones.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.zones import unexplained

DOCUMENTATION = r"""
name: unexplained_listeners
short_description: Listening sockets that no rule of the packet filter lets in
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Compares what listens on a host with its rules. Sockets on loopback addresses and DHCP clients are left out.
positional: rules
options:
  _input:
    description:
      - C(ansible_facts.tcp_listen) and C(ansible_facts.udp_listen) of M(community.general.listen_ports_facts), joined.
    type: list
    elements: dict
    required: true
  rules:
    description: Rules, as P(baremetal.llm.firewall_rules#filter) gives them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what listens in vain
  ansible.builtin.debug:
    msg: "{{ (ansible_facts.tcp_listen + ansible_facts.udp_listen) | baremetal.llm.unexplained_listeners(rules) }}"
  vars:
    rules: "{{ zones | baremetal.llm.firewall_rules(services, inventory_hostname) }}"
    zones:
      edge: {networks: [192.0.2.0/24]}
    services:
      gateway: {ports: [{port: 443}], from: [edge]}
"""

RETURN = r"""
_value:
  description: One mapping for each protocol and port.
  type: list
  elements: dict
  contains:
    protocol:
      description: V(tcp) or V(udp).
      type: str
    port:
      description: Port.
      type: int
    process:
      description: Name of the process.
      type: str
    addresses:
      description: Addresses that it listens on.
      type: list
      elements: str
"""


def unexplained_listeners(listeners: Any, rules: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Sockets without a rule; AnsibleFilterError for anything but the lists of listen_ports_facts."""
    try:
        return unexplained(listeners, rules)
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"unexplained_listeners takes what listen_ports_facts lists ({error}).") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"unexplained_listeners": unexplained_listeners}
