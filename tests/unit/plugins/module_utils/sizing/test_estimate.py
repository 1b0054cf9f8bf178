# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates against what llama.cpp and Ollama took on real GPUs, and the form of the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.estimate import estimate, tokens_per_second
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues

FOLDER = Path(__file__).resolve().parents[4] / "fixtures" / "measured"
LIBRARY_CARD, SERVER_CARD = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
SERVER_TOTAL_MIB, SERVER_USABLE_MIB = 143771, 143155

KEYS = {
    "E": "embedding_length",
    "V": "vocab_size",
    "L": "block_count",
    "FF": "feed_forward_length",
    "H": "attention.head_count",
    "KV": "attention.head_count_kv",
    "X": "expert_count",
    "XU": "expert_used_count",
    "FX": "expert_feed_forward_length",
    "XS": "expert_shared_count",
    "dense": "leading_dense_block_count",
    "kvr": "attention.kv_lora_rank",
    "qr": "attention.q_lora_rank",
}
LATENT = {
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "rope.dimension_count": 64,
    "attention.head_count_kv": 1,
}
# Rows whose buffers differ for a reason that lies in the row, not in the arithmetic.
OTHER_FILE = {
    # No stock mix: 11.37 GB in place of 10.37 (README.md of the fixtures).
    ("deepseek-v2-lite", "h100"),
    # The measured file keeps other tensors in MXFP4 than the stock mix.
    ("gptoss20b-c8192-np1", "h200"),
}
# llama.cpp at the time of the H100 runs kept no sum of experts for a fused step.
OLDER_BUILD = {("qwen3-30b-a3b", "h100")}


def rows(file: str) -> list[dict[str, Any]]:
    lines = (FOLDER / file).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row.get("process_used_mib") is not None]


def identity(row: Mapping[str, Any]) -> tuple[str, str]:
    return (row["id"], "h200") if "id" in row else (row["model"], "h100")


