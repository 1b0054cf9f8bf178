# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/benchmarks: what is counted, and the table made of it; no time is asserted."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PLAYBOOK = """
- name: First play
  hosts: all
  gather_facts: false
  roles: [one, two]
- name: Second play
  hosts: all
  gather_facts: false
  tasks: [ansible.builtin.debug: {msg: x}]
"""
CHANGED = "- ansible.builtin.debug: {msg: x}\n  changed_when: true\n- ansible.builtin.debug: {msg: x}\n  when: false\n"


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_benchmark", BENCHMARKS / "site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(role: str, seconds: float, ok: int, changed: int, skipped: int) -> dict[str, object]:
    return {"role": role, "seconds": seconds, "ok": ok, "changed": changed, "skipped": skipped}


def test_table_puts_both_runs_side_by_side() -> None:
    first = [row("ollama", 61.25, 10, 4, 1), row("gone", 1, 1, 1, 0)]
    second = [row("ollama", 4.5, 9, 0, 2), row("new", 0, 1, 0, 0)]
    assert [line.split() for line in benchmark().table(first, second)[1:]] == [
        ["role", *["seconds", "ok", "changed", "skipped"] * 2],
        ["ollama", "61.2", "10", "4", "1", "4.5", "9", "0", "2"],
        ["gone", "1.0", "1", "1", "0", "-"],
        ["new", "-", "0.0", "1", "0", "0"],
        ["all", "62.2", "11", "5", "1", "4.5", "10", "0", "2"],
    ]


def test_two_runs_are_recorded_by_role(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    for name, tasks in (("one", CHANGED), ("two", "- ansible.builtin.debug: {msg: x}\n")):
        (tmp_path / f"roles/{name}/tasks").mkdir(parents=True)
        (tmp_path / f"roles/{name}/tasks/main.yml").write_text(tasks)
    arguments = ["-i", "a,b,", "--keep", str(tmp_path), str(tmp_path / "play.yml"), "--", "-c", "local"]
    assert benchmark().main(arguments) == 0
    record = json.loads((tmp_path / "second.json").read_text())
    assert [[each[key] for key in ("role", "ok", "changed", "skipped")] for each in record] == [
        ["one", 2, 2, 2],
        ["two", 2, 0, 0],
        ["play Second play", 2, 0, 0],
    ]
    assert "all" in capfd.readouterr().out.splitlines()[-1]


def test_run_that_fails_is_no_benchmark(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks: [ansible.builtin.fail: {}]\n")
    with pytest.raises(SystemExit, match="ended with 2; a run that failed is no benchmark"):
        benchmark().main(["-i", "a,", str(tmp_path / "play.yml"), "--", "-c", "local"])


def test_nothing_to_do_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark().main([])
    assert "name a playbook to run, or two records with --read" in capsys.readouterr().err
