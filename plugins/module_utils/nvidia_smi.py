# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what C(nvidia-smi) and the NVIDIA lines of the kernel log say; runs nothing.

Memory is MiB (2**20 bytes) as nvidia-smi prints it, power watts, temperature degrees Celsius, clocks MHz, link speed
GB/s. What a driver does not know ("N/A", "[Not Supported]", an absent element) is None, never 0.
PCI addresses have the form of /sys/bus/pci/devices, such as 0000:3b:00.0, whatever the tool printed.
Sources: nvidia-smi(1), its DTDs nvsmi_device_v10 to v13, and the XID catalogue of NVIDIA's GPU deployment guide.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Optional, Tuple
from xml.etree import ElementTree
from xml.parsers import expat

LOST_WORDS = frozenset(("ERR!", "Unknown Error", "[Unknown Error]", "GPU is lost", "[GPU is lost]"))
UNKNOWN_WORDS = LOST_WORDS | {
    "",
    "N/A",
    "None",
    "Not Found",
    "Not Supported",
    "Requested functionality has been deprecated",
    "Insufficient Permissions",
}
# The fan or one clock of a sound GPU may read "Unknown Error"; without these three no program can use the GPU.
VITAL_PATHS = ("uuid", "fb_memory_usage/total", "temperature/gpu_temp")
LOST_FIX = "take the host out of service and power-cycle it, and look at xid_errors for the cause"


class NvidiaSmiError(ValueError):
    """The text is not what nvidia-smi prints; the message is one sentence."""


@dataclass(frozen=True)
class EccCounts:
    """Errors counted since the driver was loaded (volatile) or in the life of the board (aggregate)."""

    correctable: Optional[int] = None
    uncorrectable: Optional[int] = None


@dataclass(frozen=True)
class RemappedRows:
    """Memory rows replaced after errors; ``pending`` needs a GPU reset, ``failure`` a new board."""

    correctable: Optional[int] = None
    uncorrectable: Optional[int] = None
    pending: Optional[bool] = None
    failure: Optional[bool] = None


@dataclass(frozen=True)
class Ecc:
    """Modes are "Enabled" or "Disabled"; the pending one counts after a GPU reset."""

    mode_current: Optional[str] = None
    mode_pending: Optional[str] = None
    volatile: EccCounts = EccCounts()
    aggregate: EccCounts = EccCounts()
    remapped_rows: RemappedRows = RemappedRows()


@dataclass(frozen=True)
class MigDevice:
    """One MIG device; ``profile`` such as 3g.40gb and ``uuid`` come from C(nvidia-smi -L), the rest from the XML."""

    index: Optional[int]
    uuid: Optional[str] = None
    profile: Optional[str] = None
    gpu_instance_id: Optional[int] = None
    compute_instance_id: Optional[int] = None
    memory_total_mib: Optional[int] = None
    memory_free_mib: Optional[int] = None


@dataclass(frozen=True)
class Mig:
    """Modes are "Enabled" or "Disabled", None on a GPU without MIG."""

    mode_current: Optional[str] = None
    mode_pending: Optional[str] = None
    devices: Tuple[MigDevice, ...] = ()


@dataclass(frozen=True)
class Pcie:
    """Link generation and lanes; the current ones fall when the GPU idles."""

    generation_current: Optional[int] = None
    generation_max: Optional[int] = None
    width_current: Optional[int] = None
    width_max: Optional[int] = None


@dataclass(frozen=True)
class Nvlink:
    """Active links and the speed of one of them in one direction; None where the GPU has no NVLink or did not say."""

    links: Optional[int] = None
    link_gb_s: Optional[float] = None


@dataclass(frozen=True)
class Topology:
    """Paths from one GPU: ``links`` maps the index of each other GPU, as text, to NV18, PIX, PXB, PHB, NODE or SYS.

    ``nics`` does so for network devices; ``cpu_affinity`` is a list of CPUs such as 0-31,64-95.
    """

    links: Mapping[str, str] = field(default_factory=dict)
    nics: Mapping[str, str] = field(default_factory=dict)
    cpu_affinity: Optional[str] = None
    numa_node: Optional[int] = None


@dataclass(frozen=True)
class Power:
    """Watts: the limit in force, the limit of the factory, and what the board draws now."""

    limit_w: Optional[float] = None
    default_limit_w: Optional[float] = None
    draw_w: Optional[float] = None


