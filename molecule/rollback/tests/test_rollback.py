# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the drills: the confirmed change stands, nothing is armed, and what was rejected can be read."""

from __future__ import annotations

from testinfra.host import Host


def test_confirmed_change_outlives_the_timer_of_a_killed_run(host: Host) -> None:
    assert host.file("/etc/demo.conf").content_string == "better"
    assert host.file("/etc/demo.conf").mode == 0o600


def test_nothing_is_armed(host: Host) -> None:
    assert host.check_output("ls /var/lib/llm/rollback") == "demo.rejected\nlock"
    assert host.check_output("systemctl list-timers --all --no-legend 'llm-rollback*'") == ""


def test_rejected_files_are_kept_for_root_only(host: Host) -> None:
    assert host.file("/var/lib/llm/rollback/demo.rejected/etc/demo.conf").content_string == "killed"
    assert host.file("/var/lib/llm/rollback").mode == 0o700


def test_boot_unit_runs_before_what_it_protects(host: Host) -> None:
    assert host.service("llm-rollback.service").is_enabled
    before = host.check_output("systemctl show --property=Before --value llm-rollback.service").split()
    assert {"sysinit.target", "network-pre.target", "nftables.service", "ssh.service"} <= set(before)


def test_boot_unit_is_sandboxed(exposure) -> None:
    assert exposure("llm-rollback.service") <= 2.5


def test_boot_unit_builds_nothing_in_tmp(host: Host) -> None:
    # The boot cleans /tmp at the same time.
    show = host.check_output("systemctl show --property=PrivateDevices,PrivateTmp llm-rollback.service")
    assert sorted(show.splitlines()) == ["PrivateDevices=no", "PrivateTmp=no"]


def test_no_unit_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend") == ""
