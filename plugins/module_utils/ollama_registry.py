# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a model is pulled from: the public registry, a private one, or a mirror laid out as static files."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import Any, Callable, Dict
from urllib.error import HTTPError
from urllib.parse import urlsplit

from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import (
    DEFAULT_HOST,
    MAX_MANIFEST_BYTES,
    Manifest,
    ModelName,
    StoreError,
    parse_manifest,
    parse_name,
)

DEFAULT_REGISTRY = "https://" + DEFAULT_HOST
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

# (url, headers) -> an answer as urllib gives it; raises HTTPError or OSError.
OpenHttp = Callable[[str, Dict[str, str]], Any]


class RegistryError(Exception):
    """The registry cannot give the model; the message is one sentence."""


class RegistryUnreachable(RegistryError):
    """The registry did not answer, or not with a decision about this model."""


@dataclass(frozen=True)
class Source:
    """C(model) in one registry. C(pull_name) is what the server pulls, C(renamed) if that is another name."""

    model: str
    base_url: str
    pull_name: str
    manifest_url: str
    insecure: bool
    renamed: bool


def source_of(registry: str, name: ModelName) -> Source:
    """Source of a model; C(registry) is C(http(s)://host[:port]). Raises RegistryError."""
    parts = urlsplit(registry)
    is_default = registry.rstrip("/").lower() == DEFAULT_REGISTRY
    if is_default:
        base_url, pull = "https://" + name.host, name
    else:
        base_url, pull = f"{parts.scheme}://{parts.netloc}", _name_at(registry, name)
        if name.host.lower() not in (DEFAULT_HOST, parts.netloc.lower()):
            raise RegistryError(
                f"model {name.short} names the host {name.host} and registry is {registry}: leave one of them out"
            )
    manifest_url = f"{base_url}/v2/{pull.namespace}/{pull.model}/manifests/{pull.tag}"
    return Source(name.short, base_url, pull.short, manifest_url, base_url.startswith("http://"), not pull.same(name))


def _name_at(registry: str, name: ModelName) -> ModelName:
    parts = urlsplit(registry)
    try:
        if parts.scheme in ("http", "https") and not parts.path.strip("/") and not parts.query:
            return parse_name(f"{parts.netloc}/{name.namespace}/{name.model}:{name.tag}")
    except StoreError:
        pass
    raise RegistryError(
        f"registry {registry!r} cannot be used: write http://host:port or https://host:port, without "
        "a path, since the host becomes part of the model's name"
    )


def fetch_manifest(source: Source, open_http: OpenHttp) -> Manifest:
    """The manifest that the registry holds now; raises RegistryError, BrokenManifest."""
    try:
        answer = open_http(source.manifest_url, {"Accept": MANIFEST_TYPE})
        try:
            data = answer.read(MAX_MANIFEST_BYTES)
        finally:
            answer.close()
    except HTTPError as exc:
        exc.close()
        if exc.code == 404:
            raise RegistryError(
                f"model {source.model} does not exist in registry {source.base_url}; "
                "check the spelling of models_list[].name"
            ) from exc
        raise RegistryUnreachable(
            f"{source.manifest_url} answered {exc.code} {exc.reason}: check the registry "
            "and the rights that it asks for"
        ) from exc
    except (OSError, ValueError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise RegistryUnreachable(
            f"registry {source.base_url} cannot be reached ({reason}): check the network, or set registry to a mirror"
        ) from exc
    return parse_manifest(data, source.manifest_url)
