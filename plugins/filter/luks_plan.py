# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which encrypted volumes are formatted, opened or refused; thin over module_utils/luks.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.luks import plan

DOCUMENTATION = r"""
name: luks_plan
short_description: Decide which encrypted volumes are formatted, opened or refused
version_added: "0.1.0"
description:
  - A device is formatted only where it is empty, or listed by its exact path, and no record says that it ever held the
    volume.
options:
  _input:
    description: Volumes as the filter P(baremetal.llm.luks_volumes#filter) gives them.
    type: list
    elements: dict
    required: true
  devices:
    description: What the module M(baremetal.llm.block_device_info) returned as C(devices).
    type: list
    elements: dict
    required: true
  host:
    description: Records on the host, by the volumes' names.
    type: dict
    required: true
  kept:
    description: Records beside the header backups, by the volumes' names.
    type: dict
    required: true
  wipe_devices:
    description: Paths of devices whose content may be lost.
    type: list
    elements: str
    required: true
positional: devices, host, kept, wipe_devices
author:
  - baremetal.llm maintainers (@baremetal-llm)
"""

EXAMPLES = r"""
- name: Refuse what must not be formatted
  ansible.builtin.fail:
    msg: "{{ planned | map(attribute='refusal') | select | join('\n') }}"
  vars:
    planned: "{{ volumes | baremetal.llm.luks_plan(probe.devices, {}, {}, luks_wipe_devices) }}"
  when: planned | selectattr('action', 'equalto', 'refuse') | length > 0
"""

RETURN = r"""
_value:
  description: >-
    The volumes, each also with C(action) (V(format), V(open) or V(refuse)), C(refusal) (a sentence), C(wipe), C(state),
    C(unlocked_by), C(device_info) and C(restore_refusal) (why its header backup may not be written, else empty).
  type: list
  elements: dict
"""


def luks_plan(
    volumes: Any,
    devices: Sequence[Mapping[str, Any]],
    host: Mapping[str, Any],
    kept: Mapping[str, Any],
    wipe_devices: Sequence[str],
) -> List[Dict[str, Any]]:
    """The volumes with their decisions; raises AnsibleFilterError for anything but a list of volumes."""
    if not isinstance(volumes, list):
        raise AnsibleFilterError(f"luks_plan: got a {type(volumes).__name__}; give a list of volumes.")
    try:
        return plan(volumes, devices, host, kept, wipe_devices)
    except KeyError as exc:
        raise AnsibleFilterError(f"luks_plan: the key {exc} is missing; see ansible-doc for the keys.") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"luks_plan": luks_plan}
