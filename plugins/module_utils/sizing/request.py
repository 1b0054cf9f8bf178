# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a user asks of the sizing filters: the model, the GPUs, the setting; refuses what makes no sense."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import gpus, mixes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import shape as shapes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, unknown
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import BY_NAME
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import ModelShape
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import tensor_list

# Pairs of key and value length for which CUDA has a fused attention kernel, and how many query heads have to share a
# key head for it (ggml/src/ggml-cuda/fattn.cu).
_FUSED_EQUAL = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
_FUSED_SHARED = {(192, 128): 8, (320, 256): 32, (512, 512): 2, (576, 512): 2}


@dataclass(frozen=True)
class Catalogues:
    """The data files, read: C(gpus) as the file stands, C(models) and C(quantizations) by lower-cased name."""

    gpus: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    quantizations: Mapping[str, Mapping[str, Any]]
    known: Dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Model:
    """A model with the bytes of its parts; C(float_row) is the widest row of its 16-bit matrices, 0 for none."""

    shape: ModelShape
    weights: mixes.Weights
    quantization: str
    float_row: int
    name: str


def read_model(request: Mapping[str, Any], catalogues: Catalogues) -> Model:
    """The model that a request means; a file's own header outranks the catalogue."""
    given = [key for key in ("name", "gguf", "shape") if request.get(key) is not None]
    if len(given) != 1:
        what = "none of them" if not given else " and ".join(given)
        raise SizingError(f"give the model as one of name, gguf and shape, not {what}.")
    if given[0] == "gguf":
        return _from_file(request["gguf"])
    quantization = request.get("quantization")
    if not quantization:
        raise SizingError(f"quantization is missing: say which of {', '.join(mixes.MIXES)} {given[0]} is meant in.")
    mix = mixes.mix_name(quantization)
    if given[0] == "shape":
        shape = shapes.from_mapping(request["shape"])
        made = mixes.weights(shape, mix)
        return Model(shape, made, mix, _float_row(shape, mix, (), False), "the shape")
    row = catalogues.models.get(str(request["name"]).strip().lower())
    if row is None:
        raise unknown("model of the catalogue", str(request["name"]), catalogues.models)
    return from_row(row, mix)


def from_row(row: Mapping[str, Any], mix: str) -> Model:
    """A model of the catalogue in a mix, with the exceptions of Ollama's own files."""
    shape = shapes.from_mapping(row["shape"], where=f"shape of {row['name']}")
    exceptions = (row.get("ollama") or {}).get("exceptions") or {}
    overrides = tuple((str(pattern), str(kind)) for pattern, kind in exceptions.get("overrides", ()))
    separate = bool(exceptions.get("separate_output", False))
    made = mixes.weights(shape, mix, False, overrides, separate)
    return Model(shape, made, mix, _float_row(shape, mix, overrides, separate), str(row["name"]))


def read_gpus(given: Any, catalogues: Catalogues) -> Tuple[gpus.Gpu, ...]:
    """GPUs of a request: names or mappings; C(count) repeats one, MIG devices stand for their card."""
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise SizingError("gpus must be a list of names of the catalogue or mappings.")
    cards: List[gpus.Gpu] = []
    for gpu in given:
        count = whole(gpu, "count", 1, 1, 1024) if isinstance(gpu, Mapping) else 1
        key = "gpu " + json.dumps(gpu, sort_keys=True)
        if key not in catalogues.known:
            catalogues.known[key] = gpus.expand(gpus.resolve(gpu, catalogues.gpus))
        cards.extend(catalogues.known[key] * count)
    return tuple(cards)


def flash_attention(
    request: Mapping[str, Any], shape: ModelShape, kv_type: str, on_gpu: bool
) -> Tuple[bool, List[str]]:
    wanted = request.get("flash_attention", True)
    if not isinstance(wanted, bool):
        raise SizingError(f"flash_attention is {wanted!r}: give true or false.")
    flash, remarks = wanted, []
    if wanted and on_gpu and not fused(shape):
        flash = False
        remarks.append(
            f"Flash attention is off: CUDA has no kernel for heads of {shape.key_length} and {shape.value_length}."
        )
    if kv_type != "f16" and not flash:
        raise SizingError(
            f"kv_cache_type {kv_type} needs flash attention"
            + (
                ": set flash_attention to true or kv_cache_type to f16."
                if not wanted
                else ", which this model has not."
            )
        )
    return flash, remarks


