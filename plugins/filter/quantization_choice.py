# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses a quantization; thin over module_utils/sizing/plan_choice.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import plan_choice
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

DOCUMENTATION = r"""
name: quantization_choice
short_description: The best quantization of a model that fits the GPUs of one host and is fast enough
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Tries the allowed quantizations from the best to the smallest, each with each allowed type of KV cache, F16 first.
    The first with which all layers lie on GPUs and the goals hold for all users at once is the choice.
  - Order and quality of quantizations stand in C(catalogue/quantizations.yml) with their sources.
positional: gpus
options:
  _input:
    description: One entry of C(llm_models); see P(baremetal.llm.plan#filter).
    type: dict
    required: true
  gpus:
    description: GPUs of the host, as in P(baremetal.llm.plan#filter).
    type: list
    elements: raw
    required: true
  memory_mib:
    description: Main memory of the host, MiB; needed where it has no GPU.
    type: int
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
- name: Which DeepSeek-R1 32B for a 24 GB card
  ansible.builtin.debug:
    msg: "{{ {'name': 'deepseek-r1:32b', 'context_length': 4096} | baremetal.llm.quantization_choice(['RTX 4090']) }}"
"""

RETURN = r"""
_value:
  description: The choice. All keys but C(considered) are none where nothing fits.
  type: dict
  contains:
    quantization:
      description: Name of the quantization.
      type: str
    tag:
      description: Tag to pull from Ollama's library.
      type: str
    kv_cache_type:
      description: Type of the KV cache.
      type: str
    estimate:
      description: Memory, as P(baremetal.llm.vram_estimate#filter) returns it.
      type: dict
    speed:
      description: Tokens per second with all users at once, as P(baremetal.llm.tokens_per_second#filter) returns it.
      type: dict
    considered:
      description: Every choice with C(fits), C(meets_speed) (none where it does not fit) and C(reason).
      type: list
      elements: dict
"""


def quantization_choice(
    goal: Any,
    gpus: Any,
    memory_mib: Optional[int] = None,
    fit_target_mib: int = 1024,
    gpu_catalogue: Optional[Sequence[Any]] = None,
    model_catalogue: Optional[Sequence[Any]] = None,
) -> Dict[str, Any]:
    """The choice; raises AnsibleFilterError for what makes no sense."""
    try:
        known = catalogues(gpu_catalogue, model_catalogue)
        return plan_choice.quantization_choice(goal, gpus, known, memory_mib, fit_target_mib)
    except SizingError as error:
        raise AnsibleFilterError(f"quantization_choice: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"quantization_choice": quantization_choice}
