# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of this package, and the order of how sure a fact is."""

from __future__ import annotations

from typing import Iterable

# From the least to the most sure: no source yet, one source, an official document or two sources that agree.
CONFIDENCE = ("unverified", "single", "verified")


class AcceleratorError(ValueError):
    """What was asked makes no sense; the message is one sentence that says what, where and what would fix it."""


def weakest(levels: Iterable[str]) -> str:
    """How sure a statement is that rests on facts of these levels."""
    return min(levels, key=CONFIDENCE.index, default=CONFIDENCE[-1])


def joined(words: Iterable[object], last: str = "and") -> str:
    """Words as in a sentence: a, b and c."""
    texts = list(dict.fromkeys(str(word) for word in words))
    return f" {last} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
