# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed of a model on given GPUs; thin over module_utils/sizing/estimate.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import estimate
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

DOCUMENTATION = r"""
name: tokens_per_second
short_description: Tokens a second of a model on given GPUs, and time to the first of them
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Places the model as P(baremetal.llm.vram_estimate#filter) does, and says how fast it then writes and reads.
positional: _input
options:
  _input:
    description:
      - The mapping of P(baremetal.llm.vram_estimate#filter) with all its keys (O(_input.name), C(quantization),
        C(gguf), C(shape), C(context_length), C(parallel), C(kv_cache_type), C(flash_attention), C(ubatch_size),
        C(outputs), C(placement), C(fit_target_mib), C(gpu_layers), C(gpus)), and these beside them.
    type: dict
    required: true
    suboptions:
      name:
        description: Model in the catalogue, as in P(baremetal.llm.vram_estimate#filter), or C(gguf) or C(shape).
        type: str
      batch:
        description: Sequences that are written at once.
        type: int
        default: 1
      prompt_tokens:
        description: Tokens of the prompt that RV(_value.time_to_first_token_s) and RV(_value.prefill) are for.
        type: int
        default: 512
      depth_tokens:
        description: Tokens that each sequence already has in the KV cache while it is written.
        type: int
        default: 128
      through_server:
        description: Whether a server samples, as Ollama's does, which costs time for each sequence.
        type: bool
        default: true
      host_bandwidth_gb_s:
        description: Bandwidth of main memory for the layers that lie there, GB/s (10**9 bytes).
        type: float
        default: 90.0
  gpu_catalogue:
    description: Rows for GPUs that the catalogue lacks, in the form of C(catalogue/gpus.yml).
    type: list
    elements: dict
  model_catalogue:
    description: Rows for models that the catalogue lacks, in the form of C(catalogue/models.yml).
    type: list
    elements: dict
notes:
  - "A step reads the weights once and each sequence's cache; its time follows from the memory bandwidth of the GPUs,
    from unpacking and arithmetic of quantized weights, and from the kernels that it starts. GPUs that share a model
    work one after the other. C(plugins/module_utils/sizing/speed.py) has the formula and its constants, which were
    fitted on the measurements in C(tests/fixtures/measured), one set for all models."
  - "C(tests/benchmarks/speed.py) prints every measured speed beside its prediction."
seealso:
  - plugin: baremetal.llm.vram_estimate
    plugin_type: filter
  - plugin: baremetal.llm.plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Eight users of a 32B on an H100
  ansible.builtin.debug:
    msg: "{{ model | baremetal.llm.tokens_per_second }}"
  vars:
    model:
      name: deepseek-r1:32b
      quantization: Q4_K_M
      context_length: 8192
      parallel: 8
      batch: 8
      prompt_tokens: 2000
      gpus: [NVIDIA H100 80GB HBM3]

- name: A shape on a card that the catalogue lacks
  ansible.builtin.debug:
    msg: "{{ (model | baremetal.llm.tokens_per_second).decode_per_user }}"
  vars:
    model:
      shape:
        architecture: qwen2
        block_count: 28
        embedding_length: 3584
        feed_forward_length: 18944
        attention.head_count: 28
        attention.head_count_kv: 4
        vocab_size: 152064
      quantization: Q8_0
      gpus:
        - {name: RTX 9999, memory_total_mib: 49152, compute_capability: "12.0", bandwidth_gb_s: 1800}

- name: A file on a host with GPUs
  ansible.builtin.debug:
    msg: "{{ {'gguf': file, 'gpus': found.gpus} | baremetal.llm.tokens_per_second }}"
  vars:
    file: "{{ registered_gguf_info }}"
    found: "{{ registered_gpu_info }}"

- name: A host without GPUs and with slow memory
  ansible.builtin.debug:
    msg: "{{ model | baremetal.llm.tokens_per_second }}"
  vars:
    model: {name: "qwen3:0.6b", quantization: Q8_0, host_bandwidth_gb_s: 40}
"""

RETURN = r"""
_value:
  description: Speeds in tokens per second, times in seconds.
  type: dict
  contains:
    decode_total:
      description: Written by all sequences together.
      type: float
    decode_per_user:
      description: Written by each sequence.
      type: float
    prefill:
      description: Read from one prompt of C(prompt_tokens).
      type: float
    time_to_first_token_s:
      description: From a prompt of C(prompt_tokens) to its first token, on a server that is idle.
      type: float
    time_to_first_token_burst_s:
      description: The same for the last of C(batch) prompts that arrive together.
      type: float
    confidence:
      description: >-
        Of the decode speed. V(measured) where this card and class of model were measured (within 11 %), V(modelled)
        where speeds of this card are published (30 %), V(wide) elsewhere (a factor of 1.5, and more with layers in main
        memory).
      type: str
"""


def tokens_per_second(
    model: Any,
    gpu_catalogue: Optional[Sequence[Any]] = None,
    model_catalogue: Optional[Sequence[Any]] = None,
) -> Dict[str, Any]:
    """The speeds; raises AnsibleFilterError for what makes no sense."""
    try:
        return estimate.tokens_per_second(model, catalogues(gpu_catalogue, model_catalogue))
    except SizingError as error:
        raise AnsibleFilterError(f"tokens_per_second: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"tokens_per_second": tokens_per_second}
