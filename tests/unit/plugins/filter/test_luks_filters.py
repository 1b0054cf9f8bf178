# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the role luks: what they pass on, and what they say to a wrong input."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.luks_plan import FilterModule as Plan
from ansible_collections.baremetal.llm.plugins.filter.luks_refusals import FilterModule as Refusals
from ansible_collections.baremetal.llm.plugins.filter.luks_volumes import FilterModule as Volumes

volumes = Volumes().filters()["luks_volumes"]
refusals = Refusals().filters()["luks_refusals"]
plan = Plan().filters()["luks_plan"]
SETTINGS = {"directory": "/k", "mount_timeout": 9, "tang_servers": [], "tang_threshold": 1, "tpm2_pcrs": [7]}
LIMITS = {
    "wipe_devices": [],
    "keys": [],
    "tang_servers": [],
    "tang_threshold": 1,
    "vault": {"address": "", "path": ""},
    "root_encrypted": True,
    "memory_kib": 4_000_000,
    "pbkdf_memory_kib": 65536,
}
GIVEN = [{"name": "a", "device": "/dev/disk/by-id/a", "mount": "/a"}]
FOUND = {"path": "/dev/disk/by-id/a", "exists": True, "real_path": "/dev/sdb", "findings": [], "signatures": []}


def test_they_pass_on() -> None:
    complete = volumes(GIVEN, SETTINGS)
    assert complete[0]["key_file"] == "/k/a.key"
    assert refusals(GIVEN, LIMITS) == []
    assert plan(complete, [{**FOUND, "luks": None, "mapping": None}], {}, {}, [])[0]["action"] == "format"


@pytest.mark.parametrize(
    "call", [lambda bad: volumes(bad, {}), lambda bad: refusals(bad, {}), lambda bad: plan(bad, [], {}, {}, [])]
)
@pytest.mark.parametrize("bad", [None, {}, "a"])
def test_anything_but_a_list_is_refused(call: Any, bad: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="give a list of volumes"):
        call(bad)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="'directory' is missing"):
        volumes(GIVEN, {"mount_timeout": 1})
    with pytest.raises(AnsibleFilterError, match="is missing"):
        refusals(GIVEN, {})
    with pytest.raises(AnsibleFilterError, match="is missing"):
        plan(GIVEN, [], {}, {}, [])
