# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small world for tests of the planner: models of known size, and memory and speed by simple forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_engine import Engine
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues

# MiB of weights in F16, and of cache of one slot of 1000 tokens in f16.
SIZES = {"small": (8_000, 100), "middle": (30_000, 300), "large": (70_000, 600)}
BITS = {"Q8_0": 8, "Q4_K_M": 4, "Q2_K": 2}
OVERHEAD_MIB = 500
CARDS = {"card24": 24_000, "card48": 48_000, "card80": 80_000}


def catalogues() -> Catalogues:
    models = {
        name: {
            "name": name,
            "aliases": [],
            "licence": "MIT",
            "kv_quantizable": name != "small",
            "shape": {"architecture": "llama", "context_length": 32_000},
            "ollama": {
                "tag": f"{name}:latest",
                "quantization": "Q4_K_M",
                "tags": {mix: f"{name}:{mix.lower()}" for mix in BITS},
            },
        }
        for name in SIZES
    }
    quantizations = {
        mix.lower(): {"name": mix, "rank": rank, "recommended": mix != "Q2_K"} for rank, mix in enumerate(BITS, start=1)
    }
    gpus = {
        "gpus": [
            {
                "name": name,
                "aliases": [],
                "memory_mib": mib,
                "usable_mib": mib,
                "bandwidth_gb_s": 1000,
                "effective_bandwidth": [],
            }
            for name, mib in CARDS.items()
        ]
    }
    return Catalogues(gpus, models, quantizations)


def estimate(request: Mapping[str, Any], _catalogues: Catalogues) -> dict[str, Any]:
    weights_mib, slot_mib = SIZES[request["name"]]
    weights_mib = weights_mib * BITS[request["quantization"]] // 16
    share = 1.0 if request["kv_cache_type"] == "f16" else 0.5
    cache_mib = slot_mib * share * request["context_length"] / 1000 * request["parallel"]
    free = [gpu["memory_free_mib"] for gpu in request["gpus"]]
    need_mib = weights_mib + cache_mib + OVERHEAD_MIB
    target_mib = request["fit_target_mib"]
    used = [free.index(max(free))] if free else []
    if len(free) > 1 and (request["placement"] == "spread" or need_mib + target_mib > max(free)):
        used = list(range(len(free)))
    rows = []
    for place, left in enumerate(free):
        parts = (weights_mib / len(used), cache_mib / len(used), OVERHEAD_MIB) if place in used else (0.0, 0.0, 0.0)
        rows.append(
            {
                "name": "card",
                "weights_mib": parts[0],
                "kv_cache_mib": parts[1],
                "compute_mib": 0.0,
                "overhead_mib": parts[2],
                "total_mib": sum(parts),
                "free_after_mib": left - sum(parts),
            }
        )
    fits = bool(free) and all(row["total_mib"] <= left for row, left in zip(rows, free))
    host_mib = 100.0 if free else need_mib
    return {
        "per_gpu": rows,
        "host": {"weights_mib": 0.0, "kv_cache_mib": 0.0, "compute_mib": 100.0, "total_mib": host_mib},
        "file_mib": float(weights_mib),
        "layers_total": 33,
        "layers_offloaded": 33 if fits else 10,
        "fits": fits,
        "reason": "",
        "ubatch_size": 512,
        "gpus_used": used,
    }


def speed(request: Mapping[str, Any], _catalogues: Catalogues) -> dict[str, Any]:
    weights_mib = SIZES[request["name"]][0] * BITS[request["quantization"]] // 16
    step_s = weights_mib / 1e6 * (1 if request["gpus"] else 20) + 0.001 * request["batch"]
    return {
        "decode_total": request["batch"] / step_s,
        "decode_per_user": 1 / step_s,
        "prefill": 1000.0,
        "time_to_first_token_s": request["prompt_tokens"] / 1000 + step_s,
        "confidence": "modelled",
    }


def engine(fit_target_mib: int = 1024) -> Engine:
    return Engine(
        catalogues(),
        estimate=estimate,
        speed=speed,
        predict=lambda _request, _catalogues: 0.0,
        fit_target_mib=fit_target_mib,
    )


def hosts(*cards: str) -> list[dict[str, Any]]:
    """One host for each text such as C("card48 card24")."""
    return [{"name": f"host{number}", "gpus": card.split()} for number, card in enumerate(cards, start=1)]
