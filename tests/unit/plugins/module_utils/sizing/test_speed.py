# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed: near what was measured on an H100 and on H200s, and never against reason elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.gpus import resolve
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.mixes import MIXES
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.speed import (
    KV_BYTES_OF_F16,
    QUANTIZATIONS,
    GpuLoad,
    HostLoad,
    SpeedInput,
    throughput,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[5]
CATALOGUE = yaml.safe_load((ROOT / "catalogue" / "gpus.yml").read_text(encoding="utf-8"))
H100, H200 = resolve("H100", CATALOGUE), resolve("H200", CATALOGUE)


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed_benchmark", ROOT / "tests" / "benchmarks" / "speed.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = benchmark()
ROWS = BENCHMARK.read(sorted((ROOT / "tests" / "fixtures" / "measured").glob("*.jsonl")))
FITS = BENCHMARK.fit_report(ROWS, CATALOGUE)


def question(**changes: Any) -> SpeedInput:
    """An 8B in Q4_K_M on one H200, behind Ollama."""
    load = GpuLoad(H200, layers=32, dense_weight_bytes=4.617e9, kv_bytes_per_token=131072)
    plain = SpeedInput(
        loads=(load,), quantization="Q4_K_M", vocabulary_size=128256, architecture="llama", attention_width=4096
    )
    return replace(plain, **changes)


def moe(**changes: Any) -> SpeedInput:
    load = GpuLoad(H200, 48, 0.73e9, 17.65e9, 98304)
    return question(
        loads=(load,), expert_count=128, expert_used_count=8, architecture="qwen3moe", vocabulary_size=151936, **changes
    )


@pytest.mark.parametrize(
    ("kind", "count", "percent"),
    [
        ("dense", 49, 10),
        ("dense, over 8 sequences", 3, 10),
        ("dense, small", 4, 20),
        ("experts", 8, 20),
        ("prefill", 48, 30),
    ],
)
def test_predictions_are_near_what_was_measured(kind: str, count: int, percent: float) -> None:
    group = [fit for fit in FITS if fit.kind == kind]
    assert len(group) == count
    assert [fit for fit in group if abs(fit.error_percent) > percent] == []


def test_the_mean_error_of_dense_models_is_small_and_has_no_lean() -> None:
    errors = [fit.error_percent for fit in FITS if fit.kind == "dense"]
    assert sum(map(abs, errors)) / len(errors) < 4
    assert abs(sum(errors) / len(errors)) < 1.5


def test_deeper_context_is_near_on_most_rows() -> None:
    errors = sorted(abs(fit.error_percent) for fit in FITS if fit.kind == "deeper context")
    assert errors[len(errors) // 2] < 7


def test_a_model_partly_on_the_host_is_within_a_quarter_where_the_host_had_all_its_cores() -> None:
    group = [fit for fit in FITS if fit.kind == "partly on the host" and fit.label.startswith("H200")]
    assert len(group) == 8
    assert [fit for fit in group if abs(fit.error_percent) > 25] == []
    assert {fit.confidence for fit in group} == {"wide"}


def test_speeds_that_others_published_recently_are_near() -> None:
    fits = [fit for fit in BENCHMARK.published_report(CATALOGUE) if "2026" in fit.kind]
    assert len(fits) == 14
    assert [fit for fit in fits if abs(fit.error_percent) > 20] == []


def test_old_published_speeds_are_not_above_ours() -> None:
    """Software of 2024 was slower; a prediction far below it would be wrong all the same."""
    fits = [fit for fit in BENCHMARK.published_report(CATALOGUE) if "2024" in fit.kind]
    assert len(fits) == 25
    assert [fit for fit in fits if fit.error_percent < -5] == []


def test_what_is_called_measured_was_near() -> None:
    called = [fit for fit in FITS if fit.confidence == "measured" and fit.kind in ("dense", "experts")]
    assert len(called) > 40
    assert [fit for fit in called if abs(fit.error_percent) > 11] == []


def test_matrix_kernels_outrun_vector_kernels_above_eight_sequences() -> None:
    load = GpuLoad(H100, 28, 4168.09 * 2**20)
    raw = question(loads=(load,), architecture="qwen2", vocabulary_size=152064, through_server=False)
    eight, nine = (throughput(replace(raw, batch=batch)) for batch in (8, 9))
    assert nine.decode_per_user_tok_s > eight.decode_per_user_tok_s


def test_two_gpus_give_capacity_not_speed() -> None:
    half = GpuLoad(H200, 16, 4.617e9 / 2, kv_bytes_per_token=65536)
    one, two = throughput(question()), throughput(question(loads=(half, half)))
    assert two.decode_total_tok_s == pytest.approx(one.decode_total_tok_s)


def test_time_to_first_token_is_the_prompt_and_one_step() -> None:
    speed = throughput(question(prompt_tokens=4000, batch=4))
    prompt_s = 4000 / speed.prefill_tok_s
    assert speed.time_to_first_token_s == pytest.approx(prompt_s + speed.decode_step_s)
    assert speed.time_to_first_token_burst_s == pytest.approx(4 * prompt_s + speed.decode_step_s)
    assert speed.decode_total_tok_s == pytest.approx(4 * speed.decode_per_user_tok_s)


def test_the_library_alone_is_faster_than_behind_ollama() -> None:
    for batch in (1, 8, 32):
        behind, alone = (throughput(question(batch=batch, through_server=each)) for each in (True, False))
        assert alone.decode_total_tok_s > behind.decode_total_tok_s
        assert alone.prefill_tok_s > behind.prefill_tok_s


def test_a_sliding_window_stops_the_cost_of_depth() -> None:
    load = GpuLoad(H200, 32, 4.617e9, window_kv_bytes_per_token=131072)
    windowed = question(loads=(load,), sliding_window_tokens=1024, depth_tokens=1024)
    assert throughput(replace(windowed, depth_tokens=100_000)).decode_step_s == throughput(windowed).decode_step_s
    assert throughput(question(depth_tokens=100_000)).decode_step_s > 1.5 * throughput(windowed).decode_step_s


def test_slow_paths_are_slower() -> None:
    plain = throughput(question()).decode_step_s
    assert throughput(question(flash_attention=False)).decode_step_s > plain
    assert throughput(question(kv_type="q8_0")).decode_step_s > plain
    assert throughput(question(host=HostLoad(dense_weight_bytes=1e9))).decode_step_s > plain + 0.01
    assert throughput(moe(batch=4)).decode_step_s > throughput(moe()).decode_step_s


@pytest.mark.parametrize(
    ("changed", "confidence"),
    [
        (question(), "measured"),
        (question(batch=8), "measured"),
        (question(batch=9), "modelled"),
        (question(batch=9, through_server=False), "measured"),
        (question(quantization="Q5_K_M"), "modelled"),
        (question(architecture="phi3"), "modelled"),
        (question(depth_tokens=8192), "modelled"),
        (question(depth_tokens=8192, flash_attention=False), "wide"),
        (question(loads=(GpuLoad(H200, 28, 2e9),)), "wide"),
        (question(loads=(GpuLoad(resolve("RTX 4090", CATALOGUE), 32, 4.617e9),)), "modelled"),
        (question(loads=(GpuLoad(resolve("L4", CATALOGUE), 32, 4.617e9),)), "wide"),
        (question(host=HostLoad(dense_weight_bytes=1e8)), "wide"),
        (question(host=HostLoad(bandwidth_gb_s=50)), "measured"),
        (question(loads=(), host=HostLoad(dense_weight_bytes=1e8)), "wide"),
        (moe(), "measured"),
        (moe(batch=2), "wide"),
    ],
)
def test_confidence(changed: SpeedInput, confidence: str) -> None:
    assert throughput(changed).confidence == confidence


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        (question(loads=()), "no GPU and no host holds a layer"),
        (question(quantization="Q4_K_X"), "did you mean Q4_K_"),
        (question(dense_quantization="BF17"), "did you mean BF16?"),
        (question(kv_type="q9_0"), "type of KV cache"),
        (question(batch=0), "batch is 0"),
        (question(batch=True), "batch is True"),
        (question(batch=1.5), "batch is 1.5"),
        (question(prompt_tokens=0), "prompt_tokens is 0"),
        (question(ubatch=0), "ubatch is 0"),
        (question(depth_tokens=-1), "depth_tokens is -1"),
        (question(loads=(GpuLoad(H200, 32, -1.0),)), "dense_weight_bytes is -1.0"),
        (question(loads=(GpuLoad(H200, 32, float("nan")),)), "dense_weight_bytes is nan"),
        (question(loads=(GpuLoad(H200, 32, 0.0),)), "no weights anywhere"),
        (question(loads=(GpuLoad(H200, 32, 1e9, 1e9),)), "0 of 0 experts are used"),
        (replace(moe(), expert_used_count=129), "129 of 128 experts"),
        (question(host=HostLoad(bandwidth_gb_s=0)), "bandwidth_gb_s of the host is 0"),
        (
            question(loads=(GpuLoad(resolve({"name": "X", "memory_total_mib": 9000}, CATALOGUE), 32, 1e9),)),
            "bandwidth of GPU X is unknown",
        ),
    ],
)
def test_refusals(changed: SpeedInput, part: str) -> None:
    with pytest.raises(SizingError) as caught:
        throughput(changed)
    assert part in str(caught.value)


