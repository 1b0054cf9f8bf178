# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role hardening: what a level holds, what a waiver takes out, the files it writes, and its list of waivers."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.baremetal.llm.plugins.module_utils.audit import report, waivers

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/hardening"
CONCERNS = ("packages", "filesystem", "mounts", "modules", "sysctl", "auditd", "aide", "boot")
AUDITORS = report.AUDITORS
WAIVERS = yaml.safe_load((ROLE / "files/waivers.yml").read_text(encoding="utf-8"))
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"][
    "options"
]
TMPFS = {"target": "/tmp", "source": "tmpfs", "fstype": "tmpfs", "options": "rw,nosuid"}
HOME = {"target": "/home", "source": "/dev/vda3", "fstype": "ext4", "options": "rw,suid,relatime"}


@functools.cache
def role_variables(family: str) -> dict[str, Any]:
    loader = DataLoader()
    found: dict[str, Any] = {}
    for file in ("defaults/main", "vars/main", f"vars/{family}", *(f"vars/{concern}" for concern in CONCERNS)):
        found.update(loader.load_from_file(str(ROLE / f"{file}.yml"), trusted_as_template=True))
    return found


def host(family: str = "Debian", container: bool = False, **settings: Any) -> Templar:
    variables = {
        **role_variables(family),
        "inventory_hostname": "gpu1",
        "ansible_managed": "managed",
        "ansible_facts": {
            "os_family": family,
            "architecture": "x86_64",
            "virtualization_role": "guest" if container else "host",
            "virtualization_type": "podman" if container else "kvm",
        },
        **settings,
    }
    return Templar(DataLoader(), variables=variables)


def value(name: str, **settings: Any) -> Any:
    templar = host(**settings)
    return templar.template(templar.available_variables[name])


def rendered(template: str, **settings: Any) -> str:
    lookup = f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{template}') }}}}"
    return str(host(**settings).template(trust_as_template(lookup)))


@pytest.mark.parametrize("name", ["__hardening_sysctl", "__hardening_mounts"])
@pytest.mark.parametrize("family", ["Debian", "RedHat"])
def test_each_level_holds_the_one_below(name: str, family: str) -> None:
    baseline, cis1, cis2 = (value(name, family=family, hardening_level=level) for level in ("baseline", "cis1", "cis2"))
    assert baseline.keys() < cis1.keys() < cis2.keys()


def test_a_waiver_takes_out_what_it_names_and_nothing_else() -> None:
    strict = value("__hardening_sysctl", hardening_level="cis2", hardening_waivers=[])
    containers = value("__hardening_sysctl", hardening_level="cis2", hardening_waivers=["containers"])
    assert strict.keys() - containers.keys() == {
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "kernel.unprivileged_userns_clone",
    }
    rdma = value("__hardening_sysctl", hardening_level="cis2", hardening_waivers=["rdma"])
    changed = {key: rdma[key] for key in rdma if rdma[key] != strict.get(key)}
    assert changed == {
        "net.ipv4.conf.all.rp_filter": 2,
        "net.ipv4.conf.default.rp_filter": 2,
        "net.ipv4.conf.all.arp_ignore": 1,
        "net.ipv4.conf.all.arp_announce": 2,
    }
    profiling = value("__hardening_sysctl", hardening_level="cis2", hardening_waivers=["profiling"])
    assert (profiling["kernel.kptr_restrict"], profiling["kernel.perf_event_paranoid"]) == (1, 1)
    assert strict.keys() - profiling.keys() == {
        "kernel.perf_cpu_time_max_percent",
        "kernel.perf_event_max_sample_rate",
    }


def test_forwarding_comes_first_because_it_resets_the_others() -> None:
    assert list(value("__hardening_sysctl", hardening_waivers=[]))[0] == "net.ipv4.ip_forward"


def test_user_namespaces_of_systemd_are_never_ended() -> None:
    assert "user.max_user_namespaces" not in value("__hardening_sysctl", hardening_level="cis2", hardening_waivers=[])


def test_a_container_sets_its_own_network_alone_and_writes_all() -> None:
    live = value("__hardening_sysctl_live", container=True)
    assert live and all(key.startswith(("net.ipv4.", "net.ipv6.")) for key in live)
    assert "kernel.kptr_restrict = 2" in rendered("sysctl.conf.j2", container=True)
    everything = value("__hardening_sysctl_live", container=True, hardening_sysctl_apply="all")
    assert everything == value("__hardening_sysctl") == value("__hardening_sysctl_live")


def test_settings_of_the_site_win() -> None:
    found = value("__hardening_sysctl", hardening_sysctl_settings={"kernel.sysrq": 176})
    assert found["kernel.sysrq"] == 176


