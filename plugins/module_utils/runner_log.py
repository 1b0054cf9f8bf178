# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama's runners say of themselves.

Ollama from 0.30 on runs each model in a child, llama.cpp's C(llama-server), and copies what it prints to its own log.
The lines are those of Ollama 0.34.1 and 0.34.4 with llama.cpp b11095. Memory is MiB (2**20 bytes).
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import (
    ModelName,
    Store,
    StoreError,
)

KIB_PER_MIB = 1024
PROC = Path("/proc")
RUNNER = "llama-server"
LC_ALL = {"LC_ALL": "C"}
# What this file reads of a log. A busy server writes millions of other lines.
_WORDS = (
    "starting llama-server",
    "buffer size",
    "offloaded",
    "common_params_fit_impl",
    "common_fit_params",
    "Flash Attention",
    "flash_attn",
    "listening on",
)
_START = re.compile(r'msg="starting llama-server" cmd="((?:[^"\\]|\\.)*)"')
_BUFFER = re.compile(r"\b(\w+):\s+(\S+)\s+(model|KV|RS|compute|output)\s+buffer size\s*=\s*([0-9]+(?:\.[0-9]+)?) MiB")
_LAYERS = re.compile(r"load_tensors: offloaded (\d+)/(\d+) layers to GPU")
_FIT = re.compile(r"((?:common_params_fit_impl|common_fit_params):.*)")
_FLASH = re.compile(r"Flash Attention .*?\b(enabled|disabled)\b|llama_context: flash_attn\s*=\s*(enabled|disabled)")
_LISTENING = re.compile(r"listening on https?://\S*:(\d+)\s*$")
_BLOB = re.compile(r"sha256-([0-9a-f]{64})\Z")
# A recurrent state is to a Mamba layer what the KV cache is to an attention layer.
_KINDS = {"model": "weights", "KV": "kv_cache", "RS": "kv_cache", "compute": "compute", "output": "output"}
_FLAGS = {
    "-c": "c",
    "--ctx-size": "c",
    "-np": "np",
    "--parallel": "np",
    "-b": "b",
    "--batch-size": "b",
    "-ub": "ub",
    "--ubatch-size": "ub",
    "-ngl": "ngl",
    "--gpu-layers": "ngl",
    "--n-gpu-layers": "ngl",
    "--cache-type-k": "k",
    "--cache-type-v": "v",
    "--flash-attn": "fa",
    "--port": "port",
    "--model": "model",
}


class RunnerLogError(Exception):
    """The log cannot be read; the message is one sentence."""


@dataclass(frozen=True)
class Command:
    """Command line of a runner; None and "" where it does not say. C(context_total) is tokens of all slots."""

    model_path: str
    port: int
    context_total: Optional[int]
    slots: int
    batch_size: Optional[int]
    ubatch_size: Optional[int]
    kv_cache_type_k: str
    kv_cache_type_v: str
    flash_attention: str
    gpu_layers: Optional[int]

    @property
    def blob_sha256(self) -> str:
        """Digest of the model file, 64 hex digits, "" where it is no blob of a store."""
        found = _BLOB.match(os.path.basename(self.model_path))
        return found.group(1) if found else ""


@dataclass(frozen=True)
class Buffer:
    """Memory that a runner took on one device, C(kind) is weights, kv_cache, compute or output."""

    device: str
    kind: str
    mib: float


@dataclass(frozen=True)
class Section:
    """The part of a log that belongs to one start of a runner.

    C(ready): it said that it listens. C(mixed): another runner started meanwhile, so that lines of both are in one.
    """

    command: Command
    buffers: Tuple[Buffer, ...] = ()
    layers_offloaded: Optional[int] = None
    layers_total: Optional[int] = None
    flash_attention: Optional[bool] = None
    fit: Tuple[str, ...] = ()
    ready: bool = False
    mixed: bool = False


@dataclass(frozen=True)
class Process:
    """A running llama-server."""

    pid: int
    command: Command
    rss_mib: Optional[int]


@dataclass(frozen=True)
class Stored:
    """A name of the store, and the digest of its manifest as /api/ps shows it."""

    name: str
    digest: str


def command_of(argv: Sequence[str]) -> Command:
    """Command line of a runner as a list of words."""
    said: Dict[str, str] = {}
    for flag, value in zip(argv, argv[1:]):
        if flag in _FLAGS:
            said[_FLAGS[flag]] = value
    return Command(
        model_path=said.get("model", ""),
        port=_whole(said.get("port")) or 0,
        context_total=_whole(said.get("c")),
        slots=_whole(said.get("np")) or 1,
        batch_size=_whole(said.get("b")),
        ubatch_size=_whole(said.get("ub")),
        kv_cache_type_k=said.get("k", "f16"),
        kv_cache_type_v=said.get("v", "f16"),
        flash_attention=said.get("fa", ""),
        gpu_layers=_whole(said.get("ngl")),
    )


