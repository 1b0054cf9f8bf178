# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the header of a GGUF file, from a disk or through HTTP, without trusting it.

Layout: the GGUF specification (docs/gguf.md in ggml-org/ggml), versions 2 and 3, little endian.
Nothing that a file claims is believed before it is bounded: what is kept stays below C(MAX_KEPT_BYTES), what is read
at once below C(WINDOW_BYTES) and one name, and the work below C(MAX_ARRAY_ITEMS) steps.
"""

from __future__ import annotations

import codecs
import http.client
import math
import os
import re
import socket
import ssl
import struct
from dataclasses import dataclass
from itertools import repeat
from operator import length_hint
from typing import Any, BinaryIO, Dict, Iterable, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible_collections.baremetal.llm.plugins.module_utils.download import USER_AGENT, OpenHttp, public_url
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys, unknown
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import (
    BY_NAME,
    FILE_TYPES,
    TENSOR_TYPES,
    row_bytes,
)

MAX_METADATA_COUNT = 65_536
MAX_TENSOR_COUNT = 1_048_576
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 65_535
MAX_KEPT_TEXT_BYTES = 4_096
# Values per layer (head counts, sliding windows) are kept; no model has a thousand layers.
MAX_KEPT_ITEMS = 1_024
MAX_ARRAY_DEPTH = 4
# Vocabularies hold some 300,000 tokens and as many merges; nested or text arrays beyond this are an attack on our time.
MAX_ARRAY_ITEMS = 16_777_216
# What Python needs to keep names, values and tensors. The largest models have some 3,000 tensors, less than 2 MiB.
MAX_KEPT_BYTES = 64 << 20
MAX_BYTES = 2**63 - 1
DEFAULT_ALIGNMENT = 32
WINDOW_BYTES = 1 << 18

# Measured sizes of Python objects, rounded up; a name or text adds its own length.
_TENSOR_COST_BYTES, _KEY_COST_BYTES, _ITEM_COST_BYTES = 768, 256, 48

_STRING, _ARRAY = 8, 9
# GGUF value type -> struct code (gguf.md, "gguf_metadata_value_type").
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_INTEGER_TYPES = frozenset({0, 1, 2, 3, 4, 5, 10, 11})
VALUE_TYPES: Dict[int, str] = {
    0: "uint8",
    1: "int8",
    2: "uint16",
    3: "int16",
    4: "uint32",
    5: "int32",
    6: "float32",
    7: "bool",
    8: "string",
    9: "array",
    10: "uint64",
    11: "int64",
    12: "float64",
}
_INTEGER_KEYS = frozenset(
    {"general.alignment", "general.file_type", "split.count", "split.no", "split.tensors.count"},
)
_CHAT_TEMPLATE = "tokenizer.chat_template"
_TOKENS = "tokenizer.ggml.tokens"
# Set in general.file_type by llama.cpp where it guessed the mix (LLAMA_FTYPE_GUESSED).
_GUESSED = 1024

DEVICE_CLASSES = ("input", "layer", "expert", "output")
# Tensors of LLM_TENSOR_LAYER_INPUT in src/llama-arch.cpp of ggml-org/llama.cpp, which src/llama-model.cpp always leaves
# to the processor ("very little benefit to offloading the input layer").
_INPUT = re.compile(r"(?:token_embd|per_layer_token_embd|position_embd|token_types)\.")
# A longer number is no layer of any model, and Python refuses to read numbers of thousands of digits.
_LAYER = re.compile(r"blk\.([0-9]{1,6})\.")
# LLM_FFN_EXPS_REGEX of common/common.h in ggml-org/llama.cpp.
_EXPERT = re.compile(r"blk\.[0-9]{1,6}\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps")


class GgufError(Exception):
    """The file is no GGUF file that can be used; the message is one sentence that names the file."""


class GgufUnknownTypeError(GgufError):
    """The file holds a tensor type newer than C(TENSOR_TYPES), so that its size cannot be told."""


class _FlawError(Exception):
    """What is wrong with a model, as half a sentence; whoever knows where it came from says the rest."""


@dataclass(frozen=True)
class GgufArray:
    """An array whose items were not kept: the name of their type as in C(VALUE_TYPES), and how many there are."""

    item_type: str
    count: int


@dataclass(frozen=True)
class GgufText:
    """A text longer than C(MAX_KEPT_TEXT_BYTES): its beginning (nothing of a chat template) and its whole length."""

    text: str
    size_bytes: int


Scalar = Union[None, bool, int, float, str]
# None stands for a number that is not finite.
Value = Union[Scalar, Tuple[Scalar, ...], GgufArray, GgufText]


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


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: dimensions in ggml's order (row length first), C(offset_bytes) from the start of the data.

    C(device_class) says where llama.cpp can put it: C(input) stays in main memory, C(layer) goes with its C(layer),
    C(expert) too or to main memory alone, C(output) counts as the layer after the last.
    """

    name: str
    dimensions: Tuple[int, ...]
    type_name: str
    offset_bytes: int
    size_bytes: int
    device_class: str
    layer: int | None

    @property
    def elements(self) -> int:
        return math.prod(self.dimensions)


