# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What auditors wrote, recorded from real runs (tests/fixtures/audit/README.md), and what must be refused."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.audit import lynis, ports, ssh, units, xccdf
from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import Answer, AuditError

FIXTURES = Path(__file__).resolve().parents[4] / "fixtures/audit"


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def results(answer: Answer) -> dict[str, str]:
    return {row.id: row.result for row in answer.rows}


def xml(*results: tuple[str, str], title: str = "Title", tail: str = "") -> bytes:
    rules = "".join(
        f'<Rule id="xccdf_org.ssgproject.content_rule_{name}" severity="high"><title>{title}</title></Rule>'
        for name, _said in results
    )
    said = "".join(
        f'<rule-result idref="xccdf_org.ssgproject.content_rule_{name}" severity="low">'
        f"<result>{result}</result></rule-result>"
        for name, result in results
    )
    space = 'xmlns="http://checklists.nist.gov/xccdf/1.2"'
    return f"<Benchmark {space}>{rules}<TestResult>{said}{tail}</TestResult></Benchmark>".encode()


def test_xccdf_of_a_real_run() -> None:
    raw = text("openscap-1.3.7-debian12-standard.xml")
    answer = xccdf.read(io.BytesIO(raw.encode()))
    counts = Counter(row.result for row in answer.rows)
    assert counts == {name: raw.count(f"<result>{name}</result>") for name in ("pass", "fail", "notapplicable")}
    failed = {row.id: row.title for row in answer.rows if row.result == "fail"}
    assert failed["partition_for_home"] == "Ensure /home Located On Separate Partition"
    assert (answer.score, answer.tool) == (80.0, "OpenSCAP 1.3.7")


def test_xccdf_results_are_mapped() -> None:
    given = ["pass", "fixed", "fail", "error", "unknown", "notapplicable", "notchecked", "informational", "notselected"]
    answer = xccdf.read(io.BytesIO(xml(*((said, said) for said in given))))
    assert results(answer) == {
        "pass": "pass", "fixed": "pass", "fail": "fail", "error": "error", "unknown": "error",
        "notapplicable": "notapplicable", "notchecked": "notchecked", "informational": "notchecked",
    }  # fmt: skip
    assert {row.severity for row in answer.rows} == {"low"}


def test_xccdf_titles_hold_marked_up_text() -> None:
    answer = xccdf.read(io.BytesIO(xml(("r", "fail"), title='Set <sub idref="x">one</sub>\n  two')))
    assert answer.rows[0].title == "Set one two"


@pytest.mark.parametrize("broken", [b"", b"<Benchmark/>", xml(("r", "pass"))[:-20]])
def test_xccdf_that_was_cut_off_is_refused(broken: bytes) -> None:
    with pytest.raises(AuditError):
        xccdf.read(io.BytesIO(broken))


LYNIS = """# Lynis Report
lynis_version=3.0.8
warning[]=AUTH-1|No password for single mode|-|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|MaxSessions (set 10 to 2)|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|LogLevel (set INFO to VERBOSE)|-|
tests_executed=AUTH-1|SSH-7408|KRNL-1|
tests_skipped=USB-1|
hardening_index=59
finish=true
"""


KEYS = ("executed", "skipped")
COUNTED = ("fail", "pass", "notapplicable")


def test_lynis_of_a_real_run() -> None:
    raw = text("lynis-3.1.4-debian13-report.dat")
    answer = lynis.read(raw)
    suggested = {line.split("=")[1].split("|")[0] for line in raw.splitlines() if line.startswith("suggestion[]=")}
    ran, skipped = (set(re.findall(rf"^tests_{key}=(.*)", raw, re.MULTILINE)[0].split("|")) for key in KEYS)
    by_result = {key: {row.id.partition(":")[0] for row in answer.rows if row.result == key} for key in COUNTED}
    assert by_result == {
        "fail": suggested,
        "pass": ran - suggested - {""},
        "notapplicable": skipped - suggested - {""},
    }
    (files,) = [row for row in answer.rows if row.id == "FILE-6310"]
    assert "/home" in files.title and "/var" in files.title
    assert (answer.score, answer.tool) == (61.0, "Lynis 3.1.4")


def test_lynis_findings_and_passes() -> None:
    answer = lynis.read(LYNIS)
    assert results(answer) == {
        "AUTH-1": "fail",
        "SSH-7408:MaxSessions (set 10 to 2)": "fail",
        "SSH-7408:LogLevel (set INFO to VERBOSE)": "fail",
        "KRNL-1": "pass",
        "USB-1": "notapplicable",
    }
    assert [row.severity for row in answer.rows][:2] == ["high", "low"]
    assert (answer.score, answer.tool) == (59.0, "Lynis 3.0.8")


@pytest.mark.parametrize("line", ["hardening_index=59\n", "finish=true\n"])
def test_lynis_report_without_an_end_is_refused(line: str) -> None:
    with pytest.raises(AuditError, match="has no end"):
        lynis.read(LYNIS.replace(line, ""))


def test_ssh_audit_of_a_real_server() -> None:
    raw = json.loads(text("ssh-audit-3.9.0-debian12.json"))
    answer = ssh.read_scan(json.dumps(raw))
    offered = [each for kind in ("kex", "key", "enc", "mac") for each in raw[kind]]
    bad = [each for each in offered if {"fail", "warn"} & set(each["notes"])]
    counts = Counter(row.result for row in answer.rows)
    assert counts == {"fail": len(bad), "pass": len(offered) - len(bad)}
    worst = {row.id for row in answer.rows if (row.result, row.severity) == ("fail", "high")}
    assert {"kex:ecdh-sha2-nistp256", "mac:hmac-sha1"} <= worst
    assert "mac:umac-64@openssh.com" in results(answer).keys() - worst
    (row,) = ssh.read_policy(text("ssh-audit-3.9.0-debian12-policy.json")).rows
    assert (row.result, row.title) == (
        "fail",
        "Hardened Debian 12 (version 3): Host keys, Key exchanges, Ciphers, MACs differ",
    )


