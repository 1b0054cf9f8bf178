# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a Linux host for its GPUs and changes nothing: the PCI bus first, then the vendors' tools.

What the tools print is read by nvidia_smi.py and amd_smi.py; this file runs them and says what is wrong with the host.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils import amd_smi, host_probe, nvidia_smi
from ansible_collections.baremetal.llm.plugins.module_utils.nvidia_smi import Gpu, Report

PCI_DEVICES = Path("/sys/bus/pci/devices")
PROC = Path("/proc")
USUAL_FOLDERS = ("/usr/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib", "/opt/rocm/bin")
VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
# VGA, 3D and other display controllers, processing accelerators. Sound (0x0403) is no GPU.
GPU_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
# An NVSwitch is an "other bridge". Those of the fifth NVLink generation are no PCI devices of the host.
SWITCH_CLASSES = ("0x0680",)
MIB = 1024 * 1024
KILL_WAIT_S = 2
XIDS_MAX = 200
LC_ALL = {"LC_ALL": "C"}
COMMAND_ABSENT = 127


@dataclass(frozen=True)
class Options:
    """``timeout_s`` holds for each command; ``xid_hours`` 0 is the whole log; ``nvidia_smi`` "" is searched for."""

    timeout_s: int = 30
    xid_hours: int = 24
    nvidia_smi: str = ""


@dataclass(frozen=True)
class Answer:
    """How a command ended: 127 where it could not be started; ``out`` is standard output, ``err`` standard error."""

    status: int
    out: str = ""
    err: str = ""
    timed_out: bool = False

    @property
    def both(self) -> str:
        return f"{self.out}\n{self.err}"


Run = Callable[[Sequence[str]], Answer]


@dataclass(frozen=True)
class PciDevice:
    """A GPU or an NVSwitch on the PCI bus; ``driver`` is the kernel module that holds it, "" where none does."""

    address: str
    vendor: str
    device_id: str
    device_class: str
    driver: str


@dataclass(frozen=True)
class Probe:
    """Everything about the GPUs of a host; ``problem`` is one sentence where no program can use all of them."""

    usable: bool
    problem: Optional[str]
    vendor: str
    source: str
    driver: Dict[str, Optional[str]]
    gpus: Tuple[Gpu, ...]
    pci: Tuple[PciDevice, ...]
    switches: Tuple[PciDevice, ...]
    xid_errors: Tuple[nvidia_smi.Xid, ...]


@dataclass(frozen=True)
class Found:
    """What one vendor's tools said: no report with a problem, or a report whose GPUs may have problems of their own."""

    source: str = ""
    report: Optional[Report] = None
    problem: Optional[str] = None


def run(argv: Sequence[str], timeout_s: int) -> Answer:
    """Runs a command in the C locale, and gives up after ``timeout_s`` even on a process that cannot be killed."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **LC_ALL},
            start_new_session=True,
        )
    except OSError as exc:
        return Answer(COMMAND_ABSENT, err=str(exc))
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return Answer(-signal.SIGKILL, timed_out=True)
    return Answer(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _give_up(process: subprocess.Popen[bytes]) -> None:
    # A process within a hanging driver does not end, not even when killed: waiting for it would hang this one too.
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=KILL_WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def pci_devices(devices: Path) -> Tuple[PciDevice, ...]:
    """GPUs and NVSwitches below /sys/bus/pci/devices, by address; empty where there is no such folder."""
    found = []
    for folder in sorted(devices.iterdir()) if devices.is_dir() else []:
        vendor = VENDORS.get(host_probe.read_text(folder / "vendor").strip())
        device_class = host_probe.read_text(folder / "class").strip()[: len("0x0300")]
        if vendor and device_class in (*GPU_CLASSES, *SWITCH_CLASSES):
            device_id = host_probe.read_text(folder / "device").strip()
            driver = os.path.basename(os.path.realpath(folder / "driver")) if (folder / "driver").exists() else ""
            found.append(PciDevice(folder.name, vendor, device_id, device_class, driver))
    return tuple(found)


def find_program(name: str) -> Optional[str]:
    """The path of a program in PATH or in the folders where drivers put theirs."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(USUAL_FOLDERS))


