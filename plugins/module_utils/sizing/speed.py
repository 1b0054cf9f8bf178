# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens per second of a model that llama.cpp serves, alone or through Ollama.

One decode step of B sequences takes, summed over the GPUs that hold layers (a layer split gives capacity, not speed):

    weights    one token: hypot(bytes / (0.90 · bandwidth), parameters · unpacking), that is, reading and unpacking
               overlap in part. 2 to 8 tokens: the same, or the arithmetic of B columns where that is longer
               (matrix-vector kernels). More: matrix kernels, whose time hardly depends on B; hence the jump after 8.
    experts    like one token, for the share of experts that B tokens reach: 1 - (1 - used/count)^B
    kernels    layers · kernels of a layer · 2.5 µs
    KV cache   bytes of the tokens in use / its own bandwidth
    sampling   B · vocabulary · 0.9 ns, and 5 ns more through Ollama's server, one sequence after the other

All constants were fitted together, on the rows of tests/fixtures/measured (one H100 with llama.cpp alone, one and two
H200 behind Ollama 0.34.4); none belongs to a run or a model. Arithmetic scales with multiprocessors · clock, reading
with the bandwidth of the specification. tests/benchmarks/speed.py prints every row beside its prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, unknown
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.gpus import Gpu

# The card on which arithmetic was measured: 132 multiprocessors at 1980 MHz, 3350 GB/s.
REFERENCE_MULTIPROCESSORS_MHZ = 132 * 1980
REFERENCE_BANDWIDTH_GB_S = 3350.0
REFERENCE_FP16_TFLOPS = 989.0
READ_EFFICIENCY = 0.90
# No AMD card was measured, and no source was found; a cautious share.
READ_EFFICIENCY_AMD = 0.60
# ggml-cuda computes up to eight columns with matrix-vector kernels: MMVQ_MAX_BATCH_SIZE of ggml-cuda/mmvq.cuh.
VECTOR_COLUMNS = 8
# Picoseconds a parameter on the reference card: VECTOR_BASE + B · VECTOR_COLUMN, and matrix kernels.
VECTOR_BASE_PS = 0.158
VECTOR_COLUMN_PS = 0.089
MATRIX_PS = 0.55
# F16 and BF16 leave the vector kernels with the second sequence.
FLOAT_MATRIX_FACTOR = 1.33
KERNEL_S = 2.5e-6
# Kernels of one layer: Llama's 14 is fitted; what others add (biases, norms of heads, routing, latent attention) is
# estimated from their graphs, and checked by one model each. Gemma 2 was not measured.
LAYER_KERNELS = {
    "llama": 14,
    "qwen2": 17,
    "qwen3": 16,
    "qwen3moe": 16,
    "gemma2": 18,
    "gemma3": 18,
    "gpt-oss": 18,
    "deepseek2": 24,
}
OTHER_LAYER_KERNELS = 16
QUANTIZED_KV_KERNELS = 3
NO_FLASH_ATTENTION_KERNELS = 7
SAMPLE_S = 0.9e-9
SERVER_SAMPLE_S = 5.0e-9
# Once a step as soon as there is a second client; the cause was not looked for.
SERVER_MANY_S = 0.4e-3
# One sequence's attention reads its cache with few multiprocessors (1.0 to 2.2 TB/s on H100 and H200); several
# sequences share the bandwidth of the memory (0.73 of it on GB10, 0.72 and 0.75 on RTX 4090 and L40S).
KV_SEQUENCE_GB_S = 1800.0
KV_EFFICIENCY = 0.72
# A quantized cache is copied to F16 and read again: its own bytes, and twice those of F16.
KV_BYTES_OF_F16 = {"f16": 1.0, "bf16": 1.0, "f32": 2.0, "q8_0": 17 / 32, "q5_1": 0.375, "q5_0": 11 / 32}
KV_BYTES_OF_F16.update({"q4_1": 0.3125, "q4_0": 9 / 32, "iq4_nl": 9 / 32})
# Host: 16 cores beside an H200 read 74 to 127 GB/s of weights; each further sequence cost two fifths of the first.
HOST_BANDWIDTH_GB_S = 90.0
HOST_COLUMN = 0.4
# Prompts: weights that stay on the host cross PCIe once a micro-batch: 7.6 to 8.4 GB/s (five rows), experts 50 (one).
UPLOAD_GB_S = 8.0
EXPERT_UPLOAD_GB_S = 50.0
HOST_TFLOPS = 0.5
# Share of the specification's dense integer rate that matrix kernels reach with a prompt. Ampere to Hopper: published
# pp1024 of 8B and 70B and the rows here; the others are guesses.
PREFILL_INT8_SHARE = {"turing": 0.16, "ampere": 0.16, "ada": 0.14, "hopper": 0.083, "blackwell": 0.08, "cdna3": 0.05}
OTHER_PREFILL_INT8_SHARE = 0.08
PREFILL_FP16_SHARE = 0.40
# Without a rate of integers: these kernels then run in F16.
PREFILL_NO_INT8_SHARE = 0.20
EXPERT_PREFILL_EFFICIENCY = 0.40
ATTENTION_FP16_SHARE = 0.50
# Scores pass through memory in several kernels; from three rows.
NO_FLASH_ATTENTION_FACTOR = 30.0
PREFILL_LAYER_S = 0.16e-3
SERVER_PREFILL_S = 10e-3
SMALL_MODEL_BYTES = 4e9
# From these many sequences on nothing was measured through the server.
SERVER_MEASURED_BATCH = 8
MEASURED_BATCH = 32
# At 2000 tokens and more the form missed by up to 25 %.
MEASURED_DEPTH_TOKENS = 1024