@dataclass(frozen=True)
class Clocks:
    """Clocks now and their maximum, in MHz."""

    graphics_mhz: Optional[int] = None
    sm_mhz: Optional[int] = None
    memory_mhz: Optional[int] = None
    graphics_max_mhz: Optional[int] = None
    sm_max_mhz: Optional[int] = None
    memory_max_mhz: Optional[int] = None


@dataclass(frozen=True)
class Fabric:
    """What the fabric manager reached: ``state`` Completed with ``status`` Success is good, None is no NVSwitch."""

    state: Optional[str] = None
    status: Optional[str] = None


@dataclass(frozen=True)
class Process:
    """A program with memory on the GPU; in a container the driver may hide all of them."""

    pid: int
    name: Optional[str]
    used_mib: Optional[int]


@dataclass(frozen=True)
class Gpu:
    """One GPU of either vendor; what its tool does not tell is None or empty.

    ``problem`` is None, or one sentence that says why programs cannot use this GPU now.
    """

    index: int
    vendor: str
    name: Optional[str] = None
    uuid: Optional[str] = None
    serial: Optional[str] = None
    pci_bus_id: Optional[str] = None
    architecture: Optional[str] = None
    compute_capability: Optional[str] = None
    memory_total_mib: Optional[int] = None
    memory_reserved_mib: Optional[int] = None
    memory_used_mib: Optional[int] = None
    memory_free_mib: Optional[int] = None
    bar1_total_mib: Optional[int] = None
    ecc: Ecc = Ecc()
    mig: Mig = Mig()
    pcie: Pcie = Pcie()
    nvlink: Nvlink = Nvlink()
    topology: Topology = Topology()
    power: Power = Power()
    clocks: Clocks = Clocks()
    temperature_c: Optional[int] = None
    memory_temperature_c: Optional[int] = None
    throttle_reasons: Tuple[str, ...] = ()
    persistence_mode: Optional[str] = None
    compute_mode: Optional[str] = None
    performance_state: Optional[str] = None
    fabric: Fabric = Fabric()
    gsp_firmware_version: Optional[str] = None
    vbios: Optional[str] = None
    processes: Tuple[Process, ...] = ()
    problem: Optional[str] = None


@dataclass(frozen=True)
class Report:
    """What a tool says about a host: the driver's version, the newest CUDA that it serves, and its GPUs by index."""

    driver_version: Optional[str]
    cuda_version: Optional[str]
    gpus: Tuple[Gpu, ...]


@dataclass(frozen=True)
class Xid:
    """One NVIDIA error of the kernel log; ``time`` is UTC such as 2026-11-22T21:42:59Z, None where it is unknown."""

    time: Optional[str]
    pci_bus_id: str
    xid: int
    message: str


def normal_pci_address(raw: str) -> str:
    """00000000:3B:00.0 and 0000:3b:00 as 0000:3b:00.0; a text of another form comes back as it is."""
    match = re.fullmatch(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.([0-7]))?", raw.strip())
    if not match:
        return raw.strip()
    domain, bus, device, function = match.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}.{function or '0'}".lower()


def parse_query(text: str) -> Report:
    """The report in the text of C(nvidia-smi -q -x); raises NvidiaSmiError for a text that is not whole or not that.

    The index of a GPU is its place in the list, which has the order of the driver's indexes.
    """
    root = _tree(text)
    if root.tag != "nvidia_smi_log":
        raise NvidiaSmiError(
            f"nvidia-smi -q -x answered with <{root.tag}> instead of <nvidia_smi_log>; check that nvidia_smi names "
            "NVIDIA's own program."
        )
    gpus = tuple(_gpu(index, node) for index, node in enumerate(root.findall("gpu")))
    return Report(_word(root, "driver_version"), _word(root, "cuda_version"), gpus)


def split_query(text: str) -> Tuple[str, Tuple[str, ...]]:
    """The XML within what C(nvidia-smi -q -x) printed, and the remarks around it, such as a corrupted infoROM.

    The XML is "" where there is none that is whole.
    """
    starts = [at for at in (text.find("<?xml"), text.find("<nvidia_smi_log")) if at >= 0]
    closing = "</nvidia_smi_log>"
    end = text.rfind(closing)
    if not starts or end < 0:
        return "", ()
    around = text[: min(starts)] + "\n" + text[end + len(closing) :]
    return text[min(starts) : end + len(closing)], tuple(line.strip() for line in around.splitlines() if line.strip())


