# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what oscap writes with --results or --results-arf, as a stream, for it is tens of MB."""

from __future__ import annotations

import re
from typing import IO, Dict, List, Optional, Tuple
from xml.etree import ElementTree

from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import SEVERITIES, Answer, AuditError, Row, worst

# "unknown" is an answer that the checking engine could not give; notselected rules are no part of the profile.
_RESULTS = {
    "pass": "pass",
    "fixed": "pass",
    "fail": "fail",
    "error": "error",
    "unknown": "error",
    "notapplicable": "notapplicable",
    "notchecked": "notchecked",
    "informational": "notchecked",
}


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def short_id(rule: str) -> str:
    """The part of a rule's id that says something: xccdf_org.ssgproject.content_rule_X is X."""
    return re.sub(r"^xccdf_.+?_rule_", "", rule)


def read(stream: IO[bytes]) -> Answer:
    """All rules that were selected, and the default score; AuditError where there is no result."""
    rules: Dict[str, Tuple[str, str]] = {}
    found: Optional[ElementTree.Element] = None
    inside = 0
    try:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):
            name = _local(element.tag)
            kept = name in ("Rule", "TestResult")
            if event == "start":
                inside += kept
                continue
            if name == "Rule":
                rules[str(element.get("id"))] = (_title(element), str(element.get("severity", "unknown")))
            elif name == "TestResult":
                found = element
            inside -= kept
            # What a Rule or the TestResult consists of is needed until its end, all else can go.
            if not inside and name != "TestResult":
                element.clear()
    except ElementTree.ParseError as error:
        raise AuditError(f"the result is no complete XML ({error}); oscap was cut off, run it again.") from None
    if found is None:
        raise AuditError("the result holds no TestResult; give the file that oscap wrote with --results.")
    tool = str(found.get("test-system", "")).replace("cpe:/a:redhat:openscap:", "OpenSCAP ")
    return Answer(worst(_rows(found, rules)), _score(found), tool)


def _title(rule: ElementTree.Element) -> str:
    for child in rule:
        if _local(child.tag) == "title":
            return " ".join("".join(child.itertext()).split())
    return ""


def _rows(result: ElementTree.Element, rules: Dict[str, Tuple[str, str]]) -> List[Row]:
    rows = []
    for each in result:
        if _local(each.tag) != "rule-result":
            continue
        said = next(("".join(child.itertext()).strip() for child in each if _local(child.tag) == "result"), "")
        if said == "notselected":
            continue
        rule = str(each.get("idref"))
        title, severity = rules.get(rule, ("", "unknown"))
        severity = str(each.get("severity", severity))
        rows.append(
            Row(
                short_id(rule),
                title or short_id(rule),
                severity if severity in SEVERITIES else "unknown",
                _RESULTS.get(said, "error"),
            )
        )
    return rows


def _score(result: ElementTree.Element) -> Optional[float]:
    for each in result:
        if _local(each.tag) == "score" and each.get("system", "").endswith("scoring:default"):
            return round(float(each.text or 0), 1)
    return None