@dataclass(frozen=True)
class QuantizationCost:
    """Bits a parameter takes on the GPU on average, and picoseconds to unpack it; zero: a float type."""

    bits: float
    unpack_ps: float = 0.0
    measured: bool = False


_K, _LEGACY, _TABLE = 0.267, 0.19, 0.33
# Bits: mean of the mix without token_embd, 8B to 70B (llama-quantize --dry-run). Unpacking: rows here for those called
# measured; their family's value for the others (_TABLE, of the IQ types, is a guess).
QUANTIZATIONS: Dict[str, QuantizationCost] = {
    "F32": QuantizationCost(32.0),
    "F16": QuantizationCost(16.0, 0.0, True),
    "BF16": QuantizationCost(16.0, 0.0, True),
    "Q8_0": QuantizationCost(8.5, 0.26, True),
    "Q6_K": QuantizationCost(6.56, _K),
    "Q5_K_M": QuantizationCost(5.7, _K),
    "Q5_K_S": QuantizationCost(5.55, _K),
    "Q5_1": QuantizationCost(6.0, _LEGACY),
    "Q5_0": QuantizationCost(5.55, _LEGACY),
    "Q4_K_M": QuantizationCost(4.9, _K, True),
    "Q4_K_S": QuantizationCost(4.65, _K),
    "Q4_1": QuantizationCost(5.05, _LEGACY),
    "Q4_0": QuantizationCost(4.55, _LEGACY, True),
    "Q3_K_L": QuantizationCost(4.3, _K),
    "Q3_K_M": QuantizationCost(4.0, _K),
    "Q3_K_S": QuantizationCost(3.55, _K),
    "Q2_K": QuantizationCost(3.1, _K),
    "Q2_K_S": QuantizationCost(2.9, _K),
    "IQ4_NL": QuantizationCost(4.6, _TABLE),
    "IQ4_XS": QuantizationCost(4.4, _TABLE),
    "IQ3_M": QuantizationCost(3.7, _TABLE),
    "IQ3_S": QuantizationCost(3.5, _TABLE),
    "IQ3_XS": QuantizationCost(3.4, _TABLE),
    "IQ3_XXS": QuantizationCost(3.2, _TABLE),
    "IQ2_M": QuantizationCost(2.8, _TABLE),
    "IQ2_S": QuantizationCost(2.6, _TABLE),
    "IQ2_XS": QuantizationCost(2.4, _TABLE),
    "IQ2_XXS": QuantizationCost(2.2, _TABLE),
    "IQ1_M": QuantizationCost(2.0, _TABLE),
    "IQ1_S": QuantizationCost(1.8, _TABLE),
    "TQ1_0": QuantizationCost(1.8, _TABLE),
    "TQ2_0": QuantizationCost(2.2, _TABLE),
    "Q2_0": QuantizationCost(2.3, _LEGACY),
    "Q1_0": QuantizationCost(1.2, _LEGACY),
    "MXFP4": QuantizationCost(4.25, 0.36, True),
    "MXFP4_MOE": QuantizationCost(4.25, 0.36, True),
    "NVFP4": QuantizationCost(4.5, 0.36),
}


