# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the header of a GGUF file without trusting it.

Layout: the GGUF specification (docs/gguf.md in ggml-org/ggml), versions 2 and 3, little endian.
Nothing that a file claims is believed before it is bounded: memory stays below 1 MiB whatever the file says,
and the work below C(MAX_ARRAY_ITEMS) steps.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

MAX_METADATA_COUNT = 65_536
MAX_TENSOR_COUNT = 1_048_576
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 65_535
MAX_KEPT_TEXT_BYTES = 4_096
MAX_ARRAY_DEPTH = 4
# Vocabularies hold some 300,000 tokens and as many merges; nested or text arrays beyond this are an attack on our time.
MAX_ARRAY_ITEMS = 16_777_216
MAX_BYTES = 2**63 - 1
DEFAULT_ALIGNMENT = 32

_STRING, _ARRAY = 8, 9
# GGUF value type -> struct code (gguf.md, "gguf_metadata_value_type").
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_INTEGER_TYPES = frozenset({0, 1, 2, 3, 4, 5, 10, 11})

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


class GgufError(Exception):
    """The file is no GGUF file that can be used; the message is one sentence that names the file."""


class GgufUnknownTypeError(GgufError):
    """The file holds a tensor type newer than C(TENSOR_TYPES), so that its size cannot be told."""


@dataclass(frozen=True)
class GgufHeader:
    """What the header says; sizes and offsets in bytes from the start of the file.

    C(expected_size_bytes) ends with the last tensor, without the padding after it: the least that a loader needs.
    C(file_type) is the number in C(general.file_type), C(None) where the file has none.
    """

    version: int
    architecture: str
    tensor_count: int
    metadata_count: int
    file_type: int | None
    data_offset: int
    expected_size_bytes: int


def read_header(path: str) -> GgufHeader:
    """Header of the GGUF file at C(path); raises GgufError, or OSError where the file cannot be read."""
    with open(path, "rb", buffering=1 << 18) as stream:
        return _parse(_Reader(stream, path, os.fstat(stream.fileno()).st_size))


def cut_off_message(path: str, header: GgufHeader) -> str | None:
    """One sentence where the file is shorter than its header says, else C(None); raises OSError."""
    size_bytes = os.path.getsize(path)
    if size_bytes >= header.expected_size_bytes:
        return None
    return (
        f"{path} is {size_bytes} bytes, its header describes {header.expected_size_bytes}: "
        "the download was cut off; fetch it again"
    )


class _Reader:
    """Reads forward only, never past the end, and counts array items against one budget for the whole file."""

    def __init__(self, stream: BinaryIO, path: str, size_bytes: int) -> None:
        self.path = path
        self._stream = stream
        self._size_bytes = size_bytes
        self.offset = 0
        self._items_left = MAX_ARRAY_ITEMS

    def fail(self, what: str) -> GgufError:
        return GgufError(
            f"{self.path} is not a usable GGUF file: {what} (near byte {self.offset}); fetch it again "
            "from a source you trust"
        )

    def need(self, count: int) -> None:
        if count > self._size_bytes - self.offset:
            raise GgufError(
                f"{self.path} is {self._size_bytes} bytes and ends inside its header "
                f"({count} bytes wanted at byte {self.offset}): the download was cut off or the header is "
                "damaged; fetch it again"
            )

    def take(self, count: int) -> bytes:
        self.need(count)
        data = self._stream.read(count)
        self.offset += len(data)
        if len(data) != count:
            raise self.fail("it became shorter while it was read")
        return data

    def skip(self, count: int) -> None:
        self.need(count)
        self._stream.seek(count, os.SEEK_CUR)
        self.offset += count

    def spend_items(self, count: int) -> None:
        self._items_left -= count
        if self._items_left < 0:
            raise self.fail(f"its text and nested arrays hold more than {MAX_ARRAY_ITEMS} items")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def name(self, what: str) -> bytes:
        length = self.u64()
        if length > MAX_NAME_BYTES:
            raise self.fail(f"a {what} of {length} bytes, where {MAX_NAME_BYTES} is the most")
        return self.take(length)


def _parse(reader: _Reader) -> GgufHeader:
    version = _read_version(reader)
    tensor_count, metadata_count = reader.u64(), reader.u64()
    limits = ((tensor_count, MAX_TENSOR_COUNT, "tensors"), (metadata_count, MAX_METADATA_COUNT, "keys"))
    for count, most, what in limits:
        if count > most:
            raise reader.fail(f"it claims {count} {what}, where {most} is the most")
    alignment, architecture, file_type = _read_metadata(reader, metadata_count)
    data_end_bytes = _read_tensors(reader, tensor_count, alignment)
    data_offset = reader.offset
    if tensor_count:
        data_offset += -data_offset % alignment
    expected_size_bytes = data_offset + data_end_bytes
    if expected_size_bytes > MAX_BYTES:
        raise reader.fail("its tensors end beyond any file")
    return GgufHeader(version, architecture, tensor_count, metadata_count, file_type, data_offset, expected_size_bytes)


