# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, manifests and blobs of an Ollama model store.

Layout (types/model/name.go and manifest/paths.go of ollama/ollama 0.34.1):
C(<models>/manifests/<host>/<namespace>/<model>/<tag>) is JSON, C(<models>/blobs/sha256-<hex>) the content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Dict, FrozenSet, List, Optional, Tuple

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
MEDIA_PREFIX = "application/vnd.ollama.image."
MAX_MANIFEST_BYTES = 4 << 20
MAX_TEXT_BLOB_BYTES = 4 << 20

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class StoreError(Exception):
    """A name, manifest or blob cannot be used; the message is one sentence."""


class BrokenManifest(StoreError):
    """The file of a manifest is there, but it is no manifest."""


@dataclass(frozen=True)
class ModelName:
    """C([host[:port]/][namespace/]model[:tag]) with its defaults filled in."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def short(self) -> str:
        """The name as /api/tags shows it: host and namespace only where they are not the defaults."""
        prefix = ""
        if self.host.lower() != DEFAULT_HOST:
            prefix = f"{self.host}/{self.namespace}/"
        elif self.namespace.lower() != DEFAULT_NAMESPACE:
            prefix = f"{self.namespace}/"
        return f"{prefix}{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """The name with all four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def same(self, other: ModelName) -> bool:
        """Ollama compares names without regard to case."""
        return self.full.lower() == other.full.lower()


@dataclass(frozen=True)
class Layer:
    """One blob that a manifest claims; C(kind) is the end of the media type (model, template, ...) or C(config)."""

    kind: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """C(digest) is the sha256 of the bytes of the manifest, hex, as in /api/tags. C(layers) ends with the config."""

    digest: str
    layers: Tuple[Layer, ...]

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)

    def of_kind(self, kind: str) -> List[Layer]:
        """Layers of one kind, in order."""
        return [layer for layer in self.layers if layer.kind == kind]


def parse_name(text: str) -> ModelName:
    """Name with defaults; raises StoreError with a sentence for anything that Ollama would refuse."""
    rest, tag = text, DEFAULT_TAG
    if rest.rfind(":") > rest.rfind("/"):
        rest, _colon, tag = rest.rpartition(":")
    parts = rest.split("/")
    if len(parts) > 3:
        raise _bad_name(text, "it has more than two slashes")
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[0] if len(parts) > 2 else DEFAULT_HOST
    for part, pattern, what in (
        (host, _HOST, "host"),
        (namespace, _NAMESPACE, "namespace"),
        (model, _MODEL, "model"),
        (tag, _MODEL, "tag"),
    ):
        if not pattern.match(part):
            raise _bad_name(text, f"its {what} is {part[:100]!r}")
    return ModelName(host, namespace, model, tag)


def _bad_name(text: str, why: str) -> StoreError:
    return StoreError(
        f"{text[:200]!r} is no model name because {why}: write [host[:port]/][namespace/]model[:tag] "
        "with letters, digits, '_', '-' and, outside the namespace, '.'"
    )


