# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what C(amd-smi) and C(rocm-smi) say; runs nothing.

The answer has the shape of the NVIDIA one, with the same units; what AMD's tools do not tell is None or empty.
amd-smi prints "MB" and means MiB (its library divides bytes by 2**20); rocm-smi prints bytes.
Sources: the usage pages of AMD SMI 24 to 26 (ROCm 6.1 to 7.2) and of the older ROCm SMI.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.baremetal.llm.plugins.module_utils.nvidia_smi import (
    Ecc,
    EccCounts,
    Gpu,
    Pcie,
    Power,
    Report,
    Topology,
    normal_pci_address,
)

MIB = 1024 * 1024
MIB_PER_UNIT = {"MB": 1, "MiB": 1, "GB": 1024, "GiB": 1024}
UNKNOWN_WORDS = frozenset(("", "n/a", "none", "unknown", "not supported"))


class AmdSmiError(ValueError):
    """The text is not what the tool prints; the message is one sentence."""


def parse_amd_smi(static: str, metric: str = "", listed: str = "") -> Report:
    """The report of C(amd-smi static --json), with C(metric --json) and C(list --json) where there are any.

    Raises AmdSmiError where one of them is no JSON of that shape. No CUDA version, no compute capability.
    """
    statics = _amd_records(static, "amd-smi static --json")
    metrics = _by_index(_amd_records(metric, "amd-smi metric --json") if metric.strip() else [])
    lists = _by_index(_amd_records(listed, "amd-smi list --json") if listed.strip() else [])
    gpus = []
    for place, record in enumerate(statics):
        index = _whole(record.get("gpu"))
        index = place if index is None else index
        gpus.append(_amd_gpu(index, record, metrics.get(index, {}), lists.get(index, {})))
    versions = [_driver_version(_word(_dig(record, "driver", "version"))) for record in statics]
    return Report(next((version for version in versions if version), None), None, tuple(gpus))


def parse_rocm_smi(text: str) -> Report:
    """The report of C(rocm-smi --showproductname --showmeminfo vram ... --json); raises AmdSmiError like the other."""
    data = _json(text, "rocm-smi --json")
    if not isinstance(data, dict):
        raise _wrong_shape("rocm-smi --json")
    gpus = []
    for key, value in data.items():
        card = re.fullmatch(r"card(\d+)", key)
        if card and isinstance(value, dict):
            gpus.append(_rocm_gpu(int(card.group(1)), value))
    system = data.get("system")
    version = _word(system.get("Driver version")) if isinstance(system, dict) else None
    return Report(_driver_version(version), None, tuple(sorted(gpus, key=lambda gpu: gpu.index)))


def _json(text: str, command: str) -> Any:
    """The first JSON value that starts a line: warnings of the tools stand on the same output before it."""
    decoder = json.JSONDecoder()
    for start in re.finditer(r"^\s*(?=[\[{])", text, re.MULTILINE):
        try:
            return decoder.raw_decode(text, start.end())[0]
        except (ValueError, RecursionError):
            continue
    raise AmdSmiError(f"{command} gave no JSON; run it by hand on the host, and raise timeout if it is only slow.")


def _wrong_shape(command: str) -> AmdSmiError:
    return AmdSmiError(
        f"{command} gave JSON of another shape than ROCm 5.7 to 7.2 print; install a version of that range."
    )


def _amd_records(text: str, command: str) -> List[Mapping[str, Any]]:
    """One mapping a GPU: a list up to ROCm 6, below the key gpu_data from ROCm 7 on."""
    data = _json(text, command)
    if isinstance(data, dict):
        data = data.get("gpu_data")
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise _wrong_shape(command)
    return data


def _by_index(records: List[Mapping[str, Any]]) -> Dict[int, Mapping[str, Any]]:
    indexes = ((_whole(record.get("gpu")), record) for record in records)
    return {index: record for index, record in indexes if index is not None}


def _dig(record: Mapping[str, Any], *keys: str) -> Any:
    """The value below the keys, None where a step is missing or is "N/A" instead of a mapping."""
    at: Any = record
    for key in keys:
        if not isinstance(at, dict):
            return None
        at = at.get(key)
    return at


def _word(value: Any) -> Optional[str]:
    text = "" if value is None else str(value).strip()
    return None if text.lower() in UNKNOWN_WORDS else text


