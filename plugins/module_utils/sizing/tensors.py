# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tensors of a model's GGUF file, from its shape alone: names, dimensions and where llama.cpp puts each.

Source: load_arch_tensors in src/models, LLM_TENSOR_NAMES in src/llama-arch.cpp and the always-F32 rule of
conversion/base.py in ggml-org/llama.cpp, build 11095.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import unknown
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import EXPERT_GATING_SIGMOID, ModelShape

Dimensions = Tuple[int, ...]
# Name within its layer, dimensions.
Entry = Tuple[str, Dimensions]

INPUT, LAYER, EXPERT, OUTPUT = "input", "layer", "expert", "output"

_LAYER_NAME = re.compile(r"blk\.(\d+)\.")
_EXPERT_NAME = re.compile(r"\.ffn_(?:up|down|gate_up|gate)_(?:ch)?exps")
_INPUT_NAMES = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})
# Read with the first layer, although their names say nothing of layers.
_FIRST_LAYER_NAMES = frozenset({"per_layer_model_proj.weight", "per_layer_proj_norm.weight"})

# Llama 3's vocabulary; from 3.1 on (a context beyond 8192) its files carry scaled rope frequencies.
_LLAMA3_VOCAB, _LLAMA3_CONTEXT = 128_256, 8_192
# Phi-3 files for long contexts carry two sets of rope factors; 65536 lies between the short and the long ones.
_PHI3_SHORT_CONTEXT = 65_536
_COMMAND_R_NORM_LAYERS = 64


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file; C(dimensions) in GGUF's order, the row first.

    C(layer) is None outside the layers. C(device_class) is C(input) (stays in main memory), C(layer), C(expert)
    (what llama.cpp moves to main memory first) or C(output). C(fixed_type) is the type that every mix leaves, or an
    empty text where the mix decides.
    """

    name: str
    dimensions: Dimensions
    layer: Optional[int]
    device_class: str
    fixed_type: str

    @property
    def elements(self) -> int:
        """Number of values."""
        return product(self.dimensions)


def product(dimensions: Dimensions) -> int:
    """Number of values in a tensor of these dimensions."""
    result = 1
    for extent in dimensions:
        result *= extent
    return result


def place(name: str) -> Tuple[str, Optional[int]]:
    """Device class and layer of the tensor C(name), by the patterns of llama.cpp (common/fit.cpp)."""
    if name in _INPUT_NAMES:
        return INPUT, None
    if name in _FIRST_LAYER_NAMES:
        return LAYER, 0
    found = _LAYER_NAME.match(name)
    if not found:
        return OUTPUT, None
    return (EXPERT if _EXPERT_NAME.search(name) else LAYER), int(found.group(1))


def fixed_type(name: str, dimensions: Dimensions) -> str:
    """The type that a tensor has in every mix, or an empty text where the mix decides."""
    if "per_layer_model_proj" in name:
        return "BF16"
    rank = len(dimensions)
    while rank > 1 and dimensions[rank - 1] == 1:
        rank -= 1
    kept = rank < 2 or not name.endswith("weight") or name.endswith("_norm.weight")
    return "F32" if kept or "ffn_gate_inp.weight" in name or "ssm_conv1d" in name else ""


@lru_cache(maxsize=256)
def tensor_list(shape: ModelShape) -> Tuple[Tensor, ...]:
    """All tensors of the file, sorted as llama.cpp sorts them: those outside the layers, then each layer, by name.

    Raises SizingError for an architecture whose tensors are not known.
    """
    tensors = []
    for name, dimensions in outer_entries(shape):
        device_class, layer = place(name)
        tensors.append(Tensor(name, dimensions, layer, device_class, fixed_type(name, dimensions)))
    known: Dict[Tuple[Entry, ...], List[Tuple[str, Dimensions, str, str]]] = {}
    for layer, entries in enumerate(layer_entries(shape)):
        rows = known.get(entries)
        if rows is None:
            rows = [(name, size, place(f"blk.0.{name}")[0], fixed_type(name, size)) for name, size in entries]
            known[entries] = rows
        prefix = f"blk.{layer}."
        tensors.extend(Tensor(prefix + name, size, layer, where, fixed) for name, size, where, fixed in rows)
    return tuple(tensors)


@lru_cache(maxsize=256)
def parameter_count(shape: ModelShape) -> int:
    """Values in all tensors of the file."""
    layers = sum(product(size) for entries in layer_entries(shape) for unused, size in entries)
    return layers + sum(product(size) for unused, size in outer_entries(shape))


@lru_cache(maxsize=256)
def active_parameter_count(shape: ModelShape) -> int:
    """Values that one token needs: of the experts only those used, of the embedding the whole table."""
    total = 0
    for tensor in tensor_list(shape):
        share = shape.expert_used_count / shape.expert_count if tensor.device_class == EXPERT else 1
        total += int(tensor.elements * share)
    return total


def outer_entries(shape: ModelShape) -> Tuple[Entry, ...]:
    """Names and dimensions of the tensors outside the layers, by name."""
    width, vocab = shape.embedding_length, shape.vocab_size
    entries: List[Entry] = [("output_norm.weight", (width,)), ("token_embd.weight", (width, vocab))]
    if not shape.tied_embeddings:
        entries.append(("output.weight", (width, vocab)))
    half = shape.rope_dimension_count // 2
    if shape.architecture == "llama" and shape.vocab_size == _LLAMA3_VOCAB and shape.context_length > _LLAMA3_CONTEXT:
        entries.append(("rope_freqs.weight", (half,)))
    if shape.architecture == "phi3" and shape.context_length > _PHI3_SHORT_CONTEXT:
        entries += [("rope_factors_long.weight", (half,)), ("rope_factors_short.weight", (half,))]
    return tuple(sorted(entries))


@lru_cache(maxsize=256)
def layer_entries(shape: ModelShape) -> Tuple[Tuple[Entry, ...], ...]:
    """Names (without C(blk.N.)) and dimensions of each layer's tensors, by name; equal layers share one tuple."""
    maker = _MAKERS.get(shape.architecture)
    if maker is None:
        raise unknown(
            "architecture whose tensors are known; give the model's gguf instead of a name or shape",
            shape.architecture,
            _MAKERS,
        )
    made: Dict[Tuple[object, ...], Tuple[Entry, ...]] = {}
    layers = []
    for layer in range(shape.block_count):
        kind = (
            shape.heads_kv(layer),
            shape.feed_forward(layer),
            shape.is_moe_layer(layer),
            shape.is_sliding(layer),
            shape.is_recurrent(layer),
            shape.has_kv(layer),
        )
        if kind not in made:
            made[kind] = tuple(sorted(maker(shape, layer)))
        layers.append(made[kind])
    return tuple(layers)


