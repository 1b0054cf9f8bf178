# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Denials are counted once, are understood in every form, and belong to the right owner."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.mac_denials import FilterModule
from hypothesis import given
from hypothesis import strategies as st

mac_denials = FilterModule().filters()["mac_denials"]

SHADOW = (
    'avc:  denied  { read } for  pid=812 comm="probe" name="shadow" dev="vda2" ino=1311 '
    "scontext=system_u:system_r:llm_ollama_t:s0 tcontext=system_u:object_r:shadow_t:s0 tclass=file permissive=0"
)
KERNEL = f"audit: type=1400 audit(1763850000.100:41): {SHADOW}"
RAW = f"type=AVC msg=audit(1763850000.100:41): {SHADOW}"
USER = (
    "type=USER_AVC msg=audit(1763850001.000:50): pid=1 uid=0 auid=4294967295 ses=4294967295 "
    'subj=system_u:system_r:init_t:s0 msg=\'avc:  denied  { start stop } for auid=n/a uid=0 cmdline="" '
    "scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:object_r:unit_t:s0 tclass=service permissive=1 "
    'exe="/usr/lib/systemd/systemd" sauid=0 hostname=? addr=? terminal=?\''
)
APPARMOR = (
    'audit: type=1400 audit(1763850002.000:60): apparmor="DENIED" operation="open" class="file" '
    'profile="llm_ollama" name="/etc/shadow" pid=900 comm="probe" requested_mask="r" denied_mask="r" fsuid=0 ouid=0'
)
OURS = ["llm_ollama_t", "llm_ollama_port_t", "httpd_t", "llm_ollama"]


def only(found: dict[str, Any], group: str) -> dict[str, Any]:
    (one,) = found[group]
    return one


def test_selinux_denial_is_read() -> None:
    assert only(mac_denials([RAW], OURS), "ours") == {
        "source": "llm_ollama_t",
        "target": "shadow_t",
        "class": "file",
        "permissions": ["read"],
        "command": "probe",
        "path": "shadow",
        "permissive": False,
        "count": 1,
    }


def test_one_event_in_two_logs_counts_once() -> None:
    assert mac_denials([KERNEL, RAW], OURS)["counts"] == {"ours": 1, "accepted": 0, "others": 0}


def test_equal_denials_of_different_events_are_counted() -> None:
    found = mac_denials([RAW, RAW.replace(":41)", ":42)")], OURS)
    assert only(found, "ours")["count"] == found["counts"]["ours"] == 2
    assert found["sentences"] == ["llm_ollama_t (probe) may not read file shadow_t (shadow), 2 times"]


def test_denials_without_an_event_number_are_all_counted() -> None:
    assert mac_denials([SHADOW, SHADOW], OURS)["counts"]["ours"] == 2


def test_denial_by_a_program_is_read() -> None:
    one = only(mac_denials([USER], OURS), "ours")
    assert (one["source"], one["target"], one["class"]) == ("httpd_t", "unit_t", "service")
    assert one["permissions"] == ["start", "stop"] and one["permissive"]


def test_apparmor_denial_is_read() -> None:
    one = only(mac_denials([APPARMOR], OURS), "ours")
    assert (one["source"], one["target"], one["permissions"]) == ("llm_ollama", "/etc/shadow", ["r"])
    assert (one["command"], one["permissive"]) == ("probe", False)
    assert only(mac_denials([APPARMOR.replace("DENIED", "ALLOWED")], OURS), "ours")["permissive"]


def test_apparmor_status_messages_are_no_denials() -> None:
    line = 'audit: type=1400 audit(1.0:1): apparmor="STATUS" operation="profile_load" profile="unconfined" name="x"'
    assert mac_denials([line, "apparmor: DENIED by me", "avc: granted { read }"])["counts"]["others"] == 0


def test_path_in_hex_is_read() -> None:
    line = RAW.replace('name="shadow"', "name=" + b"a b".hex().upper())
    assert only(mac_denials([line], OURS), "ours")["path"] == "a b"


def test_number_of_a_process_is_not_taken_for_hex() -> None:
    line = RAW.replace('comm="probe"', "comm=6F6C")
    assert only(mac_denials([line], OURS), "ours")["command"] == "ol"


def test_command_line_cannot_pretend_to_be_another_domain() -> None:
    line = USER.replace('cmdline=""', "cmdline=scontext=a:b:harmless_t:s0 scontext=a:b:harmless_t:s0")
    assert only(mac_denials([line], OURS), "ours")["source"] == "httpd_t"


def test_most_frequent_comes_first() -> None:
    write = RAW.replace("{ read }", "{ append }").replace(":41)", ":43)")
    found = mac_denials([write, RAW, RAW.replace(":41)", ":42)")], OURS)
    assert [(each["permissions"], each["count"]) for each in found["ours"]] == [(["read"], 2), (["append"], 1)]


def test_denial_on_our_objects_is_ours() -> None:
    line = RAW.replace("llm_ollama_t", "sshd_t").replace("shadow_t", "llm_ollama_port_t")
    assert mac_denials([line], OURS)["counts"]["ours"] == 1


def test_denials_of_others_are_not_ours() -> None:
    found = mac_denials([RAW.replace("llm_ollama_t", "getty_t")], OURS)
    assert found["counts"] == {"ours": 0, "accepted": 0, "others": 1} and found["sentences"] == []


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        ({"source": "llm_ollama_t"}, True),
        ({"source": "llm_ollama_t", "target": "shadow_t", "class": "file", "command": "probe"}, True),
        ({"source": "llm_ollama_t", "permissions": ["read", "open"]}, True),
        ({"source": "llm_ollama_t", "permissions": ["open"]}, False),
        ({"source": "llm_ollama_t", "command": "ollama"}, False),
        ({"target": "etc_t"}, False),
        ({"target": "shadow_t", "class": "dir"}, False),
    ],
)
def test_accepted_denials(rule: dict[str, Any], accepted: bool) -> None:
    counts = mac_denials([RAW], OURS, [{**rule, "reason": "why"}])["counts"]
    assert counts == {"ours": int(not accepted), "accepted": int(accepted), "others": 0}


def test_accepting_one_permission_does_not_accept_more() -> None:
    line = RAW.replace("{ read }", "{ read write }")
    assert mac_denials([line], OURS, [{"source": "llm_ollama_t", "permissions": ["read"]}])["counts"]["ours"] == 1


def test_one_text_in_place_of_lines_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="list of lines"):
        mac_denials(RAW)


@given(st.lists(st.text(max_size=80) | st.sampled_from([RAW, KERNEL, USER, APPARMOR])))
def test_any_lines_are_read_and_each_known_event_counts_once(lines: list[str]) -> None:
    known = {"41" if line in (RAW, KERNEL) else line for line in lines if line in (RAW, KERNEL, USER, APPARMOR)}
    found = mac_denials(lines, OURS)
    assert sum(found["counts"].values()) == len(known)