def _number(value: Any) -> Optional[float]:
    """The number itself, or of {"value": 750, "unit": "W"}, or of a text such as "Gen 5"; None for "N/A"."""
    if isinstance(value, dict):
        value = value.get("value")
    match = re.search(r"-?\d+(?:\.\d+)?", str(value))
    return float(match.group()) if match else None


def _whole(value: Any) -> Optional[int]:
    number = _number(value)
    return None if number is None else int(number)


def _mib(value: Any) -> Optional[int]:
    unit = str(value.get("unit")) if isinstance(value, dict) else "MB"
    number = _number(value)
    return None if number is None or unit not in MIB_PER_UNIT else int(number * MIB_PER_UNIT[unit])


def _driver_version(version: Optional[str]) -> Optional[str]:
    """The version; a driver that came with the kernel answers with the kernel's banner, of which the release counts."""
    banner = re.match(r"Linux ?version ?([^\s(]+)", version or "")
    return banner.group(1) if banner else version


def _address(value: Any) -> Optional[str]:
    word = _word(value)
    return normal_pci_address(word) if word else None


def _amd_gpu(index: int, static: Mapping[str, Any], metric: Mapping[str, Any], listed: Mapping[str, Any]) -> Gpu:
    total = _mib(_dig(metric, "mem_usage", "total_vram"))
    total = _mib(_dig(static, "vram", "size")) if total is None else total
    used = _mib(_dig(metric, "mem_usage", "used_vram"))
    temperatures = [_whole(_dig(metric, "temperature", name)) for name in ("hotspot", "edge")]
    limits = [
        _number(_dig(static, "limit", *path))
        for path in (("socket_power",), ("ppt0", "socket_power_limit"), ("max_power",))
    ]
    return Gpu(
        index=index,
        vendor="amd",
        name=_word(_dig(static, "asic", "market_name")),
        uuid=_word(listed.get("uuid")),
        serial=_word(_dig(static, "asic", "asic_serial")),
        pci_bus_id=_address(_dig(static, "bus", "bdf")) or _address(listed.get("bdf")),
        architecture=_word(_dig(static, "asic", "target_graphics_version")),
        memory_total_mib=total,
        memory_used_mib=used,
        memory_free_mib=_free(_mib(_dig(metric, "mem_usage", "free_vram")), total, used),
        ecc=Ecc(
            volatile=EccCounts(
                _whole(_dig(metric, "ecc", "total_correctable_count")),
                _whole(_dig(metric, "ecc", "total_uncorrectable_count")),
            )
        ),
        pcie=Pcie(
            generation_max=_whole(_dig(static, "bus", "pcie_interface_version")),
            width_current=_whole(_dig(metric, "pcie", "width")),
            width_max=_whole(_dig(static, "bus", "max_pcie_width")),
        ),
        topology=Topology(numa_node=_whole(_dig(static, "numa", "node"))),
        power=Power(
            limit_w=next((limit for limit in limits if limit is not None), None),
            draw_w=_number(_dig(metric, "power", "socket_power")),
        ),
        temperature_c=next((value for value in temperatures if value is not None), None),
        memory_temperature_c=_whole(_dig(metric, "temperature", "mem")),
        vbios=_word(_dig(static, "vbios", "version")),
    )


def _free(told: Optional[int], total: Optional[int], used: Optional[int]) -> Optional[int]:
    return told if told is not None or total is None or used is None else total - used


def _rocm_gpu(index: int, card: Mapping[str, Any]) -> Gpu:
    # Capitals in the keys changed between versions ("Card series", "Card Series").
    values = {key.lower(): value for key, value in card.items()}
    total_bytes = _whole(values.get("vram total memory (b)"))
    used_bytes = _whole(values.get("vram total used memory (b)"))
    free = None if total_bytes is None or used_bytes is None else (total_bytes - used_bytes) // MIB
    return Gpu(
        index=index,
        vendor="amd",
        name=_word(values.get("card series")) or _word(values.get("card model")),
        uuid=_word(values.get("unique id")),
        pci_bus_id=_address(values.get("pci bus")),
        architecture=_word(values.get("gfx version")),
        memory_total_mib=None if total_bytes is None else total_bytes // MIB,
        memory_used_mib=None if used_bytes is None else used_bytes // MIB,
        memory_free_mib=free,
    )
