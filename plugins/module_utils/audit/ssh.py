# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads ssh-audit's JSON: of a scan, and of a scan against one of its policies."""

from __future__ import annotations

import json
from typing import Any, List, Mapping

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import Answer, AuditError, Row

_KINDS = {"kex": "key exchange", "key": "host key", "enc": "cipher", "mac": "MAC"}


def read_scan(text: str) -> Answer:
    """A row for each algorithm that the server offers; what ssh-audit fails is high, what it warns of is medium."""
    said = _load(text)
    if not said.get("kex"):
        raise AuditError("ssh-audit saw no key exchange; look at its address and port.")
    rows: List[Row] = []
    for kind, name in _KINDS.items():
        for each in said.get(kind) or []:
            notes = each.get("notes") or {}
            fails, warns = list(notes.get("fail") or []), list(notes.get("warn") or [])
            algorithm = str(each["algorithm"])
            reasons = "; ".join(str(reason) for reason in fails + warns)
            rows.append(
                Row(
                    f"{kind}:{algorithm}",
                    f"{name} {algorithm}" + (f": {reasons}" if reasons else ""),
                    "high" if fails else "medium",
                    "fail" if reasons else "pass",
                )
            )
    for each in said.get("cves") or []:
        rows.append(Row(f"cve:{each['name']}", str(each.get("description", each["name"])), "high", "fail"))
    return Answer(rows, None, str((said.get("banner") or {}).get("software") or ""))


def read_policy(text: str) -> Answer:
    """One row for the policy, whose title names what differs from it."""
    said = _load(text)
    if "passed" not in said:
        raise AuditError("ssh-audit gave no answer about a policy; look at its address, port and policy.")
    wrong = [str(each.get("mismatched_field")) for each in said.get("errors") or []]
    policy = str(said["policy"])
    title = policy if said["passed"] else f"{policy}: {', '.join(wrong)} differ"
    # The number after the name changes with ssh-audit's releases; the rule stays the same one.
    name = policy.partition(" (version")[0]
    return Answer([Row(f"policy:{name}", title, "high", "pass" if said["passed"] else "fail")])


def _load(text: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        raise AuditError(f"ssh-audit gave no JSON but {text.strip()[:120]!r}.") from None
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if not isinstance(said, Mapping):
        raise AuditError("ssh-audit's JSON is no object; scan one host at a time.")
    return said
