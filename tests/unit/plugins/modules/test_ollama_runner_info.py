# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ollama_runner_info against a stand-in server, with a recorded log and a made-up process table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils import runner_log
from ansible_collections.baremetal.llm.plugins.modules import ollama_runner_info
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import manifest_bytes, sha256

LOG = Path(__file__).parents[3] / "fixtures" / "runner" / "cpu-smollm2.log"
RECORDED = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONFIG = b'{"model_family": "llama"}'


@pytest.fixture
def world(ollama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with one loaded model; gives the arguments of the module."""
    data = manifest_bytes([("model", b"GGUF")], CONFIG)
    ollama.put_blob(CONFIG)
    ollama.write_manifest("smollm2:135m", data)
    ollama.loaded = [{"name": "smollm2:135m", "digest": sha256(data), "size": 300, "size_vram": 0, "details": {}}]
    log = tmp_path / "ollama.log"
    log.write_text(LOG.read_text().replace(RECORDED, sha256(b"GGUF")))
    monkeypatch.setattr(runner_log, "processes", lambda: ())
    return {"api_url": ollama.url, "models_path": str(tmp_path / "models"), "log_path": str(log)}


@pytest.mark.parametrize("check", [False, True])
def test_a_loaded_model(world: Any, check: bool) -> None:
    result = run_module(ollama_runner_info, world, check=check)
    assert (result["failed"], result["changed"], len(result["runners"])) == (False, False, 1)
    row = result["runners"][0]
    assert (row["names"], row["blob_sha256"]) == (["smollm2:135m"], sha256(b"GGUF"))
    assert (row["context_length"], row["slots"], row["flash_attention"]) == (2048, 2, True)
    assert {"device": "CPU", "kind": "kv_cache", "mib": 90.0} in row["buffers"]
    assert row["loaded"] == result["ps"] and result["ps"][0]["size"] == 300


def test_its_documentation_names_what_it_returns(world: Any) -> None:
    result = run_module(ollama_runner_info, world)
    documented = yaml.safe_load(ollama_runner_info.RETURN)
    assert set(result) - {"failed", "changed", "warnings"} == set(documented)
    assert set(result["runners"][0]) == set(documented["runners"]["contains"])


def test_nothing_is_loaded_and_no_log_is_needed(world: Any, ollama: Any) -> None:
    ollama.loaded = []
    result = run_module(ollama_runner_info, {**world, "log_path": "/absent"})
    assert (result["failed"], result["runners"], result["ps"]) == (False, [], [])


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        ("log_path", "/absent", "the log /absent cannot be read (No such file or directory): correct log_path"),
        ("models_path", "/absent", "set models_path to the server's OLLAMA_MODELS"),
        ("api_url", "http://127.0.0.1:1", "start the Ollama server, or correct api_url"),
        ("timeout", 0, "timeout is 0; give at least 1 second."),
    ],
)
def test_refusals(world: Any, argument: str, value: Any, sentence: str) -> None:
    result = run_module(ollama_runner_info, {**world, argument: value})
    assert result["failed"] and sentence in result["msg"]
