# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a plan says of a host with what its runners and GPUs say; sizes in MiB."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import ModelName, StoreError, parse_name
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, unknown

MIB = 1024 * 1024
_GPU = re.compile(r"[A-Za-z]+(\d+)\Z")

# A buffer as near as this to the plan is as computed; further off it is noted, beyond the tolerance a deviation.
EXACT_MIB = 1.0
EXACT_PERCENT = 1.0
# Planned figures are rounded to 0.1 MiB.
ROUNDING_MIB = 0.05
# A wrong setting is the cause of wrong figures, so it is the worse finding.
NOT_LOADED = 1_000_000.0
WRONG_SETTING = 10_000.0
WORST_FIGURE = 1_000.0
_ON_GPUS = ("weights", "kv_cache", "compute")
_IN_HOST = (*_ON_GPUS, "output")
_WHAT = {"weights": "weights", "kv_cache": "KV cache", "compute": "compute buffer", "output": "output buffer"}
_COLUMNS = "{:<26.26} {:<6.6} {:<21.21} {:>12.12} {:>12.12} {:>8} {}"


@dataclass(frozen=True)
class Tolerance:
    """How far from the plan is still right: the larger of both for a GPU's memory, C(percent) for what is computed."""

    percent: float = 3.0
    mib: float = 32.0


@dataclass(frozen=True)
class Row:
    """One figure. C(severity) sorts deviations, 0 where all is well; C(advice) ends the sentence of a deviation."""

    model: str
    device: str
    what: str
    planned: Any
    found: Any
    unit: str = ""
    difference_percent: Optional[float] = None
    ok: bool = True
    note: str = ""
    severity: float = 0.0
    advice: str = ""

    def line(self) -> str:
        """The row as a line of at most 100 columns; playbooks/tasks/validate_report.yml writes the head."""
        percent = "" if self.difference_percent is None else f"{self.difference_percent:+.1f}"
        return _COLUMNS.format(
            self.model, self.device, self.what, _text(self), _text(self, True), percent, "ok" if self.ok else "NO"
        ).rstrip()

    def sentence(self, host: str) -> str:
        """What is wrong, where, and what would fix it; "" where all is well."""
        if self.ok:
            return ""
        place = f" ({self.device})" if self.device else ""
        percent = "" if self.difference_percent is None else f", {self.difference_percent:+.1f} %"
        return (
            f"{self.model} on {host}{place}: {self.what} is {_text(self, True)}, planned was {_text(self)}{percent}; "
            f"{self.advice}."
        )


def _text(row: Row, found: bool = False) -> str:
    value = row.found if found else row.planned
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        value = f"{value:.1f}"
    return f"{value} {row.unit}".rstrip()


def compare(
    plan: Mapping[str, Any],
    host: str,
    found: Sequence[Mapping[str, Any]],
    gpus: Sequence[Mapping[str, Any]],
    tolerance: Tolerance,
    models: Optional[Sequence[str]] = None,
) -> Tuple[Row, ...]:
    """Planned against found for the models of one host of the plan, in the order of the plan.

    C(found) are runners of ollama_runner_info, C(gpus) GPUs of gpu_info, C(models) names or tags, None for all.
    SizingError where the plan has no such host.
    """
    hosts = {str(entry["name"]): entry for entry in plan["hosts"]}
    if host not in hosts:
        raise unknown("host of the plan", host, hosts)
    rows: List[Row] = []
    seen: Dict[int, Tuple[str, ...]] = {}
    for model in hosts[host]["models"]:
        if models is None or model["name"] in models or model.get("tag") in models:
            comparison = _Comparison(plan, hosts[host], model, found, gpus, tolerance, seen)
            rows.extend(comparison.rows())
    return tuple(rows)


