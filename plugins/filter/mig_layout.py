# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays out MIG instances; thin over module_utils/accelerator/mig.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator import mig
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.host_probe import to_facts
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables

DOCUMENTATION = r"""
name: mig_layout
short_description: Where MIG instances lie on a card, or why they do not fit
version_added: "0.4.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Tries every placement that the card allows, so that what it refuses is impossible. The same wish always gives the
    same layout.
  - Profiles and placements of each card stand with their sources in C(catalogue/accelerator/mig.yml).
positional: wanted, gpu
options:
  _input:
    description: PCI id of the card, such as V(10de:2330), or name of a board in C(catalogue/accelerator/mig.yml).
    type: raw
    required: true
  wanted:
    description: Profiles as a list, such as V([3g.40gb, 1g.10gb]), or numbers of instances by profile.
    type: raw
    required: true
  gpu:
    description: Index or none; the commands then name this card.
    type: int
"""

EXAMPLES = r"""
- name: Two halves of an H100
  ansible.builtin.debug:
    msg: "{{ '10de:2330' | baremetal.llm.mig_layout({'3g.40gb': 2}, 0) }}"
"""

RETURN = r"""
_value:
  description: The layout.
  type: dict
  contains:
    board:
      description: Name of the board in C(catalogue/accelerator/mig.yml), empty for a card without one.
      type: str
    refusal:
      description: Why the instances cannot be, one sentence; empty where they can.
      type: str
    placements:
      description: One row for each instance, by start, with C(profile), C(start), C(size) and C(compute) in slices.
      type: list
      elements: dict
    free_memory_slices:
      description: Memory slices that stay unused.
      type: int
    free_compute_slices:
      description: Compute slices that stay unused.
      type: int
    enable:
      description: Arguments of C(nvidia-smi) that turn MIG on, command by command.
      type: list
      elements: list
    clear:
      description: Arguments that remove all instances; each fails where there are none.
      type: list
      elements: list
    create:
      description: Arguments that create GPU and compute instances.
      type: list
      elements: list
"""


def mig_layout(card: Any, wanted: Any, gpu: Optional[int] = None) -> Dict[str, Any]:
    """The layout; AnsibleFilterError for values that make no sense."""
    try:
        layout = mig.mig_layout(card, wanted, tables(), gpu)
    except AcceleratorError as error:
        raise AnsibleFilterError(f"mig_layout: {error}") from None
    return to_facts(vars(layout))


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"mig_layout": mig_layout}
