# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what happens to each encrypted volume: format, open, or refuse.

The rule behind all of it: a device is formatted only where it is empty, or listed by its exact path, and no record says
that it ever held one of our volumes. Whatever is in doubt is refused with a sentence.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict, List, Mapping, Sequence

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
STABLE = re.compile(r"/dev/(disk/by-(id|path|partuuid|partlabel)/[^/]+|(?!disk/)[^/]+/[^/]+)")
MOUNT = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{27,86}")
TEXT_KEYS = ("vault", "manual")
OVER_NETWORK = ("tang", "vault")
DEFAULTS: Dict[str, Any] = {
    "filesystem": "xfs",
    "mount": "",
    "mount_options": ["noatime"],
    "owner": "root",
    "group": "root",
    "mode": "0755",
    "unlock": "keyfile",
    "discard": False,
    "read_workqueue": True,
    "write_workqueue": True,
    "sector_size": 4096,
    "services": [],
}
# Never formatted, whatever is listed.
IN_USE = ("root", "mount", "swap", "array", "holder")


def mount_unit(path: str) -> str:
    """The systemd unit that mounts at this path."""
    return path.strip("/").replace("-", "\\x2d").replace("/", "-") + ".mount"


def normalize(volume: Mapping[str, Any], settings: Mapping[str, Any]) -> Dict[str, Any]:
    """One of luks_volumes with every default and all that follows from it.

    ``settings``: directory, tang (servers, threshold), tpm2_pcrs, mount_timeout.
    """
    full = {**DEFAULTS, "label": f"llm-{volume['name']}", **volume}
    name, unlock = full["name"], full["unlock"]
    late = ["_netdev"] if unlock in OVER_NETWORK else []
    manual = ["noauto"] if unlock == "manual" else []
    crypt = ["luks", *manual, "nofail", *late]
    crypt += ["discard"] if full["discard"] else []
    crypt += [] if full["read_workqueue"] else ["no-read-workqueue"]
    crypt += [] if full["write_workqueue"] else ["no-write-workqueue"]
    crypt += ["tpm2-device=auto"] if unlock == "tpm2" else []
    keys = {"keyfile": f"{settings['directory']}/{name}.key", "vault": f"/run/luks-keys/{name}"}
    timeout = f"x-systemd.device-timeout={settings['mount_timeout']}"
    pins = {
        "t": settings["tang_threshold"],
        "pins": {"tang": [{"url": each["url"], "thp": each["thumbprint"]} for each in settings["tang_servers"]]},
    }
    tang = json.dumps(pins, sort_keys=True)
    how = {"tang": "tang:" + hashlib.sha256(tang.encode()).hexdigest()[:16]}
    how["tpm2"] = "tpm2:" + "+".join(str(each) for each in settings["tpm2_pcrs"])
    return {
        **full,
        "unlock_id": how.get(unlock, unlock),
        "clevis_pins": tang,
        "key_file": keys.get(unlock, ""),
        "record": f"{settings['directory']}/{name}.json",
        "mapper": f"/dev/mapper/{name}",
        "service": f"systemd-cryptsetup@{name}.service",
        "mount_unit": mount_unit(full["mount"]) if full["mount"] else "",
        "crypttab_key": keys.get(unlock, "none"),
        "crypttab_options": ",".join(crypt),
        "fstab_options": ",".join([*full["mount_options"], *manual, "nofail", timeout, *late]),
    }