def _read_version(reader: _Reader) -> int:
    magic = reader.take(4) if reader._size_bytes >= 4 else b""
    if magic != b"GGUF":
        raise GgufError(
            f"{reader.path} is not a GGUF file (it begins with {magic!r}, not b'GGUF'); "
            "give the path of a .gguf model file"
        )
    version = reader.u32()
    if version in (2, 3):
        return version
    hint = "convert it with a current tool"
    if version & 0xFFFF == 0:
        hint = "it is big endian, fetch the little endian one"
    raise GgufError(f"{reader.path} is GGUF version {version}, and only versions 2 and 3 can be used: {hint}")


def _read_metadata(reader: _Reader, count: int) -> tuple[int, str, int | None]:
    """Alignment in bytes, architecture ("" where absent), general.file_type."""
    alignment, architecture, file_type = DEFAULT_ALIGNMENT, "", None
    for _index in range(count):
        key = reader.name("key")
        value_type = reader.u32()
        if key == b"general.architecture":
            architecture = _read_text(reader, value_type)
        elif key == b"general.alignment":
            alignment = _read_integer(reader, value_type, "general.alignment")
            if alignment < 1 or alignment > 1 << 20 or alignment & (alignment - 1):
                raise reader.fail(f"general.alignment is {alignment}, not a power of two up to 1 MiB")
        elif key == b"general.file_type":
            file_type = _read_integer(reader, value_type, "general.file_type")
        else:
            _skip_value(reader, value_type, 0)
    return alignment, architecture, file_type


def _read_text(reader: _Reader, value_type: int) -> str:
    if value_type != _STRING:
        raise reader.fail(f"general.architecture has type {value_type}, not text")
    length = reader.u64()
    if length > MAX_KEPT_TEXT_BYTES:
        raise reader.fail(f"general.architecture is {length} bytes long")
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise reader.fail("general.architecture is not UTF-8") from exc


def _read_integer(reader: _Reader, value_type: int, key: str) -> int:
    if value_type not in _INTEGER_TYPES:
        raise reader.fail(f"{key} has type {value_type}, not a whole number")
    code = "<" + _SCALARS[value_type]
    return int(struct.unpack(code, reader.take(struct.calcsize(code)))[0])


def _skip_value(reader: _Reader, value_type: int, depth: int) -> None:
    if value_type == _STRING:
        reader.skip(reader.u64())
    elif value_type == _ARRAY:
        _skip_array(reader, depth + 1)
    elif value_type in _SCALARS:
        reader.skip(struct.calcsize("<" + _SCALARS[value_type]))
    else:
        raise reader.fail(f"unknown value type {value_type}")


def _skip_array(reader: _Reader, depth: int) -> None:
    if depth > MAX_ARRAY_DEPTH:
        raise reader.fail(f"arrays nested deeper than {MAX_ARRAY_DEPTH}")
    item_type, count = reader.u32(), reader.u64()
    if item_type in _SCALARS:
        reader.skip(count * struct.calcsize("<" + _SCALARS[item_type]))
        return
    # A text item has at least its length (8 bytes), a nested array its type and count (12).
    reader.need(count * 8)
    reader.spend_items(count)
    for _index in range(count):
        _skip_value(reader, item_type, depth)


def _read_tensors(reader: _Reader, count: int, alignment: int) -> int:
    """End of the last tensor in bytes from the start of the data."""
    data_end_bytes = 0
    for _index in range(count):
        name = reader.name("tensor name").decode("utf-8", "replace")
        dimension_count = reader.u32()
        if dimension_count > MAX_DIMENSIONS:
            raise reader.fail(
                f"tensor {name[:64]!r} has {dimension_count} dimensions, where {MAX_DIMENSIONS} is the most"
            )
        shape = [reader.u64() for _dimension in range(dimension_count)]
        size_bytes = _tensor_size_bytes(reader, name, shape, reader.u32())
        offset = reader.u64()
        if offset % alignment or offset > MAX_BYTES:
            raise reader.fail(f"tensor {name[:64]!r} begins at {offset}, which is no multiple of {alignment}")
        data_end_bytes = max(data_end_bytes, offset + size_bytes)
    return data_end_bytes


def _tensor_size_bytes(reader: _Reader, name: str, shape: list[int], type_id: int) -> int:
    if type_id not in TENSOR_TYPES:
        raise GgufUnknownTypeError(
            f"{reader.path}: tensor {name[:64]!r} has type {type_id}, which this release of "
            "baremetal.llm does not know; update the collection"
        )
    type_name, block_elements, block_bytes = TENSOR_TYPES[type_id]
    row_elements = shape[0] if shape else 1
    if row_elements % block_elements:
        raise reader.fail(
            f"tensor {name[:64]!r} has rows of {row_elements} elements, no multiple of {block_elements} "
            f"as {type_name} needs"
        )
    elements = 1
    for extent in shape:
        elements *= extent
    size_bytes = elements // block_elements * block_bytes
    if size_bytes > MAX_BYTES:
        raise reader.fail(f"tensor {name[:64]!r} claims {size_bytes} bytes")
    return size_bytes
