# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""module_utils/host_probe.py: parsers on recorded text, and folders made for the test in place of /proc."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import host_probe
from hypothesis import given
from hypothesis import strategies as st

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n# ID=no\nID=debian\n'
TCP_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = TCP_HEAD + (
    "   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 486 1 0 100 0 0 10 0\n"
    "   1: 0100007F:E0E0 0100007F:2ED3 06 00000000:00000000 03:0000167D 00000000     0        0 0 3 0\n"
    "   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0\n"
)
TCP6 = TCP_HEAD + (
    "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 900 1 0 100 0 0 10 0\n"
)
CHRONY = "Reference ID    : C0000201 (192.0.2.1)\nStratum         : 3\nLeap status     : {}\n"


def test_os_release_gives_id_version_and_name() -> None:
    assert host_probe.parse_os_release(DEBIAN) == {
        "id": "debian",
        "version": "12",
        "name": "Debian GNU/Linux 12 (bookworm)",
    }


def test_os_release_without_a_release_has_an_empty_version() -> None:
    assert host_probe.parse_os_release("ID='Debian'\n") == {"id": "debian", "version": "", "name": ""}


def test_memory_is_mem_total_in_mib() -> None:
    assert host_probe.parse_memory_mib("MemTotal:       24684544 kB\nMemFree:  1 kB\n") == 24106
    assert host_probe.parse_memory_mib("") == 0


def test_cpu_flags_are_those_of_every_processor() -> None:
    assert host_probe.parse_cpu_flags("flags\t\t: fpu avx2 sse\nmodel: 1\nflags\t\t: sse fpu\n") == ["fpu", "sse"]
    assert host_probe.parse_cpu_flags("Features\t: asimd fp\n") == ["asimd", "fp"]
    assert host_probe.parse_cpu_flags("processor: 0\n") == []


@given(st.ip_addresses(), st.sampled_from(["little", "big"]))
def test_address_reads_back_what_the_kernel_writes(address: Any, byteorder: str) -> None:
    packed = address.packed
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    raw = b"".join(word[::-1] if byteorder == "little" else word for word in words).hex().upper()
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(host_probe.parse_address(raw, byteorder)) == (mapped or address)


def test_mapped_ipv4_address_becomes_ipv4() -> None:
    assert host_probe.parse_address("0000000000000000FFFF00000100007F", "little") == "127.0.0.1"


def test_listeners_leave_out_connections() -> None:
    assert host_probe.parse_listeners(TCP) == [("0.0.0.0", 2024, 486), ("127.0.0.1", 8080, 777)]
    assert host_probe.parse_listeners(TCP6) == [("::", 22, 900)]
    assert host_probe.parse_listeners("") == []


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("12:pids:/\n1:name=systemd:/system.slice/system-a.slice/a@1.service\n", "a@1.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("0::/user.slice/user-1.slice/user@1.service/app.slice/b.service\n", "b.service"),
        ("", ""),
    ],
)
def test_unit_is_the_innermost_service(cgroup: str, unit: str) -> None:
    assert host_probe.parse_unit(cgroup) == unit


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one listening process, 31, and one, 40, whose descriptors may not be read."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TCP)
    (tmp_path / "net/tcp6").write_text(TCP6)
    for pid, comm in ((31, "nginx"), (40, "hidden")):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(f"{comm}\n")
        (tmp_path / str(pid) / "cgroup").write_text(f"0::/system.slice/{comm}.service\n")
    (tmp_path / "31/fd/3").symlink_to("socket:[777]")
    (tmp_path / "31/fd/4").symlink_to("/dev/null")
    (tmp_path / "40/fd").rmdir()
    return tmp_path


def test_listeners_name_their_holders(proc: Path) -> None:
    found = {(each.address, each.port): each.holders for each in host_probe.listeners(proc)}
    assert found == {
        ("::", 22): (),
        ("0.0.0.0", 2024): (),
        ("127.0.0.1", 8080): (host_probe.Holder(31, "nginx", "nginx.service"),),
    }


def test_listeners_on_this_machine_name_this_process() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = next(each for each in host_probe.listeners(Path("/proc")) if each.port == port)
    assert (found.address, os.getpid()) in {("127.0.0.1", holder.pid) for holder in found.holders}


