"""What the preflight said to good and bad input, and that no host was changed by it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

SCENARIO = Path(__file__).parents[1]
FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "preflight"
CASES = yaml.safe_load((SCENARIO / "vars/cases.yml").read_text())["pf_cases"]
HOSTS = ["pf-a", "pf-b"]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
# The files below are on the control node: one look is enough, whichever hosts there are.
testinfra_hosts = ["pf-a"]


def report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def log(name: str) -> str:
    return (FOLDER / f"{name}.log").read_text()


def test_good_input_passes_and_says_what_was_seen() -> None:
    good = report("good")
    assert (good["ok"], good["findings"], good["text"]) == (True, [], "Preflight passed on 2 host(s).")
    assert {name: seen["os"]["id"] for name, seen in good["hosts"].items()} == dict.fromkeys(HOSTS, "debian")
    assert good["hosts"]["pf-a"]["time_sync_waived"] == "a test host has the clock of the machine it runs on"


def numbered(text: str) -> list[str]:
    return [re.sub(r"^\s*\d+\. ", "", line) for line in text.splitlines()[1:]]


@each_case
def test_refusals_are_exactly_these_sentences(case: dict[str, Any]) -> None:
    found = report(case["name"])
    if "pattern" in case:
        assert [each["host"] for each in found["findings"]] == HOSTS
        assert all(re.search(case["pattern"], each["sentence"]) for each in found["findings"]), found["text"]
    else:
        assert numbered(found["text"]) == case["sentences"]


@each_case
def test_run_fails_once_with_a_readable_list(case: dict[str, Any]) -> None:
    text = log(case["name"])
    assert not text.startswith("rc=0\n")
    assert text.count("FAILED! =>") == 1
    lines = [line.strip() for line in text.splitlines()]
    for line in report(case["name"])["text"].splitlines():
        assert line.strip() in lines


@each_case
def test_no_task_follows_a_refusal(case: dict[str, Any]) -> None:
    assert "Leave a mark" not in log(case["name"])


def test_secret_is_never_shown() -> None:
    shown = "".join(path.read_text() for path in FOLDER.glob("*.json")) + "".join(log(case["name"]) for case in CASES)
    assert "ChangeMe" not in shown
    assert "0f8c2f" not in shown


@pytest.mark.parametrize("name", HOSTS)
def test_host_is_as_it_was(host: Any, name: str) -> None:
    other = host.get_host(f"ansible://{name}", ansible_inventory=os.environ["MOLECULE_INVENTORY_FILE"])
    assert other.file("/run/picture-before").size > 100_000
    assert other.run("diff /run/picture-before /run/picture-after").stdout == ""
    # Good input came last and left this mark, so its absence from the picture means something.
    assert other.file("/etc/preflight-was-passed").exists
    assert "preflight-was-passed" not in other.file("/run/picture-after").content_string


@pytest.mark.parametrize("name", HOSTS)
def test_verify_asks_the_hosts_themselves(host: Any, name: str) -> None:
    other = host.get_host(f"ansible://{name}", ansible_inventory=os.environ["MOLECULE_INVENTORY_FILE"])
    seen = report("good")["hosts"][name]
    assert seen["hostname"] == other.check_output("hostname")
    assert seen["architecture"] == other.check_output("uname -m")
    assert seen["memory_mib"] == int(other.check_output("awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
