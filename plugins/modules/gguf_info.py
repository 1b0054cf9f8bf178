#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what the header of a GGUF file says; thin over module_utils/gguf.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gguf_info
short_description: Tell shape, tensors and size of a GGUF model from its header
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads the header of a GGUF file on the host or behind a URL, some MiB at most, and tells what a plan needs to know
    of the model, such as layers, heads, vocabulary, and each tensor with its size in bytes.
  - Sizes follow from the dimensions and types of the tensors as the GGUF specification defines them. They are exact,
    and of the file; what a server needs besides for context and buffers is not in them.
  - The header is not trusted. One that is damaged, cut off, or that claims absurd sizes is refused in one sentence.
options:
  path:
    description: Full path of the file on the host.
    type: path
  url:
    description:
      - Address of the file, V(http://) or V(https://). Only the header is fetched, in pieces of 1, 2, 4, ... MiB where
        the server knows ranges.
      - User, password and query of the address are left out of every message and result.
    type: str
  timeout:
    description: Seconds to wait for an answer to O(url), and for each next piece.
    type: int
    default: 30
  headers:
    description:
      - More HTTP headers for O(url), such as C(Authorization). They go to the host in O(url) only, not to others that
        it redirects to.
      - Their values are hidden in the result wherever they occur.
    type: dict
    default: {}
  validate_certs:
    description: Whether the certificate of an O(url) with V(https://) must be valid.
    type: bool
    default: true
  ca_path:
    description: Full path of a file on the host with the certificate authorities that are trusted for O(url).
    type: path
  max_header_mib:
    description: A longer header behind O(url) is refused, in MiB. Large vocabularies take up to 16.
    type: int
    default: 64
  tensors:
    description: Whether to return the list of tensors, without which no plan can be made from the result.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: N/A
    details: This module changes nothing.
  idempotent:
    description: When run twice in a row outside check mode with the same arguments, the second run changes nothing.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
notes:
  - A model in several files is told part by part. The metadata is in the first part; each part lists its own tensors.
  - Proxies come from the environment of the task (C(http_proxy), C(https_proxy), C(no_proxy)).
"""

EXAMPLES = r"""
- name: What is in this file
  baremetal.llm.gguf_info:
    path: /srv/models/Llama-3.3-70B-Instruct-Q4_K_M.gguf
  register: model

- name: Refuse a file that was cut off
  ansible.builtin.assert:
    that: model.gguf.complete
    fail_msg: "{{ model.gguf.file_size_bytes }} of {{ model.gguf.expected_size_bytes }} bytes are there: fetch it."

- name: What is behind this address, without fetching the model
  baremetal.llm.gguf_info:
    url: https://models.example.com/Llama-3.3-70B-Instruct-Q4_K_M.gguf
    headers:
      Authorization: "Bearer {{ models_token }}"
  register: model

- name: Show how much of the model are its layers
  ansible.builtin.debug:
    msg: "{{ model.gguf.shape.block_count }} layers of {{ model.gguf.bytes_by_class.layer }} bytes in all"
"""

RETURN = r"""
gguf:
  description: What the header says. Nothing is invented, so that V(null) stands for what it does not say.
  returned: success
  type: dict
  contains:
    path:
      description: The file, V(null) with O(url).
      type: str
    url:
      description: The address without user, password and query, V(null) with O(path).
      type: str
    version:
      description: Version of the GGUF format, 2 or 3.
      type: int
      sample: 3
    architecture:
      description: The architecture as llama.cpp names it, an empty text in later parts of a split model.
      type: str
      sample: llama
    name:
      description: Name of the model in the metadata.
      type: str
      sample: Llama 3.3 70B Instruct
    quantization:
      description: The mix of types in RV(gguf.file_type) as llama-quantize names it.
      type: str
      sample: Q4_K_M
    file_type:
      description: The number in C(general.file_type).
      type: int
      sample: 15
    parameter_count:
      description: Number of weights in all tensors of the file.
      type: int
      sample: 70553706496
    file_size_bytes:
      description: Size of the file, V(null) where a server does not tell.
      type: int
    expected_size_bytes:
      description: Size that the header describes, up to the end of the last tensor.
      type: int
    data_offset_bytes:
      description: Where the data of the tensors begins.
      type: int
    complete:
      description: Whether the file is as long as its header says, V(null) where its size is not known.
      type: bool
    split:
      description:
        - V(null) for a file that is the whole model.
        - Else C(number), counted from 0, of C(count) parts, with C(tensor_count) tensors in all of them.
      type: dict
      sample: {count: 3, number: 0, tensor_count: 723}
    metadata:
      description:
        - All keys with their values. Arrays of up to 1024 numbers are lists, all other arrays only their C(item_type)
          and C(count).
        - Of texts beyond 4096 bytes, the beginning as C(text) and the length as C(size_bytes); the C(text) of such a
          chat template is empty. Numbers that are not finite are V(null).
      type: dict
      sample: {general.architecture: llama, tokenizer.ggml.tokens: {item_type: string, count: 128256}}
    shape:
      description:
        - The keys of the architecture without its name before them, single values or lists with a value a layer.
        - C(vocab_size) is the number of tokens, C(tied_embeddings) whether the token embeddings also serve as output,
          which is V(null) where another part may hold one.
      type: dict
      sample: {architecture: llama, block_count: 80, attention.head_count: 64, attention.head_count_kv: 8}
    tensors:
      description:
        - The tensors in the order of the file, V(null) with O(tensors=false).
        - C(dimensions) begin with the length of a row. C(offset_bytes) counts from RV(gguf.data_offset_bytes).
        - C(device_class) is V(input) for embeddings, which stay in main memory; V(layer) for what goes with its
          C(layer); V(expert) for what also can go to main memory alone; V(output) for the rest.
      type: list
      elements: dict
      sample:
        - name: blk.0.attn_q.weight
          dimensions: [8192, 8192]
          type: Q4_K
          offset_bytes: 591036416
          size_bytes: 37748736
          device_class: layer
          layer: 0
    bytes_by_type:
      description: Bytes of the tensors of each type.
      type: dict
      sample: {F32: 5275648, Q4_K: 28147580928, Q6_K: 16826449920}
    bytes_by_class:
      description: Bytes of the tensors of each C(device_class); all four are there.
      type: dict
      sample: {input: 591003648, layer: 43526389760, expert: 0, output: 861913088}
"""

import os
from typing import Any, Dict, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.download import public_url


def answer_to(url: str, headers: Mapping[str, str], params: Mapping[str, Any]) -> Any:
    """The answer of the server; raises what urllib raises."""
    own = {str(key): str(value) for key, value in params["headers"].items()}
    try:
        # decompress: a range of a compressed answer could not be unpacked.
        return open_url(
            url,
            headers={**own, **headers},
            http_agent=headers["User-Agent"],
            timeout=params["timeout"],
            validate_certs=params["validate_certs"],
            ca_path=params["ca_path"],
            unredirected_headers=list(own),
            decompress=False,
        )
    except UrlsConnectionError as exc:
        # Older releases of ansible-core raise it for certificates and proxies, and it is no OSError.
        raise OSError(str(exc)) from exc


def from_path(path: str, tensors: bool) -> Dict[str, Any]:
    """What the file at C(path) says; raises GgufError and OSError."""
    return gguf.read_model(path).to_info(path=path, file_size_bytes=os.path.getsize(path), tensors=tensors)


def from_url(params: Mapping[str, Any]) -> Dict[str, Any]:
    """What the file behind C(url) says; raises GgufError."""
    model, size_bytes = gguf.read_url(
        params["url"], lambda url, headers: answer_to(url, headers, params), params["max_header_mib"] << 20
    )
    name = public_url(params["url"])
    return model.to_info(url=name, file_size_bytes=size_bytes, tensors=params["tensors"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path"},
            "url": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
            "headers": {"type": "dict", "default": {}, "no_log": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "max_header_mib": {"type": "int", "default": 64},
            "tensors": {"type": "bool", "default": True},
        },
        mutually_exclusive=[("path", "url")],
        required_one_of=[("path", "url")],
        supports_check_mode=True,
    )
    params = module.params
    for name in ("timeout", "max_header_mib"):
        if params[name] < 1:
            module.fail_json(msg=f"{name} is {params[name]}: give a whole number from 1 on.")
    if params["ca_path"] and not os.path.isfile(params["ca_path"]):
        module.fail_json(msg=f"ca_path {params['ca_path']} is no file on the host: correct it or put the file there.")
    try:
        found = from_path(params["path"], params["tensors"]) if params["path"] else from_url(params)
    except gguf.GgufError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"cannot read {params['path']}: {exc.strerror}; correct the path or its permissions.")
    advice = gguf.split_advice(found["path"] or found["url"], found["split"])
    if advice:
        module.warn(advice)
    module.exit_json(changed=False, gguf=found)


if __name__ == "__main__":
    main()
