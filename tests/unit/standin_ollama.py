# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for an Ollama server and for a registry of static files, small enough to start within a test.

They copy the traps of Ollama 0.34.1: a blob file that exists is a cache hit whatever is in it, an error in a stream
comes as a line of a 200 answer, a model with a broken config is not listed, an upload of other content stays as an
orphan, a known chat template brings its own stop words.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator

MEDIA = "application/vnd.ollama.image."
CONFIG_MEDIA = "application/vnd.docker.container.image.v1+json"
AUTO_TEMPLATE = b"{{ .Prompt }} of the stand-in"
AUTO_STOP = ["<|im_start|>", "<|im_end|>"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def layer(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind if "." in kind else MEDIA + kind, "digest": "sha256:" + sha256(data), "size": len(data)}


def manifest_bytes(blobs: list[tuple[str, bytes]], config: bytes) -> bytes:
    layers = [layer(kind, data) for kind, data in blobs]
    return json.dumps({"schemaVersion": 2, "config": layer(CONFIG_MEDIA, config), "layers": layers}).encode()


class _Server:
    """A threaded server on a free loopback port; `calls` holds "METHOD path" of every request."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _serve(self) -> None:
                outer.calls.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.answer(self, body)

            do_GET = do_HEAD = do_POST = do_DELETE = _serve

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.url = "http://" + self.host
        self._thread = threading.Thread(target=lambda: self._http.serve_forever(poll_interval=0.01), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    @staticmethod
    def send(request: BaseHTTPRequestHandler, status: int, data: bytes = b"") -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)


class StandinFiles(_Server):
    """Static files by path. `ranges` False: Range is ignored. `cut_bytes`: the body ends so many bytes too early."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.cut_bytes = 0
        self.status = 0
        self.claimed_size_bytes: int | None = None

    def add_model(self, name: str, tag: str, blobs: list[tuple[str, bytes]], config: bytes) -> str:
        """Puts a model like library/x into the registry; gives the digest of its manifest."""
        data = manifest_bytes(blobs, config)
        self.files[f"/v2/{name}/manifests/{tag}"] = data
        for _kind, blob in [*blobs, ("config", config)]:
            self.files[f"/v2/{name}/blobs/sha256:{sha256(blob)}"] = blob
        return sha256(data)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        data = self.files.get(request.path)
        if self.status or data is None:
            self.send(request, self.status or 404)
            return
        asked = request.headers.get("Range", "") if self.ranges else ""
        begin = int(asked[len("bytes=") :].partition("-")[0]) if asked else 0
        if begin and begin >= len(data):
            self.send(request, 416)
            return
        request.send_response(206 if asked else 200)
        if asked:
            request.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(self.claimed_size_bytes or len(data) - begin))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(data[begin : len(data) - self.cut_bytes])
        request.close_connection = True


