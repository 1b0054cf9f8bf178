# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every model, setting and set of GPUs."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.estimate import estimate, tokens_per_second
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MODELS = (
    "deepseek-r1:7b",
    "deepseek-r1:14b",
    "llama3.1:8b",
    "llama3.2:1b",
    "qwen3:8b",
    "qwen3:30b",
    "gemma3:4b",
    "gpt-oss:20b",
    "DeepSeek-V2-Lite-MLA",
    "DeepSeek-V2-Lite",
    "Mixtral-8x7B",
)
HUGE = {"name": "huge", "memory_total_mib": 40_000_000, "compute_capability": "9.0"}
WITHOUT_KERNEL = "DeepSeek-V2-Lite"

models = st.sampled_from(MODELS)
mixes = st.sampled_from(["Q4_K_M", "Q8_0", "F16"])
contexts = st.integers(min_value=16, max_value=8192)
slots = st.integers(min_value=1, max_value=9)
batches = st.sampled_from([64, 128, 256, 512, 1024, 2048])
free_memory = st.integers(min_value=900, max_value=60_000)
unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(models)
    flash = name != WITHOUT_KERNEL and draw(st.booleans())
    return {
        "name": name,
        "quantization": draw(mixes),
        "context_length": draw(contexts),
        "parallel": draw(slots),
        "ubatch_size": draw(batches),
        "flash_attention": flash,
        "kv_cache_type": draw(st.sampled_from(["f16", "q8_0", "q4_0"])) if flash else "f16",
        "outputs": draw(st.sampled_from(["per_slot", "per_batch"])),
    }


def card(free_mib: int, number: int = 0) -> dict[str, Any]:
    return {
        "name": f"card{number}",
        "memory_total_mib": 65536,
        "memory_free_mib": free_mib,
        "compute_capability": "8.6",
    }


def found_for(asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return estimate({**asked, **changes}, catalogues())


def needed(found: dict[str, Any], part: str = "total_mib") -> float:
    return float(sum(gpu[part] for gpu in found["per_gpu"]))


@unhurried
@given(requests(), st.integers(min_value=1, max_value=8192))
def test_more_context_never_needs_less(asked: dict[str, Any], more: int) -> None:
    before = found_for(asked, gpus=[HUGE])
    after = found_for(asked, gpus=[HUGE], context_length=min(8192, asked["context_length"] + more))
    assert needed(after, "kv_cache_mib") >= needed(before, "kv_cache_mib")
    assert needed(after) >= needed(before)


@unhurried
@given(requests(), st.integers(min_value=1, max_value=8))
def test_more_slots_never_need_less(asked: dict[str, Any], more: int) -> None:
    before = found_for(asked, gpus=[HUGE])
    after = found_for(asked, gpus=[HUGE], parallel=asked["parallel"] + more)
    assert needed(after, "kv_cache_mib") > needed(before, "kv_cache_mib")
    assert needed(after) >= needed(before)


@unhurried
@given(requests(), batches)
def test_larger_batches_never_need_less(asked: dict[str, Any], other: int) -> None:
    small, large = sorted((asked["ubatch_size"], other))
    before, after = (found_for(asked, gpus=[HUGE], ubatch_size=size) for size in (small, large))
    assert needed(after) >= needed(before)


@unhurried
@given(requests())
def test_more_layers_never_need_less(asked: dict[str, Any]) -> None:
    whole = found_for(asked, gpus=[HUGE])
    layers = whole["layers_total"]
    weights = [
        needed(found_for(asked, gpus=[HUGE], gpu_layers=count), "weights_mib") for count in (0, layers // 2, layers)
    ]
    assert weights == sorted(weights)
    assert weights[-1] == needed(whole, "weights_mib")


@unhurried
@given(requests(), free_memory, st.integers(min_value=0, max_value=5000))
def test_what_fits_keeps_fitting_on_a_larger_card(asked: dict[str, Any], free_mib: int, more_mib: int) -> None:
    if found_for(asked, gpus=[card(free_mib)])["fits"]:
        assert found_for(asked, gpus=[card(free_mib + more_mib)])["fits"]


@unhurried
@given(requests(), st.lists(free_memory, min_size=1, max_size=4))
def test_what_fits_stays_within_free_memory(asked: dict[str, Any], free: list[int]) -> None:
    found = found_for(asked, gpus=[card(size, number) for number, size in enumerate(free)], placement="spread")
    if found["fits"]:
        assert found["layers_offloaded"] == found["layers_total"]
        assert all(gpu["free_after_mib"] >= 0 for gpu in found["per_gpu"])
    assert 0 <= found["layers_offloaded"] <= found["layers_total"]


@unhurried
@given(requests(), free_memory, st.integers(min_value=2, max_value=4), st.randoms())
def test_order_of_equal_gpus_does_not_matter(asked: dict[str, Any], free_mib: int, count: int, random: Any) -> None:
    cards = [card(free_mib, number) for number in range(count)]
    found = found_for(asked, gpus=cards, placement="spread")
    random.shuffle(cards)
    other = found_for(asked, gpus=cards, placement="spread")

    def numbers(result: dict[str, Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in gpu.items() if key != "name"} for gpu in result["per_gpu"]]

    assert numbers(found) == numbers(other)
    assert [gpu["name"] for gpu in other["per_gpu"]] == [each["name"] for each in cards]


@unhurried
@given(requests())
def test_a_quantized_cache_is_never_larger(asked: dict[str, Any]) -> None:
    if not asked["flash_attention"]:
        return
    sizes = [
        needed(found_for(asked, gpus=[HUGE], kv_cache_type=kind), "kv_cache_mib") for kind in ("q4_0", "q8_0", "f16")
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@unhurried
@given(requests(), st.lists(free_memory, max_size=3))
def test_answers_are_plain_equal_and_never_negative(asked: dict[str, Any], free: list[int]) -> None:
    cards = [card(size, number) for number, size in enumerate(free)]
    first = estimate({**asked, "gpus": cards}, catalogues([{"name": "unrelated", "memory_mib": 1, "aliases": []}]))
    second = found_for(asked, gpus=cards)
    assert json.loads(json.dumps(first)) == first == second
    sizes = [value for gpu in first["per_gpu"] for key, value in gpu.items() if key not in ("name", "free_after_mib")]
    assert min([*sizes, *first["host"].values(), first["file_mib"]]) >= 0
    assert first["reason"].endswith(".")


@unhurried
@given(requests(), st.integers(min_value=1, max_value=16))
def test_speeds_make_sense(asked: dict[str, Any], batch: int) -> None:
    found = tokens_per_second({**asked, "gpus": ["H100"], "batch": batch}, catalogues())
    assert 0 < found["decode_per_user"] <= found["decode_total"]
    assert found["prefill"] > 0
    assert 0 < found["time_to_first_token_s"] <= found["time_to_first_token_burst_s"] + 0.001
    assert found["confidence"] in ("measured", "modelled", "wide")
