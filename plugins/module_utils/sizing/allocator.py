# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays how ggml places the tensors of a compute graph in one buffer, and says how large that buffer becomes.

The rules are those of ggml_gallocr (ggml/src/ggml-alloc.c in ggml-org/llama.cpp, build 11095): the smallest hole that
is large enough, else the end of the buffer; a result takes the place of an operand that nobody else needs where the
operation allows it; an operand is freed after its last reader. Since the order of a graph is fixed, so is the size.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

DEVICE_ALIGNMENT_BYTES = 128


class Value:
    """A tensor of the graph; C(size) in bytes. A view has no bytes of its own, a pinned value is never freed."""

    __slots__ = ("live", "offset", "origin", "pinned", "readers", "size", "views")

    def __init__(self, size: int, origin: Optional[Value] = None, pinned: bool = False) -> None:
        self.size = size
        self.origin = origin
        self.pinned = pinned
        self.readers = 0
        self.views = 0
        self.offset = 0
        self.live = False


Step = Tuple[Optional[Value], Sequence[Value], bool]


class Graph:
    """Steps in the order in which they are computed: result, operands, whether the result may replace an operand."""

    def __init__(self) -> None:
        self.steps: List[Step] = []
        self.leaves: List[Value] = []

    def leaf(self, size: int) -> Value:
        """A value that exists before the first step and stays."""
        value = Value(size, pinned=True)
        self.leaves.append(value)
        return value

    def step(self, size: int, operands: Sequence[Value], in_place: bool = False) -> Value:
        """A result of C(size) bytes; operands of other layout than the result must not be given with C(in_place)."""
        result = Value(size)
        self.steps.append((result, operands, in_place))
        return result

    def view(self, value: Value) -> Value:
        """Another shape of C(value)."""
        return Value(value.size, origin=value.origin or value)

    def use(self, operands: Sequence[Value]) -> None:
        """Read values without a result in this buffer."""
        self.steps.append((None, operands, False))

    def buffer_bytes(self) -> int:
        """Size that the buffer needs."""
        return _Replay(self).run()


class _Replay:
    """Free blocks are kept as parallel lists sorted by offset; the last one has no end."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._offsets: List[int] = [0]
        self._sizes: List[int] = [1 << 62]
        self._peak = 0

    def run(self) -> int:
        seen = set()
        for _result, operands, _in_place in self._graph.steps:
            for value in operands:
                value.readers += 1
                if value.origin is not None and id(value) not in seen:
                    seen.add(id(value))
                    value.origin.views += 1
        for value in self._graph.leaves:
            self._place(value)
        for result, operands, in_place in self._graph.steps:
            if result is not None and not (in_place and self._take_over(result, operands)):
                self._place(result)
            for value in operands:
                value.readers -= 1
                if value.readers == 0:
                    self._release(value)
        return self._peak

    def _take_over(self, result: Value, operands: Sequence[Value]) -> bool:
        for value in operands:
            # A view never gives its place away, even where it is the only reader of its origin.
            if not value.live or value.pinned or value.readers != 1 or value.views or value.size != result.size:
                continue
            result.offset, result.live, value.live = value.offset, True, False
            return True
        return False

    def _release(self, value: Value) -> None:
        owner = value
        if value.origin is not None:
            owner = value.origin
            owner.views -= 1
        if owner.live and not owner.pinned and owner.readers == 0 and owner.views == 0:
            owner.live = False
            self._free(owner.offset, _aligned(owner.size))

    def _place(self, value: Value) -> None:
        size = _aligned(value.size)
        offsets, sizes = self._offsets, self._sizes
        best, best_size = len(sizes) - 1, 1 << 62
        for index in range(len(sizes) - 1):
            if size <= sizes[index] <= best_size:
                best, best_size = index, sizes[index]
        value.offset, value.live = offsets[best], True
        offsets[best] += size
        sizes[best] -= size
        if sizes[best] == 0:
            del offsets[best], sizes[best]
        self._peak = max(self._peak, value.offset + size)

    def _free(self, offset: int, size: int) -> None:
        if not size:
            return
        offsets, sizes = self._offsets, self._sizes
        index = 0
        while offsets[index] < offset:
            index += 1
        touches_next = offset + size == offsets[index]
        if index and offsets[index - 1] + sizes[index - 1] == offset:
            sizes[index - 1] += size
            if touches_next:
                sizes[index - 1] += sizes[index]
                del offsets[index], sizes[index]
        elif touches_next:
            offsets[index] = offset
            sizes[index] += size
        else:
            offsets.insert(index, offset)
            sizes.insert(index, size)


def _aligned(size: int) -> int:
    return -(-size // DEVICE_ALIGNMENT_BYTES) * DEVICE_ALIGNMENT_BYTES
