"""The service under SELinux, enforcing, after a reboot."""

from __future__ import annotations

import re

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.mac_denials import Denial, read_denials

testinfra_hosts = ["selinux1"]
OURS = re.compile(r"llm_ollama_|httpd_t$")
# Denials that Debian's own policy has before any of our roles ran: source, target, class; and why they are harmless.
KNOWN: dict[tuple[str, str, str], str] = {
    ("udev_t", "sysctl_fs_t", "dir"): "udevd looks for fs.nr_open, and goes on with its own limit of open files",
    ("udev_t", "udev_t", "process"): "udevd raises that limit for itself, which it does without",
    ("systemd_tmpfiles_t", "etc_t", "lnk_file"): "tmpfiles would label /etc/mtab, which has the right label",
    ("systemd_tmpfiles_t", "user_home_dir_t", "dir"): "tmpfiles would label /root, which has the right label",
    ("getty_t", "getty_t", "capability2"): "agetty locks a terminal's settings, and has the older capability for it",
}


def denials(host) -> list[Denial]:
    """All since boot, early ones and auditd's."""
    kernel = host.run("journalctl --dmesg --boot --output=cat --no-pager")
    audit = host.run("ausearch --input-logs --message AVC,USER_AVC --start boot --raw")
    assert kernel.rc == 0 and "Linux version" in kernel.stdout, "the kernel log reaches back to the boot"
    return read_denials([*kernel.stdout.splitlines(), *audit.stdout.splitlines()])


def ours(host) -> list[Denial]:
    return [each for each in denials(host) if OURS.match(each.source) or OURS.match(each.target)]


def test_enforcing_now_and_at_every_boot(host):
    assert host.check_output("getenforce") == "Enforcing"
    assert "Mode from config file:          enforcing" in host.check_output("sestatus")
    assert "security=selinux" in host.file("/proc/cmdline").content_string
    assert "security=selinux" in host.file("/etc/default/grub.d/llm-mac.cfg").content_string


def test_module_is_loaded(host):
    assert "llm_ollama" in host.check_output("semodule --list-modules").split()


@pytest.mark.parametrize(
    ("process", "domain"),
    [("ollama", "llm_ollama_t"), ("llama-server", "llm_ollama_t"), ("nginx", "httpd_t"), ("sshd", "sshd_t")],
)
@pytest.mark.usefixtures("answer")  # so that there is a model runner
def test_domains_of_processes(host, process, domain):
    labels = host.check_output(f"ps -C {process} -o label=").split()
    assert labels and {label.split(":")[2] for label in labels} <= {domain, "unconfined_t"}
    assert labels[0].split(":")[2] == domain


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/opt/ollama/current/bin/ollama", "llm_ollama_exec_t"),
        ("/opt/ollama/current/lib/ollama/llama-server", "llm_ollama_exec_t"),
        ("/var/lib/ollama/models/blobs", "llm_ollama_data_t"),
        ("/etc/llm/pki/gateway.key", "cert_t"),
        ("/etc/nginx/nginx.conf", "httpd_config_t"),
    ],
)
def test_labels_of_files(host, path, label):
    assert host.check_output(f"stat --dereference --format=%C {path}").split(":")[2] == label


def test_port_has_a_type_of_its_own(host):
    ports = host.check_output("semanage port --list")
    assert re.search(r"^llm_ollama_port_t\s+tcp\s+11434$", ports, re.MULTILINE)


def test_answer_of_a_real_model_through_the_gateway(answer):
    assert answer["done"] and answer["eval_count"] > 0 and answer["message"]["content"]


def test_nothing_of_ours_was_denied(host):
    assert ours(host) == []


def test_other_denials_are_known_by_name(host):
    assert {(each.source, each.target, each.object_class) for each in denials(host)} <= KNOWN.keys()


def test_what_the_service_never_may_is_denied_and_counted(host, probe):
    before = sum(each.count for each in ours(host))
    assert host.run(f"{probe}/cat /etc/shadow").rc == 1
    assert host.run(f"{probe}/touch /etc/written").rc == 1 and not host.file("/etc/written").exists
    assert host.run(f"{probe}/bash -c %s", "exec 3<>/dev/tcp/127.0.0.1/22").rc == 1
    assert host.run(f"{probe}/cat /dev/null").rc == 0, "the probe itself works"
    counted = ours(host)
    assert sum(each.count for each in counted) >= before + 3
    wanted = {("llm_ollama_t", kind) for kind in ("shadow_t", "etc_t", "ssh_port_t")}
    assert wanted <= {(each.source, each.target) for each in counted}
    assert all(each.command in ("bash", "cat", "touch") for each in counted)
