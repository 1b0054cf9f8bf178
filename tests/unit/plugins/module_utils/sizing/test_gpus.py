# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs: what the catalogue says, what the user's words change, and one sentence for what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.gpus import _key, catalogue_row, expand, resolve
from hypothesis import given
from hypothesis import strategies as st

CATALOGUE = yaml.safe_load((Path(__file__).resolve().parents[5] / "catalogue" / "gpus.yml").read_text(encoding="utf-8"))
NAMES = [row["name"] for row in CATALOGUE["gpus"]]
ARCHITECTURES = {"volta", "turing", "ampere", "ada", "hopper", "blackwell", "cdna3"}
FIGURES = ("memory_mib", "bandwidth_gb_s", "fp16_tflops", "multiprocessors", "boost_mhz", "power_w")


def refusal(gpu: Any) -> str:
    with pytest.raises(SizingError) as caught:
        resolve(gpu, CATALOGUE)
    return str(caught.value)


@pytest.mark.parametrize("row", CATALOGUE["gpus"], ids=NAMES)
def test_a_row_is_whole_and_its_sources_are_named(row: dict[str, Any]) -> None:
    assert set(row) == {
        *FIGURES,
        *("name", "aliases", "vendor", "architecture", "usable_mib", "compute_capability", "formats", "fp8_tflops"),
        *("int8_tops", "link_gb_s", "effective_bandwidth", "source", "unsure"),
    }
    assert all(row[key] > 0 for key in FIGURES)
    assert row["architecture"] in ARCHITECTURES
    assert row["usable_mib"] is None or 0.97 * row["memory_mib"] < row["usable_mib"] < row["memory_mib"]
    assert (row["fp8_tflops"] is not None) == ("fp8" in row["formats"])
    assert row["source"] and set(row["source"]) <= set(CATALOGUE["sources"])
    assert set(row["unsure"]) <= set(row)
    for anchor in row["effective_bandwidth"]:
        assert anchor["source"] in row["source"]
        assert 0 < anchor["gb_s"] < row["bandwidth_gb_s"]


def test_no_two_rows_share_a_name() -> None:
    keys = [key for row in CATALOGUE["gpus"] for key in {_key(name) for name in (row["name"], *row["aliases"])}]
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("H100", "NVIDIA H100 80GB HBM3"),
        ("h100-80gb-sxm", "NVIDIA H100 80GB HBM3"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("a100", "NVIDIA A100-SXM4-80GB"),
        ("rtx_4090", "NVIDIA GeForce RTX 4090"),
        ("NVIDIA H200", "NVIDIA H200"),
        ("H200 NVL", "NVIDIA H200 NVL"),
        ("T4", "Tesla T4"),
        ("mi300x", "AMD Instinct MI300X"),
    ],
)
def test_names_and_aliases(name: str, found: str) -> None:
    assert resolve(name, CATALOGUE).catalogue_name == found


def test_a_name_brings_the_catalogues_figures() -> None:
    gpu = resolve("H200", CATALOGUE)
    assert (gpu.memory_total_mib, gpu.memory_free_mib) == (143771, 143156)
    assert (gpu.bandwidth_gb_s, gpu.compute_capability, gpu.multiprocessors) == (4800.0, (9, 0), 132)
    assert gpu.vendor == "nvidia" and gpu.architecture == "hopper"
    assert "measured" in gpu.anchors
    assert resolve("MI300X", CATALOGUE).compute_capability is None


@pytest.mark.parametrize(
    ("name", "free_mib"), [("RTX 4090", 24080), ("RTX 3090", 24124), ("H100", 81079), ("A100", 80567)]
)
def test_free_memory_of_an_idle_card_is_what_was_seen(name: str, free_mib: int) -> None:
    assert resolve(name, CATALOGUE).memory_free_mib == free_mib


@pytest.mark.parametrize(("total_mib", "free_mib"), [(143771, 143156), (81559, 81079), (24564, 24080), (32607, 32111)])
def test_the_reserve_of_an_unknown_card_is_near_what_was_seen(total_mib: int, free_mib: int) -> None:
    gpu = resolve({"name": "NVIDIA Next", "memory_total_mib": total_mib}, CATALOGUE)
    assert abs(gpu.memory_free_mib - free_mib) <= 70
    assert gpu.catalogue_name is None and gpu.anchors == () and gpu.bandwidth_gb_s is None


def test_what_is_said_outranks_the_catalogue() -> None:
    gpu = resolve(
        {"name": "H100", "memory_total_mib": 80000, "memory_free_mib": 70000, "bandwidth_gb_s": 3000}, CATALOGUE
    )
    assert (gpu.memory_total_mib, gpu.memory_free_mib, gpu.bandwidth_gb_s) == (80000, 70000, 3000.0)
    # 81079 belongs to 81559 MiB only.
    assert resolve({"name": "H100", "memory_total_mib": 60000}, CATALOGUE).memory_free_mib == 60000 - 450 - 72


