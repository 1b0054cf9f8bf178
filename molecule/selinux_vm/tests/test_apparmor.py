"""The service under AppArmor, after a trial and a reboot."""

from __future__ import annotations

import json

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.mac_denials import Denial, read_denials

testinfra_hosts = ["apparmor1"]
PROFILES = ("llm_ollama", "llm_gateway")


def ours(host) -> list[Denial]:
    kernel = host.run("journalctl --dmesg --boot --output=cat --no-pager")
    assert kernel.rc == 0 and "Linux version" in kernel.stdout, "the kernel log reaches back to the boot"
    return [each for each in read_denials(kernel.stdout.splitlines()) if each.source in PROFILES]


def test_on_at_every_boot(host):
    assert host.file("/sys/module/apparmor/parameters/enabled").content_string.strip() == "Y"
    assert "apparmor=1 security=apparmor" in host.file("/proc/cmdline").content_string


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_is_enforced(host, profile):
    assert json.loads(host.check_output("aa-status --json"))["profiles"][profile] == "enforce"


@pytest.mark.parametrize(
    ("process", "profile"), [("ollama", "llm_ollama"), ("llama-server", "llm_ollama"), ("nginx", "llm_gateway")]
)
@pytest.mark.usefixtures("answer")  # so that there is a model runner
def test_profiles_of_processes(host, process, profile):
    labels = set(host.check_output(f"ps -C {process} -o label=").splitlines())
    assert {label.strip() for label in labels} == {f"{profile} (enforce)"}


def test_answer_of_a_real_model_through_the_gateway(answer):
    assert answer["done"] and answer["eval_count"] > 0 and answer["message"]["content"]


def test_nothing_of_ours_was_denied(host):
    assert ours(host) == []


def test_what_the_service_never_may_is_denied_and_counted(host, probe):
    before = sum(each.count for each in ours(host))
    assert host.run(f"{probe}/cat /etc/shadow").rc == 1
    assert host.run(f"{probe}/touch /etc/written").rc == 1 and not host.file("/etc/written").exists
    assert host.run(f"{probe}/cat /dev/null").rc == 0, "the probe itself works"
    counted = ours(host)
    assert sum(each.count for each in counted) >= before + 2
    assert {"/etc/shadow", "/etc/written"} <= {each.path for each in counted}
