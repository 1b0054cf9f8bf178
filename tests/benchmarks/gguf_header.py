# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints how long a header as of a 70B model takes to read: 723 tensors, 128,256 tokens, 280,147 merges.

    python tests/benchmarks/gguf_header.py [REPEATS]

Milliseconds are wall time on one core and depend on the machine; nothing is asserted about them.
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))

from ansible_collections.baremetal.llm.plugins.module_utils import gguf  # noqa: E402
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build  # noqa: E402

TOKENS, MERGES, LAYERS = 128_256, 280_147, 80
# Shapes of a llama of 70B parameters: 8192 wide, 8 key-value heads of 128, 28,672 in the feed-forward part.
LAYER_TENSORS = (
    ("attn_norm", [8192], build.F32),
    ("attn_q", [8192, 8192], build.Q4_K),
    ("attn_k", [8192, 1024], build.Q4_K),
    ("attn_v", [8192, 1024], build.Q6_K),
    ("attn_output", [8192, 8192], build.Q4_K),
    ("ffn_norm", [8192], build.F32),
    ("ffn_gate", [8192, 28672], build.Q4_K),
    ("ffn_up", [8192, 28672], build.Q4_K),
    ("ffn_down", [28672, 8192], build.Q6_K),
)


def header() -> bytes:
    """The file up to its data."""
    metadata = {
        "general.architecture": build.text("llama"),
        "general.file_type": build.u32(15),
        "llama.block_count": build.u32(LAYERS),
        "tokenizer.ggml.tokens": build.texts([f"token{index}"[: 1 + index % 11] for index in range(TOKENS)]),
        "tokenizer.ggml.token_type": build.numbers("i", [1] * TOKENS),
        "tokenizer.ggml.merges": build.texts([f"ab{index % 999} c{index % 99}" for index in range(MERGES)]),
    }
    tensors = [("token_embd.weight", [8192, TOKENS], build.Q4_K)]
    for layer in range(LAYERS):
        tensors += [(f"blk.{layer}.{name}.weight", shape, kind) for name, shape, kind in LAYER_TENSORS]
    tensors += [("output_norm.weight", [8192], build.F32), ("output.weight", [8192, TOKENS], build.Q6_K)]
    return build.build_gguf(metadata, tensors, data=False)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(header())
        file.flush()
        took_ms = []
        for _round in range(repeats):
            begin = time.perf_counter()
            model = gguf.read_model(file.name)
            took_ms.append((time.perf_counter() - begin) * 1000)
        tracemalloc.start()
        gguf.read_model(file.name)
        peak_kib = tracemalloc.get_traced_memory()[1] / 1024
        print(
            f"{len(model.tensors)} tensors, {model.vocab_size} tokens, header of {model.data_offset_bytes} bytes: "
            f"best {min(took_ms):.1f} ms, middle {sorted(took_ms)[repeats // 2]:.1f} ms of {repeats} times, "
            f"peak {peak_kib:.0f} KiB"
        )


if __name__ == "__main__":
    main()
