"""What the tests of both hosts share: a request, and a program that does what the service never may."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator

import pytest

KEY = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "api-key")
PROBE = "/opt/ollama/probe"


def ask(host, path: str, body: dict | None = None) -> dict:
    """A request from the host itself, by the name in the gateway's certificate."""
    curl = "curl -sSf --max-time 300 --resolve llm.lab:443:127.0.0.1 --cacert /etc/llm/pki/ca.crt"
    key = KEY.read_text().split()[0]
    sending = ["--header", "Content-Type: application/json", "--data", json.dumps(body)] if body else []
    words = ["--header", f"Authorization: Bearer {key}", *sending, f"https://llm.lab{path}"]
    return json.loads(host.check_output(curl + " %s" * len(words), *words))


@pytest.fixture(scope="module")
def answer(host) -> dict:
    """What a real model says, once, as an emulated host takes its time; its runner stays."""
    return ask(
        host,
        "/api/chat",
        {
            "model": "smollm2:135m",
            "stream": False,
            "options": {"num_predict": 4},
            "messages": [{"role": "user", "content": "Say hello"}],
        },
    )


@pytest.fixture
def probe(host) -> Iterator[str]:
    """systemd starts it as root in the service's domain: what then stops it is not the owner of a file.

    It cannot write to whoever calls it, so its end must tell: 1 is the program's own, 203 would say that it never ran.
    Under SELinux the program's label brings it there, and systemd passes the name of the profile by.
    """
    host.check_output(f"mkdir -p {PROBE} && cp /bin/bash /bin/cat /bin/touch {PROBE}/")
    yield f"systemd-run --wait --quiet --collect --property=AppArmorProfile=llm_ollama {PROBE}"
    host.check_output(f"rm -r {PROBE}")
