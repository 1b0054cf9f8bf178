# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""plan_deviations: plans that fit recorded runners pass, and each figure that does not is found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter import plan_deviations as plugin
from ansible_collections.baremetal.llm.plugins.module_utils import runner_log
from ansible_collections.baremetal.llm.plugins.module_utils.runner_log import Process, Stored

ROOT = Path(__file__).parents[4]
LOGS = ROOT / "tests" / "fixtures" / "runner"

plan_deviations = plugin.FilterModule().filters()["plan_deviations"]


def runner(log: str, name: str, pid: int = 100, size_vram: int = 0) -> dict[str, Any]:
    """The runner of a recorded log, as ollama_runner_info gives it."""
    section = runner_log.parse((LOGS / f"{log}.log").read_text().splitlines())[0]
    stored = {section.command.blob_sha256: (Stored(name, "d"),)}
    ps = [{"name": name, "digest": "d", "size_vram": size_vram}]
    return runner_log.runners([section], [Process(pid, section.command, 1)], stored, ps)[0]


def part(model: str, weights: float, kv_cache: float, compute: float, total: float) -> dict[str, Any]:
    return {
        "model": model,
        "weights_mib": weights,
        "kv_cache_mib": kv_cache,
        "compute_mib": compute,
        "overhead_mib": round(total - weights - kv_cache - compute, 1),
        "total_mib": total,
    }


def host_mib(weights: float, kv_cache: float, compute: float, output: float) -> dict[str, float]:
    return {"weights_mib": weights, "kv_cache_mib": kv_cache, "compute_mib": compute, "output_mib": output}


def planned(
    name: str, in_host: dict[str, float], gpus: list[Any], layers: tuple[int, int], context: int, slots: int
) -> dict[str, Any]:
    """A plan of one model on one host; C(gpus) is a list of parts for each GPU."""
    return {
        "models": [{"name": name, "tag": f"{name}-q4", "slots_total": slots, "replicas": [{"host": "g1"}]}],
        "hosts": [
            {
                "name": "g1",
                "parallel": slots,
                "environment": {"OLLAMA_KV_CACHE_TYPE": "f16", "OLLAMA_FLASH_ATTENTION": "1"},
                "gpus": [
                    {
                        "index": number,
                        "name": "NVIDIA H200",
                        "uuid": "",
                        "memory_free_mib": 143156,
                        "visible": True,
                        "parts": parts,
                    }
                    for number, parts in enumerate(gpus)
                ],
                "models": [
                    {
                        "name": name,
                        "tag": f"{name}-q4",
                        "context_length": context,
                        "num_gpu": layers[0],
                        "layers_total": layers[1],
                        "host_mib": in_host,
                    }
                ],
            }
        ],
    }


def cpu() -> tuple[dict[str, Any], list[Any]]:
    plan = planned("smol:1", host_mib(92.1, 90.0, 15.5, 0.4), [], (0, 31), 2048, 2)
    return plan, [runner("cpu-smollm2", "smol:1-q4")]


def h200() -> tuple[dict[str, Any], list[Any]]:
    in_host = host_mib(292.4, 0.0, 18.0, 0.6)
    plan = planned("r1:7b", in_host, [[part("r1:7b", 4168.1, 224.0, 136.0, 5148.8)]], (29, 29), 4096, 1)
    return plan, [runner("h200-7b", "r1:7b-q4", size_vram=4748056984)]


def two_h200() -> tuple[dict[str, Any], list[Any]]:
    parts = [[part("r1:32b", 9211.2, 4224.0, 528.1, 14610.0)], [part("r1:32b", 9297.1, 3968.0, 528.1, 14440.0)]]
    plan = planned("r1:32b", host_mib(417.7, 0.0, 104.1, 2.3), parts, (65, 65), 8192, 4)
    return plan, [runner("h200-x2-32b", "r1:32b-q4")]


def gpu(index: int, used: int, processes: list[dict[str, Any]] | None = None, uuid: str = "") -> dict[str, Any]:
    return {
        "index": index,
        "uuid": uuid,
        "memory_used_mib": used,
        "memory_free_mib": 143156 - used,
        "processes": processes or [],
        "mig": {"devices": []},
    }


def figures(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[Any, Any]]:
    return {(row["device"], row["what"]): (row["planned"], row["found"]) for row in rows}


def wrong(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["device"], row["what"]) for row in rows if not row["ok"]]


@pytest.mark.parametrize("case", [cpu, h200, two_h200])
def test_what_was_planned_runs(case: Any) -> None:
    plan, runners = case()
    rows = plan_deviations(plan, "g1", runners)
    assert wrong(rows) == []
    assert {(row["severity"], row["sentence"]) for row in rows} == {(0, "")}
    assert [row["what"] for row in rows if row["note"] and row["what"] != "size_vram"] == []


