# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""module_utils/preflight.py: every check both ways, the sentences word for word, secrets never in an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import preflight
from hypothesis import given
from hypothesis import strategies as st

UNDEFINED = object()


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "hostname": "a",
        "os": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"},
        "architecture": "x86_64",
        "systemd": True,
        "cpu_flags": ["avx2", "fpu"],
        "memory_mib": 8192,
        "time_sync": {"state": "synchronized", "source": "chronyc"},
        "disks": [],
        "resolved": {},
        "urls": {},
        "listeners": [],
        **changes,
    }


def wishes(**changes: Any) -> dict[str, Any]:
    return {
        "os": {"debian": ["12", "13"], "rhel": ["9"]},
        "architectures": ["x86_64", "aarch64"],
        "systemd_required": True,
        "python_min": "3.9",
        "runs_models": True,
        "cpu_flags": {"x86_64": ["avx2"]},
        "memory_mib": 4096,
        "disks": [],
        "ports": [],
        "resolve": [],
        "time_sync_required": True,
        "time_sync_reason": "",
        "mirror": {"location": "", "variable": "llm_artifact_mirror", "folder_exists": False},
        "required_states": [],
        **changes,
    }


def state(seen: dict[str, Any] | None = None, wanted: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    base = {"error": "", "error_check": "", "address": "192.0.2.1", "python": "3.11.2"}
    return {**base, "facts": facts() if seen is None else seen, "wishes": wanted or wishes(), **changes}


def said(seen: dict[str, Any] | None = None, wanted: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    return preflight.sentences(preflight.evaluate({"a": state(seen, wanted, **changes)}, {}))


def disk(path: str, free: int, used: int = 0, device: int = 1) -> dict[str, Any]:
    return {"path": path, "existing": "/var", "device": device, "free_mib": free, "used_mib": used}


def listener(port: int, address: str = "0.0.0.0", **holder: Any) -> dict[str, Any]:
    return {
        "address": address,
        "port": port,
        "holders": [{"pid": 7, "process": "", "unit": "", **holder}] if holder else [],
    }


def port(number: int, service: str, **more: Any) -> dict[str, Any]:
    return {"port": number, "service": service, **more}


NGINX = port(443, "nginx", variable="gateway_port")
WELL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"os": {"id": "rhel", "version": "9.4", "name": ""}}, {}),
    ({"cpu_flags": []}, {"runs_models": False}),
    ({"cpu_flags": [], "architecture": "aarch64"}, {}),
    ({"systemd": False}, {"systemd_required": False}),
    ({"memory_mib": 4096}, {}),
    ({"disks": [disk("/v", 100)]}, {"disks": [{"path": "/v", "mib": 100}]}),
    ({"disks": [disk("/v", 40, used=60)]}, {"disks": [{"path": "/v", "mib": 100}]}),
    (
        {"disks": [disk("/v", 100), disk("/w", 100, device=2)]},
        {"disks": [{"path": "/v", "mib": 60}, {"path": "/w", "mib": 60}]},
    ),
    (
        {"time_sync": {"state": "unknown", "source": ""}},
        {"time_sync_required": False, "time_sync_reason": "a test host"},
    ),
    ({"resolved": {"gw1": ["192.0.2.9"]}}, {"resolve": ["gw1"]}),
    ({"urls": {"http://m/": ""}}, {}),
    ({"listeners": [listener(443, process="nginx", unit="nginx.service")]}, {"ports": [NGINX]}),
    ({"listeners": [listener(443, "127.0.0.1", process="x")]}, {"ports": [{**NGINX, "address": "192.0.2.1"}]}),
    ({"listeners": [listener(80, process="x")]}, {"ports": [NGINX]}),
    ({}, {"ports": [NGINX, port(443, "nginx", address="::")]}),
    ({}, {"ports": [port(80, "a", address="127.0.0.1"), port(80, "b", address="192.0.2.1")]}),
    ({}, {"required_states": [{"name": "x", "state": "ok", "fix": ""}]}),
    ({}, {"mirror": {"location": "http://m/", "variable": "m", "folder_exists": False}}),
    ({}, {"mirror": {"location": "/srv/mirror", "variable": "m", "folder_exists": True}}),
]


