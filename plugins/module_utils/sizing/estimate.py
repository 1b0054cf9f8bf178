# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a model on given GPUs, as Ollama 0.30 and later places it with llama.cpp.

Ollama's part (one GPU or all, size of the micro-batch): server/sched.go and llm/llama_server.go of ollama/ollama 0.34.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing import fit, gpus, memory, overhead, speed
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import (
    Catalogues,
    Model,
    choice,
    flash_attention,
    read_gpus,
    read_model,
    whole,
)

MIB = 1 << 20
MODEL_KEYS = ("name", "quantization", "gguf", "shape")
SETTING_KEYS = (
    "context_length",
    "parallel",
    "kv_cache_type",
    "flash_attention",
    "ubatch_size",
    "outputs",
    "placement",
    "fit_target_mib",
    "gpu_layers",
    "gpus",
)
SPEED_KEYS = ("batch", "prompt_tokens", "depth_tokens", "through_server", "host_bandwidth_gb_s")
DEFAULT_PROMPT_TOKENS = 512
KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")
OUTPUTS = ("per_slot", "per_batch")
PLACEMENTS = ("ollama", "spread", "single")
DEFAULT_CONTEXT_LENGTH = 4096
DEFAULT_FIT_TARGET_MIB = 1024
_MOST_TOKENS, _MOST_SLOTS, _MOST_UBATCH = 1 << 24, 1024, 65536
# Ollama keeps this much of a GPU out of its own sums (server/sched.go).
_OLLAMA_MINIMUM_MIB = 457


@dataclass(frozen=True)
class Placed:
    """An estimate in full: C(devices) has one entry for each GPU that the model was placed on (number, card, use)."""

    model: Model
    setting: memory.Setting
    placement: memory.Placement
    cards: Tuple[gpus.Gpu, ...]
    chosen: Tuple[int, ...]
    uses: Tuple[memory.Use, ...]
    host: memory.Use
    overheads_mib: Tuple[float, ...]
    reason: str

    @property
    def fits(self) -> bool:
        """Everything on GPUs, within what is free there."""
        whole = self.placement.on_devices == self.model.shape.block_count + 1
        return whole and not self.placement.in_host and not self.placement.spill and not self._beyond()

    def _beyond(self) -> bool:
        return any(
            use.total / MIB + extra > self.cards[number].memory_free_mib
            for number, use, extra in zip(self.chosen, self.uses, self.overheads_mib)
        )


def estimate(request: Mapping[str, Any], catalogues: Catalogues) -> Dict[str, Any]:
    """The mapping that the filter C(vram_estimate) documents."""
    placed = place(request, catalogues)
    per_gpu = []
    for number, card in enumerate(placed.cards):
        use, extra = memory.Use(0, 0, 0), 0.0
        if number in placed.chosen:
            position = placed.chosen.index(number)
            use, extra = placed.uses[position], placed.overheads_mib[position]
        total = use.total / MIB + extra
        per_gpu.append(
            {
                "name": card.name,
                "weights_mib": round(use.weights / MIB, 2),
                "kv_cache_mib": round(use.kv_cache / MIB, 2),
                "compute_mib": round(use.compute / MIB, 2),
                "overhead_mib": round(extra, 2),
                "total_mib": round(total, 2),
                "free_after_mib": round(card.memory_free_mib - total, 2),
            }
        )
    host = placed.host
    # Logits of the last tokens are handed over in main memory.
    logits = 4 * placed.model.shape.vocab_size * placed.setting.outputs
    return {
        "per_gpu": per_gpu,
        "host": {
            "weights_mib": round(host.weights / MIB, 2),
            "kv_cache_mib": round(host.kv_cache / MIB, 2),
            "compute_mib": round(host.compute / MIB, 2),
            "output_mib": round(logits / MIB, 2),
            "total_mib": round((host.total + logits) / MIB, 2),
        },
        "file_mib": round(placed.model.weights.file_bytes / MIB, 2),
        "layers_total": placed.model.shape.block_count + 1,
        "layers_offloaded": placed.placement.on_devices,
        "fits": placed.fits,
        "reason": placed.reason,
        "ubatch_size": placed.setting.ubatch,
        "flash_attention": placed.setting.flash_attention,
        "gpus_used": list(placed.chosen),
    }


