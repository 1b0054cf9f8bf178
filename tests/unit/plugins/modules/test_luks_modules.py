# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""block_device_info and luks_header_info: programs called, answers given, refusals in a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils import block_device
from ansible_collections.baremetal.llm.plugins.modules import block_device_info, luks_header_info
from ansible_collections.baremetal.llm.tests.unit.plugins.module_utils.test_luks_header import UUID, image
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Answers by program; one without an answer is not installed."""
    answers: dict[str, Any] = {}

    def run(self: AnsibleModule, argv: list[str], **_more: Any) -> tuple[int, str, str]:
        answer: tuple[int, str, str] = answers[os.path.basename(argv[0])](argv)
        return answer

    def find(self: AnsibleModule, name: str, required: bool = False) -> str | None:
        return f"/sbin/{name}" if name in answers else None

    monkeypatch.setattr(AnsibleModule, "run_command", run)
    monkeypatch.setattr(AnsibleModule, "get_bin_path", find)
    return answers


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "sdb"
    path.write_bytes(b"\0" * 65536)
    folder = tmp_path / "sys/class/block/sdb"
    folder.mkdir(parents=True)
    (folder / "size").write_text("128")
    kernel = block_device.Kernel(tmp_path / "sys", {}, ())
    monkeypatch.setattr(block_device, "kernel_of", lambda: kernel)
    monkeypatch.setattr(block_device.os, "O_EXCL", 0)
    return str(path)


def test_an_empty_disk_and_one_that_is_not_there(programs: dict[str, Any], disk: str) -> None:
    programs["wipefs"] = lambda argv: (0, "", "")
    found = run_module(block_device_info, {"devices": [disk, "/dev/none"]}, check=True)
    assert found["changed"] is False
    assert [(each["exists"], each["findings"]) for each in found["devices"]] == [(True, []), (False, [])]


def test_a_host_without_cryptsetup_still_sees_a_header(programs: dict[str, Any], disk: str) -> None:
    programs["wipefs"] = lambda argv: (0, '{"signatures": [{"type": "crypto_LUKS", "uuid": "u", "label": "l"}]}', "")
    found = run_module(block_device_info, {"devices": [disk]})
    assert found["devices"][0]["luks"] == {"uuid": "u", "label": "l"}


def test_a_host_without_wipefs_is_refused(programs: dict[str, Any], disk: str) -> None:
    found = run_module(block_device_info, {"devices": [disk]})
    assert found["failed"] and "wipefs is not installed" in found["msg"]


def header(programs: dict[str, Any], content: bytes) -> None:
    def backup(argv: list[str]) -> tuple[int, str, str]:
        assert argv[1] == "luksHeaderBackup"
        Path(argv[-1]).write_bytes(content)
        return 0, "", ""

    programs["cryptsetup"] = backup


def test_a_header_is_returned_until_it_is_known(programs: dict[str, Any], tmp_path: Path) -> None:
    header(programs, image({0: 32768}))
    arguments = {"device": "/dev/x", "directory": str(tmp_path)}
    first = run_module(luks_header_info, arguments)
    assert first["uuid"] == UUID and first["content"]
    again = run_module(luks_header_info, {**arguments, "known_sha256": first["sha256"]})
    assert (again["sha256"], again["content"]) == (first["sha256"], "")
    header(programs, image({0: 32768, 1: 1048576}))
    assert run_module(luks_header_info, {**arguments, "known_sha256": first["sha256"]})["content"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_header_is_refused_and_leaves_nothing(programs: dict[str, Any], tmp_path: Path) -> None:
    header(programs, b"nothing")
    found = run_module(luks_header_info, {"device": "/dev/x", "directory": str(tmp_path)})
    assert found["failed"] and "/dev/x" in found["msg"] and "no backup of a LUKS2 header" in found["msg"]
    programs["cryptsetup"] = lambda argv: (1, "", "Device /dev/x does not exist")
    found = run_module(luks_header_info, {"device": "/dev/x", "directory": str(tmp_path)})
    assert found["failed"] and "does not exist" in found["msg"]
    assert list(tmp_path.iterdir()) == []
