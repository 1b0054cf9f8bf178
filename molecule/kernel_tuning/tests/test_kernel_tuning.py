"""A container's own parameters are set, the machine's are not, and services have their limits."""

from __future__ import annotations

import os
import pathlib

MACHINE = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "machine.txt"


def test_parameters_of_its_own_network_are_set_after_a_restart(host):
    assert host.sysctl("net.core.somaxconn") == 16384
    assert host.sysctl("net.ipv4.tcp_slow_start_after_idle") == 0
    assert host.check_output("sysctl --values net.ipv4.tcp_rmem").split() == ["4096", "131072", "16777216"]


def test_the_user_takes_precedence_over_the_profile(host):
    assert host.sysctl("net.ipv4.tcp_max_syn_backlog") == 4096


def test_each_parameter_stands_in_the_file_with_its_reason(host):
    lines = host.file("/etc/sysctl.d/50-llm-kernel-tuning.conf").content_string.splitlines()
    settings = [number for number, line in enumerate(lines) if line.startswith("-")]
    assert settings
    assert all(lines[number - 1].startswith("# ") for number in settings)


def test_the_machine_keeps_its_parameters(host):
    before = MACHINE.read_text().strip()
    assert "vm/swappiness" in before
    files = "vm/swappiness vm/dirty_bytes vm/max_map_count kernel/numa_balancing"
    assert (
        host.check_output(f"cd /proc/sys && grep -H . {files} /sys/kernel/mm/transparent_hugepage/enabled").strip()
        == before
    )
    content = host.file("/etc/sysctl.d/50-llm-kernel-tuning.conf").content_string
    assert not [line for line in content.splitlines() if line.startswith(("-vm", "-kernel", "-fs"))]
    for path in ("/etc/tmpfiles.d/llm-kernel-tuning.conf", "/etc/udev/rules.d/99-llm-kernel-tuning.rules"):
        assert not host.file(path).exists
    assert not host.file("/etc/systemd/system/llm-cpu-governor.service").exists


def test_limits_that_were_given_up_are_gone_and_others_wait_for_their_service(host):
    assert not host.file("/etc/systemd/system/witness.service.d/50-llm-kernel-tuning.conf").exists
    assert "LimitNPROC=100" in host.file("/etc/systemd/system/later.service.d/50-llm-kernel-tuning.conf").content_string
