# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be served: an entry of C(llm_models) becomes a goal with its allowed quantizations, best first."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils import gguf
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, only_known_keys, unknown

# What the role `models` and the playbook `preflight` read of the same entry.
ROLE_KEYS = (
    *("name", "digest", "registry", "gguf", "gguf_url", "gguf_sha256", "template", "system", "parameters", "license"),
    "disk_mib",
)
PLAN_KEYS = (
    *("model", "shape", "gguf_info", "context_length", "users", "min_tokens_per_second", "max_time_to_first_token"),
    *("prompt_tokens", "replicas", "quantizations", "kv_cache_types"),
)
KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")
DEFAULT_KV_CACHE_TYPES = ("f16", "q8_0")
DEFAULT_CONTEXT_LENGTH = 4096
# Ollama answers one request at a time for these (server/sched.go), whatever OLLAMA_NUM_PARALLEL says.
SINGLE_SLOT_ARCHITECTURES = ("mllama", "qwen3vl", "qwen35", "qwen3next", "lfm2", "nemotron_h")
_SUFFIX = re.compile(r"-(q[1-8]_\w+|iq[1-4]_\w+|fp16|f16|bf16|fp32|mxfp4\w*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Option:
    """One way to hold a model; C(score) orders them over all models, lower is better."""

    quantization: str
    tag: str
    kv_cache_type: str
    score: Tuple[int, int]


@dataclass(frozen=True)
class Goal:
    """One model to serve. Tokens, tokens per second, seconds; zero: no demand.

    C(identity) is what the engine is asked with, as sorted JSON. C(least_replicas): hosts that must hold it.
    """

    name: str
    model: str
    licence: str
    identity: str
    options: Tuple[Option, ...]
    context_length: int
    users: int
    min_tokens_per_second: float
    max_time_to_first_token_s: float
    prompt_tokens: int
    least_replicas: int
    single_slot: bool

    def request(self) -> Dict[str, Any]:
        """The keys of a request that say which model it is, without the quantization."""
        return dict(_loaded(self.identity))


@lru_cache(maxsize=256)
def _loaded(text: str) -> Mapping[str, Any]:
    # A file's header is long, and asked with again and again.
    found: Mapping[str, Any] = json.loads(text)
    return found


def goals_of(entries: Any, models: Mapping[str, Any], quantizations: Mapping[str, Any]) -> Tuple[Goal, ...]:
    """Goals in the order of C(entries); SizingError for anything that is no entry, and for a name that stands twice.

    C(models) and C(quantizations) are rows of the catalogues by lower-cased name.
    """
    if isinstance(entries, (str, bytes, Mapping)) or not isinstance(entries, Sequence):
        raise SizingError(f"llm_models is {type(entries).__name__}: give a list of mappings, each with a name.")
    goals = [goal_of(entry, models, quantizations) for entry in entries]
    names = [goal.name for goal in goals]
    for name in names:
        if names.count(name) > 1:
            raise SizingError(f"llm_models names {name} twice: give each model once, with all its users.")
    return tuple(goals)


def goal_of(entry: Any, models: Mapping[str, Any], quantizations: Mapping[str, Any]) -> Goal:
    """The goal that C(entry) means; raises SizingError with the key that makes no sense."""
    if not isinstance(entry, Mapping):
        raise SizingError(f"an entry of llm_models is {entry!r}: give a mapping with a name.")
    only_known_keys("llm_models", entry, (*ROLE_KEYS, *PLAN_KEYS))
    given = {key: value for key, value in entry.items() if value is not None}
    name = str(given.get("name") or given.get("model") or "").strip()
    if not name:
        raise SizingError("an entry of llm_models has no name: give the name that clients ask for.")
    row = _row(given, name, models)
    shape = _shape(given, row)
    context_length = _context(given, shape, name)
    prompt_tokens = _whole(given, "prompt_tokens", max(1, context_length // 2), name, 1)
    if prompt_tokens > context_length:
        raise SizingError(
            f"prompt_tokens of {name} is {prompt_tokens} and its context {context_length}: give at most the context."
        )
    return Goal(
        name=name,
        model=str(row["name"]) if row else str(given.get("model") or name),
        licence=str(row.get("licence", "")) if row else str(given.get("license", "")).split("\n", maxsplit=1)[0][:80],
        identity=json.dumps(_identity(given, row), sort_keys=True, default=str),
        options=_options(given, name, row, quantizations),
        context_length=context_length,
        users=_whole(given, "users", 1, name, 1),
        min_tokens_per_second=_number(given, "min_tokens_per_second", name),
        max_time_to_first_token_s=_number(given, "max_time_to_first_token", name),
        prompt_tokens=prompt_tokens,
        least_replicas=_whole(given, "replicas", 1, name, 1),
        single_slot=str(shape.get("architecture", "")).startswith(SINGLE_SLOT_ARCHITECTURES),
    )


def quantization_in(tag: str, quantizations: Mapping[str, Any]) -> Optional[str]:
    """The quantization that a tag such as C(llama3.1:8b-instruct-q4_K_M) names at its end, or None."""
    found = _SUFFIX.search(tag)
    if not found:
        return None
    word = found.group(1).lower()
    word = {"fp16": "f16", "fp32": "f32", "mxfp4": "mxfp4_moe"}.get(word, word)
    row = quantizations.get(word)
    return str(row["name"]) if row else None


def _row(given: Mapping[str, Any], name: str, models: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """The catalogue's row: by C(model), else by the name, its tag, or a tag that the row lists."""
    if "model" in given and ("shape" in given or "gguf_info" in given):
        found = models.get(str(given["model"]).strip().lower())
        return found if found else None
    if "model" in given:
        key = str(given["model"]).strip().lower()
        if key not in models:
            raise unknown(f"model of the catalogue (llm_models, {name})", str(given["model"]), _names(models))
        row: Mapping[str, Any] = models[key]
        return row
    for key in (name.lower(), name.lower() + ":latest"):
        if key in models:
            named: Mapping[str, Any] = models[key]
            return named
    for each in models.values():
        if name.lower() in (str(tag).lower() for tag in ((each.get("ollama") or {}).get("tags") or {}).values()):
            tagged: Mapping[str, Any] = each
            return tagged
    if "shape" in given or "gguf_info" in given:
        return None
    raise unknown(
        "model of the catalogue; give its name in it as model, its shape with quantizations, or gguf_info of its file",
        name,
        _names(models),
    )


def _names(models: Mapping[str, Any]) -> List[str]:
    return sorted({name for row in models.values() for name in (row["name"], *(row.get("aliases") or ()))})


def _shape(given: Mapping[str, Any], row: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
    if isinstance(given.get("shape"), Mapping):
        shape: Mapping[str, Any] = given["shape"]
        return shape
    if isinstance(given.get("gguf_info"), Mapping):
        info = given["gguf_info"]
        read: Mapping[str, Any] = gguf.GgufModel.from_info(
            info.get("gguf", info), f"gguf_info of {given.get('name')}"
        ).shape()
        return read
    catalogued: Mapping[str, Any] = (row or {}).get("shape") or {}
    return catalogued


def _identity(given: Mapping[str, Any], row: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    # A file's own header outranks the catalogue.
    if "gguf_info" in given:
        return {"gguf": given["gguf_info"]}
    if "shape" in given:
        return {"shape": given["shape"]}
    return {"name": row["name"]} if row else {}


def _context(given: Mapping[str, Any], shape: Mapping[str, Any], name: str) -> int:
    parameters = given.get("parameters")
    asked = parameters.get("num_ctx") if isinstance(parameters, Mapping) else None
    trained = shape.get("context_length")
    default = int(asked) if asked else DEFAULT_CONTEXT_LENGTH
    if isinstance(trained, int) and not asked:
        default = min(default, trained)
    context_length = _whole(given, "context_length", default, name, 1)
    if isinstance(trained, int) and 0 < trained < context_length:
        raise SizingError(
            f"context_length of {name} is {context_length}, and it was trained with {trained}: give at most that."
        )
    return context_length


def _options(
    given: Mapping[str, Any], name: str, row: Optional[Mapping[str, Any]], quantizations: Mapping[str, Any]
) -> Tuple[Option, ...]:
    mixes = _mixes(given, name, row, quantizations)
    kinds = _kv_cache_types(given, name, row)
    options = [
        Option(mix, tag, kind, (int(quantizations[mix.lower()]["rank"]) if mix else 0, KV_CACHE_TYPES.index(kind)))
        for mix, tag in mixes
        for kind in kinds
    ]
    return tuple(sorted(options, key=lambda option: option.score))


def _mixes(
    given: Mapping[str, Any], name: str, row: Optional[Mapping[str, Any]], quantizations: Mapping[str, Any]
) -> List[Tuple[str, str]]:
    """Pairs of quantization and the tag to pull; an empty quantization: the file itself says."""
    if "gguf_info" in given:
        return [("", name)]
    asked = _asked(given, name, quantizations)
    own_file = "gguf" in given or "gguf_url" in given
    library: Mapping[str, Any] = (row or {}).get("ollama") or {}
    tags: Dict[str, str] = dict(library.get("tags") or {})
    fixed = quantization_in(name, quantizations)
    if "digest" in given and asked:
        if len(asked) > 1:
            raise SizingError(f"{name} is pinned by its digest: name in quantizations the one that it holds.")
        return [(asked[0], name)]
    if fixed is None and "digest" in given and not asked:
        fixed = library.get("quantization")
    if fixed is not None:
        if asked and fixed not in asked:
            raise SizingError(
                f"{name} holds {fixed}, and its quantizations are {', '.join(asked)}: name a tag without one."
            )
        return [(fixed, name)]
    if own_file or row is None:
        if not asked:
            raise SizingError(
                f"the quantization of {name} is not known: give quantizations with one name, or gguf_info of its file."
            )
        return [(mix, name) for mix in asked]
    # The plain name keeps its file; another quantization has another tag.
    if library.get("quantization"):
        tags[library["quantization"]] = str(library["tag"])
    if asked:
        for mix in asked:
            if tags and mix not in tags:
                raise SizingError(
                    f"the catalogue knows no tag of {row['name']} with {mix}, only {', '.join(sorted(tags))}:"
                    " choose of these, or give gguf or gguf_url."
                )
        return [(mix, tags.get(mix, name)) for mix in asked]
    # What the plain name holds is what people expect of it, recommended or not.
    known = [
        mix
        for mix in tags
        if (quantizations.get(mix.lower()) or {}).get("recommended") or mix == library.get("quantization")
    ]
    if not tags:
        known = [
            str(each["name"])
            for each in quantizations.values()
            if each.get("recommended") and not each.get("published_form_only")
        ]
    return [(mix, tags.get(mix, name)) for mix in known]


def _asked(given: Mapping[str, Any], name: str, quantizations: Mapping[str, Any]) -> List[str]:
    asked = given.get("quantizations") or []
    if isinstance(asked, str) or not isinstance(asked, Sequence):
        raise SizingError(f"quantizations of {name} is {asked!r}: give a list, such as [Q8_0, Q4_K_M].")
    found = []
    for each in asked:
        row = quantizations.get(str(each).lower())
        if row is None:
            raise unknown(f"quantization (llm_models, {name})", str(each), (q["name"] for q in quantizations.values()))
        found.append(str(row["name"]))
    return list(dict.fromkeys(found))


def _kv_cache_types(given: Mapping[str, Any], name: str, row: Optional[Mapping[str, Any]]) -> Tuple[str, ...]:
    quantizable = (row or {}).get("kv_quantizable", True)
    asked = given.get("kv_cache_types")
    if asked is None:
        return DEFAULT_KV_CACHE_TYPES if quantizable else ("f16",)
    if isinstance(asked, str) or not isinstance(asked, Sequence) or not asked:
        raise SizingError(f"kv_cache_types of {name} is {asked!r}: give a list, such as [f16, q8_0].")
    for each in asked:
        if each not in KV_CACHE_TYPES:
            raise unknown(f"KV cache type (llm_models, {name})", str(each), KV_CACHE_TYPES)
        if each != "f16" and not quantizable:
            raise SizingError(f"{name} loses too much with a KV cache of {each}: leave kv_cache_types at [f16].")
    return tuple(kind for kind in KV_CACHE_TYPES if kind in asked)


def _whole(given: Mapping[str, Any], key: str, default: int, name: str, least: int) -> int:
    value = given.get(key, default)
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least or value > 1 << 31:
        raise SizingError(f"{key} of {name} is {value!r}: give a whole number from {least}.")
    return value


def _number(given: Mapping[str, Any], key: str, name: str) -> float:
    value = given.get(key, 0)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise SizingError(f"{key} of {name} is {value!r}: give a number from 0, which makes no demand.")
    return number
