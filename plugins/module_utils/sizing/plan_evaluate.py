# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether one host can serve a set of models together, how fast, and how many users of one more model.

One Ollama server a host: its models share the number of slots and the type of KV cache, and load in the order given.
Each takes one GPU if Ollama's prediction is at most 80 % of what is free there, else all; one that does not fit beside
the others would push them out. Sources: server/sched.go of ollama/ollama 0.34.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple, Union

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_engine import Devices, Engine
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import Goal, Option
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_hosts import HostClass

# What Ollama adds to its prediction for larger micro-batches, MiB, and the share of free memory that it may reach.
_SURCHARGE_MIB = {1024: 768, 2048: 2048}
_SHARE = 0.8
# Its CUDA context and minimum, which it takes off what is free, MiB.
_KEPT_MIB = 457 + 526
# Less than this is gone with the CUDA context and its pools.
_LEAST_FREE_MIB = 1024
# Memory of the server itself and of one runner beside the buffers that are counted, and what the system keeps, MiB.
SERVER_MIB = 512
GPU_RUNNER_MIB = 1024
CPU_RUNNER_MIB = 256
SYSTEM_MIB = 1024
# Stays free after a download (models_disk_reserve_mib of the role models).
DISK_RESERVE_MIB = 1024

# Number of the goal and users of it at once, on one host.
Content = Tuple[Tuple[int, int], ...]


@dataclass(frozen=True)
class Refusal:
    """Why a host cannot serve a set; C(constraint) is memory, speed, time to first token, disk or together.

    C(needed) and C(available) are in the unit of the constraint: MiB, tokens/s, seconds. C(spread): all models used all
    GPUs.
    """

    constraint: str
    goal: int
    needed: float
    available: float
    spread: bool = False

    @property
    def progress(self) -> int:
        """How far the check came: a set that is too slow at least fits."""
        return ("disk", "together", "memory", "time to first token", "speed").index(self.constraint)


@dataclass(frozen=True)
class Served:
    """One model on one host: the engine's answers, and the speed when all models that share its GPUs are busy.

    C(devices) are the places in the class of those used, C(sharing) the models that take turns on the busiest one;
    C(slots) and C(asked) are what the engine was asked with.
    """

    goal: int
    option: Option
    users: int
    memory: Mapping[str, Any]
    speed: Mapping[str, Any]
    devices: Tuple[int, ...]
    sharing: int
    slots: int
    asked: Devices

    @property
    def decode_per_user(self) -> float:
        return float(self.speed["decode_per_user"]) / self.sharing

    @property
    def decode_total(self) -> float:
        return float(self.speed["decode_total"]) / self.sharing

    @property
    def prefill(self) -> float:
        return float(self.speed["prefill"]) / self.sharing

    @property
    def time_to_first_token_s(self) -> float:
        return float(self.speed["time_to_first_token_s"]) * self.sharing


@dataclass(frozen=True)
class Layout:
    """A set that works: slots, the devices that the server sees, and each model."""

    parallel: int
    visible: Tuple[int, ...]
    spread: bool
    served: Tuple[Served, ...]
    used_mib: Tuple[float, ...]


Result = Union[Layout, Refusal]


