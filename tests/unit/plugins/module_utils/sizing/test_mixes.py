# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mixes against llama-quantize, against published sizes, and against what llama.cpp loaded onto real GPUs."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import mixes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import ModelShape, from_mapping
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import tensor_list
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import model_by_name
from hypothesis import given
from hypothesis import strategies as st

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "mix_totals.json").read_text(encoding="utf-8"))
MIB, GIB = 2**20, 2**30

# GiB of tensor data as llama-quantize --dry-run reports it (files of ggml-org/llama.cpp issue 6745 agree for the 70B).
COLUMNS = ("Q2_K", "Q3_K_M", "IQ4_XS", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
PUBLISHED_GIB = {
    "DeepSeek-R1-Distill-Qwen-1.5B": "0.70 0.86 0.95 0.99 1.04 1.19 1.36 1.76 3.31",
    "DeepSeek-R1-Distill-Qwen-7B": "2.80 3.54 3.95 4.12 4.36 5.07 5.82 7.54 14.19",
    "Llama-3.1-8B": "2.95 3.74 4.17 4.33 4.58 5.33 6.14 7.95 14.96",
    "Qwen2.5-14B": "5.37 6.83 7.62 7.93 8.37 9.78 11.29 14.62 27.51",
    "Qwen2.5-32B": "11.46 14.84 16.64 17.35 18.48 21.66 25.03 32.42 61.03",
    "Llama-3.3-70B": "24.56 31.91 35.63 37.22 39.59 46.51 53.91 69.82 131.42",
    "Qwen2.5-72B": "27.76 35.10 37.40 38.39 44.15 50.70 59.92 71.95 135.43",
    "Llama-3.1-405B": "139.1 181.9 203.6 213.1 226.4 267.0 310.1 401.6 756.0",
    "Qwen3-8B": "3.05 3.84 4.27 4.44 4.68 5.44 6.26 8.11 15.26",
    "Qwen3-32B": "11.49 14.87 16.62 17.35 18.40 21.61 25.03 32.42 61.03",
    "Qwen3-30B-A3B": "10.48 13.70 15.41 16.11 17.28 20.23 23.36 30.25 56.89",
    "Qwen3-235B-A22B": "79.8 104.7 118.0 123.5 132.4 155.4 179.8 232.8 438",
    "Gemma-3-27B": "9.78 12.51 13.86 14.49 15.40 17.94 20.64 26.73 50.31",
    "DeepSeek-V2-Lite": "5.99 7.57 8.05 8.29 9.66 11.04 13.10 15.55 29.26",
    "DeepSeek-R1": "227.4 297.4 334.9 352.1 376.8 442.8 513.0 664.3 1250",
}

# MiB on the GPU and of the embedding in main memory when everything is offloaded, as llama.cpp reports them.
LOADED_MIB = [
    ("Llama-3.1-8B", "Q4_K_M", 4403.49, 281.81),
    ("Llama-2-7B", "Q4_0", 3577.56, 70.31),
    ("DeepSeek-R1-Distill-Qwen-1.5B", "Q4_K_M", 934.70, 125.19),
    ("DeepSeek-R1-Distill-Qwen-7B", "Q4_K_M", 4168.09, 292.36),
    ("DeepSeek-R1-Distill-Qwen-7B", "Q8_0", 7165.44, 552.23),
    ("DeepSeek-R1-Distill-Qwen-7B", "F16", 13486.77, 1039.50),
    ("DeepSeek-R1-Distill-Qwen-14B", "Q4_K_M", 8148.38, 417.66),
    ("DeepSeek-R1-Distill-Qwen-14B", "Q8_0", 14179.61, 788.91),
    ("DeepSeek-R1-Distill-Qwen-32B", "Q4_K_M", 18508.35, 417.66),
    ("Llama-3.3-70B", "Q4_K_M", 39979.48, 563.62),
    ("Llama-3.2-3B", "Q4_K_M", 1918.35, 308.23),
    ("Qwen2.5-72B", "Q4_K_M", 44545.19, None),
    ("Qwen3-8B", "Q4_K_M", 4455.34, None),
    ("Qwen3-32B", "Q4_K_M", 18423.65, None),
    ("Qwen3-30B-A3B", "Q4_K_M", 17524.43, 166.92),
    ("Qwen3-235B-A22B", "Q4_K_M", 135229.12, None),
    ("gpt-oss-20b", "MXFP4_MOE", 10949.35, None),
    ("gpt-oss-120b", "MXFP4_MOE", 59851.64, None),
    ("Gemma-3-4B", "Q4_K_M", 2368.31, None),
    ("Gemma-3-12B", "Q4_K_M", 6956.32, None),
    ("Gemma-3-27B", "Q4_K_M", 15773.97, 1102.77),
    ("DeepSeek-R1", "Q4_K_M", 385316.27, None),
    ("DeepSeek-R1-MLA", "Q4_K_M", 385253.52, None),
    ("DeepSeek-V2-Lite-MLA", "Q4_K_M", 9771.36, 112.50),
]


@cache
def fixture_shape(name: str) -> ModelShape:
    return from_mapping(FIXTURE["shapes"][name])


def model(name: str) -> ModelShape:
    return from_mapping(model_by_name(name)["shape"])


@pytest.mark.parametrize("name", sorted(FIXTURE["totals"]))
def test_bytes_by_type_equal_llama_quantize(name: str) -> None:
    shape = fixture_shape(name)
    tensors = tensor_list(shape)
    assert set(FIXTURE["totals"][name]) == set(mixes.MIXES) - {"F32"}
    for mix, expected in FIXTURE["totals"][name].items():
        totals: Counter[str] = Counter()
        for tensor, kind in zip(tensors, mixes.tensor_types(shape, mix), strict=True):
            totals[kind] += mixes.tensor_bytes(kind, tensor.dimensions)
        assert totals == expected, mix


@pytest.mark.parametrize("name", sorted(PUBLISHED_GIB))
@pytest.mark.parametrize(("column", "mix"), list(enumerate(COLUMNS)))
def test_sizes_as_published(name: str, column: int, mix: str) -> None:
    cell = PUBLISHED_GIB[name].split()[column]
    decimals = len(cell.partition(".")[2])
    assert mixes.data_bytes(model(name), mix) / GIB == pytest.approx(
        float(cell), abs={0: 0.5, 1: 0.05, 2: 0.01}[decimals]
    )


@pytest.mark.parametrize(("name", "mix", "device_mib", "input_mib"), LOADED_MIB)
def test_weights_as_llama_cpp_loads_them(name: str, mix: str, device_mib: float, input_mib: float | None) -> None:
    weights = mixes.weights(model(name), mix)
    assert weights.device_bytes / MIB == pytest.approx(device_mib, abs=0.1)
    if input_mib is not None:
        assert weights.input_bytes / MIB == pytest.approx(input_mib, abs=0.1)


@pytest.mark.parametrize(
    ("name", "gpu_layers", "device_mib", "host_mib"),
    [
        ("DeepSeek-R1-Distill-Qwen-7B", 27, 3883.68, 576.77),
        ("DeepSeek-R1-Distill-Qwen-32B", 32, 9297.10, 9628.91),
        ("DeepSeek-R1-Distill-Qwen-32B", 60, 17019.74, 1906.27),
        ("Llama-3.3-70B", 68, 33351.74, 7191.38),
        ("Llama-3.1-8B", 20, 2773.80, 1911.50),
    ],
)
def test_part_of_the_layers_on_the_gpu(name: str, gpu_layers: int, device_mib: float, host_mib: float) -> None:
    weights = mixes.weights(model(name), "Q4_K_M")
    split = len(weights.per_layer_bytes) - (gpu_layers - 1)
    device = sum(weights.per_layer_bytes[split:]) + weights.output_bytes
    assert device / MIB == pytest.approx(device_mib, abs=0.1)
    assert (sum(weights.per_layer_bytes[:split]) + weights.input_bytes) / MIB == pytest.approx(host_mib, abs=0.1)


def test_experts_in_main_memory() -> None:
    # Measured: 24 layers without their experts, one of them without its router too, as llama.cpp splits a layer.
    weights = mixes.weights(model("Qwen3-30B-A3B"), "Q4_K_M")
    split = 24
    whole = weights.per_layer_ffn_up_bytes[split] + weights.per_layer_ffn_down_bytes[split]
    moved = sum(weights.per_layer_expert_bytes[split + 1 :]) + whole + weights.per_layer_ffn_gate_bytes[split]
    assert (weights.device_bytes - moved) / MIB == pytest.approx(9153.43, abs=0.1)


def test_parts_of_the_weights_add_up() -> None:
    for name in FIXTURE["shapes"]:
        shape = fixture_shape(name)
        weights = mixes.weights(shape, "Q4_K_M")
        duplicated = weights.input_bytes if shape.tied_embeddings else 0
        total = sum(FIXTURE["totals"][name]["Q4_K_M"].values())
        assert weights.device_bytes + weights.input_bytes - duplicated == total
        assert 0 <= weights.file_bytes - total < 32 * len(tensor_list(shape))
        assert mixes.data_bytes(shape, "Q4_K_M") == weights.file_bytes
        for layer, everything in enumerate(weights.per_layer_bytes):
            ffn = weights.per_layer_ffn_up_bytes[layer] + weights.per_layer_ffn_gate_bytes[layer]
            ffn += weights.per_layer_ffn_down_bytes[layer]
            assert weights.per_layer_expert_bytes[layer] <= ffn < everything
            assert bool(weights.per_layer_expert_bytes[layer]) == shape.is_moe_layer(layer)


def test_a_dense_layer_in_bytes() -> None:
    weights = mixes.weights(model("Llama-2-7B"), "F16")
    assert weights.input_bytes == 32000 * 4096 * 2
    assert weights.output_bytes == 32000 * 4096 * 2 + 4096 * 4
    assert set(weights.per_layer_ffn_up_bytes) == set(weights.per_layer_ffn_down_bytes) == {4096 * 11008 * 2}
    assert set(weights.per_layer_bytes) == {4 * 4096 * 4096 * 2 + 3 * 4096 * 11008 * 2 + 2 * 4096 * 4}
    assert weights.per_layer_expert_bytes == (0,) * 32


def test_importance_matrix_changes_few_types() -> None:
    def differing(mix: str, name: str = "Llama-3.1-8B") -> dict[str, tuple[str, str]]:
        shape = model(name)
        names = [tensor.name for tensor in tensor_list(shape)]
        pairs = zip(names, mixes.tensor_types(shape, mix), mixes.tensor_types(shape, mix, True), strict=True)
        return {name: (plain, made) for name, plain, made in pairs if plain != made}

    assert differing("Q4_K_M") == {}
    assert differing("IQ4_XS") == {f"blk.{n}.ffn_down.weight": ("Q5_K", "IQ4_XS") for n in range(4)}
    assert differing("Q4_0") == {f"blk.{n}.ffn_down.weight": ("Q4_0", "Q4_1") for n in range(4)}
    assert set(differing("IQ3_XXS").values()) == {("Q4_K", "IQ3_XXS"), ("Q3_K", "IQ3_XXS")}
    one_query_per_value = differing("IQ3_XXS", "Llama-2-7B")
    assert one_query_per_value["blk.0.attn_v.weight"] == ("IQ3_S", "IQ3_XXS")


def test_overrides_and_a_separate_output() -> None:
    shape = model("Qwen3-0.6B")
    overrides = ((r"attn_v\.weight", "F16"), (r"blk\.0\.attn", "Q8_0"))
    types = mixes.tensor_types(shape, "Q4_K_M", False, overrides)
    by_name = dict(zip([tensor.name for tensor in tensor_list(shape)], types, strict=True))
    assert by_name["blk.0.attn_v.weight"] == by_name["blk.27.attn_v.weight"] == "F16"
    assert by_name["blk.0.attn_norm.weight"] == "F32"
    assert by_name["blk.0.attn_q.weight"] == "Q8_0" and by_name["blk.1.attn_q.weight"] == "Q4_K"
    assert by_name["token_embd.weight"] == "Q6_K"
    separate = mixes.tensor_types(shape, "Q4_K_M", False, (), True)
    assert len(separate) == len(types) + 1 and separate[-1] == "Q6_K"
    weights = mixes.weights(shape, "Q4_K_M", separate_output=True)
    assert weights.input_bytes == 151936 * 1024 // 256 * 144
    assert weights.output_bytes == 151936 * 1024 // 256 * 210 + 1024 * 4


def test_overrides_keep_to_whole_blocks() -> None:
    shape = model("SmolLM2-135M")
    types = mixes.tensor_types(shape, "Q8_0", False, ((r"attn_q\.weight", "Q4_K"),))
    assert "Q5_0" in types and "Q4_K" not in types


@pytest.mark.parametrize(
    ("overrides", "part"),
    [(((r"attn_v", "Q4_Z"),), "did you mean"), (((r"attn_(v", "F16"),), "is no regular expression")],
)
def test_broken_overrides_are_refused(overrides: mixes.Overrides, part: str) -> None:
    with pytest.raises(SizingError, match=part):
        mixes.weights(model("SmolLM2-135M"), "Q8_0", False, overrides)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("q4_K_M", "Q4_K_M"), ("q4_k", "Q4_K_M"), ("iq4-xs", "IQ4_XS"), ("fp16", "F16"), (" Q8_0 ", "Q8_0")],
)
def test_names_of_mixes(said: str, meant: str) -> None:
    assert mixes.mix_name(said) == meant


