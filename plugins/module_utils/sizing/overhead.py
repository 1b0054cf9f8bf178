# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process takes on a GPU beyond llama.cpp's own buffers, in MiB: CUDA context, libraries, pools of the kernels.

The pools follow from the kernels (ggml/src/ggml-cuda/mmq.cu, mmid.cu, ggml-cuda.cu, build 11095): a matrix product with
quantized weights first quantizes its other operand to 8 bits; one with 16-bit weights, or attention without the fused
kernel, goes through cuBLAS, which loads its own code and needs 16-bit copies. Fixed parts were read on an H200 with
CUDA 13 and driver 580 (tests/fixtures/measured); those of older generations are published log figures, and for newer
ones the figure is taken from above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

_MIB = 1 << 20
# Compute capability from which the context has this size: 451 in ollama issue 9988 and llama.cpp issue 15860 (RTX 30
# and 40), 526 measured on Hopper; Blackwell is not measured.
_CONTEXT_MIB = (((10, 0), 560), ((9, 0), 526), ((0, 0), 451))
_UNKNOWN_CONTEXT_MIB = 560
# Rise of the first evaluation (workspaces, code of the kernels, CUDA graphs), measured on Hopper.
_WARM_MIB = 72
_REST_MIB = 4
# Code and workspace of cuBLAS, which models without floating-point matrices and with flash attention never load.
_CUBLAS_MIB = 97
# Rows of a block of 32 eight-bit values with its scales: 36 bytes.
_Q8_BYTES_PER_VALUE = 36 / 32
_TILE_BYTES = 4 * 128 * 128
# Without flash attention the pool grows with the tokens in use; more than this is rare in one micro-batch's view.
LONG_PROMPT_TOKENS = 2048
DEFAULT_MULTIPROCESSORS = 132


@dataclass(frozen=True)
class Work:
    """What decides the pools: tokens of a micro-batch, widest rows that a product reads, heads and cells of attention.

    C(quantized_row) and C(expert_rows) (experts used times their rows) are elements; C(float_row) is the widest row of
    a 16-bit weight or 0; C(float_router) whether small 32-bit matrices choose experts.
    """

    tokens: int
    quantized_row: int
    expert_row: int
    float_row: int
    float_router: bool
    heads: int
    cells: int
    flash_attention: bool


def context_mib(capability: Optional[Tuple[int, int]]) -> int:
    """CUDA context of one process; for an unknown card the largest known."""
    if capability is None:
        return _UNKNOWN_CONTEXT_MIB
    return next(size for least, size in _CONTEXT_MIB if capability >= least)


def overhead_mib(capability: Optional[Tuple[int, int]], multiprocessors: Optional[int], work: Work) -> float:
    """Context and pools after the first long prompts."""
    tiles = (multiprocessors or DEFAULT_MULTIPROCESSORS) * _TILE_BYTES
    quantized = _Q8_BYTES_PER_VALUE * work.tokens * max(work.quantized_row, work.expert_row) + tiles
    pool = max(quantized, 2.0 * work.tokens * work.float_row)
    libraries = 0
    if not work.flash_attention:
        pool = max(pool, 2.0 * min(work.cells, LONG_PROMPT_TOKENS) * work.tokens * work.heads)
    if not work.flash_attention or work.float_row or work.float_router:
        libraries = _CUBLAS_MIB
    return context_mib(capability) + _WARM_MIB + _REST_MIB + libraries + pool / _MIB