@pytest.mark.parametrize(("seen", "wanted"), WELL)
def test_nothing_is_found_where_all_is_well(seen: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert said(facts(**seen), wishes(**wanted)) == []


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"os": {"id": "debian", "version": "11", "name": ""}},
        {},
        "a: operating system debian 11 is not supported; install one of debian 12/13, rhel 9 (preflight_os).",
    ),
    (
        {"os": {"id": "", "version": "", "name": ""}},
        {},
        "a: operating system unknown is not supported; install one of debian 12/13, rhel 9 (preflight_os).",
    ),
    (
        {"architecture": "armv7l"},
        {},
        "a: architecture armv7l is not supported; use one of x86_64, aarch64 (preflight_architectures).",
    ),
    (
        {"systemd": False},
        {},
        "a: systemd is not the running service manager; boot the host with systemd (preflight_systemd_required).",
    ),
    (
        {"cpu_flags": ["fpu"]},
        {},
        "a: the CPU lacks avx2; use another CPU, or pass the host's CPU through to the virtual machine"
        " (preflight_cpu_flags).",
    ),
    (
        {"memory_mib": 4095},
        {},
        "a: 4096 MiB of memory are needed and 4095 MiB are there; add memory, or serve smaller models"
        " (preflight_memory_mib).",
    ),
    (
        {"disks": [disk("/v", 99)]},
        {"disks": [{"path": "/v", "mib": 100, "variable": "models_dir"}]},
        "a: 99 MiB are free for /v (100 MiB) on the file system of /var; free 1 MiB there, or use another disk"
        " (models_dir).",
    ),
    (
        {"disks": [disk("/v", 100), disk("/w", 100, used=10)]},
        {"disks": [{"path": "/v", "mib": 60}, {"path": "/w", "mib": 60}]},
        "a: 100 MiB are free for /v (60 MiB) and /w (50 MiB) on the file system of /var; free 10 MiB there, or"
        " use another disk"
        " (preflight_disks).",
    ),
    (
        {"time_sync": {"state": "unsynchronized", "source": "chronyc"}},
        {},
        "a: chronyc says that the clock is not in sync; install chrony with servers it can reach, and start it"
        " (preflight_time_sync_required).",
    ),
    (
        {"time_sync": {"state": "unknown", "source": ""}},
        {},
        "a: neither chrony nor systemd knows the clock's state; install chrony with servers it can reach, and start it"
        " (preflight_time_sync_required).",
    ),
    (
        {},
        {"time_sync_required": False, "time_sync_reason": " "},
        "a: time synchronization is waived without a reason; say in preflight_time_sync_reason why this host may"
        " do without"
        " (preflight_time_sync_required).",
    ),
    (
        {"resolved": {"gw1": []}},
        {"resolve": ["gw1", "gw1"]},
        "a: the name gw1 does not resolve; add it to DNS or to /etc/hosts, or correct it (preflight_resolve).",
    ),
    (
        {"urls": {"http://m/": "no answer: Connection refused"}},
        {},
        "a: the artifact mirror http://m/ cannot be used: no answer: Connection refused; start the mirror, or"
        " correct its address"
        " (llm_artifact_mirror).",
    ),
    (
        {},
        {"ports": [port(80, "a", variable="a_port"), port("80", "b", address="127.0.0.1")]},
        "a: port 80 is wanted by a on 0.0.0.0 and b on 127.0.0.1; give one of them another port (a_port,"
        " preflight_ports).",
    ),
    (
        {"listeners": [listener(443, "::", process="apache2", unit="apache2.service")]},
        {"ports": [NGINX]},
        "a: port 443 on ::, which nginx needs, is held by apache2 (apache2.service); stop that process, or give"
        " nginx another port"
        " (gateway_port).",
    ),
    (
        {"listeners": [listener(443, process="python3"), listener(443, "::", process="python3")]},
        {"ports": [NGINX]},
        "a: port 443 on 0.0.0.0, which nginx needs, is held by python3 (process 7); stop that process, or give"
        " nginx another port"
        " (gateway_port).",
    ),
    (
        {"listeners": [listener(443)]},
        {"ports": [NGINX]},
        "a: port 443 on 0.0.0.0, which nginx needs, is held by a process that only root may see; stop that process,"
        " or give nginx another port (gateway_port).",
    ),
    (
        {},
        {"required_states": [{"name": "keys", "state": "missing", "fix": ""}]},
        "a: keys is not set; set it in the inventory (keys).",
    ),
    (
        {},
        {"required_states": [{"name": "keys", "state": "empty", "fix": "run the key playbook"}]},
        "a: keys is empty; run the key playbook (keys).",
    ),
    (
        {},
        {"required_states": [{"name": "keys", "state": "example", "fix": "make one"}]},
        "a: keys still holds an example value; make one (keys).",
    ),
    (
        {},
        {"mirror": {"location": "/srv/mirror", "variable": "llm_artifact_mirror", "folder_exists": False}},
        "control node: the artifact mirror /srv/mirror is no folder; create and fill it, or correct its path"
        " (llm_artifact_mirror).",
    ),
]