def nvidia_smi_path(given: str) -> Optional[str]:
    """The program that was asked for, or the one found; raises ValueError where the given one cannot be run."""
    if given and not shutil.which(given):
        raise ValueError(
            f"nvidia_smi is {given!r}, which is no program on this host; correct the path or leave it out."
        )
    return given or find_program("nvidia-smi")


def probe(options: Options) -> Tuple[Probe, List[str]]:
    """What the host has, and warnings; raises ValueError for a ``nvidia_smi`` that is no program."""
    warnings: List[str] = []

    def run_limited(argv: Sequence[str]) -> Answer:
        return run(argv, options.timeout_s)

    devices = pci_devices(PCI_DEVICES)
    pci = tuple(device for device in devices if device.device_class in GPU_CLASSES)
    on_bus = {vendor: [gpu for gpu in pci if gpu.vendor == vendor] for vendor in VENDORS.values()}
    nvidia = _nvidia(run_limited, options, on_bus["nvidia"], warnings)
    amd = _amd(run_limited, on_bus["amd"], options.timeout_s)
    if nvidia.problem and not on_bus["nvidia"] and pci_is_known(PCI_DEVICES):
        warnings.append(f"No NVIDIA GPU is on the PCI bus, and {nvidia.problem}")
        nvidia = Found()
    reports = [found.report for found in (nvidia, amd) if found.report]
    gpus = tuple(gpu for report in reports for gpu in report.gpus)
    has_nvidia = bool(on_bus["nvidia"] or nvidia.report or nvidia.problem)
    xids = _xids(run_limited, options, warnings) if has_nvidia else ()
    # An AMD GPU within the processor of a host with NVIDIA GPUs needs no ROCm.
    deciding = nvidia if has_nvidia else amd
    problem = deciding.problem or next((gpu.problem for gpu in gpus if gpu.problem), None)
    result = Probe(
        usable=bool(gpus) and problem is None,
        problem=problem,
        vendor=_vendor(has_nvidia, bool(on_bus["amd"] or amd.report)),
        source="+".join(found.source for found in (nvidia, amd) if found.source) or "none",
        driver=_driver(deciding.report),
        gpus=gpus,
        pci=pci,
        switches=tuple(device for device in devices if device.device_class in SWITCH_CLASSES),
        xid_errors=xids,
    )
    return result, warnings


def pci_is_known(devices: Path) -> bool:
    """Whether the PCI bus could be read and has devices: in some sandboxes a GPU works where no bus is shown."""
    return devices.is_dir() and any(devices.iterdir())


def _vendor(nvidia: bool, amd: bool) -> str:
    if nvidia and amd:
        return "mixed"
    return "nvidia" if nvidia else "amd" if amd else "none"


def _driver(report: Optional[Report]) -> Dict[str, Optional[str]]:
    """Versions, and for NVIDIA which flavour of kernel module is loaded."""
    loaded = host_probe.read_text(PROC / "driver/nvidia/version")
    flavour = "open" if "Open Kernel Module" in loaded else "proprietary" if "Kernel Module" in loaded else None
    return {
        "version": report.driver_version if report else None,
        "cuda_version": report.cuda_version if report else None,
        "kernel_module": flavour,
    }


def _nvidia(run_limited: Run, options: Options, on_bus: Sequence[PciDevice], warnings: List[str]) -> Found:
    path = nvidia_smi_path(options.nvidia_smi)
    if path:
        return _ask_nvidia_smi(run_limited, path, options.timeout_s, on_bus, warnings)
    nvml = _import_nvml()
    if nvml:
        return _ask_nvml(nvml, on_bus)
    return Found(problem=_no_driver_problem(on_bus) if on_bus else None)


