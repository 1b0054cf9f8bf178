# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a model: the numbers of its GGUF header that decide how large it is.

Keys and their meaning: src/llama-arch.cpp, src/llama-model.cpp (load_hparams) and src/models of ggml-org/llama.cpp,
build 11095.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Dict, Tuple, Union

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys, unknown

IntOrLayers = Union[int, Tuple[int, ...]]
PatternOrLayers = Union[int, Tuple[bool, ...]]

# Architectures whose tensors this collection can list from a shape alone.
ARCHITECTURES = frozenset(
    {
        "command-r",
        "deepseek2",
        "gemma2",
        "gemma3",
        "glm4",
        "gpt-oss",
        "granite",
        "llama",
        "mistral3",
        "phi3",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "qwen3next",
    }
)
# Ollama's own engine wrote gpt-oss files under this name.
_ARCHITECTURE_ALIASES = {"gptoss": "gpt-oss"}

# Every n-th layer attends to everything, the others to a window (load_swa_pattern and set_swa_pattern in src/models).
# An architecture that stands in _IGNORES_WINDOW never reads its window.
_DEFAULT_SLIDING_PATTERN = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gemma4": 6,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "plamo3": 8,
}
_DEFAULT_WINDOW = {"gemma2": 4096}
_IGNORES_WINDOW = frozenset(
    {
        "command-r",
        "deepseek2",
        "glm4",
        "granite",
        "llama",
        "mistral3",
        "phi3",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "qwen3next",
    }
)
_DEFAULT_FULL_ATTENTION_INTERVAL = {"qwen35": 4, "qwen35moe": 4, "qwen3next": 4}

EXPERT_GATING_SIGMOID = 2

# GGUF key without the architecture -> (field, least, most). None as least marks a list or flag with a rule of its own.
_LAYERS, _WIDTH, _HEADS = 1024, 262_144, 8_192
_COUNT_KEYS: Dict[str, Tuple[str, int, int]] = {
    "block_count": ("block_count", 1, _LAYERS),
    "nextn_predict_layers": ("nextn_predict_layers", 0, _LAYERS),
    "embedding_length": ("embedding_length", 1, _WIDTH),
    "vocab_size": ("vocab_size", 1, 16_777_216),
    "context_length": ("context_length", 0, 1 << 31),
    "attention.head_count": ("head_count", 1, _HEADS),
    "attention.key_length": ("key_length", 1, _WIDTH),
    "attention.value_length": ("value_length", 1, _WIDTH),
    "attention.key_length_swa": ("key_length_swa", 1, _WIDTH),
    "attention.value_length_swa": ("value_length_swa", 1, _WIDTH),
    "attention.shared_kv_layers": ("shared_kv_layers", 0, _LAYERS),
    "attention.kv_lora_rank": ("kv_lora_rank", 0, _WIDTH),
    "attention.q_lora_rank": ("q_lora_rank", 0, _WIDTH),
    "attention.key_length_mla": ("key_length_mla", 0, _WIDTH),
    "attention.value_length_mla": ("value_length_mla", 0, _WIDTH),
    "attention.sliding_window": ("sliding_window", 0, 1 << 31),
    "expert_count": ("expert_count", 0, _HEADS),
    "expert_used_count": ("expert_used_count", 0, _HEADS),
    "expert_shared_count": ("expert_shared_count", 0, _HEADS),
    "expert_feed_forward_length": ("expert_feed_forward_length", 0, 16_777_216),
    "expert_shared_feed_forward_length": ("expert_shared_feed_forward_length", 0, 16_777_216),
    "expert_gating_func": ("expert_gating_func", 0, 16),
    "leading_dense_block_count": ("leading_dense_block_count", 0, _LAYERS),
    "rope.dimension_count": ("rope_dimension_count", 0, _WIDTH),
    "ssm.conv_kernel": ("ssm_conv_kernel", 0, 1024),
    "ssm.inner_size": ("ssm_inner_size", 0, 4_194_304),
    "ssm.state_size": ("ssm_state_size", 0, _WIDTH),
    "ssm.time_step_rank": ("ssm_time_step_rank", 0, _WIDTH),
    "ssm.group_count": ("ssm_group_count", 0, _WIDTH),
    "full_attention_interval": ("full_attention_interval", 0, _LAYERS),
}
# Either one number for all layers or a list with one for each; in a list 0 means that the layer has none.
_LAYER_KEYS: Dict[str, Tuple[str, int, int]] = {
    "feed_forward_length": ("feed_forward_length", 1, 16_777_216),
    "attention.head_count_kv": ("head_count_kv", 1, _HEADS),
}
_PATTERN_KEY = "attention.sliding_window_pattern"
KEYS = frozenset({"architecture", "tied_embeddings", _PATTERN_KEY, *_COUNT_KEYS, *_LAYER_KEYS})