def _tree(text: str) -> ElementTree.Element:
    """The root element; declarations of entities are refused, and process names that are no XML are escaped."""
    # A GPU that is failing has answered with control characters, which no XML may hold.
    clean = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text).strip()
    try:
        return _checked_tree(clean)
    except (ElementTree.ParseError, expat.ExpatError) as first:
        # Drivers print process names as they are, and a user may call a program "a&b".
        escaped = re.sub(
            r"(<process_name>)(.*?)(</process_name>)",
            lambda found: found.group(1) + _escape(found.group(2)) + found.group(3),
            clean,
        )
        try:
            return _checked_tree(escaped)
        except (ElementTree.ParseError, expat.ExpatError):
            raise NvidiaSmiError(
                f"nvidia-smi -q -x gave no whole XML ({first}); run it by hand on the host, and raise timeout if it "
                "is only slow."
            ) from first


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _checked_tree(text: str) -> ElementTree.Element:
    # The file names a DTD, which is never read; a DTD within the text could define entities that grow without bound.
    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = _refuse_internal_subset
    checker.Parse(text, True)
    return ElementTree.fromstring(text)


def _refuse_internal_subset(_name: str, _system: Optional[str], _public: Optional[str], internal: bool) -> None:
    if internal:
        raise NvidiaSmiError(
            "nvidia-smi -q -x answered with a DTD of its own, which no driver does; check that nvidia_smi names "
            "NVIDIA's own program."
        )


def _text(node: ElementTree.Element, path: str) -> str:
    return (node.findtext(path) or "").strip()


def _word(node: ElementTree.Element, path: str) -> Optional[str]:
    """The text at a path, None for any of the ways in which a driver says that it does not know."""
    text = _text(node, path)
    return None if text in UNKNOWN_WORDS or text.strip("[]") in UNKNOWN_WORDS else text


def _number(node: ElementTree.Element, path: str, unit: str = "") -> Optional[float]:
    """The number before ``unit``; None where it is unknown or has another unit."""
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*(.*)", _text(node, path))
    return float(match.group(1)) if match and match.group(2) == unit else None


def _whole(node: ElementTree.Element, path: str, unit: str = "") -> Optional[int]:
    number = _number(node, path, unit)
    return None if number is None else int(number)


def _yes(node: ElementTree.Element, path: str) -> Optional[bool]:
    return {"Yes": True, "No": False}.get(_text(node, path))


def _first(*values: Optional[float]) -> Optional[float]:
    return next((value for value in values if value is not None), None)


def _gpu(index: int, node: ElementTree.Element) -> Gpu:
    bus = _word(node, "pci/pci_bus_id") or node.get("id") or ""
    gpu = Gpu(
        index=index,
        vendor="nvidia",
        name=_word(node, "product_name"),
        uuid=_word(node, "uuid"),
        serial=_word(node, "serial"),
        pci_bus_id=normal_pci_address(bus) or None,
        architecture=_word(node, "product_architecture"),
        memory_total_mib=_whole(node, "fb_memory_usage/total", "MiB"),
        memory_reserved_mib=_whole(node, "fb_memory_usage/reserved", "MiB"),
        memory_used_mib=_whole(node, "fb_memory_usage/used", "MiB"),
        memory_free_mib=_whole(node, "fb_memory_usage/free", "MiB"),
        bar1_total_mib=_whole(node, "bar1_memory_usage/total", "MiB"),
        ecc=_ecc(node),
        mig=Mig(_word(node, "mig_mode/current_mig"), _word(node, "mig_mode/pending_mig"), _mig_devices(node)),
        pcie=Pcie(
            _whole(node, "pci/pci_gpu_link_info/pcie_gen/current_link_gen"),
            _whole(node, "pci/pci_gpu_link_info/pcie_gen/max_link_gen"),
            _whole(node, "pci/pci_gpu_link_info/link_widths/current_link_width", "x"),
            _whole(node, "pci/pci_gpu_link_info/link_widths/max_link_width", "x"),
        ),
        power=_power(node),
        clocks=Clocks(
            _whole(node, "clocks/graphics_clock", "MHz"),
            _whole(node, "clocks/sm_clock", "MHz"),
            _whole(node, "clocks/mem_clock", "MHz"),
            _whole(node, "max_clocks/graphics_clock", "MHz"),
            _whole(node, "max_clocks/sm_clock", "MHz"),
            _whole(node, "max_clocks/mem_clock", "MHz"),
        ),
        temperature_c=_whole(node, "temperature/gpu_temp", "C"),
        memory_temperature_c=_whole(node, "temperature/memory_temp", "C"),
        throttle_reasons=_throttle_reasons(node),
        persistence_mode=_word(node, "persistence_mode"),
        compute_mode=_word(node, "compute_mode"),
        performance_state=_word(node, "performance_state"),
        fabric=Fabric(_word(node, "fabric/state"), _word(node, "fabric/status")),
        gsp_firmware_version=_word(node, "gsp_firmware_version"),
        vbios=_word(node, "vbios_version"),
        processes=_processes(node),
    )
    lost = any(_text(node, path) in LOST_WORDS for path in VITAL_PATHS)
    return replace(gpu, problem=gpu_problem(gpu, lost))