def test_every_mix_that_the_engine_can_plan_has_a_speed() -> None:
    assert set(MIXES) - set(QUANTIZATIONS) == set()


@st.composite
def questions(draw: st.DrawFn) -> SpeedInput:
    gpu = resolve(draw(st.sampled_from([row["name"] for row in CATALOGUE["gpus"]])), CATALOGUE)
    experts = draw(st.booleans())
    load = GpuLoad(
        gpu,
        draw(st.integers(1, 128)),
        draw(st.floats(1e8, 4e11)),
        draw(st.floats(1e8, 4e11)) if experts else 0.0,
        draw(st.floats(0, 1e6)),
        draw(st.floats(0, 1e6)),
    )
    host = HostLoad(draw(st.floats(0, 1e11)), kv_bytes_per_token=draw(st.floats(0, 1e5)))
    used = draw(st.integers(1, 8))
    return SpeedInput(
        loads=(load,) * draw(st.integers(1, 4)),
        host=host if draw(st.booleans()) else None,
        quantization=draw(st.sampled_from(sorted(QUANTIZATIONS))),
        vocabulary_size=draw(st.integers(1000, 300_000)),
        architecture=draw(st.sampled_from(["llama", "gemma3", "other"])),
        expert_count=draw(st.integers(used, 256)) if experts else 0,
        expert_used_count=used if experts else 0,
        sliding_window_tokens=draw(st.sampled_from([0, 1024])),
        attention_width=draw(st.integers(0, 16384)),
        kv_type=draw(st.sampled_from(sorted(KV_BYTES_OF_F16))),
        flash_attention=draw(st.booleans()),
        batch=draw(st.integers(1, 64)),
        depth_tokens=draw(st.integers(0, 200_000)),
        prompt_tokens=draw(st.integers(1, 100_000)),
        through_server=draw(st.booleans()),
    )