def _attention(shape: ModelShape, layer: int, bias: bool = False, doubled_query: bool = False) -> List[Entry]:
    width, heads, kv_heads = shape.embedding_length, shape.head_count, shape.heads_kv(layer)
    key, value = shape.key_length_at(layer), shape.value_length_at(layer)
    query = heads * key
    entries: List[Entry] = [
        ("attn_norm.weight", (width,)),
        # qwen3next and its successors keep the gate of the attention's output in the second half of the query.
        ("attn_q.weight", (width, query * 2 if doubled_query else query)),
        ("attn_k.weight", (width, kv_heads * key)),
        ("attn_v.weight", (width, kv_heads * value)),
        ("attn_output.weight", (query, width)),
    ]
    if bias:
        entries += [
            ("attn_q.bias", (query,)),
            ("attn_k.bias", (kv_heads * key,)),
            ("attn_v.bias", (kv_heads * value,)),
        ]
    return entries


def _head_norms(shape: ModelShape, layer: int) -> List[Entry]:
    key = shape.key_length_at(layer)
    return [("attn_q_norm.weight", (key,)), ("attn_k_norm.weight", (key,))]


def _gated_feed_forward(shape: ModelShape, layer: int) -> List[Entry]:
    width, length = shape.embedding_length, shape.feed_forward(layer)
    return [
        ("ffn_gate.weight", (width, length)),
        ("ffn_up.weight", (width, length)),
        ("ffn_down.weight", (length, width)),
    ]


