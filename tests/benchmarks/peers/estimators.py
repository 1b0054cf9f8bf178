# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the estimators of requirements.txt: JSON cases on standard input, JSON answers by estimator in their order.

Runs with the Python of a folder of its own, in which nothing else is installed. An answer has C(mib), and C(nearest)
where the estimator has no input for what the case asks; or C(failed) with the reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MIB, GIB_IN_MIB = 1 << 20, 1024
Case = Mapping[str, Any]
Answer = tuple[float, str]

BITS = {"f16": 16, "q8_0": 8, "q4_0": 4}
# Their names of the mixes; MXFP4 has none anywhere and is given as the 4-bit one.
COARSE = {"Q4_K_M": "q4", "Q4_0": "q4", "MXFP4": "q4", "Q8_0": "q8", "F16": "fp16"}


def nearest(**parts: bool) -> str:
    """What could not be said, in words."""
    return ", ".join(name.replace("_", " ") for name, missing in parts.items() if missing)


def ggufit(case: Case) -> Answer:
    from ggufit.calculator import evaluate_fit

    model = {
        "params_billion": case["parameters"] / 1e9,
        "layers": case["layers"],
        "hidden_size": case["width"],
        "num_attention_heads": case["heads"],
        "num_key_value_heads": case["kv_heads"],
        "head_dim": case["head"],
    }
    if case["kv_rank"]:
        model |= {"attention_family": "mla", "kv_lora_rank": case["kv_rank"], "qk_rope_head_dim": case["rope"]}
    quant, bits = COARSE[case["quantization"]], BITS[case["kv_type"]]
    found = evaluate_fit(model, quant, case["context"], 1e9, 1, users=case["slots"], kv_bits=bits)
    lacking = nearest(window=case["window"] > 0, GPUs=case["gpus"] > 1, mix=case["quantization"] == "MXFP4")
    return found.total_ram_needed_gb * GIB_IN_MIB, lacking


def llm_sizer(case: Case) -> Answer:
    from llm_sizer.catalog import QUANT_BYTES, ModelSpec
    from llm_sizer.sizing import estimate_vram

    spec = ModelSpec("case", case["parameters"], case["layers"], case["width"])
    found = estimate_vram(spec, QUANT_BYTES[COARSE[case["quantization"]]], case["context"], case["slots"])
    lacking = nearest(KV_type=case["kv_type"] != "f16", GPUs=case["gpus"] > 1, mix=case["quantization"] == "MXFP4")
    return found.total_bytes / MIB, lacking


def iaexplore(case: Case) -> Answer:
    from iaexplore_llm_profiler.core import profile_inference

    model = {
        "total_params_b": case["parameters"] / 1e9,
        "num_hidden_layers": case["layers"],
        "num_attention_heads": case["heads"],
        "num_key_value_heads": case["kv_heads"],
        "head_dim": case["head"],
    }
    card = {"vram_gb": 1e6, "bandwidth_gb_s": 1}
    quant = {"F16": "FP16", "MXFP4": "Q4_0"}.get(case["quantization"], case["quantization"])
    bits = BITS[case["kv_type"]]
    found = profile_inference(model, card, quant, case["context"], batch_size=case["slots"], kv_bits=bits)
    lacking = nearest(
        KV_rank=case["kv_rank"] > 0,
        window=case["window"] > 0,
        GPUs=case["gpus"] > 1,
        mix=case["quantization"] == "MXFP4",
    )
    return found.vram_total_required_gb * GIB_IN_MIB, lacking


def ridgepoint(case: Case) -> Answer:
    from ridgepoint import _core

    kind = "mla" if case["kv_rank"] else "mha" if case["kv_heads"] == case["heads"] else "gqa"
    found = json.loads(
        _core.fit_shape(
            "case",
            case["layers"],
            case["layers"],
            case["width"],
            case["parameters"],
            case["parameters"],
            kind,
            head_dim=case["head"],
            n_heads=case["heads"],
            n_kv_heads=case["kv_heads"],
            d_c=case["kv_rank"],
            d_rope=case["rope"],
            gpu={"H100": "h100-80gb", "H200": "h200-141gb"}[case["card"]],
            count=case["gpus"],
            engine="llamacpp",
            dtype={"F16": "fp16", "MXFP4": "q4_0"}.get(case["quantization"], case["quantization"].lower()),
            kv_cache_dtype="fp16" if case["kv_type"] == "f16" else "fp8",
            ctx=case["context"],
            as_json=True,
        )
    )
    memory = found["memory"]
    cache = found["capacity"]["bytes_per_seq"] * case["slots"]
    lacking = nearest(KV_type=case["kv_type"] != "f16", window=case["window"] > 0, mix=case["quantization"] == "MXFP4")
    return (memory["weights_bytes"]["best"] + memory["overhead_bytes"]["best"] + cache) / MIB, lacking


def owist(case: Case) -> Answer:
    from owist_modelfile_lint.gguf_sniff import read_gguf_metadata
    from owist_modelfile_lint.resource_estimate import estimate_memory

    metadata, error = read_gguf_metadata(Path(case["gguf"]))
    if metadata is None:
        raise ValueError(error)
    # It knows one slot only: the context of all of them together takes the same cache.
    found = estimate_memory(case["gguf"], metadata, case["context"] * case["slots"])
    lacking = nearest(slots=case["slots"] > 1, KV_type=case["kv_type"] != "f16", GPUs=case["gpus"] > 1)
    return found.total_gb * GIB_IN_MIB, lacking


ESTIMATORS: dict[str, Callable[[Case], Answer]] = {
    "ggufit": ggufit,
    "llm-sizer": llm_sizer,
    "iaexplore-llm-profiler": iaexplore,
    "ridgepoint": ridgepoint,
    "owist-modelfile-lint": owist,
}


def ask(estimator: Callable[[Case], Answer], case: Case) -> dict[str, Any]:
    try:
        mib, lacking = estimator(case)
    except Exception as error:  # whatever a peer raises is its answer
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"mib": mib, "nearest": lacking} if lacking else {"mib": mib}


def main() -> None:
    cases = json.load(sys.stdin)
    json.dump({name: [ask(each, case) for case in cases] for name, each in ESTIMATORS.items()}, sys.stdout)


if __name__ == "__main__":
    main()
