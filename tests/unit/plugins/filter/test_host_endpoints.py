"""The wiring between inference hosts and the gateway's pool."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.host_endpoints import FilterModule

host_endpoints = FilterModule().filters()["host_endpoints"]
HOSTVARS = {
    "a": {"llm_address": "192.0.2.1", "ansible_host": "ignored", "ollama_port": "12000", "llm_weight": "3"},
    "b": {"ansible_host": "192.0.2.2"},
    "c": {},
}


def test_address_port_and_weight_come_from_the_host():
    assert host_endpoints(["b", "a", "c"], HOSTVARS) == [
        {"name": "b", "address": "192.0.2.2", "port": 11434, "weight": 1},
        {"name": "a", "address": "192.0.2.1", "port": 12000, "weight": 3},
        {"name": "c", "address": "c", "port": 11434, "weight": 1},
    ]


def test_unknown_host_is_named():
    with pytest.raises(AnsibleFilterError, match="gone is not in the inventory"):
        host_endpoints(["gone"], HOSTVARS)


def test_one_name_in_place_of_a_list_is_refused():
    with pytest.raises(AnsibleFilterError, match="list of host names"):
        host_endpoints("a", HOSTVARS)