class StandinOllama(_Server):
    """The API over a store folder of the real layout. `pull_error`: text of an error line in the middle of a pull."""

    def __init__(self, models_dir: Path, registry: StandinFiles) -> None:
        self.models_dir = models_dir
        self.registry = registry
        self.pull_error = ""
        self.loaded: list[dict[str, Any]] = []
        (models_dir / "blobs").mkdir(parents=True)
        super().__init__()

    # Store

    def blob(self, digest: str) -> Path:
        return self.models_dir / "blobs" / digest.replace(":", "-")

    def manifest(self, name: str) -> Path:
        rest, _colon, tag = name.rpartition(":")
        parts = rest.split("/")
        full = ["registry.ollama.ai", "library"][: 3 - len(parts)] + parts if len(parts) < 3 else parts
        return self.models_dir.joinpath("manifests", *full, tag)

    def put_blob(self, data: bytes) -> str:
        path = self.blob("sha256:" + sha256(data))
        if not path.exists():
            path.write_bytes(data)
        return sha256(data)

    def write_manifest(self, name: str, data: bytes) -> None:
        path = self.manifest(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def names(self) -> Iterator[tuple[str, Path]]:
        for path in sorted((self.models_dir / "manifests").glob("*/*/*/*")):
            host, namespace, model, tag = path.relative_to(self.models_dir / "manifests").parts
            prefix = f"{host}/{namespace}/" if host != "registry.ollama.ai" else ""
            prefix = prefix or ("" if namespace == "library" else namespace + "/")
            yield f"{prefix}{model}:{tag}", path

    # API

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if request.path.startswith("/api/blobs/"):
            self._blobs(request, body)
            return
        asked = json.loads(body) if body else {}
        handler = getattr(self, "_" + request.path.rpartition("/")[2], None)
        if handler is None:
            self.send(request, 404, b"404 page not found")
            return
        handler(request, asked)

    def _reply(self, request: BaseHTTPRequestHandler, value: Any, status: int = 200) -> None:
        self.send(request, status, json.dumps(value).encode())

    def _stream(self, request: BaseHTTPRequestHandler, lines: list[dict[str, Any]]) -> None:
        self.send(request, 200, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def _blobs(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        digest = request.path.rpartition("/")[2]
        if request.command == "HEAD":
            self.send(request, 200 if self.blob(digest).exists() else 404)
        elif self.blob(digest).exists():
            self.send(request, 200)
        else:
            stored = self.put_blob(body)
            ok = "sha256:" + stored == digest
            self._reply(request, {} if ok else {"error": "digest mismatch"}, 201 if ok else 400)

    def _version(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        self._reply(request, {"version": "0.34.1"})

    def _ps(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        self._reply(request, {"models": self.loaded})

    def _tags(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        models = []
        for name, path in self.names():
            try:
                value = json.loads(path.read_bytes())
                config = json.loads(self.blob(value["config"]["digest"]).read_bytes())
            except (OSError, ValueError):
                continue
            size = sum(item["size"] for item in [*value["layers"], value["config"]])
            details = {"family": config["model_family"], "parameter_size": "135M", "quantization_level": "Q4_1"}
            models.append({"name": name, "digest": sha256(path.read_bytes()), "size": size, "details": details})
        self._reply(request, {"models": models or None})

    def _show(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        path = self.manifest(asked["model"])
        if not path.exists():
            self._reply(request, {"error": "model not found"}, 404)
            return
        shown = {"modelfile": "# shown\n", "template": "", "system": "", "license": "", "parameters": ""}
        for item in json.loads(path.read_bytes())["layers"]:
            kind, text = item["mediaType"][len(MEDIA) :], self.blob(item["digest"])
            if kind == "model":
                shown["modelfile"] += f"FROM {text}\n"
            elif kind == "params":
                shown["parameters"] = _parameter_lines(json.loads(text.read_bytes()))
            else:
                shown[kind] = text.read_text()
        self._reply(request, shown)

    def _delete(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        path = self.manifest(asked["model"])
        if path.exists():
            path.unlink()
            self._reply(request, {})
        else:
            self._reply(request, {"error": "model not found"}, 404)

    def _copy(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        self.write_manifest(asked["destination"], self.manifest(asked["source"]).read_bytes())
        self.send(request, 200)

    def _generate(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        self._reply(request, {"model": asked["model"], "done": True, "stream": asked["stream"]})

    def _pull(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        path = self.manifest(asked["model"])
        _host, namespace, model, tag = path.relative_to(self.models_dir / "manifests").parts
        base = f"/v2/{namespace}/{model}"
        lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        data = self.registry.files[f"{base}/manifests/{tag}"]
        value = json.loads(data)
        for item in [*value["layers"], value["config"]]:
            lines += [{"status": "pulling " + item["digest"][7:19], "completed": done} for done in (0, item["size"])]
            if self.pull_error:
                self._stream(request, [*lines, {"error": self.pull_error}])
                return
            if not self.blob(item["digest"]).exists():
                self.put_blob(self.registry.files[f"{base}/blobs/{item['digest']}"])
        self.write_manifest(asked["model"], data)
        self._stream(request, [*lines, {"status": "writing manifest"}, {"status": "success"}])

    def _create(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        ((file_name, digest),) = asked["files"].items()
        if not self.blob(digest).exists():
            self._reply(request, {"error": "blob not found"}, 500)
            return
        data = self.blob(digest).read_bytes()
        layers = [{**layer("model", data), "digest": digest, "from": file_name}]
        given = {key: asked[key] for key in ("template", "system", "license") if key in asked}
        texts = {"template": AUTO_TEMPLATE.decode(), **given}
        for kind, text in texts.items():
            self.put_blob(text.encode())
            layers.append(layer(kind, text.encode()))
        parameters = json.dumps({"stop": AUTO_STOP, **asked.get("parameters", {})}).encode()
        config = json.dumps({"model_family": "llama"}).encode()
        self.put_blob(parameters)
        self.put_blob(config)
        layers.append(layer("params", parameters))
        value = {"schemaVersion": 2, "config": layer(CONFIG_MEDIA, config), "layers": layers}
        self.write_manifest(asked["model"], json.dumps(value).encode())
        self._stream(request, [{"status": "parsing GGUF"}, {"status": "writing manifest"}, {"status": "success"}])


def _parameter_lines(parameters: dict[str, Any]) -> str:
    lists = {key: value if isinstance(value, list) else [value] for key, value in parameters.items()}
    return "\n".join(f"{key:30} {json.dumps(item)}" for key, items in lists.items() for item in items)
