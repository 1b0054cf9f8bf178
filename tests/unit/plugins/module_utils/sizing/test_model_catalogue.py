# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: rows are complete, have sources, and give the sizes that Ollama's library shows."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import mixes
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.ggml import BY_NAME
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.shape import ModelShape, from_mapping
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.tensors import active_parameter_count
from ansible_collections.baremetal.llm.plugins.plugin_utils import catalogue

MODELS = {row["name"]: row for row in catalogue.load_models().values()}
QUANTIZATIONS = {row["name"]: row for row in catalogue.load_quantizations().values()}
MODEL_KEYS = {
    "name",
    "aliases",
    "family",
    "licence",
    "parameters_b",
    "active_parameters_b",
    "template",
    "kv_quantizable",
    "shape",
    "ollama",
    "source",
}
# Bytes of default tags where a dump of /api/tags or a manifest was found, header and vocabulary included.
TAG_BYTES = {
    "DeepSeek-R1-Distill-Qwen-7B": 4_683_075_271,
    "DeepSeek-R1-Distill-Qwen-14B": 8_988_112_040,
    "DeepSeek-V3.1": 404_494_157_743,
    "Llama-3.2-3B": 2_019_393_189,
    "gpt-oss-20b": 13_780_162_412,
    "gpt-oss-120b": 65_290_180_781,
}


def shape(name: str) -> ModelShape:
    return from_mapping(MODELS[name]["shape"], where=f"shape of {name}")


def library_bytes(name: str, quantization: str) -> int:
    """Bytes of the library's file without its header."""
    exceptions = MODELS[name]["ollama"].get("exceptions", {})
    overrides = tuple((pattern, kind) for pattern, kind in exceptions.get("overrides", ()))
    separate = exceptions.get("separate_output", False)
    text = mixes.data_bytes(shape(name), quantization, False, overrides, separate)
    return text + int(exceptions.get("vision_tower_mib", 0) * 2**20)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_rows_are_complete(name: str) -> None:
    row = MODELS[name]
    assert MODEL_KEYS <= set(row) <= MODEL_KEYS | {"kv_quantizable_source"}
    assert row["aliases"] and all(alias == alias.lower() for alias in row["aliases"])
    for key in ("family", "licence", "template", "source"):
        assert isinstance(row[key], str) and row[key].strip()
    assert isinstance(row["kv_quantizable"], bool)
    assert row["kv_quantizable"] or row["kv_quantizable_source"]
    assert "config.json of " in row["source"]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_shapes_have_the_parameters_they_claim(name: str) -> None:
    row, model = MODELS[name], shape(name)
    assert model.context_length >= 2048
    assert model.parameter_count / 1e9 == pytest.approx(row["parameters_b"], abs=0.0011)
    # What is advertised as active leaves out the embedding at times.
    active_b = active_parameter_count(model) / 1e9
    embedding_b = model.embedding_length * model.vocab_size / 1e9
    claimed = pytest.approx(row["active_parameters_b"], rel=0.04)
    assert claimed in (active_b, active_b - embedding_b)
    assert model.is_moe or row["active_parameters_b"] == row["parameters_b"]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_tags(name: str) -> None:
    ollama = MODELS[name]["ollama"]
    assert set(ollama) <= {"tag", "digest", "quantization", "listed_size_gb", "tags", "exceptions"}
    if ollama["tag"] is None:
        assert ollama["tags"] == {}
        return
    library = ollama["tag"].partition(":")[0]
    assert ollama["quantization"] in ollama["tags"]
    for quantization, tag in ollama["tags"].items():
        assert quantization in mixes.MIXES
        assert tag.startswith(library + ":") and " " not in tag
    if "digest" in ollama:
        assert len(ollama["digest"]) == 12 and int(ollama["digest"], 16) >= 0
    assert catalogue.model_by_name(ollama["tag"]) is MODELS[name]
    exceptions = ollama.get("exceptions")
    assert exceptions is None or exceptions["source"].strip()
    for _pattern, kind in (exceptions or {}).get("overrides", ()):
        assert kind in BY_NAME


@pytest.mark.parametrize("name", sorted(name for name in MODELS if MODELS[name]["ollama"]["tag"]))
def test_default_tag_has_the_size_that_the_library_shows(name: str) -> None:
    ollama = MODELS[name]["ollama"]
    listed = ollama["listed_size_gb"]
    # Half a digit of what is printed, and up to 15 MB of header and vocabulary, that the tensors do not have.
    half_digit_gb = 0.5 * 10 ** -len(str(listed).partition(".")[2])
    gigabytes = library_bytes(name, ollama["quantization"]) / 1e9
    # DeepSeek's first files had attn_kv_b in fewer bits than llama-quantize gives it now: 0.13 GB.
    newer_gb = 0.13 if name in ("DeepSeek-R1", "DeepSeek-V3") else 0
    assert listed - half_digit_gb - 0.015 <= gigabytes - newer_gb <= listed + half_digit_gb


@pytest.mark.parametrize("name", sorted(TAG_BYTES))
def test_default_tag_to_the_megabyte(name: str) -> None:
    header = TAG_BYTES[name] - library_bytes(name, MODELS[name]["ollama"]["quantization"])
    assert 4e6 < header < 14e6


