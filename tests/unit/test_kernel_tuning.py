# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role kernel_tuning: which parameters a host gets, what is refused, what verify says, and the files it writes."""

from __future__ import annotations

import functools
import pathlib
import re
import subprocess
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/kernel_tuning"
FILES = ("defaults/main.yml", "vars/main.yml", "vars/settings.yml", "vars/refusals.yml", "vars/verify.yml")
UDEV = {"device": "/dev/disk/by-id/nvme-x"}


@functools.cache
def role_variables() -> dict[str, Any]:
    loader = DataLoader()
    found: dict[str, Any] = {}
    for file in FILES:
        found |= loader.load_from_file(str(ROLE / file), trusted_as_template=True)
    return found


def host(
    memory_gib: float = 64,
    container: bool = False,
    hugepages: str = "always [madvise] never",
    governors: tuple[str, ...] = ("performance", "performance"),
    **settings: object,
) -> Templar:
    lines = [
        f"/proc/meminfo:MemTotal:       {int(memory_gib * 1048576)} kB",
        "/proc/meminfo:Hugepagesize:       2048 kB",
        "/proc/sys/fs/nr_open:1048576",
        f"/sys/kernel/mm/transparent_hugepage/enabled:{hugepages}" if hugepages else "",
        *(
            f"/sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor:{each}"
            for number, each in enumerate(governors)
        ),
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors:performance powersave" if governors else "",
    ]
    variables = {
        **role_variables(),
        "inventory_hostname": "gpu1",
        "ansible_managed": "managed",
        "ansible_facts": {"virtualization_tech_guest": ["container", "podman"] if container else ["kvm"]},
        "__kernel_tuning_probe": {"stdout": "\n".join(lines)},
        "__kernel_tuning_devices": {"results": []},
        **settings,
    }
    return Templar(DataLoader(), variables=variables)


def value(name: str, **settings: Any) -> Any:
    templar = host(**settings)
    return templar.template(templar.available_variables[name])


def wanted(**settings: Any) -> dict[str, str]:
    return {each["key"]: each["value"] for each in value("__kernel_tuning_wanted", **settings)}


def rendered(template: str, **settings: Any) -> str:
    lookup = f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{template}') }}}}"
    return str(host(**settings).template(trust_as_template(lookup)))


def test_profiles_add_up_and_each_parameter_has_one_row() -> None:
    rows = role_variables()["__kernel_tuning_settings"]
    assert len({row["key"] for row in rows}) == len(rows)
    both = wanted(kernel_tuning_profiles=["inference", "gateway"])
    assert (
        both.keys()
        == wanted(kernel_tuning_profiles=["inference"]).keys() | wanted(kernel_tuning_profiles=["gateway"]).keys()
    )
    assert wanted(kernel_tuning_profiles=[]) == {}


def test_every_row_has_its_reason_and_source() -> None:
    for row in role_variables()["__kernel_tuning_settings"]:
        assert row["reason"].endswith(".") and row["source"].startswith("https://")


def test_no_row_is_a_security_parameter() -> None:
    keys = {row["key"]: 1 for row in role_variables()["__kernel_tuning_settings"]}
    assert value("__kernel_tuning_foreign_keys", kernel_tuning_sysctl=keys) == ""


def test_the_hardening_owns_its_parameters() -> None:
    """Two roles that set the same one would change it in turn, run after run."""
    text = (ROLE.parent / "hardening/vars/sysctl.yml").read_text(encoding="utf-8")
    keys = dict.fromkeys(re.findall(r"(?m)^  ([a-z]\w*(?:\.\w+)+):", text), 1)
    assert len(keys) > 20
    assert not keys.keys() & {row["key"] for row in role_variables()["__kernel_tuning_settings"]}
    assert value("__kernel_tuning_foreign_keys", kernel_tuning_sysctl=keys) == ", ".join(keys)


def test_zero_is_a_value_and_an_empty_one_leaves_the_parameter_alone() -> None:
    found = wanted(kernel_tuning_sysctl={"vm.swappiness": 0, "vm.max_map_count": "", "vm.zone_reclaim_mode": None})
    assert found["vm.swappiness"] == found["kernel.numa_balancing"] == "0"
    assert not {"vm.max_map_count", "vm.zone_reclaim_mode"} & found.keys()


