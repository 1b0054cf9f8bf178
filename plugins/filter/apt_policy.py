# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads apt-cache policy; thin over module_utils/apt_policy.py."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils import apt_policy

DOCUMENTATION = r"""
name: apt_policy
short_description: What apt knows of packages, from the output of apt-cache policy
version_added: "0.4.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads what C(LC_ALL=C apt-cache policy PACKAGE ...) printed.
  - A package that apt does not know is left out.
options:
  _input:
    description: The output.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Ask where the driver would come from
  ansible.builtin.command: apt-cache policy nvidia-smi
  environment: {LC_ALL: C}
  register: policy
  changed_when: false

- name: Say it
  ansible.builtin.debug:
    msg: "{{ (policy.stdout | baremetal.llm.apt_policy)['nvidia-smi'].candidate_sources }}"
"""

RETURN = r"""
_value:
  description: >-
    Packages by name, each with C(installed) and C(candidate) (versions, none where there is none), C(installed_sources)
    and C(candidate_sources) (addresses of the repositories that have them; empty for a version that is only installed)
    and C(available) (all versions that a repository has, newest preference first).
  type: dict
"""


def policy(text: Any) -> Dict[str, Dict[str, Any]]:
    """Packages by name; AnsibleFilterError for what is no text."""
    if not isinstance(text, str):
        raise AnsibleFilterError(f"apt_policy: got {type(text).__name__}; give the output of apt-cache policy.")
    return {
        name: {
            "installed": package.installed,
            "candidate": package.candidate,
            "installed_sources": list(package.sources(package.installed)),
            "candidate_sources": list(package.sources(package.candidate)),
            "available": [each.version for each in package.versions if each.sources],
        }
        for name, package in apt_policy.parse(text).items()
    }


class FilterModule:
    """The filter."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"apt_policy": policy}
