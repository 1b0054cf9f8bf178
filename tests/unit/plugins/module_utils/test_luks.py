# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a volume: every state that a device and the records can be in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import luks
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = {
    "directory": "/etc/luks",
    "mount_timeout": 90,
    "tang_servers": [{"url": "http://tang1", "thumbprint": "a" * 43}],
    "tang_threshold": 1,
    "tpm2_pcrs": [7],
}
LIMITS = {
    "wipe_devices": [],
    "keys": [],
    "tang_servers": SETTINGS["tang_servers"],
    "tang_threshold": 1,
    "vault": {"address": "", "path": ""},
    "root_encrypted": True,
    "memory_kib": 8_000_000,
    "pbkdf_memory_kib": 1_048_576,
}
DISK = "/dev/disk/by-id/nvme-1"
UUID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
GIVEN = {"name": "models", "device": DISK, "mount": "/srv/models"}
VOLUME = luks.normalize(GIVEN, SETTINGS)
READY = {"device": DISK, "uuid": UUID, "state": "ready", "unlock": "keyfile"}
KEPT = {"device": DISK, "uuid": UUID, "sha256": "ab"}
KINDS = ("root", "mount", "swap", "partition", "partition_table", "lvm", "raid", "array", "holder", "signature", "data")


def device(
    *kinds: str, luks_uuid: str = "", label: str = "llm-models", mapping: str = "", **more: Any
) -> dict[str, Any]:
    findings = [{"kind": kind, "what": f"a {kind}"} for kind in kinds]
    if luks_uuid:
        findings.append({"kind": "luks", "what": "a LUKS header"})
    return {
        "path": DISK,
        "exists": True,
        "real_path": "/dev/nvme1n1",
        "findings": findings,
        "signatures": [{"type": "x"}]
        if luks_uuid or {"lvm", "signature", "partition_table", "raid"} & set(kinds)
        else [],
        "luks": {"uuid": luks_uuid, "label": label} if luks_uuid else None,
        "mapping": {"name": mapping, "mounts": []} if mapping else None,
        **more,
    }


def decide(found: dict[str, Any], host: Any = None, kept: Any = None, listed: bool = False) -> dict[str, Any]:
    return luks.decide(VOLUME, found, host or {}, kept or {}, listed)


