# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the plan to what the roles models and gateway take."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.planned_models import planned_models
from ansible_collections.baremetal.llm.plugins.filter.planned_upstreams import planned_upstreams
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

GOALS: list[dict[str, Any]] = [
    {"name": "llama3.1:8b", "quantizations": ["Q8_0"], "users": 2, "disk_mib": 9000},
    {"name": "smollm2:135m", "digest": "a" * 64, "quantizations": ["Q4_1"]},
]
HOSTS = [{"name": name, "gpus": ["NVIDIA L40S"], "memory_mib": 128_000} for name in ("one", "two")]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    found: dict[str, Any] = plan([{**goal, "replicas": 2} for goal in GOALS], HOSTS, catalogues())
    assert found["feasible"]
    return found


def test_models_stand_under_their_tag_without_goals(made: dict[str, Any]) -> None:
    entries = {entry["name"]: entry for entry in planned_models(made, GOALS, "two")}
    assert set(entries) == {"llama3.1:8b-instruct-q8_0", "smollm2:135m"}
    assert entries["llama3.1:8b-instruct-q8_0"] == {"name": "llama3.1:8b-instruct-q8_0", "disk_mib": 9000}
    assert entries["smollm2:135m"] == {"name": "smollm2:135m", "digest": "a" * 64}


def test_a_host_without_models_holds_none(made: dict[str, Any]) -> None:
    assert planned_models(made, GOALS, "three") == []


def test_a_plan_of_other_goals_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="stands in the plan and not in llm_models; plan again"):
        planned_models(made, GOALS[:1], "one")
    with pytest.raises(AnsibleFilterError, match="takes the result of the filter plan"):
        planned_models([], GOALS, "one")


def test_upstreams_get_weight_and_models() -> None:
    endpoints = [{"name": name, "address": name, "port": 1, "weight": 7} for name in ("a", "b", "idle")]
    made = {
        "gateway": {"upstream_weights": {"a": 100, "b": 50}, "upstream_models": {"a": ["m", "n"], "b": ["m"]}},
        "hosts": [{"name": "a", "parallel": 4}, {"name": "b", "parallel": 2}, {"name": "idle", "parallel": 0}],
    }
    at_a, at_b = {"max_connections": 4, "queue": 4}, {"max_connections": 2, "queue": 2}
    assert planned_upstreams(endpoints, made) == [
        {"name": "a", "address": "a", "port": 1, "weight": 2, "models": ["m", "n"], **at_a},
        {"name": "b", "address": "b", "port": 1, "weight": 1, "models": ["m"], **at_b},
    ]
    with pytest.raises(AnsibleFilterError, match="none of these hosts serves a model"):
        planned_upstreams(endpoints[2:], made)
    with pytest.raises(AnsibleFilterError, match="takes endpoints"):
        planned_upstreams(endpoints, {})
