# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a report of an audit to people: a table for a terminal, and a page without anything to load."""

from __future__ import annotations

import html
from typing import Any, Dict, List, Mapping, Sequence

_COLUMNS = ("pass", "fail", "new", "fixed", "waived", "error", "notapplicable")
_HEADS = ("HOST", "AUDITOR", "PASS", "FAIL", "NEW", "FIXED", "WAIVED", "ERROR", "N/A", "SCORE")


def as_text(report: Mapping[str, Any]) -> str:
    """One row for each auditor of each host, then all that wants attention."""
    rows: List[Sequence[str]] = [_HEADS]
    for run in report["runs"]:
        if run["status"] == "run":
            rows.append((run["host"], _name(run), *(str(run["counts"][name]) for name in _COLUMNS), _score(run)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = [_headline(report), ""]
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [
        f"not run: {run['host']} {_name(run)}: {run['reason']}" for run in report["runs"] if run["status"] != "run"
    ]
    for run in report["runs"]:
        lines += [f"new: {run['host']} {_name(run)}: {row['id']}: {row['title']}" for row in run["fails"] if row["new"]]
    lines += [f"waiver: {sentence}" for sentence in _waiver_lines(report)]
    lines += [f"not reached: {sentence}" for sentence in report["breaches"]]
    return "\n".join(lines)


def breaches_text(report: Mapping[str, Any]) -> str:
    """Why the audit stops a run; empty where it does not."""
    return "\n".join(report["breaches"])


def _headline(report: Mapping[str, Any]) -> str:
    totals = report["totals"]
    hosts = len({run["host"] for run in report["runs"]})
    compared = (
        f", {totals['new']} new and {totals['fixed']} fixed since {report['previous']}" if report["previous"] else ""
    )
    return (
        f"Audit of {hosts} host{'' if hosts == 1 else 's'}: {totals['fail']} fails, {totals['waived']} waived, "
        f"{totals['error']} in error, {totals['pass']} passes, {totals['not_run']} not run{compared}."
    )


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['auditor']} {run['profile']}".strip()


def _score(run: Mapping[str, Any]) -> str:
    return "" if run["score"] is None else f"{run['score']:g}"


def _waiver_lines(report: Mapping[str, Any]) -> List[str]:
    said = {
        "expired": "ended; what it covered counts as failed",
        "unused": "covers nothing that fails; remove what is yours",
        "not_judged": "could not be judged, its auditor did not run",
    }
    return [f"{', '.join(report['waivers'][key])}: {text}" for key, text in said.items() if report["waivers"][key]]


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5b6575; --paper: #fff; --line: #d5dae2; --free: #e9ecf1;
 --bad: #b3261e; --good: #1f7a4d; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --dim: #9aa5b5; --paper: #14181f; --line: #333b48;
 --free: #29303b; --bad: #ff8a80; --good: #6fd3a0; --warn: #e5b567; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
 margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; } .dim { color: var(--dim); font-weight: normal; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } th { color: var(--dim); font-weight: normal; } thead { display: table-header-group; }
tr { break-inside: avoid; } .number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.scroll { overflow-x: auto; } .problem { border-left: 4px solid var(--bad); padding: .2rem .8rem; margin: .8rem 0; }
.bad { color: var(--bad); } .good { color: var(--good); } .warn { color: var(--warn); }
code { font-size: .92em; } section { margin-bottom: 1.1rem; } details { margin: .4rem 0; }
@page { size: A4; margin: 14mm; }
@media print { body { margin: 0; max-width: none; font-size: 9pt; } * { print-color-adjust: exact; } }
"""


def as_html(report: Mapping[str, Any]) -> str:
    """One page; every text of the report is escaped, and nothing is loaded or run."""
    compared = f"compared with {report['previous']}" if report["previous"] else "the first run, nothing to compare with"
    blocks = [
        f'<h1>Audit</h1><p class="{"good" if report["ok"] else "bad"}">{_text(_headline(report))}</p>',
        f'<p class="dim">{_text(report["finished"])}, {_text(compared)}.</p>',
    ]
    if report["breaches"]:
        items = "".join(f"<li>{_text(sentence)}</li>" for sentence in report["breaches"])
        blocks.append(f'<div class="problem"><p><strong>Not reached</strong></p><ul>{items}</ul></div>')
    blocks += ["<h2>Counts</h2>", _counts(report["runs"])]
    for host in dict.fromkeys(run["host"] for run in report["runs"]):
        blocks.append(f"<h2>{_text(host)}</h2>")
        blocks += [_findings(run) for run in report["runs"] if run["host"] == host]
    if said := _waiver_lines(report):
        blocks += ["<h2>Waivers to look at</h2><ul>", *(f"<li>{_text(each)}</li>" for each in said), "</ul>"]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Audit</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(blocks) + "\n</body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _counts(runs: Sequence[Mapping[str, Any]]) -> str:
    heads = "".join(f'<th class="number">{_text(name)}</th>' for name in (*_COLUMNS, "score", "seconds"))
    rows = []
    for run in runs:
        cells = f"<td>{_text(run['host'])}</td><td>{_text(_name(run))}</td>"
        if run["status"] != "run":
            rows.append(
                f'<tr>{cells}<td colspan="{len(_COLUMNS) + 2}" class="warn">not run: {_text(run["reason"])}</td></tr>'
            )
            continue
        classes: Dict[str, str] = {"fail": "bad", "new": "bad", "fixed": "good", "waived": "warn", "error": "warn"}
        for name in _COLUMNS:
            count = run["counts"][name]
            cells += f'<td class="number {classes.get(name, "") if count else "dim"}">{count}</td>'
        seconds = "" if run["seconds"] is None else f"{run['seconds']:.0f}"
        rows.append(f'<tr>{cells}<td class="number">{_score(run)}</td><td class="number dim">{seconds}</td></tr>')
    head = f"<thead><tr><th>Host</th><th>Auditor</th>{heads}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _findings(run: Mapping[str, Any]) -> str:
    title = f'<h3>{_text(_name(run))} <span class="dim">{_text(run["tool"])}</span></h3>'
    if run["status"] != "run":
        return f'<section>{title}<p class="warn">Not run: {_text(run["reason"])}</p></section>'
    rows = [_row(row, _why(row), "bad") for row in run["fails"]]
    rows += [_row(row, "the check itself gave an error", "warn") for row in run["errors"]]
    rows += [_row(row, f"waived by {row['waiver']}: {row['reason']}", "warn") for row in run["waived"]]
    rows += [_row(row, "fixed since the last run", "good") for row in run["fixed"]]
    if not rows:
        return f'<section>{title}<p class="good">Nothing failed.</p></section>'
    head = "<thead><tr><th>Severity</th><th>Finding</th><th>Rule</th><th></th></tr></thead>"
    return f'<section class="scroll">{title}<table>{head}<tbody>{"".join(rows)}</tbody></table></section>'


def _why(row: Mapping[str, Any]) -> str:
    ended = f"its waiver {row['expired_waiver']} ended" if row["expired_waiver"] else ""
    return ", ".join(each for each in ("NEW" if row["new"] else "", ended) if each) or "fails"


def _row(row: Mapping[str, Any], why: str, state: str) -> str:
    return (
        f"<tr><td>{_text(row['severity'])}</td><td>{_text(row['title'])}</td>"
        f'<td><code>{_text(row["id"])}</code></td><td class="{state}">{_text(why)}</td></tr>'
    )
