# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the data files of C(catalogue/accelerator/): distributions, driver branches, packages, cards, CUDA and MIG."""

from __future__ import annotations

from functools import lru_cache

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import FILES, Tables, read_tables
from ansible_collections.baremetal.llm.plugins.plugin_utils.documents import CATALOGUE, document

_FOLDER = CATALOGUE / "accelerator"


@lru_cache(maxsize=1)
def tables() -> Tables:
    """All tables; raises AcceleratorError for a row that makes no sense."""
    return read_tables({name: document(_FOLDER / f"{name}.yml", AcceleratorError) for name in FILES})
