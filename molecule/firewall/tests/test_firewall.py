"""After drills and a reboot: what a scan sees, limits, containers, and what the host says of itself."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import socket
import subprocess
from xml.etree import ElementTree

import pytest
from test_matrix import DATA, FAMILIES, HOSTS, PLACES

EVERY = [(host, family) for host in HOSTS for family in FAMILIES]


def inside(place):
    return f"ip netns exec p{PLACES.index(place) + 1}"


@pytest.fixture
def filtered(host):
    if host.check_output("hostname") not in HOSTS:
        pytest.skip("the router has no rules")
    return host


def probe(router, place, *targets):
    return json.loads(router.check_output(f"{inside(place)} probe.py <<'E'\n{json.dumps(targets)}\nE"))


# From the edge zone; the portal is anybody's.
SEEN = {"fw-a": {443, 8443}, "fw-b": set()}


@pytest.fixture(scope="session")
def scans(router):
    """State of TCP ports, more than anything here listens on, of every host and family as the edge zone sees them."""

    def scan(name, family):
        options = f"{'-6' if family == 'ipv6' else ''} -n -Pn -sS -p1-12000 --min-rate 6000 --max-retries 2 -oX -"
        found = router.check_output(f"{inside('edge')} nmap {options} {HOSTS[name][family]}")
        return {
            int(port.get("portid")): port.find("state").get("state")
            for port in ElementTree.fromstring(found).findall(".//port")
        }

    with concurrent.futures.ThreadPoolExecutor(len(EVERY)) as pool:
        return dict(zip(EVERY, pool.map(lambda each: scan(*each), EVERY), strict=True))


@pytest.mark.parametrize("where", EVERY)
def test_a_scan_from_another_zone_sees_exactly_the_declared_ports(scans, where):
    filtered = {port for port, state in scans[where].items() if state == "filtered"}
    assert {port: state for port, state in scans[where].items() if port not in filtered} == dict.fromkeys(
        SEEN[where[0]], "open"
    )


@pytest.mark.parametrize(("name", "family"), EVERY)
def test_ssh_is_limited_but_never_for_the_deployer(router, name, family):
    address = HOSTS[name][family]
    burst = probe(router, "management", *[("tcp", address, 22)] * 30)
    assert 3 <= burst.count("open") <= 12, burst
    if family == "ipv4":  # this machine has no IPv6 address of the lab
        for _connection in range(30):
            with socket.create_connection((address, 22), 3):
                pass


@pytest.mark.parametrize(("name", "family"), EVERY)
def test_ping_is_answered_and_limited(router, name, family):
    address = HOSTS[name][family]
    router.check_output(f"{inside('edge')} ping -c 1 -W 2 {address}")
    said = router.run(f"{inside('edge')} ping -q -c 300 -i 0.002 -W 1 {address}").stdout
    received = int(re.search(r"(\d+)(?: packets)? received", said).group(1))
    assert 10 <= received <= 200, said


@pytest.mark.parametrize(("family", "there"), [("ipv4", "10.66.0.2"), ("ipv6", "fd66::2")])
def test_nothing_is_passed_on(router, host, family, there):
    if host.check_output("hostname") != "fw-a":
        pytest.skip("only fw-a has a network behind it")
    # fw-a itself gets there, so the route and the other end are right.
    host.run_test(f'echo \'[["tcp", "{there}", 80]]\' | probe.py | grep open')
    assert probe(router, "management", ("tcp", there, 80)) == [""]


def test_containers_reach_out_and_their_tables_stay(host):
    if host.check_output("hostname") != "fw-a":
        pytest.skip("only fw-a has containers")
    target = json.dumps([["tcp", DATA["scenario_hosts"]["fw-c"]["ipv4"], 22]])
    assert host.check_output(f"echo '{target}' | ip netns exec podman9 probe.py") == '["open"]'
    for family in ("ip", "ip6"):
        assert "dport { 8080, 8081 }" in host.check_output(f"nft list table {family} engine")


def test_a_packet_that_pretends_to_be_from_the_host_itself_is_dropped(filtered):
    table = filtered.check_output("nft list table inet llm_filter")
    assert len(re.findall('drop comment "loopback address from outside"', table)) == 4


def test_rules_are_loaded_at_boot_and_nothing_waits_for_confirmation(filtered):
    assert filtered.service("nftables").is_enabled
    assert filtered.service("nftables").is_running
    assert not filtered.file("/var/lib/llm/rollback/firewall/armed").exists
    assert not filtered.run("systemctl --no-legend --state=active list-units 'llm-rollback-firewall*'").stdout.strip()


def test_the_distributions_ruleset_is_kept_beside_ours(filtered):
    assert "flush ruleset" in filtered.file("/etc/nftables.conf.dist").content_string
    assert "llm_filter" in filtered.file("/etc/nftables.conf").content_string


def test_new_rules_take_a_service_away_and_the_egress_list_holds(host):
    """A run with other data: the port closes, and output lets out what is named only."""
    if host.check_output("hostname") != "fw-b":
        pytest.skip("one host is enough")
    scenario = os.environ["MOLECULE_SCENARIO_DIRECTORY"]
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    variables = {
        "test_services": {"ssh": {"ports": [{"port": 22}], "from": ["any"]}},
        "test_output": "drop",
        "test_egress": {"proxy": {"ports": [{"port": 3142}], "to": ["10.77.2.1"]}},
    }

    def converge(given):
        command = ["ansible-playbook", f"--inventory={inventory}", "--limit=fw-b", f"--extra-vars={json.dumps(given)}"]
        return subprocess.run([*command, f"{scenario}/converge.yml"], capture_output=True, text=True, check=False)

    def out(port):
        return host.check_output(f'echo \'[["tcp", "10.77.2.1", {port}]]\' | probe.py')

    before = out(8081)
    try:
        done = converge(variables)
        assert done.returncode == 0, done.stdout[-3000:]
        # The report of what listens in vain names the ports that are closed now.
        assert "tcp 11434 (witness.py on" in " ".join(done.stdout.split()), done.stdout[-3000:]
        assert (before, out(3142), out(8081)) == ('["open"]', '["open"]', '[""]')
    finally:
        assert converge({}).returncode == 0
