# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a model on given GPUs; thin over module_utils/sizing/estimate.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import estimate
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

DOCUMENTATION = r"""
name: vram_estimate
short_description: Memory that a model takes on given GPUs and in main memory
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Says which layers of a model Ollama 0.30 and later puts on which GPU, and how much memory weights, KV cache, compute
    buffers and CUDA take there. It computes what llama.cpp allocates, and does not guess from the size of the file.
  - A model that does not fit is no error; RV(_value.fits) is then false and RV(_value.reason) says why.
  - Nothing is contacted or loaded. The result depends on the arguments only, and on the header where a file is given.
positional: _input
options:
  _input:
    description: The model and how it is run. Unknown keys are errors that name the nearest known one.
    type: dict
    required: true
    suboptions:
      name:
        description:
          - Name or alias of a model in C(catalogue/models.yml) or O(model_catalogue), such as V(llama3.1:8b).
          - One of O(_input.name), O(_input.gguf) and O(_input.shape) is required.
        type: str
      quantization:
        description:
          - Mix of the weights, such as V(Q4_K_M), as C(llama-quantize) names it.
          - Required with O(_input.name) and O(_input.shape); a file says it itself.
        type: str
      gguf:
        description:
          - Path of a GGUF file on the controller, or the result of M(baremetal.llm.gguf_info) with its tensors.
          - The file's header outranks every catalogue.
        type: raw
      shape:
        description:
          - Keys of a GGUF header without the architecture's name before them, such as C(architecture), C(block_count),
            C(embedding_length), C(feed_forward_length), C(attention.head_count), C(attention.head_count_kv),
            C(attention.key_length), C(expert_count), C(expert_used_count), C(context_length).
          - C(vocab_size) and C(tied_embeddings) are known besides.
        type: dict
      context_length:
        description: Tokens of context of one slot, at most what the model was trained for.
        type: int
        default: 4096
      parallel:
        description: Slots, that is, requests served at once.
        type: int
        default: 1
      kv_cache_type:
        description: Type of keys and values in the KV cache. Other types than V(f16) need flash attention.
        type: str
        choices: [f16, q8_0, q4_0]
        default: f16
      flash_attention:
        description:
          - Whether attention is computed in one kernel. On GPUs it is off in any case for models with head lengths that
            CUDA has no such kernel for.
        type: bool
        default: true
      ubatch_size:
        description: Tokens of one micro-batch. The default is what Ollama chooses, between 256 and 2048.
        type: int
      outputs:
        description:
          - Logits that buffers are reserved for, V(per_slot) as C(llama-server) does, or V(per_batch) as programs do
            that use the library as it comes.
        type: str
        choices: [per_slot, per_batch]
        default: per_slot
      placement:
        description:
          - V(ollama) takes the GPU with the most free memory where Ollama's own prediction fits 80 % of it, else all.
          - V(spread) takes all GPUs, as E(OLLAMA_SCHED_SPREAD) makes it; V(single) takes one.
        type: str
        choices: [ollama, spread, single]
        default: ollama
      fit_target_mib:
        description: Memory that is left free on each GPU, MiB, as E(LLAMA_ARG_FIT_TARGET) says.
        type: int
        default: 1024
      gpu_layers:
        description:
          - Layers to put on GPUs, the output layer counted as one (C(num_gpu) of Ollama).
          - The default is as many as fit.
        type: int
      gpus:
        description:
          - GPUs of one host, each a name of C(catalogue/gpus.yml) or O(gpu_catalogue), or a mapping with C(name),
            C(memory_total_mib), C(memory_free_mib), C(compute_capability) (such as C('9.0')) and C(count).
          - Entries of RV(baremetal.llm.gpu_info#module:gpus) are such mappings. Their figures outrank the catalogue's.
          - Empty means that everything is computed by the processor.
        type: list
        elements: raw
        default: []
  gpu_catalogue:
    description: Rows for GPUs that the catalogue lacks, in the form of C(catalogue/gpus.yml).
    type: list
    elements: dict
  model_catalogue:
    description: Rows for models that the catalogue lacks, in the form of C(catalogue/models.yml).
    type: list
    elements: dict
notes:
  - "MiB are 2**20 bytes."
  - "Compute buffers come from a replay of llama.cpp's graph in its allocator: C(src/llama-graph.cpp), C(src/models),
    C(ggml/src/ggml-alloc.c) and C(ggml/src/ggml-backend.cpp) of ggml-org/llama.cpp b11095. The KV cache follows
    C(src/llama-kv-cache.cpp), the mixes C(src/llama-quant.cpp), the layers of a model that does not fit
    C(common/fit.cpp)."
  - "One GPU or all, and the size of micro-batches: C(server/sched.go) and C(llm/llama_server.go) of Ollama 0.34."
  - "The CUDA context and the pools of kernels were measured on H100 and H200 with driver 580 and CUDA 13; for older
    generations they come from published logs, for newer ones they are taken from above."
  - "Architectures with recurrent layers (V(qwen35), V(qwen35moe), V(qwen3next)) get a bound from above for their
    compute buffers instead of the exact size."
seealso:
  - plugin: baremetal.llm.tokens_per_second
    plugin_type: filter
  - plugin: baremetal.llm.plan
    plugin_type: filter
  - module: baremetal.llm.gguf_info
  - module: baremetal.llm.gpu_info
"""

