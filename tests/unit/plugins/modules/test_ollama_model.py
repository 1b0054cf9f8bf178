# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ollama_model with a registry: four ways, pins, repairs, and refusals that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import ollama_store
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_client import OllamaClient
from ansible_collections.baremetal.llm.plugins.modules import ollama_model
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import sha256

WEIGHTS = b"GGUF weights, first version"
CONFIG = b'{"model_family": "llama"}'
PARAMS = b'{"num_ctx": 2048}'
BLOBS = [("model", WEIGHTS), ("params", PARAMS)]


@pytest.fixture
def digest(files: Any) -> str:
    return str(files.add_model("library/m", "1", BLOBS, CONFIG))


@pytest.fixture
def arguments(ollama: Any, files: Any, digest: str) -> dict[str, Any]:
    return {
        "name": "m:1",
        "registry": files.url,
        "api_url": ollama.url,
        "models_dir": str(ollama.models_dir),
        "disk_reserve_mib": 0,
    }


def run(arguments: dict[str, Any], **ways: bool) -> dict[str, Any]:
    return run_module(ollama_model, arguments, **ways)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changes(ollama: Any) -> list[str]:
    """Requests that change something, of any run so far."""
    reads = ("GET ", "HEAD ", "POST /api/show")
    return [call for call in ollama.calls if not call.startswith(reads)]


def damage(ollama: Any, data: bytes) -> None:
    """Flips one bit: the size stays."""
    ollama.blob("sha256:" + sha256(data)).write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("with_store", [False, True])
def test_present_four_ways(
    arguments: dict[str, Any], ollama: Any, files: Any, digest: str, pinned: bool, with_store: bool
) -> None:
    if pinned:
        arguments["digest"] = "sha256:" + digest
    if not with_store:
        del arguments["models_dir"]
    check = run(arguments, check=True)
    assert (check["failed"], check["changed"], changes(ollama)) == (False, True, [])
    assert check["model"]["digest"] == digest
    assert check["diff"] == {"before": {}, "after": {"name": "m:1", "digest": digest, "parameters": None}}

    apply = run(arguments)
    assert (apply["failed"], apply["changed"], apply["repaired"]) == (False, True, [])
    assert apply["model"] == {"name": "m:1", "digest": digest, "size_bytes": len(WEIGHTS + PARAMS + CONFIG)}
    assert apply["diff"]["after"] == {"name": "m:1", "digest": digest, "parameters": {"num_ctx": 2048}}
    # The progress of each blob is one line, however often the server reports it.
    assert apply["actions"].count("pulling " + sha256(WEIGHTS)[:12]) == 1
    assert [name for name, _path in ollama.names()] == ["m:1"]

    done = changes(ollama)
    files.calls.clear()
    for check_mode in (False, True):
        again = run(arguments, check=check_mode)
        assert (again["failed"], again["changed"], again["actions"]) == (False, False, [])
        assert again["diff"]["before"] == again["diff"]["after"] == apply["diff"]["after"]
    assert (changes(ollama), files.calls) == (done, [])


def test_the_mirrors_name_that_a_cut_off_run_left_is_removed(
    arguments: dict[str, Any], ollama: Any, files: Any
) -> None:
    run(arguments)
    long_name = files.url.removeprefix("http://") + "/library/m:1"
    client = OllamaClient(ollama.url, 5, 5)
    client.copy("m:1", long_name)
    assert run(arguments, check=True)["changed"]
    assert long_name in [model["name"] for model in client.tags()]
    assert run(arguments)["changed"]
    assert [model["name"] for model in client.tags()] == ["m:1"]
    assert not run(arguments)["changed"]


@pytest.mark.parametrize("with_store", [False, True])
def test_absent_four_ways(arguments: dict[str, Any], ollama: Any, with_store: bool) -> None:
    run(arguments)
    arguments["state"] = "absent"
    if not with_store:
        del arguments["models_dir"]
    before = snapshot(ollama.models_dir)
    assert run(arguments, check=True)["changed"]
    assert snapshot(ollama.models_dir) == before
    apply = run(arguments)
    assert (apply["failed"], apply["changed"], apply["actions"]) == (False, True, ["delete m:1"])
    assert apply["diff"]["before"]["name"] == "m:1" and apply["diff"]["after"] == {}
    assert list(ollama.names()) == []
    for check_mode in (False, True):
        again = run(arguments, check=check_mode)
        assert (again["failed"], again["changed"], again["model"]["size_bytes"]) == (False, False, None)


