# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tensor types of ggml and the mixes of them that llama-quantize writes: names, numbers, block sizes."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, unknown

# ggml type id -> (name, elements in a block, bytes of a block).
# Source: block_* structs of ggml/src/ggml-common.h and GGML_QUANT_SIZES of gguf-py/gguf/constants.py in
# ggml-org/llama.cpp, build 11095 (2026-11).
# Ids 4, 5, 31-33 and 36-38 were taken back upstream and stand in no current file.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}

# Number in general.file_type -> name of the mix, as llama-quantize prints it.
# Source: enum llama_ftype of include/llama.h and QUANT_OPTIONS of tools/quantize/quantize.cpp in ggml-org/llama.cpp,
# build 11095; NVFP4 stands in the enum only. Ids 4, 5, 6 and 33-35 were taken back upstream.
FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}


@dataclass(frozen=True)
class GgmlType:
    """One tensor type: C(block_elements) values of a row take C(block_bytes) bytes."""

    name: str
    type_id: int
    block_elements: int
    block_bytes: int


BY_NAME: dict[str, GgmlType] = {
    row[0]: GgmlType(row[0], type_id, row[1], row[2]) for type_id, row in TENSOR_TYPES.items()
}


def row_bytes(type_name: str, elements: int) -> int:
    """Bytes of a row, or of whole rows, of C(elements) values; raises SizingError where they are no whole blocks."""
    if type_name not in BY_NAME:
        raise unknown("tensor type", type_name, BY_NAME)
    kind = BY_NAME[type_name]
    if elements < 0 or elements % kind.block_elements:
        raise SizingError(
            f"{elements} elements are no whole blocks of {type_name}: give a multiple of {kind.block_elements}"
        )
    return elements // kind.block_elements * kind.block_bytes
