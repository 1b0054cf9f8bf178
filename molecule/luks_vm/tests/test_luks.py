"""Encrypted volumes after every drill: refusals, a lost header, rotation, growth and a power cut."""

from __future__ import annotations

import json
import os
import pathlib
import re

import pytest

KEPT = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "luks" / "luks1"
DISK = "/dev/disk/by-id/virtio-data"
VOLUMES = {
    "models": f"{DISK}1",
    "store": f"{DISK}2",
    "osd": "/dev/lab/osd",
    "logs": "/dev/lab/logs",
    "d8": f"{DISK}8",
}
MOUNTS = {"models": "/srv/models", "store": "/srv/my-store", "logs": "/srv/logs", "d8": "/srv/d8"}
ROTATED = ("models", "store", "osd")


@pytest.fixture(autouse=True)
def only_the_host_under_test(host):
    if host.check_output("hostname") != "luks1":
        pytest.skip("luks2 is the network's side")


def dump(host, name):
    return json.loads(host.check_output(f"cryptsetup luksDump --dump-json-metadata {VOLUMES[name]}"))


@pytest.mark.parametrize("name", VOLUMES)
def test_volume_is_open_with_the_asked_cipher(host, name):
    status = host.check_output(f"cryptsetup status {name}")
    assert re.search(r"type:\s+LUKS2", status)
    assert re.search(r"cipher:\s+aes-xts-plain64", status)
    assert re.search(r"keysize:\s+512 bits", status)
    assert re.search(r"sector size:\s+4096", status)


def test_performance_flags_are_in_effect(host):
    flags = host.check_output("cryptsetup status models")
    assert "discards" in flags and "no_read_workqueue" in flags and "no_write_workqueue" not in flags
    assert "discards" not in host.check_output("cryptsetup status store")


@pytest.mark.parametrize("name", VOLUMES)
def test_keys_that_a_person_types_are_behind_argon2id(host, name):
    data = dump(host, name)
    by_token = {slot for token in data["tokens"].values() for slot in token["keyslots"]}
    plain = [each["kdf"] for slot, each in data["keyslots"].items() if slot not in by_token]
    assert {each["type"] for each in plain} == {"argon2id"}
    assert all(each["memory"] == 65536 for each in plain)
    # Recovery key, and one to unlock with; nothing is left of earlier ones.
    assert len(data["keyslots"]) == 2


@pytest.mark.parametrize("name", MOUNTS)
def test_volume_is_mounted_from_its_mapping_and_in_fstab(host, name):
    mount = host.mount_point(MOUNTS[name])
    assert mount.exists and mount.device == f"/dev/mapper/{name}"
    line = host.run(f"grep ' {MOUNTS[name]} ' /etc/fstab").stdout
    assert "nofail" in line and "x-systemd.device-timeout=60" in line


@pytest.mark.parametrize("name", ["models", "store", "logs"])
def test_data_of_before_the_drills_is_there(host, name):
    assert host.file(f"{MOUNTS[name]}/marker").content_string == "kept\n"


def test_mounted_folder_belongs_to_its_owner(host):
    folder = host.file("/srv/models")
    assert (folder.user, folder.mode) == ("nobody", 0o750)


def test_crypttab_names_volumes_by_uuid(host):
    lines = dict(line.split(maxsplit=1) for line in host.file("/etc/crypttab").content_string.splitlines() if line)
    assert re.fullmatch(r"UUID=\S+ /etc/luks/models.key luks,nofail,discard,no-read-workqueue", lines["models"])
    assert re.fullmatch(r"UUID=\S+ none luks,nofail,_netdev", lines["store"])
    assert re.fullmatch(r"UUID=\S+ none luks,nofail,tpm2-device=auto", lines["osd"])
    assert re.fullmatch(r"UUID=\S+ /run/luks-keys/logs luks,nofail,_netdev", lines["logs"])


def test_keys_are_for_root_alone(host):
    assert host.file("/etc/luks").mode == 0o700
    assert host.file("/etc/luks/models.key").mode == 0o400
    assert host.file("/etc/luks/vault.json").mode == 0o400
    assert host.check_output("ls /etc/luks/*.new /etc/luks/*.old 2>/dev/null | wc -l") == "0"


def test_old_key_file_is_refused_and_the_new_one_opens(host):
    command = "cryptsetup open --test-passphrase --key-file %s /dev/disk/by-id/virtio-data1"
    old = host.run(command % "/root/before.key")
    assert old.rc == 2 and "No key available" in old.stderr
    assert host.run(command % "/etc/luks/models.key").rc == 0


def unvault(name):
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib([("default", VaultSecret(b"lab passphrase"))]).decrypt((KEPT / name).read_bytes()).decode()


def opens(host, name, key):
    # Without the plugins for tokens, or a TPM opens the volume whatever the key.
    try_key = "cryptsetup open --test-passphrase --disable-external-tokens --key-file -"
    return host.run(f"printf %s {key} | {try_key} {VOLUMES[name]}").rc == 0


@pytest.mark.parametrize("name", ROTATED)
def test_recovery_key_opens_and_the_one_before_the_rotation_does_not(host, name):
    assert opens(host, name, unvault(f"{name}.recovery"))
    (before,) = KEPT.glob(f"{name}-*.recovery")
    assert not opens(host, name, unvault(before.name))
    assert not (KEPT / f"{name}.recovery.new").exists()


@pytest.mark.parametrize("name", VOLUMES)
def test_backups_are_encrypted_and_the_newest_fits_the_header(host, name):
    record = json.loads((KEPT / f"{name}.json").read_text())
    assert record["uuid"] == host.check_output(f"cryptsetup luksUUID {VOLUMES[name]}")
    assert {str(each["id"]) for each in record["keyslots"]} == set(dump(host, name)["keyslots"])
    assert (KEPT / record["header"]).exists()
    for path in KEPT.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert path.suffix == ".json" or re.match(rb"\$ANSIBLE_VAULT;1\.[12];AES256", path.read_bytes())


def test_earlier_headers_are_kept_beside_the_newest():
    assert {name: len(list(KEPT.glob(f"{name}-*.header"))) for name in VOLUMES} == {
        name: 2 if name in ROTATED else 1 for name in VOLUMES
    }


def test_tang_has_one_binding_with_both_servers(host):
    pins = host.check_output("clevis luks list -d /dev/disk/by-id/virtio-data2")
    assert pins.count("sss") == 1 and "7500" in pins and "7501" in pins and '"t":1' in pins


def test_nothing_of_a_key_is_left_in_memory_or_journal(host):
    assert host.check_output("find /run -name '*.header' -o -path '/run/luks-keys/*' | wc -l") == "0"
    journal = host.check_output("journalctl --no-pager -o cat")
    for secret in ("a key that the stand-in", "lab secret", unvault("models.recovery"), unvault("store.recovery")):
        assert secret not in journal
    assert host.file("/etc/luks/models.key").content_string not in journal


def test_grown_volume_uses_its_device(host):
    device = int(host.check_output("blockdev --getsize64 /dev/lab/logs"))
    mapping = int(host.check_output("blockdev --getsize64 /dev/mapper/logs"))
    assert device - mapping == 16 * 1024 * 1024


def test_no_unit_failed(host):
    failed = host.check_output("systemctl --failed --no-legend --plain")
    assert not [line for line in failed.splitlines() if "crypt" in line or "srv" in line]
