#!/usr/bin/python
# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what block devices carry and who uses them; thin over module_utils/block_device.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: block_device_info
short_description: Tell what block devices carry and who uses them
version_added: "0.1.0"
description:
  - Reads signatures, partition tables, LVM and RAID membership, LUKS headers, mounts, swap, holders and unrecognized
    data of each device, so that a role can refuse to format what is not empty.
  - A device that cannot be examined is an error, never an empty device.
options:
  devices:
    description: Paths of devices. One that is not there is answered with C(exists) false.
    type: list
    elements: path
    required: true
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
requirements:
  - wipefs (util-linux)
  - cryptsetup, for key slots only
author:
  - baremetal.llm maintainers (@baremetal-llm)
"""

EXAMPLES = r"""
- name: What is on this disk
  baremetal.llm.block_device_info:
    devices: [/dev/disk/by-id/nvme-eui.0025385b21404f00]
  register: disk

- name: Refuse a disk that is not empty
  ansible.builtin.assert:
    that: disk.devices[0].findings | length == 0
    fail_msg: "It carries {{ disk.devices[0].findings | map(attribute='what') | join(', ') }}."
"""

RETURN = r"""
devices:
  description: One answer for each of O(devices), in their order.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: As asked.
      type: str
    exists:
      description: Whether it is there.
      type: bool
    real_path:
      description: The kernel's name for it.
      type: str
      sample: /dev/nvme1n1
    size_bytes:
      description: Its size.
      type: int
    findings:
      description: >-
        Everything that speaks against formatting it. C(kind) is V(signature), V(luks), V(partition_table),
        V(partition), V(lvm), V(raid), V(array), V(holder), V(mount), V(swap), V(root) or V(data); C(what) is a phrase.
      type: list
      elements: dict
      sample: [{kind: lvm, what: an LVM physical volume}]
    signatures:
      description: What libblkid recognizes, each type once.
      type: list
      elements: dict
      sample: [{type: xfs, uuid: "", label: models}]
    luks:
      description: UUID, label, key slots, tokens, cipher, sector size and data offset of a LUKS header, else null.
      type: dict
    mapping:
      description: The open LUKS mapping on it, with its name, size and mounts, else null.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils import block_device


def main() -> None:
    module = AnsibleModule(
        argument_spec={"devices": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )

    def run(argv: list[str]) -> tuple[int, str, str]:
        program = module.get_bin_path(argv[0])
        if program is None:
            if argv[0] == "cryptsetup":
                raise FileNotFoundError(argv[0])
            raise ValueError(f"{argv[0]} is not installed; it belongs to util-linux")
        status, out, errors = module.run_command([program, *argv[1:]], environ_update={"LC_ALL": "C"})
        return status, out, errors

    try:
        kernel = block_device.kernel_of()
        devices = [block_device.examine(path, kernel, run) for path in module.params["devices"]]
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, devices=devices)


if __name__ == "__main__":
    main()