def model_of(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["arch"] == "gpt-oss":
        return {"name": "gpt-oss-20b", "quantization": "MXFP4_MOE"}
    given = row["shape"]
    shape = {"architecture": row["arch"], **{KEYS[key]: value for key, value in given.items() if key in KEYS}}
    if "hd" in given and not given.get("kvr"):
        shape["attention.key_length"] = shape["attention.value_length"] = given["hd"]
    if row["arch"] == "deepseek2":
        shape.update(LATENT)
    if row["arch"] == "gemma3":
        shape.update({"attention.sliding_window": 1024, "tied_embeddings": True})
    if "llama3.2" in row["model"]:
        shape["tied_embeddings"] = True
    return {"shape": shape, "quantization": row["quant"]}


def request_of(row: Mapping[str, Any]) -> dict[str, Any]:
    asked = {
        **model_of(row),
        "context_length": row["ctx_per_slot"],
        "parallel": row["parallel"],
        "kv_cache_type": row["kv_type"],
        "flash_attention": row["flash_attention"],
    }
    if "env" not in row:
        more = {"ubatch_size": row["ubatch"], "outputs": "per_batch", "gpu_layers": row["gpu_layers"]}
        return {**asked, **more, "gpus": [LIBRARY_CARD]}
    idle_mib = row["smi_idle_mib"]
    asked["gpus"] = [
        {
            "name": SERVER_CARD,
            "memory_total_mib": SERVER_TOTAL_MIB,
            "memory_free_mib": SERVER_USABLE_MIB - (0 if number else idle_mib),
        }
        for number in range(row["gpus"])
    ]
    if "SCHED_SPREAD" in str(row["env"]):
        asked["placement"] = "spread"
    if "LLAMA_ARG_FIT_TARGET" in row["env"]:
        asked["fit_target_mib"] = int(row["env"]["LLAMA_ARG_FIT_TARGET"])
    if "numgpu" in row["id"]:
        asked["gpu_layers"] = row["gpu_layers"]
    return asked


def used_mib(row: Mapping[str, Any]) -> float:
    rise: float = row.get("smi_used_mib", 0) - row.get("smi_idle_mib", 0)
    process: float = row["process_used_mib"]
    return rise if row.get("gpus") == 1 and rise > 0 else process


def label(row: Mapping[str, Any]) -> str:
    return str(row.get("id") or "-".join(map(str, (row["model"], row["quant"], row["ctx_per_slot"], row["parallel"]))))


MEASURED = [pytest.param(row, id=label(row)) for file in sorted(FOLDER.glob("*.jsonl")) for row in rows(file.name)]


def on_gpus(found: Mapping[str, Any], part: str) -> float:
    return sum(gpu[part] for gpu in found["per_gpu"])


def test_all_runs_are_here() -> None:
    assert len(MEASURED) == 21 + 25


@pytest.mark.parametrize("row", MEASURED)
def test_measured_buffers(row: dict[str, Any]) -> None:
    found = estimate(request_of(row), catalogues())
    assert found["layers_offloaded"] == row["gpu_layers"]
    assert found["ubatch_size"] == row["ubatch"]
    assert found["fits"] == (row["gpu_layers"] == found["layers_total"] and "fit130000" not in label(row))
    assert on_gpus(found, "kv_cache_mib") == pytest.approx(row["kv_gpu_mib"], abs=0.1)
    assert found["host"]["compute_mib"] == pytest.approx(row["compute_host_mib"], abs=0.1)
    if identity(row) not in OTHER_FILE:
        assert on_gpus(found, "weights_mib") == pytest.approx(row["weights_gpu_mib"], abs=0.1)
        if found["fits"]:
            assert found["host"]["weights_mib"] == pytest.approx(row["weights_host_mib"], abs=0.1)
        else:
            # mmap shows what was copied to a GPU as well, and only there.
            assert found["host"]["weights_mib"] <= row["weights_host_mib"] + 0.1
    compute_mib = on_gpus(found, "compute_mib")
    if identity(row) in OLDER_BUILD:
        assert compute_mib == pytest.approx(row["compute_gpu_mib"], abs=41)
    elif found["fits"]:
        tolerance_mib = 0.15 if identity(row) in OTHER_FILE else 0.1
        assert compute_mib == pytest.approx(row["compute_gpu_mib"], abs=tolerance_mib)
    else:
        assert compute_mib == pytest.approx(row["compute_gpu_mib"], rel=0.05)


@pytest.mark.parametrize("row", [row for row in MEASURED if row.id and not row.id.startswith("deepseek-v2-lite")])
def test_measured_totals(row: dict[str, Any]) -> None:
    found = estimate(request_of(row), catalogues())
    percent = (on_gpus(found, "total_mib") / used_mib(row) - 1) * 100
    if found["fits"]:
        assert -0.2 <= percent <= 1
    else:
        assert abs(percent) <= 3


@pytest.mark.parametrize("row", [row for row in MEASURED if row.id and row.id.startswith("x2-")])
def test_measured_on_each_of_two_gpus(row: dict[str, Any]) -> None:
    found = estimate(request_of(row), catalogues())
    for gpu, measured in zip(found["per_gpu"], row["per_gpu"]):
        assert gpu["weights_mib"] == pytest.approx(measured["weights_gpu_mib"], abs=0.1)
        assert gpu["kv_cache_mib"] == pytest.approx(measured["kv_gpu_mib"], abs=0.1)
        tolerance = {"abs": 0.1} if found["fits"] else {"rel": 0.06}
        assert gpu["compute_mib"] == pytest.approx(measured["compute_gpu_mib"], **tolerance)
        rise_mib = measured["smi_used_mib"] - measured["smi_idle_mib"]
        least, most = (0.998, 1.01) if found["fits"] else (0.97, 1.03)
        assert least * rise_mib <= gpu["total_mib"] <= most * rise_mib


REQUEST: dict[str, Any] = {"name": "deepseek-r1:32b", "quantization": "Q4_K_M", "context_length": 8192}
GPU_KEYS = ("name", "weights_mib", "kv_cache_mib", "compute_mib", "overhead_mib", "total_mib", "free_after_mib")


def found_for(**changes: Any) -> dict[str, Any]:
    return estimate({**REQUEST, **changes}, catalogues())


def test_the_answer_has_the_keys_of_the_contract_and_plain_values() -> None:
    found = found_for(gpus=["RTX 4090", "RTX 4090"], placement="spread")
    assert list(found)[:7] == [
        "per_gpu",
        "host",
        "file_mib",
        "layers_total",
        "layers_offloaded",
        "fits",
        "reason",
    ]
    assert set(found) == {*list(found)[:7], "ubatch_size", "flash_attention", "gpus_used"}
    assert [tuple(gpu) for gpu in found["per_gpu"]] == [GPU_KEYS, GPU_KEYS]
    assert tuple(found["host"]) == ("weights_mib", "kv_cache_mib", "compute_mib", "output_mib", "total_mib")
    assert json.loads(json.dumps(found)) == found
    for gpu in found["per_gpu"]:
        assert gpu["total_mib"] == pytest.approx(sum(gpu[key] for key in GPU_KEYS[1:5]), abs=0.03)


def test_speed_has_the_keys_of_the_contract() -> None:
    asked = {**REQUEST, "gpus": ["H100"], "batch": 4, "parallel": 4, "prompt_tokens": 2000}
    found = tokens_per_second(asked, catalogues())
    assert set(found) == {
        "decode_total",
        "decode_per_user",
        "prefill",
        "time_to_first_token_s",
        "time_to_first_token_burst_s",
        "confidence",
    }
    assert found["decode_total"] == pytest.approx(4 * found["decode_per_user"], rel=0.001)
    assert found["confidence"] == "measured"
    assert found["time_to_first_token_burst_s"] > found["time_to_first_token_s"]


def test_layers_in_main_memory_are_slow_and_uncertain() -> None:
    whole = tokens_per_second({**REQUEST, "gpus": ["H100"]}, catalogues())
    part = tokens_per_second({**REQUEST, "gpus": ["H100"], "gpu_layers": 20}, catalogues())
    none = tokens_per_second(REQUEST, catalogues())
    assert whole["decode_total"] > part["decode_total"] > none["decode_total"]
    assert part["confidence"] == none["confidence"] == "wide"
    slower = tokens_per_second({**REQUEST, "host_bandwidth_gb_s": 45}, catalogues())
    assert slower["decode_total"] < none["decode_total"]


def test_one_gpu_or_all() -> None:
    two = ["RTX 4090", "RTX 4090"]
    assert found_for(gpus=["H100", "H100"])["gpus_used"] == [0]
    assert found_for(gpus=["T4", "H100"])["gpus_used"] == [1]
    assert found_for(gpus=["H100", "H100"], placement="spread")["gpus_used"] == [0, 1]
    # 20 GiB are more than 80 % of a card of 24.
    assert found_for(gpus=two)["gpus_used"] == [0, 1]
    assert found_for(gpus=two, placement="single")["gpus_used"] == [0]


def test_unused_gpus_are_listed_with_zeros() -> None:
    used, unused = found_for(gpus=["H100", "H100"])["per_gpu"]
    assert used["total_mib"] > 0
    assert [unused[key] for key in GPU_KEYS[1:6]] == [0.0] * 5
    assert unused["free_after_mib"] > used["free_after_mib"]


def test_no_gpu() -> None:
    found = found_for()
    assert (found["per_gpu"], found["layers_offloaded"], found["fits"]) == ([], 0, False)
    assert found["reason"] == "No GPU: everything is computed by the processor."
    assert found["host"]["weights_mib"] == pytest.approx(found["file_mib"], abs=1)
    assert found["host"]["kv_cache_mib"] == pytest.approx(2048)


def test_reasons() -> None:
    assert found_for(gpus=["H100"])["reason"] == "All 65 layers fit on GPU 0."
    assert "Only " in found_for(gpus=["T4"])["reason"]
    forced = found_for(gpus=["T4"], gpu_layers=65)
    assert not forced["fits"]
    assert "forced onto GPU 0, and 6410 MiB are lacking" in forced["reason"]
    assert forced["per_gpu"][0]["free_after_mib"] < 0
    asked = found_for(gpus=["H100"], gpu_layers=10)
    assert asked["reason"].startswith("Only 10 of 65 layers are asked for")
    none = found_for(gpus=["H100"], gpu_layers=0)
    assert none["layers_offloaded"] == 0
    experts = estimate({"name": "qwen3:30b", "quantization": "Q4_K_M", "gpus": ["T4"]}, catalogues())
    assert "without all their experts" in experts["reason"]
    assert experts["layers_offloaded"] == experts["layers_total"]
    assert not experts["fits"]


@pytest.mark.parametrize(
    ("changes", "ubatch"),
    [
        ({"context_length": 4096}, 512),
        ({"context_length": 4097}, 1024),
        ({"context_length": 32768}, 1024),
        ({"context_length": 32769}, 2048),
        ({"context_length": 8192, "parallel": 5}, 2048),
        ({"context_length": 32769, "flash_attention": False}, 512),
        ({"context_length": 32769, "ubatch_size": 64}, 64),
        # Too full for a large batch.
        ({"context_length": 32769, "gpus": ["RTX 4090"]}, 512),
    ],
)
def test_micro_batches_are_those_of_ollama(changes: dict[str, Any], ubatch: int) -> None:
    assert found_for(**{"gpus": ["H100"], **changes})["ubatch_size"] == ubatch


def test_a_small_card_without_flash_attention_gets_the_smallest_batch() -> None:
    card = {"name": "small", "memory_total_mib": 8192, "compute_capability": "8.6"}
    asked = {"name": "llama3.2:1b", "quantization": "Q4_K_M", "context_length": 8192, "flash_attention": False}
    assert estimate({**asked, "gpus": [card]}, catalogues())["ubatch_size"] == 256


def test_outputs_of_a_whole_batch_cost_more() -> None:
    slot, batch = (found_for(gpus=["H100"], outputs=outputs) for outputs in ("per_slot", "per_batch"))
    assert batch["per_gpu"][0]["compute_mib"] > slot["per_gpu"][0]["compute_mib"]
    assert batch["host"]["output_mib"] > slot["host"]["output_mib"]


def test_logits_are_handed_over_in_main_memory() -> None:
    found = found_for(gpus=["H100"], parallel=4)
    # 4 bytes for each of 152064 tokens and 4 slots.
    assert found["host"]["output_mib"] == pytest.approx(4 * 4 * 152064 / 2**20, abs=0.01)
    parts = ("weights_mib", "kv_cache_mib", "compute_mib", "output_mib")
    assert found["host"]["total_mib"] == pytest.approx(sum(found["host"][part] for part in parts), abs=0.03)


def test_a_card_with_less_free_than_the_target_is_no_reason_to_stop() -> None:
    for placement, free in (("ollama", (1475,)), ("spread", (900, 2050)), ("single", (0,))):
        cards = [{"name": "L4", "memory_free_mib": mib} for mib in free]
        found = found_for(name="qwen3:30b-a3b", gpus=cards, placement=placement)
        assert not found["fits"] and found["reason"]
