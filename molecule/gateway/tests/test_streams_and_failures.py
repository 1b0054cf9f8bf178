"""Streams, clients that leave, upstreams that die."""

import json
import subprocess
import threading
import time

import pytest
from conftest import FAIL_TIMEOUT, UPSTREAMS, ask, curl_command, seen, wait_for

CHAT = "/api/chat"
VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])


def chat(address: str, model: str, **more):
    return ask(address, CHAT, "team-a", {"model": model, **more})


@VERSIONS
def test_pieces_arrive_as_they_are_made(gateway, version):
    arrivals = []
    command = curl_command(gateway, CHAT, "team-a", version, "--no-buffer", "--data", '{"model":"streams:1b"}')
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        for line in running.stdout:
            assert json.loads(line)["piece"] == len(arrivals)
            arrivals.append(time.monotonic())
    assert len(arrivals) == 5
    assert all(later - earlier > 0.1 for earlier, later in zip(arrivals, arrivals[1:], strict=False)), (
        "pieces were held back"
    )


@VERSIONS
@pytest.mark.parametrize("model", ["streams-long:1b", "waits:1b"])
def test_a_client_that_leaves_ends_the_work(gateway, version, model):
    with subprocess.Popen(
        curl_command(gateway, CHAT, "team-a", version, "--no-buffer", "--data", json.dumps({"model": model})),
        stdout=subprocess.PIPE,
    ) as client:
        running = wait_for(
            lambda: [entry for entry in seen() if entry["model"] == model and entry["outcome"] == "running"]
        )
        assert len(running) == 1
        client.kill()
    assert wait_for(lambda: seen(running[0]["id"])[0]["outcome"] == "aborted", 5)


def test_a_request_that_was_sent_is_never_sent_again(gw_a, upstreams):
    for _dummy in range(2):
        answer = chat(gw_a, "dies:1b")
        assert answer.status == 502 and answer.headers["retry-after"] == "5"
        assert isinstance(answer.json()["error"], str)
        assert len(seen(answer.headers["x-request-id"])) == 1
        time.sleep(FAIL_TIMEOUT + 0.5)


def test_an_upstream_that_refuses_is_left_out_and_comes_back(gw_a, upstreams):
    upstreams["up-a"].run_test("systemctl stop standin-upstream")
    answers = [chat(gw_a, "echo:1b") for _dummy in range(8)]
    assert {(answer.status, answer.json()["server"]) for answer in answers} == {(200, "up-b")}
    upstreams["up-a"].run_test("systemctl start standin-upstream")
    assert wait_for(lambda: chat(gw_a, "echo:1b").json()["server"] == "up-a", FAIL_TIMEOUT + 7)


def test_an_upstream_that_is_silent_is_left_out(gw_a, upstreams):
    chain = "add table inet lab; add chain inet lab input { type filter hook input priority 0; }"
    upstreams["up-a"].run_test(f"nft '{chain}; add rule inet lab input tcp dport 11434 drop'")
    answers, times = [], []
    for _dummy in range(4):
        start = time.monotonic()
        answers.append(chat(gw_a, "echo:1b"))
        times.append(time.monotonic() - start)
    assert {(answer.status, answer.json()["server"]) for answer in answers} == {(200, "up-b")}
    assert len([seconds for seconds in times if seconds > 1.5]) == 1, (
        "one request waits for the connect timeout, the others know"
    )


def test_no_upstream_left(gw_a, upstreams):
    for host in upstreams.values():
        host.run_test("systemctl stop standin-upstream")
    for answer in (chat(gw_a, "echo:1b"), chat(gw_a, "echo:1b")):
        assert answer.status == 502 and answer.headers["retry-after"] == "5" and answer.json()["error"]


def test_the_words_of_a_busy_upstream_arrive(gw_a):
    answer = chat(gw_a, "busy:1b")
    assert answer.status == 503 and "server busy" in answer.json()["error"] and answer.headers["retry-after"] == "5"


def test_a_reload_does_not_cut_streams(gw_a, host_of):
    lines: list[bytes] = []

    def read() -> None:
        done = subprocess.run(
            curl_command(gw_a, CHAT, "team-a", "--data", '{"model":"streams:1b"}'), capture_output=True, check=True
        )
        lines.extend(done.stdout.splitlines())

    stream = threading.Thread(target=read)
    stream.start()
    assert wait_for(lambda: any(entry["model"] == "streams:1b" and entry["outcome"] == "running" for entry in seen()))
    host_of("gw-a").run_test("systemctl reload nginx")
    stream.join()
    assert len(lines) == 5
    assert set(UPSTREAMS) >= {ask(gw_a, "/v1/models").json()["server"]}