def test_figures_of_a_processor() -> None:
    plan, runners = cpu()
    assert figures(plan_deviations(plan, "g1", runners)) == {
        ("", "context of a slot"): (2048, 2048),
        ("", "slots"): (2, 2),
        ("", "KV cache type"): ("f16", "f16"),
        ("", "flash attention"): (True, True),
        ("", "layers on GPUs"): (0, 0),
        ("host", "weights"): (92.1, 92.1),
        ("host", "KV cache"): (90.0, 90.0),
        ("host", "compute buffer"): (15.5, 15.51),
        ("host", "output buffer"): (0.4, 0.38),
    }


def test_figures_of_two_gpus() -> None:
    found = figures(plan_deviations(*two_h200()[:1], "g1", two_h200()[1]))
    assert found["GPU0", "weights"] == (9211.2, 9211.25)
    assert found["GPU1", "KV cache"] == (3968.0, 3968.0)
    assert found["host", "compute buffer"] == (104.1, 104.09)


@pytest.mark.parametrize(
    ("where", "key", "value", "device", "what"),
    [
        ("model", "context_length", 8192, "", "context of a slot"),
        ("host", "parallel", 2, "", "slots"),
        ("environment", "OLLAMA_KV_CACHE_TYPE", "q8_0", "", "KV cache type"),
        ("environment", "OLLAMA_FLASH_ATTENTION", "0", "", "flash attention"),
        ("model", "num_gpu", 28, "", "layers on GPUs"),
        ("part", "weights_mib", 4300.0, "GPU0", "weights"),
        ("part", "kv_cache_mib", 448.0, "GPU0", "KV cache"),
        ("part", "compute_mib", 131.0, "GPU0", "compute buffer"),
        ("in_host", "weights_mib", 0.0, "host", "weights"),
        ("in_host", "kv_cache_mib", 16.0, "host", "KV cache"),
        ("in_host", "compute_mib", 36.0, "host", "compute buffer"),
        ("in_host", "output_mib", 2.3, "host", "output buffer"),
    ],
)
def test_each_deviation_is_found(where: str, key: str, value: Any, device: str, what: str) -> None:
    plan, runners = h200()
    plan["models"] = []
    host = plan["hosts"][0]
    places = {
        "host": host,
        "environment": host["environment"],
        "model": host["models"][0],
        "in_host": host["models"][0]["host_mib"],
        "part": host["gpus"][0]["parts"][0],
    }
    places[where][key] = value
    rows = plan_deviations(plan, "g1", runners)
    # A model that is said to lie only in part on GPUs makes no statement about its weights in main memory.
    assert wrong(rows) == [(device, what)]
    bad = next(row for row in rows if not row["ok"])
    assert bad["severity"] > 0 and what in bad["sentence"] and "on g1" in bad["sentence"]
    assert bad["line"].endswith(" NO")


def test_the_tolerance_is_what_is_asked() -> None:
    plan, runners = h200()
    plan["hosts"][0]["gpus"][0]["parts"][0]["weights_mib"] = 4250.0
    rows = plan_deviations(plan, "g1", runners)
    assert wrong(rows) == []
    row = next(row for row in rows if (row["device"], row["what"]) == ("GPU0", "weights"))
    assert (row["difference_percent"], row["note"]) == (-1.9, "within the tolerance, not exact")
    assert wrong(plan_deviations(plan, "g1", runners, tolerance_percent=1)) == [("GPU0", "weights")]


def test_two_caches_of_sliding_windows_add_up_and_size_vram_misses_one() -> None:
    parts = [[part("gemma:27b", 15774.0, 1472.0, 330.0, 18220.0)]]
    plan = planned("gemma:27b", host_mib(1102.8, 0.0, 62.0, 1.0), parts, (63, 63), 8192, 1)
    rows = plan_deviations(plan, "g1", [runner("h200-gemma3-27b", "gemma:27b", size_vram=17758693621)])
    assert wrong(rows) == []
    size = next(row for row in rows if row["what"] == "size_vram")
    assert (size["planned"], size["found"], size["difference_percent"]) == (17576.0, 16936.0, -3.6)
    assert "misses one of two caches" in size["note"]


def partly() -> tuple[dict[str, Any], list[Any]]:
    parts = [[part("r1:7b", 3883.7, 208.0, 183.4, 4882.0)]]
    # Tensors of main memory are 413.1 MiB; mapped is a span of 576.77.
    plan = planned("r1:7b", host_mib(413.1, 16.0, 18.0, 0.6), parts, (27, 29), 4096, 1)
    return plan, [runner("h200-7b-partly", "r1:7b")]


