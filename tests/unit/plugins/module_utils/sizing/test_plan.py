# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: what they promise holds, whatever models and hosts; on a small world, and on the real engine."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.estimate import estimate, tokens_per_second
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues
from ansible_collections.baremetal.llm.tests.unit import planner_world as world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REAL = catalogues()
H100 = {"name": "NVIDIA H100 80GB HBM3", "count": 1}
QUALITY = {mix: rank for rank, mix in enumerate(world.BITS)}

GOALS = st.lists(
    st.builds(
        lambda name, users, context, least: {
            "name": name,
            "users": users,
            "context_length": context,
            "min_tokens_per_second": least,
        },
        st.sampled_from(sorted(world.SIZES)),
        st.integers(1, 40),
        st.sampled_from([1000, 4000, 16_000]),
        st.sampled_from([0, 10, 30, 80]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda goal: goal["name"],
)
FLEETS = st.lists(
    st.lists(st.sampled_from(sorted(world.CARDS)), min_size=1, max_size=2).map(" ".join), min_size=1, max_size=4
)
SLOW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def small(goals: list[dict[str, Any]], hosts: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    engine = world.engine(options.get("fit_target_mib", 1024))
    return plan(goals, hosts, engine.catalogues, {"alternatives": 0, **options}, engine)


def real(goals: list[dict[str, Any]], hosts: list[dict[str, Any]], known: Catalogues = REAL) -> dict[str, Any]:
    return plan(goals, hosts, known)


def rank(found: dict[str, Any]) -> tuple[bool, int]:
    """Larger is better: all goals met, and the worst quantization among the models."""
    if not found["feasible"]:
        return (False, 0)
    return (True, -max(QUALITY[model["quantization"]] for model in found["models"]))


@SLOW
@given(GOALS, FLEETS, st.integers(0, 1000))
def test_order_of_hosts_does_not_matter_and_the_plan_is_deterministic(
    goals: list[dict[str, Any]], fleet: list[str], seed: int
) -> None:
    hosts = world.hosts(*fleet)
    shuffled = list(hosts)
    random.Random(seed).shuffle(shuffled)
    assert small(goals, hosts) == small(goals, shuffled)


@SLOW
@given(GOALS, FLEETS, st.sampled_from([0, 1024, 4096]))
def test_nothing_is_assigned_beyond_free_memory(goals: list[dict[str, Any]], fleet: list[str], target: int) -> None:
    for host in small(goals, world.hosts(*fleet), fit_target_mib=target)["hosts"]:
        for gpu in host["gpus"]:
            assert gpu["used_mib"] == pytest.approx(sum(part["total_mib"] for part in gpu["parts"]))
            assert not gpu["parts"] or gpu["used_mib"] + target <= gpu["memory_free_mib"]


@SLOW
@given(GOALS, FLEETS)
def test_what_is_promised_is_planned(goals: list[dict[str, Any]], fleet: list[str]) -> None:
    found = small(goals, world.hosts(*fleet))
    asked = {goal["name"]: goal for goal in goals}
    assert found["feasible"] == (not found["problems"])
    failed = {problem["model"] for problem in found["problems"]}
    assert failed | {model["name"] for model in found["models"]} == set(asked)
    for model in found["models"]:
        goal = asked[model["name"]]
        assert model["slots_total"] >= goal["users"]
        assert model["decode_per_user"] >= goal["min_tokens_per_second"] - 0.05
        assert sum(replica["users"] for replica in model["replicas"]) >= goal["users"]
    for host in found["hosts"]:
        names = [model["name"] for model in host["models"]]
        assert len(names) == len(set(names))
        kinds = {model["kv_cache_type"] for model in found["models"] if model["name"] in names}
        assert len(kinds) <= 1 and (not kinds or host["environment"]["OLLAMA_KV_CACHE_TYPE"] in kinds)


@SLOW
@given(GOALS, FLEETS)
def test_removing_a_host_never_gives_a_better_plan(goals: list[dict[str, Any]], fleet: list[str]) -> None:
    hosts = world.hosts(*fleet)
    whole = rank(small(goals, hosts))
    for left_out in range(len(hosts)):
        assert rank(small(goals, hosts[:left_out] + hosts[left_out + 1 :])) <= whole


@SLOW
@given(GOALS, FLEETS)
def test_a_larger_card_keeps_fitting(goals: list[dict[str, Any]], fleet: list[str]) -> None:
    larger = [card.replace("card48", "card80").replace("card24", "card48") for card in fleet]
    if small(goals, world.hosts(*fleet))["feasible"] and all(card.count("card") == 1 for card in fleet):
        assert small(goals, world.hosts(*larger))["feasible"]


@SLOW
@given(GOALS.map(lambda goals: goals[:1]), FLEETS, st.integers(0, 20), st.sampled_from([1, 2]))
def test_more_users_or_context_never_need_less(
    goals: list[dict[str, Any]], fleet: list[str], users: int, factor: int
) -> None:
    more = [{**goals[0], "users": goals[0]["users"] + users, "context_length": goals[0]["context_length"] * factor}]
    assert rank(small(more, world.hosts(*fleet))) <= rank(small(goals, world.hosts(*fleet)))


def test_models_share_a_host_only_when_there_is_no_other() -> None:
    goals = [{"name": "small", "users": 2}, {"name": "middle", "users": 2}]
    apart = small(goals, world.hosts("card80", "card80"))
    assert [len(host["models"]) for host in apart["hosts"]] == [1, 1]
    together = small(goals, world.hosts("card80"))
    assert [model["name"] for model in together["hosts"][0]["models"]] == ["small", "middle"]
    # Two busy models take turns on one GPU.
    assert together["models"][0]["decode_per_user"] == pytest.approx(apart["models"][0]["decode_per_user"] / 2, abs=0.1)
    assert together["hosts"][0]["environment"]["OLLAMA_MAX_LOADED_MODELS"] == "2"


def test_what_ollama_would_push_out_is_not_planned_beside_another() -> None:
    goals = [{"name": "small"}, {"name": "middle"}]
    wary = replace(world.engine(), predict=lambda _request, _catalogues: 70_000.0)
    found = plan(goals, world.hosts("card80"), wary.catalogues, {"alternatives": 0}, wary)
    assert not found["feasible"] and found["problems"][0]["constraint"] == "hosts"
    assert plan(goals, world.hosts("card80", "card80"), wary.catalogues, None, wary)["feasible"]


def test_the_best_quantization_comes_first_and_falls_only_as_far_as_needed() -> None:
    goal = {"name": "large", "users": 1, "context_length": 1000}
    chosen = [small([goal], world.hosts(card))["models"][0]["quantization"] for card in ("card80", "card48", "card24")]
    assert chosen == ["Q8_0", "Q8_0", "Q4_K_M"]
    slow = small([{**goal, "min_tokens_per_second": 40}], world.hosts("card80"))
    assert slow["models"][0]["quantization"] == "Q4_K_M"


def test_small_models_leave_large_hosts_to_large_models() -> None:
    goals = [{"name": "small"}, {"name": "large"}]
    found = small(goals, world.hosts("card80", "card24"))
    assert {model["name"]: model["replicas"][0]["host"] for model in found["models"]} == {
        "large": "host1",
        "small": "host2",
    }


def test_replicas_are_the_least_number_of_hosts() -> None:
    found = small([{"name": "small", "replicas": 3}], world.hosts("card24", "card24", "card24", "card24"))
    assert len(found["models"][0]["replicas"]) == 3
    too_many = small([{"name": "small", "replicas": 5}], world.hosts("card24"))
    assert too_many["problems"][0]["constraint"] == "hosts"


def test_a_processor_serves_only_what_no_gpu_has_room_for() -> None:
    cpu = {"name": "cpu", "gpus": [], "memory_mib": 200_000}
    found = small([{"name": "small"}, {"name": "middle"}], [*world.hosts("card80"), cpu])
    assert {host["name"] for host in found["hosts"] if host["models"]} == {"host1"}
    only = small([{"name": "large"}], [cpu])
    assert only["feasible"] and only["hosts"][0]["models"][0]["num_gpu"] == 10
    assert not small([{"name": "large"}], [{**cpu, "memory_mib": 20_000}])["feasible"]


def test_disk_and_memory_of_the_host_bind() -> None:
    host = {"name": "a", "gpus": ["card80"]}
    assert small([{"name": "small"}], [{**host, "disk_free_mib": 2_500}])["problems"][0]["constraint"] == "disk"
    assert small([{"name": "small"}], [{**host, "memory_mib": 2_000}])["problems"][0]["constraint"] == "memory"
    found = small([{"name": "small"}], [{**host, "memory_mib": 100_000, "disk_free_mib": 50_000}])
    assert found["hosts"][0]["memory_max_mib"] == found["hosts"][0]["host_memory_mib"] + 4_000


@pytest.mark.parametrize("target", [0, 1024, 9000, 13_000])
def test_the_fit_target_stays_free(target: int) -> None:
    found = small([{"name": "large", "context_length": 1000}], world.hosts("card48"), fit_target_mib=target)
    gpu = found["hosts"][0]["gpus"][0]
    assert gpu["free_after_mib"] >= target
    assert found["models"][0]["kv_cache_type"] == "f16"
    assert found["models"][0]["quantization"] == ("Q8_0" if target <= 9000 else "Q4_K_M")
    assert found["hosts"][0]["environment"]["LLAMA_ARG_FIT_TARGET"] == str(target)


def test_figures_are_those_of_the_engine() -> None:
    goal = {"name": "deepseek-r1:70b", "users": 50, "context_length": 8192, "min_tokens_per_second": 12}
    found = real([goal], [{"name": f"gpu{number}", "gpus": [H100]} for number in range(1, 5)])
    model = found["models"][0]
    assert found["feasible"] and (model["quantization"], model["kv_cache_type"]) == ("Q4_K_M", "f16")
    assert (model["parallel"], model["slots_total"], model["tag"]) == (13, 52, "deepseek-r1:70b")
    request = {
        "name": model["model"],
        "quantization": "Q4_K_M",
        "context_length": 8192,
        "parallel": 13,
        "gpus": [H100["name"]],
    }
    part = found["hosts"][0]["gpus"][0]["parts"][0]
    expected = estimate(request, REAL)["per_gpu"][0]
    assert {key: part[key] for key in ("weights_mib", "kv_cache_mib", "total_mib")} == pytest.approx(
        {key: expected[key] for key in ("weights_mib", "kv_cache_mib", "total_mib")}, abs=0.06
    )
    asked = {**request, "prompt_tokens": 4096, "depth_tokens": 4096}
    speeds = [tokens_per_second({**asked, "batch": batch}, REAL)["decode_per_user"] for batch in (8, 13)]
    # Eight at once are slower than thirteen; the plan promises what holds for any number of them.
    assert model["decode_per_user"] == pytest.approx(min(speeds), abs=0.06)
    assert found["gateway"]["upstream_weights"] == {f"gpu{number}": 100 for number in range(1, 5)}


def test_mig_uses_one_device_and_names_it() -> None:
    devices = [{"uuid": f"MIG-{number}", "memory_total_mib": 40_448} for number in (1, 2)]
    gpu = {"name": H100["name"], "memory_total_mib": 81559, "mig": {"mode_current": "Enabled", "devices": devices}}
    goal = {"name": "deepseek-r1:32b", "users": 2, "context_length": 8192}
    host = real([goal], [{"name": "a", "gpus": [gpu]}])["hosts"][0]
    assert host["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert [bool(each["parts"]) for each in host["gpus"]] == [True, False]
    assert not real([{**goal, "name": "deepseek-r1:70b"}], [{"name": "a", "gpus": [gpu]}])["feasible"]


def test_small_cards_beside_large_ones_are_left_out_where_they_slow_the_model() -> None:
    host = {"name": "a", "gpus": [{"name": "NVIDIA L4", "uuid": "GPU-x"}, {"name": "NVIDIA A40", "count": 2}]}
    goal = {"name": "deepseek-r1:70b", "users": 4, "context_length": 8192, "min_tokens_per_second": 10}
    found = real([goal], [host])["hosts"][0]
    assert found["environment"]["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert [gpu["visible"] for gpu in found["gpus"]] == [False, True, True]


def test_memory_of_our_own_server_counts_as_free() -> None:
    idle = {"name": H100["name"], "memory_total_mib": 81559, "memory_reserved_mib": 480, "memory_free_mib": 81079}
    process = {"pid": 1, "name": "/opt/ollama/current/lib/ollama/llama-server", "used_mib": 75_000}
    busy = {**idle, "memory_free_mib": 6_079, "processes": [process]}
    goal = {"name": "deepseek-r1:70b", "users": 13, "context_length": 8192}
    plans = [real([goal], [{"name": "a", "gpus": [gpu]}]) for gpu in (idle, busy)]
    assert plans[0] == plans[1] and plans[0]["feasible"]
    other = {**busy, "processes": [{**process, "name": "python"}]}
    assert not real([goal], [{"name": "a", "gpus": [other]}])["feasible"]


def test_a_cache_that_must_not_be_quantized_stays_f16() -> None:
    found = real([{"name": "gpt-oss:20b", "users": 4, "context_length": 131072}], [{"name": "a", "gpus": ["RTX 4090"]}])
    kinds = {model["kv_cache_type"] for model in found["models"]}
    assert kinds <= {"f16"} and not any("q8_0" in str(other) for other in found["problems"])


@SLOW
@given(st.integers(1, 30), st.sampled_from([2048, 8192, 32768]), st.permutations(["NVIDIA L40S", "H200", "RTX 4090"]))
def test_the_real_engine_keeps_within_free_memory(users: int, context: int, cards: list[str]) -> None:
    goals = [
        {"name": "deepseek-r1:32b", "users": users, "context_length": context},
        {"name": "gemma3:12b", "users": 3, "context_length": 4096},
        {"name": "qwen3:30b-a3b", "users": 2, "context_length": 4096},
    ]
    hosts = [{"name": f"h{number}", "gpus": [{"name": card, "count": 2}]} for number, card in enumerate(cards)]
    found = plan(goals, hosts, REAL, {"alternatives": 0})
    assert found == plan(goals, sorted(hosts, key=lambda host: str(host["gpus"])), REAL, {"alternatives": 0})
    for host in found["hosts"]:
        for gpu in host["gpus"]:
            assert not gpu["parts"] or gpu["used_mib"] + 1024 <= gpu["memory_free_mib"]
