# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of llm_models and lists of hosts: what they mean, and one sentence for what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.gguf import read_model
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import goal_of, quantization_in
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_hosts import classes_of, hosts_of, natural
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build

KNOWN = catalogues()


def goal(**entry: Any) -> Any:
    return goal_of(entry, KNOWN.models, KNOWN.quantizations)


def refusal(entry: Any) -> str:
    with pytest.raises(SizingError) as caught:
        goal_of(entry, KNOWN.models, KNOWN.quantizations)
    return str(caught.value)


def tags(entry: Any) -> dict[str, str]:
    return {option.quantization: option.tag for option in entry.options}


def test_a_name_is_enough() -> None:
    found = goal(name="deepseek-r1:70b")
    assert (found.model, found.context_length, found.users, found.prompt_tokens) == (
        "DeepSeek-R1-Distill-Llama-70B",
        4096,
        1,
        2048,
    )
    assert tags(found) == {"Q8_0": "deepseek-r1:70b-llama-distill-q8_0", "Q4_K_M": "deepseek-r1:70b"}
    assert [option.kv_cache_type for option in found.options] == ["f16", "q8_0", "f16", "q8_0"]


def test_what_the_plain_tag_holds_is_allowed_even_if_not_recommended() -> None:
    assert goal(name="smollm2:135m").options[0].quantization == "F16"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"name": "llama3.1:8b-instruct-q5_K_M"}, {"Q5_K_M": "llama3.1:8b-instruct-q5_K_M"}),
        ({"name": "deepseek-r1:32b-qwen-distill-fp16"}, {"F16": "deepseek-r1:32b-qwen-distill-fp16"}),
        ({"name": "smollm2:135m", "digest": "a" * 64}, {"F16": "smollm2:135m"}),
        ({"name": "my-70b", "model": "Llama-3.3-70B", "gguf": "/x", "quantizations": ["Q6_K"]}, {"Q6_K": "my-70b"}),
        ({"name": "llama3.1:8b", "quantizations": ["q6_k"]}, {"Q6_K": "llama3.1:8b-instruct-q6_K"}),
    ],
)
def test_tags_to_pull(entry: dict[str, Any], expected: dict[str, str]) -> None:
    assert tags(goal(**entry)) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("a:8b-instruct-q4_K_M", "Q4_K_M"),
        ("a:8b-fp16", "F16"),
        ("a:8b-iq4_xs", "IQ4_XS"),
        ("a:8b", None),
        ("qwen3:30b-a3b", None),
        ("a:8b-q4", None),
    ],
)
def test_the_quantization_in_a_tag(tag: str, expected: str | None) -> None:
    assert quantization_in(tag, KNOWN.quantizations) == expected


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("deepseek-r1:70b", "give a mapping"),
        ({}, "no name"),
        ({"name": "deepseek-r1:70b", "contextlength": 1}, "did you mean context_length?"),
        ({"name": "deepseek-r1:71b"}, "did you mean deepseek-r1:"),
        ({"name": "x", "model": "Llama-3.3-70"}, "did you mean Llama-3.3-70B?"),
        ({"name": "deepseek-r1:70b", "users": 0}, "users of deepseek-r1:70b is 0"),
        ({"name": "deepseek-r1:70b", "users": True}, "users of deepseek-r1:70b is True"),
        ({"name": "deepseek-r1:70b", "context_length": 200_000}, "trained with 131072"),
        ({"name": "deepseek-r1:70b", "prompt_tokens": 5000}, "prompt_tokens of deepseek-r1:70b is 5000"),
        ({"name": "deepseek-r1:70b", "min_tokens_per_second": -1}, "min_tokens_per_second"),
        ({"name": "deepseek-r1:70b", "max_time_to_first_token": "soon"}, "max_time_to_first_token"),
        ({"name": "deepseek-r1:70b", "quantizations": "Q8_0"}, "give a list"),
        ({"name": "deepseek-r1:70b", "quantizations": ["Q4_K_X"]}, "did you mean Q4_K"),
        ({"name": "deepseek-r1:70b", "quantizations": ["Q5_K_M"]}, "knows no tag"),
        ({"name": "llama3.1:8b-instruct-q4_0", "quantizations": ["Q8_0"]}, "holds Q4_0"),
        ({"name": "gpt-oss:20b", "kv_cache_types": ["q8_0"]}, "loses too much"),
        ({"name": "deepseek-r1:70b", "kv_cache_types": ["q9"]}, "KV cache type"),
        ({"name": "own", "shape": {"architecture": "llama"}}, "quantization of own is not known"),
    ],
)
def test_refusals_are_one_sentence(entry: Any, sentence: str) -> None:
    message = refusal(entry)
    assert sentence in message and "\n" not in message


