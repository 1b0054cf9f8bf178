# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gguf_info: the same answer from a path and from a URL, no more fetched than needed, refusals in a sentence."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.modules import gguf_info
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module

DENSE = build.build_gguf(*build.dense())
# A header of 3 MiB takes two pieces; the data after it makes the file much longer.
LONG = build.build_gguf(
    {**build.dense()[0], "x.padding": build.text("p" * (3 << 20))}, [*build.dense()[1], ("blk.0.big", [4 << 20], 0)]
)


class Server:
    """Serves C(data) at every path; the switches say how badly. C(asked) holds the Range of each request."""

    def __init__(self) -> None:
        self.data = DENSE
        self.ranges = True
        self.status = 0
        self.total = ""
        self.begin = 0
        self.length = True
        self.cut_bytes = 0
        self.location = ""
        self.stalls = False
        self.stopped = threading.Event()
        self.asked: list[str | None] = []
        self.seen: list[Any] = []
        self.sent_bytes = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args: Any) -> None:
                """Nothing on standard error."""

            def do_GET(self) -> None:  # the name is the library's
                outer.answer(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/m.gguf"
        threading.Thread(target=lambda: self._http.serve_forever(poll_interval=0.01), daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        self.seen.append(request.headers)
        if self.location:
            request.send_response(302)
            request.send_header("Location", self.location)
            request.end_headers()
            return
        if self.status:
            request.send_response(self.status)
            request.end_headers()
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "") if self.ranges else None
        body = self.data
        if span:
            begin, last = int(span.group(1)), min(int(span.group(2)), len(self.data) - 1)
            if begin >= len(self.data):
                request.send_response(416)
                request.end_headers()
                return
            body = self.data[begin : last + 1]
            request.send_response(206)
            begin += self.begin
            request.send_header("Content-Range", f"bytes {begin}-{last}/{self.total or len(self.data)}")
        else:
            request.send_response(200)
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            for at in range(0, len(body) - self.cut_bytes, 1 << 16):
                request.wfile.write(body[at : min(at + (1 << 16), len(body) - self.cut_bytes)])
                self.sent_bytes += 1 << 16
        except OSError:
            # The reader has what it wants.
            pass
        if self.stalls:
            self.stopped.wait(30)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.stop()


def run(check: bool = False, **arguments: Any) -> dict[str, Any]:
    return run_module(gguf_info, {"timeout": 5, **arguments}, check=check)


def failure(**arguments: Any) -> str:
    result = run(**arguments)
    assert result["failed"], result
    message = str(result["msg"])
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "m.gguf"
    found.write_bytes(DENSE)
    return found


@pytest.mark.parametrize("check", [False, True])
def test_a_file_on_the_host(path: Path, check: bool) -> None:
    result = run(check, path=str(path))
    assert (result["failed"], result["changed"], result["warnings"]) == (False, False, [])
    found = json.loads(json.dumps(result["gguf"], allow_nan=False))
    assert set(found) == set(yaml.safe_load(gguf_info.RETURN)["gguf"]["contains"])
    assert (found["path"], found["url"], found["name"]) == (str(path), None, "Small dense")
    assert (found["quantization"], found["file_type"], found["split"]) == ("Q4_K_M", 15, None)
    assert found["file_size_bytes"] == found["expected_size_bytes"] == len(DENSE) and found["complete"] is True
    assert found["tensors"][0] == {
        "name": "token_embd.weight",
        "dimensions": [256, 64],
        "type": "Q4_K",
        "offset_bytes": 0,
        "size_bytes": 64 * 144,
        "device_class": "input",
        "layer": None,
    }
    assert found["shape"]["block_count"] == 2 and found["shape"]["vocab_size"] == 64
    assert gguf.GgufModel.from_info(found) == gguf.read_model(str(path))
    assert path.read_bytes() == DENSE


def test_without_tensors_the_sums_stay(path: Path) -> None:
    found = run(path=str(path), tensors=False)["gguf"]
    assert found["tensors"] is None
    assert found["bytes_by_class"] == run(path=str(path))["gguf"]["bytes_by_class"]


def test_a_cut_off_file_is_told_not_refused(path: Path) -> None:
    path.write_bytes(DENSE[:-1])
    found = run(path=str(path))["gguf"]
    assert (found["complete"], found["file_size_bytes"]) == (False, len(DENSE) - 1)


def test_a_part_of_a_model_comes_with_a_warning(path: Path) -> None:
    split = {"split.count": build.u16(2), "split.no": build.u16(0), "split.tensors.count": build.u32(9)}
    path.write_bytes(build.build_gguf({**build.dense()[0], **split}, build.dense()[1]))
    result = run(path=str(path))
    assert result["gguf"]["split"] == {"count": 2, "number": 0, "tensor_count": 9}
    (warning,) = result["warnings"]
    assert f"{path} is part 1 of 2" in warning


@pytest.mark.parametrize("ranges", [True, False])
def test_a_url_gives_what_the_file_gives(server: Server, path: Path, ranges: bool) -> None:
    server.ranges = ranges
    found = run(url=server.url)["gguf"]
    assert found == {**run(path=str(path))["gguf"], "path": None, "url": server.url}
    assert server.asked == ["bytes=0-1048575"]
    assert run(url=server.url, tensors=False)["gguf"]["tensors"] is None


def test_pieces_grow_until_the_header_is_there(server: Server) -> None:
    server.data = LONG
    found = run(url=server.url)["gguf"]
    assert (found["complete"], found["file_size_bytes"]) == (True, len(LONG))
    assert found["metadata"]["x.padding"]["size_bytes"] == 3 << 20
    assert server.asked == ["bytes=0-1048575", "bytes=1048576-3145727", "bytes=3145728-7340031"]
    assert len(LONG) > 16 << 20


def test_a_server_without_ranges_is_left_when_the_header_is_there(server: Server) -> None:
    server.data, server.ranges = LONG + bytes(64 << 20), False
    found = run(url=server.url)["gguf"]
    assert found["file_size_bytes"] == len(LONG) + (64 << 20)
    assert len(server.asked) == 1
    # What the kernel's buffers took on the way is not the reader's.
    assert server.sent_bytes < 32 << 20


def test_a_size_that_the_server_does_not_tell_is_null(server: Server) -> None:
    server.total = "*"
    found = run(url=server.url)["gguf"]
    assert (found["file_size_bytes"], found["complete"]) == (None, None)
    server.ranges = server.length = False
    assert run(url=server.url)["gguf"] == found


def test_a_cut_off_file_behind_a_url_is_told(server: Server) -> None:
    server.data = DENSE[:-5]
    assert run(url=server.url)["gguf"]["complete"] is False
    server.data = DENSE[:500]
    assert f"{server.url} is 500 bytes and ends inside its header" in failure(url=server.url)
    server.ranges = server.length = False
    assert "is 500 bytes and ends inside its header" in failure(url=server.url)


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_that_breaks_off_is_told(server: Server, ranges: bool) -> None:
    server.ranges, server.cut_bytes = ranges, len(DENSE) - 600
    message = failure(url=server.url)
    assert "broke off" in message or "cannot be reached" in message
    assert server.url in message


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "valid login in headers"),
        (403, "may read"),
        (404, "correct url"),
        (429, "wait"),
        (503, "log of the server"),
    ],
)
def test_refusals_of_the_server_name_url_and_fix(server: Server, status: int, words: str) -> None:
    server.status = status
    message = failure(url=server.url)
    assert message.startswith(f"{server.url} answered {status} ") and words in message