def test_values_have_single_spaces_as_they_are_compared() -> None:
    assert wanted(kernel_tuning_sysctl={"net.ipv4.tcp_rmem": "4096\t 87380  1"})["net.ipv4.tcp_rmem"] == "4096 87380 1"


@pytest.mark.parametrize(
    ("memory_gib", "dirty_mib", "min_free_kib"),
    [
        (0.25, 64, None),
        (2, 192, None),
        (8, 768, None),
        (15.9, 1024, None),
        (16, 1024, 131072),
        (64, 1024, 335544),
        (2048, 1024, 1048576),
    ],
)
def test_bounds_follow_the_memory(memory_gib: float, dirty_mib: int, min_free_kib: int | None) -> None:
    found = wanted(memory_gib=memory_gib)
    assert int(found["vm.dirty_bytes"]) == dirty_mib << 20
    assert int(found["vm.dirty_background_bytes"]) == dirty_mib << 18
    assert found.get("vm.min_free_kbytes") == (str(min_free_kib) if min_free_kib else None)


def test_a_container_gets_parameters_of_its_network_only() -> None:
    found = wanted(
        container=True, kernel_tuning_hugepages=10, kernel_tuning_profiles=["inference", "storage", "gateway"]
    )
    assert set(found) == {
        "net.core.somaxconn",
        *(
            key
            for key in wanted(kernel_tuning_profiles=["inference", "storage", "gateway"])
            if key.startswith("net.ipv4")
        ),
    }


