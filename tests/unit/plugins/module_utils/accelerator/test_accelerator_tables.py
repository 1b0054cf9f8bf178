# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data files: each fact has a source, and none contradicts another."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError, joined, weakest
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import FILES, read_tables
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.versions import at_least, numbers
from ansible_collections.baremetal.llm.plugins.plugin_utils import accelerator
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables

FOLDER = Path(__file__).resolve().parents[5] / "catalogue/accelerator"
DOCUMENTS: dict[str, Any] = {name: yaml.safe_load((FOLDER / f"{name}.yml").read_text()) for name in FILES}
LISTS = [
    (file, key, row)
    for file, document in DOCUMENTS.items()
    for key, rows in document.items()
    if isinstance(rows, list)
    for row in rows
]


def test_every_row_has_a_known_source() -> None:
    used: dict[str, set[str]] = {name: set() for name in FILES}
    for file, key, row in LISTS:
        rows = [row, row["archive"]] if row.get("archive") else [row]
        for each in rows:
            assert each["source"], f"{file} {key}: {row}"
            used[file] |= set(each["source"])
    for file, document in DOCUMENTS.items():
        assert used[file] <= set(document["sources"]), file
        assert set(document["sources"]) - used[file] <= {"forward"}, f"{file} names sources that no row uses"


def test_keys_are_whole_fingerprints_that_end_with_their_file() -> None:
    for row in tables().distributions:
        assert re.fullmatch(r"[0-9A-Fa-f]{8}\.pub", row.key_file)
        if row.key_fingerprint is not None:
            assert re.fullmatch(r"[0-9A-F]{40}", row.key_fingerprint)
            assert row.key_fingerprint.endswith(row.key_file[:8].upper())


def test_no_card_is_named_twice() -> None:
    ids = [each for card in tables().cards for each in card.ids] + list(tables().switches)
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[0-9a-f]{4}", each) for each in ids)
    assert len({card.name for card in tables().cards}) == len(tables().cards)


def test_cards_name_what_there_is() -> None:
    numbers_of = {branch.branch for branch in tables().branches}
    boards = {board.name for board in tables().boards}
    for card in tables().cards:
        assert card.oldest_branch in numbers_of and card.newest_branch in (*numbers_of, None)
        assert card.mig in (*boards, None, "unlisted")
        assert card.fabric in ("none", "nvswitch", "nvlink5", "external")
        assert set(card.modules) <= {"open", "proprietary"}
        if card.oldest_version:
            assert numbers(card.oldest_version, card.name)[0] == card.oldest_branch
    assert boards == {card.mig for card in tables().cards} - {None, "unlisted"}


def test_generations_agree_with_the_installation_guide() -> None:
    for card in tables().cards:
        if card.architecture in ("pascal", "volta"):
            assert card.modules == ("proprietary",) and card.newest_branch == 580
        elif card.architecture == "blackwell":
            assert card.modules == ("open",) and card.oldest_branch >= 570 and card.newest_branch is None
        else:
            assert "open" in card.modules and card.newest_branch is None


def test_branches_are_in_step() -> None:
    for branch in tables().branches:
        assert branch.newest is None or numbers(branch.newest, "newest")[0] == branch.branch
        assert branch.default_modules in branch.modules
        assert (branch.naming == "plain") == (branch.branch > 580)
        assert ("proprietary" in branch.modules) == (branch.branch < 620)
        assert branch.default_modules == ("open" if branch.branch >= 560 else "proprietary")
        suffixed = any("{branch}" in name for name in branch.fabric_manager["apt"])
        assert suffixed == (branch.branch < 580), "the Fabric Manager's names lose the branch at 580"
        if branch.end:
            assert branch.ended == branch.over(tables().as_of)


