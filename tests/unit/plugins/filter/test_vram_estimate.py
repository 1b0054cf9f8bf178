# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vram_estimate: what it takes, what it gives, how it refuses, and that its documentation says so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter import vram_estimate as module
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import estimate

vram_estimate = module.FilterModule().filters()["vram_estimate"]
MODEL: dict[str, Any] = {"name": "llama3.1:8b", "quantization": "Q4_K_M", "context_length": 8192, "gpus": ["H100"]}
OPTIONS = yaml.safe_load(module.DOCUMENTATION)["options"]
RETURN = yaml.safe_load(module.RETURN)["_value"]["contains"]


def test_a_model_on_a_gpu() -> None:
    found = vram_estimate(MODEL)
    assert found["fits"]
    assert found["per_gpu"][0]["weights_mib"] == pytest.approx(4403.49, abs=0.1)
    assert found["per_gpu"][0]["kv_cache_mib"] == 1024


def test_rows_of_the_user_stand_before_the_catalogue() -> None:
    row = {"name": "Tiny", "memory_mib": 2048, "compute_capability": "8.6", "aliases": []}
    assert not vram_estimate({**MODEL, "gpus": ["tiny"]}, gpu_catalogue=[row])["fits"]
    shape = {
        "architecture": "qwen2",
        "block_count": 2,
        "embedding_length": 512,
        "feed_forward_length": 1024,
        "attention.head_count": 8,
        "vocab_size": 1000,
    }
    own = {"name": "llama3.1:8b", "shape": shape, "source": "here"}
    assert vram_estimate(MODEL, model_catalogue=[own])["layers_total"] == 3


def test_refusals_are_sentences_of_the_filter() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"^vram_estimate: 'contxt_length' is no key .* mean context_length\?$"
    ):
        vram_estimate({**MODEL, "contxt_length": 4096})
    with pytest.raises(AnsibleFilterError, match="takes one mapping"):
        vram_estimate("llama3.1:8b")
    with pytest.raises(AnsibleFilterError, match="the extra GPU rows"):
        vram_estimate(MODEL, gpu_catalogue={"name": "x"})


def test_all_keys_are_documented_with_their_defaults() -> None:
    documented = OPTIONS["_input"]["suboptions"]
    assert set(documented) == {*estimate.MODEL_KEYS, *estimate.SETTING_KEYS}
    said = {key: option["default"] for key, option in documented.items() if "default" in option}
    assert said == {
        "context_length": estimate.DEFAULT_CONTEXT_LENGTH,
        "parallel": 1,
        "kv_cache_type": "f16",
        "flash_attention": True,
        "outputs": "per_slot",
        "placement": "ollama",
        "fit_target_mib": estimate.DEFAULT_FIT_TARGET_MIB,
        "gpus": [],
    }
    assert vram_estimate({**MODEL, **said, "gpus": ["T4"]}) == vram_estimate(
        {"name": MODEL["name"], "quantization": "Q4_K_M", "gpus": ["T4"]}
    )
    choices = {key: tuple(option["choices"]) for key, option in documented.items() if "choices" in option}
    assert choices == {
        "kv_cache_type": estimate.KV_CACHE_TYPES,
        "outputs": estimate.OUTPUTS,
        "placement": estimate.PLACEMENTS,
    }


def test_all_results_are_documented() -> None:
    found = vram_estimate(MODEL)
    assert set(RETURN) == set(found)
    assert set(RETURN["host"]["contains"]) == set(found["host"])
    assert set(RETURN["per_gpu"]["contains"]) == set(found["per_gpu"][0])


def test_examples_of_the_documentation_work() -> None:
    tasks = [task for task in yaml.safe_load(module.EXAMPLES) if "model" in task.get("vars", {})]
    assert len(tasks) == 2
    for task in tasks:
        assert vram_estimate(task["vars"]["model"])["layers_offloaded"] > 0