def is_of_interest(line: str) -> bool:
    """Whether parse() reads anything from this line."""
    return any(word in line for word in _WORDS)


def parse(lines: Iterable[str]) -> Tuple[Section, ...]:
    """One section for each start of a runner, oldest first; lines before the first start belong to nobody."""
    found: List[_Reader] = []
    for line in lines:
        start = _START.search(line)
        if start:
            found.append(_Reader(command_of(_words(start.group(1)))))
        elif found:
            found[-1].read(line)
            listening = _LISTENING.search(line)
            if listening:
                _note_ready(found, int(listening.group(1)))
    return tuple(reader.section() for reader in found)


def _note_ready(readers: List[_Reader], port: int) -> None:
    for place in range(len(readers) - 1, -1, -1):
        if readers[place].command.port == port:
            readers[place].ready = True
            # Who listens only after others were started has written among their lines.
            if place < len(readers) - 1:
                for reader in readers[place:]:
                    reader.mixed = True
            return


class _Reader:
    """Collects the lines of one section."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.ready = False
        self.mixed = False
        self._mib: Dict[Tuple[str, str, str], float] = {}
        self._layers: Tuple[Optional[int], Optional[int]] = (None, None)
        self._flash: Optional[bool] = None
        self._fit: List[str] = []

    def read(self, line: str) -> None:
        buffer = _BUFFER.search(line)
        if buffer:
            function, device, kind, mib = buffer.groups()
            key = (function, device, _KINDS[kind])
            # Sliding-window models have two caches. Compute buffers are printed again when they are reserved anew.
            before = 0.0 if kind == "compute" else self._mib.get(key, 0.0)
            self._mib[key] = before + float(mib)
            return
        layers, flash, fit = _LAYERS.search(line), _FLASH.search(line), _FIT.search(line)
        if layers:
            self._layers = (int(layers.group(1)), int(layers.group(2)))
        elif flash:
            self._flash = (flash.group(1) or flash.group(2)) == "enabled"
        elif fit:
            self._fit.append(fit.group(1).rstrip())

    def section(self) -> Section:
        sums: Dict[Tuple[str, str], float] = {}
        for (_function, device, kind), mib in self._mib.items():
            sums[device, kind] = sums.get((device, kind), 0.0) + mib
        buffers = tuple(Buffer(device, kind, round(mib, 2)) for (device, kind), mib in sums.items())
        return Section(self.command, buffers, *self._layers, self._flash, tuple(self._fit), self.ready, self.mixed)


def _words(text: str) -> List[str]:
    """Words of a command line in Go's quotes; only the path of the model can hold spaces."""
    plain = re.sub(r"\\(.)", r"\1", text)
    path = re.search(r" --model (.+?) --", plain)
    if not path:
        return plain.split()
    return [*plain[: path.start()].split(), "--model", path.group(1), *plain[path.end() - 2 :].split()]


def _whole(text: Optional[str]) -> Optional[int]:
    try:
        return int(text or "")
    except ValueError:
        return None


def processes(proc: Path = PROC) -> Tuple[Process, ...]:
    """Runners that run, by process id; those that end meanwhile are left out."""
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            argv = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if os.path.basename(argv[0]) == RUNNER and "--model" in argv:
                found.append(Process(int(folder.name), command_of(argv), _rss_mib((folder / "status").read_text())))
        except OSError:
            continue
    return tuple(sorted(found, key=lambda process: process.pid))


def _rss_mib(status: str) -> Optional[int]:
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) // KIB_PER_MIB if found else None


def names_by_blob(store: Store) -> Dict[str, Tuple[Stored, ...]]:
    """Names of each model file (hex digest) by name; raises OSError where the store cannot be read.

    Broken manifests and files that are no manifests are left out: the server does not list them either.
    """
    root = os.path.join(store.root, "manifests")
    found: Dict[str, List[Stored]] = {}

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, tags in os.walk(root, onerror=refuse):
        parts = os.path.relpath(folder, root).split(os.sep)
        if len(parts) != 3:
            continue
        folders.clear()
        for tag in tags:
            name = ModelName(parts[0], parts[1], parts[2], tag)
            try:
                manifest = store.read_manifest(name)
            except StoreError:
                continue
            for layer in manifest.of_kind("model") if manifest else ():
                found.setdefault(layer.sha256, []).append(Stored(name.short, manifest.digest if manifest else ""))
    return {sha256: tuple(sorted(names, key=lambda one: one.name)) for sha256, names in found.items()}


def log_lines(
    log_path: str, unit: str, running: Sequence[Process], loaded: Sequence[Mapping[str, Any]], timeout_s: int
) -> List[str]:
    """Lines of interest of C(log_path), else of the journal of C(unit); none where nothing is loaded."""
    if not running and not loaded:
        return []
    if log_path:
        return file_lines(log_path)
    return journal_lines(unit, frozenset(process.command.port for process in running), timeout_s)


