# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts denials of SELinux and AppArmor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Dict, List

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.mac_denials import (
    Denial,
    read_denials,
    sentence,
    sort_denials,
)

DOCUMENTATION = r"""
name: mac_denials
short_description: Denials of SELinux and AppArmor in audit records and kernel messages
version_added: "0.1.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads lines of the kernel log and of C(ausearch --raw), counts each audit event once,
    and says whose denials they are.
positional: ours, accepted
options:
  _input:
    description: Lines, of both sources where there are two. Lines that tell of no denial are left out.
    type: list
    elements: str
    required: true
  ours:
    description: SELinux types and AppArmor profiles whose denials, and whose files' denials, are ours.
    type: list
    elements: str
    default: []
  accepted:
    description:
      - Denials that are known and accepted, as mappings of C(source), C(target), C(class), C(command)
        and C(permissions).
      - A key that is left out fits everything; all of the denial's permissions must be named.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Count denials of the domain llm_ollama_t
  ansible.builtin.debug:
    msg: "{{ (lines | baremetal.llm.mac_denials(['llm_ollama_t'])).counts.ours }}"
"""

RETURN = r"""
_value:
  description: C(ours), C(accepted) and C(others), each a list of denials, and C(counts) of them.
  type: dict
  contains:
    counts:
      description: How many events each of the three lists stands for.
      type: dict
    sentences:
      description: Our denials in words, one line each.
      type: list
      elements: str
"""


def _shown(denial: Denial) -> Dict[str, Any]:
    values = asdict(denial)
    values["class"] = values.pop("object_class")
    values["permissions"] = list(values["permissions"])
    return values


def mac_denials(
    lines: Sequence[str], ours: Sequence[str] = (), accepted: Sequence[Mapping[str, Any]] = ()
) -> Dict[str, Any]:
    """Denials by owner; one text in place of lines is an error."""
    if isinstance(lines, str) or not isinstance(lines, Sequence):
        raise AnsibleFilterError("mac_denials takes a list of lines, such as stdout_lines.")
    groups: Dict[str, List[Denial]] = sort_denials(read_denials(lines), ours, accepted)
    return {
        **{name: [_shown(denial) for denial in group] for name, group in groups.items()},
        "counts": {name: sum(denial.count for denial in group) for name, group in groups.items()},
        "sentences": [sentence(denial) for denial in groups["ours"]],
    }


class FilterModule:
    """Filters of this file."""

    def filters(self) -> Dict[str, Any]:
        return {"mac_denials": mac_denials}
