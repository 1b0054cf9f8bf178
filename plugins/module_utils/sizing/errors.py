# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the sizing engine, and the sentence for a key that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class SizingError(ValueError):
    """What was asked makes no sense; the message is one sentence that says what, where and what would fix it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like C(name), or an empty text."""
    names = sorted(known)
    lower = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(str(name).lower(), list(lower), n=1, cutoff=0.5)
    return lower[found[0]] if found else ""


def unknown(what: str, name: str, known: Iterable[str]) -> SizingError:
    """The error for an unknown C(name); C(what) says what it should have been, such as "key of the model"."""
    names = sorted(known)
    hint = nearest(name, names)
    advice = f"did you mean {hint}?" if hint else "known are " + ", ".join(names) + "."
    return SizingError(f"{name!r} is no {what}: {advice}")


def only_known_keys(where: str, mapping: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse the first key of C(mapping) that is not in C(known)."""
    names = frozenset(known)
    for key in mapping:
        if key not in names:
            raise unknown(f"key of {where}", str(key), names)