def gpu_problem(gpu: Gpu, lost: bool = False) -> Optional[str]:
    """Why programs cannot use this GPU, in one sentence with the fix, or None."""
    where = f"GPU {gpu.index} ({gpu.pci_bus_id})"
    if lost:
        return f"{where} no longer answers the driver; {LOST_FIX}."
    if gpu.mig.mode_current == "Enabled" and not gpu.mig.devices:
        return (
            f"{where} is in MIG mode without a MIG device, so no program can use it; create devices with nvidia-smi "
            f"mig -i {gpu.index} -cgi PROFILE -C, or turn MIG off with nvidia-smi -i {gpu.index} -mig 0."
        )
    if gpu.compute_mode == "Prohibited":
        return (
            f"{where} has compute mode Prohibited, so no program can use it; set it with nvidia-smi -i {gpu.index} -c "
            "DEFAULT."
        )
    if gpu.fabric.state in ("Not Started", "In Progress") or (
        gpu.fabric.state == "Completed" and gpu.fabric.status not in ("Success", None)
    ):
        said = gpu.fabric.state if gpu.fabric.state != "Completed" else gpu.fabric.status
        return (
            f"{where} waits for its NVSwitch fabric ({said}), and CUDA refuses it until then; start "
            "nvidia-fabricmanager in the same version as the driver."
        )
    return None


def _ecc(node: ElementTree.Element) -> Ecc:
    return Ecc(
        _word(node, "ecc_mode/current_ecc"),
        _word(node, "ecc_mode/pending_ecc"),
        _ecc_counts(node.find("ecc_errors/volatile")),
        _ecc_counts(node.find("ecc_errors/aggregate")),
        RemappedRows(
            _whole(node, "remapped_rows/remapped_row_corr"),
            _whole(node, "remapped_rows/remapped_row_unc"),
            _yes(node, "remapped_rows/remapped_row_pending"),
            _yes(node, "remapped_rows/remapped_row_failure"),
        ),
    )


def _ecc_counts(node: Optional[ElementTree.Element]) -> EccCounts:
    """Sums of SRAM and DRAM; boards before Ampere count single and double bit errors instead."""
    if node is None:
        return EccCounts()
    if node.find("single_bit") is not None or node.find("double_bit") is not None:
        return EccCounts(_whole(node, "single_bit/total"), _whole(node, "double_bit/total"))
    uncorrectable = [_whole(node, each.tag) for each in node if "_uncorrectable" in each.tag]
    correctable = [_whole(node, each.tag) for each in node if each.tag.endswith("_correctable")]
    return EccCounts(_sum(correctable), _sum(uncorrectable))


def _sum(values: List[Optional[int]]) -> Optional[int]:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mig_devices(node: ElementTree.Element) -> Tuple[MigDevice, ...]:
    return tuple(
        MigDevice(
            index=_whole(each, "index"),
            gpu_instance_id=_whole(each, "gpu_instance_id"),
            compute_instance_id=_whole(each, "compute_instance_id"),
            memory_total_mib=_whole(each, "fb_memory_usage/total", "MiB"),
            memory_free_mib=_whole(each, "fb_memory_usage/free", "MiB"),
        )
        for each in node.findall("mig_devices/mig_device")
    )


def _power(node: ElementTree.Element) -> Power:
    """Branches up to 525 say power_readings and power_limit; later ones gpu_power_readings and current_power_limit."""

    def watts(*names: str) -> Optional[float]:
        groups = ("gpu_power_readings", "power_readings")
        return _first(*(_number(node, f"{group}/{name}", "W") for name in names for group in groups))

    return Power(
        watts("current_power_limit", "enforced_power_limit", "power_limit"),
        watts("default_power_limit"),
        watts("instant_power_draw", "power_draw", "average_power_draw"),
    )


