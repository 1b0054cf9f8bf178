# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute buffers: the graph of one micro-batch as llama.cpp builds it, replayed by C(allocator).

Order and sizes of the operations: src/llama-graph.cpp and src/models of ggml-org/llama.cpp, build 11095; what the CUDA
backend adds (16-bit copies of a quantized cache for flash attention, expert results kept for the fused sum):
ggml/src/ggml-cuda/fattn.cu and ggml-cuda.cu; copies between devices: ggml/src/ggml-backend.cpp. All sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.allocator import Graph, Value
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import row_bytes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import EXPERT_GATING_SIGMOID, ModelShape
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import outer_entries

PIPELINE_COPIES = 4
# ggml sums the results of that many experts in one fused step, for which it keeps them all.
_MOST_FUSED_EXPERTS = 15
_ROTATION_STEP = 64
_VALUE_ROTATION = 64
_LONGEST_PERIOD = 8
# One matrix makes gate and up, and in phi3 another one query, key and value.
_FUSED_UP = frozenset({"glm4", "phi3"})
_UNSCALED_CHOICE = frozenset({"deepseek2", "qwen2moe"})
_HEAD_NORMS = frozenset({"gemma3", "qwen3", "qwen3moe"})
_KEY_BEFORE_VALUE = frozenset({"gemma2", "gemma3", "gpt-oss"})


@dataclass(frozen=True)
class Batch:
    """What one micro-batch works on: tokens in it, sequences and logits; cells of one sequence's caches."""

    tokens: int
    sequences: int
    outputs: int
    cells: int
    cells_sliding: int
    flash_attention: bool
    key_type: str
    value_type: str

    @property
    def quantized(self) -> bool:
        """Whether llama.cpp rotates what it stores in the cache."""
        return self.key_type not in ("f16", "bf16", "f32")


@dataclass(frozen=True)
class HostLayer:
    """Matrices in bytes of a layer that lies in main memory and is copied to the GPU for every micro-batch.

    C(whole) is false where only these parts of the feed-forward lie there, the cache and the attention do not.
    C(elsewhere): the experts are in main memory and the first device computes them, while this one has the rest.
    """

    whole: bool
    gate: int
    up: int
    down: int
    query: int = 0
    key: int = 0
    value: int = 0
    output: int = 0
    elsewhere: bool = False


HERE = HostLayer(False, 0, 0, 0)
ELSEWHERE = HostLayer(False, 0, 0, 0, elsewhere=True)


@dataclass(frozen=True)
class Part:
    """What one device computes: layers in order, each with what has to be copied for it (C(HERE): nothing).

    C(foreign): layers of later devices whose experts lie in main memory; llama.cpp gives all such work to the first.
    """

    layers: Tuple[Tuple[int, HostLayer], ...]
    first: bool
    last: bool
    copies: int = 1
    norm_before: bool = False
    foreign: Tuple[Tuple[int, HostLayer], ...] = ()


def device_bytes(shape: ModelShape, batch: Batch, part: Part) -> int:
    """Compute buffer of a device; of recurrent architectures a bound from above."""
    return _bounded(shape, _replay(shape, batch, _shortened(shape, part)))


def host_bytes(shape: ModelShape, batch: Batch, copies: int = 1) -> int:
    """Buffer in main memory with the inputs of the graph; with C(copies) of each where several devices work at once."""
    embedding = 4 * shape.embedding_length * batch.tokens
    inputs = [4 * batch.tokens, 4 * batch.outputs]
    for sliding in _cache_kinds(shape):
        inputs += _cache_inputs(shape, batch, sliding).values()
    return 2 * _aligned(embedding) + 4 * batch.tokens + copies * sum(_aligned(size) for size in inputs)


def processor_bytes(shape: ModelShape, batch: Batch) -> int:
    """The one compute buffer of a host without GPUs."""
    layers = tuple((layer, HERE) for layer in range(shape.block_count))
    return _bounded(shape, _replay(shape, batch, _shortened(shape, Part(layers, True, True, copies=0))))


