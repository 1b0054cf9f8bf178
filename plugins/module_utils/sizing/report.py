# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a plan to people: a table for a terminal of 100 columns, and a page without anything to load.

Hosts that serve the same on the same hardware share a row. All sizes are MiB, speeds tokens per second.
"""

from __future__ import annotations

import html
import json
from typing import Any, Dict, List, Mapping, Sequence, Tuple

COLUMNS = 100
MOST_LINES = 40
# Key of a part, its name, its letter in a bar of text and its colour on a page.
PARTS = (
    ("weights_mib", "weights", "W", "#3b74c4"),
    ("kv_cache_mib", "KV cache", "K", "#2f9e77"),
    ("compute_mib", "compute", "c", "#d08a1d"),
    ("overhead_mib", "CUDA and pools", "o", "#8c62b3"),
)
_BAR = 34

Group = Tuple[List[str], Mapping[str, Any]]


def groups_of(plan: Mapping[str, Any]) -> List[Group]:
    """Names of hosts with equal contents, and the first of them, in the order of the plan."""
    found: Dict[str, Group] = {}
    for host in plan["hosts"]:
        gpus = [{key: value for key, value in gpu.items() if key != "uuid"} for gpu in host["gpus"]]
        # What is free differs by a few MiB between cards of one type.
        rounded = [{**gpu, "memory_free_mib": 0, "free_after_mib": 0} for gpu in gpus]
        key = json.dumps([host["hardware"], rounded, host["models"], host["parallel"]], sort_keys=True)
        found.setdefault(key, ([], host))[0].append(str(host["name"]))
    return list(found.values())


def as_text(plan: Mapping[str, Any]) -> str:
    """Lines of at most C(COLUMNS), for one screen."""
    lines = [_headline(plan), ""]
    lines += _model_lines(plan)
    if any(host["gpus"] for host in plan["hosts"]):
        letters = ", ".join(f"{letter} {name}" for _key, name, letter, _colour in PARTS)
        lines += ["", f"GPU memory in MiB ({letters}, . free)"]
    rows: List[str] = []
    for names, host in groups_of(plan):
        rows += _host_lines(names, host)
    if len(rows) > MOST_LINES:
        rows = [
            *rows[: MOST_LINES - 1],
            f"... {len(rows) - MOST_LINES + 1} more lines stand in plan.json and plan.html.",
        ]
    lines += rows
    if plan["problems"]:
        lines += ["", problems_text(plan)]
    return "\n".join(line.rstrip() for line in lines)


def problems_text(plan: Mapping[str, Any]) -> str:
    """What cannot be met, why, and what would work; empty where everything can."""
    lines: List[str] = []
    for problem in plan["problems"]:
        lines += _wrapped(f"NOT POSSIBLE ({problem['constraint']}): {problem['message']}")
        for number, other in enumerate(problem["alternatives"], start=1):
            lines += _wrapped(f"  {number}. {alternative_text(other)}")
    return "\n".join(lines)


def alternative_text(other: Mapping[str, Any]) -> str:
    """One alternative as a phrase."""
    held = f"{other['quantization'] or 'the file'} with KV cache {other['kv_cache_type']}"
    doubt = ", by a rough estimate of speed" if other["confidence"] == "wide" else ""
    return f"{other['summary']}: {held} on {_plural(other['replicas'], 'host')}{doubt}"


def _headline(plan: Mapping[str, Any]) -> str:
    used = sum(1 for host in plan["hosts"] if host["models"])
    models = sum(1 for model in plan["models"] if model["replicas"])
    state = "all goals are met" if plan["feasible"] else "NOT ALL GOALS CAN BE MET"
    return f"Plan: {_plural(models, 'model')} on {used} of {_plural(len(plan['hosts']), 'host')}, {state}."


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _model_lines(plan: Mapping[str, Any]) -> List[str]:
    served = [model for model in plan["models"] if model["replicas"]]
    if not served:
        return ["No model is served."]
    rows = [("MODEL", "QUANTIZATION", "CONTEXT x SLOTS", "KV", "USERS", "TOK/S EACH", "MARGIN", "FIRST TOKEN", "HOSTS")]
    for model in served:
        rows.append(
            (
                _cut(str(model["name"]), 24),
                str(model["quantization"]),
                f"{model['context_length']} x {model['slots_total']}",
                str(model["kv_cache_type"]),
                str(model["users"]),
                _speed_text(model),
                _margin(model),
                f"{model['time_to_first_token_s']:.1f} s",
                str(len(model["replicas"])),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = (2, 4, 5, 6, 7, 8)
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells)[:COLUMNS])
    if any(model["confidence"] == "wide" for model in served):
        lines.append("~ the speed was not measured on such hardware; expect a factor of 1.5")
    return lines


def _speed_text(model: Mapping[str, Any]) -> str:
    return ("~" if model["confidence"] == "wide" else "") + f"{model['decode_per_user']:.1f}"


def _margin(model: Mapping[str, Any]) -> str:
    return "" if model["margin_percent"] is None else f"{model['margin_percent']:+.0f} %"


def _host_lines(names: Sequence[str], host: Mapping[str, Any]) -> List[str]:
    title = _cut(_names(names), 44)
    slots = f", {_plural(host['parallel'], 'slot')} each" if host["parallel"] else ""
    if not host["models"]:
        return [f"{title}  {_cut(host['hardware'], 40)}, free"]
    lines = [f"{title}  {_cut(host['hardware'], 38)}{slots}"[:COLUMNS]]
    gpus: Dict[str, Tuple[List[int], Mapping[str, Any]]] = {}
    for gpu in host["gpus"]:
        key = json.dumps([gpu["name"], gpu["parts"]], sort_keys=True)
        gpus.setdefault(key, ([], gpu))[0].append(int(gpu["index"]))
    for numbers, gpu in gpus.values():
        label = f"GPU {_ranges(numbers)}"
        each = " each" if len(numbers) > 1 else ""
        hidden = "" if gpu["visible"] else ", left out"
        figures = f"{gpu['used_mib']:.0f} of {gpu['memory_free_mib']}, {gpu['free_after_mib']:.0f} free{each}{hidden}"
        lines.append(f"  {label:<11} [{_bar(gpu)}] {figures}")
        for part in gpu["parts"]:
            shares = "  ".join(f"{letter} {part[key]:.0f}" for key, _name, letter, _colour in PARTS)
            lines.append(f"  {'':<11}  {_cut(part['model'], _BAR):<{_BAR}}  {shares}")
    if not host["gpus"]:
        for model in host["models"]:
            lines.append(
                f"  CPU          {_cut(model['name'], _BAR)}  {model['host_mib']['total_mib']:.0f} of main memory"
            )
    return [line[:COLUMNS] for line in lines]


def _bar(gpu: Mapping[str, Any]) -> str:
    total = max(1, gpu["memory_free_mib"])
    letters, sum_mib = "", 0.0
    for part in gpu["parts"]:
        for key, _name, letter, _colour in PARTS:
            sum_mib += part[key]
            letters = letters.ljust(min(_BAR, round(sum_mib / total * _BAR)), letter)
    return letters.ljust(_BAR, ".")


def _names(names: Sequence[str]) -> str:
    short = [name.split(".")[0] for name in names]
    # The domain says nothing where all hosts share it, and addresses have none.
    if len({name.partition(".")[2] for name in names}) > 1 or any(name.isdigit() for name in short):
        short = list(names)
    if len(short) <= 2:
        return ", ".join(short)
    return f"{short[0]} ... {short[-1]} ({len(short)} hosts)"


def _ranges(numbers: Sequence[int]) -> str:
    runs: List[List[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"


def _wrapped(text: str) -> List[str]:
    lines: List[str] = []
    line = ""
    indent = " " * (len(text) - len(text.lstrip()) + (3 if text.startswith(" ") else 0))
    for word in text.split():
        start = indent if lines else text[: len(text) - len(text.lstrip())]
        if line and len(line) + 1 + len(word) > COLUMNS:
            lines.append(line)
            line = indent + word
        else:
            line = f"{line} {word}" if line else start + word
    return [*lines, line]


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5b6575; --paper: #fff; --line: #d5dae2; --free: #e9ecf1;
 --bad: #b3261e; --good: #1f7a4d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --dim: #9aa5b5; --paper: #14181f; --line: #333b48;
 --free: #29303b; --bad: #ff8a80; --good: #6fd3a0; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
 margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; } h3 span, .dim { color: var(--dim); font-weight: normal; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: normal; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } .problem { border-left: 4px solid var(--bad); padding: .2rem .8rem; margin: .8rem 0; }
.bad { color: var(--bad); } .good { color: var(--good); }
svg { display: block; width: 100%; height: 1.5rem; margin-bottom: .5rem; border-radius: 3px; background: var(--free); }
section { break-inside: avoid; margin-bottom: 1.1rem; }
.facts th { width: 13rem; }
.legend { display: flex; gap: 1.2rem; flex-wrap: wrap; font-size: .87rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem; }
@page { size: A4; margin: 14mm; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } * { print-color-adjust: exact; } }
"""


