# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two small questions to the planner: which quantization fits these GPUs, and which hardware serves these goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_engine import Devices, Engine
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_evaluate import Evaluator, Layout, Refusal
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import Goal, Option, goal_of, goals_of
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_hosts import HostClass, classes_of, hosts_of
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_problems import lacks
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_search import Search
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues

COMPARE_KEYS = ("label", "gpus", "memory_mib", "disk_free_mib")
MOST_HOSTS = 1024


def quantization_choice(
    goal: Any,
    gpus: Any,
    catalogues: Catalogues,
    memory_mib: Optional[int] = None,
    fit_target_mib: int = 1024,
    engine: Optional[Engine] = None,
) -> Dict[str, Any]:
    """The best quantization with which all users of C(goal) are served by one host with C(gpus).

    C(quantization) and what belongs to it are None where none does; C(considered) has a row for each, best first.
    """
    asked = engine or Engine(catalogues, fit_target_mib=fit_target_mib)
    read = goal_of(goal, catalogues.models, catalogues.quantizations)
    cls = classes_of(hosts_of([{"name": "host", "gpus": gpus, "memory_mib": memory_mib}], catalogues.gpus))[0]
    evaluator = Evaluator((read,), asked, {})
    chosen: Optional[Option] = None
    answer: Dict[str, Any] = {"quantization": None, "tag": None, "kv_cache_type": None, "estimate": None, "speed": None}
    considered: List[Dict[str, Any]] = []
    for option in read.options:
        row, layout = _considered(evaluator, cls, read, option)
        considered.append(row)
        if layout and not chosen:
            chosen = option
            free = tuple(float(cls.free_mib[place]) for place in layout.visible)
            seen = Devices(tuple(cls.requests[place] for place in layout.visible), free, layout.spread)
            answer = {
                "quantization": option.quantization,
                "tag": option.tag,
                "kv_cache_type": option.kv_cache_type,
                "estimate": dict(asked.memory(read, option, layout.parallel, seen)),
                "speed": dict(asked.decode(read, option, layout.parallel, seen, read.users)),
            }
    return {**answer, "considered": considered}


def _considered(
    evaluator: Evaluator, cls: HostClass, goal: Goal, option: Option
) -> Tuple[Dict[str, Any], Optional[Layout]]:
    users = 1 if goal.single_slot else goal.users
    evaluator.confirmed(cls, ((0, users),), (option,))
    found = evaluator.layout(cls, ((0, users),), (option,))
    fits = isinstance(found, Layout) or found.constraint in ("speed", "time to first token")
    row = {
        "quantization": option.quantization,
        "tag": option.tag,
        "kv_cache_type": option.kv_cache_type,
        "fits": fits,
        "meets_speed": isinstance(found, Layout) if fits else None,
        "reason": lacks(found) if isinstance(found, Refusal) else "serves all users",
    }
    return row, found if isinstance(found, Layout) else None


def plan_compare(
    goals: Any,
    options: Any,
    catalogues: Catalogues,
    fit_target_mib: int = 1024,
    engine: Optional[Engine] = None,
) -> List[Dict[str, Any]]:
    """For each hardware option, how many hosts of it serve all goals, and what each model gets there.

    C(options): mappings with C(label), C(gpus) of one host, and C(memory_mib). C(hosts) is None where even
    C(MOST_HOSTS) hosts do not serve the goals; C(reason) then says why one model cannot run.
    """
    if isinstance(options, (str, bytes, Mapping)) or not isinstance(options, Sequence):
        raise SizingError("plan_compare takes a list of hardware options, each with label and gpus.")
    asked = engine or Engine(catalogues, fit_target_mib=fit_target_mib)
    read = goals_of(goals, catalogues.models, catalogues.quantizations)
    return [_compared(goals, read, option, catalogues, asked) for option in options]


def _compared(
    entries: Any, goals: Sequence[Goal], option: Any, catalogues: Catalogues, engine: Engine
) -> Dict[str, Any]:
    if not isinstance(option, Mapping):
        raise SizingError(f"a hardware option is {option!r}: give a mapping with label and gpus.")
    only_known_keys("a hardware option", option, COMPARE_KEYS)
    base = {key: option[key] for key in COMPARE_KEYS if key != "label" and key in option}

    def fleet(count: int) -> List[Dict[str, Any]]:
        return [{"name": f"host{number}", **base} for number in range(1, count + 1)]

    first = hosts_of(fleet(1), catalogues.gpus)
    memo: Dict[Any, Any] = {}

    def works(count: int) -> bool:
        return not Search(goals, classes_of(hosts_of(fleet(count), catalogues.gpus)), engine, memo).run().unplaced

    high = 1
    while high <= MOST_HOSTS and not works(high):
        high *= 2
    row: Dict[str, Any] = {"label": str(option.get("label") or first[0].hardware), "hardware": first[0].hardware}
    if high > MOST_HOSTS:
        found = plan(entries, fleet(1), catalogues, {"alternatives": 0}, engine)
        return {**row, "feasible": False, "hosts": None, "gpus": None, "reason": _why(found), "models": []}
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    found = plan(entries, fleet(high), catalogues, {"alternatives": 0}, engine)
    keys = (
        *("name", "quantization", "kv_cache_type", "slots_total", "decode_per_user", "time_to_first_token_s"),
        *("margin_percent", "confidence"),
    )
    return {
        **row,
        "feasible": True,
        "hosts": high,
        "gpus": high * len(first[0].devices),
        "memory_total_mib": high * sum(device.memory_total_mib for device in first[0].devices),
        "reason": "",
        "models": [
            {**{key: model[key] for key in keys}, "replicas": len(model["replicas"])} for model in found["models"]
        ],
    }


def _why(found: Mapping[str, Any]) -> str:
    problems = found["problems"]
    return str(problems[0]["message"]) if problems else ""
