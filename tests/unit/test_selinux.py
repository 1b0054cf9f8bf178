# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role selinux: which system it chooses, when it enforces, what it refuses, and the policies that it writes."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/selinux"
OLLAMA = {
    "name": "ollama",
    "unit": "ollama.service",
    "programs": ["/opt/ollama"],
    "writable": ["/var/lib/ollama"],
    "ports": [11434],
    "clients": ["httpd_t"],
    "gpus": True,
}
GATEWAY = {"name": "gateway", "unit": "nginx.service", "domain": "httpd_t", "programs": ["/usr/sbin/nginx"]}
INIT = "system_u:system_r:init_t:s0"


def trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: trusted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [trusted(each) for each in value]
    return trust_as_template(value) if isinstance(value, str) else value


def load(name: str) -> Any:
    return trusted(yaml.safe_load((ROLE / name).read_text()))


def templar(family: str = "Debian", kernel: tuple[str, ...] = ("", "Y", INIT, ""), **more: Any) -> Templar:
    """The role's variables on a host: ``kernel`` is what the files say that the role asks it for."""
    files = [{"content": base64.b64encode(each.encode()).decode()} if each else {} for each in kernel]
    given = {
        "ansible_facts": {"os_family": family, "distribution": family, "virtualization_tech_guest": ["kvm"]},
        "inventory_hostname": "host1",
        "ansible_managed": "managed",
        "__selinux_kernel_files": {"results": files},
        "__selinux_grub": {"stat": {"exists": True}},
        "__selinux_wrong": {"stdout": ""},
        "__selinux_dmesg": {"stdout_lines": []},
        "__selinux_audit": {},
    }
    variables = load("defaults/main.yml") | load("vars/main.yml") | load(f"vars/{family}.yml") | given | more
    return Templar(loader=DataLoader(), variables=variables)


def value(name: str, **host: Any) -> Any:
    return templar(**host).template(trust_as_template("{{ " + name + " }}"))


@pytest.mark.parametrize(
    ("host", "chosen"),
    [
        ({"family": "RedHat"}, "selinux"),
        ({"family": "Debian"}, "apparmor"),
        ({"family": "Debian", "kernel": ("0", "", INIT, "")}, "selinux"),
        ({"family": "Debian", "selinux_system": "selinux"}, "selinux"),
    ],
)
def test_system_that_is_chosen(host: dict[str, Any], chosen: str) -> None:
    assert value("__selinux_chosen", **host) == chosen


DENIED = (
    "audit: type=1400 audit(1.0:1): avc:  denied  { read } for comm=x scontext=u:r:llm_ollama_t:s0 tcontext=u:r:t:s0 "
    "tclass=file permissive=1"
)


@pytest.mark.parametrize(
    ("runtime", "more", "mode", "relabel"),
    [
        ("", {}, "permissive", True),
        ("0", {"__selinux_wrong": {"stdout": "Would relabel /etc/shadow"}}, "permissive", True),
        ("0", {}, "enforcing", False),
        ("0", {"__selinux_dmesg": {"stdout_lines": [DENIED]}}, "permissive", False),
        ("0", {"__selinux_dmesg": {"stdout_lines": [DENIED.replace("llm_ollama_t", "getty_t")]}}, "enforcing", False),
        ("0", {"selinux_mode": "permissive"}, "permissive", False),
        ("1", {}, "enforcing", False),
        ("1", {"__selinux_dmesg": {"stdout_lines": [DENIED]}}, "enforcing", False),
        ("1", {"selinux_mode": "permissive"}, "permissive", False),
    ],
)
def test_no_step_to_enforcing_is_skipped(runtime: str, more: dict[str, Any], mode: str, relabel: bool) -> None:
    host = {"kernel": (runtime, "", INIT, ""), "selinux_system": "selinux", "selinux_services": [OLLAMA], **more}
    assert (value("__selinux_next_mode", **host), value("__selinux_relabel", **host)) == (mode, relabel)