def test_an_empty_file(server: Server) -> None:
    server.data = b""
    assert "416" in failure(url=server.url)


def test_a_page_instead_of_a_model(server: Server) -> None:
    server.data, server.ranges = b"<!DOCTYPE html>" * 9, False
    assert f"{server.url} is not a GGUF file" in failure(url=server.url)


def test_answers_that_do_not_fit_together_are_refused(server: Server) -> None:
    server.begin = 5
    assert "another part than asked for" in failure(url=server.url)
    server.begin, server.data = 0, LONG
    server.asked.clear()
    whole = Server.answer

    def shrinking(request: BaseHTTPRequestHandler) -> None:
        if server.asked:
            server.total = str(len(LONG) - 1)
        whole(server, request)

    server.answer = shrinking  # type: ignore[method-assign]
    assert "parts of two files" in failure(url=server.url)

    def forgetful(request: BaseHTTPRequestHandler) -> None:
        server.ranges = not server.asked
        whole(server, request)

    server.answer, server.total = forgetful, ""  # type: ignore[method-assign]
    server.asked.clear()
    assert "the whole file where a part was asked for" in failure(url=server.url)


def test_a_header_without_end_is_left(server: Server) -> None:
    server.data = build.build_gguf({"x": build.text("p" * (3 << 20))}, [])
    message = failure(url=server.url, max_header_mib=2)
    assert "header of more than 2 MiB: raise max_header_mib" in message
    assert server.asked == ["bytes=0-1048575", "bytes=1048576-2097151"]
    assert run(url=server.url, max_header_mib=4)["failed"] is False


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/m.gguf"
        assert failure(url=url).startswith(f"{url} cannot be reached")


