# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the plan of one host into the list that the role models takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import PLAN_KEYS

DOCUMENTATION = r"""
name: planned_models
short_description: Models that a host holds by the plan
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Gives the entries of C(llm_models) that the plan puts on a host, without the goals, under the tag that the plan
    chose.
positional: goals, host
options:
  _input:
    description: Result of the filter P(baremetal.llm.plan#filter).
    type: dict
    required: true
  goals:
    description: The entries of C(llm_models) that the plan was made from.
    type: list
    elements: dict
    required: true
  host:
    description: Name of the host in the plan.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Keep the planned models present
  ansible.builtin.include_role:
    name: baremetal.llm.models
  vars:
    models_list: "{{ llm_plan | baremetal.llm.planned_models(llm_models, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: Entries for C(models_list) of the role C(models), in the order of the plan; empty for an idle host.
  type: list
  elements: dict
"""


def planned_models(plan: Any, goals: Sequence[Mapping[str, Any]], host: str) -> List[Dict[str, Any]]:
    """Entries of the host; AnsibleFilterError where plan and goals do not belong together."""
    if not isinstance(plan, Mapping) or not isinstance(plan.get("hosts"), list):
        raise AnsibleFilterError("planned_models takes the result of the filter plan, the goals and a host's name.")
    by_name = {str(goal["name"]): goal for goal in goals}
    entries = []
    for model in next((each["models"] for each in plan["hosts"] if each["name"] == host), []):
        if model["name"] not in by_name:
            raise AnsibleFilterError(
                f"planned_models: {model['name']} stands in the plan and not in llm_models; plan again."
            )
        entry = {key: value for key, value in by_name[model["name"]].items() if key not in PLAN_KEYS}
        entries.append({**entry, "name": model["tag"]})
    return entries


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"planned_models": planned_models}
