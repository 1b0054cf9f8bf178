# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nvidia_driver: what counts as the driver's set, what stays, what is refused, and the files it writes."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.baremetal.llm.plugins.filter.mig_layout import mig_layout

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/nvidia_driver"
H200 = {"vendor": "nvidia", "device_id": "0x2335", "device_class": "0x0302", "driver": ""}
SWITCH = {"vendor": "nvidia", "device_id": "0x22a3", "device_class": "0x0680", "driver": ""}
DEBIAN12 = {"os_family": "Debian", "distribution": "Debian", "distribution_version": "12.15"}
ROCKY9 = {"os_family": "RedHat", "distribution": "Rocky", "distribution_version": "9.8"}


def host(facts: dict[str, str] | None = None, packages: tuple[str, ...] = (), **settings: Any) -> Templar:
    facts = {"architecture": "x86_64", "kernel": "6.1.0-40-amd64", **(facts or DEBIAN12)}
    loader = DataLoader()
    found: dict[str, Any] = {}
    for file in ("defaults/main.yml", "vars/main.yml", "vars/refusals.yml", f"vars/{facts['os_family']}.yml"):
        found |= loader.load_from_file(str(ROLE / file), trusted_as_template=True)
    found |= {
        "ansible_facts": facts,
        "ansible_managed": "managed",
        "inventory_hostname": "gpu1",
        "__nvidia_driver_gpus": {"pci": [H200], "switches": [], "gpus": []},
        "__nvidia_driver_list": {"stdout_lines": ["\t".join(each.split(" ")) for each in packages]},
        "__nvidia_driver_headers": True,
        "__nvidia_driver_secure_boot": {"stdout": "off"},
        "__nvidia_driver_key_enrolled": False,
        "__nvidia_driver_layouts": [],
        "__nvidia_driver_choice": trust_as_template("{{ __nvidia_driver_best }}"),
    }
    return Templar(loader, variables={**found, **settings})


def value(name: str, *arguments: Any, **settings: Any) -> Any:
    return host(*arguments, **settings).template(trust_as_template("{{ " + name + " }}"))


def rendered(template: str, **settings: Any) -> str:
    lookup = f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{template}') }}}}"
    return str(host(**settings).template(trust_as_template(lookup)))


def test_the_set_is_the_driver_and_neither_container_tools_nor_toolkits() -> None:
    driver = ["nvidia-smi", "libnvidia-compute-580", "libcuda1", "nvidia-kernel-open-dkms", "nvidia-fabricmanager-575"]
    driver += [
        "linux-modules-nvidia-580-server-open-generic",
        "cuda-drivers",
        "nvlsm",
        "libnvsdm",
        "kmod-nvidia-open-dkms",
    ]
    others = ["nvidia-container-toolkit", "libnvidia-container1", "nvidia-cuda-toolkit", "cuda-toolkit-13-0", "ollama"]
    packages = tuple(f"installed {name} 580.1-1" for name in (*driver, *others))
    assert set(value("__nvidia_driver_installed", packages=packages)) == set(driver)


@pytest.mark.parametrize(
    ("packages", "version"),
    [
        (("installed nvidia-kernel-open-dkms 580.159.03-1", "installed nvidia-smi 580.159.03-1"), "580.159.03"),
        (("installed nvidia-driver-pinning-595 595.91.07-1", "installed nvidia-smi 580.159.03-1"), "580.159.03"),
        (("installed kmod-nvidia-open-dkms 3:595.71.05-1.el9",), "595.71.05"),
        (("installed nvidia-kernel-dkms 535.309.01-0+deb12u1",), "535.309.01"),
        (("unpacked nvidia-smi 580.159.03-1",), ""),
        ((), ""),
    ],
)
def test_version_that_is_there(packages: tuple[str, ...], version: str) -> None:
    assert value("__nvidia_driver_version_there", packages=packages) == version


def test_what_is_half_installed_is_known() -> None:
    packages = ("half-configured nvidia-smi 580.1-1", "installed libcuda1 580.1-1", "config-files nvidia-open 580.1-1")
    assert value("__nvidia_driver_broken", packages=packages) == ["nvidia-smi"]


COMPLETE_595 = tuple(
    f"installed {name} 595.71.05-1"
    for name in ("nvidia-driver-pinning-595", "nvidia-driver-cuda", "nvidia-kernel-open-dkms")
)


def test_a_driver_that_still_fits_stays_though_another_branch_is_first() -> None:
    assert value("__nvidia_driver_choice.branch") == 580
    assert value("__nvidia_driver_choice.branch", packages=COMPLETE_595) == 595
    assert value("__nvidia_driver_change", packages=COMPLETE_595) is False
    assert value("__nvidia_driver_change", packages=COMPLETE_595, nvidia_driver_branch="580") is True
    assert value("__nvidia_driver_change", packages=COMPLETE_595, nvidia_driver_version="595.91.07") is True
    assert value("__nvidia_driver_upgrade", packages=()) is False


