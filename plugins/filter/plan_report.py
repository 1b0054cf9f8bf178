# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a plan; thin over module_utils/sizing/report.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.report import as_html, as_text, problems_text

DOCUMENTATION = r"""
name: plan_report
short_description: A plan as a table for people
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - As V(text), a table of at most 100 columns with a bar for each GPU; hosts with the same contents share a row.
  - As V(problems), only what cannot be met, why, and what would work; empty for a plan that works.
  - As V(html), one page without anything to load, with a bar for each GPU and a table for each model.
options:
  _input:
    description: A plan of P(baremetal.llm.plan#filter).
    type: dict
    required: true
  format:
    description: What to make of it.
    type: str
    choices: [text, problems, html]
    default: text
"""

EXAMPLES = r"""
- name: Keep a plan as a page
  ansible.builtin.copy:
    content: "{{ llm_plan | baremetal.llm.plan_report(format='html') }}"
    dest: /tmp/plan.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The report.
  type: str
"""


FORMATS: Dict[str, Callable[[Mapping[str, Any]], str]] = {
    "text": as_text,
    "problems": problems_text,
    "html": as_html,
}


def plan_report(plan: Any, format: str = "text") -> str:
    """The report; AnsibleFilterError for anything but a plan, or an unknown format."""
    if not isinstance(plan, Mapping) or "models" not in plan or "hosts" not in plan:
        raise AnsibleFilterError("plan_report takes the result of the filter plan.")
    if format not in FORMATS:
        raise AnsibleFilterError(f"plan_report: format is {format!r}: give one of {', '.join(FORMATS)}.")
    return FORMATS[format](plan)


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"plan_report": plan_report}