@pytest.mark.parametrize(("seen", "wanted", "sentence"), WRONG)
def test_each_refusal_is_one_sentence(seen: dict[str, Any], wanted: dict[str, Any], sentence: str) -> None:
    assert said(facts(**seen), wishes(**wanted)) == [sentence]


@pytest.mark.parametrize(
    ("check", "error", "sentence"),
    [
        (
            "reachable",
            "Task failed: Failed to connect to the host via ssh: ssh: connect to host x port 22:\nNo route to host",
            "a: the host cannot be reached: ssh: connect to host x port 22: No route to host; check that the"
            " host is up and that its"
            " address, user and key are right (ansible_host).",
        ),
        ("python", "none runs", "a: none runs; install python3, or name the interpreter (ansible_python_interpreter)."),
        (
            "probe",
            "",
            "a: the host could not be examined: no reason was given; make sure that Ansible may become root"
            " there and that its"
            " Python is sound (ansible_become).",
        ),
    ],
)
def test_host_that_could_not_be_examined(check: str, error: str, sentence: str) -> None:
    assert said({}, error_check=check, error=error, python="") == [sentence]


@pytest.mark.parametrize(("found", "number"), [("3.8.18", 1), ("3.9.0", 0), ("3.13.1", 0)])
def test_python_version_is_compared_by_number(found: str, number: int) -> None:
    assert len(said(python=found)) == number


def test_host_that_left_the_play_is_named_and_hides_nothing() -> None:
    findings = preflight.evaluate({"gone": {}, "a": state(facts(systemd=False))}, {})
    assert [(each.host, each.check) for each in findings] == [("gone", "probe"), ("a", "systemd")]


def test_empty_group() -> None:
    findings = preflight.evaluate({"a": state()}, {"inference": [], "gateways": ["a"]})
    assert [each.sentence() for each in findings] == [
        "inventory: the group inference has no hosts; add at least one host to the group inference (preflight_groups)."
    ]


def test_duplicates_name_all_hosts_that_share_them() -> None:
    same_name = {
        "a": state(address="192.0.2.1"),
        "b": state(address="192.0.2.2"),
        "c": state(facts(hostname="c"), address="192.0.2.2"),
    }
    assert preflight.sentences(preflight.evaluate(same_name, {})) == [
        "b, c: the address 192.0.2.2 is used more than once; correct the address of all but one (ansible_host).",
        "a, b: the hostname a is used more than once; give each host a hostname of its own, or list it once"
        " (inventory_hostname).",
    ]