def test_repository_and_key_follow_the_distribution_and_the_mirror() -> None:
    assert (
        value("__nvidia_driver_repository_url")
        == "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
    )
    mirror = {"nvidia_driver_source": "mirror", "nvidia_driver_mirror_url": "https://mirror.example/cuda/"}
    assert value("__nvidia_driver_repository_url", ROCKY9, **mirror) == "https://mirror.example/cuda/rhel9/x86_64/"
    assert value("__nvidia_driver_fingerprint") == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert value("__nvidia_driver_fingerprint", ROCKY9) == "610C7B14E068A878070DA4E99CD0A493D42D0685"
    assert value("__nvidia_driver_fingerprint", nvidia_driver_key_fingerprint="A" * 40) == "A" * 40


@pytest.mark.parametrize(
    ("address", "theirs"),
    [
        ("https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64", True),
        ("https://mirror.example/cuda/ubuntu2404/sbsa/", True),
        ("http://deb.debian.org/debian", False),
        ("http://ports.example/ubuntu/", False),
    ],
)
def test_which_repositories_are_nvidias(address: str, theirs: bool) -> None:
    assert value(f"'{address}' is match(__nvidia_driver_theirs)") is theirs


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"nvidia_driver_source": "mirror"}, "nvidia_driver_mirror_url is"),
        ({"nvidia_driver_key_fingerprint": "1234"}, "write the 40 hex digits"),
        ({"nvidia_driver_graphics_clocks_mhz": [1980, 345]}, "give the lowest and the highest clock"),
        ({"nvidia_driver_power_limit_watts": -1}, "give watts, or 0"),
        ({"nvidia_driver_gsp_firmware": False}, "open modules need the firmware"),
        ({"nvidia_driver_version": "580.1.1", "nvidia_driver_branch": "595"}, "is not of nvidia_driver_branch 595"),
        ({"__nvidia_driver_headers": False}, "has no headers"),
        ({"__nvidia_driver_secure_boot": {"stdout": "on"}}, "the key that DKMS signs with is not enrolled"),
        ({"__nvidia_driver_layouts": [{"refusal": "Too much."}]}, "nvidia_driver_mig cannot be: Too much."),
    ],
)
def test_refusals(settings: dict[str, Any], sentence: str) -> None:
    assert value("__nvidia_driver_refusals") == []
    assert sentence in " ".join(value("__nvidia_driver_refusals", **settings))


def test_a_host_is_live_only_with_its_own_card_and_kernel() -> None:
    none = {"pci": [], "switches": [], "gpus": []}
    assert value("__nvidia_driver_live") is True
    assert value("__nvidia_driver_live", nvidia_driver_cards=["10de:2335"]) is False
    assert value("__nvidia_driver_live", nvidia_driver_kernel="6.1.0-1-amd64") is False
    assert value("__nvidia_driver_live", __nvidia_driver_gpus=none) is False
    assert value("__nvidia_driver_decision.state", __nvidia_driver_gpus=none) == "no_card"


def test_switches_bring_the_fabric_manager() -> None:
    board = {"pci": [H200] * 8, "switches": [SWITCH] * 4, "gpus": []}
    found = value("__nvidia_driver_choice", __nvidia_driver_gpus=board)
    assert found["fabric_packages"] == ["nvidia-fabricmanager", "libnvidia-nscq"]
    assert found["fabric_services"] == ["nvidia-fabricmanager"]


def test_module_options() -> None:
    plain = rendered("modprobe.conf.j2")
    assert plain.splitlines() == ["# managed", "blacklist nouveau", "options nouveau modeset=0"]
    more = rendered(
        "modprobe.conf.j2",
        nvidia_driver_gsp_firmware=False,
        nvidia_driver_module_options={"NVreg_EnableStreamMemOPs": 1},
    )
    assert more.splitlines()[3:] == [
        "options nvidia NVreg_EnableGpuFirmware=0",
        "options nvidia NVreg_EnableStreamMemOPs=1",
    ]


def commands(**settings: Any) -> list[str]:
    lines = rendered("llm-nvidia-settings.service.j2", **settings).splitlines()
    return [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]


def test_gpu_settings_come_before_who_uses_them() -> None:
    assert commands() == ["/bin/true"]
    assert commands(
        nvidia_driver_compute_mode="exclusive_process",
        nvidia_driver_power_limit_watts=500,
        nvidia_driver_graphics_clocks_mhz=[345, 1980],
    ) == [
        "/usr/bin/nvidia-smi --compute-mode=EXCLUSIVE_PROCESS",
        "/usr/bin/nvidia-smi --power-limit=500",
        "/usr/bin/nvidia-smi --lock-gpu-clocks=345,1980",
        "/bin/true",
    ]
    unit = rendered("llm-nvidia-settings.service.j2", nvidia_driver_drain_services=["vllm.service"])
    assert "Before=vllm.service ollama.service" in unit
    assert "ConditionPathExists=/proc/driver/nvidia/version" in unit


def test_instances_are_cleared_before_they_are_made() -> None:
    layout = mig_layout("10de:2335", {"3g.71gb": 2}, 1)
    assert commands(__nvidia_driver_layouts=[layout]) == [
        "/usr/bin/nvidia-smi -i 1 -mig 1",
        "-/usr/bin/nvidia-smi mig -i 1 -dci",
        "-/usr/bin/nvidia-smi mig -i 1 -dgi",
        "/usr/bin/nvidia-smi mig -i 1 -cgi 3g.71gb:0,3g.71gb:4 -C",
        "/bin/true",
    ]