def test_mapped_spans_are_not_compared_when_layers_are_split() -> None:
    plan, runners = partly()
    rows = plan_deviations(plan, "g1", runners)
    assert wrong(rows) == []
    weights = next(row for row in rows if (row["device"], row["what"]) == ("host", "weights"))
    assert (weights["found"], weights["note"][:12]) == (576.77, "not compared")


def test_repacked_weights_count_once() -> None:
    plan, runners = cpu()
    runners[0]["buffers"].append({"device": "CPU_REPACK", "kind": "weights", "mib": 60.0})
    rows = plan_deviations(plan, "g1", runners)
    assert wrong(rows) == []
    assert [row["note"] for row in rows if row["note"]] == ["60.0 MiB of it are repacked copies"]
    plan["hosts"][0]["models"][0]["host_mib"]["weights_mib"] = 80.0
    assert wrong(plan_deviations(plan, "g1", runners)) == [("host", "weights")]


def test_another_equal_gpu_is_no_deviation() -> None:
    plan, runners = h200()
    plan["hosts"][0]["gpus"].append({**plan["hosts"][0]["gpus"][0], "index": 1, "parts": []})
    for buffer in runners[0]["buffers"]:
        buffer["device"] = buffer["device"].replace("CUDA0", "CUDA1")
    rows = plan_deviations(plan, "g1", runners)
    assert wrong(rows) == []
    assert {row["note"] for row in rows if row["device"] == "GPU1"} == {"planned for GPU 0"}


def test_one_gpu_more_than_planned_is_a_deviation() -> None:
    plan, runners = two_h200()
    plan["hosts"][0]["gpus"][1]["parts"] = []
    assert ("GPU1", "weights") in wrong(plan_deviations(plan, "g1", runners))


def test_gpus_are_numbered_as_the_runner_sees_them() -> None:
    plan, runners = h200()
    hidden = {**plan["hosts"][0]["gpus"][0], "index": 0, "visible": False, "parts": []}
    plan["hosts"][0]["gpus"][0]["index"] = 1
    plan["hosts"][0]["gpus"].insert(0, hidden)
    rows = plan_deviations(plan, "g1", runners, [gpu(0, 99999), gpu(1, 5139)])
    assert wrong(rows) == []
    assert figures(rows)["GPU0", "memory of all models"] == (5148.8, 5139.0)


def test_memory_of_the_process() -> None:
    plan, runners = h200()
    process = {"pid": 100, "name": "llama-server", "used_mib": 5138}
    other = {"pid": 7, "name": "python", "used_mib": 60000}
    rows = plan_deviations(plan, "g1", runners, [gpu(0, 65147, [other, process])])
    assert wrong(rows) == []
    assert figures(rows)["GPU0", "memory of its process"] == (5148.8, 5138.0)
    process["used_mib"] = 5148 + 160
    assert wrong(plan_deviations(plan, "g1", runners, [gpu(0, 0, [process])])) == [("GPU0", "memory of its process")]


def test_memory_of_a_gpu_is_that_of_all_loaded_models() -> None:
    plan, runners = h200()
    host = plan["hosts"][0]
    host["gpus"][0]["parts"].append(part("lite", 9771.4, 243.0, 168.3, 10790.0))
    host["models"].append({**host["models"][0], "name": "lite", "tag": "lite"})
    rows = plan_deviations(plan, "g1", runners, [gpu(0, 5147)], models=["r1:7b-q4"])
    assert figures(rows)["GPU0", "memory of all models"] == (5148.8, 5147.0)
    runners.append({**copy.deepcopy(runners[0]), "names": ["lite:latest"]})
    rows = plan_deviations(plan, "g1", runners, [gpu(0, 15929)])
    memory = [row for row in rows if row["what"] == "memory of all models"]
    assert [(row["planned"], row["found"], row["ok"]) for row in memory] == [(15938.8, 15929.0, True)]


def test_a_small_model_may_differ_by_mib() -> None:
    plan, runners = h200()
    assert wrong(plan_deviations(plan, "g1", runners, [gpu(0, 5148 + 170)])) == [("GPU0", "memory of all models")]
    assert wrong(plan_deviations(plan, "g1", runners, [gpu(0, 5148 + 170)], tolerance_mib=200)) == []


def test_a_mig_device_is_found_by_its_uuid() -> None:
    plan, runners = h200()
    plan["hosts"][0]["gpus"][0].update(uuid="MIG-1", memory_free_mib=70000)
    real = gpu(0, 0, uuid="GPU-1")
    real["mig"]["devices"] = [{"uuid": "MIG-0", "memory_free_mib": 1}, {"uuid": "MIG-1", "memory_free_mib": 64861}]
    rows = plan_deviations(plan, "g1", runners, [real])
    assert figures(rows)["GPU0", "memory of all models"] == (5148.8, 5139.0)
    assert wrong(rows) == []


