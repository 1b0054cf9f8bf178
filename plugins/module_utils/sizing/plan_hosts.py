# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to serve on: hosts with their GPUs, gathered into classes of equal hardware."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.gpus import Gpu, expand, resolve

HOST_KEYS = ("name", "count", "gpus", "memory_mib", "disk_free_mib", "cpu_cores")
MOST_HOSTS = 10_000
# Idle cards and hosts of one type differ by a few MiB; rounded down, they stay one class.
FREE_STEP_MIB = 32
MEMORY_STEP_MIB = 1024
DISK_STEP_MIB = 10240
MOST_GPUS = 64
_FIGURES = ("bandwidth_gb_s", "fp16_tflops", "int8_tops", "multiprocessors", "boost_mhz")
# Memory that our own server holds is ours to plan with again.
_OWN_PROCESSES = ("ollama", "llama-server")


@dataclass(frozen=True)
class Device:
    """One GPU or MIG device of one host, MiB; C(request) is what the engine is told of it, as JSON."""

    index: int
    name: str
    uuid: str
    memory_total_mib: int
    memory_free_mib: int
    is_mig: bool
    request: str

    @property
    def plannable_mib(self) -> int:
        return self.memory_free_mib // FREE_STEP_MIB * FREE_STEP_MIB


@dataclass(frozen=True)
class Host:
    """One host; None: unknown, and then not a bound."""

    name: str
    devices: Tuple[Device, ...]
    memory_mib: Optional[int]
    disk_free_mib: Optional[int]

    @property
    def hardware(self) -> str:
        """Short text, such as C(8 x NVIDIA H100 80GB HBM3)."""
        names = Counter(device.name for device in self.devices)
        if not names:
            return "CPU"
        return ", ".join(f"{count} x {name}" for name, count in sorted(names.items()))


@dataclass(frozen=True)
class HostClass:
    """Hosts of equal hardware. C(requests) and C(free_mib) by device; C(choices): devices that one server may see.

    C(rank) sorts smaller classes first, so that a small model does not take a large host.
    """

    rank: Tuple[int, int, str]

    requests: Tuple[str, ...]
    free_mib: Tuple[int, ...]
    memory_mib: Optional[int]
    disk_free_mib: Optional[int]
    hardware: str
    choices: Tuple[Tuple[int, ...], ...]
    hosts: Tuple[Host, ...]


def hosts_of(hosts: Any, gpus: Any) -> Tuple[Host, ...]:
    """Hosts sorted by name; SizingError for anything that is no host. C(gpus) is the catalogue that resolve() reads.

    C(count) makes that many of a host, with numbers behind its name.
    """
    if isinstance(hosts, (str, bytes, Mapping)) or not isinstance(hosts, Sequence):
        raise SizingError(f"the hosts are {type(hosts).__name__}: give a list of mappings with name and gpus.")
    known: Dict[str, Gpu] = {}
    found = [host for each in hosts for host in _copies(_host(each, gpus, known), each)]
    names = Counter(host.name for host in found)
    for name, count in names.items():
        if count > 1:
            raise SizingError(f"host {name} stands {count} times in the list: give each host once.")
    return tuple(sorted(found, key=lambda host: natural(host.name)))


def natural(name: str) -> Tuple[Tuple[int, int, str], ...]:
    """Sorts gpu2 before gpu10."""
    parts: List[Tuple[int, int, str]] = []
    word = ""
    for letter in name + "\0":
        if word and letter.isdigit() != word[-1].isdigit():
            parts.append((0, int(word), "") if word.isdecimal() else (1, 0, word))
            word = ""
        word += letter
    return (*parts, (2, 0, name))


def classes_of(hosts: Sequence[Host]) -> Tuple[HostClass, ...]:
    """Classes, smallest first."""
    groups: Dict[Any, List[Host]] = {}
    for host in hosts:
        devices = tuple((device.request, device.plannable_mib, device.is_mig) for device in host.devices)
        memory_mib = _rounded(host.memory_mib, MEMORY_STEP_MIB)
        disk_free_mib = _rounded(host.disk_free_mib, DISK_STEP_MIB)
        groups.setdefault((devices, memory_mib, disk_free_mib), []).append(host)
    classes = [
        HostClass(
            rank=(sum(free for _request, free, _mig in devices), memory_mib or 0, repr((devices, disk_free_mib))),
            requests=tuple(request for request, _free, _mig in devices),
            free_mib=tuple(free for _request, free, _mig in devices),
            memory_mib=memory_mib,
            disk_free_mib=disk_free_mib,
            hardware=members[0].hardware,
            choices=_choices(members[0].devices),
            hosts=tuple(members),
        )
        for (devices, memory_mib, disk_free_mib), members in groups.items()
    ]
    return tuple(sorted(classes, key=lambda each: each.rank))


def expand_count(gpus: Any, where: str) -> List[Any]:
    """The list with each C({name, count}) as that many GPUs."""
    if isinstance(gpus, (str, bytes, Mapping)) or not isinstance(gpus, Sequence):
        raise SizingError(f"the GPUs of {where} are {gpus!r}: give a list of names or mappings.")
    found: List[Any] = []
    for gpu in gpus:
        count = 1
        if isinstance(gpu, Mapping) and "count" in gpu:
            count = gpu["count"]
            gpu = {key: value for key, value in gpu.items() if key != "count"}
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_GPUS:
            raise SizingError(f"count of a GPU of {where} is {count!r}: give a whole number from 0 to {MOST_GPUS}.")
        found.extend([gpu] * count)
    if len(found) > MOST_GPUS:
        raise SizingError(f"{where} has {len(found)} GPUs: give at most {MOST_GPUS} for one host.")
    return found


