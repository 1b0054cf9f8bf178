# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sizing engine knows of a GPU: from catalogue/gpus.yml, as the user says, or as gpu_info found it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys, unknown

# What a user may say of a GPU.
SAID = frozenset(
    {
        "name",
        "vendor",
        "architecture",
        "memory_total_mib",
        "memory_free_mib",
        "compute_capability",
        "bandwidth_gb_s",
        "fp16_tflops",
        "int8_tops",
        "multiprocessors",
        "boost_mhz",
        "count",
    }
)
# What gpu_info finds besides; only uuid, mig and memory_reserved_mib are read here.
FOUND = frozenset(
    {
        "bar1_total_mib",
        "clocks",
        "compute_mode",
        "ecc",
        "fabric",
        "gsp_firmware_version",
        "index",
        "memory_reserved_mib",
        "memory_temperature_c",
        "memory_used_mib",
        "mig",
        "nvlink",
        "pci_bus_id",
        "pcie",
        "performance_state",
        "persistence_mode",
        "power",
        "problem",
        "processes",
        "serial",
        "source",
        "temperature_c",
        "throttle_reasons",
        "topology",
        "uuid",
        "vbios",
    }
)
# Total minus free on idle cards: H100 480, H200 616, RTX 4090 484, RTX 5090 496, RTX 3090 452 MiB. The line is within
# 70 MiB of each; the catalogue's usable_mib stands above it (an A100 80 GB holds back 1353 MiB).
RESERVE_MIB = 450
RESERVE_SHARE = 0.0012
# Memory of a GPU in MIG mode is cut in eighths (two of them are one quarter of an A30), and bandwidth with it.
# Source: NVIDIA Multi-Instance GPU user guide, "Supported MIG profiles".
MIG_SLICES = 8


