# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin client of the Ollama HTTP API (docs/api.md of ollama/ollama; behaviour measured with 0.34.1).

It speaks C(http.client), so that proxy variables of the environment never touch the API, which listens on loopback.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, Optional
from urllib.parse import urlsplit

DEFAULT_API_URL = "http://127.0.0.1:11434"
MAX_LINE_BYTES = 1 << 20
MAX_ANSWER_BYTES = 64 << 20
_NO_OLLAMA = "set api_url to the address of an Ollama server"

# (scheme, host, port, timeout_s) -> connection; tests give their own.
Connect = Callable[[str, str, int, float], http.client.HTTPConnection]


class OllamaError(Exception):
    """The API refused or failed; the message is one sentence. C(status) is the HTTP status, 0 for a streamed error."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class OllamaUnreachable(OllamaError):
    """Nothing answered at the address of the API."""


def connect(scheme: str, host: str, port: int, timeout_s: float) -> http.client.HTTPConnection:
    """A connection that is not open yet, with an upload block of 1 MiB."""
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context, blocksize=1 << 20)
    return http.client.HTTPConnection(host, port, timeout=timeout_s, blocksize=1 << 20)


class OllamaClient:
    """One Ollama server.

    C(timeout_s) bounds the wait for each answer, C(stream_timeout_s) the silence within pull, create, upload and
    generate, which say nothing for minutes while they hash or load tens of gigabytes.
    """

    def __init__(
        self,
        api_url: str = DEFAULT_API_URL,
        timeout_s: float = 30,
        stream_timeout_s: float = 900,
        connector: Connect = connect,
    ) -> None:
        parts = urlsplit(api_url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.path.strip("/"):
            raise OllamaError(
                f"api_url {api_url!r} is no address of an Ollama server: "
                f"write it as scheme://host:port, like {DEFAULT_API_URL}"
            )
        self.api_url = api_url.rstrip("/")
        self.timeout_s = timeout_s
        self.stream_timeout_s = stream_timeout_s
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._connector = connector

    def version(self) -> str:
        """Version of the server, like C(0.34.1)."""
        return str(self._json("GET", "/api/version").get("version", ""))

    def tags(self) -> List[Dict[str, Any]]:
        """Stored models: name, digest (hex, sha256 of the manifest), size (bytes), details."""
        return _models(self._json("GET", "/api/tags"))

    def ps(self) -> List[Dict[str, Any]]:
        """Loaded models: name, digest, size and size_vram (bytes), expires_at, context_length (tokens)."""
        return _models(self._json("GET", "/api/ps"))

    def show(self, model: str) -> Dict[str, Any]:
        """Modelfile, parameters, template, system, license, details; OllamaError with status 404 where unknown."""
        return self._json("POST", "/api/show", {"model": model})

    def pull(self, model: str, insecure: bool = False) -> Iterator[Dict[str, Any]]:
        """Progress lines {status, digest, total, completed} of a pull; C(insecure) means plain HTTP to the registry."""
        return self._stream("/api/pull", {"model": model, "insecure": insecure, "stream": True})

    def create(self, request: Mapping[str, Any]) -> Iterator[Dict[str, Any]]:
        """Progress lines of /api/create; C(request) is its body without C(stream)."""
        return self._stream("/api/create", {**request, "stream": True})

    def copy(self, source: str, destination: str) -> None:
        """Gives a model a second name."""
        self._json("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> bool:
        """Removes a model; False where there was none."""
        try:
            self._json("DELETE", "/api/delete", {"model": model})
        except OllamaError as exc:
            if exc.status == 404:
                return False
            raise
        return True

    def blob_exists(self, sha256: str) -> bool:
        """True where the store has a file under this digest; its content is not checked by the server."""
        try:
            self._json("HEAD", f"/api/blobs/sha256:{sha256}")
        except OllamaError as exc:
            if exc.status == 404:
                return False
            raise
        return True

    def blob_upload(self, sha256: str, stream: BinaryIO, size_bytes: int) -> None:
        """Sends C(size_bytes) of an open file; content of another digest is refused but stays stored under its own."""
        headers = {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"}
        response = self._send("POST", f"/api/blobs/sha256:{sha256}", stream, headers, self.stream_timeout_s)
        self._answer("POST", f"/api/blobs/sha256:{sha256}", response)

    def generate(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        """Answer of /api/generate without streaming; with only C(model) and C(keep_alive) it loads or unloads."""
        return self._json("POST", "/api/generate", {**request, "stream": False}, self.stream_timeout_s)

    def _json(
        self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, timeout_s: Optional[float] = None
    ) -> Dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        response = self._send(method, path, data, headers, timeout_s or self.timeout_s)
        return self._answer(method, path, response)

    def _stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        response = self._send("POST", path, json.dumps(body).encode(), headers, self.stream_timeout_s)
        if response.status != 200:
            self._answer("POST", path, response)
        last: Dict[str, Any] = {}
        for line in self._lines(path, response):
            last = line
            yield line
        if last.get("status") != "success":
            raise OllamaError(
                f"POST {self.api_url}{path} ended before it said success (last word: {last}): "
                "look into the log of the Ollama server and run again"
            )

    def _lines(self, path: str, response: http.client.HTTPResponse) -> Iterator[Dict[str, Any]]:
        # Errors after the first line cannot change the status any more: they arrive as a line of a 200 answer.
        try:
            while True:
                raw = response.readline(MAX_LINE_BYTES)
                if not raw:
                    return
                if raw.strip():
                    line = _decode(raw, f"POST {self.api_url}{path}")
                    if "error" in line:
                        raise OllamaError(
                            f"POST {self.api_url}{path} failed ({line['error']}): run again, and if it stays so "
                            "look into the log of the Ollama server and at its source"
                        )
                    yield line
        except (OSError, http.client.HTTPException) as exc:
            raise OllamaUnreachable(self._lost("POST", path, exc, self.stream_timeout_s)) from exc
        finally:
            response.close()

    def _send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        connection = self._connector(self._scheme, self._host, self._port, timeout_s)
        try:
            # One request a connection: a kept connection could be closed by the server between two long steps.
            connection.request(method, path, body=body, headers={**headers, "Connection": "close"})
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            raise OllamaUnreachable(self._lost(method, path, exc, timeout_s)) from exc

    def _answer(self, method: str, path: str, response: http.client.HTTPResponse) -> Dict[str, Any]:
        try:
            raw = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise OllamaUnreachable(self._lost(method, path, exc, self.timeout_s)) from exc
        finally:
            response.close()
        where = f"{method} {self.api_url}{path}"
        if response.status < 300:
            return _decode(raw, where) if raw.strip() else {}
        raise OllamaError(f"{where} answered {response.status}: {_reason(raw) or response.reason}", response.status)

    def _lost(self, method: str, path: str, exc: Exception, timeout_s: float) -> str:
        if isinstance(exc, TimeoutError) or "timed out" in str(exc):
            return (
                f"{method} {self.api_url}{path} was silent for {timeout_s:g} s: raise timeout, "
                "or look into the log of the Ollama server"
            )
        return (
            f"{method} {self.api_url}{path} got no answer ({exc or type(exc).__name__}): "
            "start the Ollama server, or correct api_url"
        )


def _models(answer: Mapping[str, Any]) -> List[Dict[str, Any]]:
    # Go writes an empty list as null.
    models = answer.get("models") or []
    return [model for model in models if isinstance(model, dict)]


def _decode(raw: bytes, where: str) -> Dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as exc:
        raise OllamaError(f"{where} answered {raw[:80]!r}, which is no JSON: {_NO_OLLAMA}") from exc
    if not isinstance(value, dict):
        raise OllamaError(f"{where} answered {raw[:80]!r}, which is no JSON object: {_NO_OLLAMA}")
    return value


def _reason(raw: bytes) -> str:
    try:
        value = json.loads(raw)
    except ValueError:
        return raw[:200].decode("utf-8", "replace").strip()
    return str(value.get("error", "")) if isinstance(value, dict) else ""
