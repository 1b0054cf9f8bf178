# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which type each tensor gets in a quantization mix, and the bytes of a model's parts that follow.

Source of the rules: src/llama-quant.cpp of ggml-org/llama.cpp, build 11095. A mix is what a file is named after
(Q4_K_M); within it tensors have types (Q4_K, Q6_K, F32).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, unknown
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import BY_NAME, row_bytes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import ModelShape
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import (
    EXPERT,
    INPUT,
    Dimensions,
    Entry,
    fixed_type,
    layer_entries,
    outer_entries,
    place,
    product,
)

# Pairs of regular expression and type: a tensor whose name matches gets that type; the first pair that matches wins.
Overrides = Tuple[Tuple[str, str], ...]

# Mix -> the type that most of its tensors have.
BASE_TYPE: Dict[str, str] = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q5_1": "Q5_1",
    "Q5_0": "Q5_0",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "Q4_1": "Q4_1",
    "Q4_0": "Q4_0",
    "MXFP4_MOE": "MXFP4",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K",
    "IQ3_M": "IQ3_S",
    "IQ3_S": "IQ3_S",
    "IQ3_XS": "IQ3_S",
    "IQ3_XXS": "IQ3_XXS",
    "Q2_K": "Q2_K",
    "Q2_K_S": "Q2_K",
    "IQ2_M": "IQ2_S",
    "IQ2_S": "IQ2_XS",
    "IQ2_XS": "IQ2_XS",
    "IQ2_XXS": "IQ2_XXS",
    "TQ2_0": "TQ2_0",
    "TQ1_0": "TQ1_0",
    "IQ1_M": "IQ1_M",
    "IQ1_S": "IQ1_S",
}
MIXES = tuple(BASE_TYPE)
# Short names that llama-quantize takes too.
_MIX_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "MXFP4": "MXFP4_MOE"}
_UNQUANTIZED = frozenset({"F32", "F16", "BF16"})
_TINY = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})

