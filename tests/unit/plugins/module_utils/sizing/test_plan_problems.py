# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Goals that cannot be met: what binds is named, and every alternative works when it is tried."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

REAL = catalogues()
H100 = "NVIDIA H100 80GB HBM3"
R1_70B = {"name": "deepseek-r1:70b", "users": 50, "context_length": 8192, "min_tokens_per_second": 20}


def hosts(card: str, count: int, gpus: int = 1) -> list[dict[str, Any]]:
    return [{"name": "gpu", "count": count, "gpus": [{"name": card, "count": gpus}]}]


def tried(goal: dict[str, Any], fleet: list[dict[str, Any]], change: dict[str, Any]) -> dict[str, Any]:
    """The plan with an alternative's change, made by hand."""
    fleet = [dict(host) for host in fleet]
    if "gpu" in change:
        fleet = hosts(change["gpu"], change["hosts"], change["gpus"])
    elif "more_hosts" in change:
        fleet[0]["count"] += change["more_hosts"]
    elif "gpus_factor" in change:
        fleet[0]["gpus"] = [{**gpu, "count": gpu["count"] * change["gpus_factor"]} for gpu in fleet[0]["gpus"]]
    else:
        goal = {**goal, **change}
    return plan([goal], fleet, REAL)


@pytest.mark.parametrize(
    ("goal", "fleet", "constraint", "sentence"),
    [
        (R1_70B, hosts(H100, 4), "speed", "is asked for 50 users at once"),
        ({**R1_70B, "min_tokens_per_second": 60, "users": 1}, hosts(H100, 1), "speed", "tokens/s"),
        ({"name": "deepseek-r1:671b"}, hosts(H100, 1, 4), "memory", "even for one user"),
        ({**R1_70B, "min_tokens_per_second": 0, "users": 9}, hosts("NVIDIA L40S", 1), "memory", "MiB"),
        ({"name": "llama3.1:8b", "max_time_to_first_token": 0.1}, hosts("L4", 1), "time to first token", "first token"),
        ({"name": "llama3.1:8b", "replicas": 3}, hosts("L4", 1), "hosts", "3 replicas, one a host"),
        (
            {"name": "deepseek-r1:32b", "users": 14, "context_length": 8192, "kv_cache_types": ["f16"]},
            hosts("A40", 1),
            "memory",
            "KV cache f16",
        ),
    ],
)
def test_the_binding_constraint_is_named_and_alternatives_work(
    goal: dict[str, Any], fleet: list[dict[str, Any]], constraint: str, sentence: str
) -> None:
    found = plan([goal], fleet, REAL)
    assert not found["feasible"]
    problem = found["problems"][0]
    assert (problem["model"], problem["constraint"]) == (goal["name"], constraint)
    assert sentence in problem["message"] and problem["message"].endswith(".")
    assert 1 <= len(problem["alternatives"]) <= 3
    for other in problem["alternatives"]:
        better = tried(goal, fleet, other["change"])
        assert better["feasible"], other
        model = better["models"][0]
        assert (model["quantization"], model["kv_cache_type"]) == (other["quantization"], other["kv_cache_type"])


def test_alternatives_are_three_and_the_nearest_of_their_kind() -> None:
    problem = plan([R1_70B], hosts(H100, 4), REAL)["problems"][0]
    assert len(problem["alternatives"]) == 3
    changes = {key: other["change"][key] for other in problem["alternatives"] for key in other["change"]}
    for key in ("users", "min_tokens_per_second"):
        if key in changes:
            assert not plan([{**R1_70B, key: changes[key] + 1}], hosts(H100, 4), REAL)["feasible"]
    assert "min_tokens_per_second" in changes


def test_what_can_be_met_is_planned_beside_what_cannot() -> None:
    found = plan([R1_70B, {"name": "llama3.1:8b", "users": 2}], hosts(H100, 4), REAL)
    assert not found["feasible"]
    assert [model["name"] for model in found["models"]] == ["llama3.1:8b"]
    assert found["models"][0]["replicas"]


def test_models_that_fit_alone_but_not_together() -> None:
    goals = [{"name": name, "context_length": 8192} for name in ("deepseek-r1:70b", "llama3.3:70b")]
    found = plan(goals, hosts(H100, 1), REAL)
    assert len(found["problems"]) == 1 and found["problems"][0]["constraint"] == "hosts"
    assert len(found["models"]) == 1
    changes = [other["change"] for other in found["problems"][0]["alternatives"]]
    assert {"more_hosts": 1} in changes


def test_no_hosts_at_all() -> None:
    found = plan([R1_70B], [], REAL)
    assert found["problems"][0]["constraint"] == "hosts" and found["hosts"] == []
