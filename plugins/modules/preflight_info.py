#!/usr/bin/python
# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what a host is and has; thin over module_utils/host_probe.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Tell what a host is and has before anything is changed
version_added: "0.1.0"
description:
  - Reads the operating system, architecture, CPU flags, memory, disk space, time synchronization, name resolution,
    listening TCP ports and reachable URLs of a Linux host.
  - It judges nothing. The filter P(baremetal.llm.preflight_findings#filter) compares the answer with what is required.
options:
  paths:
    description:
      - Absolute paths whose free space to tell. A path that does not exist is answered for its nearest existing parent.
    type: list
    elements: str
    default: []
  names:
    description: Host names to resolve the way this host's programs do.
    type: list
    elements: str
    default: []
  urls:
    description: HTTP or HTTPS addresses to ask for with a HEAD request, certificates checked.
    type: list
    elements: str
    default: []
  url_timeout_s:
    description: Seconds to wait for each address.
    type: int
    default: 10
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: N/A
    details: This module changes nothing.
  idempotent:
    description: When run twice in a row outside check mode with the same arguments, the second run changes nothing.
    support: full
author:
  - baremetal.llm maintainers (@baremetal-llm)
seealso:
  - plugin: baremetal.llm.preflight_findings
    plugin_type: filter
notes:
  - Only root sees which process holds a port; for other users C(holders) is empty.
"""

EXAMPLES = r"""
- name: What is this host
  baremetal.llm.preflight_info:
    paths: [/var/lib/ollama]
    names: [gw1.example.com]
    urls: ["https://mirror.example.com/"]
  register: probe

- name: Show the free space
  ansible.builtin.debug:
    msg: "{{ probe.host.disks[0].free_mib }} MiB are free below {{ probe.host.disks[0].existing }}"
"""

RETURN = r"""
host:
  description: What the host says about itself.
  returned: success
  type: dict
  contains:
    hostname:
      description: The name the kernel has.
      type: str
      sample: gpu1
    os:
      description: ID (lower case), VERSION_ID and PRETTY_NAME of /etc/os-release.
      type: dict
      sample: {id: debian, version: "12", name: Debian GNU/Linux 12 (bookworm)}
    architecture:
      description: Machine type.
      type: str
      sample: x86_64
    systemd:
      description: Whether systemd is the running service manager.
      type: bool
    cpu_flags:
      description: Flags that every processor has, sorted.
      type: list
      elements: str
    memory_mib:
      description: Memory the kernel can use, MiB.
      type: int
      sample: 257612
    time_sync:
      description: C(state) is V(synchronized), V(unsynchronized) or V(unknown).
      type: dict
      sample: {state: synchronized, source: chronyc}
    disks:
      description: One entry for each of O(paths), space in MiB; C(device) is equal for paths on the same file system.
      type: list
      elements: dict
      sample: [{path: /var/lib/ollama, existing: /var/lib, device: 66306, free_mib: 51200, used_mib: 0}]
    resolved:
      description: For each of O(names) its addresses, an empty list where it has none.
      type: dict
      sample: {gw1.example.com: [192.0.2.10]}
    urls:
      description: For each of O(urls) an empty string, or why it cannot be used.
      type: dict
      sample: {"https://mirror.example.com/": ""}
    listeners:
      description: Listening TCP sockets and the processes that hold them.
      type: list
      elements: dict
      sample: [{address: 0.0.0.0, port: 22, holders: [{pid: 812, process: sshd, unit: ssh.service}]}]
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.baremetal.llm.plugins.module_utils import host_probe


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "urls": {"type": "list", "elements": "str", "default": []},
            "url_timeout_s": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )

    def run(argv: list[str]) -> tuple[int, str]:
        status, out, _err = module.run_command(argv, handle_exceptions=False, environ_update={"LC_ALL": "C"})
        return status, out

    def run_if_present(argv: list[str]) -> tuple[int, str]:
        return run(argv) if module.get_bin_path(argv[0]) else (127, "")

    def fetch(url: str) -> int:
        return int(open_url(url, method="HEAD", timeout=module.params["url_timeout_s"]).code)

    try:
        host = host_probe.to_facts(
            {
                "hostname": os.uname().nodename,
                "os": host_probe.parse_os_release(host_probe.read_text(Path("/etc/os-release"))),
                "architecture": os.uname().machine,
                "systemd": Path("/run/systemd/system").is_dir(),
                "cpu_flags": host_probe.parse_cpu_flags(host_probe.read_text(Path("/proc/cpuinfo"))),
                "memory_mib": host_probe.parse_memory_mib(host_probe.read_text(Path("/proc/meminfo"))),
                "time_sync": host_probe.time_sync(run_if_present),
                "disks": [host_probe.disk_space(path) for path in module.params["paths"]],
                "resolved": {name: host_probe.resolve(name) for name in module.params["names"]},
                "urls": {url: host_probe.url_answer(url, fetch) for url in module.params["urls"]},
                "listeners": host_probe.listeners(Path("/proc")),
            }
        )
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, host=host)


if __name__ == "__main__":
    main()