@dataclass(frozen=True)
class GpuLoad:
    """What one GPU holds, in bytes; layers with a part of their experts elsewhere count whole.

    C(dense_weight_bytes): what every token reads, the output layer included, token_embd not.
    C(expert_weight_bytes): all routed experts that lie here. C(kv_bytes_per_token): KV cache of one token in all layers
    here that see the whole context; C(window_kv_bytes_per_token): in those that see a sliding window.
    """

    gpu: Gpu
    layers: int
    dense_weight_bytes: float
    expert_weight_bytes: float = 0.0
    kv_bytes_per_token: float = 0.0
    window_kv_bytes_per_token: float = 0.0


@dataclass(frozen=True)
class HostLoad:
    """What stays in the host's memory and is computed there; fields as in GpuLoad, token_embd not counted."""

    dense_weight_bytes: float = 0.0
    expert_weight_bytes: float = 0.0
    kv_bytes_per_token: float = 0.0
    window_kv_bytes_per_token: float = 0.0
    bandwidth_gb_s: float = HOST_BANDWIDTH_GB_S


@dataclass(frozen=True)
class SpeedInput:
    """A placed model and how it is used.

    C(quantization) is the name of the mix (Q4_K_M), C(dense_quantization) that of the tensors outside the experts
    where it differs (BF16 in gpt-oss). C(batch): sequences that decode at the same time. C(depth_tokens): tokens of
    context in use in each of them. C(prompt_tokens): length of one user's prompt. C(attention_width): heads times key
    length, for the cost of attention in prompts; 0 leaves it out. C(through_server): behind Ollama, not the library.
    """

    loads: Tuple[GpuLoad, ...]
    quantization: str
    vocabulary_size: int
    architecture: str = ""
    host: Optional[HostLoad] = None
    dense_quantization: Optional[str] = None
    expert_count: int = 0
    expert_used_count: int = 0
    sliding_window_tokens: int = 0
    attention_width: int = 0
    kv_type: str = "f16"
    flash_attention: bool = True
    ubatch: int = 512
    batch: int = 1
    depth_tokens: int = 128
    prompt_tokens: int = 512
    through_server: bool = True


@dataclass(frozen=True)
class Speed:
    """Tokens per second and seconds.

    C(prefill_tok_s) is the rate of one prompt; users share it, prompts are taken one after the other.
    C(time_to_first_token_s): a prompt that arrives while the others decode, and one step.
    C(time_to_first_token_burst_s): all C(batch) prompts arrive at once; the wait of the last.
    C(confidence) of the decode speed: "measured" (this card and class of model were measured, and the form held there
    within 11 %), "modelled" (speeds of this card are published; expect 30 %, and more against software of 2024), "wide"
    (all else: expect a factor of 1.5, and 4 with a slow host or few threads). Prompts are less exact: 20 %, small
    models and mixtures of experts 35 %.
    """

    decode_total_tok_s: float
    decode_per_user_tok_s: float
    decode_step_s: float
    prefill_tok_s: float
    time_to_first_token_s: float
    time_to_first_token_burst_s: float
    confidence: str