def test_a_model_that_goes_is_not_hashed_before(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run(arguments)
    monkeypatch.setattr(ollama_store, "sha256_of_file", lambda path: pytest.fail(f"{path} was hashed"))
    assert run({**arguments, "state": "absent"})["changed"]


@pytest.mark.parametrize("data", [WEIGHTS, PARAMS, CONFIG])
@pytest.mark.parametrize("how", ["corrupt", "missing"])
def test_a_bad_blob_is_replaced(arguments: dict[str, Any], ollama: Any, digest: str, data: bytes, how: str) -> None:
    run(arguments)
    if how == "corrupt":
        damage(ollama, data)
    else:
        ollama.blob("sha256:" + sha256(data)).unlink()
    before = snapshot(ollama.models_dir)
    check = run(arguments, check=True)
    assert (check["changed"], check["repaired"]) == (True, ["sha256:" + sha256(data)])
    assert snapshot(ollama.models_dir) == before
    apply = run(arguments)
    assert (apply["failed"], apply["changed"], apply["repaired"]) == (False, True, ["sha256:" + sha256(data)])
    assert ollama.blob("sha256:" + sha256(data)).read_bytes() == data
    assert apply["model"]["digest"] == digest
    assert not run(arguments)["changed"] and not run(arguments, check=True)["changed"]


def test_a_corrupt_blob_left_by_another_model_is_not_taken_over(arguments: dict[str, Any], ollama: Any) -> None:
    ollama.put_blob(WEIGHTS)
    damage(ollama, WEIGHTS)
    assert run(arguments)["repaired"] == ["sha256:" + sha256(WEIGHTS)]
    assert ollama.blob("sha256:" + sha256(WEIGHTS)).read_bytes() == WEIGHTS


def test_an_outage_leaves_a_corrupt_model_as_it_is(arguments: dict[str, Any], ollama: Any, files: Any) -> None:
    run(arguments)
    damage(ollama, WEIGHTS)
    before = snapshot(ollama.models_dir)
    files.status = 502
    result = run(arguments)
    assert result["failed"] and "answered 502" in result["msg"]
    assert snapshot(ollama.models_dir) == before
    check = run(arguments, check=True)
    assert check["changed"] and "answered 502" in check["warnings"][0]
    assert check["repaired"] == ["sha256:" + sha256(WEIGHTS)]


def test_without_hashing_a_flipped_bit_goes_unseen_and_a_missing_blob_does_not(
    arguments: dict[str, Any], ollama: Any
) -> None:
    run(arguments)
    damage(ollama, WEIGHTS)
    arguments["verify"] = False
    assert not run(arguments)["changed"]
    ollama.blob("sha256:" + sha256(WEIGHTS)).unlink()
    assert run(arguments)["changed"]


def test_a_broken_manifest_is_replaced(arguments: dict[str, Any], ollama: Any, digest: str) -> None:
    run(arguments)
    ollama.write_manifest("m:1", b"{")
    assert run(arguments, check=True)["repaired"] == ["manifest"]
    apply = run(arguments)
    assert (apply["repaired"], apply["model"]["digest"]) == (["manifest"], digest)
    assert not run(arguments)["changed"]
    ollama.write_manifest("m:1", b"{")
    assert run({**arguments, "state": "absent"})["changed"]
    assert not ollama.manifest("m:1").exists()


def test_a_moved_tag_without_a_pin_is_left_alone(arguments: dict[str, Any], files: Any) -> None:
    run(arguments)
    files.add_model("library/m", "1", [("model", b"GGUF second version")], CONFIG)
    assert not run(arguments)["changed"]


def test_a_moved_tag_follows_a_new_pin(arguments: dict[str, Any], ollama: Any, files: Any, digest: str) -> None:
    run({**arguments, "digest": digest})
    moved = files.add_model("library/m", "1", [("model", b"GGUF second version")], CONFIG)
    result = run({**arguments, "digest": moved})
    assert (result["changed"], result["repaired"]) == (True, [])
    assert (result["diff"]["before"]["digest"], result["diff"]["after"]["digest"]) == (digest, moved)
    assert not run({**arguments, "digest": moved})["changed"]


@pytest.mark.parametrize("present_before", [False, True])
def test_a_moved_tag_is_refused_before_anything_changes(
    arguments: dict[str, Any], ollama: Any, files: Any, digest: str, present_before: bool
) -> None:
    if present_before:
        run(arguments)
        damage(ollama, WEIGHTS)
    before, done = snapshot(ollama.models_dir), changes(ollama)
    moved = files.add_model("library/m", "1", [("model", b"GGUF second version")], CONFIG)
    for check in (False, True):
        result = run({**arguments, "digest": digest}, check=check)
        assert result["failed"] and f"has digest {moved}, expected {digest}: nothing was changed" in result["msg"]
    assert (snapshot(ollama.models_dir), changes(ollama)) == (before, done)


def test_too_little_space_is_refused_before_anything_changes(arguments: dict[str, Any], ollama: Any) -> None:
    before = snapshot(ollama.models_dir)
    result = run({**arguments, "disk_reserve_mib": 1 << 40})
    assert result["failed"]
    assert f"and 1 MiB are needed besides the {1 << 40} MiB of disk_reserve_mib" in result["msg"]
    assert (snapshot(ollama.models_dir), changes(ollama)) == (before, [])


@pytest.mark.parametrize("check", [False, True])
def test_an_unknown_model_is_named(arguments: dict[str, Any], files: Any, check: bool) -> None:
    result = run({**arguments, "name": "n:1"}, check=check)
    assert result["msg"] == (
        f"model n:1 does not exist in registry {files.url}; check the spelling of models_list[].name"
    )


def test_an_error_in_the_middle_of_a_pull_is_an_error(arguments: dict[str, Any], ollama: Any) -> None:
    ollama.pull_error = "write: no space left on device"
    result = run(arguments)
    assert result["failed"] and "write: no space left on device" in result["msg"]


def test_a_tag_that_moves_during_the_pull_is_noticed(
    arguments: dict[str, Any], ollama: Any, files: Any, digest: str
) -> None:
    pull = ollama._pull

    def moved(request: Any, asked: dict[str, Any]) -> None:
        files.add_model("library/m", "1", [("model", b"GGUF second version")], CONFIG)
        pull(request, asked)

    ollama._pull = moved
    result = run(arguments)
    assert result["failed"] and f"expected {digest}: the tag moved" in result["msg"]


def test_the_folder_of_another_server_is_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    run(arguments)
    (tmp_path / "other").mkdir()
    for models_dir in ("other", "nowhere"):
        result = run({**arguments, "models_dir": str(tmp_path / models_dir)})
        assert result["failed"] and "set it to OLLAMA_MODELS" in result["msg"]


def test_a_folder_that_does_not_exist_is_refused_before_the_pull(arguments: dict[str, Any], ollama: Any) -> None:
    arguments["models_dir"] = "/nowhere"
    check = run(arguments, check=True)
    assert (check["failed"], check["changed"]) == (False, True)
    assert "models_dir /nowhere is no folder on the host" in run(arguments)["msg"]
    assert changes(ollama) == []


def test_check_mode_on_a_host_where_nothing_is_installed(arguments: dict[str, Any]) -> None:
    arguments.update(api_url="http://127.0.0.1:1", models_dir="/nowhere", registry="http://127.0.0.1:1")
    check = run(arguments, check=True)
    assert (check["failed"], check["changed"], len(check["warnings"])) == (False, True, 2)
    assert not run({**arguments, "state": "absent"}, check=True)["changed"]
    del arguments["models_dir"]
    apply = run(arguments)
    assert apply["failed"] and "start the Ollama server" in apply["msg"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "a b"}, "is no model name"),
        ({"digest": "latest"}, "digest is 'latest', not a sha256"),
        ({"registry": "mirror"}, "write http://host:port"),
        ({"api_url": "mirror"}, "api_url"),
        ({"system": "Hi."}, "system can only be set together with gguf"),
        ({"gguf": "/x.gguf"}, "gguf_sha256"),
        ({"gguf": "/x.gguf", "gguf_sha256": "0" * 64, "digest": "0" * 64}, "mutually exclusive"),
    ],
)
def test_arguments_that_cannot_be_meant(
    arguments: dict[str, Any], ollama: Any, change: dict[str, Any], word: str
) -> None:
    result = run({**arguments, **change})
    assert result["failed"] and word in result["msg"]
    assert ollama.calls == []
