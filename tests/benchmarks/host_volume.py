# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads and writes of a large file on a volume; host.py runs this on a host with an empty disk and prints the answer.

    python3 host_volume.py DEVICE [ROUNDS [MIB]] > figures.json

DEVICE is divided in two, half of it encrypted as the role luks does it, and emptied afterwards. A disk that holds
anything is refused. Needs root, sfdisk, cryptsetup, mkfs.ext4; Python's standard library only.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 1 << 20
KEY = b"of a throw-away volume"
READ_AHEAD_KIB = (128, 4096)  # the kernel's default and that of the role kernel_tuning
VM = Path("/proc/sys/vm")
KERNEL_LIMITS = {"dirty_background_ratio": 10, "dirty_ratio": 20}
# Of each pair the one that is written clears the other.
LIMITS = ("dirty_background_bytes", "dirty_background_ratio", "dirty_bytes", "dirty_ratio")


def run(*words: str | Path, data: bytes | None = None) -> str:
    done = subprocess.run(list(map(str, words)), input=data, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.decode()}")
    return done.stdout.decode()


def forget() -> None:
    os.sync()
    (VM / "drop_caches").write_text("3")


def by_read(path: Path) -> None:
    buffer = bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def by_map(path: Path) -> None:
    """One byte of each page, from front to back, as a server does that maps its model."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        len(mapped[:: mmap.PAGESIZE])


def speed(way: Callable[[Path], None], path: Path, mib: int) -> float:
    """MiB/s of one pass over a file that is not cached."""
    forget()
    start = time.monotonic()
    way(path)
    return mib / (time.monotonic() - start)


def write(path: Path, mib: int) -> dict[str, float]:
    """Seconds that writing takes, that a sync right after it takes, and that small writes of another program take."""
    os.sync()
    waits: list[float] = []
    done = threading.Event()

    def other() -> None:
        with (path.parent / "log").open("wb", buffering=0) as log:
            while not done.is_set():
                start = time.monotonic()
                log.write(b"x" * 4096)
                os.fsync(log.fileno())
                waits.append(time.monotonic() - start)
                done.wait(0.05)

    thread = threading.Thread(target=other)
    thread.start()
    chunk = os.urandom(CHUNK)
    start = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _dummy in range(mib):
            file.write(chunk)
    written = time.monotonic()
    os.sync()
    synced = time.monotonic()
    done.set()
    thread.join()
    path.unlink()
    return {"write": written - start, "sync": synced - written, "fsync": max(waits)}


def set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        (VM / name).write_text(str(value))


def role_limits() -> dict[str, int]:
    """Those of the role kernel_tuning: a tenth of the memory in steps of 64 MiB, at most 1 GiB; a quarter to begin."""
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    kib = int(found[1]) if found else 0
    limit = min(1 << 30, max(kib * 1024 // 10 // (64 << 20), 1) * (64 << 20))
    return {"dirty_background_bytes": limit // 4, "dirty_bytes": limit}


def main() -> None:
    device = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    if held := run("wipefs", "--no-act", device).strip() or run("lsblk", "-nro", "MOUNTPOINT", device).strip():
        sys.exit(f"{device} is not empty ({held.splitlines()[-1]}); name a disk without anything on it.")
    size = int(run("blockdev", "--getsize64", device)) >> 20
    mib = int(sys.argv[3]) if len(sys.argv) > 3 else min(512, size // 6)
    half = size // 2 - 4
    figures: dict[str, object] = {"mib": mib, "rounds": rounds, "kernel": os.uname().release}
    with tempfile.TemporaryDirectory() as name:
        folders = {each: Path(name) / each for each in ("plain", "luks")}
        try:
            ends = ("1MiB", f"{half + 1}MiB", f"{2 * half + 1}MiB")
            run("parted", "--script", device, "mklabel", "gpt", "mkpart", "a", *ends[:2], "mkpart", "b", *ends[1:])
            run("udevadm", "settle")
            parts = {"plain": Path(f"{device}1"), "luks": Path(f"{device}2")}
            quick = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
            cipher = ("--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512")
            run("cryptsetup", "luksFormat", "-q", *cipher, *quick, parts["luks"], "-", data=KEY)
            run("cryptsetup", "open", "--key-file", "-", parts["luks"], "benchmark", data=KEY)
            parts["luks"] = Path("/dev/mapper/benchmark")
            for each, folder in folders.items():
                run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", parts[each])
                folder.mkdir()
                run("mount", parts[each], folder)
                with (folder / "model").open("wb") as file:
                    for _dummy in range(mib):
                        file.write(os.urandom(CHUNK))
            cipher_speed = run("cryptsetup", "benchmark", "--cipher", "aes-xts", "--key-size", "512")
            figures["cipher"] = cipher_speed.splitlines()[-1]
            ways = {"read": by_read, "mmap": by_map}
            reads: dict[str, list[float]] = {}
            for _dummy in range(rounds):
                for way, call in ways.items():
                    for kib in READ_AHEAD_KIB:
                        for each in folders:
                            # The mapping's own read-ahead is what counts above it.
                            run("blockdev", "--setra", str(kib * 2), parts[each])
                            key = f"{way} {each} {kib}"
                            reads.setdefault(key, []).append(speed(call, folders[each] / "model", mib))
            figures["reads"] = reads
            before = {each: int((VM / each).read_text()) for each in LIMITS}
            writes: dict[str, list[dict[str, float]]] = {}
            room = mib + mib // 2
            (folders["plain"] / "model").unlink()
            for _dummy in range(rounds):
                for key, limits in (("default", KERNEL_LIMITS), ("role", role_limits())):
                    set_limits(limits)
                    writes.setdefault(key, []).append(write(folders["plain"] / "pulled", min(room, half - 128)))
            set_limits({each: value for each, value in before.items() if value})
            figures["writes"], figures["limits"], figures["written"] = writes, role_limits(), min(room, half - 128)
        finally:
            for folder in folders.values():
                if folder.is_mount():
                    run("umount", folder)
            if Path("/dev/mapper/benchmark").exists():
                run("cryptsetup", "close", "benchmark")
            made = [part for part in (f"{device}1", f"{device}2") if Path(part).exists()]
            run("wipefs", "--all", "--quiet", "--force", *made, device)
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
