# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""modules/preflight_info.py on this machine: arguments in, facts out, nothing changed, refusals in a sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.baremetal.llm.plugins.modules import preflight_info


def run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        preflight_info.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:  # the name is the library's
        self.send_response(500 if self.path == "/broken" else 404)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("check_mode", [False, True])
def test_tells_about_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path, check_mode: bool) -> None:
    path = str(tmp_path / "models")
    answer = run(capsys, paths=[path], names=["localhost", "no-such-host.invalid"], _ansible_check_mode=check_mode)
    host = answer["host"]
    assert answer["changed"] is False
    assert set(preflight_info_keys()) == set(host)
    assert host["memory_mib"] > 0 and host["cpu_flags"] and host["os"]["id"]
    assert host["disks"][0]["existing"] == str(tmp_path) and host["disks"][0]["free_mib"] > 0
    assert host["resolved"]["localhost"] and host["resolved"]["no-such-host.invalid"] == []
    assert not Path(path).exists()


def preflight_info_keys() -> list[str]:
    """The keys that RETURN promises."""
    return list(yaml.safe_load(preflight_info.RETURN)["host"]["contains"])


def test_url_that_answers_and_one_that_does_not(capsys: pytest.CaptureFixture[str], url: str) -> None:
    closed = "http://127.0.0.1:1/"
    urls = run(capsys, urls=[url, f"{url}broken", closed], url_timeout_s=5)["host"]["urls"]
    assert urls[url] == ""
    assert urls[f"{url}broken"] == "it answered with HTTP status 500"
    assert "Connection refused" in urls[closed]


def test_relative_path_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, paths=["models"])
    assert answer["failed"] is True
    assert answer["msg"] == "the path 'models' is not absolute; give it from the root, such as /var/lib/models"
