# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares hosts with what is required of them; thin over module_utils/preflight.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.preflight import report

DOCUMENTATION = r"""
name: preflight_findings
short_description: Compare what hosts are with what is required of them
version_added: "0.1.0"
description:
  - Judges the answers of M(baremetal.llm.preflight_info) from all hosts at once and gives every refusal in one list.
  - Each refusal is one sentence that says what is wrong, where, which variable it comes from and what would fix it.
options:
  _input:
    description:
      - For each host a dictionary with C(error) (why it could not be examined, else empty), C(error_check)
        (V(reachable), V(python), V(probe) or empty), C(address), C(python) (its version), C(facts) (what
        M(baremetal.llm.preflight_info) returned as C(host), empty without it) and C(wishes) (what is required of it).
      - The role P(baremetal.llm.preflight#role) builds it from its variables.
    type: dict
    required: true
  groups:
    description: Groups that must have hosts, each with the list of its hosts.
    type: dict
    default: {}
author:
  - baremetal.llm maintainers (@baremetal-llm)
"""

EXAMPLES = r"""
- name: Refuse an inventory without a model server
  ansible.builtin.assert:
    that: >-
      ({} | baremetal.llm.preflight_findings(groups={'inference': groups.inference | default([])})).ok
    quiet: true
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether nothing is wrong.
      type: bool
    text:
      description: All refusals as text, one numbered sentence a line; hosts with the same one share it.
      type: str
    findings:
      description: All refusals, each with C(host), C(check), C(variable), C(problem), C(fix) and C(sentence).
      type: list
      elements: dict
    hosts:
      description: What was seen of each host.
      type: dict
"""


def preflight_findings(hosts: Any, groups: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """The report on these hosts; raises AnsibleFilterError for anything but a dictionary of hosts."""
    if not isinstance(hosts, Mapping):
        raise AnsibleFilterError(f"preflight_findings: got a {type(hosts).__name__}; give a dictionary of hosts.")
    try:
        return report(hosts, groups or {})
    except KeyError as exc:
        raise AnsibleFilterError(
            f"preflight_findings: a host lacks the key {exc}; see ansible-doc for the keys."
        ) from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"preflight_findings": preflight_findings}