_ALWAYS_REQUIRED = ("architecture", "block_count", "embedding_length", "attention.head_count", "vocab_size")
_EXPERTS = ("expert_count", "expert_used_count")
_STATE_SPACE = ("ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count")
_REQUIRED: Dict[str, Tuple[str, ...]] = {
    "deepseek2": (
        *_EXPERTS,
        "attention.kv_lora_rank",
        "rope.dimension_count",
        "expert_feed_forward_length",
        "expert_shared_count",
    ),
    "gpt-oss": (*_EXPERTS, "expert_feed_forward_length", "attention.sliding_window"),
    "qwen2moe": _EXPERTS,
    "qwen35": _STATE_SPACE,
    "qwen35moe": (*_EXPERTS, *_STATE_SPACE),
    "qwen3moe": _EXPERTS,
    "qwen3next": (*_EXPERTS, *_STATE_SPACE),
}
# These have no plain feed-forward layer that its length could size.
_EXPERTS_ONLY = frozenset({"gpt-oss", "qwen2moe", "qwen35moe", "qwen3moe", "qwen3next"})


@dataclass(frozen=True)
class ModelShape:
    """Lengths are numbers of elements, counts are plain; 0 means that the model has none (context: unknown).

    C(block_count) has no layers that only predict further tokens (C(nextn_predict_layers)).
    Where a length may differ by layer it is one number, or a tuple with one for each layer.
    """

    architecture: str
    block_count: int
    embedding_length: int
    feed_forward_length: IntOrLayers
    head_count: int
    head_count_kv: IntOrLayers
    key_length: int
    value_length: int
    vocab_size: int
    context_length: int = 0
    tied_embeddings: bool = False
    expert_count: int = 0
    expert_used_count: int = 0
    expert_shared_count: int = 0
    expert_feed_forward_length: int = 0
    expert_shared_feed_forward_length: int = 0
    expert_gating_func: int = 0
    leading_dense_block_count: int = 0
    sliding_window: int = 0
    sliding_window_pattern: PatternOrLayers = 0
    key_length_swa: int = 0
    value_length_swa: int = 0
    shared_kv_layers: int = 0
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    key_length_mla: int = 0
    value_length_mla: int = 0
    rope_dimension_count: int = 0
    ssm_conv_kernel: int = 0
    ssm_inner_size: int = 0
    ssm_state_size: int = 0
    ssm_time_step_rank: int = 0
    ssm_group_count: int = 0
    full_attention_interval: int = 0
    nextn_predict_layers: int = 0

    @property
    def is_mla(self) -> bool:
        """Whether the cache holds one compressed row a token; older DeepSeek files do not say so and hold all heads."""
        return self.key_length_mla > 0 and self.value_length_mla > 0

    @property
    def is_moe(self) -> bool:
        """Whether any layer has experts."""
        return self.expert_count > 0

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors of the file; raises SizingError for an architecture that cannot be listed."""
        # The list of tensors is made from shapes, so that it can be imported only here.
        from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import parameter_count

        return parameter_count(self)

    def heads_kv(self, layer: int) -> int:
        """KV heads of a layer; 0 where it has no attention."""
        return _at(self.head_count_kv, layer)

    def feed_forward(self, layer: int) -> int:
        """Length of the plain feed-forward layer."""
        return _at(self.feed_forward_length, layer)

    def is_moe_layer(self, layer: int) -> bool:
        """Whether the layer has experts."""
        return self.expert_count > 0 and layer >= self.leading_dense_block_count

    def is_sliding(self, layer: int) -> bool:
        """Whether the layer attends only to the last C(sliding_window) tokens."""
        if not self.sliding_window or self.architecture in _IGNORES_WINDOW:
            return False
        if isinstance(self.sliding_window_pattern, tuple):
            return self.sliding_window_pattern[layer]
        every = self.sliding_window_pattern or _DEFAULT_SLIDING_PATTERN.get(self.architecture, 0)
        return every > 0 and layer % every < every - 1

    def is_recurrent(self, layer: int) -> bool:
        """Whether the layer keeps a state of fixed size instead of a cache that grows with the context."""
        every = self.full_attention_interval
        return every > 0 and (layer + 1) % every != 0

    def has_kv(self, layer: int) -> bool:
        """Whether the layer has a cache of its own; the last C(shared_kv_layers) use that of an earlier one."""
        return layer < self.block_count - self.shared_kv_layers and not self.is_recurrent(layer)

    def key_length_at(self, layer: int) -> int:
        """Length of one head's key in this layer."""
        return self.key_length_swa if self.key_length_swa and self.is_sliding(layer) else self.key_length

    def value_length_at(self, layer: int) -> int:
        """Length of one head's value in this layer."""
        return self.value_length_swa if self.value_length_swa and self.is_sliding(layer) else self.value_length


