# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA toolkits: what NVIDIA's tables say, and that a newer driver never serves less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.cuda import Compatibility, cuda_compatibility
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.versions import numbers
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables
from hypothesis import given
from hypothesis import strategies as st

TOOLKITS = [each.version for each in tables().toolkits]
PACKAGES = [each.package for each in tables().compatibility]
DRIVERS = ["450.80.02", "470.256.02", "535.309.01", "550.163.01", "570.211.01", "575.57.08", "580.65.06", "580.159.04"]
DRIVERS += ["590.48.01", "595.91.07", "610.57.04", "615.71.09"]
RANK = {"refused": 0, "compat": 1, "minor": 2, "native": 3}


def judge(driver: str, toolkit: str, packages: Any = (), data_center: Any = None) -> Compatibility:
    return cuda_compatibility(driver, [toolkit], list(packages), tables(), data_center)[0]


@pytest.mark.parametrize(
    ("driver", "toolkit", "packages", "verdict", "package"),
    [
        # The driver of the release notes, and one release before it.
        ("580.65.06", "13.0.0", [], "refused", None),
        ("580.95.05", "13.0", [], "native", None),
        ("580.65.06", "13.0", [], "minor", None),
        ("575.57.08", "12.9.1", [], "native", None),
        ("575.51.03", "12.9.1", [], "minor", None),
        ("580.159.04", "12.9", [], "native", None),
        ("580.159.04", "11.8", [], "native", None),
        ("595.71.05", "13.2", [], "native", None),
        # The same major number from its first driver on.
        ("535.309.01", "12.9", [], "minor", None),
        ("525.60.13", "12.9", [], "minor", None),
        ("525.60.12", "12.0", [], "refused", None),
        ("580.178.04", "13.3", [], "minor", None),
        # "C" and "X" of the table of compatibility packages.
        ("535.309.01", "13.0", ["cuda-compat-13-0"], "compat", "cuda-compat-13-0"),
        ("570.211.01", "13.0", ["13.0"], "compat", "cuda-compat-13-0"),
        ("550.163.01", "13.0", ["13.0"], "refused", None),
        ("575.57.08", "13.0", ["13.0"], "refused", None),
        # A newer package serves an older toolkit of the same major number, and the nearest one is taken.
        ("535.309.01", "13.0", ["13.4", "13.1"], "compat", "cuda-compat-13-1"),
        ("535.309.01", "13.2", ["13.1"], "refused", None),
        ("535.309.01", "13.0", ["12.9"], "refused", None),
        # What the driver has itself needs no package.
        ("580.159.04", "13.0", ["13.1"], "native", None),
        ("580.159.04", "13.1", ["13.1"], "minor", None),
    ],
)
def test_verdicts(driver: str, toolkit: str, packages: list[str], verdict: str, package: str | None) -> None:
    found = judge(driver, toolkit, packages)
    assert (found.verdict, found.package) == (verdict, package)


def test_refusals_name_the_fix() -> None:
    assert judge("535.309.01", "13.0").reason == (
        "CUDA 13.0 needs driver 580.65.06 or newer, and 535.309.01 is installed; install driver 580.65.06 or newer by "
        "nvidia_driver_branch or install cuda-compat-13-0."
    )
    assert "cuda-compat" not in judge("550.163.01", "13.0").reason, "no package is for this branch"
    assert judge("580.159.04", "12.7").reason.startswith("CUDA 12.7 is not in the table; choose one of 11.8, 12.0")


def test_compatibility_packages_are_for_data_center_cards() -> None:
    assert judge("535.309.01", "13.0", ["13.0"], True).verdict == "compat"
    found = judge("535.309.01", "13.0", ["13.0"], False)
    assert found.verdict == "refused" and "cuda-compat works on data center cards only" in found.reason
    assert "install cuda-compat" not in found.reason


def test_a_package_serves_its_own_major_number_only() -> None:
    """No package of the present table could be taken for an older major number; a later one must not be either."""
    known = tables()
    package = replace(known.compatibility[-1], branches=(470,))
    assert numbers(package.version, "package")[0] == 13
    altered = replace(known, compatibility=(package,))
    found = cuda_compatibility("470.256.02", ["12.0"], [package.version], altered)[0]
    assert found.verdict == "refused" and "cuda-compat" not in found.reason


def test_a_version_without_update_means_its_newest_one() -> None:
    assert judge("590.48.01", "12.9").driver == "575.57.08"
    assert judge("590.48.01", "12.9.1").driver == "575.57.08"
    assert judge("590.48.01", "12.2").driver == "535.104.05"


@given(st.sampled_from(TOOLKITS))
def test_a_newer_driver_never_serves_less(toolkit: str) -> None:
    ranks = [RANK[judge(driver, toolkit).verdict] for driver in DRIVERS]
    assert ranks == sorted(ranks)


@given(st.sampled_from(DRIVERS), st.sampled_from(TOOLKITS), st.lists(st.sampled_from(PACKAGES), max_size=3))
def test_a_package_only_ever_helps(driver: str, toolkit: str, packages: list[str]) -> None:
    without, found = judge(driver, toolkit), judge(driver, toolkit, packages)
    assert RANK[found.verdict] >= RANK[without.verdict]
    assert (found.verdict == "compat") == (found.package is not None)
    assert found.package is None or found.package in packages
    assert "." in found.reason and "\n" not in found.reason
    if found.verdict == "native":
        assert numbers(driver, "d") >= numbers(str(found.driver), "d")


def test_the_order_is_that_of_the_question() -> None:
    found = cuda_compatibility("580.159.04", ["13.0", "11.8", "12.9"], [], tables())
    assert [each.toolkit for each in found] == ["13.0", "11.8", "12.9"]
    assert cuda_compatibility("580.159.04", [], [], tables()) == ()


@pytest.mark.parametrize(
    ("driver", "toolkits", "packages", "sentence"),
    [
        ("580", ["13.0"], [], "driver_version is '580', which is no version"),
        ("580.159.04", "13.0", [], "toolkit_versions is '13.0'; give a list"),
        ("580.159.04", ["13"], [], "a toolkit version is '13', which is no version"),
        ("580.159.04", ["13.0"], "13.0", "compat_packages is '13.0'; give a list"),
        (
            "580.159.04",
            ["13.0"],
            ["cuda-compat"],
            "compat_packages has 'cuda-compat', which is not known; write cuda-compat-12-3",
        ),
    ],
)
def test_bad_values_are_named(driver: Any, toolkits: Any, packages: Any, sentence: str) -> None:
    with pytest.raises(AcceleratorError) as caught:
        cuda_compatibility(driver, toolkits, packages, tables())
    assert sentence in str(caught.value)