def test_a_model_cannot_stand_twice() -> None:
    with pytest.raises(SizingError, match="names gemma3:4b twice"):
        plan([{"name": "gemma3:4b"}, {"name": "gemma3:4b"}], [], KNOWN)


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        ({"name": "a"}, "give a list"),
        ([{"gpus": []}], "give a mapping with name and gpus"),
        ([{"name": "a", "gpu": []}], "did you mean gpus?"),
        ([{"name": "a", "gpus": []}], "no GPU and no memory_mib"),
        ([{"name": "a", "gpus": "L4"}], "give a list of names or mappings"),
        ([{"name": "a", "gpus": ["L5"]}], "L5"),
        ([{"name": "a", "gpus": [{"name": "L4", "count": -1}]}], "count of a GPU"),
        ([{"name": "a", "gpus": [{"name": "L4", "count": 64}, "L4"]}], "at most 64"),
        ([{"name": "a", "gpus": ["L4"]}, {"name": "a", "gpus": ["L4"]}], "stands 2 times"),
        ([{"name": "a", "gpus": ["L4"], "memory_mib": "much"}], "memory_mib of host a"),
        ([{"name": "a", "count": 0, "gpus": ["L4"]}], "count of host a"),
    ],
)
def test_hosts_that_make_no_sense(hosts: Any, sentence: str) -> None:
    with pytest.raises(SizingError) as caught:
        hosts_of(hosts, KNOWN.gpus)
    assert sentence in str(caught.value)


def test_equal_hosts_are_one_class_even_if_a_few_mib_differ() -> None:
    card = {"name": "NVIDIA H100 80GB HBM3", "memory_total_mib": 81559}
    fleet = [
        {"name": f"h{number}", "gpus": [{**card, "memory_free_mib": 81060 + number, "uuid": f"GPU-{number}"}]}
        for number in range(4)
    ]
    assert [len(cls.hosts) for cls in classes_of(hosts_of(fleet, KNOWN.gpus))] == [4]


def test_the_header_of_a_file_stands_for_the_model(tmp_path: Path) -> None:
    metadata, tensors = build.dense(layers=2)
    path = tmp_path / "own.gguf"
    path.write_bytes(build.build_gguf(metadata, tensors))
    info = read_model(str(path)).to_info(str(path))
    entry = {"name": "own:1b", "gguf": "/models/own.gguf", "gguf_info": info, "context_length": 32}
    found = plan([entry], [{"name": "a", "gpus": ["L4"]}], KNOWN)
    assert found["feasible"]
    model = found["models"][0]
    assert (model["tag"], model["quantization"]) == ("own:1b", "as in the file")
    assert model["file_mib"] == pytest.approx(path.stat().st_size / (1 << 20), abs=0.1)


def test_hosts_sort_as_people_count() -> None:
    assert sorted(["gpu10", "gpu9", "b1", "gpu1a"], key=natural) == ["b1", "gpu1a", "gpu9", "gpu10"]


@pytest.mark.parametrize("options", [{"fit_target": 1}, {"fit_target_mib": -1}, {"fit_target_mib": "1"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(SizingError, match="fit_target"):
        plan([], [], KNOWN, options)
