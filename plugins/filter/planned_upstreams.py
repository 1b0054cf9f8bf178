# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the gateway's upstreams the share and the models that the plan gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: planned_upstreams
short_description: Upstreams of the gateway by the plan
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Leaves out hosts that serve nothing by the plan, and gives the others their weight, models and slots, with as many
    requests again that may wait.
positional: plan
options:
  _input:
    description: Endpoints, as P(baremetal.llm.host_endpoints#filter) gives them.
    type: list
    elements: dict
    required: true
  plan:
    description: Result of the filter P(baremetal.llm.plan#filter).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Tell the gateway whom to ask
  ansible.builtin.include_role:
    name: baremetal.llm.gateway
  vars:
    gateway_upstreams: "{{ endpoints | baremetal.llm.planned_upstreams(llm_plan) }}"
    endpoints: "{{ groups.inference | baremetal.llm.host_endpoints(hostvars) }}"
"""

RETURN = r"""
_value:
  description: The endpoints with C(weight) in lowest terms, C(models), C(max_connections) and C(queue).
  type: list
  elements: dict
"""


def planned_upstreams(endpoints: Sequence[Mapping[str, Any]], plan: Any) -> List[Dict[str, Any]]:
    """Endpoints with their part of the plan."""
    if not isinstance(plan, Mapping) or not isinstance(plan.get("gateway"), Mapping):
        raise AnsibleFilterError("planned_upstreams takes endpoints, and the result of the filter plan.")
    weights, models = plan["gateway"]["upstream_weights"], plan["gateway"]["upstream_models"]
    serving = [each for each in endpoints if models.get(each["name"])]
    if not serving:
        raise AnsibleFilterError("planned_upstreams: by the plan none of these hosts serves a model; plan again.")
    common = math.gcd(*(int(weights[each["name"]]) for each in serving)) or 1
    hosts = {host["name"]: host for host in plan["hosts"]}
    return [
        {
            **each,
            "weight": int(weights[each["name"]]) // common,
            "models": list(models[each["name"]]),
            # The gateway counts for each model, and every model of a host has this many slots.
            "max_connections": int(hosts[each["name"]]["parallel"]),
            "queue": int(hosts[each["name"]]["parallel"]),
        }
        for each in serving
    ]


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"planned_upstreams": planned_upstreams}
