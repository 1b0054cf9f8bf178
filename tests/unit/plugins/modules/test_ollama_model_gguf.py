# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ollama_model with a GGUF file: four ways, differences, repairs, and refusals that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.modules import ollama_model
from ansible_collections.baremetal.llm.tests.unit.gguf_builder import build_gguf, text
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import AUTO_STOP, sha256

DATA = build_gguf({"general.architecture": text("llama")}, [("a", [64], 0)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.gguf"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def arguments(ollama: Any, source: Path) -> dict[str, Any]:
    return {
        "name": "m:1",
        "gguf": str(source),
        "gguf_sha256": sha256(DATA),
        "api_url": ollama.url,
        "models_dir": str(ollama.models_dir),
        "disk_reserve_mib": 0,
        "system": "Short.",
        "parameters": {"num_ctx": 2048},
    }


def run(arguments: dict[str, Any], **ways: bool) -> dict[str, Any]:
    return run_module(ollama_model, arguments, **ways)


def uploads(ollama: Any) -> int:
    return sum(call.startswith("POST /api/blobs/") for call in ollama.calls)


def blob_names(ollama: Any) -> set[str]:
    return {path.name for path in (ollama.models_dir / "blobs").iterdir()}


@pytest.mark.parametrize("with_store", [False, True])
def test_four_ways(arguments: dict[str, Any], ollama: Any, source: Path, with_store: bool) -> None:
    if not with_store:
        del arguments["models_dir"]
    check = run(arguments, check=True)
    assert (check["failed"], check["changed"], blob_names(ollama)) == (False, True, set())
    assert check["diff"]["after"] == {"name": "m:1", "digest": None, "parameters": {"num_ctx": 2048}}

    apply = run(arguments)
    assert (apply["failed"], apply["changed"], apply["repaired"]) == (False, True, [])
    assert apply["model"]["digest"] == sha256(ollama.manifest("m:1").read_bytes())
    assert apply["diff"]["after"]["parameters"] == {"num_ctx": 2048, "stop": AUTO_STOP}
    assert b'"from": "model.gguf"' in ollama.manifest("m:1").read_bytes()

    # A model that is there and right needs neither the file nor a second upload.
    source.unlink()
    for check_mode in (False, True):
        again = run(arguments, check=check_mode)
        assert (again["failed"], again["changed"], again["actions"]) == (False, False, [])
    assert uploads(ollama) == 1


@pytest.mark.parametrize("with_store", [False, True])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"system": "Long."}, "system"),
        ({"system": None}, "system"),
        ({"template": "{{ .Prompt }}"}, "template"),
        ({"license": "Apache-2.0"}, "license"),
        ({"parameters": {"num_ctx": 4096}}, "parameters"),
        ({"parameters": {}}, "parameters"),
        ({"parameters": {"num_ctx": 2048, "stop": ["x", "y"]}}, "parameters"),
    ],
)
def test_every_difference_is_one_change(
    arguments: dict[str, Any], ollama: Any, with_store: bool, change: dict[str, Any], reason: str
) -> None:
    if not with_store:
        del arguments["models_dir"]
    run(arguments)
    arguments.update(change)
    assert run(arguments, check=True)["actions"] == [f"import {arguments['gguf']} as m:1 because of {reason}"]
    apply = run(arguments)
    assert (apply["failed"], apply["changed"]) == (False, True)
    assert not run(arguments)["changed"] and not run(arguments, check=True)["changed"]
    assert uploads(ollama) == 1


def test_another_file_replaces_the_model(arguments: dict[str, Any], source: Path) -> None:
    before = run(arguments)["model"]["digest"]
    other = build_gguf({}, [("b", [32], 0)])
    source.write_bytes(other)
    result = run({**arguments, "gguf_sha256": sha256(other)})
    assert result["changed"] and result["model"]["digest"] != before


@pytest.mark.parametrize("data", [DATA, b"Short."])
@pytest.mark.parametrize("how", ["corrupt", "missing"])
def test_a_bad_blob_is_replaced(arguments: dict[str, Any], ollama: Any, data: bytes, how: str) -> None:
    run(arguments)
    path = ollama.blob("sha256:" + sha256(data))
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:]) if how == "corrupt" else path.unlink()
    check = run(arguments, check=True)
    assert (check["changed"], check["repaired"]) == (True, ["sha256:" + sha256(data)])
    apply = run(arguments)
    assert (apply["failed"], apply["repaired"]) == (False, ["sha256:" + sha256(data)])
    assert path.read_bytes() == data
    assert not run(arguments)["changed"]


@pytest.mark.parametrize("data", [DATA, b"Short."])
def test_a_corrupt_blob_of_no_model_is_not_taken_over(arguments: dict[str, Any], ollama: Any, data: bytes) -> None:
    path = ollama.blob("sha256:" + sha256(data))
    path.write_bytes(data[:-1] + b"?")
    assert run(arguments)["repaired"] == ["sha256:" + sha256(data)]
    assert path.read_bytes() == data


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (DATA[:-1], f"is {len(DATA) - 1} bytes, its header describes {len(DATA)}: the download was cut off"),
        (DATA[:10], "ends inside its header"),
        (b"<html>", "is not a GGUF file"),
        (DATA[:-1] + b"x", f"has sha256 {sha256(DATA[:-1] + b'x')}, expected {sha256(DATA)}: nothing was changed"),
    ],
)
def test_a_bad_file_is_refused_before_anything_changes(
    arguments: dict[str, Any], ollama: Any, source: Path, content: bytes, word: str, check: bool
) -> None:
    source.write_bytes(content)
    result = run(arguments, check=check)
    assert result["failed"] and word in result["msg"] and str(source) in result["msg"]
    assert blob_names(ollama) == set() and uploads(ollama) == 0


def test_a_tensor_type_from_the_future_is_a_warning(arguments: dict[str, Any], source: Path) -> None:
    data = build_gguf({}, [("a", [32], 99)], check=False)
    source.write_bytes(data)
    result = run({**arguments, "gguf_sha256": sha256(data)})
    assert (result["failed"], result["changed"]) == (False, True)
    assert "update the collection" in result["warnings"][0]


def test_a_file_that_is_not_there_yet(arguments: dict[str, Any], source: Path) -> None:
    source.unlink()
    check = run(arguments, check=True)
    assert (check["failed"], check["changed"]) == (False, True) and "does not exist yet" in check["warnings"][0]
    assert "is not on the host" in run(arguments)["msg"]


def test_too_little_space_is_refused_before_the_upload(arguments: dict[str, Any], ollama: Any) -> None:
    result = run({**arguments, "disk_reserve_mib": 1 << 40})
    assert result["failed"] and "MiB of disk_reserve_mib" in result["msg"]
    assert blob_names(ollama) == set()


def test_a_server_that_stores_something_else_is_noticed(arguments: dict[str, Any], ollama: Any) -> None:
    create = ollama._create
    ollama._create = lambda request, asked: create(request, {**asked, "system": "Other."})
    result = run(arguments)
    assert result["failed"] and "otherwise than asked for (system)" in result["msg"]


def test_a_parameter_that_cannot_be_stored(arguments: dict[str, Any]) -> None:
    result = run({**arguments, "parameters": {"num_ctx": {"a": 1}}})
    assert result["failed"] and "parameters['num_ctx']" in result["msg"]