def test_packages_are_there_for_each_way_of_installing() -> None:
    seen = set()
    for row in tables().packages:
        key = (row.style, row.source_kind, row.naming, row.modules, row.build, row.scope)
        assert key not in seen
        seen.add(key)
        for name in row.packages:
            assert re.fullmatch(r"[a-z0-9{][a-z0-9+.{}-]+", name)
    styles = {row.package_style for row in tables().distributions}
    for style in styles:
        assert {(each[3], each[5]) for each in seen if each[0] == style and each[1] == "nvidia"} == {
            (modules, scope) for modules in ("open", "proprietary") for scope in ("compute", "full")
        }


def test_toolkits_need_at_least_the_driver_of_their_number() -> None:
    majors = {each.version: each.driver for each in tables().cuda_majors}
    drivers = [numbers(each.driver, each.version) for each in tables().toolkits]
    assert drivers == sorted(drivers), "a newer toolkit comes with a driver that is not older"
    for toolkit in tables().toolkits:
        assert at_least(toolkit.driver, majors[toolkit.version.split(".")[0]])
    for package in tables().compatibility:
        own = [each for each in tables().toolkits if each.version == package.version]
        assert own and max(package.branches) < numbers(own[0].driver, "driver")[0]


def test_profiles_fit_their_boards() -> None:
    for board in tables().boards:
        assert len({profile.name for profile in board.profiles}) == len(board.profiles)
        for profile in board.profiles:
            assert profile.name.startswith(f"{profile.compute}g.")
            assert all(start % profile.memory == 0 for start in profile.starts), "placements are aligned to their size"
            assert max(profile.starts) + profile.memory <= board.memory_slices
            assert profile.count <= len(profile.starts) and profile.count * profile.compute <= board.compute_slices


def test_profiles_have_their_share_of_the_memory() -> None:
    for board in tables().boards:
        whole = max(int(profile.name.split(".")[1].split("gb")[0]) for profile in board.profiles)
        for profile in board.profiles:
            own = int(profile.name.split(".")[1].split("gb")[0])
            assert abs(own - whole * profile.memory / board.memory_slices) <= 1.0, profile.name


def without(path: tuple[Any, ...]) -> dict[str, Any]:
    """The documents without one key."""
    documents = copy.deepcopy(DOCUMENTS)
    place: Any = documents
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return documents


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (("mig",), "the tables have no mig; give the contents of mig.yml"),
        (("branches", "branches"), "branches.yml has no list branches; add it"),
        (("branches", "branches", 2, "naming"), "row 3 of branches in branches.yml has no naming; add it"),
        (("cards", "cards", 0, "source"), "row 1 of cards in cards.yml has no source; add it"),
        (("mig", "boards", 1, "profiles", 0, "starts"), "a profile of row 2 of boards in mig.yml has no starts"),
        (
            ("distributions", "distributions", 0, "archive", "branches", 0, "version"),
            "distributions.yml has no version",
        ),
    ],
)
def test_rows_that_lack_something_are_named(path: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(AcceleratorError) as caught:
        read_tables(without(path))
    assert sentence in str(caught.value)


def test_rows_with_wrong_values_are_named() -> None:
    documents = copy.deepcopy(DOCUMENTS)
    documents["cards"]["cards"][0]["confidence"] = "sure"
    with pytest.raises(AcceleratorError, match="row 1 of cards in cards.yml has the confidence 'sure'; it is unver"):
        read_tables(documents)
    documents["cards"]["cards"][0] = "H100"
    with pytest.raises(AcceleratorError, match="row 1 of cards in cards.yml is 'H100'; give a mapping"):
        read_tables(documents)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_FOLDER", tmp_path)
    accelerator.tables.cache_clear()
    try:
        with pytest.raises(AcceleratorError, match="distributions.yml cannot be read .*; correct it"):
            tables()
        (tmp_path / "distributions.yml").write_text("a: [")
        with pytest.raises(AcceleratorError, match="distributions.yml cannot be read"):
            tables()
    finally:
        accelerator.tables.cache_clear()


def test_words() -> None:
    assert joined([]) == "" and joined(["a"]) == "a" and joined(["a", "b", "a", "c"], "or") == "a, b or c"
    assert weakest(["verified", "single"]) == "single" and weakest([]) == "verified"