@dataclass(frozen=True)
class GgufSplit:
    """This file is part C(number), counted from 0, of C(count); all parts together hold C(tensor_count) tensors."""

    count: int
    number: int
    tensor_count: int | None


@dataclass(frozen=True)
class GgufModel:
    """A header with its metadata and tensors; C(data_offset_bytes) is where the data of the tensors begins."""

    version: int
    architecture: str
    metadata: Mapping[str, Value]
    tensors: Tuple[GgufTensor, ...]
    data_offset_bytes: int
    expected_size_bytes: int

    @property
    def header(self) -> GgufHeader:
        return GgufHeader(
            self.version,
            self.architecture,
            len(self.tensors),
            len(self.metadata),
            self.file_type,
            self.data_offset_bytes,
            self.expected_size_bytes,
        )

    @property
    def name(self) -> str | None:
        found = self.metadata.get("general.name")
        return found if isinstance(found, str) else None

    @property
    def file_type(self) -> int | None:
        found = self.metadata.get("general.file_type")
        return found if isinstance(found, int) else None

    @property
    def quantization(self) -> str | None:
        """Name of the mix as llama-quantize prints it, C(None) where the file does not say or the number is new."""
        return None if self.file_type is None else FILE_TYPES.get(self.file_type & ~_GUESSED)

    @property
    def parameter_count(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def split(self) -> GgufSplit | None:
        """C(None) for a file that holds the whole model."""
        return _split_of(self.metadata)

    @property
    def tied_embeddings(self) -> bool | None:
        """Whether the token embeddings serve as output too; C(None) where another part may hold the output."""
        if any(tensor.name == "output.weight" for tensor in self.tensors):
            return False
        return None if self.split else True

    @property
    def vocab_size(self) -> int | None:
        tokens = self.metadata.get(_TOKENS)
        if isinstance(tokens, GgufArray):
            return tokens.count
        for tensor in self.tensors:
            if tensor.name == "token_embd.weight" and len(tensor.dimensions) > 1:
                return tensor.dimensions[1]
        return None

    def shape(self) -> Dict[str, Value]:
        """The architecture's own keys without its prefix (like C(attention.head_count)), and three more.

        C(architecture); C(vocab_size), the number of tokens, else the rows of the embeddings, else what the
        architecture's key of that name says; C(tied_embeddings), see the property. Values are single ones, or tuples
        where a key has one value a layer; other arrays are left out.
        """
        prefix = self.architecture + "."
        found: Dict[str, Value] = {
            key[len(prefix) :]: value
            for key, value in self.metadata.items()
            if self.architecture and key.startswith(prefix) and not isinstance(value, (GgufArray, GgufText))
        }
        found["architecture"] = self.architecture
        vocab_size = self.vocab_size
        found["vocab_size"] = found.get("vocab_size") if vocab_size is None else vocab_size
        found["tied_embeddings"] = self.tied_embeddings
        return found

    def bytes_by_type(self) -> Dict[str, int]:
        """Bytes of the tensors of each type that occurs, without padding."""
        return _sums((tensor.type_name, tensor.size_bytes) for tensor in self.tensors)

    def bytes_by_class(self) -> Dict[str, int]:
        """Bytes of the tensors of each device class, without padding; all classes are there."""
        found = _sums((tensor.device_class, tensor.size_bytes) for tensor in self.tensors)
        return {name: found.get(name, 0) for name in DEVICE_CLASSES}

    def to_info(
        self,
        path: str | None = None,
        url: str | None = None,
        file_size_bytes: int | None = None,
        tensors: bool = True,
    ) -> Dict[str, Any]:
        """The model as plain JSON types, as the module gguf_info returns it; C(from_info) reads it back."""
        return {
            "path": path,
            "url": url,
            "version": self.version,
            "architecture": self.architecture,
            "name": self.name,
            "quantization": self.quantization,
            "file_type": self.file_type,
            "parameter_count": self.parameter_count,
            "file_size_bytes": file_size_bytes,
            "expected_size_bytes": self.expected_size_bytes,
            "data_offset_bytes": self.data_offset_bytes,
            "complete": None if file_size_bytes is None else file_size_bytes >= self.expected_size_bytes,
            "split": None if self.split is None else dict(vars(self.split)),
            "metadata": {key: _plain(value) for key, value in self.metadata.items()},
            "shape": {key: _plain(value) for key, value in self.shape().items()},
            "tensors": [_plain_tensor(tensor) for tensor in self.tensors] if tensors else None,
            "bytes_by_type": self.bytes_by_type(),
            "bytes_by_class": self.bytes_by_class(),
        }

    @classmethod
    def from_info(cls, info: Mapping[str, Any], where: str = "gguf") -> GgufModel:
        """The model that C(to_info) described, also after a round trip through JSON.

        C(where) names the mapping in messages. Raises SizingError for whatever could not come from C(to_info): unknown
        keys, wrong types, tensors whose size is not that of their dimensions and type, tensors that overlap.
        """
        return _InfoReader(where).model(info)


def read_header(path: str) -> GgufHeader:
    """Header of the GGUF file at C(path); raises GgufError, or OSError where the file cannot be read."""
    return read_model(path).header


def read_model(source: str | BinaryIO, name: str = "", size_bytes: int | None = None) -> GgufModel:
    """Metadata and tensors of a GGUF file; raises GgufError, or OSError where it cannot be read.

    C(source) is a path, or a stream that stands at the beginning of the file; C(name) names a stream in messages.
    C(size_bytes) is the size of a stream that cannot seek, if it is known.
    """
    if isinstance(source, str):
        # The reader has its own buffer, which lets it look at many items in one piece.
        with open(source, "rb", buffering=0) as stream:
            return _parse(_Reader(stream, source, os.fstat(stream.fileno()).st_size))
    if size_bytes is None and source.seekable():
        begin = source.tell()
        size_bytes = source.seek(0, os.SEEK_END) - begin
        source.seek(begin)
    return _parse(_Reader(source, name or "the stream", size_bytes))


def cut_off_message(path: str, header: GgufHeader) -> str | None:
    """One sentence where the file is shorter than its header says, else C(None); raises OSError."""
    size_bytes = os.path.getsize(path)
    if size_bytes >= header.expected_size_bytes:
        return None
    return (
        f"{path} is {size_bytes} bytes, its header describes {header.expected_size_bytes}: "
        "the download was cut off; fetch it again"
    )


def split_advice(name: str, split: Mapping[str, Any] | None) -> str | None:
    """One sentence for C(name) with the C(split) of C(to_info), C(None) where the file is the whole model."""
    if split is None:
        return None
    return (
        f"{name} is part {split['number'] + 1} of {split['count']} of a model, and the sizes are those of this part "
        f"alone: read the other {split['count'] - 1} too, and give a loader the first one"
    )


def _sums(pairs: Iterable[Tuple[str, int]]) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for key, size_bytes in pairs:
        found[key] = found.get(key, 0) + size_bytes
    return found


def _plain(value: Value) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(vars(value)) if isinstance(value, (GgufArray, GgufText)) else value


def _plain_tensor(tensor: GgufTensor) -> Dict[str, Any]:
    return {
        "name": tensor.name,
        "dimensions": list(tensor.dimensions),
        "type": tensor.type_name,
        "offset_bytes": tensor.offset_bytes,
        "size_bytes": tensor.size_bytes,
        "device_class": tensor.device_class,
        "layer": tensor.layer,
    }


# Rules that hold wherever a model comes from


def _classify(name: str) -> Tuple[str, int | None]:
    """Device class and layer of a tensor."""
    layer = _LAYER.match(name)
    if layer is None:
        return ("input" if _INPUT.match(name) else "output"), None
    return ("expert" if _EXPERT.match(name) else "layer"), int(layer.group(1))


def _make_tensor(
    name: str, dimensions: Tuple[int, ...], type_name: str, offset_bytes: int, alignment: int
) -> GgufTensor:
    """The tensor with the size that follows from dimensions and type; raises _FlawError."""
    label = f"tensor {name[:64]!r}"
    if any(extent > MAX_BYTES for extent in dimensions):
        raise _FlawError(f"{label} claims {max(dimensions)} elements in one dimension")
    kind = BY_NAME[type_name]
    row_elements = dimensions[0] if dimensions else 1
    if row_elements % kind.block_elements:
        raise _FlawError(
            f"{label} has rows of {row_elements} elements, no multiple of {kind.block_elements} as {type_name} needs"
        )
    size_bytes = row_bytes(type_name, math.prod(dimensions))
    if size_bytes > MAX_BYTES:
        raise _FlawError(f"{label} claims {size_bytes} bytes")
    if offset_bytes % alignment or offset_bytes > MAX_BYTES:
        raise _FlawError(f"{label} begins at {offset_bytes}, which is no multiple of {alignment}")
    device_class, layer = _classify(name)
    return GgufTensor(name, dimensions, type_name, offset_bytes, size_bytes, device_class, layer)


def _data_end_bytes(tensors: Sequence[GgufTensor]) -> int:
    """End of the last tensor in bytes from the start of the data; raises _FlawError where two tensors overlap."""
    end_bytes, last = 0, ""
    for tensor in sorted(tensors, key=lambda each: each.offset_bytes):
        if tensor.size_bytes and tensor.offset_bytes < end_bytes:
            raise _FlawError(f"tensor {tensor.name[:64]!r} begins inside tensor {last[:64]!r}")
        if tensor.offset_bytes + tensor.size_bytes >= end_bytes:
            end_bytes, last = tensor.offset_bytes + tensor.size_bytes, tensor.name
    return end_bytes


def _expected_size_bytes(data_offset_bytes: int, tensors: Sequence[GgufTensor]) -> int:
    size_bytes = data_offset_bytes + _data_end_bytes(tensors)
    if size_bytes > MAX_BYTES:
        raise _FlawError("its tensors end beyond any file")
    return size_bytes


def _whole(metadata: Mapping[str, Value], key: str) -> int | None:
    """The whole number at C(key), C(None) where there is none; raises _FlawError for anything else."""
    found = metadata.get(key)
    if key in metadata and (not isinstance(found, int) or isinstance(found, bool)):
        raise _FlawError(f"{key} is not a whole number")
    return found if isinstance(found, int) else None


def _alignment_of(metadata: Mapping[str, Value]) -> int:
    alignment = _whole(metadata, "general.alignment")
    if alignment is None:
        return DEFAULT_ALIGNMENT
    if alignment < 1 or alignment > 1 << 20 or alignment & (alignment - 1):
        raise _FlawError(f"general.alignment is {alignment}, not a power of two up to 1 MiB")
    return alignment


def _split_of(metadata: Mapping[str, Value]) -> GgufSplit | None:
    count, number = _whole(metadata, "split.count"), _whole(metadata, "split.no")
    tensor_count = _whole(metadata, "split.tensors.count")
    if count is None or count in (0, 1):
        return None
    if number is None or not 0 <= number < count or (tensor_count is not None and tensor_count < 0):
        raise _FlawError(f"it claims to be part {number} of {count}, counted from 0")
    return GgufSplit(count, number, tensor_count)


# Reading the file


class _Reader:
    """Reads forward only, never past the end, and counts what is kept and skipped against budgets for the whole file.

    C(size_bytes) is None for a stream of unknown length.
    """

    def __init__(self, stream: Any, path: str, size_bytes: int | None) -> None:
        self.path = path
        self._stream = stream
        self.size_bytes = size_bytes
        self._window = b""
        self._at = 0
        self._window_offset = 0
        self._items_left = MAX_ARRAY_ITEMS
        self._kept_left_bytes = MAX_KEPT_BYTES

    @property
    def offset(self) -> int:
        return self._window_offset + self._at

    def fail(self, what: str) -> GgufError:
        return GgufError(
            f"{self.path} is not a usable GGUF file: {what} (near byte {self.offset}); fetch it again "
            "from a source you trust"
        )

    def _cut_off(self, count: int, size_bytes: int) -> GgufError:
        return GgufError(
            f"{self.path} is {size_bytes} bytes and ends inside its header "
            f"({count} bytes wanted at byte {self.offset}): the download was cut off or the header is "
            "damaged; fetch it again"
        )

    def need(self, count: int) -> None:
        if self.size_bytes is not None and count > self.size_bytes - self.offset:
            raise self._cut_off(count, self.size_bytes)

    def _ended(self, count: int) -> GgufError:
        if self.size_bytes is None:
            return self._cut_off(count, self._window_offset + len(self._window))
        return self.fail("it became shorter while it was read")

    def _fill(self, count: int) -> None:
        """Let the window hold C(count) bytes from here."""
        self.need(count)
        self._window_offset, self._window, self._at = self.offset, self._window[self._at :], 0
        while len(self._window) < count:
            more = self._stream.read(WINDOW_BYTES)
            if not more:
                raise self._ended(count)
            self._window += more

    def take(self, count: int) -> bytes:
        if count > len(self._window) - self._at:
            self._fill(count)
        begin, self._at = self._at, self._at + count
        return self._window[begin : self._at]

    def skip(self, count: int) -> None:
        self.need(count)
        if self._at + count <= len(self._window):
            self._at += count
            return
        left = count - (len(self._window) - self._at)
        if self._stream.seekable():
            self._stream.seek(left, os.SEEK_CUR)
        else:
            self._drain(left)
        self._window_offset, self._window, self._at = self.offset + count, b"", 0

    def _drain(self, left: int) -> None:
        while left:
            dropped = self._stream.read(min(left, WINDOW_BYTES))
            if not dropped:
                raise self._ended(left)
            left -= len(dropped)

    def skip_texts(self, count: int) -> None:
        """Go past C(count) texts, each a length of eight bytes and so many bytes."""
        unpack = struct.Struct("<Q").unpack_from
        left = count
        while left:
            if len(self._window) - self._at < 8:
                self._fill(8)
            window, at, steps = self._window, self._at, repeat(None, left)
            # Reading one length at a time through take() needs several times as long, and vocabularies are long.
            try:
                for _step in steps:
                    (length,) = unpack(window, at)
                    at += 8 + length
                left = 0
            except (struct.error, OverflowError):
                left = length_hint(steps) + 1
            self.skip(at - self._at)

    def spend_items(self, count: int) -> None:
        self._items_left -= count
        if self._items_left < 0:
            raise self.fail(f"its text and nested arrays hold more than {MAX_ARRAY_ITEMS} items")

    def keep(self, count_bytes: int) -> None:
        self._kept_left_bytes -= count_bytes
        if self._kept_left_bytes < 0:
            raise self.fail(
                f"its names, values and tensors would take more than {MAX_KEPT_BYTES >> 20} MiB of memory, "
                "which no model needs"
            )

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def name(self, what: str) -> str:
        length = self.u64()
        if length > MAX_NAME_BYTES:
            raise self.fail(f"a {what} of {length} bytes, where {MAX_NAME_BYTES} is the most")
        # A character takes up to four bytes in memory, and one bad byte may become one such character.
        self.keep(4 * length)
        return self.take(length).decode("utf-8", "replace")


def _parse(reader: _Reader) -> GgufModel:
    version = _read_version(reader)
    tensor_count, metadata_count = reader.u64(), reader.u64()
    limits = ((tensor_count, MAX_TENSOR_COUNT, "tensors"), (metadata_count, MAX_METADATA_COUNT, "keys"))
    for count, most, what in limits:
        if count > most:
            raise reader.fail(f"it claims {count} {what}, where {most} is the most")
    metadata = _read_metadata(reader, metadata_count)
    architecture = metadata.get("general.architecture", "")
    try:
        alignment = _alignment_of(metadata)
        _split_of(metadata)
        tensors = _read_tensors(reader, tensor_count, alignment)
        data_offset_bytes = reader.offset
        if tensor_count:
            data_offset_bytes += -data_offset_bytes % alignment
        expected_size_bytes = _expected_size_bytes(data_offset_bytes, tensors)
    except _FlawError as exc:
        raise reader.fail(str(exc)) from exc
    return GgufModel(version, str(architecture), metadata, tensors, data_offset_bytes, expected_size_bytes)


def _read_version(reader: _Reader) -> int:
    short = reader.size_bytes is not None and reader.size_bytes < 4
    magic = b"" if short else reader.take(4)
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


def _read_metadata(reader: _Reader, count: int) -> Dict[str, Value]:
    metadata: Dict[str, Value] = {}
    for _index in range(count):
        reader.keep(_KEY_COST_BYTES)
        key = reader.name("key")
        if key in metadata:
            raise reader.fail(f"key {key[:64]!r} stands there twice")
        value_type = reader.u32()
        if key in _INTEGER_KEYS and value_type not in _INTEGER_TYPES:
            raise reader.fail(f"{key} has type {value_type}, not a whole number")
        if key == "general.architecture":
            metadata[key] = _read_architecture(reader, value_type)
        elif value_type == _STRING:
            metadata[key] = _read_text(reader, key)
        elif value_type == _ARRAY:
            metadata[key] = _read_array(reader)
        elif value_type in _SCALARS:
            metadata[key] = _read_numbers(reader, value_type, 1)[0]
        else:
            raise reader.fail(f"unknown value type {value_type}")
    return metadata


def _read_architecture(reader: _Reader, value_type: int) -> str:
    if value_type != _STRING:
        raise reader.fail(f"general.architecture has type {value_type}, not text")
    length = reader.u64()
    if length > MAX_KEPT_TEXT_BYTES:
        raise reader.fail(f"general.architecture is {length} bytes long")
    reader.keep(length)
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise reader.fail("general.architecture is not UTF-8") from exc


def _read_text(reader: _Reader, key: str) -> str | GgufText:
    length = reader.u64()
    # Before anything is kept: a length beyond the file is the clearer complaint.
    reader.need(length)
    if length <= MAX_KEPT_TEXT_BYTES:
        reader.keep(4 * length)
        return reader.take(length).decode("utf-8", "replace")
    kept = 0 if key == _CHAT_TEMPLATE or key.startswith(_CHAT_TEMPLATE + ".") else MAX_KEPT_TEXT_BYTES
    reader.keep(4 * kept)
    # Not final: a character that the cut went through is left out.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(reader.take(kept), final=False)
    reader.skip(length - kept)
    return GgufText(text, length)


def _read_numbers(reader: _Reader, value_type: int, count: int) -> Tuple[Scalar, ...]:
    code = f"<{count}{_SCALARS[value_type]}"
    found = struct.unpack(code, reader.take(struct.calcsize(code)))
    if _SCALARS[value_type] in "fd":
        return tuple(number if math.isfinite(number) else None for number in found)
    return found


def _read_array(reader: _Reader) -> Tuple[Scalar, ...] | GgufArray:
    item_type, count = reader.u32(), reader.u64()
    if item_type in _SCALARS and count <= MAX_KEPT_ITEMS:
        reader.keep(count * _ITEM_COST_BYTES)
        return _read_numbers(reader, item_type, count)
    _skip_items(reader, item_type, count, 1)
    return GgufArray(VALUE_TYPES[item_type], count)


def _skip_items(reader: _Reader, item_type: int, count: int, depth: int) -> None:
    if depth > MAX_ARRAY_DEPTH:
        raise reader.fail(f"arrays nested deeper than {MAX_ARRAY_DEPTH}")
    if item_type in _SCALARS:
        reader.skip(count * struct.calcsize("<" + _SCALARS[item_type]))
        return
    if item_type not in (_STRING, _ARRAY):
        raise reader.fail(f"unknown value type {item_type}")
    # A text item has at least its length (8 bytes), a nested array its type and count (12).
    reader.need(count * (8 if item_type == _STRING else 12))
    reader.spend_items(count)
    if item_type == _STRING:
        reader.skip_texts(count)
        return
    for _index in range(count):
        nested_type, nested_count = reader.u32(), reader.u64()
        _skip_items(reader, nested_type, nested_count, depth + 1)


def _read_tensors(reader: _Reader, count: int, alignment: int) -> Tuple[GgufTensor, ...]:
    # A tensor has at least the lengths of its name and dimensions, its type and its offset.
    reader.need(count * 24)
    tensors: List[GgufTensor] = []
    seen = set()
    for _index in range(count):
        reader.keep(_TENSOR_COST_BYTES)
        name = reader.name("tensor name")
        if name in seen:
            raise reader.fail(f"tensor {name[:64]!r} stands there twice")
        seen.add(name)
        dimension_count = reader.u32()
        if dimension_count > MAX_DIMENSIONS:
            raise reader.fail(
                f"tensor {name[:64]!r} has {dimension_count} dimensions, where {MAX_DIMENSIONS} is the most"
            )
        dimensions = struct.unpack(f"<{dimension_count}Q", reader.take(8 * dimension_count))
        type_id = reader.u32()
        if type_id not in TENSOR_TYPES:
            raise GgufUnknownTypeError(
                f"{reader.path}: tensor {name[:64]!r} has type {type_id}, which this release of "
                "baremetal.llm does not know; update the collection"
            )
        tensors.append(_make_tensor(name, dimensions, TENSOR_TYPES[type_id][0], reader.u64(), alignment))
    return tuple(tensors)


# Reading through HTTP


class HttpStream:
    """The beginning of a file behind a URL, fetched in pieces of 1, 2, 4, ... MiB as it is read.

    A server that does not know ranges answers with the whole file, of which no more is read than asked for. Close it
    after use. C(size_bytes) is the size of the whole file, C(None) where the server does not tell. Methods raise
    GgufError, with a sentence that holds no credentials.
    """

    def __init__(self, url: str, open_http: OpenHttp, max_bytes: int, piece_bytes: int = 1 << 20) -> None:
        self.name = _checked_name(url)
        self.size_bytes: Optional[int] = None
        self._url = url
        self._open_http = open_http
        self._max_bytes = max_bytes
        self._piece_bytes = piece_bytes
        self._offset = 0
        self._piece_end_bytes: Optional[int] = 0
        self._answer: Any = None
        self._open_piece()

    def seekable(self) -> bool:
        return False

    def read(self, count: int) -> bytes:
        """Up to C(count) bytes, none at the end of the file."""
        if self.size_bytes is not None and self._offset >= self.size_bytes:
            return b""
        if self._offset >= self._max_bytes:
            raise GgufError(
                f"{self.name} has a header of more than {self._max_bytes >> 20} MiB: raise max_header_mib if you trust "
                "its source, else take another file"
            )
        if self._offset == self._piece_end_bytes:
            self._open_piece()
        wanted = count if self._piece_end_bytes is None else min(count, self._piece_end_bytes - self._offset)
        try:
            data: bytes = self._answer.read(wanted)
        except (OSError, http.client.HTTPException) as exc:
            raise GgufError(_http_complaint(self.name, exc)) from exc
        if not data and (self._piece_end_bytes is not None or self.size_bytes is not None):
            raise GgufError(
                f"{self.name} broke off after {self._offset} of {self._piece_end_bytes or self.size_bytes} bytes: "
                "run again, or check the server and the proxies before it"
            )
        self._offset += len(data)
        return data

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()

    def _open_piece(self) -> None:
        """Ask for the next piece; a whole file is one without end."""
        self.close()
        last = min(self._offset + self._piece_bytes, self._max_bytes) - 1
        self._piece_bytes *= 2
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT, "Range": f"bytes={self._offset}-{last}"}
        try:
            self._answer = self._open_http(self._url, headers)
        except (OSError, ValueError, http.client.HTTPException) as exc:
            raise GgufError(_http_complaint(self.name, exc)) from exc
        if self._answer.getcode() == 206:
            self._take_part()
        elif self._offset:
            self._fail("the whole file where a part was asked for")
        else:
            length = self._answer.headers.get("Content-Length") or ""
            self.size_bytes = int(length) if _is_number(length) else None
            self._piece_end_bytes = None

    def _take_part(self) -> None:
        told = self._answer.headers.get("Content-Range") or ""
        found = re.fullmatch(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", told)
        if found is None or int(found.group(1)) != self._offset or int(found.group(2)) < self._offset:
            self._fail(f"another part than asked for ({told[:80]!r} for byte {self._offset} and on)")
        size_bytes = int(found.group(3)) if found.group(3) != "*" else None
        if self._offset and size_bytes != self.size_bytes:
            self._fail(f"parts of two files, {self.size_bytes} and {size_bytes} bytes long")
        self.size_bytes, self._piece_end_bytes = size_bytes, int(found.group(2)) + 1

    def _fail(self, what: str) -> NoReturn:
        self.close()
        raise GgufError(f"{self.name} answered with {what}: run again, or fetch the file and give its path")


def read_url(
    url: str, open_http: OpenHttp, max_header_bytes: int, piece_bytes: int = 1 << 20
) -> Tuple[GgufModel, int | None]:
    """Model behind C(url), of which only the header is fetched, and the size of its file in bytes if that is known.

    C(open_http) takes a URL and headers and answers as urllib does. Raises GgufError.
    """
    stream = HttpStream(url, open_http, max_header_bytes, piece_bytes)
    try:
        return _parse(_Reader(stream, stream.name, stream.size_bytes)), stream.size_bytes
    finally:
        stream.close()


def _checked_name(url: str) -> str:
    """The URL without its secrets; raises GgufError where it is none of http and https."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return public_url(url)
    except ValueError as exc:
        raise GgufError(f"url is no address ({exc}): write https://host/path of a .gguf file") from exc
    raise GgufError(f"url {public_url(url)!r} cannot be read: write http:// or https://, or give a local file as path")


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,19}", text) is not None


def _http_complaint(name: str, exc: Exception) -> str:
    """One sentence for what went wrong with the file C(name), with what would fix it."""
    if isinstance(exc, HTTPError):
        exc.close()
        fixes = {
            401: "give a valid login in headers, such as an Authorization header",
            403: "check that the login in headers may read this file",
            404: "correct url, or choose a mirror that holds the file",
            410: "correct url, or choose a mirror that holds the file",
            416: "it is empty or was cut off; have it uploaded again",
            429: "wait a while, or use a mirror",
        }
        fix = fixes.get(exc.code, "look into the log of the server, or use a mirror")
        return f"{name} answered {exc.code} {exc.reason}: {fix}"
    reason = exc.reason if isinstance(exc, URLError) else exc
    if isinstance(reason, ssl.SSLError):
        return (
            f"{name} cannot be trusted ({reason}): give its certificate authority in ca_path, "
            "or correct the certificate or the name in url"
        )
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return f"{name} did not answer in time: check the network and proxies, or raise timeout"
    return f"{name} cannot be reached ({reason}): check url, the network and the proxies, or use a mirror"


# Reading what the module returned


class _InfoReader:
    """Takes a mapping apart that C(to_info) made, and trusts nothing in it."""

    _KEYS = frozenset(
        "path url version architecture name quantization file_type parameter_count file_size_bytes expected_size_bytes "
        "data_offset_bytes complete split metadata shape tensors bytes_by_type bytes_by_class".split()
    )
    _TENSOR_KEYS = frozenset("name dimensions type offset_bytes size_bytes device_class layer".split())

    def __init__(self, where: str) -> None:
        self._where = where

    def _fail(self, what: str) -> SizingError:
        return SizingError(f"{self._where}: {what}; give the result of baremetal.llm.gguf_info as it is")

    def model(self, info: Any) -> GgufModel:
        info = self._mapping(info, "it")
        only_known_keys(self._where, info, self._KEYS)
        version = self._size(info, "version")
        if version not in (2, 3):
            raise self._fail(f"version is {version}, not 2 or 3")
        architecture = self._text(info, "architecture")
        metadata = {
            str(key): self._value(key, value)
            for key, value in self._mapping(info.get("metadata"), "metadata", MAX_METADATA_COUNT).items()
        }
        if metadata.get("general.architecture", "") != architecture:
            raise self._fail(f"architecture is {architecture!r}, and metadata says something else")
        data_offset_bytes = self._size(info, "data_offset_bytes")
        try:
            alignment = _alignment_of(metadata)
            _split_of(metadata)
            _whole(metadata, "general.file_type")
            tensors = self._tensors(info.get("tensors"), alignment)
            expected_size_bytes = _expected_size_bytes(data_offset_bytes, tensors)
        except _FlawError as exc:
            raise self._fail(str(exc)) from exc
        if self._size(info, "expected_size_bytes") != expected_size_bytes:
            raise self._fail(
                f"expected_size_bytes is {info['expected_size_bytes']}, and the tensors end at {expected_size_bytes}"
            )
        return GgufModel(version, architecture, metadata, tensors, data_offset_bytes, expected_size_bytes)

    def _tensors(self, found: Any, alignment: int) -> Tuple[GgufTensor, ...]:
        if found is None:
            raise SizingError(f"{self._where} has no list of tensors: run baremetal.llm.gguf_info with tensors: true")
        tensors: Dict[str, GgufTensor] = {}
        for entry in self._list(found, "tensors", MAX_TENSOR_COUNT):
            tensor = self._tensor(self._mapping(entry, "an entry of tensors"), alignment)
            if tensor.name in tensors:
                raise self._fail(f"tensor {tensor.name[:64]!r} stands there twice")
            tensors[tensor.name] = tensor
        return tuple(tensors.values())

    def _tensor(self, entry: Mapping[str, Any], alignment: int) -> GgufTensor:
        only_known_keys(f"a tensor of {self._where}", entry, self._TENSOR_KEYS)
        name, type_name = self._text(entry, "name"), self._text(entry, "type")
        label = f"tensor {name[:64]!r}"
        if type_name not in BY_NAME:
            raise unknown(f"type of {label} in {self._where}", type_name, BY_NAME)
        extents = self._list(entry.get("dimensions"), f"dimensions of {label}", MAX_DIMENSIONS)
        if not all(_is_whole(extent) and extent >= 0 for extent in extents):
            raise self._fail(f"dimensions of {label} are no whole numbers from 0 on")
        dimensions = tuple(int(extent) for extent in extents)
        tensor = _make_tensor(name, dimensions, type_name, self._size(entry, "offset_bytes"), alignment)
        if self._size(entry, "size_bytes") != tensor.size_bytes:
            raise self._fail(
                f"{label} has size_bytes {entry['size_bytes']}, and its dimensions and type make {tensor.size_bytes}"
            )
        for key, right in (("device_class", tensor.device_class), ("layer", tensor.layer)):
            if key in entry and entry[key] != right:
                raise self._fail(f"{label} has {key} {entry[key]!r}, and its name makes {right!r}")
        return tensor

    def _value(self, key: Any, value: Any) -> Value:
        if not isinstance(key, str):
            raise self._fail(f"metadata has the key {key!r}, which is no text")
        if isinstance(value, str):
            return str(value)
        if isinstance(value, Mapping):
            return self._summary(key, value)
        if isinstance(value, (list, tuple)):
            return tuple(self._number(key, item) for item in self._list(value, f"metadata {key[:64]}", MAX_KEPT_ITEMS))
        return self._number(key, value)

    def _number(self, key: str, value: Any) -> Scalar:
        if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
            return value
        raise self._fail(f"metadata {key[:64]} has the value {value!r:.64}, which is no finite number")

    def _summary(self, key: str, value: Mapping[str, Any]) -> Value:
        if set(value) == {"item_type", "count"} and value["item_type"] in VALUE_TYPES.values():
            return GgufArray(str(value["item_type"]), self._size(value, "count"))
        if set(value) == {"text", "size_bytes"} and isinstance(value["text"], str):
            return GgufText(str(value["text"]), self._size(value, "size_bytes"))
        raise self._fail(f"metadata {key[:64]} describes neither an array nor a long text")

    def _mapping(self, value: Any, what: str, most: int = MAX_TENSOR_COUNT) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or len(value) > most:
            raise self._fail(f"{what} is no mapping of up to {most} entries")
        return value

    def _list(self, value: Any, what: str, most: int) -> Sequence[Any]:
        if not isinstance(value, (list, tuple)) or len(value) > most:
            raise self._fail(f"{what} is no list of up to {most} entries")
        return value

    def _text(self, mapping: Mapping[str, Any], key: str) -> str:
        found = mapping.get(key)
        if not isinstance(found, str):
            raise self._fail(f"{key} is {found!r:.64}, not text")
        return str(found)

    def _size(self, mapping: Mapping[str, Any], key: str) -> int:
        found: Any = mapping.get(key)
        if not _is_whole(found) or not 0 <= found <= MAX_BYTES:
            raise self._fail(f"{key} is {found!r:.64}, not a whole number from 0 to {MAX_BYTES}")
        return int(found)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
