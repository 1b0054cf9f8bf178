# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of an audit hand over what they get, and say in one sentence what they cannot take."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.audit_report import audit_report
from ansible_collections.baremetal.llm.plugins.filter.audit_result import audit_result
from ansible_collections.baremetal.llm.plugins.filter.audit_rows import audit_rows

UNITS = '[{"unit": "a.service", "exposure": "9.6"}]'
NOW = "2026-11-23T10:00:00Z"


def test_from_an_answer_to_a_page() -> None:
    said = audit_rows(UNITS, "systemd", wanted=[{"unit": "a.service", "max": 2.5}])
    run = {"host": "h", "auditor": "systemd", "profile": "", **said}
    report = audit_result([run], ["h"], NOW, thresholds=[{"auditor": "systemd", "max_fail": 0}])
    assert report["totals"]["fail"] == 1
    assert audit_report(report, "breaches") == "h: systemd has 1 fails that nobody waived, at most 0 are allowed"
    assert "a.service has an exposure of 9.6" in audit_report(report, "html")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: audit_rows(UNITS, "nessus"), "kind is 'nessus'"),
        (lambda: audit_rows(None, "lynis"), "lynis got a NoneType"),
        (lambda: audit_rows(UNITS, "nmap"), "nmap got a str"),
        (lambda: audit_rows("", "lynis"), "has no end"),
        (lambda: audit_result("runs", [], NOW), "takes a list"),
        (lambda: audit_result([], [], NOW, waivers=[{"id": "w"}]), "waiver w is for auditor None"),
        (lambda: audit_report({}), "takes the result of the filter audit_result"),
        (lambda: audit_report({"runs": [], "breaches": []}, "pdf"), "format is 'pdf'"),
    ],
)
def test_refusals(call: Any, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        call()
