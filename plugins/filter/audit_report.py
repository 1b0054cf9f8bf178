# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a report of an audit; thin over module_utils/audit/page.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.audit.page import as_html, as_text, breaches_text

DOCUMENTATION = r"""
name: audit_report
short_description: A report of an audit for people
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - As V(text), a table of counts, then all that wants attention.
  - As V(breaches), only the limits that are broken; empty where none is.
  - As V(html), one page without anything to load, with every finding, its rule and its waiver.
options:
  _input:
    description: A report of P(baremetal.llm.audit_result#filter).
    type: dict
    required: true
  format:
    description: What to make of it.
    type: str
    choices: [text, breaches, html]
    default: text
"""

EXAMPLES = r"""
- name: Keep a report as a page
  ansible.builtin.copy:
    content: "{{ report | baremetal.llm.audit_report(format='html') }}"
    dest: /srv/reports/audit.html
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The report.
  type: str
"""

FORMATS: Dict[str, Callable[[Mapping[str, Any]], str]] = {
    "text": as_text,
    "breaches": breaches_text,
    "html": as_html,
}


def audit_report(report: Any, format: str = "text") -> str:
    """The report; AnsibleFilterError for anything but a report, or an unknown format."""
    if not isinstance(report, Mapping) or "runs" not in report or "breaches" not in report:
        raise AnsibleFilterError("audit_report takes the result of the filter audit_result.")
    if format not in FORMATS:
        raise AnsibleFilterError(f"audit_report: format is {format!r}; give one of {', '.join(FORMATS)}.")
    return FORMATS[format](report)


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"audit_report": audit_report}