def _host(host: Any, gpus: Any, known: Dict[str, Gpu]) -> Host:
    if not isinstance(host, Mapping) or not str(host.get("name") or "").strip():
        raise SizingError(f"a host is {host!r}: give a mapping with name and gpus.")
    name = str(host["name"]).strip()
    only_known_keys(f"host {name}", host, HOST_KEYS)
    devices: List[Device] = []
    for number, gpu in enumerate(expand_count(host.get("gpus") or [], f"host {name}")):
        key = repr(gpu)
        if key not in known:
            known[key] = resolve(_own_memory_back(gpu), gpus)
        resolved = known[key]
        index = gpu.get("index", number) if isinstance(gpu, Mapping) else number
        if isinstance(index, bool) or not isinstance(index, int):
            raise SizingError(f"index of a GPU of host {name} is {index!r}: give a whole number.")
        devices.extend(_device(part, index, resolved.mig_enabled) for part in expand(resolved))
    memory_mib = _whole_or_none(host, "memory_mib", name)
    if not devices and memory_mib is None:
        raise SizingError(
            f"host {name} has no GPU and no memory_mib: give its GPUs, or the memory that bounds its CPU."
        )
    return Host(name, tuple(devices), memory_mib, _whole_or_none(host, "disk_free_mib", name))


def _copies(host: Host, said: Mapping[str, Any]) -> List[Host]:
    count = said.get("count")
    if count is None:
        return [host]
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_HOSTS:
        raise SizingError(f"count of host {host.name} is {count!r}: give a whole number from 1 to {MOST_HOSTS}.")
    return [replace(host, name=f"{host.name}{number}") for number in range(1, count + 1)]


def _own_memory_back(gpu: Any) -> Any:
    """The GPU as it was before our own server loaded models, so that a second run gives the same plan."""
    if not isinstance(gpu, Mapping) or gpu.get("memory_free_mib") is None:
        return gpu
    own = sum(
        process.get("used_mib") or 0
        for process in gpu.get("processes") or ()
        if any(word in str(process.get("name", "")) for word in _OWN_PROCESSES)
    )
    if not own:
        return gpu
    most = (gpu.get("memory_total_mib") or 0) - (gpu.get("memory_reserved_mib") or 0)
    return {**gpu, "memory_free_mib": min(gpu["memory_free_mib"] + own, most)}


def _device(gpu: Gpu, index: int, is_mig: bool) -> Device:
    request: Dict[str, Any] = {
        "name": gpu.name,
        "vendor": gpu.vendor,
        "memory_total_mib": gpu.memory_total_mib,
    }
    if gpu.architecture:
        request["architecture"] = gpu.architecture
    if gpu.compute_capability:
        request["compute_capability"] = "{}.{}".format(*gpu.compute_capability)
    # A slice has its share of the whole; the catalogue, which the engine asks, knows only the whole.
    for key in _FIGURES:
        if getattr(gpu, key) is not None:
            request[key] = getattr(gpu, key)
    return Device(
        index=index,
        name=gpu.name,
        uuid=gpu.uuid or "",
        memory_total_mib=gpu.memory_total_mib,
        memory_free_mib=gpu.memory_free_mib,
        is_mig=is_mig,
        request=json.dumps(request, sort_keys=True),
    )


def _choices(devices: Sequence[Device]) -> Tuple[Tuple[int, ...], ...]:
    """Sets of devices to try, the one with most memory first.

    A CUDA process can use only one MIG device (NVIDIA Multi-Instance GPU user guide, "CUDA Device Enumeration"), and
    none beside whole GPUs. Small cards beside large ones slow a spread model, so the large ones alone are tried too.
    """
    whole = tuple(place for place, device in enumerate(devices) if not device.is_mig)
    choices: List[Tuple[int, ...]] = [whole] if whole else []
    if whole:
        largest = max(devices[place].memory_total_mib for place in whole)
        choices.append(tuple(place for place in whole if devices[place].memory_total_mib == largest))
        names = sorted({devices[place].name for place in whole})
        choices.extend(tuple(place for place in whole if devices[place].name == name) for name in names)
    seen = set()
    for place, device in enumerate(devices):
        kind = (device.request, device.plannable_mib)
        if device.is_mig and kind not in seen:
            seen.add(kind)
            choices.append((place,))
    if not choices:
        return ((),)
    unique = list(dict.fromkeys(choices))
    return tuple(sorted(unique, key=lambda some: (-sum(devices[place].plannable_mib for place in some), some)))


def _rounded(mib: Optional[int], step_mib: int) -> Optional[int]:
    # What is smaller than a few steps stays exact: a small test host would lose too much.
    return mib if mib is None or mib < 8 * step_mib else mib // step_mib * step_mib


def _whole_or_none(host: Mapping[str, Any], key: str, name: str) -> Optional[int]:
    value = host.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise SizingError(f"{key} of host {name} is {value!r}: give a number of MiB from 0.")
    return int(value)
