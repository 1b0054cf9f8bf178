#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_download
short_description: Fetch one file of a known sha256
version_added: "0.1.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Puts the content of a URL at a path, if and only if its sha256 is the pinned one.
  - An interrupted download goes on where it stopped, from the file O(dest) with C(.part) at its end.
  - The free space is compared with the size that the server announces before anything is written.
  - A file at O(dest) is replaced in one step after the new content was verified, and stays as it was on every failure.
options:
  url:
    description:
      - Where the file comes from, as V(http://), V(https://) or V(file:///absolute/path) on the host.
      - User, password and query of the URL are left out of every message.
    type: str
    required: true
  dest:
    description: Full path of the file on the host. Its folder must exist.
    type: path
    required: true
  sha256:
    description: The sha256 of the content as 64 hex digits. There is no way to fetch without it.
    type: str
    required: true
  timeout:
    description: Seconds to wait for an answer, and for each next piece. The download as a whole is not limited.
    type: int
    default: 60
extends_documentation_fragment:
  - ansible.builtin.files
attributes:
  check_mode:
    support: full
    description: Predicts the change without network access and without writing.
  diff_mode:
    support: full
    description: Shows the sha256 before and after.
  idempotent:
    support: full
    description: A second run with the same arguments changes nothing and needs no network.
notes:
  - Proxies come from the environment of the task (C(http_proxy), C(https_proxy), C(no_proxy)), a certificate authority
    of your own from C(SSL_CERT_FILE).
"""

EXAMPLES = r"""
- name: Fetch an archive from a mirror
  baremetal.llm.artifact_download:
    url: https://mirror.example.org/ollama-linux-amd64.tar.zst
    dest: /var/cache/llm/ollama-linux-amd64.tar.zst
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    mode: "0644"

- name: Take a file that was carried to the host
  baremetal.llm.artifact_download:
    url: file:///media/usb/model.gguf
    dest: /srv/models/model.gguf
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

RETURN = r"""
dest:
  description: Path of the file.
  type: str
  returned: success
size_bytes:
  description: Size of the file in bytes. Not known in check mode where the file has still to be fetched.
  type: int
  returned: when the file is there
sha256:
  description: The sha256 of the file, 64 hex digits.
  type: str
  returned: success
resumed_from_bytes:
  description: Bytes that an earlier, interrupted attempt had left and that were not fetched again.
  type: int
  returned: success
"""

import os
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.baremetal.llm.plugins.module_utils.download import (
    DownloadError,
    check_url,
    download,
)
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import StoreError, parse_sha256, sha256_of_file


def present_sha256(dest: str) -> Optional[str]:
    """Hex sha256 of the file at dest, None where there is none; raises OSError."""
    return sha256_of_file(dest) if os.path.isfile(dest) else None


def fetch(module: AnsibleModule, sha256: str) -> Dict[str, Any]:
    """What changed, after the file is right; raises DownloadError."""
    url, dest = module.params["url"], module.params["dest"]
    check_url(url)
    before = present_sha256(dest)
    result: Dict[str, Any] = {"dest": dest, "sha256": sha256, "resumed_from_bytes": 0, "changed": before != sha256}
    if module._diff:
        result["diff"] = {"before": {"sha256": before}, "after": {"sha256": sha256}}
    if result["changed"] and not module.check_mode:
        # decompress: a server that labels an archive as compressed transfer must not have it unpacked on the way.
        done = download(
            url,
            dest,
            sha256,
            lambda link, headers: open_url(
                link,
                headers=headers,
                timeout=module.params["timeout"],
                decompress=False,
                http_agent=headers["User-Agent"],
            ),
            replace=module.atomic_move,
        )
        result["resumed_from_bytes"] = done.resumed_from_bytes
    if not (result["changed"] and module.check_mode):
        result["size_bytes"] = os.path.getsize(dest)
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        result = fetch(module, parse_sha256(module.params["sha256"], "sha256"))
    except (DownloadError, StoreError) as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"cannot read {exc.filename}: {exc.strerror}; correct the path or its permissions.")
    file_args = module.load_file_common_arguments(module.params)
    result["changed"] = module.set_fs_attributes_if_different(file_args, result["changed"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
