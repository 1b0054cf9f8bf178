#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_info
short_description: What an Ollama server has stored and loaded
version_added: "0.1.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads version, stored models and loaded models of one Ollama server.
options:
  timeout:
    description: Seconds to wait for each answer.
    type: int
    default: 30
extends_documentation_fragment:
  - baremetal.llm.ollama
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  idempotent:
    support: N/A
"""

EXAMPLES = r"""
- name: Ask the server what it holds
  baremetal.llm.ollama_info:
  register: server

- name: Refuse a host where a model lies partly in main memory
  ansible.builtin.assert:
    that: item.vram_bytes == item.size_bytes
    fail_msg: "{{ item.name }} does not fit into GPU memory; plan a smaller context or quantization."
  loop: "{{ server.loaded }}"
"""

RETURN = r"""
version:
  description: Version of the server.
  type: str
  returned: success
  sample: 0.34.1
models:
  description: Stored models, in the order of the server.
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
    size_bytes:
      description: Size of all blobs.
      type: int
    family:
      description: Architecture, as the server names it.
      type: str
    parameter_size:
      description: Number of parameters in words, like V(8.0B).
      type: str
    quantization_level:
      description: Quantization, like V(Q4_K_M).
      type: str
loaded:
  description: Models in memory now.
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
    size_bytes:
      description: Memory that the model takes, in main and GPU memory together.
      type: int
    vram_bytes:
      description: The part of RV(loaded[].size_bytes) in GPU memory.
      type: int
    context_length:
      description: Context of one request in tokens.
      type: int
    expires_at:
      description: When the server will unload it, as an RFC 3339 time.
      type: str
"""

from typing import Any, Dict, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_client import (
    DEFAULT_API_URL,
    OllamaClient,
    OllamaError,
)


def stored(model: Mapping[str, Any]) -> Dict[str, Any]:
    """One item of /api/tags under the names of this collection."""
    details = model.get("details") or {}
    return {
        "name": model.get("name"),
        "digest": model.get("digest"),
        "size_bytes": model.get("size"),
        "family": details.get("family"),
        "parameter_size": details.get("parameter_size"),
        "quantization_level": details.get("quantization_level"),
    }


def loaded(model: Mapping[str, Any]) -> Dict[str, Any]:
    """One item of /api/ps under the names of this collection."""
    return {
        "name": model.get("name"),
        "digest": model.get("digest"),
        "size_bytes": model.get("size"),
        "vram_bytes": model.get("size_vram", 0),
        "context_length": model.get("context_length"),
        "expires_at": model.get("expires_at"),
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "api_url": {"type": "str", "default": DEFAULT_API_URL},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        client = OllamaClient(module.params["api_url"], timeout_s=module.params["timeout"])
        result = {
            "version": client.version(),
            "models": [stored(model) for model in client.tags()],
            "loaded": [loaded(model) for model in client.ps()],
        }
    except OllamaError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
