# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which CUDA toolkits a driver serves; thin over module_utils/accelerator/cuda.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator import cuda
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.host_probe import to_facts
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables

DOCUMENTATION = r"""
name: cuda_compatibility
short_description: Which CUDA toolkits an NVIDIA driver serves
version_added: "0.4.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Judges each toolkit by the driver that NVIDIA released it with, by minor version compatibility, and by the
    compatibility packages that are at hand.
  - Versions stand with their sources in C(catalogue/accelerator/cuda.yml).
positional: toolkits, compat_packages, data_center
options:
  _input:
    description: Version of the driver, such as V(580.159.04).
    type: str
    required: true
  toolkits:
    description: Versions of toolkits, such as V(12.9) (its newest update) or V(12.9.1).
    type: list
    elements: str
    required: true
  compat_packages:
    description: Compatibility packages that are or may be installed, such as V(cuda-compat-13-0) or V(13.0).
    type: list
    elements: str
    default: []
  data_center:
    description: Whether all cards are data center cards, on which alone these packages work. Not given, they count.
    type: bool
"""

EXAMPLES = r"""
- name: Refuse a toolkit that the driver does not serve
  ansible.builtin.fail:
    msg: "{{ refused | map(attribute='reason') | join(' ') }}"
  vars:
    verdicts: "{{ driver_version | baremetal.llm.cuda_compatibility(['12.9', '13.0']) }}"
    refused: "{{ verdicts | selectattr('verdict', 'equalto', 'refused') }}"
  when: refused | length > 0
"""

RETURN = r"""
_value:
  description: One row for each toolkit, in their order.
  type: list
  elements: dict
  contains:
    toolkit:
      description: The version that was asked about.
      type: str
    verdict:
      description: >-
        V(native), V(minor) (older driver of the same major number, with fewer features), V(compat) (by a compatibility
        package) or V(refused).
      type: str
    reason:
      description: One sentence; of a refusal with the fix.
      type: str
    driver:
      description: Oldest driver with all features, none for a toolkit that is not known.
      type: str
    package:
      description: Compatibility package, none without one.
      type: str
"""


def cuda_compatibility(
    driver_version: Any, toolkits: Any, compat_packages: Any = None, data_center: Optional[bool] = None
) -> List[Dict[str, Any]]:
    """The verdicts; AnsibleFilterError for values that make no sense."""
    try:
        found = cuda.cuda_compatibility(driver_version, toolkits, compat_packages or [], tables(), data_center)
    except AcceleratorError as error:
        raise AnsibleFilterError(f"cuda_compatibility: {error}") from None
    return [to_facts(vars(each)) for each in found]


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"cuda_compatibility": cuda_compatibility}
