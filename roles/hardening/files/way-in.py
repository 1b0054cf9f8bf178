# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""way-in.py GROUP,GROUP USER...: says for each user, as JSON, by which ways one gets in over ssh. Run as root."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys


def effective(user: str) -> dict[str, list[str]]:
    """What sshd would do with this user, by its own account; {} without a working sshd."""
    command = ["/usr/sbin/sshd", "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return {}
    lines = (line.split() for line in found.stdout.splitlines())
    return {words[0]: words[1:] for words in lines if words}


def keys(user: str, files: list[str]) -> int:
    """How many public keys may log in as this user."""
    account = pwd.getpwnam(user)
    names = {"%u": user, "%h": account.pw_dir, "%U": str(account.pw_uid), "%%": "%"}
    count = 0
    for name in files:
        for sign, value in names.items():
            name = name.replace(sign, value)
        found = subprocess.run(
            ["/usr/bin/ssh-keygen", "-l", "-f", os.path.join(account.pw_dir, name)],
            capture_output=True,
            text=True,
            check=False,
        )
        count += len(found.stdout.splitlines())
    return count


def way_in(user: str, allowed: set[str]) -> dict[str, object]:
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return {"user": user, "exists": False, "allowed": False, "keys": 0, "other": False}
    groups = {grp.getgrgid(gid).gr_name for gid in os.getgrouplist(user, account.pw_gid)}
    settings = effective(user)
    others = ("trustedusercakeys", "authorizedkeyscommand")
    return {
        "user": user,
        "exists": True,
        "allowed": not allowed or bool(groups & allowed),
        "keys": keys(user, settings.get("authorizedkeysfile", [".ssh/authorized_keys"])),
        "other": any(settings.get(name, ["none"]) != ["none"] for name in others),
    }


print(json.dumps([way_in(user, {*sys.argv[1].split(",")} - {""}) for user in sys.argv[2:]]))
