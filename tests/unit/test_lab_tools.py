# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's tools: which scenarios are chosen, and that the tool for virtual machines ends nobody else's process."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "molecule/shared/vm/vm"
FOUND = ["hardening", "luks_vm", "pki", "selinux", "selinux_vm", "site"]


def tool(path: Path, monkeypatch: pytest.MonkeyPatch, lab: Path) -> ModuleType:
    monkeypatch.setenv("LAB", str(lab))
    loader = importlib.machinery.SourceFileLoader(path.name, str(path))
    spec = importlib.util.spec_from_loader(path.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    # No *.pyc beside the tools.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("words", "on_vms", "names"),
    [
        ([], False, ["pki", "selinux", "site"]),
        (["site", "pki"], False, ["site", "pki"]),
        (["luks", "selinux"], False, ["luks_vm", "selinux"]),
        (["selinux_vm"], False, ["selinux_vm"]),
        (["absent"], False, ["absent"]),
        (["hardening"], False, ["hardening"]),
        ([], True, ["luks_vm", "selinux_vm"]),
        (["selinux"], True, ["selinux_vm"]),
        (["pki"], True, ["pki_vm"]),
    ],
)
def test_chosen_scenarios(
    words: list[str], on_vms: bool, names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert tool(ROOT / "tests/tools/scenarios", monkeypatch, tmp_path).chosen(FOUND, words, on_vms) == names


def vm(lab: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LAB": str(lab)}
    return subprocess.run([VM, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["up", "a", "bookworm", "--address", "10.77.2.5"], "--address 10.77.2.5 is not in 10.77.3.0/24"),
        (["up", "a", "bookworm", "--address", "10.77.3.5", "--nics", "3"], "--nics 3 is not between 1 and 2"),
        (["up", "a", "bookworm", "--address", "10.77.3.5", "--disks", "1g," * 9], "and 9 disks are more than"),
        (["up", "a", "sid", "--address", "10.77.3.5"], "there is no image variant 'sid'"),
        (["reset", "a"], "a does not run"),
        (["ssh", "a", "true"], "there is no host a"),
    ],
)
def test_refusals(words: list[str], says: str, tmp_path: Path) -> None:
    done = vm(tmp_path, *words)
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("vm/hosts/*/*"))


@pytest.mark.parametrize("name", ["qemu-system-x86_64", "sleep"])
def test_a_process_of_another_folder_is_left_alone(name: str, tmp_path: Path) -> None:
    """A number in a left-over file may be another program's by now, even another qemu's."""
    folder = tmp_path / "vm/hosts/gone"
    folder.mkdir(parents=True)
    (folder / "host.json").write_text(json.dumps({"variant": "bookworm", "address": "10.77.3.5"}))
    with subprocess.Popen([name, "60"], executable="/bin/sleep", cwd=tmp_path) as other:
        (folder / "pid").write_text(f"{other.pid}\n")
        assert "ended" in vm(tmp_path, "list").stdout
        assert vm(tmp_path, "down", "gone").stdout == "gone is removed\n"
        assert other.poll() is None and not folder.exists()
        other.kill()


def test_a_host_of_this_folder_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "vm/hosts/here"
    folder.mkdir(parents=True)
    (folder / "host.json").write_text(json.dumps({"variant": "bookworm", "address": "10.77.3.5"}))
    with subprocess.Popen(["qemu-system-x86_64", "60"], executable="/bin/sleep", cwd=folder) as process:
        (folder / "pid").write_text(f"{process.pid}\n")
        assert f"process {process.pid}" in vm(tmp_path, "list").stdout
        assert vm(tmp_path, "down", "--all").stdout == "here is removed\n"
        assert process.wait(5) != 0 and not folder.exists()


def test_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = tool(VM, monkeypatch, tmp_path)
    second = module.nic_address({"address": "10.77.3.11"}, 1)
    assert (str(second), module.mac(second), module.address6(second)) == (
        "10.77.4.11",
        "02:00:0a:4d:04:0b",
        "fd77:77:4::11",
    )


def test_a_scenarios_own_preparation_is_used() -> None:
    own = {path.parent.name for path in ROOT.glob("molecule/*/prepare.yml") if path.parent.name != "shared"}
    named = set()
    for path in ROOT.glob("molecule/*/molecule.yml"):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if config.get("provisioner", {}).get("playbooks", {}).get("prepare") == "prepare.yml":
            named.add(path.parent.name)
    assert own == named
