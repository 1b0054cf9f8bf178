# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""artifact_download: four ways through every state, resume, and refusals that leave the old file alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import download
from ansible_collections.baremetal.llm.plugins.modules import artifact_download
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import sha256

DATA = bytes(range(256)) * 8192


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "artifact.bin"


@pytest.fixture
def arguments(files: Any, dest: Path) -> dict[str, Any]:
    files.files["/a.bin"] = DATA
    return {"url": files.url + "/a.bin", "dest": str(dest), "sha256": sha256(DATA), "timeout": 5}


def run(arguments: dict[str, Any], **ways: bool) -> dict[str, Any]:
    return run_module(artifact_download, arguments, **ways)


def part_of(dest: Path) -> Path:
    return dest.with_name(dest.name + ".part")


@pytest.mark.parametrize("before", [None, b"old version"])
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_four_ways(
    arguments: dict[str, Any], dest: Path, files: Any, tmp_path: Path, before: bytes | None, scheme: str
) -> None:
    if scheme == "file":
        (tmp_path / "source file").write_bytes(DATA)
        arguments["url"] = (tmp_path / "source file").as_uri()
    if before:
        dest.write_bytes(before)
    arguments["mode"] = "0640"

    check = run(arguments, check=True)
    assert (check["failed"], check["changed"]) == (False, True)
    assert (dest.read_bytes() if dest.exists() else None) == before
    assert files.calls == [] and not part_of(dest).exists()

    apply = run(arguments)
    assert (apply["failed"], apply["changed"], apply["resumed_from_bytes"]) == (False, True, 0)
    assert (apply["size_bytes"], apply["sha256"], apply["dest"]) == (len(DATA), sha256(DATA), str(dest))
    assert apply["diff"] == {"before": {"sha256": before and sha256(before)}, "after": {"sha256": sha256(DATA)}}
    assert dest.read_bytes() == DATA and not part_of(dest).exists()
    assert dest.stat().st_mode & 0o777 == 0o640

    files.files.clear()
    for check_mode in (False, True):
        again = run(arguments, check=check_mode)
        assert (again["failed"], again["changed"], again["size_bytes"]) == (False, False, len(DATA))


def test_a_changed_mode_alone_is_a_change(arguments: dict[str, Any], dest: Path, files: Any) -> None:
    run({**arguments, "mode": "0600"})
    assert run({**arguments, "mode": "0644"}, check=True)["changed"]
    assert dest.stat().st_mode & 0o777 == 0o600
    assert run({**arguments, "mode": "0644"})["changed"]
    assert not run({**arguments, "mode": "0644"})["changed"]
    assert len(files.calls) == 1


def test_a_replaced_file_keeps_its_mode(arguments: dict[str, Any], dest: Path) -> None:
    dest.write_bytes(b"old")
    dest.chmod(0o604)
    run(arguments)
    assert dest.stat().st_mode & 0o777 == 0o604


def test_resume_goes_on_where_it_stopped(arguments: dict[str, Any], dest: Path, files: Any) -> None:
    files.cut_bytes = 1_000_000
    broken = run(arguments)
    assert broken["failed"] and f"ended after {len(DATA) - 1_000_000} of {len(DATA)} bytes: run again" in broken["msg"]
    assert not dest.exists()
    files.cut_bytes = 0
    result = run(arguments)
    assert (result["changed"], result["resumed_from_bytes"]) == (True, len(DATA) - 1_000_000)
    assert dest.read_bytes() == DATA