def test_what_gpu_info_finds_is_taken_as_it_is() -> None:
    gpu = resolve(
        {
            "index": 0,
            "name": "NVIDIA H200",
            "uuid": "GPU-0",
            "vendor": "nvidia",
            "architecture": "Hopper",
            "compute_capability": "9.0",
            "memory_total_mib": 143771,
            "memory_reserved_mib": 616,
            "memory_used_mib": 0,
            "memory_free_mib": 143156,
            "mig": {"mode_current": "Disabled", "mode_pending": "Disabled", "devices": []},
            "ecc": {},
            "problem": None,
            "processes": [],
        },
        CATALOGUE,
    )
    assert gpu.uuid == "GPU-0" and gpu.architecture == "hopper" and gpu.memory_free_mib == 143156
    assert expand(gpu) == (gpu,)


def test_the_reserve_that_gpu_info_found_is_used() -> None:
    gpu = resolve({"name": "X", "memory_total_mib": 10000, "memory_reserved_mib": 0}, CATALOGUE)
    assert gpu.memory_free_mib == 10000


@pytest.mark.parametrize(
    ("value", "found"), [("9.0", (9, 0)), (8.6, (8, 6)), (12, (12, 0)), ("10.0", (10, 0)), (None, None)]
)
def test_compute_capability(value: Any, found: Any) -> None:
    gpu = resolve({"name": "X", "memory_total_mib": 10000, "compute_capability": value}, CATALOGUE)
    assert gpu.compute_capability == found


@pytest.mark.parametrize(
    ("gpu", "part"),
    [
        ("H1000", "did you mean"),
        ({"memory_total": 5}, "'memory_total' is no key of a GPU: did you mean memory_total_mib?"),
        ({}, "neither a name nor memory_total_mib"),
        (7, "neither a name nor a mapping"),
        ({"name": "Unheard of"}, "'Unheard of' is no GPU"),
        ({"name": "H100", "memory_free_mib": 81560}, "above its total of 81559"),
        ({"name": "H100", "memory_free_mib": -1}, "memory_free_mib of GPU H100 is -1"),
        ({"name": "H100", "memory_free_mib": True}, "is True"),
        ({"name": "H100", "memory_total_mib": "81559"}, "is '81559'"),
        ({"name": "H100", "memory_total_mib": 0}, "is 0"),
        ({"name": "H100", "bandwidth_gb_s": float("nan")}, "is nan"),
        ({"name": "H100", "compute_capability": "sm_90"}, "give two numbers such as '9.0'"),
        ({"name": "H100", "compute_capability": True}, "give two numbers"),
        ({"name": "H100", "mig": "on"}, "give mode_current and a list of devices"),
        ({"name": "H100", "mig": {"mode_current": "Enabled", "devices": [{"uuid": "MIG-0"}]}}, "no memory_total_mib"),
    ],
)
def test_refusals(gpu: Any, part: str) -> None:
    assert part in refusal(gpu)


def test_mig_devices_take_their_share() -> None:
    gpu = resolve(
        {
            "name": "H100",
            "mig": {
                "mode_current": "Enabled",
                "devices": [
                    {"index": 0, "uuid": "MIG-0", "memory_total_mib": 40192, "memory_free_mib": 40000},
                    {"index": 1, "uuid": "MIG-1", "memory_total_mib": 9856, "memory_free_mib": None},
                ],
            },
        },
        CATALOGUE,
    )
    half, eighth = expand(gpu)
    assert (half.memory_total_mib, half.memory_free_mib, half.uuid) == (40192, 40000, "MIG-0")
    assert (half.bandwidth_gb_s, half.multiprocessors) == (3350 / 2, 66)
    assert (eighth.bandwidth_gb_s, eighth.memory_free_mib) == (3350 / 8, 9856)
    assert half.anchors == () and not half.mig_enabled


def test_mig_mode_without_devices_leaves_nothing_to_open() -> None:
    assert expand(resolve({"name": "A100", "mig": {"mode_current": "Enabled", "devices": []}}, CATALOGUE)) == ()


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_free_memory_lies_between_zero_and_the_total(total_mib: int, free_mib: int) -> None:
    assert 0 <= resolve({"memory_total_mib": total_mib}, CATALOGUE).memory_free_mib <= total_mib
    given_free = {"memory_total_mib": total_mib, "memory_free_mib": free_mib}
    if free_mib > total_mib:
        assert "above its total" in refusal(given_free)
    else:
        assert resolve(given_free, CATALOGUE).memory_free_mib == free_mib


@given(st.text(max_size=30))
def test_any_text_is_a_gpu_or_a_refusal(name: str) -> None:
    if catalogue_row(name, CATALOGUE) is None:
        refusal(name)
    else:
        assert resolve(name, CATALOGUE).catalogue_name
