# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process takes on a GPU beyond llama.cpp's buffers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.overhead import Work, context_mib, overhead_mib

WORK = Work(512, 4096, 0, 0, False, 32, 8192, True)
HOPPER = (9, 0)


@pytest.mark.parametrize(
    ("capability", "size_mib"),
    [((7, 5), 451), ((8, 0), 451), ((8, 9), 451), ((9, 0), 526), ((10, 0), 560), ((12, 0), 560), (None, 560)],
)
def test_context_by_generation(capability: tuple[int, int] | None, size_mib: int) -> None:
    assert context_mib(capability) == size_mib


def test_pool_of_quantized_products() -> None:
    # 36 bytes for 32 values of 512 rows of 4096, and 128 * 128 floats for each of 132 multiprocessors.
    pool_mib = 36 / 32 * 512 * 4096 / 2**20 + 132 * 4 * 128 * 128 / 2**20
    assert overhead_mib(HOPPER, 132, WORK) == pytest.approx(526 + 72 + 4 + pool_mib)
    assert overhead_mib(HOPPER, None, WORK) == overhead_mib(HOPPER, 132, WORK)
    assert overhead_mib(HOPPER, 66, WORK) < overhead_mib(HOPPER, 132, WORK)


def test_the_widest_product_counts() -> None:
    assert overhead_mib(HOPPER, 132, replace(WORK, expert_row=4000)) == overhead_mib(HOPPER, 132, WORK)
    assert overhead_mib(HOPPER, 132, replace(WORK, expert_row=8192)) > overhead_mib(HOPPER, 132, WORK)


def test_floating_point_matrices_and_attention_without_its_kernel_load_a_library() -> None:
    plain = overhead_mib(HOPPER, 132, WORK)
    assert overhead_mib(HOPPER, 132, replace(WORK, float_router=True)) == plain + 97
    assert overhead_mib(HOPPER, 132, replace(WORK, float_row=1)) == plain + 97
    # 16-bit scores of 2048 cells, 512 tokens and 32 heads are 64 MiB, more than the pool of 2.25 + 8.25.
    assert overhead_mib(HOPPER, 132, replace(WORK, flash_attention=False)) == pytest.approx(
        plain - 2.25 - 8.25 + 97 + 64
    )


def test_wide_16_bit_rows_need_a_copy() -> None:
    wide = overhead_mib(HOPPER, 132, replace(WORK, float_row=65536))
    assert wide == pytest.approx(526 + 72 + 4 + 97 + 64)
