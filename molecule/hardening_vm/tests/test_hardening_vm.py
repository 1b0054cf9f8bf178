"""What holds after a boot of a server with its own kernel and partitions, by its own word and by two auditors."""

from __future__ import annotations

import re

import openscap
import pytest

# Fewer than what a container without partitions of its own may have.
LIMITS = {"cis_level2_server": 25, "anssi_bp28_enhanced": 42}


@pytest.mark.parametrize("profile", LIMITS)
def test_fewer_fails_than_in_a_container(profile):
    counts = openscap.counts(profile)
    assert counts["pass"] > 200
    assert counts["fail"] + counts["error"] < LIMITS[profile], counts


@pytest.mark.parametrize("profile", LIMITS)
def test_each_fail_has_a_reason(profile):
    assert openscap.without_a_reason(profile, "hard1", {"always"}) == set()


def test_lynis():
    found = re.search(r"^hardening_index=(\d+)$", (openscap.ANSWERS / "lynis-report.dat").read_text(), re.MULTILINE)
    assert int(found.group(1)) >= 75


def test_the_kernel_has_its_parameters_after_the_boot(host):
    lines = host.file("/etc/sysctl.d/zz-hardening.conf").content_string.splitlines()
    wanted = {line for line in lines if re.match("[a-z]", line)}
    names = " ".join(line.split(" = ")[0] for line in wanted)
    found = {" ".join(line.split()) for line in host.check_output(f"sysctl --ignore {names}").splitlines()}
    assert len(found) > 50
    assert found <= wanted


@pytest.mark.parametrize("path", ["/tmp", "/var/tmp", "/dev/shm"])
def test_nothing_runs_from_temporary_files(host, path):
    program = f"{path}/hardening-test"
    found = host.run(f"install -m 0755 /usr/bin/true {program} && {program}; status=$?; rm -f {program}; exit $status")
    assert found.rc == 126
    assert "Permission denied" in found.stderr


def test_the_audit_rules_are_locked(host):
    assert "enabled 2" in host.check_output("auditctl -s")


def test_a_blocked_module_does_not_load(host):
    assert host.run("modprobe usb_storage").rc != 0
    assert "usb_storage" not in host.check_output("lsmod")
