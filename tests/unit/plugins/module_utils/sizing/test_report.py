# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of plans: within the screen, true to the plan, and safe to open."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.report import (
    COLUMNS,
    MOST_LINES,
    as_html,
    as_text,
    groups_of,
    problems_text,
)
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues
from ansible_collections.baremetal.llm.tests.unit import planner_world as world

REAL = catalogues()
H100 = {"name": "NVIDIA H100 80GB HBM3", "count": 1}
GOOD = plan(
    [
        {"name": "deepseek-r1:70b", "users": 26, "context_length": 8192, "min_tokens_per_second": 12},
        {"name": "llama3.1:8b", "users": 2},
    ],
    [*({"name": f"gpu{number}.example.net", "gpus": [H100]} for number in range(1, 5))],
    REAL,
)
BAD = plan(
    [{"name": "deepseek-r1:70b", "users": 50, "context_length": 8192, "min_tokens_per_second": 20}],
    [{"name": "planned", "count": 4, "gpus": [H100]}],
    REAL,
)


class Page(HTMLParser):
    """Tags that are open, all attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_text_shows_each_model_and_equal_hosts_once() -> None:
    text = as_text(GOOD)
    assert "2 models on 3 of 4 hosts, all goals are met" in text
    assert "gpu1, gpu2  1 x NVIDIA H100 80GB HBM3, 13 slots each" in text
    assert re.search(r"deepseek-r1:70b +Q4_K_M +8192 x 26 +f16 +26 +13\.7 +\+14 % +3\.6 s +2", text)
    assert [names for names, _host in groups_of(GOOD)] == [
        ["gpu1.example.net", "gpu2.example.net"],
        ["gpu3.example.net"],
        ["gpu4.example.net"],
    ]


def test_a_bar_has_the_shares_of_the_memory() -> None:
    drawn = re.findall(r"\[([WKco.]+)\]", as_text(GOOD))[0]
    gpu = GOOD["hosts"][0]["gpus"][0]
    for key, letter in (("weights_mib", "W"), ("kv_cache_mib", "K")):
        assert drawn.count(letter) / len(drawn) == pytest.approx(
            gpu["parts"][0][key] / gpu["memory_free_mib"], abs=0.04
        )
    assert drawn.count(".") / len(drawn) == pytest.approx(gpu["free_after_mib"] / gpu["memory_free_mib"], abs=0.04)


@pytest.mark.parametrize("found", [GOOD, BAD], ids=["good", "bad"])
def test_text_fits_the_screen(found: dict[str, Any]) -> None:
    assert max(len(line) for line in as_text(found).splitlines()) <= COLUMNS


def test_a_large_fleet_of_unequal_hosts_still_fits_one_screen() -> None:
    engine = world.engine()
    cards = [{"name": f"c{number}", "memory_total_mib": 60_000 + 100 * number} for number in range(60)]
    fleet = [{"name": f"h{number}", "gpus": [card]} for number, card in enumerate(cards)]
    goals = [{"name": "large", "users": 60, "replicas": 60}]
    found = plan(goals, fleet, engine.catalogues, {"alternatives": 0}, engine)
    lines = as_text(found).splitlines()
    assert len(lines) <= MOST_LINES + 12
    assert any("more lines stand in plan.json" in line for line in lines)


def test_problems_stand_on_top_of_the_page_and_in_a_text_of_their_own() -> None:
    page = as_html(BAD)
    assert page.index("is bound by speed") < page.index("<h2>Hosts")
    assert problems_text(GOOD) == ""
    text = problems_text(BAD)
    assert text.startswith("NOT POSSIBLE (speed): deepseek-r1:70b") and "\n  3. " in text
    assert text in as_text(BAD)


@pytest.mark.parametrize("found", [GOOD, BAD], ids=["good", "bad"])
def test_the_page_is_whole_and_loads_nothing(found: dict[str, Any]) -> None:
    page = Page(as_html(found))
    assert page.open == []
    assert not [each for each in page.attributes if each[1] in ("src", "href", "srcset") or each[1].startswith("on")]
    assert "url(" not in page.words and "@import" not in page.words
    assert "script" not in {tag for tag, _name, _value in page.attributes}


def test_bars_of_the_page_add_up() -> None:
    page = Page(as_html(GOOD))
    widths = [float(value[:-1]) for tag, name, value in page.attributes if (tag, name) == ("rect", "width")]
    gpu = GOOD["hosts"][0]["gpus"][0]
    assert sum(widths[:4]) == pytest.approx(100 * gpu["used_mib"] / gpu["memory_free_mib"], abs=0.1)


def test_names_cannot_break_the_page() -> None:
    evil = "<script>alert(1)</script>\"'&"
    named = {**GOOD["models"][0], "name": evil, "licence": evil, "tag": evil}
    gpu = GOOD["hosts"][0]["gpus"][0]
    host = {
        **GOOD["hosts"][0],
        "name": evil,
        "hardware": evil,
        "gpus": [{**gpu, "name": evil, "parts": [{**gpu["parts"][0], "model": evil}]}],
    }
    problem = {**BAD["problems"][0], "model": evil, "message": evil}
    page = as_html({**GOOD, "models": [named], "hosts": [host], "problems": [problem]})
    assert "<script" not in page
    assert evil in Page(page).words
