# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a goal cannot be met, and what would meet it: each alternative is planned before it is named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_evaluate import Layout, Refusal
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import Goal, Option, goal_of
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_hosts import (
    Host,
    HostClass,
    classes_of,
    hosts_of,
)
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_search import Arrangement, Search

MOST_MORE_HOSTS = 64
_GPU_COUNTS = (2, 4, 8)
# How far a change is from what was asked, where it is no share of a number.
_CACHE_DISTANCE = 0.05
_QUANTIZATION_DISTANCE = 0.1
_GPU_DISTANCE = 0.5

Change = Tuple[float, Dict[str, Any]]


def problems_of(
    entries: Sequence[Mapping[str, Any]],
    fleet: Sequence[Host],
    search: Search,
    arrangement: Arrangement,
    count: int,
) -> List[Dict[str, Any]]:
    """One mapping for each goal that cannot be met whatever the others do, else for the first that finds no place.

    C(entries) are those of the search's goals. Each has up to C(count) alternatives, nearest first.
    """
    goals = search.goals
    failing = [number for number in range(len(goals)) if not fleet or not _possible(search, number)]
    if not failing:
        failing = [arrangement.unplaced[0]]
    found = []
    for number in failing:
        others = [each for each in range(len(goals)) if each not in failing]
        constraint, message = _diagnosis(search, number, fleet)
        changes = _Changes(entries[number], goals, number, others, fleet, search)
        alternatives = changes.nearest(count)
        if alternatives:
            message += f"; it would work with {alternatives[0]['summary']}."
        else:
            message += "; no single change was found that would make it work: choose a smaller model or other hardware."
        found.append(
            {"model": goals[number].name, "constraint": constraint, "message": message, "alternatives": alternatives}
        )
    return found


def _single(search: Search, number: int, option: Option) -> Tuple[Option, ...]:
    options = [goal.options[0] for goal in search.goals]
    options[number] = option
    return tuple(options)


def _possible(search: Search, number: int) -> bool:
    return any(search.alone(number, _single(search, number, option)) for option in search.goals[number].options)


def _diagnosis(search: Search, number: int, fleet: Sequence[Host]) -> Tuple[str, str]:
    """The binding constraint and the sentence about it, without its end."""
    goal = search.goals[number]
    if not fleet:
        return "hosts", f"{goal.name} has no host to run on"
    best: Optional[Tuple[Tuple[int, int, float], int, Option, HostClass]] = None
    for option in goal.options:
        options = _single(search, number, option)
        rooms = [search.evaluator.capacity(cls, (), number, goal.users, options) for cls in search.classes]
        total = sum(room * len(cls.hosts) for room, cls in zip(rooms, search.classes))
        for room, cls in zip(rooms, search.classes):
            refusal = search.evaluator.layout(cls, ((number, min(room + 1, goal.users)),), options)
            closeness = refusal.available / (refusal.needed or 1.0) if isinstance(refusal, Refusal) else 1e9
            progress = refusal.progress if isinstance(refusal, Refusal) else 9
            rank = (total, room, progress + min(1.0, max(0.0, closeness)) / 2)
            if best is None or rank > best[0]:
                best = (rank, room, option, cls)
    if best is None:
        raise AssertionError("a goal without options")
    (total, _room, _progress), room, option, cls = best
    where = f"{cls.hosts[0].name} ({cls.hardware})"
    how = f"{option.quantization or 'its file'}, {goal.context_length} tokens and KV cache {option.kv_cache_type}"
    refusal = search.evaluator.layout(cls, ((number, min(room + 1, goal.users)),), _single(search, number, option))
    hosts = sum(len(each.hosts) for each in search.classes)
    if not room:
        if not isinstance(refusal, Refusal):
            raise AssertionError("a host with room for nobody that refuses nothing")
        return refusal.constraint, f"{goal.name} with {how} {lacks(refusal)} on {where}, even for one user"
    if total >= goal.users and goal.least_replicas > hosts:
        return (
            "hosts",
            f"{goal.name} is to have {goal.least_replicas} replicas, one a host, and the number of hosts is {hosts}",
        )
    if total >= goal.users:
        return "hosts", f"{goal.name} fits, but not beside the other models (number of hosts: {hosts})"
    constraint, limit = "hosts", ""
    if isinstance(refusal, Refusal):
        constraint, limit = refusal.constraint, f" (one more {lacks(refusal)})"
    return constraint, (
        f"{goal.name} is asked for {goal.users} users at once; with {how} one host such as {where} serves {room} of"
        f" them{limit}" + (f", and all {hosts} together {total}" if hosts > 1 else "")
    )


def lacks(refusal: Refusal) -> str:
    """What a refusal means, as the end of a sentence about a model."""
    needed, available = refusal.needed, refusal.available
    if refusal.constraint == "speed":
        return f"gives each user {available:.2f} of {needed:g} tokens/s"
    if refusal.constraint == "time to first token":
        return f"takes {available:.2f} s instead of {needed:g} s to the first token"
    what = {"disk": "disk", "together": "free GPU memory by Ollama's own sums"}.get(refusal.constraint, "memory")
    if needed <= available:
        return f"needs {needed:.0f} MiB of {what} and does not leave enough of the {available:.0f} MiB free"
    return f"needs {needed:.0f} MiB of {what} where {available:.0f} are free"


