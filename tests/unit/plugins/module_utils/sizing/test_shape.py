# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes: what a person or a file says becomes numbers, and what makes no sense is refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import (
    ARCHITECTURES,
    KEYS,
    ModelShape,
    from_mapping,
)
from hypothesis import given
from hypothesis import strategies as st

LLAMA: dict[str, Any] = {
    "architecture": "llama",
    "block_count": 32,
    "embedding_length": 4096,
    "feed_forward_length": 14336,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "vocab_size": 128256,
    "context_length": 131072,
}
MOE: dict[str, Any] = {
    "architecture": "qwen3moe",
    "block_count": 4,
    "embedding_length": 2048,
    "attention.head_count": 32,
    "attention.head_count_kv": 4,
    "attention.key_length": 128,
    "attention.value_length": 128,
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 768,
    "vocab_size": 151936,
}
MLA: dict[str, Any] = {
    "architecture": "deepseek2",
    "block_count": 27,
    "embedding_length": 2048,
    "feed_forward_length": 10944,
    "attention.head_count": 16,
    "attention.head_count_kv": 1,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "attention.kv_lora_rank": 512,
    "rope.dimension_count": 64,
    "expert_count": 64,
    "expert_used_count": 6,
    "expert_shared_count": 2,
    "expert_feed_forward_length": 1408,
    "leading_dense_block_count": 1,
    "vocab_size": 102400,
}


def shape(base: dict[str, Any], strict: bool = True, **changes: Any) -> ModelShape:
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return from_mapping({key: value for key, value in {**base, **changed}.items() if value is not None}, strict)


def refusal(base: dict[str, Any], strict: bool = True, **changes: Any) -> str:
    with pytest.raises(SizingError) as caught:
        shape(base, strict, **changes)
    return str(caught.value)


def test_a_plain_shape_and_its_defaults() -> None:
    plain = shape(LLAMA)
    assert (plain.key_length, plain.value_length, plain.rope_dimension_count) == (128, 128, 128)
    assert plain.heads_kv(31) == 8
    assert not plain.is_mla and not plain.is_moe and not plain.is_moe_layer(0)
    assert not any(plain.is_sliding(layer) or plain.is_recurrent(layer) for layer in range(32))
    assert all(plain.has_kv(layer) for layer in range(32))
    assert plain.parameter_count == 8_030_261_312
    assert shape(LLAMA, attention__head_count_kv=None).head_count_kv == 32


def test_experts_begin_after_the_leading_dense_layers() -> None:
    model = shape(MLA)
    assert model.is_mla
    assert [model.is_moe_layer(layer) for layer in (0, 1, 26)] == [False, True, True]
    assert model.expert_shared_feed_forward_length == 2816
    old = shape(
        MLA,
        attention__head_count_kv=16,
        attention__key_length=192,
        attention__value_length=128,
        attention__key_length_mla=None,
        attention__value_length_mla=None,
    )
    assert not old.is_mla


def test_length_of_experts_by_architecture() -> None:
    mixtral = shape(LLAMA, expert_count=8, expert_used_count=2)
    assert mixtral.expert_feed_forward_length == 14336
    assert shape(MOE, expert_feed_forward_length=None, feed_forward_length=6144).expert_feed_forward_length == 768
    assert shape(MOE).feed_forward_length == 768


@pytest.mark.parametrize(
    ("architecture", "pattern", "full"),
    [
        ("gemma3", None, {5, 11}),
        ("gemma3", 6, {5, 11}),
        ("gemma3", 3, {2, 5, 8, 11}),
        ("gemma3", 1, set(range(12))),
        ("gemma2", None, {1, 3, 5, 7, 9, 11}),
        ("llama", 2, set(range(12))),
        ("phi3", 2, set(range(12))),
        ("gemma3", [True] * 11 + [False], {11}),
    ],
)
def test_layers_that_attend_to_everything(architecture: str, pattern: Any, full: set[int]) -> None:
    changes = {"architecture": architecture, "block_count": 12, "attention__sliding_window": 1024}
    model = shape(LLAMA, attention__sliding_window_pattern=pattern, **changes)
    assert {layer for layer in range(12) if not model.is_sliding(layer)} == full


def test_gpt_oss_slides_on_even_layers() -> None:
    model = shape(MOE, architecture="gpt-oss", attention__sliding_window=128)
    assert [model.is_sliding(layer) for layer in range(4)] == [True, False, True, False]
    assert shape(MOE, strict=False, architecture="gptoss", attention__sliding_window=128).architecture == "gpt-oss"


def test_recurrent_layers_have_no_cache() -> None:
    changes = {"ssm__conv_kernel": 4, "ssm__inner_size": 4096, "ssm__state_size": 128, "ssm__group_count": 16}
    model = shape(LLAMA, architecture="qwen35", ssm__time_step_rank=32, **changes)
    assert [layer for layer in range(8) if not model.is_recurrent(layer)] == [3, 7]
    assert [layer for layer in range(8) if model.has_kv(layer)] == [3, 7]


