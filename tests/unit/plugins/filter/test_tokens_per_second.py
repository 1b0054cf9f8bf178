# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter tokens_per_second: what it takes, what it gives, how it refuses, and that its documentation says so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter import tokens_per_second as module
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import estimate

tokens_per_second = module.FilterModule().filters()["tokens_per_second"]
MODEL: dict[str, Any] = {"name": "llama3.1:8b", "quantization": "Q4_K_M", "context_length": 8192, "gpus": ["H100"]}
OPTIONS = yaml.safe_load(module.DOCUMENTATION)["options"]
RETURN = yaml.safe_load(module.RETURN)["_value"]["contains"]


def test_a_model_on_a_gpu() -> None:
    one = tokens_per_second(MODEL)
    eight = tokens_per_second({**MODEL, "parallel": 8, "batch": 8})
    assert one["decode_total"] == one["decode_per_user"]
    assert eight["decode_total"] > one["decode_total"] > eight["decode_per_user"]
    assert one["confidence"] == "measured"


def test_longer_prompts_and_deeper_contexts_take_longer() -> None:
    short, long = tokens_per_second(MODEL), tokens_per_second({**MODEL, "prompt_tokens": 6000})
    assert long["time_to_first_token_s"] > short["time_to_first_token_s"]
    deep = tokens_per_second({**MODEL, "depth_tokens": 8000})
    assert deep["decode_total"] < short["decode_total"]
    library = tokens_per_second({**MODEL, "through_server": False})
    assert library["decode_total"] > short["decode_total"]


def test_rows_of_the_user_are_known() -> None:
    row = {"name": "Fast", "memory_mib": 81920, "bandwidth_gb_s": 9000, "compute_capability": "9.0", "aliases": []}
    found = tokens_per_second({**MODEL, "gpus": ["fast"]}, gpu_catalogue=[row])
    assert found["decode_total"] > tokens_per_second(MODEL)["decode_total"]
    assert found["confidence"] == "wide"


def test_refusals_are_sentences_of_the_filter() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^tokens_per_second: 'bach' is no key .* did you mean batch\?$"):
        tokens_per_second({**MODEL, "bach": 4})
    with pytest.raises(AnsibleFilterError, match=r"^tokens_per_second: tokens_per_second takes one mapping"):
        tokens_per_second(None)


def test_all_keys_are_documented_with_their_defaults() -> None:
    documented = OPTIONS["_input"]["suboptions"]
    assert set(documented) == {"name", *estimate.SPEED_KEYS}
    text = " ".join(OPTIONS["_input"]["description"])
    assert all(f"({key})" in text or f".{key})" in text for key in (*estimate.MODEL_KEYS, *estimate.SETTING_KEYS))
    said = {key: option["default"] for key, option in documented.items() if "default" in option}
    assert set(said) == set(estimate.SPEED_KEYS)
    for asked in (MODEL, {**MODEL, "gpus": []}):
        assert tokens_per_second({**asked, **said}) == tokens_per_second(asked)
        changed = {**said, "host_bandwidth_gb_s": 45.0, "depth_tokens": 1000, "through_server": False}
        assert tokens_per_second({**asked, **changed}) != tokens_per_second(asked)


def test_all_results_are_documented() -> None:
    assert set(RETURN) == set(tokens_per_second(MODEL))


def test_examples_of_the_documentation_work() -> None:
    tasks = [task for task in yaml.safe_load(module.EXAMPLES) if "model" in task.get("vars", {})]
    assert len(tasks) == 3
    for task in tasks:
        assert tokens_per_second(task["vars"]["model"])["decode_per_user"] > 0
