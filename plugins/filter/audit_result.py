# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one report of what auditors said; thin over module_utils/audit/report.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.audit.report import build
from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import AuditError

DOCUMENTATION = r"""
name: audit_result
short_description: One report of what all auditors said of all hosts
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Counts results, applies waivers, compares with the last report, and says which limits are broken.
  - An auditor that did not run, and a host that no auditor saw, stands in the report with the reason; it never passes.
positional: hosts, finished
options:
  _input:
    description:
      - One entry for each run of an auditor, with C(host), C(auditor), C(profile) and either C(reason), why it did not
        run, or C(rows), C(score) and C(tool) as P(baremetal.llm.audit_rows#filter) and M(baremetal.llm.xccdf_info) give
        them, and C(seconds).
      - Auditors are V(openscap), V(lynis), V(ssh), V(ports) and V(systemd).
    type: list
    elements: dict
    required: true
  hosts:
    description: All hosts that were to be audited.
    type: list
    elements: str
    required: true
  finished:
    description: Date and time of the audit, ISO 8601.
    type: str
    required: true
  waivers:
    description:
      - Fails that are accepted, each with C(id), C(auditor), C(rules) (patterns that match a whole id), C(reason), and
        where needed C(hosts) and C(profiles) (lists of shell patterns) and C(until), the last day on which it holds.
      - C(when) is V(always), V(waived) (see O(named)) or V(container) (see O(containers)).
    type: list
    elements: dict
    default: []
  thresholds:
    description:
      - Limits, each with C(auditor), where needed C(profile) and C(hosts), and one or more of C(max_fail) (fails that
        are not waived), C(max_high) (of these, those of high
        severity), C(max_found) (fails, waived or not), C(max_error), C(min_pass), C(min_score) and C(max_score).
      - An auditor with a limit that did not run breaks it.
    type: list
    elements: dict
    default: []
  previous:
    description: The last report, to compare with.
    type: dict
  named:
    description: For each host the ids of waivers with C(when) V(waived) that apply to it.
    type: dict
    default: {}
  containers:
    description: Hosts that are containers, to which waivers with C(when) V(container) apply.
    type: list
    elements: str
    default: []
  fail_on_new:
    description: Whether a fail that the last report does not have breaks a limit.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Judge an audit
  ansible.builtin.set_fact:
    report: "{{ runs | baremetal.llm.audit_result(groups.all, now(utc=true).isoformat(), thresholds=limits) }}"
  vars:
    limits:
      - {auditor: openscap, profile: cis_level1_server, max_fail: 0, max_found: 15}
"""

RETURN = r"""
_value:
  description: The report; plain data, the same as in the JSON file.
  type: dict
  contains:
    schema:
      description: Number of this form, V(1).
      type: int
    finished:
      description: Date and time of the audit.
      type: str
    previous:
      description: Date and time of the report that it was compared with, none for the first.
      type: str
    ok:
      description: Whether no limit is broken.
      type: bool
    breaches:
      description: A sentence for each limit that is broken.
      type: list
      elements: str
    totals:
      description: Sums of all counts, and C(not_run).
      type: dict
    runs:
      description:
        - One entry for each host, auditor and profile, with C(status) (V(run) or V(not_run)), C(reason), C(tool),
          C(seconds), C(score) and C(counts) (C(pass), C(fail), C(waived), C(error), C(notapplicable), C(notchecked),
          C(new), C(fixed)).
        - The findings are in C(fails) (C(id), C(title), C(severity), C(new), C(expired_waiver)), C(waived) (with
          C(waiver) and C(reason)), C(errors) and C(fixed), and the ids of the rest in C(passed) and C(notapplicable).
      type: list
      elements: dict
    carried:
      description: Entries of earlier reports that this run did not look at again, for the next comparison.
      type: list
      elements: dict
    waivers:
      description: Ids of waivers that are C(expired), C(unused), or C(not_judged) because their auditor did not run.
      type: dict
"""


def audit_result(
    runs: Any,
    hosts: List[str],
    finished: str,
    waivers: Optional[List[Mapping[str, Any]]] = None,
    thresholds: Optional[List[Mapping[str, Any]]] = None,
    previous: Optional[Mapping[str, Any]] = None,
    fail_on_new: bool = False,
    named: Optional[Mapping[str, List[str]]] = None,
    containers: Optional[List[str]] = None,
) -> Dict[str, Any]:
    """The report; AnsibleFilterError for waivers or limits that make no sense."""
    if isinstance(runs, (str, Mapping)) or not hasattr(runs, "__iter__"):
        raise AnsibleFilterError("audit_result takes a list with one entry for each run of an auditor.")
    try:
        return build(
            list(runs),
            list(hosts),
            str(finished),
            waivers or [],
            thresholds or [],
            previous or None,
            fail_on_new,
            named,
            containers or [],
        )
    except AuditError as error:
        raise AnsibleFilterError(f"audit_result: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"audit_result": audit_result}