def fused(shape: ModelShape) -> bool:
    """Whether CUDA's flash attention can compute the model's heads."""
    if shape.is_mla:
        pairs = [(shape.kv_lora_rank + shape.rope_dimension_count, shape.kv_lora_rank, shape.head_count)]
    else:
        pairs = [
            (shape.key_length_at(layer), shape.value_length_at(layer), shape.head_count // shape.heads_kv(layer))
            for layer in range(shape.block_count)
            if shape.has_kv(layer) and shape.heads_kv(layer)
        ]
    for key, value, sharing in pairs:
        if key == value and key in _FUSED_EQUAL:
            continue
        if sharing % _FUSED_SHARED.get((key, value), sharing + 1):
            return False
    return True


def whole(mapping: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = mapping.get(key)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SizingError(f"{key} is {value!r}: give a whole number from {least} to {most}.")
    return value


def choice(mapping: Mapping[str, Any], key: str, default: str, choices: Sequence[str]) -> str:
    value = mapping.get(key)
    if value is None:
        return default
    if value not in choices:
        raise SizingError(f"{key} is {value!r}: give one of {', '.join(choices)}.")
    return str(value)


def _from_file(given: Any) -> Model:
    if isinstance(given, str):
        try:
            header = gguf.read_model(given)
        except OSError as error:
            raise SizingError(f"gguf {given} cannot be read ({error.strerror}): correct the path.") from None
        except gguf.GgufError as error:
            raise SizingError(str(error)) from None
    elif isinstance(given, Mapping):
        header = gguf.GgufModel.from_info(given.get("gguf", given))
    else:
        raise SizingError("gguf must be the path of a file or the result of gguf_info.")
    shape = shapes.from_mapping(header.shape(), strict=False, where="the file's header")
    tensors = [
        mixes.TensorBytes(
            each.name, tuple(each.dimensions), each.type_name, each.size_bytes, each.device_class, each.layer
        )
        for each in header.tensors
    ]
    tied = not any(each.name == "output.weight" for each in tensors)
    made = mixes.weights_from_tensors(tensors, tied, shape.block_count)
    floats = [
        each.dimensions[0]
        for each in tensors
        if each.layer is not None and len(each.dimensions) > 1 and each.type_name in ("F16", "BF16")
    ]
    name = header.name or (given if isinstance(given, str) else "the file")
    quantization = header.quantization if header.quantization in mixes.MIXES else _likely_mix(tensors)
    return Model(shape, made, quantization, max(floats, default=0), name)


def _likely_mix(tensors: Sequence[mixes.TensorBytes]) -> str:
    """The mix whose base type most bytes have, for files that do not say."""
    sizes: Dict[str, int] = {}
    for each in tensors:
        sizes[each.type_name] = sizes.get(each.type_name, 0) + each.size_bytes
    most = max(sizes, key=lambda kind: sizes[kind]) if sizes else "F16"
    return next((mix for mix in ("Q4_K_M", "Q5_K_M", *mixes.MIXES) if mixes.BASE_TYPE[mix] == most), "F16")


def _float_row(shape: ModelShape, mix: str, overrides: mixes.Overrides, separate: bool) -> int:
    if not overrides and BY_NAME.get(mixes.BASE_TYPE[mix], BY_NAME["F32"]).block_elements > 1:
        return 0
    kinds = mixes.tensor_types(shape, mix, False, overrides, separate)
    return max(
        (
            tensor.dimensions[0]
            for tensor, kind in zip(tensor_list(shape), kinds)
            if tensor.layer is not None and len(tensor.dimensions) > 1 and kind in ("F16", "BF16")
        ),
        default=0,
    )