def test_good_settings_pass() -> None:
    volumes = [UDEV, {"device": "/dev/mapper/models"}, {"device": "/dev/md/store"}, {"device": "/dev/vg0/models"}]
    services = [{"unit": "ceph-osd@3.service", "nofile": 1048576, "memlock": "infinity"}]
    logins = [
        {"domain": "@ml", "item": "memlock", "value": "unlimited"},
        {"domain": "a", "item": "nofile", "value": "9"},
    ]
    assert (
        value(
            "__kernel_tuning_refusals",
            kernel_tuning_volumes=volumes,
            kernel_tuning_services=services,
            kernel_tuning_login_limits=logins,
            kernel_tuning_sysctl={"vm.swappiness": 1, "net.ipv4.tcp_congestion_control": "bbr"},
        )
        == []
    )


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"kernel_tuning_sysctl": {"swappiness": 1}}, "has swappiness, which is no kernel parameter's name"),
    "truth": ({"kernel_tuning_sysctl": {"vm.x": True}}, "gives vm.x true or false"),
    "hugepages": ({"kernel_tuning_hugepages": 30000}, "would take 60000 MiB of the 65536 MiB of gpu1; at most 80 %"),
    "ratio": (
        {"kernel_tuning_sysctl": {"vm.dirty_ratio": 5}},
        "sets vm.dirty_ratio beside the same in bytes, and each clears the other; give vm.dirty_bytes an empty value",
    ),
    "background": (
        {"kernel_tuning_sysctl": {"vm.dirty_bytes": 1048576}},
        "vm.dirty_background_bytes must be smaller than vm.dirty_bytes",
    ),
    "governor": ({"kernel_tuning_cpu_governor": "schedutil"}, "choose one of performance, powersave or keep"),
    "unstable": ({"kernel_tuning_volumes": [{"device": "/dev/nvme0n1"}]}, "names /dev/nvme0n1, which may be another"),
    "absent": (
        {
            "kernel_tuning_volumes": [UDEV, {"device": "/dev/mapper/y"}],
            "__kernel_tuning_devices": {
                "results": [
                    {"item": UDEV, "stdout": ""},
                    {"item": {"device": "/dev/mapper/y"}, "stdout": "is not there"},
                ]
            },
        },
        "kernel_tuning_volumes on gpu1: /dev/mapper/y is not there; name the disk",
    ),
    "unit": ({"kernel_tuning_services": [{"unit": "x", "nofile": 1}]}, "names x; write the unit with its type"),
    "bare": ({"kernel_tuning_services": [{"unit": "x.service"}]}, "gives x.service no limit"),
    "files": (
        {"kernel_tuning_services": [{"unit": "x.service", "nofile": 1048577}]},
        "more open files than fs.nr_open of gpu1 allows (1048576)",
    ),
    "login": (
        {"kernel_tuning_login_limits": [{"domain": "*", "item": "nofile", "value": "2000000"}]},
        "nobody could log in",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_settings_are_refused(name: str) -> None:
    settings, sentence = REFUSALS[name]
    found = value("__kernel_tuning_refusals", **settings)
    assert len(found) == 1 and sentence in found[0]


def test_more_open_files_are_fine_once_the_kernel_allows_them() -> None:
    services = [{"unit": "x.service", "nofile": 2000000}]
    sysctl = {"fs.nr_open": 2097152}
    assert value("__kernel_tuning_refusals", kernel_tuning_services=services, kernel_tuning_sysctl=sysctl) == []


@pytest.mark.parametrize(
    "key",
    ["kernel.kptr_restrict", "kernel.yama.ptrace_scope", "user.max_user_namespaces", "fs.protected_symlinks"]
    + ["fs.suid_dumpable", "net.ipv4.conf.all.rp_filter", "net.ipv6.conf.default.accept_ra", "vm.mmap_min_addr"]
    + ["net.ipv4.tcp_syncookies", "net.core.bpf_jit_harden", "kernel.unprivileged_bpf_disabled", "kernel.core_pattern"],
)
def test_security_parameters_are_refused(key: str) -> None:
    found = value("__kernel_tuning_refusals", kernel_tuning_sysctl={key: 0})
    assert found == [
        f"kernel_tuning_sysctl sets {key}, which decides on security and belongs to the role hardening; "
        "remove it here and set it there."
    ]


def seen(**more: Any) -> dict[str, Any]:
    """A host on which all is as wanted."""
    lines = [f"{key} = {each}" for key, each in wanted().items()]
    boot = [f"{key}|{each}|/etc/sysctl.d/50-llm-kernel-tuning.conf" for key, each in wanted().items()]
    return {
        "__kernel_tuning_live": {"stdout_lines": [line.replace(" 131072 ", "\t131072\t") for line in lines]},
        "__kernel_tuning_boot": {"stdout_lines": ["net.ipv4.conf.*.x|1|/usr/lib/sysctl.d/50-default.conf", *boot]},
        "__kernel_tuning_irq": {"status": {"Result": "success", "UnitFileState": "enabled"}},
        "__kernel_tuning_volume_states": {"results": [{"item": UDEV, "stdout": "", "stdout_lines": []}]},
        "__kernel_tuning_nvme": {"stdout_lines": []},
        "__kernel_tuning_service_states": {"results": []},
        **more,
    }


def test_a_host_as_wanted_has_no_faults() -> None:
    assert value("__kernel_tuning_faults", **seen()) == []
    assert value("__kernel_tuning_not_applicable", **seen()) == []
    assert value("__kernel_tuning_drift", **seen()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"__kernel_tuning_live": {"stdout_lines": ["vm.swappiness = 60"]}},
            "vm.swappiness is 60, since the kernel did not take 10; where these are huge pages",
        ),
        (
            {
                "__kernel_tuning_boot": {
                    "stdout_lines": ["vm.swappiness|10|/a", "vm.swappiness|1|/etc/sysctl.d/99-x.conf"]
                }
            },
            "The next boot sets vm.swappiness to 1, since /etc/sysctl.d/99-x.conf comes later",
        ),
        ({"hugepages": "[always] madvise never"}, "huge pages are always and not madvise"),
        (
            {"governors": ("performance", "powersave", "performance")},
            "CPU governors are performance, powersave and not performance",
        ),
        (
            {"__kernel_tuning_irq": {"status": {"Result": "exit-code", "UnitFileState": "enabled"}}},
            "irqbalance.service is",
        ),
        (
            {"__kernel_tuning_volume_states": {"results": [{"item": UDEV, "stdout": "x", "stdout_lines": ["a", "b"]}]}},
            "/dev/disk/by-id/nvme-x: a, b",
        ),
        ({"__kernel_tuning_nvme": {"stdout_lines": ["/sys/block/nvme0n1/queue/scheduler"]}}, "/sys/block/nvme0n1"),
        (
            {
                "__kernel_tuning_service_states": {
                    "results": [
                        {"item": {"unit": "x.service"}, "stdout": "y", "stdout_lines": ["nofile of process 1 is 2"]}
                    ]
                }
            },
            "x.service: nofile of process 1 is 2",
        ),
    ],
)
def test_a_host_that_differs_is_told(change: dict[str, Any], sentence: str) -> None:
    found = value("__kernel_tuning_faults", **seen(**change))
    assert len(found) == 1 and sentence in found[0]