def _runner_of(model: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Optional[Mapping[str, Any]]:
    """The newest runner of a planned model; one that /api/ps does not know may have outlived its server."""
    wanted = [_parsed(str(model[key])) for key in ("tag", "name") if model.get(key)]
    for name in wanted:
        mine = [one for one in found if any(_parsed(stored).same(name) for stored in one["names"])]
        if mine:
            return max(mine, key=lambda one: (bool(one.get("loaded")), one.get("pid") or 0))
    return None


def _parsed(name: str) -> ModelName:
    try:
        return parse_name(name)
    except StoreError as exc:
        raise SizingError(str(exc)) from exc


class _Comparison:
    """One planned model of one host; C(seen) are places of GPUs whose memory stands in a row already."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        host: Mapping[str, Any],
        model: Mapping[str, Any],
        found: Sequence[Mapping[str, Any]],
        gpus: Sequence[Mapping[str, Any]],
        tolerance: Tolerance,
        seen: Dict[int, Tuple[str, ...]],
    ) -> None:
        self.plan, self.host, self.model, self.found, self.gpus = plan, host, model, found, gpus
        self.tolerance, self.seen = tolerance, seen
        self.name = str(model["name"])
        # CUDA numbers the GPUs that it may see, whatever their number on the host.
        self.visible = [(place, gpu) for place, gpu in enumerate(host["gpus"]) if gpu.get("visible", True)]

    def rows(self) -> List[Row]:
        runner = _runner_of(self.model, self.found)
        if runner is None:
            return [
                Row(
                    self.name,
                    "",
                    "loaded",
                    True,
                    False,
                    ok=False,
                    note="not loaded: ask it first",
                    severity=NOT_LOADED,
                    advice="ask it for a token first, and look into Ollama's log where that fails",
                )
            ]
        rows = self._settings(runner)
        if not runner["buffers"]:
            return [*rows, self._silent(runner)]
        rows = [*rows, self._layers(runner), *self._buffers(runner), *self._gpu_memory(runner), *self._api(runner)]
        if runner.get("mixed"):
            mixed = "two runners started at once and their lines are mixed: unload both and ask one after the other"
            rows = [row if row.ok else replace(row, note=row.note or mixed, advice=mixed) for row in rows]
        return rows

    def _settings(self, runner: Mapping[str, Any]) -> List[Row]:
        environment = self.host.get("environment") or {}
        kv_type = environment.get("OLLAMA_KV_CACHE_TYPE", "f16")
        kinds = {runner["kv_cache_type_k"], runner["kv_cache_type_v"]}
        pairs = [
            ("context of a slot", self.model["context_length"], runner["context_length"], "tokens"),
            ("slots", self._slots(), runner["slots"], ""),
            ("KV cache type", kv_type, "/".join(sorted(kinds)), ""),
        ]
        flash = environment.get("OLLAMA_FLASH_ATTENTION")
        if flash in ("0", "1") and runner.get("flash_attention") is not None:
            pairs.append(("flash attention", flash == "1", runner["flash_attention"], ""))
        return [self._equal(what, planned, found, unit) for what, planned, found, unit in pairs]

    def _slots(self) -> int:
        for entry in self.plan.get("models") or ():
            replicas = entry.get("replicas") or ()
            # Of models that answer one request at a time the plan counts one slot for each replica.
            if entry["name"] == self.name and replicas and entry.get("slots_total") == len(replicas):
                return 1
        return int(self.host["parallel"])

    def _equal(self, what: str, planned: Any, found: Any, unit: str) -> Row:
        percent = None
        if unit and isinstance(found, int):
            percent = _percent(planned, found)
        ok = planned == found
        return Row(
            self.name,
            "",
            what,
            planned,
            found,
            unit,
            percent,
            ok,
            severity=0.0 if ok else WRONG_SETTING,
            advice="give Ollama the settings of the plan (playbooks/inference.yml), and ask the model again",
        )

    def _silent(self, runner: Mapping[str, Any]) -> Row:
        why = "the log no longer holds its start" if not runner.get("logged", True) else "it is still loading"
        return Row(
            self.name,
            "",
            "buffers",
            True,
            False,
            ok=False,
            note=f"not compared: {why}",
            severity=WRONG_SETTING,
            advice=f"{why}: unload the model (ollama stop) and ask it again",
        )

    def _layers(self, runner: Mapping[str, Any]) -> Row:
        # A runner without any GPU says nothing about layers.
        found = runner["layers_offloaded"] or 0
        row = self._equal("layers on GPUs", self.model["num_gpu"], found, "")
        free = "see what else uses the GPUs (baremetal.llm.gpu_info), and compute the plan again"
        return replace(row, advice=free)

    def _buffers(self, runner: Mapping[str, Any]) -> List[Row]:
        on_gpus: Dict[int, Dict[str, float]] = {}
        in_host: Dict[str, float] = {}
        repacked_mib = 0.0
        for buffer in runner["buffers"]:
            gpu = _GPU.match(buffer["device"])
            sums = on_gpus.setdefault(int(gpu.group(1)), {}) if gpu else in_host
            sums[buffer["kind"]] = sums.get(buffer["kind"], 0.0) + float(buffer["mib"])
            if buffer["device"] == "CPU_REPACK":
                repacked_mib += float(buffer["mib"])
        rows = []
        for number, found_number, part in self._paired(on_gpus):
            note = f"planned for GPU {number}" if number != found_number else ""
            has = on_gpus.get(found_number, {})
            rows += [self._figure(f"GPU{found_number}", kind, part, has, note) for kind in _ON_GPUS]
        planned = self.model["host_mib"]
        rows += [self._figure("host", kind, planned, in_host) for kind in _IN_HOST if f"{kind}_mib" in planned]
        return [self._host_weights(row, runner, repacked_mib) for row in rows]

    def _paired(self, on_gpus: Mapping[int, Any]) -> List[Tuple[int, int, Mapping[str, Any]]]:
        """Planned number, found number, planned part; Ollama chooses among equal GPUs as it likes."""
        planned: Dict[int, Mapping[str, Any]] = {}
        for number, (_place, gpu) in enumerate(self.visible):
            for part in gpu["parts"]:
                if part["model"] == self.name:
                    planned[number] = part
        used = sorted(number for number, sums in on_gpus.items() if sums.get("weights"))
        if len(used) == len(planned):
            return [(number, other, planned[number]) for number, other in zip(sorted(planned), used)]
        return [(number, number, planned.get(number, {})) for number in sorted({*planned, *used})]

    def _host_weights(self, row: Row, runner: Mapping[str, Any], repacked_mib: float) -> Row:
        if row.device != "host" or row.what != "weights" or row.ok:
            return row
        if self.model["num_gpu"] not in (0, self.model["layers_total"]):
            # The file is mapped in one span from the first to the last tensor, with those that lie on a GPU too.
            return replace(row, ok=True, severity=0.0, note="not compared: mapped spans count what is on GPUs too")
        if 0 < row.found - row.planned <= repacked_mib + EXACT_MIB:
            return replace(row, ok=True, severity=0.0, note=f"{repacked_mib:.1f} MiB of it are repacked copies")
        return row

    def _figure(
        self, device: str, kind: str, planned_mib: Mapping[str, Any], found_mib: Mapping[str, float], note: str = ""
    ) -> Row:
        planned, found = float(planned_mib.get(f"{kind}_mib", 0.0)), round(found_mib.get(kind, 0.0), 2)
        advice = "see that the stored file and its quantization are the planned ones (baremetal.llm.gguf_info)"
        return _measured(
            Row(self.name, device, _WHAT[kind], planned, found, "MiB", note=note, advice=advice),
            max(EXACT_MIB, planned * self.tolerance.percent / 100),
        )

    def _gpu_memory(self, runner: Mapping[str, Any]) -> List[Row]:
        rows: List[Row] = []
        if not self.gpus:
            return rows
        for number, (place, gpu) in enumerate(self.visible):
            part = next((part for part in gpu["parts"] if part["model"] == self.name), None)
            real = _real_gpu(gpu, self.gpus)
            if part is None or real is None:
                continue
            used_mib = _process_mib(real, runner.get("pid"))
            if used_mib is not None:
                rows.append(self._used(number, "memory of its process", float(part["total_mib"]), used_mib))
            elif place not in self.seen:
                loaded = [one for one in gpu["parts"] if self._is_loaded(str(one["model"]))]
                self.seen[place] = tuple(str(one["model"]) for one in loaded)
                total_mib = sum(float(one["total_mib"]) for one in loaded)
                rows.append(self._used(number, "memory of all models", total_mib, _rise_mib(gpu, real)))
        return rows

    def _used(self, number: int, what: str, planned_mib: float, found_mib: float) -> Row:
        return _measured(
            Row(
                self.name,
                f"GPU{number}",
                what,
                round(planned_mib, 1),
                found_mib,
                "MiB",
                advice="see what else uses the GPU (baremetal.llm.gpu_info)",
            ),
            max(self.tolerance.mib, planned_mib * self.tolerance.percent / 100),
            max(self.tolerance.mib, planned_mib * EXACT_PERCENT / 100),
        )

    def _is_loaded(self, name: str) -> bool:
        return any(_runner_of(model, self.found) is not None for model in self.host["models"] if model["name"] == name)

    def _api(self, runner: Mapping[str, Any]) -> List[Row]:
        parts = [part for _place, gpu in self.visible for part in gpu["parts"] if part["model"] == self.name]
        if not parts or not runner.get("loaded"):
            return []
        planned = sum(float(part[f"{kind}_mib"]) for part in parts for kind in _ON_GPUS)
        found = round(float(runner["loaded"][0].get("size_vram") or 0) / MIB, 1)
        note = "information only: /api/ps misses one of two caches of sliding-window models"
        return [
            Row(self.name, "GPUs", "size_vram", round(planned, 1), found, "MiB", _percent(planned, found), note=note)
        ]


def _measured(row: Row, allowed_mib: float, exact_mib: Optional[float] = None) -> Row:
    """The row with its difference, and whether it is within C(allowed_mib)."""
    difference_mib = abs(row.found - row.planned)
    percent = _percent(row.planned, row.found)
    ok = difference_mib <= allowed_mib + ROUNDING_MIB
    exact = max(EXACT_MIB, row.planned * EXACT_PERCENT / 100) if exact_mib is None else exact_mib
    note = row.note or ("" if difference_mib <= exact + ROUNDING_MIB or not ok else "within the tolerance, not exact")
    return replace(
        row, difference_percent=percent, ok=ok, note=note, severity=0.0 if ok else min(abs(percent), WORST_FIGURE)
    )


def _percent(planned: float, found: float) -> float:
    """Difference in % of the plan; 100 where nothing was planned."""
    if not planned:
        return 100.0 if found else 0.0
    return round((found - planned) / planned * 100, 1)


def _real_gpu(planned: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> Optional[Mapping[str, Any]]:
    """The GPU or MIG device of gpu_info that a GPU of the plan is, by its UUID, else by its index."""
    uuid = planned.get("uuid")
    for gpu in gpus:
        for device in ((gpu.get("mig") or {}).get("devices") or ()) if uuid else ():
            if device.get("uuid") == uuid:
                return {**device, "processes": []}
        if (gpu.get("uuid") == uuid) if uuid else (gpu.get("index") == planned["index"]):
            return gpu
    return None


def _process_mib(gpu: Mapping[str, Any], pid: Optional[int]) -> Optional[float]:
    for process in gpu.get("processes") or ():
        if pid is not None and process.get("pid") == pid and process.get("used_mib") is not None:
            return float(process["used_mib"])
    return None


def _rise_mib(planned: Mapping[str, Any], gpu: Mapping[str, Any]) -> float:
    """What was taken since the plan was made."""
    if planned.get("memory_free_mib") is not None and gpu.get("memory_free_mib") is not None:
        return round(float(planned["memory_free_mib"]) - float(gpu["memory_free_mib"]), 1)
    return float(gpu.get("memory_used_mib") or 0)
