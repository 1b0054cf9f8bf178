"""What stands on the gateway's disk and how its service runs."""

import json
import re
import secrets
import socket
import ssl
import subprocess

import pytest
from conftest import GATEWAYS, STATE, ask, curl_command, key, wait_for

CHAT = "/v1/chat/completions"
ACCESS_LOG = "/var/log/nginx/llm-access.log"


@pytest.fixture(params=GATEWAYS)
def host(request, host_of):
    return host_of(request.param)


@pytest.fixture
def address(host):
    return GATEWAYS[host.check_output("hostname")]


def files_with(host, text: str) -> str:
    """Files and journal entries that hold the text, which is written so that the search does not find itself."""
    pattern = f"[{text[0]}]{text[1:]}"
    everywhere = "/etc /home /opt /root /run /srv /tmp /usr/local /var"
    found = host.run(
        f"grep -rIls -D skip -e '{pattern}' {everywhere}; grep -rasl -e '{pattern}' /var/log /var/lib/nginx"
    )
    journal = host.run(f"journalctl --no-pager | grep -c -e '{pattern}'")
    return found.stdout + (f"journal: {journal.stdout}" if journal.stdout.strip() != "0" else "")


def send_raw(address: str, request: str) -> bytes:
    """A request that no client would send."""
    context = ssl.create_default_context(cafile=STATE / "pki/ca.crt")
    with context.wrap_socket(socket.create_connection((address, 443), 5), server_hostname="llm.lab") as connection:
        connection.sendall(request.encode())
        return connection.recv(4096)


def test_no_prompt_reaches_a_file(host, address, upstreams):
    mark = "PROMPT" + secrets.token_hex(8)
    text = f"{mark} " * 60_000
    assert len(text) > 1 << 20
    bodies = [
        json.dumps({"model": model, "prompt": text}).encode()
        for model in ("echo:1b", "streams:1b", "dies:1b", "waits:1b")
    ]
    for body, status in zip(bodies[:3], (200, 200, 502), strict=True):
        assert ask(address, CHAT, "team-a", body).status == status
    assert ask(address, CHAT, "team-a", bodies[0], "--http1.1", "--header", "Transfer-Encoding: chunked").status in (
        200,
        502,
    )
    ask(address, CHAT, "team-a", json.dumps({"model": "echo:1b", "prompt": mark * 600_000}).encode())  # too large
    ask(address, CHAT, "team-a", bodies[0][:-1])  # not JSON
    ask(address, CHAT, "team-a", json.dumps({"model": mark + " ", mark: mark, "options": {mark: 1}}).encode())
    ask(address, CHAT + "?prompt=" + mark, "team-a", json.dumps({"model": "dies:1b"}).encode())
    ask(address, CHAT, "team-a", {"model": "dies:1b"}, "--header", f"X-Prompt: {mark}", "--header", f"Cookie: {mark}")
    for line in (
        "/api/chat%00?prompt={}",
        "/api/chat?" + 9000 * "x" + "{}",
        "/x HTTP/1.1\r\nA: b\x00{}\r\nHost",
        "/x\r\n{}: {}\r\nHost",
    ):
        send_raw(address, f"GET {line.replace('{}', mark)} HTTP/1.1\r\nHost: llm.lab\r\n{mark}\r\n\r\n")
    with subprocess.Popen(
        curl_command(address, CHAT, "team-a", "--data-binary", "@-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        client.stdin.write(bodies[3])
        client.stdin.close()
        client.stdin = None
        assert files_with(host, mark) == "", "while the request runs"
        client.kill()
    assert files_with(host, mark) == ""
    assert files_with(host, "llm-access") != "", "the search finds what there is"


def test_keys_stand_nowhere(host):
    for name in ("team-a", "leaver"):
        assert files_with(host, key(name)) == ""


def test_access_log(host, address):
    answer = ask(address, CHAT, "narrow", {"model": "plain", "prompt": "x"})
    refused = ask(address, CHAT, "narrow", {"model": "other:1b"})
    entries = {
        entry["request_id"]: entry
        for entry in map(json.loads, host.check_output(f"tail -n 20 {ACCESS_LOG}").splitlines())
    }
    entry = entries[answer.headers["x-request-id"]]
    assert {name: entry[name] for name in ("key_id", "method", "path", "model", "client")} == {
        "key_id": "narrow",
        "method": "POST",
        "path": CHAT,
        "model": "plain:latest",
        "client": "10.77.2.1",
    }
    assert (
        entry["upstream"].endswith(":11434")
        and float(entry["upstream_header_time"]) >= 0
        and entry["bytes_in"] > 0 < entry["bytes_out"]
    )
    entry = entries[refused.headers["x-request-id"]]
    assert (entry["status"], entry["refusal"], entry["upstream"]) == (403, "model_not_allowed", "")


def test_files(host):
    for path, owner, group, mode in (
        ("/etc/nginx/nginx.conf", "root", "root", 0o640),
        ("/etc/nginx/llm/llm_policy.lua", "root", "root", 0o644),
        (ACCESS_LOG, "www-data", "adm", 0o640),
        ("/var/log/nginx/error.log", "www-data", "adm", 0o640),
    ):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == (owner, group, mode), path
    assert "sites-enabled" in host.file("/etc/nginx/nginx.conf.dist").content_string


def test_logs_rotate(host, address):
    host.run_test("logrotate --force /etc/logrotate.d/nginx")
    answer = ask(address, "/v1/models")
    assert wait_for(lambda: answer.headers["x-request-id"] in host.file(ACCESS_LOG).content_string or None)
    assert "[alert]" not in host.file("/var/log/nginx/error.log").content_string


def test_service(host, exposure):
    service = host.service("nginx")
    assert service.is_running and service.is_enabled
    assert exposure("nginx.service") <= 2.5


def test_workers_cannot_write_temporary_files(host):
    master = host.check_output("cat /run/nginx.pid")
    for path in ("/var/lib/nginx/body", "/var/lib/nginx/proxy", "/etc/nginx", "/usr"):
        denied = host.run(f"nsenter --target {master} --mount touch {path}/x")
        assert denied.rc != 0 and "Read-only" in denied.stderr, path


def test_listens_on_declared_ports_only(host):
    ports = re.findall(r":(\d+)\s.*nginx", host.check_output("ss -Hltnp"))
    assert set(ports) == ({"443", "80"} if host.check_output("hostname") == "gw-b" else {"443"})


def test_nothing_went_wrong_inside(host):
    errors = host.check_output("cat /var/log/nginx/error.log*")
    assert "lua" not in errors and "[crit]" not in errors
