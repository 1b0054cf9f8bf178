# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a volume's key from the KV version 2 engine of Vault or OpenBao: CONFIGURATION VOLUME FILE.

Tries until it has it, and says after each try why not, since at boot the network or the server may come later.
The standard library is enough, so that nothing has to be installed for booting.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Optional

WAIT_S = 5
ANSWER_S = 10


def ask(config: dict[str, Any], path: str, token: str = "", body: Optional[dict[str, str]] = None) -> dict[str, Any]:
    """One request; raises OSError or ValueError for whatever goes wrong."""
    headers = {"X-Vault-Request": "true", "X-Vault-Token": token, "X-Vault-Namespace": config["namespace"]}
    request = urllib.request.Request(
        f"{config['address'].rstrip('/')}/v1/{path}",
        data=json.dumps(body).encode() if body is not None else None,
        headers={name: value for name, value in headers.items() if value},
        method="GET" if body is None else "POST",
    )
    context = ssl.create_default_context(cafile=config["ca_certificate"] or None)
    with urllib.request.urlopen(request, timeout=ANSWER_S, context=context) as answer:
        return dict(json.load(answer))


def key_of(config: dict[str, Any], volume: str) -> str:
    """The volume's key; raises ValueError with a sentence where the secret has none."""
    token = config.get("token") or ""
    if not token:
        login = {"role_id": config["role_id"], "secret_id": config["secret_id"]}
        token = ask(config, "auth/approle/login", body=login)["auth"]["client_token"]
    secret = ask(config, f"{config['mount']}/data/{config['path']}", token)["data"]["data"]
    key = secret.get(volume)
    if not isinstance(key, str) or not key:
        raise ValueError(f"the secret {config['path']} has no field {volume}")
    return key


def write(path: str, key: str) -> None:
    """The key in a file for root alone, whole or not at all."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key)
    os.replace(new, path)


def main(argv: list[str]) -> int:
    configuration, volume, path = argv
    with open(configuration, encoding="utf-8") as file:
        config = json.load(file)
    said = ""
    while True:
        try:
            write(path, key_of(config, volume))
            return 0
        except (OSError, ValueError, KeyError, TypeError) as exc:
            why = f"HTTP status {exc.code}" if isinstance(exc, urllib.error.HTTPError) else str(exc)
            if why != said:
                print(f"No key for {volume} from {config['address']} yet: {why}. Trying every {WAIT_S} s.", flush=True)
            said = why
        time.sleep(WAIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
