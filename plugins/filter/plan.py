# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the plan; thin over module_utils/sizing/plan.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import plan as planner
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

DOCUMENTATION = r"""
name: plan
short_description: Which model runs where, in which quantization, with how many slots and how fast
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Places models on hosts. Each model gets the best of its allowed quantizations with which all of it lies on GPUs and
    its goals are met, on as few hosts as meet them. C(docs/planning.md) says how, and describes every key of the
    result.
  - A goal that cannot be met is no error; RV(_value.feasible) is then false and RV(_value.problems) says what binds,
    and what would work. An entry that makes no sense is an error of one sentence.
  - The result depends on its arguments only, and not on the order of hosts.
positional: hosts
options:
  _input:
    description:
      - Models to serve, entries of C(llm_models).
      - C(name) is the tag that clients ask for, C(model) its name in the catalogue where the tag does not say it.
      - C(context_length) in tokens for each user (4096, at most the trained one), C(users) at once (1),
        C(min_tokens_per_second) for each user (0 is any), C(max_time_to_first_token) in seconds (0 is any) for
        C(prompt_tokens) (half the context), C(replicas) as the least number of hosts, C(quantizations) and
        C(kv_cache_types) as lists of what is allowed.
      - C(gguf_info) (a result of M(baremetal.llm.gguf_info)) or C(shape) describes a model that the catalogue lacks.
      - Keys that the role P(baremetal.llm.models#role) reads are allowed beside them.
    type: list
    elements: dict
    required: true
  hosts:
    description:
      - Hosts, each with C(name), C(gpus), and where known C(memory_mib) and C(disk_free_mib) as bounds. C(count) stands
        for that many of them.
      - A GPU is a name of the catalogue, C({name, count}), or an entry of RV(baremetal.llm.gpu_info#module:gpus).
        Memory that Ollama itself holds there counts as free.
      - A host without GPUs serves from its processor, within C(memory_mib).
    type: list
    elements: dict
    required: true
  fit_target_mib:
    description: Memory to leave free on each GPU, MiB.
    type: int
    default: 1024
  alternatives:
    description: How many plans that would work to look for when a goal cannot be met.
    type: int
    default: 3
  gpu_catalogue:
    description: Rows for GPUs that the catalogue lacks, in the form of C(catalogue/gpus.yml).
    type: list
    elements: dict
  model_catalogue:
    description: Rows for models that the catalogue lacks, in the form of C(catalogue/models.yml).
    type: list
    elements: dict
seealso:
  - plugin: baremetal.llm.plan_report
    plugin_type: filter
  - plugin: baremetal.llm.vram_estimate
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What would one H100 serve
  ansible.builtin.debug:
    msg: "{{ models | baremetal.llm.plan(hosts) | baremetal.llm.plan_report }}"
  vars:
    models:
      - {name: "deepseek-r1:32b", context_length: 8192, users: 8, min_tokens_per_second: 20}
    hosts:
      - {name: gpu1, gpus: [{name: NVIDIA H100 80GB HBM3, count: 1}]}
"""

RETURN = r"""
_value:
  description: The plan, schema 1. MiB are 2**20 bytes, speeds tokens per second.
  type: dict
  contains:
    schema:
      description: Version of the form of this mapping.
      type: int
    feasible:
      description: Whether all goals are met.
      type: bool
    problems:
      description: Goals that cannot be met, each with C(model), C(constraint), C(message) and C(alternatives).
      type: list
      elements: dict
    models:
      description: Each model with its quantization, tag, slots, speed and replicas.
      type: list
      elements: dict
    hosts:
      description: Each host with its GPUs and what lies on them, its models, Ollama's environment and its limits.
      type: list
      elements: dict
    gateway:
      description: Weights and models of the upstreams, time-out, queue and the number of requests at once.
      type: dict
"""


def plan(
    models: Any,
    hosts: Any,
    fit_target_mib: int = 1024,
    alternatives: int = 3,
    gpu_catalogue: Optional[Sequence[Any]] = None,
    model_catalogue: Optional[Sequence[Any]] = None,
) -> Dict[str, Any]:
    """The plan; raises AnsibleFilterError for what makes no sense."""
    try:
        known = catalogues(gpu_catalogue, model_catalogue)
        said = {"fit_target_mib": fit_target_mib, "alternatives": alternatives}
        return planner.plan(models, hosts, known, said)
    except SizingError as error:
        raise AnsibleFilterError(f"plan: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"plan": plan}
