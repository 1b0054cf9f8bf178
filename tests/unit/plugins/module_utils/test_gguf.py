# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GGUF headers: right answers for files built here, one sentence for everything else, and little memory for attacks."""

from __future__ import annotations

import io
import json
import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import ggml
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build
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
        (build_gguf({}, [("a", [2**63, 0], 0)], check=False), "in one dimension"),
        (build_gguf({}, [("a", [8], 0), ("b", [8], 0)], check=False), "begins inside tensor 'a'"),
        (build_gguf({}, [("a", [1], 0), ("a", [1], 0)]), "'a' stands there twice"),
        (build_gguf({"k": u32(1), "l": u32(1)}, []).replace(b"l", b"k"), "'k' stands there twice"),
        (build_gguf({"general.alignment": u32(64)}, [("a", [1], 0), ("b", [1], 0)]), "no multiple of 64"),
        (build_gguf({"split.count": text("two")}, []), "split.count has type 8, not a whole number"),
        (build_gguf({"split.count": u32(2), "split.no": u32(2)}, []), "part 2 of 2"),
        (build_gguf({"split.count": u32(2)}, []), "part None of 2"),
        (build_gguf({"a": struct.pack("<IIQ", 9, 77, 1)}, []), "unknown value type 77"),
        (build_gguf({}, [("a" * 70_000, [1], 0)]), "tensor name of 70000 bytes"),
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
    names = [row[0] for row in ggml.TENSOR_TYPES.values()]
    assert len(set(names)) == len(names)
    # No format needs more than 64 bits for an element, nor less than one.
    assert all(1 <= block_bytes * 8 / elements <= 64 for _name, elements, block_bytes in ggml.TENSOR_TYPES.values())


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
        st.tuples(st.sampled_from(sorted(ggml.TENSOR_TYPES)), st.integers(1, 3), st.integers(1, 4)), max_size=5
    )
)
def test_expected_size_is_the_size_of_what_the_builder_writes(tmp_path: Path, tensors: list[Any]) -> None:
    shapes = [
        (f"t{index}", [ggml.TENSOR_TYPES[kind][1] * blocks, rows], kind)
        for index, (kind, blocks, rows) in enumerate(tensors)
    ]
    data = build_gguf({}, shapes)
    assert gguf.read_header(written(tmp_path, data)).expected_size_bytes == len(data)


def model_of(metadata: dict[str, bytes], tensors: list[build.Tensor], **ways: Any) -> gguf.GgufModel:
    return gguf.read_model(io.BytesIO(build_gguf(metadata, tensors, **ways)), "test.gguf")


SAMPLES = {
    "dense": build_gguf(*build.dense()),
    "tied": build_gguf(*build.dense(tied=True), data=False),
    "moe": build_gguf(*build.moe()),
    "nested": VALID,
    "empty": build_gguf({}, []),
}


def test_a_dense_model() -> None:
    model = model_of(*build.dense(layers=2, tokens=64))
    assert (model.version, model.architecture, model.name) == (3, "llama", "Small dense")
    assert (model.file_type, model.quantization, model.split) == (15, "Q4_K_M", None)
    assert model.shape() == {
        "architecture": "llama",
        "block_count": 2,
        "embedding_length": 256,
        "feed_forward_length": 512,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "rope.freq_base": 500000.0,
        "vocab_size": 64,
        "tied_embeddings": False,
    }
    # Two layers of a norm, a full, a half and a double matrix, 256 wide.
    assert model.parameter_count == 2 * (256 + 256 * 256 + 256 * 128 + 512 * 256) + 256 + 2 * 256 * 64
    q4_k = 144 * (64 + 2 * (256 + 128 + 512))
    assert model.bytes_by_type() == {"Q4_K": q4_k, "F32": 3 * 1024, "Q6_K": 64 * 210}
    layer_bytes = 2 * (1024 + 144 * (256 + 128 + 512))
    assert model.bytes_by_class() == {
        "input": 64 * 144,
        "layer": layer_bytes,
        "expert": 0,
        "output": 1024 + 64 * 210,
    }