def test_nearest_existing_climbs_to_a_folder_that_is_there(tmp_path: Path) -> None:
    assert host_probe.nearest_existing(f"{tmp_path}/a/b/c") == str(tmp_path)
    assert host_probe.nearest_existing(str(tmp_path)) == str(tmp_path)
    assert host_probe.nearest_existing("/") == "/"


def test_relative_path_is_refused() -> None:
    with pytest.raises(ValueError, match="the path 'var/lib' is not absolute; give it from the root"):
        host_probe.nearest_existing("var/lib")


def test_disk_space_of_a_path_that_does_not_exist(tmp_path: Path) -> None:
    vfs = SimpleNamespace(f_bavail=3 * 256 + 255, f_frsize=4096)
    space = host_probe.disk_space(f"{tmp_path}/models/blobs", lambda _path: vfs)
    assert space == host_probe.DiskSpace(f"{tmp_path}/models/blobs", str(tmp_path), tmp_path.stat().st_dev, 3, 0)


def test_disk_space_counts_what_the_path_holds(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/a").write_bytes(os.urandom(2 * host_probe.MIB))
    assert host_probe.disk_space(str(tmp_path)).used_mib == 2


def test_counting_stops_at_its_limit(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(os.urandom(host_probe.MIB))
    assert host_probe.used_mib(str(tmp_path), files_max=2) == 2
    assert host_probe.used_mib(str(tmp_path / "a")) == 0


@pytest.mark.parametrize(
    ("answers", "state", "source"),
    [
        ({"chronyc": (0, CHRONY.format("Normal"))}, "synchronized", "chronyc"),
        ({"chronyc": (0, CHRONY.format("Insert second"))}, "synchronized", "chronyc"),
        ({"chronyc": (0, CHRONY.format("Not synchronised"))}, "unsynchronized", "chronyc"),
        ({"timedatectl": (0, "NTPSynchronized=yes\n")}, "synchronized", "timedatectl"),
        (
            {"chronyc": (1, "506 Cannot talk to daemon\n"), "timedatectl": (0, "NTPSynchronized=no\n")},
            "unsynchronized",
            "timedatectl",
        ),
        ({"timedatectl": (1, "NTPSynchronized=yes\n")}, "unknown", ""),
        ({}, "unknown", ""),
    ],
)
def test_time_sync_asks_chrony_then_systemd(answers: dict[str, tuple[int, str]], state: str, source: str) -> None:
    assert host_probe.time_sync(lambda argv: answers.get(argv[0], (127, ""))) == host_probe.TimeSync(state, source)


def test_resolve_gives_each_address_once() -> None:
    rows = [(2, 1, 6, "", ("192.0.2.9", 0)), (10, 1, 6, "", ("2001:db8::1", 0, 0, 0)), (2, 2, 6, "", ("192.0.2.9", 0))]
    assert host_probe.resolve("gw1", lambda *_args, **_kw: rows) == ["192.0.2.9", "2001:db8::1"]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
def test_resolve_of_an_unknown_name_is_empty(error: Exception) -> None:
    def refuse(*_args: Any, **_kw: Any) -> Any:
        raise error

    assert host_probe.resolve("gw1", refuse) == []


class Answered(Exception):
    code = 404


class Refused(Exception):
    reason = "Connection refused"


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (200, ""),
        (404, ""),
        (503, "it answered with HTTP status 503"),
        (Answered(), ""),
        (Refused(), "no answer: Connection refused"),
        (TimeoutError("timed out"), "no answer: timed out"),
    ],
)
def test_url_answer(outcome: int | Exception, said: str) -> None:
    def fetch(_url: str) -> int:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert host_probe.url_answer("http://mirror/", fetch) == said


def test_facts_are_plain_at_every_depth() -> None:
    holder = host_probe.Holder(1, "a", "a.service")
    facts = host_probe.to_facts(
        {"x": [host_probe.Listener("::", 1, (holder,))], "y": {"z": host_probe.TimeSync("unknown", "")}}
    )
    assert facts == {
        "x": [{"address": "::", "port": 1, "holders": [{"pid": 1, "process": "a", "unit": "a.service"}]}],
        "y": {"z": {"state": "unknown", "source": ""}},
    }


def test_absent_file_reads_as_nothing(tmp_path: Path) -> None:
    assert host_probe.read_text(tmp_path / "nope") == ""
