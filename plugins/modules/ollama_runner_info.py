#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_runner_info
short_description: What Ollama's model runners took, by their own words
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads the runners of one Ollama server, one C(llama-server) for each loaded model. It reads their command lines and
    what they wrote into the server's log about buffers, layers and flash attention.
  - These are the figures that the plan computes; the filter P(baremetal.llm.plan_deviations#filter) compares both.
  - A runner starts with the first request for its model and ends some time after the last one. Ask the model first.
  - Memory is in MiB (2**20 bytes).
options:
  models_path:
    description: The server's folder of models, to know the names of a model file.
    type: path
    default: /var/lib/ollama/models
  unit:
    description: Systemd unit of the server, whose journal since boot is read.
    type: str
    default: ollama
  log_path:
    description: File that holds the server's log, to be read in place of the journal.
    type: path
  timeout:
    description: Seconds to wait for each answer of the server, and for the journal.
    type: int
    default: 60
extends_documentation_fragment:
  - baremetal.llm.ollama
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: This module changes nothing.
  idempotent:
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: Linux
notes:
  - Only root and the groups C(adm) and C(systemd-journal) may read the journal of a unit; the module fails for others.
  - It reads the log of Ollama 0.30 and newer. Older servers run models in another way.
seealso:
  - module: baremetal.llm.ollama_info
  - plugin: baremetal.llm.plan_deviations
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Load a model
  ansible.builtin.uri:
    url: http://127.0.0.1:11434/api/generate
    method: POST
    body_format: json
    body: {model: "smollm2:135m", stream: false}
    timeout: 300

- name: Ask what it took
  baremetal.llm.ollama_runner_info:
  become: true
  register: answer

- name: Refuse layers on the processor
  ansible.builtin.assert:
    that: item.layers_offloaded == item.layers_total
    fail_msg: "{{ item.names | first }} has layers on the processor; plan a smaller context or quantization."
  loop: "{{ answer.runners }}"
  loop_control:
    label: "{{ item.names }}"
"""

RETURN = r"""
runners:
  description: Runners that are loaded now, by process id.
  type: list
  elements: dict
  returned: success
  contains:
    blob_sha256:
      description: Digest of the model file, 64 hex digits; empty where the file is no blob of a store.
      type: str
    model_path:
      description: The model file.
      type: str
    names:
      description: Names of models whose manifest refers to this file.
      type: list
      elements: str
      sample: ["smollm2:135m"]
    loaded:
      description: The entries of RV(ps) that belong to this file.
      type: list
      elements: dict
    pid:
      description: Process id, V(none) where its process cannot be seen.
      type: int
    rss_mib:
      description: Resident memory of the process, MiB, mapped pages of the model file included.
      type: int
    port:
      description: Loopback port of the runner.
      type: int
    context_total:
      description: Context of all slots, tokens.
      type: int
      sample: 4096
    slots:
      description: Requests at once.
      type: int
      sample: 2
    context_length:
      description: Context of one slot, tokens.
      type: int
      sample: 2048
    batch_size:
      description: Most tokens of one call of the model.
      type: int
      sample: 512
    ubatch_size:
      description: Most tokens of one computation, which the compute buffer is made for.
      type: int
      sample: 512
    kv_cache_type_k:
      description: Number format of the keys.
      type: str
      sample: q8_0
    kv_cache_type_v:
      description: Number format of the values.
      type: str
      sample: q8_0
    flash_attention_asked:
      description: What the command line asks for, such as V(auto).
      type: str
    gpu_layers_asked:
      description: Layers on GPUs that the command line asks for, V(none) where the runner fits them itself.
      type: int
    flash_attention:
      description: Whether it is used; V(none) where the log does not say.
      type: bool
    layers_offloaded:
      description: Layers on GPUs, the output layer counted; V(none) where the runner knows no GPU.
      type: int
      sample: 29
    layers_total:
      description: All layers, the output layer counted.
      type: int
      sample: 29
    buffers:
      description:
        - Memory that the runner took, the sum for each device and kind.
        - C(device) is V(CUDA0), V(ROCm0) and so on, numbered as the runner sees them, or in main memory V(CPU),
          V(CPU_Mapped), V(CPU_REPACK), V(CUDA_Host) and the like. C(kind) is V(weights), V(kv_cache), V(compute) or
          V(output). C(mib) is MiB.
        - V(CPU_Mapped) is the span of the file from the first to the last tensor in main memory. With some layers on a
          GPU it counts tensors that lie there too.
      type: list
      elements: dict
      sample: [{device: CUDA0, kind: weights, mib: 4168.09}]
    fit:
      description: What it wrote about fitting the model to the free memory.
      type: list
      elements: str
    logged:
      description: Whether the log still holds its start. Without it buffers and layers are unknown.
      type: bool
    ready:
      description: Whether it wrote that it accepts requests.
      type: bool
    mixed:
      description: Whether another runner started before this one was ready, so that lines may belong to the other.
      type: bool
ps:
  description: The answer of C(/api/ps) as it is.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name and tag.
      type: str
    digest:
      description: The sha256 of the manifest, 64 hex digits.
      type: str
    size:
      description: Memory that the server thinks the model takes, bytes.
      type: int
    size_vram:
      description: The part of it in GPU memory, bytes. It misses one of the two caches of sliding-window models.
      type: int
    context_length:
      description: Context of one slot, tokens.
      type: int
    expires_at:
      description: When the server will unload it, as an RFC 3339 time.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils import runner_log
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_client import (
    DEFAULT_API_URL,
    OllamaClient,
    OllamaError,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import Store


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "api_url": {"type": "str", "default": DEFAULT_API_URL},
            "models_path": {"type": "path", "default": "/var/lib/ollama/models"},
            "unit": {"type": "str", "default": "ollama"},
            "log_path": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    asked = module.params
    if asked["timeout"] < 1:
        module.fail_json(msg=f"timeout is {asked['timeout']}; give at least 1 second.")
    try:
        ps = OllamaClient(asked["api_url"], timeout_s=asked["timeout"]).ps()
        running = runner_log.processes()
        lines = runner_log.log_lines(asked["log_path"] or "", asked["unit"], running, ps, asked["timeout"])
    except (OllamaError, runner_log.RunnerLogError) as exc:
        module.fail_json(msg=str(exc))
    try:
        stored = runner_log.names_by_blob(Store(asked["models_path"]))
    except OSError as exc:
        module.fail_json(
            msg=f"the manifests below models_path {asked['models_path']} cannot be read ({exc.strerror}): "
            "set models_path to the server's OLLAMA_MODELS, or run the task with become: true"
        )
    runners = runner_log.runners(runner_log.parse(lines), running, stored, ps)
    module.exit_json(changed=False, runners=runners, ps=ps)


if __name__ == "__main__":
    main()
