# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds what cannot be followed in descriptions of encrypted volumes; thin over module_utils/luks.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.luks import check

DOCUMENTATION = r"""
name: luks_refusals
short_description: Find what cannot be followed in descriptions of encrypted volumes
version_added: "0.1.0"
description:
  - Needs no device. The filter P(baremetal.llm.luks_plan#filter) judges what is on them.
options:
  _input:
    description: The variable C(luks_volumes) of the role P(baremetal.llm.luks#role).
    type: list
    elements: dict
    required: true
  settings:
    description: >-
      C(wipe_devices), C(keys) (names of volumes that have one), C(tang_servers), C(tang_threshold), C(vault)
      (C(address) and C(path)), C(root_encrypted), C(memory_kib) and C(pbkdf_memory_kib).
    type: dict
    required: true
positional: settings
author:
  - baremetal.llm maintainers (@baremetal-llm)
"""

EXAMPLES = r"""
- name: Refuse what cannot be followed
  ansible.builtin.fail:
    msg: "{{ refusals | join('\n') }}"
  vars:
    refusals: "{{ luks_volumes | baremetal.llm.luks_refusals(settings) }}"
    settings:
      wipe_devices: []
      keys: []
      tang_servers: []
      tang_threshold: 1
      vault: {address: "", path: ""}
      root_encrypted: true
      memory_kib: 263909836
      pbkdf_memory_kib: 1048576
  when: refusals | length > 0
"""

RETURN = r"""
_value:
  description: One sentence each; empty where nothing is wrong.
  type: list
  elements: str
"""


def luks_refusals(volumes: Any, settings: Mapping[str, Any]) -> List[str]:
    """The sentences; raises AnsibleFilterError for anything but a list of volumes."""
    if not isinstance(volumes, list):
        raise AnsibleFilterError(f"luks_refusals: got a {type(volumes).__name__}; give a list of volumes.")
    try:
        return check(volumes, settings)
    except KeyError as exc:
        raise AnsibleFilterError(f"luks_refusals: the key {exc} is missing; see ansible-doc for the keys.") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"luks_refusals": luks_refusals}
