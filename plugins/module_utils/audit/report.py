# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one report of what all auditors said of all hosts: counts, waivers, and the difference from the last run.

The report is plain data, written as JSON; docs/security.md describes its keys.
"""

from __future__ import annotations

import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.audit import thresholds as limits
from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import SEVERITIES, AuditError, Row, row_of, worst
from ansible_collections.baremetal.llm.plugins.module_utils.audit.waivers import Waiver
from ansible_collections.baremetal.llm.plugins.module_utils.audit.waivers import read as read_waivers

SCHEMA = 1
AUDITORS = ("openscap", "lynis", "ssh", "ports", "systemd")
COUNTS = ("pass", "fail", "waived", "error", "notapplicable", "notchecked")
Key = Tuple[str, str, str]


def build(
    runs: Sequence[Mapping[str, Any]],
    hosts: Sequence[str],
    finished: str,
    waivers: Sequence[Mapping[str, Any]] = (),
    thresholds: Sequence[Mapping[str, Any]] = (),
    previous: Optional[Mapping[str, Any]] = None,
    fail_on_new: bool = False,
    named: Optional[Mapping[str, Sequence[str]]] = None,
    containers: Sequence[str] = (),
) -> Dict[str, Any]:
    """The report; AuditError for a waiver, threshold, run or earlier report that makes no sense."""
    known = read_waivers(waivers, AUDITORS)
    limits.check(thresholds, AUDITORS)
    before = _earlier(previous)
    today = datetime.date.fromisoformat(finished[:10])
    used: Set[str] = set()
    judged = [
        _judge(
            run,
            [each for each in known if each.holds((named or {}).get(run["host"], ()), run["host"] in containers)],
            today,
            before.get(_key(run)),
            used,
        )
        for run in runs
    ]
    seen = {(run["host"], run["auditor"]) for run in judged}
    judged += [
        not_run(host, auditor, "", _silence(host, judged))
        for host in hosts
        for auditor in AUDITORS
        if (host, auditor) not in seen
    ]
    said = limits.breaches(thresholds, judged, hosts)
    if fail_on_new:
        said += [
            f"{run['host']}: {run['auditor']} {run['profile']} has new fails: ".replace("  ", " ")
            + ", ".join(row["id"] for row in run["fails"] if row["new"])
            for run in judged
            if run["counts"]["new"]
        ]
    ran = {_key(run) for run in judged if run["status"] == "run"}
    totals = {name: sum(run["counts"][name] for run in judged) for name in (*COUNTS, "new", "fixed")}
    return {
        "schema": SCHEMA,
        "finished": finished,
        "previous": str(previous["finished"]) if previous else None,
        "ok": not said,
        "breaches": said,
        "totals": {**totals, "not_run": sum(1 for run in judged if run["status"] != "run")},
        "runs": judged,
        # What this run did not look at again; the next one compares with it.
        "carried": [run for key, run in before.items() if key not in ran],
        "waivers": _waivers(known, judged, used, today),
    }


def not_run(host: str, auditor: str, profile: str, reason: str) -> Dict[str, Any]:
    """The entry of an auditor that gave no answer: it says why, and counts nothing."""
    return {
        "host": host,
        "auditor": auditor,
        "profile": profile,
        "status": "not_run",
        "reason": reason,
        "tool": "",
        "seconds": None,
        "score": None,
        "counts": {name: 0 for name in (*COUNTS, "new", "fixed")},
        **{name: [] for name in ("fails", "waived", "errors", "fixed", "passed", "notapplicable")},
    }


def _silence(host: str, judged: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing is known of one auditor of a host."""
    if any(run["host"] == host for run in judged):
        return "it was not chosen in this run"
    return "the host was not reached, or failed before"


def _key(run: Mapping[str, Any]) -> Key:
    return (str(run["host"]), str(run["auditor"]), str(run.get("profile") or ""))


