# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints every measured speed beside the one that the sizing engine predicts, and the error by class.

    python tests/benchmarks/speed.py [FILE.jsonl ...]

Without files: tests/fixtures/measured, and the published speeds of catalogue/gpus.yml. Files have the fields of
tests/fixtures/measured/README.md; a row without "gpu" was measured on an H100 with the library alone.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import yaml

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    _AnsibleCollectionFinder(paths=[str(ROOT / ".collections")])._install()

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.gpus import resolve  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.speed import (  # noqa: E402
    QUANTIZATIONS,
    GpuLoad,
    HostLoad,
    SpeedInput,
    throughput,
)

MIB = 1 << 20
SHORT_CONTEXT_TOKENS = 64
LIBRARY_CARD = "NVIDIA H100 80GB HBM3"
# What a published row's model puts on the GPU: bytes, layers, architecture, vocabulary. Bytes of the newer two are
# their files' without token_embd; their layers are counted as dense ones.
PUBLISHED = {
    ("llama-3-8b", "Q4_K_M"): (4.617e9, 32, "llama", 128256),
    ("llama-3-8b", "F16"): (15.01e9, 32, "llama", 128256),
    ("llama-3-70b", "Q4_K_M"): (41.92e9, 80, "llama", 128256),
    ("qwen3.5-9b", "Q4_K_M"): (5.1e9, 32, "", 248320),
    ("qwen3.6-27b", "Q4_K_M"): (16.1e9, 64, "", 248320),
}


@dataclass(frozen=True)
class Fit:
    """One measured speed and its prediction, tokens a second; the error is predicted over measured, in per cent."""

    kind: str
    label: str
    batch: int
    measured_tok_s: float
    predicted_tok_s: float
    confidence: str

    @property
    def error_percent(self) -> float:
        return (self.predicted_tok_s / self.measured_tok_s - 1) * 100


@dataclass(frozen=True)
class Parameters:
    """Parameters that a token's step may read: outside the experts, and of all experts."""

    dense: float
    experts: float