@pytest.mark.parametrize("said", ["", "[exception] cannot connect", "[]", '{"kex": []}'])
def test_ssh_audit_that_saw_nothing_is_refused(said: str) -> None:
    with pytest.raises(AuditError):
        ssh.read_scan(said)


def test_ssh_policy() -> None:
    said = {"policy": "Hardened Debian 12 (version 3)", "passed": False, "errors": [{"mismatched_field": "Ciphers"}]}
    (row,) = ssh.read_policy(json.dumps(said)).rows
    assert (row.id, row.result) == ("policy:Hardened Debian 12", "fail")
    assert row.title == "Hardened Debian 12 (version 3): Ciphers differ"
    (row,) = ssh.read_policy(json.dumps({**said, "passed": True, "errors": []})).rows
    assert row.result == "pass"
    with pytest.raises(AuditError):
        ssh.read_policy("{}")


def scan(
    address: str, *open_ports: int, end: str = '<runstats><finished exit="success"/></runstats>', host: str = ""
) -> str:
    family = "ipv6" if ":" in address else "ipv4"
    found = "".join(f'<port protocol="tcp" portid="{port}"><state state="open"/></port>' for port in open_ports)
    rest = '<port protocol="tcp" portid="9"><state state="filtered"/></port>'
    seen = f'<host {host}><address addr="{address}" addrtype="{family}"/><ports>{found}{rest}</ports></host>'
    return f'<nmaprun version="7.93">{seen}{end}</nmaprun>'


def test_ports_of_a_real_host() -> None:
    answer = ports.read([text(f"nmap-7.95-{family}.xml") for family in ports.FAMILIES], [{"port": 22}])
    assert results(answer) == {
        "tcp/22@ipv4": "pass", "tcp/22@ipv6": "pass", "tcp/4444@ipv4": "fail", "tcp/4444@ipv6": "fail",
    }  # fmt: skip
    assert answer.tool == "nmap 7.95"


def test_ports_are_compared_in_each_family() -> None:
    wanted: list[dict[str, Any]] = [{"port": 22}, {"port": "8000-8010", "protocol": "tcp"}, {"port": 443}, {"port": 25}]
    answer = ports.read([scan("192.0.2.1", 22, 443, 4444, 8005), scan("2001:db8::1", 22, 5555)], wanted)
    assert results(answer) == {
        "tcp/4444@ipv4": "fail", "tcp/5555@ipv6": "fail",
        "tcp/22@ipv4": "pass", "tcp/22@ipv6": "pass",
        "tcp/8000-8010@ipv4": "pass", "tcp/8000-8010@ipv6": "notapplicable",
        "tcp/443@ipv4": "pass", "tcp/443@ipv6": "notapplicable",
        "tcp/25@ipv4": "fail", "tcp/25@ipv6": "fail",
    }  # fmt: skip


def test_a_family_that_was_not_scanned_has_not_passed() -> None:
    answer = ports.read([scan("192.0.2.1", 22)], [{"port": 22}])
    assert results(answer) == {"tcp/22@ipv4": "pass", "undeclared@ipv4": "pass", "scan@ipv6": "notapplicable"}


def test_a_host_that_is_closed_altogether_was_judged() -> None:
    answer = ports.read([scan("192.0.2.1"), scan("2001:db8::1")], [])
    assert results(answer) == {"undeclared@ipv4": "pass", "undeclared@ipv6": "pass"}


@pytest.mark.parametrize(
    "broken",
    [
        "",
        scan("192.0.2.1", 22)[:-12],
        scan("192.0.2.1", 22, end=""),
        scan("192.0.2.1", 22, end='<runstats><finished exit="error"/></runstats>'),
        scan("192.0.2.1", host='timedout="true"'),
        '<nmaprun><runstats><finished exit="success"/></runstats></nmaprun>',
    ],
)
def test_a_scan_that_did_not_end_is_refused(broken: str) -> None:
    with pytest.raises(AuditError):
        ports.read([broken], [])


@pytest.mark.parametrize("port", [0, 65536, "x", "10-5", "", None])
def test_ports_that_are_none_are_refused(port: Any) -> None:
    with pytest.raises(AuditError, match="is none"):
        ports.read([], [{"port": port}])


UNITS = json.dumps([{"unit": f"{name}.service", "exposure": value} for name, value in (("a", "9.6"), ("b", 2.5))])


def test_exposure_of_real_units() -> None:
    wanted = [{"unit": "ssh.service", "max": 2.5}, {"unit": "systemd-journald.service", "max": 4.5}]
    answer = units.read(text("systemd-252-security.json"), wanted)
    assert results(answer) == {"ssh.service": "fail", "systemd-journald.service": "pass"}


def test_exposure_of_units() -> None:
    wanted = [{"unit": "b.service", "max": 2.5}, {"unit": "*.service", "max": 4.5}, {"unit": "c.service", "max": 1}]
    answer = units.read(UNITS, wanted)
    assert results(answer) == {"b.service": "pass", "a.service": "fail", "c.service": "notapplicable"}
    assert answer.score == 9.6


@pytest.mark.parametrize("said", ["", "{}", "[]", '[{"unit": "a"}]', "Unknown option"])
def test_units_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(AuditError, match="no list of units"):
        units.read(said, [{"unit": "a", "max": 1}])
