# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one model of an Ollama server to its wanted state, and says what it did or would do.

Order of every change: find out, ask the source, refuse, then delete what is corrupt, then fetch. Nothing is deleted
before the source is known to have what is needed, so that an outage leaves what was there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterable, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_client import (
    OllamaClient,
    OllamaError,
    OllamaUnreachable,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_recipe import (
    Recipe,
    shown_parameters,
    stored_parameters,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_registry import (
    OpenHttp,
    RegistryUnreachable,
    Source,
    fetch_manifest,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import (
    BlobCheck,
    BrokenManifest,
    Manifest,
    ModelName,
    Store,
    StoreError,
    parse_name,
    sha256_of_file,
)

NOTHING_BAD = BlobCheck((), (), 0)


class SyncError(Exception):
    """The wanted state cannot be reached; the message is one sentence."""


@dataclass(frozen=True)
class Seen:
    """What the server and the store hold under the name. Without a store C(manifest) is None, C(check) empty."""

    digest: Optional[str] = None
    size_bytes: int = 0
    manifest: Optional[Manifest] = None
    manifest_is_broken: bool = False
    check: BlobCheck = NOTHING_BAD


@dataclass
class Report:
    """The result: C(before) and C(after) are {name, digest, parameters} or {} where the model is absent."""

    changed: bool = False
    digest: Optional[str] = None
    size_bytes: Optional[int] = None
    actions: List[str] = field(default_factory=list)
    repaired: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    before: Dict[str, Any] = field(default_factory=dict)
    after: Dict[str, Any] = field(default_factory=dict)


class ModelSync:
    """One model on one server. C(store) is None where the server's folder cannot be read from here."""

    def __init__(
        self,
        client: OllamaClient,
        store: Optional[Store],
        name: ModelName,
        verify: bool = True,
        check_mode: bool = False,
        disk_reserve_bytes: int = 0,
    ) -> None:
        self.client = client
        self.store = store
        self.name = name
        self.verify = verify
        self.check_mode = check_mode
        self.disk_reserve_bytes = disk_reserve_bytes
        self.report = Report()

    def absent(self) -> Report:
        """Removes the model; its blobs go with it unless another model shares them."""
        self.verify = False
        seen = self._start()
        if seen.digest is None and seen.manifest is None and not seen.manifest_is_broken:
            return self._unchanged(seen)
        self._will(f"delete {self.name.short}")
        if not self.check_mode:
            self._drop_broken_manifest(seen)
            self.client.delete(self.name.short)
            if self._listed() is not None:
                raise SyncError(
                    f"the server at {self.client.api_url} still lists {self.name.short} after it was "
                    "deleted: look into its log"
                )
        return self.report

    def present_from_registry(self, source: Source, pin: Optional[str], open_http: OpenHttp) -> Report:
        """Pulls what is missing, corrupt, or not the pinned digest. A tag that moved without a pin is left alone."""
        seen = self._start()
        if seen.digest and not seen.check.bad and pin in (None, seen.digest):
            self._unchanged(seen)
            return self._without_long_name(source)
        try:
            manifest = fetch_manifest(source, open_http)
        except RegistryUnreachable as exc:
            if not self.check_mode:
                raise
            return self._predict_blind(f"{exc}; whether the model can be pulled is not known", seen, pin)
        if pin and manifest.digest != pin:
            raise SyncError(
                f"{source.manifest_url} has digest {manifest.digest}, expected {pin}: nothing was changed; "
                "correct models_list[].digest, or let the registry hold the pinned version"
            )
        check = self._check_target(seen, manifest)
        self._note_repairs(seen, check)
        self._require_space(check.needed_bytes, f"pull {self.name.short}")
        self._will(f"pull {source.pull_name}")
        self._after(manifest.digest, manifest.size_bytes, self._parameters(seen) if manifest == seen.manifest else None)
        if not self.check_mode:
            self._drop(check.corrupt)
            self._drop_broken_manifest(seen)
            self._log(self.client.pull(source.pull_name, source.insecure))
            if source.renamed:
                self._will(f"copy {source.pull_name} to {self.name.short}")
                self.client.copy(source.pull_name, self.name.short)
                self.client.delete(source.pull_name)
            # What the server fetched it hashed itself, and what it found in its store was hashed above.
            self._confirm(manifest.digest, frozenset(layer.sha256 for layer in manifest.layers))
        return self.report

    def present_from_gguf(self, path: str, recipe: Recipe) -> Report:
        """Imports a GGUF file of the host unless a model of the same parts is stored."""
        seen = self._start()
        differences = self._differences(seen, recipe)
        if not differences and not seen.check.bad:
            return self._unchanged(seen)
        self._will(f"import {path} as {self.name.short} because of {', '.join(differences) or 'bad blobs'}")
        self._after(None, None, dict(recipe.parameters))
        if not os.path.isfile(path):
            if not self.check_mode:
                raise SyncError(f"{path} is not on the host: fetch it before the import, or correct gguf")
            self.report.warnings.append(f"{path} does not exist yet, so its sha256 could not be checked.")
            return self.report
        size_bytes = self._require_good_gguf(path, recipe.sha256)
        parts = self._check_target(seen, recipe.parts(size_bytes))
        corrupt = tuple(dict.fromkeys(seen.check.corrupt + parts.corrupt))
        self._note_repairs(seen, BlobCheck(corrupt, seen.check.missing, 0))
        self._require_space(parts.needed_bytes, f"import {path}")
        if not self.check_mode:
            self._drop(corrupt)
            self._drop_broken_manifest(seen)
            self._create(path, size_bytes, recipe)
        return self.report

    # Finding out

    def _start(self) -> Seen:
        if self.store is not None and not os.path.isdir(self.store.root):
            if not self.check_mode:
                raise SyncError(
                    f"models_dir {self.store.root} is no folder on the host: set it to OLLAMA_MODELS of the server"
                )
            self.store = None
        try:
            seen = self._observe()
        except OllamaUnreachable as exc:
            if not self.check_mode:
                raise
            self.report.warnings.append(f"{exc}; the model counts as absent in check mode.")
            seen = Seen()
        if seen.digest:
            self.report.before = self._described(seen.digest, self._parameters(seen))
        return seen

    def _observe(self, trusted: FrozenSet[str] = frozenset()) -> Seen:
        listed = self._listed()
        digest, size_bytes = (str(listed.get("digest", "")), int(listed.get("size", 0))) if listed else (None, 0)
        if self.store is None:
            return Seen(digest, size_bytes)
        try:
            manifest = self.store.read_manifest(parse_name(listed["name"]) if listed else self.name)
        except BrokenManifest:
            return Seen(manifest_is_broken=True)
        if digest and (manifest is None or manifest.digest != digest):
            raise SyncError(
                f"models_dir {self.store.root} does not hold the manifest {digest} of {self.name.short} "
                f"that the server at {self.client.api_url} lists: set it to OLLAMA_MODELS of that server"
            )
        if manifest is None:
            return Seen()
        check = self.store.check(manifest, self.verify, trusted)
        # A manifest can be there although the server does not list it: a corrupt config blob hides a model.
        return Seen(digest, manifest.size_bytes, manifest, check=check)

    def _without_long_name(self, source: Source) -> Report:
        """Removes the mirror's name of the model, which a run leaves that is cut off between copy and delete."""
        if source.renamed and self._listed(parse_name(source.pull_name)) is not None:
            self._will(f"delete {source.pull_name}, left by a run that was cut off")
            if not self.check_mode:
                self.client.delete(source.pull_name)
        return self.report

    def _listed(self, name: Optional[ModelName] = None) -> Optional[Dict[str, Any]]:
        for model in self.client.tags():
            try:
                if parse_name(str(model.get("name", ""))).same(name or self.name):
                    return model
            except StoreError:
                continue
        return None

    def _parameters(self, seen: Seen) -> Optional[Dict[str, Any]]:
        if self.store is not None and seen.manifest is not None:
            return stored_parameters(self.store, seen.manifest)
        try:
            return shown_parameters(self.client.show(self.name.short))
        except OllamaError:
            return None

    def _differences(self, seen: Seen, recipe: Recipe) -> List[str]:
        if seen.digest is None:
            return ["absence"]
        if self.store is not None and seen.manifest is not None:
            return recipe.differences_in_store(self.store, seen.manifest)
        try:
            return recipe.differences_in_show(self.client.show(self.name.short))
        except OllamaUnreachable:
            raise
        except OllamaError:
            return ["damage"]

    def _check_target(self, seen: Seen, manifest: Manifest) -> BlobCheck:
        """Blobs of the wanted manifest; a stored file that belongs to no known good model is hashed as well."""
        if self.store is None:
            return NOTHING_BAD
        if manifest == seen.manifest:
            return seen.check
        known = seen.manifest.layers if seen.manifest else ()
        trusted = frozenset(layer.sha256 for layer in known) - frozenset(seen.check.bad)
        return self.store.check(manifest, self.verify, trusted)

    # Refusing

    def _require_space(self, needed_bytes: int, what: str) -> None:
        if self.store is None or not needed_bytes:
            return
        free_bytes = self.store.free_bytes()
        if free_bytes < needed_bytes + self.disk_reserve_bytes:
            raise SyncError(
                f"cannot {what}: {self.store.root} has {free_bytes >> 20} MiB free, and {_mib(needed_bytes)} MiB are "
                f"needed besides the {_mib(self.disk_reserve_bytes)} MiB of disk_reserve_mib; free some space"
            )

    def _require_good_gguf(self, path: str, sha256: str) -> int:
        """Size of the file in bytes; a file that is cut off is named as such, which says more than a wrong sha256."""
        try:
            header = gguf.read_header(path)
            complaint = gguf.cut_off_message(path, header)
        except gguf.GgufUnknownTypeError as exc:
            self.report.warnings.append(f"{exc}; its sha256 is checked nevertheless.")
            complaint = None
        if complaint:
            raise SyncError(complaint)
        found = sha256_of_file(path)
        if found != sha256:
            raise SyncError(
                f"{path} has sha256 {found}, expected {sha256}: nothing was changed; fetch the file again, "
                "or correct gguf_sha256"
            )
        return os.path.getsize(path)

    # Changing

    def _create(self, path: str, size_bytes: int, recipe: Recipe) -> None:
        if not self.client.blob_exists(recipe.sha256):
            with open(path, "rb") as stream:
                self.client.blob_upload(recipe.sha256, stream, size_bytes)
        self._log(self.client.create(recipe.request(self.name)))
        seen = self._confirm(None, frozenset({recipe.sha256}))
        left = self._differences(seen, recipe)
        if left or seen.check.bad:
            raise SyncError(
                f"{self.name.short} was created otherwise than asked for ({', '.join(left) or 'blobs'}): "
                "run again, and if it stays so look into the log of the Ollama server"
            )

    def _confirm(self, digest: Optional[str], trusted: FrozenSet[str]) -> Seen:
        """What is stored after a change; the server must list the model, with C(digest) where that is known before."""
        seen = self._observe(trusted)
        if seen.digest is None or digest not in (None, seen.digest):
            raise SyncError(
                f"{self.client.api_url} lists {seen.digest or 'no model'} as {self.name.short} after the "
                f"change, expected {digest or 'one'}: the tag moved or the server has a fault; run again"
            )
        self._after(seen.digest, seen.size_bytes, self._parameters(seen))
        return seen

    def _drop(self, corrupt: Iterable[str]) -> None:
        # A pull or upload is a cache hit wherever a file exists, whatever is in it.
        for sha256 in corrupt:
            if self.store is not None:
                self._will(f"delete the corrupt blob sha256:{sha256}")
                self.store.delete_blob(sha256)

    def _drop_broken_manifest(self, seen: Seen) -> None:
        if seen.manifest_is_broken and self.store is not None:
            os.unlink(self.store.manifest_path(self.name))

    # Reporting

    def _note_repairs(self, seen: Seen, check: BlobCheck) -> None:
        claimed = frozenset(layer.sha256 for layer in seen.manifest.layers) if seen.manifest else frozenset()
        bad = [sha256 for sha256 in check.bad if sha256 in claimed or sha256 in check.corrupt]
        self.report.repaired = ["manifest"] * seen.manifest_is_broken + ["sha256:" + sha256 for sha256 in bad]

    def _predict_blind(self, warning: str, seen: Seen, pin: Optional[str]) -> Report:
        self.report.warnings.append(warning)
        self._note_repairs(seen, seen.check)
        self._will(f"pull {self.name.short}")
        self._after(pin, None, None)
        return self.report

    def _unchanged(self, seen: Seen) -> Report:
        self.report.digest, self.report.size_bytes = seen.digest, seen.size_bytes if seen.digest else None
        self.report.after = dict(self.report.before)
        return self.report

    def _will(self, action: str) -> None:
        self.report.changed = True
        self.report.actions.append(action)

    def _after(self, digest: Optional[str], size_bytes: Optional[int], parameters: Optional[Dict[str, Any]]) -> None:
        self.report.digest, self.report.size_bytes = digest, size_bytes
        self.report.after = self._described(digest, parameters)

    def _described(self, digest: Optional[str], parameters: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        return {"name": self.name.short, "digest": digest, "parameters": parameters}

    def _log(self, lines: Iterable[Dict[str, Any]]) -> None:
        for line in lines:
            status = str(line.get("status", ""))
            if status and status not in self.report.actions:
                self.report.actions.append(status)


def _mib(size_bytes: int) -> int:
    return -(-size_bytes >> 20)


def split_result(report: Report, name: ModelName) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The module's return values and its diff."""
    model = {"name": name.short, "digest": report.digest, "size_bytes": report.size_bytes}
    result = {"changed": report.changed, "model": model, "actions": report.actions, "repaired": report.repaired}
    return result, {"before": report.before, "after": report.after}