def test_modules_that_the_service_needs_are_never_blocked() -> None:
    blocked = set(value("__hardening_modules", hardening_level="cis2"))
    assert not blocked & {
        "overlay",
        "squashfs",
        "nvme",
        "xfs",
        "ceph",
        "rbd",
        "fuse",
        "nvidia",
        "mlx5_core",
        "ib_uverbs",
    }
    assert {"overlay", "rds"} <= set(value("__hardening_modules", hardening_level="cis2", hardening_waivers=[]))
    assert "rds" not in value("__hardening_modules", hardening_level="cis2", hardening_waivers=["rdma"])


def test_a_module_can_be_allowed_and_another_blocked() -> None:
    found = value("__hardening_modules", hardening_modules_allowed=["sctp"], hardening_modules_blocked=["pcspkr"])
    assert "sctp" not in found and "pcspkr" in found
    assert "\ninstall pcspkr /bin/false\n" in rendered("modules.conf.j2", hardening_modules_blocked=["pcspkr"])


def mounts(kernel: list[dict[str, str]], fstab: list[dict[str, str]], **settings: Any) -> Any:
    results = [{"stdout": json.dumps({"filesystems": kernel})}, {"stdout": json.dumps({"filesystems": fstab})}]
    return value("__hardening_mounts_lines", __hardening_mounts_read={"results": results}, **settings)


def test_only_mount_points_get_options() -> None:
    assert mounts([], []) == []
    assert [line["target"] for line in mounts([TMPFS, HOME], [HOME])] == ["/home", "/tmp"]
    # Mounted by something else than fstab, and no file system in memory: left alone.
    assert mounts([HOME], []) == []
    assert mounts([HOME], [HOME], hardening_level="baseline") == []


def test_audit_rules_leave_services_out() -> None:
    rules = [line for line in rendered("audit.rules.j2").splitlines() if line.startswith("-a") and " -S " in line]
    quiet = [rule for rule in rules if "auid>=1000" not in rule]
    assert {rule.split(" -k ")[1] for rule in quiet} == {"time-change", "system-locale", "user_emulation"}
    assert not [rule for rule in rules if "auid>=1000" in rule and "auid!=unset" not in rule]


def test_audit_rules_fit_the_architecture() -> None:
    facts = {"os_family": "Debian", "architecture": "aarch64", "virtualization_role": "host"}
    assert " creat," not in rendered("audit.rules.j2", ansible_facts=facts)
    assert ",create_module" not in rendered("audit.rules.j2", ansible_facts=facts)
    assert " creat," in rendered("audit.rules.j2")


def test_a_full_log_stops_the_host_at_level_2_alone() -> None:
    assert "admin_space_left_action = halt" in rendered("auditd.conf.j2", hardening_level="cis2")
    assert "halt" not in rendered("auditd.conf.j2")
    mild = {"admin_space_left_action": "syslog", "disk_full_action": "rotate", "disk_error_action": "syslog"}
    assert "halt" not in rendered("auditd.conf.j2", hardening_level="cis2", hardening_auditd_settings=mild)


def test_boot_arguments_of_apparmor_are_debians() -> None:
    assert "apparmor=1" in value("__hardening_boot_arguments")
    assert value("__hardening_boot_arguments", family="RedHat") == []
    assert value("__hardening_boot_arguments", hardening_boot_apparmor=False, hardening_boot_arguments=["quiet"]) == [
        "quiet"
    ]


def test_locked_memory_has_a_ceiling_only_where_nobody_waives_it() -> None:
    for template in ("limits.conf.j2", "limits-systemd.conf.j2"):
        assert "memlock" not in rendered(template, hardening_level="cis2").lower()
        assert "memlock" in rendered(template, hardening_level="cis2", hardening_waivers=[]).lower()


def test_the_audit_can_read_the_waivers() -> None:
    assert len(waivers.read(WAIVERS, AUDITORS)) == len(WAIVERS)


def test_the_switches_of_the_role_are_the_waivers_that_say_so() -> None:
    assert {each["id"] for each in WAIVERS if each["when"] == "waived"} == set(OPTIONS["hardening_waivers"]["choices"])


def test_each_waiver_belongs_to_a_concern_and_says_where_it_applies() -> None:
    for each in WAIVERS:
        assert each["when"] in ("always", "waived", "container"), each["id"]
        assert each["concern"] == "host" or OPTIONS[f"hardening_{each['concern']}"]["type"] == "bool", each["id"]


def test_no_waiver_covers_what_it_does_not_name() -> None:
    for waiver in waivers.read(WAIVERS, AUDITORS):
        assert not waiver.covers("any", waiver.auditor, "any", "no_such_rule_of_any_auditor"), waiver.id
