# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/amd_smi.py: the JSON of amd-smi before and from ROCm 7, of rocm-smi, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import amd_smi
from ansible_collections.baremetal.llm.plugins.module_utils.amd_smi import AmdSmiError
from ansible_collections.baremetal.llm.plugins.module_utils.nvidia_smi import Ecc, EccCounts, Gpu, Pcie, Power, Topology
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[3] / "fixtures" / "gpu"
MI300X = "amd-mi300x-rocm6.4-standin-"


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def mi300x() -> tuple[str, str, str]:
    return text(f"{MI300X}static.json"), text(f"{MI300X}metric.json"), text(f"{MI300X}list.json")


def test_two_gpus_before_rocm_7() -> None:
    report = amd_smi.parse_amd_smi(*mi300x())
    assert (report.driver_version, report.cuda_version, len(report.gpus)) == ("6.12.12", None, 2)
    assert report.gpus[1] == Gpu(
        index=1,
        vendor="amd",
        name="AMD Instinct MI300X",
        uuid="000000ff-0000-1000-8000-000000000001",
        serial="0x0000000000000001",
        pci_bus_id="0000:26:00.0",
        architecture="gfx942",
        memory_total_mib=196592,
        memory_used_mib=298,
        memory_free_mib=196294,
        ecc=Ecc(volatile=EccCounts(2, 0)),
        pcie=Pcie(generation_max=5, width_current=16, width_max=16),
        topology=Topology(numa_node=1),
        power=Power(limit_w=700.0, draw_w=141.0),
        temperature_c=45,
        memory_temperature_c=38,
        vbios="022.040.003.041.000001",
    )


def test_without_metric_and_list_the_rest_is_unknown() -> None:
    first = amd_smi.parse_amd_smi(mi300x()[0]).gpus[0]
    assert (first.memory_total_mib, first.memory_used_mib, first.memory_free_mib) == (196592, None, None)
    assert (first.uuid, first.pci_bus_id, first.temperature_c) == (None, "0000:05:00.0", None)


def test_rocm_7_with_a_warning_before_the_json() -> None:
    report = amd_smi.parse_amd_smi(text("amd-mi210-rocm7-standin-static.json"))
    assert report.driver_version == "6.14.0-24-generic"
    assert report.gpus == (
        Gpu(
            index=0,
            vendor="amd",
            name="AMD Instinct MI210",
            architecture="gfx90a",
            memory_total_mib=65520,
            pcie=Pcie(generation_max=4, width_max=16),
            power=Power(limit_w=280.0),
        ),
    )


def test_free_memory_is_the_rest_where_it_is_not_told() -> None:
    static, metric, listed = mi300x()
    data = json.loads(metric)
    data[0]["mem_usage"]["free_vram"] = "N/A"
    assert amd_smi.parse_amd_smi(static, json.dumps(data), listed).gpus[0].memory_free_mib == 196592 - 297


def test_units_of_memory() -> None:
    static = [{"gpu": index, "vram": {"size": {"value": 64, "unit": unit}}} for index, unit in enumerate(["GB", "KB"])]
    assert [gpu.memory_total_mib for gpu in amd_smi.parse_amd_smi(json.dumps(static)).gpus] == [65536, None]


def test_rocm_smi_with_both_spellings_of_its_keys() -> None:
    report = amd_smi.parse_rocm_smi(text("amd-mi250-rocm-smi-standin.json"))
    assert report.driver_version == "6.2.4"
    assert report.gpus == (
        Gpu(
            index=0,
            vendor="amd",
            name="AMD Instinct MI250",
            uuid="0x0000000000000000",
            pci_bus_id="0000:2e:00.0",
            architecture="gfx90a",
            memory_total_mib=65520,
        ),
        Gpu(
            index=1,
            vendor="amd",
            name="AMD INSTINCT MI250 (MCM) OAM AC MBA",
            uuid="0x0000000000000001",
            pci_bus_id="0000:2f:00.0",
            memory_total_mib=65520,
            memory_used_mib=10,
            memory_free_mib=65509,
        ),
    )


@pytest.mark.parametrize("odd", ["", "ERROR: no devices", "[{", "[" * 20000])
def test_no_json_is_refused(odd: str) -> None:
    with pytest.raises(AmdSmiError, match="amd-smi static --json gave no JSON; run it by hand"):
        amd_smi.parse_amd_smi(odd)
    with pytest.raises(AmdSmiError, match="rocm-smi --json gave no JSON"):
        amd_smi.parse_rocm_smi(odd)


@pytest.mark.parametrize("odd", ['{"gpu": 0}', "[1]", '{"gpu_data": "N/A"}'])
def test_another_shape_is_refused(odd: str) -> None:
    with pytest.raises(AmdSmiError, match="JSON of another shape than ROCm 5.7 to 7.2 print"):
        amd_smi.parse_amd_smi(odd)


def test_rocm_smi_that_lists_is_refused() -> None:
    with pytest.raises(AmdSmiError, match="rocm-smi --json gave JSON of another shape"):
        amd_smi.parse_rocm_smi("[]")


VALUES = st.none() | st.text(max_size=6) | st.integers() | st.just({"value": "N/A", "unit": "MB"})
FIELDS = st.dictionaries(st.sampled_from(["size", "bdf", "market_name", "node", "version", "socket_power"]), VALUES)
RECORDS = st.dictionaries(st.sampled_from(["gpu", "asic", "bus", "vram", "limit", "driver", "numa"]), VALUES | FIELDS)


@settings(max_examples=80)
@given(st.lists(RECORDS, max_size=3))
def test_any_values_in_the_known_places(records: list[dict[str, object]]) -> None:
    assert len(amd_smi.parse_amd_smi(json.dumps(records)).gpus) == len(records)
