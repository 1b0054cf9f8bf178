"""drill.py NAME: breaks one thing under a stream of requests through the gateway.

Prints what the clients saw and judges it: a request that was not yet sent to the broken host succeeds; only requests
that were running there may fail; afterwards everything answers again by itself. A stopped host was not sent anything
once it is down, so nothing may fail from then on.
"""

from __future__ import annotations

import collections
import concurrent.futures
import http.client
import json
import os
import pathlib
import ssl
import subprocess
import sys
import threading
import time

LAB = pathlib.Path(os.environ["LAB"])
GATEWAY, HOSTS = "10.77.2.61", ("site-inference1", "site-inference2")
KEY = (LAB / "secrets" / "api-key").read_text().strip()
CONTEXT = ssl.create_default_context(cafile=str(LAB / "pki" / "ca.crt"))
BODY = json.dumps(
    {"model": "smollm2:135m", "prompt": "Count from one to ten.", "stream": True, "options": {"num_predict": 12}}
)


def ask(timeout_s: float = 60) -> str:
    """One streamed completion: "ok", or what went wrong."""
    connection = http.client.HTTPSConnection(GATEWAY, 443, timeout=timeout_s, context=CONTEXT)
    try:
        connection.request(
            "POST", "/api/generate", BODY, {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        lines = answer.read().splitlines()
        if answer.status != 200:
            return f"status {answer.status}"
        last = json.loads(lines[-1])
        return "ok" if last.get("done") else f"broken stream: {'error line' if 'error' in last else 'no end'}"
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        return f"broken connection: {type(error).__name__}"
    finally:
        connection.close()


def podman(*words: str) -> str:
    return subprocess.run(["podman", *words], check=True, capture_output=True, text=True).stdout


def upstreams_answer() -> bool:
    """Whether each inference host answers by itself: asked on the host, as its firewall lets only the gateway ask."""
    for name, address in zip(HOSTS, ("10.77.2.62", "10.77.2.63")):
        asking = f"import urllib.request as u; u.urlopen('http://{address}:11434/api/version', timeout=3)"
        found = subprocess.run(["podman", "exec", name, "python3", "-c", asking], capture_output=True, check=False)
        if found.returncode:
            return False
    return True


def until(check, seconds: float, what: str) -> float:
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > seconds:
            sys.exit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return time.monotonic() - start


def stream_during(breaking, seconds: float) -> collections.Counter[tuple[str, str]]:
    """Three clients ask all the time; `breaking` runs after two seconds.

    Counts (phase when the request began, outcome).
    """
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    phase = ["before"]
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            began = phase[0]
            seen[began, ask()] += 1

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client) for _number in range(3)]
        time.sleep(2)
        phase[0] = "during"
        breaking()
        time.sleep(0.5)  # a process that was killed needs a moment to lose its sockets
        phase[0] = "after"
        time.sleep(seconds)
        stop.set()
        for one in clients:
            one.result()
    return seen


def kill_runner() -> collections.Counter[tuple[str, str]]:
    return stream_during(lambda: podman("exec", HOSTS[0], "pkill", "-KILL", "llama-server"), 6)


def kill_ollama() -> collections.Counter[tuple[str, str]]:
    return stream_during(lambda: podman("exec", HOSTS[0], "pkill", "-KILL", "-x", "ollama"), 8)


def stop_host() -> collections.Counter[tuple[str, str]]:
    return stream_during(lambda: podman("kill", "-s", "KILL", HOSTS[1]), 10)


def reboot_all() -> collections.Counter[tuple[str, str]]:
    for name in ("site-gateway1", *HOSTS):
        podman("kill", "-s", "KILL", name)
        podman("start", name)
    return collections.Counter()


def main() -> int:
    name = sys.argv[1]
    for _number in range(3):
        if (outcome := ask()) != "ok":
            sys.exit(f"{name}: the service was not healthy before the drill ({outcome})")
    seen = {"kill_runner": kill_runner, "kill_ollama": kill_ollama, "stop_host": stop_host, "reboot_all": reboot_all}[
        name
    ]()
    print(f"drill {name}")
    for (phase, outcome), count in sorted(seen.items()):
        print(f"  requests begun {phase:<7} {count:>4} x {outcome}")
    if name == "stop_host":
        print(f"  answers with one host down: {[ask() for _number in range(6)]}")
        podman("start", HOSTS[1])
    seconds = until(upstreams_answer, 60, f"{name}: both hosts answering again")
    seconds += until(
        lambda: all(ask() == "ok" for _number in range(4)), 60, f"{name}: four answers through the gateway"
    )
    print(f"  everything answers again by itself after {seconds:.1f} s")
    # Each of the three clients may lose the request that ran on the broken host, and one that a dying process still
    # took: a prompt that was sent is never sent again.
    failed = collections.Counter({phase: 0 for phase in ("before", "during", "after")})
    for (phase, outcome), count in seen.items():
        failed[phase] += count * (outcome != "ok")
    if failed["before"] > 3 or failed["during"] > 3 or failed["after"]:
        sys.exit(f"{name}: requests failed, by when they began: {dict(failed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
