"""Everything holds on a kernel of its own after a reboot: asked of /proc, /sys, systemd and the processes."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vm.swappiness", "10"),
        ("vm.min_free_kbytes", "65536"),
        ("vm.max_map_count", "1048576"),
        ("vm.overcommit_memory", "0"),
        ("vm.nr_hugepages", "16"),
        ("fs.aio-max-nr", "1048576"),
        ("net.core.rmem_max", "16777216"),
        ("net.ipv4.tcp_rmem", "4096 131072 16777216"),
        ("net.ipv4.tcp_fin_timeout", "30"),
    ],
)
def test_kernel_parameter(host, key, value):
    assert " ".join(host.check_output(f"sysctl --values {key}").split()) == value


def test_dirty_limits_follow_the_memory(host):
    kib = int(host.check_output("sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"))
    limit = host.sysctl("vm.dirty_bytes")
    assert kib * 1024 / 10 - (64 << 20) < limit <= kib * 1024 / 10
    assert host.sysctl("vm.dirty_background_bytes") == limit // 4
    assert host.sysctl("vm.dirty_ratio") == 0


def test_a_parameter_that_was_given_an_empty_value_is_left_alone(host):
    assert host.sysctl("vm.vfs_cache_pressure") == 100
    assert "vfs_cache_pressure" not in host.file("/etc/sysctl.d/50-llm-kernel-tuning.conf").content_string


def test_huge_pages(host):
    assert "[always]" in host.file("/sys/kernel/mm/transparent_hugepage/enabled").content_string
    assert host.check_output("sed -n 's/^HugePages_Total: *//p' /proc/meminfo") == "16"


def test_the_volume_is_read_ahead(host):
    device = "/dev/disk/by-id/virtio-data1"
    assert host.check_output(f"blockdev --getra {device}") == "4096"
    disk = host.check_output(f"basename $(readlink -e {device})")
    assert "[bfq]" in host.file(f"/sys/block/{disk}/queue/scheduler").content_string


def test_other_disks_keep_theirs(host):
    assert host.check_output("blockdev --getra /dev/vda") == "256"


def test_the_service_has_its_limits(host):
    pid = host.check_output("systemctl show --property=MainPID --value cron.service")
    limits = host.check_output(f"prlimit --pid {pid} --raw --noheadings --output RESOURCE,SOFT,HARD")
    found = {line.split()[0]: line.split()[1:] for line in limits.splitlines()}
    assert found["NOFILE"] == ["8192", "8192"]
    assert found["MEMLOCK"] == ["unlimited", "unlimited"]
    assert found["NPROC"] == ["500", "500"]


def test_a_login_session_has_its_limits(host):
    assert host.check_output("su --login root --command 'ulimit -Sn; ulimit -Hn'").split() == ["4321", "4321"]


def test_the_governor_waits_for_processors_that_have_one(host):
    if host.run("ls /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").rc == 0:
        assert host.check_output("cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor | sort -u") == "performance"
    else:
        state = host.check_output(
            "systemctl show --property=UnitFileState,ConditionResult,Result llm-cpu-governor.service"
        )
        assert set(state.split()) == {"UnitFileState=enabled", "ConditionResult=no", "Result=success"}


def test_the_governor_unit_is_sandboxed(exposure):
    assert exposure("llm-cpu-governor.service") <= 2.5


def test_interrupts_are_balanced(host):
    state = host.check_output("systemctl show --property=UnitFileState,Result irqbalance.service")
    assert set(state.split()) == {"UnitFileState=enabled", "Result=success"}


def test_nothing_failed_at_boot(host):
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
