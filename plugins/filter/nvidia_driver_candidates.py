# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses an NVIDIA driver; thin over module_utils/accelerator/driver.py."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.driver import driver_candidates
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.host_probe import to_facts
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables

DOCUMENTATION = r"""
name: nvidia_driver_candidates
short_description: Which NVIDIA driver fits the cards and the distribution of a host, or why none does
version_added: "0.4.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Chooses branch, kernel modules, packages and what holds them for the cards that are on the PCI bus, best first.
  - What cannot work is refused with a sentence that names the variable and the fix, and then there are no packages.
  - Branches that are supported long come first, branches whose support has ended last.
  - The facts stand with their sources in C(catalogue/accelerator), the decisions in C(docs/accelerator.md).
positional: distribution, kernel, secure_boot, wants
options:
  _input:
    description: >-
      PCI ids of the cards and of the NVSwitches, such as V(10de:2330), or rows of
      RV(baremetal.llm.gpu_info#module:pci) and RV(baremetal.llm.gpu_info#module:switches). Devices of other vendors
      are left out.
    type: list
    elements: raw
    required: true
  distribution:
    description: >-
      Mapping with C(distribution), C(distribution_version) and C(architecture), such as C(ansible_facts). Other keys do
      not matter.
    type: dict
    required: true
  kernel:
    description: >-
      Release of the kernel, or a mapping with C(release), C(headers) (whether they are installed or can be, V(true) by
      default) and C(flavour) (of Ubuntu's kernel packages; derived from the release by default).
    type: raw
    required: true
  secure_boot:
    description: >-
      Whether Secure Boot is on, or a mapping with C(enabled) and C(key_enrolled) (whether the firmware trusts the key
      that DKMS signs with).
    type: raw
    default: false
  wants:
    description: >-
      The variables of the role nvidia_driver without their prefix, C(branch), C(version), C(modules), C(source),
      C(compute_only) and C(fabric_manager), and C(today) as YYYY-MM-DD, by which support is judged. By default
      V(auto), none, V(auto), V(nvidia), V(true), V(auto) and the day of the tables.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Refuse a driver that cannot work
  ansible.builtin.fail:
    msg: "{{ decision.refusals | map(attribute='message') | join(' ') }}"
  vars:
    decision: >-
      {{ (gpus.pci + gpus.switches)
         | baremetal.llm.nvidia_driver_candidates(ansible_facts, ansible_facts.kernel, false, {'branch': 580}) }}
  when: decision.state == 'refused'
"""

RETURN = r"""
_value:
  description: The decision.
  type: dict
  contains:
    state:
      description: V(ready), V(refused), or V(no_card) where no NVIDIA card is given and nothing is to do.
      type: str
    refusals:
      description: Why there is no candidate, each with C(code), C(variable) (what to change) and C(message).
      type: list
      elements: dict
    candidates:
      description: Drivers that can be installed, best first; empty unless RV(_value.state=ready).
      type: list
      elements: dict
      contains:
        branch:
          description: Number of the branch.
          type: int
        kind:
          description: V(lts), V(production), V(new_feature) or V(unknown).
          type: str
        end:
          description: Last month of support, none where it is not published.
          type: str
        newest:
          description: Newest version seen when the tables were made.
          type: str
        version:
          description: The version that is asked for, none for the newest of the branch.
          type: str
        modules:
          description: V(open) or V(proprietary).
          type: str
        build:
          description: V(dkms) or V(prebuilt).
          type: str
        source:
          description: V(nvidia), V(distribution) or V(mirror).
          type: str
        folder:
          description: Folder of NVIDIA's repository, as in V(ubuntu2404/x86_64); none for the distribution's archive.
          type: str
        keyring:
          description: >-
            Key of the repository, with C(package), C(key_file) and C(fingerprint) (none where no source names it); none
            for the distribution's archive.
          type: dict
        sections:
          description: Sections or repositories of the distribution that must be enabled.
          type: list
          elements: str
        headers:
          description: Packages with the kernel's headers, to be installed before the others.
          type: list
          elements: str
        module_stream:
          description: Module stream to enable before, none where there is none.
          type: str
        packages:
          description: All packages in the order of installation.
          type: list
          elements: str
        fabric_packages:
          description: Those of them that serve switches; their version is the driver's.
          type: list
          elements: str
        fabric_services:
          description: Units to enable for them.
          type: list
          elements: str
        fabric_modules:
          description: Kernel modules to load for them.
          type: list
          elements: str
        hold:
          description: >-
            What keeps the branch, with C(method) (V(pinning_package), V(module_stream), V(versionlock),
            V(package_names), V(archive) or V(version)), C(names) and C(reason).
          type: dict
        reasons:
          description: One sentence for each part of the choice.
          type: list
          elements: str
        confidence:
          description: How sure its weakest fact is, V(verified), V(single) or V(unverified).
          type: str
"""


def candidates(
    cards: Any, distribution: Any, kernel: Any, secure_boot: Any = False, wants: Any = None
) -> Dict[str, Any]:
    """The decision; AnsibleFilterError for values that make no sense."""
    try:
        found = driver_candidates(cards, distribution, kernel, secure_boot, wants or {}, tables())
    except AcceleratorError as error:
        raise AnsibleFilterError(f"nvidia_driver_candidates: {error}") from None
    return to_facts(vars(found))


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"nvidia_driver_candidates": candidates}
