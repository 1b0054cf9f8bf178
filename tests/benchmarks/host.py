# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the host layer costs: encryption, packet filter and hardening, each as a ratio, and what kernel tuning gains.

    python tests/benchmarks/host.py [--part volume] [--part requests] [--rounds 5] [--seconds 3]

volume:   reads and writes of a large file in a virtual machine of the lab that is started for it (or on --volume-host
          over ssh, on the empty disk --device): plain against LUKS, read-ahead 128 against 4096 KiB, limits of dirty
          memory of the kernel against the role's. Emulated processors have no speed to speak of: read ratios only, and
          see `openssl speed` below the table for what this machine's own processor can encrypt.
requests: answers of a server on a host that the host layer configured (--host, by default the lab's gateway) at this
          machine's own speed, with the ruleset, the kernel parameters of the network and the sandbox of its unit on
          and off in turn, one by one and together. All is on again at the end.

Variants take turns within each round. Printed are medians, the span of the rounds and the ratio to the first line;
figures depend on the machine and nothing is asserted. Wants wrk and openssl, and root for a virtual machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
VM = HERE.parents[1] / "molecule/shared/vm/vm"
LAB = Path(os.environ.get("LAB", Path.home() / ".cache/llm-lab"))

# Shell functions for the host. Files are put aside in /run, so that a boot brings them back at the latest from /root.
REMOTE = r"""
set -eu
aside=/root/.llm-benchmark; mkdir -p $aside
firewall_off() { nft list table inet "$table" >/dev/null 2>&1 || return 0; nft delete table inet "$table"; }
firewall_on() { systemctl reload-or-restart nftables.service; nft list table inet "$table" >/dev/null; }
parameters() { cat $sysctl 2>/dev/null | sed -n 's/^ *-\{0,1\}\(net\.[^= ]*\) *= *\(.*\)/\1=\2/p' | grep -v '[*]'; }
# What a network has that nobody configured: that of a new one.
sysctl_off() { parameters | cut -d= -f1 | while read -r key; do
    value=$(unshare --net sysctl --values "$key" 2>/dev/null) || continue
    sysctl --quiet --write "$key=$value" 2>/dev/null || true; done; }
sysctl_on() { parameters | while read -r line; do sysctl --quiet --write "$line" 2>/dev/null || true; done; }
sandbox_off() { ls /etc/systemd/system/"$unit".d/*.conf >/dev/null 2>&1 || return 0
    mkdir -p "$aside/$unit.d"; mv /etc/systemd/system/"$unit".d/*.conf "$aside/$unit.d/"
    systemctl daemon-reload; systemctl restart "$unit"; }
sandbox_on() { ls "$aside/$unit.d"/*.conf >/dev/null 2>&1 || return 0
    mv "$aside/$unit.d"/*.conf /etc/systemd/system/"$unit".d/; systemctl daemon-reload; systemctl restart "$unit"; }
has_firewall() { nft list table inet "$table" >/dev/null 2>&1; }
has_sysctl() { [ -n "$(parameters)" ]; }
has_sandbox() { ls /etc/systemd/system/"$unit".d/*.conf >/dev/null 2>&1; }
"""
LAYERS = ("firewall", "sysctl", "sandbox")


def span(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}"


def table(title: str, unit: str, rows: dict[str, list[float]], digits: int = 1) -> None:
    """Median, span and ratio to the first row."""
    width = max(map(len, [title, *rows]))
    print(f"\n{title:<{width}}  {unit:>9}  {'span':>15}  {'ratio':>6}")
    base = statistics.median(next(iter(rows.values())))
    for name, values in rows.items():
        median = statistics.median(values)
        ratio = f"{median / base:6.2f}" if base else "     -"
        print(f"{name:<{width}}  {median:9.{digits}f}  {span(values, digits):>15}  {ratio}")


# Volumes


@contextlib.contextmanager
def machine(options: argparse.Namespace) -> Iterator[tuple[list[str], str]]:
    """How to run a command on the host, and its empty disk."""
    if options.volume_host:
        yield ["ssh", *shlex.split(options.volume_host)], options.device
        return
    up = [VM, "up", "bench1", "bookworm", "--address", options.vm_address, "--disks", "3g"]
    subprocess.run(up, check=True, stdout=sys.stderr)
    try:
        yield [str(VM), "ssh", "--seconds", "3000", "bench1"], "/dev/disk/by-id/virtio-data1"
    finally:
        subprocess.run([VM, "down", "bench1"], check=True, stdout=sys.stderr)


def volume(options: argparse.Namespace) -> None:
    with machine(options) as (prefix, device):
        words = ["python3", "-", device, str(options.rounds), *([str(options.mib)] if options.mib else [])]
        script = (HERE / "host_volume.py").read_text()
        done = subprocess.run([*prefix, *words], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The volume could not be measured: {done.stderr.strip()}")
    figures = json.loads(done.stdout[done.stdout.index("{") :])
    where = "an emulated virtual machine" if not options.volume_host else options.volume_host
    print(f"\n{figures['mib']} MiB read on {where}, Linux {figures['kernel']}, {figures['rounds']} rounds")
    for way in ("read", "mmap"):
        rows = {}
        for each, kib in (("plain", 128), ("plain", 4096), ("luks", 128), ("luks", 4096)):
            rows[f"{each}, read-ahead {kib} KiB"] = figures["reads"][f"{way} {each} {kib}"]
        table(f"by {way}()", "MiB/s", rows)
    limits = ", ".join(f"{name} {value >> 20} MiB" for name, value in figures["limits"].items())
    print(f"\n{figures['written']} MiB written; the role's limits: {limits}")
    for key, title in (
        ("write", "writing itself"),
        ("sync", "a sync right after"),
        ("fsync", "slowest fsync of another program"),
    ):
        table(
            title,
            "s",
            {f"{each} limits": [one[key] for one in figures["writes"][each]] for each in ("default", "role")},
            2,
        )
    print(f"\ncryptsetup benchmark on that host: {' '.join(figures['cipher'].split())}")


def cipher_here() -> None:
    """An upper bound: one core of this machine, in user space, with AES instructions where it has them."""
    command = ["openssl", "speed", "-seconds", "1", "-bytes", "4096", "-evp", "aes-256-xts"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(?im)^aes-256-xts\s+([\d.]+)k", done.stdout)
    if found:
        speed = float(found[1]) / 1e6
        print(f"aes-256-xts (LUKS' 512-bit key) on one core of this machine, 4 KiB pieces: {speed:.1f} GB/s")


# Requests


class Server:
    """The host with the server, over one ssh connection that is opened before any ruleset changes."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        key = ["-i", str(LAB / "id_ed25519")] if (LAB / "id_ed25519").exists() else []
        known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        share = ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/%C", "-o", "ControlPersist=600"]
        self.command = ["ssh", *key, *known, *share, f"root@{options.host}"]
        self.names = (
            f"table={shlex.quote(options.table)} unit={shlex.quote(options.unit)} sysctl={shlex.quote(options.sysctl)}"
        )

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        script = f"{self.names}\n{REMOTE}\n{text}"
        return subprocess.run([*self.command, "sh -s"], input=script, capture_output=True, text=True, check=False)

    def close(self) -> None:
        subprocess.run([*self.command[:-1], "-O", "exit", self.command[-1]], capture_output=True, check=False)

    def has(self, layer: str) -> bool:
        return self.shell(f"has_{layer}").returncode == 0

    def switch(self, layers: set[str], wanted: set[str]) -> None:
        """The sandbox first: its change starts the server anew, with the kernel parameters of before."""
        words = [f"{layer}_{'on' if layer in wanted else 'off'}" for layer in reversed(LAYERS) if layer in layers]
        done = self.shell("\n".join(words))
        if done.returncode:
            sys.exit(f"Switching {', '.join(words)} failed: {done.stderr.strip()}")


def milliseconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    assert found
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def load(url: str, seconds: int, *, new: bool) -> tuple[float, float]:
    """p50 in ms and requests/s at 8 connections, kept or new for each request."""
    header = ["-H", "Connection: close"] if new else []
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "--latency", *header, url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if failed:
        sys.exit(f"{url} answered {failed[1]} requests with an error; give a --url that it answers.")
    p50 = re.search(r"(?m)^ +50% +(\S+)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not p50 or not rate or float(rate[1]) == 0:
        sys.exit(f"{url} does not answer: {text}")
    return milliseconds(p50[1]), float(rate[1])


def requests(options: argparse.Namespace) -> None:
    url = options.url or f"https://{options.host}/healthz"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options, Path(folder))
        try:
            layers = {layer for layer in LAYERS if server.has(layer)}
            missing = [layer for layer in LAYERS if layer not in layers]
            absent = ", ".join(missing) or "nothing"
            print(f"\n{url}, {options.rounds} rounds of {options.seconds} s each; not on that host: {absent}")
            variants: dict[str, set[str]] = {"none": set()}
            variants |= {layer: {layer} for layer in LAYERS if layer in layers}
            if len(layers) > 1:
                variants["all"] = set(layers)
            figures: dict[str, dict[str, list[tuple[float, float]]]] = {}
            try:
                for number in range(options.rounds):
                    names = list(variants)
                    # Each round begins with another one, so that none always comes first.
                    for name in names[number % len(names) :] + names[: number % len(names)]:
                        server.switch(layers, variants[name])
                        load(url, 1, new=True)
                        for kind in ("kept", "new"):
                            figure = load(url, options.seconds, new=kind == "new")
                            figures.setdefault(kind, {}).setdefault(name, []).append(figure)
            finally:
                server.switch(layers, layers)
        finally:
            server.close()
    for kind, title in (("kept", "8 connections, kept"), ("new", "a connection for each request")):
        rows = {name: figures[kind][name] for name in variants}
        table(f"{title}: p50", "ms", {name: [p50 for p50, _rate in values] for name, values in rows.items()}, 3)
        table(f"{title}: rate", "req/s", {name: [rate for _p50, rate in values] for name, values in rows.items()}, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=["volume", "requests"], help="default: both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load for each figure (default: 3)")
    parser.add_argument("--host", default="10.77.2.21", help="host with the server, root by ssh (default: the lab's)")
    parser.add_argument("--url", help="what to ask it for (default: https://HOST/healthz)")
    parser.add_argument("--unit", default="nginx.service", help="its unit; the sandbox is its drop-ins")
    parser.add_argument("--table", default="llm_filter", help="nftables table of the role firewall, family inet")
    parser.add_argument("--sysctl", default="/etc/sysctl.d/*hardening*.conf", help="file of the role hardening")
    parser.add_argument("--volume-host", help="arguments of ssh for the host with --device")
    parser.add_argument("--device", default="/dev/disk/by-id/virtio-data1", help="its empty disk, which is overwritten")
    parser.add_argument("--vm-address", default="10.77.3.31", help="of the virtual machine (default: 10.77.3.31)")
    parser.add_argument("--mib", type=int, help="size of the file that is read (default: a sixth of the disk)")
    options = parser.parse_args()
    parts = options.part or ["volume", "requests"]
    missing = [tool for tool in ("wrk", "openssl") if not shutil.which(tool)]
    if missing:
        sys.exit(f"Install {' '.join(missing)} first.")
    if "volume" in parts:
        volume(options)
        cipher_here()
    if "requests" in parts:
        requests(options)


if __name__ == "__main__":
    main()
