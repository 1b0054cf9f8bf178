# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/nvidia_smi.py: every recorded output with its exact values, old and odd ones, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import nvidia_smi
from ansible_collections.baremetal.llm.plugins.module_utils.nvidia_smi import (
    Clocks,
    Ecc,
    EccCounts,
    Fabric,
    Gpu,
    Mig,
    MigDevice,
    NvidiaSmiError,
    Nvlink,
    Pcie,
    Power,
    Process,
    RemappedRows,
    Topology,
    Xid,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[3] / "fixtures" / "gpu"
NO_ERRORS = EccCounts(0, 0)


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def query(name: str) -> nvidia_smi.Report:
    return nvidia_smi.parse_query(text(f"nvidia-{name}-query.xml"))


def xml(gpu: str) -> str:
    return f'<?xml version="1.0" ?>\n<nvidia_smi_log><gpu id="00000000:01:00.0">{gpu}</gpu></nvidia_smi_log>'


def test_h100() -> None:
    report = query("h100-580.159.04")
    assert (report.driver_version, report.cuda_version) == ("580.159.04", "13.0")
    assert report.gpus == (
        Gpu(
            index=0,
            vendor="nvidia",
            name="NVIDIA H100 80GB HBM3",
            uuid="GPU-00000000-0000-4000-8000-000000000001",
            serial="000000000000",
            pci_bus_id="0000:00:06.0",
            architecture="Hopper",
            compute_capability=None,
            memory_total_mib=81559,
            memory_reserved_mib=480,
            memory_used_mib=0,
            memory_free_mib=81079,
            bar1_total_mib=131072,
            ecc=Ecc("Enabled", "Enabled", NO_ERRORS, NO_ERRORS, RemappedRows(0, 0, False, False)),
            mig=Mig("Disabled", "Disabled", ()),
            pcie=Pcie(5, 5, 16, 16),
            power=Power(700.0, 700.0, 69.47),
            clocks=Clocks(375, 375, 2619, 1980, 1980, 2619),
            temperature_c=34,
            memory_temperature_c=37,
            throttle_reasons=("gpu_idle",),
            persistence_mode="Enabled",
            compute_mode="Default",
            performance_state="P0",
            fabric=Fabric(None, None),
            gsp_firmware_version="580.159.04",
            vbios="96.00.DA.00.0C",
            processes=(),
            problem=None,
        ),
    )


@pytest.mark.parametrize(("name", "count"), [("h200-580.159.04", 1), ("h200-x2-580.159.04", 2)])
def test_h200(name: str, count: int) -> None:
    gpus = query(name).gpus
    assert [(gpu.index, gpu.pci_bus_id, gpu.name) for gpu in gpus] == [
        (index, f"0000:00:0{index}.0", "NVIDIA H200") for index in range(count)
    ]
    for gpu in gpus:
        memory = (gpu.memory_total_mib, gpu.memory_reserved_mib, gpu.memory_used_mib, gpu.memory_free_mib)
        assert memory == (143771, 616, 0, 143156)
        assert gpu.bar1_total_mib == 262144
        assert gpu.fabric == (Fabric("Completed", "Success") if count == 2 else Fabric(None, None))
        assert gpu.clocks == Clocks(345, 345, 3201, 1980, 1980, 3201)
        assert gpu.problem is None


def test_a_program_on_one_of_two_gpus() -> None:
    first, second = query("h200-x2-580.159.04-busy").gpus
    assert first.processes == (Process(560, "python3", 1634),)
    assert (first.memory_used_mib, first.memory_free_mib, first.throttle_reasons) == (1643, 141514, ())
    assert (second.processes, second.memory_used_mib) == ((), 4)
    assert second.uuid == "GPU-00000000-0000-0000-0000-000000000001"


def test_eight_gpus_of_an_old_driver() -> None:
    report = query("a100-x8-470-standin")
    assert (report.driver_version, report.cuda_version) == ("470.256.02", None)
    assert [gpu.index for gpu in report.gpus] == list(range(8))
    assert len({gpu.uuid for gpu in report.gpus}) == 8
    last = report.gpus[7]
    assert last.pci_bus_id == "0000:cb:00.0"
    memory = (last.memory_total_mib, last.memory_reserved_mib, last.memory_used_mib, last.memory_free_mib)
    assert memory == (40536, None, 107, 40429)
    assert last.throttle_reasons == ("sw_power_cap", "hw_slowdown", "hw_thermal_slowdown")
    assert last.power == Power(350.0, 400.0, 52.31)
    assert last.pcie == Pcie(1, 4, 8, 16)
    assert last.ecc == Ecc("Enabled", "Disabled", EccCounts(4, 6), EccCounts(40, 60), RemappedRows(5, 6, True, False))
    assert last.clocks == Clocks(210, 210, 1215, 1410, 1410, 1215)
    assert (last.temperature_c, last.memory_temperature_c, last.persistence_mode) == (67, 70, "Disabled")
    assert (last.architecture, last.gsp_firmware_version, last.fabric) == (None, None, Fabric())


def test_single_and_double_bit_errors_of_old_boards() -> None:
    counts = "<single_bit><total>3</total></single_bit><double_bit><total>1</total></double_bit>"
    gpu = nvidia_smi.parse_query(xml(f"<ecc_errors><volatile>{counts}</volatile></ecc_errors>")).gpus[0]
    assert gpu.ecc.volatile == EccCounts(3, 1)
    assert gpu.ecc.aggregate == EccCounts(None, None)


def test_parity_and_secded_errors_are_uncorrectable() -> None:
    names = ("sram_correctable", "sram_uncorrectable_parity", "sram_uncorrectable_secded", "dram_uncorrectable")
    volatile = "".join(f"<{name}>{2**place}</{name}>" for place, name in enumerate(names))
    unknown = "<sram_correctable>N/A</sram_correctable><sram_uncorrectable>N/A</sram_uncorrectable>"
    errors = f"<ecc_errors><volatile>{volatile}</volatile><aggregate>{unknown}</aggregate></ecc_errors>"
    ecc = nvidia_smi.parse_query(xml(errors)).gpus[0].ecc
    assert (ecc.volatile, ecc.aggregate) == (EccCounts(1, 14), EccCounts(None, None))


def test_nothing_known_is_none_and_never_zero() -> None:
    report = query("gt1030-530-standin")
    assert report.cuda_version is None
    known = {"index": 0, "vendor": "nvidia", "name": "NVIDIA GeForce GT 1030", "pci_bus_id": "0000:01:00.0"}
    assert report.gpus == (Gpu(uuid="GPU-00000000-0000-0000-0000-000000000000", **known),)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["N/A", "[N/A]", "[Not Supported]", "Not Found", "[Insufficient Permissions]", ""])