def test_init_outside_of_its_domain_means_unlabelled() -> None:
    assert value("__selinux_relabel", kernel=("0", "", "system_u:system_r:kernel_t:s0", "")) is True


def refusals(**host: Any) -> str:
    (task,) = [each for each in load("tasks/assert.yml") if each["name"].startswith("Refuse")]
    checks = {key: each for key, each in task["vars"].items() if key != "__selinux_refusals"}
    found = templar(**checks, **host).template(checks["__selinux_checks"])
    return "\n".join(each["message"] for each in found if not each["that"])


def test_what_is_right_is_not_refused() -> None:
    assert (
        refusals(selinux_services=[OLLAMA, GATEWAY], selinux_file_contexts=[{"path": "/etc/llm/pki", "type": "x"}])
        == ""
    )


CONTAINER = {"os_family": "Debian", "distribution": "Debian", "virtualization_tech_guest": ["podman", "container"]}


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ({"ansible_facts": CONTAINER}, "host1 is a container, .*; set selinux_required to false"),
        ({"selinux_required": False}, "without selinux_required_reason"),
        ({"kernel": ("", "", INIT, "")}, "a kernel without AppArmor; set selinux_required"),
        ({"family": "RedHat", "selinux_system": "apparmor"}, "which RedHat does not package; set it to auto"),
        ({"selinux_system": "selinux", "__selinux_grub": {"stat": {"exists": False}}}, "add security=selinux"),
        ({"selinux_services": [{**OLLAMA, "name": "A b"}]}, "no part of a type"),
        ({"selinux_services": [OLLAMA, {**OLLAMA, "ports": []}]}, "a name twice"),
        ({"selinux_services": [{"name": "x"}]}, "without programs"),
        ({"selinux_services": [OLLAMA, {**OLLAMA, "name": "two"}]}, "a port twice"),
        ({"selinux_services": [{**OLLAMA, "writable": ["/srv/a b"]}]}, "/srv/a b .* is not a plain path"),
        ({"selinux_services": [{**GATEWAY, "programs": ["/usr/s*"]}]}, r"/usr/s\* .* is not a plain path"),
        ({"selinux_services": [{**OLLAMA, "writable": ["/var/lib"]}]}, "/var/lib .* is a folder of the system"),
        ({"selinux_file_contexts": [{"path": "/etc", "type": "x"}]}, "/etc .* is a folder of the system"),
        ({"selinux_confirm_seconds": 5}, "selinux_confirm_seconds is 5; the host's timer takes 10 to 60"),
        ({"selinux_accepted_denials": [{"source": "x", "reason": " "}]}, "without a reason"),
        ({"selinux_accepted_denials": [{"class": "file", "reason": "why"}]}, "neither source nor target"),
    ],
)
def test_refusals(host: dict[str, Any], says: str) -> None:
    text = refusals(**host)
    assert re.search(says, text) and text.count("\n") == 0


def test_container_that_may_do_without_is_passed_by() -> None:
    host = {"ansible_facts": CONTAINER, "selinux_required": False, "selinux_required_reason": "a lab"}
    assert refusals(**host) == "" and value("__selinux_possible", **host) is False


def render(template: str, service: dict[str, Any], **more: Any) -> str:
    known = {**templar().available_variables["__selinux_service_defaults"], **service}
    text = trust_as_template((ROLE / "templates" / template).read_text())
    return templar(service=known, **more).template(text)


def test_selinux_module() -> None:
    text = render("service.cil.j2", OLLAMA)
    assert text.count("(") == text.count(")")
    assert '(filecon "/opt/ollama(/.*)?" any (system_u object_r llm_ollama_exec_t ((s0) (s0))))' in text
    assert "(portcon tcp 11434 (system_u object_r llm_ollama_port_t ((s0) (s0))))" in text
    assert "(allow httpd_t llm_ollama_port_t (tcp_socket (name_connect)))" in text
    assert "execmem" in text and "xserver_misc_device_t" in text
    for target in ("shadow_t", "etc_t", "llm_ollama_exec_t"):
        rules = re.findall(rf"\(allow llm_ollama_t {target} \(\w+ \(([^)]*)\)", text)
        assert not {"write", "append", "create", "add_name", "unlink"} & set(" ".join(rules).split()), target