def test_values_keep_their_types_and_long_ones_their_lengths() -> None:
    long = "x" * 4095 + "\u00e9" * 10
    metadata = build.dense()[0]
    metadata.update(
        {
            "text": text("caf\u00e9"),
            "long": text(long),
            "tokenizer.chat_template": text("y" * 5000),
            "tokenizer.chat_template.tool_use": text("y" * 4097),
            "tokenizer.chat_templates": text("z" * 4097),
            "whole": text("z" * 4096),
            "yes": build.boolean(True),
            "nan": build.f32(math.nan),
            "numbers": build.numbers("f", [0.5, math.inf, -1.0]),
            "most": build.numbers("i", range(-1, 1023)),
            "more": build.numbers("i", range(1025)),
            "none": build.texts([]),
            "mixed": array(9, [struct.pack("<IQ", 4, 1) + bytes(4), build.texts(["a", "b"])[4:]]),
            "u64": struct.pack("<IQ", 10, 2**64 - 1),
            "i8": struct.pack("<Ib", 1, -5),
        }
    )
    found = model_of(metadata, []).metadata
    assert found["text"] == "caf\u00e9"
    assert found["long"] == gguf.GgufText("x" * 4095, len(long.encode()))
    assert found["tokenizer.chat_template"] == gguf.GgufText("", 5000)
    assert found["tokenizer.chat_template.tool_use"] == gguf.GgufText("", 4097)
    assert found["tokenizer.chat_templates"] == gguf.GgufText("z" * 4096, 4097)
    assert found["whole"] == "z" * 4096
    assert found["yes"] is True and found["nan"] is None
    assert found["numbers"] == (0.5, None, -1.0)
    assert found["most"] == tuple(range(-1, 1023))
    assert found["more"] == gguf.GgufArray("int32", 1025)
    assert found["none"] == gguf.GgufArray("string", 0)
    assert found["mixed"] == gguf.GgufArray("array", 2)
    assert (found["u64"], found["i8"]) == (2**64 - 1, -5)
    assert found["tokenizer.ggml.tokens"] == gguf.GgufArray("string", 64)


def test_values_by_layer_stay_whole() -> None:
    shape = model_of(*build.moe(layers=4)).shape()
    assert shape["attention.head_count_kv"] == (2, 2, 2, 2)
    assert shape["attention.sliding_window_pattern"] == (True, False, True, False)
    assert shape["tied_embeddings"] is True and shape["vocab_size"] == 48


@pytest.mark.parametrize(
    ("metadata", "tensors", "size"),
    [
        (
            {"a.vocab_size": u32(9), "tokenizer.ggml.tokens": build.texts(["x"] * 3)},
            [("token_embd.weight", [1, 5], 0)],
            3,
        ),
        ({"a.vocab_size": u32(9)}, [("token_embd.weight", [1, 5], 0)], 5),
        ({"a.vocab_size": u32(9)}, [], 9),
        ({}, [], None),
    ],
)
def test_the_vocabulary_is_what_the_file_holds(
    metadata: dict[str, bytes], tensors: list[build.Tensor], size: int | None
) -> None:
    assert model_of({"general.architecture": text("a"), **metadata}, tensors).shape()["vocab_size"] == size


@pytest.mark.parametrize(
    ("name", "device_class", "layer"),
    [
        ("token_embd.weight", "input", None),
        ("per_layer_token_embd.weight", "input", None),
        ("token_types.weight", "input", None),
        ("token_embd_norm.weight", "output", None),
        ("per_layer_model_proj.weight", "output", None),
        ("output.weight", "output", None),
        ("rope_freqs.weight", "output", None),
        ("blk.0.attn_q.weight", "layer", 0),
        ("blk.79.ffn_gate_inp.weight", "layer", 79),
        ("blk.12.ffn_up_exps.weight", "expert", 12),
        ("blk.12.ffn_gate_up_exps.scale", "expert", 12),
        ("blk.3.ffn_down_chexps.weight", "expert", 3),
        ("blk.3.ffn_down_shexp.weight", "layer", 3),
        ("xblk.3.ffn_down_exps.weight", "output", None),
        ("blk.1234567.attn_q.weight", "output", None),
        ("blk.\u0663.attn_q.weight", "output", None),
    ],
)
def test_device_classes(name: str, device_class: str, layer: int | None) -> None:
    (tensor,) = model_of({}, [(name, [1], 0)]).tensors
    assert (tensor.name, tensor.device_class, tensor.layer) == (name, device_class, layer)


