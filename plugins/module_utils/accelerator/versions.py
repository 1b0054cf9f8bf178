# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of drivers and toolkits, such as 580.159.04, as numbers that can be compared."""

from __future__ import annotations

import re
from typing import Any, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError

_VERSION = re.compile(r"\d+(\.\d+){1,3}\Z")


def numbers(version: Any, what: str) -> Tuple[int, ...]:
    """The numbers of a version; C(what) says where it stands."""
    text = str(version)
    if not _VERSION.match(text):
        raise AcceleratorError(f"{what} is {version!r}, which is no version; write for example 580.159.04.")
    return tuple(int(part) for part in text.split("."))


def at_least(version: str, oldest: str) -> bool:
    return numbers(version, "a version") >= numbers(oldest, "a version")
