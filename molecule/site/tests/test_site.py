"""The running service as a client and as an attacker on the network see it."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import socket
import ssl

import pytest

LAB = pathlib.Path(os.environ["LAB"])
GATEWAY = "10.77.2.61"
KEY = (LAB / "secrets" / "api-key").read_text().strip()
CA = str(LAB / "pki" / "ca.crt")
MARK = "xylophone-4711-marked-prompt"
CHAT = {
    "model": "smollm2:135m",
    "stream": False,
    "messages": [{"role": "user", "content": f"Say hello. {MARK}"}],
    "options": {"num_predict": 8},
}

testinfra_hosts = ["ansible://site-gateway1?force_ansible=True"]


def request(method: str, path: str, body: dict | None = None, key: str | None = KEY) -> tuple[int, dict]:
    connection = http.client.HTTPSConnection(GATEWAY, 443, timeout=120, context=ssl.create_default_context(cafile=CA))
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection.request(method, path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}")


def test_real_model_answers_on_both_interfaces():
    status, answer = request("POST", "/api/chat", CHAT)
    assert status == 200 and answer["message"]["content"] and answer["eval_count"] > 0
    openai = {key: CHAT[key] for key in ("model", "messages")} | {"max_tokens": 8}
    status, answer = request("POST", "/v1/chat/completions", openai)
    assert status == 200 and answer["choices"][0]["message"]["content"] and answer["usage"]["completion_tokens"] > 0


def test_models_are_listed():
    assert [model["id"] for model in request("GET", "/v1/models")[1]["data"]] == ["smollm2:135m"]


@pytest.mark.parametrize("key", [None, "llm-lab-wrong"])
def test_no_key_no_answer(key):
    assert request("GET", "/v1/models", key=key)[0] == 401
    assert request("POST", "/api/chat", CHAT, key=key)[0] == 401


@pytest.mark.parametrize(
    "path", ["/api/pull", "/api/create", "/api/copy", "/api/delete", "/api/push", "/api/blobs/sha256:0", "/api/show"]
)
def test_models_cannot_be_changed_from_outside(path):
    assert request("POST", path, {"model": "smollm2:135m"})[0] in (403, 404)


def test_tls_1_2_is_refused():
    context = ssl.create_default_context(cafile=CA)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((GATEWAY, 443), 10) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="gateway1.lab")


def test_certificate_holds_the_name_that_clients_use():
    with socket.create_connection((GATEWAY, 443), 10) as raw:
        with ssl.create_default_context(cafile=CA).wrap_socket(raw, server_hostname="gateway1.lab") as tls:
            assert tls.version() == "TLSv1.3"


def test_no_prompt_and_no_key_on_any_disk_or_journal(host):
    assert request("POST", "/api/chat", CHAT)[0] == 200
    for name in ("site-gateway1", "site-inference1", "site-inference2"):
        machine = host.get_host(
            f"ssh://root@{host_address(name)}", ssh_identity_file=str(LAB / "id_ed25519"), ssh_extra_args=SSH
        )
        for secret in (MARK, KEY):
            found = machine.run(
                f"grep -rslF -e '{secret}' /var /etc /run /tmp /root 2>/dev/null; "
                f"journalctl --no-pager | grep -cF -e '{secret}'"
            )
            assert found.stdout.strip() == "0", f"{name}: {found.stdout}"


SSH = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"


def host_address(name: str) -> str:
    return {"site-gateway1": "10.77.2.61", "site-inference1": "10.77.2.62", "site-inference2": "10.77.2.63"}[name]


def test_ollama_answers_gateways_only(host):
    ask = "import urllib.request as u; u.urlopen('http://10.77.2.62:11434/api/version', timeout=4)"
    assert host.run("python3 -c %s", ask).rc == 0
    neighbour = host.get_host("ssh://root@10.77.2.63", ssh_identity_file=str(LAB / "id_ed25519"), ssh_extra_args=SSH)
    assert neighbour.run("python3 -c %s", ask).rc != 0


def test_access_log_names_the_key_and_the_model(host):
    assert request("POST", "/api/chat", CHAT)[0] == 200
    line = json.loads(host.check_output('grep \'"path":"/api/chat"\' /var/log/nginx/llm-access.log | tail -1'))
    assert (line["key_id"], line["model"], line["status"]) == ("lab", "smollm2:135m", 200)