def _earlier(previous: Optional[Mapping[str, Any]]) -> Dict[Key, Mapping[str, Any]]:
    if not previous:
        return {}
    if previous.get("schema") != SCHEMA:
        raise AuditError(
            f"the last report has schema {previous.get('schema')!r} and not {SCHEMA}; "
            "move it away, and this run is the first one."
        )
    rows = list(previous["carried"]) + [run for run in previous["runs"] if run["status"] == "run"]
    return {_key(run): run for run in rows}


def _judge(
    run: Mapping[str, Any],
    waivers: Sequence[Waiver],
    today: datetime.date,
    before: Optional[Mapping[str, Any]],
    used: Set[str],
) -> Dict[str, Any]:
    host, auditor, profile = _key(run)
    if auditor not in AUDITORS:
        raise AuditError(f"auditor {auditor!r} is unknown; known are {', '.join(AUDITORS)}.")
    entry = not_run(host, auditor, profile, str(run.get("reason") or ""))
    if entry["reason"]:
        return entry
    rows = worst([row_of(row) for row in run["rows"]])
    if not rows:
        # An auditor that looked at nothing has not passed.
        entry["reason"] = "it judged no rule at all"
        return entry
    known = _failed_before(before)
    for row in sorted(rows, key=lambda row: (-SEVERITIES.index(row.severity), row.id)):
        if row.result != "fail":
            _sort(entry, row)
            continue
        mine = [waiver for waiver in waivers if waiver.covers(host, auditor, profile, row.id)]
        used.update(waiver.id for waiver in mine)
        valid = next((waiver for waiver in mine if not waiver.expired(today)), None)
        shown = {"id": row.id, "title": row.title, "severity": row.severity}
        if valid:
            entry["waived"].append({**shown, "waiver": valid.id, "reason": valid.reason})
        else:
            expired = mine[0].id if mine else None
            entry["fails"].append(
                {**shown, "new": known is not None and row.id not in known, "expired_waiver": expired}
            )
    if before is not None:
        good = set(entry["passed"]) | set(entry["notapplicable"])
        entry["fixed"] = [row for row in [*before["fails"], *before["waived"]] if row["id"] in good]
        entry["fixed"] = [{name: row[name] for name in ("id", "title", "severity")} for row in entry["fixed"]]
    results = [row.result for row in rows]
    entry["counts"] = {
        "pass": results.count("pass"),
        "fail": len(entry["fails"]),
        "waived": len(entry["waived"]),
        "error": results.count("error"),
        "notapplicable": results.count("notapplicable"),
        "notchecked": results.count("notchecked"),
        "new": sum(1 for row in entry["fails"] if row["new"]),
        "fixed": len(entry["fixed"]),
    }
    entry.update(status="run", tool=str(run.get("tool") or ""), seconds=run.get("seconds"), score=run.get("score"))
    return entry


def _failed_before(before: Optional[Mapping[str, Any]]) -> Optional[Set[str]]:
    """None where there is nothing to compare with; a rule whose waiver ended since is a new fail."""
    return None if before is None else {str(row["id"]) for row in before["fails"]}


def _sort(entry: Dict[str, Any], row: Row) -> None:
    if row.result == "error":
        entry["errors"].append({"id": row.id, "title": row.title, "severity": row.severity})
    elif row.result in ("pass", "notapplicable"):
        entry["passed" if row.result == "pass" else "notapplicable"].append(row.id)


def _waivers(
    known: Sequence[Waiver], runs: Sequence[Mapping[str, Any]], used: Set[str], today: datetime.date
) -> Dict[str, List[str]]:
    """Those that ended, those that nothing needs, and those whose auditor did not run, of which neither can be said."""
    ran = {run["auditor"] for run in runs if run["status"] == "run"}
    return {
        "expired": [waiver.id for waiver in known if waiver.expired(today)],
        "unused": [waiver.id for waiver in known if waiver.id not in used and waiver.auditor in ran],
        "not_judged": [waiver.id for waiver in known if waiver.auditor not in ran],
    }