class Evaluator:
    """Evaluates sets of models on classes of hosts, for one choice of options; answers are kept."""

    def __init__(self, goals: Sequence[Goal], engine: Engine, memo: Dict[Any, Any]) -> None:
        self._goals = goals
        self._engine = engine
        self._memo = memo

    def layout(self, cls: HostClass, content: Content, options: Sequence[Option]) -> Result:
        """The first way that works, or the refusal of the way that came furthest."""
        key = self._key(cls, content, options)
        if key not in self._memo:
            self._memo[key] = self._layout(cls, content, options)
        found: Result = self._memo[key]
        return found

    def confirmed(self, cls: HostClass, content: Content, options: Sequence[Option]) -> bool:
        """Whether the engine's own placement agrees that all fits; if not, the set is refused from now on."""
        found = self.layout(cls, content, options)
        for one in found.served if isinstance(found, Layout) else ():
            answer = self._engine.memory(self._goals[one.goal], one.option, one.slots, one.asked)
            if one.asked.requests and not answer["fits"]:
                need, free = sum(_taken(one.memory, len(one.asked.requests))), sum(one.asked.free_mib)
                self._memo[self._key(cls, content, options)] = Refusal("memory", one.goal, need, free)
                return False
        return isinstance(found, Layout)

    @staticmethod
    def _key(kind: HostClass, content: Content, options: Sequence[Option]) -> Tuple[Any, ...]:
        return (kind.rank, content, tuple(options[goal] for goal, _users in content))

    def capacity(self, cls: HostClass, content: Content, goal: int, most: int, options: Sequence[Option]) -> int:
        """Most users, up to C(most), of one more model beside C(content); 0: none."""
        if self._goals[goal].single_slot:
            most = 1
        elif most > 1:
            most = min(most, self._most_slots(cls, goal, options[goal]))
            if not most:
                return 0

        def works(users: int) -> bool:
            return isinstance(self.layout(cls, merged(content, goal, users), options), Layout)

        if works(most):
            return most
        if not works(1):
            return 0
        low, high = 1, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if works(middle) else (low, middle)
        return low

    def _most_slots(self, cls: HostClass, goal: int, option: Option) -> int:
        """No more slots than this can fit: weights and KV caches alone would fill the GPUs."""
        most = 0
        for visible in cls.choices:
            if not visible:
                return self._goals[goal].users
            free = tuple(float(cls.free_mib[place]) for place in visible)
            if max(free) <= _LEAST_FREE_MIB:
                continue
            devices = Devices(tuple(cls.requests[place] for place in visible), free, False)
            rows = self._engine.whole(self._goals[goal], option, 1, devices)["per_gpu"]
            room = sum(free) - sum(float(row["weights_mib"]) for row in rows)
            slot_mib = sum(float(row["kv_cache_mib"]) for row in rows)
            most = max(most, int(room / slot_mib) if slot_mib else self._goals[goal].users)
        return most

    def _layout(self, cls: HostClass, content: Content, options: Sequence[Option]) -> Result:
        if len({options[goal].kv_cache_type for goal, _users in content}) > 1:
            return Refusal("together", content[-1][0], 0, 0)
        worst: Optional[Refusal] = None
        for visible in cls.choices:
            for spread in (False, True) if len(visible) > 1 else (False,):
                found = self._on(cls, visible, spread, content, options)
                if isinstance(found, Layout):
                    return found
                if worst is None or (found.progress, found.available) > (worst.progress, worst.available):
                    worst = found
                if found.spread:
                    break
        if worst is None:
            raise AssertionError("a host class without a way to use its GPUs")
        return worst

    def _on(
        self, cls: HostClass, visible: Tuple[int, ...], spread: bool, content: Content, options: Sequence[Option]
    ) -> Result:
        parallel = max(users for _goal, users in content)
        requests = tuple(cls.requests[place] for place in visible)
        used = [0.0] * len(visible)
        placed: List[Tuple[int, int, Mapping[str, Any], Devices, Tuple[int, ...]]] = []
        for goal, users in content:
            free = tuple(cls.free_mib[place] - taken for place, taken in zip(visible, used))
            if free and max(free) <= _LEAST_FREE_MIB:
                return Refusal("memory", goal, _LEAST_FREE_MIB, max(free), len(free) == 1)
            slots = 1 if self._goals[goal].single_slot else parallel
            devices = Devices(requests, free, spread)
            answer = self._engine.whole(self._goals[goal], options[goal], slots, devices)
            taken_mib = _taken(answer, len(visible))
            places = tuple(place for place, mib in enumerate(taken_mib) if mib > 0)
            refusal = self._refused(goal, options[goal], slots, answer, taken_mib, free, places, bool(placed))
            if refusal:
                everywhere = all(len(each) == len(visible) for *_rest, each in placed) and len(places) == len(visible)
                return replace(refusal, spread=everywhere)
            used = [before + mib for before, mib in zip(used, taken_mib)]
            placed.append((goal, users, answer, devices, places))
        everywhere = all(len(places) == len(visible) for *_rest, places in placed)
        refusal = _host_refusal(cls, [(goal, answer) for goal, _users, answer, _devices, _places in placed])
        if refusal:
            return replace(refusal, spread=everywhere)
        # Processes on one GPU take turns, so each has its share of the time when all are busy.
        on_device = Counter(place for *_rest, places in placed for place in places)
        served = []
        for goal, users, answer, devices, places in placed:
            sharing = max((on_device[place] for place in places), default=len(placed))
            slots = 1 if self._goals[goal].single_slot else parallel
            speed = self._engine.decode(self._goals[goal], options[goal], slots, devices, users)
            seen = tuple(visible[place] for place in places)
            one = Served(goal, options[goal], users, answer, speed, seen, sharing, slots, devices)
            slow = self._too_slow(one)
            if slow:
                return replace(slow, spread=everywhere)
            served.append(one)
        return Layout(parallel, visible, spread, tuple(served), tuple(used))

    def _refused(
        self,
        goal: int,
        option: Option,
        slots: int,
        answer: Mapping[str, Any],
        taken_mib: Sequence[float],
        free: Sequence[float],
        places: Sequence[int],
        beside: bool,
    ) -> Optional[Refusal]:
        if not free:
            return None
        if not answer["fits"] or not self._leaves_target(taken_mib, free):
            need = sum(taken_mib) + float(answer["host"]["weights_mib"]) + float(answer["host"]["kv_cache_mib"])
            return Refusal("memory", goal, need, max(free) if len(places) == 1 else sum(free))
        if beside:
            surcharge = _SURCHARGE_MIB.get(int(answer.get("ubatch_size", 0)), 0)
            wanted = self._engine.predicted_mib(self._goals[goal], option, slots) + surcharge
            bound = _SHARE * sum(max(0.0, free[place] - _KEPT_MIB) for place in places)
            if wanted > bound:
                return Refusal("together", goal, wanted, bound)
        return None

    def _leaves_target(self, taken_mib: Sequence[float], free: Sequence[float]) -> bool:
        target = self._engine.fit_target_mib
        return all(mib + target <= left for mib, left in zip(taken_mib, free) if mib > 0)

    def _too_slow(self, served: Served) -> Optional[Refusal]:
        goal = self._goals[served.goal]
        if served.decode_per_user < goal.min_tokens_per_second:
            return Refusal("speed", served.goal, goal.min_tokens_per_second, served.decode_per_user)
        if 0 < goal.max_time_to_first_token_s < served.time_to_first_token_s:
            wanted = goal.max_time_to_first_token_s
            return Refusal("time to first token", served.goal, wanted, served.time_to_first_token_s)
        return None


