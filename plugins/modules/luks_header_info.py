#!/usr/bin/python
# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a LUKS2 header for a backup; thin over module_utils/luks_header.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: luks_header_info
short_description: Read a LUKS2 header for a backup
version_added: "0.1.0"
description:
  - Lets cryptsetup back the header up, and gives it as text with everything left out that no key slot uses.
  - The text holds the encrypted key slots, so hide it with C(no_log) and keep it encrypted.
options:
  device:
    description: Device with a LUKS2 header.
    type: path
    required: true
  known_sha256:
    description: Checksum of the backup that is there already. The text is returned only where the header's is another.
    type: str
    default: ""
  directory:
    description: Folder in memory for cryptsetup's file, which is removed again.
    type: path
    default: /run
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
  - cryptsetup
author:
  - baremetal.llm maintainers (@baremetal-llm)
seealso:
  - module: baremetal.llm.block_device_info
"""

EXAMPLES = r"""
- name: Read the header if it is another than the one kept
  baremetal.llm.luks_header_info:
    device: /dev/disk/by-id/nvme-eui.0025385b21404f00
    known_sha256: "{{ kept.sha256 }}"
  register: header
  no_log: true
"""

RETURN = r"""
uuid:
  description: UUID of the volume.
  returned: success
  type: str
sha256:
  description: Checksum of the header; it stays the same until a key slot changes.
  returned: success
  type: str
content:
  description: The header, compressed, in Base64; empty where its checksum is O(known_sha256).
  returned: success
  type: str
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils import luks_header


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "device": {"type": "path", "required": True},
            "known_sha256": {"type": "str", "default": ""},
            "directory": {"type": "path", "default": "/run"},
        },
        supports_check_mode=True,
    )
    cryptsetup = module.get_bin_path("cryptsetup", required=True)
    folder = tempfile.mkdtemp(prefix="luks-header-", dir=module.params["directory"])
    try:
        file = os.path.join(folder, "header")
        backup = [cryptsetup, "luksHeaderBackup", module.params["device"], "--header-backup-file", file]
        status, _out, errors = module.run_command(backup, environ_update={"LC_ALL": "C"})
        if status:
            module.fail_json(msg=f"The header of {module.params['device']} cannot be backed up: {errors.strip()}")
        with open(file, "rb") as opened:
            image = luks_header.compact(opened.read())
    except ValueError as exc:
        module.fail_json(msg=f"{module.params['device']}: {exc}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sha256 = luks_header.digest(image)
    content = "" if sha256 == module.params["known_sha256"] else luks_header.pack(image)
    module.exit_json(changed=False, uuid=luks_header.uuid_of(image), sha256=sha256, content=content)


if __name__ == "__main__":
    main()
