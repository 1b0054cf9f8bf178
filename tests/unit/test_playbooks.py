# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Playbooks against the inventories that users copy; nothing leaves this machine."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

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


def test_the_firewall_opens_the_ports_that_services_are_configured_with(tmp_path: pathlib.Path) -> None:
    """gateway_port moves both; Ollama is open to the addresses of the gateways only."""
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(ROOT / "playbooks/vars/host.yml")],
        "vars": {"llm_zones": {name: {"interfaces": [name]} for name in ("management", "edge", "application")}},
        "tasks": [{"ansible.builtin.copy": {"dest": f"{tmp_path}/{{{{ inventory_hostname }}}}", "content": RULES}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    more = json.dumps(here | {"gateway_port": 8443, "gateway_http_port": 8080})
    hosts = "gateway1.llm.example.net,gpu1.llm.example.net"
    run = ansible(
        "ansible-playbook", "-i", "inventories/prod", "--limit", hosts, "-e", more, str(tmp_path / "play.yml")
    )
    assert run.returncode == 0, said(run)
    assert opened(tmp_path / "gateway1.llm.example.net") == {
        ("ssh", "22", "management"),
        ("gateway", "8443", "edge"),
        ("gateway", "8443", "application"),
        ("gateway_http", "8080", "edge"),
        ("gateway_http", "8080", "application"),
    }
    assert opened(tmp_path / "gpu1.llm.example.net") == {("ssh", "22", "management"), ("ollama", "11434", "gateways")}
    ollama = [
        rule for rule in json.loads((tmp_path / "gpu1.llm.example.net").read_text()) if rule["service"] == "ollama"
    ]
    assert ollama[0]["ipv4"] == ["192.0.2.11/32"]


RULES = (
    "{{ llm_zones | baremetal.llm.firewall_rules(llm_services, inventory_hostname, allow_sets=llm_allow_sets)"
    " | to_json }}"
)


def opened(file: pathlib.Path) -> set[tuple[str, str, str]]:
    rules = json.loads(file.read_text())
    return {(rule["service"], port, rule["zone"]) for rule in rules for port in rule["ports"]}