def _experts(shape: ModelShape) -> List[Entry]:
    width, length, count = shape.embedding_length, shape.expert_feed_forward_length, shape.expert_count
    return [
        ("ffn_gate_inp.weight", (width, count)),
        ("ffn_gate_exps.weight", (width, length, count)),
        ("ffn_up_exps.weight", (width, length, count)),
        ("ffn_down_exps.weight", (length, width, count)),
    ]


def _shared_experts(shape: ModelShape) -> List[Entry]:
    width, length = shape.embedding_length, shape.expert_shared_feed_forward_length
    if not length:
        return []
    return [
        ("ffn_gate_shexp.weight", (width, length)),
        ("ffn_up_shexp.weight", (width, length)),
        ("ffn_down_shexp.weight", (length, width)),
    ]


def _llama(shape: ModelShape, layer: int) -> List[Entry]:
    entries = _attention(shape, layer) + [("ffn_norm.weight", (shape.embedding_length,))]
    if not shape.expert_count:
        return entries + _gated_feed_forward(shape, layer)
    return entries + _experts(shape) + _shared_experts(shape)


def _qwen2(shape: ModelShape, layer: int) -> List[Entry]:
    norm: Entry = ("ffn_norm.weight", (shape.embedding_length,))
    return _attention(shape, layer, bias=True) + [norm] + _gated_feed_forward(shape, layer)


def _qwen2moe(shape: ModelShape, layer: int) -> List[Entry]:
    width = shape.embedding_length
    gate: List[Entry] = [("ffn_norm.weight", (width,)), ("ffn_gate_inp_shexp.weight", (width,))]
    return _attention(shape, layer, bias=True) + gate + _experts(shape) + _shared_experts(shape)


def _qwen3(shape: ModelShape, layer: int) -> List[Entry]:
    return _llama(shape, layer) + _head_norms(shape, layer)


def _qwen3moe(shape: ModelShape, layer: int) -> List[Entry]:
    norm: Entry = ("ffn_norm.weight", (shape.embedding_length,))
    return _attention(shape, layer) + _head_norms(shape, layer) + [norm] + _experts(shape)


def _gemma2(shape: ModelShape, layer: int) -> List[Entry]:
    width = shape.embedding_length
    norms: List[Entry] = [("post_attention_norm.weight", (width,)), ("post_ffw_norm.weight", (width,))]
    norms.append(("ffn_norm.weight", (width,)))
    return _attention(shape, layer) + norms + _gated_feed_forward(shape, layer)


def _gemma3(shape: ModelShape, layer: int) -> List[Entry]:
    return _gemma2(shape, layer) + _head_norms(shape, layer)


def _gpt_oss(shape: ModelShape, layer: int) -> List[Entry]:
    width, length, count = shape.embedding_length, shape.expert_feed_forward_length, shape.expert_count
    more: List[Entry] = [
        ("post_attention_norm.weight", (width,)),
        ("attn_output.bias", (width,)),
        ("attn_sinks.weight", (shape.head_count,)),
        ("ffn_gate_inp.bias", (count,)),
        ("ffn_gate_exps.bias", (length, count)),
        ("ffn_up_exps.bias", (length, count)),
        ("ffn_down_exps.bias", (width, count)),
    ]
    return _attention(shape, layer, bias=True) + more + _experts(shape)


def _deepseek2(shape: ModelShape, layer: int) -> List[Entry]:
    width, heads, rank, rope = shape.embedding_length, shape.head_count, shape.kv_lora_rank, shape.rope_dimension_count
    key = shape.key_length_mla if shape.is_mla else shape.key_length
    value = shape.value_length_mla if shape.is_mla else shape.value_length
    entries: List[Entry] = [
        ("attn_norm.weight", (width,)),
        ("ffn_norm.weight", (width,)),
        ("attn_kv_a_norm.weight", (rank,)),
        ("attn_kv_a_mqa.weight", (width, rank + rope)),
        ("attn_output.weight", (heads * value, width)),
    ]
    if shape.q_lora_rank:
        entries += [
            ("attn_q_a.weight", (width, shape.q_lora_rank)),
            ("attn_q_a_norm.weight", (shape.q_lora_rank,)),
            ("attn_q_b.weight", (shape.q_lora_rank, heads * key)),
        ]
    else:
        entries.append(("attn_q.weight", (width, heads * key)))
    if shape.is_mla:
        entries += [
            ("attn_k_b.weight", (key - rope, rank, heads)),
            ("attn_v_b.weight", (rank, value, heads)),
        ]
    else:
        entries.append(("attn_kv_b.weight", (rank, heads * (key - rope + value))))
    if not shape.is_moe_layer(layer):
        return entries + _gated_feed_forward(shape, layer)
    if shape.expert_gating_func == EXPERT_GATING_SIGMOID:
        entries.append(("exp_probs_b.bias", (shape.expert_count,)))
    return entries + _experts(shape) + _shared_experts(shape)


