# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that speaks to an Ollama server."""

    DOCUMENTATION = r"""
options:
  api_url:
    description:
      - Address of the Ollama server as the host sees it. Proxy variables of the environment are not used for it.
    type: str
    default: http://127.0.0.1:11434
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return what has changed (or would be changed in C(check_mode)) when in diff mode.
  idempotent:
    description: A second run with the same arguments changes nothing, if nobody else changed anything meanwhile.
"""