@dataclass(frozen=True)
class MigSlice:
    """One MIG device; MiB."""

    uuid: Optional[str]
    memory_total_mib: int
    memory_free_mib: int


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG device of it.

    Memory in MiB: C(memory_free_mib) is what a process sees before its own CUDA context. C(bandwidth_gb_s) is the
    specification, GB/s (decimal). None means unknown. C(anchors) names the sources of speeds that were published or
    measured for this card: "measured" stands for the measurements of this repository.
    """

    name: str
    memory_total_mib: int
    memory_free_mib: int
    vendor: str = "nvidia"
    architecture: Optional[str] = None
    compute_capability: Optional[Tuple[int, int]] = None
    bandwidth_gb_s: Optional[float] = None
    fp16_tflops: Optional[float] = None
    int8_tops: Optional[float] = None
    multiprocessors: Optional[int] = None
    boost_mhz: Optional[int] = None
    uuid: Optional[str] = None
    catalogue_name: Optional[str] = None
    anchors: Tuple[str, ...] = ()
    mig_enabled: bool = False
    mig_slices: Tuple[MigSlice, ...] = ()


def catalogue_row(name: str, catalogue: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """The row of C(catalogue) (the content of catalogue/gpus.yml) with this name or alias, or None.

    Case, blanks, dashes and a leading "NVIDIA" do not matter: "h100-80gb-sxm" finds "H100 80GB SXM".
    """
    wanted = _key(name)
    for row in catalogue["gpus"]:
        if wanted and any(_key(each) == wanted for each in (row["name"], *row["aliases"])):
            found: Mapping[str, Any] = row
            return found
    return None


def resolve(gpu: Any, catalogue: Mapping[str, Any]) -> Gpu:
    """The GPU that C(gpu) means: a name or alias of the catalogue, or a mapping of C(SAID) and C(FOUND) keys.

    Figures in the mapping outrank the catalogue's. Without C(memory_free_mib) the driver's reserve is taken off the
    total. A name that the catalogue lacks needs C(memory_total_mib). Raises SizingError for everything else.
    """
    if isinstance(gpu, str):
        gpu = {"name": gpu}
    if not isinstance(gpu, Mapping):
        raise SizingError(f"GPU {gpu!r} is neither a name nor a mapping: give a name of the catalogue or a mapping")
    only_known_keys("a GPU", gpu, SAID | FOUND)
    given = {key: value for key, value in gpu.items() if value is not None}
    name = str(given.get("name", ""))
    row = catalogue_row(name, catalogue)
    total_mib = _number(given, "memory_total_mib")
    if row is None and total_mib is None:
        if not name:
            raise SizingError("a GPU has neither a name nor memory_total_mib: give one of them")
        raise unknown(
            "GPU of the catalogue, and without memory_total_mib nothing can be placed on it",
            name,
            (each for entry in catalogue["gpus"] for each in (entry["name"], *entry["aliases"])),
        )
    known: Mapping[str, Any] = row or {}
    if total_mib is None:
        total_mib = float(known["memory_mib"])
    free_mib = _free_mib(given, known, total_mib, name)
    enabled, slices = _mig(given.get("mig"), name)

    def figure(key: str) -> Optional[float]:
        said = _number(given, key)
        catalogued = known.get(key)
        return said if said is not None or catalogued is None else float(catalogued)

    multiprocessors, boost_mhz = figure("multiprocessors"), figure("boost_mhz")
    return Gpu(
        name=name or "GPU",
        memory_total_mib=int(total_mib),
        memory_free_mib=int(free_mib),
        vendor=str(given.get("vendor") or known.get("vendor") or "nvidia").lower(),
        # gpu_info prints the vendor's word ("Hopper", "gfx942"): the catalogue's is the one the speed model knows.
        architecture=known.get("architecture") or (str(given.get("architecture", "")).lower() or None),
        compute_capability=_capability(given.get("compute_capability", known.get("compute_capability")), name),
        bandwidth_gb_s=figure("bandwidth_gb_s"),
        fp16_tflops=figure("fp16_tflops"),
        int8_tops=figure("int8_tops"),
        multiprocessors=None if multiprocessors is None else int(multiprocessors),
        boost_mhz=None if boost_mhz is None else int(boost_mhz),
        uuid=given.get("uuid"),
        catalogue_name=known.get("name"),
        anchors=tuple(sorted({each["source"] for each in known.get("effective_bandwidth", ())})),
        mig_enabled=enabled,
        mig_slices=slices,
    )


def expand(gpu: Gpu) -> Tuple[Gpu, ...]:
    """What a process can open: the GPU itself, or each of its MIG devices; nothing for MIG mode without devices."""
    if not gpu.mig_enabled:
        return (gpu,)
    return tuple(_slice(gpu, each) for each in gpu.mig_slices)


def _slice(gpu: Gpu, part: MigSlice) -> Gpu:
    share = max(1, round(part.memory_total_mib / gpu.memory_total_mib * MIG_SLICES)) / MIG_SLICES

    def cut(value: Optional[float]) -> Optional[float]:
        return None if value is None else value * share

    return replace(
        gpu,
        name=f"{gpu.name} MIG {part.memory_total_mib} MiB",
        memory_total_mib=part.memory_total_mib,
        memory_free_mib=part.memory_free_mib,
        bandwidth_gb_s=cut(gpu.bandwidth_gb_s),
        fp16_tflops=cut(gpu.fp16_tflops),
        int8_tops=cut(gpu.int8_tops),
        multiprocessors=None if gpu.multiprocessors is None else max(1, round(gpu.multiprocessors * share)),
        uuid=part.uuid,
        # No slice was measured.
        anchors=(),
        mig_enabled=False,
        mig_slices=(),
    )


def _key(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain[len("nvidia") :] if plain.startswith("nvidia") else plain


def _number(mapping: Mapping[str, Any], key: str) -> Optional[float]:
    """The positive number at C(key); zero is allowed for free and reserved memory only."""
    value = mapping.get(key)
    if value is None:
        return None
    zero_allowed = key in ("memory_free_mib", "memory_reserved_mib")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (value == 0 and not zero_allowed):
        of = f" of GPU {mapping['name']}" if mapping.get("name") else " of a GPU"
        raise SizingError(f"{key}{of} is {value!r}: give a number above zero")
    return float(value)


def _free_mib(given: Mapping[str, Any], known: Mapping[str, Any], total_mib: float, name: str) -> float:
    free_mib = _number(given, "memory_free_mib")
    if free_mib is not None:
        if free_mib > total_mib:
            raise SizingError(
                f"memory_free_mib {free_mib:g} of GPU {name or 'without a name'} is above its total of {total_mib:g}:"
                " give at most the total"
            )
        return free_mib
    reserved_mib = _number(given, "memory_reserved_mib")
    if reserved_mib is None and known.get("usable_mib") and total_mib == known["memory_mib"]:
        return float(known["usable_mib"])
    if reserved_mib is None:
        reserved_mib = RESERVE_MIB + RESERVE_SHARE * total_mib
    return max(0.0, total_mib - reserved_mib)


def _capability(value: Any, name: str) -> Optional[Tuple[int, int]]:
    if value is None:
        return None
    found = re.match(r"^(\d{1,2})(?:\.(\d))?$", str(value))
    if isinstance(value, bool) or not found:
        raise SizingError(
            f"compute_capability {value!r} of GPU {name or 'without a name'} is none: give two numbers such as '9.0'"
        )
    return int(found.group(1)), int(found.group(2) or 0)


def _mig(mig: Any, name: str) -> Tuple[bool, Tuple[MigSlice, ...]]:
    if mig is None:
        return False, ()
    devices = mig.get("devices", ()) if isinstance(mig, Mapping) else None
    if not isinstance(devices, (list, tuple)) or not all(isinstance(each, Mapping) for each in devices):
        raise SizingError(f"mig of GPU {name or 'without a name'} is {mig!r}: give mode_current and a list of devices")
    if mig.get("mode_current") != "Enabled":
        return False, ()
    slices = []
    for each in devices:
        total_mib = _number(each, "memory_total_mib")
        if total_mib is None:
            raise SizingError(f"a MIG device of GPU {name} has no memory_total_mib: give its MiB")
        free_mib = _free_mib({"memory_reserved_mib": 0, **_without_none(each)}, {}, total_mib, f"{name} (MIG device)")
        slices.append(MigSlice(each.get("uuid"), int(total_mib), int(free_mib)))
    return True, tuple(slices)


def _without_none(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