def test_selinux_module_without_gpus_has_no_right_to_them() -> None:
    text = render("service.cil.j2", {**OLLAMA, "gpus": False})
    assert "execmem" not in text and "xserver_misc_device_t" not in text


def test_path_is_no_pattern() -> None:
    assert r'"/srv/models\.d(/.*)?"' in render("service.cil.j2", {**OLLAMA, "readable": ["/srv/models.d"]})


@pytest.mark.parametrize(
    ("mode", "flags"), [("enforcing", "attach_disconnected"), ("permissive", "attach_disconnected, complain")]
)
def test_apparmor_profile(mode: str, flags: str) -> None:
    service = {**OLLAMA, "programs": ["/opt/a", "/opt/b"]}
    text = render("service.apparmor.j2", service, selinux_mode=mode)
    assert f"profile llm_ollama flags=({flags}) {{" in text
    alone = render("service.apparmor.j2", {**service, "unit": ""}, selinux_mode=mode)
    assert f"profile llm_ollama /{{opt/a,opt/b}}{{,/**}} flags=({flags}) {{" in alone
    assert "  /opt/a{,/,/**} mrix,\n" in text and "  /var/lib/ollama{,/,/**} rwkl,\n" in text
    assert "/dev/nvidia* rw" in text and text.count("{") == text.count("}")
    assert "/dev/nvidia" not in render("service.apparmor.j2", {**OLLAMA, "gpus": False})


def test_only_changed_and_missing_modules_are_loaded_and_old_ones_go() -> None:
    (task,) = [each for each in load("tasks/selinux/policy.yml") if each["name"].startswith("Load and remove")]
    checksum = hashlib.sha256(b"").hexdigest()
    lines = [
        f"400 llm_same      cil          sha256:{checksum} ",
        f"400 llm_changed   cil          sha256:{'0' * 64} ",
        f"400 llm_old       cil          sha256:{checksum} ",
        f"100 base          pp           sha256:{checksum} ",
    ]
    names = ("same", "changed", "new")
    words = templar(
        **task["vars"],
        selinux_services=[{**OLLAMA, "name": name} for name in names],
        __selinux_loaded={"stdout_lines": lines},
        __selinux_files={"results": [{"item": f"llm_{name}", "stat": {"checksum": checksum}} for name in names]},
    ).template(task["ansible.builtin.command"]["argv"])
    assert words[0] == "semodule" and set(words[1:]) == {
        "--install=/usr/local/share/llm/selinux/llm_changed.cil",
        "--install=/usr/local/share/llm/selinux/llm_new.cil",
        "--remove=llm_old",
    }


def test_processes_outside_of_their_domain_are_found() -> None:
    def process(service: dict[str, Any], label: str) -> dict[str, Any]:
        known = {"domain": "", **service}
        return {"item": {"service": known}, "content": base64.b64encode(label.encode()).decode()}

    right = [process(OLLAMA, "u:r:llm_ollama_t:s0\0"), process(GATEWAY, "u:r:httpd_t:s0\0")]
    wrong = [process(OLLAMA, "u:r:unconfined_service_t:s0\0"), process(GATEWAY, "u:r:llm_gateway_t:s0\0")]
    host = {"kernel": ("1", "", INIT, "")}
    assert value("__selinux_misplaced", __selinux_processes={"results": right}, **host) == []
    assert value("__selinux_misplaced", __selinux_processes={"results": wrong}, **host) == [
        "ollama.service",
        "nginx.service",
    ]
    right = [process(OLLAMA, "llm_ollama (enforce)\n"), process(GATEWAY, "llm_gateway (enforce)\n")]
    wrong = [process(OLLAMA, "unconfined\n")]
    assert value("__selinux_misplaced", __selinux_processes={"results": right}) == []
    assert value("__selinux_misplaced", __selinux_processes={"results": wrong}) == ["ollama.service"]