def merged(content: Content, goal: int, users: int) -> Content:
    """C(content) with one more model; in the order of goals, in which they load."""
    return tuple(sorted((*content, (goal, users))))


def host_memory_mib(answers: Sequence[Mapping[str, Any]]) -> float:
    """Main memory of a server with these models loaded, without the page cache, MiB."""
    return SERVER_MIB + sum(
        (GPU_RUNNER_MIB if answer["per_gpu"] else CPU_RUNNER_MIB) + float(answer["host"]["total_mib"])
        for answer in answers
    )


def disk_mib(answers: Sequence[Mapping[str, Any]]) -> float:
    """Disk for these models, MiB."""
    return sum(float(answer["file_mib"]) for answer in answers)


def _taken(answer: Mapping[str, Any], count: int) -> List[float]:
    """MiB on each visible device; the engine may list all of them or only those used."""
    rows = answer["per_gpu"]
    used = answer.get("gpus_used")
    if used is None:
        used = range(len(rows))
    if len(rows) == count:
        return [float(row["total_mib"]) if place in used else 0.0 for place, row in enumerate(rows)]
    taken = [0.0] * count
    for place, row in zip(used, rows):
        taken[place] = float(row["total_mib"])
    return taken


def _host_refusal(cls: HostClass, placed: Sequence[Tuple[int, Mapping[str, Any]]]) -> Optional[Refusal]:
    answers = [answer for _goal, answer in placed]
    if cls.disk_free_mib is not None and disk_mib(answers) + DISK_RESERVE_MIB > cls.disk_free_mib:
        return Refusal("disk", placed[-1][0], disk_mib(answers) + DISK_RESERVE_MIB, cls.disk_free_mib)
    if cls.memory_mib is not None and host_memory_mib(answers) + SYSTEM_MIB > cls.memory_mib:
        return Refusal("memory", placed[-1][0], host_memory_mib(answers) + SYSTEM_MIB, cls.memory_mib)
    return None
