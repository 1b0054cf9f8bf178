# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replayed allocator: each rule of ggml's on a graph small enough to follow by hand, and what holds for all."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.allocator import Graph
from hypothesis import given
from hypothesis import strategies as st

K = 1024


def test_values_that_live_together_lie_side_by_side() -> None:
    graph = Graph()
    first, second = graph.step(3 * K, ()), graph.step(2 * K, ())
    graph.use((first, second))
    assert graph.buffer_bytes() == 5 * K


def test_a_value_is_freed_after_its_last_reader() -> None:
    graph = Graph()
    value = graph.step(4 * K, ())
    for _number in range(5):
        value = graph.step(4 * K, (value,))
    assert graph.buffer_bytes() == 8 * K


def test_a_result_takes_the_place_of_an_operand_of_its_size() -> None:
    graph = Graph()
    value = graph.step(4 * K, ())
    graph.step(4 * K, (value,), in_place=True)
    assert graph.buffer_bytes() == 4 * K


def test_no_place_is_taken_from_a_value_that_is_read_again() -> None:
    graph = Graph()
    value = graph.step(4 * K, ())
    other = graph.step(4 * K, (value,), in_place=True)
    graph.use((value, other))
    assert graph.buffer_bytes() == 8 * K


def test_no_place_is_taken_from_a_view_or_an_operand_of_another_size() -> None:
    for size, through_view in ((4 * K, True), (2 * K, False)):
        graph = Graph()
        value = graph.step(4 * K, ())
        graph.step(size, (graph.view(value) if through_view else value,), in_place=True)
        assert graph.buffer_bytes() == 4 * K + size


def test_a_view_keeps_its_origin() -> None:
    graph = Graph()
    value = graph.step(4 * K, ())
    view = graph.view(graph.view(value))
    graph.use((value,))
    other = graph.step(4 * K, ())
    graph.use((view, other))
    assert graph.buffer_bytes() == 8 * K


@pytest.mark.parametrize("sizes", [(6, 3), (3, 6)])
def test_the_smallest_hole_that_is_large_enough_is_taken(sizes: tuple[int, int]) -> None:
    graph = Graph()
    first, wall = graph.step(sizes[0] * K, ()), graph.step(K, ())
    second, other_wall = graph.step(sizes[1] * K, ()), graph.step(K, ())
    graph.use((first,))
    graph.use((second,))
    # Into the hole of 3, so that the hole of 6 stays for the next.
    fitting, following = graph.step(3 * K, ()), graph.step(6 * K, ())
    graph.use((wall, other_wall, fitting, following))
    assert graph.buffer_bytes() == 11 * K


def test_no_place_is_taken_from_a_value_of_which_a_view_is_read_later() -> None:
    graph = Graph()
    value = graph.step(4 * K, ())
    view = graph.view(value)
    other = graph.step(4 * K, (value,), in_place=True)
    graph.use((view, other))
    assert graph.buffer_bytes() == 8 * K


def test_neighbouring_holes_become_one() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)):
        graph = Graph()
        values = [graph.step(2 * K, ()) for _number in range(3)]
        wall = graph.step(K, ())
        for number in order:
            graph.use((values[number],))
        graph.use((wall, graph.step(6 * K, ())))
        assert graph.buffer_bytes() == 7 * K


def test_leaves_stay_and_sizes_are_aligned() -> None:
    graph = Graph()
    graph.use((graph.leaf(1),))
    graph.use((graph.step(129, ()),))
    assert graph.buffer_bytes() == 128 + 256


SIZES = st.integers(min_value=1, max_value=10_000)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, int]:
    """A random graph, and the bytes that its results surely need at once."""
    graph = Graph()
    values, least = [], 0
    for _number in range(draw(st.integers(min_value=1, max_value=30))):
        indices = st.integers(min_value=0, max_value=max(0, len(values) - 1))
        operands = [values[index] for index in draw(st.lists(indices, max_size=3))] if values else []
        if operands and draw(st.booleans()):
            operands[0] = graph.view(operands[0])
        values.append(graph.step(draw(SIZES), operands, draw(st.booleans())))
    # Everything is read at the end, so that nothing may be overwritten.
    graph.use(values)
    least = sum(-(-value.size // 128) * 128 for value in values)
    return graph, least


@given(graphs())
def test_what_lives_together_has_room(case: tuple[Graph, int]) -> None:
    graph, least = case
    assert graph.buffer_bytes() >= least


@given(st.lists(SIZES, min_size=1, max_size=40))
def test_a_chain_needs_its_largest_pair_at_least_and_never_all(sizes: list[int]) -> None:
    def chain() -> Graph:
        graph = Graph()
        value = graph.step(sizes[0], ())
        for size in sizes[1:]:
            value = graph.step(size, (value,))
        return graph

    aligned = [-(-size // 128) * 128 for size in sizes]
    pairs = [first + second for first, second in zip(aligned, aligned[1:])]
    found = chain().buffer_bytes()
    assert max([*pairs, aligned[0]]) <= found <= sum(aligned)
    assert chain().buffer_bytes() == found