def test_words_for_unknown(word: str) -> None:
    gpu = nvidia_smi.parse_query(
        xml(f"<serial>{word}</serial><bar1_memory_usage><total>{word}</total></bar1_memory_usage>")
    ).gpus[0]
    assert (gpu.serial, gpu.bar1_total_mib) == (None, None)


def test_another_unit_is_unknown() -> None:
    gpu = nvidia_smi.parse_query(xml("<fb_memory_usage><total>80 GB</total></fb_memory_usage>")).gpus[0]
    assert gpu.memory_total_mib is None


def test_mig_devices_with_profile_and_uuid_of_the_list() -> None:
    report = query("a100-mig-550-standin")
    listed = nvidia_smi.parse_list(text("nvidia-a100-mig-550-standin-list.txt"))
    first, second = nvidia_smi.combine(report, {}, {}, {}, listed).gpus
    assert first.mig == Mig(
        "Enabled",
        "Enabled",
        (
            MigDevice(0, "MIG-00000000-0000-0000-0000-0000000000b0", "3g.40gb", 1, 0, 40192, 40147),
            MigDevice(1, "MIG-00000000-0000-0000-0000-0000000000b1", "2g.20gb", 5, 0, 19968, 19938),
        ),
    )
    assert first.problem is None
    assert (first.memory_total_mib, first.ecc.volatile) == (81920, EccCounts())
    assert second.mig == Mig("Enabled", "Enabled", ())
    assert second.problem == (
        "GPU 1 (0000:af:00.0) is in MIG mode without a MIG device, so no program can use it; create devices with "
        "nvidia-smi mig -i 1 -cgi PROFILE -C, or turn MIG off with nvidia-smi -i 1 -mig 0."
    )


