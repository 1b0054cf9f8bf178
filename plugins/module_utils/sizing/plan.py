# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: which quantization of which model runs on which GPU of which host, with how many slots and how fast.

C(plan) gives the mapping that docs/planning.md describes as plan.json, schema 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_engine import Engine
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_evaluate import (
    SYSTEM_MIB,
    Content,
    Layout,
    Served,
    disk_mib,
    host_memory_mib,
)
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import Goal, goals_of
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_hosts import (
    Device,
    Host,
    HostClass,
    classes_of,
    hosts_of,
)
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_problems import problems_of
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_search import Arrangement, Search
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues

SCHEMA = 1
OPTIONS = ("fit_target_mib", "alternatives")
LEAST_READ_TIMEOUT_S = 60
MOST_WEIGHT = 100
# The system and its services beside Ollama, MiB.
HOST_RESERVE_MIB = 2048


def plan(
    goals: Any,
    hosts: Any,
    catalogues: Catalogues,
    options: Optional[Mapping[str, Any]] = None,
    engine: Optional[Engine] = None,
) -> Dict[str, Any]:
    """The plan for C(goals) (entries of llm_models) on C(hosts) (name, gpus, memory_mib, disk_free_mib).

    C(options): C(fit_target_mib), what stays free on each GPU (1024), and C(alternatives), how many plans that would
    work are looked for when a goal cannot be met (3). Raises SizingError for what makes no sense; a goal that cannot be
    met is no error, but C(feasible) false and an entry in C(problems).
    """
    said = dict(options or {})
    only_known_keys("the plan's options", said, OPTIONS)
    target_mib = said.get("fit_target_mib", 1024)
    if isinstance(target_mib, bool) or not isinstance(target_mib, int) or target_mib < 0:
        raise SizingError(f"fit_target_mib is {target_mib!r}: give the MiB to leave free on each GPU, from 0.")
    asked = engine or Engine(catalogues, fit_target_mib=target_mib)
    read = goals_of(goals, catalogues.models, catalogues.quantizations)
    fleet = hosts_of(hosts, catalogues.gpus)
    memo: Dict[Any, Any] = {}
    search = Search(read, classes_of(fleet), asked, memo)
    arrangement = search.run() if fleet else Arrangement((), (), tuple(range(len(read))))
    problems: List[Dict[str, Any]] = []
    while arrangement.unplaced:
        asked_for = {goal.name for goal in search.goals}
        entries = [entry for entry, goal in zip(goals, read) if goal.name in asked_for]
        found = problems_of(entries, fleet, search, arrangement, int(said.get("alternatives", 3)))
        problems.extend(found)
        failed = {problem["model"] for problem in found}
        # What can be met is still shown.
        kept = tuple(goal for goal in search.goals if goal.name not in failed)
        search = Search(kept, search.classes, asked, {})
        arrangement = search.run() if fleet and kept else Arrangement((), (), ())
    return _document(search, arrangement, fleet, problems)


def _document(
    search: Search, arrangement: Arrangement, fleet: Sequence[Host], problems: List[Dict[str, Any]]
) -> Dict[str, Any]:
    layouts: Dict[str, Tuple[HostClass, Layout]] = {}
    for server, cls, content in _assigned(search, arrangement):
        found = search.evaluator.layout(cls, content, arrangement.options)
        if isinstance(found, Layout):
            layouts[server.name] = (cls, found)
    hosts = [_host(host, layouts.get(host.name), search) for host in fleet]
    most = max([host["capacity_tokens_per_second"] for host in hosts], default=0.0)
    for host in hosts:
        capacity = host["capacity_tokens_per_second"]
        host["weight"] = max(1, round(MOST_WEIGHT * capacity / most)) if capacity else 0
    models = [_model(number, goal, fleet, layouts, search) for number, goal in enumerate(search.goals)]
    return {
        "schema": SCHEMA,
        "feasible": not problems,
        "problems": problems,
        "models": models,
        "hosts": hosts,
        "gateway": _gateway(models, hosts),
    }