def journal_lines(unit: str, ports: FrozenSet[int], timeout_s: int) -> List[str]:
    """Lines of interest of a unit since boot, oldest first, from the start of the runners at these ports on.

    The journal is read backwards, so that a long life of the server costs nothing. Raises RunnerLogError.
    """
    argv = ["journalctl", "-u", unit, "-o", "cat", "--no-pager", "-b", "-r"]
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, **LC_ALL},
            )
        except OSError as exc:
            raise RunnerLogError(
                f"journalctl cannot be run ({exc.strerror}): set log_path to the file that Ollama writes its log to"
            ) from exc
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, give_up)
        timer.start()
        try:
            # Where no process can be seen, no start is known to be the oldest that is needed.
            kept, any_line, left = _backwards(process, ports or frozenset({0}))
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if left and late.is_set():
            raise RunnerLogError(
                f"the journal of unit {unit} was read for {timeout_s} s without reaching the start of every runner: "
                "raise timeout"
            )
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace")
    if left and ("insufficient permissions" in said or "not seeing messages from other users" in said):
        raise RunnerLogError(
            f"the journal of unit {unit} may not be read by this user: run the task with become: true, or set log_path"
        )
    if left and not any_line:
        raise RunnerLogError(
            f"the journal has no line of unit {unit} since boot: set unit to the unit of Ollama, or log_path to its log"
        )
    return kept[::-1]


def _backwards(process: subprocess.Popen[bytes], ports: FrozenSet[int]) -> Tuple[List[str], bool, FrozenSet[int]]:
    """Lines of interest newest first, whether there was any line, and the ports whose start was not found."""
    kept: List[str] = []
    any_line = False
    for raw in process.stdout or ():
        line = raw.decode("utf-8", "replace").rstrip("\n")
        any_line = any_line or not line.startswith("-- ")
        if not is_of_interest(line):
            continue
        kept.append(line)
        start = _START.search(line)
        if start:
            ports = ports - {command_of(_words(start.group(1))).port}
            if not ports:
                break
    return kept, any_line, ports


def file_lines(path: str) -> List[str]:
    """Lines of interest of a log file; raises RunnerLogError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return [line.rstrip("\n") for line in stream if is_of_interest(line)]
    except OSError as exc:
        raise RunnerLogError(
            f"the log {path} cannot be read ({exc.strerror}): correct log_path, or run the task with become: true"
        ) from exc


def runners(
    sections: Sequence[Section],
    running: Sequence[Process],
    stored: Mapping[str, Sequence[Stored]],
    loaded: Sequence[Mapping[str, Any]],
) -> List[Dict[str, Any]]:
    """One mapping for each runner, in the form of the module's result; C(loaded) is /api/ps.

    A runner is what runs. Where no process can be seen, it is the last start of each model that /api/ps names.
    """
    last = {(section.command.model_path, section.command.port): section for section in sections}
    rows = []
    for process in running:
        key = (process.command.model_path, process.command.port)
        rows.append(_runner(last.get(key, Section(process.command)), process, key in last, stored, loaded))
    if not running:
        latest = {section.command.model_path: section for section in sections}
        rows = [_runner(section, None, True, stored, loaded) for section in latest.values()]
    return [row for row in rows if row["pid"] is not None or row["loaded"]]


def _runner(
    section: Section,
    process: Optional[Process],
    logged: bool,
    stored: Mapping[str, Sequence[Stored]],
    loaded: Sequence[Mapping[str, Any]],
) -> Dict[str, Any]:
    command = section.command
    names = stored.get(command.blob_sha256, ())
    digests = {one.digest for one in names}
    total = command.context_total
    return {
        "blob_sha256": command.blob_sha256,
        "model_path": command.model_path,
        "names": [one.name for one in names],
        "loaded": [dict(model) for model in loaded if model.get("digest") in digests],
        "pid": process.pid if process else None,
        "rss_mib": process.rss_mib if process else None,
        "port": command.port,
        "context_total": total,
        "slots": command.slots,
        "context_length": None if total is None else total // command.slots,
        "batch_size": command.batch_size,
        "ubatch_size": command.ubatch_size,
        "kv_cache_type_k": command.kv_cache_type_k,
        "kv_cache_type_v": command.kv_cache_type_v,
        "flash_attention_asked": command.flash_attention,
        "gpu_layers_asked": command.gpu_layers,
        "flash_attention": section.flash_attention,
        "layers_offloaded": section.layers_offloaded,
        "layers_total": section.layers_total,
        "buffers": [{"device": one.device, "kind": one.kind, "mib": one.mib} for one in section.buffers],
        "fit": list(section.fit),
        "logged": logged,
        "ready": section.ready,
        "mixed": section.mixed,
    }