def test_without_the_list_mig_devices_have_no_uuid() -> None:
    first = nvidia_smi.combine(query("a100-mig-550-standin"), {}, {}, {}, {}).gpus[0]
    assert [(device.uuid, device.profile) for device in first.mig.devices] == [(None, None), (None, None)]


def test_a_lost_gpu_is_told_from_a_broken_fan() -> None:
    sound, lost = query("l40s-lost-550-standin").gpus
    assert (sound.problem, sound.memory_total_mib) == (None, 46068)
    assert lost.problem == (
        "GPU 1 (0000:65:00.0) no longer answers the driver; take the host out of service and power-cycle it, and look "
        "at xid_errors for the cause."
    )
    assert (lost.memory_total_mib, lost.temperature_c) == (None, None)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("<compute_mode>Prohibited</compute_mode>", "compute mode Prohibited"),
        ("<fabric><state>In Progress</state><status>N/A</status></fabric>", "NVSwitch fabric (In Progress)"),
        ("<fabric><state>Not Started</state></fabric>", "NVSwitch fabric (Not Started)"),
        (
            "<fabric><state>Completed</state><status>Insufficient Resources</status></fabric>",
            "(Insufficient Resources)",
        ),
    ],
)
def test_problems_of_one_gpu(part: str, words: str) -> None:
    assert words in str(nvidia_smi.parse_query(xml(part)).gpus[0].problem)


def test_dtd_of_its_own_is_refused_even_behind_a_comment() -> None:
    bomb = (
        '<?xml version="1.0"?><!-- <nvidia_smi_log> --><!DOCTYPE nvidia_smi_log [<!ENTITY a "ha">'
        '<!ENTITY b "&a;&a;&a;&a;">]><nvidia_smi_log><driver_version>&b;</driver_version></nvidia_smi_log>'
    )
    with pytest.raises(NvidiaSmiError, match="with a DTD of its own"):
        nvidia_smi.parse_query(bomb)


@pytest.mark.parametrize("keep", [0, 1, 200, 5000, 26900])
def test_truncated_output_is_refused(keep: int) -> None:
    with pytest.raises(NvidiaSmiError, match="gave no whole XML"):
        nvidia_smi.parse_query(text("nvidia-h100-580.159.04-query.xml")[:keep])


def test_another_document_is_refused() -> None:
    with pytest.raises(NvidiaSmiError, match="answered with <html> instead of <nvidia_smi_log>"):
        nvidia_smi.parse_query("<html></html>")


def test_process_names_and_control_characters_that_are_no_xml() -> None:
    name = "<process_name>a&b <x></process_name>"
    odd = f"<serial>12\x003</serial><processes><process_info><pid>7</pid>{name}</process_info></processes>"
    gpu = nvidia_smi.parse_query(xml(odd)).gpus[0]
    assert gpu.processes == (Process(7, "a&b <x>", None),)
    assert gpu.serial == "123"


def test_escaped_process_names_stay_as_they_are() -> None:
    name = "<process_name>a&amp;b</process_name>"
    gpu = nvidia_smi.parse_query(xml(f"<processes><process_info><pid>7</pid>{name}</process_info></processes>")).gpus[0]
    assert gpu.processes[0].name == "a&b"


