# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what a block device carries and who uses it, and changes nothing.

Nothing is left out in silence: a device that cannot be read is an error, never an empty device.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

SECTOR = 512
PARTITION_TABLES = frozenset(["atari", "bsd", "dos", "gpt", "mac", "minix", "PMBR", "sgi", "solaris_x86", "sun"])
RAID_TYPES = ("raid_member", "isw_raid", "ddf_raid", "promise_fasttrack", "silicon_medley", "via_raid", "nvidia_raid")
# Data that blkid does not know, as plain dm-crypt or behind a lost header: looked for at start, end and in between.
SAMPLE_HEAD = 4 * 1024 * 1024
SAMPLE_BYTES = 64 * 1024
SAMPLES = 64

Run = Callable[[List[str]], Tuple[int, str, str]]
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Finding:
    """One reason to leave a device alone: ``kind`` for programs, ``what`` for people."""

    kind: str
    what: str


@dataclass(frozen=True)
class Signature:
    """What libblkid recognizes: its type ("xfs", "gpt", "LVM2_member", ...), label and UUID."""

    type: str
    uuid: str
    label: str


@dataclass(frozen=True)
class LuksMapping:
    """A LUKS mapping that is open on the device."""

    name: str
    kernel_name: str
    size_bytes: int
    mounts: Tuple[str, ...]


def parse_signatures(text: str) -> Tuple[Signature, ...]:
    """The answer of ``wipefs --json``, empty where there is none; each type once (LUKS2 and GPT are there twice)."""
    rows = (json.loads(text).get("signatures") or []) if text.strip() else []
    found: Dict[str, Signature] = {}
    for row in rows:
        found.setdefault(row["type"], Signature(row["type"], row.get("uuid") or "", row.get("label") or ""))
    return tuple(found.values())


def signature_finding(signature: Signature) -> Finding:
    """The same for people."""
    kind = signature.type
    named = f" labelled {signature.label}" if signature.label else ""
    if kind in PARTITION_TABLES:
        return Finding("partition_table", f"a partition table ({kind})")
    if kind == "LVM2_member":
        return Finding("lvm", "an LVM physical volume")
    if any(each in kind for each in RAID_TYPES):
        return Finding("raid", f"a RAID member ({kind}{named})")
    if kind == "swap":
        return Finding("signature", f"a swap area{named}")
    if kind == "crypto_LUKS":
        return Finding("luks", f"a LUKS header{named}")
    return Finding("signature", f"a signature of type {kind}{named}")


def parse_mounts(mountinfo: str) -> Dict[str, List[str]]:
    """Mount points by "major:minor", from the text of /proc/self/mountinfo."""
    mounts: Dict[str, List[str]] = {}
    for line in mountinfo.splitlines():
        columns = line.split()
        if len(columns) > 4:
            mounts.setdefault(columns[2], []).append(_unescape(columns[4]))
    return mounts


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def parse_swaps(swaps: str) -> List[str]:
    """Devices in the text of /proc/swaps."""
    return [_unescape(line.split()[0]) for line in swaps.splitlines()[1:] if line.split()]