def test_unknown_mix_is_refused_with_the_nearest() -> None:
    with pytest.raises(SizingError, match="did you mean Q4_K_M"):
        mixes.weights(model("SmolLM2-135M"), "Q4_K_MM")


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "gpt-oss-20b", "DeepSeek-V2-Lite", "Gemma-3-1B"])
def test_a_files_own_list_gives_the_same(name: str) -> None:
    shape = model(name)
    rows = []
    for tensor, kind in zip(tensor_list(shape), mixes.tensor_types(shape, "Q5_K_M"), strict=True):
        size = mixes.tensor_bytes(kind, tensor.dimensions)
        rows.append(mixes.TensorBytes(tensor.name, tensor.dimensions, kind, size, tensor.device_class, tensor.layer))
    assert mixes.weights_from_tensors(rows, shape.tied_embeddings) == mixes.weights(shape, "Q5_K_M")
    one_more = mixes.weights_from_tensors(rows, shape.tied_embeddings, shape.block_count + 1)
    assert one_more.per_layer_bytes[-1] == 0 and len(one_more.per_layer_bytes) == shape.block_count + 1


def test_each_tensor_of_a_file_begins_at_a_multiple_of_32() -> None:
    rows = [mixes.TensorBytes(f"blk.{n}.attn_norm.weight", (5,), "F32", 20, "layer", n) for n in range(2)]
    weights = mixes.weights_from_tensors(rows, False)
    assert (weights.file_bytes, weights.device_bytes) == (64, 40)
    assert [mixes.padded(size) for size in (0, 1, 32, 33)] == [0, 32, 32, 64]