def test_hosts_with_the_same_refusal_share_a_sentence() -> None:
    hosts = {name: state(facts(hostname=name, systemd=False), address=name) for name in ("a", "b")}
    report = preflight.report(hosts, {})
    sentence = "systemd is not the running service manager; boot the host with systemd (preflight_systemd_required)."
    assert report["ok"] is False
    assert report["text"] == f"Preflight found 1 problem; nothing was changed.\n  1. a, b: {sentence}"
    assert [each["sentence"] for each in report["findings"]] == [f"a: {sentence}", f"b: {sentence}"]


def test_report_of_a_sound_host_is_fit_for_json_and_keeps_the_waiver() -> None:
    wanted = wishes(time_sync_required=False, time_sync_reason="a test host")
    report = preflight.report({"a": state(wanted=wanted)}, {})
    assert (report["ok"], report["text"]) == (True, "Preflight passed on 1 host(s).")
    assert json.loads(json.dumps(report))["hosts"]["a"]["time_sync_waived"] == "a test host"


@pytest.mark.parametrize(
    ("service", "process", "unit", "own"),
    [
        ("nginx", "nginx", "", True),
        ("nginx", "x", "nginx.service", True),
        ("ceph-mon", "x", "ceph-mon@h1.service", True),
        ("ollama.service", "x", "ollama.service", True),
        ("prometheus-node-exporter", "prometheus-node", "", True),
        ("nginx", "nginx-debug", "nginx-debug.service", False),
        ("a", "", "", False),
    ],
)
def test_holder_of_a_service(service: str, process: str, unit: str, own: bool) -> None:
    assert preflight.holder_is(service, {"process": process, "unit": unit}) is own


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("0.0.0.0", "192.0.2.1", True),
        ("0.0.0.0", "::", True),
        ("0.0.0.0", "2001:db8::1", False),
        ("::", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_overlap(one: str, other: str, overlap: bool) -> None:
    for pair in ((one, other), (other, one)):
        assert preflight.addresses_overlap(*pair) is overlap


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UNDEFINED, "missing"),
        ([{"key": UNDEFINED}], "missing"),
        ("", "empty"),
        ("  ", "empty"),
        (None, "empty"),
        ([], "empty"),
        ({}, "empty"),
        ([{"key": ""}], "empty"),
        ("ChangeMe ", "example"),
        ([{"name": "x", "key": "changeme"}], "example"),
        ("changeme-not", "ok"),
        ({"changeme": "k"}, "ok"),
        (0, "ok"),
        (False, "ok"),
    ],
)
def test_state_of_a_value(value: Any, expected: str) -> None:
    assert preflight.value_state(value, ["changeme"], lambda each: each is UNDEFINED) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_state_never_contains_the_value(value: Any) -> None:
    assert preflight.value_state(value, ["changeme"], lambda _each: False) in ("empty", "example", "ok")


@given(VALUES, st.sampled_from(["changeme", " CHANGEME\n"]))
def test_example_is_found_at_any_depth(value: Any, example: str) -> None:
    assert preflight.value_state({"k": [value, example]}, ["changeme"], lambda _each: False) == "example"


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=5), st.integers(0, 1000))
def test_disks_are_refused_exactly_when_the_rest_does_not_fit(paths: list[tuple[int, int]], free: int) -> None:
    measured = [disk(f"/d{at}", free, used) for at, (_mib, used) in enumerate(paths)]
    wanted = [{"path": f"/d{at}", "mib": mib} for at, (mib, _used) in enumerate(paths)]
    fits = sum(max(0, mib - used) for mib, used in paths) <= free
    assert (said(facts(disks=measured), wishes(disks=wanted)) == []) is fits


@given(st.sampled_from(["9", "12", "22.04"]), st.integers(0, 99))
def test_minor_release_belongs_to_its_major_one(major: str, minor: int) -> None:
    assert preflight.version_supported(f"{major}.{minor}", [major])
    assert not preflight.version_supported(f"{major}{minor}", [major])
