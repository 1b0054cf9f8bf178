"""What all tests of the gateway share: they ask the running gateways from the control machine, as a client would."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import pytest
import testinfra

STATE = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "gateway"
GATEWAYS = {"gw-a": "10.77.2.41", "gw-b": "10.77.2.44"}
UPSTREAMS = {"up-a": "10.77.2.42", "up-b": "10.77.2.43"}
FAIL_TIMEOUT = 3


def key(name: str) -> str:
    return (STATE / "keys" / name).read_text().split()[0]


def curl_command(address: str, path: str, who: str = "team-a", *options: str) -> list[str]:
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--path-as-is",
        "--max-time",
        "30",
        "--cacert",
        str(STATE / "pki/ca.crt"),
    ]
    if who:
        command += ["--header", f"Authorization: Bearer {key(who)}"]
    return [*command, *options, f"https://{address}{path}"]


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    protocol: str

    def json(self) -> dict:
        return json.loads(self.body)


def ask(address: str, path: str, who: str = "team-a", body: object = None, *options: str) -> Answer:
    """One request with curl; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sending = ["--header", "Content-Type: application/json", "--data-binary", "@-"] if body is not None else []
    command = curl_command(address, path, who, "--dump-header", "/dev/stderr", *sending, *options)
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode in (0, 56, 92), done.stderr.decode()
    blocks = [block for block in done.stderr.decode().replace("\r", "").split("\n\n") if block.startswith("HTTP/")]
    first, *lines = [block for block in blocks if " 100" not in block.split("\n")[0]][-1].strip().split("\n")
    headers = {name.lower(): value.strip() for name, dummy, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, done.stdout, first.split()[0])


def seen(request_id: str = "") -> list[dict]:
    """What the stand-ins were asked."""
    entries = []
    for address in UPSTREAMS.values():
        with urllib.request.urlopen(f"http://{address}:11435/", timeout=5) as answer:
            entries += json.load(answer)
    return [entry for entry in entries if not request_id or entry["id"] == request_id]


def wait_for(what, seconds: float = 10):
    """The first true answer of what(), which is asked again for some time."""
    end = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(0.2)
    return answer


@pytest.fixture(params=GATEWAYS)
def gateway(request) -> str:
    return GATEWAYS[request.param]


@pytest.fixture
def gw_a() -> str:
    return GATEWAYS["gw-a"]


@pytest.fixture
def host_of():
    """Connections to hosts by name."""
    return lambda name: testinfra.get_host(
        f"ansible://{name}?ansible_inventory={os.environ['MOLECULE_INVENTORY_FILE']}"
    )


def all_upstreams_answer(address: str) -> bool:
    """Whether four questions in a row reach all upstreams."""
    return {ask(address, "/v1/models").json().get("server") for _dummy in range(4)} == set(UPSTREAMS)


@pytest.fixture
def upstreams(host_of):
    """The upstreams' hosts; afterwards both serve again and the gateways know it."""
    hosts = {name: host_of(name) for name in UPSTREAMS}
    yield hosts
    for host in hosts.values():
        host.run("nft delete table inet lab; systemctl start standin-upstream")
    time.sleep(FAIL_TIMEOUT + 0.5)
    for address in GATEWAYS.values():
        assert wait_for(functools.partial(all_upstreams_answer, address))
