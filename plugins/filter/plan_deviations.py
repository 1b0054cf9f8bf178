# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the plan with what runs; thin over module_utils/deviations.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils import deviations
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError

DOCUMENTATION = r"""
name: plan_deviations
short_description: How far what runs is from the plan
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Compares one host of a plan with what its model runners say of themselves, figure by figure.
  - Settings (context, slots, type of the KV cache, flash attention, layers on GPUs) must be the planned ones. Weights,
    KV cache and buffers are computed exactly, so a difference above 1 MiB and 1 % is noted, and one above 1 MiB and
    O(tolerance_percent) is a deviation.
  - The memory of a GPU is that of the runner's process where C(nvidia-smi) tells it, which is 9 to 13 MiB less than the
    rise of the GPU's used memory that is planned. Else it is what is no longer free since the plan was made, for all
    models on the GPU. It may differ by O(tolerance_mib) or O(tolerance_percent), whichever is more. The plan means the
    memory after the first long prompts.
  - The C(size_vram) of C(/api/ps) is shown and never a deviation, because it misses one of the two caches of
    sliding-window models. Weights in main memory are not compared where only some layers are on GPUs, because mapped
    spans of the file then count what is on GPUs too.
positional: host, runners
options:
  _input:
    description: The plan, as P(baremetal.llm.plan#filter) makes it. C(docs/planning.md) describes its keys.
    type: dict
    required: true
  host:
    description: Name of the host in the plan.
    type: str
    required: true
  runners:
    description: RV(baremetal.llm.ollama_runner_info#module:runners) of that host.
    type: list
    elements: dict
    required: true
  gpus:
    description: >-
      RV(baremetal.llm.gpu_info#module:gpus) of that host, read while the models were loaded. Without it the memory of
      GPUs is not compared.
    type: list
    elements: dict
  tolerance_percent:
    description: Difference of a figure that is still right, percent of the plan.
    type: float
    default: 3.0
  tolerance_mib:
    description: Difference of the memory of a GPU that is still right, MiB.
    type: float
    default: 32
  models:
    description: Names or tags of the models to compare; all models of the host without it.
    type: list
    elements: str
seealso:
  - plugin: baremetal.llm.plan
    plugin_type: filter
  - module: baremetal.llm.ollama_runner_info
  - module: baremetal.llm.gpu_info
"""

EXAMPLES = r"""
- name: Ask what the models took
  baremetal.llm.ollama_runner_info:
  become: true
  register: answer

- name: Refuse what differs from the plan
  ansible.builtin.assert:
    that: item.ok
    fail_msg: "{{ item.sentence }}"
    quiet: true
  loop: "{{ llm_plan | baremetal.llm.plan_deviations(inventory_hostname, answer.runners) }}"
  loop_control:
    label: "{{ item.model }} {{ item.what }}"
"""

RETURN = r"""
_value:
  description: One mapping for each figure, by model in the order of the plan.
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model in the plan.
      type: str
    device:
      description: V(GPU0) and so on, as the runner numbers the GPUs that it sees, V(host), or empty for a setting.
      type: str
    what:
      description: What is compared.
      type: str
      sample: KV cache
    planned:
      description: Planned value.
      type: raw
    found:
      description: Value found.
      type: raw
    unit:
      description: V(MiB), V(tokens) or empty.
      type: str
    difference_percent:
      description: How much more than planned, percent; 100 where nothing was planned, V(none) where it makes no sense.
      type: float
    ok:
      description: Whether it is within the tolerance.
      type: bool
    note:
      description: What to know about this figure.
      type: str
    severity:
      description: 0 where all is well. The largest is the worst; a wrong setting is worse than what follows from it.
      type: float
    sentence:
      description: What is wrong, where, and what would fix it; empty where all is well.
      type: str
    line:
      description: The row as a line of at most 100 columns.
      type: str
"""


def plan_deviations(
    plan: Any,
    host: str,
    runners: Any,
    gpus: Optional[Any] = None,
    tolerance_percent: float = 3.0,
    tolerance_mib: float = 32,
    models: Optional[Sequence[str]] = None,
) -> List[Dict[str, Any]]:
    """Rows of the comparison; raises AnsibleFilterError for what is no plan, no runner or an unknown host."""
    for name, value, kind in (
        ("the plan", plan, Mapping),
        ("runners", runners, Sequence),
        ("gpus", gpus or [], Sequence),
    ):
        if isinstance(value, str) or not isinstance(value, kind):
            raise AnsibleFilterError(
                f"plan_deviations: {name} is a {type(value).__name__}; give what the filter plan, or the modules "
                "ollama_runner_info and gpu_info, returned."
            )
    try:
        tolerance = deviations.Tolerance(float(tolerance_percent), float(tolerance_mib))
        rows = deviations.compare(plan, str(host), runners, gpus or [], tolerance, models)
    except SizingError as error:
        raise AnsibleFilterError(f"plan_deviations: {error}") from None
    except KeyError as error:
        raise AnsibleFilterError(
            f"plan_deviations: the key {error} is missing; give the plan and the runners unchanged, of this version."
        ) from None
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(
            f"plan_deviations: a value has the wrong type ({error}); give numbers as tolerances, and the plan and the "
            "runners unchanged."
        ) from None
    return [_row(row, str(host)) for row in rows]


def _row(row: deviations.Row, host: str) -> Dict[str, Any]:
    values = asdict(row)
    del values["advice"]
    return {**values, "sentence": row.sentence(host), "line": row.line()}


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"plan_deviations": plan_deviations}