def _phi3(shape: ModelShape, layer: int) -> List[Entry]:
    width, length = shape.embedding_length, shape.feed_forward(layer)
    fused = width + shape.heads_kv(layer) * (shape.key_length + shape.value_length)
    return [
        ("attn_norm.weight", (width,)),
        ("attn_qkv.weight", (width, fused)),
        ("attn_output.weight", (width, width)),
        ("ffn_norm.weight", (width,)),
        ("ffn_up.weight", (width, 2 * length)),
        ("ffn_down.weight", (length, width)),
    ]


def _glm4(shape: ModelShape, layer: int) -> List[Entry]:
    width, length = shape.embedding_length, shape.feed_forward(layer)
    more: List[Entry] = [
        ("post_attention_norm.weight", (width,)),
        ("ffn_norm.weight", (width,)),
        ("ffn_up.weight", (width, 2 * length)),
        ("ffn_down.weight", (length, width)),
        ("post_ffw_norm.weight", (width,)),
    ]
    return _attention(shape, layer) + more


def _command_r(shape: ModelShape, layer: int) -> List[Entry]:
    entries = _attention(shape, layer) + _gated_feed_forward(shape, layer)
    if shape.block_count >= _COMMAND_R_NORM_LAYERS:
        entries += [
            ("attn_q_norm.weight", (shape.key_length, shape.head_count)),
            ("attn_k_norm.weight", (shape.key_length, shape.heads_kv(layer))),
        ]
    return entries


def _linear_attention(shape: ModelShape) -> List[Entry]:
    width, heads = shape.embedding_length, shape.ssm_time_step_rank
    keys, values = shape.ssm_state_size * shape.ssm_group_count, shape.ssm_state_size * heads
    entries: List[Entry] = [
        ("attn_norm.weight", (width,)),
        ("attn_qkv.weight", (width, 2 * keys + values)),
        ("attn_gate.weight", (width, values)),
        ("ssm_conv1d.weight", (shape.ssm_conv_kernel, 2 * keys + values)),
        ("ssm_dt.bias", (heads,)),
        ("ssm_a", (heads,)),
        ("ssm_norm.weight", (shape.ssm_state_size,)),
        ("ssm_out.weight", (values, width)),
    ]
    if shape.architecture == "qwen3next":
        return entries + [("ssm_ba.weight", (width, 2 * heads))]
    return entries + [("ssm_alpha.weight", (width, heads)), ("ssm_beta.weight", (width, heads))]


def _qwen35(shape: ModelShape, layer: int) -> List[Entry]:
    width = shape.embedding_length
    if shape.is_recurrent(layer):
        entries = _linear_attention(shape)
    else:
        entries = _attention(shape, layer, doubled_query=True) + _head_norms(shape, layer)
    entries.append(("post_attention_norm.weight", (width,)))
    if not shape.expert_count:
        return entries + _gated_feed_forward(shape, layer)
    entries.append(("ffn_gate_inp_shexp.weight", (width,)))
    return entries + _experts(shape) + _shared_experts(shape)


_MAKERS: Dict[str, Callable[[ModelShape, int], List[Entry]]] = {
    "command-r": _command_r,
    "deepseek2": _deepseek2,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "glm4": _glm4,
    "gpt-oss": _gpt_oss,
    "granite": _llama,
    "llama": _llama,
    "mistral3": _llama,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen2moe": _qwen2moe,
    "qwen3": _qwen3,
    "qwen35": _qwen35,
    "qwen35moe": _qwen35,
    "qwen3moe": _qwen3moe,
    "qwen3next": _qwen35,
}
