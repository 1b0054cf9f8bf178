# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what `systemd-analyze security` says of services with the exposure that each may have."""

from __future__ import annotations

import fnmatch
import json
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import Answer, AuditError, Row


def read(text: str, wanted: Sequence[Mapping[str, Any]]) -> Answer:
    """A row for each wanted unit, by the first pattern that names it; the score is the highest exposure among them."""
    try:
        loaded = {str(each["unit"]): float(each["exposure"]) for each in json.loads(text)}
    except (ValueError, TypeError, KeyError):
        loaded = {}
    if not loaded:
        raise AuditError("systemd-analyze security gave no list of units; it can from systemd 250 on.")
    rows: Dict[str, Row] = {}
    seen: List[float] = []
    for each in wanted:
        pattern, limit = str(each["unit"]), float(each["max"])
        units = sorted(unit for unit in loaded if fnmatch.fnmatchcase(unit, pattern))
        if not units:
            rows.setdefault(pattern, Row(pattern, f"{pattern} is not on this host", "info", "notapplicable"))
        for unit in units:
            if unit in rows:
                continue
            exposure = loaded[unit]
            seen.append(exposure)
            title = f"{unit} has an exposure of {exposure:g}, at most {limit:g} is allowed"
            rows[unit] = Row(unit, title, "medium", "pass" if exposure <= limit else "fail")
    return Answer(list(rows.values()), max(seen) if seen else None)
