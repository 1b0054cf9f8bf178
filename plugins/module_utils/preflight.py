# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what hosts are with what is required of them, and says each refusal in one sentence.

A host's state is a mapping: ``error`` (why it could not be examined, "" otherwise), ``error_check`` ("reachable",
"python" or "probe"), ``address``, ``python`` ("3.11.2", "" where unknown), ``facts`` (what the module preflight_info
returned as ``host``) and ``wishes`` (what is required; the keys are those that the checks below read). Sizes are MiB.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

INVENTORY = "inventory"
CONTROL_NODE = "control node"
IPV4_ANY = "0.0.0.0"  # compared with, never bound
WILDCARDS = ("::", "*", "")
LAYERS = ("Task failed: ", "Action failed: ", "Module failed: ", "Failed to connect to the host via ssh: ")
COMM_MAX = 15  # the kernel cuts a process name here


@dataclass(frozen=True)
class Finding:
    """One refusal: where, which check, the variable to look at, what is wrong, and what would fix it."""

    host: str
    check: str
    variable: str
    problem: str
    fix: str

    def sentence(self, hosts: Sequence[str] = ()) -> str:
        """The refusal as one sentence; ``hosts`` where several have the same one."""
        return f"{', '.join(hosts) or self.host}: {self.problem}; {self.fix} ({self.variable})."


def addresses_overlap(one: str, other: str) -> bool:
    """Whether two listeners on these addresses and the same port get in each other's way (:: takes IPv4 as well)."""
    if one == other or one in WILDCARDS or other in WILDCARDS:
        return True
    return IPV4_ANY in (one, other) and ":" not in one + other


def holder_is(service: str, holder: Mapping[str, Any]) -> bool:
    """Whether a process belongs to a service: by its systemd unit, an instance of it, or its process name."""
    unit = str(holder["unit"])
    unit = unit[: -len(".service")] if unit.endswith(".service") else unit
    wanted = service[: -len(".service")] if service.endswith(".service") else service
    return wanted in (unit, unit.partition("@")[0]) or holder["process"] == wanted[:COMM_MAX]


def leaves(value: Any) -> Iterator[Any]:
    """The single values inside nested mappings and sequences, names of keys left out."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def value_state(value: Any, example_values: Iterable[str], is_undefined: Callable[[Any], bool]) -> str:
    """ "missing", "empty", "example" or "ok", and never the value itself, so that the answer may be printed.

    Any example among the value's leaves counts, compared without case and outer blanks; False and 0 are values.
    """
    if is_undefined(value):
        return "missing"
    found = list(leaves(value))
    if any(is_undefined(leaf) for leaf in found):
        return "missing"
    if all(leaf is None or (isinstance(leaf, str) and not leaf.strip()) for leaf in found):
        return "empty"
    examples = {str(example).strip().lower() for example in example_values}
    return "example" if any(isinstance(leaf, str) and leaf.strip().lower() in examples for leaf in found) else "ok"


def version_supported(version: str, supported: Iterable[str]) -> bool:
    """Whether a release is one of these, or belongs to one: 9.4 belongs to 9, 22.04 does not belong to 2."""
    return any(version == each or version.startswith(f"{each}.") for each in map(str, supported))


def check_os(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    supported = {str(name).lower(): [str(each) for each in versions] for name, versions in wishes["os"].items()}
    if not version_supported(facts["os"]["version"], supported.get(facts["os"]["id"], [])):
        found = f"{facts['os']['id'] or 'unknown'} {facts['os']['version']}".strip()
        known = ", ".join(f"{name} {'/'.join(versions)}" for name, versions in supported.items())
        yield "preflight_os", f"operating system {found} is not supported", f"install one of {known}"


def check_architecture(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if facts["architecture"] not in wishes["architectures"]:
        known = ", ".join(wishes["architectures"])
        yield "preflight_architectures", f"architecture {facts['architecture']} is not supported", f"use one of {known}"


def check_systemd(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if wishes["systemd_required"] and not facts["systemd"]:
        yield "preflight_systemd_required", "systemd is not the running service manager", "boot the host with systemd"


def check_cpu_flags(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    wanted = wishes["cpu_flags"].get(facts["architecture"], []) if wishes["runs_models"] else []
    missing = [flag for flag in wanted if flag not in facts["cpu_flags"]]
    if missing:
        fix = "use another CPU, or pass the host's CPU through to the virtual machine"
        yield "preflight_cpu_flags", f"the CPU lacks {', '.join(missing)}", fix


def check_memory(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if facts["memory_mib"] < wishes["memory_mib"]:
        problem = f"{wishes['memory_mib']} MiB of memory are needed and {facts['memory_mib']} MiB are there"
        yield "preflight_memory_mib", problem, "add memory, or serve smaller models"


def check_disks(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Paths on one file system share its space; what a path holds already counts as space that it has."""
    measured = {disk["path"]: disk for disk in facts["disks"]}
    by_device: Dict[int, List[Mapping[str, Any]]] = {}
    for wish in wishes["disks"]:
        by_device.setdefault(measured[wish["path"]]["device"], []).append(wish)
    for wanted in by_device.values():
        disks = [measured[wish["path"]] for wish in wanted]
        missing = [max(0, int(wish["mib"]) - disk["used_mib"]) for wish, disk in zip(wanted, disks)]
        free = min(disk["free_mib"] for disk in disks)
        if sum(missing) > free:
            paths = " and ".join(f"{wish['path']} ({mib} MiB)" for wish, mib in zip(wanted, missing) if mib)
            names = dict.fromkeys(_variable(wish, "preflight_disks") for wish, mib in zip(wanted, missing) if mib)
            yield (
                ", ".join(names),
                f"{free} MiB are free for {paths} on the file system of {disks[0]['existing']}",
                f"free {sum(missing) - free} MiB there, or use another disk",
            )


