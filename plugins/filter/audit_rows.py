# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the answer of an auditor; thin over module_utils/audit."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.audit import lynis, ports, ssh, units
from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import Answer, AuditError

DOCUMENTATION = r"""
name: audit_rows
short_description: The rules and results in what an auditor wrote
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Turns the text that an auditor wrote into rows of one form. Text that was cut off is refused, it is no pass.
positional: kind
options:
  _input:
    description: What the auditor wrote; for V(nmap) a list with one text for each scan.
    type: raw
    required: true
  kind:
    description:
      - V(lynis) reads lynis-report.dat. V(ssh_scan) and V(ssh_policy) read the JSON of ssh-audit without and with a
        policy. V(nmap) reads XML of nmap. V(systemd) reads C(systemd-analyze security --json=short).
    type: str
    choices: [lynis, ssh_scan, ssh_policy, nmap, systemd]
    required: true
  wanted:
    description:
      - For V(nmap) the declared ports, each with C(port) (a number, or a range such as V(8000-8010)) and C(protocol).
      - For V(systemd) the services, each with C(unit) (a name or pattern) and C(max), the exposure that it may have.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show services that are exposed too much
  ansible.builtin.debug:
    msg: "{{ (said.stdout | baremetal.llm.audit_rows('systemd', wanted=services)).rows }}"
  vars:
    services:
      - {unit: nginx.service, max: 2.5}
"""

RETURN = r"""
_value:
  description: The answer in the form that P(baremetal.llm.audit_result#filter) takes.
  type: dict
  contains:
    rows:
      description:
        - One row for each rule, with C(id), C(title), C(severity) (V(info), V(unknown), V(low), V(medium), V(high)) and
          C(result) (V(pass), V(fail), V(error), V(notapplicable), V(notchecked)).
      type: list
      elements: dict
    score:
      description: The auditor's own score, none where it has none.
      type: float
    tool:
      description: The auditor and its version, where it says so.
      type: str
"""

READERS: Dict[str, Callable[[Any, Sequence[Mapping[str, Any]]], Answer]] = {
    "lynis": lambda said, _wanted: lynis.read(said),
    "ssh_scan": lambda said, _wanted: ssh.read_scan(said),
    "ssh_policy": lambda said, _wanted: ssh.read_policy(said),
    "nmap": ports.read,
    "systemd": units.read,
}


def audit_rows(said: Any, kind: str, wanted: Optional[List[Mapping[str, Any]]] = None) -> Dict[str, Any]:
    """The rows of an answer; AnsibleFilterError for one that was cut off or is none."""
    if kind not in READERS:
        raise AnsibleFilterError(f"audit_rows: kind is {kind!r}; give one of {', '.join(READERS)}.")
    if not isinstance(said, (list, tuple) if kind == "nmap" else str):
        raise AnsibleFilterError(
            f"audit_rows: {kind} got a {type(said).__name__}; give the text, for nmap a list of texts."
        )
    try:
        return READERS[kind](said, wanted or []).as_dict()
    except AuditError as error:
        raise AnsibleFilterError(f"audit_rows: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"audit_rows": audit_rows}
