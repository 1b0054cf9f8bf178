# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, manifests and blobs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import (
    BrokenManifest,
    ModelName,
    Store,
    StoreError,
    parse_manifest,
    parse_name,
    parse_sha256,
)
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import manifest_bytes, sha256
from hypothesis import given
from hypothesis import strategies as st

part = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,15}", fullmatch=True)
space = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,15}", fullmatch=True)
host = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,15}(:[0-9]{1,5})?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("qwen3", "registry.ollama.ai/library/qwen3:latest", "qwen3:latest"),
        ("qwen3:8b", "registry.ollama.ai/library/qwen3:8b", "qwen3:8b"),
        ("team/m:1", "registry.ollama.ai/team/m:1", "team/m:1"),
        ("registry.ollama.ai/library/m:1", "registry.ollama.ai/library/m:1", "m:1"),
        ("127.0.0.1:5000/library/m", "127.0.0.1:5000/library/m:latest", "127.0.0.1:5000/library/m:latest"),
        ("hf.co/org/repo.gguf:Q4_K_M", "hf.co/org/repo.gguf:Q4_K_M", "hf.co/org/repo.gguf:Q4_K_M"),
    ],
)
def test_names(text: str, full: str, short: str) -> None:
    name = parse_name(text)
    assert (name.full, name.short) == (full, short)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "m:",
        ":tag",
        "/m",
        "a//m",
        "a/b/c/d",
        "http://h/library/m",
        "../m",
        "a/../m",
        "..",
        "m:..",
        "m:a/b",
        "m m",
        "m:t t",
        "-m",
        "m@sha256:00",
        "n.s/m",
        "m\n",
        "m:1\n",
        "h/n/m:t:u",
        "../n/m",
        ".h/n/m",
        "x" * 81,
        "ü",
        "a\x00",
    ],
)
def test_nonsense_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(StoreError, match="is no model name because") as caught:
        parse_name(text)
    assert "\n" not in str(caught.value)


@given(host=host, namespace=space, model=part, tag=part)
def test_a_name_survives_writing_and_reading(host: str, namespace: str, model: str, tag: str) -> None:
    name = ModelName(host, namespace, model, tag)
    assert parse_name(name.full) == name
    assert parse_name(name.short).same(name)


@given(st.text(alphabet="a.A0:/-_@ \n", max_size=12))
def test_whatever_is_accepted_stays_inside_the_store(text: str) -> None:
    try:
        name = parse_name(text)
    except StoreError:
        return
    path = Store("/store").manifest_path(name)
    assert os.path.normpath(path) == path
    assert path.startswith("/store/manifests/")
    assert path.count("/") == 6


def test_case_does_not_make_another_name() -> None:
    assert parse_name("Qwen3:8B").same(parse_name("qwen3:8b"))


def test_sha256_texts() -> None:
    assert parse_sha256(" SHA256:" + "A" * 64 + "\n", "digest") == "a" * 64
    for text in ("", "a" * 63, "g" * 64, "md5:" + "a" * 64, "../" + "a" * 61):
        with pytest.raises(StoreError, match="digest is .* give its 64 hex digits"):
            parse_sha256(text, "digest")


def test_manifest_of_real_shape() -> None:
    data = manifest_bytes([("model", b"GGUF"), ("params", b"{}")], b"{config}")
    manifest = parse_manifest(data, "here")
    assert manifest.digest == sha256(data)
    assert [(layer.kind, layer.size_bytes) for layer in manifest.layers] == [("model", 4), ("params", 2), ("config", 8)]
    assert manifest.size_bytes == 14
    assert manifest.of_kind("model")[0].sha256 == sha256(b"GGUF")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"layers": 1}',
        b'{"layers": [1]}',
        b'{"layers": [{}]}',
        json.dumps({"layers": [{"mediaType": "x", "digest": "sha256:../../../../etc/passwd", "size": 1}]}).encode(),
        json.dumps({"layers": [], "config": {"digest": "sha256:../x", "size": 1}}).encode(),
        json.dumps({"layers": [], "config": 3}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_broken_or_hostile_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenManifest, match="^here is no model manifest"):
        parse_manifest(data, "here")


keys = st.sampled_from(["layers", "config", "digest", "size", "mediaType"])
leaves = st.none() | st.integers() | st.text() | st.floats()


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12))
def test_any_json_is_a_manifest_or_refused(value: Any) -> None:
    try:
        parse_manifest(json.dumps(value).encode(), "here")
    except BrokenManifest:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "blobs").mkdir()
    return Store(str(tmp_path))


def test_check_finds_what_is_corrupt_and_what_is_missing(store: Store) -> None:
    blobs = [b"good", b"same", b"short", b"gone"]
    manifest = parse_manifest(manifest_bytes([("model", data) for data in blobs], b"{}"), "here")
    for data, stored in zip([*blobs[:3], b"{}"], [b"good", b"sbme", b"shor", b"{}"]):
        Path(store.blob_path(sha256(data))).write_bytes(stored)
    check = store.check(manifest)
    assert check.corrupt == (sha256(b"same"), sha256(b"short"))
    assert check.missing == (sha256(b"gone"),)
    # Without hashing only the size tells; a trusted blob is not looked at.
    assert store.check(manifest, hash_content=False).corrupt == (sha256(b"short"),)
    assert store.check(manifest, trusted=frozenset(check.corrupt)).corrupt == ()


def test_needed_bytes_count_what_a_partial_download_holds(store: Store) -> None:
    data = os.urandom(1 << 20)
    manifest = parse_manifest(manifest_bytes([("model", data)], b""), "here")
    assert store.check(manifest).needed_bytes == 1 << 20
    partial = Path(store.blob_path(sha256(data)) + "-partial")
    with partial.open("wb") as stream:
        stream.truncate(1 << 20)
    # The server gives a partial file its full size at once: only allocated blocks count.
    assert store.check(manifest).needed_bytes == 1 << 20
    with partial.open("r+b") as stream:
        stream.write(data[: 1 << 19])
        stream.flush()
        os.fsync(stream.fileno())
    assert store.check(manifest).needed_bytes == (1 << 20) - partial.stat().st_blocks * 512


def test_delete_takes_the_remembered_header_along(store: Store, tmp_path: Path) -> None:
    remembered = tmp_path / "metadata" / f"sha256-{'0' * 64}.json"
    remembered.parent.mkdir()
    remembered.write_text("{}")
    Path(store.blob_path("0" * 64)).write_bytes(b"")
    store.delete_blob("0" * 64)
    store.delete_blob("0" * 64)
    assert not remembered.exists()
    assert not os.path.exists(store.blob_path("0" * 64))


def test_read_manifest(store: Store) -> None:
    name = parse_name("m:1")
    assert store.read_manifest(name) is None
    path = Path(store.manifest_path(name))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    with pytest.raises(BrokenManifest, match=str(path)):
        store.read_manifest(name)