def _assigned(search: Search, arrangement: Arrangement) -> List[Tuple[Host, HostClass, Content]]:
    """Hosts that serve something; the first by name of a class serve what sorts first."""
    found = []
    next_host = [0] * len(search.classes)
    for (number, content), count in sorted(arrangement.state, key=lambda entry: (not entry[0][1], entry[0])):
        cls = search.classes[number]
        for _time in range(count if content else 0):
            found.append((cls.hosts[next_host[number]], cls, content))
            next_host[number] += 1
    return found


def _host(host: Host, placed: Optional[Tuple[HostClass, Layout]], search: Search) -> Dict[str, Any]:
    served: Tuple[Served, ...] = placed[1].served if placed else ()
    visible = placed[1].visible if placed else tuple(range(len(host.devices)))
    gpus = [_gpu(place, device, placed, search) for place, device in enumerate(host.devices)]
    answers = [one.memory for one in served]
    memory_mib = math.ceil(host_memory_mib(answers)) if served else 0
    slots = sum(placed[1].parallel for _one in served) if placed else 0
    return {
        "name": host.name,
        "hardware": host.hardware,
        "gpus": gpus,
        "host_memory_mib": memory_mib,
        "memory_mib": host.memory_mib,
        "disk_mib": math.ceil(disk_mib(answers)),
        "parallel": placed[1].parallel if placed else 0,
        "capacity_tokens_per_second": round(sum(one.decode_total for one in served), 1),
        "models": [_host_model(one, search.goals[one.goal]) for one in served],
        "environment": _environment(placed[1], host, visible, search) if placed else {},
        "weight": 0,
        "max_connections": slots,
        # As many again may wait: each for about the length of one answer.
        "queue": slots,
        "memory_max_mib": _memory_max_mib(host, memory_mib, answers),
    }


def _gpu(place: int, device: Device, placed: Optional[Tuple[HostClass, Layout]], search: Search) -> Dict[str, Any]:
    parts: List[Dict[str, Any]] = []
    if placed and place in placed[1].visible:
        row = placed[1].visible.index(place)
        for one in placed[1].served:
            if place in one.devices:
                rows = one.memory["per_gpu"]
                used = rows[row] if len(rows) == len(placed[1].visible) else rows[one.devices.index(place)]
                parts.append(
                    {
                        "model": search.goals[one.goal].name,
                        **{key: round(float(used[key]), 1) for key in _PARTS},
                        "total_mib": round(float(used["total_mib"]), 1),
                    }
                )
    used_mib = round(sum(part["total_mib"] for part in parts), 1)
    return {
        "index": device.index,
        "name": device.name,
        "uuid": device.uuid,
        "memory_total_mib": device.memory_total_mib,
        "memory_free_mib": device.memory_free_mib,
        "used_mib": used_mib,
        "free_after_mib": round(device.memory_free_mib - used_mib, 1),
        "visible": place in placed[1].visible if placed else True,
        "parts": parts,
    }


_PARTS = ("weights_mib", "kv_cache_mib", "compute_mib", "overhead_mib")


def _host_model(one: Served, goal: Goal) -> Dict[str, Any]:
    return {
        "name": goal.name,
        "tag": one.option.tag,
        "quantization": _quantization(one),
        "context_length": goal.context_length,
        "num_gpu": int(one.memory["layers_offloaded"]),
        "layers_total": int(one.memory["layers_total"]),
        "gpus": list(one.devices),
        "file_mib": round(float(one.memory["file_mib"]), 1),
        "host_mib": {key: round(float(value), 1) for key, value in one.memory["host"].items()},
    }


def _quantization(one: Served) -> str:
    return one.option.quantization or "as in the file"


def _environment(layout: Layout, host: Host, visible: Sequence[int], search: Search) -> Dict[str, str]:
    contexts = [search.goals[one.goal].context_length for one in layout.served]
    environment = {
        "OLLAMA_NUM_PARALLEL": str(layout.parallel),
        # The default; a model with another context says so itself (num_ctx).
        "OLLAMA_CONTEXT_LENGTH": str(max(contexts)),
        "OLLAMA_KV_CACHE_TYPE": layout.served[0].option.kv_cache_type,
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_MAX_LOADED_MODELS": str(len(layout.served)),
        "OLLAMA_SCHED_SPREAD": "1" if layout.spread else "0",
        "LLAMA_ARG_FIT_TARGET": str(search.engine.fit_target_mib),
    }
    if len(visible) < len(host.devices):
        # Indices follow the PCI bus only with this order, and UUIDs are known only on real hosts.
        names = [host.devices[place].uuid or str(host.devices[place].index) for place in visible]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return environment


