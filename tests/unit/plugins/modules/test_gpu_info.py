# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""modules/gpu_info.py with made-up hosts: a PCI bus in a folder, and tools that print recorded output."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils import gpu_probe
from ansible_collections.baremetal.llm.plugins.modules import gpu_info
from ansible_collections.baremetal.llm.tests.unit.run_module import run_module

FIXTURES = Path(__file__).parents[3] / "fixtures" / "gpu"
H100 = "0000:00:06.0"


class Host:
    """Makes a host: ``card`` puts a GPU on its bus, ``tool`` a program into its PATH, ``ask`` runs the module."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("bin", "pci", "proc", "usual"):
            (root / name).mkdir()

    def card(self, address: str, vendor: str = "0x10de", kind: str = "0x030200", driver: str = "nvidia") -> None:
        folder = self.root / "pci" / address
        folder.mkdir()
        for name, value in (("vendor", vendor), ("class", kind), ("device", "0x2330")):
            (folder / name).write_text(f"{value}\n")
        if driver:
            module = self.root / "drivers" / driver
            module.mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(module)

    def tool(self, name: str, answers: dict[str, tuple[int, str]], folder: str = "bin", err: str = "") -> Path:
        """A program that prints a file and ends with a status, chosen by its first argument ("" is any other)."""
        cases = ""
        for first, (status, file) in sorted(answers.items(), reverse=True):
            path = file if file.startswith("/") else str(FIXTURES / file)
            said = f"printf '%s\\n' '{err}' >&2; " if err else ""
            cases += f"{first or ''}*) {said}[ '{file}' = '' ] || /bin/cat '{path}'; exit {status};;\n"
        program = self.root / folder / name
        program.write_text(f'#!/bin/sh\necho "$*" >> {self.root}/calls\ncase "$1" in\n{cases}esac\n')
        program.chmod(0o755)
        return program

    def nvidia_smi(self, query: tuple[int, str], **others: tuple[int, str]) -> Path:
        names = {"capabilities": "--query-gpu", "nvlink": "nvlink", "topology": "topo", "listed": "-L"}
        answers = {names[name]: answer for name, answer in others.items()}
        return self.tool("nvidia-smi", {"": (1, ""), **answers, "-q": query})

    def journal(self, file: str = "", status: int = 0, err: str = "") -> None:
        self.tool("journalctl", {"": (status, file)}, err=err)

    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()

    def ask(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        answer = run_module(gpu_info, arguments, check=check)
        assert answer.get("changed", False) is False
        return answer


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(gpu_probe, "PCI_DEVICES", tmp_path / "pci")
    monkeypatch.setattr(gpu_probe, "PROC", tmp_path / "proc")
    monkeypatch.setattr(gpu_probe, "USUAL_FOLDERS", (str(tmp_path / "usual"),))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    made = Host(tmp_path)
    made.journal(status=1)
    return made


@pytest.mark.parametrize("check", [False, True])
def test_h100_of_a_recorded_bus(host: Host, check: bool) -> None:
    for line in (FIXTURES / "nvidia-h100-580.159.04-pci.txt").read_text().splitlines():
        path, vendor, _device, kind = line.split()[:4]
        host.card(Path(path).name, vendor, kind)
    (host.root / "proc/driver/nvidia").mkdir(parents=True)
    version = (FIXTURES / "nvidia-h100-580.159.04-proc-version.txt").read_text()
    (host.root / "proc/driver/nvidia/version").write_text(version)
    host.nvidia_smi(
        (0, "nvidia-h100-580.159.04-query.xml"),
        topology=(0, "nvidia-h100-580.159.04-topo.txt"),
        capabilities=(2, "nvidia-580.159.04-unknown-field.txt"),
    )
    answer = host.ask(check=check)
    assert (answer["usable"], answer["problem"], answer["vendor"], answer["source"]) == (
        True,
        None,
        "nvidia",
        "nvidia-smi",
    )
    assert answer["driver"] == {"version": "580.159.04", "cuda_version": "13.0", "kernel_module": "open"}
    card = {"vendor": "nvidia", "device_id": "0x2330", "device_class": "0x0302", "driver": "nvidia"}
    assert answer["pci"] == [{"address": H100} | card]
    gpu = answer["gpus"][0]
    assert (gpu["name"], gpu["memory_free_mib"], gpu["pci_bus_id"]) == ("NVIDIA H100 80GB HBM3", 81079, H100)
    assert gpu["compute_capability"] is None
    assert gpu["topology"] == {"links": {}, "nics": {}, "cpu_affinity": "0-15", "numa_node": 0}
    assert answer["warnings"] == []
    assert "-L" not in host.calls()


def test_two_h200_with_all_calls(host: Host) -> None:
    prefix = "nvidia-h200-x2-580.159.04-"
    host.nvidia_smi(
        (0, f"{prefix}query.xml"),
        capabilities=(0, f"{prefix}compute-cap.csv"),
        nvlink=(0, f"{prefix}nvlink.txt"),
        topology=(0, f"{prefix}topo.txt"),
    )
    gpus = host.ask()["gpus"]
    assert [gpu["compute_capability"] for gpu in gpus] == ["9.0", "9.0"]
    assert [gpu["nvlink"] for gpu in gpus] == [{"links": 18, "link_gb_s": 26.562}] * 2
    assert [gpu["topology"]["links"] for gpu in gpus] == [{"1": "NV18"}, {"0": "NV18"}]
    assert host.calls()[:4] == [
        "-q -x",
        "--query-gpu=index,compute_cap --format=csv,noheader",
        "nvlink -s",
        "topo -m",
    ]


def test_mig_devices_have_uuids(host: Host) -> None:
    prefix = "nvidia-a100-mig-550-standin-"
    host.nvidia_smi((0, f"{prefix}query.xml"), listed=(0, f"{prefix}list.txt"))
    answer = host.ask()
    assert [device["profile"] for device in answer["gpus"][0]["mig"]["devices"]] == ["3g.40gb", "2g.20gb"]
    assert answer["gpus"][0]["mig"]["devices"][1]["uuid"] == "MIG-00000000-0000-0000-0000-0000000000b1"
    assert answer["usable"] is False
    assert answer["problem"].startswith("GPU 1 (0000:af:00.0) is in MIG mode without a MIG device")


def test_return_documents_every_key(host: Host) -> None:
    host.card(H100)
    host.card("0000:03:00.0", vendor="0x1002", kind="0x120000", driver="amdgpu")
    prefix = "nvidia-a100-mig-550-standin-"
    host.nvidia_smi((0, f"{prefix}query.xml"))
    host.journal("xid-standin-journal.txt")
    answer = {
        key: value for key, value in host.ask(xid_hours=0).items() if key not in ("failed", "warnings", "changed")
    }
    documented = yaml.safe_load(gpu_info.RETURN)

    def compare(value: Any, docs: dict[str, Any], where: str) -> None:
        kinds = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
        assert value is None or isinstance(value, kinds[docs["type"]]), where
        items = value if isinstance(value, list) else [value] if isinstance(value, dict) else []
        names = docs.get("contains") or (docs["sample"] if docs["type"] == "dict" else None)
        for item in items:
            if isinstance(item, dict) and names is not None and where not in (".gpus.topology.links",):
                assert set(item) == set(names), where
            for name, inner in (docs.get("contains") or {}).items():
                if name not in ("links", "nics"):
                    compare(item[name], inner, f"{where}.{name}")

    assert set(answer) == set(documented)
    for key, docs in documented.items():
        compare(answer[key], docs, f".{key}")


def test_host_without_gpu(host: Host) -> None:
    host.card("0000:00:02.0", vendor="0x8086", kind="0x030000", driver="i915")
    host.card("0000:01:00.1", kind="0x040300", driver="snd_hda_intel")
    host.card("0000:02:00.0", kind="0x068000")
    answer = host.ask()
    assert (answer["failed"], answer["usable"], answer["problem"], answer["vendor"]) == (False, False, None, "none")
    assert (answer["gpus"], answer["pci"], answer["source"], answer["warnings"]) == ([], [], "none", [])
    assert [(row["address"], row["device_class"]) for row in answer["switches"]] == [("0000:02:00.0", "0x0680")]
    assert not (host.root / "calls").exists()


def test_host_without_gpu_where_one_is_required(host: Host) -> None:
    answer = host.ask(required=True)
    assert answer["failed"] is True
    assert answer["msg"].startswith("no NVIDIA or AMD GPU on the PCI bus; ")
    assert answer["problem"] == answer["msg"]


def test_host_without_gpu_but_with_the_driver_package(host: Host) -> None:
    host.card("0000:00:02.0", vendor="0x8086", kind="0x030000", driver="i915")
    host.nvidia_smi((9, "nvidia-standin-no-driver.txt"))
    answer = host.ask()
    assert (answer["problem"], answer["vendor"]) == (None, "none")
    assert answer["warnings"][0].startswith("No NVIDIA GPU is on the PCI bus, and nvidia-smi is installed, but")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("", "an NVIDIA GPU is at 0000:00:06.0, but its driver is not installed; install the NVIDIA driver"),
        ("nvidia", "but there is no nvidia-smi; install the driver's utilities"),
        ("nouveau", "the nouveau driver holds 0000:00:06.0"),
        ("vfio-pci", "0000:00:06.0 is bound to vfio-pci for a virtual machine"),
    ],
)
def test_nvidia_gpu_without_nvidia_smi(host: Host, driver: str, words: str) -> None:
    host.card(H100, driver=driver)
    answer = host.ask()
    assert words in answer["problem"]
    assert (answer["failed"], answer["usable"], answer["vendor"], answer["gpus"]) == (False, False, "nvidia", [])
    required = host.ask(required=True)
    assert (required["failed"], required["msg"]) == (True, answer["problem"])


@pytest.mark.parametrize(
    ("status", "file", "words"),
    [
        (9, "nvidia-standin-no-driver.txt", "the NVIDIA kernel module is not loaded"),
        (18, "nvidia-standin-mismatch.txt", "not of the version of the NVML library (580.159)"),
        (15, "nvidia-standin-lost.txt", "the GPU at 0000:65:00.0 no longer answers"),
        (6, "nvidia-580.159.04-no-devices.txt", "drives no GPU"),
        (0, "nvidia-580.159.04-no-devices.txt", "drives no GPU"),
        (17, "nvidia-580.159.04-access-blocked.txt", "cannot be opened"),
    ],
)
def test_driver_that_is_broken(host: Host, status: int, file: str, words: str) -> None:
    host.card(H100)
    host.nvidia_smi((status, file))
    answer = host.ask()
    assert words in answer["problem"]
    assert (answer["usable"], answer["gpus"], answer["vendor"], answer["source"]) == (False, [], "nvidia", "nvidia-smi")


def test_no_devices_because_of_vfio(host: Host) -> None:
    host.card(H100, driver="vfio-pci")
    host.nvidia_smi((6, "nvidia-580.159.04-no-devices.txt"))
    assert "bound to vfio-pci" in host.ask()["problem"]


def test_truncated_xml(host: Host, tmp_path: Path) -> None:
    cut = tmp_path / "cut.xml"
    cut.write_text((FIXTURES / "nvidia-h100-580.159.04-query.xml").read_text()[:9000])
    host.card(H100)
    host.nvidia_smi((0, str(cut)))
    assert host.ask()["problem"].startswith("nvidia-smi -q -x gave no whole XML (")


def test_remark_beside_whole_xml_is_a_warning(host: Host, tmp_path: Path) -> None:
    both = tmp_path / "both.xml"
    remark = "WARNING: infoROM is corrupted at gpu 0000:00:06.0"
    both.write_text((FIXTURES / "nvidia-h100-580.159.04-query.xml").read_text() + remark + "\n")
    host.card(H100)
    host.nvidia_smi((14, str(both)))
    answer = host.ask()
    assert (answer["usable"], answer["warnings"]) == (True, [f"nvidia-smi says: {remark}"])


def test_hanging_driver_is_given_up_and_its_children_too(host: Host) -> None:
    host.card(H100)
    program = host.tool("nvidia-smi", {"": (0, "")})
    program.write_text(f"#!/bin/sh\n/bin/sleep 600 &\necho $! > {host.root}/child\nwait\n")
    answer = host.ask(timeout=1)
    assert answer["problem"].startswith("nvidia-smi did not answer within 1 s, so the driver or a GPU hangs;")
    child = Path("/proc") / (host.root / "child").read_text().strip() / "stat"

    def ended() -> bool:
        # A killed child may wait for its new parent to fetch it.
        return not child.exists() or child.read_text().rpartition(")")[2].split()[0] in "ZX"

    for _attempt in range(200):
        if ended():
            break
        time.sleep(0.05)
    assert ended()


def test_missing_gpu_of_several_is_a_warning(host: Host) -> None:
    for address in (H100, "0000:00:07.0"):
        host.card(address)
    host.card("0000:00:08.0", driver="vfio-pci")
    host.nvidia_smi((0, "nvidia-h100-580.159.04-query.xml"))
    answer = host.ask()
    assert answer["usable"] is True
    assert answer["warnings"] == [
        "nvidia-smi shows 1 of 3 NVIDIA GPUs of the PCI bus; 0000:00:07.0 is not given to this container, or has "
        "failed: see xid_errors."
    ]


def test_lost_gpu_makes_the_host_unusable(host: Host) -> None:
    host.nvidia_smi((0, "nvidia-l40s-lost-550-standin-query.xml"))
    answer = host.ask()
    assert answer["usable"] is False
    assert answer["problem"] == answer["gpus"][1]["problem"]
    assert answer["gpus"][0]["problem"] is None


def test_nvidia_smi_outside_path_and_by_path(host: Host) -> None:
    host.card(H100)
    program = host.tool("nvidia-smi", {"-q": (0, "nvidia-h100-580.159.04-query.xml"), "": (1, "")}, folder="usual")
    assert host.ask()["usable"] is True
    moved = program.rename(host.root / "elsewhere")
    assert host.ask()["usable"] is False
    assert host.ask(nvidia_smi=str(moved))["usable"] is True
    answer = host.ask(nvidia_smi="/nowhere/nvidia-smi")
    assert answer["failed"] is True
    assert answer["msg"] == (
        "nvidia_smi is '/nowhere/nvidia-smi', which is no program on this host; correct the path or leave it out."
    )


@pytest.mark.parametrize(("option", "value"), [("timeout", 0), ("xid_hours", -1)])
def test_numbers_that_make_no_sense(host: Host, option: str, value: int) -> None:
    answer = host.ask(**{option: value})
    assert answer["failed"] is True
    assert answer["msg"].startswith(f"{option} is {value}; give ")


def test_xids_of_the_journal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_probe.time, "time", lambda: 1795384000.0)
    host.card(H100, driver="")
    host.journal("xid-standin-journal.txt")
    assert [xid["xid"] for xid in host.ask()["xid_errors"]] == [63, 13, 79]
    assert [xid["xid"] for xid in host.ask(xid_hours=1)["xid_errors"]] == [13, 79]
    assert host.ask(xid_hours=0)["xid_errors"][2] == {
        "time": "2026-11-22T21:40:00Z",
        "pci_bus_id": "0000:3b:00.0",
        "xid": 79,
        "message": "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    }
    assert host.calls() == [
        "--no-pager -o short-unix -g NVRM: Xid --since=@1795297600 _TRANSPORT=kernel",
        "--no-pager -o short-unix -g NVRM: Xid --since=@1795380400 _TRANSPORT=kernel",
        "--no-pager -o short-unix -g NVRM: Xid _TRANSPORT=kernel",
    ]


@pytest.mark.parametrize(
    ("status", "err"),
    [
        (0, "Hint: You are currently not seeing messages from other users and the system."),
        (1, "No journal files were opened due to insufficient permissions."),
        (0, "No journal files were found."),
        (1, "Compiled without pattern matching support"),
    ],
)
def test_dmesg_where_the_journal_is_closed(host: Host, monkeypatch: pytest.MonkeyPatch, status: int, err: str) -> None:
    monkeypatch.setattr(gpu_probe.time, "time", lambda: 1795384000.0)
    host.card(H100, driver="")
    host.journal("", status, err)
    host.tool("dmesg", {"": (0, "xid-standin-dmesg.txt")})
    (host.root / "proc/stat").write_text("cpu 1 2 3\nbtime 1795380000\n")
    answer = host.ask()
    assert [(xid["time"], xid["xid"]) for xid in answer["xid_errors"]] == [
        ("2026-11-22T20:41:40Z", 119),
        ("2026-11-22T21:46:40Z", 31),
    ]
    assert answer["warnings"] == []


def test_kernel_log_that_may_not_be_read_is_a_warning(host: Host) -> None:
    host.card(H100, driver="")
    host.journal("", 1, "No journal files were opened due to insufficient permissions.")
    host.tool("dmesg", {"": (1, "")}, err="dmesg: read kernel buffer failed: Operation not permitted")
    answer = host.ask()
    assert (answer["failed"], answer["xid_errors"]) == (False, [])
    assert answer["warnings"] == [
        "The kernel log cannot be read, so xid_errors says nothing; use become, or give the user the group adm."
    ]


def test_only_the_newest_xids_are_kept(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "".join(f"{1795380000 + at}.0 gpu1 kernel: NVRM: Xid (PCI:0000:3b:00): {at}, x\n" for at in range(250))
    )
    host.card(H100, driver="")
    host.journal(str(log))
    answer = host.ask(xid_hours=0)
    assert [xid["xid"] for xid in answer["xid_errors"]] == list(range(50, 250))
    assert answer["warnings"] == ["The kernel log has 250 XID errors; xid_errors keeps the newest 200."]


def amd_card(host: Host, address: str = "0000:05:00.0", driver: str = "amdgpu") -> None:
    host.card(address, vendor="0x1002", kind="0x120000", driver=driver)


def test_amd_smi(host: Host) -> None:
    amd_card(host)
    prefix = "amd-mi300x-rocm6.4-standin-"
    host.tool("amd-smi", {name: (0, f"{prefix}{name}.json") for name in ("static", "metric", "list")})
    answer = host.ask()
    assert (answer["usable"], answer["vendor"], answer["source"]) == (True, "amd", "amd-smi")
    assert answer["driver"] == {"version": "6.12.12", "cuda_version": None, "kernel_module": None}
    assert [(gpu["uuid"], gpu["memory_free_mib"]) for gpu in answer["gpus"]] == [
        ("000000ff-0000-1000-8000-000000000000", 196295),
        ("000000ff-0000-1000-8000-000000000001", 196294),
    ]
    assert host.calls() == ["static --json", "metric --json", "list --json"]


def test_rocm_smi_where_amd_smi_fails(host: Host) -> None:
    amd_card(host)
    host.tool("amd-smi", {"": (1, "")}, err="AttributeError: old library")
    host.tool("rocm-smi", {"": (0, "amd-mi250-rocm-smi-standin.json")}, folder="usual")
    answer = host.ask()
    assert (answer["usable"], answer["source"], len(answer["gpus"])) == (True, "rocm-smi", 2)
    assert host.calls()[-1] == (
        "--showmeminfo vram --showproductname --showuniqueid --showbus --showuse --showdriverversion --json"
    )


def test_amd_problems(host: Host) -> None:
    amd_card(host)
    assert "neither amd-smi nor rocm-smi is; install ROCm." in host.ask()["problem"]
    host.tool("rocm-smi", {"": (2, "")}, err="cannot open /dev/kfd")
    assert host.ask()["problem"] == (
        "rocm-smi --json ended with status 2 and said 'cannot open /dev/kfd'; use become, and load amdgpu."
    )


def test_amd_gpu_without_kernel_module(host: Host) -> None:
    amd_card(host, driver="")
    assert host.ask()["problem"] == (
        "the AMD GPU at 0000:05:00.0 has no driver; install and load the amdgpu kernel module."
    )


def test_amd_graphics_beside_nvidia_is_no_problem(host: Host) -> None:
    host.card(H100)
    host.card("0000:c0:00.0", vendor="0x1002", kind="0x030000", driver="")
    host.nvidia_smi((0, "nvidia-h100-580.159.04-query.xml"))
    answer = host.ask()
    assert (answer["usable"], answer["problem"], answer["vendor"]) == (True, None, "mixed")


class NvmlError(Exception):
    """What the stand-in raises."""


class LibraryNotFound(NvmlError):
    """Raised where there is no driver."""


def standin_nvml(**changes: Callable[..., Any]) -> types.ModuleType:
    """A module with the calls of nvidia-ml-py that the probe uses; what is not in it is an attribute that it lacks."""
    free = (80 << 30) - (502 << 20)
    old_memory = types.SimpleNamespace(total=80 << 30, used=502 << 20, free=free)
    memory = types.SimpleNamespace(total=80 << 30, used=2 << 20, free=free, reserved=500 << 20)

    def unsupported(*_args: Any) -> None:
        raise NvmlError("Not Supported")

    nvml: Any = types.ModuleType("pynvml")
    calls: dict[str, Any] = {
        "NVMLError": NvmlError,
        "NVMLError_LibraryNotFound": LibraryNotFound,
        "nvmlMemory_v2": 2,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: b"535.161.08",
        "nvmlSystemGetCudaDriverVersion": lambda: 12020,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _handle: "NVIDIA A100 80GB PCIe",
        "nvmlDeviceGetUUID": lambda _handle: b"GPU-00000000-0000-0000-0000-000000000000",
        "nvmlDeviceGetSerial": unsupported,
        "nvmlDeviceGetMemoryInfo": lambda _handle, version=None: memory if version == 2 else old_memory,
        "nvmlDeviceGetPciInfo": lambda _handle: types.SimpleNamespace(busId=b"00000000:3B:00.0"),
        "nvmlDeviceGetCudaComputeCapability": lambda _handle: (8, 0),
        "nvmlDeviceGetMigMode": lambda _handle: (0, 1),
        "nvmlDeviceGetEnforcedPowerLimit": lambda _handle: 250000,
        "nvmlDeviceGetTemperature": lambda _handle, _sensor: 31,
    }
    for name, call in {**calls, **changes}.items():
        setattr(nvml, name, call)
    module: types.ModuleType = nvml
    return module


def test_nvml_where_nvidia_smi_is_absent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", standin_nvml())
    host.card("0000:3b:00.0")
    answer = host.ask()
    assert (answer["usable"], answer["source"]) == (True, "nvml")
    assert answer["driver"]["version"] == "535.161.08" and answer["driver"]["cuda_version"] == "12.2"
    gpu = answer["gpus"][0]
    assert (gpu["name"], gpu["uuid"]) == ("NVIDIA A100 80GB PCIe", "GPU-00000000-0000-0000-0000-000000000000")
    memory = [gpu[f"memory_{part}_mib"] for part in ("total", "reserved", "used", "free")]
    assert memory == [81920, 500, 2, 81418]
    assert (gpu["pci_bus_id"], gpu["compute_capability"], gpu["serial"]) == ("0000:3b:00.0", "8.0", None)
    assert gpu["mig"] == {"mode_current": "Disabled", "mode_pending": "Enabled", "devices": []}
    assert gpu["ecc"]["mode_current"] is None
    assert gpu["power"] == {"limit_w": 250.0, "default_limit_w": None, "draw_w": None}
    assert gpu["temperature_c"] == 31


def test_old_nvml_does_not_tell_reserved_memory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", standin_nvml(nvmlMemory_v2=None))
    gpu = host.ask()["gpus"][0]
    assert (gpu["memory_reserved_mib"], gpu["memory_used_mib"], gpu["memory_free_mib"]) == (None, 502, 81418)


def test_nvml_with_mig_devices(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def device(_handle: int, index: int) -> str:
        if index != 1:
            raise NvmlError("Not Found")
        return "device"

    nvml = standin_nvml(
        nvmlDeviceGetMigMode=lambda _handle: (1, 1),
        nvmlDeviceGetMaxMigDeviceCount=lambda _handle: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=device,
        nvmlDeviceGetUUID=lambda handle: "MIG-1" if handle == "device" else "GPU-1",
        nvmlDeviceGetGpuInstanceId=lambda _handle: 5,
        nvmlDeviceGetComputeInstanceId=lambda _handle: 0,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    devices = host.ask()["gpus"][0]["mig"]["devices"]
    assert [(each["index"], each["uuid"], each["gpu_instance_id"]) for each in devices] == [(1, "MIG-1", 5)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LibraryNotFound("NVML Shared Library Not Found"), "the nvidia kernel module drives 0000:00:06.0"),
        (NvmlError("Driver/library version mismatch"), "not of the version of the NVML library"),
    ],
)
def test_nvml_that_cannot_start(host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "pynvml", standin_nvml(nvmlInit=fail))
    assert host.ask()["problem"] is None
    host.card(H100)
    assert words in host.ask()["problem"]


def test_commands_run_in_the_c_locale_with_an_empty_input(tmp_path: Path) -> None:
    answer = gpu_probe.run(["/bin/sh", "-c", "echo $LC_ALL; cat; echo bad >&2; exit 3"], 20)
    assert (answer.status, answer.out, answer.err, answer.timed_out) == (3, "C\n", "bad\n", False)
    absent = gpu_probe.run([str(tmp_path / "absent")], 20)
    assert (absent.status, absent.out) == (127, "")
    assert os.path.basename(str(tmp_path / "absent")) in absent.err


def test_no_bus_to_read_keeps_the_answer_of_nvidia_smi(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_probe, "PCI_DEVICES", host.root / "absent")
    host.nvidia_smi((9, "nvidia-standin-no-driver.txt"))
    answer = host.ask()
    assert (answer["vendor"], answer["usable"]) == ("nvidia", False)
    assert "is not loaded" in answer["problem"]