def tokens_per_second(request: Mapping[str, Any], catalogues: Catalogues) -> Dict[str, Any]:
    """The mapping that the filter C(tokens_per_second) documents."""
    if not isinstance(request, Mapping):
        raise SizingError("tokens_per_second takes one mapping with name and quantization, gguf or shape.")
    only_known_keys("the model and its setting", request, (*MODEL_KEYS, *SETTING_KEYS, *SPEED_KEYS))
    placed = place({key: value for key, value in request.items() if key not in SPEED_KEYS}, catalogues)
    batch = whole(request, "batch", 1, 1, _MOST_SLOTS)
    prompt = whole(request, "prompt_tokens", DEFAULT_PROMPT_TOKENS, 1, _MOST_TOKENS)
    depth = whole(request, "depth_tokens", 128, 0, _MOST_TOKENS)
    through_server = request.get("through_server", True)
    if not isinstance(through_server, bool):
        raise SizingError(f"through_server is {through_server!r}: give true or false.")
    bandwidth = request.get("host_bandwidth_gb_s", speed.HOST_BANDWIDTH_GB_S)
    if isinstance(bandwidth, bool) or not isinstance(bandwidth, (int, float)) or bandwidth <= 0:
        raise SizingError(f"host_bandwidth_gb_s is {bandwidth!r}: give GB/s above 0.")
    shape = placed.model.shape
    found = speed.throughput(
        speed.SpeedInput(
            loads=_loads(placed),
            quantization=placed.model.quantization,
            vocabulary_size=shape.vocab_size,
            architecture=shape.architecture,
            host=_host_load(placed, float(bandwidth)),
            dense_quantization="BF16" if placed.model.float_row and shape.is_moe else None,
            expert_count=shape.expert_count,
            expert_used_count=shape.expert_used_count,
            sliding_window_tokens=shape.sliding_window if any(map(shape.is_sliding, range(shape.block_count))) else 0,
            attention_width=shape.head_count * shape.key_length,
            kv_type=placed.setting.key_type,
            flash_attention=placed.setting.flash_attention,
            ubatch=placed.setting.ubatch,
            batch=batch,
            depth_tokens=depth,
            prompt_tokens=prompt,
            through_server=through_server,
        )
    )
    return {
        "decode_total": round(found.decode_total_tok_s, 2),
        "decode_per_user": round(found.decode_per_user_tok_s, 2),
        "prefill": round(found.prefill_tok_s, 1),
        "time_to_first_token_s": round(found.time_to_first_token_s, 3),
        "time_to_first_token_burst_s": round(found.time_to_first_token_burst_s, 3),
        "confidence": found.confidence,
    }


def _loads(placed: Placed) -> Tuple[speed.GpuLoad, ...]:
    """What each GPU reads for a token."""
    away = dict((*placed.placement.in_host, *placed.placement.spill))
    weights, loads = placed.model.weights, []
    for number, layers, use in zip(placed.chosen, placed.placement.layers, placed.uses):
        experts = sum(weights.per_layer_expert_bytes[layer] for layer in layers if layer not in away)
        loads.append(
            speed.GpuLoad(
                gpu=placed.cards[number],
                layers=len(layers),
                dense_weight_bytes=max(0, use.weights - experts),
                expert_weight_bytes=experts,
                kv_bytes_per_token=_kv_bytes_per_token(placed, layers, False),
                window_kv_bytes_per_token=_kv_bytes_per_token(placed, layers, True),
            )
        )
    return tuple(loads)


def _host_load(placed: Placed, bandwidth_gb_s: float) -> Optional[speed.HostLoad]:
    weights, setting = placed.model.weights, placed.setting
    away = dict(placed.placement.in_host)
    on_gpus = {layer for layers in placed.placement.layers for layer in layers}
    layers = [layer for layer in range(setting.shape.block_count) if layer not in on_gpus]
    dense = sum(weights.per_layer_bytes[layer] - weights.per_layer_expert_bytes[layer] for layer in layers)
    experts = sum(weights.per_layer_expert_bytes[layer] for layer in layers)
    for layer, part in away.items():
        experts += memory.part_bytes(weights, layer, part)
    if placed.placement.output is None:
        dense += weights.output_bytes
    if not dense and not experts:
        return None
    return speed.HostLoad(
        dense_weight_bytes=dense,
        expert_weight_bytes=experts,
        kv_bytes_per_token=_kv_bytes_per_token(placed, layers, False),
        window_kv_bytes_per_token=_kv_bytes_per_token(placed, layers, True),
        bandwidth_gb_s=bandwidth_gb_s,
    )