def _variable(wish: Mapping[str, Any], default: str) -> str:
    return str(wish.get("variable") or default)


def check_time_sync(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    variable = "preflight_time_sync_required"
    if not wishes["time_sync_required"]:
        if not wishes["time_sync_reason"].strip():
            fix = "say in preflight_time_sync_reason why this host may do without"
            yield variable, "time synchronization is waived without a reason", fix
        return
    state, source = facts["time_sync"]["state"], facts["time_sync"]["source"]
    if state != "synchronized":
        said = (
            f"{source} says that the clock is not in sync"
            if source
            else "neither chrony nor systemd knows the clock's state"
        )
        yield variable, said, "install chrony with servers it can reach, and start it"


def check_resolve(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in wishes["resolve"]:
        if not facts["resolved"].get(name):
            yield (
                "preflight_resolve",
                f"the name {name} does not resolve",
                "add it to DNS or to /etc/hosts, or correct it",
            )


def check_mirror(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for url, trouble in facts["urls"].items():
        if trouble:
            fix = "start the mirror, or correct its address"
            yield wishes["mirror"]["variable"], f"the artifact mirror {url} cannot be used: {trouble}", fix


def check_ports(facts: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    ports = [
        {**wish, "port": int(wish["port"]), "address": wish.get("address") or IPV4_ANY, "service": str(wish["service"])}
        for wish in wishes["ports"]
    ]
    for one, other in combinations(ports, 2):
        if one["service"] != other["service"] and one["port"] == other["port"]:
            if addresses_overlap(one["address"], other["address"]):
                names = dict.fromkeys(_variable(wish, "preflight_ports") for wish in (one, other))
                both = " and ".join(f"{wish['service']} on {wish['address']}" for wish in (one, other))
                yield ", ".join(names), f"port {one['port']} is wanted by {both}", "give one of them another port"
    for wish in ports:
        foreign = next((each for each in facts["listeners"] if _in_the_way(each, wish)), None)
        if foreign:
            where = f"port {wish['port']} on {foreign['address']}"
            what = f"{where}, which {wish['service']} needs, is held by {_who(foreign)}"
            fix = f"stop that process, or give {wish['service']} another port"
            yield _variable(wish, "preflight_ports"), what, fix


def _in_the_way(listener: Mapping[str, Any], wish: Mapping[str, Any]) -> bool:
    """Whether a socket of another service holds the wanted port; several processes may share one socket."""
    if listener["port"] != wish["port"] or not addresses_overlap(listener["address"], wish["address"]):
        return False
    return not any(holder_is(wish["service"], holder) for holder in listener["holders"])


def _who(listener: Mapping[str, Any]) -> str:
    """The first holder's name, with its unit, or its id where it has no unit."""
    if not listener["holders"]:
        return "a process that only root may see"
    holder = listener["holders"][0]
    return f"{holder['process']} ({holder['unit'] or 'process ' + str(holder['pid'])})"


def check_required(wishes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    said = {"missing": "is not set", "empty": "is empty", "example": "still holds an example value"}
    for item in wishes["required_states"]:
        if item["state"] in said:
            yield item["name"], f"{item['name']} {said[item['state']]}", item["fix"] or "set it in the inventory"


def check_examined(state: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Whether the host could be examined at all; rows are (check, variable, problem, fix)."""
    check, error = state["error_check"], first_cause(str(state["error"]))
    if check == "reachable":
        fix = "check that the host is up and that its address, user and key are right"
        yield check, "ansible_host", f"the host cannot be reached: {error}", fix
    elif check == "python":
        yield check, "ansible_python_interpreter", error, "install python3, or name the interpreter"
    elif check == "probe":
        fix = "make sure that Ansible may become root there and that its Python is sound"
        yield check, "ansible_become", f"the host could not be examined: {error}", fix
    wanted, found = state["wishes"]["python_min"], state["python"]
    if found and _numbers(found) < _numbers(wanted):
        yield "python", "preflight_python_min", f"Python {found} is older than {wanted}", "install a newer Python"


def first_cause(message: str) -> str:
    """An error of Ansible's on one line, without the layers that it passed through."""
    text = " ".join(message.split())
    while text.startswith(LAYERS):
        text = text.partition(": ")[2]
    return text.rstrip(".") or "no reason was given"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


Check = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[Tuple[str, str, str]]]
CHECKS: Dict[str, Check] = {
    "os": check_os,
    "architecture": check_architecture,
    "systemd": check_systemd,
    "cpu_flags": check_cpu_flags,
    "memory": check_memory,
    "disk": check_disks,
    "time_sync": check_time_sync,
    "resolve": check_resolve,
    "mirror": check_mirror,
    "ports": check_ports,
}


def check_groups(groups: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    for name, members in groups.items():
        if not members:
            fix = f"add at least one host to the group {name}"
            yield Finding(INVENTORY, "groups", "preflight_groups", f"the group {name} has no hosts", fix)


def check_mirror_folder(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """A mirror that is a folder lies on the control node, and is missed once, not on every host."""
    mirrors = {
        (state["wishes"]["mirror"]["location"], state["wishes"]["mirror"]["variable"]): state
        for state in hosts.values()
    }
    for (location, variable), state in mirrors.items():
        if location and "://" not in location and not state["wishes"]["mirror"]["folder_exists"]:
            fix = "create and fill it, or correct its path"
            yield Finding(CONTROL_NODE, "mirror", variable, f"the artifact mirror {location} is no folder", fix)


def check_duplicates(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    names: Dict[str, List[str]] = {}
    addresses: Dict[str, List[str]] = {}
    for host, state in hosts.items():
        addresses.setdefault(state["address"], []).append(host)
        if state["facts"]:
            names.setdefault(state["facts"]["hostname"], []).append(host)
    for what, variable, groups, fix in (
        ("address", "ansible_host", addresses, "correct the address of all but one"),
        ("hostname", "inventory_hostname", names, "give each host a hostname of its own, or list it once"),
    ):
        for value, members in groups.items():
            if value and len(members) > 1:
                for host in members:
                    yield Finding(
                        host, f"duplicate_{what}", variable, f"the {what} {value} is used more than once", fix
                    )


def evaluate(hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> list[Finding]:
    """All refusals, first those of the inventory, then host by host in the given order; [] where everything is well.

    An empty state stands for a host that left the play before it could be examined.
    """
    states = {host: state for host, state in hosts.items() if state}
    findings = [*check_groups(groups), *check_mirror_folder(states), *check_duplicates(states)]
    for host in (host for host, state in hosts.items() if not state):
        fix = "repair what failed before this role, or use it in a play without serial"
        findings.append(Finding(host, "probe", "inventory_hostname", "the host was not examined", fix))
    for host, state in states.items():
        findings += [Finding(host, *row) for row in check_examined(state)]
        findings += [Finding(host, "required", *row) for row in check_required(state["wishes"])]
        for name, check in CHECKS.items() if state["facts"] else ():
            findings += [Finding(host, name, *row) for row in check(state["facts"], state["wishes"])]
    return list(dict.fromkeys(findings))


def sentences(findings: Iterable[Finding]) -> list[str]:
    """One sentence for each refusal; hosts with the same one share it."""
    shared: Dict[Tuple[str, str, str], List[Finding]] = {}
    for finding in findings:
        shared.setdefault((finding.variable, finding.problem, finding.fix), []).append(finding)
    return [same[0].sentence([finding.host for finding in same]) for same in shared.values()]


def report(hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """``ok``, ``text`` for people, ``findings`` for programs, and what was seen of each host; fit for JSON."""
    findings = evaluate(hosts, groups)
    said = sentences(findings)
    lines = [f"  {number}. {sentence}" for number, sentence in enumerate(said, 1)]
    problems = "1 problem" if len(said) == 1 else f"{len(said)} problems"
    head = f"Preflight found {problems}; nothing was changed." if said else f"Preflight passed on {len(hosts)} host(s)."
    return {
        "ok": not findings,
        "text": "\n".join([head, *lines]),
        "findings": [{**asdict(finding), "sentence": finding.sentence()} for finding in findings],
        "hosts": {host: _summary(state) for host, state in hosts.items() if state},
    }


def _summary(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the report keeps of a host; sockets and CPU flags would drown the rest."""
    kept = ("hostname", "os", "architecture", "memory_mib", "time_sync", "disks")
    facts = {key: state["facts"][key] for key in kept if key in state["facts"]}
    waived = "" if state["wishes"]["time_sync_required"] else state["wishes"]["time_sync_reason"]
    return {"address": state["address"], "examined": bool(state["facts"]), "time_sync_waived": waived, **facts}
