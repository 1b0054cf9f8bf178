# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit must reach, host by host."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import AuditError

# Key of a threshold, whether more is worse, and how it is said.
_LIMITS = (
    ("max_fail", True, "fails that nobody waived"),
    ("max_high", True, "fails of high severity that nobody waived"),
    ("max_found", True, "fails, waived ones included"),
    ("max_error", True, "rules in error"),
    ("min_pass", False, "passes"),
    ("min_score", False, "points"),
    ("max_score", True, "points"),
)
_KEYS = {"auditor", "profile", "hosts"} | {key for key, _worse, _said in _LIMITS}


def check(values: Sequence[Mapping[str, Any]], auditors: Sequence[str]) -> None:
    """AuditError for a threshold that could not be broken, such as one with a misspelt key."""
    for value in values:
        if value.get("auditor") not in auditors:
            raise AuditError(f"a threshold is for auditor {value.get('auditor')!r}; give one of {', '.join(auditors)}.")
        if unknown := sorted(set(value) - _KEYS):
            raise AuditError(
                f"a threshold of {value['auditor']} has the key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}."
            )
        if not set(value) & {key for key, _worse, _said in _LIMITS}:
            raise AuditError(
                f"a threshold of {value['auditor']} has no limit; give one of {', '.join(each[0] for each in _LIMITS)}."
            )


def breaches(values: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> List[str]:
    """One sentence for each limit that is broken; what was not run breaks every limit that it has."""
    said: List[str] = []
    for value in values:
        patterns = value.get("hosts") or ["*"]
        wanted = [host for host in hosts if any(fnmatch.fnmatchcase(host, str(pattern)) for pattern in patterns)]
        for host in wanted:
            name = " ".join(str(each) for each in (value["auditor"], value.get("profile")) if each)
            mine = [run for run in runs if run["host"] == host and run["auditor"] == value["auditor"]]
            if value.get("profile"):
                mine = [run for run in mine if run["profile"] in ("", value["profile"])]
            if not [run for run in mine if run["status"] == "run"]:
                reason = next((run["reason"] for run in mine), "it is not part of this run")
                said.append(f"{host}: {name} was not run: {reason}")
            for run in mine:
                said += [f"{host}: {_name(run)} {sentence}" for sentence in _broken(value, run)]
    return said


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['auditor']} {run['profile']}".strip()


def _broken(value: Mapping[str, Any], run: Mapping[str, Any]) -> List[str]:
    if run["status"] != "run":
        return []
    counts = run["counts"]
    has: Dict[str, Any] = {
        "max_fail": counts["fail"],
        "max_high": sum(1 for row in run["fails"] if row["severity"] == "high"),
        "max_found": counts["fail"] + counts["waived"],
        "max_error": counts["error"],
        "min_pass": counts["pass"],
        "min_score": run["score"],
        "max_score": run["score"],
    }
    said = []
    for key, worse, what in _LIMITS:
        if key not in value:
            continue
        limit, is_now = float(value[key]), has[key]
        if is_now is None:
            said.append(f"has no score, and {key} is {limit:g}")
        elif (is_now > limit) if worse else (is_now < limit):
            wanted = f"at most {limit:g} are allowed" if worse else f"at least {limit:g} are wanted"
            said.append(f"has {is_now:g} {what}, {wanted}")
    return said