def test_rows_of_no_whole_blocks_fall_back_twice() -> None:
    mapping = {**model_by_name("SmolLM2-135M")["shape"], "feed_forward_length": 1000}
    shape = from_mapping(mapping)
    types = dict(zip([t.name for t in tensor_list(shape)], mixes.tensor_types(shape, "Q4_K_M"), strict=True))
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q5_0"
    assert types["blk.0.attn_v.weight"] == "Q8_0"


def test_separate_output_means_nothing_to_untied_models() -> None:
    shape = model("Llama-2-7B")
    assert mixes.tensor_types(shape, "Q4_K_M", separate_output=True) == mixes.tensor_types(shape, "Q4_K_M")
    assert mixes.weights(shape, "Q4_K_M", separate_output=True) == mixes.weights(shape, "Q4_K_M")


@given(st.sampled_from(sorted(FIXTURE["shapes"])), st.sampled_from(mixes.MIXES), st.integers(1, 64), st.integers(1, 40))
def test_any_width_fits_some_type(name: str, mix: str, width_blocks: int, layers: int) -> None:
    mapping: dict[str, Any] = {**FIXTURE["shapes"][name], "block_count": layers, "leading_dense_block_count": 0}
    mapping["feed_forward_length"] = width_blocks * 16
    shape = from_mapping(mapping)
    weights = mixes.weights(shape, mix)
    plain = mixes.weights(shape, "F32")
    assert 0 < weights.file_bytes <= plain.file_bytes
    assert len(weights.per_layer_bytes) == layers
