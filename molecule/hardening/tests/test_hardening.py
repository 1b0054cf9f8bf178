"""The hardened host as it is after a reboot: asked of the running system, not of the files."""

from __future__ import annotations

import re

import pytest


def parameter(host, name):
    return host.check_output(f"sysctl --values {name}").replace("\t", " ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.conf.all.accept_redirects", "0"),
        ("net.ipv4.conf.default.rp_filter", "1"),
        ("net.ipv4.conf.all.log_martians", "1"),
        ("net.ipv4.ip_local_port_range", "32768 65535"),
        ("net.ipv6.conf.all.accept_ra", "0"),
    ],
)
def test_kernel_parameters_of_the_network_are_set(host, name, value):
    assert parameter(host, name) == value


def test_parameters_of_the_machine_are_written_and_not_set(host):
    assert host.file("/etc/sysctl.d/zz-hardening.conf").contains("^kernel.panic_on_oops = 1$")
    assert parameter(host, "kernel.panic_on_oops") != "1"


def test_a_host_of_containers_keeps_forwarding_and_overlays(host):
    written = host.file("/etc/sysctl.d/zz-hardening.conf").contains("ip_forward")
    blocked = blocked_modules(host, "overlay")
    # hard-a waives nothing, hard-b what containers need.
    strict = host.system_info.codename == "bookworm"
    assert (written, blocked) == ((True, ["overlay"]) if strict else (False, []))
    if strict:
        assert parameter(host, "net.ipv4.ip_forward") == "0"


def blocked_modules(host, *names):
    lines = host.check_output("modprobe --showconfig").splitlines()
    return [name for name in names if f"install {name} /bin/false" in lines]


def test_blocked_modules_do_not_load_and_needed_ones_may(host):
    blocked = ("cramfs", "tipc", "usb_storage", "sctp")
    needed = ("nvme", "squashfs", "ceph", "nvidia", "ib_uverbs", "br_netfilter")
    assert blocked_modules(host, *blocked, *needed) == list(blocked)


def test_nothing_runs_from_temporary_files(host):
    # The engine mounts /tmp anew at each boot of a container, before systemd reads fstab.
    assert "noexec" in host.check_output("findmnt --fstab --noheadings --output OPTIONS /tmp").split(",")


def test_nothing_runs_from_shared_memory(host):
    program = "/dev/shm/hardening-test"
    found = host.run(f"install -m 0755 /usr/bin/true {program} && {program}; status=$?; rm -f {program}; exit $status")
    assert found.rc == 126
    assert "Permission denied" in found.stderr


def test_a_crash_leaves_no_core_file(host):
    found = host.run("cd /var/tmp && rm -f core* && systemd-run --quiet --wait --pipe sh -c 'ulimit -c; kill -SEGV $$'")
    assert found.stdout.strip() == "0"
    assert host.run("ls /var/tmp/core*").rc != 0


def test_the_journal_outlives_a_reboot(host):
    boots = host.check_output("journalctl --list-boots --no-pager").splitlines()
    assert len(boots) >= 2


def test_a_boot_does_not_open_the_journal(host):
    # Which has happened before this test.
    assert host.file("/var/log/journal").mode == 0o2750


def test_time_comes_from_chrony_alone(host):
    assert host.service("chrony").is_running
    assert "pool.ntp.org" in host.check_output("cat /etc/chrony/chrony.conf")
    assert host.run("chronyc -n tracking").rc == 0
    # A client only: nobody else can ask it.
    assert ":123 " not in host.check_output("ss -Hlun")
    assert not host.package("systemd-timesyncd").is_installed


def test_audit_rules_are_complete_and_name_every_privileged_program(host):
    rules = host.check_output("cat /etc/audit/rules.d/*.rules")
    programs = set(host.check_output("find / -xdev -type f -perm /6000 -not -path '/proc/*'").split())
    assert programs
    assert programs <= set(re.findall(r"-F path=(\S+) -F perm=x", rules))
    # augenrules puts it last, whatever file it stands in.
    assert "-e 2" in rules.splitlines()


def test_the_daily_check_works_in_its_sandbox(host, exposure):
    host.run("systemctl start aidecheck.service")
    ended = dict(
        line.split("=") for line in host.check_output("systemctl show -p ExecMainCode,ExecMainStatus aidecheck").split()
    )
    host.check_output("systemctl reset-failed aidecheck.service")
    # 1: exited by itself. Its status counts kinds of differences; errors begin at 14.
    assert ended["ExecMainCode"] == "1"
    assert int(ended["ExecMainStatus"]) <= 7
    assert exposure("aidecheck.service") <= 2.5


def test_aide_finds_a_changed_program_and_nothing_else_of_ours(host):
    assert host.service("aidecheck.timer").is_running
    assert not host.service("aidecheck.service").is_running
    before = host.run("aide --config=/etc/aide/aide.conf --check --limit '^/usr/sbin/aureport'")
    assert before.rc == 0, before.stdout
    host.check_output("cp -a /usr/sbin/aureport /var/tmp/aureport && echo >> /usr/sbin/aureport")
    after = host.run("aide --config=/etc/aide/aide.conf --check --limit '^/usr/sbin/aureport'")
    host.check_output("cp -a /var/tmp/aureport /usr/sbin/aureport && rm /var/tmp/aureport")
    assert after.rc & 4, after.stdout
    assert "/usr/sbin/aureport" in after.stdout


def test_security_updates_come_without_drivers_and_without_a_reboot(host):
    settings = host.check_output("apt-config dump")
    assert 'Unattended-Upgrade::Package-Blacklist:: "nvidia-.*"' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "false"' in settings
    assert host.run("unattended-upgrade --dry-run").rc == 0
    assert host.service("apt-daily-upgrade.timer").is_running


def test_logs_and_account_files_are_private(host):
    found = host.check_output("find /var/log -xdev -type f -perm /0007 -not -path '/var/log/journal/*' -printf '%f\\n'")
    public = [name for name in found.split() if not name.startswith(("wtmp", "btmp", "lastlog", "history.log"))]
    assert public == []
    assert host.file("/etc/shadow").mode == 0o640
    assert host.file("/etc/security/opasswd").mode == 0o600


def test_clear_text_clients_are_gone(host):
    assert host.run("command -v telnet").rc != 0
    # prepare.yml had installed it.
    assert not host.package("tnftp").is_installed
