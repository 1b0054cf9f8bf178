"""The role gateway: what it refuses before anything changes, and the configuration it writes."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/gateway"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


GOOD = {
    "gateway_keys": [
        {"id": "team-a", "sha256": digest("llm-team-a-1"), "not_after": "2028-02-28", "models": ["llama3.2:3b"]}
    ],
    "gateway_upstreams": [{"name": "gpu1", "address": "192.0.2.1"}],
}
KEY, UPSTREAM = GOOD["gateway_keys"][0], GOOD["gateway_upstreams"][0]
CASES: dict[str, tuple[dict, str]] = {
    "no keys": ({"gateway_keys": []}, "gateway_keys: it is empty"),
    "odd id": ({"gateway_keys": [{**KEY, "id": "team a;"}]}, "gateway_keys: 'team a;' is not an id"),
    "same id twice": (
        {"gateway_keys": [KEY, {**KEY, "sha256": digest("llm-2")}]},
        "gateway_keys: the id team-a stands there twice",
    ),
    "same hash twice": (
        {"gateway_keys": [KEY, {**KEY, "id": "b", "sha256": KEY["sha256"].upper()}]},
        f"gateway_keys: the hash {KEY['sha256']} stands there twice",
    ),
    "key instead of hash": (
        {"gateway_keys": [{**KEY, "sha256": "llm-team-a-1"}]},
        "gateway_keys: a sha256 is not 64 hex digits",
    ),
    "no hash": ({"gateway_keys": [{**KEY, "sha256": []}]}, "gateway_keys: team-a has no sha256"),
    "three hashes": (
        {"gateway_keys": [{**KEY, "sha256": [digest(text) for text in "xyz"]}]},
        "gateway_keys: team-a has more than two hashes",
    ),
    "zeros": ({"gateway_keys": [{**KEY, "sha256": "0" * 64}]}, "is the hash of an empty, example or guessable key"),
    "changeme": (
        {"gateway_keys": [{**KEY, "sha256": digest("changeme")}]},
        "is the hash of an empty, example or guessable key",
    ),
    "empty key": (
        {"gateway_keys": [{**KEY, "sha256": [digest("llm-2"), digest("")]}]},
        "is the hash of an empty, example or guessable key",
    ),
    "unknown class": (
        {"gateway_keys": [{**KEY, "limits": "gold"}]},
        "gateway_keys: gateway_limits does not define the class gold",
    ),
    "no default class": (
        {"gateway_limits": {"gold": {"requests_per_minute": 1, "burst": 0, "concurrent": 1}}},
        "does not define the class default",
    ),
    "no day": (
        {"gateway_keys": [{**KEY, "not_after": "31.12.2027"}]},
        "gateway_keys: not_after '31.12.2027' is not a day",
    ),
    "day that does not exist": (
        {"gateway_keys": [{**KEY, "not_after": "2027-02-30"}]},
        "gateway_keys: not_after '2027-02-30' is not a day",
    ),
    "odd model": ({"gateway_keys": [{**KEY, "models": ["a b"]}]}, "'a b' under models is not the name of a model"),
    "class without rate": (
        {"gateway_limits": {"default": {"burst": 1, "concurrent": 1}}},
        "gateway_limits: 0 does not do",
    ),
    "no upstreams": ({"gateway_upstreams": []}, "gateway_upstreams: it is empty"),
    "odd address": (
        {"gateway_upstreams": [{**UPSTREAM, "address": "192.0.2.1; x"}]},
        "gateway_upstreams: '192.0.2.1; x' is no name or address",
    ),
    "upstream twice": (
        {"gateway_upstreams": [UPSTREAM, {**UPSTREAM, "name": "gpu2"}]},
        "gateway_upstreams: 192.0.2.1:11434 stands there twice",
    ),
    "itself": (
        {"gateway_upstreams": [{**UPSTREAM, "address": "127.0.0.1", "port": 443}]},
        "gateway_upstreams: 127.0.0.1:443 is the gateway itself",
    ),
    "same ports": ({"gateway_http_port": 443}, "gateway_http_port: 443 is gateway_port too"),
    "odd option": (
        {"gateway_refused_options": ['num_gpu"']},
        "gateway_refused_options: 'num_gpu\"' is not the name of an option",
    ),
    "odd listen address": ({"gateway_listen_addresses": ["::1"]}, "gateway_listen_addresses: ::1 is not an address"),
    "odd server name": (
        {"gateway_server_name": "a'b"},
        "gateway_server_name, gateway_ca_file: 'a'b' is not a plain name or path",
    ),
}
# What only the tasks can tell: the rest of the refusals stands in vars/rules.yml.
HOST_CASES: dict[str, tuple[dict, str]] = {
    "no certificate": (
        {"gateway_tls_certificate": "/nonexistent/gateway.crt"},
        "gateway_tls_certificate: there is no file /nonexistent/gateway.crt",
    ),
    "no private key": (
        {"gateway_tls_key": "/nonexistent/gateway.key"},
        "gateway_tls_key: there is no file /nonexistent/gateway.key",
    ),
    "other system": (
        {"ansible_facts": {"os_family": "RedHat", "distribution": "Rocky"}},
        "Rocky packages nginx without the Lua module",
    ),
}


def rendered(name: str, **settings: object) -> Any:
    """A variable of the role, with these settings."""
    loader = DataLoader()
    variables: dict[str, Any] = {
        "role_path": str(ROLE),
        "ansible_facts": {"all_ipv4_addresses": ["192.0.2.9"]},
        **settings,
    }
    for file in ("defaults/main.yml", "vars/main.yml", "vars/rules.yml"):
        variables = {**loader.load_from_file(str(ROLE / file), trusted_as_template=True), **variables}
    return Templar(loader, variables=variables).template(variables[name])


def configuration(**settings: object) -> str:
    """nginx.conf with these settings, its lines trimmed."""
    version = {"stderr": f"nginx version: nginx/{settings.pop('version', '1.22.1')}"}
    text = rendered("__gateway_rendered", **{**GOOD, **settings}, __gateway_version=version, ansible_managed="managed")
    return "\n".join(line.strip() for line in text.splitlines())


def test_good_settings_pass() -> None:
    assert rendered("__gateway_complaints", **GOOD) == []


@pytest.mark.parametrize("name", CASES)
def test_bad_settings_are_refused(name: str) -> None:
    change, sentence = CASES[name]
    assert sentence in "\n".join(rendered("__gateway_complaints", **{**GOOD, **change}))


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(rendered("__gateway_complaints", gateway_keys=[], gateway_upstreams=[], gateway_http_port=443)) == 3


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the role's tasks say to each case, out of one run; an empty text where they have nothing against it."""
    folder = tmp_path_factory.mktemp("gateway")
    certificate = folder / "certificate"
    certificate.touch()
    tasks: list[dict] = []
    for number, (change, _message) in enumerate([({}, ""), *HOST_CASES.values()]):
        given = {
            "gateway_tls_certificate": str(certificate),
            "gateway_tls_key": str(certificate),
            **GOOD,
            "ansible_facts": {"os_family": "Debian"},
            **change,
        }
        said = (
            "ansible_failed_result.msg ~ ansible_failed_result.results | default([]) | map(attribute='msg', default='')"
        )
        tasks.append(
            {
                "block": [
                    {"ansible.builtin.include_role": {"name": str(ROLE), "tasks_from": part}, "vars": given}
                    for part in ("assert.yml", "certificate.yml")
                ],
                "rescue": [{"ansible.builtin.set_fact": {f"said_{number}": f"{{{{ {said} }}}}"}}],
            }
        )
    texts = ", ".join(f"said_{number} | default('')" for number in range(len(tasks)))
    tasks.append(
        {
            "ansible.builtin.copy": {
                "content": f"{{{{ [{texts}] | to_json }}}}",
                "dest": str(folder / "said.json"),
                "mode": "0600",
            }
        }
    )
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(folder / "play.yml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(zip(["good", *HOST_CASES], json.loads((folder / "said.json").read_text()), strict=True))


def test_a_good_host_passes(messages: dict[str, str]) -> None:
    assert messages["good"] == ""


@pytest.mark.parametrize("name", HOST_CASES)
def test_bad_hosts_are_refused(messages: dict[str, str], name: str) -> None:
    assert HOST_CASES[name][1] in messages[name]


def pools(text: str) -> dict[str, list[str]]:
    """Names of the servers in each upstream block, which stand in the comments."""
    blocks = re.findall(r"upstream (\S+) \{(.*?)\}", text, re.DOTALL)
    return {name: re.findall(r"# (\S+)", block) for name, block in blocks}


def test_models_go_to_the_servers_that_hold_them() -> None:
    servers = [
        {"name": "a", "address": "192.0.2.1", "models": ["big:70b", "small"]},
        {"name": "b", "address": "192.0.2.2", "models": ["small:latest"]},
    ]
    text = configuration(gateway_upstreams=servers)
    assert pools(text) == {"llm_all": ["a", "b"], "llm_model_1": ["a"], "llm_model_2": ["a", "b"]}
    assert '"big:70b" llm_model_1;\n"small:latest" llm_model_2;' in text
    text = configuration(gateway_upstreams=[*servers, {"name": "c", "address": "192.0.2.3"}])
    assert pools(text) == {"llm_all": ["c"], "llm_model_1": ["c", "a"], "llm_model_2": ["c", "a", "b"]}, (
        "c may hold anything"
    )


def test_servers() -> None:
    server = {"name": "a", "address": "2001:db8::1", "port": 8080, "weight": 3, "max_connections": 7}
    text = configuration(gateway_upstreams=[server], gateway_fail_timeout_seconds=4)
    assert "server [2001:db8::1]:8080 weight=3 max_conns=7 max_fails=1 fail_timeout=4s;" in text
    assert "backup" not in text, "without a queue nothing goes beyond the limit"


def test_a_queue_is_what_servers_take_beyond_their_limit() -> None:
    server = {"name": "a", "address": "192.0.2.1", "max_connections": 4, "queue": 3}
    text = configuration(gateway_upstreams=[server])
    assert "server 192.0.2.1:11434 weight=1 max_conns=4 max_fails=1" in text
    assert "server 192.0.2.1:11434 backup max_fails=0 max_conns=3;" in text


def test_http2_is_switched_on_as_the_version_wants_it() -> None:
    assert "listen 0.0.0.0:443 default_server ssl http2;" in configuration()
    text = configuration(version="1.26.3", gateway_listen_addresses=["0.0.0.0", "[::]"])
    assert "listen 0.0.0.0:443 default_server ssl;\nlisten [::]:443 default_server ssl;\nhttp2 on;" in text


def test_keys() -> None:
    key = {
        "id": "default",
        "sha256": [digest("llm-1").upper(), digest("llm-2")],
        "models": ["a/b", "c:1b"],
        "not_after": "2027-01-31",
    }
    text = configuration(gateway_keys=[key])
    assert f'{digest("llm-1")} "default";\n{digest("llm-2")} "default";' in text
    assert '"\\\\default" "a/b:latest c:1b";' in text
    assert '"\\\\default" 1801439999;' in text, "the last second of the day in UTC"


def test_the_revision_follows_the_settings() -> None:
    def revision(**more: object) -> str:
        return rendered(
            "__gateway_revision",
            **{**GOOD, **more},
            __gateway_version={"stderr": "nginx/1.22.1"},
            ansible_managed="managed",
        )

    assert revision() == revision()
    assert len({revision(), revision(gateway_max_context=1), revision(__gateway_certificate_checksum="other")}) == 3


def make_key(*options: str) -> subprocess.CompletedProcess[str]:
    """A run of the playbook that makes a key, as talkative as it can be."""
    command = [sys.executable, "-m", "ansible", "playbook", "-vvvv", str(ROOT / "playbooks/gateway_key.yml"), "-e"]
    return subprocess.run(
        [*command, "gateway_key_id=team-a", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_new_key_goes_to_a_file_or_is_shown_once(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "key"
    done = make_key("-e", f"gateway_key_file={file}")
    key = file.read_text().strip()
    assert done.returncode == 0 and re.fullmatch("llm-team-a-[A-Za-z0-9]{43}", key)
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in done.stdout + done.stderr
    assert f"{{id: team-a, sha256: {digest(key)}}}" in done.stdout

    again = make_key("-e", f"gateway_key_file={file}")
    assert again.returncode != 0 and "exists and may hold a key that is in use" in " ".join(again.stdout.split())
    assert file.read_text().strip() == key

    shown = re.findall("llm-team-a-[A-Za-z0-9]{43}", make_key().stdout)
    assert len(shown) == 1 and shown != [key]
