# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes two lists of the packet filter comparable; thin over module_utils/nft_table.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.module_utils.nft_table import NftError, rules_only

DOCUMENTATION = r"""
name: nft_table
short_description: Chains, sets and rules of nftables without handles and counters
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Two tables with the same rules give the same result, whatever they counted and whatever packets put into their sets.
options:
  _input:
    description: What C(nft --json list table) printed.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Ask for the running table
  ansible.builtin.command: nft --json list table inet llm_filter
  register: running
  changed_when: false

- name: Show it
  ansible.builtin.debug:
    msg: "{{ running.stdout | baremetal.llm.nft_table }}"
"""

RETURN = r"""
_value:
  description: The table, its sets and chains in a fixed order, then its rules in theirs.
  type: list
  elements: dict
"""


def nft_table(text: str) -> List[Dict[str, Any]]:
    """The table; AnsibleFilterError for anything that is no list of nft."""
    try:
        return rules_only(text)
    except NftError as error:
        raise AnsibleFilterError(f"nft_table: {error}") from None


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"nft_table": nft_table}
