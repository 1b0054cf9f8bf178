# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the accelerator layer: what they pass on, and what they say to a wrong input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.cuda_compatibility import FilterModule as Cuda
from ansible_collections.baremetal.llm.plugins.filter.mig_layout import FilterModule as Mig
from ansible_collections.baremetal.llm.plugins.filter.nvidia_driver_candidates import FilterModule as Candidates

candidates = Candidates().filters()["nvidia_driver_candidates"]
mig_layout = Mig().filters()["mig_layout"]
cuda_compatibility = Cuda().filters()["cuda_compatibility"]
HOST = {"distribution": "Ubuntu", "distribution_version": "24.04", "architecture": "x86_64", "memtotal_mb": 1}


def same_as_json(value: Any) -> bool:
    """Whether a task that registers it finds the same, since tuples would have become lists."""
    return bool(json.loads(json.dumps(value)) == value)


def test_a_driver_is_chosen_with_facts_alone() -> None:
    found = candidates(["10de:2330"], HOST, "6.8.0-88-generic")
    assert found["state"] == "ready" and found["refusals"] == []
    best = found["candidates"][0]
    assert best["packages"] == ["libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"]
    assert best["hold"]["method"] == "package_names"
    assert best["keyring"]["fingerprint"] == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert same_as_json(found)


def test_a_refusal_is_a_row() -> None:
    found = candidates(["10de:2901"], HOST, "6.8.0-88-generic", False, {"modules": "proprietary"})
    assert found["candidates"] == [] and found["refusals"][0]["variable"] == "nvidia_driver_modules"


def test_the_driver_filter_names_itself() -> None:
    with pytest.raises(AnsibleFilterError, match="nvidia_driver_candidates: kernel has no release"):
        candidates(["10de:2330"], HOST, "")


def test_a_layout_has_arguments() -> None:
    found = mig_layout("10de:2330", {"3g.40gb": 2}, 0)
    assert found["create"] == [["mig", "-i", "0", "-cgi", "3g.40gb:0,3g.40gb:4", "-C"]]
    assert found["placements"][1] == {"profile": "3g.40gb", "start": 4, "size": 4, "compute": 3}
    assert same_as_json(found)
    with pytest.raises(AnsibleFilterError, match="mig_layout: card is 'H100'; give its PCI id"):
        mig_layout("H100", [])


def test_toolkits_are_judged() -> None:
    found = cuda_compatibility("535.309.01", ["12.9", "13.0"], ["13.0"])
    assert [row["verdict"] for row in found] == ["minor", "compat"]
    assert same_as_json(found)
    assert cuda_compatibility("535.309.01", ["13.0"], ["13.0"], False)[0]["verdict"] == "refused"
    with pytest.raises(AnsibleFilterError, match="cuda_compatibility: driver_version is '', which is no version"):
        cuda_compatibility("", ["13.0"])
