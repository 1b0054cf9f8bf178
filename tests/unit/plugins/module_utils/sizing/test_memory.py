# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights and KV cache by device: sums that must come out, and caches that follow from the shape by hand."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import memory, mixes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.memory import Placement
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import from_mapping
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import model_by_name

MIB = 1 << 20
RECURRENT = {
    "architecture": "qwen35",
    "block_count": 8,
    "embedding_length": 2560,
    "feed_forward_length": 9216,
    "attention.head_count": 16,
    "attention.head_count_kv": 4,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "vocab_size": 1000,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 4096,
    "ssm.state_size": 128,
    "ssm.time_step_rank": 32,
    "ssm.group_count": 16,
}


def setting(model: Any, context: int = 4096, parallel: int = 1, kv_type: str = "f16", **more: Any) -> memory.Setting:
    shape = from_mapping(model if isinstance(model, dict) else model_by_name(model)["shape"])
    plain: dict[str, Any] = {"flash_attention": True, "ubatch": 512, "outputs": parallel}
    weights = mixes.weights(shape, "Q4_K_M")
    return memory.Setting(shape, weights, context, parallel, kv_type, kv_type, **{**plain, **more})


def total_cache_mib(asked: memory.Setting) -> float:
    return sum(memory.layer_cache_bytes(asked, layer) for layer in range(asked.shape.block_count)) / MIB


@pytest.mark.parametrize(
    ("model", "context", "parallel", "kv_type", "cache_mib"),
    [
        # 2 * 32 layers * 8 heads * 128 * 4096 cells * 2 bytes
        ("Llama-3.1-8B", 4096, 1, "f16", 512),
        ("Llama-3.1-8B", 4096, 4, "f16", 2048),
        ("Llama-3.1-8B", 4097, 1, "f16", 544),
        ("Llama-3.1-8B", 8192, 1, "q8_0", 544),
        ("Llama-3.1-8B", 8192, 1, "q4_0", 288),
        ("Llama-2-7B", 4096, 1, "f16", 2048),
        # 61 layers * (512 + 64) * 8192 cells * 2 bytes, and all heads: 61 * 128 * (192 + 128) * 8192 * 2
        ("DeepSeek-R1-MLA", 8192, 1, "f16", 549),
        ("DeepSeek-R1", 8192, 1, "f16", 39040),
        # 10 full layers of 131072 and 52 of 1024 + 512 cells, 2 * 16 heads * 128 * 2 bytes each
        ("Gemma-3-27B", 131072, 1, "f16", 10 * 1024 + 52 * 12),
    ],
)
def test_kv_cache(model: str, context: int, parallel: int, kv_type: str, cache_mib: float) -> None:
    assert total_cache_mib(setting(model, context, parallel, kv_type)) == pytest.approx(cache_mib, abs=0.01)


def test_recurrent_layers_keep_a_state_of_fixed_size() -> None:
    short, long = setting(RECURRENT, 4096, 2), setting(RECURRENT, 65536, 2)
    assert memory.layer_cache_bytes(short, 0) == memory.layer_cache_bytes(long, 0)
    # 4 bytes, 2 slots: 3 columns of 4096 + 2 * 16 * 128, and 128 * 4096.
    assert memory.layer_cache_bytes(short, 0) == 2 * 4 * (3 * 8192 + 128 * 4096)
    assert memory.layer_cache_bytes(long, 3) == 16 * memory.layer_cache_bytes(short, 3)


def test_layers_that_share_a_cache_have_none() -> None:
    shape = dict(model_by_name("Llama-3.1-8B")["shape"])
    shape["attention.shared_kv_layers"] = 12
    assert total_cache_mib(setting(shape)) == pytest.approx(512 * 20 / 32)


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Llama-3.2-3B", "Qwen3-30B-A3B", "DeepSeek-R1-MLA"])
def test_every_byte_of_the_weights_lies_somewhere(model: str) -> None:
    asked = setting(model)
    weights, blocks = asked.weights, asked.shape.block_count
    everything = weights.input_bytes + sum(weights.per_layer_bytes) + weights.output_bytes
    for count in (1, blocks // 2, blocks, blocks + 1):
        uses, host = memory.measure(asked, memory.split(asked, count, [1.0, 2.0, 1.0]))
        assert sum(use.weights for use in uses) + host.weights == everything
    _uses, host = memory.measure(asked, Placement((), None))
    # A tied model's second copy of the embedding is made for GPUs only.
    assert host.weights == everything - (weights.input_bytes if asked.shape.tied_embeddings else 0)


def test_experts_in_main_memory_leave_the_rest_of_the_layer() -> None:
    asked = setting("Qwen3-30B-A3B")
    whole = memory.split(asked, 49, [1.0])
    moved = Placement(whole.layers, whole.output, in_host=((5, memory.EXPERTS), (7, memory.DOWN)))
    uses, host = memory.measure(asked, whole)
    uses_moved, host_moved = memory.measure(asked, moved)
    away = asked.weights.per_layer_expert_bytes[5] + asked.weights.per_layer_ffn_down_bytes[7]
    assert uses[0].weights - uses_moved[0].weights == host_moved.weights - host.weights == away
    assert uses[0].kv_cache == uses_moved[0].kv_cache
    assert uses_moved[0].compute > uses[0].compute


def test_what_overflows_lies_on_the_next_device() -> None:
    asked = setting("Qwen3-30B-A3B")
    whole = memory.split(asked, 49, [1.0, 1.0])
    layer = whole.layers[0][-1]
    spilled = Placement(whole.layers, whole.output, spill=((layer, memory.AFTER_UP),))
    before, _host = memory.measure(asked, whole)
    after, _host = memory.measure(asked, spilled)
    over = asked.weights.per_layer_ffn_down_bytes[layer] + asked.weights.per_layer_ffn_gate_bytes[layer]
    assert before[0].weights - after[0].weights == after[1].weights - before[1].weights == over


def test_parts_of_a_layer_grow() -> None:
    weights = setting("Qwen3-30B-A3B").weights
    sizes = [
        memory.part_bytes(weights, 0, part)
        for part in (memory.DOWN, memory.AFTER_UP, memory.AFTER_ATTENTION, memory.WHOLE)
    ]
    assert sizes == sorted(set(sizes))


def test_layers_follow_shares() -> None:
    asked = setting("Llama-3.1-8B")
    assert [len(own) for own in memory.split(asked, 33, [1.0, 1.0]).layers] == [17, 15]
    placement = memory.split(asked, 10, [1.0, 3.0])
    assert placement.layers[0][0] == 23
    assert (placement.output, placement.on_devices) == (1, 10)
    assert memory.split(asked, 33, []).layers == ()


def test_the_largest_micro_batch_has_whole_rows_of_slots() -> None:
    assert setting("Llama-3.1-8B", 4096, 3).batch().tokens == 513
    assert setting("Llama-3.1-8B", 100, 1).batch().tokens == 100
    assert setting("Llama-3.1-8B", 4096, 4).batch().outputs == 4
    assert setting("Gemma-3-27B", 8192, 1, ubatch=2048).batch().cells_sliding == 3072