def as_html(plan: Mapping[str, Any]) -> str:
    """One page; every text of the plan is escaped, and nothing is loaded or run."""
    state = "good" if plan["feasible"] else "bad"
    blocks = [f'<h1>LLM plan</h1><p class="{state}">{_text(_headline(plan))}</p>']
    blocks += [_problem(problem) for problem in plan["problems"]]
    tables = [_model_table(model) for model in plan["models"] if model["replicas"]]
    blocks += ["<h2>Models</h2>", *tables] if tables else []
    blocks += ["<h2>Hosts</h2>", _legend(), *(_host_block(names, host) for names, host in groups_of(plan))]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>LLM plan</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(blocks) + "\n</body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _problem(problem: Mapping[str, Any]) -> str:
    others = "".join(f"<li>{_text(alternative_text(other))}</li>" for other in problem["alternatives"])
    would = f"<p>What would work, nearest first:</p><ol>{others}</ol>" if others else ""
    return (
        f'<div class="problem"><p><strong>{_text(problem["model"])}</strong> is bound by '
        f"{_text(problem['constraint'])}. {_text(problem['message'])}</p>{would}</div>"
    )


def _model_table(model: Mapping[str, Any]) -> str:
    rows = [
        ("Quantization", f"{model['quantization']}, pulled as {model['tag']}, {model['file_mib']:.0f} MiB"),
        (
            "Context and slots",
            f"{model['context_length']} tokens x {model['slots_total']}, KV {model['kv_cache_type']}",
        ),
        ("Users at once", model["users"]),
        ("Tokens/s for each user", f"{model['decode_per_user']:.1f}, goal {model['min_tokens_per_second']:g}"),
        ("Margin", _margin(model) or "no goal"),
        ("Tokens/s in all", f"{model['decode_total']:.0f}, prompts {model['prefill']:.0f}"),
        ("First token", f"{model['time_to_first_token_s']:.2f} s for {model['prompt_tokens']} tokens of prompt"),
        ("Confidence of speeds", model["confidence"]),
        ("Hosts", _names([replica["host"] for replica in model["replicas"]])),
        ("Licence", model["licence"]),
    ]
    cells = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    caption = f"{_text(model['name'])} <span class='dim'>{_text(model['model'])}</span>"
    return f'<section class="scroll"><table class="facts"><caption>{caption}</caption>{cells}</table></section>'