def _at(value: IntOrLayers, layer: int) -> int:
    return value[layer] if isinstance(value, tuple) else value


def from_mapping(mapping: Mapping[str, Any], strict: bool = True, where: str = "shape") -> ModelShape:
    """Shape from GGUF keys without the architecture's name before them; C(where) names it in errors.

    With C(strict) (what a person wrote) an unknown key or architecture is a SizingError that names the nearest known
    one. Without (a file's header) both are let through, since the file itself lists its tensors.
    Besides GGUF keys there are C(vocab_size) (in files the length of the token list) and C(tied_embeddings).
    """
    if not isinstance(mapping, Mapping):
        raise SizingError(f"{where} must be a mapping of GGUF keys, such as block_count, to numbers.")
    if strict:
        only_known_keys(where, mapping, KEYS)
    architecture = _architecture(mapping, strict, where)
    missing = [key for key in (*_ALWAYS_REQUIRED, *_REQUIRED.get(architecture, ())) if mapping.get(key) is None]
    if missing:
        raise SizingError(f"{where} of architecture {architecture} lacks {', '.join(missing)}: add it.")
    fields: Dict[str, Any] = {"architecture": architecture}
    for key, (field, least, most) in _COUNT_KEYS.items():
        if mapping.get(key) is not None:
            fields[field] = _count(mapping[key], key, least, most, where, strict)
    _take_next_token_layers(fields, where)
    blocks: int = fields["block_count"]
    for key, (field, least, most) in _LAYER_KEYS.items():
        if mapping.get(key) is not None:
            fields[field] = _for_layers(mapping[key], key, least, most, where, blocks)
    if mapping.get(_PATTERN_KEY) is not None:
        fields["sliding_window_pattern"] = _pattern(mapping[_PATTERN_KEY], where, blocks)
    tied = mapping.get("tied_embeddings", False)
    if not isinstance(tied, bool):
        raise SizingError(f"tied_embeddings of {where} is {tied!r}: give true or false.")
    fields["tied_embeddings"] = tied
    _fill_defaults(fields, where)
    shape = ModelShape(**fields)
    _check_sense(shape, where)
    return shape


def _architecture(mapping: Mapping[str, Any], strict: bool, where: str) -> str:
    name = mapping.get("architecture")
    if not isinstance(name, str) or not name:
        raise SizingError(f"{where} lacks architecture: add its GGUF name, such as llama or qwen2.")
    name = _ARCHITECTURE_ALIASES.get(name, name)
    if strict and name not in ARCHITECTURES:
        raise unknown(f"architecture that a {where} can describe; give the model's gguf instead", name, ARCHITECTURES)
    return name


