# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search: which quantization each model gets and on which hosts it runs.

Options are tried in an order that hosts have no part in: all models at the best quantization and cache, then all one
step lower, and so on; at the first step where everything can be placed, models get back what they can, in the order of
the inventory. So more hosts give the same plan or a better one as long as placing is monotone. Placing packs greedily,
which is monotone for equal hosts; of an unequal fleet all parts are tried where they are at most C(MOST_SUBSETS).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_engine import Devices, Engine
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_evaluate import Content, Evaluator, merged
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import Goal, Option
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_hosts import HostClass

MOST_SUBSETS = 48

# Number of the class and what a host of it serves -> hosts.
State = Dict[Tuple[int, Content], int]
Options = Tuple[Option, ...]
# Users that one host has room for, which hosts, and how many of them there are.
Room = Tuple[int, Tuple[int, Content], int]


@dataclass(frozen=True)
class Arrangement:
    """Options by goal and hosts by what they serve; C(unplaced): goals that found no place, in the order of trying."""

    options: Options
    state: Tuple[Tuple[Tuple[int, Content], int], ...]
    unplaced: Tuple[int, ...]


class Search:
    """Places goals on classes of hosts."""

    def __init__(
        self, goals: Sequence[Goal], classes: Sequence[HostClass], engine: Engine, memo: Dict[Any, Any]
    ) -> None:
        self.classes = tuple(classes)
        self.engine = engine
        self.goals = tuple(self._usable(goal) for goal in goals)
        self.evaluator = Evaluator(self.goals, engine, memo)
        self._order = sorted(range(len(self.goals)), key=self._size)

    def _usable(self, goal: Goal) -> Goal:
        """The goal without the types of KV cache that the engine refuses for this model on GPUs."""
        cards = [cls.requests[0] for cls in self.classes if cls.requests][:1]
        if not cards:
            return goal
        ample = Devices((cards[0],), (float(json.loads(cards[0])["memory_total_mib"]),), False)
        refused, sentence = set(), ""
        for option in {option.kv_cache_type: option for option in goal.options}.values():
            try:
                self.engine.whole(goal, option, 1, ample)
            except SizingError as error:
                refused.add(option.kv_cache_type)
                sentence = str(error)
        options = tuple(option for option in goal.options if option.kv_cache_type not in refused)
        if not options:
            raise SizingError(f"{goal.name}: {sentence}")
        return goal if len(options) == len(goal.options) else replace(goal, options=options)

    def run(self) -> Arrangement:
        """The best arrangement; where goals stay unplaced, the one with the fewest of them, at the lowest quality."""
        while True:
            found = self._best()
            served = [(self.classes[cls], content) for (cls, content), _count in found.state if content]
            confirmed = [self.evaluator.confirmed(cls, content, found.options) for cls, content in served]
            # Every one is asked, so that all refusals are remembered at once.
            if all(confirmed):
                return found

    def _best(self) -> Arrangement:
        counts = tuple(len(each.hosts) for each in self.classes)
        last: Optional[Arrangement] = None
        for options in self._steps():
            if all(self.alone(goal, options) for goal in range(len(self.goals))):
                found = self._place_any(options, counts)
                if not found.unplaced:
                    return self._upgraded(found, counts)
                last = found
        if last is None:
            lowest = tuple(goal.options[-1] for goal in self.goals)
            last = self._place_any(lowest, counts)
        return last

    def alone(self, goal: int, options: Options) -> bool:
        """Whether all hosts together could serve this goal if there were no other."""
        hosts = users = 0
        for cls in reversed(self.classes):
            capacity = self.evaluator.capacity(cls, (), goal, self.goals[goal].users, options)
            hosts += len(cls.hosts) if capacity else 0
            users += len(cls.hosts) * capacity
            if hosts >= self.goals[goal].least_replicas and users >= self.goals[goal].users:
                return True
        return False

    def _size(self, goal: int) -> Tuple[float, str]:
        """Large models first: what comes late has to fit into what is left."""
        each = self.goals[goal]
        answer = self.engine.memory(each, each.options[0], 1, Devices((), (), False))
        return (-float(answer["file_mib"]), each.name)

    def _steps(self) -> Iterator[Options]:
        seen = set()
        for score in sorted({option.score for goal in self.goals for option in goal.options}):
            options = tuple(
                next((option for option in goal.options if option.score >= score), goal.options[-1])
                for goal in self.goals
            )
            if options not in seen:
                seen.add(options)
                yield options

    def _upgraded(self, found: Arrangement, counts: Tuple[int, ...]) -> Arrangement:
        for number, goal in enumerate(self.goals):
            for option in goal.options:
                if option.score >= found.options[number].score:
                    break
                options = (*found.options[:number], option, *found.options[number + 1 :])
                if self.alone(number, options):
                    better = self._place_any(options, counts)
                    if not better.unplaced:
                        found = better
                        break
        return found

    def _place_any(self, options: Options, counts: Tuple[int, ...]) -> Arrangement:
        best: Optional[Arrangement] = None
        for some in _parts(counts):
            for packed in (False, True):
                found = self._place(options, some, packed)
                if best is None or len(found.unplaced) < len(best.unplaced):
                    best = found
                if not found.unplaced:
                    return found
        if best is None:
            raise AssertionError("no arrangement was tried")
        return best

    def _place(self, options: Options, counts: Sequence[int], packed: bool) -> Arrangement:
        state: State = {(number, ()): count for number, count in enumerate(counts) if count}
        unplaced = []
        for goal in self._order:
            if not self._add(state, goal, options, packed):
                unplaced.append(goal)
        return Arrangement(options, tuple(sorted(state.items())), tuple(unplaced))

    def _add(self, state: State, goal: int, options: Options, packed: bool) -> bool:
        """Give the goal the fewest hosts that serve all its users; C(packed): hosts in use before empty ones."""
        users = self.goals[goal].users
        empty = {cls: count for (cls, content), count in state.items() if not content}
        room = self._room({(cls, ()): count for cls, count in empty.items()}, goal, options)
        replicas = self._fewest([entry for entry in room if self.classes[entry[1][0]].requests], goal)
        # An empty host has the most room of its class; the others need no look where there are enough empty ones.
        if packed or not replicas or any(empty.get(cls, 0) < replicas for cls, content in state if content):
            room = self._room(state, goal, options)
        # A processor is for what no GPU has room for.
        on_gpus = [entry for entry in room if self.classes[entry[1][0]].requests]
        replicas = self._fewest(on_gpus, goal)
        if replicas:
            room = on_gpus
        else:
            replicas = self._fewest(room, goal)
        if not replicas:
            return False
        share = -(-users // replicas)

        def taste(entry: Room) -> Tuple[bool, int, int, Content]:
            _capacity, (cls, content), _count = entry
            return (bool(content) != packed, cls, len(content), content)

        # The smallest hosts that can take an even share; where these are too few, the largest.
        even = [entry for entry in room if entry[0] >= share]
        if sum(count for _capacity, _key, count in even) >= replicas:
            chosen = sorted(even, key=taste)
        else:
            chosen = sorted(room, key=lambda entry: (-entry[0], *taste(entry)))
        taken: List[Room] = []
        for capacity, key, count in chosen:
            some = min(count, replicas - sum(number for _capacity, _key, number in taken))
            if some:
                taken.append((capacity, key, some))
        while sum(min(capacity, share) * number for capacity, _key, number in taken) < users:
            share += 1
        for capacity, key, number in taken:
            cls, content = key
            state[key] -= number
            if not state[key]:
                del state[key]
            new = (cls, merged(content, goal, min(capacity, share)))
            state[new] = state.get(new, 0) + number
        return True

    def _room(self, state: State, goal: int, options: Options) -> List[Room]:
        users = self.goals[goal].users
        found = []
        for (cls, content), count in state.items():
            capacity = self.evaluator.capacity(self.classes[cls], content, goal, users, options)
            if capacity:
                found.append((capacity, (cls, content), count))
        return found

    def _fewest(self, room: Sequence[Room], goal: int) -> int:
        missing, hosts = self.goals[goal].users, 0
        for capacity, _key, count in sorted(room, key=lambda entry: (-entry[0], entry[1])):
            some = min(count, -(-missing // capacity))
            hosts += some
            missing -= some * capacity
            if missing <= 0:
                break
        if missing > 0:
            return 0
        least = self.goals[goal].least_replicas
        return max(hosts, least) if least <= sum(count for _capacity, _key, count in room) else 0


def _parts(counts: Tuple[int, ...]) -> Iterator[Tuple[int, ...]]:
    """All hosts, then parts of them: all parts where these are few, else all but each class."""
    yield counts
    total = 1
    for count in counts:
        total *= count + 1
    if total <= MOST_SUBSETS:
        parts = itertools.product(*(range(count, -1, -1) for count in counts))
        yield from sorted((part for part in parts if part != counts and any(part)), key=lambda part: (-sum(part), part))
    elif len(counts) > 1:
        for left_out in range(min(len(counts), MOST_SUBSETS)):
            yield tuple(0 if number == left_out else count for number, count in enumerate(counts))