def _legend() -> str:
    parts = "".join(
        f'<span><i style="background:{colour}"></i>{_text(name)}</span>' for _key, name, _letter, colour in PARTS
    )
    return f'<p class="legend">{parts}<span><i style="background:var(--free)"></i>free</span></p>'


def _host_block(names: Sequence[str], host: Mapping[str, Any]) -> str:
    title = f"<h3>{_text(_names(names))} <span>{_text(host['hardware'])}</span></h3>"
    if not host["models"]:
        return f'<section>{title}<p class="dim">Serves no model.</p></section>'
    memory = f"Main memory {host['host_memory_mib']} MiB, disk {host['disk_mib']} MiB, {host['parallel']} slots each."
    bars = "".join(_svg(gpu) for gpu in host["gpus"])
    rows = "".join(_part_row(gpu, part) for gpu in host["gpus"] for part in gpu["parts"])
    heads = "".join(f'<th class="number">{_text(name)}</th>' for _key, name, _letter, _colour in PARTS)
    table = (
        f'<div class="scroll"><table><tr><th>GPU</th><th>Model</th>{heads}<th class="number">Together, MiB</th></tr>'
        f"{rows}</table></div>"
        if rows
        else ""
    )
    return f'<section>{title}<p class="dim">{_text(memory)}</p>{bars}{table}</section>'


def _svg(gpu: Mapping[str, Any]) -> str:
    total = max(1, gpu["memory_free_mib"])
    boxes, start = [], 0.0
    for part in gpu["parts"]:
        for key, name, _letter, colour in PARTS:
            width = 100 * part[key] / total
            boxes.append(
                f'<rect x="{start:.3f}%" width="{width:.3f}%" height="100%" fill="{colour}">'
                f"<title>{_text(part['model'])}: {_text(name)} {part[key]:.0f} MiB</title></rect>"
            )
            start += width
    said = f"GPU {gpu['index']} {gpu['name']}: {gpu['used_mib']:.0f} of {gpu['memory_free_mib']} MiB used"
    left = f"{gpu['free_after_mib']:.0f} MiB free" if gpu["visible"] else "left out"
    return (
        f'<p class="dim">{_text(said)}, {_text(left)}</p><svg role="img" aria-label="{_text(said)}">'
        f"{''.join(boxes)}</svg>"
    )


def _part_row(gpu: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    figures = "".join(f'<td class="number">{part[key]:.0f}</td>' for key, _name, _letter, _colour in PARTS)
    return (
        f"<tr><td>{_text(gpu['index'])}</td><td>{_text(part['model'])}</td>{figures}"
        f'<td class="number">{part["total_mib"]:.0f}</td></tr>'
    )