def test_a_silent_server_is_not_waited_for() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/m.gguf"
        message = failure(url=url, timeout=1)
    assert message.startswith(f"{url} did not answer in time") and "raise timeout" in message


def test_a_server_that_stops_in_the_middle_is_not_waited_for(server: Server) -> None:
    server.cut_bytes, server.stalls = len(DENSE) - 600, True
    message = failure(url=server.url, timeout=1)
    assert message.startswith(f"{server.url} did not answer in time")


def test_a_certificate_that_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    import ssl
    from urllib.error import URLError

    given: dict[str, Any] = {}

    def refused(*_args: Any, **options: Any) -> Any:
        given.update(options)
        raise URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate"))

    monkeypatch.setattr(gguf_info, "open_url", refused)
    message = failure(url="https://models.example.com/m.gguf", timeout=7, ca_path=str(path))
    assert message.startswith("https://models.example.com/m.gguf cannot be trusted") and "ca_path" in message
    assert (given["timeout"], given["validate_certs"], given["ca_path"]) == (7, True, str(path))


def test_headers_go_to_the_first_host_only_and_secrets_stay_out(server: Server) -> None:
    other = Server()
    try:
        other.location = server.url
        url = other.url.replace("http://", "http://user:geheim@") + "?signature=geheim"
        result = run(url=url, headers={"X-Token": "geheim2"})
        assert result["failed"] is False and result["gguf"]["url"] == other.url + "?..."
        assert other.seen[0]["X-Token"] == "geheim2" and server.seen[0]["X-Token"] is None
        assert server.asked == ["bytes=0-1048575"]
        other.location, other.status = "", 404
        assert "geheim" not in failure(url=url, headers={"X-Token": "geheim2"})
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "one of the following is required"),
        ({"path": "/m", "url": "http://h/m"}, "mutually exclusive"),
        ({"url": "ftp://h/m"}, "write http:// or https://"),
        ({"url": "file:///m"}, "give a local file as path"),
        ({"url": "http://[::1/m"}, "url is no address"),
        ({"url": "http://h:port/m"}, "cannot be reached"),
        ({"url": "http://h/m", "max_header_mib": 0}, "max_header_mib is 0"),
        ({"url": "http://h/m", "timeout": 0}, "timeout is 0"),
        ({"url": "https://h/m", "ca_path": "/no/such"}, "ca_path /no/such is no file"),
        ({"path": "/no/such.gguf"}, "cannot read /no/such.gguf: No such file"),
        ({"path": "/"}, "cannot read /: Is a directory"),
        ({"path": "/etc/passwd"}, "/etc/passwd is not a GGUF file"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], words: str) -> None:
    assert words in failure(**arguments)
