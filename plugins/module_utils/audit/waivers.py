# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers: failing rules that somebody accepts, with a reason, for some hosts, and until a day."""

from __future__ import annotations

import datetime
import fnmatch
import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Pattern, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import AuditError

# Everywhere; on hosts that name it; on hosts that are containers, whose kernel and disks are the machine's.
WHEN = ("always", "waived", "container")


@dataclass(frozen=True)
class Waiver:
    """One waiver; a rule is meant where one of the patterns matches all of its id."""

    id: str
    auditor: str
    reason: str
    rules: Tuple[Pattern[str], ...]
    hosts: Tuple[str, ...] = ("*",)
    profiles: Tuple[str, ...] = ("*",)
    until: Optional[datetime.date] = None
    when: str = "always"

    def holds(self, named: Sequence[str], is_container: bool) -> bool:
        """Whether it applies to a host that names these waivers."""
        return self.when == "always" or (is_container if self.when == "container" else self.id in named)

    def covers(self, host: str, auditor: str, profile: str, rule: str) -> bool:
        """Whether it is meant for this rule, expired or not."""
        return (
            auditor == self.auditor
            and any(pattern.fullmatch(rule) for pattern in self.rules)
            and any(fnmatch.fnmatchcase(host, pattern) for pattern in self.hosts)
            and any(fnmatch.fnmatchcase(profile, pattern) for pattern in self.profiles)
        )

    def expired(self, today: datetime.date) -> bool:
        """The day named in until is the last one on which it holds."""
        return self.until is not None and today > self.until


def read(values: Sequence[Mapping[str, Any]], auditors: Sequence[str]) -> List[Waiver]:
    """The waivers; AuditError names the first that makes no sense. Keys that serve others are left alone."""
    found: List[Waiver] = []
    for number, value in enumerate(values, start=1):
        name = str(value.get("id") or "")
        where = f"waiver {name}" if name else f"waiver number {number}"
        if not name or name in {each.id for each in found}:
            raise AuditError(f"{where} has no id of its own; give each waiver one name.")
        if value.get("auditor") not in auditors:
            raise AuditError(f"{where} is for auditor {value.get('auditor')!r}; give one of {', '.join(auditors)}.")
        if not str(value.get("reason") or "").strip():
            raise AuditError(f"{where} has no reason; say why the finding is accepted.")
        if not value.get("rules"):
            raise AuditError(f"{where} names no rules; list ids of rules, or patterns that match a whole id.")
        found.append(
            Waiver(
                name,
                str(value["auditor"]),
                " ".join(str(value["reason"]).split()),
                tuple(_pattern(where, rule) for rule in _texts(where, "rules", value["rules"])),
                tuple(_texts(where, "hosts", value.get("hosts") or ["*"])),
                tuple(_texts(where, "profiles", value.get("profiles") or ["*"])),
                _day(where, value.get("until")),
                _when(where, value.get("when") or "always"),
            )
        )
    return found


def _texts(where: str, key: str, value: Any) -> List[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise AuditError(f"{where}: {key} is no list; put it in brackets.")
    return [str(each) for each in value]


def _pattern(where: str, rule: str) -> Pattern[str]:
    try:
        return re.compile(rule)
    except re.error as error:
        raise AuditError(
            f"{where}: {rule!r} is no pattern ({error}); correct it, or put a backslash before signs."
        ) from None


def _when(where: str, value: Any) -> str:
    if value not in WHEN:
        raise AuditError(f"{where}: when is {value!r}; give one of {', '.join(WHEN)}.")
    return str(value)


def _day(where: str, value: Any) -> Optional[datetime.date]:
    if value in (None, ""):
        return None
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError:
        raise AuditError(f"{where}: until is {value!r}; write a day as 2027-01-31.") from None