# A row that is no whole number of blocks: the type on the right is used instead; where that fails too, F16.
_FALLBACK = {
    "IQ1_S": "IQ4_NL",
    "IQ1_M": "IQ4_NL",
    "IQ2_XXS": "IQ4_NL",
    "IQ2_XS": "IQ4_NL",
    "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

_EMBEDDING = {
    "IQ1_S": "Q2_K",
    "IQ1_M": "Q2_K",
    "IQ2_XXS": "Q2_K",
    "IQ2_XS": "Q2_K",
    "IQ2_S": "IQ3_S",
    "IQ2_M": "IQ3_S",
    "IQ3_XXS": "IQ3_S",
    "TQ1_0": "Q4_K",
    "TQ2_0": "Q4_K",
}
_OUTPUT_Q5 = _TINY | {"IQ3_XXS"}

# Attention values. Many query heads share one value head: few bytes, much harm, so that they get more bits.
_MANY_QUERIES = 4
_VALUE = {"IQ3_M": "Q4_K", "Q3_K_L": "Q5_K", "Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K"}
_VALUE_OF_MANY_QUERIES = {
    "Q2_K": "Q4_K",
    "Q2_K_S": "Q4_K",
    "IQ3_XXS": "Q4_K",
    "IQ3_XS": "Q4_K",
    "IQ3_S": "Q4_K",
    "IQ4_NL": "Q5_K",
    "IQ4_XS": "Q5_K",
}
_VALUE_OF_FIRST = {"Q3_K_M": (2, "Q5_K"), "Q4_K_S": (4, "Q5_K")}
_TINY_KEPT = {"IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}

_ATTENTION_OUT = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
_ATTENTION_OUT_TINY = {"IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}
_ATTENTION_OUT_8_EXPERTS = frozenset(
    "Q2_K IQ3_XS IQ3_XXS Q3_K_S Q3_K_M IQ4_NL Q4_K_S Q4_K_M IQ3_S IQ3_M IQ4_XS".split()
)
_QUERY_KEY = {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}

# Down projection: type in the first eighth of the layers (Q3_K_M: sixteenth), type in the others.
_DOWN = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}
_DOWN_FIRST_EIGHTH = {"Q2_K_S": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_S": "Q5_K"}
_DOWN_FIRST_EIGHTH_PLAIN = {"IQ3_XXS": "Q4_K", "IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}
_DOWN_FIRST_EIGHTH_IMATRIX = {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}

_VALUES, _KEYS, _QUERIES, _ATTENTION, _UP, _GATE, _DOWNS, _OTHER = "v", "k", "q", "o", "up", "gate", "down", ""
# The first part of a name that matches decides.
_CATEGORIES = (
    ("attn_qkv.weight", _VALUES),
    ("attn_kv_b.weight", _VALUES),
    ("attn_v.weight", _VALUES),
    ("attn_k.weight", _KEYS),
    ("attn_q.weight", _QUERIES),
    ("attn_output.weight", _ATTENTION),
    ("ffn_up", _UP),
    ("ffn_gate", _GATE),
    ("ffn_down", _DOWNS),
)

ALIGNMENT_BYTES = 32
_BLOCK_ELEMENTS = {name: kind.block_elements for name, kind in BY_NAME.items()}


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's parts, without the padding between tensors; tuples have one number for each layer.

    C(input_bytes): the embedding, which llama.cpp keeps in main memory. C(output_bytes): all that is computed after
    the last layer, with the second copy of the embedding that llama.cpp makes for tied models.
    C(per_layer_bytes) hold everything of the layer, C(per_layer_expert_bytes) of this the experts.
    C(per_layer_ffn_up_bytes), C(_gate_) and C(_down_) are what llama.cpp moves when it splits one layer: every tensor
    whose name begins so, shared experts, router and biases included.
    C(file_bytes): all tensors as they stand in the file, padded, without its header.
    """

    input_bytes: int
    per_layer_bytes: Tuple[int, ...]
    per_layer_expert_bytes: Tuple[int, ...]
    per_layer_ffn_up_bytes: Tuple[int, ...]
    per_layer_ffn_gate_bytes: Tuple[int, ...]
    per_layer_ffn_down_bytes: Tuple[int, ...]
    output_bytes: int
    file_bytes: int

    @property
    def device_bytes(self) -> int:
        """What lies on GPUs when every layer and the output do."""
        return sum(self.per_layer_bytes) + self.output_bytes


@dataclass(frozen=True)
class TensorBytes:
    """A tensor as a file lists it; C(device_class) and C(layer) as in C(tensors.place)."""

    name: str
    dimensions: Dimensions
    type_name: str
    size_bytes: int
    device_class: str
    layer: Optional[int]


def mix_name(name: str) -> str:
    """The mix that a person means: any case, C(-) for C(_), short names; raises SizingError for an unknown one."""
    plain = str(name).strip().upper().replace("-", "_")
    plain = _MIX_ALIASES.get(plain, plain)
    if plain not in BASE_TYPE:
        raise unknown("quantization", str(name), MIXES)
    return plain


@lru_cache(maxsize=512)
def tensor_types(
    shape: ModelShape, mix: str, imatrix: bool = False, overrides: Overrides = (), separate_output: bool = False
) -> Tuple[str, ...]:
    """Type of each tensor, in the order of C(tensors.tensor_list).

    C(imatrix): made with an importance matrix, which changes a few types. C(separate_output): the file has its own
    C(output.weight) although the embeddings are tied; it then stands last. Raises SizingError for an unknown mix or
    architecture.
    """
    added = separate_output and shape.tied_embeddings
    outer, layers = _assign(shape, mix_name(mix), imatrix, overrides, separate_output)
    types = [kind for name, unused, kind in outer if name != _OUTPUT_WEIGHT or not added]
    for layer in layers:
        types.extend(layer)
    if added:
        types.append(next(kind for name, unused, kind in outer if name == _OUTPUT_WEIGHT))
    return tuple(types)


@lru_cache(maxsize=512)
def weights(
    shape: ModelShape, mix: str, imatrix: bool = False, overrides: Overrides = (), separate_output: bool = False
) -> Weights:
    """Bytes of the model's parts in a mix; arguments and errors as for C(tensor_types)."""
    outer, layers = _assign(shape, mix_name(mix), imatrix, overrides, separate_output)
    tied = shape.tied_embeddings and not separate_output
    tally = _Tally()
    for name, dimensions, kind in outer:
        tally.add_outer(name, place(name)[0], tensor_bytes(kind, dimensions), tied)
    done: Dict[Tuple[Tuple[Entry, ...], Tuple[str, ...]], _LayerBytes] = {}
    for entries, types in zip(layer_entries(shape), layers):
        made = done.get((entries, types))
        if made is None:
            made = _LayerBytes()
            for (name, dimensions), kind in zip(entries, types):
                made.add(name, place("blk.0." + name)[0], tensor_bytes(kind, dimensions))
            done[(entries, types)] = made
        tally.layers.append(made)
    return tally.weights()


def weights_from_tensors(tensors: Iterable[TensorBytes], tied: bool, block_count: int = 0) -> Weights:
    """The same from a file's own list; C(tied): the file has no C(output.weight).

    There are at least C(block_count) layers; a file with layers beyond (for predicting further tokens) has more.
    """
    tally = _Tally()
    tally.layers = [_LayerBytes() for unused in range(block_count)]
    for tensor in tensors:
        if tensor.layer is None:
            tally.add_outer(tensor.name, tensor.device_class, tensor.size_bytes, tied)
            continue
        while len(tally.layers) <= tensor.layer:
            tally.layers.append(_LayerBytes())
        short = tensor.name.split(".", 2)[2] if tensor.name.startswith("blk.") else tensor.name
        tally.layers[tensor.layer].add(short, tensor.device_class, tensor.size_bytes)
    return tally.weights()


def data_bytes(
    shape: ModelShape, mix: str, imatrix: bool = False, overrides: Overrides = (), separate_output: bool = False
) -> int:
    """Bytes of all tensors in the file, padded, without header and vocabulary (some 0.5 to 12 MiB)."""
    return weights(shape, mix, imatrix, overrides, separate_output).file_bytes


def bits_per_weight(shape: ModelShape, mix: str, imatrix: bool = False) -> float:
    """Bits of the file's tensors for each parameter."""
    return data_bytes(shape, mix, imatrix) * 8 / shape.parameter_count


def tensor_bytes(type_name: str, dimensions: Sequence[int]) -> int:
    """Bytes of a tensor, without padding; raises SizingError where a row is no whole number of blocks."""
    return row_bytes(type_name, dimensions[0]) * product(tuple(dimensions[1:]))


def padded(size_bytes: int) -> int:
    """Bytes up to where the next tensor of a file may begin."""
    return size_bytes + -size_bytes % ALIGNMENT_BYTES


class _LayerBytes:
    __slots__ = ("total", "expert", "up", "gate", "down", "file")

    def __init__(self) -> None:
        self.total = self.expert = self.up = self.gate = self.down = self.file = 0

    def add(self, name: str, device_class: str, size_bytes: int) -> None:
        self.total += size_bytes
        self.file += padded(size_bytes)
        if device_class == EXPERT:
            self.expert += size_bytes
        if name.startswith("ffn_up"):
            self.up += size_bytes
        elif name.startswith("ffn_gate"):
            self.gate += size_bytes
        elif name.startswith("ffn_down"):
            self.down += size_bytes


class _Tally:
    def __init__(self) -> None:
        self.input = self.output = self.file = 0
        self.layers: List[_LayerBytes] = []

    def add_outer(self, name: str, device_class: str, size_bytes: int, tied: bool) -> None:
        self.file += padded(size_bytes)
        if device_class == INPUT:
            self.input += size_bytes
            if tied and name == _EMBEDDING_WEIGHT:
                self.output += size_bytes
        else:
            self.output += size_bytes

    def weights(self) -> Weights:
        return Weights(
            input_bytes=self.input,
            per_layer_bytes=tuple(layer.total for layer in self.layers),
            per_layer_expert_bytes=tuple(layer.expert for layer in self.layers),
            per_layer_ffn_up_bytes=tuple(layer.up for layer in self.layers),
            per_layer_ffn_gate_bytes=tuple(layer.gate for layer in self.layers),
            per_layer_ffn_down_bytes=tuple(layer.down for layer in self.layers),
            output_bytes=self.output,
            file_bytes=self.file + sum(layer.file for layer in self.layers),
        )


_OUTPUT_WEIGHT, _EMBEDDING_WEIGHT = "output.weight", "token_embd.weight"
_Outer = List[Tuple[str, Dimensions, str]]


def _assign(
    shape: ModelShape, mix: str, imatrix: bool, overrides: Overrides, separate_output: bool
) -> Tuple[_Outer, List[Tuple[str, ...]]]:
    """Outer tensors with their types, and the types of each layer's entries."""
    patterns = _compiled(overrides)
    entries = outer_entries(shape)
    if separate_output and shape.tied_embeddings:
        entries = tuple(sorted((*entries, (_OUTPUT_WEIGHT, (shape.embedding_length, shape.vocab_size)))))
    rules = _Rules(shape, mix, imatrix, tied=shape.tied_embeddings and not separate_output)
    outer = []
    for name, dimensions in entries:
        kind = fixed_type(name, dimensions) or rules.outer(name, dimensions)
        outer.append((name, dimensions, _overridden(name, dimensions, kind, patterns)))
    prepared: Dict[Tuple[Entry, ...], Tuple[Tuple[str, Dimensions, str, str], ...]] = {}
    layers = []
    for layer, layer_names in enumerate(layer_entries(shape)):
        rows = prepared.get(layer_names)
        if rows is None:
            rows = tuple((name, size, fixed_type(name, size), _category(name)) for name, size in layer_names)
            prepared[layer_names] = rows
        types = tuple(fixed or rules.in_layer(category, size, layer) for unused, size, fixed, category in rows)
        if patterns:
            types = tuple(
                _overridden(f"blk.{layer}.{name}", size, kind, patterns)
                for (name, size, unused, unused_too), kind in zip(rows, types)
            )
        layers.append(types)
    return outer, layers


def _compiled(overrides: Overrides) -> List[Tuple[re.Pattern[str], str]]:
    patterns = []
    for pattern, kind in overrides:
        if kind not in BY_NAME:
            raise unknown(f"tensor type for {pattern}", kind, BY_NAME)
        try:
            patterns.append((re.compile(pattern), kind))
        except re.error as error:
            raise SizingError(f"the override {pattern!r} is no regular expression ({error}): correct it.") from None
    return patterns


def _overridden(name: str, dimensions: Dimensions, kind: str, patterns: Sequence[Tuple[re.Pattern[str], str]]) -> str:
    # One-dimensional tensors stay as they are, as llama-quantize leaves them whatever it is told.
    if len(dimensions) > 1:
        for pattern, wanted in patterns:
            if pattern.search(name):
                return _fitting(wanted, dimensions)
    return kind


def _category(name: str) -> str:
    return next((category for part, category in _CATEGORIES if part in name), _OTHER)


def _fitting(kind: str, dimensions: Dimensions) -> str:
    row = dimensions[0]
    if row % _BLOCK_ELEMENTS[kind] == 0:
        return kind
    kind = _FALLBACK.get(kind, kind)
    return kind if row % _BLOCK_ELEMENTS[kind] == 0 else "F16"


def _more_bits(index: int, count: int) -> bool:
    """The layers that the _M mixes favour: the first and last eighth, and every third between."""
    eighth = count // 8
    return index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2


class _Rules:
    """Goes through a model's tensors in order, since some rules count them."""

    def __init__(self, shape: ModelShape, mix: str, imatrix: bool, tied: bool) -> None:
        self.mix, self.imatrix, self.tied = mix, imatrix, tied
        self.base = BASE_TYPE[mix]
        self.experts = shape.expert_count
        self.blocks = shape.block_count + shape.nextn_predict_layers
        kv_heads = shape.heads_kv(0)
        self.queries_per_value = shape.head_count // kv_heads if kv_heads else 0
        # llama.cpp calls these "70B" by their number of layers.
        self.is_70b = shape.block_count == 80 and (
            shape.architecture == "qwen2"
            or (shape.architecture == "llama" and self.experts != 8 and shape.head_count != kv_heads)
        )
        self.value_count = sum(
            1 for entries in layer_entries(shape) for name, unused in entries if _category(name) == _VALUES
        )
        self.values_seen = self.downs_seen = self.gates_seen = self.ups_seen = 0

    def outer(self, name: str, dimensions: Dimensions) -> str:
        if self.base in _UNQUANTIZED:
            return self.base
        is_embedding = name == _EMBEDDING_WEIGHT
        if name == _OUTPUT_WEIGHT or (is_embedding and self.tied):
            return _fitting(self._output(dimensions), dimensions)
        if self.mix == "MXFP4_MOE":
            return _fitting("Q8_0", dimensions)
        return _fitting(_EMBEDDING.get(self.mix, self.base) if is_embedding else self.base, dimensions)

    def _output(self, dimensions: Dimensions) -> str:
        if self.mix == "MXFP4_MOE" or dimensions[0] % _BLOCK_ELEMENTS[self.base] or self.base == "Q8_0":
            return "Q8_0"
        return "Q5_K" if self.mix in _OUTPUT_Q5 else "Q6_K"

    def in_layer(self, category: str, dimensions: Dimensions, layer: int) -> str:
        if self.base in _UNQUANTIZED:
            return self.base
        if self.mix == "MXFP4_MOE":
            return _fitting("MXFP4" if len(dimensions) > 2 and dimensions[2] > 1 else "Q8_0", dimensions)
        if category == _VALUES:
            kind = self._value_tiny() if self.mix in _TINY else self._value()
            self.values_seen += 1
        elif category == _DOWNS:
            kind = self._down(layer)
            self.downs_seen += 1
        elif category == _ATTENTION:
            kind = self._attention_out()
        elif category in (_KEYS, _QUERIES):
            kind = self._key_or_query(category)
        elif category in (_GATE, _UP):
            kind = self._gate_or_up(category, layer)
        else:
            kind = self.base
        return _fitting(kind, dimensions)

    def _value(self) -> str:
        kind = _VALUE.get(self.mix, self.base)
        if self.queries_per_value >= _MANY_QUERIES:
            kind = _VALUE_OF_MANY_QUERIES.get(self.mix, kind)
        elif self.mix == "IQ3_XXS" and self.imatrix:
            kind = "IQ3_XXS"
        first, first_kind = _VALUE_OF_FIRST.get(self.mix, (0, ""))
        if self.values_seen < first:
            kind = first_kind
        if self.mix in ("Q4_K_M", "Q5_K_M") and _more_bits(self.values_seen, self.value_count):
            kind = "Q6_K"
        if self.is_70b and kind in ("Q3_K", "Q4_K"):
            kind = "Q5_K"
        return "Q8_0" if self.experts == 8 else kind

    def _value_tiny(self) -> str:
        if self.queries_per_value >= _MANY_QUERIES or self.experts >= 4:
            return "Q4_K"
        return _TINY_KEPT.get(self.mix, "Q2_K")

    def _attention_out(self) -> str:
        if self.mix in _TINY:
            return "Q5_K" if self.experts == 8 else _ATTENTION_OUT_TINY.get(self.mix, self.base)
        if self.experts == 8:
            return "Q5_K" if self.mix in _ATTENTION_OUT_8_EXPERTS else self.base
        return _ATTENTION_OUT.get(self.mix, self.base)

    def _key_or_query(self, category: str) -> str:
        if self.experts == 8 and category == _KEYS:
            return "Q4_K" if self.mix in _TINY else "Q8_0"
        return _QUERY_KEY.get(self.mix, self.base)

    def _gate_or_up(self, category: str, layer: int) -> str:
        if category == _GATE:
            seen, self.gates_seen = self.gates_seen, self.gates_seen + 1
        else:
            seen, self.ups_seen = self.ups_seen, self.ups_seen + 1
        index = layer if self.experts > 1 else seen
        if self.mix == "IQ3_XS" and self.blocks // 8 <= index < 7 * self.blocks // 8:
            return "IQ3_XXS"
        return self.base

    def _down(self, layer: int) -> str:
        blocks = self.blocks
        if self.mix in _TINY:
            return _TINY_KEPT.get(self.mix, "Q2_K") if self.downs_seen < blocks // 8 else self.base
        index = layer if self.experts > 1 else self.downs_seen
        if self.mix in ("Q4_K_M", "Q5_K_M") and _more_bits(index, blocks):
            return "Q6_K"
        if self.mix == "Q3_K_M" and index < blocks // 16:
            return "Q5_K"
        if self.mix == "IQ3_M" and self.experts == 8 and _more_bits(index, blocks):
            return "Q4_K"
        if self.mix == "IQ3_XXS" and not self.imatrix and index >= blocks // 8:
            return "Q3_K"
        if index < blocks // 8:
            depends = _DOWN_FIRST_EIGHTH_IMATRIX if self.imatrix else _DOWN_FIRST_EIGHTH_PLAIN
            kind = _DOWN_FIRST_EIGHTH.get(self.mix) or depends.get(self.mix)
            if kind:
                return kind
        return _DOWN.get(self.mix, self.base)