def _bounded(shape: ModelShape, size: int) -> int:
    """Layers with a state are not replayed: buffers were at most 26 % larger than with attention in their place."""
    return size * 3 // 2 if shape.full_attention_interval else size


def _aligned(size: int) -> int:
    return -(-size // 32) * 32


@lru_cache(maxsize=65536)
def _replay(shape: ModelShape, batch: Batch, part: Part) -> int:
    return _Builder(shape, batch, part).graph.buffer_bytes()


def _shortened(shape: ModelShape, part: Part) -> Part:
    """The same part with fewer repetitions: after a few equal layers the buffer does not change any more."""
    layers, foreign = _few_of_each(shape, part.layers), _few_of_each(shape, part.foreign)
    return replace(part, layers=layers, foreign=foreign)


def _few_of_each(shape: ModelShape, layers: Sequence[Tuple[int, HostLayer]]) -> Tuple[Tuple[int, HostLayer], ...]:
    kept: List[Tuple[int, HostLayer]] = []
    seen: Dict[Tuple[bool, HostLayer], int] = {}
    enough = 2 * _period(shape) + 2
    last = len(layers) - 1
    for position, (layer, host) in enumerate(layers):
        kind = (shape.is_moe_layer(layer), host)
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= enough or position == last:
            kept.append((layer, host))
    return tuple(kept)


def _period(shape: ModelShape) -> int:
    """Layers after which the kinds of attention repeat."""
    for layer in range(1, min(shape.block_count, _LONGEST_PERIOD)):
        if not shape.is_sliding(layer) and shape.is_sliding(layer - 1):
            return layer + 1
    return 1 if not shape.is_sliding(0) else _LONGEST_PERIOD


@lru_cache(maxsize=1024)
def _cache_inputs(shape: ModelShape, batch: Batch, sliding: bool) -> Dict[str, int]:
    """Inputs that one of the caches needs, in the order in which a layer asks for them."""
    cells = batch.cells_sliding if sliding else batch.cells
    inputs = _rotations(shape, batch)
    inputs["key_index"] = 8 * batch.tokens
    if not shape.is_mla:
        inputs["value_index"] = 8 * batch.tokens * (1 if batch.flash_attention else _value_row(shape))
    inputs["mask"] = (2 if batch.flash_attention else 4) * cells * batch.tokens
    return inputs


@lru_cache(maxsize=1024)
def _cache_kinds(shape: ModelShape) -> Tuple[bool, ...]:
    kinds: List[bool] = []
    for layer in range(shape.block_count):
        if shape.has_kv(layer) and shape.is_sliding(layer) not in kinds:
            kinds.append(shape.is_sliding(layer))
    return tuple(kinds)


def _has_frequencies(shape: ModelShape) -> bool:
    """Whether the file has a tensor with the frequencies of rotation."""
    return any(name.startswith("rope_") for name, _dimensions in outer_entries(shape))


def _value_row(shape: ModelShape) -> int:
    return max(shape.heads_kv(layer) * shape.value_length_at(layer) for layer in range(shape.block_count))


def _rotations(shape: ModelShape, batch: Batch) -> Dict[str, int]:
    if not batch.quantized or shape.is_mla:
        return {}
    sizes = {}
    if shape.key_length % _ROTATION_STEP == 0:
        side = _ROTATION_STEP
        while shape.key_length % (2 * side) == 0:
            side *= 2
        sizes["key_rotation"] = 4 * side * side
    if shape.value_length % _ROTATION_STEP == 0:
        sizes["value_rotation"] = 4 * _VALUE_ROTATION * _VALUE_ROTATION
    return sizes


class _Builder:
    """Builds the graph of one device.

    What comes from elsewhere is copied before the stretch of operations that first reads it (a "split" of
    ggml-backend.cpp). A split ends where another device works, and before a weight in main memory if anything was
    copied for it already.
    """

    def __init__(self, shape: ModelShape, batch: Batch, part: Part) -> None:
        self.graph = Graph()
        self._shape, self._batch, self._part = shape, batch, part
        self._row = 4 * batch.tokens
        self._width = self._row * shape.embedding_length
        self._caches: Dict[Tuple[bool, str], Value] = {}
        self._positions: Optional[Value] = None
        self._output_ids: Optional[Value] = None
        self._frequencies: Optional[Value] = None
        self._split_start = 0
        self._split_has_copies = False
        self._build()

    def _input(self, size: int) -> Value:
        """A copy of a value that another device or the host made."""
        if self._part.copies > 1:
            copies = [self.graph.leaf(size) for _number in range(self._part.copies)]
            return copies[0]
        value = Value(size)
        self.graph.steps.insert(self._split_start, (value, (), False))
        self._split_start += 1
        self._split_has_copies = True
        return value

    def _new_split(self) -> None:
        self._split_start = len(self.graph.steps)
        self._split_has_copies = False

    def _build(self) -> None:
        part = self._part
        if part.copies == 0:
            self._build_on_processor()
            return
        norm = self._input(self._width) if part.norm_before and not part.first else None
        if not part.layers:
            self._output(None)
            return
        entering = self._input(self._width)
        hidden: Optional[Value] = entering
        if part.first and self._shape.architecture.startswith("gemma"):
            hidden = self.graph.step(self._width, (entering,), in_place=True)
        for position, (layer, host) in enumerate(part.layers):
            last = part.last and position == len(part.layers) - 1
            hidden = self._layer(hidden, layer, host, last, norm if position == 0 else None)
        if part.last:
            self._output(hidden)
        elif hidden is not None:
            self.graph.use((hidden,))
        for layer, host in part.foreign:
            self._foreign(layer, host)

    def _foreign(self, layer: int, host: HostLayer) -> None:
        """The experts of a layer of which a later device has the rest, up to where that device goes on."""
        tokens = self._batch.tokens
        self._new_split()
        total = self._expert_sum(layer, tokens, host, None)
        if not self._shared_length():
            inner = self._input(self._width)
            hidden = self.graph.step(self._width, (total, inner), in_place=True)
            self.graph.use((hidden, self.graph.step(self._width, (hidden,))))
            return
        self.graph.use((total,))

    def _build_on_processor(self) -> None:
        """Inputs come first; those that nobody reads, as embeddings given instead of tokens, keep their place."""
        tokens = self.graph.step(self._row, ())
        self.graph.step(self._width, ())
        self._new_split()
        self._declare_inputs()
        entering = self.graph.step(self._width, (tokens,))
        hidden: Optional[Value] = entering
        if self._shape.architecture.startswith("gemma"):
            hidden = self.graph.step(self._width, (entering,), in_place=True)
        last = len(self._part.layers) - 1
        for position, (layer, _host) in enumerate(self._part.layers):
            hidden = self._layer(hidden, layer, HERE, position == last, None)
        self._output(hidden)

    def _declare_inputs(self) -> None:
        self._position_input()
        for sliding in _cache_kinds(self._shape):
            for name in _cache_inputs(self._shape, self._batch, sliding):
                self._cache_input(sliding, name)
        if self._part.last:
            self._output_input()

    def _position_input(self) -> Value:
        if self._positions is None:
            self._positions = self._input(self._row)
        return self._positions

    def _turning(self, host: HostLayer) -> Tuple[Value, ...]:
        """What a rotation by position reads: with frequencies as a weight in main memory it begins a split."""
        if not host.whole or not _has_frequencies(self._shape):
            return (self._position_input(),)
        if self._split_has_copies:
            self._new_split()
        positions = self._position_input()
        if self._frequencies is None:
            self._frequencies = self._input(2 * self._shape.rope_dimension_count)
        return positions, self._frequencies

    def _cache_input(self, sliding: bool, name: str) -> Value:
        if (sliding, name) not in self._caches:
            size = _cache_inputs(self._shape, self._batch, sliding)[name]
            self._caches[sliding, name] = self._input(size)
        return self._caches[sliding, name]

    def _output_input(self) -> Value:
        if self._output_ids is None:
            self._output_ids = self._input(4 * self._batch.outputs)
        return self._output_ids

    def _weighted(self, size: int, weight: int, operands: Sequence[Value], in_place: bool = False) -> Value:
        """An operation with a weight, of which a copy is made first when it lies in main memory."""
        if not weight:
            return self.graph.step(size, operands, in_place)
        if self._split_has_copies:
            self._new_split()
        return self.graph.step(size, (*operands, self._input(weight)), in_place)

    def _normed(self, value: Value, size: int, weight: int = 0, in_place: bool = False) -> Value:
        norm = self.graph.step(size, (value,), in_place)
        return self._weighted(size, weight, (norm,), in_place=True)

    def _layer(
        self, hidden: Optional[Value], layer: int, host: HostLayer, last: bool, norm: Optional[Value]
    ) -> Optional[Value]:
        """Result of a layer; None before and after it stands for a value that the first device has."""
        graph, shape = self.graph, self._shape
        whole = host if host.whole else HERE
        scale = 4 * shape.embedding_length if whole.whole else 0
        if hidden is None:
            normed = graph.step(self._width, (self._input(self._width),), in_place=True)
            hidden = self._input(self._width)
        elif norm is None:
            normed = self._normed(hidden, self._width, scale)
        else:
            normed = graph.step(self._width, (norm,), in_place=True)
        if shape.architecture == "command-r":
            return self._beside(hidden, normed, layer, host, last)
        attended = self._mla(normed, layer, whole) if shape.kv_lora_rank else self._attention(normed, layer, whole)
        out = self._weighted(self._width, whole.output, (attended,))
        row, tokens = self._width, self._batch.tokens
        gemma = shape.architecture.startswith("gemma")
        if shape.architecture == "gpt-oss":
            out = self._weighted(row, scale, (out,), in_place=True)
        elif last:
            ids, tokens = self._output_input(), self._batch.outputs
            row = 4 * shape.embedding_length * tokens
            out = graph.step(row, (out, ids))
            if gemma:
                out = self._normed(out, row, in_place=True)
            hidden = graph.step(row, (hidden, ids))
        if gemma and not last:
            out = self._normed(out, row, scale, in_place=True)
        inner = graph.step(row, (out, hidden), in_place=True)
        normed = self._normed(inner, row, scale)
        if shape.is_moe_layer(layer):
            found = self._experts(normed, layer, tokens, host)
            if found is None:
                graph.use((inner,))
                return None
            fed = found
        else:
            fed = self._feed_forward(normed, tokens, shape.feed_forward(layer), host)
        if gemma:
            fed = self._normed(fed, row, scale, in_place=True)
        operands = (inner, fed) if shape.architecture == "phi3" else (fed, inner)
        return graph.step(row, operands, in_place=True)

    def _beside(self, hidden: Value, normed: Value, layer: int, host: HostLayer, last: bool) -> Value:
        """A layer whose feed-forward reads the same normed input as its attention."""
        graph, shape = self.graph, self._shape
        whole = host if host.whole else HERE
        attended = self._attention(normed, layer, whole)
        row, tokens = self._width, self._batch.tokens
        if last:
            ids, tokens = self._output_input(), self._batch.outputs
            attended = self._rotated_back(attended, layer)
            out = self._weighted(row, whole.output, (attended,))
            row = 4 * shape.embedding_length * tokens
            out = graph.step(row, (out, ids))
            hidden = graph.step(row, (hidden, ids))
            normed = graph.step(row, (normed, ids))
            fed = self._feed_forward(normed, tokens, shape.feed_forward(layer), host)
            return graph.step(row, (graph.step(row, (fed, hidden), in_place=True), out), in_place=True)
        fed = self._feed_forward(normed, tokens, shape.feed_forward(layer), host)
        fed = graph.step(row, (fed, hidden), in_place=True)
        out = self._weighted(row, whole.output, (self._rotated_back(attended, layer),))
        return graph.step(row, (fed, out), in_place=True)

    def _rotated_back(self, attended: Value, layer: int) -> Value:
        if "value_rotation" not in _rotations(self._shape, self._batch):
            return attended
        size = self._row * self._shape.head_count * self._shape.value_length_at(layer)
        return self.graph.view(self.graph.step(size, (attended, self._cache_input(False, "value_rotation"))))

    def _feed_forward(self, normed: Value, tokens: int, length: int, host: HostLayer) -> Value:
        graph = self.graph
        size = 4 * tokens * length
        if self._shape.architecture in _FUSED_UP:
            both = self._weighted(2 * size, host.up, (normed,))
            product = graph.step(size, (both,))
            return self._weighted(4 * tokens * self._shape.embedding_length, host.down, (product,))
        gate = self._weighted(size, host.gate, (normed,))
        up = self._weighted(size, host.up, (normed,))
        product = graph.step(size, (gate, up))
        return self._weighted(4 * tokens * self._shape.embedding_length, host.down, (product,))

    def _experts(self, normed: Value, layer: int, tokens: int, host: HostLayer) -> Optional[Value]:
        """Result of the experts, or None where the first device goes on with it until the next layer."""
        graph = self.graph
        choice, weights = self._routed(normed, tokens)
        width = 4 * tokens * self._shape.embedding_length
        if host.elsewhere:
            graph.use((normed, choice, weights))
            self._new_split()
            if not self._shared_length():
                return None
            total = self._input(width)
        else:
            total = self._expert_sum(layer, tokens, host, (graph.view(normed), graph.view(choice), weights))
        if self._shared_length():
            shared = self._feed_forward(normed, tokens, self._shared_length(), HERE)
            total = graph.step(width, (total, shared), in_place=True)
        return total

    def _shared_length(self) -> int:
        shape = self._shape
        return shape.expert_shared_feed_forward_length or shape.expert_feed_forward_length * shape.expert_shared_count

    def _routed(self, normed: Value, tokens: int) -> Tuple[Value, Value]:
        """All experts in order of their scores, and the weights of the first."""
        graph, shape = self.graph, self._shape
        used, experts = shape.expert_used_count, shape.expert_count
        scores = graph.step(4 * tokens * experts, (normed,))
        scores = graph.step(4 * tokens * experts, (scores,), in_place=True)
        ranked = scores
        if shape.expert_gating_func == EXPERT_GATING_SIGMOID:
            ranked = graph.step(4 * tokens * experts, (scores,))
        choice = graph.step(4 * tokens * experts, (ranked,))
        weights = graph.step(4 * tokens * used, (graph.view(scores), graph.view(choice)))
        if shape.architecture == "gpt-oss":
            weights = graph.step(4 * tokens * used, (graph.view(weights),), in_place=True)
        elif shape.architecture not in _UNSCALED_CHOICE:
            total = graph.step(4 * tokens, (graph.view(weights),))
            total = graph.step(4 * tokens, (total,), in_place=True)
            weights = graph.step(4 * tokens * used, (graph.view(weights), total), in_place=True)
        return choice, weights

    def _expert_sum(
        self, layer: int, tokens: int, host: HostLayer, routed: Optional[Tuple[Value, Value, Value]]
    ) -> Value:
        """The chosen experts' weighted sum; C(routed): normed input, choice and weights, None if made elsewhere."""
        graph, shape = self.graph, self._shape
        width = 4 * tokens * shape.embedding_length
        used = shape.expert_used_count
        length = 4 * tokens * used * (shape.expert_feed_forward_length or shape.feed_forward(layer))
        biased = shape.architecture == "gpt-oss"
        long_bias = 4 * shape.expert_count * (shape.expert_feed_forward_length or shape.feed_forward(layer))
        wide_bias = 4 * shape.expert_count * shape.embedding_length
        if routed is None:
            first = self._input(host.gate)
            normed, chosen = self._input(width), self._input(4 * tokens * shape.expert_count)
            gate = graph.step(length, (first, normed, chosen))
        else:
            normed, chosen, weights = routed
            gate = self._weighted(length, host.gate, (normed, chosen))
        if biased:
            gate = self._weighted(length, long_bias if host.gate else 0, (gate, chosen), in_place=True)
        up = self._weighted(length, host.up, (normed, chosen))
        if biased:
            up = self._weighted(length, long_bias if host.up else 0, (up, chosen), in_place=True)
        product = graph.step(length, (gate, up))
        down = self._weighted(used * width, host.down, (product, chosen))
        if biased:
            down = self._weighted(used * width, wide_bias if host.down else 0, (down, chosen), in_place=True)
        if routed is None:
            weights = self._input(4 * tokens * used)
        fused = self._part.copies > 0 and 2 <= used <= _MOST_FUSED_EXPERTS
        weighted = graph.step(used * width, (down, weights), in_place=not fused)
        parts = [graph.view(weighted) for _number in range(used)]
        total = graph.step(width, parts[:2]) if used > 1 else parts[0]
        for part in parts[2:]:
            total = graph.step(width, (total, part), in_place=True)
        if fused:
            graph.use((down, weights))
        return total

    def _attention(self, normed: Value, layer: int, host: HostLayer) -> Value:
        graph, shape = self.graph, self._shape
        heads_kv = shape.heads_kv(layer)
        sizes = {
            "query": self._row * shape.head_count * shape.key_length_at(layer),
            "key": self._row * heads_kv * shape.key_length_at(layer),
            "value": self._row * heads_kv * shape.value_length_at(layer),
        }
        order = ("query", "key", "value") if shape.architecture in _KEY_BEFORE_VALUE else ("query", "value", "key")
        if shape.architecture == "phi3":
            made = self._fused_projections(normed, sizes, layer, host)
        else:
            made = {name: self._projection(normed, name, sizes[name], layer, host) for name in order}
        sliding = shape.is_sliding(layer)
        for name in ("key", "value"):
            index = () if host.whole else (self._cache_input(sliding, name + "_index"),)
            graph.use((graph.view(made[name]), *index))
        if host.whole:
            # The processor writes its cache.
            self._new_split()
        per_sequence = self._batch.cells_sliding if sliding else self._batch.cells
        elements = {
            "key": per_sequence * self._batch.sequences * heads_kv * shape.key_length_at(layer),
            "value": per_sequence * self._batch.sequences * heads_kv * shape.value_length_at(layer),
        }
        result_bytes = self._row * shape.head_count * shape.value_length_at(layer)
        query = graph.view(made["query"])
        if self._batch.flash_attention:
            caches = self._host_caches(elements, host)
            mask = self._cache_input(sliding, "mask")
            extra = 2 * sum(elements.values()) if self._batch.quantized and self._part.copies else 0
            result = graph.step(result_bytes + extra, (query, *caches, mask))
            if "value_rotation" in _rotations(shape, self._batch) and shape.architecture != "command-r":
                result = graph.step(result_bytes, (graph.view(result), self._cache_input(sliding, "value_rotation")))
            return graph.view(result)
        caches = self._host_caches({"key": elements["key"]}, host)
        mask = self._cache_input(sliding, "mask")
        values = self._host_caches({"value": elements["value"]}, host)
        score_bytes = self._row * shape.head_count * per_sequence
        scores = graph.step(score_bytes, (query, *caches))
        scores = graph.step(score_bytes, (scores, mask), in_place=True)
        mixed = graph.step(result_bytes, (scores, *values))
        return graph.view(graph.step(result_bytes, (graph.view(mixed),)))

    def _host_caches(self, elements: Dict[str, int], host: HostLayer) -> List[Value]:
        """Copies of a cache that lies in main memory."""
        types = {"key": self._batch.key_type, "value": self._batch.value_type}
        if not host.whole:
            return []
        return [self._input(row_bytes(types[name].upper(), count)) for name, count in elements.items()]

    def _projection(self, normed: Value, name: str, size: int, layer: int, host: HostLayer) -> Value:
        graph, architecture = self.graph, self._shape.architecture
        turned = name != "value"
        biased = architecture in ("qwen2", "gpt-oss", "qwen2moe")
        head_norm = turned and architecture in _HEAD_NORMS
        weight = {"query": host.query, "key": host.key, "value": host.value}[name]
        value = self._weighted(size, weight, (normed,))
        if biased:
            value = self._weighted(size, size // self._batch.tokens if host.whole else 0, (value,), in_place=True)
        if turned:
            if head_norm:
                weight = 4 * self._shape.key_length if host.whole else 0
                value = self._normed(graph.view(value), size, weight, in_place=True)
                value = graph.step(size, (value, self._position_input()), in_place=True)
            else:
                value = graph.step(size, (graph.view(value), *self._turning(host)), in_place=True)
            if name == "query" and architecture.startswith("gemma"):
                value = graph.step(size, (value,), in_place=True)
        rotation = "value_rotation" if name == "value" else "key_rotation"
        if rotation in _rotations(self._shape, self._batch):
            value = graph.step(size, (graph.view(value), self._cache_input(self._shape.is_sliding(layer), rotation)))
        return value

    def _fused_projections(self, normed: Value, sizes: Dict[str, int], layer: int, host: HostLayer) -> Dict[str, Value]:
        graph = self.graph
        both = self._weighted(sum(sizes.values()), host.query + host.key + host.value, (normed,))
        views = {name: graph.view(both) for name in sizes}
        query = graph.step(sizes["query"], (views["query"], self._position_input()))
        query = graph.step(sizes["query"], (query,), in_place=True)
        made = {"query": query, "value": views["value"]}
        rotated = _rotations(self._shape, self._batch)
        sliding = self._shape.is_sliding(layer)
        if "key_rotation" in rotated:
            rotation = self._cache_input(sliding, "key_rotation")
            made["query"] = graph.step(sizes["query"], (graph.view(query), rotation))
        if "value_rotation" in rotated:
            rotation = self._cache_input(sliding, "value_rotation")
            value = graph.step(sizes["value"], (views["value"],))
            made["value"] = graph.step(sizes["value"], (graph.view(value), rotation))
        key = graph.step(sizes["key"], (views["key"], self._position_input()))
        if "key_rotation" in rotated:
            key = graph.step(sizes["key"], (graph.view(key), self._cache_input(sliding, "key_rotation")))
        made["key"] = key
        return made

    def _mla(self, normed: Value, layer: int, host: HostLayer) -> Value:
        return self._absorbed(normed, host) if self._shape.is_mla else self._expanded(normed, layer, host)

    def _query_lora(self, normed: Value, query_length: int, host: HostLayer) -> Value:
        attention = host.query
        if self._shape.q_lora_rank:
            size = self._row * self._shape.q_lora_rank
            low = self._weighted(size, attention, (normed,))
            low = self._normed(low, size, in_place=True)
            return self._weighted(self._row * self._shape.head_count * query_length, attention, (low,))
        return self._weighted(self._row * self._shape.head_count * query_length, attention, (normed,))

    def _absorbed(self, normed: Value, host: HostLayer) -> Value:
        graph, shape, row = self.graph, self._shape, self._row
        heads, rank, rope = shape.head_count, shape.kv_lora_rank, shape.rope_dimension_count
        query = self._query_lora(normed, shape.key_length_mla, host)
        plain = graph.view(query)
        turned_view = graph.view(query)
        absorbed = self._weighted(row * heads * rank, host.key, (plain,))
        turned = graph.step(row * heads * rope, (turned_view, self._position_input()))
        query = graph.step(row * heads * (rank + rope), (graph.view(absorbed), turned))
        compressed = self._weighted(row * (rank + rope), host.key, (normed,))
        plain, turned_view = graph.view(compressed), graph.view(compressed)
        low = graph.step(row * rank, (plain,))
        low = graph.step(row * rank, (low,), in_place=True)
        turned = graph.step(row * rope, (turned_view, self._position_input()))
        key = graph.step(row * (rank + rope), (graph.view(low), turned))
        cells = self._batch.cells * self._batch.sequences
        value_bytes = row * heads * shape.value_length_mla
        graph.use((graph.view(key), *(() if host.whole else (self._cache_input(False, "key_index"),))))
        if host.whole:
            self._new_split()
        caches = self._host_caches({"key": cells * (rank + rope)}, host)
        mask = self._cache_input(False, "mask")
        if self._batch.flash_attention:
            extra = 2 * cells * (rank + rope) if self._batch.quantized and self._part.copies else 0
            result = graph.step(row * heads * rank + extra, (graph.view(query), *caches, mask))
            expanded = self._weighted(value_bytes, host.value, (graph.view(result),))
        else:
            values = graph.step(4 * cells * rank if self._batch.quantized else 2 * cells * rank, ())
            scores = graph.step(row * heads * self._batch.cells, (graph.view(query), *caches))
            scores = graph.step(row * heads * self._batch.cells, (scores, mask), in_place=True)
            mixed = graph.step(row * heads * rank, (values, scores))
            expanded = self._weighted(value_bytes, host.value, (mixed,))
        return graph.view(graph.step(value_bytes, (graph.view(expanded),)))

    def _expanded(self, normed: Value, layer: int, host: HostLayer) -> Value:
        graph, shape, row = self.graph, self._shape, self._row
        heads, rank, rope = shape.head_count, shape.kv_lora_rank, shape.rope_dimension_count
        key_length, value_length = shape.key_length, shape.value_length
        query = self._query_lora(normed, key_length, host)
        query = graph.step(row * heads * key_length, (graph.view(query), self._position_input()), in_place=True)
        compressed = self._weighted(row * (rank + rope), host.key, (normed,))
        plain, turned_view = graph.view(compressed), graph.view(compressed)
        low = graph.step(row * rank, (plain,))
        low = graph.step(row * rank, (low,), in_place=True)
        both = self._weighted(row * heads * (key_length - rope + value_length), host.value, (low,))
        values_view, keys_view = graph.view(both), graph.view(both)
        value = graph.step(row * heads * value_length, (values_view,))
        turned = graph.step(row * rope, (turned_view, self._position_input()))
        repeated = graph.step(row * rope * heads, (turned,))
        key = graph.step(row * heads * key_length, (keys_view, repeated))
        graph.use((graph.view(key), *(() if host.whole else (self._cache_input(False, "key_index"),))))
        graph.use((graph.view(value), *(() if host.whole else (self._cache_input(False, "value_index"),))))
        if host.whole:
            self._new_split()
        cells = self._batch.cells * self._batch.sequences * heads
        caches = self._host_caches({"key": cells * key_length, "value": cells * value_length}, host)
        mask = self._cache_input(False, "mask")
        if self._batch.flash_attention:
            return graph.view(graph.step(row * heads * value_length, (graph.view(query), *caches, mask)))
        scores = graph.step(row * heads * self._batch.cells, (graph.view(query), *caches[:1]))
        scores = graph.step(row * heads * self._batch.cells, (scores, mask), in_place=True)
        mixed = graph.step(row * heads * value_length, (scores, *caches[1:]))
        return graph.view(graph.step(row * heads * value_length, (graph.view(mixed),)))

    def _output(self, hidden: Optional[Value]) -> None:
        row = 4 * self._shape.embedding_length * self._batch.outputs
        if hidden is None:
            hidden = self._input(row)
        if self._shape.architecture == "gpt-oss":
            # llama.cpp hands out the last layer's result of this architecture, so that its place stays taken.
            hidden.pinned = True
            hidden = self.graph.step(row, (hidden, self._output_input()))
        normed = self._normed(hidden, row, in_place=True)
        self.graph.step(4 * self._shape.vocab_size * self._batch.outputs, (normed,))
