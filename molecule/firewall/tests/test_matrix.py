"""Who reaches what, by real packets from every place: all pairs, allowed and denied, from the scenario's data."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import pathlib
import sys

import pytest
import yaml

SCENARIO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCENARIO.parents[1] / "plugins/module_utils"))
import zones  # noqa: E402

DATA = yaml.safe_load((SCENARIO / "vars.yml").read_text())
HOSTS = {name: host for name, host in DATA["scenario_hosts"].items() if name != "fw-c"}
PLACES = list(DATA["scenario_places"])
FAMILIES = ("ipv4", "ipv6")
# What the engine's stand-in publishes beside the declared port, and what nobody declared.
UNDECLARED = [("tcp", 9999), ("udp", 9999), ("tcp", 6804), ("tcp", 8081)]


def expected():
    """Whether a place gets through: {(place, host, family, protocol, port): allowed}."""
    matrix = zones.reachability(DATA["scenario_zones"], DATA["scenario_services"], list(HOSTS), DATA["scenario_sets"])
    found = {}
    for row in matrix:
        for port, family in itertools.product({int(each) for each in row["port"].split("-")}, FAMILIES):
            key = (row["source"], row["host"], family, row["protocol"], port)
            found[key] = row["allowed"]
            if row["kind"] == "network" and family == "ipv6":
                # What the services name is an IPv4 address; by its IPv6 address the same place is in no zone.
                found[key] = found[("outside", *key[1:])]
    # A gateway stands in the edge zone and may do what that may.
    for (place, *rest), allowed in list(found.items()):
        if place == "edge":
            found[("gateways", *rest)] = found[("gateways", *rest)] or allowed
    for place, host, family, (protocol, port) in itertools.product(PLACES, HOSTS, FAMILIES, UNDECLARED):
        found[(place, host, family, protocol, port)] = False
    return found


@pytest.fixture(scope="session")
def answers(router):
    """What really happened, for the same keys."""

    def ask(place):
        keys = [key for key in expected() if key[0] == place]
        targets = [(protocol, HOSTS[host][family], port) for _place, host, family, protocol, port in keys]
        command = f"ip netns exec p{PLACES.index(place) + 1} probe.py <<'E'\n{json.dumps(targets)}\nE"
        return dict(zip(keys, json.loads(router.check_output(command.replace("%", "%%"))), strict=True))

    with concurrent.futures.ThreadPoolExecutor(len(PLACES)) as pool:
        return {key: answer for found in pool.map(ask, PLACES) for key, answer in found.items()}


def test_every_pair(answers):
    wrong = {
        key: answers[key] or "nothing"
        for key, allowed in expected().items()
        if answers[key] != ("open" if allowed else "")
    }
    assert wrong == {}


def test_the_matrix_has_both_answers_of_every_kind():
    """So that the test above cannot pass with a matrix that is empty or all of a kind."""
    seen = {
        (host, family, protocol, allowed) for (_place, host, family, protocol, _port), allowed in expected().items()
    }
    assert seen == set(itertools.product(HOSTS, FAMILIES, ("tcp", "udp"), (True, False)))
    assert {key[0] for key in expected()} == set(PLACES)


def test_some_pairs_that_were_written_down_by_hand(answers):
    """Not from the data: these would be wrong if data and rules were wrong in the same way."""
    assert answers[("management", "fw-a", "ipv6", "tcp", 22)] == "open"
    assert answers[("edge", "fw-a", "ipv4", "tcp", 22)] == ""
    assert answers[("edge", "fw-a", "ipv4", "tcp", 443)] == "open"
    assert answers[("gateways", "fw-b", "ipv6", "tcp", 11434)] == "open"
    assert answers[("edge", "fw-b", "ipv6", "tcp", 11434)] == ""
    assert answers[("outside", "fw-a", "ipv6", "tcp", 8443)] == "open"
    assert answers[("data", "fw-b", "ipv4", "tcp", 6803)] == "open"
    assert answers[("data", "fw-b", "ipv4", "tcp", 6804)] == ""
    assert answers[("application", "fw-a", "ipv6", "tcp", 8080)] == "open"
    assert answers[("edge", "fw-a", "ipv6", "tcp", 8080)] == ""
