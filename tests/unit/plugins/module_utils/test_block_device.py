# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device carries and who uses it, from a sysfs of the test's own."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import block_device
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024 * 1024


class World:
    """A host with files in place of devices."""

    def __init__(self, folder: Path) -> None:
        self.dev = folder / "dev"
        self.dev.mkdir()
        self.sysfs = folder / "sys"
        self.mounts: dict[str, list[str]] = {}
        self.swaps: list[str] = []
        self.signatures: dict[str, list[dict[str, str]]] = {}
        self.luks_dump: Any = None
        self.busy: set[str] = set()
        self.count = 0

    def disk(self, name: str, data: bytes = b"", size: int = 8 * MIB, mapper: str = "", uuid: str = "") -> str:
        path = self.dev / name
        path.write_bytes(data)
        os.truncate(path, size)
        folder = self.sysfs / "class/block" / name
        (folder / "holders").mkdir(parents=True)
        self.count += 1
        (folder / "dev").write_text(f"8:{self.count}\n")
        (folder / "size").write_text(f"{size // 512}\n")
        if mapper:
            (folder / "dm").mkdir()
            (folder / "dm/name").write_text(mapper)
            (folder / "dm/uuid").write_text(uuid)
        return str(path)

    def hold(self, name: str, holder: str) -> None:
        (self.sysfs / "class/block" / name / "holders" / holder).mkdir()

    def partition(self, disk: str, name: str) -> None:
        self.disk(name)
        (self.sysfs / "class/block" / disk / name).mkdir()
        (self.sysfs / "class/block" / disk / name / "partition").write_text("1")

    def mount(self, name: str, at: str) -> None:
        number = (self.sysfs / "class/block" / name / "dev").read_text().strip()
        self.mounts.setdefault(number, []).append(at)

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        name = os.path.basename(argv[-1])
        if argv[0] == "wipefs":
            rows = self.signatures.get(name)
            return 0, json.dumps({"signatures": rows}) if rows else "", ""
        if self.luks_dump is None:
            raise FileNotFoundError(argv[0])
        return 0, json.dumps(self.luks_dump), ""

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_EXCL and os.path.basename(path) in self.busy:
            raise OSError(errno.EBUSY, "busy")
        return os.open(path, flags & ~os.O_EXCL)

    def examine(self, name: str) -> dict[str, Any]:
        kernel = block_device.Kernel(self.sysfs, self.mounts, tuple(self.swaps))
        return block_device.examine(str(self.dev / name), kernel, self.run, self.open)

    def kinds(self, name: str) -> list[str]:
        return [each["kind"] for each in self.examine(name)["findings"]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_empty_disk_carries_nothing(world: World) -> None:
    world.disk("sdb")
    found = world.examine("sdb")
    assert (found["findings"], found["luks"], found["mapping"], found["size_bytes"]) == ([], None, None, 8 * MIB)


def test_a_missing_disk_is_told(world: World) -> None:
    assert world.examine("sdz")["exists"] is False


def test_a_file_is_no_device(world: World) -> None:
    (world.dev / "file").write_text("")
    with pytest.raises(ValueError, match="no block device"):
        world.examine("file")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ext4", "signature"),
        ("ceph_bluestore", "signature"),
        ("zfs_member", "signature"),
        ("swap", "signature"),
        ("gpt", "partition_table"),
        ("dos", "partition_table"),
        ("LVM2_member", "lvm"),
        ("linux_raid_member", "raid"),
        ("ddf_raid_member", "raid"),
        ("crypto_LUKS", "luks"),
    ],
)
def test_signatures_are_named(world: World, kind: str, expected: str) -> None:
    world.disk("sdb")
    world.signatures["sdb"] = [{"type": kind, "offset": "0x0"}, {"type": kind, "offset": "0x400"}]
    assert world.kinds("sdb") == [expected]


def test_partitions_and_what_is_mounted_on_them(world: World) -> None:
    world.disk("sdb")
    world.partition("sdb", "sdb1")
    world.mount("sdb1", "/srv")
    assert world.kinds("sdb") == ["mount", "partition"]


def test_the_root_file_system_below_lvm_and_luks(world: World) -> None:
    world.disk("sda")
    world.partition("sda", "sda1")
    world.disk("dm-0", mapper="crypt", uuid="CRYPT-LUKS2-1-crypt")
    world.disk("dm-1", mapper="vg-root")
    world.hold("sda1", "dm-0")
    world.hold("dm-0", "dm-1")
    world.mount("dm-1", "/")
    assert world.kinds("sda") == ["holder", "holder", "root", "partition"]


