"""The reports of an audit, compared with what the auditors themselves wrote and with what was done to the hosts."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat

import pytest

REPORTS = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "reports"
RAW = REPORTS / "audit-raw"
HOSTS = ("audit-a", "audit-b")


def report(name: str) -> dict:
    return json.loads((REPORTS / name).read_text())


def run(name: str, auditor: str, host: str = "audit-a") -> dict:
    (found,) = [each for each in report(name)["runs"] if (each["host"], each["auditor"]) == (host, auditor)]
    return found


def ids(rows: list) -> set:
    return {row["id"] for row in rows}


def test_host_is_as_it_was_before_two_audits(host):
    before, after = (host.file(f"/run/picture-{name}").content_string.splitlines() for name in ("before", "after"))
    assert len(before) > 1000
    assert sorted(set(before) ^ set(after)) == []


def test_no_program_and_no_folder_is_left(host):
    assert not host.file("/var/lib/llm-audit").exists
    for name in ("openscap-scanner", "lynis", "nmap"):
        assert not host.package(name).is_installed


def test_rules_for_whole_machines_are_judged_and_the_container_keeps_its_marker(host):
    openscap = run("before.json", "openscap")
    assert "partition_for_home" in ids(openscap["fails"] + openscap["waived"])
    assert host.file("/run/.containerenv").exists


@pytest.mark.parametrize("name", ["audit.json", "audit.html", "before.json"])
def test_reports_are_for_their_owner(name):
    assert stat.S_IMODE((REPORTS / name).stat().st_mode) == 0o600


def test_openscap_counts_are_those_of_its_own_file():
    # The raw file is the last run's; titles and structure are of no matter here, so no XML parser is shared with ours.
    result = re.search(
        r"<TestResult.*?</TestResult>", (RAW / "audit-a/openscap-standard.xml").read_text(), re.DOTALL
    ).group()
    said = re.findall(r"<result>(\w+)</result>", result)
    mine = run("worse.json", "openscap")["counts"]
    assert mine["pass"] == said.count("pass")
    assert mine["fail"] + mine["waived"] == said.count("fail")
    assert mine["notapplicable"] == said.count("notapplicable")
    assert mine["error"] == said.count("error") + said.count("unknown")


def test_lynis_index_is_that_of_its_own_report():
    index = re.search(r"^hardening_index=(\d+)$", (RAW / "audit-b/lynis-report.dat").read_text(), re.MULTILINE).group(1)
    assert run("before.json", "lynis", "audit-b")["score"] == int(index)


def test_what_got_worse_is_new():
    assert "file_permissions_etc_passwd" in run("before.json", "openscap")["passed"]
    new = {row["id"] for row in run("worse.json", "openscap")["fails"] if row["new"]}
    assert new == {"file_permissions_etc_passwd"}
    assert "enc:aes128-cbc" in {row["id"] for row in run("worse.json", "ssh")["fails"] if row["new"]}
    for auditor in ("ssh", "ports", "systemd"):
        assert run("worse.json", auditor, "audit-b")["counts"]["new"] == 0, auditor


def test_an_undeclared_port_is_found_over_both_families():
    for name, host in (("before.json", "audit-a"), ("before.json", "audit-b"), ("worse.json", "audit-b")):
        passed = {"tcp/22@ipv4", "tcp/22@ipv6", "undeclared@ipv4", "undeclared@ipv6"}
        assert set(run(name, "ports", host)["passed"]) == passed
    new = {row["id"] for row in run("worse.json", "ports")["fails"] if row["new"]}
    assert new == {"tcp/4444@ipv4", "tcp/4444@ipv6"}


def test_ports_are_declared_by_the_data_of_the_firewall():
    # Ollama is for gateways only, and one of them scans audit-a; audit-b's gateway is not for audit-a.
    assert ids(run("before.json", "ports")["fails"]) == {"tcp/11434@ipv4", "tcp/11434@ipv6"}
    assert run("before.json", "ports", "audit-b")["fails"] == []


def test_a_waived_rule_is_shown_with_its_reason():
    waived = run("before.json", "openscap")["waived"]
    assert {
        row["id"] for row in waived if (row["waiver"], row["reason"]) == ("one-disk", "a container has one file system")
    } == {
        "partition_for_var",
        "partition_for_var_log",
        "partition_for_var_log_audit",
    }
    waivers = report("before.json")["waivers"]
    assert waivers["expired"] == ["old-story"]
    assert "other-host" in waivers["unused"]
    assert not {"one-disk", "old-story"} & set(waivers["unused"])


def test_waivers_hold_for_containers_and_for_hosts_that_name_them_only():
    waived = {
        host: {row["id"]: row["waiver"] for row in run("before.json", "systemd", host)["waived"]} for host in HOSTS
    }
    assert waived == {
        "audit-a": {"dbus.service": "in-containers", "systemd-logind.service": "where-named"},
        "audit-b": {"dbus.service": "in-containers"},
    }


def test_an_expired_waiver_is_a_fail():
    expired = {row["id"]: row["expired_waiver"] for row in run("before.json", "ssh", "audit-b")["fails"]}
    assert expired.pop("policy:Hardened Debian 13") == "old-story"
    assert set(expired.values()) == {None}


def test_services_are_judged_by_their_limits():
    units = run("before.json", "systemd", "audit-b")
    assert units["passed"] == ["systemd-journald.service"]
    assert ids(units["fails"]) == {"systemd-logind.service"}
    assert units["notapplicable"] == ["absent.service"]


def test_ssh_policy_of_the_distribution_is_judged():
    for host, policy in zip(HOSTS, ("policy:Hardened Debian 12", "policy:Hardened Debian 13")):
        assert policy in ids(run("before.json", "ssh", host)["fails"])


def test_limits_stop_the_run_after_the_report():
    breaches = report("worse.json")["breaches"]
    assert any(
        re.match(r"audit-a: openscap standard has \d+ fails that nobody waived, at most 0 ", each) for each in breaches
    )
    assert "audit-b: lynis was not run: switched off by audit_lynis" in breaches
    assert any("audit-a: openscap standard has new fails: file_permissions_etc_passwd" in each for each in breaches)
    log = (REPORTS / "worse.log").read_text()
    assert "rc=" not in log and "file_permissions_etc_passwd" in log
    assert report("before.json")["ok"]


def test_what_did_not_run_says_why():
    last = {(each["auditor"], each["status"], each["reason"]) for each in report("audit.json")["runs"]}
    assert ("lynis", "not_run", "it was not chosen in this run") in last
    assert run("before.json", "lynis")["reason"] == "switched off by audit_lynis"
    assert ("ports", "not_run", "no other host is in this play; name one, or localhost, in audit_scan_from") in last
    (reason,) = [reason for auditor, status, reason in last if (auditor, status) == ("ssh", "not_run")]
    assert "/nowhere/ssh-audit" in reason


def test_the_next_run_can_still_compare_with_what_this_one_left_out():
    carried = {(each["host"], each["auditor"], each["profile"]) for each in report("audit.json")["carried"]}
    assert ("audit-a", "openscap", "standard") in carried
    assert ("audit-b", "lynis", "") in carried
