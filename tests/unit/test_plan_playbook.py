# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/plan.yml in a copy of the checkout: hosts that do not exist, hardware as data, goals that cannot be met."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
H100 = {"name": "NVIDIA H100 80GB HBM3", "count": 1}
R1_70B = {"name": "deepseek-r1:70b", "users": 50, "context_length": 8192, "min_tokens_per_second": 12}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as an installed collection, with an ssh that fails the test."""
    folder = tmp_path_factory.mktemp("copy")
    collection = folder / "ansible_collections" / "baremetal" / "llm"
    for part in ("playbooks", "plugins", "catalogue", "meta", "inventories"):
        shutil.copytree(ROOT / part, collection / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", collection)
    ssh = folder / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {folder}/ssh-was-called\nexit 255\n", encoding="utf-8")
    ssh.chmod(0o755)
    return folder


def play(copy: Path, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_COLLECTIONS_PATH": str(copy),
        "ANSIBLE_SSH_EXECUTABLE": str(copy / "ssh"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    extra = ["-e", json.dumps(variables)] if variables else []
    run = subprocess.run(
        ("ansible-playbook", "baremetal.llm.plan", *words, *extra),
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (copy / "ssh-was-called").exists()
    return run


def test_the_example_inventory_is_planned_without_its_hosts(copy: Path) -> None:
    prod = copy / "ansible_collections/baremetal/llm/inventories/prod"
    run = play(copy, "-i", str(prod), "--check", llm_report_directory=str(copy / "report"))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 model on 4 of 4 hosts, all goals are met" in run.stdout
    assert "unreachable=1" not in run.stdout and "changed=1" not in run.stdout
    found = json.loads((copy / "report" / "plan.json").read_text(encoding="utf-8"))
    assert found["schema"] == 1 and found["feasible"]
    assert [host["name"].partition(".")[0] for host in found["hosts"]] == ["gpu1", "gpu2", "gpu3", "gpu4"]
    assert (copy / "report" / "plan.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_goal_that_cannot_be_met_stops_the_run_after_the_report(copy: Path) -> None:
    run = play(
        copy,
        "--connection=local",
        llm_gpus=[H100],
        llm_hosts_planned=4,
        llm_models=[{**R1_70B, "min_tokens_per_second": 20}],
        llm_report_directory=str(copy / "bad"),
    )
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "NOT POSSIBLE (speed): deepseek-r1:70b is asked for 50 users" in said and "  3. " in said
    found = json.loads((copy / "bad" / "plan.json").read_text(encoding="utf-8"))
    assert not found["feasible"] and len(found["problems"][0]["alternatives"]) == 3
    assert [host["name"] for host in found["hosts"]] == ["planned1", "planned2", "planned3", "planned4"]


def test_hardware_as_data_without_an_inventory(copy: Path) -> None:
    run = play(copy, "--connection=local", llm_gpus=[{**H100, "count": 8}], llm_models=[{"name": "deepseek-r1:70b"}])
    assert run.returncode == 0, run.stdout + run.stderr
    assert "planned  8 x NVIDIA H100 80GB HBM3, 1 slot each" in run.stdout


def test_the_plan_is_a_fact_of_all_hosts_and_goes_to_workflows(copy: Path, tmp_path: Path) -> None:
    inventory = {
        "inference": {"hosts": {"a": {"llm_gpus": [H100]}, "b": {"llm_gpus": ["L40S"]}}},
        "gateways": {"hosts": {"g": {}}},
        "all": {"vars": {"llm_models": [{"name": "llama3.1:8b", "users": 2}]}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    after = tmp_path / "after.yml"
    after.write_text(
        yaml.safe_dump(
            [
                {"ansible.builtin.import_playbook": "baremetal.llm.plan"},
                {
                    "hosts": "inference:gateways",
                    "gather_facts": False,
                    "tasks": [
                        {"ansible.builtin.assert": {"that": ["llm_plan.feasible", "llm_plan.hosts | length == 2"]}},
                        {
                            "ansible.builtin.assert": {
                                "that": "(llm_plan | baremetal.llm.ollama_environment('b')).OLLAMA_NUM_PARALLEL == '2'"
                            }
                        },
                    ],
                },
            ]
        ),
        encoding="utf-8",
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(copy),
        "ANSIBLE_SHOW_CUSTOM_STATS": "true",
        "ANSIBLE_NOCOLOR": "true",
    }
    run = subprocess.run(
        ("ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(after)),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "CUSTOM STATS" in run.stdout and "llm_plan" in run.stdout.rpartition("CUSTOM STATS")[2]


def test_an_entry_that_makes_no_sense_is_one_sentence(copy: Path) -> None:
    run = play(copy, "--connection=local", llm_gpus=[H100], llm_models=[{"name": "deepseek-r1:70b", "user": 4}])
    assert run.returncode != 0
    assert "did you mean users?" in run.stdout + run.stderr
