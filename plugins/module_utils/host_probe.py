# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a Linux host says about itself, and changes nothing.

Every function gets the text, folder or callable that it asks, so that a test can hand in a recorded one.
Memory and disk space are MiB (2**20 bytes), always rounded down.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Tuple

MIB = 1024 * 1024
KIB_PER_MIB = 1024
TCP_LISTEN = "0A"
# A model store has tens of files. A wrong path such as / has millions; counting too little only asks for more space.
COUNTED_FILES_MAX = 100_000

Run = Callable[[List[str]], Tuple[int, str]]
Fetch = Callable[[str], int]


@dataclass(frozen=True)
class Listener:
    """One listening TCP socket; holders have it open, empty where the caller may not see them."""

    address: str
    port: int
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Holder:
    """A process: its id, its name (the kernel keeps 15 characters) and its systemd unit, empty where it has none."""

    pid: int
    process: str
    unit: str


@dataclass(frozen=True)
class DiskSpace:
    """Free space for a path: ``existing`` is the path or its nearest parent that exists.

    ``device`` tells file systems apart; ``used_mib`` is what the path holds already, 0 where it does not exist.
    """

    path: str
    existing: str
    device: int
    free_mib: int
    used_mib: int


@dataclass(frozen=True)
class TimeSync:
    """``state`` is "synchronized", "unsynchronized" or "unknown"; ``source`` is the program that said so."""

    state: str
    source: str


def read_text(path: Path) -> str:
    """The file's text, "" where it is absent or unreadable: a host without it simply does not say."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_os_release(text: str) -> dict[str, str]:
    """``{"id", "version", "name"}`` of an os-release file, each "" where it is absent."""
    values: Dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator:
            values[key] = value.strip().strip("\"'")
    return {
        "id": values.get("ID", "").lower(),
        "version": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME", ""),
    }


def parse_memory_mib(meminfo: str) -> int:
    """MemTotal of /proc/meminfo in MiB, 0 where it is absent."""
    match = re.search(r"^MemTotal:\s+(\d+)\s+kB$", meminfo, re.MULTILINE)
    return int(match.group(1)) // KIB_PER_MIB if match else 0


def parse_cpu_flags(cpuinfo: str) -> list[str]:
    """Sorted CPU flags that every processor in /proc/cpuinfo has ("flags" on x86_64, "Features" on aarch64)."""
    rows = [frozenset(row.split()) for row in re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)]
    common: FrozenSet[str] = rows[0].intersection(*rows[1:]) if rows else frozenset()
    return sorted(common)


def parse_address(raw: str, byteorder: str = sys.byteorder) -> str:
    """The address in a column of /proc/net/tcp, hex words of 32 bits in the host's order; mapped IPv4 becomes IPv4."""
    data = bytes.fromhex(raw)
    if byteorder == "little":
        data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    address = ipaddress.ip_address(data)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse_listeners(table: str) -> list[tuple[str, int, int]]:
    """``(address, port, inode)`` of each listening socket in the text of /proc/net/tcp or /proc/net/tcp6."""
    found = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 9 and columns[3] == TCP_LISTEN:
            address, port = columns[1].split(":")
            found.append((parse_address(address), int(port, 16), int(columns[9])))
    return found


def parse_unit(cgroup: str) -> str:
    """The innermost ``*.service`` in the text of /proc/PID/cgroup, "" where there is none."""
    units = [part for line in cgroup.splitlines() for part in line.split("/") if part.endswith(".service")]
    return units[-1] if units else ""


