# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the plan: their calls, their refusals, and what they say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter import (
    ollama_environment,
    plan,
    plan_compare,
    plan_report,
    quantization_choice,
)

H100 = "NVIDIA H100 80GB HBM3"
GOALS = [{"name": "deepseek-r1:32b", "users": 4, "context_length": 8192}]
HOSTS = [{"name": "gpu1", "gpus": [H100]}, {"name": "gpu2", "gpus": [H100]}]
MODULES = (ollama_environment, plan, plan_compare, plan_report, quantization_choice)


def call(module: Any) -> Any:
    (found,) = module.FilterModule().filters().values()
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_documentation_names_the_filter_and_its_arguments(module: Any) -> None:
    (name,) = module.FilterModule().filters()
    text = yaml.safe_load(module.DOCUMENTATION)
    assert text["name"] == name == module.__name__.rpartition(".")[2]
    names = call(module).__code__.co_varnames[1 : call(module).__code__.co_argcount]
    assert set(text["options"]) == {"_input", *names}
    assert yaml.safe_load(module.EXAMPLES) and yaml.safe_load(module.RETURN)["_value"]


def test_plan_is_plain_data_and_its_environment_is_text() -> None:
    found = call(plan)(GOALS, HOSTS)
    assert json.loads(json.dumps(found)) == found
    environment = call(ollama_environment)(found, "gpu1")
    assert environment == {
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_KV_CACHE_TYPE": "f16",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_SCHED_SPREAD": "0",
        "LLAMA_ARG_FIT_TARGET": "1024",
    }
    assert call(ollama_environment)(found, "gpu2") == {}
    assert call(plan_report)(found).startswith("Plan: 1 model on 1 of 2 hosts")
    assert call(plan_report)(found, format="html").startswith("<!DOCTYPE html>")
    assert call(plan_report)(found, format="problems") == ""


def test_rows_of_the_inventory_are_known() -> None:
    card = {"name": "Own Card", "memory_mib": 100_000, "bandwidth_gb_s": 1000, "vendor": "nvidia"}
    model = {
        "name": "Own-8B",
        "aliases": ["own:8b"],
        "shape": {
            "architecture": "llama",
            "block_count": 32,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 128256,
        },
    }
    found = call(plan)(
        [{"name": "own:8b"}],
        [{"name": "a", "gpus": ["Own Card"]}],
        gpu_catalogue=[card],
        model_catalogue=[model],
    )
    assert found["feasible"] and found["models"][0]["quantization"] == "Q8_0"


def test_the_choice_says_why() -> None:
    found = call(quantization_choice)({**GOALS[0], "min_tokens_per_second": 20}, [H100])
    assert found["quantization"] == "Q8_0" and found["tag"] == "deepseek-r1:32b-qwen-distill-q8_0"
    assert found["estimate"]["fits"] and found["speed"]["decode_per_user"] >= 20
    assert found["considered"][0]["fits"] and found["considered"][0]["meets_speed"]
    none = call(quantization_choice)(GOALS[0], ["NVIDIA L4"])
    assert none["quantization"] is none["estimate"] is None
    assert [row["fits"] for row in none["considered"]] == [False] * 4
    assert all("MiB" in row["reason"] for row in none["considered"])
    slow = call(quantization_choice)({**GOALS[0], "min_tokens_per_second": 500}, [H100])
    assert slow["considered"][0]["fits"] and slow["considered"][0]["meets_speed"] is False


def test_comparison_finds_the_smallest_number_of_hosts() -> None:
    goals = [{"name": "deepseek-r1:70b", "users": 50, "context_length": 8192, "min_tokens_per_second": 12}]
    rows = call(plan_compare)(goals, [{"label": "one", "gpus": [H100]}, {"gpus": [{"name": "L4", "count": 1}]}])
    assert rows[0]["feasible"] and rows[0]["label"] == "one"
    count = rows[0]["hosts"]
    for hosts, feasible in ((count, True), (count - 1, False)):
        assert call(plan)(goals, [{"name": "x", "count": hosts, "gpus": [H100]}])["feasible"] is feasible
    assert not rows[1]["feasible"] and rows[1]["hosts"] is None and "MiB" in rows[1]["reason"]
    assert rows[1]["label"] == "1 x L4"


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        (plan, ({"name": "x"}, HOSTS), "plan: llm_models is dict"),
        (plan, (GOALS, "gpu1"), "plan: the hosts are str"),
        (quantization_choice, ({"name": "nope"}, [H100]), "quantization_choice: 'nope' is no model"),
        (plan_compare, (GOALS, {"gpus": []}), "plan_compare takes a list"),
        (plan_compare, (GOALS, [{"gpu": []}]), "did you mean gpus?"),
        (ollama_environment, ([], "gpu1"), "takes the result of the filter plan"),
        (ollama_environment, ({"hosts": [{"name": "a", "environment": {}}]}, "b"), "no host b: give one of a"),
        (plan_report, ("plan",), "takes the result of the filter plan"),
        (plan_report, ({"models": [], "hosts": []}, "pdf"), "give one of text, problems, html"),
    ],
)
def test_refusals(module: Any, arguments: Any, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        call(module)(*arguments)
    assert sentence in str(caught.value)
