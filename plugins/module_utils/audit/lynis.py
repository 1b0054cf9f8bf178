# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads lynis-report.dat: lines of key=value, where a list is key[]=a|b|c|."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Dict, List, Sequence

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import Answer, AuditError, Row, worst


def read(text: str) -> Answer:
    """A row for each test: fail where it warned (high) or suggested (low); the score is the hardening index."""
    values: Dict[str, List[str]] = defaultdict(list)
    for line in text.splitlines():
        key, sign, value = line.partition("=")
        if sign and not key.startswith("#"):
            values[key.strip()].append(value.strip())
    if "hardening_index" not in values or "finish" not in values and "report_datetime_end" not in values:
        raise AuditError("the report of Lynis has no end; it was cut off, run it again.")
    rows = _joined(
        [_finding(value, "high") for value in values["warning[]"]]
        + [_finding(value, "low") for value in values["suggestion[]"]]
    )
    failed = {row.id.partition(":")[0] for row in rows}
    for key, result in (("tests_executed", "pass"), ("tests_skipped", "notapplicable")):
        names = "|".join(values[key]).split("|")
        rows += [Row(name, f"Lynis test {name}", "low", result) for name in names if name and name not in failed]
    return Answer(worst(rows), float(values["hardening_index"][0]), f"Lynis {values['lynis_version'][-1]}")


def _joined(rows: Sequence[Row]) -> List[Row]:
    """One row for findings that cannot be told apart by their id, with what all of them say."""
    kept: Dict[str, Row] = {}
    for row in rows:
        before = kept.get(row.id)
        kept[row.id] = replace(before, title=f"{before.title}; {row.title}") if before else row
    return list(kept.values())


def _finding(value: str, severity: str) -> Row:
    """ID|text|details|solution|; one test may have several findings, told apart by their details."""
    parts = [part.strip() for part in value.split("|")] + ["", "", ""]
    name, text, details = parts[0], parts[1], parts[2]
    details = "" if details == "-" else details
    return Row(f"{name}:{details}" if details else name, f"{text} ({details})" if details else text, severity, "fail")
