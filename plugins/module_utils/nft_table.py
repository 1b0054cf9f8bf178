# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings what C(nft --json list table) says into a form in which two tables with the same rules are equal."""

from __future__ import annotations

import json
from typing import Any, Dict, List

# What the kernel numbers and counts by itself.
_OWN = ("handle", "index", "packets", "bytes")


class NftError(ValueError):
    """The text is no list of nft."""


def rules_only(text: str) -> List[Dict[str, Any]]:
    """Chains, sets and rules without handles, counters, and elements that packets put into sets."""
    try:
        listed = json.loads(text)["nftables"]
    except (ValueError, KeyError, TypeError):
        raise NftError(f"this is no list of nft --json: {text[:80]!r}") from None
    # Sets stand before chains, and both in an order of the kernel's; rules keep theirs.
    kept = [_plain(entry) for entry in listed if "metainfo" not in entry]
    return sorted(kept, key=lambda entry: json.dumps(entry, sort_keys=True) if "rule" not in entry else "~")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    # Some releases of nft leave "dynamic" out of a set with both flags.
    learned = any(flag in (value.get("flags") or []) for flag in ("dynamic", "timeout"))
    return {
        key: _unordered(_plain(each)) if key in ("elem", "set") else _plain(each)
        for key, each in value.items()
        if key not in _OWN and not (learned and key == "elem")
    }


def _unordered(elements: Any) -> Any:
    """Elements of a set have no order."""
    return (
        sorted(elements, key=lambda each: json.dumps(each, sort_keys=True)) if isinstance(elements, list) else elements
    )