def parameters(row: Mapping[str, Any]) -> Parameters:
    """From the shape of a measured row; token_embd is left out, the output layer is in."""
    shape = row["shape"]
    width, heads, layers = shape["E"], shape["H"], shape["L"]
    head = shape.get("hd", width // heads)
    if "kvr" in shape:
        attention = width * heads * 192 + width * 576 + shape["kvr"] * heads * 256 + heads * 128 * width
    else:
        attention = width * head * (heads + 2 * shape["KV"]) + heads * head * width
    output = width * shape["V"]
    if "X" not in shape:
        return Parameters(layers * (attention + 3 * width * shape["FF"]) + output, 0)
    expert = 3 * width * shape["FX"]
    plain = shape.get("dense", 0)
    shared = (layers - plain) * expert * shape.get("XS", 0) + plain * 3 * width * shape["FF"]
    return Parameters(layers * attention + shared + output, (layers - plain) * expert * shape["X"])


def kv_bytes_per_token(row: Mapping[str, Any]) -> tuple[float, float]:
    """Bytes of one token in all layers with whole context, and in all layers with a sliding window."""
    shape, layers = row["shape"], row["shape"]["L"]
    element = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}[row["kv_type"]]
    if "kvr" in shape:
        return 576 * element * layers, 0.0
    layer = 2 * shape["KV"] * shape.get("hd", shape["E"] // shape["H"]) * element
    whole = {"gemma3": layers // 6, "gpt-oss": layers // 2}.get(row["arch"], layers)
    return layer * whole, layer * (layers - whole)


def asked(row: Mapping[str, Any], catalogue: Mapping[str, Any]) -> SpeedInput:
    """The question that a measured row answers, for one sequence with a short context."""
    shape, counts = row["shape"], parameters(row)
    whole, window = kv_bytes_per_token(row)
    token_embd = shape["V"] * shape["E"] * (8.5 if row["quant"] == "Q8_0" else 16 if row["quant"] == "F16" else 4.5) / 8
    gpu_bytes = row["weights_gpu_mib"] * MIB
    host_bytes = row["gguf_bytes"] - gpu_bytes - token_embd
    # The file also holds its metadata; tied models have token_embd on the GPU again.
    partial = row["arch"] != "gpt-oss" and host_bytes > 0.02 * row["gguf_bytes"]
    host_bytes = host_bytes if partial else 0.0
    experts_on_host = bool(partial and counts.experts)
    all_experts = (gpu_bytes + host_bytes) * counts.experts / (counts.dense + counts.experts)
    if row["arch"] == "gpt-oss":
        all_experts = counts.experts * QUANTIZATIONS["MXFP4"].bits / 8
    gpu_experts = all_experts - (host_bytes if experts_on_host else 0.0)
    layers = min(row["gpu_layers"], shape["L"]) if not experts_on_host else shape["L"]
    on_gpu = layers / shape["L"]
    gpu = resolve(row.get("gpu", LIBRARY_CARD), catalogue)
    shares = [each["weights_gpu_mib"] / row["weights_gpu_mib"] for each in row.get("per_gpu") or ()] or [1.0]
    return SpeedInput(
        loads=tuple(
            GpuLoad(
                gpu,
                round(layers * share),
                (gpu_bytes - gpu_experts) * share,
                gpu_experts * share,
                whole * on_gpu * share,
                window * on_gpu * share,
            )
            for share in shares
            if share
        ),
        host=HostLoad(
            0.0 if experts_on_host else host_bytes,
            host_bytes if experts_on_host else 0.0,
            whole * (1 - on_gpu),
            window * (1 - on_gpu),
        )
        if partial
        else None,
        quantization=row["quant"],
        dense_quantization="BF16" if row["arch"] == "gpt-oss" else None,
        vocabulary_size=shape["V"],
        architecture=row["arch"],
        expert_count=shape.get("X", 0),
        expert_used_count=shape.get("XU", 0),
        sliding_window_tokens={"gemma3": 1024, "gpt-oss": 128}.get(row["arch"], 0),
        attention_width=shape["H"] * shape.get("hd", shape["E"] // shape["H"]),
        kv_type=row["kv_type"],
        flash_attention=row["flash_attention"],
        ubatch=row["ubatch"],
        depth_tokens=SHORT_CONTEXT_TOKENS,
        through_server="gpu" in row,
    )


def kind(row: Mapping[str, Any], batch: int, question: SpeedInput) -> str:
    if question.host is not None:
        return "partly on the host"
    if "X" in row["shape"]:
        return "experts" if question.through_server else "experts, always the same ones"
    if parameters(row).dense < 5e9:
        return "dense, small"
    return "dense" if batch <= 8 else "dense, over 8 sequences"


def fit_report(rows: Iterable[Mapping[str, Any]], catalogue: Mapping[str, Any]) -> list[Fit]:
    """Every measured speed of C(rows), decode and prefill; C(catalogue) is the content of catalogue/gpus.yml."""
    fits = []
    for row in rows:
        if not row.get("decode_tok_s_by_batch"):
            continue
        question = asked(row, catalogue)
        card = "H200" if question.through_server else "H100"
        label = f"{card} {row.get('id') or ' '.join(str(row[key]) for key in ('model', 'quant', 'ctx_per_slot'))}"
        label += "" if "id" in row else f" {row['kv_type']}{'' if row['flash_attention'] else ' no FA'}"

        def add(name: str, batch: int, measured: Optional[float], question: SpeedInput, label: str = label) -> None:
            if measured:
                speed = throughput(question)
                predicted = speed.prefill_tok_s if name.startswith("prefill") else speed.decode_total_tok_s
                fits.append(Fit(name, label, batch, measured, predicted, speed.confidence))

        for text, measured in row["decode_tok_s_by_batch"].items():
            add(kind(row, int(text), question), int(text), measured, replace(question, batch=int(text)))
        add("deeper context", 1, row.get("decode_tok_s_depth2000"), replace(question, depth_tokens=2000))
        long = row.get("long_prompt") or {}
        if long:
            deep = replace(question, depth_tokens=long["tokens"], prompt_tokens=long["tokens"])
            add("deeper context", 1, long.get("decode_tok_s"), deep, f"{label}, {long['tokens']} tokens")
            add("prefill", 1, long.get("prefill_tok_s"), deep, f"{label}, {long['tokens']} tokens")
        tokens = 2000 if question.through_server else 512
        prefill = "prefill" if kind(row, 1, question) != "experts, always the same ones" else kind(row, 1, question)
        if prefill == "prefill":
            add(prefill, 1, row.get(f"prefill{tokens}_tok_s"), replace(question, prompt_tokens=tokens))
    return fits


def published_report(catalogue: Mapping[str, Any]) -> list[Fit]:
    """Every published speed of the catalogue whose model is known here."""
    fits = []
    for entry in catalogue["gpus"]:
        for anchor in entry["effective_bandwidth"]:
            model = PUBLISHED.get((anchor["model"], anchor["quantization"]))
            if model is None:
                continue
            weight_bytes, layers, architecture, vocabulary = model
            question = SpeedInput(
                loads=(GpuLoad(resolve(entry["name"], catalogue), layers, weight_bytes),),
                quantization=anchor["quantization"],
                vocabulary_size=vocabulary,
                architecture=architecture,
                # The older figures are llama-bench's, which samples nothing; the newer ones are requests.
                through_server=anchor["source"] == "thirteen-gpus-2026",
            )
            label = f"{entry['name']} {anchor['model']} {anchor['quantization']}"
            speed = throughput(question)
            name = f"published, {anchor['source']}"
            fits.append(Fit(name, label, 1, anchor["decode_tok_s"], speed.decode_total_tok_s, speed.confidence))
    return fits


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line]


def table(fits: Iterable[Fit]) -> str:
    by_kind = defaultdict(list)
    for fit in fits:
        by_kind[fit.kind].append(fit)
    lines = []
    for name, group in by_kind.items():
        errors = [abs(fit.error_percent) for fit in group]
        lines.append(
            f"\n{name}: {len(group)} speeds, mean error {sum(errors) / len(errors):.1f} %, worst {max(errors):.1f} %"
        )
        lines.append(f"  {'':58} {'B':>3} {'measured':>9} {'predicted':>9} {'error':>7}")
        for fit in group:
            numbers = f"{fit.measured_tok_s:9.1f} {fit.predicted_tok_s:9.1f} {fit.error_percent:+6.1f}%"
            lines.append(f"  {fit.label:58} {fit.batch:3} {numbers}  {fit.confidence}")
    return "\n".join(lines).lstrip("\n")


def main(arguments: list[str]) -> None:
    catalogue = yaml.safe_load((ROOT / "catalogue" / "gpus.yml").read_text(encoding="utf-8"))
    paths = [Path(each) for each in arguments] or sorted((ROOT / "tests" / "fixtures" / "measured").glob("*.jsonl"))
    fits = fit_report(read(paths), catalogue)
    print(table(fits if arguments else [*fits, *published_report(catalogue)]))


if __name__ == "__main__":
    main(sys.argv[1:])