def socket_holders(proc: Path, inodes: Iterable[int]) -> dict[int, tuple[Holder, ...]]:
    """Processes below ``proc`` that have a socket of these inodes open; those that may not be read are left out."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holders: Dict[int, List[Holder]] = {inode: [] for inode in wanted.values()}
    for folder in sorted(
        (entry for entry in proc.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name)
    ):
        for inode in sorted({wanted[link] for link in _links(folder / "fd") if link in wanted}):
            unit = parse_unit(read_text(folder / "cgroup"))
            holders[inode].append(Holder(int(folder.name), read_text(folder / "comm").strip(), unit))
    return {inode: tuple(found) for inode, found in holders.items()}


def _links(folder: Path) -> list[str]:
    """Targets of the links in a folder; a process that ended meanwhile has none."""
    targets = []
    try:
        for name in os.listdir(folder):
            try:
                targets.append(os.readlink(folder / name))
            except OSError:
                continue
    except OSError:
        return []
    return targets


def listeners(proc: Path) -> list[Listener]:
    """All listening TCP sockets of this network namespace, with their holders, sorted by port and address."""
    rows = [row for table in ("net/tcp", "net/tcp6") for row in parse_listeners(read_text(proc / table))]
    holders = socket_holders(proc, (inode for _address, _port, inode in rows))
    found = (Listener(address, port, holders[inode]) for address, port, inode in rows)
    return sorted(found, key=lambda each: (each.port, each.address))


def nearest_existing(path: str) -> str:
    """The path itself, or its nearest parent that exists; raises ValueError for a path that is not absolute."""
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} is not absolute; give it from the root, such as /var/lib/{path or 'data'}")
    at = Path(path)
    while not at.exists() and at != at.parent:
        at = at.parent
    return str(at)


def used_mib(path: str, files_max: int = COUNTED_FILES_MAX) -> int:
    """MiB on disk of the files below a path on its own file system, counting at most ``files_max`` of them."""
    if not os.path.isdir(path):
        return 0
    device = os.lstat(path).st_dev
    blocks = counted = 0
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if _device(os.path.join(folder, name)) == device]
        for name in files:
            counted += 1
            if counted > files_max:
                return blocks * 512 // MIB
            try:
                blocks += os.lstat(os.path.join(folder, name)).st_blocks
            except OSError:
                continue
    return blocks * 512 // MIB


def _device(path: str) -> int:
    """The file system that a path is on, -1 where it vanished meanwhile."""
    try:
        return os.lstat(path).st_dev
    except OSError:
        return -1


def disk_space(path: str, statvfs: Callable[[str], Any] = os.statvfs) -> DiskSpace:
    """Free and used space for a path that need not exist yet; raises ValueError for a relative path."""
    existing = nearest_existing(path)
    vfs = statvfs(existing)
    used = used_mib(path) if existing == str(Path(path)) else 0
    return DiskSpace(path, existing, os.stat(existing).st_dev, vfs.f_bavail * vfs.f_frsize // MIB, used)


def parse_chrony(tracking: str) -> str:
    """The state in the text of ``chronyc tracking``."""
    match = re.search(r"^Leap status\s*:\s*(.+?)\s*$", tracking, re.MULTILINE)
    if not match:
        return "unknown"
    return "unsynchronized" if match.group(1) == "Not synchronised" else "synchronized"


def parse_timedatectl(shown: str) -> str:
    """The state in the text of ``timedatectl show``."""
    match = re.search(r"^NTPSynchronized=(yes|no)$", shown, re.MULTILINE)
    if not match:
        return "unknown"
    return "synchronized" if match.group(1) == "yes" else "unsynchronized"


def time_sync(run: Run) -> TimeSync:
    """Asks chrony first, which knows its sources; else systemd, which only repeats the kernel's flag.

    ``run(argv)`` returns (exit status, standard output) and a status other than 0 for a program that is absent.
    """
    status, text = run(["chronyc", "-n", "tracking"])
    if status == 0 and parse_chrony(text) != "unknown":
        return TimeSync(parse_chrony(text), "chronyc")
    status, text = run(["timedatectl", "show", "--property=NTPSynchronized"])
    if status == 0 and parse_timedatectl(text) != "unknown":
        return TimeSync(parse_timedatectl(text), "timedatectl")
    return TimeSync("unknown", "")


def resolve(name: str, getaddrinfo: Callable[..., Any] = socket.getaddrinfo) -> list[str]:
    """Sorted addresses of a name as this host's programs see it, [] where it has none."""
    try:
        return sorted({str(row[4][0]) for row in getaddrinfo(name, None, proto=socket.IPPROTO_TCP)})
    except (OSError, UnicodeError):
        return []


def url_answer(url: str, fetch: Fetch) -> str:
    """ "" where a server answered ``url``, even with "not found"; else one phrase why not.

    ``fetch(url)`` returns the HTTP status, or raises; an exception with a ``code`` is an answer as well.
    """
    try:
        status = fetch(url)
    except Exception as exc:  # whatever the network library raises, the host could not use this URL
        code = getattr(exc, "code", None)
        if not isinstance(code, int):
            return f"no answer: {getattr(exc, 'reason', None) or exc}"
        status = code
    return "" if status < 500 else f"it answered with HTTP status {status}"


def to_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with dataclasses, at any depth, as plain dicts and lists, fit for JSON."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