def test_numbers_by_layer() -> None:
    by_layer = shape(LLAMA, block_count=3, attention__head_count_kv=[8, 0, 4], feed_forward_length=[64, 32, 64])
    assert [by_layer.heads_kv(layer) for layer in range(3)] == [8, 0, 4]
    assert by_layer.feed_forward(1) == 32
    assert shape(LLAMA, block_count=2, attention__head_count_kv=[8, 8]).head_count_kv == 8
    assert "lists 2 layers for 32 blocks" in refusal(LLAMA, attention__head_count_kv=[8, 8])
    assert "0 for every layer" in refusal(LLAMA, block_count=2, attention__head_count_kv=[0, 0])


def test_keys_of_sliding_layers_may_be_shorter() -> None:
    model = shape(
        LLAMA,
        strict=False,
        architecture="gemma4",
        attention__sliding_window=512,
        attention__key_length=512,
        attention__value_length=512,
        attention__key_length_swa=256,
        attention__value_length_swa=256,
        attention__shared_kv_layers=12,
    )
    assert [model.key_length_at(layer) for layer in (4, 5)] == [256, 512]
    assert [model.value_length_at(layer) for layer in (4, 5)] == [256, 512]
    assert [model.has_kv(layer) for layer in (19, 20)] == [True, False]


def test_layers_for_further_tokens_are_no_layers() -> None:
    assert shape(LLAMA, nextn_predict_layers=1).block_count == 31
    assert "nextn_predict_layers of shape is 32" in refusal(LLAMA, nextn_predict_layers=32)


def test_a_file_may_say_more_than_a_person() -> None:
    header = {"rope.freq_base": 500000.0, "attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2"}
    assert from_mapping({**LLAMA, **header}, strict=False) == shape(LLAMA)
    stranger = shape(LLAMA, strict=False, architecture="brand-new")
    assert stranger.block_count == 32
    with pytest.raises(SizingError, match="gguf instead"):
        assert stranger.parameter_count
    assert shape(LLAMA, strict=False, attention__head_count=[32] * 31 + [64]).head_count == 64


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"blok_count": 32}, "did you mean block_count?"),
        ({"architecture": "qwen33"}, "did you mean qwen3?"),
        ({"architecture": "mamba2"}, "gguf instead"),
        ({"architecture": None}, "lacks architecture"),
        ({"vocab_size": None, "block_count": None}, "lacks block_count, vocab_size"),
        ({"feed_forward_length": None}, "lacks feed_forward_length"),
        ({"block_count": 0}, "block_count of shape is 0"),
        ({"block_count": -1}, "from 1 to 1024"),
        ({"block_count": 2000}, "from 1 to 1024"),
        ({"block_count": True}, "give a whole number"),
        ({"block_count": 32.0}, "give a whole number"),
        ({"block_count": "32"}, "give a whole number"),
        ({"embedding_length": 10**9}, "embedding_length of shape is 1000000000"),
        ({"attention__head_count": 3, "attention__head_count_kv": 2, "attention__key_length": 8,
          "attention__value_length": 8}, "3 heads for 2 KV heads"),
        ({"attention__head_count": 3, "attention__head_count_kv": 1}, "no multiple of 3 heads"),
        ({"attention__head_count_kv": 0}, "from 1 to"),
        ({"attention__head_count": [32, 32]}, "give a whole number"),
        ({"expert_count": 8}, "uses none"),
        ({"expert_count": 8, "expert_used_count": 9}, "uses 9 of 8 experts"),
        ({"leading_dense_block_count": 33}, "33 leading dense blocks of 32"),
        ({"tied_embeddings": "yes"}, "give true or false"),
        ({"attention__sliding_window_pattern": ["x"] * 32}, "has 'x' in its list"),
        ({"attention__sliding_window_pattern": [True]}, "lists 1 layers for 32"),
        ({"attention__shared_kv_layers": 32}, "shares the cache of 32 of 32"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_sentence(changes: dict[str, Any], part: str) -> None:
    message = refusal(LLAMA, **changes)
    assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"attention__kv_lora_rank": None}, "lacks attention.kv_lora_rank"),
        ({"attention__value_length_mla": None}, "give both or none"),
        ({"rope__dimension_count": 192}, "below the length of a key"),
        ({"expert_used_count": None}, "lacks expert_used_count"),
    ],
)
def test_latent_attention_needs_its_numbers(changes: dict[str, Any], part: str) -> None:
    assert part in refusal(MLA, **changes)


def test_no_mapping_at_all() -> None:
    with pytest.raises(SizingError, match="must be a mapping"):
        from_mapping(["llama"])  # type: ignore[arg-type]


@given(
    st.dictionaries(
        st.sampled_from(sorted(KEYS)) | st.text(max_size=8),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers()),
    ),
    st.sampled_from(sorted(ARCHITECTURES)),
    st.booleans(),
)
def test_anything_gives_a_shape_or_a_refusal(changes: dict[str, Any], architecture: str, strict: bool) -> None:
    try:
        made = from_mapping({**LLAMA, "architecture": architecture, **changes}, strict)
    except SizingError as error:
        assert str(error)
        return
    assert made.block_count > 0 and made.head_count > 0