def _memory_max_mib(host: Host, memory_mib: int, answers: Sequence[Mapping[str, Any]]) -> int:
    """Limit of the unit, MiB; 0: none.

    The limit counts the page cache too, through which a model's file is read: with less than the largest file beside
    what the server itself needs, loading would push out its own pages again and again.
    """
    if not answers:
        return 0
    wanted = memory_mib + math.ceil(max(float(answer["file_mib"]) for answer in answers))
    if host.memory_mib is None:
        return wanted
    # On a small host the page cache yields first, never the memory that the server needs.
    return max(memory_mib, min(wanted, host.memory_mib - min(HOST_RESERVE_MIB, SYSTEM_MIB)))


def _model(
    number: int,
    goal: Goal,
    fleet: Sequence[Host],
    layouts: Mapping[str, Tuple[HostClass, Layout]],
    search: Search,
) -> Dict[str, Any]:
    on = [
        (host, layouts[host.name][1], one)
        for host in fleet
        if host.name in layouts
        for one in layouts[host.name][1].served
        if one.goal == number
    ]
    found: Dict[str, Any] = {"name": goal.name, "model": goal.model, "licence": goal.licence}
    if not on:
        return {**found, "replicas": []}
    first = on[0][2]
    per_user = min(one.decode_per_user for _host, _layout, one in on)
    wanted = goal.min_tokens_per_second
    confidences = [str(one.speed["confidence"]) for _host, _layout, one in on]
    return {
        **found,
        "quantization": _quantization(first),
        "tag": first.option.tag,
        "context_length": goal.context_length,
        "parallel": max(layout.parallel for _host, layout, _one in on),
        "slots_total": sum(1 if goal.single_slot else layout.parallel for _host, layout, _one in on),
        "kv_cache_type": first.option.kv_cache_type,
        "flash_attention": bool(first.memory.get("flash_attention", True)),
        "ubatch_size": max(int(one.memory["ubatch_size"]) for _host, _layout, one in on),
        "users": goal.users,
        "min_tokens_per_second": wanted,
        "max_time_to_first_token": goal.max_time_to_first_token_s,
        "prompt_tokens": goal.prompt_tokens,
        "decode_per_user": round(per_user, 1),
        "decode_total": round(sum(one.decode_total for _host, _layout, one in on), 1),
        "prefill": round(min(one.prefill for _host, _layout, one in on), 1),
        "time_to_first_token_s": round(max(one.time_to_first_token_s for _host, _layout, one in on), 2),
        "confidence": max(confidences, key=("measured", "modelled", "wide").index),
        "margin_percent": round((per_user / wanted - 1) * 100, 1) if wanted else None,
        "file_mib": round(float(first.memory["file_mib"]), 1),
        "replicas": [
            {
                "host": host.name,
                "gpus": [host.devices[place].index for place in one.devices],
                "parallel": layout.parallel,
                "users": one.users,
                "total_mib": round(_total_mib(one), 1),
                "capacity_tokens_per_second": round(one.decode_total, 1),
            }
            for host, layout, one in on
        ],
    }


def _total_mib(one: Served) -> float:
    rows = one.memory["per_gpu"]
    return sum(float(row["total_mib"]) for row in rows) if rows else float(one.memory["host"]["total_mib"])


def _gateway(models: Sequence[Mapping[str, Any]], hosts: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    served = [model for model in models if model["replicas"]]
    longest = max(
        (model["time_to_first_token_s"] + model["context_length"] / model["decode_per_user"] for model in served),
        default=0.0,
    )
    return {
        "upstream_weights": {host["name"]: host["weight"] for host in hosts if host["models"]},
        "upstream_models": {
            host["name"]: [model["name"] for model in host["models"]] for host in hosts if host["models"]
        },
        "read_timeout_s": max(LEAST_READ_TIMEOUT_S, math.ceil(longest)),
        "queue_size": sum(host["queue"] for host in hosts),
        "max_concurrent": sum(host["max_connections"] for host in hosts),
    }
