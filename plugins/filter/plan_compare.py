# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares hardware for the same goals; thin over module_utils/sizing/plan_choice.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import plan_choice
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

DOCUMENTATION = r"""
name: plan_compare
short_description: How many hosts of each kind would serve the same models
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Finds for each kind of host the smallest number that meets all goals, and what each model gets there.
positional: options
options:
  _input:
    description: Models to serve; see P(baremetal.llm.plan#filter).
    type: list
    elements: dict
    required: true
  options:
    description: Kinds of host, each with C(label) and C(gpus) of one host, as in P(baremetal.llm.plan#filter).
    type: list
    elements: dict
    required: true
  fit_target_mib:
    description: Memory to leave free on each GPU, MiB.
    type: int
    default: 1024
  gpu_catalogue:
    description: Rows for GPUs that the catalogue lacks.
    type: list
    elements: dict
  model_catalogue:
    description: Rows for models that the catalogue lacks.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: One large card or several small ones
  ansible.builtin.debug:
    msg: "{{ llm_models | baremetal.llm.plan_compare(kinds) }}"
  vars:
    llm_models:
      - {name: "deepseek-r1:32b", users: 20, context_length: 8192, min_tokens_per_second: 15}
    kinds:
      - {label: one H200, gpus: [NVIDIA H200]}
      - {label: two L40S, gpus: [{name: NVIDIA L40S, count: 2}]}
"""

RETURN = r"""
_value:
  description: One row for each kind, in the same order.
  type: list
  elements: dict
  contains:
    label:
      description: The label, or the hardware where there is none.
      type: str
    hardware:
      description: GPUs of one host.
      type: str
    feasible:
      description: Whether some number of such hosts meets the goals.
      type: bool
    hosts:
      description: The smallest such number, else none.
      type: int
    gpus:
      description: GPUs in all of them.
      type: int
    memory_total_mib:
      description: GPU memory in all of them, MiB.
      type: int
    reason:
      description: Why it is not feasible, else empty.
      type: str
    models:
      description: Quantization, slots, speed and number of replicas of each model.
      type: list
      elements: dict
"""


def plan_compare(
    goals: Any,
    options: Any,
    fit_target_mib: int = 1024,
    gpu_catalogue: Optional[Sequence[Any]] = None,
    model_catalogue: Optional[Sequence[Any]] = None,
) -> List[Dict[str, Any]]:
    """A row for each kind of host; raises AnsibleFilterError for what makes no sense."""
    try:
        known = catalogues(gpu_catalogue, model_catalogue)
        return plan_choice.plan_compare(goals, options, known, fit_target_mib)
    except SizingError as error:
        raise AnsibleFilterError(f"plan_compare: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"plan_compare": plan_compare}
