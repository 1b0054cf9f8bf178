# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers go where when not all fit: the search of llama.cpp's C(--fit) (common/fit.cpp, build 11095).

Dense models: whole layers, from the last device to the first. Models with experts: first everything but the experts,
then experts of the front layers for as long as they fit, the rest stays in main memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing import memory
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.memory import Placement, Setting


@dataclass(frozen=True)
class _Share:
    """Layers of one device; the last C(part) of them without all their weights, the first of these as C(overflow)."""

    layers: int = 0
    part: int = 0
    overflow: str = memory.EXPERTS

    @property
    def full(self) -> int:
        return self.layers - self.part


def fitted(setting: Setting, free_bytes: Sequence[int], target_bytes: int) -> Placement:
    """Placement that leaves C(target_bytes) free on each device; C(free_bytes) as llama.cpp finds them."""
    everything = memory.all_on_devices(setting, [float(free) for free in free_bytes])
    if not free_bytes:
        return everything
    uses, _host = memory.measure(setting, everything, as_fitted=True)
    if all(use.total + target_bytes <= free for use, free in zip(uses, free_bytes)):
        return everything
    return _Search(setting, free_bytes, target_bytes).run()


class _Search:
    def __init__(self, setting: Setting, free_bytes: Sequence[int], target_bytes: int) -> None:
        self._setting = setting
        self._free = [float(max(1, free)) for free in free_bytes]
        self._targets = [free - target_bytes for free in free_bytes]
        self._count = len(free_bytes)
        self._layers = setting.shape.block_count + 1
        self._experts = setting.shape.is_moe
        self._spill = [False] * self._count

    def run(self) -> Placement:
        shares, use = self._dense()
        if self._experts and self._dense_parts_fit():
            shares = self._with_experts(shares, use)
        return self._placement(shares, self._spill)

    def _dense_parts_fit(self) -> bool:
        everything = memory.all_on_devices(self._setting, self._free)
        parts = tuple(
            (layer, memory.EXPERTS)
            for layer in range(self._setting.shape.block_count)
            if self._setting.shape.is_moe_layer(layer)
        )
        uses, _host = memory.measure(self._setting, replace(everything, in_host=parts), as_fitted=True)
        return sum(target - use.total for use, target in zip(uses, self._targets)) > 0

    def _measure(self, shares: Sequence[_Share], spill: Sequence[bool]) -> List[int]:
        uses, _host = memory.measure(self._setting, self._placement(shares, spill), as_fitted=True)
        return [use.total for use in uses]

    def _placement(self, shares: Sequence[_Share], spill: Sequence[bool]) -> Placement:
        counts = [share.layers for share in shares]
        if not sum(counts):
            return Placement(tuple(() for _share in shares), None)
        placed = memory.split(self._setting, sum(counts), [float(count) for count in counts])
        in_host: List[Tuple[int, str]] = []
        over: List[Tuple[int, str]] = []
        layer = self._layers - sum(counts)
        for device, share in enumerate(shares):
            layer += share.full
            for number in range(share.part):
                if layer < self._layers - 1:
                    part = share.overflow if number == 0 else memory.EXPERTS
                    (over if number == 0 and spill[device] else in_host).append((layer, part))
                layer += 1
        return replace(placed, in_host=tuple(in_host), spill=tuple(over))

    def _dense(self) -> Tuple[List[_Share], List[int]]:
        shares = [_Share() for _device in range(self._count)]
        use = self._measure(shares, self._spill)
        for device in range(self._count - 1, -1, -1):
            last = device == self._count - 1
            free_layers = self._layers - sum(share.layers for share in shares[device + 1 :])
            high = list(shares)
            part = (free_layers - 1 if last else free_layers) if self._experts else 0
            high[device] = _Share(free_layers, max(0, part))
            if not free_layers:
                continue
            use_high = self._measure(high, self._spill)
            if use_high[device] <= self._targets[device]:
                shares, use = high, use_high
                continue
            while high[device].layers - shares[device].layers > 1:
                step = self._step(device, high[device].layers - shares[device].layers, use, use_high)
                test = list(shares)
                old = shares[device]
                added = (step - 1 if last and old.part == 0 else step) if self._experts else 0
                test[device] = _Share(old.layers + step, old.part + added)
                use_test = self._measure(test, self._spill)
                if use_test[device] <= self._targets[device]:
                    shares, use = test, use_test
                else:
                    high, use_high = test, use_test
        return shares, use

    def _step(self, device: int, delta: int, use: Sequence[int], use_high: Sequence[int]) -> int:
        step = int(delta * (self._targets[device] - use[device]) / max(1, use_high[device] - use[device]))
        return min(max(step, 1), delta - 1)

    def _with_experts(self, shares: List[_Share], use: List[int]) -> List[_Share]:
        start = self._count
        for device in range(self._count - 1, -1, -1):
            if not shares[device].layers:
                break
            start = device
        device = 0
        while device <= start < self._count:
            shares, use, start = self._fill(device, shares, use, start)
            shares, use, start = self._one_more(device, shares, use, start)
            device += 1
        return shares

    def _fill(
        self, device: int, shares: List[_Share], use: List[int], start: int
    ) -> Tuple[List[_Share], List[int], int]:
        high = list(shares)
        for other in range(start, self._count):
            moved = high[other].layers if other < self._count - 1 else high[other].layers - 1
            high[device] = replace(high[device], layers=high[device].layers + moved)
            high[other] = replace(high[other], layers=high[other].layers - moved, part=0)
        use_high = self._measure(high, self._spill)
        if use_high[device] <= self._targets[device]:
            return high, use_high, self._count - 1
        while high[device].full - shares[device].full > 1:
            step = self._step(device, high[device].full - shares[device].full, use, use_high)
            test, start_test = self._converted(device, shares, start, step)
            use_test = self._measure(test, self._spill)
            if use_test[device] <= self._targets[device]:
                shares, use, start = test, use_test, start_test
            else:
                high, use_high = test, use_test
        return shares, use, start

    def _converted(self, device: int, shares: List[_Share], start: int, step: int) -> Tuple[List[_Share], int]:
        test, left = list(shares), step
        while start < self._count:
            count = min(left, test[start].part)
            test[start] = replace(test[start], layers=test[start].layers - count, part=test[start].part - count)
            test[device] = replace(test[device], layers=test[device].layers + count)
            left -= count
            if test[start].part > 0:
                break
            start += 1
        return test, start

    def _one_more(
        self, device: int, shares: List[_Share], use: List[int], start: int
    ) -> Tuple[List[_Share], List[int], int]:
        last = device == self._count - 1
        if start >= self._count or shares[start].layers <= (1 if last else 0) or not shares[start].part:
            return shares, use, start
        test, start_test = list(shares), start
        test[start] = replace(test[start], layers=test[start].layers - 1, part=test[start].part - 1)
        test[device] = replace(test[device], layers=test[device].layers + 1, part=test[device].part + 1)
        if test[start].part == 0:
            start_test += 1
        spill = list(self._spill)
        spill[device] = not last
        found = (shares, use, start)
        for overflow in (memory.AFTER_UP, memory.DOWN):
            candidate = list(test)
            candidate[device] = replace(candidate[device], overflow=overflow)
            use_test = self._measure(candidate, spill)
            if not self._below(device, use_test):
                break
            found = (candidate, use_test, start_test)
        if found[0] is shares:
            candidate = list(test)
            candidate[device] = replace(candidate[device], overflow=memory.AFTER_ATTENTION)
            use_test = self._measure(candidate, spill)
            if self._below(device, use_test):
                found = (candidate, use_test, start_test)
        if found[0] is not shares:
            self._spill = spill
        return found

    def _below(self, device: int, use: Sequence[int]) -> bool:
        return all(use[other] < self._targets[other] for other in range(device, min(device + 2, self._count)))
