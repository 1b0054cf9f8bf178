# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the role preflight: their calls and refusals, and undefined values through Ansible's own templating."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template
from ansible_collections.baremetal.llm.plugins.filter import preflight_findings, preflight_required_states


def test_findings_gives_a_report() -> None:
    call = preflight_findings.FilterModule().filters()["preflight_findings"]
    assert call({}, groups={"inference": []})["findings"][0]["problem"] == "the group inference has no hosts"
    assert call({})["ok"] is True


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        (["a"], "preflight_findings: got a list; give a dictionary of hosts."),
        ({"a": {"address": "x"}}, "preflight_findings: a host lacks the key 'wishes'; see ansible-doc for the keys."),
    ],
)
def test_findings_refuses_what_is_no_host(hosts: object, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        preflight_findings.preflight_findings(hosts)
    assert str(error.value) == sentence


def states(expression: str, variables: dict[str, object]) -> dict[str, str]:
    """The filter as a play calls it; templates in ``variables`` are resolved late, as those of an inventory are."""
    # By folder, as a play's own filters are found: Ansible's finder of collections is not at work in a unit test.
    filter_loader.add_directory(str(Path(preflight_required_states.__file__).parent))
    templar = Templar(loader=DataLoader(), variables=variables)
    call = "preflight_required_states"
    found = templar.template(trust_as_template("{{ " + expression + " | " + call + "(['changeme']) }}"))
    return {each["name"]: each["state"] for each in found}


VARIABLES: dict[str, object] = {
    "good": "k3y",
    "unset": trust_as_template("{{ vault_unset }}"),
    "nested": [{"key": trust_as_template("{{ vault_unset }}")}],
    "broken": trust_as_template("{{ lookup('ansible.builtin.file', '/does/not/exist') }}"),
    "example": {"key": trust_as_template("{{ 'change' ~ 'me' }}")},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("good", "ok"),
        ("absent", "missing"),
        ("unset", "missing"),
        ("nested", "missing"),
        ("broken", "missing"),
        ("example", "example"),
    ],
)
def test_variable_is_looked_up_by_its_name(name: str, expected: str) -> None:
    assert states(f"[{{'name': '{name}', 'secret': true}}]", VARIABLES) == {name: expected}


def test_given_value_wins_over_the_variable() -> None:
    assert states("[{'name': 'good', 'value': ''}]", VARIABLES) == {"good": "empty"}


def test_examples_of_all_are_for_secrets_only_and_own_ones_always() -> None:
    assert states("[{'name': 'example'}]", VARIABLES) == {"example": "ok"}
    assert states("[{'name': 'good', 'example_values': ['K3Y']}]", VARIABLES) == {"good": "example"}


def test_answer_has_no_value() -> None:
    found = preflight_required_states.FilterModule().filters()
    assert list(found) == ["preflight_required_states"]
    assert "k3y" not in str(states("[{'name': 'good'}]", VARIABLES))
