# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""10,000 damaged headers: each is refused in a sentence or gives a model whose numbers agree, in little memory.

The damage comes from a fixed seed; a failure names the number of the case, which alone makes it again.
"""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
from typing import Callable

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import TENSOR_TYPES
from ansible_collections.baremetal.llm.tests.unit import gguf_builder as build

CASES = 10_000
SEED = 20_261_122
PARTS = 10
BLOCKS = {name: (elements, size) for name, elements, size in TENSOR_TYPES.values()}


def originals() -> list[bytes]:
    """Headers without data, which no reader of headers looks at."""
    dense, tied, moe = build.dense(), build.dense(layers=1, tokens=300, tied=True), build.moe()
    aligned = ({"general.alignment": build.u32(128), **dense[0]}, dense[1])
    split = {"split.count": build.u16(2), "split.no": build.u16(1), "split.tensors.count": build.u32(30)}
    nested = build.array(9, [build.texts(["a", "bc"])[4:], build.numbers("i", [1, 2])[4:]])
    odd = {"general.architecture": build.text("odd"), "odd.deep": nested, "odd.off": build.boolean(False)}
    return [
        build.build_gguf(*dense, data=False),
        build.build_gguf(*tied, data=False),
        build.build_gguf(*moe, data=False),
        build.build_gguf(*aligned, alignment=128, data=False),
        build.build_gguf({**moe[0], **split}, moe[1], data=False),
        build.build_gguf({**odd, "odd.long": build.text("t" * 5000)}, [("a", [7], 0)], data=False),
    ]


ORIGINALS = originals()
NOISE = random.Random(SEED).randbytes(20_000)
SPLICED = (0, 1, 2, 5, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def _flip(data: bytearray, chance: random.Random) -> None:
    for _time in range(chance.choice((1, 1, 2, 8, 40))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _splice(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) - 8)
    data[at : at + 8] = struct.pack("<Q", chance.choice(SPLICED))


def _counts(data: bytearray, chance: random.Random) -> None:
    at = chance.choice((8, 16))
    count = struct.unpack_from("<Q", data, at)[0]
    data[at : at + 8] = struct.pack("<Q", max(0, count + chance.choice((-1, 1, 1 << 10, 1 << 20, 1 << 62))))


def _slice(data: bytearray, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(8, len(data))
    return begin, min(len(data), begin + chance.choice((1, 4, 8, 40, 200, 1000)))


def _duplicate(data: bytearray, chance: random.Random) -> None:
    begin, end = _slice(data, chance)
    data[begin:begin] = data[begin:end]


def _remove(data: bytearray, chance: random.Random) -> None:
    begin, end = _slice(data, chance)
    del data[begin:end]


def _swap(data: bytearray, chance: random.Random) -> None:
    first, second = sorted((_slice(data, chance), _slice(data, chance)))
    if first[1] <= second[0]:
        data[first[0] : second[1]] = (
            data[second[0] : second[1]] + data[first[1] : second[0]] + data[first[0] : first[1]]
        )


def _inflate(data: bytearray, chance: random.Random) -> None:
    """Make a number larger that looks like a length, a count or an extent."""
    found = [at for at in range(24, len(data) - 8) if data[at] and not any(data[at + 1 : at + 8])]
    if found:
        at = chance.choice(found)
        data[at + chance.choice((0, 1, 2, 4, 7))] = chance.choice((1, 2, 127, 255))


def _tail(data: bytearray, chance: random.Random) -> None:
    """Damage the end, where the tensors are, which the vocabulary otherwise hides by its length."""
    at = len(data) - 1 - chance.randrange(min(len(data), 800))
    data[at] = chance.randrange(256)


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _truncate,
    _splice,
    _counts,
    _duplicate,
    _remove,
    _swap,
    _inflate,
    _tail,
)


def damaged(case: int) -> bytes:
    chance = random.Random(SEED + case)
    data = bytearray(chance.choice(ORIGINALS))
    for _time in range(chance.choice((1, 1, 1, 2, 3))):
        if len(data) > 32:
            chance.choice(DAMAGES)(data, chance)
    # With something after it, a header that claims too much runs on into it instead of off the end.
    return bytes(data) + chance.choice((b"", b"", bytes(20_000), NOISE))


def check_numbers(model: gguf.GgufModel) -> None:
    """Every number that a plan would use, computed once more from dimensions, types and offsets."""
    end_bytes, elements_in_all, taken = 0, 0, []
    for tensor in model.tensors:
        elements = 1
        for extent in tensor.dimensions:
            elements *= extent
        per_block, block_bytes = BLOCKS[tensor.type_name]
        assert (tensor.dimensions or (1,))[0] % per_block == 0
        assert tensor.size_bytes == elements * block_bytes // per_block < 2**63
        assert 0 <= tensor.offset_bytes < 2**63
        elements_in_all += elements
        end_bytes = max(end_bytes, tensor.offset_bytes + tensor.size_bytes)
        if tensor.size_bytes:
            taken.append((tensor.offset_bytes, tensor.offset_bytes + tensor.size_bytes))
    taken.sort()
    assert all(first[1] <= second[0] for first, second in zip(taken, taken[1:]))
    assert len({tensor.name for tensor in model.tensors}) == len(model.tensors)
    assert model.expected_size_bytes == model.data_offset_bytes + end_bytes < 2**63
    assert model.parameter_count == elements_in_all
    size_bytes = sum(end - begin for begin, end in taken)
    assert sum(model.bytes_by_type().values()) == sum(model.bytes_by_class().values()) == size_bytes
    info = json.loads(json.dumps(model.to_info(), allow_nan=False))
    assert gguf.GgufModel.from_info(info) == model


def outcome(case: int) -> bool:
    """Whether the header was accepted; anything but an answer or a refusal fails the test."""
    data = damaged(case)
    try:
        model = gguf.read_model(io.BytesIO(data), "m.gguf")
    except gguf.GgufError as refusal:
        message = str(refusal)
        assert message.startswith("m.gguf") and "\n" not in message and len(message) < 500, (case, message)
        return False
    except Exception as trap:
        raise AssertionError(f"case {case} raised {trap!r}") from trap
    try:
        check_numbers(model)
    except Exception as wrong:
        raise AssertionError(f"case {case} gives numbers that do not agree") from wrong
    return True


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_headers_are_refused_or_agree(part: int) -> None:
    accepted = sum(outcome(case) for case in range(part, CASES, PARTS))
    # Damage that is always or never noticed would test one of the two ways only.
    assert CASES // PARTS // 10 < accepted < CASES // PARTS * 9 // 10


def test_the_undamaged_headers_are_accepted() -> None:
    for data in ORIGINALS:
        check_numbers(gguf.read_model(io.BytesIO(data)))


def test_damage_costs_little_memory() -> None:
    worst_bytes = 0
    for case in range(0, CASES, 25):
        stream = io.BytesIO(damaged(case))
        tracemalloc.start()
        try:
            gguf.read_model(stream, "m.gguf")
        except gguf.GgufError:
            pass
        worst_bytes = max(worst_bytes, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The files have up to 40 KB; what they claim has up to 2^64 bytes.
    assert worst_bytes < 1 << 18
