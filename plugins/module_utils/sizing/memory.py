# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that llama.cpp takes on each device for a given distribution of layers: weights, KV cache, compute buffers.

Sources: src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp and src/llama-model.cpp (assignment of layers) of
ggml-org/llama.cpp, build 11095; sizes compared with its own logs in tests/fixtures/measured.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import List, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing import compute
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import row_bytes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.mixes import Weights
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import ModelShape

CONTEXT_STEP = 256
_DEVICE_ALIGNMENT_BYTES = 128
# CUDA reads quantized rows in steps of so many elements and pads the end of a tensor to it.
_ROW_PADDING = 512

# What of a layer stays in main memory, as common/fit.cpp names its fractions.
WHOLE, EXPERTS, AFTER_ATTENTION, AFTER_UP, DOWN = "whole", "experts", "after attention", "after up", "down"


@dataclass(frozen=True)
class Setting:
    """How a model is run. Tokens of context of one slot, slots, tokens of one micro-batch, logits reserved."""

    shape: ModelShape
    weights: Weights
    context_length: int
    parallel: int
    key_type: str
    value_type: str
    flash_attention: bool
    ubatch: int
    outputs: int

    def batch(self) -> compute.Batch:
        """The largest micro-batch, for which llama.cpp reserves its compute buffers."""
        tokens = min(self.context_length * self.parallel, self.ubatch)
        tokens = -(-tokens // self.parallel) * self.parallel
        return compute.Batch(
            tokens=tokens,
            sequences=self.parallel,
            outputs=min(tokens, self.outputs),
            cells=self.cells(False),
            cells_sliding=self.cells(True),
            flash_attention=self.flash_attention,
            key_type=self.key_type,
            value_type=self.value_type,
        )

    def cells(self, sliding: bool) -> int:
        """Tokens that the cache of one slot holds."""
        cells = _stepped(self.context_length)
        if sliding and self.shape.sliding_window:
            cells = min(cells, _stepped(self.shape.sliding_window + self.ubatch))
        return cells


@dataclass(frozen=True)
class Placement:
    """Layers of each device, and of these what stays in main memory (layer, part); C(output) is the device's number.

    C(spill) names layers of which a part overflows to the next device instead (layer, part).
    """

    layers: Tuple[Tuple[int, ...], ...]
    output: Optional[int]
    in_host: Tuple[Tuple[int, str], ...] = ()
    spill: Tuple[Tuple[int, str], ...] = ()

    @property
    def on_devices(self) -> int:
        """Layers with the output layer, as llama.cpp counts what it offloads."""
        return sum(len(layers) for layers in self.layers) + (self.output is not None)


@dataclass(frozen=True)
class Use:
    """Bytes on one device, or in main memory."""

    weights: int
    kv_cache: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.compute


def measure(setting: Setting, placement: Placement, as_fitted: bool = False) -> Tuple[Tuple[Use, ...], Use]:
    """Use of each device and of main memory.

    With C(as_fitted) as llama.cpp's own search sees it: there every device but the first also receives the normed
    input of its first layer, which a loaded model saves.
    """
    devices = range(len(placement.layers))
    in_host, spill = dict(placement.in_host), dict(placement.spill)
    owners = {layer: device for device in devices for layer in placement.layers[device]}
    weights, caches = [0] * len(placement.layers), [0] * len(placement.layers)
    host_weights, host_cache = setting.weights.input_bytes, 0
    for layer in range(setting.shape.block_count):
        whole, cache = setting.weights.per_layer_bytes[layer], layer_cache_bytes(setting, layer)
        owner = owners.get(layer)
        if owner is None:
            host_weights += whole
            host_cache += cache
            continue
        away = part_bytes(setting.weights, layer, in_host[layer]) if layer in in_host else 0
        over = part_bytes(setting.weights, layer, spill[layer]) if layer in spill else 0
        host_weights += away
        weights[owner] += whole - away - over
        caches[owner] += cache
        if over:
            weights[owner + 1] += over
    if placement.output is None:
        host_weights += setting.weights.output_bytes
        if setting.shape.tied_embeddings:
            host_weights -= setting.weights.input_bytes
    else:
        weights[placement.output] += setting.weights.output_bytes
    parallel_work = _works_in_parallel(setting, placement)
    copies = compute.PIPELINE_COPIES if parallel_work else 1
    uses = []
    for device in devices:
        part = _part(setting, placement, device, copies, as_fitted or not parallel_work)
        size = compute.device_bytes(setting.shape, setting.batch(), part) if part else 0
        uses.append(Use(weights[device], caches[device], size))
    host_compute = compute.host_bytes(setting.shape, setting.batch(), copies)
    if not placement.layers:
        host_compute = compute.processor_bytes(setting.shape, setting.batch())
    return tuple(uses), Use(host_weights, host_cache, host_compute)


def all_on_devices(setting: Setting, shares: Sequence[float]) -> Placement:
    """Every layer on a device, in proportion to C(shares), such as their free memory."""
    return split(setting, setting.shape.block_count + 1, shares)


def split(setting: Setting, count: int, shares: Sequence[float]) -> Placement:
    """The last C(count) layers, the output layer among them, on devices in proportion to C(shares)."""
    blocks = setting.shape.block_count
    if not shares:
        return Placement((), None)
    total, ends = sum(shares), []
    reached = 0.0
    for share in shares:
        reached += share
        ends.append(reached / total)
    layers: List[List[int]] = [[] for _share in shares]
    first = blocks + 1 - count
    output: Optional[int] = None
    for layer in range(first, blocks + 1):
        device = min(bisect_right(ends, (layer - first) / count), len(shares) - 1)
        if layer == blocks:
            output = device
        else:
            layers[device].append(layer)
    return Placement(tuple(tuple(own) for own in layers), output)


def part_bytes(weights: Weights, layer: int, part: str) -> int:
    """Weights of a part of a layer."""
    if part == WHOLE:
        return weights.per_layer_bytes[layer]
    if part == EXPERTS:
        return weights.per_layer_expert_bytes[layer]
    size = weights.per_layer_ffn_down_bytes[layer]
    if part in (AFTER_UP, AFTER_ATTENTION):
        size += weights.per_layer_ffn_gate_bytes[layer]
    if part == AFTER_ATTENTION:
        size += weights.per_layer_ffn_up_bytes[layer]
    return size


def layer_cache_bytes(setting: Setting, layer: int) -> int:
    """KV cache of one layer for all slots, or its state where it is recurrent."""
    shape = setting.shape
    if shape.is_recurrent(layer):
        return setting.parallel * _state_bytes(shape)
    if not shape.has_kv(layer):
        return 0
    cells = setting.cells(shape.is_sliding(layer)) * setting.parallel
    if shape.is_mla:
        return _cache_bytes(setting.key_type, cells, shape.kv_lora_rank + shape.rope_dimension_count)
    heads = shape.heads_kv(layer)
    return _cache_bytes(setting.key_type, cells, heads * shape.key_length_at(layer)) + _cache_bytes(
        setting.value_type, cells, heads * shape.value_length_at(layer)
    )


@lru_cache(maxsize=4096)
def _cache_bytes(type_name: str, cells: int, row: int) -> int:
    size = row_bytes(type_name.upper(), cells * row)
    if type_name not in ("f16", "bf16", "f32") and row % _ROW_PADDING:
        size += row_bytes(type_name.upper(), _ROW_PADDING - row % _ROW_PADDING)
    return -(-size // _DEVICE_ALIGNMENT_BYTES) * _DEVICE_ALIGNMENT_BYTES


def _state_bytes(shape: ModelShape) -> int:
    mixed = shape.ssm_inner_size + 2 * shape.ssm_group_count * shape.ssm_state_size
    return 4 * ((shape.ssm_conv_kernel - 1) * mixed + shape.ssm_state_size * shape.ssm_inner_size)


def _stepped(tokens: int) -> int:
    return -(-tokens // CONTEXT_STEP) * CONTEXT_STEP


def _works_in_parallel(setting: Setting, placement: Placement) -> bool:
    """llama.cpp lets several devices work on different micro-batches when nothing of the model is in main memory."""
    everything = placement.on_devices == setting.shape.block_count + 1
    return len(placement.layers) > 1 and everything and not placement.in_host and not placement.spill


def _part(
    setting: Setting, placement: Placement, device: int, copies: int, norm_before: bool
) -> Optional[compute.Part]:
    own = placement.layers[device]
    last = placement.output == device
    in_host = dict(placement.in_host)
    layers: List[Tuple[int, compute.HostLayer]] = []
    foreign: List[Tuple[int, compute.HostLayer]] = []
    placed = {layer for layers_ in placement.layers for layer in layers_}
    if device == 0:
        foreign = [
            (layer, _host_layer(setting, layer, in_host[layer]))
            for others in placement.layers[1:]
            for layer in others
            if layer in in_host
        ]
        # What lies in main memory is computed by the first device, which copies the weights for every micro-batch.
        for layer in range(setting.shape.block_count):
            if layer not in placed:
                layers.append((layer, _host_layer(setting, layer, WHOLE)))
    for layer in own:
        away = layer in in_host
        if away and device:
            layers.append((layer, compute.ELSEWHERE))
        else:
            layers.append((layer, _host_layer(setting, layer, in_host[layer]) if away else compute.HERE))
    if not layers and not last:
        return None
    before = norm_before and device > 0 and bool(own) and own[0] > 0
    return compute.Part(tuple(layers), device == 0, last, copies, before, tuple(foreign))


@lru_cache(maxsize=65536)
def _host_layer(setting: Setting, layer: int, part: str) -> compute.HostLayer:
    weights, shape = setting.weights, setting.shape
    gate, up, down = (
        weights.per_layer_ffn_gate_bytes[layer],
        weights.per_layer_ffn_up_bytes[layer],
        weights.per_layer_ffn_down_bytes[layer],
    )
    if shape.is_moe_layer(layer):
        # The shared expert's matrices stay on the device or are copied after these, never together with them.
        routed = shape.expert_count * shape.expert_feed_forward_length
        every = routed + shape.expert_shared_feed_forward_length
        gate, up, down = (size * routed // every for size in (gate, up, down))
    if part == DOWN:
        return compute.HostLayer(False, 0, 0, down)
    if part == AFTER_UP:
        return compute.HostLayer(False, gate, 0, down)
    if part != WHOLE:
        return compute.HostLayer(False, gate, up, down)
    rest = max(0, weights.per_layer_bytes[layer] - gate - up - down)
    query = shape.head_count * shape.key_length_at(layer)
    key = max(1, shape.heads_kv(layer)) * shape.key_length_at(layer)
    value = max(1, shape.heads_kv(layer)) * shape.value_length_at(layer)
    output = shape.head_count * shape.value_length_at(layer)
    total = query + key + value + output
    return compute.HostLayer(
        True,
        gate,
        up,
        down,
        query=rest * query // total,
        key=rest * key // total,
        value=rest * value // total,
        output=rest * output // total,
    )
