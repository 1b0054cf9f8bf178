# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the data files of C(catalogue/): models, quantizations and GPUs, found by any of their names.

Rows are plain mappings. What is given as C(extra) comes from the user's inventory and stands before the files.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.errors import SizingError, unknown
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues
from ansible_collections.baremetal.llm.plugins.plugin_utils.documents import CATALOGUE, document

Row = Mapping[str, Any]


def load_models(extra: Optional[Sequence[Row]] = None) -> Dict[str, Row]:
    """Rows of C(models.yml) by lower-cased name and alias; a row of C(extra) replaces those that share a name."""
    return _with_extra(_file("models.yml", "models"), extra, "model")


def load_gpus(extra: Optional[Sequence[Row]] = None) -> Dict[str, Row]:
    """Rows of C(gpus.yml) by lower-cased name and alias; a row of C(extra) replaces those that share a name."""
    return _with_extra(_file("gpus.yml", "gpus"), extra, "GPU")


def load_quantizations() -> Dict[str, Row]:
    """Rows of C(quantizations) in C(quantizations.yml) by lower-cased name."""
    return dict(_file("quantizations.yml", "quantizations"))


def load_kv_cache_types() -> Dict[str, Row]:
    """Rows of C(kv_cache_types) in C(quantizations.yml) by lower-cased name."""
    return dict(_file("quantizations.yml", "kv_cache_types"))


def model_by_name(name: str, extra: Optional[Sequence[Row]] = None) -> Row:
    """The model that a person means; raises SizingError with the nearest known name."""
    return _by_name("model of the catalogue", name, load_models(extra))


def gpu_by_name(name: str, extra: Optional[Sequence[Row]] = None) -> Row:
    """The GPU that a person or driver means; raises SizingError with the nearest known name."""
    return _by_name("GPU of the catalogue", name, load_gpus(extra))


def _by_name(what: str, name: str, rows: Mapping[str, Row]) -> Row:
    row = rows.get(str(name).strip().lower())
    if row is None:
        raise unknown(what, str(name), rows)
    return row


@lru_cache(maxsize=64)
def _file(file_name: str, key: str) -> Mapping[str, Row]:
    path = CATALOGUE / file_name
    rows = document(path, SizingError).get(key)
    if not isinstance(rows, list):
        raise SizingError(f"{path} has no list {key}: add it.")
    return index_rows(rows, f"{key} of {file_name}")


def index_rows(rows: Sequence[Any], where: str) -> Dict[str, Row]:
    """Rows by lower-cased name and alias; raises SizingError for a row without name or a name that stands twice."""
    found: Dict[str, Row] = {}
    for number, row in enumerate(rows, start=1):
        for name in _names(row, number, where):
            key = name.lower()
            if key in found and found[key] is not row:
                raise SizingError(
                    f"row {number} of {where} has the name {name!r} of row {found[key]['name']!r}: "
                    "give each name and alias to one row."
                )
            found[key] = row
    return found


def _names(row: Any, number: int, where: str) -> Tuple[str, ...]:
    if not isinstance(row, Mapping):
        raise SizingError(f"row {number} of {where} is {row!r}: give a mapping with a name.")
    name = row.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SizingError(f"row {number} of {where} has no name: add one.")
    aliases = row.get("aliases") or []
    if isinstance(aliases, str) or not isinstance(aliases, Sequence):
        raise SizingError(f"aliases of row {name!r} of {where} are {aliases!r}: give a list of names.")
    for alias in aliases:
        if not isinstance(alias, str) or not alias.strip():
            raise SizingError(f"row {name!r} of {where} has the alias {alias!r}: give a name.")
    return (name.strip(), *(alias.strip() for alias in aliases))


def _with_extra(rows: Mapping[str, Row], extra: Optional[Sequence[Row]], what: str) -> Dict[str, Row]:
    merged = dict(rows)
    if not extra:
        return merged
    if isinstance(extra, (str, bytes, Mapping)) or not isinstance(extra, Sequence):
        raise SizingError(f"the extra {what} rows are {extra!r}: give a list of mappings.")
    merged.update(index_rows(extra, f"the extra {what} rows"))
    return merged


@lru_cache(maxsize=1)
def _plain_catalogues() -> Catalogues:
    return _catalogues(None, None)


def catalogues(extra_gpus: Optional[Sequence[Row]] = None, extra_models: Optional[Sequence[Row]] = None) -> Catalogues:
    """All data files for the sizing engine, with rows of the user's inventory before them."""
    if not extra_gpus and not extra_models:
        return _plain_catalogues()
    return _catalogues(extra_gpus, extra_models)


def _catalogues(extra_gpus: Optional[Sequence[Row]], extra_models: Optional[Sequence[Row]]) -> Catalogues:
    rows = {id(row): {"aliases": [], **row} for row in load_gpus(extra_gpus).values()}
    return Catalogues({"gpus": list(rows.values())}, load_models(extra_models), load_quantizations())