def test_an_empty_device_is_formatted() -> None:
    made = decide(device())
    assert (made["action"], made["wipe"]) == ("format", False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_with_anything_on_it_is_refused_and_told_what(kind: str) -> None:
    made = decide(device(kind))
    assert made["action"] == "refuse"
    assert f"a {kind}" in made["refusal"] and DISK in made["refusal"] and "models" in made["refusal"]


@pytest.mark.parametrize("kind", ["partition", "partition_table", "lvm", "raid", "signature", "data"])
def test_what_is_listed_may_be_lost(kind: str) -> None:
    assert decide(device(kind), listed=True)["action"] == "format"


@pytest.mark.parametrize("kind", ["root", "mount", "swap", "array", "holder"])
def test_what_is_in_use_is_refused_though_listed(kind: str) -> None:
    made = decide(device(kind, "signature"), listed=True)
    assert made["action"] == "refuse" and "in use" in made["refusal"]


@pytest.mark.parametrize("host", [{}, READY, {**READY, "state": "formatted"}])
@pytest.mark.parametrize("listed", [True, False])
def test_our_header_is_opened_never_formatted(host: Any, listed: bool) -> None:
    assert decide(device(luks_uuid=UUID), host, listed=listed)["action"] == "open"
    assert decide(device("holder", "mount", luks_uuid=UUID, mapping="models"), host, KEPT, listed)["action"] == "open"


@pytest.mark.parametrize("records", [(READY, {}), ({}, KEPT), (READY, KEPT)])
@pytest.mark.parametrize("kinds", [(), ("data",), ("signature",)])
@pytest.mark.parametrize("listed", [True, False])
def test_a_lost_header_is_never_formatted_over(records: Any, kinds: Any, listed: bool) -> None:
    made = decide(device(*kinds), *records, listed=listed)
    assert made["action"] == "refuse"
    assert "lost its LUKS header" in made["refusal"] and "luks_restore: [models]" in made["refusal"]


def test_a_strange_luks_volume_is_refused_unless_listed() -> None:
    strange = device(luks_uuid=OTHER, label="theirs")
    assert "a LUKS header" in decide(strange)["refusal"]
    assert decide(strange, listed=True)["action"] == "format"
    assert decide(strange, READY, listed=True)["action"] == "refuse"


def test_our_label_with_another_uuid_is_refused() -> None:
    made = decide(device(luks_uuid=OTHER), READY, listed=True)
    assert made["action"] == "refuse" and OTHER in made["refusal"] and UUID in made["refusal"]


def test_a_record_of_another_disk_is_refused() -> None:
    made = decide(device(), {**READY, "device": "/dev/disk/by-id/old"})
    assert made["action"] == "refuse" and "/dev/disk/by-id/old" in made["refusal"]


def test_a_mapping_of_another_name_is_refused() -> None:
    assert "cryptsetup close old" in decide(device("holder", luks_uuid=UUID, mapping="old"), READY)["refusal"]


def test_a_missing_device_is_refused() -> None:
    assert "is not there" in decide(device(exists=False))["refusal"]


class TestCutOff:
    """A first format that was killed is neither refused for ever, nor mistaken for a volume with data."""

    STARTED = {"device": DISK, "state": "formatting", "unlock": ""}

    @pytest.mark.parametrize("found", [device(), device("data"), device(luks_uuid=UUID)])
    def test_it_begins_again(self, found: dict[str, Any]) -> None:
        assert decide(found, self.STARTED)["action"] == "format"

    def test_half_a_header_is_removed_first(self) -> None:
        assert decide(device(luks_uuid=UUID), self.STARTED)["wipe"] is True

    @pytest.mark.parametrize("kind", ["signature", "lvm", "raid", "partition_table", "mount", "holder"])
    def test_what_somebody_else_put_there_meanwhile_is_refused(self, kind: str) -> None:
        assert decide(device(kind), self.STARTED)["action"] == "refuse"

    def test_an_open_volume_is_not_formatted(self) -> None:
        assert decide(device("holder", luks_uuid=UUID, mapping="models"), self.STARTED)["action"] == "open"

    def test_a_header_backup_speaks_against_it(self) -> None:
        assert decide(device(luks_uuid=UUID), self.STARTED, KEPT)["action"] == "open"
        assert decide(device("data"), self.STARTED, KEPT)["action"] == "refuse"


@given(
    kinds=st.sets(st.sampled_from(KINDS)),
    luks_uuid=st.sampled_from(["", UUID, OTHER]),
    label=st.sampled_from(["llm-models", "theirs"]),
    mapping=st.sampled_from(["", "models", "old"]),
    host=st.sampled_from([{}, READY, {**READY, "state": "formatted"}, TestCutOff.STARTED]),
    kept=st.sampled_from([{}, KEPT]),
    listed=st.booleans(),
)
def test_nothing_that_could_hold_data_is_ever_formatted(
    kinds: set[str], luks_uuid: str, label: str, mapping: str, host: Any, kept: Any, listed: bool
) -> None:
    found = device(*sorted(kinds), luks_uuid=luks_uuid, label=label, mapping=mapping)
    if decide(found, host, kept, listed)["action"] != "format":
        return
    assert not kept and not host.get("uuid"), "there was a volume"
    assert not kinds & {"root", "mount", "swap", "array", "holder"}, "somebody uses it"
    if not listed:
        half_made = host.get("state") == "formatting" and (label == "llm-models" or not luks_uuid)
        ours = bool(luks_uuid) and label == "llm-models"
        assert half_made or not (kinds or luks_uuid), "it is not empty"
        assert not kinds or ours or kinds == {"data"}, "somebody else's data"


def test_two_paths_to_one_disk_are_refused() -> None:
    second = {**VOLUME, "name": "logs", "device": "/dev/disk/by-path/x"}
    found = [device(), device(path="/dev/disk/by-path/x")]
    planned = luks.plan([VOLUME, second], found, {}, {}, [])
    assert [each["action"] for each in planned] == ["refuse", "refuse"]
    assert "twice" in planned[0]["refusal"]


class TestRestore:
    @pytest.mark.parametrize(
        "found",
        [device("data"), device(), device(luks_uuid=UUID), device("data", "holder", "mount", mapping="models")],
    )
    def test_the_own_device_is_restored(self, found: dict[str, Any]) -> None:
        assert luks.restore_refusal(VOLUME, found, KEPT) == ""

    @pytest.mark.parametrize("kind", ["lvm", "signature", "mount", "holder", "partition_table"])
    def test_what_others_put_there_is_not_lost(self, kind: str) -> None:
        assert f"a {kind}" in luks.restore_refusal(VOLUME, device(kind), KEPT)

    def test_another_volume_is_not_lost(self) -> None:
        assert OTHER in luks.restore_refusal(VOLUME, device(luks_uuid=OTHER), KEPT)

    def test_a_backup_of_another_device_is_refused(self) -> None:
        assert "old" in luks.restore_refusal(VOLUME, device("data"), {**KEPT, "device": "/dev/disk/by-id/old"})

    def test_without_a_backup(self) -> None:
        assert "no header backup" in luks.restore_refusal(VOLUME, device("data"), {})

    def test_without_the_device(self) -> None:
        assert "not there" in luks.restore_refusal(VOLUME, device(exists=False), KEPT)


class TestVariables:
    @staticmethod
    def said(volumes: list[dict[str, Any]], **limits: Any) -> str:
        return "\n".join(luks.check(volumes, {**LIMITS, **limits}))

    def test_good_ones_are_taken(self) -> None:
        names = ("disk/by-id/a", "disk/by-path/b", "mapper/mpatha", "md/data", "vg0/data", "disk/by-partuuid/1")
        volumes = [
            {"name": f"v{at}", "device": f"/dev/{name}", "mount": f"/srv/v{at}"} for at, name in enumerate(names)
        ]
        assert self.said(volumes, wipe_devices=["/dev/vg0/data"]) == ""

    @pytest.mark.parametrize("name", ["sdb", "vdb", "nvme1n1", "dm-3", "md0", "disk/by-uuid/1", "disk/by-label/x"])
    def test_names_that_move_are_refused(self, name: str) -> None:
        assert "may mean another disk" in self.said([{**GIVEN, "device": f"/dev/{name}"}])
        assert "may be another disk" in self.said([GIVEN], wipe_devices=[f"/dev/{name}"])

    def test_wiping_a_device_of_no_volume_is_refused(self) -> None:
        assert "no entry of luks_volumes uses" in self.said([GIVEN], wipe_devices=["/dev/disk/by-id/nvme-2"])

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"name": "a-b"}, "lower-case letters"),
            ({"mount": "srv"}, "has the mount 'srv'"),
            ({"mount": ""}, "has the mount ''"),
            ({"filesystem": "none"}, "leave one of them out"),
            ({"unlock": "manual"}, "luks_keys has no key for models"),
            ({"unlock": "vault"}, "luks_vault_address and luks_vault_path"),
        ],
    )
    def test_mistakes_are_named(self, change: dict[str, Any], sentence: str) -> None:
        assert sentence in self.said([{**GIVEN, **change}])

    @pytest.mark.parametrize("key", ["name", "device", "mount"])
    def test_each_is_used_once(self, key: str) -> None:
        second = {"name": "logs", "device": "/dev/disk/by-id/2", "mount": "/srv/logs", key: GIVEN[key]}
        assert f"has the {key} {GIVEN[key]} twice" in self.said([GIVEN, second])

    def test_a_key_file_wants_an_encrypted_root(self) -> None:
        assert "luks_plain_root_accepted" in self.said([GIVEN], root_encrypted=False)
        assert self.said([{**GIVEN, "unlock": "tpm2"}], root_encrypted=False) == ""

    def test_tang_servers_are_pinned_and_enough(self) -> None:
        tang = [{**GIVEN, "unlock": "tang"}]
        assert self.said(tang) == ""
        assert "has no thumbprint" in self.said(tang, tang_servers=[{"url": "http://t", "thumbprint": ""}])
        assert "does not fit 1" in self.said(tang, tang_threshold=2)
        assert "does not fit 0" in self.said(tang, tang_servers=[])

    def test_the_memory_of_argon2id_fits(self) -> None:
        assert "more than half" in self.said([GIVEN], memory_kib=1_500_000)


