# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Completes descriptions of encrypted volumes; thin over module_utils/luks.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.luks import normalize

DOCUMENTATION = r"""
name: luks_volumes
short_description: Complete descriptions of encrypted volumes
version_added: "0.1.0"
description:
  - Gives each volume its defaults and what follows from it, such as options for crypttab and fstab and names of units.
options:
  _input:
    description: The variable C(luks_volumes) of the role P(baremetal.llm.luks#role).
    type: list
    elements: dict
    required: true
  settings:
    description: C(directory), C(mount_timeout), C(tang_servers), C(tang_threshold) and C(tpm2_pcrs).
    type: dict
    required: true
positional: settings
author:
  - baremetal.llm maintainers (@baremetal-llm)
"""

EXAMPLES = r"""
- name: Show the line's options
  ansible.builtin.debug:
    msg: "{{ (luks_volumes | baremetal.llm.luks_volumes(settings))[0].crypttab_options }}"
  vars:
    settings: {directory: /etc/luks, mount_timeout: 90, tang_servers: [], tang_threshold: 1, tpm2_pcrs: [7]}
"""

RETURN = r"""
_value:
  description: The volumes with all keys.
  type: list
  elements: dict
"""


def luks_volumes(volumes: Any, settings: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The volumes with all keys; raises AnsibleFilterError for anything but a list of volumes."""
    if not isinstance(volumes, list):
        raise AnsibleFilterError(f"luks_volumes: got a {type(volumes).__name__}; give a list of volumes.")
    try:
        return [normalize(each, settings) for each in volumes]
    except KeyError as exc:
        raise AnsibleFilterError(f"luks_volumes: the key {exc} is missing; see ansible-doc for the keys.") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"luks_volumes": luks_volumes}
