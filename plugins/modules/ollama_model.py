#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model
short_description: Keep one model of an Ollama server present and intact, or absent
version_added: "0.1.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Pulls a model from a registry or an air-gap mirror, or imports a GGUF file that lies on the host.
  - The server never looks at a stored blob again. So this module hashes every blob that the manifest claims, on every
    run, and replaces those that are corrupt or missing.
  - Every refusal (pin, checksum, cut-off file, disk space, unknown model) comes before anything is changed, and nothing
    is deleted while the source cannot be reached.
  - A tag that moved in the registry is left alone unless O(digest) is set, so a second run needs no network.
options:
  name:
    description:
      - Name of the model as C([host[:port]/][namespace/]model[:tag]).
    type: str
    required: true
  state:
    description: Whether the model should be there.
    type: str
    choices: [present, absent]
    default: present
  digest:
    description:
      - Pin, the sha256 of the manifest, 64 hex digits, as C(ollama_info) and C(/api/tags) show it.
      - Before a pull the manifest in the registry is compared with it.
      - Not for O(gguf), where it depends on the release of the server and O(gguf_sha256) is the pin.
    type: str
  registry:
    description:
      - Where the model is pulled from, as V(http(s)://host[:port]) without a path.
      - A host of your own can be a mirror of static files. Its copy is stored under O(name), without the mirror's host.
      - The C(https) certificate of a mirror must be trusted by the host and by the server (C(SSL_CERT_FILE) in both).
    type: str
    default: https://registry.ollama.ai
  gguf:
    description: Path of a GGUF file on the host that is imported under O(name), without any network.
    type: path
  gguf_sha256:
    description: The sha256 of the file in O(gguf), 64 hex digits.
    type: str
  template:
    description:
      - Prompt template for O(gguf).
      - If left out, the server takes one from the file where it knows it, and a template that is stored is left alone.
    type: str
  system:
    description: System prompt for O(gguf). If left out, the model has none.
    type: str
  parameters:
    description:
      - Parameters for O(gguf), like V(num_ctx), each a number, text, boolean or list of them.
      - Others that are stored are removed, except C(stop) words, which the server may have found in the file.
    type: dict
    default: {}
  license:
    description: Text of the license for O(gguf). If left out, the model has none.
    type: str
  models_dir:
    description:
      - The server's folder of models (C(OLLAMA_MODELS)) on the host.
      - Without it blobs are not verified, nothing is repaired and disk space is not checked.
    type: path
  verify:
    description:
      - Hash every blob. It takes about a second for each 1-2 GB.
      - If V(false), only presence and size of the blobs are compared.
    type: bool
    default: true
  disk_reserve_mib:
    description: MiB that must stay free in O(models_dir) after a pull or import.
    type: int
    default: 1024
  timeout:
    description:
      - Seconds of silence of the server or registry after which the module gives up. A whole pull is not limited.
      - The server is silent while it hashes, so that large models need some minutes.
    type: int
    default: 900
extends_documentation_fragment:
  - baremetal.llm.ollama
attributes:
  check_mode:
    support: full
    description:
      - Hashes blobs and asks the registry as a real run would, and changes nothing.
      - A server, registry, file or folder that does not exist yet gives a warning and a predicted change.
  diff_mode:
    support: full
    description:
      - Shows name, digest and parameters before and after. In check mode what only the server can know is C(null).
  idempotent:
    support: full
notes:
  - To delete corrupt blobs the module must be allowed to write in O(models_dir).
  - After a pull from O(registry) that is not the default, the long name of the model is removed from the server.
"""

EXAMPLES = r"""
- name: Serve a pinned version
  baremetal.llm.ollama_model:
    name: qwen3:8b
    digest: 500a1f067a9f782620b40bee6f7b0c89e17ae61f686b92c24933e4ca4b2b8b41
    models_dir: /var/lib/ollama/models

- name: Pull from a mirror in an air-gapped network
  baremetal.llm.ollama_model:
    name: qwen3:8b
    registry: http://mirror.example.org:8080
    models_dir: /var/lib/ollama/models

- name: Import a GGUF file
  baremetal.llm.ollama_model:
    name: smollm2:135m
    gguf: /srv/import/SmolLM2-135M-Instruct-Q4_1.gguf
    gguf_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    system: You answer in one sentence.
    parameters:
      num_ctx: 2048
      stop: ["<|im_end|>"]
    models_dir: /var/lib/ollama/models

- name: Remove a model
  baremetal.llm.ollama_model:
    name: qwen3:8b
    state: absent
"""

RETURN = r"""
model:
  description: The model after the run.
  type: dict
  returned: success
  contains:
    name:
      description: Name and tag as the server lists it.
      type: str
    digest:
      description: The sha256 of the manifest, V(null) where the model is absent or the digest is not known before.
      type: str
    size_bytes:
      description: Size of all blobs, V(null) as RV(model.digest).
      type: int
actions:
  description: What was done, or would be done in check mode, in order.
  type: list
  elements: str
  returned: success
  sample: ["pull qwen3:8b", "pulling manifest", "verifying sha256 digest", "writing manifest", "success"]
repaired:
  description: Blobs that were corrupt or missing, as C(sha256:<hex>), and C(manifest) if that was broken.
  type: list
  elements: str
  returned: success
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.baremetal.llm.plugins.module_utils.gguf import GgufError
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_client import (
    DEFAULT_API_URL,
    OllamaClient,
    OllamaError,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_recipe import (
    Recipe,
    RecipeError,
    clean_parameters,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_registry import (
    DEFAULT_REGISTRY,
    RegistryError,
    source_of,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import (
    Store,
    StoreError,
    parse_name,
    parse_sha256,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_sync import (
    ModelSync,
    Report,
    SyncError,
    split_result,
)

SHORT_TIMEOUT_S = 30
ERRORS = (GgufError, OllamaError, RecipeError, RegistryError, StoreError, SyncError)


def recipe_of(params: Dict[str, Any]) -> Recipe:
    """Recipe of the options; raises RecipeError, StoreError."""
    return Recipe(
        sha256=parse_sha256(params["gguf_sha256"], "gguf_sha256"),
        template=params["template"],
        system=params["system"],
        license=params["license"],
        parameters=clean_parameters(params["parameters"]),
    )


def run(module: AnsibleModule, sync: ModelSync) -> Report:
    """Calls the function of the wanted state; raises one of ERRORS, or OSError."""
    params = module.params
    if params["state"] == "absent":
        return sync.absent()
    if params["gguf"]:
        return sync.present_from_gguf(params["gguf"], recipe_of(params))
    pin = parse_sha256(params["digest"], "digest") if params["digest"] else None
    source = source_of(params["registry"], sync.name)
    wait_s = min(SHORT_TIMEOUT_S, params["timeout"])
    return sync.present_from_registry(
        source, pin, lambda url, headers: open_url(url, headers=headers, timeout=wait_s, decompress=False)
    )


def refuse_lonely_options(module: AnsibleModule) -> None:
    """The parts of a recipe mean nothing without a GGUF file."""
    lonely = [key for key in ("template", "system", "parameters", "license") if module.params[key]]
    if lonely and module.params["state"] == "present" and not module.params["gguf"]:
        module.fail_json(msg=f"{', '.join(lonely)} can only be set together with gguf: a pulled model brings its own.")


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "digest": {"type": "str"},
            "registry": {"type": "str", "default": DEFAULT_REGISTRY},
            "gguf": {"type": "path"},
            "gguf_sha256": {"type": "str"},
            "template": {"type": "str"},
            "system": {"type": "str"},
            "parameters": {"type": "dict", "default": {}},
            "license": {"type": "str"},
            "api_url": {"type": "str", "default": DEFAULT_API_URL},
            "models_dir": {"type": "path"},
            "verify": {"type": "bool", "default": True},
            "disk_reserve_mib": {"type": "int", "default": 1024},
            "timeout": {"type": "int", "default": 900},
        },
        required_together=[("gguf", "gguf_sha256")],
        mutually_exclusive=[("gguf", "digest")],
        supports_check_mode=True,
    )
    params = module.params
    refuse_lonely_options(module)
    try:
        client = OllamaClient(params["api_url"], min(SHORT_TIMEOUT_S, params["timeout"]), params["timeout"])
        store = Store(params["models_dir"]) if params["models_dir"] else None
        sync = ModelSync(
            client,
            store,
            parse_name(params["name"]),
            params["verify"],
            module.check_mode,
            params["disk_reserve_mib"] << 20,
        )
        report = run(module, sync)
    except ERRORS as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"cannot use {exc.filename}: {exc.strerror}; run as a user that may read and write there.")
    for warning in report.warnings:
        module.warn(warning)
    result, diff = split_result(report, sync.name)
    if module._diff:
        result["diff"] = diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