@settings(max_examples=60)
@given(cut=st.integers(0, 3326), rest=st.text(max_size=20))
def test_any_text_is_a_report_or_a_sentence(cut: int, rest: str) -> None:
    try:
        nvidia_smi.parse_query(text("nvidia-a100-mig-550-standin-query.xml")[:cut] + rest)
    except NvidiaSmiError as exc:
        assert str(exc).endswith(".")


def test_remarks_around_the_xml() -> None:
    whole = text("nvidia-h100-580.159.04-query.xml")
    remark = "WARNING: infoROM is corrupted at gpu 0000:00:06.0"
    found, remarks = nvidia_smi.split_query(f"{whole}\n{remark}\n")
    assert remarks == (remark,)
    assert nvidia_smi.parse_query(found) == nvidia_smi.parse_query(whole)
    assert nvidia_smi.split_query(whole[:500]) == ("", ())


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00", "0000:3b:00.0"),
        ("00010000:3B:00.1", "10000:3b:00.1"),
        ("odd", "odd"),
    ],
)
def test_pci_addresses(raw: str, normal: str) -> None:
    assert nvidia_smi.normal_pci_address(raw) == normal


def test_compute_capabilities() -> None:
    assert nvidia_smi.parse_compute_capabilities(text("nvidia-h200-x2-580.159.04-compute-cap.csv")) == {
        0: "9.0",
        1: "9.0",
    }
    assert nvidia_smi.parse_compute_capabilities("0, 12.0\n1, [N/A]\n") == {0: "12.0"}
    assert nvidia_smi.parse_compute_capabilities(text("nvidia-580.159.04-unknown-field.txt")) == {}


def test_nvlink() -> None:
    two = nvidia_smi.parse_nvlink(text("nvidia-h200-x2-580.159.04-nvlink.txt"))
    assert two == {0: Nvlink(18, 26.562), 1: Nvlink(18, 26.562)}
    eight = nvidia_smi.parse_nvlink(text("nvidia-a100-x8-470-standin-nvlink.txt"))
    assert (eight[0], eight[7]) == (Nvlink(12, 25.0), Nvlink(10, 25.0))
    inactive = "GPU 0: NVIDIA A30 (UUID: GPU-1)\n\t Link 0: <inactive>\n"
    assert nvidia_smi.parse_nvlink(inactive) == {0: Nvlink(0, None)}
    assert nvidia_smi.parse_nvlink("GPU 0: NVIDIA L4 (UUID: GPU-1)\n") == {}


@pytest.mark.parametrize("name", ["h100", "h200"])
def test_topology_of_one_gpu(name: str) -> None:
    found = nvidia_smi.parse_topology(text(f"nvidia-{name}-580.159.04-topo.txt"))
    assert found == {0: Topology({}, {}, "0-15", 0)}


def test_topology_of_two_gpus_with_terminal_codes() -> None:
    found = nvidia_smi.parse_topology(text("nvidia-h200-x2-580.159.04-topo.txt"))
    assert found == {0: Topology({"1": "NV18"}, {}, "0-31", 0), 1: Topology({"0": "NV18"}, {}, "0-31", 0)}


def test_topology_with_network_devices() -> None:
    found = nvidia_smi.parse_topology(text("nvidia-a100-x8-470-standin-topo.txt"))
    assert sorted(found) == list(range(8))
    assert found[5] == Topology(
        {str(other): "NV12" for other in range(8) if other != 5}, {"mlx5_0": "SYS", "mlx5_1": "PXB"}, "32-63,96-127", 1
    )


@pytest.mark.parametrize("odd", ["", "No devices were found\n", "\tGPU0\n", "\tGPU0\tCPU Affinity\nGPU0\n"])
def test_odd_topology(odd: str) -> None:
    assert nvidia_smi.parse_topology(odd) in ({}, {0: Topology()})


