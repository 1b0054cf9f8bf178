# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The set is one version of one repository, held, and its module was really built for Debian's kernel."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

NEWEST_OF_580 = "580.178.04"


@pytest.fixture
def module(host: Host) -> str:
    return host.check_output("find /lib/modules -name 'nvidia.ko*'")


def versions(host: Host) -> dict[str, str]:
    query = "dpkg-query --show --showformat '${db:Status-Status} ${Package} ${Version}\n' '*nvidia*' libcuda1"
    rows = host.check_output(query)
    parts = [row.split(" ") for row in rows.splitlines()]
    return {name: version for status, name, version in parts if status == "installed"}


def test_all_is_the_newest_of_the_branch_though_the_repository_has_newer_ones(host: Host) -> None:
    assert set(versions(host).values()) == {f"{NEWEST_OF_580}-1"}
    assert {"nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-driver-pinning-580"} <= set(versions(host))
    known = host.check_output("apt-cache madison nvidia-smi")
    assert "610.57.04-1" in known and "595.91.07-1" in known


def test_no_ordinary_upgrade_moves_it(host: Host) -> None:
    assert set(versions(host)) <= set(host.check_output("apt-mark showhold").split())
    assert "nvidia" not in host.check_output("apt-get --simulate dist-upgrade").replace("nvidia-driver-standins", "")
    policy = host.check_output("apt-cache policy nvidia-smi")
    assert f"Candidate: {NEWEST_OF_580}-1" in policy and "1000" in policy


def test_module_is_of_the_driver_the_kernel_and_the_kind(host: Host, module: str) -> None:
    kernel = host.check_output("apt-cache depends linux-headers-amd64 | sed -n 's/.*Depends: linux-headers-//p'")
    assert module.startswith(f"/lib/modules/{kernel}/")
    assert host.check_output(f"modinfo --field version {module}") == NEWEST_OF_580
    assert host.check_output(f"modinfo --field vermagic {module}").split()[0] == kernel
    assert host.check_output(f"modinfo --field license {module}") == "Dual MIT/GPL"
    assert host.check_output(f"modinfo --field signer {module}") == "DKMS module signing key"
    assert re.search(rf"nvidia-open/{NEWEST_OF_580}, {kernel}, x86_64: installed", host.check_output("dkms status"))


def test_nouveau_stays_off(host: Host) -> None:
    lines = host.file("/etc/modprobe.d/llm-nvidia.conf").content_string.splitlines()
    assert "blacklist nouveau" in lines and "options nouveau modeset=0" in lines
    assert "nouveau" in host.check_output("modprobe --showconfig | grep '^blacklist nouveau'")


def test_only_this_repository_is_signed_by_this_key(host: Host) -> None:
    source = host.file("/etc/apt/sources.list.d/llm-nvidia.sources").content_string
    assert "Signed-By: /etc/apt/keyrings/llm-nvidia.asc" in source and "Trusted" not in source
    assert "nvidia" not in host.check_output("ls /etc/apt/trusted.gpg.d")


def test_settings_come_at_boot_and_only_with_a_driver(host: Host) -> None:
    assert host.service("llm-nvidia-settings.service").is_enabled
    assert host.service("nvidia-persistenced.service").is_enabled
    assert host.check_output("systemctl is-enabled nvidia-suspend.service || true") == "masked"
    host.check_output("systemctl start llm-nvidia-settings.service")  # without a driver its condition is not met
    assert host.check_output("systemctl show --property=ConditionResult --value llm-nvidia-settings.service") == "no"
    assert host.check_output("systemctl --failed --no-legend") == ""


def test_settings_unit_is_sandboxed(exposure) -> None:
    assert exposure("llm-nvidia-settings.service") <= 2.5
