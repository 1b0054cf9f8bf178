# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a difference between a recipe and a stored model, and where a model is pulled from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible.module_utils.urls import open_url
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_recipe import (
    Recipe,
    RecipeError,
    clean_parameters,
    shown_parameters,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_registry import (
    RegistryError,
    RegistryUnreachable,
    fetch_manifest,
    source_of,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import (
    BrokenManifest,
    Store,
    parse_manifest,
    parse_name,
)
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import manifest_bytes, sha256

MODEL = b"GGUF model"
Compare = Callable[..., "list[str]"]


def in_store(tmp_path: Path) -> Compare:
    def compare(recipe: Recipe, blobs: list[tuple[str, bytes]]) -> list[str]:
        (tmp_path / "blobs").mkdir(exist_ok=True)
        store = Store(str(tmp_path))
        for _kind, data in blobs:
            Path(store.blob_path(sha256(data))).write_bytes(data)
        return recipe.differences_in_store(store, parse_manifest(manifest_bytes(blobs, b"{}"), "here"))

    return compare


def in_show(_tmp_path: Path) -> Compare:
    def compare(recipe: Recipe, blobs: list[tuple[str, bytes]]) -> list[str]:
        shown = {kind: data.decode() for kind, data in blobs if kind != "params"}
        shown["modelfile"] = f"# x\nFROM /store/blobs/sha256-{sha256(shown.pop('model').encode())}\nTEMPLATE y\n"
        for key, value in json.loads(dict(blobs).get("params", b"{}")).items():
            for item in value if isinstance(value, list) else [value]:
                shown["parameters"] = shown.get("parameters", "") + f"{key}   {json.dumps(item)}\n"
        return recipe.differences_in_show(shown)

    return compare


@pytest.mark.parametrize("way", [in_store, in_show])
@pytest.mark.parametrize(
    ("recipe", "blobs", "differences"),
    [
        ({}, {}, []),
        ({"sha256": "0" * 64}, {}, ["model"]),
        ({"template": "T"}, {"template": b"T"}, []),
        ({"template": "T"}, {"template": b"U"}, ["template"]),
        ({"template": "T"}, {}, ["template"]),
        ({}, {"template": b"found in the file"}, []),
        ({"system": "S"}, {"system": b"S"}, []),
        ({"system": "S"}, {"system": b"R"}, ["system"]),
        ({}, {"system": b"left over"}, ["system"]),
        ({"license": "L"}, {"license": b"L"}, []),
        ({}, {"license": b"left over"}, ["license"]),
        ({"parameters": {"num_ctx": 8192}}, {"params": b'{"num_ctx": 8192.0}'}, []),
        ({"parameters": {"num_ctx": 8192}}, {"params": b'{"num_ctx": 4096}'}, ["parameters"]),
        ({"parameters": {"num_ctx": 1}}, {"params": b'{"num_ctx": true}'}, ["parameters"]),
        ({"parameters": {"num_ctx": 8192}}, {}, ["parameters"]),
        ({}, {"params": b'{"temperature": 0.1}'}, ["parameters"]),
        ({}, {"params": b'{"stop": ["<|im_end|>"]}'}, []),
        ({"parameters": {"stop": ["a"]}}, {"params": b'{"stop": ["<|im_end|>"]}'}, ["parameters"]),
        ({"parameters": {"stop": ["a", 'b"\n<']}}, {"params": json.dumps({"stop": ["a", 'b"\n<']}).encode()}, []),
        ({"parameters": {"stop": ["a"]}}, {"params": b'{"stop": ["a"]}'}, []),
    ],
)
def test_differences(
    way: Callable[[Path], Compare],
    recipe: dict[str, Any],
    blobs: dict[str, bytes],
    differences: list[str],
    tmp_path: Path,
) -> None:
    wanted = Recipe(**{"sha256": sha256(MODEL), **recipe})
    assert way(tmp_path)(wanted, [("model", MODEL), *blobs.items()]) == differences


def test_a_parameter_layer_that_cannot_be_read_is_a_difference(tmp_path: Path) -> None:
    assert in_store(tmp_path)(Recipe(sha256(MODEL)), [("model", MODEL), ("params", b"{")]) == ["parameters"]


def test_parameters_the_server_cannot_hold() -> None:
    assert clean_parameters({"stop": "x", "num_ctx": 1}) == {"stop": ["x"], "num_ctx": 1}
    for value in (None, {}, [None], [[1]]):
        with pytest.raises(RecipeError, match="parameters\\['top_k'\\]"):
            clean_parameters({"top_k": value})


def test_shown_parameters_of_words_that_are_no_json() -> None:
    assert shown_parameters({"parameters": 'stop  "\\x00"\nnum_ctx 5'}) == {"stop": ['"\\x00"'], "num_ctx": 5}


def test_request_leaves_out_what_is_not_wanted() -> None:
    assert Recipe("a" * 64, system="").request(parse_name("m")) == {
        "model": "m:latest",
        "files": {"model.gguf": "sha256:" + "a" * 64},
    }


@pytest.mark.parametrize(
    ("registry", "name", "pull_name", "manifest_url", "insecure", "renamed"),
    [
        (
            "https://registry.ollama.ai/",
            "m:1",
            "m:1",
            "https://registry.ollama.ai/v2/library/m/manifests/1",
            False,
            False,
        ),
        (
            "https://registry.ollama.ai",
            "hf.co/o/r:Q8",
            "hf.co/o/r:Q8",
            "https://hf.co/v2/o/r/manifests/Q8",
            False,
            False,
        ),
        ("http://m.lan:80", "team/m:1", "m.lan:80/team/m:1", "http://m.lan:80/v2/team/m/manifests/1", True, True),
        ("https://m.lan", "m:1", "m.lan/library/m:1", "https://m.lan/v2/library/m/manifests/1", False, True),
        (
            "http://m.lan",
            "m.lan/library/m:1",
            "m.lan/library/m:1",
            "http://m.lan/v2/library/m/manifests/1",
            True,
            False,
        ),
    ],
)
def test_sources(registry: str, name: str, pull_name: str, manifest_url: str, insecure: bool, renamed: bool) -> None:
    source = source_of(registry, parse_name(name))
    assert (source.pull_name, source.manifest_url, source.insecure, source.renamed) == (
        pull_name,
        manifest_url,
        insecure,
        renamed,
    )


@pytest.mark.parametrize(
    "registry", ["mirror:80", "ftp://h", "http://h/path", "http://u:p@h", "http://", "http://[::1]:80"]
)
def test_a_registry_that_cannot_be_part_of_a_name_is_refused(registry: str) -> None:
    with pytest.raises(RegistryError, match="write http://host:port"):
        source_of(registry, parse_name("m:1"))


def test_two_different_hosts_are_refused() -> None:
    with pytest.raises(RegistryError, match="leave one of them out"):
        source_of("http://a", parse_name("b/n/m:1"))


def test_fetch_manifest_and_its_failures(files: Any) -> None:
    source = source_of(files.url, parse_name("m:1"))

    def fetch() -> Any:
        return fetch_manifest(source, lambda url, headers: open_url(url, headers=headers))

    digest = files.add_model("library/m", "1", [("model", MODEL)], b"{}")
    assert fetch().digest == digest
    files.files["/v2/library/m/manifests/1"] = b"<html>"
    with pytest.raises(BrokenManifest, match=source.manifest_url):
        fetch()
    files.files.clear()
    with pytest.raises(
        RegistryError,
        match=f"model m:1 does not exist in registry {files.url}; check the spelling of "
        r"models_list\[\].name",
    ):
        fetch()
    files.status = 503
    with pytest.raises(RegistryUnreachable, match="answered 503"):
        fetch()
    files.stop()
    with pytest.raises(RegistryUnreachable, match="cannot be reached"):
        fetch()
    files.stop = lambda: None