def _throttle_reasons(node: ElementTree.Element) -> Tuple[str, ...]:
    """Names of the active reasons without their prefix; branches up to 530 call them throttle reasons."""
    reasons = []
    for word in ("event", "throttle"):
        prefix = f"clocks_{word}_reason_"
        for each in node.findall(f"clocks_{word}_reasons/*"):
            if (each.text or "").strip() == "Active" and each.tag.startswith(prefix):
                reasons.append(each.tag[len(prefix) :])
    return tuple(reasons)


def _processes(node: ElementTree.Element) -> Tuple[Process, ...]:
    found = []
    for each in node.findall("processes/process_info"):
        pid = _whole(each, "pid")
        if pid is not None:
            found.append(Process(pid, _word(each, "process_name"), _whole(each, "used_memory", "MiB")))
    return tuple(found)


def parse_compute_capabilities(text: str) -> Dict[int, str]:
    """GPU index to capability such as "9.0", of C(--query-gpu=index,compute_cap --format=csv,noheader).

    Empty for the answer of drivers before 510, which do not know the field.
    """
    return {int(index): cap for index, cap in re.findall(r"^\s*(\d+),\s*(\d+\.\d+)\s*$", text, re.MULTILINE)}


def parse_list(text: str) -> Dict[str, Dict[int, Tuple[str, str]]]:
    """UUID of each GPU to its MIG devices, index to (profile, UUID), of the text of C(nvidia-smi -L)."""
    found: Dict[str, Dict[int, Tuple[str, str]]] = {}
    devices: Dict[int, Tuple[str, str]] = {}
    for line in text.splitlines():
        gpu = re.match(r"GPU \d+:.*\(UUID: (GPU-[^)\s]+)\)", line)
        mig = re.match(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)", line)
        if gpu:
            devices = found.setdefault(gpu.group(1), {})
        elif mig:
            devices[int(mig.group(2))] = (mig.group(1), mig.group(3))
    return found


def parse_nvlink(text: str) -> Dict[int, Nvlink]:
    """GPU index to its active links, of the text of C(nvidia-smi nvlink -s); empty where the driver refuses."""
    speeds: Dict[int, List[float]] = {}
    index = -1
    for line in text.splitlines():
        gpu = re.match(r"GPU (\d+):", line)
        link = re.match(r"\s+Link \d+: (?:(\d+(?:\.\d+)?) GB/s|<inactive>)", line)
        if gpu:
            index = int(gpu.group(1))
        elif link:
            active = speeds.setdefault(index, [])
            if link.group(1):
                active.append(float(link.group(1)))
    return {index: Nvlink(len(found), min(found) if found else None) for index, found in speeds.items()}