def _ask_nvidia_smi(
    run_limited: Run, path: str, timeout_s: int, on_bus: Sequence[PciDevice], warnings: List[str]
) -> Found:
    answer = run_limited([path, "-q", "-x"])
    if answer.timed_out:
        return Found("nvidia-smi", problem=nvidia_smi.timeout_problem(timeout_s))
    xml, remarks = nvidia_smi.split_query(answer.out)
    if answer.status != 0 and not xml:
        problem = _holder_problem(on_bus) or nvidia_smi.failure_problem(answer.status, answer.both)
        return Found("nvidia-smi", problem=problem)
    warnings.extend(f"nvidia-smi says: {remark}" for remark in remarks)
    try:
        report = nvidia_smi.parse_query(xml or answer.out)
    except nvidia_smi.NvidiaSmiError as exc:
        return Found("nvidia-smi", problem=_told(answer) or str(exc))
    if not report.gpus:
        problem = _holder_problem(on_bus) or nvidia_smi.failure_problem(0, "No devices were found")
        return Found("nvidia-smi", report, problem)

    def more(*arguments: str) -> str:
        extra = run_limited([path, *arguments])
        if extra.timed_out:
            warnings.append(f"nvidia-smi {' '.join(arguments)} did not answer within {timeout_s} s and is left out.")
        return extra.out if extra.status == 0 else ""

    has_mig = any(gpu.mig.devices for gpu in report.gpus)
    report = nvidia_smi.combine(
        report,
        nvidia_smi.parse_compute_capabilities(more("--query-gpu=index,compute_cap", "--format=csv,noheader")),
        nvidia_smi.parse_nvlink(more("nvlink", "-s")),
        nvidia_smi.parse_topology(more("topo", "-m")),
        nvidia_smi.parse_list(more("-L")) if has_mig else {},
    )
    listed = {gpu.pci_bus_id for gpu in report.gpus}
    missing = [gpu.address for gpu in on_bus if gpu.driver in ("nvidia", "") and gpu.address not in listed]
    if missing:
        warnings.append(
            f"nvidia-smi shows {len(report.gpus)} of {len(on_bus)} NVIDIA GPUs of the PCI bus; {', '.join(missing)} "
            "is not given to this container, or has failed: see xid_errors."
        )
    return Found("nvidia-smi", report)


def _told(answer: Answer) -> Optional[str]:
    """The problem in a text that is no XML: "No devices were found" has come with status 0."""
    return None if "<" in answer.out else nvidia_smi.failure_problem(answer.status, answer.both)


def _no_driver_problem(on_bus: Sequence[PciDevice]) -> str:
    holder = _holder_problem(on_bus)
    if holder:
        return holder
    where = on_bus[0].address
    if on_bus[0].driver == "nvidia":
        return (
            f"the nvidia kernel module drives {where}, but there is no nvidia-smi; install the driver's utilities, or "
            "say in nvidia_smi where it is."
        )
    return f"an NVIDIA GPU is at {where}, but its driver is not installed; install the NVIDIA driver, then reboot."


def _holder_problem(on_bus: Sequence[PciDevice]) -> Optional[str]:
    """The sentence for GPUs that all belong to a kernel module other than NVIDIA's."""
    drivers = {gpu.driver for gpu in on_bus}
    if drivers == {"nouveau"}:
        return (
            f"the nouveau driver holds {on_bus[0].address}, and it cannot run CUDA; install the NVIDIA driver, forbid "
            "nouveau in /etc/modprobe.d, and reboot."
        )
    if drivers == {"vfio-pci"}:
        return (
            f"{on_bus[0].address} is bound to vfio-pci for a virtual machine; probe it in that machine, or give it "
            "back to the nvidia driver."
        )
    return None


def _import_nvml() -> Any:
    """NVIDIA's Python bindings where the host's Python has them, else None."""
    try:
        return importlib.import_module("pynvml")
    except Exception:  # a broken package, too, only means that there is none
        return None


def _ask_nvml(nvml: Any, on_bus: Sequence[PciDevice]) -> Found:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as exc:
        if not on_bus:
            return Found()
        missing = getattr(nvml, "NVMLError_LibraryNotFound", None)
        if missing and isinstance(exc, missing):
            return Found(problem=_no_driver_problem(on_bus))
        problem = _holder_problem(on_bus) or nvidia_smi.failure_problem(1, f"Failed to initialize NVML: {exc}")
        return Found("nvml", problem=problem)
    try:
        report = nvml_report(nvml)
    except nvml.NVMLError as exc:
        return Found("nvml", problem=nvidia_smi.failure_problem(1, str(exc)))
    finally:
        nvml.nvmlShutdown()
    return Found("nvml", report, None if report.gpus else nvidia_smi.failure_problem(0, "No devices were found"))


