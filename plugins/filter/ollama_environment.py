# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes one host's environment out of a plan."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: ollama_environment
short_description: Environment variables of Ollama on one host of a plan
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Gives the variables that make Ollama on a host do what the plan says. All values are text.
positional: host
options:
  _input:
    description: A plan of P(baremetal.llm.plan#filter).
    type: dict
    required: true
  host:
    description: Name of the host in the plan.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Run Ollama as planned
  ansible.builtin.debug:
    msg: "{{ plan | baremetal.llm.ollama_environment('gpu1') }}"
  vars:
    plan: "{{ [{'name': 'llama3.1:8b', 'users': 4}] | baremetal.llm.plan([{'name': 'gpu1', 'gpus': ['L40S']}]) }}"
"""

RETURN = r"""
_value:
  description: >-
    Name to value, such as E(OLLAMA_NUM_PARALLEL), E(OLLAMA_CONTEXT_LENGTH), E(OLLAMA_KV_CACHE_TYPE),
    E(OLLAMA_FLASH_ATTENTION), E(OLLAMA_MAX_LOADED_MODELS), E(OLLAMA_SCHED_SPREAD) and E(LLAMA_ARG_FIT_TARGET), and
    E(CUDA_VISIBLE_DEVICES) where GPUs are left out. Empty for a host that serves no model.
  type: dict
"""


def ollama_environment(plan: Any, host: str) -> Dict[str, str]:
    """Variables of the host; AnsibleFilterError where the plan does not know it."""
    if not isinstance(plan, Mapping) or not isinstance(plan.get("hosts"), list):
        raise AnsibleFilterError("ollama_environment takes the result of the filter plan, and the name of a host.")
    for each in plan["hosts"]:
        if each["name"] == host:
            return dict(each["environment"])
    known = ", ".join(str(each["name"]) for each in plan["hosts"][:10])
    raise AnsibleFilterError(f"ollama_environment: the plan has no host {host}: give one of {known}.")


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"ollama_environment": ollama_environment}
