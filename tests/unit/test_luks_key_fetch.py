# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that fetches a volume's key at boot, against a server that answers as Vault's KV version 2 does."""

from __future__ import annotations

import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("luks_key_fetch", ROOT / "roles/luks/files/luks_key_fetch.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class StandinVault(http.server.BaseHTTPRequestHandler):
    sealed_for = 0
    seen: list[dict[str, str]] = []

    def answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = self.path == "/v1/auth/approle/login" and given == {"role_id": "role", "secret_id": "secret"}
        self.answer(200 if right else 400, {"auth": {"client_token": "token"}})

    def do_GET(self) -> None:
        type(self).seen.append(dict(self.headers))
        if type(self).sealed_for:
            type(self).sealed_for -= 1
            self.answer(503, {"errors": ["Vault is sealed"]})
        elif self.path != "/v1/secret/data/llm/host1" or self.headers["X-Vault-Token"] != "token":
            self.answer(403, {"errors": ["permission denied"]})
        else:
            self.answer(200, {"data": {"data": {"models": "the key"}}})

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def vault() -> Iterator[type[StandinVault]]:
    StandinVault.sealed_for, StandinVault.seen = 0, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandinVault)
    StandinVault.address = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield StandinVault
    server.shutdown()
    server.server_close()


def settings(folder: Path, vault: Any, **change: Any) -> str:
    config = {
        "address": vault.address,
        "namespace": "team",
        "mount": "secret",
        "path": "llm/host1",
        "ca_certificate": "",
        "token": "",
        "role_id": "role",
        "secret_id": "secret",
    }
    file = folder / "vault.json"
    file.write_text(json.dumps({**config, **change}))
    return str(file)


@pytest.mark.parametrize("change", [{}, {"token": "token", "role_id": "", "secret_id": ""}])
def test_the_key_is_fetched_for_root_alone(tmp_path: Path, vault: Any, change: dict[str, str]) -> None:
    out = tmp_path / "keys/models"
    assert load().main([settings(tmp_path, vault, **change), "models", str(out)]) == 0
    assert out.read_text() == "the key"
    assert out.stat().st_mode & 0o777 == 0o400 and out.parent.stat().st_mode & 0o077 == 0
    assert vault.seen[-1]["X-Vault-Namespace"] == "team"


def test_it_waits_for_a_server_that_comes_later_and_says_so_once(
    tmp_path: Path, vault: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch = load()
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    vault.sealed_for = 3
    assert fetch.main([settings(tmp_path, vault), "models", str(tmp_path / "key")]) == 0
    said = capsys.readouterr().out
    assert said.count("HTTP status 503") == 1 and "models" in said and "the key" not in said


@pytest.mark.parametrize(
    ("volume", "change", "why"),
    [("logs", {}, "has no field logs"), ("models", {"path": "llm/host2"}, "403"), ("models", {"role_id": "x"}, "400")],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    tmp_path: Path,
    vault: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    volume: str,
    change: dict[str, str],
    why: str,
) -> None:
    fetch = load()

    def stop(seconds: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch.main([settings(tmp_path, vault, **change), volume, str(tmp_path / "key")])
    assert why in capsys.readouterr().out and not (tmp_path / "key").exists()