def test_form_of_the_deepseek_files_from_their_bytes() -> None:
    # The tag of early 2025; the quantizer of that time left attn_kv_b in Q4_K.
    old = 404_430_188_519 - mixes.data_bytes(shape("DeepSeek-R1"), "Q4_K_M", False, (("attn_kv_b", "Q4_K"),))
    new = TAG_BYTES["DeepSeek-V3.1"] - mixes.data_bytes(shape("DeepSeek-V3.1"), "Q4_K_M")
    assert shape("DeepSeek-V3.1").is_mla and not shape("DeepSeek-R1").is_mla
    # The newer header describes 61 tensors more.
    assert 5e6 < old < new < old + 61 * 120


@pytest.mark.parametrize(
    ("name", "quantization", "listed"),
    [
        ("Qwen3-0.6B", "Q8_0", 0.832),
        ("Qwen3-1.7B", "Q8_0", 2.2),
        ("Qwen3-4B", "Q8_0", 4.4),
        ("Qwen3-4B-2507", "Q8_0", 4.3),
        ("Qwen3-8B", "Q8_0", 8.9),
        ("Qwen3-30B-A3B", "Q8_0", 33),
        ("Qwen3-30B-A3B-2507", "Q8_0", 32),
        ("Llama-3.1-8B", "Q6_K", 6.6),
        ("Llama-3.3-70B", "Q2_K", 26),
        ("DeepSeek-R1-Distill-Llama-70B", "Q8_0", 75),
        ("DeepSeek-R1", "Q8_0", 713),
        ("DeepSeek-V2-Lite", "Q6_K", 14),
        ("Gemma-3-27B", "Q8_0", 30),
        ("SmolLM2-135M", "Q4_K_M", 0.105),
    ],
)
def test_other_tags_of_the_library(name: str, quantization: str, listed: float) -> None:
    digits = len(str(listed).partition(".")[2])
    gigabytes = library_bytes(name, quantization) / 1e9
    assert gigabytes == pytest.approx(listed, abs=0.5 * 10**-digits + 0.012)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("DeepSeek-R1-Distill-Llama-70B", "DeepSeek-R1-Distill-Llama-70B"),
        ("deepseek-r1:70b", "DeepSeek-R1-Distill-Llama-70B"),
        (" R1-Llama-70B ", "DeepSeek-R1-Distill-Llama-70B"),
        ("deepseek-r1:8b", "DeepSeek-R1-0528-Qwen3-8B"),
        ("qwen3:4b", "Qwen3-4B-2507"),
        ("gpt-oss", "gpt-oss-20b"),
    ],
)
def test_models_are_found_as_people_write_them(said: str, meant: str) -> None:
    assert catalogue.model_by_name(said)["name"] == meant


def test_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(SizingError, match="did you mean qwen2.5-32b"):
        catalogue.model_by_name("qwen2.5-32bb")


def test_own_rows_stand_before_the_catalogue() -> None:
    own: dict[str, Any] = {"name": "Own", "aliases": ["mistral"], "shape": {}}
    assert catalogue.model_by_name("MISTRAL", [own]) is own
    assert catalogue.model_by_name("mistral:7b", [own])["name"] == "Mistral-7B"
    assert catalogue.model_by_name("mistral")["name"] == "Mistral-7B"


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([{"name": "a"}, {"name": "b", "aliases": ["A"]}], "row 2 of the extra model rows has the name 'A' of row 'a'"),
        (["a"], "row 1 of the extra model rows is 'a'"),
        ([{"aliases": ["a"]}], "has no name"),
        ([{"name": "a", "aliases": "b"}], "give a list of names"),
        ([{"name": "a", "aliases": [1]}], "has the alias 1"),
        ({"name": "a"}, "give a list of mappings"),
    ],
)
def test_malformed_rows_are_refused(rows: Any, part: str) -> None:
    with pytest.raises(SizingError, match=part):
        catalogue.load_models(rows)


def test_gpus_are_found_too() -> None:
    name = next(iter(catalogue.load_gpus().values()))["name"]
    assert catalogue.gpu_by_name(name.upper())["name"] == name


def test_every_mix_has_a_row_with_its_bits() -> None:
    assert set(QUANTIZATIONS) == set(mixes.MIXES)
    eight_b = shape("Llama-3.1-8B")
    for name, row in QUANTIZATIONS.items():
        bits = mixes.bits_per_weight(eight_b, name, row["imatrix_assumed"])
        assert row["bits_per_weight"] == pytest.approx(bits, abs=0.00006), name
        assert row["source"].strip() and row["hardware"]["required"] == "none"


def test_ranks_follow_the_measured_quality() -> None:
    rows = sorted(QUANTIZATIONS.values(), key=lambda row: row["rank"])
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    measured = [row["quality"]["kld"] for row in rows if row["quality"]["kld"] is not None]
    assert measured == sorted(measured) and len(measured) == 26
    for row in rows:
        better = row.get("quality_with_imatrix")
        assert better is None or better["kld"] < row["quality"]["kld"]


def test_what_is_recommended() -> None:
    recommended = {name for name, row in QUANTIZATIONS.items() if row["recommended"]}
    assert recommended == {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "MXFP4_MOE"}
    for row in QUANTIZATIONS.values():
        assert not (row["recommended"] and row["huge_moe_only"])
        assert row["bits_per_weight"] >= 3 or row["huge_moe_only"] or row["published_form_only"]


def test_cache_types_have_the_bytes_of_their_blocks() -> None:
    rows = catalogue.load_kv_cache_types()
    assert set(rows) == {"f16", "q8_0", "q4_0"}
    for name, row in rows.items():
        kind = BY_NAME[name.upper()]
        assert row["bytes_per_element"] == kind.block_bytes / kind.block_elements
        assert row["source"].strip()