def test_a_model_that_is_not_loaded() -> None:
    plan, runners = h200()
    rows = plan_deviations(plan, "g1", [{**runners[0], "names": ["else:1"]}])
    assert [(row["what"], row["planned"], row["found"], row["ok"], row["note"]) for row in rows] == [
        ("loaded", True, False, False, "not loaded: ask it first")
    ]
    assert rows[0]["sentence"].startswith("r1:7b on g1: loaded is no, planned was yes; ask it for a token first")


def test_names_are_those_of_the_tag_or_of_the_plan() -> None:
    plan, runners = h200()
    for name in ("r1:7b", "R1:7B-Q4", "registry.ollama.ai/library/r1:7b"):
        assert wrong(plan_deviations(plan, "g1", [{**runners[0], "names": ["x", name]}])) == []


def test_of_two_runners_the_one_that_the_server_knows_counts() -> None:
    plan, runners = h200()
    orphan = {**copy.deepcopy(runners[0]), "loaded": [], "pid": 900, "slots": 7}
    for order in ([orphan, runners[0]], [runners[0], orphan]):
        assert wrong(plan_deviations(plan, "g1", order)) == []


def test_a_model_with_one_slot_beside_models_with_many() -> None:
    plan, runners = h200()
    plan["hosts"][0]["parallel"] = 4
    assert wrong(plan_deviations(plan, "g1", runners)) == []
    plan["models"][0]["slots_total"] = 4
    assert wrong(plan_deviations(plan, "g1", runners)) == [("", "slots")]


@pytest.mark.parametrize(
    ("logged", "why"), [(False, "the log no longer holds its start"), (True, "it is still loading")]
)
def test_a_runner_without_figures_does_not_pass(logged: bool, why: str) -> None:
    plan, runners = h200()
    rows = plan_deviations(plan, "g1", [{**runners[0], "buffers": [], "logged": logged}])
    assert wrong(rows) == [("", "buffers")] and why in rows[-1]["sentence"]


def test_mixed_logs_are_said() -> None:
    plan, runners = h200()
    plan["hosts"][0]["gpus"][0]["parts"][0]["weights_mib"] = 1.0
    rows = plan_deviations(plan, "g1", [{**runners[0], "mixed": True}])
    assert "unload both and ask one after the other" in next(row["sentence"] for row in rows if not row["ok"])


def test_a_wrong_setting_is_worse_than_what_follows_from_it() -> None:
    plan, runners = h200()
    plan["hosts"][0]["models"][0]["context_length"] = 512
    plan["hosts"][0]["gpus"][0]["parts"][0]["kv_cache_mib"] = 1.0
    rows = plan_deviations(plan, "g1", runners)
    assert max(rows, key=lambda row: row["severity"])["what"] == "context of a slot"


def test_lines_stand_under_their_head_within_100_columns() -> None:
    plan, runners = h200()
    plan["hosts"][0]["models"][0]["context_length"] = 123456789012
    for part_ in plan["hosts"][0]["gpus"][0]["parts"]:
        part_["weights_mib"] = 0.1
    plan["hosts"][0]["models"][0]["name"] = "a-long-name-of-a-model:with-a-long-tag"
    lines = [row["line"] for row in plan_deviations(plan, "g1", runners, [gpu(0, 5147)])]
    assert max(map(len, lines)) <= 100
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/validate_report.yml").read_text())
    head = tasks[0]["vars"]["llm_head"].split("'")[1] % ("model", "where", "what", "planned", "found", "+/- %", "ok")
    assert all(line[head.index("ok") :] in ("ok", "NO") for line in lines)


def test_errors_are_one_sentence() -> None:
    plan, runners = h200()
    for arguments, sentence in (
        ((plan, "g2", runners), "'g2' is no host of the plan: did you mean g1"),
        (("plan", "g1", runners), "the plan is a str"),
        ((plan, "g1", {}), "runners is a dict"),
        (({"models": []}, "g1", runners), "key 'hosts' is missing"),
        ((plan, "g1", runners, [], "much"), "could not convert string to float"),
    ):
        with pytest.raises(AnsibleFilterError, match=sentence):
            plan_deviations(*arguments)


def test_its_documentation_names_what_it_returns() -> None:
    plan, runners = h200()
    documented = yaml.safe_load(plugin.RETURN)["_value"]["contains"]
    assert set(plan_deviations(plan, "g1", runners)[0]) == set(documented)