def test_members_of_an_array_and_swap(world: World) -> None:
    world.disk("sdb")
    world.disk("md0")
    world.hold("sdb", "md0")
    world.swaps.append("md0")
    assert world.kinds("sdb") == ["array", "swap"]


def test_what_only_the_kernel_knows(world: World) -> None:
    world.disk("sdb")
    world.busy.add("sdb")
    assert world.kinds("sdb") == ["holder"]


def test_an_open_luks_mapping_with_its_mount(world: World) -> None:
    world.disk("sdb")
    world.disk("dm-0", mapper="models", uuid="CRYPT-LUKS2-1234-models", size=4 * MIB)
    world.hold("sdb", "dm-0")
    world.mount("dm-0", "/srv/models")
    mapping = world.examine("sdb")["mapping"]
    assert (mapping["name"], mapping["size_bytes"], mapping["mounts"]) == ("models", 4 * MIB, ["/srv/models"])


def test_key_slots_where_cryptsetup_is_there(world: World) -> None:
    world.disk("sdb")
    world.signatures["sdb"] = [{"type": "crypto_LUKS", "uuid": "u", "label": "llm-models"}]
    assert world.examine("sdb")["luks"] == {"uuid": "u", "label": "llm-models"}
    kdf = {"type": "argon2id", "time": 4, "memory": 65536, "cpus": 1}
    world.luks_dump = {
        "keyslots": {
            "10": {"key_size": 64, "kdf": {"type": "pbkdf2", "iterations": 1000}},
            "2": {"key_size": 64, "kdf": kdf},
        },
        "tokens": {"0": {"type": "systemd-tpm2", "keyslots": ["10"], "tpm2-pcrs": [7]}},
        "segments": {"0": {"offset": "16777216", "encryption": "aes-xts-plain64", "sector_size": 4096}},
    }
    luks = world.examine("sdb")["luks"]
    assert [each["id"] for each in luks["keyslots"]] == [2, 10]
    assert luks["keyslots"][0]["memory_kib"] == 65536 and luks["keyslots"][0]["key_bits"] == 512
    assert luks["tokens"] == [{"id": 0, "type": "systemd-tpm2", "keyslots": [10], "pcrs": [7]}]
    assert (luks["cipher"], luks["offset_bytes"], luks["sector_size"]) == ("aes-xts-plain64", 16777216, 4096)


@pytest.mark.parametrize("at", [0, 1, 4 * MIB - 1, 7 * MIB, 8 * MIB - 1])
def test_data_without_a_signature_is_seen_at_the_head_and_the_tail(world: World, at: int) -> None:
    world.disk("sdb", data=b"\0" * at + b"x")
    found = world.examine("sdb")["findings"]
    assert [each["kind"] for each in found] == ["data"] and f"byte {at})" in found[0]["what"]


@given(start=st.integers(0, 60 * MIB))
def test_a_run_of_data_longer_than_a_step_is_always_seen(start: int) -> None:
    size, length = 64 * MIB, 2 * MIB

    def read_at(offset: int, count: int) -> bytes:
        inside = max(0, min(offset + count, start + length) - max(offset, start))
        return b"\0" * (count - inside) + b"x" * inside

    assert block_device.first_data(read_at, size) is not None


def test_a_device_that_cannot_be_read_is_an_error(world: World) -> None:
    world.disk("sdb")
    os.unlink(world.dev / "sdb")
    (world.dev / "sdb").mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        world.examine("sdb")


def test_a_tool_that_fails_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.disk("sdb")
    monkeypatch.setattr(world, "run", lambda argv: (1, "", "I/O error"))
    with pytest.raises(ValueError, match="I/O error"):
        world.examine("sdb")


def test_tables_of_the_kernel_are_read() -> None:
    mountinfo = "36 35 8:1 / /srv/my\\040models rw - xfs /dev/sda1 rw\n"
    assert block_device.parse_mounts(mountinfo) == {"8:1": ["/srv/my models"]}
    assert block_device.parse_swaps("Filename Type\n/dev/sda2 partition 1 0 -2\n") == ["/dev/sda2"]