@given(questions())
def test_more_sequences_give_more_in_all_and_less_to_each(asked: SpeedInput) -> None:
    fewer, more = throughput(asked), throughput(replace(asked, batch=asked.batch + 1))
    assert more.decode_total_tok_s >= fewer.decode_total_tok_s * (1 - 1e-9)
    # From eight to nine the kernels change.
    if asked.batch != 8:
        assert more.decode_per_user_tok_s <= fewer.decode_per_user_tok_s * (1 + 1e-9)


@given(questions(), st.integers(1, 100_000))
def test_more_work_is_never_faster(asked: SpeedInput, more: int) -> None:
    plain = throughput(asked)
    assert throughput(replace(asked, depth_tokens=asked.depth_tokens + more)).decode_step_s >= plain.decode_step_s
    longer = throughput(replace(asked, prompt_tokens=asked.prompt_tokens + more))
    assert longer.time_to_first_token_s > plain.time_to_first_token_s
    heavier = replace(asked.loads[0], dense_weight_bytes=asked.loads[0].dense_weight_bytes * 1.5)
    assert throughput(replace(asked, loads=(heavier, *asked.loads[1:]))).decode_step_s > plain.decode_step_s


@given(questions())
def test_a_single_stream_never_outruns_the_memory(asked: SpeedInput) -> None:
    asked = replace(asked, batch=1, loads=asked.loads[:1], host=None)
    load = asked.loads[0]
    used = asked.expert_used_count / asked.expert_count if asked.expert_count else 0
    least_s = (load.dense_weight_bytes + load.expert_weight_bytes * used) / (load.gpu.bandwidth_gb_s * 1e9)
    assert throughput(asked).decode_step_s > least_s