def _confidence(search: Search, found: Arrangement) -> str:
    """The lowest confidence of the first goal's speeds."""
    words = ["measured"]
    for (cls, content), _count in found.state:
        layout = search.evaluator.layout(search.classes[cls], content, found.options) if content else None
        if isinstance(layout, Layout):
            words.extend(str(one.speed["confidence"]) for one in layout.served if one.goal == 0)
    return max(words, key=("measured", "modelled", "wide").index)


class _Changes:
    """Changes of one entry, or of the hardware, with which the plan works."""

    def __init__(
        self,
        entry: Mapping[str, Any],
        goals: Sequence[Goal],
        number: int,
        others: Sequence[int],
        fleet: Sequence[Host],
        search: Search,
    ) -> None:
        self._entry = dict(entry)
        self._goal = goals[number]
        self._others = [goals[each] for each in others if each != number]
        self._fleet = list(fleet)
        self._search = search
        self._catalogues = search.engine.catalogues

    def nearest(self, count: int) -> List[Dict[str, Any]]:
        """The C(count) nearest changes, one of each kind first."""
        first: List[Change] = []
        for kind in (self._cache, self._quantization, self._context, self._users, self._speed, self._wait):
            first.extend(self._first(kind()))
        first.extend(self._first(self._more_hosts()))
        first.extend(self._first(self._more_gpus()))
        gpus = list(self._other_gpus(count))
        found = sorted([*first, *gpus[:1]], key=lambda change: change[0])
        found.extend(gpus[1:])
        return [change for _distance, change in found[:count]]

    @staticmethod
    def _first(changes: Iterator[Change]) -> List[Change]:
        found = next(changes, None)
        return [] if found is None else [found]

    def _works(self, change: Mapping[str, Any], fleet: Optional[Sequence[Host]] = None) -> Optional[Dict[str, Any]]:
        """What the changed goal gets where the plan then works, else None."""
        try:
            goal = goal_of({**self._entry, **change}, self._catalogues.models, self._catalogues.quantizations)
            classes = self._search.classes if fleet is None else classes_of(fleet)
            search = Search((goal, *self._others), classes, self._search.engine, {})
            if not any(search.alone(0, _single(search, 0, option)) for option in search.goals[0].options):
                return None
            found = search.run()
        except SizingError:
            return None
        if found.unplaced or not classes:
            return None
        option = found.options[0]
        replicas = sum(number for (_cls, content), number in found.state if any(each == 0 for each, _users in content))
        return {
            "quantization": option.quantization,
            "kv_cache_type": option.kv_cache_type,
            "replicas": replicas,
            "confidence": _confidence(search, found),
        }

    def _named(self, distance: float, summary: str, change: Dict[str, Any], works: Dict[str, Any]) -> Change:
        return (distance, {"change": change, "summary": summary, **works})

    def _cache(self) -> Iterator[Change]:
        if any(option.kv_cache_type != "f16" for option in self._goal.options):
            return
        change = {"kv_cache_types": ["f16", "q8_0"]}
        works = self._works(change)
        if works:
            yield self._named(_CACHE_DISTANCE, "a q8_0 KV cache", change, works)

    def _quantization(self) -> Iterator[Change]:
        lowest = self._goal.options[-1].score[0]
        rows = sorted(
            {row["name"]: row for row in self._catalogues.quantizations.values()}.values(), key=lambda row: row["rank"]
        )
        worse = [row for row in rows if row["rank"] > lowest and not row.get("published_form_only")]
        for step, row in enumerate(worse, start=1):
            change = {"quantizations": [row["name"]]}
            works = self._works(change)
            if works:
                yield self._named(_QUANTIZATION_DISTANCE * step, f"quantization {row['name']}", change, works)

    def _context(self) -> Iterator[Change]:
        step = 1024 if self._goal.context_length > 2048 else 256
        most = (self._goal.context_length - 1) // step
        found = self._largest(most, lambda value: {"context_length": value * step, **self._prompt(value * step)})
        if found:
            value, works = found
            context = value * step
            change = {"context_length": context, **self._prompt(context)}
            distance = 1 - context / self._goal.context_length
            yield self._named(distance, f"a context of {context} tokens", change, works)

    def _prompt(self, context: int) -> Dict[str, Any]:
        said = self._entry.get("prompt_tokens")
        return {"prompt_tokens": min(self._goal.prompt_tokens, context)} if said else {}

    def _users(self) -> Iterator[Change]:
        found = self._largest(self._goal.users - 1, lambda value: {"users": value})
        if found:
            value, works = found
            yield self._named(1 - value / self._goal.users, f"{value} users at once", {"users": value}, works)

    def _speed(self) -> Iterator[Change]:
        wanted = self._goal.min_tokens_per_second
        found = self._largest(math.ceil(wanted) - 1, lambda value: {"min_tokens_per_second": value})
        if wanted and found:
            value, works = found
            change = {"min_tokens_per_second": value}
            yield self._named(1 - value / wanted, f"{value} tokens/s for each user", change, works)

    def _wait(self) -> Iterator[Change]:
        wanted = self._goal.max_time_to_first_token_s
        for factor in (1.25, 1.5, 2, 3, 5, 10, 30) if wanted else ():
            change = {"max_time_to_first_token": math.ceil(wanted * factor)}
            works = self._works(change)
            if works:
                seconds = change["max_time_to_first_token"]
                yield self._named(factor - 1, f"{seconds} s to the first token", change, works)
                return

    def _largest(self, most: int, change: Callable[[int], Dict[str, Any]]) -> Optional[Tuple[int, Dict[str, Any]]]:
        """The largest whole number from 1 to C(most) that works, by halving."""
        low, high, best = 0, most + 1, None
        while high - low > 1:
            middle = (low + high) // 2
            works = self._works(change(middle))
            if works:
                low, best = middle, (middle, works)
            else:
                high = middle
        return best

    def _more_hosts(self) -> Iterator[Change]:
        if not self._fleet:
            return
        pattern = self._search.classes[-1].hosts[0]
        high = 1
        while high <= MOST_MORE_HOSTS and not self._works({}, self._with(pattern, high)):
            high *= 2
        if high > MOST_MORE_HOSTS:
            return
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._works({}, self._with(pattern, middle)) else (middle, high)
        works = self._works({}, self._with(pattern, high))
        if works:
            what = f"{high} more host{'s' if high > 1 else ''} with {pattern.hardware}"
            yield self._named(high / len(self._fleet), what, {"more_hosts": high}, works)

    def _with(self, pattern: Host, count: int) -> List[Host]:
        more = [replace(pattern, name=f"{pattern.name}+{number}") for number in range(1, count + 1)]
        return [*self._fleet, *more]

    def _more_gpus(self) -> Iterator[Change]:
        for factor in _GPU_COUNTS:
            fleet = [
                replace(
                    host,
                    devices=tuple(
                        replace(device, index=number * len(host.devices) + place, uuid="")
                        for number in range(factor)
                        for place, device in enumerate(host.devices)
                    ),
                )
                for host in self._fleet
            ]
            if not fleet or max(len(host.devices) for host in fleet) > _GPU_COUNTS[-1]:
                return
            works = self._works({}, fleet)
            if works:
                what = f"{factor} times the GPUs in each host ({fleet[-1].hardware})"
                yield self._named(factor - 1, what, {"gpus_factor": factor}, works)
                return

    def _other_gpus(self, count: int) -> Iterator[Change]:
        """Larger cards of the catalogue in place of those there, the smallest first; then more of them, and more hosts.

        Of cards with equal memory (PCIe, SXM) only the first that works is named.
        """
        devices = [device for host in self._fleet for device in host.devices]
        least_mib = max((device.memory_total_mib for device in devices), default=0)
        names = {device.name for device in devices}
        vendors = {json.loads(device.request)["vendor"] for device in devices} or {"nvidia"}
        cards = sorted(self._catalogues.gpus["gpus"], key=lambda row: (row["memory_mib"], row["bandwidth_gb_s"]))
        rows = [
            row
            for row in cards
            if row["memory_mib"] >= least_mib and row["name"] not in names and row.get("vendor", "nvidia") in vendors
        ]
        found: Set[int] = set()
        for per_host, more in ((1, 1), (1, 2), (1, 4), (1, 16), (8, 1), (8, 4)):
            for row in rows:
                if len(found) >= count:
                    return
                if row["memory_mib"] in found:
                    continue
                hosts = max(1, len(self._fleet)) * more
                gpus = max([per_host, *(len(host.devices) for host in self._fleet)])
                works = self._works({}, self._equipped(str(row["name"]), hosts, gpus))
                if works:
                    found.add(row["memory_mib"])
                    larger = row["memory_mib"] / least_mib - 1 if least_mib else 1
                    what = f"{row['name']} as GPUs"
                    if more > 1 or per_host > 1:
                        what = f"{hosts} host{'s' if hosts > 1 else ''} with {gpus} x {row['name']}"
                    change = {"gpu": row["name"], "gpus": gpus, "hosts": hosts}
                    yield self._named(_GPU_DISTANCE + larger + more + per_host - 2, what, change, works)

    def _equipped(self, card: str, hosts: int, gpus: int) -> Sequence[Host]:
        pattern = self._fleet[-1] if self._fleet else None
        fleet = {"name": "planned", "count": hosts, "gpus": [{"name": card, "count": gpus}]}
        if pattern is not None:
            fleet.update(memory_mib=pattern.memory_mib, disk_free_mib=pattern.disk_free_mib)
        return hosts_of([fleet], self._catalogues.gpus)
