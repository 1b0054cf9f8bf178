# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what other estimators and the sizing engine say of measured runs, side by side, and each one's error.

    python tests/benchmarks/sizing.py [--json FILE]

The truth is nvidia-smi's used memory in tests/fixtures/measured, all GPUs of a run together. Needs go and pip with
their networks for the peers, whose programs are kept under LAB; a peer that cannot be had is printed with its reason.
Times are wall time on one core and depend on the machine; nothing is asserted about them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.baremetal.llm.plugins.filter.vram_estimate import vram_estimate  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils import gguf  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import mixes, shape, tensors  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.estimate import estimate  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import BY_NAME  # noqa: E402
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues, model_by_name  # noqa: E402
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
PEERS = Path(__file__).resolve().parent / "peers"
LAB = Path(os.environ.get("LAB") or Path.home() / ".cache/llm-lab")
KEPT = LAB / "sizing-peers"
TIME_LIMIT_S = 50
UNDER_PERCENT = 0.2
WIDTH = 110

OURS, OLLAMA, GGUF_PARSER = "ours", "ollama's check", "gguf-parser-go"
# What requirements.txt installs, and how wide columns call them.
PYPI = {
    "ggufit": "ggufit",
    "llm-sizer": "llm-s",
    "iaexplore-llm-profiler": "iaexpl",
    "ridgepoint": "ridgep",
    "owist-modelfile-lint": "owist",
}
COLUMNS = {OURS: "ours", OLLAMA: "ollama", GGUF_PARSER: "gguf-p", **PYPI}

CARDS = {"H100": "NVIDIA H100 80GB HBM3", "H200": "NVIDIA H200"}
FILES = {"H100": "h100-llamacpp.jsonl", "H200": "h200-ollama.jsonl"}
# nvidia-smi's total, and what it showed as free on the idle card.
H200_TOTAL_MIB, H200_FREE_MIB = 143771, 143155
MODELS = {
    "llama2-7b": "Llama-2-7B",
    "llama3.2-3b": "Llama-3.2-3B",
    "r1-llama-8b": "DeepSeek-R1-Distill-Llama-8B",
    "r1-llama-70b": "DeepSeek-R1-Distill-Llama-70B",
    "r1-qwen-1.5b": "DeepSeek-R1-Distill-Qwen-1.5B",
    "r1-qwen-7b": "DeepSeek-R1-Distill-Qwen-7B",
    "r1-qwen-14b": "DeepSeek-R1-Distill-Qwen-14B",
    "r1-qwen-32b": "DeepSeek-R1-Distill-Qwen-32B",
    "qwen3-30b-a3b": "Qwen3-30B-A3B",
    "gemma3-27b": "Gemma-3-27B",
    "deepseek-v2-lite": "DeepSeek-V2-Lite-MLA",
    "gpt-oss-20b": "gpt-oss-20b",
}
# Two measured files are no stock mix. These types give the GPU weights that llama.cpp logged within 0.03 MiB.
ODD_FILES: Mapping[tuple[str, str], mixes.Overrides] = {
    ("H100", "deepseek-v2-lite"): (("ffn_down_exps", "Q8_0"), ("attn_v_b", "F16")),
    ("H200", "gpt-oss-20b"): ((r"^(token_embd|output)\.weight$", "BF16"), (r"attn_(q|k|v|output)\.weight$", "BF16")),
}
# Names in the measured rows of what both a row and its model in the catalogue say.
SAME = {
    "E": "embedding_length",
    "V": "vocab_size",
    "L": "block_count",
    "H": "attention.head_count",
    "X": "expert_count",
    "XU": "expert_used_count",
    "FX": "expert_feed_forward_length",
}