def throughput(asked: SpeedInput) -> Speed:
    """The speed of a placed model; SizingError where C(asked) makes no sense or a GPU's bandwidth is unknown."""
    _check(asked)
    step_s = _step_s(asked)
    prompt_s = _prompt_s(asked, asked.prompt_tokens)
    return Speed(
        decode_total_tok_s=asked.batch / step_s,
        decode_per_user_tok_s=1 / step_s,
        decode_step_s=step_s,
        prefill_tok_s=asked.prompt_tokens / prompt_s,
        time_to_first_token_s=prompt_s + step_s,
        time_to_first_token_burst_s=asked.batch * prompt_s + step_s,
        confidence=_confidence(asked),
    )


def _check(asked: SpeedInput) -> None:
    if not asked.loads and asked.host is None:
        raise SizingError("no GPU and no host holds a layer: give loads, host, or both")
    for name in (asked.quantization, asked.dense_quantization or asked.quantization):
        if name not in QUANTIZATIONS:
            raise unknown("quantization whose speed is known", name, QUANTIZATIONS)
    if asked.kv_type not in KV_BYTES_OF_F16:
        raise unknown("type of KV cache whose speed is known", asked.kv_type, KV_BYTES_OF_F16)
    for key in ("batch", "ubatch", "prompt_tokens", "vocabulary_size"):
        value = getattr(asked, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SizingError(f"{key} is {value!r}: give a whole number from 1")
    for key in ("depth_tokens", "sliding_window_tokens", "attention_width", "expert_count", "expert_used_count"):
        if getattr(asked, key) < 0:
            raise SizingError(f"{key} is {getattr(asked, key)!r}: give 0 or more")
    _check_loads(asked)


def _check_loads(asked: SpeedInput) -> None:
    for load in asked.loads:
        if not load.gpu.bandwidth_gb_s:
            raise SizingError(
                f"the memory bandwidth of GPU {load.gpu.name} is unknown:"
                " give its bandwidth_gb_s, or a name of the catalogue"
            )
    holders = (*asked.loads, *((asked.host,) if asked.host else ()))
    fields = ("dense_weight_bytes", "expert_weight_bytes", "kv_bytes_per_token", "window_kv_bytes_per_token")
    for holder in holders:
        for key in fields:
            if not 0 <= getattr(holder, key) < math.inf:
                raise SizingError(f"{key} is {getattr(holder, key)!r}: give a number of bytes from 0")
    if asked.host and not asked.host.bandwidth_gb_s > 0:
        raise SizingError(f"bandwidth_gb_s of the host is {asked.host.bandwidth_gb_s!r}: give a number above zero")
    if not any(holder.dense_weight_bytes + holder.expert_weight_bytes for holder in holders):
        raise SizingError("the model has no weights anywhere: give dense_weight_bytes of a GPU or of the host")
    experts = any(holder.expert_weight_bytes for holder in holders)
    if experts and not 1 <= asked.expert_used_count <= asked.expert_count:
        raise SizingError(
            f"{asked.expert_used_count} of {asked.expert_count} experts are used:"
            " give expert_used_count from 1 to expert_count"
        )


def _slowness(gpu: Gpu) -> float:
    """How many times longer arithmetic takes than on the reference card."""
    if gpu.multiprocessors and gpu.boost_mhz:
        return REFERENCE_MULTIPROCESSORS_MHZ / (gpu.multiprocessors * gpu.boost_mhz)
    # Cards of one time keep a like ratio of arithmetic to bandwidth.
    return REFERENCE_BANDWIDTH_GB_S / (gpu.bandwidth_gb_s or REFERENCE_BANDWIDTH_GB_S)


def _read_gb_s(gpu: Gpu) -> float:
    return (READ_EFFICIENCY_AMD if gpu.vendor == "amd" else READ_EFFICIENCY) * (gpu.bandwidth_gb_s or 0.0)


def _weights_s(gpu: Gpu, weight_bytes: float, quantization: str, columns: int) -> float:
    """Seconds to multiply C(columns) vectors with the weights."""
    cost = QUANTIZATIONS[quantization]
    read_s = weight_bytes / (_read_gb_s(gpu) * 1e9)
    if not cost.unpack_ps:
        return read_s * (FLOAT_MATRIX_FACTOR if columns > 1 else 1.0)
    # Picoseconds of the reference card become seconds of this one.
    parameters = weight_bytes * 8 / cost.bits * 1e-12 * _slowness(gpu)
    if columns > VECTOR_COLUMNS:
        return max(read_s, parameters * MATRIX_PS)
    single_s = math.hypot(read_s, parameters * cost.unpack_ps)
    if columns == 1:
        return single_s
    return max(single_s, parameters * (VECTOR_BASE_PS + columns * VECTOR_COLUMN_PS))


def _experts_reached(asked: SpeedInput, tokens: int) -> float:
    """Share of the experts that C(tokens) tokens reach when each chooses freely."""
    if not asked.expert_count:
        return 0.0
    return float(1 - (1 - asked.expert_used_count / asked.expert_count) ** tokens)


def _kv_bytes(asked: SpeedInput, per_token: float, window_per_token: float) -> float:
    window = asked.sliding_window_tokens or asked.depth_tokens
    return asked.depth_tokens * per_token + min(asked.depth_tokens, window) * window_per_token


def _kv_s(asked: SpeedInput, load: GpuLoad) -> float:
    share = KV_BYTES_OF_F16[asked.kv_type]
    traffic = 1.0 if share >= 1 else 1 + 2 / share
    one_gb_s = KV_SEQUENCE_GB_S / _slowness(load.gpu)
    gb_s = min(KV_EFFICIENCY * (load.gpu.bandwidth_gb_s or 0.0), one_gb_s * asked.batch)
    stored = _kv_bytes(asked, load.kv_bytes_per_token, load.window_kv_bytes_per_token)
    return asked.batch * stored * traffic / (gb_s * 1e9)


def _kernels(asked: SpeedInput) -> int:
    kernels = LAYER_KERNELS.get(asked.architecture, OTHER_LAYER_KERNELS)
    if KV_BYTES_OF_F16[asked.kv_type] < 1:
        kernels += QUANTIZED_KV_KERNELS
    return kernels if asked.flash_attention else kernels + NO_FLASH_ATTENTION_KERNELS


def _gpu_step_s(asked: SpeedInput, load: GpuLoad) -> float:
    dense = asked.dense_quantization or asked.quantization
    reached = load.expert_weight_bytes * _experts_reached(asked, asked.batch)
    return (
        _weights_s(load.gpu, load.dense_weight_bytes, dense, asked.batch)
        # Each expert sees few of the tokens, so its kernels stay those of one.
        + _weights_s(load.gpu, reached, asked.quantization, 1)
        + load.layers * _kernels(asked) * KERNEL_S
        + _kv_s(asked, load)
    )


def _host_step_s(asked: SpeedInput, host: HostLoad) -> float:
    weights = host.dense_weight_bytes + host.expert_weight_bytes * _experts_reached(asked, 1)
    caches = asked.batch * _kv_bytes(asked, host.kv_bytes_per_token, host.window_kv_bytes_per_token)
    return (weights * (1 + HOST_COLUMN * (asked.batch - 1)) + caches) / (host.bandwidth_gb_s * 1e9)


def _step_s(asked: SpeedInput) -> float:
    gpus_s = sum(_gpu_step_s(asked, load) for load in asked.loads)
    host_s = _host_step_s(asked, asked.host) if asked.host else 0.0
    sample_s = SAMPLE_S + (SERVER_SAMPLE_S if asked.through_server else 0.0)
    many_s = SERVER_MANY_S if asked.through_server and asked.batch > 1 else 0.0
    return gpus_s + host_s + asked.batch * asked.vocabulary_size * sample_s + many_s


def _prefill_flop_s(gpu: Gpu, quantization: str) -> float:
    """Operations a second (two a parameter and token) of matrix kernels with a prompt."""
    fp16 = gpu.fp16_tflops or REFERENCE_FP16_TFLOPS / _slowness(gpu)
    if not QUANTIZATIONS[quantization].unpack_ps:
        return fp16 * PREFILL_FP16_SHARE * 1e12
    if gpu.int8_tops:
        return gpu.int8_tops * PREFILL_INT8_SHARE.get(gpu.architecture or "", OTHER_PREFILL_INT8_SHARE) * 1e12
    return fp16 * PREFILL_NO_INT8_SHARE * 1e12


def _prompt_s(asked: SpeedInput, tokens: int) -> float:
    """Seconds for one prompt; GPUs one after the other, as with a single micro-batch."""
    dense = asked.dense_quantization or asked.quantization
    micro_batches = math.ceil(tokens / asked.ubatch)
    used = asked.expert_used_count / asked.expert_count if asked.expert_count else 0.0
    host = asked.host or HostLoad()

    def operations(weight_bytes: float, quantization: str) -> float:
        return 2 * tokens * weight_bytes * 8 / QUANTIZATIONS[quantization].bits

    seconds = SERVER_PREFILL_S if asked.through_server else 0.0
    for load in asked.loads:
        gpu = load.gpu
        experts = operations(load.expert_weight_bytes * used, asked.quantization)
        seconds += operations(load.dense_weight_bytes, dense) / _prefill_flop_s(gpu, dense)
        seconds += experts / (_prefill_flop_s(gpu, asked.quantization) * EXPERT_PREFILL_EFFICIENCY)
        fp16_flop_s = (gpu.fp16_tflops or REFERENCE_FP16_TFLOPS / _slowness(gpu)) * 1e12
        # Half of the square of tokens, two products, two operations each.
        attention = (
            2
            * load.layers
            * asked.attention_width
            * tokens**2
            * (1.0 if asked.flash_attention else NO_FLASH_ATTENTION_FACTOR)
        )
        seconds += attention / (fp16_flop_s * ATTENTION_FP16_SHARE)
        seconds += micro_batches * load.layers * PREFILL_LAYER_S
    if asked.loads:
        # llama.cpp computes the host's layers on the GPU when a micro-batch is large, with weights sent each time.
        upload_s = host.dense_weight_bytes / (UPLOAD_GB_S * 1e9) + host.expert_weight_bytes / (EXPERT_UPLOAD_GB_S * 1e9)
        return seconds + micro_batches * upload_s
    host_operations = operations(host.dense_weight_bytes, dense)
    host_operations += operations(host.expert_weight_bytes * used, asked.quantization)
    return seconds + host_operations / (HOST_TFLOPS * 1e12)


def _confidence(asked: SpeedInput) -> str:
    weight_bytes = sum(load.dense_weight_bytes + load.expert_weight_bytes for load in asked.loads)
    host = asked.host or HostLoad()
    on_host = host.dense_weight_bytes + host.expert_weight_bytes + host.kv_bytes_per_token
    if not asked.loads or on_host or weight_bytes < SMALL_MODEL_BYTES:
        return "wide"
    deep = asked.depth_tokens > MEASURED_DEPTH_TOKENS
    if (asked.expert_count and asked.batch > 1) or (deep and not asked.flash_attention):
        return "wide"
    if not all(load.gpu.anchors for load in asked.loads):
        return "wide"
    measured_batch = SERVER_MEASURED_BATCH if asked.through_server else MEASURED_BATCH
    names = (asked.quantization, asked.dense_quantization or asked.quantization)
    if (
        all("measured" in load.gpu.anchors for load in asked.loads)
        and asked.batch <= measured_batch
        and not deep
        and all(QUANTIZATIONS[name].measured for name in names)
        and asked.architecture in LAYER_KERNELS
    ):
        return "measured"
    return "modelled"