def parse_topology(text: str) -> Dict[int, Topology]:
    """GPU index to its paths, of the text of C(nvidia-smi topo -m), with or without the underline of a terminal."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    heads = [at for at, line in enumerate(lines) if re.match(r"\s+GPU0\b", line)]
    if not heads:
        return {}
    # Cells are parted by tabs; the first one of the head stands above the names of the rows.
    head = [cell.strip() for cell in lines[heads[0]].split("\t")]
    nic_names = dict(re.findall(r"^\s+(NIC\d+): (\S+)\s*$", "\n".join(lines), re.MULTILINE))
    found: Dict[int, Topology] = {}
    for line in lines[heads[0] + 1 :]:
        cells = [cell.strip() for cell in line.split("\t")]
        row = re.fullmatch(r"GPU(\d+)", cells[0])
        if not row:
            continue
        by_name = dict(zip(head[1:], cells[1:]))
        links, nics = {}, {}
        for name, path in by_name.items():
            if re.fullmatch(r"GPU\d+", name) and path != "X":
                links[name[len("GPU") :]] = path
            elif re.fullmatch(r"[\w.-]+", name) and not name.startswith("GPU"):
                nics[nic_names.get(name, name)] = path
        node = by_name.get("NUMA Affinity", "")
        affinity = by_name.get("CPU Affinity", "")
        found[int(row.group(1))] = Topology(
            links,
            nics,
            affinity if re.fullmatch(r"[\d,-]*\d", affinity) else None,
            int(node) if node.isdigit() else None,
        )
    return found


def combine(
    report: Report,
    capabilities: Mapping[int, str],
    nvlinks: Mapping[int, Nvlink],
    topologies: Mapping[int, Topology],
    mig_lists: Mapping[str, Mapping[int, Tuple[str, str]]],
) -> Report:
    """The report with what the other calls said; what they did not say stays as it is."""
    gpus = []
    for gpu in report.gpus:
        listed = mig_lists.get(gpu.uuid or "", {})
        devices = []
        for device in gpu.mig.devices:
            profile, uuid = listed.get(-1 if device.index is None else device.index, (device.profile, device.uuid))
            devices.append(replace(device, profile=profile, uuid=uuid))
        gpus.append(
            replace(
                gpu,
                compute_capability=capabilities.get(gpu.index, gpu.compute_capability),
                nvlink=nvlinks.get(gpu.index, gpu.nvlink),
                topology=topologies.get(gpu.index, gpu.topology),
                mig=replace(gpu.mig, devices=tuple(devices)),
            )
        )
    return replace(report, gpus=tuple(gpus))


def failure_problem(status: int, text: str) -> str:
    """One sentence, with the fix, for an nvidia-smi that ended with ``status`` and printed ``text`` instead of XML."""
    lower = text.lower()
    if "library version mismatch" in lower:
        version = re.search(r"NVML library version: (\S+)", text)
        library = f" ({version.group(1)})" if version else ""
        return (
            f"the loaded NVIDIA kernel module is not of the version of the NVML library{library}, because the driver "
            "was updated under it; reboot the host, or unload and load the nvidia modules."
        )
    if "couldn't communicate with the nvidia driver" in lower:
        return (
            "nvidia-smi is installed, but the NVIDIA kernel module is not loaded; install the driver for the running "
            "kernel and load it with modprobe nvidia, whose refusal (Secure Boot, nouveau) stands in the kernel log."
        )
    if "couldn't find libnvidia-ml" in lower:
        return (
            "nvidia-smi is installed, but its library libnvidia-ml.so is not; install the driver's library package in "
            "the version of the kernel module, or give it to the container."
        )
    lost = re.search(r"device handle for GPU.*?([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])", text)
    if lost or "gpu is lost" in lower:
        where = f"the GPU at {normal_pci_address(lost.group(1))}" if lost else "a GPU"
        return f"{where} no longer answers the driver; {LOST_FIX}."
    if "no devices were found" in lower:
        return (
            "the NVIDIA driver is loaded but drives no GPU; see the NVRM lines of the kernel log: the driver may be "
            "too old for the card, need its open kernel module, or find the card bound to vfio-pci."
        )
    if "insufficient permissions" in lower:
        return "this user may not open the /dev/nvidia* devices; use become, or correct their group and mode."
    if "access blocked by the operating system" in lower or "failed to initialize nvml: unknown error" in lower:
        return (
            "the /dev/nvidia* devices cannot be opened, as in a container whose devices were taken away by a reload of "
            "systemd; restart the container, or give it the GPU through CDI."
        )
    said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
    return f"nvidia-smi ended with status {status} and said {said[:200]!r}; run nvidia-smi -q -x by hand on the host."


def timeout_problem(timeout_s: int) -> str:
    """The sentence for an nvidia-smi that did not answer."""
    return (
        f"nvidia-smi did not answer within {timeout_s} s, so the driver or a GPU hangs; look at xid_errors, then "
        "reboot the host, or raise timeout if it has many GPUs and persistence mode is off."
    )


def parse_xids(text: str, boot_time_s: Optional[float] = None, since_s: float = 0.0) -> Tuple[Xid, ...]:
    """XID errors in lines of C(journalctl -o short-unix) or C(dmesg), oldest first, those before ``since_s`` left out.

    ``boot_time_s`` is when the host started, seconds since 1970; dmesg counts from there. Lines without a time stay.
    """
    found = []
    for line in text.splitlines():
        match = re.search(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+),?\s*(.*)$", line)
        if not match:
            continue
        at = _line_time(line, boot_time_s)
        if at is None or at >= since_s:
            xid = Xid(_utc(at), normal_pci_address(match.group(1)), int(match.group(2)), match.group(3).strip())
            found.append((at or 0.0, xid))
    return tuple(xid for _at, xid in sorted(found, key=lambda pair: pair[0]))


def _line_time(line: str, boot_time_s: Optional[float]) -> Optional[float]:
    unix = re.match(r"(\d{9,}\.\d+) ", line)
    if unix:
        return float(unix.group(1))
    since_boot = re.match(r"(?:<\d+>)?\[\s*(\d+\.\d+)\]", line)
    return boot_time_s + float(since_boot.group(1)) if since_boot and boot_time_s is not None else None


def _utc(at: Optional[float]) -> Optional[str]:
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(at, tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
