# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes small GGUF files, straight from the specification; only the block sizes come from the table under test."""

from __future__ import annotations

import struct

Tensor = tuple[str, list[int], int]


def text(value: str) -> bytes:
    """A metadata value of type text, with its type in the first four bytes."""
    raw = value.encode()
    return struct.pack("<IQ", 8, len(raw)) + raw


def u32(value: int) -> bytes:
    """A metadata value of type unsigned 32 bit."""
    return struct.pack("<II", 4, value)


def array(item_type: int, items: list[bytes]) -> bytes:
    """A metadata value of type array; the items come without their type."""
    return struct.pack("<IIQ", 9, item_type, len(items)) + b"".join(items)


def build_gguf(metadata: dict[str, bytes], tensors: list[Tensor], alignment: int = 32, check: bool = True) -> bytes:
    """A file whose last tensor ends at its end; with check=False tensors have no data, so that they may be absurd."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += struct.pack("<Q", len(key)) + key.encode() + value
    data = b""
    for name, shape, type_id in tensors:
        data += bytes(-len(data) % alignment)
        head += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", extent) for extent in shape) + struct.pack("<IQ", type_id, len(data))
        if check:
            data += bytes(_size_bytes(shape, type_id))
    return head + (bytes(-len(head) % alignment) + data if data else b"")


def _size_bytes(shape: list[int], type_id: int) -> int:
    from ansible_collections.baremetal.llm.plugins.module_utils.gguf import TENSOR_TYPES

    _name, block_elements, block_bytes = TENSOR_TYPES[type_id]
    elements = 1
    for extent in shape:
        elements *= extent
    return elements // block_elements * block_bytes
