# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Driver decisions row by row: tests/fixtures/accelerator/decisions.yml says what must come out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.driver import Decision, driver_candidates
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables

FIXTURES = Path(__file__).resolve().parents[4] / "fixtures"
TABLE: dict[str, Any] = yaml.safe_load((FIXTURES / "accelerator/decisions.yml").read_text())
ROWS: list[dict[str, Any]] = TABLE["decisions"]
SOURCES = [
    FIXTURES.parents[1] / "plugins/module_utils/accelerator" / name for name in ("refusals.py", "option_refusals.py")
]
CODES = {code for path in SOURCES for code in re.findall(r'Refusal\(\s*"(\w+)"', path.read_text())}
SECURE_BOOT = {
    "off": False,
    "on": {"enabled": True, "key_enrolled": False},
    "enrolled": {"enabled": True, "key_enrolled": True},
}


def cards(row: dict[str, Any]) -> list[str]:
    """PCI ids, one for each card: "2 x 2330" is two of them."""
    found = []
    for each in map(str, row["cards"]):
        count, _by, card = each.rpartition(" x ")
        found += [card] * int(count or 1)
    return found


def decide(row: dict[str, Any]) -> Decision:
    name, version = row["host"].split()
    host = {"distribution": name, "distribution_version": version, "architecture": row.get("architecture", "x86_64")}
    kernel = {"release": row.get("kernel", TABLE["kernels"][row["host"]]), "headers": row.get("headers", True)}
    secure_boot = SECURE_BOOT[row.get("secure_boot", "off")]
    return driver_candidates(cards(row), host, kernel, secure_boot, row.get("wants", {}), tables())


def label(row: dict[str, Any]) -> str:
    wants = " ".join(f"{key}={value}" for key, value in row.get("wants", {}).items())
    return " ".join([*map(str, row["cards"]), row["host"], row.get("secure_boot", ""), wants])


@pytest.mark.parametrize("row", [row for row in ROWS if "gives" in row], ids=label)
def test_what_is_installed(row: dict[str, Any]) -> None:
    decision = decide(row)
    assert (decision.state, decision.refusals) == ("ready", ())
    best, wanted = decision.candidates[0], row["gives"]
    assert list(best.packages) == wanted["packages"]
    assert (best.branch, best.modules, best.build) == (wanted["branch"], wanted["modules"], wanted["build"])
    assert best.module_stream == wanted.get("stream", best.module_stream)
    assert best.hold.method == wanted.get("hold", best.hold.method)


@pytest.mark.parametrize("row", [row for row in ROWS if "refused" in row], ids=label)
def test_what_is_refused(row: dict[str, Any]) -> None:
    decision, wanted = decide(row), row["refused"]
    assert (decision.state, decision.candidates) == ("refused", ())
    assert [(refusal.code, refusal.variable) for refusal in decision.refusals] == [(wanted["code"], wanted["variable"])]
    message = decision.refusals[0].message
    assert wanted["says"] in message
    assert wanted["variable"] in message


@pytest.mark.parametrize("row", [row for row in ROWS if "no_card" in row], ids=label)
def test_without_a_card_there_is_nothing_to_do(row: dict[str, Any]) -> None:
    assert decide(row) == Decision("no_card")


def test_every_row_says_one_thing_and_from_where() -> None:
    assert len(ROWS) >= 60
    assert len({str({**row, "source": None, "gives": None, "refused": None}) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert sum(key in row for key in ("gives", "refused", "no_card")) == 1, label(row)
        assert set(row.get("refused", {})) in (set(), {"code", "variable", "says"}), label(row)
        assert set(row.get("gives", {})) <= {"branch", "modules", "build", "packages", "stream", "hold"}, label(row)
        assert row["source"] and set(row["source"]) <= set(TABLE["sources"]), label(row)


def test_every_card_modules_and_distribution_is_decided() -> None:
    """Each generation, distribution, source, kind of modules, side of the cliff and state of Secure Boot has rows."""
    kinds = {card.architecture for row in ROWS for card in map(tables().card, cards(row)) if card}
    assert kinds == {card.architecture for card in tables().cards}
    assert len({row["host"] for row in ROWS}) == len(tables().distributions) + 1, "and one that is not in the table"
    assert {row.get("secure_boot", "off") for row in ROWS} == set(SECURE_BOOT)
    given = [row["gives"] for row in ROWS if "gives" in row]
    assert {branch.branch for branch in tables().branches} - {each["branch"] for each in given} == {575}
    refused = {row["refused"]["code"] for row in ROWS if "refused" in row}
    assert refused == CODES - {"no_pin"}, "which no branch of the table leads to"


def test_the_page_shows_this_table() -> None:
    tool = FIXTURES.parent / "tools/accelerator_tables"
    shown = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr


def test_the_measured_host_is_decided_as_it_is() -> None:
    """The real H100: its PCI bus gives the branch and the module that are loaded there."""
    bus = (FIXTURES / "gpu/nvidia-h100-580.159.04-pci.txt").read_text()
    loaded = (FIXTURES / "gpu/nvidia-h100-580.159.04-proc-version.txt").read_text()
    devices = [line.split()[1:4] for line in bus.splitlines() if line.strip()]
    gpus = [f"{vendor}:{device}" for vendor, device, kind in devices if kind.startswith("0x0302")]
    best = decide({"cards": gpus, "host": "Ubuntu 24.04"}).candidates[0]
    assert f"  {best.branch}." in loaded
    assert ("Open Kernel Module" in loaded) == (best.modules == "open")
    assert best.fabric_packages == (), "a single card of an HGX board, whose switches are not on this bus"
