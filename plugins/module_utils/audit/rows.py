# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every auditor's answer is turned into: one row a rule."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

# The worse, the further right: where one rule has several answers, the worst counts.
RESULTS = ("notchecked", "notapplicable", "pass", "error", "fail")
SEVERITIES = ("info", "unknown", "low", "medium", "high")


class AuditError(ValueError):
    """An answer, waiver or threshold that makes no sense; one sentence."""


@dataclass(frozen=True)
class Row:
    """One rule of one auditor on one host."""

    id: str
    title: str
    severity: str
    result: str


@dataclass(frozen=True)
class Answer:
    """What one run of an auditor said."""

    rows: Sequence[Row]
    score: Optional[float] = None
    tool: str = ""

    def as_dict(self) -> Dict[str, Any]:
        """Plain data, as filters and modules give it away."""
        return {"rows": [asdict(row) for row in self.rows], "score": self.score, "tool": self.tool}


def worst(rows: Sequence[Row]) -> List[Row]:
    """One row for each id, in the order of first appearance."""
    kept: Dict[str, Row] = {}
    for row in rows:
        if row.id not in kept or RESULTS.index(row.result) > RESULTS.index(kept[row.id].result):
            kept[row.id] = row
    return list(kept.values())


def row_of(value: Mapping[str, Any]) -> Row:
    """The row that plain data stands for; AuditError for anything else."""
    try:
        row = Row(str(value["id"]), str(value["title"]), str(value["severity"]), str(value["result"]))
    except KeyError as error:
        raise AuditError(f"a row of an audit lacks {error}; give id, title, severity and result.") from None
    if row.result not in RESULTS or row.severity not in SEVERITIES:
        raise AuditError(
            f"row {row.id} has result {row.result!r} and severity {row.severity!r}; "
            f"give one of {', '.join(RESULTS)}, and one of {', '.join(SEVERITIES)}."
        )
    return row