def parse_sha256(text: str, what: str) -> str:
    """64 lower-case hex digits of C(text), with or without the prefix C(sha256:); raises StoreError naming C(what)."""
    value = text.strip().lower()
    if value.startswith("sha256:"):
        value = value[len("sha256:") :]
    if not _SHA256.match(value):
        raise StoreError(f"{what} is {text[:100]!r}, not a sha256: give its 64 hex digits")
    return value


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Manifest of its bytes; raises BrokenManifest naming C(where)."""
    try:
        value = json.loads(data)
        layers = [_layer(item, str(item["mediaType"])) for item in value["layers"] or []]
        if value.get("config", {}).get("digest"):
            layers.append(_layer(value["config"], "config"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, StoreError) as exc:
        raise BrokenManifest(
            f"{where} is no model manifest ({exc}): check that the address or file belongs to an "
            "Ollama registry or store"
        ) from exc
    return Manifest(hashlib.sha256(data).hexdigest(), tuple(layers))


def _layer(item: Dict[str, Any], media_type: str) -> Layer:
    kind = media_type[len(MEDIA_PREFIX) :] if media_type.startswith(MEDIA_PREFIX) else media_type
    # Digests become file names: nothing but 64 hex digits may pass (CVE-2024-37032, CVE-2026-103663).
    return Layer(kind, parse_sha256(str(item["digest"]), "a layer's digest"), max(0, int(item["size"])))


def sha256_of_stream(stream: BinaryIO) -> str:
    """Hex sha256 of everything from the current position on."""
    digest = hashlib.sha256()
    while True:
        chunk = stream.read(1 << 20)
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)


def sha256_of_file(path: str) -> str:
    """Hex sha256 of a file; raises OSError."""
    with open(path, "rb") as stream:
        return sha256_of_stream(stream)


@dataclass(frozen=True)
class BlobCheck:
    """Digests (hex) of the blobs of a manifest that are corrupt and that are missing, and how many bytes they need."""

    corrupt: Tuple[str, ...]
    missing: Tuple[str, ...]
    needed_bytes: int

    @property
    def bad(self) -> Tuple[str, ...]:
        return self.corrupt + self.missing


class Store:
    """The folder that the server knows as OLLAMA_MODELS."""

    def __init__(self, root: str) -> None:
        self.root = root

    def manifest_path(self, name: ModelName) -> str:
        return os.path.join(self.root, "manifests", name.host, name.namespace, name.model, name.tag)

    def blob_path(self, sha256: str) -> str:
        return os.path.join(self.root, "blobs", "sha256-" + sha256)

    def read_manifest(self, name: ModelName) -> Optional[Manifest]:
        """Stored manifest, None where there is none; raises BrokenManifest, or OSError where it cannot be read."""
        path = self.manifest_path(name)
        try:
            with open(path, "rb") as stream:
                data = stream.read(MAX_MANIFEST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return parse_manifest(data, path)

    def read_text_blob(self, sha256: str) -> str:
        """Text of a template, system, license or parameter blob, at most 4 MiB; raises OSError."""
        with open(self.blob_path(sha256), "rb") as stream:
            return stream.read(MAX_TEXT_BLOB_BYTES).decode("utf-8", "replace")

    def check(self, manifest: Manifest, hash_content: bool = True, trusted: FrozenSet[str] = frozenset()) -> BlobCheck:
        """Compares every blob with its digest, or only with its size; C(trusted) digests were hashed a moment ago."""
        sizes = {layer.sha256: layer.size_bytes for layer in manifest.layers}
        corrupt, missing, needed_bytes = [], [], 0
        for sha256, size_bytes in sizes.items():
            path = self.blob_path(sha256)
            if not os.path.exists(path):
                missing.append(sha256)
                needed_bytes += max(0, size_bytes - self.partial_bytes(sha256))
            elif sha256 not in trusted and not _is_intact(path, sha256, size_bytes, hash_content):
                # The bad file goes before the good one comes: only the difference is needed.
                corrupt.append(sha256)
                needed_bytes += max(0, size_bytes - _allocated_bytes(path))
        return BlobCheck(tuple(corrupt), tuple(missing), needed_bytes)

    def partial_bytes(self, sha256: str) -> int:
        """Disk space that an interrupted pull of this blob already holds; its apparent size is the full one at once."""
        return _allocated_bytes(self.blob_path(sha256) + "-partial")

    def delete_blob(self, sha256: str) -> None:
        """Removes a blob and what the server remembers of its header; raises OSError."""
        for path in (self.blob_path(sha256), os.path.join(self.root, "metadata", f"sha256-{sha256}.json")):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def free_bytes(self) -> int:
        """Space that is left for an ordinary user on the file system of the store; raises OSError."""
        stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize


def _is_intact(path: str, sha256: str, size_bytes: int, hash_content: bool) -> bool:
    # Where the content is hashed, the size that a manifest claims is of no further interest.
    return sha256_of_file(path) == sha256 if hash_content else os.path.getsize(path) == size_bytes


def _allocated_bytes(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
