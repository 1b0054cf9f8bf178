# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the data files below C(catalogue/), each once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping, Type

import yaml

CATALOGUE = Path(__file__).resolve().parents[2] / "catalogue"
# The C loader is some ten times as fast, and not built everywhere.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@lru_cache(maxsize=64)
def document(path: Path, problem: Type[ValueError]) -> Mapping[str, Any]:
    """The content of a file; raises C(problem) where it cannot be read or holds no mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, yaml.YAMLError) as error:
        raise problem(f"{path} cannot be read ({error}); correct it.") from None
    if not isinstance(content, dict):
        raise problem(f"{path} holds no mapping: give it its lists by name.")
    return content
