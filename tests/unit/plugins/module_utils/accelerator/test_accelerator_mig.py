# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG layouts: against every arrangement there is, and against what nvidia-smi lists."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.mig import Layout, mig_layout
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import MigBoard
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables
from hypothesis import given
from hypothesis import strategies as st

BOARDS = tables().boards
FIXTURES = Path(__file__).parents[4] / "fixtures" / "gpu"


def wishes(most: int) -> Any:
    """A board and up to C(most) of its profiles."""
    return st.sampled_from(BOARDS).flatmap(
        lambda board: st.tuples(
            st.just(board), st.lists(st.sampled_from([each.name for each in board.profiles]), max_size=most)
        )
    )


def possible(board: MigBoard, names: list[str]) -> bool:
    """Whether any choice of starts holds them all, by trying every one."""
    profiles = [profile for name in names for profile in board.profiles if profile.name == name]
    if any(names.count(profile.name) > profile.count for profile in profiles):
        return False
    if sum(profile.media for profile in profiles) > 1:
        return False
    if sum(profile.compute for profile in profiles) > board.compute_slices:
        return False
    kinds = list(dict.fromkeys(profiles))
    choices = [itertools.combinations(profile.starts, profiles.count(profile)) for profile in kinds]
    for chosen in itertools.product(*choices):
        taken = [
            start + slot for profile, starts in zip(kinds, chosen) for start in starts for slot in range(profile.memory)
        ]
        if len(taken) == len(set(taken)) and all(slot < board.memory_slices for slot in taken):
            return True
    return False


@given(wishes(8))
def test_what_is_placed_is_what_was_wanted_and_nothing_overlaps(wish: tuple[MigBoard, list[str]]) -> None:
    board, names = wish
    layout = mig_layout(board.name, names, tables())
    if layout.refusal:
        assert layout.placements == () and layout.create == ()
        assert layout.refusal.endswith((".", "?")) and "\n" not in layout.refusal
        return
    assert Counter(each.profile for each in layout.placements) == Counter(names)
    taken = [each.start + slot for each in layout.placements for slot in range(each.size)]
    assert len(taken) == len(set(taken)) and all(0 <= slot < board.memory_slices for slot in taken)
    for each in layout.placements:
        profile = board.profile(each.profile)
        assert profile is not None and each.start in profile.starts and each.size == profile.memory
    assert layout.free_memory_slices == board.memory_slices - len(taken)


@given(wishes(7))
def test_only_what_is_impossible_is_refused(wish: tuple[MigBoard, list[str]]) -> None:
    board, names = wish
    assert bool(mig_layout(board.name, names, tables()).refusal) != possible(board, names)


@given(wishes(7), st.randoms())
def test_the_order_of_the_wish_does_not_matter(wish: tuple[MigBoard, list[str]], random: Any) -> None:
    board, names = wish
    mixed = random.sample(names, len(names))
    assert mig_layout(board.name, names, tables()).placements == mig_layout(board.name, mixed, tables()).placements
    assert mig_layout(board.name, dict(Counter(names)), tables()).placements == (
        mig_layout(board.name, names, tables()).placements
    )


def where(layout: Layout) -> list[tuple[str, int]]:
    assert layout.refusal == ""
    return [(each.profile, each.start) for each in layout.placements]


def test_a_larger_one_makes_way_where_it_must() -> None:
    # At slice 0 the half would leave room for three quarters of the small ones only: none begins at slice 7.
    assert where(mig_layout("10de:2330", ["3g.40gb", *["1g.10gb"] * 4], tables())) == [
        *(("1g.10gb", start) for start in range(4)),
        ("3g.40gb", 4),
    ]
    assert where(mig_layout("2330", ["3g.40gb", *["1g.10gb"] * 3], tables()))[0] == ("3g.40gb", 0)


@pytest.mark.parametrize(
    ("card", "wanted", "placed"),
    [
        ("20b0", {"3g.20gb": 2}, [("3g.20gb", 0), ("3g.20gb", 4)]),
        ("20b2", {"4g.40gb": 1, "3g.40gb": 1}, [("4g.40gb", 0), ("3g.40gb", 4)]),
        ("2331", {"2g.20gb": 3, "1g.10gb": 1}, [("2g.20gb", 0), ("2g.20gb", 2), ("2g.20gb", 4), ("1g.10gb", 6)]),
        ("2321", {"1g.24gb": 4}, [("1g.24gb", 0), ("1g.24gb", 2), ("1g.24gb", 4), ("1g.24gb", 6)]),
        ("2342", {"7g.96gb": 1}, [("7g.96gb", 0)]),
        ("2335", {"1g.18gb": 7}, [("1g.18gb", start) for start in range(7)]),
        ("2901", {"4g.90gb": 1, "2g.45gb": 1, "1g.23gb": 1}, [("4g.90gb", 0), ("2g.45gb", 4), ("1g.23gb", 6)]),
        ("20b7", {"2g.12gb": 1, "1g.6gb": 2}, [("2g.12gb", 0), ("1g.6gb", 2), ("1g.6gb", 3)]),
        ("2330", {}, []),
    ],
)
def test_layouts_of_the_user_guide(card: str, wanted: dict[str, int], placed: list[tuple[str, int]]) -> None:
    assert where(mig_layout(card, wanted, tables())) == placed