def options(**change: Any) -> tuple[str, str]:
    full = luks.normalize({**GIVEN, **change}, SETTINGS)
    return full["crypttab_options"], full["fstab_options"]


def test_lines_of_crypttab_and_fstab() -> None:
    assert options() == ("luks,nofail", "noatime,nofail,x-systemd.device-timeout=90")
    assert options(discard=True, read_workqueue=False, write_workqueue=False)[0] == (
        "luks,nofail,discard,no-read-workqueue,no-write-workqueue"
    )
    assert options(unlock="tang") == (
        "luks,nofail,_netdev",
        "noatime,nofail,x-systemd.device-timeout=90,_netdev",
    )
    assert options(unlock="manual") == ("luks,noauto,nofail", "noatime,noauto,nofail,x-systemd.device-timeout=90")
    assert options(unlock="tpm2")[0].endswith("tpm2-device=auto")


def test_a_change_of_servers_or_registers_is_seen() -> None:
    def unlock_id(method: str, **change: Any) -> str:
        return str(luks.normalize({**GIVEN, "unlock": method}, {**SETTINGS, **change})["unlock_id"])

    assert unlock_id("keyfile") == "keyfile"
    assert unlock_id("tang") != unlock_id("tang", tang_servers=[{"url": "http://tang2", "thumbprint": "a" * 43}])
    assert unlock_id("tpm2", tpm2_pcrs=[0, 7]) == "tpm2:0+7"


def test_servers_become_the_pins_of_clevis() -> None:
    pins = json.loads(VOLUME["clevis_pins"])
    assert pins == {"t": 1, "pins": {"tang": [{"url": "http://tang1", "thp": "a" * 43}]}}


def test_mount_units_are_named_as_systemd_does() -> None:
    assert luks.mount_unit("/srv/my-models/a") == "srv-my\\x2dmodels-a.mount"
