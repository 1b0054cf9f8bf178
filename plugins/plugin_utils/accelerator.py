# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the data files of C(catalogue/accelerator/): distributions, driver branches, packages, cards, CUDA and MIG."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import FILES, Tables, read_tables

_FOLDER = Path(__file__).resolve().parents[2] / "catalogue" / "accelerator"

# The C loader is some ten times as fast, and not built everywhere.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _document(name: str) -> Any:
    path = _FOLDER / f"{name}.yml"
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, yaml.YAMLError) as error:
        raise AcceleratorError(f"{path} cannot be read ({error}); correct it.") from None


@lru_cache(maxsize=1)
def tables() -> Tables:
    """All tables; raises AcceleratorError for a row that makes no sense."""
    return read_tables({name: _document(name) for name in FILES})


def plain(value: Any) -> Any:
    """Dataclasses as mappings and tuples as lists, as Ansible's templates and JSON want them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value
