# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GGUF headers: right answers for files built here, one sentence for everything else, and little memory for attacks."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.tests.unit.gguf_builder import array, build_gguf, text, u32
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def written(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return str(path)


def refusal(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(gguf.GgufError) as caught:
        gguf.read_header(written(tmp_path, data))
    return str(caught.value)


def test_header_and_expected_size_of_a_whole_file(tmp_path: Path) -> None:
    data = build_gguf(
        {
            "general.architecture": text("llama"),
            "general.file_type": u32(15),
            "tokenizer.ggml.tokens": array(8, [text("a")[4:], text("bc")[4:]]),
        },
        [("token_embd", [256, 4], 12), ("output_norm", [7], 0)],
    )
    path = written(tmp_path, data)
    header = gguf.read_header(path)
    assert (header.version, header.architecture, header.file_type) == (3, "llama", 15)
    assert (header.tensor_count, header.metadata_count) == (2, 3)
    # Q4_K: 144 bytes for 256 elements, so 576 for four rows; 7 floats are 28 bytes.
    assert header.expected_size_bytes == header.data_offset + 576 + 28 == len(data)
    assert header.data_offset % 32 == 0
    assert gguf.cut_off_message(path, header) is None


def test_alignment_of_the_file_is_used(tmp_path: Path) -> None:
    data = build_gguf(
        {"general.alignment": u32(128), "some.key": u32(1)}, [("a", [1], 0), ("b", [1], 0)], alignment=128
    )
    header = gguf.read_header(written(tmp_path, data))
    assert header.data_offset % 128 == 0
    assert header.expected_size_bytes - header.data_offset == 132


def test_a_cut_off_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    data = build_gguf({}, [("a", [1000], 0)])
    path = written(tmp_path, data[:-1])
    message = gguf.cut_off_message(path, gguf.read_header(path))
    assert message == (
        f"{path} is {len(data) - 1} bytes, its header describes {len(data)}: the download was cut off; fetch it again"
    )


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not a GGUF file"),
        (b"<htm", "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "version 1"),
        (b"GGUF" + struct.pack("<I", 4), "version 4"),
        (b"GGUF" + struct.pack(">I", 3), "big endian"),
        (b"GGUF" + struct.pack("<I", 3), "ends inside its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "keys"),
        (build_gguf({}, [])[:-1], "ends inside its header"),
        (build_gguf({"a": struct.pack("<IQ", 8, 2**62)}, []), "ends inside its header"),
        (build_gguf({"a": struct.pack("<IIQ", 9, 4, 2**62)}, []), "ends inside its header"),
        (build_gguf({"a": struct.pack("<IIQ", 9, 8, 2**62)}, []), "ends inside its header"),
        (build_gguf({"a": u32(1)[:4][::-1]}, []), "unknown value type"),
        (build_gguf({"a": struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 6 + bytes(64)}, []), "nested deeper"),
        (build_gguf({"general.architecture": u32(1)}, []), "not text"),
        (build_gguf({"general.architecture": struct.pack("<IQ", 8, 2) + b"\xff\xff"}, []), "UTF-8"),
        (build_gguf({"general.file_type": text("x")}, []), "not a whole number"),
        (build_gguf({"general.alignment": u32(0)}, []), "power of two"),
        (build_gguf({"general.alignment": u32(48)}, []), "power of two"),
        (build_gguf({}, [("a", [1, 1, 1, 1, 1], 0)]), "dimensions"),
        (build_gguf({}, [("a", [100], 12)], check=False), "no multiple of 256"),
        (build_gguf({}, [("a", [2**40, 2**40], 0)], check=False), "claims"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, data: bytes, word: str) -> None:
    message = refusal(tmp_path, data)
    assert word in message
    assert "model.gguf" in message


def test_an_unknown_tensor_type_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(gguf.GgufUnknownTypeError, match="type 99"):
        gguf.read_header(written(tmp_path, build_gguf({}, [("a", [32], 99)], check=False)))


def test_array_items_are_counted_over_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MAX_ARRAY_ITEMS", 5)
    three = array(8, [text("")[4:]] * 3)
    assert "more than 5 items" in refusal(tmp_path, build_gguf({"a": three, "b": three}, []))


def test_a_hostile_length_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with path.open("wb") as stream:
        stream.write(build_gguf({"a": struct.pack("<IQ", 8, 900 << 20)}, []))
        stream.truncate(1 << 30)
    tracemalloc.start()
    header = gguf.read_header(str(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.metadata_count == 1
    assert peak_bytes < 1 << 20


def test_every_tensor_type_holds_whole_blocks() -> None:
    names = [row[0] for row in gguf.TENSOR_TYPES.values()]
    assert len(set(names)) == len(names)
    # No format needs more than 64 bits for an element, nor less than one.
    assert all(1 <= block_bytes * 8 / elements <= 64 for _name, elements, block_bytes in gguf.TENSOR_TYPES.values())


VALID = build_gguf(
    {
        "general.architecture": text("llama"),
        "x": array(9, [struct.pack("<IQ", 4, 1) + bytes(4)]),
        "t": array(8, [text("word")[4:]]),
    },
    [("a", [256, 2], 12), ("b", [5], 1)],
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6),
    keep=st.integers(0, len(VALID)),
)
def test_damaged_headers_give_an_answer_or_an_error(tmp_path: Path, flips: list[tuple[int, int]], keep: int) -> None:
    data = bytearray(VALID)
    for position, value in flips:
        data[position] = value
    path = written(tmp_path, bytes(data[:keep]))
    try:
        header = gguf.read_header(path)
    except gguf.GgufError:
        return
    assert 0 <= header.data_offset <= header.expected_size_bytes <= 2**63
    if not flips:
        assert header.expected_size_bytes == len(VALID)
        assert (gguf.cut_off_message(path, header) is None) == (keep == len(VALID))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=200))
def test_noise_after_the_magic_never_raises_anything_else(tmp_path: Path, tail: bytes) -> None:
    try:
        gguf.read_header(written(tmp_path, b"GGUF\x03\x00\x00\x00" + tail))
    except gguf.GgufError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.lists(
        st.tuples(st.sampled_from(sorted(gguf.TENSOR_TYPES)), st.integers(1, 3), st.integers(1, 4)), max_size=5
    )
)
def test_expected_size_is_the_size_of_what_the_builder_writes(tmp_path: Path, tensors: list[Any]) -> None:
    shapes = [
        (f"t{index}", [gguf.TENSOR_TYPES[kind][1] * blocks, rows], kind)
        for index, (kind, blocks, rows) in enumerate(tensors)
    ]
    data = build_gguf({}, shapes)
    assert gguf.read_header(written(tmp_path, data)).expected_size_bytes == len(data)