def test_combine_keeps_what_was_not_told() -> None:
    report = query("h200-x2-580.159.04")
    assert nvidia_smi.combine(report, {}, {}, {}, {}) == report
    combined = nvidia_smi.combine(report, {1: "9.0"}, {0: Nvlink(18, 26.562)}, {0: Topology({"1": "NV18"})}, {})
    assert [gpu.compute_capability for gpu in combined.gpus] == [None, "9.0"]
    assert [gpu.nvlink.links for gpu in combined.gpus] == [18, None]
    assert [gpu.topology.links for gpu in combined.gpus] == [{"1": "NV18"}, {}]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("standin-no-driver", "the NVIDIA kernel module is not loaded"),
        ("standin-mismatch", "of the version of the NVML library (580.159), because the driver was updated under it"),
        ("standin-lost", "the GPU at 0000:65:00.0 no longer answers the driver; take the host out of service"),
        ("standin-unknown-error", "the GPU at 0000:02:00.0 no longer answers the driver"),
        ("standin-no-library", "its library libnvidia-ml.so is not"),
        ("580.159.04-no-devices", "the NVIDIA driver is loaded but drives no GPU"),
        ("580.159.04-access-blocked", "the /dev/nvidia* devices cannot be opened"),
        ("580.159.04-unknown-field", 'nvidia-smi ended with status 9 and said \'Field "nonsense"'),
    ],
)
def test_failures_in_one_sentence(name: str, words: str) -> None:
    sentence = nvidia_smi.failure_problem(9, text(f"nvidia-{name}.txt"))
    assert words in sentence
    assert sentence.endswith(".") and "; " in sentence and "\n" not in sentence


def test_failures_without_a_file() -> None:
    unnamed = nvidia_smi.failure_problem(15, "GPU is lost.  Reboot the system to recover this GPU")
    assert unnamed.startswith("a GPU no longer answers the driver; ")
    assert "may not open" in nvidia_smi.failure_problem(4, "Failed to initialize NVML: Insufficient Permissions")
    assert "cannot be opened" in nvidia_smi.failure_problem(255, "Failed to initialize NVML: Unknown Error")
    assert "said 'nothing'" in nvidia_smi.failure_problem(3, "\n")
    assert "within 7 s" in nvidia_smi.timeout_problem(7)


def test_xids_of_the_journal_by_time() -> None:
    found = nvidia_smi.parse_xids(text("xid-standin-journal.txt"), None, 1795383599.0)
    assert found == (
        Xid(
            "2026-11-22T21:39:59Z",
            "0000:af:00.0",
            13,
            "pid=4211, name=ollama, Graphics SM Warp Exception on (GPC 0, TPC 0, SM 0): Out Of Range Address",
        ),
        Xid(
            "2026-11-22T21:40:00Z",
            "0000:3b:00.0",
            79,
            "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        ),
    )
    assert [xid.xid for xid in nvidia_smi.parse_xids(text("xid-standin-journal.txt"))] == [63, 13, 79]


def test_xids_of_dmesg_count_from_the_start_of_the_host() -> None:
    found = nvidia_smi.parse_xids(text("xid-standin-dmesg.txt"), 1795380000.0)
    assert [(xid.time, xid.xid) for xid in found] == [("2026-11-22T20:41:40Z", 119), ("2026-11-22T21:46:40Z", 31)]
    assert [xid.xid for xid in nvidia_smi.parse_xids(text("xid-standin-dmesg.txt"), 1795380000.0, 1795381000.0)] == [31]


def test_xids_without_a_time_stay() -> None:
    found = nvidia_smi.parse_xids(text("xid-standin-dmesg.txt"), None, 1795381000.0)
    assert [(xid.time, xid.xid, xid.pci_bus_id) for xid in found] == [
        (None, 119, "0000:3b:00.0"),
        (None, 31, "0000:3b:00.0"),
    ]
