# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the packet filter: what they refuse to take."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.firewall_rules import firewall_rules
from ansible_collections.baremetal.llm.plugins.filter.nft_table import nft_table
from ansible_collections.baremetal.llm.plugins.filter.reachability import matrix
from ansible_collections.baremetal.llm.plugins.filter.unexplained_listeners import unexplained_listeners

ZONES = {"edge": {"networks": ["192.0.2.0/24"]}}
SERVICES = {"web": {"ports": [{"port": 443}], "from": ["edge"]}}


def test_rules_name_the_host_of_a_refusal() -> None:
    assert firewall_rules(ZONES, SERVICES, "gw")[0]["comment"] == "web from edge"
    with pytest.raises(AnsibleFilterError, match="gw: firewall_services is 1; give a mapping"):
        firewall_rules(ZONES, 1, "gw")
    with pytest.raises(AnsibleFilterError, match="direction is 'up'; it is in or out"):
        firewall_rules(ZONES, SERVICES, "gw", direction="up")


def test_the_matrix_takes_a_list_of_hosts() -> None:
    assert [row["source"] for row in matrix(ZONES, SERVICES, ["gw"]) if row["allowed"]] == ["edge"]
    with pytest.raises(AnsibleFilterError, match="takes a list of host names"):
        matrix(ZONES, SERVICES, "gw")
    with pytest.raises(AnsibleFilterError, match="firewall_zones is None; give a mapping"):
        matrix(None, SERVICES, ["gw"])


def test_listeners_are_those_of_listen_ports_facts() -> None:
    assert unexplained_listeners([], []) == []
    with pytest.raises(AnsibleFilterError, match="takes what listen_ports_facts lists"):
        unexplained_listeners([{"port": 1}], [])


def test_a_table_is_what_nft_lists() -> None:
    assert nft_table('{"nftables": [{"table": {"name": "t", "handle": 3}}]}') == [{"table": {"name": "t"}}]
    with pytest.raises(AnsibleFilterError, match="nft_table: this is no list of nft"):
        nft_table("")