def _kv_bytes_per_token(placed: Placed, layers: Sequence[int], sliding: bool) -> float:
    setting = placed.setting
    return sum(
        memory.layer_cache_bytes(setting, layer) / (setting.cells(sliding) * setting.parallel)
        for layer in layers
        if setting.shape.is_sliding(layer) == sliding and not setting.shape.is_recurrent(layer)
    )


def place(request: Mapping[str, Any], catalogues: Catalogues) -> Placed:
    """Where everything goes; equal requests are answered from memory. Raises SizingError for what makes no sense."""
    if not isinstance(request, Mapping):
        raise SizingError("vram_estimate takes one mapping with name and quantization, gguf or shape.")
    only_known_keys("the model and its setting", request, (*MODEL_KEYS, *SETTING_KEYS))
    try:
        key = json.dumps(request, sort_keys=True)
    except (TypeError, ValueError):
        raise SizingError("the request holds something else than text, numbers, lists and mappings.") from None
    if key not in catalogues.known:
        if len(catalogues.known) > 65536:
            catalogues.known.clear()
        catalogues.known[key] = _place(request, catalogues)
    found: Placed = catalogues.known[key]
    return found


def _place(request: Mapping[str, Any], catalogues: Catalogues) -> Placed:
    model = read_model(request, catalogues)
    cards = read_gpus(request.get("gpus", ()), catalogues)
    context = whole(request, "context_length", DEFAULT_CONTEXT_LENGTH, 1, _MOST_TOKENS)
    if model.shape.context_length and context > model.shape.context_length:
        raise SizingError(
            f"context_length is {context}, and {model.name} was trained for {model.shape.context_length}: give less."
        )
    parallel = whole(request, "parallel", 1, 1, _MOST_SLOTS)
    kv_type = choice(request, "kv_cache_type", "f16", KV_CACHE_TYPES)
    outputs = choice(request, "outputs", "per_slot", OUTPUTS)
    target = whole(request, "fit_target_mib", DEFAULT_FIT_TARGET_MIB, 0, 1 << 22) * MIB
    flash, remarks = flash_attention(request, model.shape, kv_type, bool(cards))
    chosen = _chosen(request, model, cards, context * parallel)
    ubatch = _ubatch(request, model, [cards[number] for number in chosen], context * parallel, flash)
    setting = memory.Setting(
        shape=model.shape,
        weights=model.weights,
        context_length=context,
        parallel=parallel,
        key_type=kv_type,
        value_type=kv_type,
        flash_attention=flash,
        ubatch=ubatch,
        outputs=parallel if outputs == "per_slot" else ubatch,
    )
    free = [
        max(0, int((cards[number].memory_free_mib - overhead.context_mib(cards[number].compute_capability)) * MIB))
        for number in chosen
    ]
    if not any(free):
        # Layers are shared in proportion to what is free; where nothing is, evenly.
        free = [1] * len(free)
    blocks = model.shape.block_count
    if request.get("gpu_layers") is not None:
        count = whole(request, "gpu_layers", 0, 0, 1 << 16)
        placement = memory.split(setting, min(count, blocks + 1), [float(size) for size in free])
        if not min(count, blocks + 1):
            placement = memory.Placement(tuple(() for _size in free), None)
    else:
        placement = fit.fitted(setting, free, target)
    uses, host = memory.measure(setting, placement)
    work = _work(model, setting)
    extras = tuple(
        overhead.overhead_mib(cards[number].compute_capability, cards[number].multiprocessors, work)
        for number in chosen
    )
    placed = Placed(model, setting, placement, cards, chosen, uses, host, extras, "")
    return replace(placed, reason=" ".join([*remarks, _reason(placed, request)]).strip())


