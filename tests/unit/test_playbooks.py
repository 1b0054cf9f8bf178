# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Playbooks against the inventories that users copy; nothing leaves this machine."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
USERS = ("inventories/prod", "inventories/single")
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))


def ansible(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ANSIBLE_NOCOLOR": "true", "ANSIBLE_FORCE_COLOR": "false"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("inventory", USERS)
def test_every_playbook_parses_with_every_inventory(inventory: str) -> None:
    for playbook in PLAYBOOKS:
        run = ansible("ansible-playbook", "--syntax-check", "-i", inventory, f"playbooks/{playbook}")
        assert run.returncode == 0, run.stderr


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).split())


def test_the_example_inventory_is_refused_until_it_is_filled_in() -> None:
    local = ("-e", "ansible_connection=local", "-e", "ansible_become=false")
    run = ansible("ansible-playbook", "-i", "inventories/prod", *local, "playbooks/preflight.yml")
    assert run.returncode != 0
    assert "nothing was changed" in said(run) and "gateway_keys" in said(run)
    assert "changed=1" not in run.stdout


def test_an_inventory_without_hosts_is_refused() -> None:
    run = ansible("ansible-playbook", "-i", "localhost,", "playbooks/preflight.yml")
    assert run.returncode != 0
    assert "no host in the groups gateways and inference" in said(run)