def test_a_part_of_a_model_says_so() -> None:
    metadata = {"split.count": build.u16(3), "split.no": build.u16(0), "split.tensors.count": u32(7)}
    model = model_of(metadata, [("a", [1], 0)])
    assert model.split == gguf.GgufSplit(3, 0, 7)
    # The output may lie in another part.
    assert model.tied_embeddings is None
    advice = gguf.split_advice("m.gguf", model.to_info()["split"])
    assert advice is not None and advice.startswith("m.gguf is part 1 of 3 of a model") and "other 2" in advice
    assert model_of({"split.count": u32(1), "split.no": u32(0)}, []).split is None
    assert gguf.split_advice("m.gguf", None) is None


def test_tensors_may_lie_in_any_order_with_gaps() -> None:
    head = struct.pack("<IQQ", 3, 2, 0)
    entries = [
        struct.pack("<Q", 1) + name + struct.pack("<IQIQ", 1, 8, 0, offset) for name, offset in ((b"a", 96), (b"b", 0))
    ]
    model = gguf.read_model(io.BytesIO(b"GGUF" + head + b"".join(entries)))
    assert model.expected_size_bytes - model.data_offset_bytes == 96 + 32
    assert [tensor.offset_bytes for tensor in model.tensors] == [96, 0]


class Trickle(io.RawIOBase):
    """A stream that cannot seek and gives little at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._most = data, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = min(size, self._most)
        piece, self._data = self._data[:count], self._data[count:]
        return piece


def trickle(data: bytes, most: int) -> BinaryIO:
    return cast(BinaryIO, Trickle(data, most))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("window_bytes", [8, 13, 64, 4096])
def test_the_window_makes_no_difference(sample: str, window_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = gguf.read_model(io.BytesIO(SAMPLES[sample]))
    monkeypatch.setattr(gguf, "WINDOW_BYTES", window_bytes)
    assert gguf.read_model(io.BytesIO(SAMPLES[sample])) == expected
    assert gguf.read_model(trickle(SAMPLES[sample], 5)) == expected
    assert gguf.read_model(trickle(SAMPLES[sample], 7), "x", len(SAMPLES[sample])) == expected


@pytest.mark.parametrize("seekable", [True, False])
def test_every_shorter_header_is_refused(seekable: bool) -> None:
    data = build_gguf(*build.dense(layers=1, tokens=3), data=False)
    unpadded = data.rstrip(b"\0")
    for length in range(4, len(unpadded) - 16):
        with pytest.raises(gguf.GgufError, match="ends inside its header"):
            gguf.read_model(io.BytesIO(data[:length]) if seekable else trickle(data[:length], 50), "m.gguf")


def test_a_stream_that_becomes_shorter_is_told() -> None:
    with pytest.raises(gguf.GgufError, match="became shorter"):
        gguf.read_model(trickle(SAMPLES["dense"][:100], 50), "m.gguf", len(SAMPLES["dense"]))


def test_what_is_left_out_is_not_read() -> None:
    read_bytes = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            read_bytes.append(len(data))
            return data

    metadata = {"scores": build.numbers("f", [0.5] * 1_000_000), "template": text("t" * 4_000_000)}
    assert gguf.read_model(Counted(build_gguf(metadata, []))).metadata["scores"] == gguf.GgufArray("float32", 10**6)
    assert sum(read_bytes) <= 3 * gguf.WINDOW_BYTES


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MAX_KEPT_BYTES", 1 << 20)
    few = [(f"t{index}", [1], 0) for index in range(1000)]
    assert len(model_of({}, few).tensors) == 1000
    for metadata, tensors in (
        ({}, [(f"t{index}", [1], 0) for index in range(2000)]),
        ({}, [(f"{index}" * 1000, [1], 0) for index in range(1, 300)]),
        ({f"{index}": text("x" * 4096) for index in range(90)}, []),
        ({f"{index}": build.numbers("i", [1] * 1024) for index in range(30)}, []),
        ({f"{index}" * 20_000: u32(1) for index in range(10, 30)}, []),
    ):
        data = build_gguf(metadata, tensors)
        tracemalloc.start()
        with pytest.raises(gguf.GgufError, match="more than 1 MiB of memory"):
            gguf.read_model(io.BytesIO(data))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The budget, the window twice and what the refused item itself took.
        assert peak_bytes < 3 << 20


def test_many_small_text_arrays_cost_no_copies_of_the_window() -> None:
    # One copy of the rest of the window for each of 20,000 arrays would be gigabytes.
    count = 20_000
    nested = array(9, [build.texts(["a"])[4:]] * count)
    seen: list[int] = []

    class Watched(bytes):
        def __getitem__(self, index: Any) -> Any:
            if isinstance(index, slice):
                seen.append(len(range(*index.indices(len(self)))))
                return Watched(super().__getitem__(index))
            return super().__getitem__(index)

    reader = gguf._Reader(io.BytesIO(b""), "m", 0)
    data = build_gguf({"a": nested}, [])
    reader.size_bytes, reader._window = len(data), Watched(data)
    assert gguf._parse(reader).metadata["a"] == gguf.GgufArray("array", count)
    assert sum(seen) < 2 * len(data)


# What the module returns, and back


def info_of(sample: str) -> dict[str, Any]:
    info = gguf.read_model(io.BytesIO(SAMPLES[sample])).to_info(path="m.gguf", file_size_bytes=len(SAMPLES[sample]))
    back: dict[str, Any] = json.loads(json.dumps(info, allow_nan=False))
    return back


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_result_that_went_through_json_gives_the_same_model(sample: str) -> None:
    assert gguf.GgufModel.from_info(info_of(sample)) == gguf.read_model(io.BytesIO(SAMPLES[sample]))


def test_completeness_is_told_where_the_size_is_known() -> None:
    model = gguf.read_model(io.BytesIO(SAMPLES["dense"]))
    sizes = (None, model.expected_size_bytes, model.expected_size_bytes - 1)
    assert [model.to_info(file_size_bytes=size)["complete"] for size in sizes] == [None, True, False]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The result for the dense sample with one value replaced, or removed where C(value) is Ellipsis."""
    info = info_of("dense")
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    inner: Any = info
    for part in parents:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return info


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("versoin", 3, "did you mean version"),
        ("version", 1, "version is 1"),
        ("version", True, "version is True"),
        ("version", ..., "version is None"),
        ("architecture", "qwen3", "metadata says something else"),
        ("architecture", None, "architecture is None, not text"),
        ("metadata", [], "metadata is no mapping"),
        ("metadata/general.alignment", 48, "power of two"),
        ("metadata/general.alignment", "32", "not a whole number"),
        ("metadata/general.file_type", 1.5, "not a whole number"),
        ("metadata/x", {"count": 3}, "neither an array nor a long text"),
        ("metadata/x", {"count": -3, "item_type": "string"}, "count is -3"),
        ("metadata/x", {"count": 3, "item_type": "strings"}, "neither an array"),
        ("metadata/x", {"text": 3, "size_bytes": 3}, "neither an array"),
        ("metadata/x", ["a"], "no finite number"),
        ("metadata/x", math.nan, "no finite number"),
        ("metadata/x", [1] * 1025, "up to 1024"),
        ("metadata/split.count", 2, "part None of 2"),
        ("data_offset_bytes", -1, "data_offset_bytes is -1"),
        ("data_offset_bytes", 2**63 - 1, "end beyond any file"),
        ("expected_size_bytes", 5, "the tensors end at"),
        ("tensors", None, "tensors: true"),
        ("tensors", {}, "tensors is no list"),
        ("tensors/0", "x", "an entry of tensors is no mapping"),
        ("tensors/0/name", 4, "name is 4, not text"),
        ("tensors/1/name", "blk.0.attn_q.weight", "'blk.0.attn_q.weight' stands there twice"),
        ("tensors/0/colour", "red", "'colour' is no key of a tensor"),
        ("tensors/0/type", "Q4K", "did you mean Q4_K?"),
        ("tensors/0/type", "Q6_K", "its dimensions and type make 13440"),
        ("tensors/0/dimensions", [256, 63], "make 9072"),
        ("tensors/0/dimensions", [255, 64], "no multiple of 256"),
        ("tensors/0/dimensions", [256, -64], "no whole numbers"),
        ("tensors/0/dimensions", [256.0, 64], "no whole numbers"),
        ("tensors/0/dimensions", [1, 1, 1, 1, 1], "up to 4"),
        ("tensors/0/dimensions", [2**64, 64], "in one dimension"),
        ("tensors/0/offset_bytes", 7, "no multiple of 32"),
        ("tensors/1/offset_bytes", 32, "begins inside tensor"),
        ("tensors/0/size_bytes", ..., "size_bytes is None"),
        ("tensors/0/device_class", "layer", "its name makes 'input'"),
        ("tensors/0/layer", 3, "its name makes None"),
    ],
)
def test_a_malformed_result_is_refused(path: str, value: Any, words: str) -> None:
    with pytest.raises(SizingError) as caught:
        gguf.GgufModel.from_info(changed(path, value), "gguf of m1")
    assert words in str(caught.value) and "gguf of m1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_mapping_at_all_is_refused() -> None:
    with pytest.raises(SizingError, match="no mapping"):
        gguf.GgufModel.from_info([])  # type: ignore[arg-type]


