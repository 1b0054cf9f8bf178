# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ollama_info: the names and units that it promises."""

from __future__ import annotations

from typing import Any

from ansible_collections.baremetal.llm.plugins.modules import ollama_info
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import CONFIG_MEDIA, manifest_bytes, sha256

CONFIG = b'{"model_family": "llama"}'


def test_stored_and_loaded(ollama: Any) -> None:
    data = manifest_bytes([("model", b"GGUF")], CONFIG)
    ollama.put_blob(CONFIG)
    ollama.write_manifest("smollm2:135m", data)
    ollama.loaded = [
        {
            "name": "smollm2:135m",
            "digest": "d",
            "size": 300,
            "size_vram": 200,
            "context_length": 2048,
            "expires_at": "2026-11-22T18:00:00Z",
            "details": {},
        }
    ]
    assert CONFIG_MEDIA.encode() in data
    for check in (False, True):
        result = run_module(ollama_info, {"api_url": ollama.url}, check=check)
        assert (result["failed"], result["changed"], result["version"]) == (False, False, "0.34.1")
        assert result["models"] == [
            {
                "name": "smollm2:135m",
                "digest": sha256(data),
                "size_bytes": 4 + len(CONFIG),
                "family": "llama",
                "parameter_size": "135M",
                "quantization_level": "Q4_1",
            }
        ]
        assert result["loaded"] == [
            {
                "name": "smollm2:135m",
                "digest": "d",
                "size_bytes": 300,
                "vram_bytes": 200,
                "context_length": 2048,
                "expires_at": "2026-11-22T18:00:00Z",
            }
        ]


def test_no_server() -> None:
    result = run_module(ollama_info, {"api_url": "http://127.0.0.1:1"})
    assert result["failed"] and "start the Ollama server, or correct api_url" in result["msg"]