def _text(path: Path) -> str:
    """The file's text, "" where it is absent: sysfs shows each attribute for some kinds of devices only."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Kernel:
    """What the kernel says of its block devices: sysfs, mounts and swaps; a test hands in its own."""

    sysfs: Path
    mounts: Mapping[str, List[str]]
    swaps: Tuple[str, ...]

    def of(self, name: str) -> Path:
        return self.sysfs / "class/block" / name

    def size_bytes(self, name: str) -> int:
        return int(_text(self.of(name) / "size") or 0) * SECTOR

    def partitions(self, name: str) -> List[str]:
        folder = self.of(name)
        found = [each.name for each in folder.iterdir() if (each / "partition").exists()] if folder.is_dir() else []
        return sorted(found)

    def holders(self, name: str) -> List[str]:
        folder = self.of(name) / "holders"
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []

    def tree(self, name: str) -> Iterator[str]:
        """The device and everything built upon it."""
        yield name
        for each in self.partitions(name) + self.holders(name):
            yield from self.tree(each)

    def mounted(self, name: str) -> List[str]:
        return list(self.mounts.get(_text(self.of(name) / "dev"), []))

    def mapper_name(self, name: str) -> str:
        return _text(self.of(name) / "dm/name")

    def luks_mapping(self, name: str) -> Optional[LuksMapping]:
        """The LUKS mapping directly on this device."""
        for holder in self.holders(name):
            if _text(self.of(holder) / "dm/uuid").startswith("CRYPT-LUKS"):
                mounts = tuple(self.mounted(holder))
                return LuksMapping(self.mapper_name(holder), holder, self.size_bytes(holder), mounts)
        return None


def uses(kernel: Kernel, name: str) -> List[Finding]:
    """Who uses the device or anything built upon it now."""
    found = []
    for each in kernel.tree(name):
        mounted = kernel.mounted(each)
        if "/" in mounted:
            found.append(Finding("root", "the system's root file system"))
        found += [Finding("mount", f"a file system mounted at {at}") for at in mounted if at != "/"]
        if each in kernel.swaps:
            found.append(Finding("swap", "a swap area in use"))
        for holder in kernel.holders(each):
            label = kernel.mapper_name(holder) or holder
            array = holder.startswith("md")
            what = f"the device of {'RAID array' if array else 'mapping'} {label}, which is active"
            found.append(Finding("array" if array else "holder", what))
    partitions = kernel.partitions(name)
    if partitions:
        found.append(Finding("partition", f"partitions ({', '.join(partitions)})"))
    return found


def first_data(read_at: ReadAt, size: int) -> Optional[int]:
    """Where the first bytes other than zero were seen, None for a device that reads as empty.

    The head and the tail are read whole, in between ``SAMPLES`` places; so None is no proof, but a signature, a header
    or a file system that was ever used is found.
    """
    places = [(0, min(size, SAMPLE_HEAD))]
    step = max(size // (SAMPLES + 1), SAMPLE_BYTES)
    places += [(at - at % SECTOR, SAMPLE_BYTES) for at in range(step, size - SAMPLE_BYTES, step)]
    places.append((max(0, size - SAMPLE_HEAD // 4), SAMPLE_HEAD // 4))
    for at, length in places:
        data = read_at(at, length)
        if data.strip(b"\0"):
            return at + len(data) - len(data.lstrip(b"\0"))
    return None


def parse_luks_dump(text: str) -> Dict[str, Any]:
    """The parts of ``cryptsetup luksDump --dump-json-metadata`` that people ask for."""
    data = json.loads(text)
    segment: Dict[str, Any] = next(iter(data.get("segments", {}).values()), {})
    return {
        "keyslots": [
            {
                "id": int(slot),
                "kdf": each.get("kdf", {}).get("type", ""),
                "memory_kib": each.get("kdf", {}).get("memory", 0),
                "iterations": each.get("kdf", {}).get("time", each.get("kdf", {}).get("iterations", 0)),
                "parallel": each.get("kdf", {}).get("cpus", 0),
                "key_bits": each.get("key_size", 0) * 8,
            }
            for slot, each in sorted(data.get("keyslots", {}).items(), key=lambda item: int(item[0]))
        ],
        "tokens": [
            {
                "id": int(token),
                "type": each.get("type", ""),
                "keyslots": sorted(int(slot) for slot in each.get("keyslots", [])),
                "pcrs": each.get("tpm2-pcrs", []),
            }
            for token, each in sorted(data.get("tokens", {}).items(), key=lambda item: int(item[0]))
        ],
        "cipher": segment.get("encryption", ""),
        "sector_size": segment.get("sector_size", SECTOR),
        "offset_bytes": int(segment.get("offset", 0)),
    }


def examine(path: str, kernel: Kernel, run: Run, opener: Callable[[str, int], int] = os.open) -> Dict[str, Any]:
    """All about one device; ``run(argv)`` gives (status, output, errors) and raises for a program that is not there."""
    empty = {"path": path, "exists": False, "findings": [], "signatures": [], "luks": None, "mapping": None}
    if not os.path.exists(path):
        return {**empty, "real_path": "", "size_bytes": 0, "luks_bytes": 0}
    real = os.path.realpath(path)
    name = os.path.basename(real)
    if not kernel.of(name).exists():
        raise ValueError(f"{path} is no block device; give the device that the volume shall be on")
    status, out, errors = run(["wipefs", "--json", "--output=TYPE,UUID,LABEL,OFFSET", real])
    if status:
        raise ValueError(f"{path} cannot be examined: {errors.strip()}")
    signatures = parse_signatures(out)
    mapping = kernel.luks_mapping(name)
    found = uses(kernel, name)
    found += [signature_finding(each) for each in signatures]
    found += _open_findings(real, kernel.size_bytes(name), not signatures, not found, opener)
    luks = next((_luks(each, real, run) for each in signatures if each.type == "crypto_LUKS"), None)
    return {
        "path": path,
        "exists": True,
        "real_path": real,
        "size_bytes": kernel.size_bytes(name),
        "findings": [each.__dict__ for each in found],
        "signatures": [each.__dict__ for each in signatures],
        "luks": luks,
        "mapping": {**mapping.__dict__, "mounts": list(mapping.mounts)} if mapping else None,
    }


def _luks(signature: Signature, real: str, run: Run) -> Dict[str, Any]:
    """UUID and label always; key slots and the like where cryptsetup is installed and can read them (LUKS2)."""
    try:
        status, out, _errors = run(["cryptsetup", "luksDump", "--dump-json-metadata", real])
    except FileNotFoundError:
        status, out = 127, ""
    details = parse_luks_dump(out) if status == 0 else {}
    return {"uuid": signature.uuid, "label": signature.label, **details}


def _open_findings(
    real: str, size: int, unsigned: bool, unused: bool, opener: Callable[[str, int], int]
) -> List[Finding]:
    """What only opening tells: whether the kernel holds the device (also ZFS and Btrfs do), and unrecognized data."""
    found = []
    try:
        descriptor = opener(real, os.O_RDONLY | os.O_EXCL)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise ValueError(f"{real} cannot be opened: {exc.strerror}") from None
        if unused:
            found.append(Finding("holder", "a device that the kernel holds open"))
        descriptor = opener(real, os.O_RDONLY)
    try:
        at = first_data(lambda offset, length: os.pread(descriptor, length, offset), size) if unsigned else None
    except OSError as exc:
        raise ValueError(f"{real} cannot be read: {exc.strerror}") from None
    finally:
        os.close(descriptor)
    if at is not None:
        found.append(Finding("data", f"data of an unknown kind (first seen at byte {at})"))
    return found


def kernel_of(sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> Kernel:
    """The kernel of this host."""
    swaps = (os.path.basename(os.path.realpath(each)) for each in parse_swaps(_text(proc / "swaps")))
    return Kernel(sysfs, parse_mounts(_text(proc / "self/mountinfo")), tuple(swaps))
