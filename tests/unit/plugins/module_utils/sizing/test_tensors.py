# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of tensors: counts and names as a loader of llama.cpp accepted them, and where each tensor goes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import ARCHITECTURES, ModelShape, from_mapping
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import (
    active_parameter_count,
    fixed_type,
    place,
    tensor_list,
)

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "mix_totals.json").read_text(encoding="utf-8"))

# Tensors in the file: what llama-quantize counted for the same shapes.
COUNTS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": 339,
    "DeepSeek-R1-Distill-Llama-70B": 724,
    "DeepSeek-R1-0528-Qwen3-8B": 399,
    "DeepSeek-R1": 1025,
    "DeepSeek-R1-MLA": 1086,
    "DeepSeek-V2-Lite": 377,
    "DeepSeek-V2-Lite-MLA": 404,
    "Llama-3.2-1B": 147,
    "Qwen2.5-0.5B": 290,
    "Qwen2.5-72B": 963,
    "Qwen3-30B-A3B": 579,
    "gpt-oss-20b": 459,
    "Gemma-3-1B": 340,
    "SmolLM2-135M": 272,
    "Mixtral-8x7B": 323,
    "gemma2-27b": 508,
    "phi3-medium-128k": 245,
    "granite-8b": 362,
    "glm4-32b": 613,
    "command-r-plus": 642,
    "ministral3-8b": 309,
    "qwen2moe-a2.7b": 411,
    "llama-65b": 723,
    "deepseek-v2-236b": 959,
    "qwen35-27b": 851,
    "qwen35moe-35b": 733,
    "qwen3next-80b": 843,
}


@cache
def model(name: str) -> ModelShape:
    return from_mapping(FIXTURE["shapes"][name])


def names(name: str) -> set[str]:
    return {tensor.name for tensor in tensor_list(model(name))}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_number_of_tensors(name: str) -> None:
    tensors = tensor_list(model(name))
    assert len(tensors) == len({tensor.name for tensor in tensors}) == COUNTS[name]


def test_every_architecture_is_listed() -> None:
    assert {model(name).architecture for name in COUNTS} == ARCHITECTURES


def test_order_is_outside_the_layers_first_then_by_name() -> None:
    tensors = tensor_list(model("Mixtral-8x7B"))
    keys = [(-1 if tensor.layer is None else tensor.layer, tensor.name) for tensor in tensors]
    assert keys == sorted(keys)


def test_a_dense_layer_of_qwen2_in_full() -> None:
    layer = {t.name[6:]: (t.dimensions, t.fixed_type) for t in tensor_list(model("Qwen2.5-0.5B")) if t.layer == 5}
    assert layer == {
        "attn_norm.weight": ((896,), "F32"),
        "attn_q.weight": ((896, 896), ""),
        "attn_q.bias": ((896,), "F32"),
        "attn_k.weight": ((896, 128), ""),
        "attn_k.bias": ((128,), "F32"),
        "attn_v.weight": ((896, 128), ""),
        "attn_v.bias": ((128,), "F32"),
        "attn_output.weight": ((896, 896), ""),
        "ffn_norm.weight": ((896,), "F32"),
        "ffn_gate.weight": ((896, 4864), ""),
        "ffn_up.weight": ((896, 4864), ""),
        "ffn_down.weight": ((4864, 896), ""),
    }


def test_both_forms_of_latent_attention() -> None:
    new = {t.name: t.dimensions for t in tensor_list(model("DeepSeek-R1-MLA"))}
    assert new["blk.0.attn_k_b.weight"] == (128, 512, 128)
    assert new["blk.0.attn_v_b.weight"] == (512, 128, 128)
    assert new["blk.0.attn_q_b.weight"] == (1536, 128 * 192)
    assert new["blk.3.exp_probs_b.bias"] == (256,)
    assert "blk.2.exp_probs_b.bias" not in new and "blk.2.ffn_down.weight" in new
    old = {t.name: t.dimensions for t in tensor_list(model("DeepSeek-V2-Lite"))}
    assert old["blk.0.attn_kv_b.weight"] == (512, 16 * 256)
    assert old["blk.0.attn_q.weight"] == (2048, 16 * 192)
    assert "blk.1.exp_probs_b.bias" not in old
    assert old["blk.1.ffn_up_shexp.weight"] == (2048, 2816)


def test_tied_models_have_no_output_matrix() -> None:
    assert "output.weight" not in names("Llama-3.2-1B")
    assert "output.weight" in names("DeepSeek-R1-Distill-Llama-70B")


def test_scaled_rope_frequencies_only_since_llama_3_1() -> None:
    tensors = {t.name: t for t in tensor_list(model("DeepSeek-R1-Distill-Llama-70B"))}
    assert tensors["rope_freqs.weight"].dimensions == (64,)
    assert tensors["rope_freqs.weight"].fixed_type == "F32"
    short: dict[str, Any] = {**FIXTURE["shapes"]["DeepSeek-R1-Distill-Llama-70B"], "context_length": 8192}
    assert "rope_freqs.weight" not in {t.name for t in tensor_list(from_mapping(short))}
    assert "rope_freqs.weight" not in names("SmolLM2-135M")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_embd.weight", ("input", None)),
        ("per_layer_token_embd.weight", ("input", None)),
        ("output.weight", ("output", None)),
        ("output_norm.weight", ("output", None)),
        ("rope_freqs.weight", ("output", None)),
        ("per_layer_model_proj.weight", ("layer", 0)),
        ("blk.17.attn_v.weight", ("layer", 17)),
        ("blk.17.ffn_down.weight", ("layer", 17)),
        ("blk.17.ffn_down_shexp.weight", ("layer", 17)),
        ("blk.17.ffn_gate_inp.weight", ("layer", 17)),
        ("blk.17.ffn_gate_up_exps.weight", ("expert", 17)),
        ("blk.17.ffn_down_exps.weight", ("expert", 17)),
        ("blk.17.ffn_gate_exps.bias", ("expert", 17)),
    ],
)
def test_place(name: str, expected: tuple[str, int | None]) -> None:
    assert place(name) == expected


@pytest.mark.parametrize(
    ("name", "dimensions", "expected"),
    [
        ("blk.0.attn_q.weight", (8, 8), ""),
        ("blk.0.attn_q.weight", (8, 1), "F32"),
        ("blk.0.attn_q_norm.weight", (128, 96), "F32"),
        ("blk.0.ffn_gate_inp.weight", (2048, 64), "F32"),
        ("blk.0.ffn_up_exps.bias", (2880, 32), "F32"),
        ("blk.0.ssm_conv1d.weight", (4, 8192), "F32"),
        ("blk.0.ssm_a", (32,), "F32"),
        ("per_layer_model_proj.weight", (8, 8), "BF16"),
    ],
)
def test_types_that_no_mix_changes(name: str, dimensions: tuple[int, ...], expected: str) -> None:
    assert fixed_type(name, dimensions) == expected


def test_active_parameters_count_the_used_experts() -> None:
    assert active_parameter_count(model("Qwen3-30B-A3B")) == 3_353_032_704
    dense = model("Qwen2.5-0.5B")
    assert active_parameter_count(dense) == dense.parameter_count == 494_032_768


def test_unknown_architecture_asks_for_the_file() -> None:
    stranger = from_mapping({**FIXTURE["shapes"]["SmolLM2-135M"], "architecture": "brand-new"}, strict=False)
    with pytest.raises(SizingError, match="give the model's gguf instead"):
        tensor_list(stranger)