def test_what_does_not_apply_is_said() -> None:
    service = {
        "item": {"unit": "x.service"},
        "stdout": "y",
        "stdout_lines": ["skip: it is not installed yet (not-found)"],
    }
    lacking = seen(
        __kernel_tuning_live={"stdout_lines": seen()["__kernel_tuning_live"]["stdout_lines"][1:]},
        governors=(),
        hugepages="",
        __kernel_tuning_service_states={"results": [service]},
    )
    assert value("__kernel_tuning_faults", **lacking) == []
    assert value("__kernel_tuning_not_applicable", **lacking) == [
        "This kernel has no vm.swappiness.",
        "This kernel has no transparent huge pages.",
        "The processors have no governor to choose, as in most virtual machines.",
        "x.service: it is not installed yet (not-found)",
    ]


def test_the_file_says_why_and_allows_for_lacking_parameters() -> None:
    text = rendered("sysctl.conf.j2", kernel_tuning_sysctl={"vm.swappiness": 5}, kernel_tuning_hugepages=7)
    assert "# Set by kernel_tuning_sysctl.\n-vm.swappiness = 5\n" in text
    assert "# Set by kernel_tuning_hugepages.\n-vm.nr_hugepages = 7\n" in text
    assert re.search(r"\n\n# .*\n# https://\S+\n-vm.max_map_count = 1048576\n", text)


def test_rules_for_disks() -> None:
    volumes = [{**UDEV, "scheduler": "mq-deadline"}, {"device": "/dev/mapper/models", "read_ahead_kib": 8192}]
    lines = [line for line in rendered("udev.rules.j2", kernel_tuning_volumes=volumes).splitlines() if line[:1] == "A"]
    start = 'ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", '
    assert lines == [
        start + 'KERNEL=="nvme[0-9]*n[0-9]*", ATTR{queue/scheduler}="none"',
        start + 'SYMLINK=="disk/by-id/nvme-x", ATTR{queue/read_ahead_kb}="4096", ATTR{queue/scheduler}="mq-deadline"',
        start + 'SYMLINK=="mapper/models", ATTR{queue/read_ahead_kb}="8192"',
    ]


def test_limits_of_a_service() -> None:
    text = rendered("limits.conf.j2", item={"unit": "x.service", "nofile": 5, "memlock": "infinity"})
    assert text.splitlines()[1:] == ["[Service]", "LimitMEMLOCK=infinity", "LimitNOFILE=5"]


def test_the_governor_is_written_to_every_processor_and_a_refusal_fails_the_unit(tmp_path: pathlib.Path) -> None:
    files = [tmp_path / f"cpu{number}/cpufreq/scaling_governor" for number in range(3)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("powersave\n")
    text = rendered(
        "llm-cpu-governor.service.j2", __kernel_tuning_governor_files=f"{tmp_path}/cpu*/cpufreq/scaling_governor"
    )
    assert f"ConditionPathExistsGlob={tmp_path}/cpu*/cpufreq/scaling_governor\n" in text
    found = re.search(r"ExecStart=/bin/sh -c '(.*)'\n", text)
    assert found
    script = found[1].replace("$$", "$")
    subprocess.run(["/bin/sh", "-c", script], check=True)
    assert [file.read_text() for file in files] == ["performance\n"] * 3
    files[0].unlink()
    files[0].mkdir()
    assert subprocess.run(["/bin/sh", "-c", script], check=False, capture_output=True).returncode