def test_resume_of_a_local_file(arguments: dict[str, Any], dest: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(DATA)
    part_of(dest).write_bytes(DATA[:500])
    assert run({**arguments, "url": f"file://{tmp_path}/s"})["resumed_from_bytes"] == 500
    assert dest.read_bytes() == DATA


def test_a_server_that_ignores_ranges_is_read_from_the_start(arguments: dict[str, Any], dest: Path, files: Any) -> None:
    part_of(dest).write_bytes(DATA[:1000])
    files.ranges = False
    assert run(arguments)["resumed_from_bytes"] == 0
    assert dest.read_bytes() == DATA and len(files.calls) == 1


def test_a_complete_part_needs_no_network(arguments: dict[str, Any], dest: Path, files: Any) -> None:
    part_of(dest).write_bytes(DATA)
    assert run(arguments)["resumed_from_bytes"] == len(DATA)
    assert dest.read_bytes() == DATA and files.calls == []


@pytest.mark.parametrize("part", [b"of another version", DATA + b"too long"])
def test_a_part_of_another_version_is_fetched_again(arguments: dict[str, Any], dest: Path, part: bytes) -> None:
    part_of(dest).write_bytes(part)
    assert not run(arguments)["failed"]
    assert dest.read_bytes() == DATA


def test_a_wrong_checksum_leaves_the_old_file(arguments: dict[str, Any], dest: Path, files: Any) -> None:
    dest.write_bytes(b"old")
    result = run({**arguments, "sha256": "0" * 64})
    assert result["failed"]
    assert result["msg"].startswith(f"{files.url}/a.bin has sha256 {sha256(DATA)}, expected {'0' * 64}: ")
    assert dest.read_bytes() == b"old" and not part_of(dest).exists()


def test_too_little_space_is_seen_before_anything_is_written(arguments: dict[str, Any], dest: Path, files: Any) -> None:
    files.claimed_size_bytes = 1 << 60
    result = run(arguments)
    assert result["failed"] and f"needs {1 << 60} bytes and {dest.parent} has " in result["msg"]
    assert os.listdir(dest.parent) == []


def test_a_link_in_the_place_of_the_part_is_not_followed(arguments: dict[str, Any], dest: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    part_of(dest).symlink_to(victim)
    assert run(arguments)["failed"]
    assert victim.read_bytes() == b""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sha256": "abc"}, "sha256 is 'abc', not a sha256"),
        ({"url": "ftp://h/x"}, "write http://, https:// or file:///absolute/path"),
        ({"url": "file://otherhost/x"}, "write http://"),
        ({"url": "file:///nowhere/x"}, "cannot be read (No such file or directory)"),
        ({"dest": "/nowhere/x"}, "the folder /nowhere does not exist"),
        ({"dest": "/tmp"}, "is a folder"),
        ({"url": "http://127.0.0.1:1/x"}, "cannot be reached"),
    ],
)
def test_refusals(arguments: dict[str, Any], change: dict[str, str], word: str) -> None:
    result = run({**arguments, **change})
    assert result["failed"] and word in result["msg"]
    assert "\n" not in result["msg"]


def test_a_missing_file_on_the_server_is_named(arguments: dict[str, Any], files: Any) -> None:
    files.files.clear()
    assert f"{files.url}/a.bin answered 404" in run(arguments)["msg"]


def test_messages_hold_no_credentials(arguments: dict[str, Any], files: Any) -> None:
    url = files.url.replace("http://", "http://me:s3cret@") + "/b.bin?token=s3cret"
    message = run({**arguments, "url": url})["msg"]
    assert "s3cret" not in message and f"{files.url}/b.bin?..." in message


def test_there_is_no_way_without_a_checksum(arguments: dict[str, Any]) -> None:
    del arguments["sha256"]
    assert run(arguments)["msg"] == "missing required arguments: sha256"


def test_the_function_refuses_other_schemes_itself(arguments: dict[str, Any], dest: Path) -> None:
    with pytest.raises(download.DownloadError, match="write http://"):
        download.download("ftp://h/x", str(dest), sha256(DATA), lambda *_args: pytest.fail("it was asked"))


def test_an_encoded_transfer_is_not_unpacked(arguments: dict[str, Any], dest: Path) -> None:
    seen: dict[str, str] = {}

    def open_http(_url: str, headers: dict[str, str]) -> Any:
        seen.update(headers)
        raise OSError("enough seen")

    with pytest.raises(download.DownloadError, match="enough seen"):
        download.download(arguments["url"], str(dest), sha256(DATA), open_http)
    assert seen["Accept-Encoding"] == "identity" and "Range" not in seen
