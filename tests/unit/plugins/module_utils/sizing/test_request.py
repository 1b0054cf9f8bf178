# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be asked: every refusal is one sentence that names the key and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import request
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.estimate import estimate, tokens_per_second
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import from_mapping
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues, model_by_name
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build

PLAIN: dict[str, Any] = {"name": "llama3.1:8b", "quantization": "Q4_K_M", "gpus": ["H100"]}
SHAPE: dict[str, Any] = dict(model_by_name("llama3.1:8b")["shape"])


def refusal(changes: dict[str, Any], function: Any = estimate) -> str:
    asked = {key: value for key, value in {**PLAIN, **changes}.items() if value is not None}
    with pytest.raises(SizingError) as caught:
        function(asked, catalogues())
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"contxt_length": 4096}, "did you mean context_length?"),
        ({"ngl": 3}, "'ngl' is no key of the model and its setting"),
        ({"batch": 4}, "'batch' is no key"),
        ({"context_length": 0}, "context_length is 0: give a whole number from 1"),
        ({"context_length": -4096}, "context_length is -4096"),
        ({"context_length": True}, "context_length is True"),
        ({"context_length": "4096"}, "context_length is '4096'"),
        ({"context_length": 4096.5}, "context_length is 4096.5"),
        ({"context_length": 131073}, "context_length is 131073, and Llama-3.1-8B was trained for 131072: give less."),
        ({"parallel": 0}, "parallel is 0"),
        ({"parallel": False}, "parallel is False"),
        ({"ubatch_size": 0}, "ubatch_size is 0"),
        ({"fit_target_mib": -1}, "fit_target_mib is -1"),
        ({"gpu_layers": -1}, "gpu_layers is -1"),
        ({"gpu_layers": True}, "gpu_layers is True"),
        ({"kv_cache_type": "q5_0"}, "kv_cache_type is 'q5_0': give one of f16, q8_0, q4_0."),
        ({"outputs": "all"}, "outputs is 'all': give one of per_slot, per_batch."),
        ({"placement": "both"}, "placement is 'both': give one of ollama, spread, single."),
        ({"flash_attention": "yes"}, "flash_attention is 'yes': give true or false."),
        (
            {"kv_cache_type": "q8_0", "flash_attention": False},
            "kv_cache_type q8_0 needs flash attention: set flash_attention to true or kv_cache_type to f16.",
        ),
        (
            {"name": "DeepSeek-R1-MLA", "kv_cache_type": "q8_0", "flash_attention": False},
            "kv_cache_type q8_0 needs flash attention",
        ),
        ({"name": "DeepSeek-V2-Lite", "kv_cache_type": "q8_0"}, "needs flash attention, which this model has not."),
        ({"shape": SHAPE}, "give the model as one of name, gguf and shape, not name and shape."),
        ({"name": None}, "give the model as one of name, gguf and shape, not none of them."),
        ({"name": "llama3.1:9b"}, "'llama3.1:9b' is no model of the catalogue: did you mean llama3.1:8b?"),
        ({"quantization": None}, "quantization is missing: say which of"),
        ({"quantization": "Q4_K_X"}, "did you mean Q4_K_"),
        ({"gpus": "H100"}, "gpus must be a list"),
        ({"gpus": {"name": "H100"}}, "gpus must be a list"),
        ({"gpus": ["H10O"]}, "'H10O' is no GPU of the catalogue"),
        ({"gpus": [7]}, "neither a name nor a mapping"),
        ({"gpus": [{"name": "H100", "count": 0}]}, "count is 0: give a whole number from 1"),
        ({"gpus": [{"name": "H100", "count": True}]}, "count is True"),
        ({"gpus": [{"name": "H100", "memory_mib": 80000}]}, "'memory_mib' is no key of a GPU"),
        ({"gpus": [{"name": "H100", "memory_free_mib": 99999}]}, "is above its total"),
        ({"gpus": [{"name": "H100", "memory_free_mib": -1}]}, "memory_free_mib of GPU H100 is -1"),
        ({"name": None, "gguf": "/nowhere/model.gguf"}, "gguf /nowhere/model.gguf cannot be read (No such file"),
        ({"name": None, "gguf": 7}, "gguf must be the path of a file or the result of gguf_info."),
        ({"name": None, "shape": {**SHAPE, "attention.head_count_kv": 3}}, "32 heads for 3 KV heads"),
        ({"name": None, "shape": {**SHAPE, "atention.head_count": 3}}, "did you mean attention.head_count?"),
        ({"name": None, "shape": [1]}, "shape must be a mapping"),
        ({"gpus": [object()]}, "something else than text, numbers, lists and mappings"),
    ],
)
def test_refusals(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(changes)


def test_three_heads_for_two_kv_heads() -> None:
    shape = {**SHAPE, "attention.head_count": 3, "attention.head_count_kv": 2, "embedding_length": 384}
    assert "3 heads for 2 KV heads" in refusal({"name": None, "shape": shape})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bach": 4}, "did you mean batch?"),
        ({"batch": 0}, "batch is 0"),
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"depth_tokens": -1}, "depth_tokens is -1"),
        ({"through_server": 1}, "through_server is 1: give true or false."),
        ({"host_bandwidth_gb_s": 0}, "host_bandwidth_gb_s is 0: give GB/s above 0."),
        ({"host_bandwidth_gb_s": "90"}, "host_bandwidth_gb_s is '90'"),
        ({"context_length": 0}, "context_length is 0"),
    ],
)
def test_refusals_of_speed(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(changes, tokens_per_second)


@pytest.mark.parametrize("function", [estimate, tokens_per_second])
@pytest.mark.parametrize("asked", ["llama3.1:8b", ["llama3.1:8b"], None, 7])
def test_something_else_than_a_mapping(function: Any, asked: Any) -> None:
    with pytest.raises(SizingError, match="takes one mapping"):
        function(asked, catalogues())


def test_a_whole_number_may_come_as_float() -> None:
    assert request.whole({"n": 4.0}, "n", 1, 1, 9) == 4
    assert request.whole({"n": None}, "n", 7, 1, 9) == 7


def test_count_repeats_a_card_and_mig_devices_stand_for_theirs() -> None:
    assert len(request.read_gpus([{"name": "H100", "count": 3}, "T4"], catalogues())) == 4
    mig = {"mode_current": "Enabled", "devices": [{"uuid": f"MIG-{n}", "memory_total_mib": 20096} for n in range(4)]}
    cards = request.read_gpus([{"name": "H100", "mig": mig}], catalogues())
    assert [card.memory_total_mib for card in cards] == [20096] * 4


def test_flash_attention_depends_on_the_heads() -> None:
    def fused(name: str) -> bool:
        return request.fused(from_mapping(model_by_name(name)["shape"]))

    assert fused("Llama-3.1-8B")
    assert fused("gpt-oss-20b")
    assert fused("DeepSeek-R1-MLA")
    # Keys of 192 and values of 128 with one query head for each.
    assert not fused("DeepSeek-V2-Lite")
    found = estimate({"name": "DeepSeek-V2-Lite", "quantization": "Q4_K_M", "gpus": ["H100"]}, catalogues())
    assert not found["flash_attention"]
    assert "CUDA has no kernel for heads of 192 and 128" in found["reason"]
    on_processor = estimate({"name": "DeepSeek-V2-Lite", "quantization": "Q4_K_M"}, catalogues())
    assert on_processor["flash_attention"]


def small_file(folder: Path) -> Path:
    path = folder / "small.gguf"
    path.write_bytes(build.build_gguf(*build.dense()))
    return path


def test_a_file_by_path_and_by_the_result_of_gguf_info_is_the_same(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    info = gguf.read_model(str(path)).to_info(str(path))
    by_path = estimate({"gguf": str(path), "context_length": 256, "gpus": ["T4"]}, catalogues())
    assert by_path["fits"]
    for given in (info, {"changed": False, "gguf": info}):
        assert estimate({"gguf": given, "context_length": 256, "gpus": ["T4"]}, catalogues()) == by_path
    assert by_path["file_mib"] == pytest.approx(
        sum(tensor.size_bytes for tensor in gguf.read_model(str(path)).tensors) / 2**20, abs=0.02
    )


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    assert str(path) in refusal({"name": None, "gguf": str(path)})


def test_rows_of_the_user_are_known() -> None:
    card = {"name": "Abacus 9", "memory_mib": 65536, "compute_capability": "9.0", "aliases": []}
    model = {"name": "Own", "shape": SHAPE, "source": "here"}
    known = catalogues([card], [model])
    found = estimate({"name": "own", "quantization": "Q8_0", "gpus": ["abacus 9"]}, known)
    assert found["fits"]
    assert found["per_gpu"][0]["name"] == "abacus 9"