EXAMPLES = r"""
- name: Does a 70B in Q4_K_M with four slots of 8192 tokens fit an H100
  ansible.builtin.debug:
    msg: "{{ (model | baremetal.llm.vram_estimate).reason }}"
  vars:
    model:
      name: deepseek-r1:70b
      quantization: Q4_K_M
      context_length: 8192
      parallel: 4
      gpus: [NVIDIA H100 80GB HBM3]

- name: A model of one's own, from its shape, on two cards of which one is in use
  ansible.builtin.debug:
    msg: "{{ model | baremetal.llm.vram_estimate }}"
  vars:
    model:
      shape:
        architecture: llama
        block_count: 40
        embedding_length: 5120
        feed_forward_length: 14336
        attention.head_count: 32
        attention.head_count_kv: 8
        attention.key_length: 128
        attention.value_length: 128
        vocab_size: 131072
      quantization: Q8_0
      context_length: 32768
      kv_cache_type: q8_0
      gpus:
        - RTX 4090
        - {name: RTX 4090, memory_free_mib: 12000}

- name: Look into a file
  baremetal.llm.gguf_info:
    path: /srv/models/llama-3.1-8b-instruct-q5_k_m.gguf
  register: file

- name: What that file takes on the GPUs that gpu_info found
  ansible.builtin.debug:
    msg: "{{ {'gguf': file, 'context_length': 16384, 'gpus': found.gpus} | baremetal.llm.vram_estimate }}"

- name: Main memory of a host without GPUs
  ansible.builtin.debug:
    msg: "{{ ({'name': 'qwen3:0.6b', 'quantization': 'Q8_0'} | baremetal.llm.vram_estimate).host.total_mib }}"
"""

RETURN = r"""
_value:
  description: Memory by part and place, all in MiB.
  type: dict
  contains:
    per_gpu:
      description: One entry for each GPU, in the order given; zeros for one that is not used.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the GPU as it was given.
          type: str
        weights_mib:
          description: Weights on this GPU.
          type: float
        kv_cache_mib:
          description: KV cache of its layers, or their state where they are recurrent.
          type: float
        compute_mib:
          description: Buffer for intermediate results of one micro-batch.
          type: float
        overhead_mib:
          description: CUDA context, libraries and pools of kernels after the first long prompts.
          type: float
        total_mib:
          description: Sum of these, the rise of nvidia-smi's C(memory.used) from idle to serving.
          type: float
        free_after_mib:
          description: What stays free; negative where layers were forced onto a GPU that is too small.
          type: float
    host:
      description: Main memory.
      type: dict
      contains:
        weights_mib:
          description: Weights that stay in main memory, at least the embedding.
          type: float
        kv_cache_mib:
          description: KV cache of the layers there.
          type: float
        compute_mib:
          description: Buffer for inputs, or for all intermediate results where there is no GPU.
          type: float
        output_mib:
          description: Logits that are handed over.
          type: float
        total_mib:
          description: Sum of these, without the process itself and what the page cache holds of the file.
          type: float
    file_mib:
      description: Tensors of the file, padding included, its header not.
      type: float
    layers_total:
      description: Layers, the output layer counted as one.
      type: int
    layers_offloaded:
      description: Of these, on GPUs. Layers whose experts stay in main memory count as offloaded, as in llama.cpp.
      type: int
    fits:
      description: Whether all of the model lies on GPUs, within what is free there.
      type: bool
    reason:
      description: Why, in a sentence.
      type: str
    ubatch_size:
      description: Tokens of one micro-batch, as given or as Ollama chooses.
      type: int
    flash_attention:
      description: Whether flash attention is really used.
      type: bool
    gpus_used:
      description: Numbers of the GPUs that the model is placed on, from 0, in the order given.
      type: list
      elements: int
"""


def vram_estimate(
    model: Any,
    gpu_catalogue: Optional[Sequence[Any]] = None,
    model_catalogue: Optional[Sequence[Any]] = None,
) -> Dict[str, Any]:
    """The estimate; raises AnsibleFilterError for what makes no sense."""
    try:
        return estimate.estimate(model, catalogues(gpu_catalogue, model_catalogue))
    except SizingError as error:
        raise AnsibleFilterError(f"vram_estimate: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"vram_estimate": vram_estimate}