@dataclass(frozen=True)
class Run:
    """A measured run: C(row) as in the fixture, C(shape) in GGUF keys, C(path) of a file as it was, without data."""

    card: str
    row: Mapping[str, Any]
    shape: Mapping[str, Any]
    path: str

    @property
    def gpus(self) -> int:
        """On which the model lay."""
        return sum(1 for each in self.row.get("per_gpu") or () if each["weights_gpu_mib"]) or 1

    @property
    def odd(self) -> bool:
        return (self.card, self.row["model"]) in ODD_FILES

    @property
    def partial(self) -> bool:
        """Not all of the model lay on GPUs."""
        return self.row["gpu_layers"] <= self.shape["block_count"] or "LLAMA_ARG_FIT_TARGET" in self.row.get("env", {})

    @property
    def measured_mib(self) -> Optional[float]:
        """Rise of nvidia-smi's used memory over all GPUs; of the process alone where another model lay beside it."""
        parts = self.row.get("per_gpu") or [self.row]
        if all(part.get("smi_used_mib") is not None for part in parts):
            return float(sum(part["smi_used_mib"] - part["smi_idle_mib"] for part in parts))
        used = self.row.get("process_used_mib")
        return None if used is None else float(used)

    @property
    def label(self) -> str:
        row = self.row
        flags = [f"x{self.gpus}"] * (self.gpus > 1) + [row["kv_type"][:2]] * (row["kv_type"] != "f16")
        flags += ["fa-"] * (not row["flash_attention"]) + ["+1"] * ("also" in row) + ["*"] * self.odd
        if row["gpu_layers"] <= self.shape["block_count"]:
            flags.append(f"{row['gpu_layers']}/{self.shape['block_count'] + 1}")
        setting = f"{row['ctx_per_slot']}x{row['parallel']}"
        return f"{row['model']:<16} {row['quant']:<6} {setting:<8} {' '.join(flags)}".rstrip()


@dataclass(frozen=True)
class Said:
    """What an estimator says of a run, in MiB; C(nearest): what it has no input for; or why it says nothing."""

    mib: Optional[float] = None
    nearest: str = ""
    failed: str = ""


@dataclass
class Answers:
    """Of one estimator, for the runs in order; C(failed) where it could not be had at all."""

    name: str
    said: Sequence[Said] = field(default_factory=list)
    failed: str = ""


