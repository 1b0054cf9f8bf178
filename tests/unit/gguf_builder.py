# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes small GGUF files, straight from the specification; only the block sizes come from the table under test."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Tensor = tuple[str, list[int], int]
F32, F16, Q4_K, Q6_K, Q8_0 = 0, 1, 12, 14, 8
STRING = 8


def text(value: str) -> bytes:
    """A metadata value of type text, with its type in the first four bytes."""
    raw = value.encode()
    return struct.pack("<IQ", STRING, len(raw)) + raw


def u32(value: int) -> bytes:
    """A metadata value of type unsigned 32 bit."""
    return struct.pack("<II", 4, value)


def u16(value: int) -> bytes:
    return struct.pack("<IH", 2, value)


def f32(value: float) -> bytes:
    return struct.pack("<If", 6, value)


def boolean(value: bool) -> bytes:
    return struct.pack("<I?", 7, value)


def array(item_type: int, items: list[bytes]) -> bytes:
    """A metadata value of type array; the items come without their type."""
    return struct.pack("<IIQ", 9, item_type, len(items)) + b"".join(items)


def texts(values: Sequence[str]) -> bytes:
    """A metadata value of type array of texts."""
    return array(STRING, [text(value)[4:] for value in values])


def numbers(code: str, values: Sequence[float]) -> bytes:
    """A metadata value of type array of numbers; C(code) is i (int32), I (uint32) or f (float32)."""
    return array({"i": 5, "I": 4, "f": 6}[code], [struct.pack("<" + code, value) for value in values])


def build_gguf(
    metadata: dict[str, bytes],
    tensors: list[Tensor],
    alignment: int = 32,
    check: bool = True,
    data: bool = True,
) -> bytes:
    """A file whose last tensor ends at its end.

    With check=False tensors take no room, so that they may be absurd; with data=False the file ends where the data
    of the tensors begins.
    """
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head += [struct.pack("<Q", len(key.encode())), key.encode(), value]
    end_bytes = 0
    for name, shape, type_id in tensors:
        end_bytes += -end_bytes % alignment
        head += [struct.pack("<Q", len(name.encode())), name.encode(), struct.pack("<I", len(shape))]
        head += [*(struct.pack("<Q", extent) for extent in shape), struct.pack("<IQ", type_id, end_bytes)]
        if check:
            end_bytes += size_bytes(shape, type_id)
    raw = b"".join(head)
    if end_bytes or (tensors and not data):
        raw += bytes(-len(raw) % alignment)
    return raw + (bytes(end_bytes) if data else b"")


def size_bytes(shape: list[int], type_id: int) -> int:
    from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import TENSOR_TYPES

    _name, block_elements, block_bytes = TENSOR_TYPES[type_id]
    elements = 1
    for extent in shape:
        elements *= extent
    return elements // block_elements * block_bytes


def tokenizer(count: int) -> dict[str, bytes]:
    """A vocabulary of C(count) tokens with merges, scores and types."""
    return {
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.tokens": texts([f"word{index}"[: index % 9] for index in range(count)]),
        "tokenizer.ggml.scores": numbers("f", [0.5] * count),
        "tokenizer.ggml.token_type": numbers("i", [1] * count),
        "tokenizer.ggml.merges": texts([f"a {index}" for index in range(count)]),
        "tokenizer.ggml.eos_token_id": u32(2),
    }


def dense(layers: int = 2, tokens: int = 64, tied: bool = False) -> tuple[dict[str, bytes], list[Tensor]]:
    """Metadata and tensors of a small llama: 256 wide, 4 heads on 2, Q4_K and F32, an output of Q6_K unless tied."""
    metadata = {
        "general.architecture": text("llama"),
        "general.name": text("Small dense"),
        "general.file_type": u32(15),
        "llama.block_count": u32(layers),
        "llama.embedding_length": u32(256),
        "llama.feed_forward_length": u32(512),
        "llama.attention.head_count": u32(4),
        "llama.attention.head_count_kv": u16(2),
        "llama.rope.freq_base": f32(500000.0),
        **tokenizer(tokens),
    }
    tensors: list[Tensor] = [("token_embd.weight", [256, tokens], Q4_K)]
    for layer in range(layers):
        tensors += [
            (f"blk.{layer}.attn_norm.weight", [256], F32),
            (f"blk.{layer}.attn_q.weight", [256, 256], Q4_K),
            (f"blk.{layer}.attn_k.weight", [256, 128], Q4_K),
            (f"blk.{layer}.ffn_down.weight", [512, 256], Q4_K),
        ]
    tensors.append(("output_norm.weight", [256], F32))
    return metadata, tensors + ([] if tied else [("output.weight", [256, tokens], Q6_K)])


def moe(layers: int = 2, experts: int = 4, tokens: int = 48) -> tuple[dict[str, bytes], list[Tensor]]:
    """Metadata and tensors of a small mixture of experts with key-value heads a layer and a sliding window pattern."""
    metadata = {
        "general.architecture": text("mixer"),
        "general.file_type": u32(7),
        "mixer.block_count": u32(layers),
        "mixer.expert_count": u32(experts),
        "mixer.attention.head_count_kv": numbers("i", [2] * layers),
        "mixer.attention.sliding_window_pattern": array(7, [b"\1", b"\0"] * (layers // 2)),
        **tokenizer(tokens),
    }
    tensors: list[Tensor] = [
        ("token_embd.weight", [64, tokens], Q8_0),
        ("per_layer_token_embd.weight", [32 * layers, tokens], Q8_0),
        ("rope_freqs.weight", [16], F32),
    ]
    for layer in range(layers):
        tensors += [
            (f"blk.{layer}.attn_q.weight", [64, 64], Q8_0),
            (f"blk.{layer}.ffn_gate_inp.weight", [64, experts], F32),
            (f"blk.{layer}.ffn_gate_up_exps.weight", [64, 64, experts], Q8_0),
            (f"blk.{layer}.ffn_down_exps.weight", [32, 64, experts], Q8_0),
            (f"blk.{layer}.ffn_up_shexp.weight", [64, 32], F16),
            (f"blk.{layer}.ffn_up_chexps.weight", [64, 32], F16),
        ]
    return metadata, [*tensors, ("output_norm.weight", [64], F32)]
