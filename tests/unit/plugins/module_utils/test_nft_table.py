# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tables are equal where their rules are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.nft_table import NftError, rules_only


def table(
    handle: int = 1,
    packets: int = 0,
    port: int = 22,
    elements: tuple[str, ...] = ("a", "b"),
    flags: tuple[str, ...] = ("dynamic", "timeout"),
    **more: Any,
) -> str:
    def rule(right: int) -> dict[str, Any]:
        match = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}}
        counter = {"counter": {"packets": packets, "bytes": packets * 60}}
        return {
            "rule": {"table": "t", "chain": "c", "handle": handle + right, "expr": [match, counter, {"accept": None}]}
        }

    entries = [
        {"metainfo": {"version": "1", "handle": handle}},
        {"table": {"name": "t", "handle": handle}},
        {"set": {"name": "zone", "handle": handle, "flags": ["interval"], "elem": list(elements)}},
        {"set": {"name": "seen", "flags": list(flags), **more}},
        rule(port),
        rule(443),
    ]
    return json.dumps({"nftables": entries})


def test_handles_counters_and_learned_elements_do_not_count() -> None:
    assert rules_only(table()) == rules_only(table(handle=70, packets=9, elem=["192.0.2.1"]))
    # As nft 1.0.6 lists such a set.
    only = ("timeout",)
    assert rules_only(table(flags=only)) == rules_only(table(flags=only, elem=["192.0.2.1"]))


def test_elements_have_no_order_and_rules_have_one() -> None:
    assert rules_only(table()) == rules_only(table(elements=("b", "a")))
    listed = json.loads(table())
    listed["nftables"][-2:] = reversed(listed["nftables"][-2:])
    assert rules_only(json.dumps(listed)) != rules_only(table())


def test_ports_and_elements_count() -> None:
    assert rules_only(table()) != rules_only(table(port=23))
    assert rules_only(table()) != rules_only(table(elements=("a",)))


@pytest.mark.parametrize("text", ["", "Error: No such file or directory", "[]", "{}"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NftError, match="this is no list of nft"):
        rules_only(text)