def nvml_report(nvml: Any) -> Report:
    """The core fields of each GPU through an initialized NVML; fields that it does not know are None."""

    def ask(name: str, *arguments: Any, **named: Any) -> Any:
        try:
            value = getattr(nvml, name)(*arguments, **named)
        except (nvml.NVMLError, AttributeError, TypeError):
            return None
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def switch(pair: Any) -> Tuple[Optional[str], Optional[str]]:
        if not pair:
            return None, None
        words = {0: "Disabled", 1: "Enabled"}
        return words.get(int(pair[0])), words.get(int(pair[1]))

    def watts(milliwatts: Optional[int]) -> Optional[float]:
        return None if milliwatts is None else milliwatts / 1000

    gpus = []
    for index in range(int(nvml.nvmlDeviceGetCount())):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        # Only the second version tells reserved memory apart from used memory, as nvidia-smi does.
        version = getattr(nvml, "nvmlMemory_v2", None)
        memory = ask("nvmlDeviceGetMemoryInfo", handle, version=version) if version else None
        memory = memory or ask("nvmlDeviceGetMemoryInfo", handle)
        reserved = getattr(memory, "reserved", None)
        capability = ask("nvmlDeviceGetCudaComputeCapability", handle)
        bus = getattr(ask("nvmlDeviceGetPciInfo", handle), "busId", None)
        bus = bus.decode() if isinstance(bus, bytes) else bus
        ecc_current, ecc_pending = switch(ask("nvmlDeviceGetEccMode", handle))
        mig_current, mig_pending = switch(ask("nvmlDeviceGetMigMode", handle))
        gpu = Gpu(
            index=index,
            vendor="nvidia",
            name=ask("nvmlDeviceGetName", handle),
            uuid=ask("nvmlDeviceGetUUID", handle),
            serial=ask("nvmlDeviceGetSerial", handle),
            pci_bus_id=nvidia_smi.normal_pci_address(bus) if bus else None,
            compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
            memory_total_mib=memory.total // MIB if memory else None,
            memory_reserved_mib=None if reserved is None else reserved // MIB,
            memory_used_mib=memory.used // MIB if memory else None,
            memory_free_mib=memory.free // MIB if memory else None,
            ecc=nvidia_smi.Ecc(mode_current=ecc_current, mode_pending=ecc_pending),
            mig=nvidia_smi.Mig(mig_current, mig_pending, _nvml_mig_devices(nvml, ask, handle)),
            power=nvidia_smi.Power(
                watts(ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
                watts(ask("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
                watts(ask("nvmlDeviceGetPowerUsage", handle)),
            ),
            temperature_c=ask("nvmlDeviceGetTemperature", handle, 0),
            vbios=ask("nvmlDeviceGetVbiosVersion", handle),
        )
        gpus.append(replace(gpu, problem=nvidia_smi.gpu_problem(gpu)))
    cuda = ask("nvmlSystemGetCudaDriverVersion")
    cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
    return Report(ask("nvmlSystemGetDriverVersion"), cuda_version, tuple(gpus))


def _nvml_mig_devices(nvml: Any, ask: Callable[..., Any], handle: Any) -> Tuple[nvidia_smi.MigDevice, ...]:
    devices = []
    for index in range(ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        device = ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if device is None:
            continue
        memory = ask("nvmlDeviceGetMemoryInfo", device)
        devices.append(
            nvidia_smi.MigDevice(
                index=index,
                uuid=ask("nvmlDeviceGetUUID", device),
                gpu_instance_id=ask("nvmlDeviceGetGpuInstanceId", device),
                compute_instance_id=ask("nvmlDeviceGetComputeInstanceId", device),
                memory_total_mib=memory.total // MIB if memory else None,
                memory_free_mib=memory.free // MIB if memory else None,
            )
        )
    return tuple(devices)


def _amd(run_limited: Run, on_bus: Sequence[PciDevice], timeout_s: int) -> Found:
    """amd-smi, else rocm-smi; a tool that fails on a host without an AMD GPU is no problem."""
    problem = None
    for name, ask in (("amd-smi", _ask_amd_smi), ("rocm-smi", _ask_rocm_smi)):
        path = find_program(name)
        if not path:
            continue
        try:
            report = ask(run_limited, path, timeout_s)
        except amd_smi.AmdSmiError as exc:
            problem = problem or str(exc)
            continue
        if report.gpus:
            return Found(name, report)
        problem = problem or f"{name} shows no GPU; load the amdgpu kernel module, and use become or the group render."
    if not on_bus:
        return Found()
    where = on_bus[0].address
    if on_bus[0].driver != "amdgpu":
        held = f"is held by {on_bus[0].driver}" if on_bus[0].driver else "has no driver"
        return Found(problem=f"the AMD GPU at {where} {held}; install and load the amdgpu kernel module.")
    return Found(problem=problem or f"an AMD GPU is at {where}, but neither amd-smi nor rocm-smi is; install ROCm.")


def _ask_amd_smi(run_limited: Run, path: str, timeout_s: int) -> Report:
    static = _checked(run_limited([path, "static", "--json"]), "amd-smi static --json", timeout_s)
    metric = run_limited([path, "metric", "--json"])
    listed = run_limited([path, "list", "--json"])
    return amd_smi.parse_amd_smi(
        static, metric.out if metric.status == 0 else "", listed.out if listed.status == 0 else ""
    )


def _ask_rocm_smi(run_limited: Run, path: str, timeout_s: int) -> Report:
    shows = ("productname", "uniqueid", "bus", "use", "driverversion")
    argv = [path, "--showmeminfo", "vram", *(f"--show{show}" for show in shows), "--json"]
    return amd_smi.parse_rocm_smi(_checked(run_limited(argv), "rocm-smi --json", timeout_s))


def _checked(answer: Answer, command: str, timeout_s: int) -> str:
    if answer.timed_out:
        raise amd_smi.AmdSmiError(f"{command} did not answer within {timeout_s} s; reboot the host or raise timeout.")
    if answer.status != 0:
        said = next((line.strip() for line in answer.both.splitlines() if line.strip()), "nothing")
        raise amd_smi.AmdSmiError(
            f"{command} ended with status {answer.status} and said {said[:200]!r}; use become, and load amdgpu."
        )
    return answer.out


def _xids(run_limited: Run, options: Options, warnings: List[str]) -> Tuple[nvidia_smi.Xid, ...]:
    """XID errors of the journal of all boots, else of the kernel's ring buffer; what cannot be read is a warning."""
    since_s = time.time() - options.xid_hours * 3600 if options.xid_hours else 0.0
    since = [f"--since=@{int(since_s)}"] if since_s else []
    # A match on the transport instead of -k, which leaves out the boots before the one that a failed GPU caused.
    argv = ["journalctl", "--no-pager", "-o", "short-unix", "-g", "NVRM: Xid", *since, "_TRANSPORT=kernel"]
    journal = run_limited(argv)
    if _journal_is_open(journal):
        xids = nvidia_smi.parse_xids(journal.out, None, since_s)
    else:
        ring = run_limited(["dmesg"])
        if ring.status != 0:
            warnings.append(
                "The kernel log cannot be read, so xid_errors says nothing; use become, or give the user the group adm."
            )
        xids = nvidia_smi.parse_xids(ring.out, boot_time_s(host_probe.read_text(PROC / "stat")), since_s)
    if len(xids) > XIDS_MAX:
        warnings.append(f"The kernel log has {len(xids)} XID errors; xid_errors keeps the newest {XIDS_MAX}.")
    return xids[-XIDS_MAX:]


def _journal_is_open(journal: Answer) -> bool:
    """Whether the journal was really searched; status 1 without a complaint is a journal without a match."""
    # journalctl ends well where it may read only this user's messages, or where there are none to read.
    closed = ("insufficient permissions", "No journal files", "not seeing messages")
    if any(word in journal.both for word in closed):
        return False
    return journal.status == 0 or (journal.status == 1 and not journal.err.strip())


def boot_time_s(stat: str) -> Optional[float]:
    """When the host started, seconds since 1970, from the text of /proc/stat; None where that is not told."""
    lines = [line.split() for line in stat.splitlines() if line.startswith("btime ")]
    return float(lines[0][1]) if lines and len(lines[0]) > 1 else None