def check(volumes: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> List[str]:
    """Why these variables cannot be followed, one sentence each; needs no host.

    ``settings``: wipe_devices, keys (names that luks_keys has), tang_servers, tang_threshold, vault (address, path),
    root_encrypted (or accepted), memory_kib, pbkdf_memory_kib.
    """
    found: List[str] = []
    for key in ("name", "device", "mount", "label"):
        values = [str(each[key]) for each in volumes if each.get(key)]
        twice = sorted({value for value in values if values.count(value) > 1})
        found += [f"luks_volumes has the {key} {each} twice; give each volume its own." for each in twice]
    for each in volumes:
        found += _check_volume(each, settings)
    devices = [each["device"] for each in volumes]
    for device in settings["wipe_devices"]:
        if not STABLE.fullmatch(device):
            found.append(
                f"luks_wipe_devices names {device}, which may be another disk after a reboot; "
                "write the path below /dev/disk/by-id/, exactly as in luks_volumes."
            )
        elif device not in devices:
            found.append(
                f"luks_wipe_devices names {device}, which no entry of luks_volumes uses; "
                "correct it, since what is listed there loses its data."
            )
    if any(each.get("unlock", "keyfile") == "tang" for each in volumes):
        found += _check_tang(settings)
    vault = settings["vault"]
    if any(each.get("unlock") == "vault" for each in volumes) and not (vault["address"] and vault["path"]):
        found.append("luks_vault_address and luks_vault_path are needed by a volume with unlock: vault; give both.")
    if volumes and settings["pbkdf_memory_kib"] > settings["memory_kib"] // 2:
        found.append(
            f"luks_pbkdf_memory_kib {settings['pbkdf_memory_kib']} is more than half of the host's memory "
            f"({settings['memory_kib']} KiB), so that it could not unlock; give less."
        )
    return found


def _check_volume(volume: Mapping[str, Any], settings: Mapping[str, Any]) -> List[str]:
    name, device = volume["name"], volume["device"]
    unlock, filesystem = volume.get("unlock", "keyfile"), volume.get("filesystem", "xfs")
    found = []
    if not NAME.fullmatch(name):
        found.append(f"luks_volumes has the name {name}; use up to 31 lower-case letters, digits and underscores.")
    if not STABLE.fullmatch(device):
        found.append(
            f"luks_volumes: {name} is on {device}, a name that may mean another disk after a reboot; "
            "give its path below /dev/disk/by-id/."
        )
    if filesystem == "none" and volume.get("mount"):
        found.append(f"luks_volumes: {name} has a mount and filesystem none; leave one of them out.")
    if filesystem != "none" and not MOUNT.fullmatch(volume.get("mount", "")):
        found.append(
            f"luks_volumes: {name} has the mount '{volume.get('mount', '')}'; give an absolute path of letters, "
            "digits, dots, dashes and underscores, or filesystem: none."
        )
    if unlock == "keyfile" and not settings["root_encrypted"]:
        found.append(
            f"luks_volumes: {name} has unlock: keyfile, but the root file system is not encrypted, so that the key "
            "would lie beside the data; choose tpm2, tang or vault, or accept it with luks_plain_root_accepted: true."
        )
    if unlock in TEXT_KEYS and name not in settings["keys"]:
        found.append(f"luks_keys has no key for {name}, which has unlock: {unlock}; look it up in the secret store.")
    return found


def _check_tang(settings: Mapping[str, Any]) -> List[str]:
    servers, threshold = settings["tang_servers"], settings["tang_threshold"]
    found = []
    if not 1 <= threshold <= len(servers):
        found.append(
            f"luks_tang_threshold {threshold} does not fit {len(servers)} luks_tang_servers; "
            "list the servers, and let the threshold be between 1 and their number."
        )
    for each in servers:
        if not THUMBPRINT.fullmatch(each.get("thumbprint", "")):
            found.append(
                f"luks_tang_servers: {each.get('url')} has no thumbprint of its signing key; "
                "read it on that server with tang-show-keys, since a key fetched unseen could be anyone's."
            )
    return found


def decide(
    volume: Mapping[str, Any],
    device: Mapping[str, Any],
    host: Mapping[str, Any],
    kept: Mapping[str, Any],
    listed: bool,
) -> Dict[str, Any]:
    """What to do with one volume: ``action`` is "format", "open" or "refuse" (with ``refusal``, a sentence).

    ``host`` is the record on the host, ``kept`` the one beside the header backup; both {} where there is none.
    ``listed`` says that luks_wipe_devices names the device. ``wipe`` tells that signatures have to go before
    formatting, ``state`` how far an earlier run came ("formatting", "formatted", "ready" or "").
    """
    name, path = volume["name"], volume["device"]
    state, luks = host.get("state", ""), device.get("luks")
    base = {"wipe": False, "state": state, "unlocked_by": host.get("unlock", ""), "device_info": dict(device)}

    def refuse(why: str, fix: str) -> Dict[str, Any]:
        refusal = f"{path} for the volume {name} {why}; {fix}. Nothing was changed."
        return {**base, "action": "refuse", "refusal": refusal}

    def act(action: str, **more: Any) -> Dict[str, Any]:
        return {**base, "action": action, "refusal": "", **more}

    if not device["exists"]:
        return refuse("is not there", "correct luks_volumes or attach the disk (ls -l /dev/disk/by-id)")
    recorded = [each for each in (host, kept) if each.get("uuid")]
    forget = f"if its data may be lost, remove {volume['record']} and the host's {name}.json in luks_backup_directory"
    moved = [each["device"] for each in recorded if each.get("device", path) != path]
    if moved:
        return refuse(
            f"is another device than {moved[0]}, where the volume is by its record", f"correct luks_volumes; {forget}"
        )
    active = [each["what"] for each in device["findings"] if each["kind"] in IN_USE]

    def busy() -> Dict[str, Any]:
        fix = "choose an empty device, or free it first; luks_wipe_devices does not"
        return refuse(f"is in use: {', '.join(active)}", fix)

    if luks and luks["label"] == volume["label"]:
        other = [each["uuid"] for each in recorded if each["uuid"] != luks["uuid"]]
        if other:
            return refuse(
                f"holds a LUKS volume with the UUID {luks['uuid']} and not {other[0]} as recorded",
                f"attach the right disk or restore its header (tasks_from: restore); {forget}",
            )
        mapping = device.get("mapping")
        if mapping and mapping["name"] != name:
            return refuse(f"is open under the name {mapping['name']}", f"close it (cryptsetup close {mapping['name']})")
        if state == "formatting" and not mapping and not recorded:
            # A first format that was cut off: no data was ever on it, since it is opened only after that state.
            return busy() if active else act("format", wipe=True)
        return act("open")
    if recorded:
        return refuse(
            "has lost its LUKS header, and a record says that there is data behind it",
            f"bring the header back with tasks_from: restore and luks_restore: [{name}]; {forget}",
        )
    whats = [each["what"] for each in device["findings"]]
    if active:
        return busy()
    data_only = all(each["kind"] == "data" for each in device["findings"])
    if whats and not listed and not (state == "formatting" and data_only):
        return refuse(
            f"is not empty: it carries {', '.join(whats)}",
            "choose another device, or list this exact path in luks_wipe_devices to lose all that is on it",
        )
    return act("format", wipe=bool(device.get("signatures")))


def restore_refusal(volume: Mapping[str, Any], device: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    """Why the header backup may not be written to this device, "" where it may."""
    name, path = volume["name"], volume["device"]
    if not kept.get("sha256"):
        return f"There is no header backup of {name} in luks_backup_directory; bring it back from its backup."
    if not device["exists"]:
        return f"{path} for the volume {name} is not there; correct luks_volumes or attach the disk."
    if kept["device"] != path:
        return f"The header backup of {name} belongs to {kept['device']} and not to {path}; correct luks_volumes."
    luks, mapping = device.get("luks"), device.get("mapping")
    if luks and luks["uuid"] != kept["uuid"]:
        return f"{path} holds the LUKS volume {luks['uuid']} and not {name} ({kept['uuid']}); restoring would lose it."
    own = {"data", "luks"} | ({"holder", "mount"} if mapping and mapping["name"] == name else set())
    whats = [each["what"] for each in device["findings"] if each["kind"] not in own]
    if whats:
        return f"{path} for the volume {name} carries {', '.join(whats)}; restoring its header would lose that."
    return ""


def plan(
    volumes: Sequence[Mapping[str, Any]],
    devices: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, Mapping[str, Any]],
    wipe_devices: Sequence[str],
) -> List[Dict[str, Any]]:
    """Each volume with its decision. Two volumes that lead to the same disk are refused as well."""
    by_path = {each["path"]: each for each in devices}
    planned = []
    for volume in volumes:
        name = volume["name"]
        made = decide(
            volume,
            by_path[volume["device"]],
            hosts.get(name) or {},
            kept.get(name) or {},
            volume["device"] in wipe_devices,
        )
        unfit = restore_refusal(volume, by_path[volume["device"]], kept.get(name) or {})
        planned.append({**volume, **made, "restore_refusal": unfit})
    reals = [by_path[each["device"]].get("real_path", "") for each in volumes]
    for each, real in zip(planned, reals):
        if real and reals.count(real) > 1:
            each["action"] = "refuse"
            each["refusal"] = f"luks_volumes names {real} twice, by different paths; give each volume its own disk."
    return planned
