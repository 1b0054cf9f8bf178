# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model made from a GGUF file should consist of, and how a stored model differs from it.

How Ollama 0.34.1 builds such a model (server/create.go, server/model.go): each text becomes a layer of its own, the
parameters one JSON layer; where the chat template in the GGUF is a known one, its text and its C(stop) words are added.
So a template or C(stop) that nobody asked for is no difference.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import Layer, Manifest, ModelName, Store

# The manifest digest depends on the name of the file: one fixed name gives one digest on every host.
FILE_NAME = "model.gguf"
_FROM = re.compile(r"^FROM \S*sha256-([0-9a-f]{64})\s*$", re.MULTILINE)


class RecipeError(Exception):
    """A parameter cannot be stored; the message is one sentence."""


@dataclass(frozen=True)
class Recipe:
    """C(sha256) of the GGUF file, hex; None or an empty value leaves the text out."""

    sha256: str
    template: Optional[str] = None
    system: Optional[str] = None
    license: Optional[str] = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def request(self, name: ModelName) -> Dict[str, Any]:
        """Body of /api/create."""
        texts = {"template": self.template, "system": self.system, "license": self.license}
        body: Dict[str, Any] = {"model": name.short, "files": {FILE_NAME: "sha256:" + self.sha256}}
        body.update({key: value for key, value in texts.items() if value})
        if self.parameters:
            body["parameters"] = dict(self.parameters)
        return body

    def parts(self, size_bytes: int) -> Manifest:
        """The blobs whose digests are known before the import; C(size_bytes) is the size of the GGUF file."""
        texts = [text.encode() for text in (self.template, self.system, self.license) if text]
        layers = [Layer("text", hashlib.sha256(text).hexdigest(), len(text)) for text in texts]
        return Manifest("", (Layer("model", self.sha256, size_bytes), *layers))

    def differences_in_store(self, store: Store, manifest: Manifest) -> List[str]:
        """Names of the parts that differ from the stored layers: model, template, system, license, parameters."""
        found = ["model"] if [layer.sha256 for layer in manifest.of_kind("model")] != [self.sha256] else []
        for kind, text in (("template", self.template), ("system", self.system), ("license", self.license)):
            stored = [layer.sha256 for layer in manifest.of_kind(kind)]
            wanted = [hashlib.sha256(text.encode()).hexdigest()] if text else []
            if stored != wanted and (wanted or kind != "template"):
                found.append(kind)
        return found + self._parameter_difference(stored_parameters(store, manifest))

    def differences_in_show(self, shown: Mapping[str, Any]) -> List[str]:
        """The same from the answer of /api/show, for a server whose store cannot be read."""
        origin = _FROM.search(str(shown.get("modelfile", "")))
        found = [] if origin and origin.group(1) == self.sha256 else ["model"]
        for kind, text in (("template", self.template), ("system", self.system), ("license", self.license)):
            if str(shown.get(kind) or "") != (text or "") and (text or kind != "template"):
                found.append(kind)
        return found + self._parameter_difference(shown_parameters(shown))

    def _parameter_difference(self, stored: Optional[Mapping[str, Any]]) -> List[str]:
        if stored is None:
            return ["parameters"]
        rest = {key: value for key, value in stored.items() if key != "stop" or "stop" in self.parameters}
        return [] if _canonical(rest) == _canonical(self.parameters) else ["parameters"]


def clean_parameters(parameters: Mapping[str, Any]) -> Dict[str, Any]:
    """Parameters as the server stores them, C(stop) always a list; raises RecipeError for values it cannot hold."""
    cleaned: Dict[str, Any] = {}
    for key, value in parameters.items():
        items = value if isinstance(value, list) else [value]
        for item in items:
            if not isinstance(item, (bool, int, float, str)):
                raise RecipeError(
                    f"parameters[{key!r}] is {value!r}: give a number, a text, true, false or a list of them"
                )
        cleaned[str(key)] = items if key == "stop" else value
    return cleaned


def stored_parameters(store: Store, manifest: Manifest) -> Optional[Dict[str, Any]]:
    """Parameters in the store, {} where there are none, None where the layer cannot be read."""
    parameters: Dict[str, Any] = {}
    for layer in manifest.of_kind("params"):
        try:
            parameters.update(json.loads(store.read_text_blob(layer.sha256)))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
    return parameters


def shown_parameters(shown: Mapping[str, Any]) -> Dict[str, Any]:
    """Parameters of an /api/show answer: one C(key   value) a line, a list as several lines of one key."""
    lists: Dict[str, List[Any]] = {}
    for line in str(shown.get("parameters") or "").splitlines():
        key, _space, text = line.strip().partition(" ")
        try:
            value = json.loads(text.strip())
        except ValueError:
            value = text.strip()
        if key:
            lists.setdefault(key, []).append(value)
    return {key: values if len(values) > 1 or key == "stop" else values[0] for key, values in lists.items()}


def _canonical(parameters: Mapping[str, Any]) -> str:
    # The server reads every number as a float: 8192 and 8192.0 are the same to it, 1 and true are not.
    return json.dumps({key: _number_as_float(value) for key, value in parameters.items()}, sort_keys=True)


def _number_as_float(value: Any) -> Any:
    if isinstance(value, list):
        return [_number_as_float(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return value