def predicted_bytes(model: Model, tokens: int) -> int:
    """Ollama's own prediction (PredictServerVRAM), by which it takes one GPU or all and the size of micro-batches."""
    shape = model.shape
    least = min(shape.heads_kv(layer) for layer in range(shape.block_count)) or 1
    head = shape.embedding_length // shape.head_count
    return model.weights.file_bytes + 4 * shape.block_count * least * head * tokens


def _chosen(request: Mapping[str, Any], model: Model, cards: Sequence[gpus.Gpu], tokens: int) -> Tuple[int, ...]:
    way = choice(request, "placement", "ollama", PLACEMENTS)
    if not cards:
        return ()
    best = max(range(len(cards)), key=lambda number: (cards[number].memory_free_mib, -number))
    if way == "single" or len(cards) == 1:
        return (best,)
    available = _available_mib(cards[best])
    if way == "ollama" and predicted_bytes(model, tokens) <= available * MIB * 80 // 100:
        return (best,)
    return tuple(range(len(cards)))


def _available_mib(card: gpus.Gpu) -> int:
    return max(0, card.memory_free_mib - overhead.context_mib(card.compute_capability) - _OLLAMA_MINIMUM_MIB)


def _ubatch(request: Mapping[str, Any], model: Model, cards: Sequence[gpus.Gpu], tokens: int, flash: bool) -> int:
    if request.get("ubatch_size") is not None:
        return whole(request, "ubatch_size", 512, 1, _MOST_UBATCH)
    # Only the switch set by the user makes Ollama lower the batch, not a kernel that llama.cpp lacks.
    if cards and not request.get("flash_attention", True):
        small = any(card.memory_free_mib <= 8192 for card in cards)
        return 256 if small and tokens > 4096 else 512
    predicted, available = predicted_bytes(model, tokens), sum(_available_mib(card) for card in cards) * MIB
    threshold = available * 80 // 100
    for batch, least_tokens, share, surcharge in ((2048, 32768, 60, 2048), (1024, 4096, 75, 768)):
        if tokens <= least_tokens:
            continue
        if not cards or (predicted <= available * share // 100 and predicted + surcharge * MIB <= threshold):
            return batch
    return 512


def _work(model: Model, setting: memory.Setting) -> overhead.Work:
    shape = model.shape
    widest = max(shape.embedding_length, shape.head_count * shape.value_length)
    if not shape.is_moe or shape.leading_dense_block_count:
        widest = max(widest, *(shape.feed_forward(layer) for layer in range(shape.block_count)))
    return overhead.Work(
        tokens=setting.batch().tokens,
        quantized_row=widest,
        expert_row=shape.expert_used_count * max(shape.embedding_length, shape.expert_feed_forward_length),
        float_row=model.float_row,
        float_router=shape.is_moe,
        heads=shape.head_count,
        cells=setting.cells(False),
        flash_attention=setting.flash_attention,
    )


def _reason(placed: Placed, request: Mapping[str, Any]) -> str:
    total, on_gpu = placed.model.shape.block_count + 1, placed.placement.on_devices
    if not placed.cards:
        return "No GPU: everything is computed by the processor."
    where = f"GPU {placed.chosen[0]}" if len(placed.chosen) == 1 else f"{len(placed.chosen)} GPUs"
    if placed.fits:
        return f"All {total} layers fit on {where}."
    if on_gpu == total and not placed.placement.in_host and not placed.placement.spill:
        short = max(
            use.total / MIB + extra - placed.cards[number].memory_free_mib
            for number, use, extra in zip(placed.chosen, placed.uses, placed.overheads_mib)
        )
        return f"All {total} layers are forced onto {where}, and {short:.0f} MiB are lacking: loading fails."
    if placed.placement.in_host or placed.placement.spill:
        moved = len({layer for layer, _part in (*placed.placement.in_host, *placed.placement.spill)})
        return f"Only {on_gpu} of {total} layers are on {where}, {moved} of them without all their experts."
    forced = "are asked for" if request.get("gpu_layers") is not None else "fit"
    return f"Only {on_gpu} of {total} layers {forced} on {where}; the others are computed from main memory."