REFUSED: dict[str, tuple[str, Any, str]] = {
    "no MIG": ("27b8", ["1g.5gb"], "L4 has no MIG; leave its MIG layout empty."),
    "not in the table": ("2bb5", ["1g.24gb"], "The MIG profiles of RTX PRO 6000 Blackwell Server are not in the table"),
    "unknown card": ("0001", ["1g.5gb"], "No table knows the card 0001"),
    "another card's": ("2330", ["1g.5gb"], "H100 80GB has no MIG profile 1g.5gb; choose among 1g.10gb, 1g.10gb+me"),
    "too many": ("2330", {"4g.40gb": 2}, "H100 80GB takes 4g.40gb 1 times at most, and 2 are wanted; leave out 1."),
    "media": ("20b7", ["1g.6gb+me", "2g.12gb+me"], "A30 24GB has one set of media extensions"),
    "memory": ("2330", ["3g.40gb", "3g.40gb", "1g.10gb"], "H100 80GB has 8 memory slices, and 9 are wanted"),
    "compute": ("20b0", {"4g.20gb": 1, "1g.5gb": 4}, "A100 40GB has 7 compute slices, and 8 are wanted"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name: str) -> None:
    card, wanted, sentence = REFUSED[name]
    assert sentence in mig_layout(card, wanted, tables()).refusal


@pytest.mark.parametrize("name", ["a30-24gb", "a100-40gb"])
def test_every_wish_of_a_board(name: str) -> None:
    """All of them, also that none fits by sum and not by place, which no board of the table has."""
    board = next(each for each in BOARDS if each.name == name)
    profiles = [profile.name for profile in board.profiles]
    for count in range(board.compute_slices + 1):
        for wish in itertools.combinations_with_replacement(profiles, count):
            refusal = mig_layout(name, list(wish), tables()).refusal
            assert bool(refusal) != possible(board, list(wish)), wish
            assert "no allowed placement" not in refusal


def test_what_fits_by_sum_and_not_by_place_is_refused() -> None:
    board = next(each for each in BOARDS if each.name == "a30-24gb")
    only_middle = replace(next(each for each in board.profiles if each.name == "2g.12gb"), starts=(1,))
    others = [each for each in board.profiles if each.name != "2g.12gb"]
    odd = replace(tables(), boards=(replace(board, profiles=(only_middle, *others)),))
    assert where(mig_layout("a30-24gb", ["2g.12gb", "1g.6gb", "1g.6gb"], odd)) == [
        *(("1g.6gb", 0), ("2g.12gb", 1), ("1g.6gb", 3)),
    ]
    layout = mig_layout("a30-24gb", ["2g.12gb", "2g.12gb+me"], odd)
    assert layout.refusal == (
        "2g.12gb and 2g.12gb+me fit into the slices of A30 24GB, but no allowed placement holds them all; take a "
        "smaller one or leave one out."
    )


def test_an_h200_lists_what_the_table_says() -> None:
    profiles = (FIXTURES / "nvidia-h200-580.159.04-mig-profiles.txt").read_text()
    places = (FIXTURES / "nvidia-h200-580.159.04-mig-placements.txt").read_text()
    placements = {
        int(profile): (tuple(map(int, starts.split(","))), int(size))
        for profile, starts, size in re.findall(r"Profile ID +(\d+) Placements? ?: \{([\d,]+)\}:(\d+)", places)
    }
    rows = re.findall(r"MIG (\S+) +(\d+) +\d+/(\d+)[^\n]+\n\|[ \d]+ (\d) +\|", profiles)
    listed = [
        (name, int(number), int(count), media == "1", *placements[int(number)]) for name, number, count, media in rows
    ]
    board = next(each for each in BOARDS if each.name == "h200-141gb")
    table = [(each.name, each.id, each.count, each.media, each.starts, each.memory) for each in board.profiles]
    assert listed == table
    assert len(listed) == 7


def test_arguments_name_profile_and_start() -> None:
    layout = mig_layout("2330", ["3g.40gb", "4g.40gb"], tables(), gpu=3)
    assert layout.enable == (("-i", "3", "-mig", "1"),)
    assert layout.clear == (("mig", "-i", "3", "-dci"), ("mig", "-i", "3", "-dgi"))
    assert layout.create == (("mig", "-i", "3", "-cgi", "4g.40gb:0,3g.40gb:4", "-C"),)
    every = mig_layout("2330", ["7g.80gb"], tables())
    assert every.create == (("mig", "-cgi", "7g.80gb:0", "-C"),)
    assert mig_layout("2330", [], tables()).create == ()


@pytest.mark.parametrize(
    ("card", "wanted", "sentence"),
    [
        ("H100", [], "card is 'H100'; give its PCI id, such as 10de:2330, or one of a30-24gb, a100-40gb"),
        ("2330", "7g.80gb", "the MIG layout is '7g.80gb'; give a list of profiles or counts by profile"),
        ("2330", {"7g.80gb": True}, "the MIG layout wants True of 7g.80gb; give a whole number"),
        ("2330", {"7g.80gb": -1}, "the MIG layout wants -1 of 7g.80gb"),
    ],
)
def test_bad_values_are_named(card: Any, wanted: Any, sentence: str) -> None:
    with pytest.raises(AcceleratorError) as caught:
        mig_layout(card, wanted, tables())
    assert sentence in str(caught.value)