# From builder to reader

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
VALUES = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: (u32(number), number)),
    st.booleans().map(lambda flag: (build.boolean(flag), flag)),
    st.text(st.characters(codec="utf-8"), max_size=30).map(lambda words: (text(words), words)),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8).map(
        lambda found: (build.numbers("i", found), tuple(found)),
    ),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=8).map(
        lambda words: (build.texts(words), gguf.GgufArray("string", len(words))),
    ),
)
TENSORS = st.tuples(st.sampled_from(sorted(ggml.TENSOR_TYPES)), st.lists(st.integers(0, 5), max_size=4))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metadata=st.dictionaries(NAMES.map("my.".__add__), VALUES, max_size=8),
    tensors=st.dictionaries(NAMES, TENSORS, max_size=6),
    alignment=st.sampled_from([8, 32, 256]),
    window_bytes=st.integers(8, 200),
)
def test_reader_gives_back_what_the_builder_wrote(
    metadata: dict[str, Any],
    tensors: dict[str, Any],
    alignment: int,
    window_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gguf, "WINDOW_BYTES", window_bytes)
    wanted = []
    for name, (type_id, extents) in tensors.items():
        row = ggml.TENSOR_TYPES[type_id][1]
        # One dimension at least, so that a row has whole blocks.
        wanted.append((name, [row * (extents[0] if extents else 1), *extents[1:]], type_id))
    raw = {"general.alignment": u32(alignment), **{key: value[0] for key, value in metadata.items()}}
    data = build_gguf(raw, wanted, alignment=alignment)
    model = gguf.read_model(io.BytesIO(data))
    assert dict(model.metadata) == {
        "general.alignment": alignment,
        **{key: value[1] for key, value in metadata.items()},
    }
    assert [(tensor.name, list(tensor.dimensions), tensor.type_name) for tensor in model.tensors] == [
        (name, extents, ggml.TENSOR_TYPES[type_id][0]) for name, extents, type_id in wanted
    ]
    assert [tensor.size_bytes for tensor in model.tensors] == [
        build.size_bytes(extents, type_id) for _name, extents, type_id in wanted
    ]
    # Without any data the builder leaves out the padding too.
    assert model.expected_size_bytes == len(data) or sum(model.bytes_by_type().values()) == 0
    assert gguf.GgufModel.from_info(json.loads(json.dumps(model.to_info()))) == model


def test_file_types_and_names() -> None:
    assert ggml.FILE_TYPES[15] == "Q4_K_M" and ggml.FILE_TYPES[38] == "MXFP4_MOE"
    assert len(set(ggml.FILE_TYPES.values())) == len(ggml.FILE_TYPES)
    assert model_of({"general.file_type": u32(1024 + 7)}, []).quantization == "Q8_0"
    assert model_of({"general.file_type": u32(5)}, []).quantization is None
    assert model_of({}, []).quantization is None


def test_row_bytes() -> None:
    assert ggml.row_bytes("Q4_K", 512) == 288
    assert ggml.row_bytes("F16", 0) == 0
    assert ggml.BY_NAME["Q8_0"] == ggml.GgmlType("Q8_0", 8, 32, 34)
    for elements in (100, -256):
        with pytest.raises(SizingError, match="multiple of 256"):
            ggml.row_bytes("Q4_K", elements)
    with pytest.raises(SizingError, match="did you mean Q4_K"):
        ggml.row_bytes("q4k", 256)