def runs(folder: Path) -> list[Run]:
    """All measured runs; their files are written to C(folder)."""
    found = []
    for card, name in FILES.items():
        for line in (ROOT / "tests/fixtures/measured" / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            keys = {**model_by_name(MODELS[row["model"]])["shape"]}
            keys.setdefault("feed_forward_length", row["shape"]["FF"])
            differing = [key for short, key in SAME.items() if row["shape"].get(short, 0) != keys.get(key, 0)]
            if differing:
                raise SystemExit(f"{row['model']} of {name} and of the catalogue differ in {', '.join(differing)}.")
            path = folder / f"{card}-{row['model']}-{row['quant']}.gguf"
            if not path.exists():
                write_file(path, keys, row, ODD_FILES.get((card, row["model"]), ()))
            found.append(Run(card, row, keys, str(path)))
    return found


def write_file(path: Path, keys: Mapping[str, Any], row: Mapping[str, Any], overrides: mixes.Overrides) -> None:
    """A file of the measured size with header and tensors' list; its data is a hole that takes no room on disk."""
    described = shape.from_mapping(keys)
    kinds = mixes.tensor_types(described, row["quant"], False, overrides)
    metadata = {
        "general.architecture": build.text(described.architecture),
        "tokenizer.ggml.model": build.text("no_vocab"),
        f"{described.architecture}.attention.layer_norm_rms_epsilon": build.f32(1e-6),
    }
    for key, value in keys.items():
        if key not in ("architecture", "tied_embeddings", "attention.sliding_window_pattern"):
            metadata[f"{described.architecture}.{key}"] = build.u32(value)
    listed = [
        (tensor.name, list(tensor.dimensions), BY_NAME[kind].type_id)
        for tensor, kind in zip(tensors.tensor_list(described), kinds)
    ]
    head = build.build_gguf(metadata, listed, data=False)
    data = sum(mixes.padded(build.size_bytes(extents, kind)) for unused, extents, kind in listed)
    with open(path, "wb") as file:
        file.write(head)
        # Real files also hold the vocabulary, which the written header lacks.
        file.truncate(max(row["gguf_bytes"], len(head) + data))


def request(run: Run) -> dict[str, Any]:
    """The question to our engine."""
    row = run.row
    asked: dict[str, Any] = {
        "context_length": row["ctx_per_slot"],
        "parallel": row["parallel"],
        "kv_cache_type": row["kv_type"],
        "flash_attention": row["flash_attention"],
    }
    if run.odd:
        asked["gguf"] = run.path
    else:
        asked |= {"shape": run.shape, "quantization": row["quant"]}
    if run.card == "H100":
        # The library alone: what a person gave it, with logits reserved for the whole batch.
        given = {"ubatch_size": row["ubatch"], "gpu_layers": row["gpu_layers"], "outputs": "per_batch"}
        return {**asked, **given, "gpus": [CARDS[run.card]]}
    idle_mib = [row["smi_idle_mib"]] + [0] * (row["gpus"] - 1)
    asked["gpus"] = [
        {"name": CARDS[run.card], "memory_total_mib": H200_TOTAL_MIB, "memory_free_mib": H200_FREE_MIB - idle}
        for idle in idle_mib
    ]
    if "OLLAMA_SCHED_SPREAD" in row["env"]:
        asked["placement"] = "spread"
    if "LLAMA_ARG_FIT_TARGET" in row["env"]:
        asked["fit_target_mib"] = int(row["env"]["LLAMA_ARG_FIT_TARGET"])
    if "numgpu" in row["id"]:
        asked["gpu_layers"] = row["gpu_layers"]
    return asked


def ours(measured: Sequence[Run]) -> Answers:
    said = []
    for run in measured:
        try:
            found = estimate(request(run), catalogues())
            said.append(Said(sum(each["total_mib"] for each in found["per_gpu"] if each["weights_mib"])))
        except SizingError as error:
            said.append(Said(failed=str(error)))
    return Answers(OURS, said)


def ollamas_check(measured: Sequence[Run]) -> Answers:
    """PredictServerVRAM of Ollama 0.30 and later: the file and 16-bit keys and values of plain heads."""
    said = []
    for run in measured:
        keys, row = run.shape, run.row
        head = keys["embedding_length"] // keys["attention.head_count"]
        tokens = row["ctx_per_slot"] * row["parallel"]
        cache = 2 * keys["block_count"] * keys["attention.head_count_kv"] * head * tokens * 2
        said.append(Said((row["gguf_bytes"] + cache) / MIB))
    return Answers(OLLAMA, whole_only(measured, said))


def whole_only(measured: Sequence[Run], said: Iterable[Said]) -> list[Said]:
    """For those that say what the whole model needs, and place nothing."""
    return [Said(failed="whole model only") if run.partial else each for run, each in zip(measured, said)]


def finish(command: Sequence[str], **options: Any) -> str:
    """Its output; raises RuntimeError with the last line of its errors."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(str(error)) from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"{command[0]} ended with {done.returncode}").splitlines()[-1])
    return str(done.stdout)


def from_answers(given: Iterable[Mapping[str, Any]]) -> list[Said]:
    return [Said(**each) for each in given]


def gguf_parser(measured: Sequence[Run]) -> Answers:
    """The Go library, told of each run what llama.cpp was told, the layers that were offloaded included."""
    cases = [
        {
            "gguf": run.path,
            "context_tokens": run.row["ctx_per_slot"] * run.row["parallel"],
            "slots": run.row["parallel"],
            "batch": run.row.get("batch") or 2048,
            "ubatch": run.row["ubatch"],
            "kv_type": run.row["kv_type"],
            "flash_attention": run.row["flash_attention"],
            "gpu_layers": run.row["gpu_layers"],
            "split": [(number + 1) / run.gpus for number in range(run.gpus)],
        }
        for run in measured
    ]
    program = str(KEPT / "gguf-parser")
    try:
        KEPT.mkdir(parents=True, exist_ok=True)
        finish(["go", "build", "-buildvcs=false", "-o", program, "."], cwd=PEERS)
        said = from_answers(json.loads(finish([program], input=json.dumps(cases))))
    except (OSError, RuntimeError, ValueError) as error:
        return Answers(GGUF_PARSER, failed=str(error))
    for number, run in enumerate(measured):
        if run.partial and run.row["gpu_layers"] > run.shape["block_count"]:
            said[number] = Said(failed="experts in main memory: the layers do not say it")
        elif run.partial and run.card == "H200" and "numgpu" not in run.row["id"]:
            said[number] = replace(said[number], nearest="layers as measured")
        elif run.card == "H100":
            said[number] = replace(said[number], nearest="logits of one output")
    return Answers(GGUF_PARSER, said)


def pypi(measured: Sequence[Run]) -> list[Answers]:
    """The packages of requirements.txt, in a folder of their own."""
    cases = []
    for run in measured:
        described = shape.from_mapping(run.shape)
        cases.append(
            {
                "gguf": run.path,
                "card": run.card,
                "gpus": run.gpus,
                "quantization": run.row["quant"],
                "context": run.row["ctx_per_slot"],
                "slots": run.row["parallel"],
                "kv_type": run.row["kv_type"],
                "parameters": described.parameter_count,
                "layers": described.block_count,
                "width": described.embedding_length,
                "heads": described.head_count,
                # As the model's own configuration says it, which for DeepSeek is not what its file says.
                "kv_heads": run.row["shape"]["KV"],
                "head": run.row["shape"].get("hd", described.embedding_length // described.head_count),
                "kv_rank": described.kv_lora_rank,
                "rope": described.rope_dimension_count if described.kv_lora_rank else 0,
                "window": described.sliding_window,
            }
        )
    python = KEPT / "venv/bin/python"
    try:
        if not python.exists():
            venv.create(KEPT / "venv", with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        finish([*install, "--requirement", str(PEERS / "requirements.txt")])
        given = json.loads(finish([str(python), str(PEERS / "estimators.py")], input=json.dumps(cases)))
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        return [Answers(name, failed=str(error)) for name in PYPI]
    return [Answers(name, whole_only(measured, from_answers(given[name]))) for name in PYPI]


def error_percent(said: Said, measured_mib: Optional[float]) -> Optional[float]:
    if said.mib is None or measured_mib is None:
        return None
    return (said.mib / measured_mib - 1) * 100


def cell(said: Optional[Said], measured_mib: float) -> str:
    error = error_percent(said, measured_mib) if said else None
    if error is None:
        return f"{'-':>6} "
    text = f"{error:+.2f}" if abs(error) < 10 else f"{error:+.1f}"
    return f"{text:>6}{'~' if said and said.nearest else ' '}"


def print_table(measured: Sequence[Run], all_answers: Sequence[Answers]) -> None:
    for card in FILES:
        for partial in (False, True):
            chosen = [
                (number, run) for number, run in enumerate(measured) if run.card == card and run.partial == partial
            ]
            title = f"{card}, {'not all on GPUs' if partial else 'all on GPUs'}"
            heads = "".join(f"{COLUMNS[each.name]:>6} " for each in all_answers)
            print(f"\n{title:<42} {'MiB':>6}  {heads}".rstrip())
            for number, run in chosen:
                if run.measured_mib is None:
                    print(f"{run.label:<42} {'-':>6}   the runner ended before it was measured")
                    continue
                said = (each.said[number] if each.said else None for each in all_answers)
                cells = "".join(cell(each, run.measured_mib) for each in said)
                print(f"{run.label:<42} {run.measured_mib:6.0f}  {cells}".rstrip())


def summary(measured: Sequence[Run], answers: Answers, partial: bool) -> dict[str, Any]:
    """Mean and worst error in per cent over the runs that the estimator says something of."""
    by_card: dict[str, list[float]] = {card: [] for card in FILES}
    for run, said in zip(measured, answers.said):
        error = error_percent(said, run.measured_mib)
        if run.partial == partial and error is not None:
            by_card[run.card].append(error)
    errors = [error for each in by_card.values() for error in each]
    if not errors:
        return {"runs": 0}
    return {
        "runs": len(errors),
        **{f"mean_percent_{card}": statistics.fmean(map(abs, each)) for card, each in by_card.items() if each},
        "mean_percent": statistics.fmean(map(abs, errors)),
        "worst_percent": max(errors, key=abs),
        "under": sum(1 for error in errors if error < -UNDER_PERCENT),
        "within_1_percent": sum(1 for error in errors if abs(error) <= 1),
    }


def print_summaries(measured: Sequence[Run], all_answers: Sequence[Answers]) -> None:
    titles = ("runs", "mean %", "of H100", "of H200", "worst %", "<= 1 %", "under by > 0.2 %")
    for partial in (False, True):
        total = sum(1 for run in measured if run.partial == partial and run.measured_mib is not None)
        title = f"{total} runs, {'not all' if partial else 'all'} on GPUs"
        print(f"\n{title:<28}", *(f"{each:>9}" for each in titles))
        for answers in all_answers:
            found = summary(measured, answers, partial)
            if answers.failed:
                print(f"{answers.name:<28} failed: {answers.failed}"[:WIDTH])
            elif not found["runs"]:
                print(f"{answers.name:<28} {0:9} only asked about whole models")
            else:
                means = (found.get(f"mean_percent{card}", 0.0) for card in ("", "_H100", "_H200"))
                parts = [f"{found['runs']:9}", *(f"{each:9.2f}" for each in means), f"{found['worst_percent']:+9.2f}"]
                print(f"{answers.name:<28}", *parts, f"{found['within_1_percent']:9}", f"{found['under']:16}")
    for answers in all_answers:
        for run, said in zip(measured, answers.said):
            if said.failed and not run.partial and run.measured_mib is not None:
                print(f"{answers.name} failed on {run.label}: {said.failed}"[:WIDTH])


NOTES = """
ours            plugins/module_utils/sizing: estimate() from the model's shape, setting and cards
ollama          Ollama's check before a load since 0.30: file + 4 x layers x KV heads x width/heads x tokens
gguf-p          gguf-parser-go v0.28.1 on a file without data; told micro-batch and layers as they were, and
                to add 250 MiB a GPU, the default of its command
ggufit ...      the packages of tests/benchmarks/peers/requirements.txt, told parameters, shape and setting
~  has no input for a part of the case (KV type, slots, GPUs, window, mix, logits, fitting): told the nearest
-  only asked about models that lay whole on GPUs, or failed, with the reason below
*  no stock mix: types were chosen that give the GPU weights llama.cpp logged; ours reads them from the file
Errors are estimated over measured, in per cent of nvidia-smi's used memory. x2: two GPUs, together. q8, q4:
type of the KV cache. fa-: without flash attention. +1: beside a second model. 27/29: layers on GPUs."""


def print_sizes() -> dict[str, Any]:
    """All cells of the published table of file sizes against the mixes."""
    from ansible_collections.baremetal.llm.tests.unit.plugins.module_utils.sizing import test_mixes as table

    worst: dict[int, float] = {}
    cells = 0
    for name, line in table.PUBLISHED_GIB.items():
        described = shape.from_mapping(model_by_name(name)["shape"])
        for mix, text in zip(table.COLUMNS, line.split()):
            decimals = len(text.partition(".")[2])
            error_gib = abs(mixes.data_bytes(described, mix) / GIB - float(text))
            worst[decimals] = max(worst.get(decimals, 0.0), error_gib)
            cells += 1
    parts = ", ".join(f"{worst[each]:.3f} of {each}" for each in sorted(worst, reverse=True))
    print(f"File sizes, {cells} published cells, largest error in GiB by decimals: {parts}")
    return {"cells": cells, "largest_error_gib_by_decimals": worst}


@dataclass(frozen=True)
class Times:
    """In milliseconds; C(first) with the catalogues not yet read, C(later) a median over other contexts."""

    first_ms: float
    later_ms: float
    later_two_gpus_ms: float
    header_ms: float = 0.0


def milliseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def time_estimates() -> Times:
    """A 70B model by its name on one GPU and on two."""

    def ask(gpus: int, context: int) -> float:
        question = {"name": "llama3.3:70b", "quantization": "Q4_K_M", "parallel": 4, "context_length": context}
        question["gpus"] = [CARDS["H100"]] * gpus
        return milliseconds(lambda: vram_estimate(question))

    first = ask(1, 1024)
    contexts = range(2048, 2048 + 200 * 128, 128)
    one, two = (statistics.median(ask(gpus, each) for each in contexts) for gpus in (1, 2))
    return Times(first, one, two)


def time_header(folder: Path) -> float:
    """The best of ten readings of a header as of a 70B model."""
    import gguf_header

    path = folder / "header.gguf"
    path.write_bytes(gguf_header.header())
    return min(milliseconds(lambda: gguf.read_model(str(path))) for unused in range(10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run and every answer to this file too")
    options = parser.parse_args()
    times = time_estimates()
    with tempfile.TemporaryDirectory() as name:
        measured = runs(Path(name))
        all_answers = [ours(measured), ollamas_check(measured), gguf_parser(measured), *pypi(measured)]
        times = replace(times, header_ms=time_header(Path(name)))
    print_table(measured, all_answers)
    print(NOTES)
    print_summaries(measured, all_answers)
    print()
    sizes = print_sizes()
    print(
        f"vram_estimate by a catalogue's name, 70B: first {times.first_ms:.1f} ms, the catalogues' files included;"
        f"\nlater {times.later_ms:.2f} ms on one GPU, {times.later_two_gpus_ms:.2f} ms on two (medians of 200)"
        f"\nA header of 723 tensors and 128,256 tokens: {times.header_ms:.1f} ms (best of 10)"
    )
    if options.json:
        options.json.write_text(json.dumps(record(measured, all_answers, times, sizes), indent=1) + "\n")


def record(
    measured: Sequence[Run], all_answers: Sequence[Answers], times: Times, sizes: Mapping[str, Any]
) -> dict[str, Any]:
    rows = []
    for number, run in enumerate(measured):
        said = {each.name: each.said[number] for each in all_answers if each.said}
        rows.append(
            {
                "card": run.card,
                "run": run.row.get("id", run.label),
                "not_all_on_gpus": run.partial,
                "measured_mib": run.measured_mib,
                "estimates": {
                    name: {**asdict(each), "error_percent": error_percent(each, run.measured_mib)}
                    for name, each in said.items()
                },
            }
        )
    summaries = {
        each.name: {"failed": each.failed}
        if each.failed
        else {"all_on_gpus": summary(measured, each, False), "not_all_on_gpus": summary(measured, each, True)}
        for each in all_answers
    }
    return {"runs": rows, "summaries": summaries, "times": asdict(times), "file_sizes": sizes}


if __name__ == "__main__":
    main()
