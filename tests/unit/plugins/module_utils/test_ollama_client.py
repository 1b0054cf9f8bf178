# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against the stand-in, and its sentences for everything that can go wrong."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_client import (
    OllamaClient,
    OllamaError,
    OllamaUnreachable,
)
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import sha256


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_empty_lists_arrive_as_null(ollama: Any) -> None:
    client = OllamaClient(ollama.url)
    assert client.version() == "0.34.1"
    assert client.tags() == []
    assert client.ps() == []


def test_upload_create_show_copy_delete(ollama: Any) -> None:
    client = OllamaClient(ollama.url + "/")
    data = b"G" * 3_000_000
    assert not client.blob_exists(sha256(data))
    client.blob_upload(sha256(data), io.BytesIO(data), len(data))
    assert client.blob_exists(sha256(data))
    lines = list(client.create({"model": "a:b", "files": {"model.gguf": "sha256:" + sha256(data)}, "system": "Hi."}))
    assert lines[-1] == {"status": "success"}
    assert client.show("a:b")["system"] == "Hi."
    client.copy("a:b", "c:d")
    assert [model["name"] for model in client.tags()] == ["a:b", "c:d"]
    assert client.delete("a:b")
    assert not client.delete("a:b")
    assert client.generate({"model": "c:d", "keep_alive": 0})["stream"] is False


def test_upload_of_other_content_is_refused(ollama: Any) -> None:
    with pytest.raises(OllamaError, match="400: digest mismatch"):
        OllamaClient(ollama.url).blob_upload(sha256(b"a"), io.BytesIO(b"b"), 1)


def test_unknown_model_has_a_status(ollama: Any) -> None:
    with pytest.raises(OllamaError) as caught:
        OllamaClient(ollama.url).show("a:b")
    assert caught.value.status == 404


def test_an_error_line_in_a_stream_of_status_200_is_an_error(ollama: Any, files: Any) -> None:
    files.add_model("library/x", "y", [("model", b"GGUF")], b"{}")
    ollama.pull_error = "write: no space left on device"
    lines = OllamaClient(ollama.url).pull("registry.ollama.ai/library/x:y")
    assert next(lines) == {"status": "pulling manifest"}
    with pytest.raises(OllamaError, match=r"/api/pull failed \(write: no space left on device\): run again"):
        list(lines)


def test_a_stream_that_ends_without_success_is_an_error(ollama: Any) -> None:
    ollama._create = lambda request, asked: ollama._stream(request, [{"status": "parsing GGUF"}])
    with pytest.raises(OllamaError, match="before it said success"):
        list(OllamaClient(ollama.url).create({}))


def test_an_error_before_the_stream_has_its_status(ollama: Any) -> None:
    with pytest.raises(OllamaError, match="500: blob not found"):
        list(OllamaClient(ollama.url).create({"files": {"model.gguf": "sha256:" + "0" * 64}}))


def test_nothing_listens() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(OllamaUnreachable, match=f"{url}/api/version got no answer .* start the Ollama server"):
        OllamaClient(url).version()


def test_silence_names_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = OllamaClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(OllamaUnreachable, match="silent for 0.05 s: raise timeout"):
            client.version()


def test_proxies_of_the_environment_are_not_used(ollama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(key, f"http://127.0.0.1:{closed_port()}")
    assert OllamaClient(ollama.url).version()


def test_another_web_server_is_recognized(files: Any) -> None:
    files.files["/api/version"] = b"<html>"
    with pytest.raises(OllamaError, match="no JSON"):
        OllamaClient(files.url).version()
    files.files["/api/version"] = b"[1]"
    with pytest.raises(OllamaError, match="no JSON object"):
        OllamaClient(files.url).version()


@pytest.mark.parametrize(
    "url", ["127.0.0.1:11434", "ftp://h", "http://", "http://h:port", "http://h/v1", "http://h:99999"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(OllamaError, match="api_url"):
        OllamaClient(url)


def test_the_connection_can_be_replaced() -> None:
    asked: list[tuple[str, str, int, float]] = []

    def connector(scheme: str, host: str, port: int, timeout_s: float) -> Any:
        asked.append((scheme, host, port, timeout_s))
        raise OSError("no network in this test")

    client = OllamaClient("https://gpu1", 5, 600, lambda *args: Replaced(connector, args))
    with pytest.raises(OllamaUnreachable, match="no network in this test"):
        client.version()
    with pytest.raises(OllamaUnreachable):
        client.generate({})
    assert asked == [("https", "gpu1", 443, 5), ("https", "gpu1", 443, 600)]


class Replaced:
    """A connection that fails as soon as it is used."""

    def __init__(self, connector: Any, args: Any) -> None:
        self.connector, self.args = connector, args

    def request(self, *_args: Any, **_kwargs: Any) -> None:
        self.connector(*self.args)

    def close(self) -> None:
        pass
