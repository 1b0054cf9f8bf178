"""The running service, after an upgrade, two failed upgrades, kills and a reboot."""

from __future__ import annotations

import json
import re


def ask(host, path: str, body: dict | None = None) -> dict:
    script = (
        "import json,sys,urllib.request;"
        "r=urllib.request.Request('http://127.0.0.1:11434'+sys.argv[1], sys.argv[2].encode() or None);"
        "print(urllib.request.urlopen(r, timeout=120).read().decode())"
    )
    return json.loads(host.check_output("python3 -c %s %s %s", script, path, json.dumps(body) if body else ""))


def test_upgraded_version_answers(host):
    assert ask(host, "/api/version") == {"version": "0.34.1"}


def test_model_survived_and_answers(host):
    answer = ask(
        host,
        "/api/generate",
        {"model": "smollm2:135m", "prompt": "Say hello", "stream": False, "options": {"num_predict": 4}},
    )
    assert answer["done"] and answer["eval_count"] > 0


def test_runner_was_started_as_configured(host):
    ask(
        host, "/api/generate", {"model": "smollm2:135m", "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
    )
    command = host.check_output("tr '\\0' ' ' < /proc/$(pgrep -o llama-server)/cmdline")
    assert re.search(r"-np 2\b", command) and re.search(r"-c 2048\b", command)
    assert "--cache-type-k q8_0" in command


def test_listens_on_loopback_only(host):
    listening = host.check_output("ss -Hltn sport = :11434")
    assert "127.0.0.1:11434" in listening
    assert len(listening.splitlines()) == 1


def test_service_comes_back_by_itself(host):
    service = host.service("ollama")
    assert service.is_running and service.is_enabled


def test_unit_is_valid_and_sandboxed(host, exposure):
    assert host.run("systemd-analyze verify /etc/systemd/system/ollama.service").stderr == ""
    assert exposure("ollama.service") <= 4.5


def test_programs_belong_to_root_and_the_service_cannot_write_them(host):
    assert host.check_output("find /opt/ollama ! -user root") == ""
    assert host.run("runuser -u ollama -- test -w /opt/ollama/current/lib/ollama").rc != 0


def test_service_sees_no_devices_but_gpus(host):
    allowed = host.check_output("systemctl show ollama --property=DevicePolicy --property=DeviceAllow")
    assert "DevicePolicy=closed" in allowed
    assert set(re.findall(r"char-[\w*-]+", allowed)) <= {"char-nvidia*", "char-kfd", "char-drm", "char-rtc"}


def test_environment_is_readable_by_root_only(host):
    file = host.file("/etc/ollama/environment")
    assert (file.user, file.mode) == ("root", 0o600)
    assert 'OLLAMA_NO_CLOUD="1"' in file.content_string
