# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads denials of SELinux and AppArmor from audit records and kernel messages, and counts them.

The same denial may stand in the kernel log and in auditd's log; the number of its audit event tells that it is one.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set, Tuple

EVENT = re.compile(r"audit\((\d+\.\d+:\d+)\)")
SELINUX = re.compile(r"avc:\s+denied\s+\{([^}]*)\}")
APPARMOR = re.compile(r'apparmor="(DENIED|ALLOWED)"')
# key=value and key="value"; a value of hex digits without quotes is one that has blanks or quotes in it.
FIELD = re.compile(r'\b([a-z_]+)=("[^"]*"|[^\s"\']+)')
HEX = re.compile(r"^(?:[0-9A-F]{2})+$")
TEXTS = ("comm", "name", "path", "exe", "profile")


@dataclass(frozen=True)
class Denial:
    """What was denied to whom, and how many times. ``permissive``: written down only, not enforced."""

    source: str
    target: str
    object_class: str
    permissions: Tuple[str, ...]
    command: str
    path: str
    permissive: bool
    count: int = 1


def fields_of(line: str) -> Dict[str, str]:
    """The line's fields; the last of a name counts, since what users write stands before the labels."""
    found: Dict[str, str] = {}
    for name, raw in FIELD.findall(line):
        value = raw.strip('"')
        if name in TEXTS and not raw.startswith('"') and HEX.match(raw):
            value = bytes.fromhex(raw).decode("utf-8", "replace")
        found[name] = value
    return found


def type_of(context: str) -> str:
    """The type in user:role:type:level."""
    parts = context.split(":")
    return parts[2] if len(parts) > 2 else context


def read_line(line: str) -> Iterable[Denial]:
    """The denial that a line tells of, if it does."""
    selinux = SELINUX.search(line)
    if selinux:
        values = fields_of(line[selinux.end() :])
        yield Denial(
            source=type_of(values.get("scontext", "")),
            target=type_of(values.get("tcontext", "")),
            object_class=values.get("tclass", ""),
            permissions=tuple(sorted(selinux.group(1).split())),
            command=values.get("comm", values.get("exe", "")),
            path=values.get("path", values.get("name", values.get("dest", ""))),
            permissive=values.get("permissive") == "1",
        )
        return
    apparmor = APPARMOR.search(line)
    if apparmor and "profile=" in line:
        values = fields_of(line[apparmor.end() :])
        yield Denial(
            source=values.get("profile", ""),
            target=values.get("name", values.get("peer", "")),
            object_class=values.get("class", values.get("operation", "")),
            permissions=tuple(sorted(values.get("denied_mask", values.get("operation", "")).split())),
            command=values.get("comm", ""),
            path=values.get("name", ""),
            permissive=apparmor.group(1) == "ALLOWED",
        )


def read_denials(lines: Iterable[str]) -> List[Denial]:
    """All denials, each event once, equal ones counted, the most frequent first."""
    seen: Set[Tuple[str, Denial]] = set()
    counts: Dict[Denial, int] = {}
    for line in lines:
        event = EVENT.search(line)
        for denial in read_line(line):
            if event:
                if (event.group(1), denial) in seen:
                    continue
                seen.add((event.group(1), denial))
            counts[denial] = counts.get(denial, 0) + 1
    found = [Denial(**{**asdict(denial), "count": count}) for denial, count in counts.items()]
    return sorted(found, key=lambda each: (-each.count, each.source, each.target, each.permissions))


def matches(denial: Denial, rule: Mapping[str, Any]) -> bool:
    """Whether a rule describes the denial: each of its keys that is set must fit, and all permissions be named."""
    for key, value in (
        ("source", denial.source),
        ("target", denial.target),
        ("class", denial.object_class),
        ("command", denial.command),
    ):
        if rule.get(key) and rule[key] != value:
            return False
    return not rule.get("permissions") or set(denial.permissions) <= set(rule["permissions"])


def sentence(denial: Denial) -> str:
    """One denial in words."""
    times = f", {denial.count} times" if denial.count > 1 else ""
    what = f" ({denial.path})" if denial.path and denial.path != denial.target else ""
    command = f" ({denial.command})" if denial.command else ""
    return (
        f"{denial.source}{command} may not {' '.join(denial.permissions)} {denial.object_class} {denial.target}{what}"
        f"{times}"
    )


def sort_denials(
    denials: Sequence[Denial], ours: Sequence[str], accepted: Sequence[Mapping[str, Any]]
) -> Dict[str, List[Denial]]:
    """Denials of our domains (of them or on their files), those that somebody accepted with a reason, and the rest."""
    sorted_: Dict[str, List[Denial]] = {"ours": [], "accepted": [], "others": []}
    for denial in denials:
        if any(matches(denial, rule) for rule in accepted):
            sorted_["accepted"].append(denial)
        elif any(name in ours for name in (denial.source, denial.target)):
            sorted_["ours"].append(denial)
        else:
            sorted_["others"].append(denial)
    return sorted_