def _count(value: Any, key: str, least: int, most: int, where: str, strict: bool) -> int:
    if not strict and isinstance(value, (list, tuple)) and value:
        # A few files give a list where one number rules nearly all layers; the largest never makes a plan too small.
        value = max(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SizingError(f"{key} of {where} is {value!r}: give a whole number.")
    if not least <= value <= most:
        raise SizingError(f"{key} of {where} is {value}: give a number from {least} to {most}.")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _for_layers(value: Any, key: str, least: int, most: int, where: str, blocks: int) -> IntOrLayers:
    if not _is_list(value):
        return _count(value, key, least, most, where, True)
    if len(value) < blocks:
        raise SizingError(f"{key} of {where} lists {len(value)} layers for {blocks} blocks: give one number for each.")
    numbers = tuple(_count(item, key, 0, most, where, True) for item in value[:blocks])
    if not any(numbers):
        raise SizingError(f"{key} of {where} is 0 for every layer: give at least one layer a number.")
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _pattern(value: Any, where: str, blocks: int) -> PatternOrLayers:
    if not _is_list(value):
        return _count(value, _PATTERN_KEY, 0, _LAYERS, where, True)
    if len(value) < blocks:
        raise SizingError(
            f"{_PATTERN_KEY} of {where} lists {len(value)} layers for {blocks} blocks: give true or false for each."
        )
    for item in value:
        if not isinstance(item, bool) and item not in (0, 1):
            raise SizingError(f"{_PATTERN_KEY} of {where} has {item!r} in its list: give true or false.")
    return tuple(bool(item) for item in value[:blocks])


def _take_next_token_layers(fields: Dict[str, Any], where: str) -> None:
    ahead = fields.get("nextn_predict_layers", 0)
    if ahead >= fields["block_count"]:
        raise SizingError(
            f"nextn_predict_layers of {where} is {ahead} with block_count {fields['block_count']}: give fewer."
        )
    fields["block_count"] -= ahead


def _fill_defaults(fields: Dict[str, Any], where: str) -> None:
    architecture, heads, width = fields["architecture"], fields["head_count"], fields["embedding_length"]
    fields.setdefault("head_count_kv", heads)
    for field, key in (("key_length", "attention.key_length"), ("value_length", "attention.value_length")):
        if field not in fields:
            if width % heads:
                raise SizingError(
                    f"embedding_length {width} of {where} is no multiple of {heads} heads: "
                    f"correct one of them or add {key}."
                )
            fields[field] = width // heads
    fields["rope_dimension_count"] = fields.get("rope_dimension_count") or fields["key_length"]
    fields.setdefault("sliding_window", _DEFAULT_WINDOW.get(architecture, 0))
    if architecture in _DEFAULT_FULL_ATTENTION_INTERVAL and not fields.get("full_attention_interval"):
        fields["full_attention_interval"] = _DEFAULT_FULL_ATTENTION_INTERVAL[architecture]
    experts_only = architecture in _EXPERTS_ONLY and fields.get("expert_feed_forward_length", 0) > 0
    if "feed_forward_length" not in fields:
        if not experts_only:
            raise SizingError(f"{where} of architecture {architecture} lacks feed_forward_length: add it.")
        fields["feed_forward_length"] = fields["expert_feed_forward_length"]
    _fill_expert_defaults(fields)


def _fill_expert_defaults(fields: Dict[str, Any]) -> None:
    if not fields.get("expert_count"):
        return
    architecture, plain, used = fields["architecture"], fields["feed_forward_length"], fields.get("expert_used_count")
    plain = max(plain) if isinstance(plain, tuple) else plain
    if not fields.get("expert_feed_forward_length"):
        # Mixtral's experts are each as long as feed_forward_length says; Qwen's share that length.
        fields["expert_feed_forward_length"] = plain // (used or 1) if architecture in _EXPERTS_ONLY else plain
    if fields.get("expert_shared_feed_forward_length"):
        return
    if architecture in ("qwen2moe", "qwen35moe", "qwen3next"):
        fields["expert_shared_feed_forward_length"] = plain
    elif architecture == "deepseek2":
        shared = fields["expert_feed_forward_length"] * fields["expert_shared_count"]
        fields["expert_shared_feed_forward_length"] = shared


def _check_sense(shape: ModelShape, where: str) -> None:
    kv_heads = shape.head_count_kv if isinstance(shape.head_count_kv, tuple) else (shape.head_count_kv,)
    for count in sorted(set(kv_heads)):
        if count and shape.head_count % count:
            raise SizingError(
                f"{where} has {shape.head_count} heads for {count} KV heads: "
                "give an attention.head_count_kv that divides attention.head_count."
            )
    if shape.expert_used_count > shape.expert_count:
        raise SizingError(
            f"{where} uses {shape.expert_used_count} of {shape.expert_count} experts: "
            "give an expert_used_count of at most expert_count."
        )
    if shape.expert_count and not shape.expert_used_count:
        raise SizingError(f"{where} has {shape.expert_count} experts but uses none: add expert_used_count.")
    if shape.leading_dense_block_count > shape.block_count:
        raise SizingError(
            f"{where} has {shape.leading_dense_block_count} leading dense blocks of {shape.block_count}: give fewer."
        )
    if bool(shape.key_length_mla) != bool(shape.value_length_mla):
        raise SizingError(f"{where} gives one of attention.key_length_mla and value_length_mla: give both or none.")
    head = shape.key_length_mla or shape.key_length
    if shape.kv_lora_rank and head <= shape.rope_dimension_count:
        raise SizingError(
            f"{where} has keys of {head} with rope.dimension_count {shape.rope_dimension_count}: "
            "give a rope.dimension_count below the length of a key."
        )
    if shape.shared_kv_layers >= shape.block_count:
        raise SizingError(
            f"{where} shares the cache of {shape.shared_kv_layers} of {shape.block_count} layers: give fewer."
        )
